"""What is told without SQLFluff is what SQLFluff tells: nothing that it would find is passed."""

from __future__ import annotations

import configparser
import shutil
from pathlib import Path
from typing import Any

import harbour
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlfluff.core import Linter

from levada.adapters.sqlfluff import facts, linting, quick
from levada.adapters.sqlfluff.budget import Budget, exceeded
from levada.adapters.sqlfluff.facts import here, model_files
from levada.adapters.sqlfluff.quick import Asked
from levada.adapters.sqlfluff.rendering import Names, Rendering

ROOT = Path(__file__).parents[2]
LANDING = ("ingest", "base")
LAW = [
    (rule, name, case)
    for rule in ("LV01", "LV02", "LV03", "LV04", "LV05")
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


def asked(rule: str, said: dict[str, Any]) -> Asked:
    """What a case's settings ask, for the law and for its own rule."""
    defaults = configparser.ConfigParser(interpolation=None)
    defaults.read(Path(quick.__file__).with_name("defaults.cfg"))
    of = {
        name: {**defaults[f"sqlfluff:rules:{name}"], **said.get(name, {})}
        for name in ("levada.layer_order", "levada.table_names", "levada.complexity")
    }
    layers, names, most = of.values()
    return Asked(
        tuple(layers["source_layers"].split(",")),
        (names["table_names"], names["private_names"]) if rule == "LV04" else None,
        Budget(*(int(each) for each in most.values())) if rule == "LV05" else None,
    )


def test_no_fault_of_the_rules_cases_is_passed(mesh: Path) -> None:
    passed, told = [], set()
    for rule, name, case in LAW:
        model = here(mesh / case.get("path", "models/office/aggregate/tested.sql"))
        text = case.get("fail") or case["pass"]
        if model and quick.sound(model, text, asked(rule, case.get("config", {}))):
            told.add(rule)
            if "fail" in case:
                passed.append(f"{rule}: {name}")
    assert passed == []
    assert told > {"LV04", "LV05"}, "rules of taste are told at once, too"


OF_MACROS = {
    "select {{ trimmed('name') }} from {{ ref('tonnage') }}": True,
    "select {{ trimmed(\"'a'\") }} as a": True,
    "select * from {{ newest('tonnage') }}": True,
    "select * from {{ newest('harbour.ships') }} join {{ newest('tonnage') }} using (id)": True,
    "select * from {{ archived() }}": False,
    "with a as ({{ stamped() }}) select * from a": False,
    "with a as ({{ ships() }}) select * from a": False,  # of one argument, and another domain's
    "select * from {{ newest('tonnage') }}_old": False,
    "select '{{ newest('tonnage') }}'": False,
    "select {{ trimmed('name') | upper }} from {{ ref('tonnage') }}": False,
    "select {{ trimmed(name) }} from {{ ref('tonnage') }}": False,  # nobody says what name is
    "select {{ trimmed() }} from {{ ref('tonnage') }}": False,
    "select {{ elsewhere('name') }} from {{ ref('tonnage') }}": False,
    "select {{ dated('name') }} from {{ ref('tonnage') }}": False,  # asks what only dbt knows
    "select * from {{ trimmed(ref('tonnage')) }}": False,  # trim(levada_read_0_), a function
}


@pytest.mark.parametrize("text", OF_MACROS)
def test_macros_of_the_project_are_rendered_and_others_are_not(mesh: Path, text: str) -> None:
    model = here(mesh / "models/office/aggregate/tested.sql")
    assert model is not None
    assert quick.sound(model, text, Asked(LANDING)) is OF_MACROS[text]


def test_macros_that_only_dbt_reads_leave_their_models_to_sqlfluff() -> None:
    texts = [
        "{% macro a() %}1{% endmacro %}",
        "{% materialization m, default %}{% endmaterialization %}",
    ]
    assert Rendering(texts).of("a()", Names()) == "1"
    assert Rendering(texts).of("b()", Names()) is None
    assert Rendering(["{% macro a() %}levada_read_0_{% endmacro %}"]).of("a()", Names()) is None
    assert Rendering(["{{ 1 / 0 }}{% macro a() %}1{% endmacro %}"]).of("a()", Names()) is None
    later = "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ ref('x') }}{% endmacro %}"
    names = Names()
    assert Rendering([later]).of("a()", names) in names.issued


@st.composite
def queries(draw: st.DrawFn) -> str:
    """A SELECT of joins, branches, CASEs and CTEs, written as people write them."""
    table = "{{ ref('tonnage') }}"

    def value(depth: int) -> str:
        kind = draw(
            st.sampled_from(["plain", "case", "else", "when", "sub"] if depth else ["plain"])
        )
        inner = value(depth - 1) if kind != "plain" else "1"
        return {
            "plain": "1",
            "case": f"case when id > 1 then {inner} end",
            "else": f"case id when 1 then 2 else {inner} end",
            "when": f"case when {inner} > 1 then 2 when id = 2 then 3 end",
            "sub": f"(select max({inner}) from {table})",
        }[kind]

    def select(depth: int) -> str:
        joins = draw(st.lists(st.sampled_from(["join", "left join", ","]), max_size=2))
        source = f"{table} as t0"
        for number, how in enumerate(joins, 1):
            on = "" if how == "," else f" on t0.id = t{number}.id"
            source += f" {how} {table} as t{number}{on}"
        return f"select {value(depth)} as id\n-- why\n\nfrom {source}"

    body = "\nunion all\n".join(select(2) for _ in range(draw(st.integers(1, 3))))
    return f"with a as (\n{select(1)}\n)\n{body}" if draw(st.booleans()) else body


@settings(max_examples=25, deadline=None)
@given(queries(), st.integers(0, 3), st.integers(1, 3), st.integers(0, 2), st.integers(2, 12))
def test_what_is_told_to_be_within_its_budget_is_so_by_sqlfluffs_tree(
    text: str, joins: int, branches: int, cases: int, lines: int
) -> None:
    most = Budget(joins, branches, cases, lines)
    query = quick._query(text, frozenset(), None)
    assert query is not None
    rendered = text.replace("{{ ref('tonnage') }}", "tonnage")
    tree = Linter(dialect="duckdb").parse_string(rendered).tree
    assert tree is not None
    over = list(exceeded("m", tree, text, most))
    assert quick._small(query, text, Budget(20, 20, 20, 99)), "what is small is told to be"

    assert not (quick._small(query, text, most) and over), over


@pytest.mark.thorough
def test_the_reference_mesh_is_judged_alike_with_and_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its rules of taste, and its macros."""
    for name in ("contracts", "models"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("target"))
    for name in ("levada.yaml", ".sqlfluff"):
        shutil.copy(ROOT / name, tmp_path)
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
        "[sqlfluff:templater:jinja]\nlibrary_path = x",
        "[sqlfluff:templater:jinja:context]\nref = 1",
        "[sqlfluff:templater:jinja:macros]\ntrimmed = {% macro trimmed(a) %}x{% endmacro %}",
    ],
)
def test_a_project_with_settings_that_matter_is_sqlfluffs(tmp_path: Path, said: str) -> None:
    assert ruled(tmp_path, said) is None


def test_rules_of_taste_are_told_with_the_projects_own_settings(tmp_path: Path) -> None:
    told = ruled(
        tmp_path,
        "rules = levada, core\n"
        "[sqlfluff:templater:jinja]\napply_dbt_builtins = True\nload_macros_from_path = x\n"
        "[sqlfluff:rules:levada.table_names]\ntable_names = t_.*\n"
        "[sqlfluff:rules:levada.layer_order]\nsource_layers = ingest\n"
        "[sqlfluff:rules:levada.complexity]\nmax_joins = 2",
    )

    assert told == Asked(("ingest",), ("t_.*", ""), Budget(2, 8, 3, 200))
    assert ruled(tmp_path / "law", "rules = core") == Asked(LANDING)


def ruled(root: Path, said: str) -> Asked | None:
    """What a project of these settings is asked."""
    root = harbour.write(root / "mesh")
    (root / "x").mkdir()
    (root / ".sqlfluff").write_text(f"[sqlfluff]\n{said}\n")
    linting._config.cache_clear()
    linting._rules.cache_clear()
    return linting._rules(root, root / "models" / "office" / "aggregate")[1]
