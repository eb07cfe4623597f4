"""Which slices a rule compares, whether they may be compared now, and what is still to report."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from levada.intervals import default_mapping, following, mapped, preceding, within
from levada.readiness import Judge
from levada.terms import (
    WHOLE,
    Batch,
    ConsistencyRule,
    FanOut,
    Grain,
    Guarded,
    Latest,
    Mesh,
    Partition,
    PartitionMapping,
    Read,
    RuleResult,
    Span,
    State,
    TableRef,
    Verdict,
)

__all__ = [
    "Assessed",
    "Due",
    "due",
    "earlier",
    "mapping_of",
    "slices",
    "tables_of",
    "undecided",
]


@dataclass(frozen=True, slots=True)
class Assessed:
    """One rule over one interval: what it would read, and why that may not be compared, if so."""

    rule: ConsistencyRule
    reads: Mapping[Read, tuple[Partition, ...]]
    because: str = ""
    weeks: tuple[int, ...] = ()
    """The earlier weeks that are there to be compared with."""
    mark: Guarded | None = None
    """That the rule is suspended: then it is not judged, whatever is there."""

    @property
    def told(self) -> bool:
        """Whether the rule is judged."""
        return not self.because and self.mark is None


@dataclass(frozen=True, slots=True)
class Due:
    """A batch's interval as it stands: what to compare, from which generations."""

    batch: Batch
    partition: Partition
    rules: tuple[Assessed, ...]
    inputs: tuple[tuple[TableRef, Partition, int], ...]

    @property
    def digest(self) -> str:
        """Of what a report is made: rules as they are written, which are told, and the inputs."""
        lines = [f"{a.rule.id} {a.rule.hash} {a.told}" for a in self.rules]
        lines += [f"{t} {p.grain.value} {p.start} {p.zone} {g}" for t, p, g in self.inputs]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]

    def suspending(self, marks: Mapping[str, Guarded]) -> Due:
        """The same without a judgement of the rules of these ids."""
        rules = tuple(replace(a, mark=marks.get(a.rule.id, a.mark)) for a in self.rules)
        return replace(self, rules=rules)


def mapping_of(batch: Batch, grain: Grain, zone: str) -> PartitionMapping:
    """
    How a table of this grain is read for an interval of the batch.

    Raises ValueError where no interval of the batch holds whole slices of the table.
    """
    if batch.grain is Grain.WHOLE and grain is not Grain.WHOLE:
        raise ValueError(f"a table by {grain.value} has no whole: give the batch a grain")
    found = default_mapping(grain, zone, batch.grain, batch.zone)
    if isinstance(found, FanOut):
        raise ValueError(
            f"a {grain.value} is longer than a {batch.grain.value}: compare in {grain.value}s"
        )
    return found


def earlier(partition: Partition, weeks: int) -> Partition:
    """
    The same weekday so many weeks before, whatever the clocks did in between.

    >>> from levada.intervals import parse
    >>> earlier(parse(Grain.DAY, "2013-03-12", "America/New_York"), 1).key
    '2013-03-05'
    """
    for _ in range(7 * weeks):
        partition = preceding(partition)
    return partition


def slices(
    mesh: Mesh, batch: Batch, read: Read, at: Partition
) -> tuple[tuple[Partition, ...], str]:
    """The slices of a table that an interval compares; and why some can never be there."""
    grain, zone = mesh.slicing(read.table)
    mapping = mapping_of(batch, grain, zone)
    if isinstance(mapping, Latest):
        return (WHOLE,), ""
    parts: dict[Partition, None] = {}
    for each in _around(earlier(at, read.weeks), read.reach):
        found = mapped(mapping, each, grain, zone, mesh.span)
        if found.impossible:
            return (), found.impossible[0][1]
        parts |= dict.fromkeys(found.partitions)
    return tuple(sorted(parts)), ""


def _around(at: Partition, reach: int) -> Iterator[Partition]:
    """An interval, and so many on either side of it."""
    for _ in range(reach):
        at = preceding(at)
    yield at
    for _ in range(2 * reach):
        at = following(at)
        yield at


def tables_of(mesh: Mesh, batches: Iterable[Batch]) -> tuple[set[TableRef], set[str]]:
    """The tables whose lines tell whether these batches may compare, and their products."""
    tables: set[TableRef] = set()
    products: set[str] = set()
    for table in {table for batch in batches for table in batch.tables}:
        product = mesh.product(table)
        products.add(product.id)
        tables |= {mart.table for mart in product.marts}
        tables |= {edge.upstream for edge in product.dependencies}
        above = [mesh.product(e.upstream) for e in product.dependencies if not e.upstream.is_source]
        products |= {each.id for each in above}
        tables |= {e.upstream for each in above for e in each.dependencies}
    return tables, products


def due(judge: Judge, batch: Batch, span: Span, rules: Collection[str] = ()) -> Iterator[Due]:
    """
    Every interval of a span in which one of the batch's tables has a line, as it stands now.

    An interval of which nothing was published yet is no case for anybody.
    """
    chosen = [rule for rule in batch.rules if not rules or rule.id in rules]
    for partition in within(batch.grain, batch.zone, span):
        assessed = tuple(_assessed(judge, batch, rule, partition) for rule in chosen)
        seen = {
            (read.table, p)
            for each in assessed
            for read, parts in each.reads.items()
            for p in parts
            if (batch.grain is Grain.WHOLE or p is not WHOLE) and not read.reach
        }
        lines = {key: judge.facts.line(*key) for key in seen}
        if not any(lines.values()):
            continue
        every = {
            (read.table, p) for e in assessed for read, parts in e.reads.items() for p in parts
        }
        inputs = tuple(
            (*key, line.generation if (line := judge.facts.line(*key)) else 0)
            for key in sorted(every)
        )
        yield Due(batch, partition, assessed, inputs)


def _assessed(judge: Judge, batch: Batch, rule: ConsistencyRule, at: Partition) -> Assessed:
    reads: dict[Read, tuple[Partition, ...]] = {}
    weeks: list[int] = []
    said: list[str] = []
    for read in rule.reads:
        parts, never = slices(judge.mesh, batch, read, at)
        if never and read.weeks:
            continue  # before the mesh began: there is no such week to compare with
        reads[read] = parts
        weeks += [read.weeks] if read.weeks else []
        if never or not parts:
            said.append(f"{read.table}: {never or 'the interval holds no slice of it'}")
        said += [
            f"{read.table} {part} is {found.state.value}: {found.because}"
            for part in parts
            if (found := judge.table(read.table, part)).state is not State.READY
        ]
    if rule.weeks and not weeks:
        said.append("the mesh has no earlier week to compare with")
    more = f", and {len(said) - 1} more" if len(said) > 1 else ""
    return Assessed(rule, reads, said[0] + more if said else "", tuple(weeks))


def undecided(found: Assessed) -> RuleResult:
    """The result of a rule that is suspended, or whose inputs may not be compared."""
    because = str(found.mark) if found.mark else found.because
    return RuleResult(found.rule, Verdict.UNKNOWN, because, guarded=found.mark)
