"""What backfills ask of the ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from levada.terms import Grain, Partition, TableRef, Tampering

pytestmark = pytest.mark.integration

PRODUCT, OTHER = "operations.flights", "operations.delays"
FLIGHTS, DELAYS = TableRef("operations", "flights"), TableRef("operations", "delays")
NOW = datetime(2013, 3, 12, tzinfo=UTC)
DAYS = [Partition(Grain.DAY, datetime(2013, 3, n, tzinfo=UTC)) for n in (1, 2, 3)]


def test_at_work_is_who_holds_what_no_running_backfill_is_to_make(ledgers: Any) -> None:
    runner = ledgers.runner

    def others() -> bool:
        return bool(runner.at_work_besides("levada.backfill@"))

    runner.begin_backfill("march", {}, {PRODUCT: DAYS[:2]})
    ledgers.claim(PRODUCT, DAYS[:1], run="levada.backfill@one@a")
    ledgers.claim(PRODUCT, DAYS[1:2], run="run-local")
    assert not others(), "it is made for a backfill, by a process of its own"
    runner.turn_backfill("march", "paused", "the day is busy")
    assert others()
    runner.turn_backfill("march", "running", "go on")
    ledgers.claim(OTHER, DAYS[:1], run="run-day")
    assert others(), "of the same day, but another product"
    runner.release("run-day", DAYS[:1], "done")
    assert not others()
    ledgers.claim(PRODUCT, DAYS[2:], run="run-day-2")
    assert others(), "of the same product, but another day"


def test_versions_are_told_newest_first_and_none_where_any_of_the_tables_was_changed_by_hand(
    ledgers: Any,
) -> None:
    for n, (day, version) in enumerate(zip(DAYS, ("9", "10", "8"), strict=True)):
        line = ledgers.line(FLIGHTS, day)
        ledgers.publish(PRODUCT, [line], run=f"run-{n}", data_version=version)
    end = ledgers.runner.position() + 1
    assert ledgers.runner.versions([FLIGHTS, DELAYS], 1, end) == ("10", "9", "8")
    ledgers.publisher.inspect("operations", "11", [Tampering(DELAYS, "11", "names no run", NOW)])
    end = ledgers.runner.position() + 1
    assert ledgers.runner.versions([FLIGHTS], 1, end) == ("10", "9", "8")
    assert ledgers.runner.versions([FLIGHTS, DELAYS], 1, end) == ()
