"""`levada backfill`."""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from rich.text import Text

from levada import compiled
from levada.cli import output
from levada.cli.picture import picture
from levada.cli.spans import span_of
from levada.flow import backfilling
from levada.flow import platform as opening
from levada.flow.backfilling import Planned
from levada.settings import find_root, read_settings
from levada.terms import Group, Mesh

__all__ = ["plan"]


def plan(
    project: Path | None,
    names: Sequence[str],
    days: tuple[str | None, str | None],
    *,
    reason: str,
    exclude: Sequence[str],
    only_domains: Sequence[str],
    out: Path | None,
    as_json: bool,
) -> int:
    """Say what follows from making these tables again; change nothing."""
    settings = read_settings(find_root(project))
    mesh = compiled.load(settings, fresh=True)
    span = span_of(settings, days)
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_runner") as ledger,
    ):
        told = backfilling.planned(
            *(settings, mesh, ledger, names, span, opening.now().replace(microsecond=0)),
            reason=reason,
            exclude=exclude,
            only_domains=only_domains,
            by=_user(),
        )
    found = backfilling.document(mesh, told)
    if out is not None:
        backfilling.write(out, found)
    if as_json:
        output.print_json(found)
        return 0
    _print(mesh, told, str(found["id"]))
    if out is None:
        output.console.print("to run it, write it with --out FILE", style="dim")
    else:
        output.console.print(f"written to {out}: `levada backfill run {out} --local`", style="dim")
    return 0


def _user() -> str:
    """Who plans: the pipeline's actor, or whoever is at the keyboard."""
    for name in ("GITHUB_ACTOR", "GITLAB_USER_LOGIN"):
        if os.environ.get(name):
            return os.environ[name]
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def _print(mesh: Mesh, told: Planned, name: str) -> None:
    found = told.backfill
    if not found.groups:
        output.console.print("nothing would be made again")
    if found.groups or found.left_out:
        wide = output.console.width
        output.console.print(picture(mesh, found.groups, found.left_out, within=wide))
    for group in found.groups:
        for said in _said(group):
            output.console.print(said)
    for group in found.left_out:
        for said in _said(group):
            output.console.print(Text.assemble(("left out ", "yellow"), said))
    teams: dict[str, list[str]] = {}
    for group in found.groups:
        for mart in mesh.product(group.product).marts:
            teams.setdefault(str(mart.contract.owner), []).append(str(mart.table))
    for team, tables in teams.items():
        output.console.print(f"owner {team}: {', '.join(tables)}")
    for need in told.needs:
        line = Text.assemble(("needs approval ", "yellow"), f"by {need.who}: {need.because}")
        output.console.print(line)
    for product, why in told.alone.items():
        output.console.print(Text.assemble(("one by one ", "yellow"), f"{product}: {why}"))
    runs = sum(told.runs.values())
    output.console.print(
        f"{name}: {found.cells} intervals of {len(found.groups)} products in {runs} runs, "
        f"{_expected(told)}; nothing was changed"
    )


def _said(group: Group) -> list[str]:
    shown = [
        f"{group.product:<28} {s.first.key}{'' if s.count == 1 else f' .. {s.last.key}'}"
        f" ({s.count}): {', '.join(s.because)}"
        for s in group.stretches[:3]
    ]
    if more := len(group.stretches) - len(shown):
        shown.append(f"{group.product:<28} and {more} stretches more")
    return shown


def _expected(told: Planned) -> str:
    if not told.past:
        return "nobody knows how long: none was built yet"
    took = timedelta(seconds=max(1, round(told.seconds)))
    said = f"about {took} and {told.rows:,.0f} rows by what the last runs took"
    if told.unknown:
        said += f", without {', '.join(told.unknown)}"
    return said
