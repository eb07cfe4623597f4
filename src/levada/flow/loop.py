"""
The loop that runs a plan in one command, without Airflow.

It makes the rounds that the reconciler and the product DAGs make in Airflow: probe, plan, open the
steps that are not first runs, try each; until a round changes nothing.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from levada import plan as planning
from levada import publish as publishing
from levada import sense as sensing
from levada.adapters.probes import record
from levada.flow.batching import why_alone
from levada.flow.inspecting import inspect
from levada.flow.stages import Platform, Run, execute
from levada.intervals import runs
from levada.terms import Facts, Landing, Partition, Plan, Product, Span, State, Verdict

__all__ = [
    "Left",
    "Progress",
    "current_plan",
    "landed",
    "left_over",
    "probe",
    "run_plan",
    "sweep",
]


@dataclass(frozen=True, slots=True)
class Progress:
    """What `run_plan` tells while it works: so many partitions of a product are behind it."""

    product: Product
    done: int
    total: int
    run: Run | None = None


def landed(platform: Platform, span: Span) -> tuple[Landing, ...]:
    """What has landed outside the mesh over a span, whether the ledger knows of it or not."""
    return platform.probes.ask(platform.mesh.sources, span, platform.clock()).landed


def probe(platform: Platform, span: Span) -> tuple[Landing, ...]:
    """Ask every source over a span; what is new or changed becomes landing lines."""
    answers = platform.probes.ask(platform.mesh.sources, span, platform.clock())
    return record(platform.runner, answers)


def current_plan(
    platform: Platform,
    products: Sequence[Product],
    span: Span,
    assumed: Sequence[Landing] = (),
) -> tuple[Plan, Facts]:
    """
    What is to be done now, by the ledger as it stands, and what the ledger showed.

    `assumed` landings count as if they were recorded: a dry run changes nothing.
    """
    mesh = platform.mesh
    tables = {mart.table for product in products for mart in product.marts}
    facts = platform.runner.facts(*sensing.above(mesh, tables))
    new = {(x.table, x.partition): x for x in assumed if not _known(facts, x)}
    facts = replace(facts, lines={**facts.lines, **new}) if new else facts
    return planning.plan(mesh, facts, platform.clock(), products=products, span=span), facts


def _known(facts: Facts, landing: Landing) -> bool:
    line = facts.line(landing.table, landing.partition)
    return line is not None and line.content == landing.content


@dataclass(frozen=True, slots=True)
class Left:
    """What could not be done, and why: it waits, is parked after a failed audit, or is held."""

    product: str
    partition: Partition
    state: State
    because: str


def left_over(platform: Platform, products: Sequence[Product], span: Span) -> tuple[Left, ...]:
    """What is not ready now, failed first."""
    plan, facts = current_plan(platform, products, span)
    now = platform.clock()
    rests = planning.explain(platform.mesh, facts, now, products=products, span=span)
    left = [Left(s.product, s.partition, State.WAITING, s.because) for s in plan.steps]
    left += [
        Left(rest.product, rest.partition, rest.readiness.state, rest.readiness.because)
        for rest in rests
        if rest.readiness.state is not State.READY
    ]
    order = (State.FAILED, State.HELD, State.IMPOSSIBLE, State.STALE, State.WAITING)
    return tuple(sorted(left, key=lambda each: order.index(each.state)))


def run_plan(
    platform: Platform,
    products: Sequence[Product],
    span: Span,
    tell: Callable[[Progress], None] = lambda _: None,
) -> tuple[Run, ...]:
    """
    Work until nothing more can be done; the runs that claimed something, in their order.

    What another run holds is waited for: it publishes, or its lease runs out and is taken over.
    """
    sweep(platform)
    inspect(platform.settings, platform.runner, platform.warehouse)
    made: list[Run] = []
    tried: set[tuple[str, Partition, str]] = set()
    while True:
        publishing.recover(platform.publisher, platform.warehouse)
        probe(platform, span)
        plan, facts = current_plan(platform, products, span)
        platform.runner.open_steps([step for step in plan.steps if not step.first])
        fresh = [run for run in _round(platform, plan, facts, tell) if _note(run, tried)]
        made += fresh
        if any(run.lines for run in fresh):
            continue
        if any(intent.expired for intent in platform.publisher.intents()):
            continue  # a dead run's lease ran out in this round: the next one finishes its work
        held = [facts.claims.get((step.product, step.partition)) for step in plan.steps]
        until = [claim.until for claim in held if claim is not None]
        if not until:
            return tuple(made)
        wait = (min(until) - platform.clock()).total_seconds()
        time.sleep(min(max(wait, 0.1), 1.0))


def sweep(platform: Platform) -> None:
    """Remove what runs that died have left in the stages."""
    claims = platform.runner.facts((), [p.id for p in platform.mesh.products]).claims.values()
    intents = platform.runner.intents()
    live = {c.run for c in claims} | {i.run for i in intents}
    platform.warehouse.sweep(live | {f"{run}.old" for run in live})


def _round(
    platform: Platform, plan: Plan, facts: Facts, tell: Callable[[Progress], None]
) -> Iterator[Run]:
    """Try every step once, upstream first."""
    tested = platform.runner.batchings() if plan.steps else {}
    for product_id, group in itertools.groupby(plan.steps, key=lambda step: step.product):
        product = platform.mesh.product(product_id)
        partitions = tuple(sorted(step.partition for step in group))
        told = {
            partition
            for (name, partition), attempt in facts.attempts.items()
            if name == product_id and attempt.verdict is Verdict.UNKNOWN
        }
        done = 0
        tell(Progress(product, 0, len(partitions)))
        alone = frozenset(partitions) if why_alone(product, tested) is not None else told
        for batch in _batches(partitions, alone):
            together = execute(platform, product, batch)
            again = batch if together.split else ()
            for run in (together, *(execute(platform, product, (p,)) for p in again)):
                done += 0 if run.split else len(run.partitions)
                tell(Progress(product, done, len(partitions), run))
                yield run


def _batches(
    partitions: Sequence[Partition], alone: Collection[Partition]
) -> Iterator[tuple[Partition, ...]]:
    """
    Contiguous partitions together, but for those that go alone: all of a product that does not
    allow batches, else one whose last attempt broke a tool, so that it cannot take its neighbours
    with it again.
    """
    for run in runs(partitions):
        for lonely, group in itertools.groupby(run, key=lambda p: p in alone):
            together = tuple(group)
            yield from ((p,) for p in together) if lonely else (together,)


def _note(run: Run, tried: set[tuple[str, Partition, str]]) -> bool:
    """Whether the run tried anything that was not tried before in this command."""
    if run.split:
        return False
    keys = {(c.product, c.partition, c.fingerprint) for c in run.claims}
    new = bool(keys - tried)
    tried |= keys
    return new
