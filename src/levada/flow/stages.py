"""
The stages in their order, as one tuple.

A run is a value that each stage returns richer; killed anywhere, its claim expires and the next one
begins again. `execute` carries a run through all of them; Airflow's tasks call them one by one.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from levada import publish as publishing
from levada import sense as sensing
from levada.adapters import odcs
from levada.adapters.probes import Probes
from levada.adapters.probes.files import location
from levada.audit import Auditor, reports, waive
from levada.build import Builder, build_request, manifest_path, room_of
from levada.errors import ClaimLost, LandingMoved, LevadaError, TableHeld, ToolError
from levada.flow import gate, gating
from levada.flow.inspecting import tell_owners
from levada.intervals import bounds, windows
from levada.plan import backoff
from levada.ports import (
    Clock,
    LandedFile,
    Ledger,
    Reject,
    Stage,
    StagedSource,
    StagedTable,
    Want,
    Warehouse,
)
from levada.settings import Settings
from levada.terms import (
    Attempt,
    AuditReport,
    Check,
    CheckResult,
    Claim,
    Contract,
    Input,
    Mart,
    Mesh,
    Partition,
    Product,
    Publication,
    Readiness,
    Severity,
    Source,
    Span,
    TableRef,
    Verdict,
    Waived,
    Waiver,
)

__all__ = [
    "STAGES",
    "Platform",
    "Run",
    "audit",
    "build",
    "execute",
    "failed_attempt",
    "heartbeat",
    "inputs_of",
    "new_run_id",
    "publish",
    "sense",
    "span_of",
]


@dataclass(frozen=True, slots=True)
class Platform:
    """Everything a run needs from outside, each with its own rights."""

    settings: Settings
    mesh: Mesh
    runner: Ledger
    publisher: Ledger
    warehouse: Warehouse
    builder: Builder
    auditor: Auditor
    clock: Clock
    probes: Probes
    claim_lifetime: timedelta
    """How long a claim keeps its pins before `build` begins and the lease takes over."""

    def recorded(self, label: str) -> Contract:
        """The contract that the ledger recorded under `id version hash`."""
        return odcs.from_canonical(self.publisher.contract(label))


@dataclass(frozen=True, slots=True)
class Run:
    """One product built for one or more partitions, as far as it has come."""

    id: str
    product: Product
    partitions: tuple[Partition, ...]
    claims: tuple[Claim, ...] = ()
    waiting: Mapping[Partition, Readiness] = field(default_factory=dict)
    stage: Stage | None = None
    reports: Mapping[Partition, AuditReport] = field(default_factory=dict)
    lines: tuple[Publication, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    before: Mapping[tuple[str, Partition], Attempt] = field(default_factory=dict)
    """The attempts that failed before this run."""
    over: bool = False
    """Nothing is left to do: all waits, all failed, or all published."""
    again: sensing.Again | None = None
    """A backfill asks for it."""
    split: bool = False
    """A tool failed on many partitions together; they were given back."""


def sense(platform: Platform, run: Run) -> Run:
    """Judge, pin and claim in one ledger transaction."""
    mesh, product = platform.mesh, run.product
    tables = sensing.tables_to_read(mesh, [product])
    products = sensing.products_to_read(mesh, [product])
    with platform.runner.sensing(tables, products) as transaction:
        facts = transaction.facts
        judged = sensing.wants(mesh, product, run.partitions, facts, platform.clock(), run.again)
        wants = [found for found in judged.values() if isinstance(found, Want)]
        lifetime = platform.claim_lifetime
        claims = transaction.claim(wants, run=run.id, lifetime=lifetime) if wants else ()
    waiting = {p: found for p, found in judged.items() if isinstance(found, Readiness)}
    return replace(run, claims=claims, waiting=waiting, before=facts.attempts, over=not claims)


def build(platform: Platform, run: Run) -> Run:
    """Stage the pinned inputs and run dbt beside them, with the domain's rights."""
    claims = run.claims or platform.runner.claims(run.id)
    gate.admit(platform.runner, run.product, platform.clock())
    platform.runner.renew(run.id, platform.settings.lease)
    tables, sources = inputs_of(platform, run.product, claims)
    stage = platform.warehouse.stage(run.id, run.product, tables, sources)
    run = replace(run, claims=claims, stage=stage)
    settings, domain = platform.settings, run.product.domain
    result = platform.builder(
        build_request(
            platform.mesh,
            run.product,
            stage,
            span=span_of(claims),
            profile=platform.warehouse.profile(stage, domain),
            root=settings.root,
            project_dir=settings.root / "models" / domain,
            manifest=manifest_path(settings, domain),
            room=room_of(settings, domain),
            spelled=platform.warehouse.spelled,
        )
    )
    if not result.ok:
        raise ToolError("dbt", result.message)
    return run


def audit(platform: Platform, run: Run) -> Run:
    """Take the stage away from the domain and judge it by the recorded contracts."""
    if run.stage is None:
        raise ValueError("audit needs a stage")
    stage = platform.warehouse.seal(run.stage)
    partitions = tuple(claim.partition for claim in run.claims)
    results: list[tuple[TableRef, Mapping[Partition, tuple[CheckResult, ...]]]] = []
    contents: dict[TableRef, Mapping[Partition, str]] = {}
    for mart in run.product.marts:
        contract = platform.recorded(mart.contract.label)
        found = platform.auditor.audit(stage, contract, partitions)
        results.append((mart.table, found))
        contents[mart.table] = platform.warehouse.contents(stage, contract, partitions)
    judged = reports(run.product, partitions, results, contents)
    rejected = platform.warehouse.rejects(stage)
    judged = _with_rejects(platform.settings.root, run.product, judged, rejected)
    return replace(run, stage=stage, reports=gating.with_gates(platform, run, stage, judged))


def publish(platform: Platform, run: Run) -> Run:
    """Swap in what passed, write its lines; withhold what did not."""
    if run.stage is None:
        raise ValueError("publish needs a stage")
    now = platform.clock()
    judged, used = _waived(platform, run, now)
    failing = [c for c in run.claims if not judged[c.partition].verdict.publishes]
    attempts = tuple(failed_attempt(platform, run, c, judged[c.partition]) for c in failing)
    if attempts:
        platform.publisher.withhold(attempts)
    lines = tuple(
        line
        for claim in run.claims
        if claim not in failing
        for line in _lines(run, claim, judged[claim.partition], used[claim.partition], now)
    )
    if lines:
        breaks = gate.admit(platform.publisher, run.product, now)
        try:
            lines = publishing.publish(
                *(platform.publisher, platform.warehouse, run.stage, lines),
                *(platform.recorded, breaks),
            )
        except TableHeld:
            tell_owners(platform.settings, platform.publisher)
            raise
    return replace(run, reports=judged, lines=lines, attempts=run.attempts + attempts, over=True)


STAGES: tuple[Callable[[Platform, Run], Run], ...] = (sense, build, audit, publish)


def execute(
    platform: Platform,
    product: Product,
    partitions: Sequence[Partition],
    again: sensing.Again | None = None,
) -> Run:
    """
    Carry one product's partitions through all stages.

    An error of a tool is an UNKNOWN attempt, tried again later; many partitions together are given
    back instead, for their caller to try one by one (`split`). A landed file that moved, a claim
    that was lost, or a table that is held leaves the step open. Nothing half-done is ever visible.
    """
    run = Run(new_run_id(), product, tuple(partitions), again=again)
    try:
        run = sense(platform, run)
        with heartbeat(platform, run):
            for stage in STAGES[1:]:
                if run.over:
                    break
                run = stage(platform, run)
    except (ClaimLost, LandingMoved, TableHeld) as error:
        platform.runner.release(run.id, [c.partition for c in run.claims], str(error))
    except (LevadaError, OSError) as error:
        if len(run.claims) > 1:
            platform.runner.release(run.id, [c.partition for c in run.claims], str(error))
            return replace(run, over=True, split=True)
        attempts = tuple(failed_attempt(platform, run, c, None, str(error)) for c in run.claims)
        platform.runner.withhold(attempts)
        run = replace(run, attempts=attempts, over=True)
    finally:
        if run.stage is not None:
            platform.warehouse.discard(run.stage)
    return run


def new_run_id() -> str:
    """A fresh name for a run."""
    return f"run-{secrets.token_hex(8)}"


def _with_rejects(
    root: Path,
    product: Product,
    judged: Mapping[Partition, AuditReport],
    rejected: Sequence[Reject],
) -> Mapping[Partition, AuditReport]:
    """A landed line that is no row at all never reaches the models; it fails the audit by name."""
    check = Check("landed_rows", "landed_rows", origin="built in", dimension="conformity")
    table = product.marts[0].table
    found = dict(judged)
    for key, group in itertools.groupby(sorted(rejected, key=_slice_of), key=_slice_of):
        lines = list(group)
        rows = tuple(f"{_short(x.file, root)}:{x.line}: {x.reason}" for x in lines[:5])
        because = f"{len(lines)} landed lines are no rows"
        result = CheckResult(check, table, Verdict.FAIL, str(len(lines)), because, len(lines), rows)
        for partition, report in judged.items():
            if key in ("", partition.key):
                found[partition] = replace(found[partition], results=(*report.results, result))
    return found


def _short(file: str, root: Path) -> str:
    return file.removeprefix(f"{root}/")


def _slice_of(reject: Reject) -> str:
    return reject.partition


def inputs_of(
    platform: Platform, product: Product, claims: Sequence[Claim]
) -> tuple[list[StagedTable], list[StagedSource]]:
    """What the pins of the claims look like in a stage."""
    mesh = platform.mesh
    pinned: dict[TableRef, dict[Partition, Input]] = {}
    for claim in claims:
        for pin in claim.inputs:
            if pin.content is not None:
                pinned.setdefault(pin.table, {})[pin.partition] = pin
    tables, sources = [], []
    for table in sorted({edge.upstream for edge in product.dependencies}):
        pins = pinned.get(table, {})
        if table.is_source:
            source = mesh.source(table)
            if source.readable:
                sources.append(_source(platform, source, pins))
        else:
            contract = mesh.mart(table).contract
            whole = contract.interval_column is None
            version = next((pin.data_version for pin in pins.values()), "")
            cut = None if whole and pins else windows(sorted(pins))
            tables.append(StagedTable(contract, version, cut))
    return tables, sources


def span_of(claims: Sequence[Claim]) -> Span | None:
    """The stretch of time that the claims cover; None for WHOLE."""
    slices = [claim.partition for claim in claims if claim.partition.start is not None]
    return Span(bounds(min(slices))[0], bounds(max(slices))[1]) if slices else None


def _source(platform: Platform, source: Source, pins: Mapping[Partition, Input]) -> StagedSource:
    contents = {partition: pin.content or "" for partition, pin in sorted(pins.items())}
    if rows := platform.probes.rows(source, contents):
        return StagedSource(source.table, source.columns, (), rows)
    root = platform.settings.root
    files = (
        LandedFile(partition, location(root, source, partition), content)
        for partition, content in contents.items()
    )
    return StagedSource(source.table, source.columns, tuple(files))


def _waived(
    platform: Platform, run: Run, now: datetime
) -> tuple[Mapping[Partition, AuditReport], Mapping[Partition, tuple[Waiver, ...]]]:
    """
    The reports without the checks that governance waived, judged as late as can be: a waiver that
    expired during the run counts for nothing.
    """
    granted = platform.publisher.waivers([mart.table for mart in run.product.marts])
    waived = {p: waive(report, granted, now) for p, report in run.reports.items()}
    left = {p: report for p, (report, _) in waived.items()}
    return left, {p: used for p, (_, used) in waived.items()}


def _lines(
    run: Run, claim: Claim, report: AuditReport, used: Sequence[Waiver], now: datetime
) -> Iterator[Publication]:
    contents = dict(report.contents)
    for mart in run.product.marts:
        made_of = _made_of(run.product, mart)
        yield Publication(
            table=mart.table,
            partition=claim.partition,
            generation=0,
            contract=mart.contract.label,
            verdict=report.verdict,
            data_version="",
            content=contents[mart.table],
            made_by=claim.fingerprint,
            inputs=claim.inputs,
            taint=(*claim.taint, *(str(w) for w in used if w.table == mart.table)),
            warnings=report.warnings(mart.table),
            waived=tuple(
                sorted(
                    {Waived(w.table, claim.partition, w.check) for w in used if w.table in made_of}
                )
            ),
            run=run.id,
            at=now,
        )


def _made_of(product: Product, mart: Mart) -> set[TableRef]:
    """The mart's table, and the siblings that it is made of in the same run."""
    siblings = {each.table: each for each in product.marts}
    found: set[TableRef] = set()
    ahead = [mart.table]
    while ahead:
        table = ahead.pop()
        if table not in found:
            found.add(table)
            ahead += [d.upstream for d in siblings[table].dependencies if d.upstream in siblings]
    return found


def failed_attempt(
    platform: Platform, run: Run, claim: Claim, report: AuditReport | None, error: str = ""
) -> Attempt:
    """What is recorded of a claim that does not publish: its audit failed, or was never told."""
    now = platform.clock()
    key = (run.product.id, claim.partition)
    before = run.before.get(key)
    tries = before.tries if before and before.verdict is Verdict.UNKNOWN else 0
    verdict = report.verdict if report else Verdict.UNKNOWN
    results = report.offending if report else ()
    blocking = [r for r in results if r.check.severity is Severity.BLOCKING]
    named = ", ".join(f"{r.check.id} of {r.table}" for r in blocking)
    causes = {r.because for r in blocking}
    if verdict is Verdict.UNKNOWN and len(causes) == 1:
        named = causes.pop()  # one cause, however many checks it stopped
    return Attempt(
        product=run.product.id,
        partition=claim.partition,
        run=run.id,
        fingerprint=claim.fingerprint,
        verdict=verdict,
        because=error or f"the audit says {verdict.value}: {named or 'no check was told'}",
        results=results,
        tries=tries + 1,
        at=now,
        not_before=now + backoff(tries) if verdict is Verdict.UNKNOWN else None,
    )


@contextmanager
def heartbeat(platform: Platform, run: Run) -> Iterator[None]:
    """Keep the run's lease alive while its process lives."""
    stop = threading.Event()
    lease = platform.settings.lease

    def beat() -> None:
        while not stop.wait(lease.total_seconds() / 3):
            try:
                platform.runner.renew(run.id, lease)
            except ClaimLost:
                return  # publish finds out under the locks
            except LevadaError:
                continue  # the ledger is away: the lease may outlive that

    thread = threading.Thread(target=beat, name=f"lease {run.id}", daemon=True)
    if run.claims:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if thread.is_alive():
            thread.join()
