"""
Running a backfill in one process: its open steps in their order, each settled in the ledger.

What a killed process leaves behind is open, and is all that the next one does: a step that was
published before it was settled is found unchanged. Other runs may make the same slices meanwhile;
nothing is built twice, since claims are exclusive and fingerprints are known.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from levada import plan as planning
from levada import publish as publishing
from levada import sense as sensing
from levada.errors import DeclarationError, Fault
from levada.flow.inspecting import inspect
from levada.flow.loop import Progress, probe, sweep
from levada.flow.stages import Platform, Run, execute
from levada.govern.backfills import Need
from levada.intervals import bounds, runs
from levada.ports import Want
from levada.readiness import Judge, bare
from levada.terms import (
    Attempt,
    Backfill,
    Begun,
    Facts,
    Group,
    Mesh,
    Outcome,
    Partition,
    Product,
    Publication,
    Readiness,
    Span,
    State,
    Step,
    Verdict,
)

__all__ = ["Foreseen", "Record", "begin", "foresee", "refuse", "work"]


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
        self, name: str, product: str | None = None, state: str | None = None
    ) -> tuple[Outcome, ...]:
        """What has become of its steps."""

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
    steps = {
        group.product: [p for p, _ in planning.partitions_of(mesh, group)] for group in found.groups
    }
    return record.begin_backfill(name, document, steps, forced=forced)


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
    made: list[Run] = field(default_factory=list)
    tried: set[tuple[str, Partition, str]] = field(default_factory=set)
    moved: bool = False
    refused: bool = False
    """Whether something that is ready could not be claimed: another run holds it, or just did."""

    @property
    def again(self) -> sensing.Again:
        return sensing.Again(self.name if self.begun.forced else "")

    def group(self, group: Group) -> None:
        """Everything of one product that can be done now."""
        product = self.platform.mesh.product(group.product)
        waiting = self.record.backfill_steps(self.name, product.id, "open")
        if not waiting:
            return
        partitions = [step.partition for step in waiting]
        facts, judged = self.judged(product, partitions)
        self.settle(
            self.unneeded(product, facts, p) for p, found in judged.items() if _current(found)
        )
        ready, parked = self.sorted_out(product, facts, judged)
        self.settle(parked)
        done = len(partitions) - len(ready)
        self.tell(Progress(product, done, len(partitions)))
        for batch in _batches(product, ready, self.batch):
            if not self.running():
                return
            for run in self.built(product, batch, facts):
                done += 0 if run.split else len(run.partitions)
                self.tell(Progress(product, done, len(partitions), run))

    def judged(
        self, product: Product, partitions: Sequence[Partition]
    ) -> tuple[Facts, Mapping[Partition, Want | Readiness]]:
        mesh = self.platform.mesh
        tables = sensing.tables_to_read(mesh, [product])
        facts = self.platform.runner.facts(tables, sensing.products_to_read(mesh, [product]))
        now = self.platform.clock()
        return facts, sensing.wants(mesh, product, partitions, facts, now, self.again)

    def sorted_out(
        self, product: Product, facts: Facts, judged: Mapping[Partition, Want | Readiness]
    ) -> tuple[list[Partition], list[Outcome]]:
        """What is to be built, and what is parked: its audit failed, and nothing has changed."""
        ready: list[Partition] = []
        parked: list[Outcome] = []
        judge = Judge(self.platform.mesh, facts, self.platform.clock())
        for partition, found in judged.items():
            if not isinstance(found, Want):
                continue
            attempt = facts.attempt(product.id, partition)
            if attempt and bare(attempt.fingerprint) == bare(found.fingerprint):
                if attempt.verdict is Verdict.FAIL and judge.waived(attempt) is None:
                    parked.append(_failed(attempt))
                    continue
                if (product.id, partition, found.fingerprint) in self.tried:
                    continue  # a tool broke on it in this very run: once is enough
            ready.append(partition)
        return ready, parked

    def unneeded(self, product: Product, facts: Facts, partition: Partition) -> Outcome:
        """A slice that is as the build would make it: since before, or made by now."""
        lines = [facts.line(mart.table, partition) for mart in product.marts]
        newest = max((line for line in lines if line), key=lambda line: line.position)
        run = newest.run if isinstance(newest, Publication) else ""
        if newest.position > self.begun.position:
            return Outcome(product.id, partition, "made", "", run)
        return Outcome(product.id, partition, "unchanged", "a build would make what is there")

    def built(self, product: Product, batch: tuple[Partition, ...], facts: Facts) -> Iterator[Run]:
        """Build contiguous slices together; if a tool fails on them, one by one."""
        self.platform.runner.open_steps([self.step(product, p, facts) for p in batch])
        run = execute(self.platform, product, batch, self.again)
        yield self.noted(run)
        if run.split:
            for partition in batch:
                yield self.noted(execute(self.platform, product, (partition,), self.again))

    def step(self, product: Product, partition: Partition, facts: Facts) -> Step:
        """The ledger's step of a slice: it merges with repairs and restatements of the same."""
        reason = self.found.asked.reason.replace(";", ",")
        judge = Judge(self.platform.mesh, facts, self.platform.clock())
        pins = judge.pins(product, partition)
        required = tuple(
            (i.table, i.partition, i.generation) for i in pins if i.content is not None
        )
        because = f"backfill {self.name}" + (f": {reason}" if reason else "")
        return Step(product.id, partition, because, required)

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
        self.settle([*made, *map(_failed, failed)])
        return run

    def settle(self, outcomes: Iterable[Outcome]) -> None:
        some = tuple(outcomes)
        if some:
            self.record.settle_backfill(self.name, some)
            self.moved = True

    def running(self) -> bool:
        """Whether nobody has paused or cancelled it meanwhile."""
        (begun,) = self.record.backfills(self.name)
        return begun.state in ("running", "finished")

    def held(self) -> datetime | None:
        """Until when other runs hold what is open, if they do."""
        waiting = {(s.product, s.partition) for s in self.open()}
        products = {product for product, _ in waiting}
        claims = self.platform.runner.facts((), products).claims
        return min((c.until for key, c in claims.items() if key in waiting), default=None)

    def open(self) -> tuple[Outcome, ...]:
        return self.record.backfill_steps(self.name, None, "open")

    def leave(self) -> None:
        """Say of everything that is still open why it could not be done, so that nobody waits."""
        for group in self.found.groups:
            product = self.platform.mesh.product(group.product)
            steps = self.record.backfill_steps(self.name, product.id, "open")
            if not steps:
                continue
            facts, judged = self.judged(product, [step.partition for step in steps])
            self.settle(
                Outcome(product.id, p, "left", _why(facts, product, p, found))
                for p, found in judged.items()
            )


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
    working = _Working(platform, record, name, found, begun, tell, batch)
    sweep(platform)
    inspect(platform.settings, platform.runner, platform.warehouse)
    while working.running() and working.open():
        working.moved = working.refused = False
        publishing.recover(platform.publisher, platform.warehouse)
        probe(platform, _span(platform, found))
        for group in found.groups:
            working.group(group)
        if working.moved:
            continue
        until = working.held()
        if until is None and not working.refused:
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
    again = sensing.Again(name if forced or (begun and begun.forced) else "")
    mesh, now = platform.mesh, platform.clock()
    open_now = {(s.product, s.partition) for s in record.backfill_steps(name, None, "open")}
    pending: dict[tuple[str, Partition], str] = {}
    told: list[Foreseen] = []
    for group in found.groups:
        product = mesh.product(group.product)
        partitions = [p for p, _ in planning.partitions_of(mesh, group)]
        if begun is not None:
            partitions = [p for p in partitions if (product.id, p) in open_now]
        tables = sensing.tables_to_read(mesh, [product])
        read = platform.runner.facts(tables, sensing.products_to_read(mesh, [product]))
        facts = _with(read, pending)
        judged = sensing.wants(mesh, product, partitions, facts, now, again)
        ready = tuple(p for p, each in judged.items() if isinstance(each, Want))
        unchanged = tuple(p for p, each in judged.items() if _current(each))
        waits = {
            p: each.because
            for p, each in judged.items()
            if isinstance(each, Readiness) and not _current(each)
        }
        pending |= {(product.id, p): name for p in (*ready, *waits)}
        told.append(Foreseen(product.id, ready, unchanged, waits))
    return tuple(told)


def _with(facts: Facts, pending: Mapping[tuple[str, Partition], str]) -> Facts:
    return replace(facts, restating={**facts.restating, **pending})


def _span(platform: Platform, found: Backfill) -> Span:
    """The time that the plan's slices cover, and what was asked for: where files are looked for."""
    ends = [found.asked.span.start, found.asked.span.end]
    for group in found.groups:
        for stretch in group.stretches:
            if stretch.first.start is not None:
                ends += [stretch.first.begin, bounds(stretch.last)[1]]
    whole = platform.mesh.span
    return Span(max(min(ends) - timedelta(days=1), whole.start), min(max(ends), whole.end))


def _batches(
    product: Product, partitions: Sequence[Partition], most: int
) -> Iterator[tuple[Partition, ...]]:
    if not product.batch:
        yield from ((partition,) for partition in partitions)
        return
    for run in runs(partitions):
        yield from (run[n : n + most] for n in range(0, len(run), most))


def _current(found: Want | Readiness) -> bool:
    return isinstance(found, Readiness) and found.state is State.READY


def _failed(attempt: Attempt) -> Outcome:
    because = f"its audit failed: {attempt.because}"
    return Outcome(attempt.product, attempt.partition, "failed", because, attempt.run)


def _why(facts: Facts, product: Product, partition: Partition, found: Want | Readiness) -> str:
    if isinstance(found, Readiness):
        return found.because
    attempt = facts.attempt(product.id, partition)
    return f"a tool failed: {attempt.because}" if attempt else "it could not be claimed"
