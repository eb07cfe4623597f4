"""Since when a root cause stands: a table of everything that keeps a partition from being ready."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

import pytest
from tests.unit.strategies import (
    NEW_YORK,
    NOW,
    World,
    edge,
    failing_check,
    make_mesh,
    make_source,
    ref,
    single,
)

from levada.readiness import trace
from levada.terms import (
    WHOLE,
    Attempt,
    Claim,
    Deadline,
    Grain,
    Identity,
    Latest,
    ProbeFailure,
    Publication,
    Span,
    State,
    Tampering,
    Verdict,
    WaitPolicy,
    Waived,
    Waiver,
)

DAY = "2013-03-10"
OVER = datetime(2013, 3, 11, 4, tzinfo=UTC)
"""When that day of 23 hours ended in New York."""
FILES, X, Y, Z = "a.landing.x", "a.x", "b.y", "c.z"


def hour(number: int) -> datetime:
    """The hours of the day on which everything happens: each thing has one of its own."""
    return NOW + timedelta(hours=number)


def chain(action: str = "", *, optional: WaitPolicy | None = None) -> World:
    """c.z reads b.y, which reads a.x, or waits for it a while; a.x reads files."""
    products = (
        single(X, Grain.DAY, edge(FILES, X, Identity(), action=action)),
        single(Y, Grain.DAY, edge(X, Y, Identity(), wait=optional, required=not optional)),
        single(Z, Grain.DAY, edge(Y, Z, Identity())),
    )
    return World(make_mesh(products, [make_source(FILES, Grain.DAY)], DAY, DAY), hour(0))


def landed(action: str = "") -> World:
    world = chain(action)
    world.now = hour(1)
    world.land(FILES, DAY)
    return world


def published(action: str = "") -> World:
    world = landed(action)
    world.now = hour(2)
    world.publish(X, DAY)
    return world


def rewrite(world: World, **change: object) -> None:
    """Change the line of a.x."""
    key = (ref(X), world.slice(X, DAY))
    line = world.lines[key]
    assert isinstance(line, Publication)
    world.lines[key] = replace(line, **change)  # type: ignore[arg-type]


# What keeps it waiting; each returns its world, the cause's table and since when


def not_landed() -> tuple[World, datetime | None]:
    return chain(), OVER


def not_landed_and_not_over() -> tuple[World, datetime | None]:
    world = chain()
    world.now = OVER - timedelta(seconds=1)
    return world, None


def no_answer() -> tuple[World, datetime | None]:
    world = chain()
    world.probes[ref(FILES)] = ProbeFailure(ref(FILES), "connection refused", hour(-3))
    return world, hour(-3)


def not_built() -> tuple[World, datetime | None]:
    return landed(), hour(1)


def not_built_before_it_was_over() -> tuple[World, datetime | None]:
    world = chain()
    world.now = OVER - timedelta(hours=5)
    world.land(FILES, DAY)
    world.now = hour(3)
    return world, OVER


def not_built_after_a_deadline() -> tuple[World, datetime | None]:
    """It goes without what did not come until then."""
    world = chain(optional=WaitPolicy(deadline=Deadline(at=time(7))))
    return world, datetime(2013, 3, 11, 11, tzinfo=UTC)


def being_built() -> tuple[World, datetime | None]:
    world = landed()
    world.now = hour(2)
    world.claim(X, DAY)
    key = (X, world.slice(X, DAY))
    world.claims[key] = replace(world.claims[key], since=hour(2), until=hour(30))
    return world, hour(2)


def being_built_again() -> tuple[World, datetime | None]:
    """After it could not be judged."""
    world, _ = not_judged()
    key = (X, world.slice(X, DAY))
    world.claims[key] = Claim(*key, "run-2", 2, "f", (), hour(30), since=hour(8))
    return world, hour(8)


def being_built_by_a_run_of_unknown_begin() -> tuple[World, datetime | None]:
    world = landed()
    world.now = hour(2)
    world.claim(X, DAY)
    return world, None


def not_judged() -> tuple[World, datetime | None]:
    world = landed()
    world.now = hour(3)
    world.attempt(X, DAY, Verdict.UNKNOWN)
    return world, hour(3)


def tried(verdict: Verdict, since: datetime | None) -> World:
    """The third attempt in a row, of which the first was at 3."""
    world = landed()
    world.now = hour(5)
    found = world.attempt(X, DAY, verdict, [failing_check(X)] if verdict is Verdict.FAIL else ())
    again: Attempt = replace(found, tries=3, since=since)
    world.attempts[X, found.partition] = again
    return world


def not_judged_again_and_again() -> tuple[World, datetime | None]:
    return tried(Verdict.UNKNOWN, hour(3)), hour(3)


def not_judged_since_nobody_knows_when() -> tuple[World, datetime | None]:
    return tried(Verdict.UNKNOWN, None), None


def failed() -> tuple[World, datetime | None]:
    world = landed()
    world.now = hour(3)
    world.attempt(X, DAY, Verdict.FAIL, [failing_check(X)])
    return world, hour(3)


def failed_again() -> tuple[World, datetime | None]:
    return tried(Verdict.FAIL, hour(3)), hour(3)


def failed_over_what_was_published() -> tuple[World, datetime | None]:
    world = published()
    world.now = hour(4)
    world.land(FILES, DAY, "broken")
    world.now = hour(5)
    world.attempt(X, DAY, Verdict.FAIL, [failing_check(X)])
    return world, hour(5)


def failed_and_waived_since() -> tuple[World, datetime | None]:
    world, _ = failed()
    world.waivers = (waiver(hour(40), check="distance.positive"),)
    return world, hour(3)


def stale() -> tuple[World, datetime | None]:
    world = published()
    world.now = hour(4)
    world.land(FILES, DAY, "mended")
    return world, hour(4)


def stale_and_not_judged() -> tuple[World, datetime | None]:
    world, _ = stale()
    world.now = hour(6)
    world.attempt(X, DAY, Verdict.UNKNOWN)
    return world, hour(4)


def stale_and_being_built() -> tuple[World, datetime | None]:
    world, _ = stale()
    world.now = hour(6)
    world.claim(X, DAY)
    return world, hour(4)


def of_another_contract() -> tuple[World, datetime | None]:
    """The contract of today has no date."""
    world = published()
    rewrite(world, contract="another 1.0.0 hash")
    return world, None


def held_by_an_edge() -> tuple[World, datetime | None]:
    world = published("hold")
    world.now = hour(4)
    world.land(FILES, DAY, "mended")
    return world, hour(4)


def changed_by_hand() -> tuple[World, datetime | None]:
    world = published()
    world.tampered[ref(X)] = Tampering(ref(X), "9", "update", hour(5))
    return world, hour(5)


def changed_by_hand_and_not_built() -> tuple[World, datetime | None]:
    world = landed()
    world.tampered[ref(X)] = Tampering(ref(X), "9", "update", hour(5))
    return world, hour(5)


def past_its_sunset() -> tuple[World, datetime | None]:
    world = published()
    contract = world.mesh.mart(ref(X)).contract
    world.redeclare(X, contract=replace(contract, sunset=date(2013, 6, 1)))
    return world, datetime(2013, 6, 1, 4, tzinfo=UTC)


def waiver(
    ends: datetime,
    *consumers: str,
    revoked: datetime | None = None,
    check: str = "c",
) -> Waiver:
    window = Span.days(DAY, DAY, NEW_YORK)
    said = (ref(X), check, window, ends, "why", "ines", f"{ends}{consumers}", consumers)
    return Waiver(*said, revoked=revoked)


def waived(*waivers: Waiver) -> World:
    world = published()
    rewrite(world, waived=(Waived(ref(X), world.slice(X, DAY), "c"),))
    world.waivers = waivers
    return world


def waiver_expired() -> tuple[World, datetime | None]:
    return waived(waiver(hour(4)), waiver(hour(6))), hour(6)


def waiver_revoked() -> tuple[World, datetime | None]:
    return waived(waiver(hour(40), revoked=hour(5))), hour(5)


def waiver_ended_for_its_reader() -> tuple[World, datetime | None]:
    return waived(waiver(hour(4), Y), waiver(hour(40), "d.other")), hour(4)


def never_waived_for_its_reader() -> tuple[World, datetime | None]:
    return waived(waiver(hour(40), "d.other")), hour(2)


def too_old() -> tuple[World, datetime | None]:
    """b.y reads the newest planes, no older than three hours."""
    edges = (edge("f.planes", Y, Latest(timedelta(hours=3))),)
    products = (
        single("f.planes", Grain.WHOLE, edge("f.landing.p", "f.planes", Latest())),
        single(Y, Grain.DAY, *edges),
        single(Z, Grain.DAY, edge(Y, Z, Identity())),
    )
    world = World(make_mesh(products, [make_source("f.landing.p", Grain.WHOLE)], DAY, DAY), hour(1))
    world.land("f.landing.p", WHOLE)
    world.now = hour(2)
    world.publish("f.planes", WHOLE)
    return world, hour(5)


def a_file_too_old() -> tuple[World, datetime | None]:
    products = (
        single(Y, Grain.DAY, edge("f.landing.p", Y, Latest(timedelta(hours=3)))),
        single(Z, Grain.DAY, edge(Y, Z, Identity())),
    )
    world = World(make_mesh(products, [make_source("f.landing.p", Grain.WHOLE)], DAY, DAY), hour(1))
    world.land("f.landing.p", WHOLE)
    return world, hour(4)


def declared_no_more() -> tuple[World, datetime | None]:
    world = published()
    world.mesh = replace(world.mesh, lost={X: "nothing declares it any more"})
    return world, None


@dataclass(frozen=True)
class Case:
    make: Callable[[], tuple[World, datetime | None]]
    cause: str
    state: State
    because: str


CASES = (
    Case(not_landed, FILES, State.WAITING, "nothing landed"),
    Case(not_landed_and_not_over, FILES, State.WAITING, "nothing landed"),
    Case(no_answer, FILES, State.WAITING, "could not be asked"),
    Case(not_built, X, State.WAITING, "not built yet, though its inputs are ready"),
    Case(not_built_before_it_was_over, X, State.WAITING, "not built yet, though"),
    Case(not_built_after_a_deadline, Y, State.WAITING, "not built yet, though"),
    Case(being_built, X, State.WAITING, "being built"),
    Case(being_built_again, X, State.WAITING, "being built by run run-2"),
    Case(being_built_by_a_run_of_unknown_begin, X, State.WAITING, "being built"),
    Case(not_judged, X, State.WAITING, "could not be judged"),
    Case(not_judged_again_and_again, X, State.WAITING, "could not be judged"),
    Case(not_judged_since_nobody_knows_when, X, State.WAITING, "could not be judged"),
    Case(failed, X, State.FAILED, "audit failed"),
    Case(failed_again, X, State.FAILED, "audit failed"),
    Case(failed_over_what_was_published, X, State.FAILED, "audit failed"),
    Case(failed_and_waived_since, X, State.WAITING, "to be built again"),
    Case(stale, X, State.STALE, "changed since it was read"),
    Case(stale_and_not_judged, X, State.STALE, "changed since it was read"),
    Case(stale_and_being_built, X, State.STALE, "changed since it was read"),
    Case(of_another_contract, X, State.STALE, "published under the contract"),
    Case(held_by_an_edge, X, State.HELD, "changed since it was read"),
    Case(changed_by_hand, X, State.HELD, "changed by hand"),
    Case(changed_by_hand_and_not_built, X, State.HELD, "changed by hand"),
    Case(past_its_sunset, X, State.HELD, "its sunset was on"),
    Case(waiver_expired, X, State.HELD, "waiver expired"),
    Case(waiver_revoked, X, State.HELD, "waiver was revoked"),
    Case(waiver_ended_for_its_reader, X, State.HELD, "waived for d.other only"),
    Case(never_waived_for_its_reader, X, State.HELD, "waived for d.other only"),
    Case(too_old, "f.planes", State.WAITING, "not within"),
    Case(a_file_too_old, "f.landing.p", State.WAITING, "not within"),
    Case(declared_no_more, X, State.IMPOSSIBLE, "nothing declares it any more"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.make.__name__)
def test_a_cause_says_since_when_it_stands(case: Case) -> None:
    world, expected = case.make()
    now = world.now if world.now < OVER else hour(20)
    (hop,) = trace(world.mesh, ref(Z), world.slice(Z, DAY), world.facts, now)
    assert (hop.table, hop.readiness.state) == (ref(case.cause), case.state)
    assert case.because in hop.readiness.because
    assert hop.since == expected


def test_every_state_that_is_not_ready_is_in_the_table() -> None:
    assert {case.state for case in CASES} == set(State) - {State.READY}


def test_what_lies_outside_the_span_has_no_date() -> None:
    world = published()
    outside = world.slice(Z, "2013-03-12")
    (hop,) = trace(world.mesh, ref(Z), outside, world.facts, hour(20))
    assert (hop.readiness.state, hop.since) == (State.IMPOSSIBLE, None)


def test_what_waits_for_a_backfill_says_so_and_not_that_its_inputs_are_ready() -> None:
    world = published()
    at = world.slice(X, DAY)
    facts = replace(world.facts, restating={(X, at): "march"})
    (hop,) = trace(world.mesh, ref(Y), at, facts, hour(20))
    said = f"not built yet: waits for {ref(X)} {DAY}: it is made again by backfill march"
    assert (hop.readiness.because, hop.since) == (said, None)
