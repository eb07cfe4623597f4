"""The judge itself, which remembers what it found about one set of facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from levada.calendars import opening
from levada.readiness.causes import Change, Line, failure
from levada.readiness.coming import Coming
from levada.readiness.currency import Currency
from levada.readiness.edges import Edge, Wait, ahead, grouped, named, said, soonest
from levada.readiness.impossible import Impossible
from levada.readiness.known import ending
from levada.readiness.marks import holding
from levada.readiness.reading import Slice
from levada.readiness.waits import Waits
from levada.readiness.waived import tolerated
from levada.terms import (
    Attempt,
    Facts,
    Input,
    Landing,
    Mesh,
    Partition,
    Product,
    Publication,
    Readiness,
    State,
    TableRef,
    Verdict,
)

__all__ = ["Judge"]


class Judge(Currency):
    """The judgements that one set of facts allows, each made once."""

    def __init__(self, mesh: Mesh, facts: Facts, now: datetime) -> None:
        super().__init__(mesh, facts, now)
        self._tables: dict[Slice, Readiness] = {}
        self._accepted: dict[tuple[str, Partition], frozenset[tuple[TableRef, Partition, int]]] = {}
        self._inputs: dict[tuple[str, Partition], tuple[Readiness, tuple[Edge, ...]]] = {}
        self._tainted = bool(facts.waivers)  # a line that was let through has its waiver beside it
        self._impossible = Impossible(self)
        self._coming = Coming(self)
        self._untold: dict[tuple[str, Partition], bool] = {}
        self._waits = Waits(self, self._sound, self.offered, self._is_untold)

    @property
    def far(self) -> bool:
        """
        Whether an answer rests on what lies further up than the inputs of inputs: only facts of all
        that the tables are made from are enough for it.
        """
        return self._far or self._impossible.found

    # One table

    def table(self, table: TableRef, partition: Partition) -> Readiness:
        """What a reader of this table's partition may count on, whoever he is."""
        found = self._sound(table, partition)
        line = self._let_through(table, partition) if found.state is State.READY else None
        return tolerated(self.facts, found, line, "", self.now) if line else found

    def offered(
        self, product: Product, at: Partition, table: TableRef, partition: Partition
    ) -> Readiness:
        """
        What the build of a product's partition may count on. What was let through by a waiver is
        held once that has ended, except from whoever has accepted this very generation before.
        """
        found = self._sound(table, partition)
        line = self._let_through(table, partition) if found.state is State.READY else None
        if line is None:
            return found
        if (table, partition, line.generation) in self._accepted_by(product, at):
            return replace(found, degraded=True)
        return tolerated(self.facts, found, line, product.id, self.now)

    def _let_through(self, table: TableRef, partition: Partition) -> Publication | None:
        """The line of a slice, if a waived check taints it."""
        line = self.facts.line(table, partition)
        return line if isinstance(line, Publication) and line.waived else None

    def _accepted_by(
        self, product: Product, at: Partition
    ) -> frozenset[tuple[TableRef, Partition, int]]:
        """The inputs, by generation, that a product's partition was last made of."""
        key = (product.id, at)
        if key not in self._accepted:
            lines = (line for line in self.lines(product, at) if line)
            read = (i for line in lines for i in line.inputs if i.content is not None)
            self._accepted[key] = frozenset((i.table, i.partition, i.generation) for i in read)
        return self._accepted[key]

    def _sound(self, table: TableRef, partition: Partition) -> Readiness:
        """What the table's partition is, whatever was waived for it."""
        key = (table, partition)
        if key not in self._tables:
            self._tables[key] = self._judge_table(table, partition)
        return self._tables[key]

    def _judge_table(self, table: TableRef, partition: Partition) -> Readiness:
        if wrong := self.misplaced(partition, *self.mesh.slicing(table)):
            return Readiness(State.IMPOSSIBLE, wrong)
        line = self.facts.line(table, partition)
        if table.is_source:
            return self._landed(table, line)
        return self._made(table, partition, line)

    def _made(self, table: TableRef, partition: Partition, line: Line | None) -> Readiness:
        product = self.mesh.product(table)
        if lost := self.mesh.lost.get(product.id):
            return Readiness(State.IMPOSSIBLE, lost)
        if held := self._closed(table):
            return held
        found = self._open(product, table, partition, line)
        return replace(found, next=soonest(found.next, self._dated(table)))

    def _open(
        self, product: Product, table: TableRef, partition: Partition, line: Line | None
    ) -> Readiness:
        """What a table is that nobody has closed."""
        attempt = self.attempt(product, partition)
        if attempt and attempt.verdict is Verdict.FAIL:
            return self._failed(attempt, table)
        if isinstance(line, Publication):
            found = self._published(product, partition, line)
            untold = attempt is not None and found.state is State.STALE
            return replace(found, unknown=True) if untold else found
        return self._unpublished(product, partition, attempt)

    def _failed(self, attempt: Attempt, table: TableRef) -> Readiness:
        said, until = failure(attempt, table), self.waived(attempt)
        if until is None:
            return Readiness(State.FAILED, said)
        said += f"; waived until {until:%Y-%m-%d %H:%M}Z, to be built again"
        return Readiness(State.WAITING, said, next=until)

    def _closed(self, table: TableRef) -> Readiness | None:
        """Whether nobody may count on the table at all: changed by hand, or past its sunset."""
        if tampering := self.facts.tampered.get(table):
            return Readiness(State.HELD, f"changed by hand: {tampering.because}")
        contract = self.mesh.mart(table).contract
        if contract.sunset and opening(contract.sunset, contract.zone) <= self.now:
            said = f"its sunset was on {contract.sunset}; a new version of its contract may move it"
            return Readiness(State.HELD, said)
        return None

    def _dated(self, table: TableRef) -> datetime | None:
        """When the next date of its contract, deprecation or sunset, makes another thing of it."""
        contract = self.mesh.mart(table).contract
        dates = (d for d in (contract.deprecated, contract.sunset) if d)
        return soonest(*(ahead(opening(d, contract.zone), self.now) for d in dates))

    def _leaving(self, table: TableRef) -> str:
        """What readers of a table that goes away are told."""
        said = ending(self.mesh.mart(table).contract, self.now)
        return f"; {said}" if said else ""

    def _landed(self, table: TableRef, line: Line | None) -> Readiness:
        if line is not None:
            return Readiness(State.READY, f"landed, generation {line.generation}")
        if said := self.unasked(table):
            return Readiness(State.WAITING, said, unknown=True)
        return Readiness(State.WAITING, "nothing landed")

    def _unpublished(
        self, product: Product, partition: Partition, attempt: Attempt | None
    ) -> Readiness:
        if claim := self.facts.claims.get((product.id, partition)):
            said, wakes = f"being built by run {claim.run}", ahead(claim.until, self.now)
            return Readiness(State.WAITING, said, next=wakes)
        if attempt:
            said, wakes = f"could not be judged: {attempt.because}", attempt.not_before
            return Readiness(State.WAITING, said, next=ahead(wakes, self.now), unknown=True)
        if never := self._impossible.why(product, partition):
            return Readiness(State.IMPOSSIBLE, f"can never be built: {never}")
        if self._tainted and (held := self.inputs(product, partition)).state is State.HELD:
            return Readiness(State.HELD, held.because, held.missing)
        return Readiness(State.WAITING, "nothing published")

    def _published(self, product: Product, partition: Partition, line: Publication) -> Readiness:
        if foreign := self.foreign(line):
            return Readiness(State.STALE, foreign)
        changes = self.changes(product, partition, line)
        hangs = (product.id, partition) in self.hanging
        wakes = self.inputs(product, partition).next if hangs else None
        if changes:
            held = [c for c in changes if c.action == "hold"]
            state = State.HELD if held else State.STALE
            moved = held or changes
            more = f", and {len(moved) - 1} more" if len(moved) > 1 else ""
            missing = tuple((c.table, c.partition) for c in changes)
            return Readiness(state, f"{moved[0]}{more}", missing, wakes)
        said = f"published, generation {line.generation}, {line.verdict.value}"
        if line.warnings:
            said += f": {', '.join(line.warnings)}"
        if taint := holding(line, self.mended):
            said += f"; {', '.join(taint)}"
        degraded = line.verdict is not Verdict.PASS or bool(taint)
        said += self._leaving(line.table)
        return Readiness(State.READY, said, next=wakes, degraded=degraded)

    def mended(self, read: Input) -> bool:
        """Whether what was read though it was not ready is ready now, with the same content."""
        line = self.facts.line(read.table, read.partition)
        same = line is not None and line.content == read.content
        if same and not read.table.is_source:
            self.rests_on_more()  # on its attempts, and on what its inputs are
        return same and self._sound(read.table, read.partition).state is State.READY

    # All inputs of a product

    def inputs(self, product: Product, partition: Partition) -> Readiness:
        """Whether the product's partition may be built now."""
        return self._judged(product, partition)[0]

    def unmet(self, product: Product, partition: Partition) -> tuple[Wait, ...]:
        """What a product's partition waits for, in order, each with its judgement."""
        edges = self._judged(product, partition)[1]
        waits = {w for e in edges if e.blocks for w in e.waits}
        return tuple(sorted(waits, key=lambda w: w[:2]))

    def marks(self, product: Product, partition: Partition) -> tuple[str, ...]:
        """What a build of the partition would do without now: the taint of its publication."""
        edges = self._judged(product, partition)[1]
        return tuple(dict.fromkeys(mark for edge in edges for mark in edge.marks))

    def pins(self, product: Product, partition: Partition) -> tuple[Input, ...]:
        """
        What a build would read now: every mapped slice, with content None where it is not ready.
        All slices of a published table are pinned at the table's newest data version.
        """
        found: dict[Slice, Input] = {}
        for edge in self._judged(product, partition)[1]:
            table = edge.dependency.upstream
            for p in edge.absent:
                there = self.facts.line(table, p)
                unread = Input(table, p, 0, None, unready=there.generation if there else 0)
                found.setdefault((table, p), unread)
            for p in edge.ready:
                if line := self.facts.line(table, p):
                    version = line.path if isinstance(line, Landing) else self.version(table)
                    unready = line.generation if p in edge.lent else 0
                    found[table, p] = Input(
                        *(table, p, line.generation, line.content, version), unready
                    )
        return tuple(found[key] for key in sorted(found))

    def read_now(self, product: Product, partition: Partition) -> frozenset[Slice]:
        """The slices of which a build would read something now."""
        edges = self._judged(product, partition)[1]
        return frozenset((e.dependency.upstream, p) for e in edges for p in e.ready)

    def _is_untold(self, table: TableRef, partition: Partition, found: Readiness) -> bool:
        """
        Whether a slice is not ready since nobody can tell: its own audit or source gave no answer,
        or it waits for nothing but what nobody can tell.
        """
        if found.unknown or table.is_source or found.state not in (State.WAITING, State.STALE):
            return found.unknown
        product = self.mesh.product(table)
        key = (product.id, partition)
        if key in self.facts.claims or self.attempt(product, partition):
            return False
        if key not in self._untold:
            if any(not edge.upstream.is_source for edge in product.dependencies):
                self.rests_on_more()
            self._untold[key] = self._waits_for_answers(product, partition)
        return self._untold[key]

    def _waits_for_answers(self, product: Product, partition: Partition) -> bool:
        """Whether a partition could be built if all of which nobody can tell were there."""
        found, edges = self._judged(product, partition)
        hopes: dict[str, list[bool]] = {}
        for number, edge in enumerate(edge for edge in edges if edge.blocks):
            hope = self._waits.hopeful(product, edge.dependency, partition)
            hopes.setdefault(edge.dependency.any_of or str(number), []).append(hope)
        waits = found.state is State.WAITING and bool(hopes)
        return waits and all(any(group) for group in hopes.values())

    def resting(self, product: Product, partition: Partition) -> Readiness | None:
        """
        Why a published partition whose inputs changed is not rebuilt yet, if it is not: an edge
        holds it until somebody releases it, it was published within the quiet time, or something
        above it is being made again (`missing`), which it reads then.
        """
        for mart in product.marts:
            if held := self._closed(mart.table):
                return held
        lines = [line for line in self.lines(product, partition) if line]
        changes = [c for line in lines for c in self.changes(product, partition, line)]
        if held_by := [c for c in changes if c.action == "hold"]:
            return Readiness(State.HELD, f"held: {held_by[0]}; `levada release` lets it go on")
        if len(lines) < len(product.marts) or not changes or not self.mesh.quiet:
            return None
        if self.attempt(product, partition) is not None:
            return None  # a repair, or a retry with a back-off of its own
        return self._unquiet(product, partition, lines, changes)

    def _unquiet(
        self,
        product: Product,
        partition: Partition,
        lines: Sequence[Publication],
        changes: Sequence[Change],
    ) -> Readiness | None:
        """What a rebuild waits for, so that of many restatements few are followed."""
        until = max(line.at for line in lines) + self.mesh.quiet
        if until > self.now:
            said = f"{changes[0]}; rebuilt at {until:%H:%M:%S}Z, when its quiet time is over"
            return Readiness(State.WAITING, said, next=until)
        if self.inputs(product, partition).state is not State.READY:
            return None  # it waits for these anyway
        if found := self._coming.above(product, partition):
            table, at, until = found
            said = f"{changes[0]}; rebuilt when {named(table, at)} has been made again"
            return Readiness(State.WAITING, said, ((table, at),), until)
        return None

    def _judged(self, product: Product, partition: Partition) -> tuple[Readiness, tuple[Edge, ...]]:
        key = (product.id, partition)
        if key not in self._inputs:
            self._inputs[key] = self._judge_inputs(product, partition)
        return self._inputs[key]

    def _judge_inputs(
        self, product: Product, partition: Partition
    ) -> tuple[Readiness, tuple[Edge, ...]]:
        misplaced = self.misplaced(partition, product.grain, product.zone)
        if wrong := misplaced or self.mesh.lost.get(product.id):
            return Readiness(State.IMPOSSIBLE, wrong), ()
        edges = grouped(self._waits.edge(product, d, partition) for d in self.dependencies(product))
        unmet = [e for e in edges if e.blocks]
        required = [e for e in edges if e.dependency.required and not e.dependency.any_of]
        missing = tuple(dict.fromkeys((t, p) for e in unmet or required for t, p, _ in e.waits))
        wakes = min((e.next for e in edges if e.next), default=None)
        if unmet:
            if never := self._impossible.why(product, partition):
                return Readiness(State.IMPOSSIBLE, f"can never be built: {never}", missing), edges
            if lapsed := self._lapsed(product, partition, unmet):
                return Readiness(State.HELD, f"held: {'; '.join(lapsed)}", missing, wakes), edges
            because = "waits for " + "; ".join(said(unmet))
            return Readiness(State.WAITING, because, missing, wakes), edges
        if restated := self._restated(product, partition):
            table, at, name = restated
            said_so = f"waits for {named(table, at)}: it is made again by backfill {name}"
            return Readiness(State.WAITING, said_so, ((table, at),), wakes), edges
        because = ", ".join(e.said for e in edges) or "reads nothing"
        degraded = bool(missing) or any(e.degraded or e.marks for e in edges)
        return Readiness(State.READY, because, missing, wakes, degraded), edges

    def _restated(
        self, product: Product, partition: Partition
    ) -> tuple[TableRef, Partition, str] | None:
        """An input that a running backfill has not made again yet, if there is one."""
        if not self.facts.restating:
            return None
        for edge in self.dependencies(product):
            if edge.upstream.is_source or edge.on_restatement.action != "rerun":
                continue
            maker = self.mesh.product(edge.upstream).id
            for read in self.reads(edge, partition):
                if name := self.facts.restating.get((maker, read)):
                    return edge.upstream, read, name
        return None

    def _lapsed(self, product: Product, at: Partition, unmet: Sequence[Edge]) -> tuple[str, ...]:
        """Which inputs were let through by waivers that let this product through no more."""
        if not self._tainted:
            return ()
        waits = dict.fromkeys((t, p) for e in unmet for t, p, r in e.waits if r.state is State.HELD)
        return tuple(
            f"{named(table, p)}: {self.offered(product, at, table, p).because}"
            for table, p in waits
            if self._sound(table, p).state is State.READY
        )
