"""Every class of change: by a corpus that was labelled by hand, and by laws beyond any case."""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.adapters import odcs
from levada.audit import OPERATORS
from levada.govern import KINDS, Change, Impact, changes
from levada.terms import Check, Column, Contract, Severity

CORPUS: Any = yaml.safe_load((Path(__file__).parent / "cases/contract_changes.yaml").read_text())
BASE: dict[str, Any] = CORPUS["contract"]
CASES: list[dict[str, Any]] = CORPUS["changes"]


BREAKING = [case for case in CASES if case["is"] == "breaking"]
COMPATIBLE = [case for case in CASES if case["is"] == "compatible"]


def read(document: Any) -> Contract:
    return odcs.from_canonical(json.dumps(document))


def mutated(case: dict[str, Any]) -> Contract:
    document = copy.deepcopy(BASE)
    for step in case.get("do", [case]):
        place = step["at"].replace("columns", "table.properties", 1)
        path = place.replace("table", "schema.0", 1).split(".")
        holder: Any = document
        for word in path[:-1]:
            holder = holder[_key(holder, word)]
        last = _key(holder, path[-1])
        if "put" in step:
            holder[last] = step["put"]
        elif "add" in step:
            holder[last].append(step["add"])
        elif "swap" in step:
            one, other = step["swap"]
            holder[last][one], holder[last][other] = holder[last][other], holder[last][one]
        else:
            assert step["drop"]
            del holder[last]
    return read(document)


def _key(holder: Any, word: str) -> Any:
    if isinstance(holder, dict):
        return word
    if word.isdigit():
        return int(word)
    (found,) = (
        n for n, e in enumerate(holder) if word in (e.get("name"), e.get("id"), e.get("property"))
    )
    return found


def test_the_corpus_is_large_and_its_labels_are_classes_that_there_are() -> None:
    assert len(CASES) >= 60
    for case in CASES:
        assert KINDS[case["kind"]][0] is Impact(case["is"]), case["does"]
    told = {kind for case in CASES for kind in (case["kind"], *case.get("also", ()))}
    contracts = {
        k
        for k in KINDS
        if not k.startswith(("edge.", "gate.", "law.", "product.", "table.added", "table.rem"))
    }
    beyond = {
        *("column.logical_type_added", "key.added", "table.week_start", "life.activated"),
        *("life.unread", "life.sunset_set", "life.sunset_passed", "rule.warning_changed"),
    }
    assert contracts - told == beyond


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["does"]))
def test_a_change_is_of_its_labelled_class(case: dict[str, Any]) -> None:
    found = changes(CONTRACT, mutated(case))
    kinds = [change.kind for change in found]
    assert sorted(kinds) == sorted([case["kind"], *case.get("also", ())])
    assert any(change.breaking for change in found) == (case["is"] == "breaking")


def test_no_breaking_change_of_the_corpus_passes_as_compatible() -> None:
    old = CONTRACT
    passed = [
        case["does"]
        for case in CASES
        if case["is"] == "breaking" and not any(c.breaking for c in changes(old, mutated(case)))
    ]
    assert passed == []


def test_a_change_says_one_sentence_with_its_reason() -> None:
    (found,) = changes(CONTRACT, mutated(next(c for c in CASES if c["kind"] == "sla.loosened")))
    assert str(found) == (
        "shop.orders@1: latency is 8 h instead of 6 h; breaking: less is promised than readers "
        "planned by"
    )
    assert "\n" not in str(found)


def test_the_kinds_beyond_the_corpus() -> None:
    old = CONTRACT
    keyless = replace(
        old, columns=tuple(replace(c, key_position=None) for c in old.columns), hash="k"
    )
    assert [c.kind for c in changes(keyless, old)] == ["key.added"]
    assert [c.kind for c in changes(replace(old, sunset=None, hash="s"), old)] == [
        "life.sunset_set"
    ]
    draft = replace(old, status="draft", hash="d")
    assert [c.kind for c in changes(draft, old)] == ["life.activated"]
    assert [c.kind for c in changes(draft, replace(old, status="retired"))] == ["life.unread"]
    sunday = replace(old, zone="Europe/Madrid@sunday", hash="z")
    assert [c.kind for c in changes(old, sunday)] == ["table.week_start"]


# Laws

CONTRACT = read(BASE)


def _without(contract: Contract, column: Column) -> Contract:
    """A contract that no longer says anything of a column."""
    checks = tuple(c for c in contract.checks if c.column != column.name)
    return replace(
        contract, columns=tuple(c for c in contract.columns if c != column), checks=checks
    )


def _removals(contract: Contract) -> list[Contract]:
    """Contracts that promise something less, each in one way."""
    found: list[Contract] = []
    for column in contract.columns:
        found.append(_without(contract, column))
        lesser = [replace(column, required=False), replace(column, unique=False)]
        lesser += [replace(column, logical=""), replace(column, told=())]
        lesser += [replace(column, type="VARCHAR"), replace(column, type="BLOB")]
        found += [
            replace(contract, columns=tuple(less if c == column else c for c in contract.columns))
            for less in lesser
            if less != column
        ]
    written = [
        c
        for c in contract.checks
        if c.origin == "quality" or c.id.split(".")[-1] not in ("type", "required", "unique")
    ]
    for check in written:
        if check.id in ("columns", "interval", "primary_key", "sla.latency"):
            continue  # what they say goes with the columns, or with the level
        kept = tuple(c for c in contract.checks if c != check)
        found.append(replace(contract, checks=kept))
        if check.origin == "quality" and check.severity is Severity.BLOCKING:
            weaker = replace(check, severity=Severity.ADVISORY)
            found.append(replace(contract, checks=(*kept, weaker)))
    names = {name for name, _ in contract.sla if not name.startswith("endOf")}
    found += [
        replace(contract, sla=tuple(s for s in contract.sla if s[0] != name)) for name in names
    ]
    return [replace(each, hash="other") for each in found]


REMOVALS = _removals(CONTRACT)


@given(st.data())
def test_what_takes_something_away_is_never_compatible(data: st.DataObject) -> None:
    less = data.draw(st.sampled_from(REMOVALS))
    extra = Column(
        data.draw(st.sampled_from(["a", "idx", "days", "zz"])),
        data.draw(st.sampled_from(["BIGINT", "VARCHAR", "DATE"])),
    )
    if data.draw(st.booleans()):  # something that comes does not hide what goes
        less = replace(less, columns=(*less.columns, extra))
    if data.draw(st.booleans()):
        less = replace(less, version="1.1.0", description="Better words.")
    assert {c.impact for c in changes(CONTRACT, less)} - {Impact.COMPATIBLE}


@given(st.sampled_from([CONTRACT, *REMOVALS]))
def test_nothing_changes_between_a_contract_and_itself(contract: Contract) -> None:
    assert changes(contract, contract) == ()
    assert [c.kind for c in changes(replace(contract, hash="a"), replace(contract, hash="b"))] == [
        "contract.text"
    ]


OPPOSITE = {
    "column.added": "column.dropped",
    "column.type_widened": "column.type_narrowed",
    "column.unique_added": "column.unique_removed",
    "column.logical_type_added": "column.logical_type_removed",
    "column.format_added": "column.format_removed",
    "key.added": "key.removed",
    "enum.added": "enum.removed",
    "enum.value_added": "enum.value_removed",
    "option.added": "option.removed",
    "option.tightened": "option.loosened",
    "rule.added": "rule.removed",
    "rule.tightened": "rule.loosened",
    "rule.severity_raised": "rule.severity_lowered",
    "sla.added": "sla.removed",
    "sla.tightened": "sla.loosened",
    "life.sunset_later": "life.sunset_sooner",
    "life.support_later": "life.support_sooner",
    "owner.tier_raised": "owner.tier_lowered",
    "column.classification_raised": "column.classification_lowered",
}
BOTH = {**OPPOSITE, **{b: a for a, b in OPPOSITE.items()}}
ODD = {
    *("column.added_required", "column.required_added", "column.required_removed"),
    *(
        "life.deprecated",
        "life.activated",
        "life.withdrawn",
        "life.sunset_later",
        "life.sunset_set",
    ),
    *("rule.warning_removed", "rule.warning_loosened", "column.classification_raised"),
}
"""Kinds whose way back is of another name, or that depend on what a word is worth."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["does"]))
def test_the_way_back_is_the_opposite(case: dict[str, Any]) -> None:
    old, new = CONTRACT, mutated(case)
    if case["kind"] in ODD:
        assert changes(new, old)
        return
    there = sorted(c.kind for c in changes(old, new))
    back = sorted(BOTH.get(c.kind, c.kind) for c in changes(new, old))
    assert there == back


LIMITS = sorted(OPERATORS)


@st.composite
def limits(draw: st.DrawFn) -> Check:
    operator = draw(st.sampled_from(LIMITS))
    ends = sorted(draw(st.lists(st.integers(-1, 6), min_size=2, max_size=2)))
    threshold = tuple(map(float, ends if operator.endswith("etween") else ends[:1]))
    return Check("r", "rowCount", operator=operator, threshold=threshold, origin="quality")


def passes(check: Check, value: float) -> bool:
    low, high = check.threshold[0], check.threshold[-1]
    return {
        "mustBe": value == low,
        "mustNotBe": value != low,
        "mustBeLessThan": value < low,
        "mustBeLessOrEqualTo": value <= low,
        "mustBeGreaterThan": value > low,
        "mustBeGreaterOrEqualTo": value >= low,
        "mustBeBetween": low <= value <= high,
        "mustNotBeBetween": not low <= value <= high,
    }[check.operator]


@given(limits(), limits())
def test_a_rule_called_compatible_lets_nothing_through_that_was_withheld(
    old: Check, new: Check
) -> None:
    """Held against every count that could tell two limits apart."""
    found = changes(
        replace(CONTRACT, checks=(old,), hash="a"), replace(CONTRACT, checks=(new,), hash="b")
    )
    values = [n / 2 for n in range(20)]
    through = [v for v in values if passes(new, v) and not passes(old, v)]
    assert any(c.breaking for c in found) == bool(through), [str(c) for c in found]


@settings(max_examples=40)
@given(st.sampled_from(BREAKING), st.sampled_from(COMPATIBLE))
def test_two_changes_at_once_hide_nothing(one: dict[str, Any], other: dict[str, Any]) -> None:
    """A breaking change stays one, whatever compatible change is made beside it."""
    steps = [*one.get("do", [one]), *other.get("do", [other])]
    places = [step["at"] for step in steps]
    if any(a.startswith(b) for a, b in itertools.permutations(places, 2)):
        return
    try:
        new = mutated({"do": steps})
    except Exception:
        return
    found: tuple[Change, ...] = changes(CONTRACT, new)
    assert any(c.breaking for c in found)
