"""What backfills ask of the ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.strategies import NEW_YORK, little_mesh

from levada.errors import LawBroken
from levada.flow import restating
from levada.plan import asked_for, backfill, encode
from levada.terms import Grain, Outcome, Partition, Span, TableRef, Tampering

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


def test_a_backfill_that_runs_is_paused_once_its_mesh_is_another_and_says_what_has_changed(
    ledgers: Any,
) -> None:
    mesh, record = little_mesh(), ledgers.runner
    span = Span.days("2013-03-04", "2013-03-05", NEW_YORK)
    planned = backfill(mesh, asked_for(mesh, [PRODUCT], span), NOW)
    document = encode(mesh, planned)
    assert restating.begin(record, mesh, document["id"], document, planned, forced=False)
    (begun,) = record.backfills(document["id"])
    assert restating.paused_if_changed(record, mesh, begun) == ""
    assert record.backfill_state(begun.id) == "running"

    product = mesh.product(PRODUCT)
    (mart,) = product.marts
    other = replace(product, marts=(replace(mart, code="another model"),))
    changed = replace(mesh, products=tuple(other if p is product else p for p in mesh.products))
    said = restating.paused_if_changed(record, changed, begun)
    assert said.startswith(f"{begun.id} is paused: its mesh has changed: ")
    assert PRODUCT in said
    assert record.backfill_state(begun.id) == "paused"
    assert begun.id not in {each.id for each in record.at_work()}


MARCH = "bf-0123456789ab"


def states(ledgers: Any) -> dict[str, str]:
    return {o.partition.key: o.state for o in ledgers.runner.backfill_steps(MARCH)}


def test_what_was_in_flight_when_it_was_cancelled_is_made_and_taken_back(ledgers: Any) -> None:
    runner = ledgers.runner
    runner.begin_backfill(MARCH, {}, {PRODUCT: DAYS})
    runner.turn_backfill(MARCH, "cancelled", "enough")
    settled, killed, others = DAYS
    ledgers.publish(PRODUCT, [ledgers.line(FLIGHTS, settled)], run=f"{MARCH}@a")
    runner.settle_backfill(MARCH, [Outcome(PRODUCT, settled, "made", "", f"{MARCH}@a")])
    runner.settle_backfill(MARCH, [Outcome(PRODUCT, killed, "left", "late"), failed(others)])
    assert states(ledgers) == {
        settled.key: "made",
        killed.key: "cancelled",
        others.key: "cancelled",
    }, "what was made is heard of, and nothing else"
    # Through Airflow; its process was killed before it could say so.
    run = f"levada.backfill@{MARCH}__{PRODUCT}__x@b"
    ledgers.publish(PRODUCT, [ledgers.line(FLIGHTS, killed)], run=run)
    ledgers.publish(PRODUCT, [ledgers.line(FLIGHTS, others)], run="run-day")
    assert runner.undo_backfill(MARCH, "wrong")
    assert states(ledgers) == {
        settled.key: "restoring",
        killed.key: "restoring",
        others.key: "cancelled",
    }
    assert {o.run for o in runner.backfill_steps(MARCH, None, "restoring")} == {f"{MARCH}@a", run}
    assert not runner.undo_backfill(MARCH, "wrong"), "it is being taken back"


def failed(day: Partition) -> Outcome:
    return Outcome(PRODUCT, day, "failed", "late")


def test_nothing_is_taken_back_while_it_may_still_be_made(ledgers: Any) -> None:
    runner, (day, *_) = ledgers.runner, DAYS
    runner.begin_backfill(MARCH, {}, {PRODUCT: [day]})
    ledgers.record()
    ledgers.claim(PRODUCT, [day], run=f"{MARCH}@a", lifetime=timedelta(seconds=-1))
    runner.turn_backfill(MARCH, "cancelled", "enough")
    ledgers.publisher.renew(f"{MARCH}@a", timedelta(minutes=1))
    said = f"still building {PRODUCT} 2013-03-01.*when run {MARCH}@a has ended"
    with pytest.raises(LawBroken, match=said):
        runner.undo_backfill(MARCH, "wrong")
    ledgers.publisher.intend(f"{MARCH}@a", [ledgers.line(FLIGHTS, day)])
    ledgers.publisher.renew(f"{MARCH}@a", timedelta(seconds=-1))
    with pytest.raises(LawBroken, match=said):  # nobody has looked yet whether it was swapped in
        runner.undo_backfill(MARCH, "wrong")
    assert states(ledgers) == {day.key: "cancelled"}
    ledgers.publisher.publish(f"{MARCH}@a", "7")  # as recovery does
    ledgers.claim(OTHER, [day], run="run-day")
    assert runner.undo_backfill(MARCH, "wrong"), "others hold back nothing"
    assert states(ledgers) == {day.key: "restoring"}


def test_a_claim_that_ran_out_holds_back_no_rollback(ledgers: Any) -> None:
    runner, (day, *_) = ledgers.runner, DAYS
    runner.begin_backfill(MARCH, {}, {PRODUCT: [day]})
    ledgers.claim(PRODUCT, [day], run=f"{MARCH}@a", lifetime=timedelta(seconds=-1))
    runner.turn_backfill(MARCH, "cancelled", "enough")
    assert runner.undo_backfill(MARCH, "wrong")
    assert states(ledgers) == {day.key: "cancelled"}, "it made nothing"


def test_what_has_ended_is_not_ended_again_and_what_failed_can_still_be_resumed(
    ledgers: Any,
) -> None:
    runner, (day, other, *_) = ledgers.runner, DAYS

    def state() -> str:
        (found,) = runner.backfills(MARCH)
        return str(found.state)

    runner.begin_backfill(MARCH, {}, {PRODUCT: [day, other]})
    runner.settle_backfill(MARCH, [failed(day), Outcome(PRODUCT, other, "made", "", "x")])
    count = runner.position()
    assert not runner.turn_backfill(MARCH, "cancelled", "enough")
    assert not runner.turn_backfill(MARCH, "paused", "wait")
    assert (state(), runner.position()) == ("finished", count), "no line says otherwise"
    assert runner.turn_backfill(MARCH, "running", "mended")
    assert (state(), states(ledgers)[day.key]) == ("running", "open")
    assert runner.turn_backfill(MARCH, "cancelled", "enough")
    assert not runner.turn_backfill(MARCH, "cancelled", "enough")
    assert state() == "cancelled"
