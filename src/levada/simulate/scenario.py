"""A scenario: what arrives when, what goes wrong; played, it becomes a timeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from levada.intervals import end, mapped, readers, within
from levada.plan import Target
from levada.readiness import Judge
from levada.simulate.engine import Built, Event, Simulation, plainly
from levada.terms import (
    Claim,
    Latest,
    Mesh,
    Partition,
    Product,
    Readiness,
    Span,
    State,
    TableRef,
    Verdict,
)

__all__ = [
    "Arrival",
    "Audit",
    "Release",
    "Restatement",
    "Scenario",
    "Timeline",
    "arrival",
    "play",
]

Slice = tuple[TableRef, Partition]


@dataclass(frozen=True, slots=True)
class Arrival:
    """When slices of a source land: a time after their end, at an instant, or (neither) never."""

    after: timedelta | None = None
    at: datetime | None = None
    window: Span | None = None
    """The slices that it is about, by their start; None: all."""


@dataclass(frozen=True, slots=True)
class Restatement:
    """A slice of a source that lands again: with other content, or with the same."""

    table: TableRef
    partition: Partition
    at: datetime
    same: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """Somebody lets a held partition go on, as `levada release` does."""

    product: str
    partition: Partition
    at: datetime


@dataclass(frozen=True, slots=True)
class Audit:
    """What the next audits of a product's partition say; None: every one of them."""

    product: str
    partition: Partition
    verdict: Verdict
    because: str
    times: int | None = 1


@dataclass(frozen=True, slots=True)
class Scenario:
    """A question to a mesh. What ended before the span has landed and is built when it begins."""

    name: str
    span: Span
    until: datetime
    products: tuple[str, ...]
    arrivals: Mapping[TableRef, tuple[Arrival, ...]]
    """The last rule that is about a slice holds; without one it lands at its end."""
    restatements: tuple[Restatement, ...]
    releases: tuple[Release, ...]
    audits: tuple[Audit, ...]
    builds: Mapping[str, timedelta]
    build: timedelta
    pauses: tuple[tuple[datetime, datetime], ...]
    lease: timedelta


@dataclass(frozen=True, slots=True)
class Timeline:
    """What happened, in order, and what is not ready at the end."""

    scenario: Scenario
    events: tuple[Event, ...]
    left: tuple[tuple[Target, Readiness], ...]
    ended: datetime


def play(mesh: Mesh, scenario: Scenario, dispatch: str = "sensor") -> Timeline:
    """
    Play a scenario to its end: until nothing more can happen, at most to `until`.

    :param dispatch: that of the mesh's settings
    """
    targets, sources = _needed(mesh, scenario)
    start, audits = scenario.span.start, _Audits(scenario)
    simulation = Simulation(
        *(mesh, targets, start),
        takes=lambda _, __: timedelta(0),
        lease=scenario.lease,
        dispatch=dispatch,
    )
    later = _arrive(scenario, sources, simulation)
    simulation.work()  # what was there before the question begins
    simulation.events.clear()
    simulation.makes = audits.makes
    simulation.takes = lambda product, _: scenario.builds.get(product.id, scenario.build)
    for instant, (table, partition) in later:
        simulation.at(instant, partial(simulation.land, table, partition, "1"))
    versions: Counter[Slice] = Counter()
    for again in sorted(scenario.restatements, key=lambda r: r.at):
        key = (again.table, again.partition)
        versions[key] += not again.same
        simulation.at(again.at, partial(simulation.land, *key, str(versions[key] + 1)))
    for let in scenario.releases:
        said = "somebody releases it"
        simulation.at(let.at, partial(simulation.release, let.product, let.partition, said))
    for first, last in scenario.pauses:
        simulation.at(first, simulation.pause)
        simulation.at(last, simulation.resume)
    simulation.rest(scenario.until)
    facts = simulation.ledger.facts()
    judge = Judge(mesh, facts, simulation.now)
    judged = (
        ((product, partition), judge.table(mesh.product(product).marts[0].table, partition))
        for product, partition in sorted(targets)
    )
    left = tuple((t, found) for t, found in judged if found.state is not State.READY)
    return Timeline(scenario, tuple(simulation.events), left, simulation.now)


class _Audits:
    """The audits that a scenario spoils, each as often as it says."""

    def __init__(self, scenario: Scenario) -> None:
        self._spoilt = {(a.product, a.partition): a for a in scenario.audits}
        self._seen: Counter[Target] = Counter()

    def makes(self, product: Product, claim: Claim) -> Built:
        contents = plainly(product, claim).contents
        key = (product.id, claim.partition)
        spoilt = self._spoilt.get(key)
        self._seen[key] += 1
        if spoilt and (spoilt.times is None or self._seen[key] <= spoilt.times):
            return Built(spoilt.verdict, contents, spoilt.because)
        return Built(Verdict.PASS, contents)


def _arrive(
    scenario: Scenario, sources: set[Slice], simulation: Simulation
) -> list[tuple[datetime, Slice]]:
    """Land what is there when the span begins; when the rest arrives."""
    later: list[tuple[datetime, Slice]] = []
    for table, partition in sorted(sources):
        instant = arrival(scenario.arrivals, scenario.span, table, partition)
        if instant is not None and instant <= scenario.span.start:
            simulation.land(table, partition, "1")
        elif instant is not None:
            later.append((instant, (table, partition)))
    return later


def arrival(
    arrivals: Mapping[TableRef, Sequence[Arrival]],
    span: Span,
    table: TableRef,
    partition: Partition,
) -> datetime | None:
    """When a slice of a source lands, if ever, by the rules of a scenario of this span."""
    found = Arrival(after=timedelta(0))
    for rule in arrivals.get(table, ()):
        start = partition.start
        if rule.window is None or (
            start is not None and rule.window.start <= start < rule.window.end
        ):
            found = rule
    if found.after is None:
        return found.at
    over = span.start if partition.start is None else end(partition)
    return over + found.after


def _needed(mesh: Mesh, scenario: Scenario) -> tuple[set[Target], set[Slice]]:
    """What the products of a scenario need: partitions to build, and slices of sources to land."""
    targets: set[Target] = set()
    sources: set[Slice] = set()
    ahead: list[Target] = [
        (product, partition)
        for product in scenario.products
        for partition in _due(mesh, mesh.product(product), scenario.span)
    ]
    ahead += _made_of_restated(mesh, scenario)
    while ahead:
        target = ahead.pop()
        if target in targets:
            continue
        targets.add(target)
        for table, partition in _reads(mesh, *target, scenario.span):
            if table.is_source:
                sources.add((table, partition))
            else:
                ahead.append((mesh.product(table).id, partition))
    return targets, sources


def _made_of_restated(mesh: Mesh, scenario: Scenario) -> set[Target]:
    """What was built of restated slices, through whatever lies between, before the span too."""
    concerned = _with_all_above(mesh, scenario.products)
    edges = [
        (product, edge)
        for product in mesh.products
        if product.id in concerned
        for edge in product.dependencies
        if edge.on_restatement.action != "ignore"
    ]
    made: set[Target] = set()
    ahead: list[Slice] = [(each.table, each.partition) for each in scenario.restatements]
    while ahead:
        table, partition = ahead.pop()
        for product, edge in edges:
            if edge.upstream != table:
                continue
            for reader in readers(edge.mapping, partition, product.grain, product.zone, mesh.span):
                over = reader.start is None or end(reader) <= scenario.span.end
                if over and (product.id, reader) not in made:
                    made.add((product.id, reader))
                    ahead += [(mart.table, reader) for mart in product.marts]
    return made


def _with_all_above(mesh: Mesh, products: Iterable[str]) -> set[str]:
    """Products, and all that they are made from."""
    found: set[str] = set()
    ahead = [*products]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            read = (edge.upstream for edge in mesh.product(name).dependencies)
            ahead += [mesh.product(table).id for table in read if not table.is_source]
    return found


def _due(mesh: Mesh, product: Product, span: Span) -> Iterator[Partition]:
    """The partitions that end within a span; WHOLE always."""
    for partition in within(product.grain, product.zone, mesh.span):
        if partition.start is None or span.start < end(partition) <= span.end:
            yield partition


def _reads(mesh: Mesh, product: str, partition: Partition, span: Span) -> Iterator[Slice]:
    """What a partition reads; of `latest`, what may be the newest within the span."""
    for edge in mesh.product(product).dependencies:
        grain, zone = mesh.slicing(edge.upstream)
        found = mapped(edge.mapping, partition, grain, zone, mesh.span).partitions
        if isinstance(edge.mapping, Latest):
            over = [p for p in found if p.start is not None and end(p) <= span.start]
            inside = (p for p in found if p.start is None or span.start < end(p) <= span.end)
            found = (*over[-1:], *inside)
        if edge.wait.max_lag is not None:
            found = (*_earlier(found, edge.wait.max_lag, mesh.span), *found)
        for each in found:
            yield edge.upstream, each


def _earlier(found: tuple[Partition, ...], limit: timedelta, span: Span) -> tuple[Partition, ...]:
    """What may stand in for slices that are late."""
    oldest = min((p for p in found if p.start is not None), default=None)
    if oldest is None:
        return ()
    reach = oldest.begin - limit
    return tuple(
        p for p in within(oldest.grain, oldest.zone, span) if reach <= p.begin < oldest.begin
    )
