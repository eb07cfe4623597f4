"""Root causes: from a partition that is not ready to the first thing that keeps it waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from levada.readiness.causes import failing
from levada.readiness.edges import Wait
from levada.readiness.judge import Judge
from levada.readiness.marks import holding
from levada.readiness.reading import Slice
from levada.readiness.since import since
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
    """Since when it is so (`levada.readiness.since`); None where nobody can say."""
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


def inherited(judge: Judge, table: TableRef, partition: Partition) -> tuple[tuple[Slice, str], ...]:
    """
    The marks of everything that a partition was made from, the nearest first: what it went without
    and which advisory checks warned. They are walked to, never copied, so that they change without
    a rebuild. The judge's facts are those of `ancestors`.
    """
    start = (table, partition)
    seen: set[Slice] = {start}
    ahead: deque[Slice] = deque([start])
    found: list[tuple[Slice, str]] = []
    while ahead:
        here = ahead.popleft()
        line = judge.facts.line(*here)
        if not isinstance(line, Publication):
            continue
        if here != start:
            found += [(here, mark) for mark in (*holding(line, judge.mended), *line.warnings)]
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
    began = since(judge, found, path)
    if table.is_source or found.state is State.IMPOSSIBLE:
        return Hop(table, at, found, owner, began, (), path)
    product = judge.mesh.product(table)
    attempt = judge.attempt(product, at)
    results = [
        r
        for r in (attempt.results if attempt else ())
        if r.table == table and r.verdict is not Verdict.PASS
    ]
    results.sort(key=lambda r: r.check.severity is not Severity.BLOCKING)
    unbuilt = judge.facts.line(table, at) is None and found.state is State.WAITING
    if unbuilt and attempt is None and (product.id, at) not in judge.facts.claims:
        found = replace(found, because=_unbuilt(judge, product, at))
    return Hop(table, at, found, owner, began, tuple(results), path)


def _unbuilt(judge: Judge, product: Product, at: Partition) -> str:
    """Why nobody has built what no single slice keeps from being built."""
    inputs = judge.inputs(product, at)
    if inputs.state is State.READY:
        return "not built yet, though its inputs are ready"
    return f"not built yet: {inputs.because}"
