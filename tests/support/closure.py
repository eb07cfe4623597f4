"""
What follows from making tables again, found by a plain search: every cell by itself, until nothing
is new. Its slices are cut from local midnights; it shares no code with the planner.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from levada.terms import (
    Dependency,
    FanOut,
    Grain,
    Lag,
    Latest,
    Mesh,
    PartitionMapping,
    Rollup,
    Span,
    TableRef,
    Trailing,
)

__all__ = ["CALENDARS", "Bounds", "Calendar", "Search", "Slicing"]

Bounds = tuple[datetime, datetime] | None
"""A slice; None is the whole of an undivided table."""
Calendar = tuple[str, int, int]
"""A zone, the hour at which its days start, and the first day of its weeks (Monday is 0)."""
Slicing = tuple[Grain, str]

CALENDARS: dict[str, Calendar] = {
    "America/New_York": ("America/New_York", 0, 0),
    "Asia/Tokyo": ("Asia/Tokyo", 0, 0),
    "America/New_York@06:00@sunday": ("America/New_York", 6, 6),
}
_BEYOND = {Grain.QUARTER: 500, Grain.YEAR: 1_200}
"""How many days beyond the span a mapping may ask for; of other grains 200."""


@lru_cache(maxsize=64)
def _everywhere(slicing: Slicing, first: date, last: date) -> Sequence[tuple[datetime, datetime]]:
    """The slices of a slicing from far before the first day to far after the last one."""
    grain, (zone, hour, weekday) = slicing[0], CALENDARS[slicing[1]]
    beyond = timedelta(days=_BEYOND.get(grain, 200))
    begin = first - beyond
    days = [begin + timedelta(days=n) for n in range((last - first + 2 * beyond).days)]
    if grain is Grain.HOUR:
        at = datetime(begin.year, begin.month, begin.day, tzinfo=UTC)
        return list(itertools.pairwise(at + timedelta(hours=n) for n in range(24 * len(days))))
    starts = {
        Grain.DAY: days,
        Grain.WEEK: [day for day in days if day.weekday() == weekday],
        Grain.MONTH: [day for day in days if day.day == 1],
        Grain.QUARTER: [day for day in days if day.day == 1 and day.month in (1, 4, 7, 10)],
        Grain.YEAR: [day for day in days if (day.month, day.day) == (1, 1)],
    }[grain]
    local = [datetime(d.year, d.month, d.day, hour, tzinfo=ZoneInfo(zone)) for d in starts]
    return list(itertools.pairwise(at.astimezone(UTC) for at in local))


def _lies_inside(one: Bounds, span: Span) -> bool:
    return one is None or (span.start <= one[0] and one[1] <= span.end)


@dataclass
class Search:
    """
    Cell by cell until nothing is new.

    :param days: the first and the last day of the mesh's span
    :param only: the domains that may be made again; none means all
    """

    mesh: Mesh
    days: tuple[date, date]
    asked: Collection[str]
    span: Span
    now: datetime
    out: Collection[str] = ()
    only: Collection[str] = ()
    known: dict[tuple[TableRef, Bounds], bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.slicings = {s.table: (s.grain, s.zone) for s in self.mesh.sources}
        self.slicings |= {m.table: (p.grain, p.zone) for p in self.mesh.products for m in p.marts}
        self.maker = {m.table: p for p in self.mesh.products for m in p.marts}
        self.read: dict[tuple[PartitionMapping, Slicing, Bounds], list[Bounds]] = {}

    def slices(self, slicing: Slicing) -> list[Bounds]:
        """Those that lie in the mesh's span."""
        if slicing[0] is Grain.WHOLE:
            return [None]
        return [s for s in _everywhere(slicing, *self.days) if _lies_inside(s, self.mesh.span)]

    def asks(self, edge: Dependency, of: Bounds) -> list[Bounds]:
        """Every slice that one slice reads, inside the span or not."""
        key = (edge.mapping, self.slicings[edge.upstream], of)
        if key not in self.read:
            self.read[key] = self._asks(*key)
        return self.read[key]

    def _asks(self, mapping: PartitionMapping, up: Slicing, of: Bounds) -> list[Bounds]:
        if up[0] is Grain.WHOLE:
            return [None]
        if isinstance(mapping, Latest) or of is None:
            return self.slices(up)
        there = _everywhere(up, *self.days)
        if isinstance(mapping, Rollup):
            return [s for s in there if of[0] <= s[0] < of[1]]
        if isinstance(mapping, FanOut):
            return [s for s in there if s[0] <= of[0] < s[1]]
        at = there.index(of)
        if isinstance(mapping, Lag):
            return [there[at - mapping.by]]
        back = mapping.n if isinstance(mapping, Trailing) else 1
        return list(there[at - back + 1 : at + 1])

    def can(self, table: TableRef, of: Bounds) -> bool:
        """Whether a slice can ever be made, by the edges that need every slice they ask for."""
        key = (table, of)
        if key not in self.known:
            self.known[key] = _lies_inside(of, self.mesh.span)
            if self.known[key] and table in self.maker:
                self.known[key] = all(
                    self.fed(edge, of)
                    for edge in self.maker[table].dependencies
                    if edge.required and not edge.any_of and not edge.wait.tolerant
                )
        return self.known[key]

    def fed(self, edge: Dependency, of: Bounds) -> bool:
        """Whether what an edge asks for can be there."""
        read = [self.can(edge.upstream, s) for s in self.asks(edge, of)]
        return any(read) if isinstance(edge.mapping, Latest) else bool(read) and all(read)

    def found(self) -> tuple[set[tuple[str, Bounds]], set[tuple[str, Bounds]]]:
        """What is made again, and what is left out."""
        changed: set[tuple[TableRef, Bounds]] = set()
        made: set[tuple[str, Bounds]] = set()
        for source in self.mesh.sources:
            if str(source.table) in self.asked:
                changed |= {
                    (source.table, s)
                    for s in self.slices((source.grain, source.zone))
                    if _lies_inside(s, self.span)
                }
        while True:
            before, left = len(changed), set()
            for product in self.mesh.products:
                kept_out = product.id in self.out or (self.only and product.domain not in self.only)
                for of in self.slices((product.grain, product.zone)):
                    asked = product.id in self.asked and _lies_inside(of, self.span)
                    by = {
                        edge.on_restatement.action
                        for edge in product.dependencies
                        if any((edge.upstream, s) in changed for s in self.asks(edge, of))
                    }
                    if not asked and not by:
                        continue
                    fits = not kept_out and (of is None or of[1] <= self.now)
                    again = asked or "rerun" in by
                    if fits and again and all(self.can(m.table, of) for m in product.marts):
                        made.add((product.id, of))
                        changed |= {(m.table, of) for m in product.marts}
                    else:
                        left.add((product.id, of))
            if len(changed) == before:
                return made, left
