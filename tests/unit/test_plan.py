"""What the plan does, what it leaves alone and why, and that it is quick."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.strategies import (
    NEW_YORK,
    NOW,
    World,
    edge,
    failing_check,
    little_mesh,
    make_mart,
    make_mesh,
    make_product,
    make_source,
    ref,
    single,
)

from levada.intervals import within
from levada.plan import Rest, affected, explain, order, plan, stale_code
from levada.ports import Want
from levada.sense import wants
from levada.terms import (
    WHOLE,
    Grain,
    Identity,
    Latest,
    Plan,
    Publication,
    Rollup,
    Span,
    State,
    Step,
    Trailing,
    Verdict,
    WaitPolicy,
)

DAY = "2013-03-10"
FLIGHTS = "operations.flights"
LANDING = "operations.landing.flights"
ONE_DAY = Span.days(DAY, DAY, NEW_YORK)


def planned(world: World, *products: str, span: Span | None = ONE_DAY) -> tuple[Step, ...]:
    chosen = products or None
    return plan(world.mesh, world.facts, world.now, products=chosen, span=span).steps


def rested(world: World, *products: str) -> Rest:
    (rest,) = explain(world.mesh, world.facts, world.now, products=products, span=ONE_DAY)
    return rest


def published(world: World) -> World:
    world.land(LANDING, DAY)
    world.publish(FLIGHTS, DAY)
    return world


def test_first_runs_come_in_the_order_in_which_products_read_one_another() -> None:
    world = World(little_mesh())
    steps = planned(world)
    assert [p.id for p in order(world.mesh)] == [
        "operations.flights",
        "weather.observations",
        "fleet.planes",
        "company.daily",
        "company.weekly",
    ]
    assert [s.product for s in steps] == (
        ["operations.flights"] + ["weather.observations"] * 23 + ["fleet.planes", "company.daily"]
    )
    hours = [s.partition for s in steps if s.product == "weather.observations"]
    assert hours == sorted(hours)
    assert all(s.first for s in steps)
    assert steps[0].because == (
        "never published; waits for operations.landing.flights 2013-03-10: nothing landed"
    )


def test_a_week_that_the_span_cuts_is_no_step() -> None:
    world = World(little_mesh())
    week = Span.days("2013-03-04", "2013-03-10", NEW_YORK)
    assert [s.partition.key for s in planned(world, "company.weekly", span=week)] == ["2013-03-04"]
    cut = Span.days("2013-03-04", "2013-03-09", NEW_YORK)
    assert planned(world, "company.weekly", span=cut) == ()


def test_what_is_current_is_left_alone() -> None:
    world = published(World(little_mesh()))
    assert planned(world, FLIGHTS) == ()
    assert rested(world, FLIGHTS).readiness.state is State.READY


def test_a_restated_input_opens_a_step_that_requires_its_generation() -> None:
    world = published(World(little_mesh()))
    line = world.land(LANDING, DAY, "mended")
    (step,) = planned(world, FLIGHTS)
    assert step.required == ((line.table, line.partition, 2),)
    assert not step.first
    assert step.because == (
        "operations.landing.flights 2013-03-10 changed since it was read; "
        "operations.landing.flights 2013-03-10"
    )
    world.publish(FLIGHTS, DAY)
    assert planned(world, FLIGHTS) == ()


def test_hold_opens_no_step_and_ignore_neither() -> None:
    for action, state in (("hold", State.HELD), ("ignore", State.READY)):
        product = single("a.x", Grain.DAY, edge("a.landing.x", "a.x", Identity(), action=action))
        world = World(make_mesh([product], [make_source("a.landing.x", Grain.DAY)]))
        world.land("a.landing.x", DAY)
        world.publish("a.x", DAY)
        world.land("a.landing.x", DAY, "other")
        assert planned(world) == ()
        assert rested(world, "a.x").readiness.state is state


def test_a_failed_audit_is_parked_until_input_code_or_contract_changes() -> None:
    world = World(little_mesh())
    world.land(LANDING, DAY)
    world.attempt(FLIGHTS, DAY, Verdict.FAIL, [failing_check(FLIGHTS)])
    assert planned(world, FLIGHTS) == ()
    rest = rested(world, FLIGHTS).readiness
    assert (rest.state, rest.because) == (
        State.FAILED,
        "parked until something changes: distance.positive failed",
    )
    mesh = world.mesh
    contract = mesh.mart(ref(FLIGHTS)).contract
    for change in ({"code": "2"}, {"contract": replace(contract, hash="other")}):
        world.redeclare(FLIGHTS, **change)
        assert planned(world, FLIGHTS)[0].because.startswith("repair: ")
        world.mesh = mesh
    world.land(LANDING, DAY, "mended")
    (step,) = planned(world, FLIGHTS)
    assert step.because.startswith("repair: changed since its audit failed")
    assert not step.first, "the reconciler repairs; the timetable has had its turn"
    world.publish(FLIGHTS, DAY)
    assert planned(world, FLIGHTS) == ()


def test_a_failure_over_good_data_ends_when_the_input_is_put_back() -> None:
    world = published(World(little_mesh()))
    world.land(LANDING, DAY, "broken")
    world.attempt(FLIGHTS, DAY, Verdict.FAIL)
    assert rested(world, FLIGHTS).readiness.state is State.FAILED
    world.land(LANDING, DAY, "a")
    assert planned(world, FLIGHTS) == ()
    assert rested(world, FLIGHTS).readiness.state is State.READY


def test_what_could_not_be_judged_is_retried_after_its_back_off() -> None:
    world = World(little_mesh())
    world.land(LANDING, DAY)
    later = NOW + timedelta(minutes=10)
    world.attempt(FLIGHTS, DAY, Verdict.UNKNOWN, not_before=later)
    assert planned(world, FLIGHTS) == ()
    rest = rested(world, FLIGHTS).readiness
    assert (rest.state, rest.next) == (State.WAITING, later)
    world.now = later
    assert planned(world, FLIGHTS)[0].because.startswith("retry: dbt was killed")
    world.now = NOW
    world.land(LANDING, DAY, "other")  # a changed input need not wait
    assert len(planned(world, FLIGHTS)) == 1


def test_a_running_build_keeps_its_step_open() -> None:
    world = World(little_mesh())
    world.land(LANDING, DAY)
    world.claim(FLIGHTS, DAY)
    (step,) = planned(world, FLIGHTS)
    assert "being built by run run-live" in step.because


def test_an_interval_that_is_not_over_is_no_step_yet() -> None:
    world = World(little_mesh())
    day = world.slice(FLIGHTS, DAY)
    world.now = day.begin + timedelta(hours=3)
    assert planned(world, FLIGHTS) == ()
    rest = rested(world, FLIGHTS).readiness
    assert (rest.state, rest.next) == (State.WAITING, day.begin + timedelta(hours=23))
    world.now += timedelta(hours=20)
    assert len(planned(world, FLIGHTS)) == 1


def test_an_impossible_partition_is_no_step_but_explained() -> None:
    product = single("a.x", Grain.DAY, edge("a.landing.x", "a.x", Trailing(3)))
    mesh = make_mesh([product], [make_source("a.landing.x", Grain.DAY)])
    steps = plan(mesh, World(mesh).facts, NOW).steps
    assert steps[0].partition.key == "2013-03-06"
    rests = explain(mesh, World(mesh).facts, NOW)
    assert [(r.partition.key, r.readiness.state) for r in rests] == [
        ("2013-03-04", State.IMPOSSIBLE),
        ("2013-03-05", State.IMPOSSIBLE),
    ]


def made_without_the_day_before() -> tuple[World, str, str, str]:
    """A tolerant reader, built while one of the two days that it reads was stale."""
    up, mid, down = "a.landing.x", "a.x", "b.y"
    tolerant = edge(mid, down, Trailing(2), wait=WaitPolicy(at_most_missing=1))
    mesh = make_mesh(
        [single(mid, Grain.DAY, edge(up, mid, Identity())), single(down, Grain.DAY, tolerant)],
        [make_source(up, Grain.DAY)],
    )
    world = World(mesh)
    for day in ("2013-03-09", DAY):
        world.land(up, day)
        world.publish(mid, day)
    world.land(up, "2013-03-09", "moved")
    world.publish(down, DAY)  # without the 9th, which is stale
    return world, up, mid, down


def test_what_was_not_ready_is_waited_for_without_holding_up_those_below() -> None:
    world, _, mid, down = made_without_the_day_before()
    assert planned(world, down) == ()
    assert rested(world, down).readiness.state is State.READY
    world.publish(mid, "2013-03-09")
    assert len(planned(world, down)) == 1


def test_what_becomes_ready_again_without_a_publication_is_read_after_all() -> None:
    world, up, _, down = made_without_the_day_before()
    world.land(up, "2013-03-09")  # and is as it was, after all
    (step,) = planned(world, down)
    assert step.because.startswith("a.x@1 2013-03-09 arrived after it was read")
    world.publish(down, DAY)
    assert rested(world, down).readiness.because == "current"
    assert not world.judge().table(ref(down), world.slice(down, DAY)).degraded


def test_a_mart_that_joins_a_product_is_built_once() -> None:
    up = "a.landing.x"
    old = make_mart("a.x", Grain.DAY, [edge(up, "a.x", Identity())])
    world = World(make_mesh([make_product("a.p", Grain.DAY, old)], [make_source(up, Grain.DAY)]))
    world.land(up, DAY)
    world.publish("a.p", DAY)
    new = make_mart("a.y", Grain.DAY, [edge(up, "a.y", Identity())])
    world.mesh = make_mesh([make_product("a.p", Grain.DAY, old, new)], world.mesh.sources)
    (step,) = planned(world)
    assert step.because.startswith("never published: a.y@1")
    assert not step.first


def test_changed_code_alone_is_told_and_not_planned() -> None:
    world = published(World(little_mesh()))
    assert stale_code(world.mesh, world.facts) == ()
    world.redeclare(FLIGHTS, code="2")
    assert planned(world, FLIGHTS) == ()
    assert stale_code(world.mesh, world.facts) == ((FLIGHTS, world.slice(FLIGHTS, DAY)),)
    assert stale_code(world.mesh, world.facts, products=["company.daily"]) == ()


def test_the_reason_and_single_targets_are_kept() -> None:
    world = World(little_mesh())
    at = world.slice(FLIGHTS, DAY)
    found = plan(world.mesh, world.facts, NOW, only=[(FLIGHTS, at)], reason="backfill")
    assert found == Plan("backfill", planned(world, FLIGHTS))
    assert plan(world.mesh, world.facts, NOW, only=[]).steps == ()
    product = world.mesh.product(FLIGHTS)
    by_product = plan(world.mesh, world.facts, NOW, products=[product], span=ONE_DAY)
    assert by_product.steps == found.steps


def test_an_unknown_product_is_refused_with_the_known_ones() -> None:
    world = World(little_mesh())
    with pytest.raises(ValueError, match=r"no product no\.such: it has company\.daily"):
        planned(world, "no.such")


def test_a_circle_is_refused_by_name() -> None:
    mesh = make_mesh(
        [
            single("a.x", Grain.DAY, edge("b.y", "a.x", Identity())),
            single("b.y", Grain.DAY, edge("a.x", "b.y", Identity())),
        ],
        [],
    )
    with pytest.raises(ValueError, match=r"circle: a\.x, b\.y"):
        order(mesh)


def test_affected_are_the_direct_readers() -> None:
    world = World(little_mesh())
    hour = world.slice("weather.observations", "2013-03-10T07Z")
    assert affected(world.mesh, ref("weather.observations"), hour) == (
        ("company.daily", world.slice("company.daily", DAY)),
    )
    assert affected(world.mesh, ref("company.weekly"), hour) == ()
    days = affected(world.mesh, ref("fleet.planes"), WHOLE)
    assert len(days) == 14


def test_the_reconciler_reaches_all_by_affected_targets_alone() -> None:
    world = published(World(little_mesh()))
    line = world.land(LANDING, DAY, "mended")
    targets = affected(world.mesh, line.table, line.partition)
    steps = plan(world.mesh, world.facts, NOW, only=targets, reason="restatement").steps
    assert [(s.product, s.partition) for s in steps] == list(targets)


# How quick


def wide_mesh() -> tuple[World, int]:
    """An hourly product and ten daily ones over it, for 67 days."""
    zone = "America/New_York"
    hourly = single("w.hours", Grain.HOUR, edge("w.landing.hours", "w.hours", Identity()))
    daily = [
        single(
            f"d.t{n}",
            Grain.DAY,
            edge("w.hours", f"d.t{n}", Rollup()),
            edge("w.planes", f"d.t{n}", Latest()),
            *([edge(f"d.t{n - 1}", f"d.t{n}", Identity())] if n else []),
        )
        for n in range(10)
    ]
    planes = single("w.planes", Grain.WHOLE, edge("w.landing.planes", "w.planes", Identity()))
    sources = (
        make_source("w.landing.hours", Grain.HOUR),
        make_source("w.landing.planes", Grain.WHOLE),
    )
    mesh = make_mesh([hourly, *daily, planes], sources, "2013-01-01", "2013-03-09")
    world = World(mesh)
    return world, len(within(Grain.HOUR, zone, mesh.span))


@pytest.mark.thorough
def test_a_plan_of_two_thousand_partitions_opens_each_once_and_then_none() -> None:
    world, hours = wide_mesh()
    assert hours == 68 * 24
    steps = plan(world.mesh, world.facts, NOW).steps
    assert len({(s.product, s.partition) for s in steps}) == len(steps) == hours + 680 + 1
    fill(world)
    assert plan(world.mesh, world.facts, NOW).steps == ()


def fill(world: World) -> None:
    """Publish everything: judged together, which is quick."""
    world.land("w.landing.planes", WHOLE)
    for at in within(*world.mesh.slicing(ref("w.hours")), world.mesh.span):
        world.land("w.landing.hours", at)
    for product in order(world.mesh):
        partitions = within(product.grain, product.zone, world.mesh.span)
        asked = wants(world.mesh, product, partitions, world.facts, NOW)
        (mart,) = product.marts
        label = f"{mart.contract.id} {mart.contract.version} {mart.contract.hash}"
        for at, wanted in asked.items():
            assert isinstance(wanted, Want)
            world.lines[mart.table, at] = Publication(
                mart.table,
                at,
                1,
                label,
                Verdict.PASS,
                "v",
                "c",
                wanted.fingerprint,
                wanted.inputs,
                (),
                "r",
                NOW,
                world.tick(),
            )
