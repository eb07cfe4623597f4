"""Whether what is published is what would be made today: its inputs, its code, its contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from datetime import datetime

from levada.readiness.causes import Change, Line
from levada.readiness.fingerprints import bare, fingerprint
from levada.readiness.reading import Reading, Slice
from levada.readiness.waived import repairable
from levada.terms import (
    Attempt,
    Dependency,
    Facts,
    Input,
    Latest,
    Mesh,
    Partition,
    Product,
    Publication,
    TableRef,
)

__all__ = ["Currency"]


class Currency(Reading, ABC):
    """
    What has changed since a line was made. It looks one hop: at the lines of its inputs; further up
    only for what the line went without.
    """

    def foreign(self, line: Publication) -> str:
        """Why a line does not keep today's contract of its table; empty if it does."""
        contract = self.mesh.mart(line.table).contract
        made = line.contract.rsplit(" ", 2)
        major = contract.version.split(".")[0]
        if len(made) == 3 and (made[0], made[1].split(".")[0]) == (contract.id, major):
            return ""
        return f"published under the contract {line.contract!r}, not {contract.id} {major}.x"

    def attempt(self, product: Product, partition: Partition) -> Attempt | None:
        """
        The newest attempt that did not publish, unless it has been overtaken: by a newer line, or
        because what is published is again what today's code and inputs make.
        """
        attempt = self.facts.attempt(product.id, partition)
        if attempt is None:
            return None
        lines = self.lines(product, partition)
        if any(line is not None and _newer(line, attempt) for line in lines):
            return None
        return None if self.settled(product, partition) else attempt

    def waived(self, attempt: Attempt) -> datetime | None:
        """Until when every check that failed an attempt is waived; None if one is not."""
        return repairable(self.facts.waivers, attempt, self.now)

    def settled(self, product: Product, partition: Partition) -> bool:
        """Whether all that is published is current and made by today's code and contracts."""
        return product.id not in self.mesh.lost and all(
            line is not None
            and bare(line.made_by) == fingerprint(product, partition, line.inputs)
            and not self.changes(product, partition, line)
            for line in self.lines(product, partition)
        )

    def published_as(self, product: Product, partition: Partition, mark: str) -> bool:
        """Whether what is published of a product's partition has this fingerprint."""
        made = [n.made_by if n else "" for n in self.lines(product, partition)]
        return all(mark in (each, bare(each)) for each in made)

    def __init__(self, mesh: Mesh, facts: Facts, now: datetime) -> None:
        super().__init__(mesh, facts, now)
        self.hanging: set[tuple[str, Partition]] = set()
        """Partitions whose lines are current or not by whether what they went without is ready."""

    @abstractmethod
    def read_now(self, product: Product, partition: Partition) -> Collection[Slice]:
        """The slices of which a build would read something now."""

    def changes(
        self, product: Product, partition: Partition, line: Publication
    ) -> tuple[Change, ...]:
        """
        The inputs of a line that are not what it recorded, unless their edge ignores that: what it
        read has other content; what it went without could be read now.
        """
        recorded = {(i.table, i.partition): i for i in line.inputs}
        # A table that the run never read came with new code, and changed code makes nothing stale.
        known = {i.table for i in line.inputs}
        read = {i.table for i in line.inputs if i.content is not None}
        found: dict[Slice, Change] = {}
        for edge in self.dependencies(product):
            if edge.upstream not in known or _indifferent(edge, read):
                continue
            for key in ((edge.upstream, p) for p in self.reads(edge, partition)):
                now, before = self.facts.line(*key), recorded.get(key)
                arrived = before is None or before.content is None
                if before is None or before.content is None:
                    moved = now is not None and self._comes(edge, product, partition, key, before)
                else:
                    ignores = edge.on_restatement.action == "ignore"
                    moved = not ignores and (now is None or now.content != before.content)
                does = self.does(edge, product, partition, now)
                if moved and (key not in found or does == "hold"):
                    found[key] = Change(*key, now, does, arrived)
        return tuple(found.values())

    def _comes(
        self,
        edge: Dependency,
        product: Product,
        partition: Partition,
        key: Slice,
        before: Input | None,
    ) -> bool:
        """Whether a slice that was not read, of which there is a line, would be read now."""
        ignores = edge.on_restatement.action == "ignore" and not isinstance(edge.mapping, Latest)
        if before is None and ignores:
            return False
        self.hanging.add((product.id, partition))
        if not edge.upstream.is_source:
            self.rests_on_more()
        return key in self.read_now(product, partition)

    def does(
        self, edge: Dependency, product: Product, partition: Partition, moved: Line | None
    ) -> str:
        """What an edge does about a change: a hold that was released reruns, as arrivals do."""
        pardoned = self.facts.pardons.get((product.id, partition), 0)
        released = moved is not None and moved.position < pardoned
        return "hold" if edge.on_restatement.action == "hold" and not released else "rerun"


def _indifferent(edge: Dependency, read: Collection[TableRef]) -> bool:
    """
    Whether nothing that may happen to an edge's table makes a line stale. Who ignores changes of
    what he read does not ignore what he went without, unless others of a group were enough.
    """
    if edge.on_restatement.action != "ignore":
        return False
    if isinstance(edge.mapping, Latest):
        return bool(edge.any_of) or edge.upstream in read
    return bool(edge.any_of) and edge.upstream not in read


def _newer(line: Line, attempt: Attempt) -> bool:
    """Whether a line came after an attempt: by the ledger's position, where both have one."""
    if line.position and attempt.position:
        return line.position > attempt.position
    return line.at > attempt.at
