"""What a partition of a product needs: a step, or a reason to rest."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from levada.intervals import end, inside, readers, within
from levada.readiness import Judge, bare, fingerprint, soonest
from levada.terms import (
    Attempt,
    Facts,
    Mesh,
    Partition,
    Plan,
    Product,
    Publication,
    Readiness,
    Span,
    State,
    Step,
    TableRef,
    Verdict,
)

__all__ = [
    "Rest",
    "Target",
    "affected",
    "backoff",
    "decide",
    "decided",
    "explain",
    "order",
    "plan",
    "stale_code",
]

_FIRST_WAIT, _LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=5)

Target = tuple[str, Partition]
"""A product's id and one of its partitions."""


@dataclass(frozen=True, slots=True)
class Rest:
    """
    A partition that the plan leaves alone, and why: READY (current), FAILED (parked), HELD,
    WAITING (until `next`: its interval's end or a back-off) or IMPOSSIBLE.
    """

    product: str
    partition: Partition
    readiness: Readiness


def plan(
    mesh: Mesh,
    facts: Facts,
    now: datetime,
    *,
    products: Collection[Product | str] | None = None,
    span: Span | None = None,
    only: Collection[Target] | None = None,
    reason: str = "routine",
) -> Plan:
    """
    The steps of these products (default: all) in this span (default: the mesh's), by product in
    the order in which they read one another, then by time. A step whose inputs are not ready yet
    says so: it is judged again when it runs. `only` names single targets, such as `affected` ones.
    """
    found = _decided(mesh, facts, now, products, span, only)
    return Plan(reason, tuple(step for step in found if isinstance(step, Step)))


def explain(
    mesh: Mesh,
    facts: Facts,
    now: datetime,
    *,
    products: Collection[Product | str] | None = None,
    span: Span | None = None,
    only: Collection[Target] | None = None,
) -> tuple[Rest, ...]:
    """What the plan of the same arguments leaves alone, and why."""
    found = _decided(mesh, facts, now, products, span, only)
    return tuple(rest for rest in found if isinstance(rest, Rest))


def decide(
    mesh: Mesh,
    facts: Facts,
    now: datetime,
    *,
    only: Collection[Target] | None = None,
    reason: str = "routine",
) -> tuple[Plan, tuple[Rest, ...]]:
    """`plan` and `explain` of the whole mesh, or of single targets, decided together."""
    found = tuple(_decided(mesh, facts, now, None, None, only))
    steps = tuple(step for step in found if isinstance(step, Step))
    return Plan(reason, steps), tuple(rest for rest in found if isinstance(rest, Rest))


def affected(mesh: Mesh, table: TableRef, partition: Partition) -> tuple[Target, ...]:
    """The partitions of products that read this partition of a table directly."""
    found = {
        (product.id, reader)
        for product in mesh.products
        for edge in product.dependencies
        if edge.upstream == table
        for reader in readers(edge.mapping, partition, product.grain, product.zone, mesh.span)
    }
    return tuple(sorted(found))


def backoff(tries: int) -> timedelta:
    """
    After so many attempts in a row that could not be told: how long until the next.

    >>> backoff(0).seconds, backoff(1).seconds, backoff(60).seconds
    (5, 10, 300)
    """
    return min(_FIRST_WAIT * (1 << min(tries, 10)), _LONGEST_WAIT)


def stale_code(
    mesh: Mesh,
    facts: Facts,
    *,
    products: Collection[Product | str] | None = None,
    span: Span | None = None,
) -> tuple[Target, ...]:
    """
    What other code or contracts made: the recorded inputs give another fingerprint today. Told,
    never planned.
    """
    return tuple(
        (product.id, partition)
        for product in _chosen(mesh, products)
        for partition in _partitions(mesh, product, span)
        if any(
            isinstance(line, Publication)
            and bare(line.made_by) != fingerprint(product, partition, line.inputs)
            for line in (facts.line(m.table, partition) for m in product.marts)
        )
    )


def order(mesh: Mesh) -> tuple[Product, ...]:
    """The products, every one after those that it reads, else as declared."""
    index = {product.id: n for n, product in enumerate(mesh.products)}
    above = {
        product.id: {mesh.product(d.upstream).id for d in product.dependencies if _made(d.upstream)}
        for product in mesh.products
    }
    below: dict[str, list[str]] = {}
    for product_id, read in above.items():
        for upstream in read:
            below.setdefault(upstream, []).append(product_id)
    free = [index[product_id] for product_id, read in above.items() if not read]
    heapq.heapify(free)
    ordered: list[Product] = []
    while free:
        product = mesh.products[heapq.heappop(free)]
        ordered.append(product)
        for reader in below.get(product.id, ()):
            above[reader].discard(product.id)
            if not above[reader]:
                heapq.heappush(free, index[reader])
    if len(ordered) < len(index):
        circle = sorted(set(index) - {p.id for p in ordered})
        raise ValueError(f"products read one another in a circle: {', '.join(circle)}")
    return tuple(ordered)


def _made(table: TableRef) -> bool:
    return not table.is_source


def _known(mesh: Mesh, ids: Iterable[str]) -> None:
    """Refuse ids that no product has."""
    known = {product.id for product in mesh.products}
    if unknown := sorted(set(ids) - known):
        raise ValueError(
            f"the mesh has no product {', '.join(unknown)}: it has {', '.join(sorted(known))}"
        )


def _chosen(mesh: Mesh, products: Collection[Product | str] | None) -> Iterator[Product]:
    """These products, in order."""
    wanted = None if products is None else set(map(str, products))
    _known(mesh, wanted or ())
    return (p for p in order(mesh) if wanted is None or p.id in wanted)


def _partitions(mesh: Mesh, product: Product, span: Span | None) -> Iterator[Partition]:
    partitions = within(product.grain, product.zone, mesh.span)
    return (p for p in partitions if span is None or inside(p, span))


def _decided(
    mesh: Mesh,
    facts: Facts,
    now: datetime,
    products: Collection[Product | str] | None,
    span: Span | None,
    only: Collection[Target] | None,
) -> Iterator[Step | Rest]:
    judge = Judge(mesh, facts, now)
    targets: dict[str, list[Partition]] = {}
    for product_id, partition in sorted(set(only or ())):
        targets.setdefault(product_id, []).append(partition)
    _known(mesh, targets)
    for product in _chosen(mesh, products):
        partitions: Iterable[Partition] = _partitions(mesh, product, span)
        if only is not None:
            partitions = [p for p in targets.get(product.id, ()) if span is None or inside(p, span)]
        for partition in partitions:
            decision = decided(judge, product, partition)
            if isinstance(decision, Readiness):
                yield Rest(product.id, partition, decision)
            else:
                yield decision


def decided(judge: Judge, product: Product, partition: Partition) -> Step | Readiness:
    """One partition: the step that it needs, or why it needs none."""
    if partition.start is not None and (over := end(partition)) > judge.now:
        return Readiness(State.WAITING, f"{partition} is not over", next=over)
    lines = judge.lines(product, partition)
    states = [judge.table(m.table, partition) for m in product.marts]
    attempt = judge.attempt(product, partition)
    wakes = soonest(*(s.next for s in states))  # time alone may end what is current, and a hold
    if attempt is None and all(s.state is State.READY for s in states):
        return Readiness(State.READY, "current", next=wakes)
    inputs = judge.inputs(product, partition)
    if inputs.state in (State.IMPOSSIBLE, State.HELD):
        return inputs
    changes = [c for line in lines if line for c in judge.changes(product, partition, line)]
    rest = judge.resting(product, partition) or _resting(judge, product, partition, attempt)
    if rest is not None:
        return replace(rest, next=soonest(rest.next, wakes))
    waived = attempt is not None and judge.waived(attempt) is not None
    because = _because(product, lines, states, attempt, waived=waived)
    if claim := judge.facts.claims.get((product.id, partition)):
        because += f"; being built by run {claim.run}"
    required = {(c.table, c.partition, c.line.generation) for c in changes if c.line}
    return Step(
        product.id,
        partition,
        f"{because}; {inputs.because}",
        tuple(sorted(required)),
        first=not any(lines) and attempt is None,
    )


def _resting(
    judge: Judge, product: Product, partition: Partition, attempt: Attempt | None
) -> Readiness | None:
    """Why building now would be in vain, if it would."""
    mark, inputs = "", judge.inputs(product, partition)
    if inputs.state is State.READY:
        mark = fingerprint(product, partition, judge.pins(product, partition))
    if mark and judge.published_as(product, partition, mark):
        states = (judge.table(m.table, partition) for m in product.marts)
        if held := next((s for s in states if s.state is State.HELD), None):
            return held
        said = "a build would read what it has read already"
        return Readiness(State.STALE, said, next=inputs.next)
    if attempt is None:
        return None
    waived = judge.waived(attempt) is not None
    if attempt.verdict is Verdict.FAIL and mark == bare(attempt.fingerprint) and not waived:
        said = f"parked until something changes: {attempt.because}"
        return Readiness(State.FAILED, said, next=inputs.next)
    waiting = attempt.not_before is not None and attempt.not_before > judge.now
    if attempt.verdict is not Verdict.FAIL and waiting and mark in ("", bare(attempt.fingerprint)):
        said = f"tried again later, {attempt.tries} so far: {attempt.because}"
        wakes = min(i for i in (attempt.not_before, inputs.next) if i)
        return Readiness(State.WAITING, said, next=wakes)
    return None


def _because(
    product: Product,
    lines: tuple[Publication | None, ...],
    states: list[Readiness],
    attempt: Attempt | None,
    *,
    waived: bool,
) -> str:
    """Why a partition needs a step."""
    if attempt and attempt.verdict is Verdict.FAIL:
        how = "waived" if waived else "changed"
        return f"repair: {how} since its audit failed ({attempt.because})"
    if attempt:
        return f"retry: {attempt.because}"
    if not any(lines):
        return "never published"
    pairs = zip(product.marts, lines, strict=True)
    if never := [str(mart.table) for mart, line in pairs if line is None]:
        return f"never published: {', '.join(never)}"
    return next(s.because for s in states if s.state is not State.READY)
