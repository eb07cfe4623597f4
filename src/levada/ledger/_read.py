"""
What the ledger's views say, in the words of Levada.

Facts are one statement, hence one snapshot, under any isolation. Its parts share their columns:

    kind, name, part, n, pos, at, a .. f (texts), g (a number), json, more, last, marks
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from levada.ledger.codec import (
    decode_inputs,
    decode_partition,
    decode_results,
    decode_table,
    decode_waived,
)
from levada.terms import (
    Attempt,
    Claim,
    Facts,
    Landing,
    Partition,
    ProbeFailure,
    Publication,
    Span,
    TableRef,
    Tampering,
    Verdict,
    Waiver,
)

__all__ = [
    "FACTS",
    "HISTORY",
    "LANDED",
    "PUBLISHED",
    "TAINTED",
    "WAIVERS",
    "claim_of",
    "facts_of",
    "line_of",
    "waiver_of",
]

_PUBLICATION = """
    select 'p' as kind, table_name as name, part, generation as n, pos, at, contract as a,
           verdict as b, data_version as c, content as d, made_by as e, run as f, 0::bigint as g,
           inputs::text as json, taint::text as more, warnings::text as last,
           waived::text as marks
    from ledger.publications"""
_LANDING = """
    select 'l', table_name, part, generation, pos, at, path, '', '', content, '', '', size,
           '', '', '', ''
    from ledger.landings"""
_ATTEMPT = """
    select 'a', product, part, tries, pos, at, fingerprint, verdict, because, run,
           coalesce(not_before::text, ''), '', 0, results::text, '', '', ''
    from ledger.attempts"""
_CLAIM = """
    select 'c', product, part, 0, 0, until, run, fingerprint, '', '', '', '', token,
           inputs::text, taint::text, '', ''
    from ledger.claims"""
_TAMPERING = """
    select 't', table_name, '', 0, 0, at, version, because, '', '', '', '', 0, '', '', '', ''
    from ledger.tamperings"""
_PARDON = """
    select 'q', product, part, 0, pos, null, '', '', '', '', '', '', 0, '', '', '', ''
    from ledger.pardons"""
_WAIVER = """
    select 'w', table_name, check_id, 0, pos, expires, reason, reviewer, hash, owner, approver,
           coalesce(revoked::text, ''), 0, starts::text, ends::text, consumers::text, ''
    from ledger.waivers"""
_PROBE = """
    select 'u', table_name, '', 0, 0, since, because, '', '', '', '', '', 0, '', '', '', ''
    from ledger.probes"""
_RESTATING = """
    select 'r', product, part, 0, 0, null, backfill, '', '', '', '', '', 0, '', '', '', ''
    from ledger.restating"""
_WITHIN = (
    "and (start is null or %(from)s::timestamptz is null or start >= %(from)s and start < %(to)s)"
)

_ROOTS = """
    select mark ->> 0, mark ->> 1 from ledger.tainted t, jsonb_array_elements(t.waived) mark
    where t.newest and t.table_name = any (%(tables)s)"""
"""What taints a line may lie further up than the tables that were asked for."""

FACTS = f"""
    {_PUBLICATION} where newest and table_name = any (%(tables)s) {_WITHIN}
    union all {_LANDING} where newest and table_name = any (%(tables)s) {_WITHIN}
    union all {_ATTEMPT} where product = any (%(products)s) {_WITHIN}
    union all {_CLAIM} where product = any (%(products)s) {_WITHIN}
        and until > coalesce(%(now)s::timestamptz, clock_timestamp())
    union all {_TAMPERING} where table_name = any (%(tables)s)
    union all {_PARDON} where product = any (%(products)s)
    union all {_PUBLICATION} where newest and (table_name, part) in ({_ROOTS})
    union all {_WAIVER} where table_name = any (%(tables)s)
        or table_name in (select name from ({_ROOTS}) root (name, part))
    union all {_PROBE} where verdict = 'UNKNOWN' and table_name = any (%(tables)s)
    union all {_RESTATING} where product = any (%(products)s) {_WITHIN}
    union all select 'z', '', '', 0, position, null, '', '', '', '', '', '', 0, '', '', '', ''
    from ledger.positions"""
HISTORY = f"""
    {_PUBLICATION} where table_name = %(table)s and part = %(part)s
    union all {_LANDING} where table_name = %(table)s and part = %(part)s order by n"""
TAINTED = f"{_PUBLICATION} where newest and waived <> '[]' order by pos"
WAIVERS = f"{_WAIVER} where %s::text[] is null or table_name = any (%s) order by pos"
PUBLISHED = f"{_PUBLICATION} where run = %s and data_version = %s order by pos"
LANDED = f"{_LANDING} where entry = any (%s) order by pos"

Row = tuple[Any, ...]


def facts_of(rows: Iterable[Row]) -> Facts:
    """The facts of one snapshot."""
    lines: dict[tuple[TableRef, Partition], Publication | Landing] = {}
    attempts: dict[tuple[str, Partition], Attempt] = {}
    claims: dict[tuple[str, Partition], Claim] = {}
    tampered: dict[TableRef, Tampering] = {}
    pardons: dict[tuple[str, Partition], int] = {}
    waivers: list[Waiver] = []
    probes: dict[TableRef, ProbeFailure] = {}
    restating: dict[tuple[str, Partition], str] = {}
    position = 0
    for row in rows:
        kind = row[0]
        if kind in ("p", "l"):
            line = line_of(row)
            lines[line.table, line.partition] = line
        elif kind == "a":
            attempt = _attempt_of(row)
            attempts[attempt.product, attempt.partition] = attempt
        elif kind == "c":
            claim = _claim_of(row)
            claims[claim.product, claim.partition] = claim
        elif kind == "t":
            _, name, _, _, _, at, version, because, *_ = row
            table = decode_table(name)
            tampered[table] = Tampering(table, version, because, at.replace(tzinfo=UTC))
        elif kind == "q":
            pardons[row[1], decode_partition(row[2])] = row[4]
        elif kind == "w":
            waivers.append(waiver_of(row))
        elif kind == "r":
            restating[row[1], decode_partition(row[2])] = row[6]
        elif kind == "u":
            failure = _failure_of(row)
            probes[failure.table] = failure
        else:
            position = row[4]
    return Facts(
        *(lines, attempts, claims, position, tampered, pardons, tuple(waivers), probes),
        restating,
    )


def line_of(row: Row) -> Publication | Landing:
    """A publication or a landing."""
    kind, name, part, generation, pos, at, a, b, c, d, e, f, g, inputs, taint, warnings, marks = row
    if kind == "l":
        return Landing(
            table=decode_table(name),
            partition=decode_partition(part),
            generation=generation,
            content=d,
            path=a,
            size=g,
            at=at.replace(tzinfo=UTC),
            position=pos,
        )
    return Publication(
        table=decode_table(name),
        partition=decode_partition(part),
        generation=generation,
        contract=a,
        verdict=Verdict(b),
        data_version=c,
        content=d,
        made_by=e,
        inputs=decode_inputs(json.loads(inputs)),
        taint=_texts(taint),
        warnings=_texts(warnings),
        waived=decode_waived(json.loads(marks)) if marks != "[]" else (),
        run=f,
        at=at.replace(tzinfo=UTC),
        position=pos,
    )


def claim_of(row: Row) -> Claim:
    """A claim of `product, part, run, token, fingerprint, inputs, until, taint`."""
    product, part, run, token, fingerprint, inputs, until, taint = row
    return Claim(
        product=product,
        partition=decode_partition(part),
        run=run,
        token=token,
        fingerprint=fingerprint,
        inputs=decode_inputs(inputs),
        until=until.replace(tzinfo=UTC),
        taint=tuple(taint),
    )


def waiver_of(row: Row) -> Waiver:
    """A waiver that was granted."""
    _, name, check, _, _, expires, *said, _, starts, ends, consumers, _ = row
    reason, by, digest, owner, approver, revoked = said
    return Waiver(
        table=decode_table(name),
        check=check,
        window=Span(_instant(starts), _instant(ends)),
        expires=expires.replace(tzinfo=UTC),
        reason=reason,
        approved_by=by,
        hash=digest,
        consumers=_texts(consumers),
        owner=owner,
        approver=approver,
        revoked=_instant(revoked) if revoked else None,
    )


def _instant(written: str) -> datetime:
    return datetime.fromisoformat(written).astimezone(UTC)


def _texts(written: str) -> tuple[str, ...]:
    return tuple(json.loads(written)) if written != "[]" else ()


def _failure_of(row: Row) -> ProbeFailure:
    _, name, _, _, _, since, because, *_ = row
    return ProbeFailure(decode_table(name), because, since.replace(tzinfo=UTC))


def _claim_of(row: Row) -> Claim:
    _, product, part, _, _, until, run, fingerprint, _, _, _, _, token, inputs, taint, *_ = row
    said = (json.loads(inputs), until, _texts(taint))
    return claim_of((product, part, run, token, fingerprint, *said))


def _attempt_of(row: Row) -> Attempt:
    _, product, part, tries, pos, at, fingerprint, verdict, because, run, *rest = row
    not_before, _, _, results, *_ = rest
    return Attempt(
        product=product,
        partition=decode_partition(part),
        run=run,
        fingerprint=fingerprint,
        verdict=Verdict(verdict),
        because=because,
        results=decode_results(json.loads(results)),
        tries=tries,
        at=at.replace(tzinfo=UTC),
        not_before=datetime.fromisoformat(not_before).astimezone(UTC) if not_before else None,
        position=pos,
    )
