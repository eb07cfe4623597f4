"""What a waiver lets through, and for whom: every combination, as data."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.strategies import NOW, World, make_mesh, make_source, ref, single

from levada.approve import Approver, Policy, Subject, objections
from levada.audit import waive
from levada.errors import NotPublishable
from levada.plan import Lookout, explain, plan
from levada.ports import Want
from levada.readiness import admission, judge_inputs, judge_table, trace
from levada.sense import want
from levada.simulate.ledger import MemoryLedger
from levada.terms import (
    Approval,
    AuditReport,
    Check,
    CheckResult,
    Dependency,
    Grain,
    Identity,
    Publication,
    Readiness,
    Span,
    State,
    Verdict,
    Waived,
    Waiver,
)

DAY = "2013-03-10"
NEW_YORK = "America/New_York"
HERE, ELSEWHERE = Span.days(DAY, DAY, NEW_YORK), Span.days("2013-03-11", "2013-03-11", NEW_YORK)
HOUR = timedelta(hours=1)
"""Of wall time: waivers end in an hour, or ended an hour ago."""


def chain() -> World:
    """a.x is read by b.y, which is read by c.z and by d.z."""

    def edge(upstream: str, downstream: str) -> Dependency:
        return Dependency(ref(upstream), ref(downstream), Identity())

    products = (
        single("a.x", Grain.DAY, edge("a.landing.x", "a.x")),
        single("b.y", Grain.DAY, edge("a.x", "b.y")),
        single("c.z", Grain.DAY, edge("b.y", "c.z")),
        single("d.z", Grain.DAY, edge("b.y", "d.z")),
    )
    return World(make_mesh(products, (make_source("a.landing.x", Grain.DAY),)))


def waiver(
    *,
    ends: timedelta = HOUR,
    window: Span = HERE,
    check: str = "c",
    table: str = "a.x",
    consumers: tuple[str, ...] = (),
    revoked: timedelta | None = None,
) -> Waiver:
    return Waiver(
        table=ref(table),
        check=check,
        window=window,
        expires=NOW + ends,
        reason="why",
        approved_by="ines",
        hash=f"{ends}{window}{check}{consumers}",
        consumers=consumers,
        revoked=NOW + revoked if revoked is not None else None,
    )


def let_through(world: World, *, product: str = "a.x") -> None:
    """Publish, with the mark that a waiver leaves on it; marks travel as the ledger lets them."""
    world.publish(product, DAY)
    key = (ref(product), world.slice(product, DAY))
    line = world.lines[key]
    assert isinstance(line, Publication)
    marks = {Waived(*key, "c")} if product == "a.x" else set()
    for read in line.inputs:
        above = world.lines.get((read.table, read.partition))
        marks |= set(above.waived) if isinstance(above, Publication) else set()
    world.lines[key] = replace(line, waived=tuple(sorted(marks)))


def started(world: World, product: str) -> Want | Readiness:
    made = world.mesh.product(product)
    return want(world.mesh, made, world.slice(product, DAY), world.facts, world.now)


ENDS = {"live": waiver(), "expired": waiver(ends=-HOUR), "revoked": waiver(revoked=-HOUR)}
WINDOWS = {"this window": HERE, "another window": ELSEWHERE}
CHECKS = {"this check": "c", "another check": "other"}
TABLES = {"this table": "a.x", "another table": "b.y"}
CONSUMERS: dict[str, tuple[str, ...]] = {
    "for all": (),
    "for it": ("b.y",),
    "for another": ("c.z",),
    "for both": ("b.y", "c.z"),
}
FIRED = {"not fired": False, "fired before": True}


APPROVERS = {
    "whom it asks": "ines",
    "another who may": "max",
    "one who may not": "eve",
    "its owner": "joe",
    "its author": "kim",
    "nobody": "",
}
HASHES = {"this text": True, "a former text": False}
POLICY = Policy(tuple(Approver(who, ("a",)) for who in ("ines", "max", "joe", "kim")))
SUBJECT = Subject("waiver", "a", "w.yaml", ("joe",), "ines")


def granted(asked: Waiver, approver: str, text: str) -> tuple[Waiver, ...]:
    """What the ledger keeps of a file: what its text said when somebody entitled approved it."""
    ledger = MemoryLedger(lambda: NOW)
    reviewer = APPROVERS[approver]
    if not objections(SUBJECT, reviewer, ("kim",), POLICY):
        said = asked if HASHES[text] else replace(asked, window=ELSEWHERE, hash="former")
        ledger.waive(said, Approval(reviewer, ("kim",)))
    return tuple(ledger.facts().waivers)


@pytest.mark.parametrize(
    ("end", "approver", "text"), list(itertools.product(ENDS, APPROVERS, HASHES))
)
def test_a_reader_starts_only_on_what_a_live_waiver_of_it_lets_him(
    end: str, approver: str, text: str
) -> None:
    """Every combination, with those of this table below."""
    started_on = 0
    for axes in itertools.product(WINDOWS, CHECKS, TABLES, CONSUMERS, FIRED):
        window, check, table, consumer, fired = axes
        world = chain()
        world.land("a.landing.x", DAY)
        let_through(world)
        if FIRED[fired]:  # while it was waived for everybody
            world.waivers = (waiver(),)
            let_through(world, product="b.y")
            world.redeclare("b.y", code="mended")  # so that there is something to repair
        asked = replace(
            ENDS[end],
            window=WINDOWS[window],
            check=CHECKS[check],
            table=ref(TABLES[table]),
            consumers=CONSUMERS[consumer],
        )
        # What let it through once is over; the ledger keeps its line.
        world.waivers = (waiver(ends=-2 * HOUR), *granted(asked, approver, text))
        counts = (approver, text) == ("whom it asks", "this text")
        said = (end, window, check, table)
        covers = counts and said == ("live", "this window", "this check", "this table")
        # A former text was of the other window: by its hash, what the file says now is not granted.
        admits = covers and consumer != "for another"

        found = started(world, "b.y")

        if admits or FIRED[fired]:
            assert isinstance(found, Want), axes
            assert found.inputs[0].content is not None
            started_on += not FIRED[fired]
        else:
            assert isinstance(found, Readiness), axes
            assert found.state is State.HELD, axes
        # Nobody in particular reads only what is waived for all.
        table_now = judge_table(world.mesh, ref("a.x"), world.slice("a.x", DAY), world.facts, NOW)
        assert (table_now.state is State.READY) == (covers and consumer == "for all"), axes
        assert isinstance(world.facts.line(ref("a.x"), world.slice("a.x", DAY)), Publication)
    right = (end, approver, text) == ("live", "whom it asks", "this text")
    assert started_on == (3 if right else 0)


def test_the_table_holds_every_combination_that_the_issue_names() -> None:
    told = itertools.product(ENDS, WINDOWS, CHECKS, TABLES, CONSUMERS, FIRED, APPROVERS, HASHES)
    assert len(list(told)) == 3 * 2 * 2 * 2 * 4 * 2 * 6 * 2


@pytest.mark.parametrize(
    ("end", "window", "check", "table", "consumer"),
    list(itertools.product(ENDS, WINDOWS, CHECKS, TABLES, CONSUMERS)),
)
def test_its_own_table_is_published_by_a_live_waiver_whoever_may_read_it(
    end: str, window: str, check: str, table: str, consumer: str
) -> None:
    at = chain().slice("a.x", DAY)
    bad = CheckResult(Check("c", "rowCount"), ref("a.x"), Verdict.FAIL)
    good = CheckResult(Check("d", "rowCount"), ref("a.x"), Verdict.PASS)
    given = replace(
        ENDS[end],
        window=WINDOWS[window],
        check=CHECKS[check],
        table=ref(TABLES[table]),
        consumers=CONSUMERS[consumer],
    )
    left, used = waive(AuditReport("a.x", at, (bad, good)), [given], NOW)
    covers = (end, window, check, table) == ("live", "this window", "this check", "this table")
    assert left.verdict is (Verdict.PASS if covers else Verdict.FAIL)
    assert used == ((given,) if covers else ())


def test_a_consumer_is_held_from_the_very_instant_and_told_when() -> None:
    world = chain()
    world.land("a.landing.x", DAY)
    let_through(world)
    world.waivers = (waiver(),)
    at, product = world.slice("b.y", DAY), world.mesh.product("b.y")
    before = judge_inputs(world.mesh, product, at, world.facts, NOW + HOUR - timedelta(seconds=1))
    assert (before.state, before.next, before.degraded) == (State.READY, NOW + HOUR, True)
    after = judge_inputs(world.mesh, product, at, world.facts, NOW + HOUR)
    assert (after.state, after.next) == (State.HELD, None)
    ended = f"{NOW + HOUR:%Y-%m-%d %H:%M}Z"
    assert after.because == f"held: a.x@1 {DAY}: waiver expired at {ended}: c of a.x@1 {DAY}"
    world.now = NOW + HOUR
    shown = judge_table(world.mesh, ref("b.y"), at, world.facts, world.now)
    assert (shown.state, shown.because) == (State.HELD, after.because)
    only = [("b.y", at)]
    assert plan(world.mesh, world.facts, world.now, only=only).steps == ()
    (rest,) = explain(world.mesh, world.facts, world.now, only=only)
    assert rest.readiness.state is State.HELD
    (hop,) = trace(world.mesh, ref("b.y"), at, world.facts, world.now)
    assert (hop.table, hop.readiness.state) == (ref("a.x"), State.HELD)


def test_taint_travels_to_all_that_is_made_of_it_and_holds_their_readers_too() -> None:
    world = chain()
    world.land("a.landing.x", DAY)
    let_through(world)
    world.waivers = (waiver(),)
    let_through(world, product="b.y")
    assert isinstance(started(world, "c.z"), Want)
    at = world.slice("b.y", DAY)
    live = judge_table(world.mesh, ref("b.y"), at, world.facts, NOW)
    assert (live.state, live.degraded, live.next) == (State.READY, True, NOW + HOUR)
    assert f"made from waived: c of a.x@1 {DAY}" in live.because

    world.now = NOW + HOUR
    found = started(world, "c.z")
    assert isinstance(found, Readiness)
    assert found.state is State.HELD
    shown = judge_table(world.mesh, ref("b.y"), at, world.facts, world.now)
    assert shown.state is State.HELD, "published, readable, and starts nobody"
    (rest,) = explain(world.mesh, world.facts, world.now, only=[("b.y", at)])
    assert rest.readiness.state is State.HELD
    (hop,) = trace(world.mesh, ref("c.z"), world.slice("c.z", DAY), world.facts, world.now)
    assert hop.table == ref("a.x")


def test_a_waiver_renewed_lets_readers_start_again() -> None:
    world = chain()
    world.land("a.landing.x", DAY)
    let_through(world)
    world.waivers = (waiver(ends=-HOUR),)
    assert isinstance(started(world, "b.y"), Readiness)
    world.waivers += (waiver(ends=2 * HOUR),)
    assert isinstance(started(world, "b.y"), Want)


def test_a_root_published_anew_without_a_waiver_taints_nobody_and_rebuilds_nobody() -> None:
    world = chain()
    world.land("a.landing.x", DAY)
    let_through(world)
    world.waivers = (waiver(),)
    let_through(world, product="b.y")
    world.now = NOW + HOUR
    assert isinstance(started(world, "c.z"), Readiness)
    key = (ref("a.x"), world.slice("a.x", DAY))
    line = world.lines[key]
    assert isinstance(line, Publication)
    world.lines[key] = replace(line, waived=(), generation=2, position=world.tick())
    assert isinstance(started(world, "c.z"), Want), "b.y is made of what is sound by now"
    y = judge_table(world.mesh, ref("b.y"), world.slice("b.y", DAY), world.facts, world.now)
    assert (y.state, y.degraded) == (State.READY, False)


def test_who_repairs_reads_the_generation_that_it_accepted_and_no_newer_one() -> None:
    world = chain()
    world.land("a.landing.x", DAY)
    let_through(world)
    world.waivers = (waiver(),)
    let_through(world, product="b.y")
    world.redeclare("b.y", code="mended")
    world.now = NOW + HOUR
    assert isinstance(started(world, "b.y"), Want)
    key = (ref("a.x"), world.slice("a.x", DAY))
    line = world.lines[key]
    assert isinstance(line, Publication)
    world.lines[key] = replace(line, generation=2, content="other", position=world.tick())
    found = started(world, "b.y")
    assert isinstance(found, Readiness)
    assert found.state is State.HELD


def test_of_several_marks_the_first_to_end_wakes_and_each_must_be_covered() -> None:
    mark = Waived(ref("a.x"), chain().slice("a.x", DAY), "c")
    longer = waiver(ends=2 * HOUR)
    assert admission([waiver(), longer], mark, "b.y", NOW).until == NOW + 2 * HOUR
    revoked = admission([waiver(revoked=-HOUR)], mark, "b.y", NOW)
    assert (revoked.until, "was revoked at" in revoked.because) == (None, True)
    assert "no waiver covers" in admission([], mark, "b.y", NOW).because
    other = admission([waiver(consumers=("c.z",))], mark, "b.y", NOW)
    assert other.because.startswith("waived for c.z only")


def test_the_ledger_of_a_simulation_keeps_the_same_rules() -> None:
    now = [NOW]
    ledger = MemoryLedger(lambda: now[0])
    approval = Approval("ines", ("joe",))
    at = chain().slice("a.x", DAY)
    one = waiver()
    assert ledger.waive(one, approval)
    assert not ledger.waive(one, approval)
    (granted,) = ledger.facts().waivers
    assert granted.approved_by == "ines"
    mark = Waived(ref("a.x"), at, "c")
    assert admission(ledger.facts().waivers, mark, "b.y", NOW).until == one.expires
    assert ledger.revoke_waiver(one, "mended")
    assert not ledger.revoke_waiver(one, "again")
    assert admission(ledger.facts().waivers, mark, "b.y", NOW).until is None
    with pytest.raises(NotPublishable, match="was revoked"):
        ledger.waive(one, approval)
    assert [w.table for w in ledger.waivers([ref("a.x")])] == [ref("a.x")]
    assert ledger.waivers([ref("b.y")]) == ()


def deep() -> World:
    """A chain of six tables, all of them made of what a waiver let through in the first."""
    names = ["a.x", *(f"b.t{n}" for n in range(5))]
    edges = [("a.landing.x", "a.x"), *itertools.pairwise(names)]
    products = [
        single(down, Grain.DAY, Dependency(ref(up), ref(down), Identity())) for up, down in edges
    ]
    world = World(make_mesh(products, (make_source("a.landing.x", Grain.DAY),)))
    world.land("a.landing.x", DAY)
    world.waivers = (waiver(),)
    for name in names[:-1]:
        let_through(world, product=name)
    return world


def dispatched(lookout: Lookout, world: World) -> list[str]:
    """Which products of this day a look would build now."""
    at = world.slice("b.t4", DAY)
    found = lookout.look(world.facts, world.now)
    return [s.step.product for s in found if s.step.partition == at and s.mark]


def test_a_look_sees_whom_a_renewed_waiver_or_a_clean_root_frees_however_far_below() -> None:
    world = deep()
    lookout = Lookout(world.mesh, timedelta(days=9999))
    assert dispatched(lookout, world) == ["b.t4"]
    world.now = NOW + HOUR
    assert dispatched(lookout, world) == [], "it has ended"
    world.waivers += (waiver(ends=2 * HOUR),)
    assert dispatched(lookout, world) == ["b.t4"]
    world.now = NOW + 2 * HOUR
    assert dispatched(lookout, world) == []
    key = (ref("a.x"), world.slice("a.x", DAY))
    line = world.lines[key]
    assert isinstance(line, Publication)
    world.lines[key] = replace(line, waived=(), generation=2, position=world.tick())
    assert dispatched(lookout, world) == ["b.t4"]
