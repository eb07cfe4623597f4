"""No sensor fires on a neighbourhood of which a backfill has made only half again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.strategies import World, edge, make_mesh, make_source, ref, single
from tests.unit.test_looking import Asked

from levada.terms import Facts, Grain, Identity, TableRef, Trailing
from levada_sensors.judging import Outcome, judge_product, judge_tables

pytestmark = pytest.mark.airflow

DAYS = ["2013-03-08", "2013-03-09", "2013-03-10"]
SOURCE = TableRef("a", "landing.x", 0)


class Restated(Asked):
    """A ledger with open steps of a backfill."""

    open: tuple[str, ...] = ()
    world: World

    def facts(self, *asked: object, **named: object) -> Facts:
        found = super().facts(*asked, **named)  # type: ignore[arg-type]
        slices = {("a.x", self.world.slice("a.x", day)): "bf-1" for day in self.open}
        return replace(found, restating=slices)


def neighbourhood() -> Restated:
    """
    `a.x` of three days is published, the first two of them by a backfill that goes on; `b.y` reads
    them all, as `c.z` reads the last, and neither was made yet: all they need is there.
    """
    products = [
        single("a.x", Grain.DAY, edge("a.landing.x", "a.x", Identity())),
        single("b.y", Grain.DAY, edge("a.x", "b.y", Trailing(3))),
        single("c.z", Grain.DAY, edge("a.x", "c.z", Identity())),
    ]
    world = World(make_mesh(products, [make_source("a.landing.x", Grain.DAY)]))
    for day in DAYS:
        world.land("a.landing.x", day)
        world.publish("a.x", day)
    for day in DAYS[:2]:
        world.land("a.landing.x", day, "corrected")
        world.publish("a.x", day)
    ledger = Restated(lambda: world.now)
    ledger.world, ledger.lines = world, dict(world.lines)
    return ledger


def sensed(ledger: Restated, product: str) -> tuple[Outcome, str]:
    """What becomes of the routine run of the last day."""
    mesh = ledger.world.mesh
    found = judge_product(
        *(ledger, mesh, mesh.product(product), ledger.world.slice(product, DAYS[-1])),
        prefix="p@",
        attempt="1",
    )
    return found.outcome, found.because


def test_the_routine_run_waits_for_the_last_step_and_fires_when_it_is_settled() -> None:
    ledger = neighbourhood()
    ledger.open = tuple(DAYS[-1:])
    for product in ("b.y", "c.z"):
        outcome, because = sensed(ledger, product)
        assert outcome is Outcome.WAITING
        assert f"a.x@1 {DAYS[-1]}: it is made again by backfill bf-1" in because
    ledger.open = ()
    assert {sensed(ledger, product)[0] for product in ("b.y", "c.z")} == {Outcome.READY}


def test_who_reads_nothing_of_what_is_open_does_not_wait() -> None:
    ledger = neighbourhood()
    ledger.open = tuple(DAYS[:1])
    assert sensed(ledger, "b.y")[0] is Outcome.WAITING, "its window holds the open day"
    assert sensed(ledger, "c.z")[0] is Outcome.READY


def test_a_sensor_of_tables_waits_for_all_of_them() -> None:
    ledger = neighbourhood()
    mesh = ledger.world.mesh
    wanted = [(ref("a.x"), ledger.world.slice("a.x", day)) for day in DAYS]

    def judged() -> tuple[Outcome, str]:
        facts = ledger.facts({ref("a.x"), SOURCE}, ["a.x"])
        found = judge_tables(facts, mesh, wanted, {})
        return found.outcome, found.because

    ledger.open = tuple(DAYS[-1:])
    assert judged() == (
        Outcome.WAITING,
        f"waits for a.x@1 {DAYS[-1]}: it is made again by backfill bf-1",
    )
    ledger.open = ()
    assert judged()[0] is Outcome.READY
