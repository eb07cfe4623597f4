"""
Since when a root cause keeps a partition from being ready.

The instant at which its state became what it is, of that state's own kind of fact:

- HELD: somebody changed the table by hand; its sunset; the end of the waiver that had let it
  through; the first change that an edge holds back;
- STALE: the first input that changed; nothing where today's contract is another, since no fact
  says when that was declared;
- FAILED, or could not be judged: the first of the attempts in a row, whatever was tried later;
- being built: its run's claim;
- not built yet: when the last of its inputs had come, and its interval and deadlines were over;
- too old for its reader: when it became so;
- not landed: the end of its slice, or since when its source gives no answer;
- IMPOSSIBLE: nothing. It follows from declarations, which have no date, and waiting is no help.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from levada.calendars import opening
from levada.intervals import due, end, inside
from levada.readiness.judge import Judge
from levada.readiness.reading import Slice
from levada.readiness.waived import standing
from levada.terms import (
    Attempt,
    Latest,
    Partition,
    Product,
    Publication,
    Readiness,
    State,
    TableRef,
    Verdict,
    Waived,
)

__all__ = ["since"]


def since(judge: Judge, found: Readiness, path: tuple[Slice, ...]) -> datetime | None:
    """Since when the last slice of a path is as it was found; None where nobody can say."""
    table, at = path[-1]
    match found.state:
        case State.HELD:
            return _held(judge, path)
        case State.STALE:
            return _changed(judge, table, at)
        case State.WAITING if judge.table(table, at).state is State.READY:
            return _aged(judge, path)
        case State.WAITING if table.is_source:
            return _lacking(judge, table, at)
        case State.WAITING | State.FAILED:
            return _unbuilt(judge, judge.mesh.product(table), at)
    return None


def _unbuilt(judge: Judge, product: Product, at: Partition) -> datetime | None:
    """Since when nobody has built a slice, or succeeded in it."""
    attempt, claim = judge.attempt(product, at), judge.facts.claims.get((product.id, at))
    if claim and (attempt is None or attempt.verdict is not Verdict.FAIL):
        return claim.since
    return _first(attempt) if attempt else _startable(judge, product, at)


def _first(attempt: Attempt) -> datetime | None:
    """The first of the attempts in a row that this one ends, if anybody asked which that was."""
    return attempt.at if attempt.tries <= 1 else attempt.since


def _lacking(judge: Judge, source: TableRef, at: Partition) -> datetime | None:
    """Since when a source gives no answer, or else since when a file of it might have landed."""
    if failure := judge.facts.probes.get(source):
        return failure.since
    return end(at) if at.start is not None and end(at) <= judge.now else None


def _aged(judge: Judge, path: tuple[Slice, ...]) -> datetime | None:
    """When what is published became too old for whoever reads it."""
    line = judge.facts.line(*path[-1])
    if line is None or len(path) < 2:
        return None
    reads = judge.mesh.product(path[-2][0]).dependencies
    limits = [
        edge.mapping.within
        for edge in reads
        if edge.upstream == line.table and isinstance(edge.mapping, Latest) and edge.mapping.within
    ]
    return line.at + min(limits) if limits else None


def _changed(
    judge: Judge, table: TableRef, at: Partition, *, held: bool = False
) -> datetime | None:
    """When the first input of a line changed, of all or of those that an edge holds back."""
    line = judge.facts.line(table, at)
    if not isinstance(line, Publication):
        return None
    changes = judge.changes(judge.mesh.product(table), at, line)
    moved = (c.line.at for c in changes if c.line and (c.action == "hold" or not held))
    return min(moved, default=None)


def _held(judge: Judge, path: tuple[Slice, ...]) -> datetime | None:
    table, at = path[-1]
    if tampering := judge.facts.tampered.get(table):
        return tampering.at
    contract = judge.mesh.mart(table).contract
    if contract.sunset:
        sunset = opening(contract.sunset, contract.zone)
        if sunset <= judge.now:
            return sunset
    if held := _changed(judge, table, at, held=True):
        return held
    line = judge.facts.line(table, at)
    if not isinstance(line, Publication):
        return None
    readers = {judge.mesh.product(reader).id for reader, _ in path[:-1]}
    ends = (_unwaived(judge, mark, line, readers) for mark in standing(judge.facts, line))
    return min((instant for instant in ends if instant), default=None)


def _unwaived(
    judge: Judge, mark: Waived, line: Publication, readers: Iterable[str]
) -> datetime | None:
    """When the last waiver of a check for these readers ended; at once, if there was none."""
    ends = [
        w.until
        for w in judge.facts.waivers
        if (w.table, w.check) == (mark.table, mark.check)
        and inside(mark.partition, w.window)
        and (not w.consumers or set(w.consumers) & set(readers))
    ]
    last = max(ends, default=line.at)
    return last if last <= judge.now else None


def _startable(judge: Judge, product: Product, at: Partition) -> datetime | None:
    """When all was there that a build needs: its inputs, the end of its interval, deadlines."""
    if judge.inputs(product, at).state is not State.READY:
        return None
    pins = judge.pins(product, at)
    read = (judge.facts.line(pin.table, pin.partition) for pin in pins if pin.content)
    instants = [line.at for line in read if line]
    if at.start is not None:
        instants.append(end(at))
        if any(pin.content is None for pin in pins):
            deadlines = (edge.wait.deadline for edge in product.dependencies)
            instants += [due(deadline, at) for deadline in deadlines if deadline]
    latest = max(instants, default=None)
    return latest if latest and latest <= judge.now else None
