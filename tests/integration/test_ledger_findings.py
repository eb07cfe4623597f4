"""Reports and breaks in the ledger: each once, each kept, each replayed from the log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from levada.errors import LawBroken
from levada.ledger.findings import Findings
from levada.ledger.roles import GOVERNANCE, PUBLISHER
from levada.terms import (
    BreakState,
    ConsistencyRule,
    Grain,
    Offence,
    Partition,
    Report,
    RuleKind,
    RuleResult,
    Severity,
    TableRef,
    Verdict,
)

pytestmark = pytest.mark.integration

DAY = Partition(Grain.DAY, datetime(2013, 3, 1, tzinfo=UTC), "UTC")
NEXT = Partition(Grain.DAY, datetime(2013, 3, 2, tzinfo=UTC), "UTC")
NOON = datetime(2013, 3, 2, 12, tzinfo=UTC)
RULE = ConsistencyRule(
    *("adds_up", "daily", RuleKind.TOTALS, (), Severity.ADVISORY, "ops", "it adds up", "p", 1, "h")
)


def result(*keys: str, rule: ConsistencyRule = RULE, figures: str = "1") -> RuleResult:
    offences = tuple(Offence(f'{{"k":"{key}"}}', f'{{"v":"{figures}"}}') for key in keys)
    verdict = Verdict.FAIL if keys else Verdict.PASS
    return RuleResult(rule, verdict, cases=len(keys), compared=9, offences=offences)


def report(*results: RuleResult, digest: str = "d", at: datetime = NOON, **more: Any) -> Report:
    inputs = ((TableRef("ops", "flights"), DAY, 1),)
    return replace(Report("daily", DAY, digest, results, inputs, 0.1, at), **more)


@pytest.fixture
def found(ledgers: Any) -> Iterator[Findings]:
    opened = Findings(ledgers.url(PUBLISHER))
    yield opened
    opened.close()


@pytest.fixture
def governance(ledgers: Any) -> Iterator[Findings]:
    opened = Findings(ledgers.url(GOVERNANCE))
    yield opened
    opened.close()


def states(found: Findings) -> dict[str, tuple[str, int]]:
    return {b.key[6:-2]: (b.state.value, b.times) for b in found.breaks()}


def test_the_same_inputs_are_reported_once_and_others_anew(found: Findings, ledgers: Any) -> None:
    assert found.report(report(result("a")), settled=True)
    assert not found.report(report(result("b")), settled=True)
    assert found.report(report(result("b"), digest="e"), settled=True)
    assert found.report(report(result("a"), partition=NEXT), settled=True)

    assert found.settled("daily") == {(DAY, "d"), (DAY, "e"), (NEXT, "d")}
    assert [r.digest for r in found.reports("daily")] == ["e", "d"]
    assert [r.digest for r in found.reports(until=NEXT.begin)] == ["e"]
    assert ledgers.owner.verify() == ()


def test_what_broke_a_tool_is_no_last_word(found: Findings) -> None:
    untold = RuleResult(RULE, Verdict.UNKNOWN, "timed out")

    assert found.report(report(untold), settled=False)
    assert found.settled("daily") == frozenset()
    assert found.report(report(result()), settled=True)
    (last,) = found.reports()
    assert (last.verdict, last.passed, last.settled) == (Verdict.PASS, 1, True)


def test_a_break_is_opened_kept_closed_and_opened_again(found: Findings, ledgers: Any) -> None:
    found.report(report(result("a", "b")), settled=True)
    found.report(report(result("a"), digest="e", at=NOON + timedelta(hours=1)), settled=True)
    assert states(found) == {"a": ("open", 2), "b": ("closed", 1)}
    (kept, closed) = sorted(found.breaks(), key=lambda b: b.key)
    assert kept.first_seen == NOON
    assert kept.age(NOON + timedelta(days=2)) == timedelta(days=2)
    assert closed.age(NOON + timedelta(days=2)) == timedelta(hours=1)
    assert closed.resolution == "no longer found"

    found.report(report(result("a", "b"), digest="f", at=NOON + timedelta(hours=2)), settled=True)

    assert states(found) == {"a": ("open", 3), "b": ("open", 2)}
    back = next(b for b in found.breaks() if '"b"' in b.key)
    assert back.first_seen == NOON + timedelta(hours=2)
    assert ledgers.owner.verify() == ()


def test_silence_closes_nothing_where_not_all_was_told(found: Findings) -> None:
    found.report(report(result("a", "b")), settled=True)

    found.report(report(RuleResult(RULE, Verdict.UNKNOWN, "late"), digest="e"), settled=True)
    cut = replace(result("c"), cases=2000)
    found.report(report(cut, digest="f"), settled=True)

    assert {key: state for key, (state, _) in states(found).items()} == dict.fromkeys("abc", "open")


def test_the_breaks_of_a_rule_that_is_gone_are_closed(found: Findings) -> None:
    found.report(report(result("a")), settled=True)

    found.report(report(result(rule=replace(RULE, id="other")), digest="e"), settled=True)

    (closed,) = found.breaks()
    assert (closed.state, closed.resolution) == (BreakState.CLOSED, "its rule is gone")


def test_what_somebody_explained_stays_so_until_its_figures_change(
    found: Findings, governance: Findings, ledgers: Any
) -> None:
    found.report(report(result("a")), settled=True)
    (one,) = found.breaks()
    assert governance.assign(one.id, "ines")
    assert not governance.assign(one.id, "ines")
    assert governance.resolve(one.id, "a storm", "ines")
    assert not governance.resolve(one.id, "again", "ines")

    found.report(report(result("a"), digest="e"), settled=True)
    (same,) = found.breaks()
    assert (same.state, same.owner, same.resolution) == (BreakState.RESOLVED, "ines", "a storm")

    found.report(report(result("a", figures="2"), digest="f"), settled=True)
    (moved,) = found.breaks()
    assert (moved.state, moved.owner, moved.resolution) == (BreakState.OPEN, "ines", "")
    assert ledgers.owner.verify() == ()
    ledgers.owner.rebuild()
    assert found.breaks() == (moved,)


def test_a_break_is_not_resolved_by_silence(found: Findings, governance: Findings) -> None:
    found.report(report(result("a")), settled=True)
    (one,) = found.breaks()

    with pytest.raises(LawBroken, match="by saying what it was"):
        governance.resolve(one.id, " ", "ines")
    assert not governance.resolve("nobody", "x", "ines")


def test_a_report_counts_its_rules_and_says_the_gravest(found: Findings) -> None:
    blocking = replace(RULE, id="gate", severity=Severity.BLOCKING)
    unknown = RuleResult(replace(RULE, id="late"), Verdict.UNKNOWN, "not there")

    found.report(report(result("a"), result("b", rule=blocking), unknown), settled=True)

    (kept,) = found.reports()
    assert (kept.verdict, kept.severity) == (Verdict.FAIL, "blocking")
    assert (kept.passed, kept.failed, kept.unknown, kept.cases) == (0, 2, 1, 2)
    assert kept.summary == "0 of 3 rules passed; failed: adds_up (1), gate (1); not told: late"
    assert [r["rule"] for r in kept.results] == ["adds_up", "gate", "late"]
