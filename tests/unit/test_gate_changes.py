"""Every class of change of a gate, by a corpus that was labelled by hand."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from tests.unit.strategies import ref
from tests.unit.test_consistency_files import COLUMNS, mesh, read

from levada import govern
from levada.consistency import gated
from levada.govern import KINDS, Change, Impact
from levada.terms import Grain, Mesh

CORPUS: Any = yaml.safe_load((Path(__file__).parent / "cases/gate_changes.yaml").read_text())
CASES: list[dict[str, Any]] = CORPUS["changes"]
DAILY = ref("company.daily")


def majors() -> Mesh:
    """The little mesh, and a second major of each of its daily tables."""
    first = mesh()
    second = []
    for product in first.products:
        if product.grain is Grain.DAY:
            (mart,) = product.marts
            table = replace(mart.table, major=2)
            contract = replace(mart.contract, table=table, columns=COLUMNS)
            edges = tuple(replace(edge, downstream=table) for edge in mart.dependencies)
            mart = replace(mart, table=table, contract=contract, dependencies=edges)
            second.append(replace(product, name=f"{product.name}_v2", marts=(mart,)))
    return replace(first, products=(*first.products, *second))


def declared(batch: Any) -> Mesh:
    return _declared(yaml.safe_dump(batch, sort_keys=False))


@cache
def _declared(text: str) -> Mesh:
    with TemporaryDirectory() as root:
        batches, faults = read(Path(root), text, of=majors())
    assert faults == ()
    found, unfit = gated(majors(), batches)
    assert unfit == ()
    return found


def mutated(case: dict[str, Any]) -> Any:
    batch = copy.deepcopy(CORPUS["batch"])
    if "new" in case:
        batch["rules"].append({"id": case["rule"], **case["new"]})
        return batch
    (rule,) = (each for each in batch["rules"] if each["id"] == case["rule"])
    if case.get("drop"):
        batch["rules"].remove(rule)
    rule.update(case.get("put", {}))
    for key in case.get("unset", ()):
        del rule[key]
    return batch


def told(old: Any, new: Any) -> list[Change]:
    before, after = declared(old), declared(new)
    touched = govern.touched(before, after).values()
    return [change for changes in touched for change in changes if change.family == "gate"]


def test_the_labels_of_the_corpus_are_classes_that_there_are() -> None:
    for case in CASES:
        if case["kind"]:
            assert KINDS[case["kind"]][0] is Impact(case["is"]), case["does"]
    assert {c["kind"] for c in CASES if c["kind"]} == {k for k in KINDS if k.startswith("gate.")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["does"]))
def test_a_change_of_a_gate_is_of_its_labelled_class(case: dict[str, Any]) -> None:
    found = told(CORPUS["batch"], mutated(case))
    wanted = [case["kind"], *case.get("also", ())] if case["kind"] else []
    assert sorted(change.kind for change in found) == sorted(wanted)
    assert any(change.breaking for change in found) == (case["is"] == "breaking")


BACK = {
    "gate.added": "gate.removed",
    "gate.removed": "gate.added",
    "gate.parted": "gate.added",
    "gate.loosened": "gate.tightened",
    "gate.tightened": "gate.loosened",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["does"]))
def test_the_way_back_is_the_opposite(case: dict[str, Any]) -> None:
    there = told(CORPUS["batch"], mutated(case))
    back = told(mutated(case), CORPUS["batch"])
    assert sorted(BACK.get(c.kind, c.kind) for c in there) == sorted(c.kind for c in back)


def test_a_gate_that_lets_more_through_needs_a_new_major() -> None:
    loose = next(case for case in CASES if case["kind"] == "gate.loosened")
    before, after = declared(CORPUS["batch"]), declared(mutated(loose))

    (found,) = (t for t in govern.judged(before, after).tables if t.table == DAILY)

    (refused,) = found.refused
    assert "without a new major: the gate daily.adds_up lets more through" in refused
