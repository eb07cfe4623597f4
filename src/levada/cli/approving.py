"""`levada approve`."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from levada import compiled
from levada.adapters.waivers import read_waiver
from levada.cli import output
from levada.flow import platform as opening
from levada.settings import find_root, read_settings

__all__ = ["approve"]


def approve(project: Path | None, file: Path, *, dry_run: bool) -> int:
    """Grant, as governance, what a waiver file asks for: a line for the file as it is now."""
    settings = read_settings(find_root(project))
    waiver = read_waiver(file.resolve(), settings.root, compiled.load(settings))
    until = f"{waiver.expires:%Y-%m-%d %H:%M} UTC"
    what = f"{waiver.check} of {waiver.table}, {waiver.window.start:%Y-%m-%d %H:%M} .. "
    what += f"{waiver.window.end:%Y-%m-%d %H:%M} UTC, until {until}: {waiver.reason}"
    if waiver.expires <= opening.now():
        output.console.print(Text(f"not granted: it expired at {until}"))
        return 1
    if dry_run:
        output.console.print(Text(f"would be granted: {what}"))
        return 0
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_governance") as ledger,
    ):
        new = ledger.waive(waiver)
    output.console.print(Text(f"{'granted' if new else 'granted already'}: {what}"))
    return 0
