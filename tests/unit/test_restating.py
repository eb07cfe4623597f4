"""Readiness while a backfill runs, and builds that are forced."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from tests.unit.strategies import (
    NOW,
    World,
    edge,
    little_mesh,
    make_mesh,
    make_source,
    ref,
    single,
)

from levada.flow.steps import Look, grouped
from levada.intervals import within
from levada.plan import Lookout, stale_code
from levada.ports import Want
from levada.readiness import Judge
from levada.sense import Again, wants
from levada.terms import (
    WHOLE,
    Attempt,
    Grain,
    Identity,
    Partition,
    Product,
    Publication,
    Readiness,
    Shards,
    State,
    Verdict,
)

DAY = "2013-03-10"


def test_who_reads_what_a_backfill_will_make_again_waits_whatever_is_there() -> None:
    world = World(little_mesh())
    world.land("operations.landing.flights", DAY)
    world.publish("operations.flights", DAY)
    for hour in within(*world.mesh.slicing(ref("weather.observations")), world.mesh.span):
        world.land("weather.landing.hours", hour)
        world.publish("weather.observations", hour)
    world.land("fleet.landing.planes", WHOLE)
    world.publish("fleet.planes", WHOLE)
    daily = world.mesh.product("company.daily")
    at = world.slice("company.daily", DAY)
    assert Judge(world.mesh, world.facts, world.now).inputs(daily, at).state is State.READY

    def judged(product: str, partition: Partition) -> Readiness:
        facts = replace(world.facts, restating={(product, partition): "bf-1"})
        return Judge(world.mesh, facts, world.now).inputs(daily, at)

    found = judged("operations.flights", world.slice("operations.flights", DAY))
    assert (found.state, found.because) == (
        State.WAITING,
        f"waits for operations.flights@1 {DAY}: it is made again by backfill bf-1",
    )
    assert judged("operations.flights", world.slice("operations.flights", "2013-03-09")).state is (
        State.READY
    ), "another day is no matter"
    assert judged("fleet.planes", WHOLE).state is State.READY, "the edge ignores what is restated"


def test_a_forced_build_is_another_fingerprint_and_yet_the_same_build() -> None:
    world = World(little_mesh())
    world.land("operations.landing.flights", DAY)
    world.publish("operations.flights", DAY)
    flights, at = world.mesh.product("operations.flights"), world.slice("operations.flights", DAY)

    def wanted(again: Again | None) -> Want | Readiness:
        return wants(world.mesh, flights, [at], world.facts, world.now, again)[at]

    assert isinstance(wanted(None), Readiness)
    assert isinstance(wanted(Again()), Readiness), "nothing has changed"
    forced = wanted(Again("bf-1"))
    assert isinstance(forced, Want)
    assert forced.fingerprint.endswith("+bf-1")
    line = world.lines[ref("operations.flights"), at]
    assert isinstance(line, Publication)
    world.lines[line.table, at] = replace(line, made_by=forced.fingerprint)
    assert isinstance(wanted(Again("bf-1")), Readiness), "once is enough"
    assert isinstance(wanted(None), Readiness), "for everybody else it is current"
    assert isinstance(wanted(Again("bf-2")), Want)
    assert stale_code(world.mesh, world.facts) == ()


def test_what_moved_under_an_ignoring_edge_is_a_reason_only_for_who_asks() -> None:
    product = single("a.x", Grain.DAY, edge("a.landing.x", "a.x", Identity(), action="ignore"))
    world = World(make_mesh([product], [make_source("a.landing.x", Grain.DAY)]))
    world.land("a.landing.x", DAY)
    world.publish("a.x", DAY)
    world.land("a.landing.x", DAY, "other")
    at = world.slice("a.x", DAY)
    found = wants(world.mesh, product, [at], world.facts, world.now)[at]
    assert isinstance(found, Readiness)
    asked = wants(world.mesh, product, [at], world.facts, world.now, Again())[at]
    assert isinstance(asked, Want)


def test_a_look_at_what_moved_sees_a_backfill_begin_and_end() -> None:
    world = World(little_mesh())
    world.land("operations.landing.flights", DAY)
    world.publish("operations.flights", DAY)
    lookout = Lookout(world.mesh, timedelta(days=9999))
    at = world.slice("company.daily", DAY)

    def said() -> str:
        looked = lookout.look(facts, world.now)
        (step,) = (s for s in looked if (s.step.product, s.step.partition) == ("company.daily", at))
        return step.inputs.because

    for hour in within(*world.mesh.slicing(ref("weather.observations")), world.mesh.span):
        world.land("weather.landing.hours", hour)
        world.publish("weather.observations", hour)
    world.land("fleet.landing.planes", WHOLE)
    world.publish("fleet.planes", WHOLE)
    facts = world.facts
    assert "bf-1" not in said()
    facts = replace(facts, restating={("operations.flights", at): "bf-1"})
    assert "made again by backfill bf-1" in said()
    assert lookout.decided < 10, "only who reads it is looked at"
    facts = replace(facts, restating={})
    assert "bf-1" not in said()


def test_what_broke_is_tried_alone_but_a_build_in_shards_goes_on_once_together() -> None:
    whole = single("a.x", Grain.DAY, edge("a.landing.x", "a.x", Identity()))
    world = World(make_mesh([whole], [make_source("a.landing.x", Grain.DAY)]))
    days = [world.slice("a.x", f"2013-03-0{n}") for n in range(5, 9)]

    def batches(product: Product, tries: int) -> list[int]:
        broken = {
            day: Attempt("a.x", day, "run-1", "sha", Verdict.UNKNOWN, "died", (), tries, NOW)
            for day in days[1:3]
        }
        found = Look(product, (), {}, broken, {})
        return [len(batch) for batch in grouped(found, days, 31, together=True)]

    cut = replace(whole, shards=Shards("id", 4))
    assert batches(whole, 1) == [1, 1, 1, 1]
    assert batches(cut, 1) == [4]
    assert batches(cut, 2) == [1, 1, 1, 1], "or it kills whoever builds it for ever"
