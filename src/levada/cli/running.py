"""`levada run`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from levada.cli import output
from levada.cli.spans import span_of
from levada.declare import selected
from levada.errors import DeclarationError, Fault
from levada.flow import loop
from levada.flow.stages import Run
from levada.settings import find_root, read_settings
from levada.terms import Mesh, Plan, Product, Verdict

__all__ = ["run"]


def run(
    project: Path | None,
    selection: Sequence[str],
    days: tuple[str | None, str | None],
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Plan and work; 1 if an attempt failed."""
    from levada.adapters.dbt.workers import DbtWorkers
    from levada.flow import declaring
    from levada.flow import platform as opening

    begun = time.monotonic()
    settings = read_settings(find_root(project))
    span = span_of(settings, days)
    with DbtWorkers() as workers:
        mesh = declaring.compiled_mesh(settings, workers)
        products = tuple(_selected(mesh, selection))
        with (
            opening.services(settings) as credentials,
            opening.open_platform(settings, mesh, credentials, workers) as platform,
        ):
            if dry_run:
                plan, _ = loop.current_plan(platform, products, span, loop.landed(platform, span))
                _print_plan(plan, as_json=as_json)
                return 0
            new = opening.record(
                settings, credentials, [m.contract for p in mesh.products for m in p.marts]
            )
            if new and not as_json:
                output.console.print(f"governance recorded {len(new)} contracts", style="dim")
            bar = _Bar(quiet=as_json)
            with bar.progress:
                made = loop.run_plan(platform, products, span, bar.tell)
    return _sum_up(made, time.monotonic() - begun, as_json=as_json)


def _selected(mesh: Mesh, selection: Sequence[str]) -> list[Product]:
    try:
        return list(selected(mesh, selection))
    except ValueError as error:
        raise DeclarationError((Fault("SELECTION", 0, str(error)),)) from error


class _Bar:
    """One line a product, as it comes."""

    def __init__(self, *, quiet: bool) -> None:
        self.progress = Progress(
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            console=output.errors,
            disable=quiet,
        )
        self.tasks: dict[str, TaskID] = {}

    def tell(self, told: loop.Progress) -> None:
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


def _sum_up(made: Sequence[Run], seconds: float, *, as_json: bool) -> int:
    lines = [line for run in made for line in run.lines]
    attempts = [attempt for run in made for attempt in run.attempts]
    failed = [a for a in attempts if a.verdict in (Verdict.FAIL, Verdict.UNKNOWN)]
    if as_json:
        output.print_json(
            {
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
                        "product": a.product,
                        "partition": a.partition.key,
                        "verdict": a.verdict.value,
                        "because": a.because,
                    }
                    for a in failed
                ],
                "seconds": round(seconds, 2),
            }
        )
    else:
        for attempt in failed[:20]:
            output.console.print(
                f"[red]{attempt.verdict.value}[/] {attempt.product} {attempt.partition.key}: "
                f"{attempt.because}"
            )
        tables = len({line.table for line in lines})
        output.console.print(
            f"{len(lines)} lines published for {tables} tables in {len(made)} runs, "
            f"{len(failed)} attempts withheld, {seconds:.1f} s"
        )
    return 1 if failed else 0
