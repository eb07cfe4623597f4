"""
Slices as numbers: a mapping moves whole runs of slices at once.

The slices of one calendar inside the mesh's span follow one another, so that a set of them is a few
runs `[a, b)` of their numbers, and each mapping is arithmetic or two searches by halves. What is
said here agrees with `intervals.readers` and `intervals.mapped`, slice by slice.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from levada.intervals import end, within
from levada.terms import (
    FanOut,
    Grain,
    Identity,
    Lag,
    Partition,
    PartitionMapping,
    Rollup,
    Span,
    Trailing,
)

__all__ = ["Axis", "Runs", "axis", "both", "makeable", "reached", "runs_of", "without"]

Runs = tuple[tuple[int, int], ...]
"""Half-open runs of numbers, in order, which neither touch nor overlap."""


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """All slices of one calendar inside the span, numbered."""

    partitions: tuple[Partition, ...]
    starts: tuple[datetime, ...]
    """Empty for an undivided table."""
    end: datetime | None

    def __len__(self) -> int:
        return len(self.partitions)

    @property
    def all(self) -> Runs:
        """Every slice."""
        return ((0, len(self.partitions)),) if self.partitions else ()

    def inside(self, span: Span) -> Runs:
        """The slices that lie wholly inside a span; an undivided table lies in every span."""
        if not self.starts or self.end is None:
            return self.all
        low = bisect_left(self.starts, span.start)
        return runs_of([(low, self.over(span.end))])

    def over(self, at: datetime) -> int:
        """How many slices have ended by then."""
        if not self.starts or self.end is None:
            return len(self.partitions)
        if self.end <= at:
            return len(self.partitions)
        # A slice ends where the next one starts.
        return max(0, bisect_right(self.starts, at) - 1)


@lru_cache(maxsize=256)
def axis(grain: Grain, zone: str, span: Span) -> Axis:
    """
    The numbered slices of a calendar.

    >>> days = axis(Grain.DAY, "UTC", Span.days("2013-01-01", "2013-01-10", "UTC"))
    >>> len(days), days.inside(Span.days("2013-01-03", "2013-01-04", "UTC"))
    (10, ((2, 4),))
    """
    partitions = within(grain, zone, span)
    if grain is Grain.WHOLE or not partitions:
        return Axis(partitions, (), None)
    return Axis(partitions, tuple(p.begin for p in partitions), end(partitions[-1]))


def runs_of(some: Iterable[tuple[int, int]]) -> Runs:
    """
    The same numbers as runs in order.

    >>> runs_of([(5, 7), (0, 2), (2, 3), (9, 9)])
    ((0, 3), (5, 7))
    """
    found: list[tuple[int, int]] = []
    for low, high in sorted(some):
        if low >= high:
            continue
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return tuple(found)


def both(one: Runs, other: Runs) -> Runs:
    """
    What is in both.

    >>> both(((0, 5), (8, 9)), ((3, 20),))
    ((3, 5), (8, 9))
    """
    found: list[tuple[int, int]] = []
    a, b = 0, 0
    while a < len(one) and b < len(other):
        low, high = max(one[a][0], other[b][0]), min(one[a][1], other[b][1])
        if low < high:
            found.append((low, high))
        if one[a][1] < other[b][1]:
            a += 1
        else:
            b += 1
    return tuple(found)


def without(one: Runs, other: Runs) -> Runs:
    """
    What is in the first alone.

    >>> without(((0, 5),), ((1, 2), (4, 9)))
    ((0, 1), (2, 4))
    """
    if not other:
        return one
    gaps = zip((0, *(high for _, high in other)), (*(low for low, _ in other), None), strict=True)
    most = one[-1][1] if one else 0
    return both(one, runs_of((low, most if high is None else high) for low, high in gaps))


def reached(mapping: PartitionMapping, changed: Runs, up: Axis, down: Axis) -> Runs:
    """
    The slices of a reader that read any of these upstream slices.

    >>> span = Span.days("2013-01-01", "2013-01-31", "UTC")
    >>> days, weeks = axis(Grain.DAY, "UTC", span), axis(Grain.WEEK, "UTC", span)
    >>> reached(Rollup(), ((0, 8),), days, weeks)  # the first week is cut, the second has one day
    ((0, 1),)
    >>> reached(Trailing(7), ((0, 1),), days, days)
    ((0, 7),)
    """
    most = len(down)
    found: Iterable[tuple[int, int]]
    match mapping:
        case Identity():
            return changed
        case Lag(by):
            found = ((low + by, min(high + by, most)) for low, high in changed)
        case Trailing(n):
            found = ((low, min(high + n - 1, most)) for low, high in changed)
        case Rollup() if down.starts:
            found = (_above(low, high, up, down) for low, high in changed)
        case FanOut() if up.starts:
            found = (_below(low, high, up, down) for low, high in changed)
        case _:
            return down.all if changed else ()
    return runs_of(found)


def _above(low: int, high: int, fine: Axis, coarse: Axis) -> tuple[int, int]:
    """The coarse slices in which these fine ones start."""
    first, last = fine.starts[low], fine.starts[high - 1]
    if coarse.end is not None and first >= coarse.end:
        return 0, 0
    return max(0, bisect_right(coarse.starts, first) - 1), bisect_right(coarse.starts, last)


def _below(low: int, high: int, coarse: Axis, fine: Axis) -> tuple[int, int]:
    """The fine slices that start in these coarse ones."""
    first = bisect_left(fine.starts, coarse.starts[low])
    if high == len(coarse):
        over = coarse.end
        last = bisect_left(fine.starts, over) if over is not None else len(fine)
    else:
        last = bisect_left(fine.starts, coarse.starts[high])
    return first, last


def makeable(mapping: PartitionMapping, there: Runs, up: Axis, down: Axis) -> Runs:
    """
    The slices of a reader all of whose upstream slices can be there: those numbered `there`. A
    slice that would read beyond the span can never be made.

    >>> days = axis(Grain.DAY, "UTC", Span.days("2013-01-01", "2013-01-10", "UTC"))
    >>> makeable(Trailing(3), days.all, days, days)
    ((2, 10),)
    """
    match mapping:
        case Identity() | Lag():
            return reached(mapping, there, up, down)
        case Trailing(n):
            return runs_of((low + n - 1, high) for low, high in there)
        case FanOut() if up.starts:
            return reached(mapping, there, up, down)
        case Rollup() if down.starts:
            return runs_of(_covered(low, high, up, down) for low, high in there)
        case Rollup() | FanOut():
            return down.all if there and there == up.all else ()
        case _:
            return down.all if there else ()


def _covered(low: int, high: int, fine: Axis, coarse: Axis) -> tuple[int, int]:
    """The coarse slices all of whose fine ones are among these."""
    first = bisect_right(coarse.starts, fine.starts[low - 1]) if low else 0
    over = fine.starts[high] if high < len(fine) else fine.end
    return first, coarse.over(over) if over is not None else len(coarse)
