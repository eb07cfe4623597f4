"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["From", "Json", "Project", "Selection", "To"]

Project = Annotated[
    Path | None,
    typer.Option("--project", help="The folder of levada.yaml.", file_okay=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Selection = Annotated[
    list[str] | None,
    typer.Argument(help="domain, domain.product or domain.table; nothing means all."),
]
From = Annotated[str | None, typer.Option("--from", help="First local day, like 2013-01-01.")]
To = Annotated[str | None, typer.Option("--to", help="Last local day, included.")]
