"""SQLFluff with Levada's rules, as `levada check` runs it and as people run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import harbour
import pytest

from levada.adapters.sqlfluff import Linting, lint
from levada.adapters.sqlfluff.facts import model_files
from levada.errors import Fault

FLUFF = Path(sys.executable).with_name("sqlfluff")


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return harbour.write(tmp_path / "mesh")


def model(mesh: Path, name: str, text: str, *, layer: str = "aggregate") -> Path:
    path = mesh / "models" / "office" / layer / f"{name}.sql"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def told(mesh: Path, *paths: Path) -> list[tuple[int, str]]:
    return [(fault.line, str(fault).partition(": ")[2]) for fault in lint(mesh, paths)]


def fluff(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FLUFF, *words],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"HOME": str(cwd), "COLUMNS": "200"},
    )


# What check runs


def test_a_mesh_without_settings_is_held_to_the_law_and_not_to_taste(mesh: Path) -> None:
    deep = "case when 1 = 1 then " * 5 + "1" + " end" * 5
    path = model(mesh, "tested", f"select {deep} as id from harbour.ships\n")

    assert [words[:4] for _, words in told(mesh, path)] == ["LV01"]

    (mesh / ".sqlfluff").write_text("[sqlfluff]\nrules = core, levada\n")
    assert [words[:4] for _, words in told(mesh, path)] == ["LV01", "LV05"]


def test_a_project_excludes_taste_and_not_the_law(mesh: Path) -> None:
    path = model(mesh, "tested", "select id from {{ ref('ships') }}\n")
    assert [words[:4] for _, words in told(mesh, path)] == ["LV02"]

    settings = mesh / "models" / "office" / ".sqlfluff"
    for way in ("exclude_rules = LV02", "warnings = LV02", "ignore = linting", "rules = LV01"):
        settings.write_text(f"[sqlfluff]\n{way}\n")
        assert [words[:4] for _, words in told(mesh, path)] == ["LV02"], way
    settings.unlink()
    for way in (
        "-- noqa",
        "-- noqa: LV02",
        "-- noqa: LV05,LV02",
        "-- noqa: disable=all",
        "{# noqa #}",
    ):
        path.write_text(f"select id from {{{{ ref('ships') }}}}  {way}\n")
        assert [words[:4] for _, words in told(mesh, path)] == ["LV02"], way
    for way in ("exclude_rules:LV02", "rules:LV01", "ignore:linting", "warnings:LV02"):
        path.write_text(f"-- sqlfluff:{way}\nselect id from {{{{ ref('ships') }}}}\n")
        assert [words[:4] for _, words in told(mesh, path)] == ["LV02"], way

    (mesh / ".sqlfluff").write_text("[sqlfluff]\nrules = levada\nexclude_rules = LV05\n")
    wide = ", ".join(f"a{n}" for n in range(12))
    path.write_text(f"with a0 as (select 1) select 1 from a0, {wide.replace('a', 'b')}\n")
    assert "LV05" not in {words[:4] for _, words in told(mesh, path)}


def test_macros_and_packages_that_nobody_named_hide_nothing(mesh: Path) -> None:
    path = model(
        mesh,
        "tested",
        "select {{ utils.star('a') }}, {{ trimmed('b') }} as b\n"
        "from {{ ref('ships') }} as s\n"
        "inner join harbour.calls as c on s.id = c.id\n",
    )

    assert [(line, words[:4]) for line, words in told(mesh, path)] == [(2, "LV02"), (3, "LV01")]


def test_jinja_that_cannot_be_rendered_hides_no_read(mesh: Path) -> None:
    path = model(
        mesh,
        "tested",
        "select id\nfrom {{ ref('berths', v=1) }}\n{{ 1 / 0 }}\n{% for a, b in [1] %}{% endfor %}\n"
        "{{ ref('harbour', 'berths') }}\n",
    )

    assert [(line, words[:4]) for line, words in told(mesh, path)] == [(2, "LV02"), (5, "LV03")]


# What does not parse


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("select id\nfrom from {{ ref('harbour', 'ships') }}\n", 2),
        ("{% if true %}\n\n\n{% endif %}\nselect id,\n(\nfrom x\n", 6),
        ("{{ config(\n    materialized='table'\n) }}\nselect 1 as a b\n", 4),
    ],
    ids=["a word twice", "a bracket that is not closed", "below a tag of several lines"],
)
def test_sql_that_does_not_parse_is_one_message_with_its_line(
    mesh: Path, text: str, line: int
) -> None:
    (fault,) = lint(mesh, [model(mesh, "tested", text)])

    assert (fault.path, fault.line) == ("models/office/aggregate/tested.sql", line)
    assert fault.wrong.startswith("does not parse: syntax error at ")


@pytest.mark.parametrize("text", ["select id: 1\n", "select 1 as id limit 10%\n"])
def test_what_duckdb_reads_and_sqlfluff_does_not_is_no_fault(mesh: Path, text: str) -> None:
    assert lint(mesh, [model(mesh, "tested", text)]) == ()


def test_settings_that_cannot_be_read_are_told_at_the_file(mesh: Path) -> None:
    (mesh / ".sqlfluff").write_text("[sqlfluff]\ndialect = klingon\n")

    (fault,) = lint(mesh, [model(mesh, "tested", "select 1 as id\n")])

    assert fault.right == "mend the .sqlfluff above it"


# The child


def test_the_child_tells_every_fault_and_holds_no_credential(
    mesh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `.sqlfluff` may have Python of the domain imported: it must find nothing to steal."""
    monkeypatch.setenv("LEVADA_DATABASE_URL", "postgresql://owner:secret@ledger/levada")
    (mesh / "library").mkdir()
    (mesh / "library" / "spy.py").write_text(
        "import os, pathlib\n"
        "print('noise')\n"
        f"pathlib.Path({str(mesh / 'seen')!r}).write_text(' '.join(sorted(os.environ)))\n"
    )
    (mesh / "models" / ".sqlfluff").write_text(
        "[sqlfluff:templater:jinja]\nlibrary_path = ../library\n"
    )
    model(mesh, "tested", "select id from {{ ref('ships') }}\n")

    with Linting(mesh, ["harbour", "office"]) as linting:
        faults = linting.faults()
    assert "LEVADA_DATABASE_URL" not in (mesh / "seen").read_text().split()

    files = [path for domain in ("harbour", "office") for path in model_files(mesh, domain)]
    assert faults == lint(mesh, files) != ()


def test_a_domain_without_a_project_is_not_linted(mesh: Path) -> None:
    with Linting(mesh, ["ghost"]) as linting:
        assert linting.faults() == ()


# As a plugin


def _loaded(code: str, modules: Sequence[str]) -> str:
    program = f"{code}\nimport sys; print([m for m in {list(modules)!r} if m in sys.modules])"
    return subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_loading_the_plugin_imports_no_rule_and_says_nothing() -> None:
    code = (
        "from sqlfluff.core.plugin.host import get_plugin_manager\n"
        "assert get_plugin_manager().get_plugin('levada')"
    )
    heavy = ("levada.terms", "levada.adapters.sqlfluff.rules", "dbt", "duckdb", "pandas")

    assert _loaded(code, heavy) == "[]"


def test_outside_a_mesh_the_rules_find_nothing(mesh: Path, tmp_path: Path) -> None:
    (mesh / "levada.yaml").unlink()
    path = model(mesh, "tested", "select s.id from harbour.ships as s\n")
    other = tmp_path / "other.sql"
    other.write_text("select s.id from harbour.ships as s\n")

    for each in (path, other):
        done = fluff("lint", "--dialect", "duckdb", "--rules", "levada", str(each), cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.prove
def test_a_project_with_settings_of_its_own_has_the_rules_by_its_command_line(mesh: Path) -> None:
    project = mesh / "models" / "office"
    (project / ".sqlfluff").write_text(
        "[sqlfluff]\ndialect = duckdb\nrules = levada\n"
        "[sqlfluff:templater:jinja]\napply_dbt_builtins = True\n"
        "[sqlfluff:rules:levada.table_names]\ntable_names = [a-z]+\n"
    )
    path = model(mesh, "tested", "select s.id\nfrom {{ ref('ships') }} as s\n")

    listed = fluff("rules", cwd=project).stdout
    assert all(f"LV0{n}: [levada." in listed for n in range(1, 6))
    wrong = fluff("lint", "aggregate", cwd=project)
    assert wrong.returncode == 1
    assert "L:   2 | P:   9 | LV02 |" in wrong.stdout
    for _ in range(2):
        assert fluff("fix", "aggregate", cwd=project).returncode == 0
        assert path.read_text() == "select s.id\nfrom {{ ref('harbour', 'ships') }} as s\n"
    assert fluff("lint", "aggregate/tested.sql", cwd=project).returncode == 0


def test_a_fault_names_its_rule_so_that_it_can_be_looked_up(mesh: Path) -> None:
    path = model(mesh, "tested", "select id from {{ ref('ships') }}\n")

    assert lint(mesh, [path]) == (
        Fault(
            "models/office/aggregate/tested.sql",
            1,
            "LV02: model tested reads ref('ships'), which is a table of harbour",
            "write ref('harbour', 'ships')",
        ),
    )
