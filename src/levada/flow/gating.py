"""Gates: blocking rules between tables, declared with the mesh, judged on the staged interval."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from levada import consistency
from levada.adapters.consistency import batches_in, read_batches
from levada.adapters.warehouses._sql import name, within_partitions
from levada.audit import Auditor, Comparison
from levada.declare import Declared
from levada.errors import Fault
from levada.intervals import end
from levada.ports import Stage
from levada.settings import Settings
from levada.terms import (
    AuditReport,
    Batch,
    Check,
    CheckResult,
    ConsistencyRule,
    GateVerdict,
    Mesh,
    Partition,
    Product,
    Read,
    RuleResult,
    Severity,
    TableRef,
    Verdict,
)

__all__ = ["Gated", "between", "gated_mesh", "said_of", "with_gates"]

_SHOWN = 5
_METRIC, _DEFINITION = "consistency", "definition"
_GUARDED = re.compile(r"""["']?guards["']?\s*:\s*["']?([a-z][a-z0-9_]*)\.""")
"""Of a file that cannot be read whole: the domains of the tables that it guards."""


class Platform(Protocol):
    """What judging a gate needs of a platform."""

    @property
    def mesh(self) -> Mesh:
        """The mesh with its gates."""

    @property
    def auditor(self) -> Auditor:
        """Who judges."""


class Run(Protocol):
    """What judging a gate needs of a run."""

    @property
    def product(self) -> Product:
        """Whose gates are judged."""


@dataclass(frozen=True, slots=True)
class Gated:
    """The mesh with its gates, how many there are, and whom files of gates with a fault stop."""

    mesh: Mesh
    seen: tuple[Product, ...]
    """Every product that could be joined, those of domains with a fault too, with their gates."""
    batches: tuple[Batch, ...]
    """Every sound batch, of advisory rules too."""
    unread: frozenset[str]
    """Batches that compare tables with a fault of their own: what was compiled of them stays."""
    count: int
    stops: Mapping[str, frozenset[Fault]]
    """By domain: why what may guard its products cannot be told."""

    @property
    def faults(self) -> frozenset[Fault]:
        """What is wrong with the files of gates."""
        return frozenset(itertools.chain(*self.stops.values()))


def gated_mesh(settings: Settings, found: Declared) -> Gated:
    """
    The sound products with the gates that guard them. A fault of a file without any gate is left to
    `levada check`: it stops no domain.
    """
    mesh = replace(found.mesh, products=found.seen)
    read = batches_in(settings.root, mesh)
    made, unfit = consistency.gated(mesh, (*read.sound, *read.partial))
    stops: dict[str, set[Fault]] = {}
    for fault in (*read.faults, *unfit):
        for domain in _stopped(settings, fault, read.waiting):
            stops.setdefault(domain, set()).add(fault)
    sound = {product.id for product in found.mesh.products}
    products = tuple(p for p in made.products if p.id in sound)
    return Gated(
        replace(found.mesh, products=products),
        made.products,
        read.sound,
        frozenset(batch.id for batch in read.partial),
        sum(len(consistency.gates_of(p)) for p in products),
        {domain: frozenset(faults) for domain, faults in stops.items()},
    )


def _stopped(settings: Settings, fault: Fault, waiting: frozenset[str]) -> Collection[str]:
    """
    The domains whose products a file of gates with a fault may guard. Where its only faults are
    those of tables that it compares, its other gates are told.
    """
    text = (settings.root / fault.path).read_text("utf-8", "replace")
    if "blocking" not in text:
        return ()
    guarded = set(_GUARDED.findall(text)) & set(settings.domains) or set(settings.domains)
    return guarded & waiting if fault.follows else guarded


def between(
    settings: Settings, found: Declared, others: Collection[Fault]
) -> tuple[tuple[Fault, ...], int]:
    """
    The faults of the files of batches, and how many are sound. Where the mesh itself has faults, a
    table may be unknown because of those: they are told first.
    """
    mesh = replace(found.mesh, products=found.seen)
    batches, faults = read_batches(settings.root, mesh)
    told = (f for f in faults if not (others and f.follows))
    return tuple(told), len(batches)


def with_gates(
    platform: Platform, run: Run, stage: Stage, judged: Mapping[Partition, AuditReport]
) -> Mapping[Partition, AuditReport]:
    """The reports with what every gate of the product found in the staged interval."""
    rules = consistency.gates_of(run.product)
    if not rules:
        return judged
    pairs = [(partition, rule) for partition in judged for rule in rules]
    asked = [_comparison(platform.mesh, stage, rule, at) for at, rule in pairs]
    told = iter(platform.auditor.compare(stage, [a for a in asked if isinstance(a, Comparison)]))
    found: dict[Partition, list[CheckResult]] = {}
    for (partition, rule), each in zip(pairs, asked, strict=True):
        lacking = RuleResult(rule, Verdict.UNKNOWN, each if isinstance(each, str) else "not told")
        result = next(told, lacking) if isinstance(each, Comparison) else lacking
        found.setdefault(partition, []).append(_check(result))
    return {
        partition: replace(report, results=(*report.results, *found[partition]))
        for partition, report in judged.items()
    }


def said_of(report: AuditReport, table: TableRef) -> tuple[GateVerdict, ...]:
    """What the gates of a table said, before anything was waived."""
    return tuple(
        GateVerdict(r.check.id, str(dict(r.check.arguments)[_DEFINITION]), r.verdict)
        for r in report.results
        if r.table == table and r.check.metric == _METRIC
    )


def _comparison(mesh: Mesh, stage: Stage, rule: ConsistencyRule, at: Partition) -> Comparison | str:
    """The rule over views of the stage, or why it cannot be compared there."""
    batch = Batch(rule.batch, at.grain, at.zone, rule.owner, "", rule.path, (rule,))
    views: dict[str, str] = {}
    for table in rule.tables:
        relation = stage.outputs.get(table) or stage.inputs.get(table)
        parts, never = consistency.slices(mesh, batch, Read(table), at)
        if relation is None or never or not parts:
            return never or f"{table} is not in the stage"
        contract = mesh.mart(table).contract
        columns = ", ".join(name(column.name) for column in contract.columns)
        where = within_partitions(contract, parts)
        views[_view(table)] = f"SELECT {columns} FROM {relation} WHERE {where}"
    stop = end(at) if at.start is not None else None
    return Comparison(rule, views, consistency.statement(rule, lambda t, _: _view(t), stop))


def _view(table: TableRef) -> str:
    return name(str(table))


def _check(found: RuleResult) -> CheckResult:
    """A gate's result as the audit of the table that it guards."""
    rule = found.rule
    check = Check(
        rule.name,
        _METRIC,
        arguments=((_DEFINITION, rule.hash),),
        severity=Severity.BLOCKING,
        dimension="consistency",
        origin=f"{rule.path}:{rule.line}",
        description=rule.description,
    )
    rows = tuple(f"{o.key} {o.figures}" for o in found.offences[:_SHOWN])
    table = rule.guards or rule.tables[0]
    return CheckResult(
        check, table, found.verdict, str(found.cases), found.because, found.cases, rows
    )
