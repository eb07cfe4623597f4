"""Canaries in the ledger: what counts, who may promote, and what is replayed from the log."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from levada.errors import LawBroken, NotPublishable, TerminalError
from levada.terms import (
    Approval,
    Canary,
    CanaryState,
    CanaryTerms,
    Grain,
    Partition,
    TableRef,
    Tolerance,
    Trial,
)

pytestmark = pytest.mark.integration

PRODUCT, TABLE = "operations.flights", TableRef("operations", "flights")
FIRST = datetime(2013, 3, 1, tzinfo=UTC)
DAYS = [Partition(Grain.DAY, FIRST + timedelta(days=n), "UTC") for n in range(5)]
CANARY = Canary(
    *("c-1", PRODUCT, CanaryState.RUNNING, "old", "new", 2, False),
    *({"fare": Tolerance(Decimal("0.01"))}, "round otherwise", FIRST),
)
BY_POLICY = CanaryTerms(by_policy=True, intervals=1)
INES = Approval("ines", ("joe",), "abc", "pipeline")


def told(ledgers: Any, day: Partition, *, equal: bool, run: str, publishes: bool = True) -> None:
    """What an interval told, and its publication by the same run."""
    trial = Trial(day, equal, "" if equal else "2 changed", {"t": {"changed": 2}}, run)
    ledgers.publisher.tell_canary("c-1", [trial])
    if publishes:
        line = ledgers.line(TABLE, day, made_by=f"f of {run}")
        ledgers.publish(PRODUCT, [line], run=run)


def needs(ledgers: Any) -> tuple[int, bool, bool]:
    """What the canary needs by now, and whether it has it."""
    found = ledgers.runner.canary(PRODUCT)
    return found.wanted, found.by_policy, found.ripe


def in_a_row(ledgers: Any) -> int:
    return int(ledgers.runner.canary(PRODUCT).in_a_row)


def test_equal_intervals_in_a_row_count_once_and_by_what_is_published(ledgers: Any) -> None:
    ledgers.runner.start_canary(CANARY)
    assert replace(ledgers.runner.canary(PRODUCT), since=FIRST) == CANARY
    told(ledgers, DAYS[0], equal=True, run="r1")
    told(ledgers, DAYS[1], equal=True, run="r2", publishes=False)
    assert in_a_row(ledgers) == 1, "killed before it published, it told nothing"
    told(ledgers, DAYS[0], equal=True, run="r3")
    assert in_a_row(ledgers) == 1, "a restated interval is one interval"
    told(ledgers, DAYS[1], equal=False, run="r4.old")
    assert in_a_row(ledgers) == 0
    told(ledgers, DAYS[1], equal=True, run="r5")
    assert in_a_row(ledgers) == 2, "its newest generation is equal"
    told(ledgers, DAYS[2], equal=False, run="r6.old")
    told(ledgers, DAYS[3], equal=True, run="r7")
    assert in_a_row(ledgers) == 1
    assert [t.counts for t in ledgers.runner.trials("c-1")] == [True] * 4
    told(ledgers, DAYS[2], equal=True, run="r8", publishes=False)
    assert in_a_row(ledgers) == 1, "what was never published takes nothing away that counts"
    assert ledgers.owner.verify() == ()


def test_a_canary_that_wants_nothing_or_is_unknown_is_refused(ledgers: Any) -> None:
    with pytest.raises(TerminalError, match="at least 1 equal interval"):
        ledgers.runner.start_canary(replace(CANARY, wanted=0))
    with pytest.raises(TerminalError, match="no canary is called c-0"):
        ledgers.publisher.tell_canary("c-0", [])


def test_it_is_promoted_by_governance_after_so_many_and_by_nobody_else(ledgers: Any) -> None:
    ledgers.runner.start_canary(CANARY)
    told(ledgers, DAYS[0], equal=True, run="r1")
    with pytest.raises(TerminalError, match="has 1 equal intervals in a row, and needs 2"):
        ledgers.governance.promote_canary("c-1", "ann", "so", INES)
    told(ledgers, DAYS[1], equal=True, run="r2")
    with pytest.raises(TerminalError, match="promoted by approval"):
        ledgers.runner.settle_canary("c-1")
    with pytest.raises(LawBroken):
        ledgers.publisher.promote_canary("c-1", "ann", "so", INES)
    for owner, approval in (("ines", INES), ("ann", replace(INES, authors=("ines",)))):
        with pytest.raises(NotPublishable, match="does not approve it"):
            ledgers.governance.promote_canary("c-1", owner, "so", approval)
    ledgers.runner.begin_backfill("bf-1", {}, {PRODUCT: DAYS[:1]})
    with pytest.raises(TerminalError, match="backfill bf-1 has open steps"):
        ledgers.governance.promote_canary("c-1", "ann", "so", INES)
    ledgers.runner.turn_backfill("bf-1", "cancelled", "enough")

    ledgers.governance.promote_canary("c-1", "ann", "two days alike", INES)

    found = ledgers.runner.canary(PRODUCT)
    assert (found.state, found.reviewer) == (CanaryState.PROMOTED, "ines")
    with pytest.raises(TerminalError, match="is promoted: only a running one"):
        ledgers.governance.promote_canary("c-1", "ann", "again", INES)
    assert ledgers.runner.abort_canary("c-1", "it was wrong")
    assert not ledgers.runner.abort_canary("c-1", "it was wrong")
    ledgers.owner.rebuild()
    assert ledgers.owner.verify() == ()


def test_one_runs_at_a_time_and_a_policy_promotes_by_its_count(ledgers: Any) -> None:
    lenient = replace(CANARY, by_policy=True, wanted=1)
    assert ledgers.governance.set_canary_terms({PRODUCT: BY_POLICY}) == (PRODUCT,)
    assert ledgers.governance.set_canary_terms({PRODUCT: BY_POLICY}) == ()
    ledgers.runner.start_canary(lenient)
    with pytest.raises(TerminalError, match=r"c-1 of operations\.flights is running"):
        ledgers.runner.start_canary(replace(lenient, id="c-2"))
    told(ledgers, DAYS[0], equal=True, run="r1")
    assert ledgers.runner.canary(PRODUCT).ripe

    ledgers.runner.settle_canary("c-1")

    assert ledgers.runner.canary(PRODUCT).state is CanaryState.PROMOTED
    ledgers.runner.start_canary(replace(lenient, id="c-2"))
    assert [each.id for each in ledgers.runner.canaries()] == ["c-1", "c-2"]


def test_who_starts_one_may_ask_for_more_than_governance_does_and_not_for_less(
    ledgers: Any,
) -> None:
    lenient = replace(CANARY, by_policy=True, wanted=1)
    with pytest.raises(TerminalError, match="governance recorded no policy") as refused:
        ledgers.runner.start_canary(lenient)
    for what in ("--promote approval", "`levada run` or `levada up`", "governance's pipeline"):
        assert what in str(refused.value)
    with pytest.raises(LawBroken):
        ledgers.runner.set_canary_terms({PRODUCT: BY_POLICY})
    ledgers.governance.set_canary_terms({PRODUCT: CanaryTerms(by_policy=True, intervals=2)})
    with pytest.raises(TerminalError, match="wants at least 2 equal intervals"):
        ledgers.runner.start_canary(lenient)
    ledgers.runner.start_canary(replace(lenient, wanted=2))
    for n in range(2):
        told(ledgers, DAYS[n], equal=True, run=f"r{n}")

    ledgers.governance.set_canary_terms({PRODUCT: CanaryTerms(by_policy=True, intervals=3)})
    assert needs(ledgers) == (3, True, False), "told as it is settled"
    with pytest.raises(TerminalError, match="has 2 equal intervals in a row, and needs 3"):
        ledgers.runner.settle_canary("c-1")
    ledgers.governance.set_canary_terms({PRODUCT: CanaryTerms(by_policy=False, intervals=2)})
    assert needs(ledgers) == (2, False, True), "so that an approval is asked for"
    with pytest.raises(TerminalError, match="is promoted by approval"):
        ledgers.runner.settle_canary("c-1")
    ledgers.governance.promote_canary("c-1", "ann", "alike", INES)
    ledgers.governance.set_canary_terms({PRODUCT: CanaryTerms(by_policy=False, intervals=9)})
    assert needs(ledgers)[:2] == (2, True), "one that ended keeps what it was started with"
    ledgers.owner.rebuild()
    assert ledgers.owner.verify() == ()


def test_none_of_those_who_answered_for_it_when_it_was_started_promotes_it(ledgers: Any) -> None:
    ledgers.runner.start_canary(replace(CANARY, wanted=1, owners=("ann", "Ines")))
    told(ledgers, DAYS[0], equal=True, run="r1")
    with pytest.raises(NotPublishable, match="ines answers for it"):
        ledgers.governance.promote_canary("c-1", "ann", "so", INES)
    ledgers.governance.promote_canary("c-1", "ann", "so", replace(INES, reviewer="mia"))
    assert ledgers.runner.canary(PRODUCT).state is CanaryState.PROMOTED


def test_of_a_new_major_what_differs_counts_though_it_is_never_published(ledgers: Any) -> None:
    gated = replace(CANARY, old="operations.flights@1", rule="majors.same")
    ledgers.runner.start_canary(gated)
    told(ledgers, DAYS[0], equal=True, run="r1")
    told(ledgers, DAYS[1], equal=False, run="r2", publishes=False)
    assert in_a_row(ledgers) == 0
    told(ledgers, DAYS[1], equal=True, run="r3", publishes=False)
    assert in_a_row(ledgers) == 0, "killed before it published: it differs still"
    told(ledgers, DAYS[1], equal=True, run="r4")
    assert in_a_row(ledgers) == 2, "published, it is equal"
    told(ledgers, DAYS[0], equal=False, run="r5", publishes=False)
    found = ledgers.runner.canary(PRODUCT)
    assert (found.told, found.differing, found.in_a_row) == (2, 1, 0), "once, by its newest"
