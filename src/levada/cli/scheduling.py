"""`levada backfill schedule list` and `approve`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from rich.text import Text

from levada import compiled
from levada import plan as planning
from levada.adapters.approvers import read_policy
from levada.adapters.schedules import FILE
from levada.approve import Subject
from levada.cli import output
from levada.errors import DeclarationError, Fault
from levada.flow import granting, scheduling
from levada.flow import platform as opening
from levada.flow.scheduling import Due
from levada.ledger import PostgresLedger
from levada.settings import Settings, find_root, nearest, read_settings
from levada.terms import Begun, Mesh, Recurring

__all__ = ["approve", "show"]


def show(project: Path | None, *, as_json: bool) -> int:
    """Every declaration; 2 if one has a fault."""
    settings = read_settings(find_root(project))
    mesh = compiled.load(settings, fresh=True)
    every, faults = scheduling.declared(settings, mesh)
    now = opening.now()
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_runner") as record,
    ):
        begun = {str(b.document.get("schedule")): b for b in record.backfills()}
        told = [_told(settings, mesh, record, each, begun, now) for each in every]
    if as_json:
        output.print_json(told)
    else:
        for each in told:
            _print(each)
        if not every and not faults:
            output.console.print(f"no backfill is scheduled: {FILE} would declare them")
    if faults:
        raise DeclarationError(faults)
    return 0


def _told(
    settings: Settings,
    mesh: Mesh,
    record: PostgresLedger,
    each: Recurring,
    begun: Mapping[str, Begun],
    now: datetime,
) -> dict[str, object]:
    due = scheduling.what_is_due(record, [each], now)
    newest = begun.get(each.name)
    coming = planning.next_due(each, now)
    first = due[-1] if due else Due(each, coming)
    planned, needs = scheduling.needs_of(settings, mesh, first)
    missing = scheduling.waits_for(record, each, needs)
    return {
        "name": each.name,
        "tables": list(each.tables),
        "every": each.every,
        "last_days": each.days,
        "reason": each.reason,
        "catch_up": each.catch_up,
        "due": [d.at for d in due],
        "next": coming,
        "planned_for": first.at,
        "intervals": planned.backfill.cells,
        "newest": {"id": newest.id, "state": newest.state} if newest else None,
        "waits_for": [f"{need.who}: {need.because}" for need in missing],
    }


def _print(told: Mapping[str, object]) -> None:
    tables, newest = told["tables"], told["newest"]
    named = ", ".join(tables) if isinstance(tables, list) else ""
    head = f"{told['name']}: every {told['every']} the last {told['last_days']} days of {named}"
    output.console.print(Text(f"{head}, because {told['reason']}"))
    due = told["due"]
    for at in due if isinstance(due, list) else ():
        output.console.print(Text(f"  due since {at:%Y-%m-%d %H:%M}Z", style="yellow"))
    output.console.print(f"  next {told['next']:%Y-%m-%d %H:%M}Z")
    output.console.print(
        f"  {told['intervals']} intervals of {told['planned_for']:%Y-%m-%d %H:%M}Z"
    )
    if isinstance(newest, dict):
        output.console.print(f"  the newest: {newest['id']}, {newest['state']}")
    waits = told["waits_for"]
    for need in waits if isinstance(waits, list) else ():
        output.console.print(Text(f"  waits for an approval of {need}", style="yellow"))


def approve(project: Path | None, name: str, *, reviewer: str, commit: str, reason: str) -> int:
    """Approve a declaration as it stands, as governance."""
    settings = read_settings(find_root(project))
    if not reason.strip():
        raise DeclarationError((Fault("--reason", 0, "says nothing", "say why it may run"),))
    mesh = compiled.load(settings, fresh=True)
    every, faults = scheduling.declared(settings, mesh)
    found = next((each for each in every if each.name == name), None)
    if found is None:
        known = [each.name for each in every]
        right = nearest(name, known) if known else "see `levada check`"
        unknown = Fault(FILE, 0, f"no sound schedule is called {name!r}", right)
        raise DeclarationError((unknown, *faults))
    now = opening.now()
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_runner") as record,
    ):
        due = scheduling.what_is_due(record, [found], now)
    first = due[-1] if due else Due(found, planning.next_due(found, now))
    _, needs = scheduling.needs_of(settings, mesh, first)
    policy = read_policy(settings.root, settings.domains)
    if not needs:
        output.console.print(f"{name} needs no approval")
        return 0
    given = [
        granting.approval(
            *(settings, policy, Subject("backfill", domain, FILE, ())),
            reviewer=reviewer,
            commit=commit,
            via="pipeline",
        )
        for domain in dict.fromkeys(need.who for need in needs)
    ]
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_governance") as ledger,
    ):
        new = ledger.record_approval(scheduling.SUBJECT, found.digest, reason, given[0])
    how = f"approved by {reviewer}" if new else "approved already"
    output.console.print(Text(f"{name} is {how}"))
    return 0
