"""A run and what it needs from outside: the values that the stages pass on."""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from levada import sense as sensing
from levada.adapters import odcs
from levada.adapters.probes import Probes
from levada.audit import Auditor, waive
from levada.build import Builder, BuildRequest, build_request, room_of
from levada.errors import ClaimLost, LawBroken, LevadaError, ToolError
from levada.intervals import bounds, windows
from levada.plan import backoff
from levada.ports import Clock, Ledger, Stage, StagedSource, StagedTable, Warehouse
from levada.settings import Settings
from levada.terms import (
    Attempt,
    AuditReport,
    Batching,
    Canary,
    Claim,
    Contract,
    Input,
    Mesh,
    Partition,
    Product,
    Publication,
    Readiness,
    Severity,
    Shards,
    Source,
    Span,
    TableRef,
    Trial,
    Verdict,
    Waiver,
)

__all__ = [
    "Platform",
    "Record",
    "Run",
    "failed",
    "failed_attempt",
    "heartbeat",
    "inputs_of",
    "made",
    "new_run_id",
    "span_of",
    "staged",
    "waived",
]

_log = logging.getLogger(__name__)
_SHARD_TRIES = 3


class Record(Ledger, Protocol):
    """The ledger, as a platform needs it: what it knows of canaries and of promises, too."""

    def promised_since(self, label: str) -> datetime | None:
        """When a contract of this table and major (`id version hash`) first promised a latency."""

    def batchings(self) -> Mapping[str, Batching]:
        """The newest equality test of each product."""

    def canary(self, product: str) -> Canary | None:
        """The newest canary of a product, whatever has become of it."""

    def canaries(self, product: str | None = None) -> tuple[Canary, ...]:
        """Every canary, or those of a product, oldest first."""

    def tell_canary(self, id_: str, trials: Sequence[Trial]) -> None:
        """Record what intervals of a canary told, before they are published (publisher)."""

    def settle_canary(self, id_: str) -> None:
        """Promote a canary by the policy with which it was started (runner)."""


@dataclass(frozen=True, slots=True)
class Platform:
    """Everything a run needs from outside, each with its own rights."""

    settings: Settings
    mesh: Mesh
    runner: Record
    publisher: Record
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
    canary: Canary | None = None
    """By which it is built, if by any."""
    old: Run | None = None
    """Of a canary: the run of the old version, in a stage of its own."""
    failed: str = ""
    """Of a canary: why there is no new version to compare."""
    trials: Mapping[Partition, Trial] = field(default_factory=dict)
    """Of a canary: what each interval told."""


def new_run_id() -> str:
    """A fresh name for a run."""
    return f"run-{secrets.token_hex(8)}"


def staged(platform: Platform, run: str, product: Product, claims: Sequence[Claim]) -> Stage:
    """A private place with the pinned inputs of these claims in it."""
    tables, sources = inputs_of(platform, product, claims)
    return platform.warehouse.stage(run, product, tables, sources)


def made(
    platform: Platform, product: Product, stage: Stage, claims: Sequence[Claim], manifest: Path
) -> None:
    """Let dbt build a product in a stage, with the domain's rights. Raises ToolError."""
    settings, domain = platform.settings, product.domain
    request = build_request(
        platform.mesh,
        product,
        stage,
        span=span_of(claims),
        profile=platform.warehouse.profile(stage, domain),
        root=settings.root,
        project_dir=settings.root / "models" / domain,
        manifest=manifest,
        room=room_of(settings, domain),
        spelled=platform.warehouse.spelled,
    )
    if product.shards and len(claims) > 1:
        mark = _mark(product, product.shards, claims)
        _make_shards(platform, stage, product.shards, request, mark)
    else:
        _make(platform, request)


def _make(platform: Platform, request: BuildRequest) -> None:
    result = platform.builder(request)
    if not result.ok:
        raise ToolError("dbt", result.message)


def _mark(product: Product, shards: Shards, claims: Sequence[Claim]) -> str:
    """What a build in shards is made of, and into how many: what it comes to is the same."""
    contracts = sorted(contract.label for contract in product.contracts)
    slices = sorted(f"{claim.partition.key} {claim.fingerprint}" for claim in claims)
    words = [product.id, product.code, shards.key, str(shards.count), *contracts, *slices]
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:32]


def _make_shards(
    platform: Platform, stage: Stage, shards: Shards, request: BuildRequest, mark: str
) -> None:
    """
    Build one shard after the other, but those that a killed run of the same build has finished; one
    that fails is repeated alone, twice.
    """
    there = platform.warehouse.resume(stage, shards, mark)
    for number in (n for n in range(shards.count) if n not in there):
        for tried in range(_SHARD_TRIES):
            platform.warehouse.shard(stage, shards, number)
            try:
                _make(platform, request)
                break
            except ToolError as error:
                if tried == _SHARD_TRIES - 1:
                    where = f"shard {number} of {shards.count}, tried {_SHARD_TRIES} times"
                    raise ToolError(where, str(error)) from error
        platform.warehouse.collect(stage, number)


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
    files = platform.probes.files(source, contents)
    return StagedSource(source.table, source.columns, files)


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


def waived(
    platform: Platform, run: Run, now: datetime
) -> tuple[Mapping[Partition, AuditReport], Mapping[Partition, tuple[Waiver, ...]]]:
    """
    The reports without the checks that governance waived, judged as late as can be: a waiver that
    expired during the run counts for nothing.
    """
    granted = platform.publisher.waivers([mart.table for mart in run.product.marts])
    found = {p: waive(report, granted, now) for p, report in run.reports.items()}
    left = {p: report for p, (report, _) in found.items()}
    return left, {p: used for p, (_, used) in found.items()}


def failed(platform: Platform, run: Run, error: Exception) -> Run:
    """
    The run, over: its claims end with attempts that could not be told, for this reason. Where it
    no longer holds them, or its intent stands, another run or recovery tells what became of it.
    """
    attempts = tuple(failed_attempt(platform, run, c, None, str(error)) for c in run.claims)
    try:
        platform.runner.withhold(attempts)
    except LawBroken as refused:
        _log.warning("%s; nothing is recorded of run %s: %s", error, run.id, refused)
        attempts = ()
    return replace(run, attempts=attempts, over=True)


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
