"""How far a line of the ledger reaches: whose steps it may change."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TypeVar

from levada.intervals import readers
from levada.plan.deciding import Target
from levada.terms import Dependency, Mesh, Partition, Product, TableRef

__all__ = ["Reach"]

Key = TypeVar("Key")
Value = TypeVar("Value")

_MOST = 20_000
"""Answers kept: many lines are about the same slices."""


class Reach:
    """
    Whom a new line concerns: who reads what it is about, and who reads those, since staleness is
    seen two steps below; further where something may be gone without, since who did is stale as
    soon as it is ready.

    :param targets: the partitions of products that count; others are left out
    """

    def __init__(self, mesh: Mesh, targets: Collection[Target]) -> None:
        self.mesh = mesh
        self._targets = frozenset(targets)
        self._of: dict[str, list[Target]] = {}
        for target in self._targets:
            self._of.setdefault(target[0], []).append(target)
        self._edges: dict[TableRef, list[tuple[Product, Dependency]]] = {}
        for product in mesh.products:
            for edge in dict.fromkeys(product.dependencies):
                self._edges.setdefault(edge.upstream, []).append((product, edge))
        self._near: dict[tuple[TableRef | str, Partition | None], frozenset[Target]] = {}
        self._read_by: dict[tuple[TableRef, Partition | None, bool], frozenset[Target]] = {}

    def of(self, subject: TableRef | str, partition: Partition | None) -> frozenset[Target]:
        """
        Whom something concerns that happened to a slice of a table, or to a partition of a product
        that was attempted, claimed, released; None: to every one.
        """
        key = (subject, partition)
        if key not in self._near:
            own = self._own(subject, partition)
            ahead = list(own)
            while ahead:
                here = ahead.pop()
                new = {t for m in self._marts(here) for t in self._without(m, here[1])} - own
                ahead += new
                own |= new
            near = own | {target for one in own for target in self._below(*one)}
            _keep(self._near, key, frozenset(near & self._targets))
        return self._near[key]

    def _own(self, subject: TableRef | str, partition: Partition | None) -> set[Target]:
        if isinstance(subject, TableRef):
            made = () if subject.is_source else self._partitions(self._maker(subject), partition)
            return {*self._readers(subject, partition), *made}
        return set(self._partitions(subject, partition))

    def _maker(self, table: TableRef) -> str:
        return self.mesh.product(table).id

    def _partitions(self, product: str, partition: Partition | None) -> Collection[Target]:
        return self._of.get(product, []) if partition is None else [(product, partition)]

    def _marts(self, target: Target) -> Iterator[TableRef]:
        return (mart.table for mart in self.mesh.product(target[0]).marts)

    def _below(self, product: str, partition: Partition) -> set[Target]:
        marts = self._marts((product, partition))
        return {target for mart in marts for target in self._readers(mart, partition)}

    def _without(self, table: TableRef, partition: Partition) -> frozenset[Target]:
        """Who may have gone without a slice."""
        return self._readers(table, partition, tolerant=True)

    def _readers(
        self, table: TableRef, partition: Partition | None, *, tolerant: bool = False
    ) -> frozenset[Target]:
        """Who may read a slice, also in place of another one."""
        key = (table, partition, tolerant)
        if key not in self._read_by:
            found: set[Target] = set()
            for product, edge in self._edges.get(table, ()):
                if tolerant and not edge.tolerant:
                    continue
                if partition is None or edge.wait.max_lag is not None:
                    found.update(self._of.get(product.id, ()))
                else:
                    slicing = (product.grain, product.zone, self.mesh.span)
                    read_in = readers(edge.mapping, partition, *slicing)
                    found.update((product.id, reader) for reader in read_in)
            _keep(self._read_by, key, frozenset(found & self._targets))
        return self._read_by[key]


def _keep(kept: dict[Key, Value], key: Key, value: Value) -> None:
    if len(kept) >= _MOST:
        kept.clear()
    kept[key] = value
