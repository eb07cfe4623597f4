"""The documents are true where a test can tell: links, commands, names, examples."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from levada.cli.app import app
from levada.cli.output import STYLES
from levada.settings import read_settings
from levada.terms import State, Verdict

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [
        *ROOT.glob("docs/**/*.md"),
        *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING")),
    ]
)
REFERENCE = ROOT / "docs" / "reference"
TUTORIAL = ROOT / "docs" / "tutorials" / "add-a-mart.md"
TOP: Any = get_command(app)
RECORDS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)
each_record = pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Fenced blocks: language and body."""
    for found in re.finditer(r"^( *)```(\w*)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        yield found[2], re.sub(rf"^{found[1]}", "", found[3], flags=re.MULTILINE)


def _prose(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def _anchors(path: Path) -> set[str]:
    """The headings of a document, as links name them."""
    headings = re.findall(r"^#+ (.+)$", _prose(path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


# Links


@each_document
def test_every_relative_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(document.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in _anchors(path), f"{target}: no such heading"


def test_every_document_is_reached_from_the_table_of_contents() -> None:
    indexes = [ROOT / "docs" / "README.md", ROOT / "docs" / "adr" / "README.md"]
    reached = {
        (index.parent / target.partition("#")[0]).resolve()
        for index in indexes
        for target in re.findall(r"\]\(([^)\s]+)\)", index.read_text())
    }
    # proof.md is the kept output of `make prove`, not a text to read on from.
    expected = {p for p in (ROOT / "docs").rglob("*.md") if p.name not in ("README.md", "proof.md")}

    assert expected <= reached


# Commands


def _shown(text: str) -> Iterator[list[str]]:
    """The `levada` commands that a document shows, in words."""
    for _, body in _blocks(text):
        for line in body.splitlines():
            command = line.removeprefix("$ ")
            if command.startswith("levada "):
                yield shlex.split(command)
    for span in re.findall(r"`(levada [^`]+)`", _prose(text)):
        yield shlex.split(span.replace("\n", " "))


def _options(command: Any) -> set[str]:
    own = {o for p in command.params for o in (*p.opts, *p.secondary_opts) if o.startswith("-")}
    return own | {"-h", "--help"}


@each_document
def test_every_command_that_is_shown_exists_with_its_options(document: Path) -> None:
    for words in _shown(document.read_text()):
        command = TOP
        shown = " ".join(words)
        for word in words[1:]:
            if word.startswith("-"):
                assert word.partition("=")[0] in _options(command), f"{shown}: no option {word}"
            elif hasattr(command, "commands"):
                assert word in command.commands, f"{shown}: no command {word}"
                command = command.commands[word]


def test_the_reference_names_every_command_and_every_option() -> None:
    text = (REFERENCE / "cli.md").read_text()
    todo: list[tuple[tuple[str, ...], Any]] = [((), TOP)]
    while todo:
        way, command = todo.pop()
        inner = getattr(command, "commands", {})
        todo += [((*way, name), each) for name, each in inner.items()]
        if way and not inner:
            assert f"levada {' '.join(way)}" in text
        for option in _options(command):
            assert f"`{option}`" in text or re.search(rf"{re.escape(option)}\b", text), option


def test_the_stages_of_a_check_that_are_shown_are_those_that_it_has() -> None:
    files = (ROOT / "src/levada" / name for name in ("flow/declaring.py", "cli/checking.py"))
    stages = [name for f in files for name in re.findall(r'\.stage\("([a-z ]+)"\)', f.read_text())]
    listed = re.findall(r"^\| `([a-z ]+)` \|", (REFERENCE / "cli.md").read_text(), re.MULTILINE)

    for document in (ROOT / "README.md", TUTORIAL):
        (shown,) = re.findall(r"^(contracts [\d.]+ s, .*)$", document.read_text(), re.MULTILINE)
        assert re.findall(r"([a-z ]+?) [\d.]+ s", shown.replace(", ", "")) == stages
    assert set(stages) <= set(listed)


def test_every_make_target_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        for target in re.findall(r"`make ([a-z]+)[^`]*`", document.read_text()):
            assert target in targets, f"{document.name}: make {target}"


# Words


def _glossary() -> dict[str, str]:
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \|$",
        (REFERENCE / "glossary.md").read_text(),
        re.MULTILINE,
    )
    return {t.strip(): korean.strip() for terms, korean in rows[2:] for t in terms.split(",")}


@pytest.mark.parametrize(
    ("term", "korean"),
    [
        ("readiness", "준비 상태"),
        ("data contract", "데이터 계약"),
        ("consistency batch", "정합성 배치"),
        ("waiver", "면제"),
        ("restatement", "재산출(재작성)"),
        ("backfill", "소급 적재"),
        ("table sensor", "테이블 센서"),
    ],
)
def test_the_agreed_korean_terms_stand_in_the_glossary(term: str, korean: str) -> None:
    assert _glossary()[term] == korean


def test_every_term_of_the_glossary_has_a_korean_one_in_hangul() -> None:
    glossary = _glossary()

    assert len(glossary) > 50
    assert [t for t, korean in glossary.items() if not re.search("[가-힣]", korean)] == []


def test_the_glossary_is_sorted() -> None:
    rows = re.findall(r"^\| ([^|,]+)", (REFERENCE / "glossary.md").read_text(), re.MULTILINE)
    terms = [row.strip() for row in rows[2:]]

    assert terms == sorted(terms)


def test_states_signs_and_verdicts_are_those_of_the_code() -> None:
    late = (ROOT / "docs" / "how-to" / "read-why-something-is-late.md").read_text()
    told = dict(re.findall(r"^\| ([A-Z]+) \| `(.)` \|", late, re.MULTILINE))
    verdicts = re.findall(
        r"^\| ([A-Z]{4,}) \| (?:a|every) ",
        (REFERENCE / "declarations.md").read_text(),
        re.MULTILINE,
    )

    assert told == {state.value: STYLES[state][0] for state in State}
    assert verdicts == [verdict.value for verdict in Verdict]


def test_the_ledger_reference_names_every_kind_view_function_and_role() -> None:
    text = (REFERENCE / "ledger.md").read_text()
    migrations = ROOT / "src" / "levada" / "ledger" / "migrations" / "versions"
    sql = "".join(path.read_text() for path in sorted(migrations.glob("*.sql")))
    granted = {
        name
        for grant in re.findall(r"^grant (?:select|execute)[^;]*;", sql, re.MULTILINE)
        for name in re.findall(r"ledger\.(\w+)", grant)
    }
    named = granted | set(re.findall(r"when '(\w+)' then", sql))
    named |= set(re.findall(r"levada_(?:runner|publisher|governance|reader)", sql))

    assert {name for name in named if f"`{name}`" not in text} == set()


# Examples


@each_document
def test_every_yaml_example_is_yaml(document: Path) -> None:
    for language, body in _blocks(document.read_text()):
        if language == "yaml":
            assert yaml.safe_load(body)


def test_the_settings_of_the_reference_are_read_without_a_fault(tmp_path: Path) -> None:
    blocks = [body for language, body in _blocks((REFERENCE / "declarations.md").read_text())]
    (tmp_path / "levada.yaml").write_text(next(b for b in blocks if b.startswith("mesh:")))

    settings = read_settings(tmp_path)

    assert settings.zone == "America/New_York"
    defaults = "mesh: a\nzone: UTC\nspan: {from: 2013-01-01, to: 2013-01-02}\ndomains: [b]\n"
    (tmp_path / "levada.yaml").write_text(defaults)
    assert read_settings(tmp_path).lease == settings.lease
    assert read_settings(tmp_path).probe_horizon == settings.probe_horizon


def test_the_contract_of_the_tutorial_has_no_fault(tmp_path: Path) -> None:
    from levada.adapters.odcs import read_contract

    text = next(b for _, b in _blocks(TUTORIAL.read_text()) if "kind: DataContract" in b)
    path = tmp_path / "contracts" / "operations" / "cancellations.v1.odcs.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)

    contract, faults = read_contract(path, tmp_path)

    assert faults == ()
    assert contract is not None
    assert str(contract.table) == "operations.cancellations@1"


def test_the_models_yaml_of_the_tutorial_keeps_what_the_mesh_has() -> None:
    blocks = [body for language, body in _blocks(TUTORIAL.read_text()) if language == "yaml"]
    shown = yaml.safe_load(next(b for b in blocks if b.startswith("models:")))
    kept = yaml.safe_load((ROOT / "models" / "operations" / "base" / "base.yml").read_text())

    assert [m for m in shown["models"] if m["name"] != "cancellations"] == kept["models"]


def test_the_excerpts_of_the_readme_stand_in_the_mesh() -> None:
    blocks = [
        yaml.safe_load(b) for lang, b in _blocks((ROOT / "README.md").read_text()) if lang == "yaml"
    ]
    contract = yaml.safe_load((ROOT / "contracts/company/route_board.v1.odcs.yaml").read_text())
    models = yaml.safe_load((ROOT / "models/company/aggregate/aggregate.yml").read_text())["models"]
    meta = next(m for m in models if m["name"] == "daily_punctuality")["config"]["meta"]

    assert blocks[0]["customProperties"] == contract["schema"][0]["customProperties"]
    assert blocks[1]["meta"] == meta


# Decisions


@each_record
def test_every_decision_says_why_what_follows_and_what_would_violate_it(record: Path) -> None:
    text = record.read_text()
    number = int(record.stem[:4])

    assert text.startswith(f"# {number}. ")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Context", "Decision", "Consequences", "A change violates this when"]


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(record.stem[:4]) for record in RECORDS] == list(range(1, len(RECORDS) + 1))


# Scenarios


def test_the_scenarios_of_the_guide_are_the_files_that_it_names() -> None:
    guide = (ROOT / "docs" / "how-to" / "ask-what-would-happen.md").read_text()
    shown = [body for language, body in _blocks(guide) if language == "yaml"]
    kept = sorted((ROOT / "docs" / "how-to" / "scenarios").glob("*.yaml"))

    assert sorted(shown) == sorted(path.read_text() for path in kept)


# Cases beside Airflow


def test_every_case_beside_airflow_names_its_test_and_every_test_has_its_case() -> None:
    said = (ROOT / "docs" / "explanation" / "beside-airflow.md").read_text()
    tests = (ROOT / "tests" / "airflow" / "test_beside_airflow.py").read_text()
    named = re.findall(r"`(test_\w+)` \|$", said, re.MULTILINE)
    assert sorted(named) == sorted(re.findall(r"^def (test_\w+)\(", tests, re.MULTILINE))


# Attacks


def test_every_attack_stands_in_the_threat_model_and_every_test_that_it_names_exists() -> None:
    said = (ROOT / "docs" / "explanation" / "threat-model.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", said))

    def defined(pattern: str) -> set[str]:
        found = (path.read_text() for path in (ROOT / "tests").rglob(pattern))
        return {n for text in found for n in re.findall(r"^def (test_\w+)\(", text, re.MULTILINE)}

    assert defined("test_attacks*.py") - named == set()
    assert named - defined("test_*.py") == set()
