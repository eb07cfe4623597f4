"""
Backfills through Airflow: what the reconciler starts of them, and what their runs do.

The reconciler claims a batch of slices that are ready and creates a run of `levada.backfill` for
it; the claim, whose run is named after the DAG's, says that it is under way. So nothing is started
twice, and what dies with its process is found by a claim whose DAG run has ended.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk.exceptions import AirflowFailException, AirflowRuntimeError, AirflowSkipException

from levada import plan as planning
from levada.errors import LevadaError
from levada.flow import batching, restating, scheduling, stages, steps
from levada.flow.stages import Platform, Run, failed_attempt
from levada.ledger import PostgresLedger
from levada.readiness import Judge
from levada.terms import (
    Begun,
    Facts,
    Mesh,
    Outcome,
    Partition,
    Product,
    Verdict,
)
from levada_sensors import dag_runs
from levada_sensors.judging import claim_prefix, partition_of
from levada_sensors.limits import BACKFILL
from levada_sensors.watching import all_facts
from levada_sensors.working import opened, staged, swapped, withheld

__all__ = ["Asked", "advance", "build", "publish", "record_of"]

_TRIES = 3
"""So often a slice is tried on which a tool breaks, before it is left."""
_MARK = f"{BACKFILL}@"
_ASIDE = 30.0
"""So many seconds the live day goes first, and then the backfill gets on, too."""
_QUIET = 2.0
"""So many seconds nobody of the live day is at work, before it is taken to be done."""


def record_of(platform: Platform) -> PostgresLedger:
    """What the ledger keeps of backfills, with the runner's rights."""
    if not isinstance(platform.runner, PostgresLedger):
        raise TypeError("backfills are kept in a ledger in PostgreSQL")
    return platform.runner


# What the reconciler does


def advance(platform: Platform, record: PostgresLedger) -> Iterator[str]:
    """
    Begin what is due by schedule, settle what is settled of every running backfill, and start what
    can be built, as long as there is room; what was done, in words. Where nothing more can be done,
    the rest is left, named.
    """
    yield from scheduling.begin_due(platform.settings, platform.mesh, record, platform.clock())
    begun = record.at_work()
    if not begun:
        return
    # Read after what was begun: else its steps would be judged as if nothing held their readers.
    facts = all_facts(platform.runner, platform.mesh)
    platform = _at_once(platform)
    yield from _bury(platform, facts)
    # As many again wait for a slot, so that none is idle while we look.
    room = 2 * platform.settings.backfill_parallel - dag_runs.count_alive(BACKFILL)
    judge = Judge(platform.mesh, facts, platform.clock())
    together = batching.together(platform.mesh.products, record.batchings())
    for each in begun:
        (whole,) = record.backfills(each.id)
        if stopped := restating.paused_if_changed(record, platform.mesh, whole):
            yield stopped
            continue
        others = frozenset(b.id for b in begun) - {each.id}
        work = _Backfill(platform, record, judge, whole, room, together, others)
        yield from work.advance()
        room = work.room


def _bury(platform: Platform, facts: Facts) -> Iterator[str]:
    """Record that builds have died whose DAG run has ended; free what was never begun."""
    for run in sorted({c.run for c in facts.claims.values() if c.run.startswith(_MARK)}):
        dag_run = run.split("@")[1]
        if dag_runs.is_alive(BACKFILL, dag_run):
            continue
        claims = platform.runner.claims(run)  # it may have ended well by now
        if not claims:
            continue
        product = platform.mesh.product(claims[0].product)
        slices = tuple(claim.partition for claim in claims)
        try:
            if not dag_runs.is_there(BACKFILL, dag_run):
                platform.runner.release(run, slices, "its DAG run was never created")
                yield f"run {run} was never created: its slices are free"
                continue
            dead = Run(run, product, slices, claims, before=facts.attempts)
            said = "its process ended and said nothing"
            platform.runner.withhold(
                [failed_attempt(platform, dead, c, None, said) for c in claims]
            )
            yield f"run {run} has died: its slices are tried again, one by one"
        except LevadaError as error:
            yield f"run {run} has died: {error}"


@dataclass(slots=True)
class _Backfill:
    """One look at one backfill."""

    platform: Platform
    record: PostgresLedger
    judge: Judge
    begun: Begun
    room: int
    together: frozenset[str]
    others: frozenset[str]
    busy: bool = False
    """Whether something of it is under way or comes by itself: then nothing is left yet."""

    def advance(self) -> Iterator[str]:
        """Start what can be started; leave the rest where nothing else can be done."""
        left: list[Outcome] = []
        for product in planning.order(self.platform.mesh):
            opened_steps = self.record.backfill_steps(self.begun.id, product.id, "open")
            if not opened_steps:
                continue
            if self.room <= 0:
                return
            yield from self._product(product, opened_steps, left)
        if left and not self.busy:
            self.record.settle_backfill(self.begun.id, left)
            yield f"{self.begun.id}: {len(left)} steps are left"

    def _product(
        self, product: Product, opened_steps: Sequence[Outcome], left: list[Outcome]
    ) -> Iterator[str]:
        claims = self.judge.facts.claims
        since = {
            s.partition: s.since for s in opened_steps if (s.product, s.partition) not in claims
        }
        self.busy |= len(since) < len(opened_steps)
        found = steps.look(self.judge, self.begun, product, list(since))
        lost = [p for p in found.broken if self._is_lost(found, p, since[p])]
        outcomes = [*found.outcomes, *(self._left(found, p) for p in lost)]
        self.record.settle_backfill(self.begun.id, outcomes)
        self.busy |= bool(outcomes) or any(
            steps.awaits(self.judge, each, self.others) for each in found.waits.values()
        )
        left += [self._left(found, p) for p in found.waits]
        due = [p for p in found.ready if p not in lost and not self._is_early(found, p)]
        self.busy |= len(due) < len(found.ready) - len(lost)
        most = self.platform.settings.backfill_batch
        for batch in steps.grouped(found, due, most, together=product.id in self.together):
            self.busy = True
            if self.room <= 0:
                return
            yield self._start(product, batch)

    def _is_lost(self, found: steps.Look, partition: Partition, since: datetime | None) -> bool:
        attempt = found.broken[partition]
        of_now = since is None or attempt.at > since
        return of_now and attempt.tries >= _TRIES

    def _is_early(self, found: steps.Look, partition: Partition) -> bool:
        attempt = found.broken.get(partition)
        until = attempt.not_before if attempt else None
        return until is not None and until > self.judge.now

    def _left(self, found: steps.Look, partition: Partition) -> Outcome:
        why = steps.why_left(self.judge.facts, found, partition)
        return Outcome(found.product.id, partition, "left", why)

    def _start(self, product: Product, batch: tuple[Partition, ...]) -> str:
        """Claim a batch, and create the DAG run that builds it."""
        why = steps.because_of(self.begun.id, self.begun.document)
        self.platform.runner.open_steps([steps.step_of(self.judge, product, p, why) for p in batch])
        dag_run = f"{self.begun.id}__{product}__{batch[0]}__{len(batch)}__{secrets.token_hex(3)}"
        run = Run(
            f"{claim_prefix(BACKFILL, dag_run)}{secrets.token_hex(4)}",
            *(product, batch),
            again=steps.again_of(self.begun),
        )
        run = stages.sense(self.platform, run)
        slices = [claim.partition for claim in run.claims]
        if not slices:
            return f"{product} {batch[0]}: somebody else was quicker"
        conf = {
            "backfill": self.begun.id,
            "product": product.id,
            "slices": [p.key for p in slices],
        }
        try:
            dag_runs.trigger(*(BACKFILL, dag_run, None, self.platform.clock()), conf=conf, note=why)
        except AirflowRuntimeError as error:
            self.platform.runner.release(run.id, slices, f"no DAG run: {error}")
            return f"{product} {batch[0]} cannot be started: {error}"
        self.room -= 1
        return f"started {dag_run}"


def _at_once(platform: Platform) -> Platform:
    """Who asks does not wait for a quiet time."""
    return replace(platform, mesh=replace(platform.mesh, quiet=timedelta(0)))


# What its runs do


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run of `levada.backfill` is to build."""

    backfill: str
    product: str
    slices: tuple[str, ...]
    """The keys of its partitions."""


def build(root: Path, asked: Asked, dag_run: str) -> dict[str, Any]:
    """Stage and build what the reconciler claimed for this run; where the stage is."""
    with opened(root, publishing=False) as plain:
        platform = _at_once(plain)
        record = record_of(platform)
        _stand_aside(record)
        product, slices = _target(platform.mesh, asked)
        prefix = claim_prefix(BACKFILL, dag_run)
        claims = platform.runner.facts((), [product.id]).claims
        held = [
            c for p in slices if (c := claims.get((product.id, p))) and c.run.startswith(prefix)
        ]
        begun = next(iter(record.backfills(asked.backfill)), None)
        if begun is None or begun.state != "running":
            for name in {c.run for c in held}:
                platform.runner.release(name, slices, "its backfill does not run now")
            state = begun.state if begun else "unknown"
            raise AirflowSkipException(f"{asked.backfill} is {state}: nothing is built")
        run = Run(f"{prefix}{secrets.token_hex(4)}", product, slices, again=steps.again_of(begun))
        if held:
            mine = platform.runner.claims(held[0].run)
            run = replace(run, id=held[0].run, claims=mine, partitions=_slices(mine))
        else:  # the claim ran out while the run waited for its slot
            run = stages.sense(platform, run)
            run = replace(run, partitions=_slices(run.claims))
        if not run.claims:
            raise AirflowSkipException("others made it, or it waits again: nothing is built")
        before = platform.runner.facts((), [product.id]).attempts
        return staged(platform, replace(run, before=before))


def _stand_aside(record: PostgresLedger) -> None:
    """
    Wait while runs that are no backfill's are at work, for a while: once a batch, before it is
    built. What is built is published, since others wait for what it holds. Where a run ends the
    next of its chain begins a moment later, so that they are to be away for some seconds.
    """
    seen = begun = time.monotonic()
    if not record.at_work_besides(_MARK):
        return
    while time.monotonic() < min(seen + _QUIET, begun + _ASIDE):
        time.sleep(0.25)
        if record.at_work_besides(_MARK):
            seen = time.monotonic()


def _slices(claims: Collection[Any]) -> tuple[Partition, ...]:
    return tuple(claim.partition for claim in claims)


def publish(root: Path, asked: Asked, built: Mapping[str, Any]) -> None:
    """Audit what was built and publish what passed; settle its steps."""
    with opened(root, publishing=True) as plain:
        platform = _at_once(plain)
        product, slices = _target(platform.mesh, asked)
        run = swapped(platform, product, slices, built)
        published = dict.fromkeys(line.partition for line in run.lines)
        made = [Outcome(product.id, p, "made", "", run.id) for p in published]
        failed = [steps.failed(a) for a in run.attempts if a.verdict is Verdict.FAIL]
        record_of(platform).settle_backfill(asked.backfill, [*made, *failed])
        if run.attempts:
            more = f" and {len(run.attempts) - 1} more" if len(run.attempts) > 1 else ""
            raise AirflowFailException(withheld(platform, run.attempts[0]) + more)


def _target(mesh: Mesh, asked: Asked) -> tuple[Product, tuple[Partition, ...]]:
    if not asked.backfill:
        raise AirflowFailException("the reconciler starts these runs: `levada backfill run PLAN`")
    product = mesh.product(asked.product)
    slices = (partition_of(key, product.grain, product.zone) for key in asked.slices)
    return product, tuple(slices)
