"""How many runs of a mesh may wait at once: Airflow must be tuned to more. Imports no Airflow."""

from __future__ import annotations

from collections.abc import Iterable

from levada.intervals import is_live, within
from levada.terms import Batch, Grain, Mesh

__all__ = ["ACTIVE", "BACKFILL", "LIVE", "POOL", "waiting_at_most"]

BACKFILL, POOL = "levada.backfill", "levada_backfill"
"""The DAG whose runs build what backfills ask for, and the pool of its tasks."""
LIVE = 10
"""The priority of what the live day waits for; a backfill's is 1."""


ACTIVE = {
    Grain.HOUR: 96,
    Grain.DAY: 45,
    Grain.WEEK: 12,
    Grain.MONTH: 12,
    Grain.QUARTER: 8,
    Grain.YEAR: 4,
    Grain.WHOLE: 1,
}
"""Runs of a product that may wait at once, so that one late input stops nothing after it."""


def waiting_at_most(mesh: Mesh, dispatch: str, batches: Iterable[Batch] = ()) -> int:
    """The runs that wait when nothing lands. Whole tables, and what is dispatched, never wait."""
    found = 0
    for batch in batches:
        slices = within(batch.grain, batch.zone, mesh.span)
        live = sum(is_live(partition, mesh.live_from) for partition in slices)
        found += min(ACTIVE[batch.grain], live)
    if dispatch == "ready":
        return found
    for product in mesh.products:
        if product.grain is not Grain.WHOLE:
            slices = within(product.grain, product.zone, mesh.span)
            live = sum(is_live(partition, mesh.live_from) for partition in slices)
            found += min(ACTIVE[product.grain], live)
    return found
