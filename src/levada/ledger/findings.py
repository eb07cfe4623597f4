"""Reports of consistency batches and their breaks, in the ledger, seen through one role."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb

from levada.ledger._connections import Asking
from levada.ledger.codec import decode_partition, encode_partition
from levada.terms import (
    Approval,
    Break,
    BreakState,
    ConsistencyRule,
    Guarded,
    GuardState,
    Judged,
    Partition,
    Report,
    RuleResult,
    Severity,
    Verdict,
)

__all__ = ["Findings", "Reported", "break_id"]

_BREAKS = (
    "select id, rule, part, key, figures, owner, state, first_seen, last_seen, times, resolution,"
    " resolved_by, ended from ledger.breaks"
)


@dataclass(frozen=True, slots=True)
class Reported:
    """A report as the ledger keeps it."""

    batch: str
    partition: Partition
    digest: str
    settled: bool
    verdict: Verdict
    severity: str
    passed: int
    failed: int
    unknown: int
    cases: int
    summary: str
    seconds: float
    at: datetime
    results: tuple[Mapping[str, Any], ...]


def break_id(rule: str, partition: Partition, key: str) -> str:
    """
    The name of a break: the same offending key of one rule in one interval is one break.

    >>> from levada.terms import WHOLE
    >>> break_id("daily.once", WHOLE, '{"flight":"1"}')
    '6e75279f4cc7'
    """
    said = json.dumps([rule, encode_partition(partition), key])
    return hashlib.sha256(said.encode()).hexdigest()[:12]


class Findings(Asking):
    """Reports and breaks through the role of `url`; threads may share it."""

    def settled(self, batch: str) -> frozenset[tuple[Partition, str]]:
        """The intervals of a batch, each with the digest, that were reported once and for all."""
        rows = self._rows(
            "select part, digest from ledger.reports where batch = %s and settled", batch
        )
        return frozenset((decode_partition(part), digest) for part, digest in rows)

    def compared(self, batch: str) -> Mapping[Partition, frozenset[tuple[str, str, int]]]:
        """The generations from which each interval of a batch was last reported."""
        rows = self._rows(
            "select part, inputs from ledger.reports where batch = %s and newest", batch
        )
        return {
            decode_partition(part): frozenset((t, p, g) for t, p, g in inputs)
            for part, inputs in rows
        }

    def report(self, report: Report, *, settled: bool) -> bool:
        """Write a report with its breaks, in one line (publisher); whether it is new."""
        failed = {r.rule.severity.value for r in report.results if r.verdict is Verdict.FAIL}
        blocking = Severity.BLOCKING.value
        said = {
            "batch": report.batch,
            "part": encode_partition(report.partition),
            "key": report.partition.key,
            "digest": report.digest,
            "settled": settled,
            "verdict": report.verdict.value,
            "severity": blocking if blocking in failed else min(failed, default=""),
            "passed": report.count(Verdict.PASS),
            "failed": report.count(Verdict.FAIL),
            "unknown": report.count(Verdict.UNKNOWN),
            "cases": report.cases,
            "summary": report.summary,
            "seconds": round(report.seconds, 3),
            "at": report.at.isoformat(),
            "inputs": [[str(t), encode_partition(p), g] for t, p, g in report.inputs],
            "results": [_result(each, report.partition) for each in report.results],
        }
        return bool(self._rows("select ledger.report(%s)", Jsonb(said))[0][0])

    def reports(
        self, batch: str | None = None, since: datetime | None = None, until: datetime | None = None
    ) -> tuple[Reported, ...]:
        """The newest report of each interval that starts in [since, until), oldest first."""
        rows = self._rows(
            "select batch, part, digest, settled, verdict, severity, passed, failed, unknown,"
            " cases, summary, seconds, at, results from ledger.reports where newest"
            " and (%s::text is null or batch = %s)"
            " and (start is null or (%s::timestamptz is null or start >= %s)"
            "      and (%s::timestamptz is null or start < %s)) order by batch, start, pos",
            *(batch, batch, since, since, until, until),
        )
        return tuple(_reported(row) for row in rows)

    def told(self, batch: str) -> tuple[Judged, ...]:
        """What every report of a batch said of each of its rules, oldest first."""
        rows = self._rows(
            "select x ->> 'rule', x ->> 'hash', r.part, x ->> 'verdict', (x ->> 'cases')::bigint,"
            " (x ->> 'compared')::bigint, r.at from ledger.reports r,"
            " jsonb_array_elements(r.results) x where r.batch = %s order by r.pos",
            batch,
        )
        return tuple(
            Judged(rule, hash_, decode_partition(part), Verdict(verdict), cases, compared, at)
            for rule, hash_, part, verdict, cases, compared, at in rows
        )

    def guarded(self) -> tuple[Guarded, ...]:
        """What the over-detection guard did with which definition of a rule, oldest first."""
        rows = self._rows(
            "select rule, hash, state, because, owner, since, until, reviewer, reason"
            " from ledger.rule_guards order by since, rule"
        )
        return tuple(
            Guarded(rule, hash_, GuardState(state), because, owner, since, until, reviewer, reason)
            for rule, hash_, state, because, owner, since, until, reviewer, reason in rows
        )

    def review(self, rule: ConsistencyRule, reason: str, approval: Approval) -> bool:
        """
        Let a definition that was suspended or held be (governance); whether that is new. Raises
        NotPublishable where its reviewer owns or wrote it, TerminalError where there is nothing
        to review.
        """
        said = {
            "owner": rule.owner,
            "reviewer": approval.reviewer,
            "authors": list(approval.authors),
            "commit": approval.commit,
            "via": approval.via,
        }
        rows = self._rows(
            "select ledger.review_rule(%s, %s, %s, %s)", rule.name, rule.hash, reason, Jsonb(said)
        )
        return bool(rows[0][0])

    def breaks(self, *, states: Sequence[BreakState] = (), like: str = "") -> tuple[Break, ...]:
        """Breaks in these states (none named: all) whose id begins so, oldest first."""
        rows = self._rows(
            f"{_BREAKS} where (%s::text[] = '{{}}' or state = any (%s)) and starts_with(id, %s)"
            " order by first_seen, rule, start, key",
            *([s.value for s in states], [s.value for s in states], like),
        )
        return tuple(_break(row) for row in rows)

    def assign(self, break_: str, owner: str) -> bool:
        """Give a break to somebody (governance); whether that changed anything."""
        return bool(self._rows("select ledger.assign_break(%s, %s)", break_, owner)[0][0])

    def resolve(self, break_: str, resolution: str, who: str) -> bool:
        """Say what a break was (governance); whether it was open."""
        said = self._rows("select ledger.resolve_break(%s, %s, %s)", break_, resolution, who)
        return bool(said[0][0])


def _result(found: RuleResult, partition: Partition) -> dict[str, Any]:
    rule = found.rule
    return {
        "rule": rule.id,
        "hash": rule.hash,
        "kind": rule.kind.value,
        "severity": rule.severity.value,
        "owner": rule.owner,
        "verdict": found.verdict.value,
        "because": found.because,
        "cases": found.cases,
        "compared": found.compared,
        "complete": found.complete,
        "told": dict(found.told),
        "guard": _mark(found.guarded),
        "offences": [
            {"id": break_id(rule.name, partition, o.key), "key": o.key, "figures": o.figures}
            for o in found.offences
        ],
    }


def _mark(mark: Guarded | None) -> dict[str, str] | None:
    if mark is None:
        return None
    return {
        "state": mark.state.value,
        "because": mark.because,
        "owner": mark.owner,
        "since": mark.since.isoformat(),
        "until": mark.until.isoformat(),
    }


def _break(row: tuple[Any, ...]) -> Break:
    name, rule, part, key, figures, owner, state, first, last, times, *end = row
    resolution, resolved_by, ended = end
    return Break(
        id=name,
        rule=rule,
        partition=decode_partition(part),
        key=key,
        figures=figures,
        owner=owner,
        state=BreakState(state),
        first_seen=first.astimezone(UTC),
        last_seen=last.astimezone(UTC),
        times=times,
        resolution=resolution,
        resolved_by=resolved_by,
        ended=ended.astimezone(UTC) if ended else None,
    )


def _reported(row: tuple[Any, ...]) -> Reported:
    batch, part, digest, settled, verdict, severity, passed, failed, unknown, *end = row
    cases, summary, seconds, at, results = end
    return Reported(
        batch=batch,
        partition=decode_partition(part),
        digest=digest,
        settled=settled,
        verdict=Verdict(verdict),
        severity=severity,
        passed=passed,
        failed=failed,
        unknown=unknown,
        cases=cases,
        summary=summary,
        seconds=seconds,
        at=at.astimezone(UTC),
        results=tuple(results),
    )
