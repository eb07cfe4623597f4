"""The rules of SQL, LV01 to LV05: cases as data, each in a mesh of two dbt projects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import harbour
import pytest
import yaml
from sqlfluff.core import FluffConfig, Linter
from sqlfluff.core.errors import SQLBaseError
from sqlfluff.core.linter import LintedFile

from levada.adapters.sqlfluff import facts

CASES = [
    (path.stem, name, case)
    for path in sorted((Path(__file__).parent / "sql_rules").glob("*.yml"))
    for name, case in yaml.safe_load(path.read_text()).items()
]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    facts.forget()
    return harbour.write(tmp_path_factory.mktemp("mesh"))


def linted(rule: str, case: dict[str, Any], text: str, path: Path, *, fix: bool) -> LintedFile:
    config = FluffConfig(
        configs={
            "core": {"dialect": "duckdb", "rules": rule},
            "templater": {
                "jinja": {
                    "apply_dbt_builtins": True,
                    "load_macros_from_path": str(path.parents[1] / "macros"),
                    "macros": {
                        "union_of": "{% macro union_of(a, b) %}{{ a }}{% endmacro %}",
                    },
                }
            },
            "rules": case.get("config", {}),
        }
    )
    return Linter(config=config).lint_string(text, fname=str(path), fix=fix, config=config)


def listed(each: str | list[str]) -> list[str]:
    return [each] if isinstance(each, str) else each


def found(file: LintedFile) -> list[SQLBaseError]:
    violations = file.get_violations()
    assert {v.rule_code() for v in violations} <= {"LV01", "LV02", "LV03", "LV04", "LV05"}, (
        violations
    )
    return violations


@pytest.mark.parametrize(
    ("rule", "case"), [pytest.param(r, c, id=f"{r}: {name}") for r, name, c in CASES]
)
def test_a_rule_says_what_its_cases_say(mesh: Path, rule: str, case: dict[str, Any]) -> None:
    path = mesh / case.get("path", "models/office/aggregate/tested.sql")
    if "pass" in case:
        assert found(linted(rule, case, case["pass"], path, fix=False)) == []
        return
    text = case["fail"]
    told = [(v.line_no, v.desc()) for v in found(linted(rule, case, text, path, fix=False))]
    expected = [(line, said) for line, each in case["says"].items() for said in listed(each)]

    for line, said in expected:
        assert any(line == number and said in words for number, words in told), told
    assert len(told) == len(expected), told


@pytest.mark.parametrize(
    ("rule", "case"),
    [pytest.param(r, c, id=f"{r}: {name}") for r, name, c in CASES if "fail" in c],
)
def test_a_fix_is_done_once_and_leaves_sound_sql(
    mesh: Path, rule: str, case: dict[str, Any]
) -> None:
    path = mesh / case.get("path", "models/office/aggregate/tested.sql")
    fixed, changed = linted(rule, case, case["fail"], path, fix=True).fix_string()
    assert fixed == case.get("fixed", case["fail"])
    assert changed == ("fixed" in case)

    again = linted(rule, case, fixed, path, fix=True)
    left = case.get("left", 0) if changed else len(case["says"])
    assert len(found(again)) == left
    assert again.fix_string() == (fixed, False)
