"""The commands of `levada canary`."""

from __future__ import annotations

from typing import Annotated

import typer

from levada.cli import completing
from levada.cli.options import Authors, Commit, DryRun, Json, Project, Reviewer

__all__ = ["canary_app"]

canary_app = typer.Typer(help="A new version beside the old one.", no_args_is_help=True)

Name = Annotated[
    str,
    typer.Argument(
        metavar="PRODUCT", help="As domain.product.", autocompletion=completing.products
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="Why.")]


@canary_app.command("start")
def canary_start(
    product: Name,
    against: Annotated[
        str | None,
        typer.Option("--against", help="Of a new major, DOMAIN.TABLE@2: the old one, as 1."),
    ] = None,
    intervals: Annotated[
        int | None,
        typer.Option("--intervals", help="Equal ones in a row before it may be promoted."),
    ] = None,
    promote: Annotated[
        str | None,
        typer.Option("--promote", help="By `approval`, or by `policy` alone where that is let."),
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option("--tolerance", help="How near is equal, as COLUMN=0.01 or COLUMN=1%."),
    ] = None,
    reason: Reason = "",
    project: Project = None,
    dry_run: DryRun = False,
) -> None:
    """Build what is written now beside what was published last, and publish it where equal."""
    from levada.cli import canarying

    asked = canarying.Asked(intervals, promote, tolerance or (), reason, against)
    raise typer.Exit(canarying.start(project, product, asked=asked, dry_run=dry_run))


@canary_app.command("status")
def canary_status(
    product: Annotated[str | None, typer.Argument(metavar="PRODUCT")] = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """Every canary; of one product, what each interval told."""
    from levada.cli import canarying

    raise typer.Exit(canarying.status(project, product, as_json=json))


@canary_app.command("promote")
def canary_promote(
    product: Name,
    reason: Reason = "",
    commit: Commit = None,
    reviewer: Reviewer = None,
    author: Authors = None,
    project: Project = None,
    dry_run: DryRun = False,
) -> None:
    """Build the new version alone, once enough intervals in a row were equal."""
    from levada.cli import canarying
    from levada.cli.approving import Review

    given = Review(commit, reviewer, tuple(author or ()), reason)
    raise typer.Exit(canarying.promote(project, product, given, dry_run=dry_run))


@canary_app.command("abort")
def canary_abort(
    product: Name, reason: Reason = "", project: Project = None, dry_run: DryRun = False
) -> None:
    """Build the old version alone, promoted or not, and publish it again where the new one is."""
    from levada.cli import canarying

    raise typer.Exit(canarying.abort(project, product, reason, dry_run=dry_run))
