"""
The stages in their order, as one tuple.

A run is a value that each stage returns richer; killed anywhere, its claim expires and the next one
begins again. `execute` carries a run through all of them; Airflow's tasks call them one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from levada import publish as publishing
from levada import sense as sensing
from levada.audit import owed, promised, reports
from levada.build import manifest_path
from levada.errors import ClaimLost, LandingMoved, LawBroken, LevadaError, TableHeld
from levada.flow import canary, gate, gating
from levada.flow.inspecting import tell_owners
from levada.flow.runs import (
    Platform,
    Run,
    failed,
    failed_attempt,
    heartbeat,
    inputs_of,
    made,
    new_run_id,
    span_of,
    staged,
    waived,
)
from levada.intervals import bounds
from levada.ports import Reject, Want
from levada.readiness import Judge
from levada.terms import (
    AuditReport,
    Check,
    CheckResult,
    Claim,
    Contract,
    Mart,
    Partition,
    Product,
    Publication,
    Readiness,
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


def sense(platform: Platform, run: Run) -> Run:
    """Judge, pin and claim in one ledger transaction."""
    return _sensed(platform, run, near=True)


def _sensed(platform: Platform, run: Run, *, near: bool) -> Run:
    """By the facts of what is near; where they do not reach far enough, by all."""
    mesh, only = platform.mesh, [run.product]
    tables, products = sensing.near_to_read(mesh, only) if near else sensing.all_to_read(mesh, only)
    with platform.runner.sensing(tables, products) as transaction:
        facts = transaction.facts
        judge = Judge(mesh, facts, platform.clock())
        judged = sensing.asked(judge, run.product, run.partitions, run.again)
        if not (near and judge.far):
            wants = [found for found in judged.values() if isinstance(found, Want)]
            lifetime = platform.claim_lifetime
            claims = transaction.claim(wants, run=run.id, lifetime=lifetime) if wants else ()
            waits = {p: found for p, found in judged.items() if isinstance(found, Readiness)}
            return replace(
                run, claims=claims, waiting=waits, before=facts.attempts, over=not claims
            )
    return _sensed(platform, run, near=False)


def build(platform: Platform, run: Run) -> Run:
    """Stage the pinned inputs and run dbt beside them, with the domain's rights."""
    claims = run.claims or platform.runner.claims(run.id)
    gate.admit(platform.runner, run.product, platform.clock())
    platform.runner.renew(run.id, platform.settings.lease)
    run = replace(run, claims=claims)
    found = canary.serving(platform, run.product)
    if found and not found.rule:
        return canary.build(platform, run, found)
    stage = staged(platform, run.id, run.product, claims)
    made(platform, run.product, stage, claims, manifest_path(platform.settings, run.product.domain))
    return replace(run, stage=stage, canary=found)


def audit(platform: Platform, run: Run) -> Run:
    """Take the stage away from the domain and judge it by the recorded contracts."""
    return _audited(platform, run) if run.old is None else canary.audit(platform, run, _audited)


def _audited(platform: Platform, run: Run) -> Run:
    if run.stage is None:
        raise ValueError("audit needs a stage")
    stage = platform.warehouse.seal(run.stage)
    partitions = tuple(claim.partition for claim in run.claims)
    results: list[tuple[TableRef, Mapping[Partition, tuple[CheckResult, ...]]]] = []
    contents: dict[TableRef, Mapping[Partition, str]] = {}
    for mart in run.product.marts:
        contract = platform.recorded(mart.contract.label)
        contract = promised(contract, _first(platform, contract, partitions))
        found = platform.auditor.audit(stage, contract, partitions)
        results.append((mart.table, found))
        contents[mart.table] = platform.warehouse.contents(stage, contract, partitions)
    judged = reports(run.product, partitions, results, contents)
    rejected = platform.warehouse.rejects(stage)
    judged = _with_rejects(platform.settings.root, run.product, judged, rejected)
    return replace(run, stage=stage, reports=gating.with_gates(platform, run, stage, judged))


def _first(
    platform: Platform, contract: Contract, partitions: Sequence[Partition]
) -> tuple[Partition, ...]:
    """Those that a latency is judged in: promised before they ended, and never published yet."""
    if all(check.metric != "latency" for check in contract.checks):
        return ()
    late = owed(partitions, platform.publisher.promised_since(contract.label))
    if not late:
        return ()
    span = Span(bounds(min(late))[0], bounds(max(late))[1])
    lines = platform.publisher.facts([contract.table], [], span).lines
    return tuple(partition for partition in late if (contract.table, partition) not in lines)


def publish(platform: Platform, run: Run) -> Run:
    """Swap in what passed, write its lines; withhold what did not."""
    if run.canary is None:
        return _published(platform, run)
    if run.canary.rule:
        return canary.publish_major(platform, run, _published)
    return canary.publish(platform, run, _published)


def _published(platform: Platform, run: Run) -> Run:
    if run.stage is None:
        raise ValueError("publish needs a stage")
    now = platform.clock()
    judged, used = waived(platform, run, now)
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
    name: str = "",
) -> Run:
    """
    Carry one product's partitions through all stages, as a run of this name.

    An error of a tool is an UNKNOWN attempt, tried again later; many partitions together are given
    back instead, for their caller to try one by one (`split`). A landed file that moved, a claim
    that was lost, or a table that is held leaves the step open. Nothing half-done is ever visible.
    """
    run = Run(name or new_run_id(), product, tuple(partitions), again=again)
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
            with suppress(LawBroken):  # its intent stands: recovery sees whether it was swapped in
                platform.runner.release(run.id, [c.partition for c in run.claims], str(error))
            return replace(run, over=True, split=True)
        run = failed(platform, run, error)
    finally:
        for each in (run, run.old):
            if each is not None and each.stage is not None:
                platform.warehouse.discard(each.stage)
    return run


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
            gates=gating.said_of(run.reports[claim.partition], mart.table),
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
