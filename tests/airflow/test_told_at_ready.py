"""What a sensor tells of tables that are ready: their ends, and what they went without."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.strategies import (
    World,
    edge,
    make_mart,
    make_mesh,
    make_product,
    make_source,
    ref,
    single,
)

from levada.readiness import endings, mark, marks
from levada.terms import Grain, Identity, Mesh, Verdict, Waived
from levada_sensors.judging import Answer, Outcome, judge_product, judge_tables

pytestmark = pytest.mark.airflow

DAY, NEXT = "2013-03-09", "2013-03-10"
NOW = datetime.now(UTC)
SOON = (NOW + timedelta(days=90)).date()
BEGUN = (NOW - timedelta(days=9)).date()
LEAVES = f"a.x@1 is deprecated since {BEGUN}, held from {SOON}"


def world(*, leaves: bool = True) -> World:
    """A table that may be leaving, and a reader of it."""
    mart = make_mart("a.x", Grain.DAY, [edge("a.landing.x", "a.x", Identity())])
    dates: dict[str, Any] = {"deprecated": BEGUN, "sunset": SOON} if leaves else {}
    old = make_product("a.x", Grain.DAY, replace(mart, contract=replace(mart.contract, **dates)))
    reader = single("a.y", Grain.DAY, edge("a.x", "a.y", Identity()))
    made = World(make_mesh([old, reader], [make_source("a.landing.x", Grain.DAY)]))
    for day in (DAY, NEXT):
        made.land("a.landing.x", day)
        made.publish("a.x", day)
    return made


def tables(made: World, *days: str) -> Answer:
    wanted = [(ref("a.x"), made.slice(ref("a.x"), day)) for day in days]
    return judge_tables(made.facts, made.mesh, wanted, {})


def marked(made: World, day: str, **changes: Any) -> None:
    key = (ref("a.x"), made.slice(ref("a.x"), day))
    made.lines[key] = replace(made.lines[key], **changes)


def test_a_sensor_of_tables_tells_that_one_goes_away() -> None:
    said = tables(world(), DAY)
    assert said.outcome is Outcome.READY
    assert said.because == f"a.x@1 {DAY}; {LEAVES}"
    assert tables(world(leaves=False), DAY).because == f"a.x@1 {DAY}"


def test_a_sensor_of_tables_tells_what_they_went_without() -> None:
    made = world(leaves=False)
    for day in (DAY, NEXT):
        marked(
            made, day, verdict=Verdict.WARN, warnings=("few_rows",), taint=("degraded: z absent",)
        )
    told = "a.x@1 {}: WARN: few_rows; degraded: z absent"
    assert tables(made, DAY).because == f"a.x@1 {DAY}; {told.format(DAY)}"
    assert tables(made, DAY, NEXT).because.endswith(f"; a.x@1 {DAY} and 1 more{told[8:]}")
    at = made.slice(ref("a.x"), NEXT)
    marked(made, NEXT, waived=(Waived(ref("a.x"), at, "c"),))
    said = f"WARN: few_rows; degraded: z absent; waived: c of a.x@1 {NEXT}"
    assert mark(made.judge(), ref("a.x"), at) == said


def test_what_many_slices_say_alike_is_told_once() -> None:
    made = world(leaves=False)
    for day in (DAY, NEXT):
        marked(made, day, verdict=Verdict.WARN, warnings=("few_rows",))
    wanted = [(ref("a.x"), made.slice(ref("a.x"), day)) for day in (DAY, NEXT)]
    assert marks(made.judge(), wanted) == (f"a.x@1 {DAY} and 1 more: WARN: few_rows",)


def test_a_table_that_nothing_declares_any_more_has_no_end_to_tell() -> None:
    assert endings(world().mesh, [ref("a.gone"), ref("a.x")], NOW) == (LEAVES,)


@pytest.mark.integration
def test_the_sensor_of_a_product_tells_of_its_inputs(ledgers: Any) -> None:
    made = world()
    mesh: Mesh = made.mesh
    product = mesh.product("a.y")
    (mart,) = mesh.product("a.x").marts
    at = made.slice(mart.table, DAY)
    ledgers.record(mart.contract.label)
    line = ledgers.line(mart.table, at, contract=mart.contract.label, verdict=Verdict.WARN)
    with closing(ledgers.runner):
        ledgers.publish("a.x", [replace(line, warnings=("few_rows",))])
        said = judge_product(ledgers.runner, mesh, product, at, prefix="dag@run@", attempt="1-a")
    assert said.outcome is Outcome.READY
    assert said.because.startswith("claimed as dag@run@1-a.")
    assert said.because.endswith(f"; a.x@1 {DAY}: WARN: few_rows; {LEAVES}")
