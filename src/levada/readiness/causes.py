"""Why something is not ready any more: an input that changed, a check that failed."""

from __future__ import annotations

from dataclasses import dataclass

from levada.readiness.edges import named
from levada.terms import (
    Attempt,
    CheckResult,
    Landing,
    Partition,
    Publication,
    Severity,
    TableRef,
    Verdict,
)

__all__ = ["Change", "Line", "failing", "failure"]

Line = Publication | Landing


@dataclass(frozen=True, slots=True)
class Change:
    """An input that is no longer what a published line recorded."""

    table: TableRef
    partition: Partition
    line: Line | None
    action: str
    """What the edge does about it: rerun or hold."""
    arrived: bool
    """Whether it was absent when the line was made."""

    def __str__(self) -> str:
        how = "arrived after" if self.arrived else "changed since"
        return f"{named(self.table, self.partition)} {how} it was read"


def failing(attempt: Attempt | None) -> tuple[CheckResult, ...]:
    """The results that made an audit fail."""
    return tuple(
        r
        for r in (attempt.results if attempt else ())
        if r.verdict is Verdict.FAIL and r.check.severity is Severity.BLOCKING
    )


def failure(attempt: Attempt, table: TableRef) -> str:
    """Which checks failed; for a table that passed, those of the siblings it is withheld with."""
    bad = failing(attempt)
    own = [r for r in bad if r.table == table]
    names = [str(r) for r in own or bad]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    failed = f"audit failed: {', '.join(names[:3]) or attempt.because}{more}"
    if own or not bad:
        return failed
    siblings = ", ".join(sorted({str(r.table) for r in bad}))
    return f"withheld with {siblings} of the same product: {failed}"
