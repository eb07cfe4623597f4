"""What a mesh and its facts say of slices, before anything is judged."""

from __future__ import annotations

from datetime import datetime

from levada.intervals import containing, end, inside, mapped, within
from levada.terms import (
    Dependency,
    Facts,
    Grain,
    Latest,
    Mesh,
    Partition,
    Product,
    Publication,
    TableRef,
)

__all__ = ["Reading", "Slice"]

Slice = tuple[TableRef, Partition]


class Reading:
    """The facts of a mesh at an instant; what is looked for often is found once."""

    def __init__(self, mesh: Mesh, facts: Facts, now: datetime) -> None:
        self.mesh, self.facts, self.now = mesh, facts, now
        self._newest_of: dict[TableRef, Partition | None] = {}
        self._edges: dict[str, tuple[Dependency, ...]] = {}
        self._versions: dict[TableRef, str] | None = None
        self._far = False

    def rests_on_more(self) -> None:
        """Say that an answer rests on what lies further up than the inputs of inputs."""
        self._far = True

    def lines(self, product: Product, partition: Partition) -> tuple[Publication | None, ...]:
        """The newest publication of each mart of a product."""
        found = (self.facts.line(m.table, partition) for m in product.marts)
        return tuple(n if isinstance(n, Publication) else None for n in found)

    def dependencies(self, product: Product) -> tuple[Dependency, ...]:
        """The edges of a product, each once."""
        if product.id not in self._edges:
            self._edges[product.id] = tuple(dict.fromkeys(product.dependencies))
        return self._edges[product.id]

    def reads(self, edge: Dependency, partition: Partition) -> tuple[Partition, ...]:
        """The upstream slices that an edge means now."""
        if isinstance(edge.mapping, Latest):
            newest = self.newest(edge.upstream)
            return (newest,) if newest else ()
        return mapped(
            edge.mapping, partition, *self.mesh.slicing(edge.upstream), self.mesh.span
        ).partitions

    def newest(self, table: TableRef) -> Partition | None:
        """The newest slice of a table that has a line."""
        if table not in self._newest_of:
            slices = reversed(within(*self.mesh.slicing(table), self.mesh.span))
            self._newest_of[table] = next((p for p in slices if self.facts.line(table, p)), None)
        return self._newest_of[table]

    def due(self, table: TableRef) -> Partition | None:
        """The slice that should be the newest by now."""
        slices = within(*self.mesh.slicing(table), self.mesh.span)
        over = (p for p in reversed(slices) if p.start is None or end(p) <= self.now)
        return next(over, slices[0] if slices else None)

    def version(self, table: TableRef) -> str:
        """The data version of a table's newest line: it holds all older lines too."""
        if self._versions is None:
            newest: dict[TableRef, Publication] = {}
            for line in self.facts.lines.values():
                if isinstance(line, Publication):
                    last = newest.get(line.table)
                    if last is None or (line.position, line.at) > (last.position, last.at):
                        newest[line.table] = line
            self._versions = {t: line.data_version for t, line in newest.items()}
        return self._versions[table]

    def unasked(self, table: TableRef) -> str:
        """Since when a source gives no answer, and why; empty if it does."""
        failure = self.facts.probes.get(table)
        if failure is None:
            return ""
        return f"could not be asked since {failure.since:%Y-%m-%d %H:%M}Z: {failure.because}"

    def misplaced(self, partition: Partition, grain: Grain, zone: str) -> str:
        """Why there can be no such slice; empty if there can."""
        if partition.start is None:
            return "" if grain is Grain.WHOLE else f"it is sliced by {grain.value}"
        if (partition.grain, partition.zone) != (grain, zone):
            return f"{partition} is no {grain.value} of {zone}"
        if containing(grain, partition.start, zone) != partition:
            return f"no {grain.value} of {zone} starts at {partition.start:%Y-%m-%d %H:%M}Z"
        if not inside(partition, self.mesh.span):
            return f"{partition} does not lie wholly inside the mesh's span"
        return ""
