"""An optional input of which nobody can tell: its UNKNOWN stops there, and the line says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta

import pytest
from tests.unit.strategies import (
    World,
    edge,
    make_mesh,
    make_source,
    ref,
    single,
)

from levada.readiness import inherited
from levada.terms import (
    WHOLE,
    Deadline,
    Dependency,
    FanOut,
    Grain,
    Identity,
    Lag,
    Latest,
    PartitionMapping,
    Publication,
    Rollup,
    State,
    Trailing,
    Verdict,
    WaitPolicy,
)

DAY = "2013-03-10"
UP = "a.landing.x"
OVER = datetime(2013, 3, 11, 6, tzinfo=UTC)
"""The day is over, and its deadline is to come."""


def line(world: World, table: str = "a.y") -> Publication:
    found = world.lines[ref(table), world.slice(table, DAY)]
    assert isinstance(found, Publication)
    return found


def silent(grain: Grain, mapping: PartitionMapping, wait: WaitPolicy | None = None) -> World:
    """A reader of a source that does not answer."""
    how = edge(UP, "a.y", mapping, wait=wait or WaitPolicy(), required=False)
    world = World(make_mesh([single("a.y", Grain.DAY, how)], [make_source(UP, grain)]))
    world.silence(UP)
    return world


def untold(grain: Grain, mapping: PartitionMapping, wait: WaitPolicy | None = None) -> World:
    """A reader of a table, some of whose audits gave no answer."""
    products = [
        single("a.x", grain, edge(UP, "a.x", Identity())),
        single(
            "a.y",
            Grain.DAY,
            edge("a.x", "a.y", mapping, wait=wait or WaitPolicy(), required=False),
        ),
    ]
    world = World(make_mesh(products, [make_source(UP, grain)]), OVER)
    days = ["2013-03-08", "2013-03-09", DAY]
    hours = [f"{DAY}T{hour:02}Z" for hour in range(5, 24)]
    keys = {Grain.DAY: days, Grain.HOUR: hours, Grain.WHOLE: ["whole"]}[grain]
    for at in keys:
        world.land(UP, WHOLE if at == "whole" else at)
        world.attempt("a.x", WHOLE if at == "whole" else at, Verdict.UNKNOWN)
    return world


@pytest.mark.parametrize(
    ("mapping", "grain", "said"),
    [
        (Identity(), Grain.DAY, ["{t} 2013-03-10 unknown"]),
        (Lag(1), Grain.DAY, ["{t} 2013-03-09 unknown"]),
        (
            Trailing(3),
            Grain.DAY,
            [f"{{t}} 2013-03-{day} unknown" for day in ("08", "09", "10")],
        ),
        (Rollup(), Grain.HOUR, ["{t} 23 of 23 absent ({n} unknown), the first 2013-03-10T05Z"]),
        (Latest(), Grain.DAY, ["{t} unknown"]),
        (Latest(), Grain.WHOLE, ["{t} unknown"]),
        (FanOut(), Grain.WHOLE, ["{t} unknown"]),
    ],
)
@pytest.mark.parametrize("made", [silent, untold])
def test_what_nobody_could_tell_is_recorded_as_unknown_by_every_mapping(
    made: Callable[..., World], mapping: PartitionMapping, grain: Grain, said: list[str]
) -> None:
    world = made(grain, mapping)
    world.publish("a.y", DAY)
    named, told = (UP, 23) if made is silent else ("a.x@1", 19)
    assert line(world).taint == tuple(f"degraded: {s.format(t=named, n=told)}" for s in said)


def test_a_stand_in_for_what_nobody_could_tell_says_so() -> None:
    policy = WaitPolicy(deadline=Deadline(at=time(7)), max_lag=timedelta(days=2))
    world = silent(Grain.DAY, Identity(), policy)
    world.land(UP, "2013-03-09")
    world.now = datetime.fromisoformat("2013-03-11T11:00Z")
    world.publish("a.y", DAY)
    assert line(world).taint == (f"degraded: {UP} {DAY} unknown, replaced by 2013-03-09",)


def test_an_older_line_whose_newest_audit_gave_no_answer_is_unknown() -> None:
    policy = WaitPolicy(deadline=Deadline(at=time(7)), max_lag=timedelta(days=0))
    world = untold(Grain.DAY, Identity(), policy)
    world.publish("a.x", DAY)
    world.land(UP, DAY, "restated")
    world.attempt("a.x", DAY, Verdict.UNKNOWN)
    world.now = datetime.fromisoformat("2013-03-11T11:00Z")
    world.publish("a.y", DAY)
    said = f"degraded: a.x@1 {DAY} unknown, as of its last good publication"
    assert line(world).taint == (said,)


def test_a_latest_that_is_too_old_is_unknown_while_its_source_does_not_answer() -> None:
    world = silent(Grain.DAY, Latest(within=timedelta(hours=1)))
    world.land(UP, "2013-03-09")
    world.now += timedelta(hours=2)
    world.publish("a.y", DAY)
    assert line(world).taint == (f"degraded: {UP} 2013-03-09 unknown",)
    found = world.judge().inputs(world.mesh.product("a.y"), world.slice("a.y", DAY))
    assert found.state is State.READY
    world.probes.clear()
    world.publish("a.y", "2013-03-09")
    later = world.lines[ref("a.y"), world.slice("a.y", "2013-03-09")]
    assert isinstance(later, Publication)
    assert later.taint == (f"degraded: {UP} 2013-03-09 absent",)


def test_the_mark_stays_where_the_unknown_stopped() -> None:
    products = [
        single("a.x", Grain.DAY, edge(UP, "a.x", Identity())),
        single("a.y", Grain.DAY, edge("a.x", "a.y", Identity(), required=False)),
        single("a.z", Grain.DAY, edge("a.y", "a.z", Identity())),
    ]
    world = World(make_mesh(products, [make_source(UP, Grain.DAY)]))
    world.land(UP, DAY)
    world.attempt("a.x", DAY, Verdict.UNKNOWN)
    world.publish("a.y", DAY)
    assert line(world).taint == ("degraded: a.x@1 2013-03-10 unknown",)
    world.publish("a.z", DAY)
    assert line(world, "a.z").taint == (), "its consumers do not copy the mark"
    found = inherited(world.judge(), ref("a.z"), world.slice("a.z", DAY))
    assert [(str(table), mark) for (table, _), mark in found] == [
        ("a.y@1", "degraded: a.x@1 2013-03-10 unknown")
    ]


# From further up: what waits for nothing but what nobody can tell

ANSWERS = "a.landing.answers"


def below(
    edges: list[Dependency], *between: Dependency, answered: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """The marks of `a.y`, which reads `a.x` (of these edges) if it is there."""
    products = [single("a.x", Grain.DAY, *edges)]
    if between:
        products.insert(0, single("a.w", Grain.DAY, *between))
    products.append(single("a.y", Grain.DAY, edge("a.x", "a.y", Identity(), required=False)))
    sources = [make_source(UP, Grain.DAY), make_source(ANSWERS, Grain.DAY)]
    world = World(make_mesh(products, sources), OVER)
    world.silence(UP)
    for key in answered:
        world.land(ANSWERS, key)
    world.publish("a.y", DAY)
    return line(world).taint


UNKNOWN, ABSENT = (f"degraded: a.x@1 {DAY} unknown",), (f"degraded: a.x@1 {DAY} absent",)
DAYS = ("2013-03-08", "2013-03-09", DAY)


def test_an_unknown_from_further_up_is_recorded_where_it_stops() -> None:
    assert below([edge(UP, "a.x", Identity())]) == UNKNOWN
    assert below([edge("a.w", "a.x", Identity())], edge(UP, "a.w", Identity())) == UNKNOWN
    assert below([edge(ANSWERS, "a.x", Identity())]) == ABSENT, "its source says that it is not"


def test_all_that_is_required_is_one_conjunction() -> None:
    both = [edge(UP, "a.x", Identity()), edge(ANSWERS, "a.x", Identity())]
    assert below(both) == ABSENT, "it would not be there whatever the silent one said"
    assert below(both, answered=(DAY,)) == UNKNOWN
    optional = [edge(UP, "a.x", Identity()), edge(ANSWERS, "a.x", Identity(), required=False)]
    assert below(optional) == UNKNOWN


def test_a_group_is_one_disjunction() -> None:
    feed = [
        edge(UP, "a.x", Identity(), any_of="feed"),
        edge(ANSWERS, "a.x", Identity(), any_of="feed"),
    ]
    assert below(feed) == UNKNOWN
    assert below(feed, answered=(DAY,)) == ABSENT, "it is not built yet, and could be"


@pytest.mark.parametrize(
    ("policy", "answered", "said"),
    [
        (WaitPolicy(at_least=2), (DAY,), UNKNOWN),
        (WaitPolicy(at_least=2), (), UNKNOWN),
        (WaitPolicy(at_least=2), DAYS[:2], ABSENT),
        (WaitPolicy(at_most_missing=1), (DAY,), UNKNOWN),
    ],
)
def test_so_many_of_what_nobody_can_tell_may_be_there(
    policy: WaitPolicy, answered: tuple[str, ...], said: tuple[str, ...]
) -> None:
    world = World(
        make_mesh(
            [
                single("a.w", Grain.DAY, edge(UP, "a.w", Identity())),
                single("a.x", Grain.DAY, edge("a.w", "a.x", Trailing(3), wait=policy)),
                single("a.y", Grain.DAY, edge("a.x", "a.y", Identity(), required=False)),
            ],
            [make_source(UP, Grain.DAY)],
        ),
        OVER,
    )
    for key in answered:
        world.land(UP, key)
        world.publish("a.w", key)
    world.silence(UP)
    world.publish("a.y", DAY)
    assert line(world).taint == said


def test_a_stale_one_that_cannot_be_made_again_since_nobody_can_tell_is_unknown() -> None:
    products = [
        single("a.w", Grain.DAY, edge(UP, "a.w", Identity())),
        single("a.x", Grain.DAY, edge("a.w", "a.x", Identity()), edge(ANSWERS, "a.x", Identity())),
        single("a.y", Grain.DAY, edge("a.x", "a.y", Identity(), required=False)),
    ]
    world = World(
        make_mesh(products, [make_source(UP, Grain.DAY), make_source(ANSWERS, Grain.DAY)]), OVER
    )
    world.land(UP, DAY)
    world.land(ANSWERS, DAY)
    world.publish("a.w", DAY)
    world.publish("a.x", DAY)
    world.land(ANSWERS, DAY, "moved")
    world.land(UP, DAY, "moved")
    world.attempt("a.w", DAY, Verdict.UNKNOWN)
    world.publish("a.y", DAY)
    assert line(world).taint == UNKNOWN
