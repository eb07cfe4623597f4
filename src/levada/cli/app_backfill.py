"""The commands of `levada backfill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from levada.cli import completing
from levada.cli.options import From, Json, Project, Reviewer, To

__all__ = ["backfill_app"]

PlanOrId = Annotated[str, typer.Argument(help="A plan's file, or the id of one that was begun.")]

backfill_app = typer.Typer(help="Make tables again, with all that follows.", no_args_is_help=True)


@backfill_app.command("plan")
def backfill_plan(
    tables: Annotated[
        list[str],
        typer.Argument(
            help="domain, domain.product, domain.table or a landed source.",
            autocompletion=completing.selections,
        ),
    ],
    first: From = None,
    last: To = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept with the plan.")] = "",
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="What stays as it is; may be repeated.")
    ] = None,
    only_domain: Annotated[
        list[str] | None, typer.Option("--only-domain", help="Go no further; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the plan here, to be run.", dir_okay=False)
    ] = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """What follows from making tables again, hop by hop: intervals, time, owners, approvals."""
    from levada.cli import backfilling

    code = backfilling.plan(
        project,
        tables,
        (first, last),
        reason=reason,
        exclude=tuple(exclude or ()),
        only_domains=tuple(only_domain or ()),
        out=out,
        as_json=json,
    )
    raise typer.Exit(code)


@backfill_app.command("run")
def backfill_run(
    plan: PlanOrId,
    local: Annotated[bool, typer.Option("--local", help="Do it here, without Airflow.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Build what it would find unchanged, too; recorded.")
    ] = False,
    project: Project = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be built; change nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """
    Begin a plan, for the reconciler in Airflow to do; or go on where it was left off, with --local.
    Exit 1 if something failed or was left.
    """
    from levada.cli import restating

    code = restating.run(project, plan, local=local, dry_run=dry_run, force=force, as_json=json)
    raise typer.Exit(code)


@backfill_app.command("status")
def backfill_status(
    name: Annotated[str | None, typer.Argument(metavar="ID", help="None: all of them.")] = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """The backfills that were begun, and what of one failed or was left."""
    from levada.cli import restating

    raise typer.Exit(restating.status(project, name, as_json=json))


@backfill_app.command("batchable")
def backfill_batchable(
    tables: Annotated[
        list[str],
        typer.Argument(
            help="domain, domain.product or domain.table.", autocompletion=completing.selections
        ),
    ],
    first: From = None,
    last: To = None,
    most: Annotated[
        int, typer.Option("--intervals", help="How many are built both ways, at most.")
    ] = 3,
    project: Project = None,
    json: Json = False,
) -> None:
    """
    Build intervals one by one and together, in private stages, and compare: where all come out the
    same, backfills build them together. Exit 1 if one differs, 2 if it cannot be told.
    """
    from levada.cli import batching

    raise typer.Exit(batching.test(project, tables, (first, last), most, as_json=json))


schedule_app = typer.Typer(help="Backfills that begin by themselves.", no_args_is_help=True)
backfill_app.add_typer(schedule_app, name="schedule")


@schedule_app.command("list")
def schedule_list(project: Project = None, json: Json = False) -> None:
    """Every scheduled backfill: what it makes again, when next, what was begun."""
    from levada.cli import scheduling

    raise typer.Exit(scheduling.show(project, as_json=json))


@schedule_app.command("approve")
def schedule_approve(
    name: Annotated[str, typer.Argument(help="As `backfill schedule list` shows it.")],
    reviewer: Annotated[str, typer.Option("--reviewer", help="Who approves; needed.")] = "",
    commit: Annotated[str, typer.Option("--commit", help="What was reviewed.")] = "HEAD",
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the ledger.")] = "",
    project: Project = None,
) -> None:
    """Let a declaration, as it stands, go beyond what policies let pass, at each due date."""
    from levada.cli import scheduling

    code = scheduling.approve(project, name, reviewer=reviewer, commit=commit, reason=reason)
    raise typer.Exit(code)


BackfillId = Annotated[str, typer.Argument(metavar="ID", help="As `backfill status` shows it.")]
Why = Annotated[str, typer.Option("--reason", help="Why; kept in the ledger.")]


@backfill_app.command("pause")
def backfill_pause(name: BackfillId, reason: Why = "", project: Project = None) -> None:
    """
    Begin no further step; who reads what is open waits on. Exit 1 if it is paused already, or has
    ended.
    """
    from levada.cli import restating

    raise typer.Exit(restating.turn(project, name, "paused", reason))


@backfill_app.command("resume")
def backfill_resume(
    name: BackfillId,
    reason: Why = "",
    local: Annotated[bool, typer.Option("--local", help="And do the work here.")] = False,
    project: Project = None,
) -> None:
    """Go on with what was paused; try again what failed or was left."""
    from levada.cli import restating

    code = restating.turn(project, name, "running", reason)
    if local:
        code = restating.run(project, name, local=True, dry_run=False, force=False, as_json=False)
    raise typer.Exit(code)


@backfill_app.command("cancel")
def backfill_cancel(name: BackfillId, reason: Why = "", project: Project = None) -> None:
    """End a backfill: no further build begins, what is made stays. Exit 1 if it has ended."""
    from levada.cli import restating

    raise typer.Exit(restating.turn(project, name, "cancelled", reason))


@backfill_app.command("rollback")
def backfill_rollback(
    plan: PlanOrId,
    reason: Why = "",
    project: Project = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how much would be put back; change nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Publish again what was there before a backfill. Exit 1 if something had to be kept."""
    from levada.cli import restating

    code = restating.rollback(project, plan, reason, dry_run=dry_run, as_json=json)
    raise typer.Exit(code)


@backfill_app.command("approve")
def backfill_approve(
    plan: Annotated[Path, typer.Argument(help="The plan's file.", dir_okay=False)],
    reviewer: Reviewer = None,
    reason: Why = "",
    commit: Annotated[
        str | None,
        typer.Option("--commit", help="By whose approvers and policies; default the pipeline's."),
    ] = None,
    project: Project = None,
) -> None:
    """Let a plan run that goes beyond what governance lets pass, as governance."""
    from levada.cli import approving, restating

    review = approving.Review(commit, reviewer, (), reason)
    raise typer.Exit(restating.approve(project, plan, review))
