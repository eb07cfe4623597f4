"""What a publication went without, in words: its taint, and how much of that still holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from levada.readiness.edges import Found, named
from levada.terms import Dependency, Input, Partition, Publication, TableRef

__all__ = ["holding", "marks", "without"]

_MOST_MARKS = 3


def marks(edge: Dependency, found: Found, replaced: dict[Partition, Partition]) -> tuple[str, ...]:
    """What an edge is read without, or as of; many slices in one sentence."""
    table = edge.upstream
    lent = [(p, why.unknown) for _, p, why in found.waits if replaced.get(p) == p]
    found = replace(found, waits=tuple(w for w in found.waits if replaced.get(w[1]) != w[1]))
    return (*_lacking(table, found, replaced), *_last_good(table, lent))


def _lacking(table: TableRef, found: Found, replaced: Mapping[Partition, Partition]) -> list[str]:
    """What is not read, and what is read in its place."""
    if len(found.waits) > _MOST_MARKS:
        unknown = sum(why.unknown for _, _, why in found.waits)
        lacking = f"{len(found.waits)} of {found.total} absent"
        lacking += f" ({unknown} unknown)" if unknown else ""
        others = sum(p in replaced for _, p, _ in found.waits)
        instead = f", {others} replaced" if others else ""
        return [f"degraded: {table} {lacking}, the first {found.waits[0][1]}{instead}"]
    told: list[str] = []
    for _, p, why in found.waits:
        if good := replaced.get(p):
            told.append(f"degraded: {named(table, p)} {_untold(why.unknown)}replaced by {good}")
        else:
            told += without(table, p, unknown=why.unknown)
    return told


def _last_good(table: TableRef, slices: Sequence[tuple[Partition, bool]]) -> tuple[str, ...]:
    """What is read though it is not ready, each with whether nobody could tell."""
    if len(slices) > _MOST_MARKS:
        unknown = sum(unknown for _, unknown in slices)
        return (_many_good(table, len(slices), unknown, slices[0][0]),)
    return tuple(_good(table, p, unknown=unknown) for p, unknown in slices)


def _mended(table: TableRef, lent: Sequence[tuple[Partition, bool]]) -> set[str]:
    """Marks of slices that are no longer what was read; the one of many goes with the last."""
    gone = {_good(table, p, unknown=u) for p, stands in lent if not stands for u in (True, False)}
    if not any(stands for _, stands in lent):
        gone |= {_many_good(table, len(lent), n, lent[0][0]) for n in range(len(lent) + 1)}
    return gone


def _good(table: TableRef, partition: Partition, *, unknown: bool) -> str:
    return f"degraded: {named(table, partition)} {_untold(unknown)}as of its last good publication"


def _many_good(table: TableRef, count: int, unknown: int, first: Partition) -> str:
    many = f"{count} ({unknown} unknown)" if unknown else f"{count}"
    return f"degraded: {table} {many} as of their last good publication, the first {first}"


def _untold(unknown: bool) -> str:
    return "unknown, " if unknown else ""


def without(table: TableRef, partition: Partition | None, *, unknown: bool) -> tuple[str]:
    """The mark of a slice that is not read at all."""
    return (f"degraded: {named(table, partition)} {'unknown' if unknown else 'absent'}",)


def holding(line: Publication, mended: Callable[[Input], bool]) -> tuple[str, ...]:
    """
    The marks of a line that hold now. What was read as its last good publication may be ready by
    now with the same content: then nothing is rebuilt, and the mark is gone all the same.
    """
    lent: dict[TableRef, list[tuple[Partition, bool]]] = {}
    for read in line.inputs:
        if read.content is not None and read.unready:
            lent.setdefault(read.table, []).append((read.partition, not mended(read)))
    gone = {mark for table, slices in lent.items() for mark in _mended(table, sorted(slices))}
    return tuple(mark for mark in line.taint if mark not in gone)
