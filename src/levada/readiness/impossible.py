"""What can never be built, whatever may land."""

from __future__ import annotations

from datetime import timedelta

from levada.intervals import inside, mapped, preceding
from levada.readiness.edges import named
from levada.readiness.reading import Reading
from levada.terms import Dependency, Latest, Partition, Product, TableRef, WaitPolicy

__all__ = ["Impossible"]


class Impossible:
    """Why partitions of products can never be built, each found once."""

    def __init__(self, reading: Reading) -> None:
        self._reading, self.mesh, self.facts = reading, reading.mesh, reading.facts
        self._never: dict[tuple[str, Partition], str] = {}

    @property
    def found(self) -> bool:
        """Whether anything was found that can never be built."""
        return any(self._never.values())

    def why(self, product: Product, partition: Partition) -> str:
        """Why a partition can never be built, whatever may land; empty if it can."""
        if lost := self.mesh.lost.get(product.id):
            return lost
        key = (product.id, partition)
        if key not in self._never:
            reasons: dict[str, list[str]] = {}
            for n, edge in enumerate(d for d in self._reading.dependencies(product) if d.required):
                group = edge.any_of or f"{n}"
                reasons.setdefault(group, []).append(self._never_met(edge, partition))
            ends = (whys[0] for whys in reasons.values() if all(whys))
            self._never[key] = next(ends, "")
        return self._never[key]

    def _never_met(self, edge: Dependency, partition: Partition) -> str:
        table = edge.upstream
        found = mapped(edge.mapping, partition, *self.mesh.slicing(table), self.mesh.span)
        never = list(found.impossible)
        never += [(p, why) for p in found.partitions if (why := self._gone(table, p))]
        if edge.wait.max_lag is not None:
            limit = edge.wait.max_lag
            never = [(p, why) for p, why in never if not (p and self._may_replace(table, p, limit))]
        possible = found.total - len(never)
        policy = WaitPolicy(at_least=1) if isinstance(edge.mapping, Latest) else edge.wait
        if not never or policy.met(ready=possible, total=found.total):
            return ""
        return f"{named(table, never[0][0])}: {never[0][1]}"

    def _gone(self, table: TableRef, partition: Partition) -> str:
        """Why a slice can never be there; empty if it is, or may yet come."""
        if table.is_source:
            return ""
        maker = self.mesh.product(table)
        lost = maker.id in self.mesh.lost  # what it published cannot be called current
        if not lost and self.facts.line(table, partition) is not None:
            return ""
        return self.why(maker, partition)

    def _may_replace(self, table: TableRef, partition: Partition, limit: timedelta) -> bool:
        """Whether an earlier slice could ever stand in for one that can never be."""
        if partition.start is None:
            return False
        earlier = preceding(partition)
        while partition.begin - earlier.begin <= limit and inside(earlier, self.mesh.span):
            if not self._gone(table, earlier):
                return True
            earlier = preceding(earlier)
        return False
