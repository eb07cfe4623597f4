"""`levada run`."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from levada import plan as planning
from levada.adapters.dbt.workers import DbtWorkers
from levada.cli import output, recording
from levada.cli.spans import span_of
from levada.declare import selected
from levada.errors import DeclarationError, Fault
from levada.flow import loop, restating, scheduling
from levada.flow.stages import Platform, Run
from levada.ledger import PostgresLedger
from levada.settings import Settings, find_root, read_settings
from levada.terms import Attempt, Mesh, Outcome, Plan, Product, Publication, State

__all__ = ["Bar", "run"]


def run(
    project: Path | None,
    selection: Sequence[str],
    days: tuple[str | None, str | None],
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Plan and work; 1 if an attempt failed."""
    from levada.flow import platform as opening

    begun = time.monotonic()
    settings = read_settings(find_root(project))
    span = span_of(settings, days)
    with DbtWorkers() as workers:
        # Who asks does not wait for a quiet time; sensors and the reconciler do.
        mesh = replace(_mesh(settings, workers, selection), quiet=timedelta(0))
        products = tuple(_selected(mesh, selection))
        with (
            opening.services(settings) as credentials,
            opening.open_platform(settings, mesh, credentials, workers) as platform,
        ):
            if dry_run:
                plan, _ = loop.current_plan(platform, products, span, loop.landed(platform, span))
                _print_plan(plan, as_json=as_json)
                return 0
            recording.as_governance(settings, mesh, credentials, quiet=as_json)
            bar = Bar(quiet=as_json)
            undone: tuple[Outcome, ...] = ()
            with bar.progress:
                if not selection:
                    undone = _do_what_is_due(platform, bar, quiet=as_json)
                made = loop.run_plan(platform, products, span, bar.tell)
            left = loop.left_over(platform, products, span)
    for step in undone[:20]:
        said = f"{step.state} in a scheduled backfill: {step.product} {step.partition.key}: "
        output.errors.print(said + step.because, style="yellow", markup=False)
    code = _sum_up(made, left, time.monotonic() - begun, as_json=as_json)
    return 1 if undone else code


def _do_what_is_due(platform: Platform, bar: Bar, *, quiet: bool) -> tuple[Outcome, ...]:
    """Begin and do the scheduled backfills that are due; what of them failed or was left."""
    record = platform.runner
    undone: list[Outcome] = []
    if not isinstance(record, PostgresLedger):
        return ()
    settings, mesh = platform.settings, platform.mesh
    for said in scheduling.begin_due(settings, mesh, record, platform.clock()):
        if not quiet:
            output.errors.print(said, style="dim", markup=False)
    for begun in record.at_work():
        (whole,) = record.backfills(begun.id)
        if "schedule" not in whole.document:
            continue
        if stopped := restating.paused_if_changed(record, mesh, whole):
            output.errors.print(stopped, style="yellow", markup=False)
            continue
        found = planning.decode(whole.document)
        restating.work(platform, record, begun.id, found, bar.tell, settings.backfill_batch)
        undone += record.backfill_steps(begun.id, None, "failed", "left")
    return tuple(undone)


def _mesh(settings: Settings, workers: DbtWorkers, selection: Sequence[str]) -> Mesh:
    """The compiled mesh. A fault of one domain stops no selection of others, which are sound."""
    from levada import compiled
    from levada.flow import declaring

    try:
        return declaring.compiled_mesh(settings, workers)
    except DeclarationError as error:
        if not selection:
            raise
        mesh = compiled.load(settings)
        for domain in {product.domain for product in _selected(mesh, selection)}:
            try:
                compiled.load_domain(settings, domain)
            except DeclarationError:
                raise error from None
        count = len(error.faults)
        output.errors.print(f"{count} faults in other domains; see `levada check`", style="yellow")
        return mesh


def _selected(mesh: Mesh, selection: Sequence[str]) -> list[Product]:
    try:
        return list(selected(mesh, selection))
    except ValueError as error:
        raise DeclarationError((Fault("SELECTION", 0, str(error)),)) from error


class Bar:
    """One line a product, as it comes."""

    def __init__(self, *, quiet: bool) -> None:
        self.progress = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            console=output.errors,
            disable=quiet or not output.errors.is_terminal,  # a log wants whole sentences
        )
        self.tasks: dict[str, TaskID] = {}

    def tell(self, told: loop.Progress) -> None:
        """Show how far a product has come."""
        name = told.product.id
        if name not in self.tasks:
            self.tasks[name] = self.progress.add_task(name, total=told.total, told="")
        words = ""
        if told.run is not None:
            failed = told.run.attempts
            words = f"[red]{failed[-1].because}[/]" if failed else ""
            if not failed and told.run.waiting:
                words = f"[dim]{next(iter(told.run.waiting.values())).because}[/]"
        self.progress.update(self.tasks[name], completed=told.done, total=told.total, told=words)


def _print_plan(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        output.print_json(
            [
                {
                    "product": step.product,
                    "partition": step.partition.key,
                    "because": step.because,
                    "first": step.first,
                }
                for step in plan.steps
            ]
        )
        return
    for step in plan.steps:
        output.console.print(f"{step.product:<28} {step.partition.key:<15} {step.because}")
    output.console.print(f"{len(plan.steps)} steps; nothing was changed", style="dim")


def _sum_up(
    made: Sequence[Run], left: Sequence[loop.Left], seconds: float, *, as_json: bool
) -> int:
    lines = [line for run in made for line in run.lines]
    failed = [attempt for run in made for attempt in run.attempts]
    if as_json:
        output.print_json(_summary(lines, failed, left, seconds))
    else:
        for attempt in failed[:20]:
            verdict = Text(f"{attempt.verdict.value} ", style="red")
            named = f"{attempt.product} {attempt.partition.key}: {attempt.because}"
            output.console.print(verdict.append(named, style="default"))
        tables = len({line.table for line in lines})
        output.console.print(
            f"{len(lines)} lines published for {tables} tables in {len(made)} runs, "
            f"{len(failed)} attempts withheld, {seconds:.1f} s"
        )
        for state, group in itertools.groupby(left, key=lambda each: each.state):
            some = list(group)
            first = some[0]
            output.console.print(
                Text.assemble(
                    output.state_text(state),
                    f" {len(some)}, the first {first.product} {first.partition.key}: ",
                    f"{first.because}",
                )
            )
    parked = any(each.state is State.FAILED for each in left)
    return 1 if failed or parked else 0


def _summary(
    lines: Sequence[Publication],
    failed: Sequence[Attempt],
    left: Sequence[loop.Left],
    seconds: float,
) -> dict[str, object]:
    return {
        "published": [
            {
                "table": str(line.table),
                "partition": line.partition.key,
                "generation": line.generation,
                "verdict": line.verdict.value,
            }
            for line in lines
        ],
        "withheld": [
            {
                "product": attempt.product,
                "partition": attempt.partition.key,
                "verdict": attempt.verdict.value,
                "because": attempt.because,
            }
            for attempt in failed
        ],
        "left": [
            {
                "product": each.product,
                "partition": each.partition.key,
                "state": each.state.value,
                "because": each.because,
            }
            for each in left
        ],
        "seconds": round(seconds, 2),
    }
