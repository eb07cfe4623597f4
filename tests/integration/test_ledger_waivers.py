"""What the ledger itself refuses: of waivers, of approvals, of contracts."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from levada.errors import NotPublishable
from levada.terms import (
    Approval,
    Grain,
    Input,
    Partition,
    Publication,
    Span,
    TableRef,
    Waived,
    Waiver,
)

pytestmark = pytest.mark.integration

FLIGHTS = TableRef("operations", "flights")
DAILY = TableRef("company", "daily")
WEEKLY = TableRef("company", "weekly")
PRODUCT = "operations.flights"
NEW_YORK = "America/New_York"
DAY = Partition(Grain.DAY, datetime(2013, 3, 1, 5, tzinfo=UTC), NEW_YORK)
WINDOW = Span.days("2013-03-01", "2013-03-01", NEW_YORK)
MARK = Waived(FLIGHTS, DAY, "c")
INES = Approval("ines", ("joe",), "c0ffee", "pipeline")


def asked(**changes: Any) -> Waiver:
    usual = Waiver(
        table=FLIGHTS,
        check="c",
        window=WINDOW,
        expires=datetime.now(UTC) + timedelta(hours=1),
        reason="why",
        approved_by="",
        hash="h1",
        owner="joe",
        approver="ines",
    )
    return replace(usual, **changes)


def intended(ledgers: Any, *, run: str = "run-1", **changes: Any) -> Publication:
    """Claim, and intend a line."""
    ledgers.record()
    ledgers.claim(PRODUCT, [DAY], run=run, fingerprint=changes.get("made_by", "f1"))
    line: Publication = ledgers.line(FLIGHTS, DAY, **changes)
    ledgers.publisher.intend(run, [line])
    return line


# --- contracts ------------------------------------------------------------------------------------


LEVEL = '{{"slaProperties":[{{"property":"{}","value":6,"unit":"h"}}]}}'


def test_a_latency_counts_from_the_first_contract_of_its_table_and_major_that_has_one(
    ledgers: Any,
) -> None:
    first, second, other = "flights 1.1.0 aaab", "flights 1.2.0 bbbb", "flights 2.0.0 cccc"
    record = ledgers.governance.record_contracts
    ledgers.record("flights 0.9.0 a0a0")
    record({"flights 1.0.0 aaaa": LEVEL.format("freshness")})
    assert ledgers.publisher.promised_since("flights 1.0.0 aaaa") is None
    before = datetime.now(UTC)
    record({first: LEVEL.format("Latency")})
    since = ledgers.publisher.promised_since(first)
    record({second: LEVEL.format("ly")})
    record({other: LEVEL.format("ly")})
    assert before - timedelta(minutes=1) < since < datetime.now(UTC) + timedelta(minutes=1)
    assert ledgers.publisher.promised_since(second) == since
    assert ledgers.publisher.promised_since("flights 1.3.0 dddd") == since
    assert ledgers.publisher.promised_since(other) > since
    assert ledgers.publisher.promised_since("planes 1.0.0 aaaa") is None


# --- waivers --------------------------------------------------------------------------------------


def test_a_waiver_is_read_back_as_it_was_granted(ledgers: Any) -> None:
    one = asked(consumers=("company.daily",))
    assert ledgers.governance.waive(one, INES)
    assert not ledgers.governance.waive(one, INES), "the same file asks for nothing more"
    assert ledgers.runner.waivers([FLIGHTS]) == (replace(one, approved_by="ines"),)
    assert ledgers.runner.facts([FLIGHTS], []).waivers == (replace(one, approved_by="ines"),)
    assert ledgers.runner.facts([DAILY], []).waivers == ()
    assert ledgers.governance.waive(replace(one, hash="h2", reason="changed"), INES)
    assert len(ledgers.runner.waivers()) == 2
    assert ledgers.owner.verify() == ()


@pytest.mark.parametrize(
    ("changes", "approval", "sentence"),
    [
        ({}, Approval("joe", ("kim",)), "asks ines, not joe|joe answers for it"),
        ({"owner": "ines"}, INES, "ines answers for it, and does not approve it"),
        ({}, Approval("ines", ("joe", "ines")), "ines wrote it, and does not approve it"),
        ({"approver": "max"}, INES, "asks max, not ines"),
        ({}, Approval(""), "nobody has reviewed it"),
        ({"expires": datetime(2020, 1, 1, tzinfo=UTC)}, INES, "has expired"),
    ],
)
def test_a_waiver_that_may_not_be_granted_is_refused(
    ledgers: Any, changes: dict[str, Any], approval: Approval, sentence: str
) -> None:
    with pytest.raises(NotPublishable, match=sentence):
        ledgers.governance.waive(asked(**changes), approval)
    assert ledgers.runner.waivers() == ()


def test_a_revoked_waiver_is_over_and_its_approval_is_not_replayed(ledgers: Any) -> None:
    assert not ledgers.governance.revoke_waiver(asked(), "never granted")
    ledgers.governance.waive(asked(), INES)
    assert ledgers.governance.revoke_waiver(asked(), "mended")
    assert not ledgers.governance.revoke_waiver(asked(), "again")
    (ended,) = ledgers.runner.waivers([FLIGHTS])
    assert ended.until == ended.revoked < datetime.now(UTC)
    with pytest.raises(NotPublishable, match=r"was revoked on .*: an approval is not repeated"):
        ledgers.governance.waive(asked(), INES)
    assert ledgers.governance.waive(asked(hash="h2"), INES), "another file asks anew"
    assert ledgers.owner.verify() == ()
    ledgers.owner.rebuild()
    assert ledgers.owner.verify() == ()


LIVE = {"live": asked(), "another hash": asked(hash="h9")}
DEAD = {
    "another check": asked(check="d"),
    "another table": asked(table=DAILY),
    "another window": asked(window=Span.days("2013-03-02", "2013-03-09", NEW_YORK)),
    "half the window": asked(
        window=Span(WINDOW.start + timedelta(hours=1), WINDOW.end + timedelta(hours=9))
    ),
    "none": None,
    "revoked": asked(),
    "expired": asked(expires=datetime.now(UTC) + timedelta(seconds=1)),
}


@pytest.mark.parametrize("kind", [*LIVE, *DEAD])
def test_a_line_says_only_what_is_waived_now(ledgers: Any, kind: str) -> None:
    one = {**LIVE, **DEAD}[kind]
    if kind == "expired":
        one = asked(expires=datetime.now(UTC) + timedelta(milliseconds=300))
    if one is not None:
        ledgers.governance.waive(one, INES)
    if kind == "revoked":
        ledgers.governance.revoke_waiver(asked(), "mended")
    if kind == "expired":
        time.sleep(0.4)
    if kind in LIVE:
        intended(ledgers, waived=(MARK,))
    else:
        with pytest.raises(NotPublishable, match="its check c is not waived, or is no longer"):
            intended(ledgers, waived=(MARK,))


def test_a_publication_inherits_the_marks_of_the_very_lines_it_is_made_of(ledgers: Any) -> None:
    ledgers.governance.waive(asked(), INES)
    line = intended(ledgers, waived=(MARK,))
    (root,) = ledgers.publisher.publish("run-1", "7")
    assert root.waived == (MARK,)
    read = (Input(FLIGHTS, DAY, 1, line.content, "7"),)
    (daily,) = ledgers.publish(
        "company.daily", [ledgers.line(DAILY, DAY, inputs=read)], run="daily"
    )
    assert daily.waived == (MARK,), "the ledger writes it, whatever the publisher says"
    below = (Input(DAILY, DAY, 1, "1:a", "7"),)
    (weekly,) = ledgers.publish(
        "company.weekly", [ledgers.line(WEEKLY, DAY, inputs=below)], run="weekly"
    )
    assert weekly.waived == (MARK,)
    assert {x.table for x in ledgers.runner.tainted()} == {FLIGHTS, DAILY, WEEKLY}
    facts = ledgers.runner.facts([WEEKLY], [])
    assert facts.line(FLIGHTS, DAY) == root, "however far up: what taints it is judged with it"
    assert [w.table for w in facts.waivers] == [FLIGHTS]

    clean = ledgers.line(FLIGHTS, DAY, made_by="f2")
    ledgers.publish(PRODUCT, [clean], run="run-2")
    (again,) = ledgers.publish(
        "company.daily",
        [ledgers.line(DAILY, DAY, inputs=(Input(FLIGHTS, DAY, 2, "1:a", "8"),), made_by="f2")],
        run="daily-2",
    )
    assert again.waived == ()
    assert ledgers.owner.verify() == ()
    ledgers.owner.rebuild()
    assert ledgers.owner.verify() == ()


# --- contracts ------------------------------------------------------------------------------------

BODY = '{{"status":"{}","description":"{}"}}'
OLD = "flights 1.0.0 aaaa"
STATUSES = {"active": True, "deprecated": True, "draft": False, "proposed": False, "retired": False}
KINDS = {
    "the same": OLD,
    "a new version": "flights 1.1.0 bbbb",
    "this version, other content": "flights 1.0.0 bbbb",
    "an earlier version": "flights 0.10.0 dddd",
    "before the release": "flights 1.0.0-rc.1 eeee",
}
BELOW = ("an earlier version", "before the release")


@pytest.mark.parametrize(
    ("status", "kind", "breaks", "approved"),
    [
        row
        for row in itertools.product(STATUSES, KINDS, (False, True), ("no", "it", "another"))
        if row[0] in ("active", "draft") or row[1:] == ("a new version", False, "no")
    ],
)
def test_the_ledger_refuses_contracts_by_its_own_table(
    ledgers: Any, status: str, kind: str, breaks: bool, approved: str
) -> None:
    from hashlib import sha256

    label, body = KINDS[kind], BODY.format(status, kind)
    first = OLD if kind != "the same" else "flights 0.9.0 cccc"
    ledgers.governance.record_contracts({first: BODY.format("active", "first")})
    ledgers.governance.record_contracts({label: body})
    ledgers.publish(PRODUCT, [ledgers.line(FLIGHTS, DAY, contract=first)])
    assert ledgers.runner.kept([FLIGHTS, DAILY]) == {FLIGHTS: first}
    digest = sha256((body if approved == "it" else "else").encode()).hexdigest()
    if approved != "no":
        ledgers.governance.record_approval("flights", digest, "agreed", INES)
    ledgers.claim(PRODUCT, [DAY], run="run-2", fingerprint="f2")
    line = ledgers.line(FLIGHTS, DAY, contract=label, made_by="f2")
    said = {label: ["column wind_gust is gone"]} if breaks else {}
    passes = (
        STATUSES[status]
        and kind not in ("this version, other content", *BELOW)
        and (not breaks or approved == "it")
    )
    if passes:
        ledgers.publisher.intend("run-2", [line], said)
        ledgers.publisher.publish("run-2", "8")
        assert ledgers.runner.kept([FLIGHTS]) == {FLIGHTS: label}
        assert ledgers.owner.verify() == ()
    else:
        why = "only active and deprecated|raise the version|nobody has approved it: column wind"
        if status == "active" and kind in BELOW:
            why = f"the contract {label} is below {OLD}, by which its table was published last"
        with pytest.raises(NotPublishable, match=why):
            ledgers.publisher.intend("run-2", [line], said)


def test_who_wrote_a_contract_does_not_approve_what_it_breaks(ledgers: Any) -> None:
    with pytest.raises(NotPublishable, match="joe wrote it, and does not approve it"):
        ledgers.governance.record_approval("flights", "h", "please", Approval("joe", ("joe",)))
    assert ledgers.runner.approved("flights", "h") is None
