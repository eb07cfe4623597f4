"""What the judge says of deadlines, choices, sunsets, quiet times and holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import pytest
from tests.unit.strategies import (
    NOW,
    World,
    edge,
    failing_check,
    make_mart,
    make_mesh,
    make_product,
    make_source,
    ref,
    single,
)

from levada.intervals import due, end, parse
from levada.plan import explain, plan
from levada.ports import Want
from levada.readiness import endings
from levada.sense import want
from levada.terms import (
    Deadline,
    Dependency,
    Grain,
    Identity,
    Latest,
    Publication,
    Readiness,
    Span,
    State,
    Tampering,
    Trailing,
    Verdict,
    WaitPolicy,
    Waiver,
)

DAY = "2013-03-10"  # 23 hours long: it ends at 04:00 UTC of the 11th
SEVEN = Deadline(at=time(7))
DUE = datetime(2013, 3, 11, 11, tzinfo=UTC)


def waits(wait: WaitPolicy, **how: object) -> World:
    """One table that reads the last three days of a source."""
    up, down = "a.landing.x", "a.x"
    mapping = how.pop("mapping", Trailing(3))
    product = single(down, Grain.DAY, edge(up, down, mapping, wait=wait, **how))  # type: ignore[arg-type]
    return World(make_mesh([product], [make_source(up, Grain.DAY)]))


def may(world: World, product: str, at: str = DAY) -> Readiness:
    made = world.mesh.product(product)
    return world.judge().inputs(made, world.slice(made.marts[0].table, at))


def see(world: World, table: str, at: str = DAY) -> Readiness:
    return world.judge().table(ref(table), world.slice(table, at))


def line(world: World, table: str, at: str = DAY) -> Publication:
    found = world.lines[ref(table), world.slice(table, at)]
    assert isinstance(found, Publication)
    return found


@pytest.mark.parametrize(
    ("day", "deadline", "instant"),
    [
        ("2013-03-09", SEVEN, datetime(2013, 3, 10, 11, tzinfo=UTC)),  # the clocks went forward
        ("2013-03-08", SEVEN, datetime(2013, 3, 9, 12, tzinfo=UTC)),
        ("2013-11-02", Deadline(at=time(1, 30)), datetime(2013, 11, 3, 5, 30, tzinfo=UTC)),
        ("2013-03-09", Deadline(at=time(2, 30)), datetime(2013, 3, 10, 7, 30, tzinfo=UTC)),
        ("2013-03-09", Deadline(at=time(0)), datetime(2013, 3, 10, 5, tzinfo=UTC)),
        ("2013-03-09", Deadline(after=timedelta(0)), datetime(2013, 3, 10, 5, tzinfo=UTC)),
    ],
)
def test_a_deadline_is_an_instant_of_the_readers_zone(
    day: str, deadline: Deadline, instant: datetime
) -> None:
    partition = parse(Grain.DAY, day, "America/New_York")
    assert due(deadline, partition) == instant >= end(partition)


def test_before_its_deadline_everything_is_waited_for_and_the_waiter_wakes_then() -> None:
    world = waits(WaitPolicy(at_least=2, deadline=SEVEN))
    for day in ("2013-03-08", "2013-03-09"):
        world.land("a.landing.x", day)
    world.now = DUE - timedelta(seconds=1)
    found = may(world, "a.x")
    assert (found.state, found.next) == (State.WAITING, DUE)
    assert "until 2013-03-11 11:00Z" in found.because
    world.now = DUE
    found = may(world, "a.x")
    assert (found.state, found.degraded) == (State.READY, True)


def test_what_was_gone_without_marks_the_publication_until_it_arrives() -> None:
    world = waits(WaitPolicy(at_least=2, deadline=SEVEN))
    for day in ("2013-03-08", "2013-03-09"):
        world.land("a.landing.x", day)
    world.now = DUE
    world.publish("a.x", DAY)
    assert line(world, "a.x").taint == ("degraded: a.landing.x 2013-03-10 absent",)
    assert see(world, "a.x").degraded
    only = [("a.x", world.slice("a.x", DAY))]
    assert plan(world.mesh, world.facts, world.now, only=only).steps == ()
    world.land("a.landing.x", DAY)
    assert see(world, "a.x").state is State.STALE
    (step,) = plan(world.mesh, world.facts, world.now, only=only).steps
    assert "arrived after it was read" in step.because
    world.publish("a.x", DAY)
    assert line(world, "a.x").taint == ()
    assert not see(world, "a.x").degraded


def test_an_optional_input_with_a_deadline_is_waited_for_until_then() -> None:
    world = waits(WaitPolicy(deadline=SEVEN), mapping=Identity(), required=False)
    world.now = DUE - timedelta(hours=1)
    assert (may(world, "a.x").state, may(world, "a.x").next) == (State.WAITING, DUE)
    world.now = DUE
    assert may(world, "a.x").state is State.READY
    world.publish("a.x", DAY)
    assert line(world, "a.x").taint == ("degraded: a.landing.x 2013-03-10 absent",)


def test_after_the_deadline_the_last_good_one_stands_in_if_it_is_young_enough() -> None:
    policy = WaitPolicy(deadline=SEVEN, max_lag=timedelta(days=2))
    world = waits(policy, mapping=Identity())
    world.land("a.landing.x", "2013-03-07", "old")
    world.now = DUE
    assert may(world, "a.x").state is State.WAITING, "three days are too old"
    world.land("a.landing.x", "2013-03-08", "young")
    found = may(world, "a.x")
    assert found.state is State.READY
    made = world.mesh.product("a.x")
    pins = world.judge().pins(made, world.slice("a.x", DAY))
    assert [(p.partition.key, p.content) for p in pins] == [("2013-03-08", "young"), (DAY, None)]
    world.publish("a.x", DAY)
    assert line(world, "a.x").taint == ("degraded: a.landing.x 2013-03-10 replaced by 2013-03-08",)
    world.land("a.landing.x", "2013-03-09", "younger")
    assert see(world, "a.x").state is State.READY, "only what it waited for makes it stale"
    world.land("a.landing.x", DAY, "due")
    assert see(world, "a.x").state is State.STALE


def test_the_last_good_one_may_be_the_older_line_of_the_very_slice() -> None:
    policy = WaitPolicy(deadline=SEVEN, max_lag=timedelta(days=1))
    products = [
        single("a.x", Grain.DAY, edge("a.landing.x", "a.x", Identity())),
        single("a.y", Grain.DAY, edge("a.x", "a.y", Identity(), wait=policy)),
    ]
    world = World(make_mesh(products, [make_source("a.landing.x", Grain.DAY)]))
    world.now = DUE - timedelta(hours=1)
    world.land("a.landing.x", DAY, "good")
    world.publish("a.x", DAY)
    world.land("a.landing.x", DAY, "bad")
    world.attempt("a.x", DAY, Verdict.FAIL)
    assert see(world, "a.x").state is State.FAILED
    assert may(world, "a.y").state is State.WAITING
    world.now = DUE
    assert may(world, "a.y").state is State.READY
    world.publish("a.y", DAY)
    (read,) = line(world, "a.y").inputs
    assert (read.partition.key, read.content) == (DAY, line(world, "a.x").content)
    assert line(world, "a.y").taint == (
        "degraded: a.x@1 2013-03-10 as of its last good publication",
    )


def test_nothing_is_waited_for_that_can_never_come() -> None:
    world = waits(WaitPolicy(at_least=1, deadline=SEVEN))
    world.land("a.landing.x", "2013-03-04")
    world.now = datetime(2013, 3, 5, 6, tzinfo=UTC)  # before the deadline of the first day
    found = may(world, "a.x", "2013-03-04")
    assert found.state is State.READY, "the days before the span are no reason to wait"
    only = waits(WaitPolicy(deadline=SEVEN, max_lag=timedelta(days=1)))
    only.now = DUE
    assert may(only, "a.x", "2013-03-04").state is State.IMPOSSIBLE


def test_any_of_several_tables_suffices_and_the_others_restate_it_when_they_come() -> None:
    edges = [edge(f"a.landing.{n}", "a.x", Identity(), any_of="feed") for n in ("p", "q")]
    sources = [make_source(f"a.landing.{n}", Grain.DAY) for n in ("p", "q")]
    world = World(make_mesh([single("a.x", Grain.DAY, *edges)], sources))
    found = may(world, "a.x")
    assert found.state is State.WAITING
    assert found.because == (
        "waits for any of a.landing.p 2013-03-10: nothing landed | "
        "a.landing.q 2013-03-10: nothing landed"
    )
    world.land("a.landing.q", DAY)
    assert may(world, "a.x").state is State.READY
    world.publish("a.x", DAY)
    assert line(world, "a.x").taint == (), "one of a group is all that was asked for"
    world.land("a.landing.p", DAY)
    assert see(world, "a.x").state is State.STALE


def test_half_of_another_table_of_a_group_is_read_and_told() -> None:
    edges = [
        edge("a.landing.p", "a.x", Trailing(2), any_of="feed"),
        edge("a.landing.q", "a.x", Identity(), any_of="feed"),
    ]
    sources = [make_source(f"a.landing.{n}", Grain.DAY) for n in ("p", "q")]
    world = World(make_mesh([single("a.x", Grain.DAY, *edges)], sources))
    world.land("a.landing.q", DAY)
    world.land("a.landing.p", "2013-03-09")
    world.publish("a.x", DAY)
    assert line(world, "a.x").taint == ("degraded: a.landing.p 2013-03-10 absent",)


def test_a_group_of_which_one_may_come_is_not_impossible() -> None:
    up = [
        edge("a.landing.p", "a.x", Trailing(9), any_of="feed"),
        edge("a.landing.q", "a.x", Identity(), any_of="feed"),
    ]
    sources = [make_source(f"a.landing.{n}", Grain.DAY) for n in ("p", "q")]
    world = World(make_mesh([single("a.x", Grain.DAY, *up)], sources))
    assert may(world, "a.x", "2013-03-05").state is State.WAITING
    world.land("a.landing.q", "2013-03-05")
    assert may(world, "a.x", "2013-03-05").state is State.READY


def leaving(deprecated: date | None, sunset: date | None) -> World:
    mart = make_mart("a.x", Grain.DAY, [edge("a.landing.x", "a.x", Identity())])
    contract = replace(mart.contract, deprecated=deprecated, sunset=sunset)
    old = make_product("a.x", Grain.DAY, replace(mart, contract=contract))
    reader = single("a.y", Grain.DAY, edge("a.x", "a.y", Identity()))
    world = World(make_mesh([old, reader], [make_source("a.landing.x", Grain.DAY)]))
    world.land("a.landing.x", DAY)
    world.publish("a.x", DAY)
    return world


def test_a_deprecated_table_says_so_and_is_held_from_its_sunset_on() -> None:
    world = leaving(date(2013, 6, 10), date(2013, 7, 1))
    opens = datetime(2013, 6, 10, 4, tzinfo=UTC)
    closes = datetime(2013, 7, 1, 4, tzinfo=UTC)
    assert (see(world, "a.x").next, "deprecated" in see(world, "a.x").because) == (opens, False)
    world.now = opens
    assert see(world, "a.x").state is State.READY
    assert see(world, "a.x").because.endswith("deprecated since 2013-06-10, held from 2013-07-01")
    assert see(world, "a.x").next == closes
    assert may(world, "a.y").next == closes, "its waiters wake then"
    world.now = closes
    assert see(world, "a.x").state is State.HELD
    assert see(world, "a.x").because.startswith("its sunset was on 2013-07-01; ")
    assert endings(world.mesh, [ref("a.x")], world.now) == (
        "a.x@1 is deprecated since 2013-06-10, held since 2013-07-01",
    )
    assert may(world, "a.y").state is State.WAITING
    rests = explain(world.mesh, world.facts, world.now, products=["a.x"])
    assert {rest.readiness.state for rest in rests if rest.partition.key == DAY} == {State.HELD}


@pytest.mark.parametrize(
    "state", [State.READY, State.STALE, State.FAILED, State.WAITING, State.IMPOSSIBLE]
)
def test_whatever_a_table_is_its_waiters_wake_on_its_dates(state: State) -> None:
    world = leaving(date(2013, 6, 10), date(2013, 7, 1))
    world.now = datetime(2013, 6, 12, tzinfo=UTC)
    closes = datetime(2013, 7, 1, 4, tzinfo=UTC)
    at = {State.WAITING: "2013-03-09", State.IMPOSSIBLE: "2014-03-09"}.get(state, DAY)
    if state in (State.STALE, State.FAILED):
        world.land("a.landing.x", DAY, "another")
    if state is State.FAILED:
        world.attempt("a.x", DAY, Verdict.FAIL)
    found = see(world, "a.x", at)
    if state is State.IMPOSSIBLE:
        assert (found.state, found.next) == (state, None), "there is no such day, then as now"
        return
    assert (found.state, found.next) == (state, closes)
    if state is not State.READY:
        assert may(world, "a.y", at).next == closes


def restated(quiet: timedelta, action: str = "rerun") -> World:
    up, down = "a.landing.x", "a.x"
    product = single(down, Grain.DAY, edge(up, down, Identity(), action=action))
    mesh = make_mesh([product], [make_source(up, Grain.DAY)])
    world = World(replace(mesh, quiet=quiet))
    world.land(up, DAY, "0")
    world.publish(down, DAY)
    return world


def test_restatements_within_the_quiet_time_cause_at_most_two_rebuilds() -> None:
    quiet = timedelta(minutes=1)
    world = restated(quiet)
    product, partition = world.mesh.product("a.x"), world.slice("a.x", DAY)
    world.now += timedelta(hours=1)
    first, rebuilt = world.now, 0
    for n in range(1, 60):
        world.now = first + timedelta(seconds=n)
        world.land("a.landing.x", DAY, str(n))
        if isinstance(want(world.mesh, product, partition, world.facts, world.now), Want):
            world.publish("a.x", DAY)
            rebuilt += 1
    assert rebuilt == 1
    resting = want(world.mesh, product, partition, world.facts, world.now)
    assert isinstance(resting, Readiness)
    assert resting.next == line(world, "a.x").at + quiet
    assert plan(world.mesh, world.facts, world.now, only=[("a.x", partition)]).steps == ()
    world.now = resting.next
    world.publish("a.x", DAY)
    assert see(world, "a.x").state is State.READY


def test_a_repair_does_not_wait_for_the_quiet_time() -> None:
    world = restated(timedelta(hours=1))
    world.now += timedelta(hours=2)
    world.land("a.landing.x", DAY, "bad")
    world.attempt("a.x", DAY, Verdict.FAIL)
    world.land("a.landing.x", DAY, "mended")
    product, partition = world.mesh.product("a.x"), world.slice("a.x", DAY)
    assert isinstance(want(world.mesh, product, partition, world.facts, world.now), Want)


def test_what_an_edge_holds_goes_on_when_it_is_released_and_is_held_again_after_that() -> None:
    world = restated(timedelta(0), action="hold")
    product, partition = world.mesh.product("a.x"), world.slice("a.x", DAY)
    world.land("a.landing.x", DAY, "1")
    assert see(world, "a.x").state is State.HELD
    held = want(world.mesh, product, partition, world.facts, world.now)
    assert isinstance(held, Readiness)
    assert held.state is State.HELD, "no run passes a hold, whoever asks"
    world.pardons["a.x", partition] = world.tick()
    assert see(world, "a.x").state is State.STALE
    assert len(plan(world.mesh, world.facts, world.now, only=[("a.x", partition)]).steps) == 1
    world.publish("a.x", DAY)
    world.land("a.landing.x", DAY, "2")
    assert see(world, "a.x").state is State.HELD


def test_a_table_changed_by_hand_is_held_with_all_its_partitions() -> None:
    world = leaving(None, None)
    world.publish("a.y", DAY)
    table = ref("a.x")
    world.tampered[table] = Tampering(table, "7", "version 7 names no run", NOW)
    assert see(world, "a.x").state is State.HELD
    assert "version 7" in see(world, "a.x").because
    assert see(world, "a.x", "2013-03-09").state is State.HELD
    assert may(world, "a.y", "2013-03-09").state is State.WAITING
    world.land("a.landing.x", "2013-03-09")
    product = world.mesh.product("a.x")
    found = want(world.mesh, product, world.slice("a.x", "2013-03-09"), world.facts, world.now)
    assert isinstance(found, Readiness)
    assert found.state is State.HELD


@pytest.mark.parametrize(
    ("wait", "how", "said"),
    [
        (WaitPolicy(deadline=SEVEN), {}, "still wait for all"),
        (
            WaitPolicy(deadline=SEVEN, max_lag=timedelta(1)),
            {"mapping": Latest()},
            "by `within`",
        ),
        (WaitPolicy(), {"any_of": "g", "required": False}, "one of a group is always required"),
    ],
)
def test_a_policy_that_could_mean_nothing_is_refused(
    wait: WaitPolicy, how: dict[str, object], said: str
) -> None:
    arguments: dict[str, object] = {"mapping": Identity(), **how}
    with pytest.raises(ValueError, match=said):
        Dependency(ref("a.x"), ref("a.y"), wait=wait, **arguments)  # type: ignore[arg-type]


def test_max_lag_without_a_deadline_is_refused() -> None:
    with pytest.raises(ValueError, match="say the deadline too"):
        WaitPolicy(max_lag=timedelta(days=1))


def test_a_waiver_opens_a_parked_partition_until_it_expires() -> None:
    world = restated(timedelta(0))
    world.land("a.landing.x", DAY, "bad")
    world.attempt("a.x", DAY, Verdict.FAIL, [failing_check("a.x", "c"), failing_check("a.x", "d")])
    only = [("a.x", world.slice("a.x", DAY))]
    window = Span.days(DAY, DAY, "America/New_York")
    late, early = NOW + timedelta(days=9), NOW + timedelta(days=2)
    one = Waiver(ref("a.x"), "c", window, late, "why", "governance")
    assert see(world, "a.x").state is State.FAILED
    world.waivers = (one,)
    assert see(world, "a.x").state is State.FAILED, "every check that failed must be waived"
    assert plan(world.mesh, world.facts, world.now, only=only).steps == ()
    world.waivers = (one, replace(one, check="d", expires=early))
    assert (see(world, "a.x").state, see(world, "a.x").next) == (State.WAITING, early)
    (step,) = plan(world.mesh, world.facts, world.now, only=only).steps
    assert step.because.startswith("repair: waived since its audit failed")
    world.now = early
    assert see(world, "a.x").state is State.FAILED, "it is parked again"
    assert plan(world.mesh, world.facts, world.now, only=only).steps == ()
    elsewhere = Span.days("2013-03-09", "2013-03-09", "America/New_York")
    world.now = NOW
    world.waivers = tuple(replace(w, window=elsewhere) for w in world.waivers)
    assert see(world, "a.x").state is State.FAILED


def test_a_deadline_follows_the_end_of_a_business_day() -> None:
    day = parse(Grain.DAY, "2013-03-09", "America/New_York@06:00")
    assert due(SEVEN, day) - end(day) == timedelta(hours=1)
    assert due(Deadline(at=time(6)), day) == end(day)
