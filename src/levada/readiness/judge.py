"""The judge itself, which remembers what it found about one set of facts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from levada.calendars import opening
from levada.intervals import containing, due, end, inside, mapped, preceding, within
from levada.readiness.causes import Change, Line, failure
from levada.readiness.edges import (
    Edge,
    Found,
    Wait,
    grouped,
    named,
    said,
    waiting,
)
from levada.readiness.fingerprints import bare, fingerprint
from levada.readiness.known import ending
from levada.readiness.marks import holding, marks, without
from levada.readiness.waived import repairable, tolerated
from levada.terms import (
    WHOLE,
    Attempt,
    Dependency,
    Facts,
    Grain,
    Input,
    Landing,
    Latest,
    Mesh,
    Partition,
    Product,
    Publication,
    Readiness,
    State,
    TableRef,
    Verdict,
    WaitPolicy,
)

__all__ = ["Judge", "Slice"]

Slice = tuple[TableRef, Partition]


class Judge:
    """The judgements that one set of facts allows, each made once."""

    def __init__(self, mesh: Mesh, facts: Facts, now: datetime) -> None:
        self.mesh, self.facts, self.now = mesh, facts, now
        self._tables: dict[Slice, Readiness] = {}
        self._accepted: dict[tuple[str, Partition], frozenset[tuple[TableRef, Partition, int]]] = {}
        self._inputs: dict[tuple[str, Partition], tuple[Readiness, tuple[Edge, ...]]] = {}
        self._never: dict[tuple[str, Partition], str] = {}
        self._edges: dict[str, tuple[Dependency, ...]] = {}
        self._newest: dict[TableRef, Partition | None] = {}
        self._versions: dict[TableRef, str] | None = None
        self._tainted = bool(facts.waivers)  # a line that was let through has its waiver beside it

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
        if wrong := self._misplaced(partition, *self.mesh.slicing(table)):
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
        return replace(found, next=_soonest(found.next, self._dated(table)))

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
            return Readiness(State.HELD, f"its sunset was on {contract.sunset}")
        return None

    def _dated(self, table: TableRef) -> datetime | None:
        """When the next date of its contract, deprecation or sunset, makes another thing of it."""
        contract = self.mesh.mart(table).contract
        dates = (d for d in (contract.deprecated, contract.sunset) if d)
        return _soonest(*(_ahead(opening(d, contract.zone), self.now) for d in dates))

    def _leaving(self, table: TableRef) -> str:
        """What readers of a table that goes away are told."""
        said = ending(self.mesh.mart(table).contract, self.now)
        return f"; {said}" if said else ""

    def _landed(self, table: TableRef, line: Line | None) -> Readiness:
        if line is not None:
            return Readiness(State.READY, f"landed, generation {line.generation}")
        if said := self._unasked(table):
            return Readiness(State.WAITING, said, unknown=True)
        return Readiness(State.WAITING, "nothing landed")

    def _unasked(self, table: TableRef) -> str:
        """Since when a source gives no answer, and why; empty if it does."""
        failure = self.facts.probes.get(table)
        if failure is None:
            return ""
        return f"could not be asked since {failure.since:%Y-%m-%d %H:%M}Z: {failure.because}"

    def _unpublished(
        self, product: Product, partition: Partition, attempt: Attempt | None
    ) -> Readiness:
        if claim := self.facts.claims.get((product.id, partition)):
            said, wakes = f"being built by run {claim.run}", _ahead(claim.until, self.now)
            return Readiness(State.WAITING, said, next=wakes)
        if attempt:
            said, wakes = f"could not be judged: {attempt.because}", attempt.not_before
            return Readiness(State.WAITING, said, next=_ahead(wakes, self.now), unknown=True)
        if never := self._never_built(product, partition):
            return Readiness(State.IMPOSSIBLE, f"can never be built: {never}")
        if self._tainted and (held := self.inputs(product, partition)).state is State.HELD:
            return Readiness(State.HELD, held.because, held.missing)
        return Readiness(State.WAITING, "nothing published")

    def _published(self, product: Product, partition: Partition, line: Publication) -> Readiness:
        if foreign := self.foreign(line):
            return Readiness(State.STALE, foreign)
        if changes := self.changes(product, partition, line):
            held = [c for c in changes if c.action == "hold"]
            state = State.HELD if held else State.STALE
            moved = held or changes
            more = f", and {len(moved) - 1} more" if len(moved) > 1 else ""
            missing = tuple((c.table, c.partition) for c in changes)
            return Readiness(state, f"{moved[0]}{more}", missing)
        said = f"published, generation {line.generation}, {line.verdict.value}"
        if line.warnings:
            said += f": {', '.join(line.warnings)}"
        if taint := holding(self.facts, line):
            said += f"; {', '.join(taint)}"
        degraded = line.verdict is not Verdict.PASS or bool(taint)
        return Readiness(State.READY, said + self._leaving(line.table), degraded=degraded)

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

    def lines(self, product: Product, partition: Partition) -> tuple[Publication | None, ...]:
        """The newest publication of each mart of a product."""
        found = (self.facts.line(m.table, partition) for m in product.marts)
        return tuple(n if isinstance(n, Publication) else None for n in found)

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
        for edge in self._dependencies(product):
            if edge.upstream not in known or _indifferent(edge, read):
                continue
            for key in ((edge.upstream, p) for p in self._read(edge, partition)):
                line_now, before = self.facts.line(*key), recorded.get(key)
                if not _moved(edge, line_now, before):
                    continue
                does = self._does(edge, product, partition, line_now)
                if key not in found or does == "hold":
                    arrived = before is None or before.content is None
                    found[key] = Change(*key, line_now, does, arrived)
        return tuple(found.values())

    def _does(
        self, edge: Dependency, product: Product, partition: Partition, moved: Line | None
    ) -> str:
        """What an edge does about a change: a hold that was released reruns, as arrivals do."""
        pardoned = self.facts.pardons.get((product.id, partition), 0)
        released = moved is not None and moved.position < pardoned
        return "hold" if edge.on_restatement.action == "hold" and not released else "rerun"

    def late(self, product: Product, partition: Partition) -> tuple[Change, ...]:
        """
        What the newest lines went without since it was there and not ready, and what is ready now
        though it was not published again: its own input is as before, or a waiver was renewed.
        """
        lacking = {
            (i.table, i.partition)
            for line in self.lines(product, partition)
            for i in (line.inputs if line else ())
            if i.content is None and i.unready
        }
        if not lacking or self.inputs(product, partition).state is not State.READY:
            return ()
        pinned = {(i.table, i.partition) for i in self.pins(product, partition) if i.content}
        found: dict[Slice, Change] = {}
        for edge in self._dependencies(product):
            for key in ((edge.upstream, p) for p in self._read(edge, partition)):
                if key in lacking and key in pinned:
                    line = self.facts.line(*key)
                    does = self._does(edge, product, partition, line)
                    found[key] = Change(*key, line, does, arrived=True)
        return tuple(found.values())

    def resting(self, product: Product, partition: Partition) -> Readiness | None:
        """
        Why a published partition whose inputs changed is not rebuilt yet, if it is not: an edge
        holds it until somebody releases it, or it was published within the quiet time.
        """
        for mart in product.marts:
            if held := self._closed(mart.table):
                return held
        lines = [line for line in self.lines(product, partition) if line]
        changes = [c for line in lines for c in self.changes(product, partition, line)]
        changes += self.late(product, partition)
        if held_by := [c for c in changes if c.action == "hold"]:
            return Readiness(State.HELD, f"held: {held_by[0]}; `levada release` lets it go on")
        if len(lines) < len(product.marts) or not changes or not self.mesh.quiet:
            return None
        if self.attempt(product, partition) is not None:
            return None  # a repair, or a retry with a back-off of its own
        until = max(line.at for line in lines) + self.mesh.quiet
        if until <= self.now:
            return None
        said = f"{changes[0]}; rebuilt at {until:%H:%M:%S}Z, when its quiet time is over"
        return Readiness(State.WAITING, said, next=until)

    def _read(self, edge: Dependency, partition: Partition) -> tuple[Partition, ...]:
        """The upstream slices that an edge means now."""
        if isinstance(edge.mapping, Latest):
            newest = self._newest_slice(edge.upstream)
            return (newest,) if newest else ()
        return mapped(
            edge.mapping, partition, *self.mesh.slicing(edge.upstream), self.mesh.span
        ).partitions

    def _newest_slice(self, table: TableRef) -> Partition | None:
        """The newest slice of a table that has a line."""
        if table not in self._newest:
            slices = reversed(within(*self.mesh.slicing(table), self.mesh.span))
            self._newest[table] = next((p for p in slices if self.facts.line(table, p)), None)
        return self._newest[table]

    def _misplaced(self, partition: Partition, grain: Grain, zone: str) -> str:
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

    def _dependencies(self, product: Product) -> tuple[Dependency, ...]:
        if product.id not in self._edges:
            self._edges[product.id] = tuple(dict.fromkeys(product.dependencies))
        return self._edges[product.id]

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
                    version = line.path if isinstance(line, Landing) else self._version(table)
                    unready = line.generation if p in edge.lent else 0
                    found[table, p] = Input(
                        *(table, p, line.generation, line.content, version), unready
                    )
        return tuple(found[key] for key in sorted(found))

    def _version(self, table: TableRef) -> str:
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

    def _judged(self, product: Product, partition: Partition) -> tuple[Readiness, tuple[Edge, ...]]:
        key = (product.id, partition)
        if key not in self._inputs:
            self._inputs[key] = self._judge_inputs(product, partition)
        return self._inputs[key]

    def _judge_inputs(
        self, product: Product, partition: Partition
    ) -> tuple[Readiness, tuple[Edge, ...]]:
        misplaced = self._misplaced(partition, product.grain, product.zone)
        if wrong := misplaced or self.mesh.lost.get(product.id):
            return Readiness(State.IMPOSSIBLE, wrong), ()
        edges = grouped(
            self._ruled(product, self._edge(product, d, partition))
            for d in self._dependencies(product)
        )
        unmet = [e for e in edges if e.blocks]
        required = [e for e in edges if e.dependency.required and not e.dependency.any_of]
        missing = tuple(dict.fromkeys((t, p) for e in unmet or required for t, p, _ in e.waits))
        wakes = min((e.next for e in edges if e.next), default=None)
        if unmet:
            if never := self._never_built(product, partition):
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
        for edge in self._dependencies(product):
            if edge.upstream.is_source or edge.on_restatement.action != "rerun":
                continue
            maker = self.mesh.product(edge.upstream).id
            for read in self._read(edge, partition):
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

    def _ruled(self, product: Product, edge: Edge) -> Edge:
        """An edge that a gate requires says for which rule."""
        table = edge.dependency.upstream
        rules = [r.name for m in product.marts for r in m.gates if table in r.tables]
        if not rules:
            return edge
        return replace(edge, said=f"{edge.said} (for the rule {', '.join(rules)})")

    def _edge(self, product: Product, edge: Dependency, partition: Partition) -> Edge:
        """Judge one dependency of one partition."""
        wait = edge.wait
        until = due(wait.deadline, partition) if wait.deadline else None
        if isinstance(edge.mapping, Latest):
            latest = self._latest(product, partition, edge)
            return waiting(latest, until, self.now) if until else latest
        found = self._found(product, edge, partition)
        late = until is None or until <= self.now or not found.coming
        absent = tuple(p for _, p, _ in found.waits)
        replaced: dict[Partition, Partition] = {}
        if late and wait.max_lag is not None:
            replaced = self._replaced(edge, found, wait.max_lag)
        good = len(found.ready) + len(replaced)
        full = len(found.ready) == found.total
        met = full or (late and wait.met(ready=good, total=found.total))
        read = dict.fromkeys((*found.ready, *(p for p in replaced.values() if p not in absent)))
        kept = {p for p, by in replaced.items() if p == by}  # an older line of the very slice
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
            marks=() if full else marks(edge, found, replaced),
        )
        return waiting(result, until, self.now) if until and not late else result

    def _found(self, product: Product, edge: Dependency, partition: Partition) -> Found:
        """The slices that an edge asks for, each judged."""
        table = edge.upstream
        found = mapped(edge.mapping, partition, *self.mesh.slicing(table), self.mesh.span)
        judged = [(p, self.offered(product, partition, table, p)) for p in found.partitions]
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
        newest = self._newest_slice(table)
        line = self.facts.line(table, newest) if newest else None
        if newest is None or line is None:
            newest = self._due(table)
            if newest is None:
                return Edge(edge, False, f"{table}: the mesh's span holds no slice of it")
            readiness = self.offered(product, at, table, newest)
            said = f"{named(table, newest)}: {readiness.because}"
            waits = ((table, newest, readiness),)
            lacking = without(table, None, unknown=readiness.unknown)
            return Edge(edge, False, said, absent=(WHOLE,), waits=waits, marks=lacking)
        readiness = self.offered(product, at, table, newest)
        wakes = readiness.next
        if readiness.state is State.READY and limit is not None:
            wakes = _soonest(readiness.next, _ahead(line.at + limit, self.now))
            if self.now - line.at >= limit:  # at `next` the answer is another
                old = f"published {_long(self.now - line.at)} ago, not within {_long(limit)}"
                unasked = self._unasked(table)
                old += f"; {unasked}" if unasked else ""
                readiness = Readiness(State.WAITING, old, unknown=bool(unasked))
        name = f"the latest {named(table, newest)}"
        if readiness.state is not State.READY:
            said = f"{name}: {readiness.because}"
            waits = ((table, newest, readiness),)
            lacking = without(table, newest, unknown=readiness.unknown)
            return Edge(edge, False, said, absent=(newest,), waits=waits, marks=lacking)
        return Edge(edge, True, name, (newest,), next=wakes, degraded=readiness.degraded)

    def _due(self, table: TableRef) -> Partition | None:
        """The slice that should be the newest by now."""
        slices = within(*self.mesh.slicing(table), self.mesh.span)
        over = (p for p in reversed(slices) if p.start is None or end(p) <= self.now)
        return next(over, slices[0] if slices else None)

    def _never_built(self, product: Product, partition: Partition) -> str:
        """Why a partition can never be built, whatever may land; empty if it can."""
        if lost := self.mesh.lost.get(product.id):
            return lost
        key = (product.id, partition)
        if key not in self._never:
            reasons: dict[str, list[str]] = {}
            for n, edge in enumerate(d for d in self._dependencies(product) if d.required):
                group = edge.any_of or f"{n}"
                reasons.setdefault(group, []).append(self._never_met(edge, partition))
            ends = (whys[0] for whys in reasons.values() if all(whys))
            self._never[key] = next(ends, "")
        return self._never[key]

    def _never_met(self, edge: Dependency, partition: Partition) -> str:
        table = edge.upstream
        found = mapped(edge.mapping, partition, *self.mesh.slicing(table), self.mesh.span)
        never = list(found.impossible)
        if not table.is_source:
            above = self.mesh.product(table)
            lost = above.id in self.mesh.lost  # what it published cannot be called current
            lacking = (p for p in found.partitions if lost or self.facts.line(table, p) is None)
            never += [(p, why) for p in lacking if (why := self._never_built(above, p))]
        if edge.wait.max_lag is not None:
            limit = edge.wait.max_lag
            never = [(p, why) for p, why in never if not (p and self._may_replace(table, p, limit))]
        possible = found.total - len(never)
        policy = WaitPolicy(at_least=1) if isinstance(edge.mapping, Latest) else edge.wait
        if not never or policy.met(ready=possible, total=found.total):
            return ""
        return f"{named(table, never[0][0])}: {never[0][1]}"

    def _may_replace(self, table: TableRef, partition: Partition, limit: timedelta) -> bool:
        """Whether an earlier slice could ever stand in for one that can never be."""
        if partition.start is None:
            return False
        earlier = preceding(partition)
        while partition.begin - earlier.begin <= limit and inside(earlier, self.mesh.span):
            if table.is_source or not self._never_built(self.mesh.product(table), earlier):
                return True
            earlier = preceding(earlier)
        return False


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


def _ahead(instant: datetime | None, now: datetime) -> datetime | None:
    return instant if instant and instant > now else None


def _soonest(*instants: datetime | None) -> datetime | None:
    return min((instant for instant in instants if instant), default=None)


def _long(time: timedelta) -> str:
    return f"{time.days}d" if time.days else f"{time.total_seconds() / 3600:.3g}h"
