"""One transaction, one notification, however many functions it called and lines it wrote."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from levada.ledger import PostgresLedger
from levada.ledger.roles import RUNNER
from levada.ports import Want
from levada.terms import (
    Approval,
    Attempt,
    Canary,
    CanaryState,
    Grain,
    Landing,
    Partition,
    Span,
    Step,
    TableRef,
    Tampering,
    Trial,
    Verdict,
    Waiver,
)

pytestmark = pytest.mark.integration

FLIGHTS = TableRef("operations", "flights")
FILES = TableRef("operations", "landing.flights", 0)
PRODUCT = "operations.flights"
NOW = datetime(2013, 3, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY, NEXT = (Partition(Grain.DAY, datetime(2013, 3, n, tzinfo=UTC)) for n in (1, 2))
INES = Approval("ines", ("joe",), "c0ffee", "pipeline")

Path = Callable[[Any, PostgresLedger], None]


def claim(here: PostgresLedger, run: str, *days: Partition) -> None:
    with here.sensing([], [PRODUCT]) as sensing:
        sensing.claim([Want(PRODUCT, day, "f1", ()) for day in days], run=run, lifetime=HOUR)


def landings(_: Any, here: PostgresLedger) -> None:
    for day in (DAY, NEXT):
        here.land([Landing(FILES, day, 0, "a", "flights.csv", 9, NOW)])
    here.probed({FILES: "connection refused"})
    here.probed({FILES: ""})


def steps(_: Any, here: PostgresLedger) -> None:
    asked = [Step(PRODUCT, DAY, "landed")]
    here.open_steps(asked)
    here.close_steps(asked, "done")


def claims(_: Any, here: PostgresLedger) -> None:
    claim(here, "run-1", DAY, NEXT)
    here.release("run-1", [DAY], "nothing to do")
    unknown = Attempt(PRODUCT, NEXT, "run-1", "f1", Verdict.UNKNOWN, "killed", (), 0, NOW)
    here.withhold([unknown])


def publications(ledgers: Any, here: PostgresLedger) -> None:
    here.record_contracts({"flights 1.0.0 aaaa": '{"status":"active"}'})
    for run, day in (("run-1", DAY), ("run-2", NEXT)):
        claim(here, run, day)
        here.intend(run, [ledgers.line(FLIGHTS, day)])
        here.publish(run, "7")


def withdrawals(ledgers: Any, here: PostgresLedger) -> None:
    here.record_contracts({"flights 1.0.0 aaaa": '{"status":"active"}'})
    claim(here, "run-1", DAY)
    here.intend("run-1", [ledgers.line(FLIGHTS, DAY)])
    here.withdraw("run-1", "the swap never happened")


def approvals(_: Any, here: PostgresLedger) -> None:
    here.record_approval("flights 1.0.0", "aaaa", "agreed", INES)
    window = Span(DAY.begin, NEXT.begin)
    ends = datetime.now(UTC) + HOUR
    waiver = Waiver(FLIGHTS, "c", window, ends, "why", "", "h1", owner="joe", approver="ines")
    here.waive(waiver, INES)
    here.revoke_waiver(waiver, "mended")


def changes_by_hand(_: Any, here: PostgresLedger) -> None:
    found = Tampering(FLIGHTS, "9", "names no run", NOW)
    here.inspect("operations", "9", [found])
    here.tell(found, "joe")
    here.pardon_table(FLIGHTS, "seen")
    here.pardon_step(PRODUCT, DAY, "let it go on")


def pings(_: Any, here: PostgresLedger) -> None:
    here.ping("one")
    here.ping("two")


def backfills(_: Any, here: PostgresLedger) -> None:
    here.begin_backfill("march", {}, {PRODUCT: [DAY, NEXT]})
    here.turn_backfill("march", "paused", "wait")
    here.turn_backfill("march", "running", "go on")


def canaries(_: Any, here: PostgresLedger) -> None:
    running = CanaryState.RUNNING
    here.start_canary(Canary("c-1", PRODUCT, running, "old", "new", 2, False, {}, "rounds", NOW))
    here.tell_canary("c-1", [Trial(DAY, True, "", {}, "run-1")])
    here.abort_canary("c-1", "enough")


PATHS: tuple[Path, ...] = (
    *(landings, steps, claims, publications, withdrawals, approvals, changes_by_hand),
    *(pings, backfills, canaries),
)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_one_transaction_notifies_once_whatever_it_writes(path: Path, ledgers: Any) -> None:
    here = PostgresLedger(ledgers.url("postgres"))
    with (
        psycopg.connect(ledgers.url(RUNNER), autocommit=True) as ear,
        psycopg.connect(ledgers.url("postgres"), autocommit=True) as hand,
    ):
        ear.execute("listen levada")
        hand.execute("set timezone = 'UTC'")
        before = ledgers.runner.position()
        with hand.transaction():
            here._here.connection = hand
            path(ledgers, here)
        hand.execute("notify levada, 'end'")
        heard: list[str] = []
        for note in ear.notifies():
            if note.payload == "end":
                break
            heard.append(note.payload)
    assert ledgers.runner.position() - before >= 2
    assert heard == [""]


def test_nothing_but_the_feed_notifies_and_whatever_is_written_comes_to_it(ledgers: Any) -> None:
    with psycopg.connect(ledgers.url("postgres")) as admin:
        told = admin.execute(
            "select proname from pg_proc where pronamespace = 'ledger'::regnamespace"
            " and prosrc ~* 'notify'"
        ).fetchall()
        bound = admin.execute(
            "select tgrelid::regclass::text, tgdeferrable, tginitdeferred from pg_trigger"
            " where tgfoid = 'ledger.to_feed()'::regprocedure"
        ).fetchall()
        lost = admin.execute(
            "select count(*) from ledger.entry e where not exists"
            " (select from ledger.feed f where f.entry = e.id)"
        ).fetchone()
    assert (told, bound, lost) == ([("to_feed",)], [("ledger.turn", True, True)], (0,))
