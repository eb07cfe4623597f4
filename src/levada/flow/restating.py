"""
Running a backfill in one process: its open steps in their order, each settled in the ledger.

What a killed process leaves behind is open, and is all that the next one does: a step that was
published before it was settled is found unchanged. Other runs may make the same slices meanwhile;
nothing is built twice, since claims are exclusive and fingerprints are known.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from levada import plan as planning
from levada import publish as publishing
from levada import sense as sensing
from levada.errors import DeclarationError, Fault
from levada.flow import batching, steps
from levada.flow.inspecting import inspect
from levada.flow.loop import Progress, probe, sweep
from levada.flow.stages import Platform, Run, execute
from levada.flow.steps import Look
from levada.govern.backfills import Need
from levada.intervals import bounds
from levada.ports import Want
from levada.readiness import Judge
from levada.terms import (
    Backfill,
    Batching,
    Begun,
    Group,
    Mesh,
    Outcome,
    Partition,
    Product,
    Readiness,
    Span,
    State,
    Verdict,
)

__all__ = ["Foreseen", "Record", "begin", "foresee", "paused_if_changed", "refuse", "work"]


class Record(Protocol):
    """What the ledger keeps of backfills (role: runner)."""

    def begin_backfill(
        self,
        name: str,
        document: Mapping[str, Any],
        steps: Mapping[str, Sequence[Partition]],
        *,
        forced: bool = False,
    ) -> bool:
        """Begin a plan; whether that is new."""

    def settle_backfill(self, name: str, outcomes: Sequence[Outcome]) -> None:
        """Record what has become of open steps."""

    def backfills(self, name: str | None = None) -> tuple[Begun, ...]:
        """Those that were begun, or the one of this name."""

    def backfill_steps(
        self, name: str, product: str | None = None, *states: str
    ) -> tuple[Outcome, ...]:
        """What has become of its steps."""

    def backfill_state(self, name: str) -> str:
        """running, paused, cancelled; finished: nothing of it is open."""

    def at_work(self) -> tuple[Begun, ...]:
        """Those with steps to be done now."""

    def turn_backfill(self, name: str, state: str, because: str) -> bool:
        """Let it run, pause or cancel it; whether that is news."""

    def batchings(self) -> Mapping[str, Batching]:
        """The newest equality test of each product."""

    def approved(self, subject: str, digest: str) -> str | None:
        """Who approved it, if anybody did."""


def refuse(mesh: Mesh, record: Record, name: str, found: Backfill, needs: Sequence[Need]) -> None:
    """Raise DeclarationError where the plan's mesh has changed, or an approval is missing."""
    faults = [Fault(name, 0, each, "plan again") for each in planning.differences(mesh, found)]
    if needs and record.approved("backfill", name) is None:
        right = "let a reviewer run `levada backfill approve`"
        faults += [
            Fault(name, 0, f"{n.because}: nobody approved it for {n.who}", right) for n in needs
        ]
    if faults:
        raise DeclarationError(tuple(faults))


def paused_if_changed(record: Record, mesh: Mesh, begun: Begun) -> str:
    """Pause a backfill whose mesh has changed since it was planned; why, or nothing."""
    changed = planning.differences(mesh, planning.decode(begun.document))
    if not changed:
        return ""
    record.turn_backfill(begun.id, "paused", f"its mesh has changed: {'; '.join(changed)}")
    return f"{begun.id} is paused: its mesh has changed: {changed[0]}"


def begin(
    record: Record,
    mesh: Mesh,
    name: str,
    document: Mapping[str, Any],
    found: Backfill,
    *,
    forced: bool,
) -> bool:
    """Make a plan's steps facts of the ledger; whether that is new."""
    parts = {
        group.product: [p for p, _ in planning.partitions_of(mesh, group)] for group in found.groups
    }
    return record.begin_backfill(name, document, parts, forced=forced)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a run would do with a product's open steps, as things stand."""

    product: str
    ready: tuple[Partition, ...]
    unchanged: tuple[Partition, ...]
    waits: Mapping[Partition, str]


@dataclass(slots=True)
class _Working:
    """One process at work on one backfill."""

    platform: Platform
    record: Record
    name: str
    found: Backfill
    begun: Begun
    tell: Callable[[Progress], None]
    batch: int
    together: frozenset[str]
    """The products whose contiguous slices are built together."""
    made: list[Run] = field(default_factory=list)
    tried: set[tuple[str, Partition, str]] = field(default_factory=set)
    heard: tuple[int, float] = (-1, 0.0)
    """The ledger's newest position, and when it was first seen."""
    moved: bool = False
    refused: bool = False
    """Whether something that is ready could not be claimed: another run holds it, or just did."""

    @property
    def again(self) -> sensing.Again:
        return steps.again_of(self.begun)

    def group(self, group: Group) -> None:
        """Everything of one product that can be done now."""
        product = self.platform.mesh.product(group.product)
        waiting = self.record.backfill_steps(self.name, product.id, "open")
        if not waiting:
            return
        judge, found = self.looked(product, [step.partition for step in waiting])
        self.settle(found.outcomes)
        # A tool that broke on it in this very run: once is enough.
        ready = [
            partition
            for partition, want in found.ready.items()
            if partition not in found.broken
            or (product.id, partition, want.fingerprint) not in self.tried
        ]
        done = len(waiting) - len(ready)
        self.tell(Progress(product, done, len(waiting)))
        for batch in steps.batches(ready, self.batch, together=product.id in self.together):
            if not self.running():
                return
            for run in self.built(judge, product, batch):
                done += 0 if run.split else len(run.partitions)
                self.tell(Progress(product, done, len(waiting), run))

    def looked(self, product: Product, partitions: Sequence[Partition]) -> tuple[Judge, Look]:
        mesh = self.platform.mesh
        facts = self.platform.runner.facts(*sensing.all_to_read(mesh, [product]))
        judge = Judge(mesh, facts, self.platform.clock())
        return judge, steps.look(judge, self.begun, product, partitions)

    def built(self, judge: Judge, product: Product, batch: tuple[Partition, ...]) -> Iterator[Run]:
        """Build contiguous slices together; if a tool fails on them, one by one."""
        why = steps.because_of(self.name, self.begun.document)
        self.platform.runner.open_steps([steps.step_of(judge, product, p, why) for p in batch])
        run = self.executed(product, batch)
        yield run
        if run.split:
            for partition in batch:
                if not self.running():
                    return
                yield self.executed(product, (partition,))

    def executed(self, product: Product, batch: tuple[Partition, ...]) -> Run:
        """Build, by a run that the ledger knows for the backfill's by its name."""
        name = f"{self.name}@{secrets.token_hex(8)}"
        return self.noted(execute(self.platform, product, batch, self.again, name))

    def noted(self, run: Run) -> Run:
        """Settle what a run came to."""
        if run.split:
            return run
        self.made.append(run)
        claimed = {claim.partition for claim in run.claims}
        self.refused |= any(p not in claimed and p not in run.waiting for p in run.partitions)
        given_back = bool(run.claims) and not run.lines and not run.attempts
        keys = {(c.product, c.partition, c.fingerprint) for c in run.claims}
        self.refused |= given_back and not keys <= self.tried  # its input moved: once more
        self.tried |= keys
        published = dict.fromkeys(line.partition for line in run.lines)
        failed = [a for a in run.attempts if a.verdict is Verdict.FAIL]
        made = [Outcome(run.product.id, p, "made", "", run.id) for p in published]
        self.settle([*made, *map(steps.failed, failed)])
        return run

    def settle(self, outcomes: Iterable[Outcome]) -> None:
        some = tuple(outcomes)
        if some:
            self.record.settle_backfill(self.name, some)
            self.moved = True

    def running(self) -> bool:
        """Whether nobody has paused or cancelled it meanwhile."""
        return self.record.backfill_state(self.name) in ("running", "finished")

    def held(self) -> datetime | None:
        """Until when other runs hold what is open, if they do."""
        waiting = {(s.product, s.partition) for s in self.open()}
        products = {product for product, _ in waiting}
        claims = self.platform.runner.facts((), products).claims
        return min((c.until for key, c in claims.items() if key in waiting), default=None)

    def outlasts(self) -> bool:
        """
        Whether another backfill is at work on what is waited for here: as long as the ledger tells
        of something, for one lease after that.
        """
        position, _ = self.platform.runner.named(max(self.heard[0], 0) or 1 << 60)
        now = time.monotonic()
        if position != self.heard[0]:
            self.heard = (position, now)
        if now - self.heard[1] > self.platform.settings.lease.total_seconds():
            return False
        others = {each.id for each in self.record.at_work()} - {self.name}
        return bool(others) and any(
            self._awaited(self.platform.mesh.product(group.product), others)
            for group in self.found.groups
        )

    def _awaited(self, product: Product, others: Collection[str]) -> bool:
        waiting = self.record.backfill_steps(self.name, product.id, "open")
        if not waiting:
            return False
        judge, found = self.looked(product, [step.partition for step in waiting])
        return any(steps.awaits(judge, waits, others) for waits in found.waits.values())

    def open(self) -> tuple[Outcome, ...]:
        return self.record.backfill_steps(self.name, None, "open")

    def leave(self) -> None:
        """Say of everything that is still open why it could not be done, so that nobody waits."""
        for group in self.found.groups:
            product = self.platform.mesh.product(group.product)
            left = self.record.backfill_steps(self.name, product.id, "open")
            if not left:
                continue
            judge, found = self.looked(product, [step.partition for step in left])
            self.settle(
                Outcome(product.id, p, "left", steps.why_left(judge.facts, found, p))
                for p in (*found.waits, *found.ready)
            )
            self.settle(found.outcomes)


def work(
    platform: Platform,
    record: Record,
    name: str,
    found: Backfill,
    tell: Callable[[Progress], None] = lambda _: None,
    batch: int = 31,
) -> tuple[Run, ...]:
    """
    Do whatever of a begun backfill is open, until nothing more can be done; its runs.

    What failed its audit, or waits for what is not there, is left, named, and waited for no more.
    """
    (begun,) = record.backfills(name)
    products = [platform.mesh.product(group.product) for group in found.groups]
    together = batching.together(products, record.batchings())
    working = _Working(platform, record, name, found, begun, tell, batch, together)
    sweep(platform)
    inspect(platform.settings, platform.runner, platform.warehouse)
    while record.backfill_state(name) == "running":
        working.moved = working.refused = False
        publishing.recover(platform.publisher, platform.warehouse)
        probe(platform, _span(platform, found))
        for group in found.groups:
            working.group(group)
        if working.moved:
            continue
        until = working.held()
        if until is None and not working.refused and not working.outlasts():
            break
        wait = (until - platform.clock()).total_seconds() if until else 0.1
        time.sleep(min(max(wait, 0.1), 1.0))
    if working.running():
        working.leave()
    return tuple(working.made)


def foresee(
    platform: Platform,
    record: Record,
    name: str,
    found: Backfill,
    begun: Begun | None,
    *,
    forced: bool,
) -> tuple[Foreseen, ...]:
    """What a run would do now with each product's open steps; changes nothing."""
    position = begun.position if begun else None
    again = sensing.Again(name if forced or (begun and begun.forced) else "", position)
    mesh, now = platform.mesh, platform.clock()
    open_now = {(s.product, s.partition) for s in record.backfill_steps(name, None, "open")}
    pending: dict[str, dict[tuple[str, Partition], str]] = {}
    told: list[Foreseen] = []
    for group in found.groups:
        product = mesh.product(group.product)
        partitions = [p for p, _ in planning.partitions_of(mesh, group)]
        if begun is not None:
            partitions = [p for p in partitions if (product.id, p) in open_now]
        tables, above = sensing.all_to_read(mesh, [product])
        read = platform.runner.facts(tables, above)
        more = {key: by for each in above for key, by in pending.get(each, {}).items()}
        facts = replace(read, restating={**read.restating, **more})
        judged = sensing.wants(mesh, product, partitions, facts, now, again)
        ready = tuple(p for p, each in judged.items() if isinstance(each, Want))
        unchanged = tuple(p for p, each in judged.items() if _current(each))
        waits = {
            p: each.because
            for p, each in judged.items()
            if isinstance(each, Readiness) and not _current(each)
        }
        pending[product.id] = {(product.id, p): name for p in (*ready, *waits)}
        told.append(Foreseen(product.id, ready, unchanged, waits))
    return tuple(told)


def _span(platform: Platform, found: Backfill) -> Span:
    """The time that the plan's slices cover, and what was asked for: where files are looked for."""
    ends = [found.asked.span.start, found.asked.span.end]
    for group in found.groups:
        for stretch in group.stretches:
            if stretch.first.start is not None:
                ends += [stretch.first.begin, bounds(stretch.last)[1]]
    whole = platform.mesh.span
    return Span(max(min(ends) - timedelta(days=1), whole.start), min(max(ends), whole.end))


def _current(found: Want | Readiness) -> bool:
    return isinstance(found, Readiness) and found.state is State.READY
