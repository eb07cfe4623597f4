"""
What waivers let through.

A waiver is judged twice: when its table is published, and whenever a reader of what it let through
is about to start. What was let through stays published after the waiver has ended, and starts
nobody any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from levada.intervals import inside
from levada.terms import (
    BUILT_IN,
    Attempt,
    Facts,
    Partition,
    Publication,
    Readiness,
    Severity,
    State,
    TableRef,
    Waived,
    Waiver,
)

__all__ = ["Cover", "admission", "covering", "repairable", "standing", "tolerated"]


@dataclass(frozen=True, slots=True)
class Cover:
    """Whether a waived check is still covered for a reader: until when, or else why not."""

    until: datetime | None
    because: str = ""


def covering(
    waivers: Iterable[Waiver], table: TableRef, check: str, partition: Partition, now: datetime
) -> Waiver | None:
    """
    The live waiver of a check for a partition, the longest of several.

    Live is before it ends (wall time), for partitions that lie wholly in its window (data time; a
    WHOLE table has none, so that any window covers it).
    """
    found = (
        w
        for w in waivers
        if (w.table, w.check) == (table, check) and now < w.until and inside(partition, w.window)
    )
    return max(found, key=lambda w: w.until, default=None)


def admission(waivers: Iterable[Waiver], mark: Waived, reader: str, now: datetime) -> Cover:
    """Whether a product, or anybody else (""), may start on what was let through."""
    of_it = [
        w
        for w in waivers
        if (w.table, w.check) == (mark.table, mark.check) and inside(mark.partition, w.window)
    ]
    live = [w for w in of_it if now < w.until]
    if admits := [w.until for w in live if not w.consumers or reader in w.consumers]:
        return Cover(max(admits))
    if live:
        named = sorted({c for w in live for c in w.consumers})
        return Cover(None, f"waived for {', '.join(named)} only: {mark}")
    if not of_it:
        return Cover(None, f"no waiver covers {mark}")
    last = max(of_it, key=lambda w: w.until)
    how = "expired" if last.until == last.expires else "was revoked"
    return Cover(None, f"waiver {how} at {last.until:%Y-%m-%d %H:%M}Z: {mark}")


def standing(facts: Facts, line: Publication) -> tuple[Waived, ...]:
    """
    The waived checks that taint a line now. What it was made from may have been published anew
    without them, with the same content: then they taint nobody any more, and nothing is rebuilt.
    """
    return tuple(mark for mark in line.waived if _stands(facts, line, mark))


def _stands(facts: Facts, line: Publication, mark: Waived) -> bool:
    if (mark.table, mark.partition) == (line.table, line.partition):
        return True
    root = facts.line(mark.table, mark.partition)
    return not isinstance(root, Publication) or mark in root.waived


def tolerated(
    facts: Facts, found: Readiness, line: Publication, reader: str, now: datetime
) -> Readiness:
    """A ready line as a reader may count on it: HELD where a check is waived for him no more."""
    marks = standing(facts, line)
    if not marks:
        return found
    covers = [admission(facts.waivers, mark, reader, now) for mark in marks]
    if refused := [cover.because for cover in covers if cover.until is None]:
        more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
        return Readiness(State.HELD, f"{refused[0]}{more}", degraded=True)
    first = min(cover.until for cover in covers if cover.until)
    own = (line.table, line.partition)
    inherited = [str(m) for m in marks if (m.table, m.partition) != own]
    more = f"; made from waived: {', '.join(inherited)}" if inherited else ""
    wakes = min(first, found.next) if found.next else first
    return replace(found, because=found.because + more, next=wakes, degraded=True)


def repairable(waivers: Iterable[Waiver], attempt: Attempt, now: datetime) -> datetime | None:
    """Until when every check that failed an attempt is waived; None if one is not."""
    granted = tuple(waivers)
    bad = [r for r in attempt.results if r.check.severity is Severity.BLOCKING]
    covers = [
        covering(granted, r.table, r.check.id, attempt.partition, now)
        for r in bad
        if r.check.origin != BUILT_IN
    ]
    known = [waiver.until for waiver in covers if waiver is not None]
    return min(known) if known and len(known) == len(bad) else None
