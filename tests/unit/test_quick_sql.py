"""What is told without SQLFluff is what SQLFluff tells: nothing that it would find is passed."""

from __future__ import annotations

import shutil
from pathlib import Path

import harbour
import pytest
import yaml

from levada.adapters.sqlfluff import facts, linting, quick
from levada.adapters.sqlfluff.facts import here, model_files

ROOT = Path(__file__).parents[2]
LANDING = ("ingest", "base")
LAW = [
    (rule, name, case)
    for rule in ("LV01", "LV02", "LV03")
    for name, case in yaml.safe_load(
        (Path(__file__).parent / "sql_rules" / f"{rule}.yml").read_text()
    ).items()
]

NOT_SURE = [
    "select * from planes",
    "from planes",
    "table planes",
    "select * from fleet.planes",
    "select * from 'planes.csv'",
    "select * from read_csv('planes.csv')",
    "select * from range(3)",
    "select (select max(seats) from planes) as seats",
    "select 1 as a where exists (select 1 from planes)",
    "select 1 as a union all select seats from planes",
    "select * from (select * from planes) p",
    "select * from {{ ref('a') }} join planes using (id)",
    "select * from {{ ref('a') }} a, lateral (select * from planes) p",
    "pivot planes on seats",
    "select * from {{ ref('a') }} at (version => 1)",
    "summarize planes",
    "with planes as (select * from planes) select * from planes",
    "with a as (select * from b), b as (select 1 as x) select * from a",
    "with a as (select 1 as x) select * from (with b as (select * from planes) select * from b)",
    "with recursive r as (select 1 as x union all select x from planes) select * from r",
    "select * from \"{{ ref('a') }}\"",
    "select * from '{{ ref('a') }}'",
    "select * from {{ ref('a') }}_old",
    "select * from old_{{ ref('a') }}",
    "select * from fleet.{{ ref('a') }}",
    "select * from {{ ref('a') }}.planes",
    "select * from {{ ref(name) }}",
    "select * from {{ ref('a') if true else 'planes' }}",
    "select * from {{ ref('a') ~ '_old' }}",
    "select * from {{ ref('a').identifier }}",
    "select * from {{ var('planes') }}",
    "select * from {{ this }}",
    "select * from {{ planes() }}",
    "select * from levada_read_0",
    "{% set planes = 'planes' %}select * from {{ planes }}",
    "{% if true %}select * from {{ ref('a') }}{% endif %}",
    "{% raw %}select * from {{ ref('a') }}{% endraw %}",
    "{# #} select * from {# #} planes",
    "select 1 as a {# not closed",
    "select 1 as a }} {{",
    "select 1 as a; select 2 as b",
    "insert into planes select 1",
    "select from where",
    "",
]
SURE = [
    "select * from {{ ref('a') }}",
    "{{ config(materialized='table') }}\nselect * from {{ref('harbour', 'a', v=2)}} as a -- why\n",
    "select a.id from {{ source('x', 'y') }} a left join {{ ref('b') }} b on a.id = b.id",
    "with a as (select * from {{ ref('a') }}), b as (select * from A) select * from a, b",
    "with recursive r(n) as (select 1 union all select n + 1 from r where n < 9) select n from r",
    "select * exclude (x), (select max(y) from {{ ref('b') }}) from (values (1)) t(x) {# one #}",
]


@pytest.mark.parametrize("text", NOT_SURE)
def test_what_may_read_something_else_is_left_to_sqlfluff(text: str) -> None:
    assert not quick.plain(text)


@pytest.mark.parametrize("text", SURE)
def test_what_reads_by_ref_and_source_alone_is_told_at_once(text: str) -> None:
    assert quick.plain(text)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    facts.forget()
    return harbour.write(tmp_path_factory.mktemp("mesh"))


def test_no_fault_of_the_rules_cases_is_passed(mesh: Path) -> None:
    passed = []
    for rule, name, case in LAW:
        model = here(mesh / case.get("path", "models/office/aggregate/tested.sql"))
        layers = case.get("config", {}).get("levada.layer_order", {}).get("source_layers", LANDING)
        if "fail" in case and model and quick.sound(model, case["fail"], tuple(layers)):
            passed.append(f"{rule}: {name}")
    assert passed == []


@pytest.mark.thorough
def test_the_reference_mesh_is_judged_alike_with_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the law alone: with rules of taste every model is SQLFluff's."""
    for name in ("contracts", "models"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("target"))
    shutil.copy(ROOT / "levada.yaml", tmp_path)
    one = tmp_path / "models" / "company" / "serve" / "route_board.sql"
    one.write_text(one.read_text().replace("{{ ref('operations', 'delays') }}", "delays"))
    paths = [
        p for d in sorted((tmp_path / "models").iterdir()) for p in model_files(tmp_path, d.name)
    ]
    told: list[bool] = []
    sound = quick.sound

    def noted(*words: object) -> bool:
        told.append(sound(*words))  # type: ignore[arg-type]
        return told[-1]

    monkeypatch.setattr(quick, "sound", noted)
    quickly = linting.lint(tmp_path, paths)
    assert len(told) == len(paths)
    assert sum(told) > len(paths) / 2, "most of them are plain"
    monkeypatch.setattr(quick, "sound", lambda *_: False)
    assert quickly == linting.lint(tmp_path, paths)
    assert [fault.path for fault in quickly] == ["models/company/serve/route_board.sql"]


@pytest.mark.parametrize(
    "said",
    [
        "dialect = ansi",
        "rules = levada",
        "[sqlfluff:templater:jinja]\nlibrary_path = x",
        "[sqlfluff:templater:jinja:context]\nref = 1",
        "[sqlfluff:templater:jinja]\nload_macros_from_path = x",
    ],
)
def test_a_project_with_settings_that_matter_is_sqlfluffs(tmp_path: Path, said: str) -> None:
    root = harbour.write(tmp_path / "mesh")
    (root / "x").mkdir()
    (root / ".sqlfluff").write_text(f"[sqlfluff]\n{said}\n")
    linting._config.cache_clear()
    linting._rules.cache_clear()
    assert linting._rules(root, root / "models" / "office" / "aggregate")[1] is None
