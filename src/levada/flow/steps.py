"""
How the open steps of a backfill stand, by one set of facts: what is settled, what can be built now,
what waits and why. Pure: who works on a backfill asks here, in one process or in Airflow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from levada import sense as sensing
from levada.intervals import runs
from levada.ports import Want
from levada.readiness import Judge, bare
from levada.terms import (
    Attempt,
    Begun,
    Facts,
    Outcome,
    Partition,
    Product,
    Publication,
    Readiness,
    State,
    Step,
    Verdict,
)

__all__ = [
    "Look",
    "again_of",
    "awaits",
    "batches",
    "because_of",
    "failed",
    "grouped",
    "look",
    "step_of",
    "why_left",
]


@dataclass(frozen=True, slots=True)
class Look:
    """One product's open steps of one backfill."""

    product: Product
    outcomes: tuple[Outcome, ...]
    """Settled without a build: made meanwhile, unchanged, or parked since their audit failed."""
    ready: Mapping[Partition, Want]
    """What a build could claim now. A tool may have failed on it before: `broken` has these."""
    broken: Mapping[Partition, Attempt]
    waits: Mapping[Partition, Readiness]


def look(judge: Judge, begun: Begun, product: Product, partitions: Sequence[Partition]) -> Look:
    """How these open steps of a backfill stand. The judge's facts are those of `all_to_read`."""
    facts = judge.facts
    judged = sensing.asked(judge, product, partitions, again_of(begun))
    outcomes: list[Outcome] = []
    ready: dict[Partition, Want] = {}
    broken: dict[Partition, Attempt] = {}
    waits: dict[Partition, Readiness] = {}
    for partition, found in judged.items():
        if isinstance(found, Readiness):
            if found.state is State.READY:
                outcomes.append(_unneeded(facts, begun, product, partition))
            else:
                waits[partition] = found
            continue
        attempt = facts.attempt(product.id, partition)
        if attempt and bare(attempt.fingerprint) == bare(found.fingerprint):
            if attempt.verdict is Verdict.FAIL and judge.waived(attempt) is None:
                outcomes.append(failed(attempt))
                continue
            if attempt.verdict is Verdict.UNKNOWN:
                broken[partition] = attempt
        ready[partition] = found
    return Look(product, tuple(outcomes), ready, broken, waits)


def again_of(begun: Begun) -> sensing.Again:
    """How builds of a backfill are asked for."""
    return sensing.Again(begun.id if begun.forced else "", begun.position)


def batches(
    partitions: Sequence[Partition], most: int, *, together: bool
) -> Iterator[tuple[Partition, ...]]:
    """Contiguous slices together where they may be, at most so many; else one by one."""
    if not together:
        yield from ((partition,) for partition in sorted(partitions))
        return
    for run in runs(partitions):
        yield from (run[n : n + most] for n in range(0, len(run), most))


def grouped(
    found: Look, due: Sequence[Partition], most: int, *, together: bool
) -> Iterator[tuple[Partition, ...]]:
    """
    Batches of what is due. A slice on which a tool has failed takes no neighbours with it again;
    but a build in shards goes on once where it was killed, with those that are built.
    """

    def may_go(partition: Partition) -> bool:
        attempt = found.broken.get(partition)
        return attempt is None or (found.product.shards is not None and attempt.tries == 1)

    yield from batches([p for p in due if may_go(p)], most, together=together)
    yield from ((partition,) for partition in due if not may_go(partition))


def step_of(judge: Judge, product: Product, partition: Partition, because: str) -> Step:
    """The ledger's step of a slice: it merges with repairs and restatements of the same."""
    pins = judge.pins(product, partition)
    required = tuple((i.table, i.partition, i.generation) for i in pins if i.content is not None)
    return Step(product.id, partition, because.replace(";", ","), required)


def because_of(name: str, document: Mapping[str, Any]) -> str:
    """Why a step of a backfill is there, as its document has it."""
    reason = document.get("asked", {}).get("reason", "")
    return f"backfill {name}" + (f": {reason}" if reason else "")


def failed(attempt: Attempt) -> Outcome:
    """What has become of a slice whose audit failed."""
    because = f"its audit failed: {attempt.because}"
    return Outcome(attempt.product, attempt.partition, "failed", because, attempt.run)


def awaits(judge: Judge, waits: Readiness, backfills: Collection[str]) -> bool:
    """Whether what is waited for is claimed, or is still to be made again by one of these."""
    for table, partition in waits.missing:
        if table.is_source:
            continue
        key = (judge.mesh.product(table).id, partition)
        if key in judge.facts.claims or judge.facts.restating.get(key) in backfills:
            return True
    return False


def why_left(facts: Facts, found: Look, partition: Partition) -> str:
    """Why nothing more can be done for a slice."""
    if partition in found.waits:
        return found.waits[partition].because
    attempt = facts.attempt(found.product.id, partition)
    return f"a tool failed: {attempt.because}" if attempt else "it could not be claimed"


def _unneeded(facts: Facts, begun: Begun, product: Product, partition: Partition) -> Outcome:
    """A slice that is as the build would make it: since before, or made by now."""
    lines = [facts.line(mart.table, partition) for mart in product.marts]
    newest = max((line for line in lines if line), key=lambda line: line.position)
    run = newest.run if isinstance(newest, Publication) else ""
    if newest.position > begun.position:
        return Outcome(product.id, partition, "made", "", run)
    return Outcome(product.id, partition, "unchanged", "a build would make what is there")
