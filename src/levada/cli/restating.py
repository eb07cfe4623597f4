"""`levada backfill run`, `status`, `pause`, `resume`, `cancel` and `approve`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.text import Text

from levada import compiled
from levada import publish as publishing
from levada.adapters.approvers import APPROVERS, read_policy
from levada.adapters.dbt.workers import DbtWorkers
from levada.adapters.policies import FILE as POLICIES
from levada.adapters.provenance import lawful
from levada.approve import Subject, objections
from levada.cli import output
from levada.cli.approving import Review
from levada.cli.running import Bar
from levada.errors import DeclarationError, Fault
from levada.flow import backfilling, declaring, restating, restoring
from levada.flow import platform as opening
from levada.flow.restating import Foreseen
from levada.ledger import PostgresLedger
from levada.plan import decode
from levada.settings import find_root, read_settings
from levada.terms import Approval, Backfill, Begun, Outcome

__all__ = ["approve", "rollback", "run", "status", "turn"]

_UNDONE = ("failed", "left")
_SHOWN = 20
"""Products, and steps, that are named one by one."""
_SILENT = timedelta(minutes=15)
"""The reconciler looks every ten minutes at least."""


def run(
    project: Path | None, named: str, *, local: bool, dry_run: bool, force: bool, as_json: bool
) -> int:
    """Begin a plan, or go on with it; 1 if something failed or was left."""
    settings = read_settings(find_root(project))
    since = time.monotonic()
    with DbtWorkers() as workers:
        # Who asks does not wait for a quiet time.
        mesh = replace(declaring.compiled_mesh(settings, workers), quiet=timedelta(0))
        with (
            opening.services(settings) as credentials,
            opening.ledger(credentials, "levada_runner") as record,
            opening.open_platform(settings, mesh, credentials, workers) as platform,
        ):
            document, found = _plan_of(record, named)
            name = str(document["id"])
            needs = backfilling.approvals_of(settings, mesh, found)
            restating.refuse(mesh, record, name, found, needs)
            known = next(iter(record.backfills(name)), None)
            if force and known is not None and not known.forced:
                fault = Fault(name, 0, "was begun without --force", "plan again, and force that")
                raise DeclarationError((fault,))
            if dry_run:
                told = restating.foresee(platform, record, name, found, known, forced=force)
                return _print_foreseen(name, told, as_json=as_json)
            if known is None:
                contracts = [m.contract for p in mesh.products for m in p.marts]
                opening.record(settings, credentials, contracts)
                restating.begin(record, mesh, name, document, found, forced=force)
            if not local:
                return _print_begun(record, name, as_json=as_json)
            bar = Bar(quiet=as_json)
            with bar.progress:
                made = restating.work(
                    platform, record, name, found, bar.tell, settings.backfill_batch
                )
            (now,) = record.backfills(name)
            left = record.backfill_steps(name, None, *_UNDONE)
    lines = sum(len(each.lines) for each in made)
    _print_done(now, left, lines, time.monotonic() - since, as_json=as_json)
    return 1 if left else 0


def _print_begun(record: PostgresLedger, name: str, *, as_json: bool) -> int:
    """What the reconciler has to do now, and whether it is there to do it."""
    (begun,) = record.backfills(name)
    heard = record.heartbeats().get("watch")
    away = heard is None or opening.now() - heard > _SILENT
    if as_json:
        output.print_json({**_json(begun, ()), "reconciler": "away" if away else "at work"})
        return 0
    output.console.print(Text(f"{name} is {begun.state}: {_said(begun.steps)}"))
    if away:
        said = "no reconciler was heard of: `levada up` starts it, or say --local"
        output.console.print(Text(said, style="yellow"))
    else:
        said = f"the reconciler does it: `levada backfill status {name}` says how far it is"
        output.console.print(Text(said, style="dim"))
    return 0


def _plan_of(record: PostgresLedger, named: str) -> tuple[Mapping[str, Any], Backfill]:
    """The plan of a file, or of a backfill that was begun."""
    if _is_file(named):
        return backfilling.read(Path(named))
    (begun,) = _known(record, named)
    return begun.document, decode(begun.document)


def _is_file(named: str) -> bool:
    return Path(named).exists() or not named.startswith("bf-")


def _id_of(named: str) -> str:
    """The id of a backfill that is named by it, or by its plan's file."""
    return str(backfilling.read(Path(named))[0]["id"]) if _is_file(named) else named


def _known(record: PostgresLedger, name: str) -> tuple[Begun, ...]:
    found = record.backfills(name)
    if not found:
        known = ", ".join(b.id for b in record.backfills()[-5:]) or "none"
        right = f"a plan is begun by its file; the newest that were: {known}"
        fault = Fault(name, 0, "no such backfill was begun", right)
        raise DeclarationError((fault,))
    return found


def turn(project: Path | None, name: str, state: str, reason: str) -> int:
    """Pause, cancel, or let run again; 1 where that is nothing new."""
    settings = read_settings(find_root(project))
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_runner") as record,
    ):
        _known(record, name)
        news = record.turn_backfill(name, state, reason)
        (now,) = record.backfills(name)
    output.console.print(
        Text(f"{name} is {now.state}{'' if news else ' already'}; {_said(now.steps)}")
    )
    return 0 if news else 1


def rollback(project: Path | None, plan: str, reason: str, *, dry_run: bool, as_json: bool) -> int:
    """Publish again what was there before a backfill; 1 if something of it had to be kept."""
    settings = read_settings(find_root(project))
    if not reason.strip():
        raise DeclarationError((Fault("--reason", 0, "says nothing", "say why"),))
    with DbtWorkers() as workers:
        mesh = compiled.load(settings)
        with (
            opening.services(settings) as credentials,
            opening.ledger(credentials, "levada_runner") as record,
            opening.open_platform(settings, mesh, credentials, workers) as platform,
        ):
            name = _id_of(plan)
            (begun,) = _known(record, name)
            if dry_run:
                count = begun.steps.get("made", 0) + begun.steps.get("restoring", 0)
                said = f"{count} intervals that {name} made would be put back, and whatever"
                said += " a killed build of it has published besides; nothing was changed"
                output.console.print(said, style="dim")
                return 0
            # What died after its swap is to be known as made before it is asked what was.
            publishing.recover(platform.publisher, platform.warehouse)
            record.undo_backfill(name, reason)
            restoring.restore(platform, record, name, decode(begun.document))
            (now,) = record.backfills(name)
            kept = record.backfill_steps(name, None, "kept", "restoring")
            again = restoring.stale(platform, record, name)
    if as_json:
        stale = {f"{product} {p.key}": why for (product, p), why in again.items()}
        output.print_json({**_json(now, kept), "made_again": stale})
        return 1 if kept else 0
    _print_left(kept)
    output.console.print(Text(f"{name} is {now.state}: {_said(now.steps)}"))
    for (product, partition), why in list(again.items())[:5]:
        said = f"the next run makes it again: {product} {partition.key}: {why}"
        output.console.print(Text(said, style="yellow"))
    return 1 if kept else 0


def status(project: Path | None, name: str | None, *, as_json: bool) -> int:
    """The backfills that were begun; of one, what failed and was left."""
    settings = read_settings(find_root(project))
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_runner") as record,
    ):
        found = _known(record, name) if name else record.backfills()
        left = record.backfill_steps(name, None, *_UNDONE) if name else ()
        counts = record.backfill_counts(name) if name else {}
        open_ = {product: said["open"] for product, said in counts.items() if "open" in said}
        past = record.past(open_) if open_ else {}
    seconds = sum(past[product].seconds_each * open_[product] for product in past)
    if as_json:
        more = {"products": counts, "seconds_left": round(seconds, 1)} if name else {}
        output.print_json([{**_json(each, left), **more} for each in found])
        return 0
    for each in found:
        forced = " (forced)" if each.forced else ""
        why = f"; {each.because}" if each.because else ""
        head = f"{each.id} {each.state}{forced}, begun {each.at:%Y-%m-%d %H:%M}Z"
        output.console.print(Text(f"{head}: {_said(each.steps)}{why}"))
    for product in list(open_)[:_SHOWN]:
        output.console.print(Text(f"  {product:<28} {_said(counts[product])}"))
    if len(open_) > _SHOWN:
        output.console.print(f"  and {len(open_) - _SHOWN} products more")
    if seconds:
        took = timedelta(seconds=max(1, round(seconds)))
        output.console.print(f"about {took} of builds are left, by what the last runs took")
    _print_left(left)
    return 0


def approve(project: Path | None, file: Path, review: Review) -> int:
    """
    Let a plan run that goes beyond what policies let pass, as governance, by the approvers and
    policies that are committed.
    """
    settings = read_settings(find_root(project))
    reviewer, reason = review.by, review.reason
    if not reason.strip():
        raise DeclarationError((Fault("--reason", 0, "says nothing", "say why it may run"),))
    mesh = compiled.load(settings, fresh=True)
    document, found = backfilling.read(file)
    needs = backfilling.approvals_of(settings, mesh, found)
    if not needs:
        output.console.print(f"{document['id']} needs no approval")
        return 0
    law = (settings.root / APPROVERS, settings.root / POLICIES)
    commit = lawful(settings.root, review.at, law)
    policy = read_policy(settings.root, settings.domains)
    authors = (found.asked.by,) if found.asked.by else ()
    faults = dict.fromkeys(
        Fault(str(file), 0, each)
        for who in dict.fromkeys(need.who for need in needs)
        for each in objections(Subject("backfill", who, str(file), ()), reviewer, authors, policy)
    )
    if faults:
        raise DeclarationError(tuple(faults))
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_governance") as ledger,
    ):
        given = Approval(reviewer, authors, commit, via="command line")
        new = ledger.record_approval("backfill", str(document["id"]), reason, given)
    how = f"approved by {reviewer}" if new else "approved already"
    output.console.print(Text(f"{document['id']} is {how}"))
    return 0


def _said(steps: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(steps.items()))


def _json(begun: Begun, left: Sequence[Outcome]) -> dict[str, object]:
    return {
        "id": begun.id,
        "state": begun.state,
        "because": begun.because,
        "forced": begun.forced,
        "at": begun.at,
        "steps": dict(begun.steps),
        "left": [
            {
                "product": step.product,
                "partition": step.partition.key,
                "state": step.state,
                "because": step.because,
            }
            for step in left
        ],
    }


def _print_foreseen(name: str, told: Sequence[Foreseen], *, as_json: bool) -> int:
    if as_json:
        output.print_json(
            [
                {
                    "product": each.product,
                    "ready": [p.key for p in each.ready],
                    "unchanged": [p.key for p in each.unchanged],
                    "waits": {p.key: why for p, why in each.waits.items()},
                }
                for each in told
            ]
        )
        return 0
    for each in told:
        first = next(iter(each.waits.values()), "")
        output.console.print(
            f"{each.product:<28} {len(each.ready)} would be built now, {len(each.unchanged)} are "
            f"as a build would make them, {len(each.waits)} wait{f': {first}' if first else ''}"
        )
    output.console.print(f"{name}: nothing was changed", style="dim")
    return 0


def _print_done(
    begun: Begun, left: Sequence[Outcome], lines: int, seconds: float, *, as_json: bool
) -> None:
    if as_json:
        output.print_json({**_json(begun, left), "lines": lines, "seconds": round(seconds, 2)})
        return
    _print_left(left)
    told = f"{begun.id} is {begun.state}: {_said(begun.steps)}; {lines} lines, {seconds:.1f} s"
    output.console.print(Text(told))
    if left:
        said = f"`levada backfill resume {begun.id} --local` tries what is left again"
        output.console.print(said, style="dim")


def _print_left(left: Sequence[Outcome]) -> None:
    for step in left[:_SHOWN]:
        style = "red" if step.state == "failed" else "yellow"
        said = f" {step.product} {step.partition.key}: {step.because}"
        output.console.print(Text.assemble((step.state, style), said))
    if len(left) > _SHOWN:
        output.console.print(f"and {len(left) - _SHOWN} more")
