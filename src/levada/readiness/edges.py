"""One dependency of one partition, judged: what it reads, waits for and goes without."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from levada.terms import Dependency, Partition, Readiness, State, TableRef

__all__ = [
    "Edge",
    "Found",
    "Wait",
    "ahead",
    "grouped",
    "named",
    "said",
    "soonest",
    "waiting",
]

Wait = tuple[TableRef, Partition, Readiness]


@dataclass(frozen=True, slots=True)
class Edge:
    """One dependency of one partition, judged."""

    dependency: Dependency
    met: bool
    said: str
    ready: tuple[Partition, ...] = ()
    """The slices that are read: those that are ready, and what replaces others."""
    absent: tuple[Partition, ...] = ()
    lent: tuple[Partition, ...] = ()
    """Those of `ready` that are not ready, and are read as their last good publication."""
    waits: tuple[Wait, ...] = ()
    """What is not ready, and what can never be."""
    next: datetime | None = None
    degraded: bool = False
    blocks: bool = False
    """Whether the product waits for it."""
    marks: tuple[str, ...] = ()
    """What a build does without, in words."""


@dataclass(frozen=True, slots=True)
class Found:
    """The slices that an edge asks for, as they stand."""

    total: int
    ready: tuple[Partition, ...]
    waits: tuple[Wait, ...]
    never: tuple[tuple[Partition | None, Readiness], ...]
    degraded: bool
    next: datetime | None

    @property
    def coming(self) -> bool:
        """Whether anything that is not ready may still become so."""
        return any(why.state is not State.IMPOSSIBLE for _, _, why in self.waits)


def ahead(instant: datetime | None, now: datetime) -> datetime | None:
    """An instant that is still to come."""
    return instant if instant and instant > now else None


def soonest(*instants: datetime | None) -> datetime | None:
    """The first of the instants that there are."""
    return min((instant for instant in instants if instant), default=None)


def grouped(judged: Iterable[Edge]) -> tuple[Edge, ...]:
    """
    Which edges the product waits for: required ones that are not met, and whatever waits for its
    deadline; of a group, all of them while none is met.
    """
    edges = tuple(judged)
    open_groups = {e.dependency.any_of for e in edges} - {
        e.dependency.any_of for e in edges if e.met
    }
    return tuple(
        replace(
            e,
            blocks=e.dependency.any_of in open_groups
            if e.dependency.any_of
            else e.blocks or (e.dependency.required and not e.met),
            # One of a group is all that was asked for; half of another is told all the same.
            marks=() if e.dependency.any_of and not e.ready else e.marks,
        )
        for e in edges
    )


def waiting(edge: Edge, until: datetime, now: datetime) -> Edge:
    """An edge that has a deadline: before it everything is waited for, optional inputs too."""
    if edge.met or until <= now:
        return edge
    said = f"{edge.said} (until {until:%Y-%m-%d %H:%M}Z)"
    wakes = min(until, edge.next) if edge.next else until
    return replace(edge, blocks=True, said=said, next=wakes)


def said(edges: Iterable[Edge]) -> tuple[str, ...]:
    """What is waited for; a group is said once."""
    found: dict[str, list[str]] = {}
    for n, edge in enumerate(edges):
        found.setdefault(edge.dependency.any_of or f"{n}", []).append(edge.said)
    return tuple(f"any of {' | '.join(x)}" if len(x) > 1 else x[0] for x in found.values())


def named(table: TableRef, partition: Partition | None) -> str:
    """A slice by its name; an undivided table by its own."""
    return f"{table} {partition}" if partition and partition.start else str(table)
