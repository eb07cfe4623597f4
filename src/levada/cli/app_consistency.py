"""The commands of `levada consistency` and `levada breaks`."""

from __future__ import annotations

from typing import Annotated

import typer

from levada.cli.options import Authors, Commit, DryRun, From, Json, Project, Reviewer, To

__all__ = ["breaks_app", "consistency_app"]

consistency_app = typer.Typer(help="What must hold between tables.", no_args_is_help=True)
breaks_app = typer.Typer(help="What consistency batches found.", no_args_is_help=True)


Batch = Annotated[str | None, typer.Argument(metavar="BATCH", help="Nothing means all batches.")]
BreakId = Annotated[str, typer.Argument(metavar="BREAK", help="As `breaks list` shows it.")]


@consistency_app.command("run")
def consistency_run(
    batch: Batch = None,
    first: From = None,
    last: To = None,
    project: Project = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be compared; change nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Compare what was published since the last report. Exit 1 unless every rule passed."""
    from levada.cli import consistency

    code = consistency.run(project, batch, (first, last), dry_run=dry_run, as_json=json)
    raise typer.Exit(code)


@consistency_app.command("report")
def consistency_report(
    batch: Batch = None,
    first: From = None,
    last: To = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """The newest report of each batch and interval."""
    from levada.cli import consistency

    raise typer.Exit(consistency.report(project, batch, (first, last), as_json=json))


@consistency_app.command("review")
def consistency_review(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="As batch.rule.")],
    reason: Annotated[str, typer.Option("--reason", help="Why it may go on.")] = "",
    commit: Commit = None,
    reviewer: Reviewer = None,
    author: Authors = None,
    project: Project = None,
    dry_run: DryRun = False,
) -> None:
    """Let a rule that the over-detection guard suspended or holds go on, as governance."""
    from levada.cli import consistency
    from levada.cli.approving import Review

    given = Review(commit, reviewer, tuple(author or ()), reason)
    raise typer.Exit(consistency.review(project, rule, given, dry_run=dry_run))


@breaks_app.command("list")
def breaks_list(
    every: Annotated[bool, typer.Option("--all", help="Resolved and closed ones too.")] = False,
    rule: Annotated[str, typer.Option("--rule", help="Only of this rule, as batch.rule.")] = "",
    project: Project = None,
    json: Json = False,
) -> None:
    """Open breaks: offending keys with their owner, figures and age."""
    from levada.cli import consistency

    raise typer.Exit(consistency.list_breaks(project, all_=every, rule=rule, as_json=json))


@breaks_app.command("assign")
def breaks_assign(
    break_: BreakId,
    owner: Annotated[str, typer.Option("--to", help="Who looks into it.")],
    project: Project = None,
    dry_run: DryRun = False,
) -> None:
    """Give a break to somebody."""
    from levada.cli import consistency

    raise typer.Exit(consistency.assign(project, break_, owner, dry_run=dry_run))


@breaks_app.command("resolve")
def breaks_resolve(
    break_: BreakId,
    reason: Annotated[str, typer.Option("--reason", help="What it was.")] = "",
    who: Annotated[str, typer.Option("--by", help="Who says so; default the user here.")] = "",
    project: Project = None,
    dry_run: DryRun = False,
) -> None:
    """Say what a break was, as governance. The same figures open it no more."""
    from levada.cli import consistency

    raise typer.Exit(consistency.resolve(project, break_, reason, who, dry_run=dry_run))
