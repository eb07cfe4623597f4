"""
What a waiter asks of the ledger, in one transaction, and which ledger lines may change the answer.

Synchronous library code only: triggers call it in a thread.
"""

from __future__ import annotations

import enum
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from levada.errors import LawBroken
from levada.intervals import containing, default_mapping, mapped, parse
from levada.ledger.tail import Batch
from levada.ports import Ledger, Want
from levada.readiness import Judge, endings, marks
from levada.sense import asked
from levada.terms import (
    WHOLE,
    Claim,
    Dependency,
    Facts,
    FanOut,
    Grain,
    Latest,
    Mesh,
    Partition,
    Product,
    Readiness,
    State,
    TableRef,
)
from levada_sensors.asking import Ask, ask_to_claim, widened

__all__ = [
    "CLAIM_LIFETIME",
    "Answer",
    "Misnamed",
    "Outcome",
    "Touches",
    "attempt_name",
    "claim_prefix",
    "glance_at_product",
    "judge_product",
    "judge_tables",
    "partition_of",
    "product_touches",
    "slices_inside",
    "table_touches",
]

CLAIM_LIFETIME = timedelta(minutes=15)
"""How long a claim keeps its pins until `build` begins: the time a busy Airflow may need for it."""

_HELD = timedelta(minutes=1)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.:+=-]")
_TRY = re.compile(r"(\d+)-")


class Misnamed(ValueError):
    """A waiter names a partition, a table or a product that does not exist."""


class Outcome(enum.Enum):
    """What becomes of the waiting task."""

    READY = "ready"
    CURRENT = "already current"
    WAITING = "waiting"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Answer:
    """A judgement as a waiter needs it: of which position, and when time alone may change it."""

    outcome: Outcome
    because: str
    position: int = 0
    next: datetime | None = None
    far: bool = False
    """Whether it rests on more than the facts that a waiter reads at first."""


@dataclass(frozen=True, slots=True)
class Touches:
    """The ledger lines that may change a waiter's answer."""

    keys: frozenset[tuple[str, str]]
    names: frozenset[str] = field(default=frozenset())
    """Tables and products of which any partition counts."""

    def by(self, batch: Batch) -> bool:
        """
        Whether a batch holds such a line.

        >>> hour = Touches(frozenset({("weather.observations@1", "2013-03-10T05Z")}))
        >>> hour.by(Batch(3, 4, frozenset({("weather.observations@1", "2013-03-10T06Z")})))
        False
        """
        if not self.keys.isdisjoint(batch.keys):
            return True
        return any(name in self.names for name, _ in batch.keys)


def claim_prefix(dag_id: str, run_id: str) -> str:
    """
    How the claims of a DAG run begin: `build` finds its own by it.

    >>> claim_prefix("company.route_board", "scheduled__2013-03-11T04:00:00+00:00")
    'company.route_board@scheduled__2013-03-11T04:00:00+00:00@'
    """
    return f"{_NOT_IN_A_NAME.sub('-', dag_id)}@{_NOT_IN_A_NAME.sub('-', run_id)}@"


def attempt_name(try_number: int, task: object) -> str:
    """
    One try of one task instance. Airflow gives a cleared task another id and the next number.

    >>> attempt_name(2, "019bf3a0-6f1e-7c3b-9d2a-0c5b1f6e7d88")
    '2-0c5b1f6e7d88'
    """
    return f"{try_number}-{str(task).replace('-', '')[-12:]}"


def partition_of(text: str, grain: Grain, zone: str) -> Partition:
    """
    The partition that a template named: by its key, or by an instant inside it.

    >>> partition_of("2013-03-10 05:00:00+00:00", Grain.DAY, "America/New_York").key
    '2013-03-10'
    >>> partition_of("", Grain.DAY, "UTC")
    Traceback (most recent call last):
    ...
    levada_sensors.judging.Misnamed: no partition is named, and this run has no logical date
    """
    text = text.strip()
    if grain is Grain.WHOLE:
        return WHOLE
    if text in ("", "None"):
        raise Misnamed("no partition is named, and this run has no logical date")
    try:
        if _DATE.fullmatch(text):
            return parse(grain, text, zone)
        return containing(grain, datetime.fromisoformat(text), zone)
    except ValueError as error:
        raise Misnamed(
            f"{text!r} names no {grain.value} ({error}): write a date, or an instant with its zone"
        ) from None


# A product's inputs, judged as one set and claimed


def judge_product(
    ledger: Ledger, mesh: Mesh, product: Product, partition: Partition, *, prefix: str, attempt: str
) -> Answer:
    """
    Judge, pin and claim in one ledger transaction.

    :param prefix: how claims of this DAG run begin
    :param attempt: this try of its `sense`. A claim that this very try holds already, because its
        trigger was moved after claiming, is its own. That of an earlier try is given back: its run
        was cleared, and nobody builds from it any more.
    """
    answer = _judged_product(ledger, mesh, product, partition, prefix, attempt)
    if isinstance(answer, Answer):
        return answer
    with suppress(LawBroken):  # it is about to publish: that is finished first
        ledger.release(answer.run, [partition], "its task was cleared and runs again")
    again = _judged_product(ledger, mesh, product, partition, prefix, attempt)
    if isinstance(again, Answer):
        return again
    soon = datetime.now(UTC) + timedelta(seconds=5)
    return Answer(Outcome.WAITING, f"being built by run {again.run}", next=soon)


def _judged_product(
    ledger: Ledger, mesh: Mesh, product: Product, partition: Partition, prefix: str, attempt: str
) -> Answer | Claim:
    """The answer; or the claim of an earlier try of the same task, which stands in its way."""
    ask = ask_to_claim(mesh, product, partition)
    return _asked(ledger, ask, mesh, product, partition, prefix, attempt, near=True)


def _asked(
    ledger: Ledger,
    ask: Ask,
    mesh: Mesh,
    product: Product,
    partition: Partition,
    prefix: str,
    attempt: str,
    *,
    near: bool,
) -> Answer | Claim:
    """By the facts of what is near; where they do not reach far enough, by all."""
    with ledger.sensing(ask.tables, ask.products, ask.span) as transaction:
        facts = transaction.facts
        judge = Judge(mesh, facts, datetime.now(UTC))
        found = _found(judge, product, partition, prefix, attempt)
        if not (near and judge.far):
            if not isinstance(found, Want):
                return found
            run = f"{prefix}{attempt}.{secrets.token_hex(4)}"
            if transaction.claim([found], run=run, lifetime=CLAIM_LIFETIME):
                told = "; ".join((f"claimed as {run}", *_told(judge, found)))
                return Answer(Outcome.READY, told, facts.position)
            # Something moved under our eyes: its line will come by, or is judged again soon.
            soon = datetime.now(UTC) + timedelta(seconds=5)
            return Answer(Outcome.WAITING, "another run was quicker", facts.position, soon)
    wide = widened(mesh, ask)
    return _asked(ledger, wide, mesh, product, partition, prefix, attempt, near=False)


def _told(judge: Judge, found: Want) -> tuple[str, ...]:
    """What a product must know of the inputs that it was given: what lacks, marks, and ends."""
    read = [(i.table, i.partition) for i in found.inputs if i.content is not None]
    leaving = endings(judge.mesh, {table for table, _ in read}, judge.now)
    return (*found.taint, *marks(judge, read), *leaving)


def glance_at_product(
    facts: Facts, mesh: Mesh, product: Product, partition: Partition, *, prefix: str, attempt: str
) -> Answer | None:
    """
    The same from facts that were read already; None where it may be claimed, or a claim given back,
    which takes a reading of its own.
    """
    judge = Judge(mesh, facts, datetime.now(UTC))
    found = _found(judge, product, partition, prefix, attempt)
    return found if isinstance(found, Answer) else None


def _found(
    judge: Judge, product: Product, partition: Partition, prefix: str, attempt: str
) -> Answer | Claim | Want:
    position = judge.facts.position
    held = judge.facts.claims.get((product.id, partition))
    if held is not None:
        return _held(held, prefix, attempt, position)
    found = asked(judge, product, [partition])[partition]
    if isinstance(found, Want):
        return found
    if found.state is State.READY:
        return Answer(Outcome.CURRENT, found.because, position, far=judge.far)
    never = found.state is State.IMPOSSIBLE
    outcome = Outcome.NEVER if never else Outcome.WAITING
    rests = judge.far and found == judge.resting(product, partition)
    return Answer(outcome, found.because, position, _looked_at_again(found, rests=rests), judge.far)


def _looked_at_again(found: Readiness, *, rests: bool = False) -> datetime | None:
    """
    What holds, or what a rebuild waits for, may end further up than the lines that wake us: then we
    look ourselves.
    """
    if found.state is not State.HELD and not rests:
        return found.next
    soon = datetime.now(UTC) + _HELD
    return min(soon, found.next) if found.next else soon


def _held(held: Claim, prefix: str, attempt: str, position: int) -> Answer | Claim:
    """What a living claim means to this try of a DAG run."""
    if held.run.startswith(f"{prefix}{attempt}."):
        return Answer(Outcome.READY, f"claimed as {held.run}", position)
    if _is_earlier(held.run, prefix, attempt):
        return held
    return Answer(Outcome.WAITING, f"being built by run {held.run}", position, held.until)


def _is_earlier(run: str, prefix: str, attempt: str) -> bool:
    """
    Whether a run was claimed by an earlier try of the same task.

    Only earlier: a trigger that was thawed after its task was cleared takes nothing from the next.
    """
    theirs, ours = _TRY.match(run.removeprefix(prefix)), _TRY.match(attempt)
    if not run.startswith(prefix) or theirs is None or ours is None:
        return False
    return int(theirs[1]) < int(ours[1])


def product_touches(mesh: Mesh, product: Product, partition: Partition) -> Touches:
    """The product itself, its inputs, and the inputs of those: readiness looks one hop."""
    keys = {(product.id, partition.key), *((str(m.table), partition.key) for m in product.marts)}
    keys |= {(str(m.table), "") for m in product.marts}
    names: set[str] = set()
    for edge, read in _inputs(mesh, product, partition):
        table = edge.upstream
        if not table.is_source:
            keys.add((mesh.product(table).id, ""))  # what a backfill makes of it
        if read is None:
            names |= _all_of(mesh, table)
            continue
        for each in read:
            near = _table_touches(mesh, table, each)
            keys |= near.keys
            names |= near.names
    return Touches(frozenset(keys), frozenset(names))


# Tables, for anybody's DAG


def judge_tables(
    facts: Facts,
    mesh: Mesh,
    wanted: Collection[tuple[TableRef, Partition]],
    generations: Mapping[TableRef, int],
) -> Answer:
    """Whether all of these may be read, each at least of its generation."""
    judge = Judge(mesh, facts, datetime.now(UTC))
    waits: list[str] = []
    wakes: list[datetime] = []
    for table, partition in wanted:
        readiness = judge.table(table, partition)
        name = f"{table} {partition}"
        if readiness.state is State.IMPOSSIBLE:
            said = f"{name}: {readiness.because}"
            return Answer(Outcome.NEVER, said, facts.position, far=judge.far)
        if again := _looked_at_again(readiness):
            wakes.append(again)
        line = facts.line(table, partition)
        least = generations.get(table, 0)
        if readiness.state is not State.READY or line is None:
            waits.append(f"{name}: {readiness.because}")
        elif by := _restated(facts, mesh, table, partition):
            waits.append(f"{name}: it is made again by backfill {by}")
        elif line.generation < least:
            waits.append(f"{name}: generation {line.generation}, waits for {least}")
    if waits:
        said = "waits for " + "; ".join(waits)
        soonest = min(wakes, default=None)
        return Answer(Outcome.WAITING, said, facts.position, soonest, judge.far)
    leaving = endings(mesh, {table for table, _ in wanted}, judge.now)
    names = ", ".join(f"{t} {p}" for t, p in wanted)
    told = "; ".join((names, *marks(judge, wanted), *leaving))
    return Answer(Outcome.READY, told, facts.position, far=judge.far)


def _restated(facts: Facts, mesh: Mesh, table: TableRef, partition: Partition) -> str | None:
    """The backfill that is still to make a slice again: its neighbours may be new already."""
    if table.is_source or not facts.restating:
        return None
    return facts.restating.get((mesh.product(table).id, partition))


def slices_inside(mesh: Mesh, interval: str, text: str, table: TableRef) -> tuple[Partition, ...]:
    """A table's slices inside the interval (`grain calendar`) that a template named."""
    grain, _, zone = interval.partition(" ")
    at = partition_of(text, Grain(grain), zone)
    own = mesh.slicing(table)
    try:
        mapping = default_mapping(*own, at.grain, at.zone)
        if isinstance(mapping, Latest):
            return (WHOLE,)
        if isinstance(mapping, FanOut):
            raise ValueError(f"a {own[0].value} is longer")
        found = mapped(mapping, at, *own, mesh.span)
    except ValueError as error:
        raise Misnamed(f"{table} has no slices of {interval}: {error}") from None
    if found.impossible or not found.partitions:
        never = [why for _, why in found.impossible] or ["it holds none"]
        raise Misnamed(f"{table} {at}: {never[0]}")
    return found.partitions


def table_touches(mesh: Mesh, wanted: Collection[tuple[TableRef, Partition]]) -> Touches:
    """The tables, what builds them, and what that reads. A line without a key is of all slices."""
    near = [_table_touches(mesh, table, partition) for table, partition in wanted]
    return Touches(
        frozenset().union(*(n.keys for n in near)), frozenset().union(*(n.names for n in near))
    )


def _table_touches(mesh: Mesh, table: TableRef, partition: Partition) -> Touches:
    """A slice, what builds it and what that reads; where an edge is tolerant, so on upwards."""
    keys: set[tuple[str, str]] = set()
    names: set[str] = set()
    ahead, seen = [(table, partition)], set[tuple[TableRef, Partition]]()
    while ahead:
        at = here, slice_ = ahead.pop()
        if at in seen:
            continue
        seen.add(at)
        keys |= {(str(here), slice_.key), (str(here), "")}
        if here.is_source:
            continue
        product = mesh.product(here)
        keys |= {(product.id, slice_.key), (product.id, "")}
        keys |= {(str(m.table), slice_.key) for m in product.marts}
        for edge, read in _inputs(mesh, product, slice_):
            upstream = edge.upstream
            if read is None:
                names |= _all_of(mesh, upstream) if edge.tolerant else {str(upstream)}
                continue
            keys |= {(str(upstream), each.key) for each in read}
            if edge.tolerant:  # stale as soon as that is ready
                ahead += [(upstream, each) for each in read]
    return Touches(frozenset(keys), frozenset(names))


def _inputs(
    mesh: Mesh, product: Product, partition: Partition
) -> Iterator[tuple[Dependency, tuple[Partition, ...] | None]]:
    """Every edge of a partition, with the slices it reads; None: any of them may be the one."""
    for edge in product.dependencies:
        if isinstance(edge.mapping, Latest) or edge.wait.max_lag is not None:
            yield edge, None
            continue
        grain, zone = mesh.slicing(edge.upstream)
        found = mapped(edge.mapping, partition, grain, zone, mesh.span)
        yield edge, found.partitions


def _all_of(mesh: Mesh, table: TableRef) -> set[str]:
    """Any slice of a table, what builds it and what that reads; so on over tolerant edges."""
    names: set[str] = set()
    ahead, seen = [table], set[TableRef]()
    while ahead:
        here = ahead.pop()
        names.add(str(here))
        if here.is_source or here in seen:
            continue
        seen.add(here)
        product = mesh.product(here)
        names |= {product.id, *(str(m.table) for m in product.marts)}
        for edge in product.dependencies:
            names.add(str(edge.upstream))
            if edge.tolerant:
                ahead.append(edge.upstream)
    return names
