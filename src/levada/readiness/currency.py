"""Whether what is published is what would be made today: its inputs, its code, its contract."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from levada.readiness.causes import Change, Line
from levada.readiness.fingerprints import bare, fingerprint
from levada.readiness.reading import Reading, Slice
from levada.readiness.waived import repairable
from levada.terms import (
    Attempt,
    Dependency,
    Input,
    Latest,
    Partition,
    Product,
    Publication,
    TableRef,
)

__all__ = ["Currency"]


class Currency(Reading):
    """What has changed since a line was made. It looks one hop: at the lines of its inputs."""

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

    def changes(
        self, product: Product, partition: Partition, line: Publication
    ) -> tuple[Change, ...]:
        """The inputs of a line that changed after it was made, unless their edge ignores that."""
        recorded = {(i.table, i.partition): i for i in line.inputs}
        # A table that the run never read came with new code, and changed code makes nothing stale.
        known = {i.table for i in line.inputs}
        read = {i.table for i in line.inputs if i.content is not None}
        found: dict[Slice, Change] = {}
        for edge in self.dependencies(product):
            if edge.upstream not in known or _indifferent(edge, read):
                continue
            for key in ((edge.upstream, p) for p in self.reads(edge, partition)):
                line_now, before = self.facts.line(*key), recorded.get(key)
                if not _moved(edge, line_now, before):
                    continue
                does = self.does(edge, product, partition, line_now)
                if key not in found or does == "hold":
                    arrived = before is None or before.content is None
                    found[key] = Change(*key, line_now, does, arrived)
        return tuple(found.values())

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


def _moved(edge: Dependency, now: Line | None, before: Input | None) -> bool:
    """Whether a slice is another than a line recorded; what was not ready, if it is newer."""
    absent = before is None or before.content is None
    ignores = edge.on_restatement.action == "ignore" and not isinstance(edge.mapping, Latest)
    if ignores and (before is None or not absent):
        return False
    if before is None or before.content is None:
        return now is not None and now.generation > (before.unready if before else 0)
    return now is None or now.content != before.content


def _newer(line: Line, attempt: Attempt) -> bool:
    """Whether a line came after an attempt: by the ledger's position, where both have one."""
    if line.position and attempt.position:
        return line.position > attempt.position
    return line.at > attempt.at
