"""The rules of SQL, LV01 to LV05: cases as data, each in a mesh of two dbt projects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import harbour
import pytest
import yaml
from sqlfluff.core import FluffConfig, Linter
from sqlfluff.core.errors import SQLBaseError
from sqlfluff.core.linter import LintedFile
from sqlfluff.core.plugin.host import get_plugin_manager
from sqlfluff.core.rules import BaseRule

from levada.adapters.promised import promises, titled
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
    macros = path.parents[1] / "macros"
    config = FluffConfig(
        configs={
            "core": {"dialect": "duckdb", "rules": rule},
            "templater": {
                "jinja": {
                    "apply_dbt_builtins": True,
                    **({"load_macros_from_path": str(macros)} if macros.is_dir() else {}),
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


# What the rules know


def test_what_files_are_called_says_what_their_contracts_say() -> None:
    names = {(p.table, p.status, p.path) for p in titled(ROOT)}

    assert names == {(p.table, p.status, p.path) for p in promises(ROOT)}
    assert len(names) > 10


def test_the_models_of_the_reference_mesh_have_their_layers() -> None:
    known = facts.facts_of(ROOT)

    assert known.layer("operations", "flights", 1) == "ingest"
    assert known.layer("company", "route_board", None) == "serve"
    assert "unreadable" in known.macros("fleet")
    assert "unreadable" not in known.models["fleet"]


# The reference says what the code does

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs" / "reference" / "sql-rules.md").read_text()
RULES: list[type[BaseRule]] = get_plugin_manager().get_plugin("levada").get_rules()  # type: ignore[union-attr]


def section(rule: type[BaseRule]) -> str:
    _, _, rest = REFERENCE.partition(f"\n## {rule.code} `{rule.name}`\n")
    assert rest, f"{rule.code} has no section"
    return rest.partition("\n## ")[0]


each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)


@each_rule
def test_the_reference_shows_what_is_wrong_and_what_is_right(rule: type[BaseRule]) -> None:
    said = section(rule)
    assert said.strip().startswith(rule.description)
    for kind, fails in (("Wrong", True), ("Right", False)):
        shown = re.search(rf"{kind}(?:, as `(.+?)`)?:\n\n```sql\n(.*?)```", said, re.DOTALL)
        assert shown, kind
        path = ROOT / (shown[1] or "models/company/aggregate/tested.sql")
        assert bool(found(linted(rule.code, {}, shown[2], path, fix=False))) is fails, kind


@each_rule
def test_the_reference_names_every_setting_with_its_default(rule: type[BaseRule]) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*?)`)? ?\|", section(rule), re.MULTILINE)
    defaults: Any = FluffConfig(overrides={"dialect": "duckdb"}).get_section("rules")
    told = {name: value.replace("\\|", "|") for name, value in rows}

    assert sorted(told) == sorted(rule.config_keywords)
    for name, value in told.items():
        assert value == str(defaults[rule.name][name] or ""), name


@each_rule
def test_the_reference_says_what_can_be_fixed(rule: type[BaseRule]) -> None:
    said = section(rule)
    assert ("no fix" in said) is not rule.is_fix_compatible
    assert rule.is_fix_compatible is bool(re.search(r"fixed", said, re.IGNORECASE))
