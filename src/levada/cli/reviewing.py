"""`levada review`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from rich.text import Text

from levada.adapters.dbt.workers import DbtWorkers
from levada.cli import output, report
from levada.errors import DeclarationError, Fault
from levada.flow import platform as opening
from levada.flow import reviewing
from levada.flow.reviewing import Compared
from levada.govern import Change, Impact, Reviewed
from levada.settings import find_root, read_settings

__all__ = ["review"]

_STYLES: Mapping[Impact, str] = {
    Impact.BREAKING: "red",
    Impact.SENSITIVE: "yellow",
    Impact.COMPATIBLE: "green",
}


def review(project: Path | None, base: str, *, markdown: str | None, as_json: bool) -> int:
    """Judge what changed since a commit; 1 if it does not pass, 2 for faults."""
    settings = read_settings(find_root(project))
    workers = DbtWorkers()
    try:
        with output.errors.status(f"comparing with {base}"):
            found = reviewing.review(settings, base, workers, opening.now())
    finally:
        workers.close()
    if markdown == "-":
        sys.stdout.write(report.markdown(found))
    elif markdown is not None:
        try:
            Path(markdown).write_text(report.markdown(found), encoding="utf-8")
        except OSError as error:
            wrong = f"{markdown} cannot be written: {error.strerror}"
            raise DeclarationError((Fault("--markdown", 0, wrong),)) from error
    if as_json:
        output.print_json(report.document(found))
    elif markdown != "-":
        _print(found)
    return 0 if found.review.passes else 1


def _print(found: Compared) -> None:
    """Table by table, the gravest first; then who must approve, and the verdict."""
    console, review = output.console, found.review
    console.print(Text(f"since {found.base.commit[:12]} ({found.base.name})", style="dim"))
    for reviewed in report.gravest_first(review):
        console.print()
        console.print(_head(reviewed))
        for change in reviewed.changes:
            console.print(_line(change))
        for each in reviewed.broken:
            line = f"    breaks {each.table} ({each.owner.team}): {report.breaks(each)}"
            console.print(Text(line, style="red"))
        if reviewed.below:
            console.print(Text(f"    {report.reach(reviewed)}", style="dim"))
    if review.law:
        console.print(Text("\nthe law itself", style="bold"))
    for law in review.law:
        head, said = (f"{law.impact.value:<10}", _STYLES[law.impact]), f" {law.path}: {law.what}"
        console.print(Text.assemble("  ", head, said, (f": {law.because}", "dim")))
    for warning in review.warnings:
        console.print(Text(f"\nwarning: {warning}", style="yellow"))
    if review.approvals:
        console.print(Text("\nmust approve", style="bold"))
        for asked in review.approvals:
            people = f" ({', '.join(asked.people)})" if asked.people else ""
            console.print(Text(f"  {asked.who}{people}: {report.reasons(asked)}"))
    console.print()
    for reason in review.refused:
        console.print(Text(f"refused: {reason}", style="red"))
    style = "green" if review.passes else "bold red"
    console.print(Text(report.verdict(review), style=style))


def _head(reviewed: Reviewed) -> Text:
    before, after = reviewed.versions
    versions = f"{before} -> {after}" if before and after and before != after else before or after
    return Text.assemble((str(reviewed.table), "bold"), f" {versions}")


def _line(change: Change) -> Text:
    word = f"{change.impact.value:<10}"
    return Text.assemble(
        "  ", (word, _STYLES[change.impact]), f" {change.what}", (f": {change.because}", "dim")
    )
