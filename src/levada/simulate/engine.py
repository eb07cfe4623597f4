"""
A mesh that lives in virtual time: what lands, fires, is published, fails and is held, and why.

The planner, `sense`, the judge and the publishing protocol are the real ones; ledger and warehouse
are in memory, a build is a duration and a content. Time jumps from one instant at which something
may happen to the next: a landing, the end of a build, the end of a dead run's lease, `next`.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

from levada import publish as publishing
from levada.errors import ClaimLost
from levada.plan import Reach, Target, backoff, decide
from levada.ports import Stage, Warehouse
from levada.sense import wants
from levada.simulate.ledger import MemoryLedger, MemoryWarehouse
from levada.terms import (
    Attempt,
    Claim,
    Contract,
    Input,
    Landing,
    Mart,
    Mesh,
    Partition,
    Product,
    Publication,
    Readiness,
    State,
    Step,
    TableRef,
    Verdict,
)

__all__ = ["KILLS", "Built", "Event", "Simulation", "content_of", "plainly"]

KILLS = ("build", "intent", "swap")
"""Where a run may be killed: in its build, before its swap, or between swap and lines."""

_BEGINNING, _END = 0, 1  # at one instant, what arrives or ends comes before what is woken by it


@dataclass(frozen=True, slots=True)
class Built:
    """What one build makes: a verdict with its reason, and the content of each table."""

    verdict: Verdict
    contents: Mapping[TableRef, str]
    because: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, at an instant of virtual time."""

    at: datetime
    kind: str
    """landed, restated, repeated, fired, published, failed, untold, held, released, killed, lost,
    paused or resumed."""
    subject: str
    """A table for what landed or was published; else a product."""
    partition: Partition | None
    because: str
    generation: int = 0
    read: tuple[Input, ...] = ()
    run: str = ""
    content: str = ""
    marks: tuple[str, ...] = ()
    """What was gone without, in words."""

    @property
    def degraded(self) -> bool:
        """Whether something was gone without."""
        return bool(self.marks)


@dataclass(slots=True)
class _Live:
    """A run between its claim and its end."""

    product: Product
    claim: Claim
    dies: str = ""


class _Killed(BaseException):
    """A simulated run dies here."""


@dataclass(order=True, slots=True)
class _Due:
    at: datetime
    rank: int
    number: int
    act: Callable[[], None] = field(compare=False)


class Simulation:
    """
    A mesh, its ledger and what is still to come.

    `takes` says how long a build runs and `makes` what comes of it. Only `targets` are ever built.
    `dispatch` is that of the settings: a timetable starts first runs (`sensor`), or the reconciler
    does (`ready`).
    """

    def __init__(
        self,
        mesh: Mesh,
        targets: Collection[Target],
        start: datetime,
        *,
        takes: Callable[[Product, Partition], timedelta] = lambda _, __: timedelta(minutes=1),
        makes: Callable[[Product, Claim], Built] | None = None,
        lease: timedelta = timedelta(seconds=30),
        dispatch: str = "sensor",
    ) -> None:
        self.dispatch = dispatch
        self.mesh, self.targets, self.now = mesh, frozenset(targets), start
        self.takes, self.makes, self.lease = takes, makes or plainly, lease
        self.ledger = MemoryLedger(lambda: self.now)
        self.warehouse = MemoryWarehouse()
        self.events: list[Event] = []
        self.live: dict[str, _Live] = {}
        self.paused = False
        self._contracts = {m.contract.label: m.contract for p in mesh.products for m in p.marts}
        self._due: list[_Due] = []
        self._numbers = itertools.count()
        self._runs = itertools.count(1)
        self._dirty: set[Target] = set(targets)
        self._deferred: set[Target] = set()
        self.held: set[Target] = set()
        self._awaiting: set[Target] = set()
        """Rebuilds that wait for something to be made again, however far up."""
        self._wakes: dict[Target, datetime] = {}
        self._position = 0
        self._reach = Reach(mesh, self.targets)

    # --- what happens from outside ----------------------------------------------------------------

    def at(self, instant: datetime, act: Callable[[], None]) -> None:
        """Let something happen at an instant; not before now."""
        self._push(max(instant, self.now), _BEGINNING, act)

    def land(self, table: TableRef, partition: Partition, content: str) -> None:
        """A file lands, for the first time or again."""
        path = f"{table} {partition}"
        landing = Landing(table, partition, 0, content, path, len(content), self.now)
        before = self.ledger.lines.get((table, partition))
        written = self.ledger.land([landing])
        if not written:
            self._tell("repeated", table, partition, "the same content: no new line")
            return
        kind = "restated" if before else "landed"
        because = "its content changed" if before else "for the first time"
        generation = written[0].generation
        self._tell(kind, table, partition, because, generation=generation, content=content)

    def silence(self, table: TableRef, because: str) -> None:
        """A source does not answer; with no reason it does again."""
        self.ledger.probed({table: because})

    def pause(self) -> None:
        """Stop the reconciler: rebuilds and repairs wait, and first runs if it starts them."""
        self.paused = True
        waits = "rebuilds and repairs" if self._alone else "rebuilds, repairs and first runs"
        self._tell("paused", "the reconciler", None, f"{waits} wait")

    def resume(self) -> None:
        """Start the reconciler again."""
        self.paused = False
        self._dirty |= self._deferred
        self._deferred.clear()
        self._tell("resumed", "the reconciler", None, "it looks at everything that waited")

    @property
    def _alone(self) -> bool:
        """Whether first runs start without the reconciler."""
        return self.dispatch == "sensor"

    def release(self, product: str, partition: Partition, reason: str) -> None:
        """Let a partition be rebuilt from the changes that an edge holds."""
        self.ledger.pardon_step(product, partition, reason)
        self._tell("released", product, partition, reason)

    def kill(self, run: str, where: str) -> None:
        """Kill a live run: in its build now, or at its end before (`intent`) or after its swap."""
        live = self.live[run]
        if where == "build":
            self._die(run, live, "in its build")
        else:
            live.dies = where

    # --- time -------------------------------------------------------------------------------------

    @property
    def next(self) -> datetime | None:
        """When something may happen next, if ever."""
        return self._due[0].at if self._due else None

    def work(self) -> None:
        """Decide all that may be decided now, without waiting."""
        self.advance(self.now)

    def advance(self, until: datetime) -> None:
        """Let time pass, from one instant at which something may happen to the next."""
        self._work()
        while self._due and self._due[0].at <= until:
            self.now = self._due[0].at
            while self._due and self._due[0].at == self.now:
                heapq.heappop(self._due).act()
            self._work()
        self.now = max(self.now, until)

    def rest(self, limit: datetime) -> None:
        """Let time pass until nothing more can happen, or to the limit."""
        self._work()
        while (instant := self.next) is not None and instant <= limit:
            self.advance(instant)

    # --- the loop ---------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            self._recover()
            self._follow()
            if not self._dirty:
                return
            dirty, self._dirty = self._dirty, set()
            self._decide(dirty)

    def _follow(self) -> None:
        """Read the ledger's tail: whatever a new line may concern is looked at again."""
        for entry in self.ledger.tail(self._position):
            self._position = max(self._position, entry.position)
            self._dirty |= self._reach.of(entry.subject, entry.partition) | self._awaiting

    def _decide(self, dirty: set[Target]) -> None:
        steps: dict[str, list[Step]] = {}
        found, rests = decide(self.mesh, self.ledger.facts(), self.now, only=dirty)
        self._awaiting -= dirty
        for rest in rests:
            self._note_rest((rest.product, rest.partition), rest.readiness)
        for step in found.steps:
            target = (step.product, step.partition)
            self.held.discard(target)
            if self.paused and not (step.first and self._alone):
                self._deferred.add(target)
            else:
                steps.setdefault(step.product, []).append(step)
        for product, group in steps.items():
            self._sense(self.mesh.product(product), {step.partition: step for step in group})

    def _note_rest(self, target: Target, found: Readiness) -> None:
        self._wake(target, found.next)
        if found.state is State.WAITING and found.missing:
            self._awaiting.add(target)
        if found.state is not State.HELD:
            self.held.discard(target)
        elif target not in self.held:
            self.held.add(target)
            self._tell("held", *target, found.because)

    def _sense(self, product: Product, steps: Mapping[Partition, Step]) -> None:
        """Judge, pin and claim in one transaction, as the first stage of a run does."""
        with self.ledger.sensing((), ()) as transaction:
            asked = wants(self.mesh, product, steps, transaction.facts, self.now)
            for partition, found in asked.items():
                if isinstance(found, Readiness):
                    self._wake((product.id, partition), found.next)
                    continue
                run = f"run-{next(self._runs)}"
                for claim in transaction.claim([found], run=run, lifetime=self.lease):
                    self._fire(run, product, claim, steps[partition])

    def _fire(self, run: str, product: Product, claim: Claim, step: Step) -> None:
        long = self.takes(product, claim.partition)
        self.ledger.renew(run, long + self.lease)  # as its heartbeats do while it lives
        self.live[run] = _Live(product, claim)
        self._tell("fired", product.id, claim.partition, step.because, read=claim.inputs, run=run)
        self._push(self.now + long, _BEGINNING, lambda: self._finish(run))

    def _finish(self, run: str) -> None:
        """The end of a build: audit and publish, or die on the way."""
        live = self.live.get(run)
        if live is None:
            return  # killed in its build
        built = self.makes(live.product, live.claim)
        try:
            if built.verdict.publishes:
                self._publish(run, live, built)
            else:
                self._withhold(run, live, built)
        except _Killed:
            self._die(run, live, f"at its {live.dies}")
        except ClaimLost as error:
            self.ledger.release(run, [live.claim.partition], str(error))
            self._tell("lost", live.product.id, live.claim.partition, str(error), run=run)
        self.live.pop(run, None)

    def _publish(self, run: str, live: _Live, built: Built) -> None:
        claim = live.claim
        lines = [self._line(run, mart, claim, built) for mart in live.product.marts]
        before = {line.table: self.ledger.lines.get((line.table, line.partition)) for line in lines}
        stage = Stage(run, Path(run), {}, {})
        mortal = cast("Warehouse", _Mortal(self.warehouse, live.dies))  # publishing asks no more
        begun = len(self.ledger.log)
        try:
            written = publishing.publish(self.ledger, mortal, stage, lines, self._recorded)
        finally:
            self._tell_finished(begun, but=run)  # who publishes finishes what he finds first
        for line in written:
            old = before[line.table]
            because = line.verdict.value
            if old is not None:
                same = old.content == line.content
                because += ", the same content as before" if same else ", new content"
            because = "; ".join((because, *line.taint))
            self._tell_line("published", line, because)

    def _line(self, run: str, mart: Mart, claim: Claim, built: Built) -> Publication:
        return Publication(
            table=mart.table,
            partition=claim.partition,
            generation=0,
            contract=mart.contract.label,
            verdict=built.verdict,
            data_version="",
            content=built.contents[mart.table],
            made_by=claim.fingerprint,
            inputs=claim.inputs,
            taint=claim.taint,
            run=run,
            at=self.now,
        )

    def _withhold(self, run: str, live: _Live, built: Built) -> None:
        claim, now = live.claim, self.now
        before = self.ledger.attempts.get((claim.product, claim.partition))
        tries = before.tries if before and before.verdict is Verdict.UNKNOWN else 0
        told = built.verdict is Verdict.FAIL
        attempt = Attempt(
            product=claim.product,
            partition=claim.partition,
            run=run,
            fingerprint=claim.fingerprint,
            verdict=built.verdict,
            because=built.because,
            results=(),
            tries=tries + 1,
            at=now,
            not_before=None if told else now + backoff(tries),
        )
        self.ledger.withhold([attempt])
        kind = "failed" if told else "untold"
        self._tell(kind, claim.product, claim.partition, built.because, read=claim.inputs, run=run)

    def _die(self, run: str, live: _Live, where: str) -> None:
        self.ledger.renew(run, self.lease)  # its last heartbeat
        del self.live[run]
        self._tell("killed", live.product.id, live.claim.partition, where, run=run)
        target = (live.product.id, live.claim.partition)
        self._push(self.now + self.lease, _END, lambda: self._dirty.add(target))

    def _recover(self) -> None:
        """Finish or drop what dead runs left in the middle of publishing."""
        if not any(intent.expired for intent in self.ledger.intents()):
            return
        begun = len(self.ledger.log)
        publishing.recover(self.ledger, cast("Warehouse", self.warehouse))
        self._tell_finished(begun)

    def _tell_finished(self, begun: int, but: str = "") -> None:
        """Tell the lines that somebody wrote for a run that had died."""
        for line in list(self.ledger.lines.values()):
            if isinstance(line, Publication) and line.position > begun and line.run != but:
                self._tell_line("published", line, "swapped by a run that died: finished")

    # --- the parts --------------------------------------------------------------------------------

    def _recorded(self, label: str) -> Contract:
        return self._contracts[label]

    def _wake(self, target: Target, instant: datetime | None) -> None:
        if instant is not None and self._wakes.get(target) != instant:
            self._wakes[target] = instant
            self._push(instant, _END, lambda: self._dirty.add(target))

    def _push(self, at: datetime, rank: int, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, _Due(at, rank, next(self._numbers), act))

    def _tell_line(self, kind: str, line: Publication, because: str) -> None:
        self.events.append(
            Event(
                at=self.now,
                kind=kind,
                subject=str(line.table),
                partition=line.partition,
                because=because,
                generation=line.generation,
                read=line.inputs,
                run=line.run,
                content=line.content,
                marks=line.taint,
            )
        )

    def _tell(
        self,
        kind: str,
        subject: TableRef | str,
        partition: Partition | None,
        because: str,
        *,
        generation: int = 0,
        read: tuple[Input, ...] = (),
        run: str = "",
        content: str = "",
    ) -> None:
        self.events.append(
            Event(
                at=self.now,
                kind=kind,
                subject=str(subject),
                partition=partition,
                because=because,
                generation=generation,
                read=read,
                run=run,
                content=content,
            )
        )


class _Mortal:
    """The warehouse in the hands of a run that dies before or after its swap."""

    def __init__(self, warehouse: MemoryWarehouse, dies: str) -> None:
        self._warehouse, self._dies = warehouse, dies
        self.changes, self.altered = warehouse.changes, warehouse.altered

    def swap(self, *swapped: object) -> str:
        if self._dies == "intent":
            raise _Killed
        version = self._warehouse.swap(*swapped)  # type: ignore[arg-type]
        if self._dies == "swap":
            raise _Killed
        return version

    def find(self, domain: str, run: str) -> str | None:
        return self._warehouse.find(domain, run)


def content_of(table: TableRef, partition: Partition, inputs: Collection[Input]) -> str:
    """
    What a build makes of its inputs: the same from the same, else something else.

    >>> from levada.terms import WHOLE
    >>> fleet = TableRef("fleet", "planes")
    >>> content_of(fleet, WHOLE, ()) == content_of(fleet, WHOLE, ())
    True
    """
    read = sorted((str(i.table), i.partition.key, i.content or "") for i in inputs)
    return hashlib.sha256(repr((str(table), partition.key, read)).encode()).hexdigest()[:16]


def plainly(product: Product, claim: Claim) -> Built:
    """A build that passes its audit, whatever it reads."""
    contents = {
        mart.table: content_of(mart.table, claim.partition, claim.inputs) for mart in product.marts
    }
    return Built(Verdict.PASS, contents)
