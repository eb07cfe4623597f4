"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from levada.cli import completing

__all__ = [
    "Authors",
    "Commit",
    "DryRun",
    "From",
    "Json",
    "Project",
    "Reviewer",
    "Selection",
    "Table",
    "To",
]

Project = Annotated[
    Path | None,
    typer.Option("--project", help="The folder of levada.yaml.", file_okay=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Selection = Annotated[
    list[str] | None,
    typer.Argument(
        help="domain, domain.product or domain.table; nothing means all.",
        autocompletion=completing.selections,
    ),
]
Table = Annotated[
    str,
    typer.Argument(help="domain.table, or domain.table@major.", autocompletion=completing.tables),
]
From = Annotated[str | None, typer.Option("--from", help="First local day, like 2013-01-01.")]
To = Annotated[str | None, typer.Option("--to", help="Last local day, included.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would change; change nothing.")]

# Who lets something pass, and what was looked at

Commit = Annotated[
    str | None, typer.Option("--commit", help="What was reviewed; default the pipeline's.")
]
Reviewer = Annotated[
    str | None, typer.Option("--reviewer", help="Who approves; default the pipeline's actor.")
]
Authors = Annotated[
    list[str] | None,
    typer.Option("--author", help="Who wrote it, beside those whom git knows."),
]
