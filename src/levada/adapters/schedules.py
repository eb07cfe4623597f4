"""`contracts/governance/backfills.yaml`: which tables are made again by themselves, and when."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import date, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from levada.adapters.documents import Document, Place, read_file
from levada.declare import selected
from levada.errors import Fault
from levada.plan import asked_for
from levada.settings import nearest
from levada.terms import Mesh, Recurring

__all__ = ["FILE", "look"]

FILE = "contracts/governance/backfills.yaml"
_KEYS = (
    *("tables", "every", "on", "at", "zone", "from", "last", "reason"),
    *("catch_up", "exclude", "only_domains"),
)
_NEEDED = ("tables", "every", "from", "last", "reason")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_EXAMPLE = (
    "backfills: {invoices: {tables: [sales.invoices], every: week, on: sunday, from: 2026-01-04, "
    "last: 35d, reason: invoices are corrected for a month}}"
)


def look(root: Path, zone: str, mesh: Mesh) -> tuple[tuple[Recurring, ...], tuple[Fault, ...]]:
    """
    The sound declarations and the faults of the others; of a file that is none, nothing.

    :param zone: the calendar of those that name none
    """
    path = root / FILE
    if not path.is_file():
        return (), ()
    document, faults = read_file(path, root, f"write {_EXAMPLE}")
    if document is None:
        return (), tuple(faults)
    reading = _Reading(document, zone, mesh)
    found = reading.all()
    return tuple(found), tuple(sorted({*faults, *reading.faults}))


class _Reading:
    """One pass over the file that collects its faults."""

    def __init__(self, document: Document, zone: str, mesh: Mesh) -> None:
        self.document, self.zone, self.mesh = document, zone, mesh
        self.faults: list[Fault] = []

    def fault(self, place: Place, wrong: str, right: str = "") -> None:
        self.faults.append(self.document.fault(place, wrong, right))

    def all(self) -> list[Recurring]:
        said = self.document.value
        for key in said:
            if key != "backfills":
                self.fault((key,), f"unknown key {key!r}", nearest(key, ("backfills",)))
        each = said.get("backfills")
        if not isinstance(each, dict) or not each:
            self.fault(("backfills",), "'backfills' names none", f"write {_EXAMPLE}")
            return []
        read = (self.one(str(name), body, ("backfills", str(name))) for name, body in each.items())
        return [found for found in read if found]

    def one(self, name: str, said: Any, place: Place) -> Recurring | None:
        before = len(self.faults)
        if not name.replace("_", "").replace("-", "").isalnum():
            self.fault(place, f"{name!r} is no name", "use letters, digits, - and _")
        if not isinstance(said, dict):
            self.fault(place, f"{name} says nothing", f"write {_EXAMPLE}")
            return None
        for key in said:
            if key not in _KEYS:
                self.fault((*place, str(key)), f"unknown key {key!r}", nearest(str(key), _KEYS))
        for key in _NEEDED:
            if key not in said:
                self.fault(place, f"{name} says no {key!r}", f"write {_EXAMPLE}")
        every = str(said.get("every", "day"))
        if every not in ("day", "week", "month"):
            self.fault((*place, "every"), f"no schedule is {every!r}", "write day, week or month")
        zone = self.calendar(said.get("zone", self.zone), (*place, "zone"))
        found = Recurring(
            name,
            self.tables(said.get("tables"), (*place, "tables"), sources=True),
            every,
            self.on(every, said, place),
            at=self.time(said.get("at", "00:00"), (*place, "at")),
            zone=zone,
            first=self.date(said.get("from", "2000-01-01"), (*place, "from")),
            days=self.days(said.get("last", "1d"), (*place, "last")),
            reason=self.reason(said, place),
            catch_up=self.catch_up(said.get("catch_up", "latest"), (*place, "catch_up")),
            exclude=self.tables(said.get("exclude", []), (*place, "exclude")),
            only_domains=self.domains(said.get("only_domains", []), (*place, "only_domains")),
            digest=_digest(said),
        )
        if len(self.faults) == before:
            self.together(found, place)
        return None if len(self.faults) > before else found

    def together(self, found: Recurring, place: Place) -> None:
        """Whether its words can be asked for at once."""
        try:
            asked_for(
                *(self.mesh, found.tables, self.mesh.span),
                exclude=found.exclude,
                only_domains=found.only_domains,
            )
        except ValueError as error:
            self.fault(place, str(error), "leave one of the two out")

    def tables(self, said: Any, place: Place, *, sources: bool = False) -> tuple[str, ...]:
        """Ids of products, and sources by the names of their tables."""
        if said == [] and not sources:
            return ()
        if not isinstance(said, list) or not said:
            self.fault(place, f"{place[-1]!r} is a list of tables", "tables: [sales.invoices]")
            return ()
        landed = {str(source.table) for source in self.mesh.sources} if sources else set()
        found: dict[str, None] = {}
        for n, name in enumerate(map(str, said)):
            if name in landed:
                found[name] = None
                continue
            try:
                found.update((product.id, None) for product in selected(self.mesh, [name]))
            except ValueError as error:
                self.fault((*place, n), str(error))
        return tuple(found)

    def domains(self, said: Any, place: Place) -> tuple[str, ...]:
        known = sorted({product.domain for product in self.mesh.products})
        if not isinstance(said, list):
            self.fault(place, "'only_domains' is a list of domains", f"one of {', '.join(known)}")
            return ()
        for n, name in enumerate(map(str, said)):
            if name not in known:
                self.fault((*place, n), f"no domain {name!r}", nearest(name, known))
        return tuple(map(str, said))

    def on(self, every: str, said: Mapping[str, Any], place: Place) -> int:
        """The day of the week from 0, or of the month from 1."""
        if every == "week":
            day = str(said.get("on", "")).lower()
            if day not in _DAYS:
                self.fault((*place, "on"), f"no day of the week is {day!r}", "write on: sunday")
                return 0
            return _DAYS.index(day)
        if every == "month":
            number = said.get("on", 1)
            if not isinstance(number, int) or not 1 <= number <= 28:
                right = "write a day that every month has: 1 to 28"
                self.fault((*place, "on"), f"{number!r} is no day of every month", right)
                return 1
            return number
        if "on" in said:
            self.fault((*place, "on"), "every day is every day", "leave 'on' out")
        return 0

    def time(self, said: Any, place: Place) -> time:
        try:
            found = time.fromisoformat(str(said))
        except ValueError:
            found = None
        if found is None or found.tzinfo is not None:
            self.fault(place, f"{said!r} is no time of the day", 'write it like "03:00"')
            return time()
        return found

    def date(self, said: Any, place: Place) -> date:
        try:
            return date.fromisoformat(str(said))
        except ValueError:
            self.fault(place, f"{said!r} is no date", "write it like 2026-01-04")
            return date.min

    def days(self, said: Any, place: Place) -> int:
        match = re.fullmatch(r"([1-9][0-9]*)([dw])", str(said).strip())
        if match is None:
            self.fault(place, f"{said!r} is no number of days", "write it like 35d or 5w")
            return 1
        return int(match[1]) * (7 if match[2] == "w" else 1)

    def reason(self, said: Mapping[str, Any], place: Place) -> str:
        words = str(said.get("reason") or "").strip()
        if "reason" in said and not words:
            self.fault((*place, "reason"), "the reason says nothing", "say why it is made again")
        return words

    def catch_up(self, said: Any, place: Place) -> str:
        if said not in ("latest", "all"):
            right = "write latest (what was missed is one backfill), or all (each for itself)"
            self.fault(place, f"no way to catch up is {said!r}", right)
        return str(said)

    def calendar(self, said: Any, place: Place) -> str:
        try:
            ZoneInfo(str(said))
        except (KeyError, ValueError, OSError):
            self.fault(place, f"no such time zone {said!r}", "write one like America/New_York")
            return "UTC"
        return str(said)


def _digest(said: Mapping[str, Any]) -> str:
    """Of what it says: layout and comments do not count."""
    plain = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(plain.encode()).hexdigest()
