"""Whom a change reaches: every table below, through all hops, with the columns concerned."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from levada.govern.lineage import ALL, Columns, Lineages, derived, read
from levada.terms import Dependency, Mesh, Owner, TableRef

__all__ = ["Reached", "Readers", "downstream", "readers"]

Readers = Mapping[TableRef, tuple[Dependency, ...]]
"""The edges that read a table, by that table."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A table below a changed one: so many hops away, and which of its columns are concerned."""

    table: TableRef
    product: str
    owner: Owner
    hops: int
    via: TableRef
    """The table that it reads, on a shortest way."""
    columns: Columns
    """None: all of them."""
    known: bool = True
    """Whether its lineage is known; without it nobody can tell which columns are concerned."""

    @property
    def told(self) -> str:
        """The columns concerned, in words."""
        if self.columns is None:
            return "all its columns" if self.known else "columns unknown: all"
        return ", ".join(sorted(self.columns)) or "none of its columns"


def readers(mesh: Mesh) -> Readers:
    """Who reads each table: one pass over the mesh."""
    found: dict[TableRef, list[Dependency]] = {}
    for product in mesh.products:
        for mart in product.marts:
            for edge in mart.dependencies:
                found.setdefault(edge.upstream, []).append(edge)
    return {table: tuple(edges) for table, edges in found.items()}


def downstream(
    mesh: Mesh,
    table: TableRef,
    *,
    columns: Columns = ALL,
    lineages: Lineages | None = None,
    known: Readers | None = None,
) -> tuple[Reached, ...]:
    """
    Every table that is made of `table`, nearest first.

    With `columns`, those that do not depend on any of these are left out; a table of which no
    lineage is known depends on all that it reads. `known` saves reading the mesh again.
    """
    known = readers(mesh) if known is None else known
    lineages = lineages or {}
    ways: dict[TableRef, tuple[int, Dependency]] = {}
    concerned: dict[TableRef, Columns] = {table: columns}
    todo = deque([(table, 0)])
    while todo:
        upstream, hops = todo.popleft()
        for edge in known.get(upstream, ()):
            below = edge.downstream
            changed = concerned[upstream]
            came = derived(lineages, below, upstream, changed)
            if came is not None and not came and not _reads(lineages, below, upstream, changed):
                continue
            before: Columns = concerned.get(below, frozenset())
            after = None if before is None or came is None else before | came
            first = below not in ways
            ways.setdefault(below, (hops + 1, edge))
            concerned[below] = after
            if after != before or (first and after):
                todo.append((below, ways[below][0]))
    return tuple(
        Reached(
            below,
            mesh.product(below).id,
            mesh.owner(below),
            hops,
            edge.upstream,
            concerned[below],
            below in lineages,
        )
        for below, (hops, edge) in ways.items()
    )


def _reads(lineages: Lineages, table: TableRef, upstream: TableRef, changed: Columns) -> bool:
    """Whether its SQL reads any of these, even if nothing comes of it."""
    seen = read(lineages, table, upstream)
    return seen is None or (bool(seen) if changed is None else not seen.isdisjoint(changed))
