"""
Run consistency batches: read, decide, judge, report.

Whatever kills it, an interval was reported or was not: its report and its breaks are one line of
the ledger. The next run goes on with what is not reported yet.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from levada import consistency
from levada.adapters.consistency import read_batches
from levada.adapters.gx.batches import RuleSession, rule_session
from levada.adapters.warehouses._sql import name, within_partitions
from levada.consistency import Assessed, Due, Witness
from levada.errors import DeclarationError, Fault
from levada.flow import platform
from levada.flow.platform import SignsIn
from levada.intervals import end
from levada.ledger.codec import encode_partition
from levada.ledger.findings import Findings
from levada.ports import Clock, Ledger, Warehouse
from levada.readiness import Judge
from levada.settings import Settings, nearest
from levada.terms import (
    Batch,
    ConsistencyRule,
    Facts,
    Grain,
    Mesh,
    Partition,
    Publication,
    Read,
    Report,
    RuleResult,
    Span,
    TableRef,
)

__all__ = [
    "Bench",
    "Told",
    "bench",
    "chosen",
    "declared_batches",
    "findings",
    "pending",
    "restated",
    "run",
]

_log = logging.getLogger(__name__)

Told = Callable[[Report, bool], None]
"""What is told of each interval: its report, and whether it is a new one."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What running batches needs from outside, each with its own rights."""

    mesh: Mesh
    runner: Ledger
    findings: Findings
    """As the publisher: what the domain's own process says counts for nothing."""
    warehouse: Warehouse
    clock: Clock
    timeout: float = 300.0
    batches: tuple[Batch, ...] = ()
    """All there are: their rules are witnesses of one another."""


def declared_batches(settings: Settings, mesh: Mesh) -> tuple[Batch, ...]:
    """The batches of a mesh. Raises DeclarationError with every fault of their files."""
    batches, faults = read_batches(settings.root, mesh)
    if faults:
        raise DeclarationError(faults)
    return batches


def chosen(batches: Sequence[Batch], names: Collection[str]) -> tuple[Batch, ...]:
    """The batches of these names; all, where none is named. Raises DeclarationError."""
    known = {batch.id: batch for batch in batches}
    faults = [
        Fault("BATCH", 0, f"no batch is called {n!r}", nearest(n, known))
        for n in names
        if n not in known
    ]
    if faults:
        raise DeclarationError(faults)
    return tuple(known[n] for n in names) if names else tuple(batches)


@contextmanager
def bench(
    settings: Settings, mesh: Mesh, credentials: SignsIn, batches: Sequence[Batch]
) -> Iterator[Bench]:
    """Ledger and warehouse, opened for running some of these batches."""
    with (
        platform.ledger(credentials, "levada_runner") as runner,
        findings(credentials, "levada_publisher") as found,
        closing(platform.warehouse(settings, credentials)) as warehouse,
    ):
        yield Bench(mesh, runner, found, warehouse, platform.now, batches=tuple(batches))


@contextmanager
def findings(credentials: SignsIn, role: str) -> Iterator[Findings]:
    """Reports and breaks, as one role sees them."""
    with closing(Findings(credentials.url(role, "levada"))) as opened:
        yield opened


def pending(
    bench: Bench, batches: Sequence[Batch], span: Span
) -> tuple[tuple[tuple[Due, bool], ...], Facts]:
    """Every interval that has a case, whether it is still to be reported, and what was known."""
    tables, products = consistency.tables_of(bench.mesh, batches)
    facts = bench.runner.facts(tables, products)
    judge = Judge(bench.mesh, facts, bench.clock())
    found: list[tuple[Due, bool]] = []
    for batch in batches:
        known = bench.findings.settled(batch.id)
        marks = consistency.Record((), bench.findings.guarded()).suspended(batch)
        dues = (each.suspending(marks) for each in consistency.due(judge, batch, span))
        found += [(each, (each.partition, each.digest) not in known) for each in dues]
    return tuple(found), facts


def run(
    bench: Bench,
    batches: Sequence[Batch],
    span: Span,
    tell: Told = lambda *_: None,
    *,
    surely: Partition | None = None,
) -> tuple[Report, ...]:
    """
    Report every interval of these batches that is not reported as it stands; the new reports.

    Where one interval is asked for (`surely`), of the others only those that were restated since
    they were reported, and of which every rule may be compared again.
    """
    dues, facts = pending(bench, batches, span)
    wanted = [due for due, new in dues if new]
    if surely is not None:
        wanted = [d for d in wanted if d.partition == surely or _restated(bench, d)]
    if not wanted:
        return ()
    versions = _versions(facts)
    records = {
        b.id: consistency.Record(bench.findings.told(b.id), bench.findings.guarded())
        for b in {due.batch.id: due.batch for due in wanted}.values()
    }
    made = []
    with rule_session(bench.warehouse.attaching(_lakes(wanted)), bench.timeout) as session:
        for each in wanted:
            record = records[each.batch.id]
            due = each.suspending(record.suspended(each.batch))
            if (due.partition, due.digest) in bench.findings.settled(due.batch.id):
                continue  # another process was quicker
            begun, now = time.monotonic(), bench.clock()
            judged = _judge(bench, session, due, versions)
            judged = consistency.guarded(
                *(due.batch, due.partition, judged, record, now),
                lambda rule, due=due: _others(bench, due, rule),  # type: ignore[misc]
            )
            due = due.suspending({r.rule.id: r.guarded for r in judged if r.guarded and r.muted})
            report = Report(
                due.batch.id,
                due.partition,
                due.digest,
                judged,
                due.inputs,
                time.monotonic() - begun,
                now,
            )
            new = bench.findings.report(report, settled=not any(each.broke for each in judged))
            record.add(report)
            tell(report, new)
            made += [report] if new else []
    return tuple(made)


def _others(bench: Bench, due: Due, rule: ConsistencyRule) -> Iterator[Witness]:
    """
    What the rules of other batches say now of this interval of a rule's tables: asked anew, so that
    it does not matter which batch is run first. A batch that cannot be asked is no witness.
    """
    import duckdb

    at, tables = due.partition, set(rule.tables)
    span = Span(at.begin, end(at)) if at.start is not None else bench.mesh.span
    for batch in (b for b in bench.batches if b.id != due.batch.id and tables & set(b.tables)):
        near = {each.id for each in batch.rules if tables & set(each.tables)}
        facts = bench.runner.facts(*consistency.tables_of(bench.mesh, [batch]))
        record = consistency.Record(bench.findings.told(batch.id), bench.findings.guarded())
        judge = Judge(bench.mesh, facts, bench.clock())
        marks = record.suspended(batch)
        dues = [each.suspending(marks) for each in consistency.due(judge, batch, span, near)]
        try:
            with rule_session(bench.warehouse.attaching(_lakes(dues)), bench.timeout) as session:
                for each in dues:
                    for result in _judge(bench, session, each, _versions(facts)):
                        yield Witness(batch, each.partition, result, record)
        except duckdb.Error as error:
            _log.warning("batch %s could not be asked about %s: %s", batch.id, rule.name, error)


def _lakes(dues: Iterable[Due]) -> set[str]:
    """The domains whose lakes are read: of a table that is not there, none need be there."""
    told = [each for due in dues for each in due.rules if each.told]
    return {read.table.domain for each in told for read in each.reads}


def restated(bench: Bench, batches: Sequence[Batch]) -> tuple[tuple[Batch, Partition], ...]:
    """
    The intervals that were reported from other generations than are published now, and of which
    every rule may be compared again. Only those are judged whose generations have moved.
    """
    tables, products = consistency.tables_of(bench.mesh, batches)
    facts = bench.runner.facts(tables, products)
    judge = Judge(bench.mesh, facts, bench.clock())
    newest = {
        (str(table), encode_partition(part)): line.generation
        for (table, part), line in facts.lines.items()
    }
    found: list[tuple[Batch, Partition]] = []
    for batch in (b for b in batches if b.grain is not Grain.WHOLE):
        for part, inputs in bench.findings.compared(batch.id).items():
            if all(newest.get((table, at), 0) == g for table, at, g in inputs):
                continue
            dues = consistency.due(judge, batch, Span(part.begin, end(part)))
            found += [(batch, each.partition) for each in dues if _restated(bench, each)]
    return tuple(found)


def _restated(bench: Bench, due: Due) -> bool:
    """Whether an interval was reported from other generations, and may be compared again."""
    before = bench.findings.compared(due.batch.id).get(due.partition)
    now = frozenset((str(t), encode_partition(p), g) for t, p, g in due.inputs)
    return before not in (None, now) and not any(
        each.because and not each.mark for each in due.rules
    )


def _judge(
    bench: Bench, session: RuleSession, due: Due, versions: Mapping[TableRef, str]
) -> tuple[RuleResult, ...]:
    """One interval's rules, those that may not be compared as UNKNOWN."""
    told = [each for each in due.rules if each.told]
    views = {
        _view(read): _rows(bench, read.table, parts, versions)
        for each in told
        for read, parts in each.reads.items()
    }
    stop = end(due.partition) if due.partition.start is not None else None

    asked = [
        (each.rule, consistency.statement(each.rule, _relation(each.rule), stop, each.weeks))
        for each in told
    ]
    found = iter(session.judge(views, asked) if asked else ())
    return tuple(_of(each, found) for each in due.rules)


def _of(each: Assessed, found: Iterator[RuleResult]) -> RuleResult:
    return next(found) if each.told else consistency.undecided(each)


def _relation(rule: ConsistencyRule) -> Callable[[TableRef, int], str]:
    """What the rule's SQL calls its tables: each is read for so many weeks in one way."""
    views = {(read.table, read.weeks): _view(read) for read in rule.reads}
    return lambda table, weeks: views[table, weeks]


def _view(read: Read) -> str:
    words = [str(read.table), *[f"{read.weeks}w"] * bool(read.weeks)]
    return name(" ".join([*words, *[f"around {read.reach}"] * bool(read.reach)]))


def _rows(
    bench: Bench,
    table: TableRef,
    partitions: Sequence[Partition],
    versions: Mapping[TableRef, str],
) -> str:
    """The promised columns of these slices, at the version of the table's newest line."""
    contract = bench.mesh.mart(table).contract
    columns = ", ".join(name(column.name) for column in contract.columns)
    where = within_partitions(contract, partitions)
    return f"SELECT {columns} FROM {bench.warehouse.relation(table, versions[table])} WHERE {where}"


def _versions(facts: Facts) -> Mapping[TableRef, str]:
    """The data version of each table's newest line: it holds all older lines too."""
    newest: dict[TableRef, Publication] = {}
    for line in facts.lines.values():
        if isinstance(line, Publication):
            last = newest.get(line.table)
            if last is None or line.position > last.position:
                newest[line.table] = line
    return {table: line.data_version for table, line in newest.items()}
