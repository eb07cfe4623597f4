"""What will be published again by itself: a rebuild waits for that, and reads what it becomes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING

from levada.readiness.edges import ahead
from levada.readiness.reading import Slice
from levada.terms import Dependency, Partition, Product, State, TableRef

if TYPE_CHECKING:
    from levada.readiness.judge import Judge

__all__ = ["Coming"]

Awaited = tuple[TableRef, Partition, datetime]
"""A slice, and until when it is waited for."""

_ENOUGH = 2
"""So often something is published in one episode, at most: after that nobody waits for it."""


class Coming:
    """What is being made again above a partition, found once."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._found: dict[tuple[str, Partition], Awaited | None] = {}

    def above(self, product: Product, partition: Partition) -> Awaited | None:
        """
        Something that a published partition is made from, however far up, that is being made again
        or soon will be. What was published twice since it was read counts no more: who is restated
        without end stops nobody below.
        """
        key = (product.id, partition)
        if key not in self._found:
            self._found[key] = self._look(product, partition)
        return self._found[key]

    def _look(self, product: Product, partition: Partition) -> Awaited | None:
        judge = self._judge
        lines = [line for line in judge.lines(product, partition) if line]
        recorded = {(i.table, i.partition): i for line in lines for i in line.inputs}
        now = judge.read_now(product, partition)
        for edge in judge.dependencies(product):
            if edge.upstream.is_source:
                continue
            for key in ((edge.upstream, p) for p in judge.reads(edge, partition)):
                if edge.on_restatement.action == "ignore" and self._is_enough(edge, key, now):
                    continue
                seen, line = recorded.get(key), judge.facts.line(*key)
                before = (seen.generation or seen.unready) if seen else 0
                if line is not None and line.generation - before >= _ENOUGH:
                    continue
                if until := self._until(judge.mesh.product(edge.upstream), key[1]):
                    return (*key, until)
        return None

    @staticmethod
    def _is_enough(edge: Dependency, key: Slice, now: Collection[Slice]) -> bool:
        """Whether an edge that ignores changes would not have a slice read that is made again."""
        unneeded = bool(edge.any_of) and all(table != edge.upstream for table, _ in now)
        return key in now or unneeded

    def _until(self, product: Product, partition: Partition) -> datetime | None:
        """Until when a partition is waited for; None where nobody makes it again by himself."""
        judge = self._judge
        if claim := judge.facts.claims.get((product.id, partition)):
            return claim.until
        if any(not edge.upstream.is_source for edge in product.dependencies):
            judge.rests_on_more()
        lines = [line for line in judge.lines(product, partition) if line]
        if len(lines) < len(product.marts) or judge.attempt(product, partition):
            return None
        states = {judge.table(mart.table, partition).state for mart in product.marts}
        if not states <= {State.READY, State.STALE}:
            return None
        if found := self.above(product, partition):
            return found[2]
        if State.STALE not in states or judge.inputs(product, partition).state is not State.READY:
            return None
        changes = [c for line in lines for c in judge.changes(product, partition, line)]
        could = [line.at + judge.mesh.quiet for line in lines]
        could += [change.line.at for change in changes if change.line]
        return ahead(max(could) + judge.mesh.quiet, judge.now)  # else nobody seems to build it
