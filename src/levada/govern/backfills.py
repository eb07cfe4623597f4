"""What a backfill may do by itself, and what somebody must have approved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from levada.intervals import end
from levada.terms import Backfill, Mesh, TableRef
from levada.terms.service import seconds

__all__ = ["UNLIMITED", "Limits", "Need", "needs"]

GOVERNANCE = "governance"


@dataclass(frozen=True, slots=True)
class Limits:
    """What governance lets pass unasked; None: anything."""

    intervals: int | None = None
    other_domains_tier: int | None = None
    """A table of this tier or a higher one, of a domain in which nothing was asked for."""
    beyond_retention: bool = False
    """Whether slices older than their contract's retention need an approval."""


UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class Need:
    """One approval that a backfill needs: whose, and why."""

    who: str
    because: str


def needs(
    limits: Limits, planned: Backfill, mesh: Mesh, default_tier: int | None = None
) -> tuple[Need, ...]:
    """Every approval that the plan needs; none: it may run."""
    found: list[Need] = []
    if limits.intervals is not None and planned.cells > limits.intervals:
        because = f"{planned.cells} intervals are made again: more than {limits.intervals}"
        found.append(Need(GOVERNANCE, because))
    found += _others(limits.other_domains_tier, planned, mesh, default_tier)
    if limits.beyond_retention:
        found += _expired(planned, mesh)
    return tuple(found)


def _others(
    most: int | None, planned: Backfill, mesh: Mesh, default_tier: int | None
) -> Iterator[Need]:
    if most is None:
        return
    sources = {str(source.table): source.table.domain for source in mesh.sources}
    names = planned.asked.names
    asked = {sources[n] if n in sources else mesh.product(n).domain for n in names}
    for group in planned.groups:
        product = mesh.product(group.product)
        if product.domain in asked:
            continue
        for mart in product.marts:
            tier = mart.contract.tier or default_tier
            if tier is not None and tier <= most:
                yield Need(product.domain, f"{mart.table} is of tier {tier}, and of another domain")


def _expired(planned: Backfill, mesh: Mesh) -> Iterator[Need]:
    """Counted back from the mesh's end, where that is past."""
    today = min(planned.at, mesh.span.end)
    for group in planned.groups:
        product = mesh.product(group.product)
        first = group.stretches[0].first
        if first.start is None:
            continue
        for mart in product.marts:
            kept = _retention(mart.contract.sla)
            if kept and _before(today, kept) and end(first) < today - kept:
                yield Need(product.domain, _older(mart.table, first.key, kept))


def _before(today: datetime, kept: timedelta) -> bool:
    return today.timestamp() > kept.total_seconds()


def _older(table: TableRef, first: str, kept: timedelta) -> str:
    return f"{table} {first} is older than its retention of {kept.days} days"


def _retention(sla: tuple[tuple[str, str], ...]) -> timedelta | None:
    said = [found for name, value in sla if name == "retention" and (found := seconds(value))]
    return timedelta(seconds=min(said)) if said else None
