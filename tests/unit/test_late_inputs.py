"""What a publication went without, and what happens when it comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.strategies import (
    World,
    edge,
    make_mesh,
    make_source,
    ref,
    single,
)

from levada.plan import plan
from levada.readiness import inherited
from levada.terms import (
    WHOLE,
    Deadline,
    Dependency,
    Grain,
    Identity,
    Latest,
    Publication,
    Readiness,
    Rollup,
    State,
    Step,
    Verdict,
    WaitPolicy,
)

DAY = "2013-03-10"
UP, OTHER = "a.landing.x", "a.landing.other"
OVER = datetime(2013, 3, 11, 6, tzinfo=UTC)
AT_ONCE = Deadline(after=timedelta(0))


def world(*edges: Dependency, grain: Grain = Grain.DAY) -> World:
    """`a.x` is made of a landed table, `a.y` of that and of another, `a.z` of `a.y`."""
    products = [
        single("a.x", grain, edge(UP, "a.x", Identity())),
        single("a.y", Grain.DAY, *edges, edge(OTHER, "a.y", Identity())),
        single("a.z", Grain.DAY, edge("a.y", "a.z", Identity())),
    ]
    found = World(
        make_mesh(products, [make_source(UP, grain), make_source(OTHER, Grain.DAY)]), OVER
    )
    found.land(OTHER, DAY)
    return found


def see(world: World, table: str = "a.y") -> Readiness:
    return world.judge().table(ref(table), world.slice(table, DAY))


def steps(world: World) -> tuple[Step, ...]:
    only = [("a.y", world.slice("a.y", DAY))]
    return plan(world.mesh, world.facts, world.now, only=only).steps


def taint(world: World) -> tuple[str, ...]:
    line = world.lines[ref("a.y"), world.slice("a.y", DAY)]
    assert isinstance(line, Publication)
    return line.taint


@pytest.mark.parametrize("grain", [Grain.DAY, Grain.WHOLE])
def test_a_latest_that_was_not_there_is_read_when_it_comes_and_never_again(grain: Grain) -> None:
    ignores = edge("a.x", "a.y", Latest(), required=False, action="ignore")
    there = world(ignores, grain=grain)
    there.publish("a.y", DAY)
    assert taint(there) == ("degraded: a.x@1 absent",)
    assert steps(there) == ()
    at = WHOLE if grain is Grain.WHOLE else "2013-03-09"
    there.land(UP, at)
    there.publish("a.x", at)
    assert see(there).state is State.STALE
    (step,) = steps(there)
    assert "arrived after it was read" in step.because
    there.publish("a.y", DAY)
    assert taint(there) == ()
    there.land(UP, at, "another")
    there.publish("a.x", at)
    assert see(there).state is State.READY, "as of then"
    assert not see(there).degraded
    assert steps(there) == ()


def test_a_latest_that_was_too_old_is_read_when_a_younger_one_comes() -> None:
    how = Latest(within=timedelta(hours=1))
    there = world(edge("a.x", "a.y", how, required=False, action="ignore"))
    there.land(UP, "2013-03-09")
    there.publish("a.x", "2013-03-09")
    there.now += timedelta(hours=2)
    there.publish("a.y", DAY)
    assert taint(there) == ("degraded: a.x@1 2013-03-09 absent",)
    assert see(there).state is State.READY, "it was that old when it was gone without"
    there.land(UP, DAY)
    there.publish("a.x", DAY)
    assert see(there).state is State.STALE


def test_who_ignores_changes_does_not_ignore_what_he_went_without() -> None:
    there = world(edge("a.x", "a.y", Identity(), required=False, action="ignore"))
    there.publish("a.y", DAY)
    there.land(UP, DAY)
    there.publish("a.x", DAY)
    assert see(there).state is State.STALE
    there.publish("a.y", DAY)
    there.land(UP, DAY, "another")
    there.publish("a.x", DAY)
    assert see(there).state is State.READY


def test_what_a_group_did_not_need_is_ignored_where_its_edge_says_so() -> None:
    there = world(
        edge("a.x", "a.y", Identity(), any_of="feed", action="ignore"),
        edge(OTHER, "a.y", Identity(), any_of="feed"),
    )
    there.publish("a.y", DAY)
    there.land(UP, DAY)
    there.publish("a.x", DAY)
    assert see(there).state is State.READY


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.UNKNOWN])
def test_an_older_publication_of_what_was_gone_without_holds_nobody_up(verdict: Verdict) -> None:
    there = world(edge("a.x", "a.y", Identity(), required=False))
    there.land(UP, DAY)
    there.publish("a.x", DAY)
    there.land(UP, DAY, "bad")
    there.attempt("a.x", DAY, verdict)
    there.publish("a.y", DAY)
    word = {Verdict.FAIL: "absent", Verdict.UNKNOWN: "unknown"}[verdict]
    assert taint(there) == (f"degraded: a.x@1 {DAY} {word}",)
    assert (see(there).state, see(there).degraded) == (State.READY, True)
    there.publish("a.z", DAY)
    there.land(UP, DAY, "mended")
    there.publish("a.x", DAY)
    assert see(there).state is State.STALE
    assert see(there, "a.z").state is State.READY, "one hop"


def lent(there: World, hours: tuple[str, ...] = ()) -> None:
    """`a.y` is made of last good publications of `a.x`."""
    for at in hours or (DAY,):
        there.land(UP, at)
        there.publish("a.x", at, "the same")
        there.land(UP, at, "bad")
        there.attempt("a.x", at, Verdict.FAIL)
    there.publish("a.y", DAY)


def test_the_mark_of_a_stand_in_goes_when_it_is_mended_with_the_same_content() -> None:
    policy = WaitPolicy(deadline=AT_ONCE, max_lag=timedelta(days=1))
    there = world(edge("a.x", "a.y", Identity(), wait=policy))
    lent(there)
    said = f"degraded: a.x@1 {DAY} as of its last good publication"
    assert taint(there) == (said,)
    assert said in see(there).because
    there.publish("a.z", DAY)
    below = (ref("a.z"), there.slice("a.z", DAY))
    assert [mark for _, mark in inherited(there.judge(), *below)] == [said]
    there.land(UP, DAY, "mended")
    there.publish("a.x", DAY, "the same")
    assert (see(there).state, see(there).degraded) == (State.READY, False)
    assert said not in see(there).because
    assert steps(there) == ()
    assert inherited(there.judge(), *below) == ()


def test_the_mark_of_many_stand_ins_goes_with_the_last_of_them() -> None:
    policy = WaitPolicy(deadline=AT_ONCE, max_lag=timedelta(0))
    there = world(edge("a.x", "a.y", Rollup(), wait=policy), grain=Grain.HOUR)
    hours = tuple(f"2013-03-{at}Z" for at in [*(f"10T{h:02}" for h in range(5, 24))])
    hours += tuple(f"2013-03-11T{h:02}Z" for h in range(4))
    good, lost = hours[4:], hours[:4]
    for at in good:
        there.land(UP, at)
        there.publish("a.x", at)
    lent(there, lost)
    (mark,) = taint(there)
    assert mark == f"degraded: a.x@1 4 as of their last good publication, the first {lost[0]}"
    for at in lost:
        assert see(there).degraded
        there.land(UP, at, "mended")
        there.publish("a.x", at, "the same")
    assert not see(there).degraded


def test_what_was_gone_without_is_no_change_before_it_can_be_read() -> None:
    there = world(edge("a.x", "a.y", Identity(), required=False))
    there.land(UP, DAY)
    there.publish("a.x", DAY)
    there.land(UP, DAY, "bad")
    there.attempt("a.x", DAY, Verdict.FAIL)
    there.publish("a.y", DAY)
    there.land(UP, DAY, "mended")
    there.publish("a.x", DAY)
    assert see(there).state is State.STALE, "it could be read now"
    there.land(UP, DAY, "bad again")
    assert see(there).state is State.READY, "it is stale itself"
    there.attempt("a.x", DAY, Verdict.UNKNOWN)
    assert (see(there).state, see(there).degraded) == (State.READY, True), "nobody can tell it"
    assert steps(there) == ()
    there.publish("a.z", DAY)
    there.publish("a.x", DAY)
    assert see(there).state is State.STALE
    assert see(there, "a.z").state is State.READY, "one hop"
    there.publish("a.y", DAY)
    assert not see(there).degraded


def test_what_is_ready_again_without_a_new_publication_is_read() -> None:
    there = world(edge("a.x", "a.y", Identity(), required=False))
    there.land(UP, DAY)
    there.publish("a.x", DAY)
    there.land(UP, DAY, "bad")
    there.attempt("a.x", DAY, Verdict.FAIL)
    there.publish("a.y", DAY)
    there.land(UP, DAY)
    assert see(there).state is State.STALE
    (step,) = steps(there)
    assert "a.x@1 2013-03-10 arrived after it was read" in step.because
    there.publish("a.y", DAY)
    assert (see(there).state, see(there).degraded) == (State.READY, False)


@pytest.mark.parametrize("again", ["as before", "mended"])
def test_an_ignoring_edge_of_a_group_is_not_read_again_however_it_is_mended(again: str) -> None:
    there = world(
        edge("a.x", "a.y", Identity(), any_of="feed", action="ignore"),
        edge(OTHER, "a.y", Identity(), any_of="feed"),
    )
    there.land(UP, DAY, "as before")
    there.publish("a.x", DAY)
    there.land(UP, DAY, "bad")
    there.attempt("a.x", DAY, Verdict.FAIL)
    there.publish("a.y", DAY)
    there.land(UP, DAY, again)
    if again == "mended":
        there.publish("a.x", DAY)
    assert see(there, "a.x").state is State.READY
    assert see(there).state is State.READY
    assert steps(there) == (), "the other one was enough, and it ignores what changes"


def test_the_mark_of_a_stand_in_goes_when_it_is_ready_again_as_it_was() -> None:
    policy = WaitPolicy(deadline=AT_ONCE, max_lag=timedelta(days=1))
    there = world(edge("a.x", "a.y", Identity(), wait=policy))
    there.land(UP, DAY)
    there.publish("a.x", DAY)
    there.land(UP, DAY, "moved")
    assert see(there, "a.x").state is State.STALE
    there.publish("a.y", DAY)
    assert taint(there) == (f"degraded: a.x@1 {DAY} as of its last good publication",)
    there.land(UP, DAY)
    assert see(there, "a.x").state is State.READY
    assert (see(there).state, see(there).degraded) == (State.READY, False)
    assert steps(there) == (), "what was read is what is there"


def test_one_that_is_too_old_again_is_no_change_any_more() -> None:
    there = world(edge("a.x", "a.y", Latest(within=timedelta(hours=2)), required=False))
    there.land(UP, DAY)
    there.publish("a.x", DAY)
    there.now += timedelta(hours=3)
    there.publish("a.y", DAY)
    there.land(UP, DAY, "younger")
    there.publish("a.x", DAY)
    found = see(there)
    assert (found.state, found.next) == (State.STALE, there.now + timedelta(hours=2))
    there.now += timedelta(hours=2)
    assert see(there).state is State.READY, "a build would go without it as before"
