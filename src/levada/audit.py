"""
Audit: what the checks of a contract find in staged data, and the verdict over a whole product.

An `Auditor` runs checks and says what it found; everything here is pure. Verdicts follow Kleene's
strong logic: what could not be told is UNKNOWN, and UNKNOWN never becomes PASS.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from levada.intervals import bounds
from levada.ports import Stage
from levada.readiness import covering
from levada.terms import (
    BUILT_IN,
    AuditReport,
    Check,
    CheckResult,
    ConsistencyRule,
    Contract,
    Partition,
    Product,
    RuleResult,
    Statement,
    TableRef,
    Verdict,
    Waiver,
)

__all__ = [
    "BUILT_IN",
    "FORMATS",
    "METRICS",
    "OPERATORS",
    "Auditor",
    "Comparison",
    "argument",
    "both",
    "conjunction",
    "decomposes",
    "either",
    "negation",
    "owed",
    "promised",
    "reads",
    "reports",
    "unknown",
    "waive",
]

METRICS: Mapping[str, str] = {
    "columnSet": "columns that are promised and absent, or present and not promised",
    "columnType": "columns whose type is not the promised one",
    "duplicateValues": "rows that repeat a value already there; NULL repeats nothing",
    "freshness": "hours from the newest row to the end of the interval, or to now",
    "foreignKey": "rows whose value is not in the other table",
    "interval": "rows outside the partitions that were built, or without a time",
    "invalidValues": "values that break a list, a pattern, a bound or a length",
    "latency": "hours from the end of the interval to the audit of its first publication",
    "missingValues": "values that count as missing",
    "nullValues": "NULLs",
    "primaryKey": "rows whose key is NULL or already there",
    "rowCount": "rows",
    "sql": "the one number that the query returns",
}
"""What a check may count in one partition, by the word that `Check.metric` holds."""

OPERATORS: Mapping[str, str] = {
    "mustBe": "{value} = {0}",
    "mustNotBe": "{value} <> {0}",
    "mustBeGreaterThan": "{value} > {0}",
    "mustBeGreaterOrEqualTo": "{value} >= {0}",
    "mustBeLessThan": "{value} < {0}",
    "mustBeLessOrEqualTo": "{value} <= {0}",
    "mustBeBetween": "{value} between {0} and {1}",
    "mustNotBeBetween": "{value} not between {0} and {1}",
}
"""What must hold of the counted value, as SQL. Both ends of `between` belong to it."""

_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
FORMATS: Mapping[str, str] = {
    "email": r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
    "hostname": r"^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*"
    r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$",
    "ipv4": r"^((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)$",
    "uri": r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$",
    "uuid": r"^[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}$",
    **{f"i{8 * 2**n}": name for n, name in enumerate(_WHOLE)},
    **{f"u{8 * 2**n}": f"U{name}" for n, name in enumerate(_WHOLE)},
}
"""What a format means: a regular expression for text, or the type that holds a whole number."""

_ROW_LEVEL = frozenset(
    {
        "duplicateValues",
        "foreignKey",
        "interval",
        "invalidValues",
        "missingValues",
        "nullValues",
        "primaryKey",
    }
)
_NONE_ALLOWED = {("mustBe", 0.0), ("mustBeLessOrEqualTo", 0.0), ("mustBeLessThan", 1.0)}


class Auditor(Protocol):
    """Runs a contract's checks over a sealed stage."""

    def audit(
        self, stage: Stage, contract: Contract, partitions: Sequence[Partition]
    ) -> Mapping[Partition, tuple[CheckResult, ...]]:
        """One result for every check and partition. What cannot be told is UNKNOWN."""

    def compare(self, stage: Stage, asked: Sequence[Comparison]) -> Sequence[RuleResult]:
        """One result for every comparison, in order. What cannot be told is UNKNOWN."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A rule between tables for one interval: its SQL, over views of a stage."""

    rule: ConsistencyRule
    views: Mapping[str, str]
    """Name and query of each relation that the SQL reads."""
    statement: Statement


def argument(check: Check, name: str) -> object:
    """
    An argument of a check's metric, or None.

    >>> argument(Check("a", "invalidValues", "x", arguments=(("minimum", 0),)), "minimum")
    0
    """
    return dict(check.arguments).get(name)


def reads(check: Check) -> tuple[TableRef, ...]:
    """
    The tables beside its own that a check reads; a product that has it must depend on them.

    >>> reads(Check("a", "foreignKey", arguments=(("reads", ("fleet.planes@1",)),)))
    (TableRef(domain='fleet', name='planes', major=1),)
    """
    named = argument(check, "reads")
    names = named if isinstance(named, tuple | list) else ()
    return tuple(TableRef.parse(str(name)) for name in names)


def owed(partitions: Iterable[Partition], since: datetime | None) -> tuple[Partition, ...]:
    """
    The partitions that could be late: those that ended after their latency was promised.

    What had ended before is history: a replay or a backfill of it is not late, however old it is.

    >>> from levada.intervals import within
    >>> from levada.terms import Grain, Span
    >>> days = within(Grain.DAY, "UTC", Span.days("2013-03-01", "2013-03-03", "UTC"))
    >>> [str(day) for day in owed(days, bounds(days[1])[0])]
    ['2013-03-02', '2013-03-03']
    """
    if since is None:
        return ()
    return tuple(p for p in partitions if p.start is not None and bounds(p)[1] > since)


def promised(contract: Contract, late: Collection[Partition]) -> Contract:
    """The contract with a latency that is judged in these partitions alone, and else is kept."""
    keys = tuple(sorted(partition.key for partition in late))
    checks = tuple(
        replace(check, arguments=(("partitions", keys),)) if check.metric == "latency" else check
        for check in contract.checks
    )
    return contract if checks == contract.checks else replace(contract, checks=checks)


def decomposes(check: Check) -> bool:
    """
    Whether PASS on the union of partitions implies PASS on each of them.

    So it is for the shape of the table, and for a check that allows no offending row: a part of
    nothing is nothing. A row count, a percentage or a query is judged for each partition.

    >>> decomposes(Check("a", "nullValues", "x")), decomposes(Check("a", "rowCount"))
    (True, False)
    """
    if check.metric in ("columnSet", "columnType"):
        return True
    none_allowed = (check.operator, *check.threshold) in _NONE_ALLOWED
    return check.metric in _ROW_LEVEL and check.unit == "rows" and none_allowed


def negation(a: Verdict) -> Verdict:
    """
    Kleene's not.

    >>> negation(Verdict.UNKNOWN)
    <Verdict.UNKNOWN: 'UNKNOWN'>
    """
    return {Verdict.PASS: Verdict.FAIL, Verdict.FAIL: Verdict.PASS}.get(_told(a), a)


def both(a: Verdict, b: Verdict) -> Verdict:
    """
    Kleene's strong and: FAIL settles it, then UNKNOWN.

    >>> both(Verdict.FAIL, Verdict.UNKNOWN), both(Verdict.PASS, Verdict.UNKNOWN)
    (<Verdict.FAIL: 'FAIL'>, <Verdict.UNKNOWN: 'UNKNOWN'>)
    """
    for verdict in (Verdict.FAIL, Verdict.UNKNOWN):
        if verdict in (_told(a), _told(b)):
            return verdict
    return Verdict.PASS


def either(a: Verdict, b: Verdict) -> Verdict:
    """
    Kleene's strong or: PASS settles it, then UNKNOWN.

    >>> either(Verdict.PASS, Verdict.UNKNOWN), either(Verdict.FAIL, Verdict.UNKNOWN)
    (<Verdict.PASS: 'PASS'>, <Verdict.UNKNOWN: 'UNKNOWN'>)
    """
    return negation(both(negation(a), negation(b)))


def conjunction(verdicts: Iterable[Verdict]) -> Verdict:
    """
    All of them. Of none it is UNKNOWN, not PASS: nothing was told.

    >>> conjunction([Verdict.PASS, Verdict.PASS]), conjunction([])
    (<Verdict.PASS: 'PASS'>, <Verdict.UNKNOWN: 'UNKNOWN'>)
    """
    found = list(verdicts)
    if not found:
        return Verdict.UNKNOWN
    result = Verdict.PASS
    for verdict in found:
        result = both(result, verdict)
    return result


def _told(verdict: Verdict) -> Verdict:
    if verdict is Verdict.WARN:
        raise ValueError("WARN is the verdict of a report; a check is PASS, FAIL or UNKNOWN")
    return verdict


def unknown(contract: Contract, because: str) -> tuple[CheckResult, ...]:
    """Every check of a contract, UNKNOWN for one reason."""
    checks = contract.checks or (Check("contract", "columnSet", origin=BUILT_IN),)
    return tuple(
        CheckResult(check, contract.table, Verdict.UNKNOWN, because=because) for check in checks
    )


def reports(
    product: Product,
    partitions: Sequence[Partition],
    results: Iterable[tuple[TableRef, Mapping[Partition, Sequence[CheckResult]]]],
    contents: Mapping[TableRef, Mapping[Partition, str]] | None = None,
) -> Mapping[Partition, AuditReport]:
    """
    One report for each partition, over all tables of the product.

    A promised check without a result never ran, and so is UNKNOWN; a result that no contract of
    the product promises is left out.
    """
    by_table = dict(results)
    return {
        partition: AuditReport(
            product.id,
            partition,
            tuple(
                result
                for contract in product.contracts
                for result in _complete(
                    contract, by_table.get(contract.table, {}).get(partition, ())
                )
            ),
            tuple(
                (table, content[partition])
                for table, content in (contents or {}).items()
                if partition in content
            ),
        )
        for partition in partitions
    }


def _complete(contract: Contract, found: Sequence[CheckResult]) -> tuple[CheckResult, ...]:
    by_id = {result.check.id: result for result in found if result.table == contract.table}
    return tuple(
        by_id.get(missing.check.id, missing)
        for missing in unknown(contract, "the check did not run")
    )


def waive(
    report: AuditReport, waivers: Iterable[Waiver], now: datetime
) -> tuple[AuditReport, tuple[Waiver, ...]]:
    """
    The report without the failing checks under a live waiver, and the waivers that were needed.

    A check that passes needs no waiver, and taints nothing. Checks that the platform itself needs
    cannot be waived.
    """
    granted, kept, used = tuple(waivers), [], []
    for result in report.results:
        waiver = covering(granted, result.table, result.check.id, report.partition, now)
        if waiver is None or result.check.origin == BUILT_IN or result.verdict is Verdict.PASS:
            kept.append(result)
        else:
            used.append(waiver)
    left = AuditReport(report.product, report.partition, tuple(kept), report.contents)
    return left, tuple(used)
