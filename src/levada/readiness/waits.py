"""What one dependency of one partition asks for, and how far that is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from levada.intervals import due, inside, mapped, preceding
from levada.readiness.edges import Edge, Found, ahead, named, soonest, waiting
from levada.readiness.marks import marks, without
from levada.readiness.reading import Reading
from levada.readiness.waived import tolerated
from levada.terms import (
    WHOLE,
    Dependency,
    Latest,
    Partition,
    Product,
    Publication,
    Readiness,
    State,
    TableRef,
)

__all__ = ["Waits"]


class Waits:
    """
    Dependencies, judged.

    :param sound: what a slice is, whatever was waived for it
    :param offered: what the build of a product's partition may count on
    :param untold: whether a slice is not ready since nobody can tell
    """

    def __init__(
        self,
        reading: Reading,
        sound: Callable[[TableRef, Partition], Readiness],
        offered: Callable[[Product, Partition, TableRef, Partition], Readiness],
        untold: Callable[[TableRef, Partition, Readiness], bool],
    ) -> None:
        self._reading, self._sound, self._offered = reading, sound, offered
        self._untold = untold
        self.mesh, self.facts, self.now = reading.mesh, reading.facts, reading.now

    def edge(self, product: Product, edge: Dependency, partition: Partition) -> Edge:
        """Judge one dependency of one partition."""
        return self._ruled(product, self._judged(product, edge, partition))

    def _judged(self, product: Product, edge: Dependency, partition: Partition) -> Edge:
        until = due(edge.wait.deadline, partition) if edge.wait.deadline else None
        if isinstance(edge.mapping, Latest):
            latest = self._latest(product, partition, edge)
            return waiting(latest, until, self.now) if until else latest
        found = self._found(product, edge, partition)
        late, replaced, met = self._enough(edge, found, until)
        absent = tuple(p for _, p, _ in found.waits)
        full = len(found.ready) == found.total
        read = dict.fromkeys((*found.ready, *(p for p in replaced.values() if p not in absent)))
        kept = {p for p, by in replaced.items() if p == by}  # an older line of the very slice
        goes_on = met or (late and not edge.required) or bool(edge.any_of and (read or kept))
        result = Edge(
            edge,
            met,
            self._said_of(edge, found, met=met, replaced=len(replaced)),
            (*read, *sorted(kept)),
            tuple(p for p in absent if p not in kept),
            tuple(sorted(kept)),
            found.waits,
            found.next,
            degraded=found.degraded,
            marks=marks(edge, self._told(found), replaced) if goes_on and not full else (),
        )
        return waiting(result, until, self.now) if until and not late else result

    def _enough(
        self, edge: Dependency, found: Found, until: datetime | None
    ) -> tuple[bool, dict[Partition, Partition], bool]:
        """Whether less than all may do by now, what stands in for what is not there, and if met."""
        wait = edge.wait
        late = until is None or until <= self.now or not found.coming
        replaced: dict[Partition, Partition] = {}
        if late and wait.max_lag is not None:
            replaced = self._replaced(edge, found, wait.max_lag)
        good = len(found.ready) + len(replaced)
        full = len(found.ready) == found.total
        return late, replaced, full or (late and wait.met(ready=good, total=found.total))

    def _told(self, found: Found) -> Found:
        """The same with what nobody can tell, however far up that comes from."""
        waits = ((t, p, replace(r, unknown=self._untold(t, p, r))) for t, p, r in found.waits)
        return replace(found, waits=tuple(waits))

    def hopeful(self, product: Product, edge: Dependency, partition: Partition) -> bool:
        """Whether a dependency would be met if all of which nobody can tell were there."""
        if isinstance(edge.mapping, Latest):
            latest = self._latest(product, partition, edge)
            return latest.met or any(self._untold(*wait) for wait in latest.waits)
        found = self._told(self._found(product, edge, partition))
        until = due(edge.wait.deadline, partition) if edge.wait.deadline else None
        hoped = tuple(p for _, p, why in found.waits if why.unknown)
        rest = tuple(wait for wait in found.waits if not wait[2].unknown)
        return self._enough(edge, replace(found, ready=found.ready + hoped, waits=rest), until)[2]

    def _ruled(self, product: Product, edge: Edge) -> Edge:
        """An edge that a gate requires says for which rule."""
        table = edge.dependency.upstream
        rules = [r.name for m in product.marts for r in m.gates if table in r.tables]
        if not rules:
            return edge
        return replace(edge, said=f"{edge.said} (for the rule {', '.join(rules)})")

    def _found(self, product: Product, edge: Dependency, partition: Partition) -> Found:
        """The slices that an edge asks for, each judged."""
        table = edge.upstream
        found = mapped(edge.mapping, partition, *self.mesh.slicing(table), self.mesh.span)
        judged = [(p, self._offered(product, partition, table, p)) for p in found.partitions]
        never = tuple((p, Readiness(State.IMPOSSIBLE, why)) for p, why in found.impossible)
        waits = [(table, p, r) for p, r in judged if r.state is not State.READY]
        waits += [(table, p, r) for p, r in never if p is not None]
        ready = tuple(p for p, r in judged if r.state is State.READY)
        degraded = any(r.degraded for _, r in judged)
        wakes = min((r.next for _, r in judged if r.next), default=None)
        return Found(found.total, ready, tuple(waits), never, degraded, wakes)

    def _replaced(
        self, edge: Dependency, found: Found, limit: timedelta
    ) -> dict[Partition, Partition]:
        """What stands in for slices that are not ready after a deadline: the last good ones."""
        reader = self.mesh.product(edge.downstream)
        pairs = ((p, self._last_good(reader, edge.upstream, p, limit)) for _, p, _ in found.waits)
        return {p: good for p, good in pairs if good}

    def _last_good(
        self, reader: Product, table: TableRef, partition: Partition, limit: timedelta
    ) -> Partition | None:
        """The slice itself, if an older line of it may be read, else the newest good one before."""
        if self._readable(reader, table, partition):
            return partition
        if partition.start is None:
            return None
        earlier = preceding(partition)
        while partition.begin - earlier.begin <= limit and inside(earlier, self.mesh.span):
            if self._readable(reader, table, earlier):
                return earlier
            earlier = preceding(earlier)
        return None

    def _readable(self, reader: Product, table: TableRef, partition: Partition) -> bool:
        """Whether a slice has a good line, though a newer one may be due."""
        line = self.facts.line(table, partition)
        if line is None:
            return False
        if isinstance(line, Publication) and line.waived:
            ready = Readiness(State.READY, "")
            if tolerated(self.facts, ready, line, reader.id, self.now).state is State.HELD:
                return False
        return self._sound(table, partition).state in (State.READY, State.STALE, State.FAILED)

    def _said_of(self, edge: Dependency, found: Found, *, met: bool, replaced: int) -> str:
        table = edge.upstream
        lacking: list[tuple[Partition | None, Readiness]] = [(p, r) for _, p, r in found.waits]
        lacking += [(p, r) for p, r in found.never if p is None]
        instead = f", {replaced} replaced by the last good one" if replaced else ""
        if found.total == 1:
            only = next(iter(found.ready), lacking[0][0] if lacking else None)
            name = named(table, only)
            return f"{name}{instead}" if met else f"{name}: {lacking[0][1].because}"
        grain = self.mesh.slicing(table)[0].value
        if met or not edge.required:
            return f"{len(found.ready)} of {found.total} {grain}s of {table}{instead}"
        first, why = lacking[0]
        if len(lacking) == 1:
            return f"{named(table, first)}: {why.because}"
        return f"{len(lacking)} of {found.total} {grain}s of {table}: {first}: {why.because}, ..."

    def _latest(self, product: Product, at: Partition, edge: Dependency) -> Edge:
        """Judge a dependency on the newest slice there is."""
        table = edge.upstream
        limit = edge.mapping.within if isinstance(edge.mapping, Latest) else None
        newest = self._reading.newest(table)
        line = self.facts.line(table, newest) if newest else None
        if newest is None or line is None:
            newest = self._reading.due(table)
            if newest is None:
                return Edge(edge, False, f"{table}: the mesh's span holds no slice of it")
            readiness = self._offered(product, at, table, newest)
            said = f"{named(table, newest)}: {readiness.because}"
            waits = ((table, newest, readiness),)
            unknown = not edge.required and self._untold(table, newest, readiness)
            lacking = without(table, None, unknown=unknown)
            return Edge(edge, False, said, absent=(WHOLE,), waits=waits, marks=lacking)
        readiness = self._offered(product, at, table, newest)
        wakes = readiness.next
        if readiness.state is not State.READY and not edge.required:
            readiness = replace(readiness, unknown=self._untold(table, newest, readiness))
        if readiness.state is State.READY and limit is not None:
            wakes = soonest(readiness.next, ahead(line.at + limit, self.now))
            if self.now - line.at >= limit:  # at `next` the answer is another
                old = f"published {_long(self.now - line.at)} ago, not within {_long(limit)}"
                unasked = self._reading.unasked(table)
                old += f"; {unasked}" if unasked else ""
                readiness = Readiness(State.WAITING, old, unknown=bool(unasked))
        name = f"the latest {named(table, newest)}"
        if readiness.state is not State.READY:
            said = f"{name}: {readiness.because}"
            waits = ((table, newest, readiness),)
            lacking = without(table, newest, unknown=readiness.unknown)
            return Edge(edge, False, said, absent=(newest,), waits=waits, marks=lacking)
        return Edge(edge, True, name, (newest,), next=wakes, degraded=readiness.degraded)


def _long(time: timedelta) -> str:
    return f"{time.days}d" if time.days else f"{time.total_seconds() / 3600:.3g}h"
