"""`levada doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rich.table import Table
from rich.text import Text

from levada import compiled
from levada.cli import output
from levada.errors import DeclarationError, Fault
from levada.flow import platform as opening
from levada.flow.consistency import findings
from levada.flow.doctor import Finding, Health, Patient, examine
from levada.settings import duration, find_root, read_settings

__all__ = ["doctor"]

_STYLES = {Health.OK: "green", Health.BAD: "bold red", Health.UNSEEN: "yellow"}


def doctor(project: Path | None, *, older: str, verify: bool, as_json: bool) -> int:
    """Examine the mesh; 1 if something is bad."""
    import asyncpg

    settings = read_settings(find_root(project))
    try:
        late = duration(older)
    except ValueError as error:
        raise DeclarationError((Fault("--older-than", 0, str(error)),)) from None
    mesh = compiled.load(settings)
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_runner") as runner,
        opening.ledger(credentials, credentials.admin) as owner,
        findings(credentials, "levada_runner") as reports,
        closing(opening.warehouse(settings, credentials)) as warehouse,
    ):
        patient = Patient(
            settings=settings,
            mesh=mesh,
            runner=runner,
            owner=owner,
            findings=reports,
            warehouse=warehouse,
            connect=lambda: asyncpg.connect(credentials.url("levada_runner", "levada"), timeout=10),
            airflow=credentials.url("airflow", "airflow"),
            older=late,
            now=opening.now(),
            verify=verify,
        )
        with output.errors.status("examining"):
            told = tuple(examine(patient))
    if as_json:
        output.print_json(
            [
                {"name": f.name, "health": f.health.value, "detail": f.detail, "todo": f.todo}
                for f in told
            ]
        )
    else:
        output.console.print(_drawing(told))
    return 1 if any(f.health is Health.BAD for f in told) else 0


def _drawing(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column("name", no_wrap=True)
    table.add_column("health", no_wrap=True)
    table.add_column("detail", overflow="fold")
    for finding in findings:
        detail = Text(finding.detail)
        if finding.todo:
            detail.append(f"\n-> {finding.todo}", style="dim")
        style = _STYLES[finding.health]
        table.add_row(finding.name, Text(finding.health.value, style=style), detail)
    return table
