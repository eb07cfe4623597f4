"""Root causes: from a partition that is not ready to the first thing that keeps it waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from levada.intervals import end
from levada.readiness.causes import failing
from levada.readiness.edges import Wait
from levada.readiness.judge import Judge
from levada.readiness.marks import holding
from levada.readiness.reading import Slice
from levada.readiness.waived import standing
from levada.terms import (
    CheckResult,
    Facts,
    Mesh,
    Owner,
    Partition,
    Product,
    Publication,
    Readiness,
    Severity,
    State,
    TableRef,
    Verdict,
)

__all__ = ["Hop", "ancestors", "inherited", "suspects", "trace"]


@dataclass(frozen=True, slots=True)
class Hop:
    """A root cause: why the table at the start of its `path` is not ready."""

    table: TableRef
    partition: Partition
    readiness: Readiness
    owner: Owner
    since: datetime | None
    """Of what has not landed, the end of its slice; None where nobody can say."""
    results: tuple[CheckResult, ...]
    """What did not pass in this table, blocking checks first."""
    path: tuple[Slice, ...]
    """From the table that was asked about to this one, both included."""


def ancestors(mesh: Mesh, table: TableRef) -> set[TableRef]:
    """The table, its siblings and all they are made from: what `trace` needs the facts of."""
    found: set[TableRef] = set()
    ahead = [table]
    while ahead:
        table = ahead.pop()
        if table in found:
            continue
        found.add(table)
        if not table.is_source:
            product = mesh.product(table)
            ahead += [m.table for m in product.marts]
            ahead += [d.upstream for d in product.dependencies]
    return found


def trace(
    mesh: Mesh, table: TableRef, partition: Partition, facts: Facts, now: datetime
) -> tuple[Hop, ...]:
    """
    Every root cause of a partition that is not ready, each by its shortest path, nearest first.
    The facts are those of `ancestors`; a ready partition has no cause.
    """
    judge = Judge(mesh, facts, now)
    first = judge.table(table, partition)
    if first.state is State.READY:
        return ()
    start = (table, partition)
    seen: set[Slice] = {start}
    paths: deque[tuple[Readiness, tuple[Slice, ...]]] = deque([(first, (start,))])
    hops: list[Hop] = []
    while paths:
        found, path = paths.popleft()
        blamed = _blamed(judge, *path[-1], found)
        if not blamed:
            hops.append(_hop(judge, found, path))
        for further, at, why in blamed:
            if (further, at) not in seen:
                seen.add((further, at))
                paths.append((why, (*path, (further, at))))
    return tuple(hops)


def suspects(
    mesh: Mesh, table: TableRef, partition: Partition, facts: Facts, now: datetime
) -> tuple[Hop, ...]:
    """
    What a ready partition was made from that is no longer ready itself, the nearest first. It is
    not stale: that is decided when these are really republished.
    """
    judge = Judge(mesh, facts, now)
    start = (table, partition)
    seen: set[Slice] = {start}
    paths: deque[tuple[Slice, ...]] = deque([(start,)])
    hops: list[Hop] = []
    while paths:
        path = paths.popleft()
        found = judge.table(*path[-1])
        if found.state is not State.READY:
            if len(path) > 1:
                hops.append(_hop(judge, found, path))
            continue
        for further in _made_from(judge, *path[-1]):
            if further not in seen:
                seen.add(further)
                paths.append((*path, further))
    return tuple(hops)


def inherited(table: TableRef, partition: Partition, facts: Facts) -> tuple[tuple[Slice, str], ...]:
    """
    The marks of everything that a partition was made from, the nearest first: what it went without
    and which advisory checks warned. They are walked to, never copied, so that they change without
    a rebuild. The facts are those of `ancestors`.
    """
    start = (table, partition)
    seen: set[Slice] = {start}
    ahead: deque[Slice] = deque([start])
    found: list[tuple[Slice, str]] = []
    while ahead:
        here = ahead.popleft()
        line = facts.line(*here)
        if not isinstance(line, Publication):
            continue
        if here != start:
            found += [(here, mark) for mark in (*holding(facts, line), *line.warnings)]
        for read in line.inputs:
            key = (read.table, read.partition)
            if read.content is not None and key not in seen:
                seen.add(key)
                ahead.append(key)
    return tuple(found)


def _made_from(judge: Judge, table: TableRef, at: Partition) -> Iterator[Slice]:
    """The inputs that a line recorded, without those whose changes it ignores."""
    line = judge.facts.line(table, at)
    if isinstance(line, Publication):
        edges = judge.mesh.product(table).dependencies
        minded = {d.upstream for d in edges if d.on_restatement.action != "ignore"}
        for read in line.inputs:
            if read.content is not None and read.table in minded:
                yield read.table, read.partition


def _blamed(judge: Judge, table: TableRef, at: Partition, found: Readiness) -> tuple[Wait, ...]:
    """What keeps a partition from being ready; nothing where it is itself the cause."""
    if table.is_source or found.state is State.HELD:
        return () if table.is_source else _let_through(judge, table, at)
    if judge.table(table, at).state is State.READY:  # ready, yet too old for its reader
        return ()
    product = judge.mesh.product(table)
    if found.state is State.FAILED:
        bad = {r.table for r in failing(judge.attempt(product, at))}
        passing = bad and table not in bad
        return tuple((t, at, judge.table(t, at)) for t in sorted(bad)) if passing else ()
    if (product.id, at) in judge.facts.claims:
        return ()
    waits = judge.unmet(product, at)
    if judge.inputs(product, at).state is State.IMPOSSIBLE:
        return tuple(w for w in waits if w[2].state is State.IMPOSSIBLE)
    return waits


def _let_through(judge: Judge, table: TableRef, at: Partition) -> tuple[Wait, ...]:
    """Where the waived checks lie that hold a partition, if it is they and they lie elsewhere."""
    line = judge.facts.line(table, at)
    if isinstance(line, Publication):
        marks = standing(judge.facts, line)
        roots = {(m.table, m.partition) for m in marks} - {(table, at)}
        held = ((*root, judge.table(*root)) for root in sorted(roots))
        return tuple(wait for wait in held if wait[2].state is State.HELD)
    product = judge.mesh.product(table)
    if judge.inputs(product, at).state is not State.HELD:
        return ()
    return tuple(wait for wait in judge.unmet(product, at) if wait[2].state is State.HELD)


def _hop(judge: Judge, found: Readiness, path: tuple[Slice, ...]) -> Hop:
    table, at = path[-1]
    owner = judge.mesh.owner(table)
    if table.is_source or found.state is State.IMPOSSIBLE:
        lacking = _lacking_since(judge, table, at) if found.state is State.WAITING else None
        return Hop(table, at, found, owner, lacking, (), path)
    product = judge.mesh.product(table)
    attempt = judge.attempt(product, at)
    results = [
        r
        for r in (attempt.results if attempt else ())
        if r.table == table and r.verdict is not Verdict.PASS
    ]
    results.sort(key=lambda r: r.check.severity is not Severity.BLOCKING)
    line = judge.facts.line(table, at)
    since: datetime | None = None
    if attempt:
        since = attempt.at
    elif isinstance(line, Publication):
        moved = [c.line.at for c in judge.changes(product, at, line) if c.line]
        since = min(moved, default=line.at)
    elif (product.id, at) not in judge.facts.claims:
        since = _ready_since(judge, product, at)
        found = replace(found, because="not built yet, though its inputs are ready")
    return Hop(table, at, found, owner, since, tuple(results), path)


def _lacking_since(judge: Judge, table: TableRef, at: Partition) -> datetime | None:
    """Since when a source gives no answer, or else since when a file of it might have landed."""
    if failure := judge.facts.probes.get(table):
        return failure.since
    over = at.start is not None and judge.facts.line(table, at) is None
    return end(at) if over and end(at) <= judge.now else None


def _ready_since(judge: Judge, product: Product, at: Partition) -> datetime | None:
    """When the last of a product's inputs came."""
    read = (judge.facts.line(i.table, i.partition) for i in judge.pins(product, at) if i.content)
    return max((line.at for line in read if line), default=None)
