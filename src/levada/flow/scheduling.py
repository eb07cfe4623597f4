"""
Scheduled backfills: what governance declared becomes a begun backfill at each due date, once.

Whoever looks first begins it, the reconciler or `levada run`: the ledger keeps one backfill for
each declaration and due date, whatever the mesh was when it was planned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from levada import plan as planning
from levada.adapters import schedules
from levada.errors import DeclarationError, Fault
from levada.flow.backfilling import Planned, approvals_of, document
from levada.govern.backfills import Need
from levada.settings import Settings
from levada.terms import Mesh, Partition, Recurring

__all__ = ["SUBJECT", "Due", "begin_due", "declared", "needs_of", "waits_for", "what_is_due"]

SUBJECT = "backfill schedule"


class Record(Protocol):
    """What the ledger keeps of scheduled backfills (role: runner)."""

    def newest_due(self) -> Mapping[str, datetime]:
        """The newest due date that was begun, by schedule."""

    def begin_due(
        self, document: Mapping[str, Any], steps: Mapping[str, Sequence[Partition]]
    ) -> bool:
        """Begin the plan of a due date; whether nobody has before."""

    def approved(self, subject: str, digest: str) -> str | None:
        """Who approved it, if anybody did."""


@dataclass(frozen=True, slots=True)
class Due:
    """One due date of a schedule that nothing was begun for."""

    recurring: Recurring
    at: datetime


def declared(settings: Settings, mesh: Mesh) -> tuple[tuple[Recurring, ...], tuple[Fault, ...]]:
    """The sound schedules, and the faults of the others."""
    return schedules.look(settings.root, settings.zone, mesh)


def what_is_due(record: Record, every: Sequence[Recurring], now: datetime) -> tuple[Due, ...]:
    """What is to be begun now, oldest first."""
    begun = record.newest_due() if every else {}
    found = (Due(r, at) for r in every for at in planning.due(r, begun.get(r.name), now))
    return tuple(sorted(found, key=lambda each: each.at))


def needs_of(settings: Settings, mesh: Mesh, each: Due) -> tuple[Planned, tuple[Need, ...]]:
    """The plan of a due date, and the approvals that policies ask for it."""
    planned = _planned(settings, mesh, each)
    return planned, planned.needs


def waits_for(record: Record, each: Recurring, needs: Sequence[Need]) -> tuple[Need, ...]:
    """The approvals that are missing: a declaration is approved as it stands, for every date."""
    if not needs or record.approved(SUBJECT, each.digest):
        return ()
    return tuple(needs)


def begin_due(settings: Settings, mesh: Mesh, record: Record, now: datetime) -> tuple[str, ...]:
    """Begin whatever is due; what was done, and what stands in the way, in words."""
    every, faults = declared(settings, mesh)
    said = [f"no backfill of this declaration is begun: {fault}" for fault in faults]
    for each in what_is_due(record, every, now):
        name, day = each.recurring.name, f"{each.at:%Y-%m-%d}"
        try:
            planned, needs = needs_of(settings, mesh, each)
        except DeclarationError as error:  # of the policies: nobody knows who must approve it
            said.append(f"{name} of {day} is not begun: {error}")
            continue
        if missing := waits_for(record, each.recurring, needs):
            said.append(
                f"{name} of {day} waits for an approval of {missing[0].who}: {missing[0].because}"
            )
            continue
        found = planned.backfill
        written = {
            **document(mesh, planned),
            "schedule": name,
            "due": each.at.isoformat(),
        }
        parts = {g.product: [p for p, _ in planning.partitions_of(mesh, g)] for g in found.groups}
        if record.begin_due(written, parts):
            said.append(f"{name} of {day} is begun as {written['id']}: {found.cells} intervals")
    return tuple(said)


def _planned(settings: Settings, mesh: Mesh, each: Due) -> Planned:
    recurring = each.recurring
    asked = planning.asked_for(
        *(mesh, recurring.tables, planning.range_of(recurring, each.at)),
        reason=f"{recurring.name} of {each.at:%Y-%m-%d}: {recurring.reason}",
        exclude=recurring.exclude,
        only_domains=recurring.only_domains,
        by=f"schedule {recurring.name}",
    )
    found = planning.backfill(mesh, asked, each.at)
    return Planned(found, {}, approvals_of(settings, mesh, found))
