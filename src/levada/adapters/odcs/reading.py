"""One document of the standard is read as far as its shape is right, and every fault is told."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from levada import calendars
from levada.adapters import sqlrule
from levada.adapters.documents import Document, Place
from levada.adapters.odcs import checks as promised
from levada.adapters.odcs import service
from levada.errors import Fault
from levada.settings import nearest
from levada.terms import Check, Column, Contract, Grain, Member, Owner, TableRef

__all__ = ["TABLE", "UNNAMED", "canonical", "digest", "reading"]

_STATUSES = ("active", "deprecated", "draft", "retired")
_CUSTOM = ("dayStart", "grain", "intervalColumn", "tier", "weekStart", "zone")
_CALENDAR = {"day_start": "dayStart", "week_start": "weekStart", "zone": "zone"}
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?")
_INSTANT = "TIMESTAMP WITH TIME ZONE"
TABLE: Place = ("schema", 0)
UNNAMED = TableRef("unknown", "unknown")
"""The table of a contract that does not say which it is."""


def canonical(value: Mapping[str, Any]) -> str:
    """
    One text for one meaning: what is recorded and hashed. Comments, order and layout do not count.

    >>> canonical({"b": 1, "a": "x"})
    '{"a":"x","b":1}'
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Mapping[str, Any]) -> str:
    """The hash of a contract: of its one text."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def reading(
    found: Document,
) -> tuple[Contract | None, Mapping[str, Place], tuple[Fault, ...]]:
    """
    What a document promises, where each check stands in it, and every fault beyond its schema's.

    Of a document with faults the contract is what could be read; None if it is about no table.
    """
    read = _Reading(found)
    contract = read.contract()
    return contract, read.places, tuple(read.faults)


class _Reading:
    """One pass over a document, as far as its shape is right; it collects what is wrong in it."""

    def __init__(self, found: Document) -> None:
        self.found = found
        self.guard = found.guard
        self.value = found.value
        self.faults: list[Fault] = []
        self.places: dict[str, Place] = {}

    def fault(self, place: Place, wrong: str, right: str = "") -> None:
        self.faults.append(self.found.fault(place, wrong, right))

    def contract(self) -> Contract | None:
        """What the document says; None if there is no table that it could be about."""
        self.words()
        tables = self.value.get("schema") or []
        if not isinstance(tables, list):
            return None
        if len(tables) != 1:
            self.fault(("schema",), f"schema has {len(tables)} objects", "one contract, one table")
        if len(tables) != 1 or not isinstance(tables[0], dict):
            return None
        table: TableRef | None = None
        with self.guard():
            table = self.table()
        columns = self.columns()
        grain, zone, interval = self.slicing(columns)
        checks = self.checks(columns, interval, table, grain)
        value = self.value
        sla: tuple[tuple[str, str], ...] = ()
        with self.guard():
            sla = tuple(
                (
                    service.level(p["property"]) or str(p["property"]),
                    f"{p['value']} {p.get('unit', '')}".strip(),
                )
                for p in value.get("slaProperties", ())
            )
        deprecated, sunset, faults = service.lifetime(self.found)
        self.faults += faults
        product = value.get("dataProduct")
        return Contract(
            id=_word(value.get("id")),
            version=_word(value.get("version")),
            status=_word(value.get("status")),
            table=table or UNNAMED,
            product=product or (table or UNNAMED).name,
            grain=grain or Grain.WHOLE,
            zone=zone,
            interval_column=interval,
            columns=columns,
            checks=checks,
            owner=self.owner(),
            description=self.purpose(),
            hash=digest(value),
            path=self.found.path,
            sla=sla,
            deprecated=deprecated,
            sunset=sunset,
            tier=self.tier(),
            members=self.members(),
        )

    def words(self) -> None:
        """What a contract must say at all."""
        with self.guard():
            status = self.value.get("status")
            if status not in _STATUSES:
                said = f"status is {status!r}" if status else "the status is missing"
                self.fault(("status",), said, nearest(str(status), _STATUSES))
        with self.guard():
            if re.search(r"\s", self.value["id"]) or not self.value["id"]:
                self.fault(("id",), f"the id {self.value['id']!r} has spaces", "write one word")
        if not self.owner().team:
            self.fault(("team", "name"), "the owner is missing", "write team.name")
        if not self.purpose():
            place: Place = ("description", "purpose")
            self.fault(place, "the description is missing", "write description.purpose")

    def purpose(self) -> str:
        with self.guard():
            return (self.value.get("description", {}).get("purpose") or "").strip()
        return ""

    def owner(self) -> Owner:
        name, channels, owners = "", [], []
        with self.guard():
            team = self.value.get("team") or {}
            members = team if isinstance(team, list) else team.get("members", [])
            name = "" if isinstance(team, list) else team.get("name", "")
            channels = [entry.get("channel") for entry in self.value.get("support", ())]
            owners = [member["username"] for member in members if member.get("role") == "owner"]
        return Owner(name, next((c for c in (*channels, *owners) if c), ""))

    def members(self) -> tuple[Member, ...]:
        """Who is in the team, with the roles that the contract says; past members are left out."""
        with self.guard():
            team = self.value.get("team") or {}
            members = team if isinstance(team, list) else team.get("members", [])
            return tuple(
                Member(member["username"], member.get("role") or "")
                for member in members
                if "dateOut" not in member
            )
        return ()

    def tier(self) -> int | None:
        """How much depends on the table, 1 the most; governance's policies speak of it."""
        said, places, _ = self.custom()
        if "tier" not in said:
            return None
        tier: object = said["tier"]
        if isinstance(tier, bool) or not isinstance(tier, int) or tier < 1:
            self.fault(places["tier"], f"no tier {tier!r}", "write 1 (the highest), 2, 3")
            return None
        return tier

    def table(self) -> TableRef | None:
        version = self.value.get("version")
        match = _VERSION.fullmatch(str(version))
        if not match:
            self.fault(("version",), f"the version {version!r} is not semantic", "write 1.0.0")
        elif match[1] == "0":
            self.fault(("version",), "major 0 promises nothing", "write 1.0.0, with a status")
            match = None
        domain = self.value.get("domain")
        if not domain:
            self.fault(("domain",), "the domain is missing", "write domain:")
        if not domain or not match:
            return None
        said = self.value["schema"][0]
        try:
            table = TableRef(domain, said["name"], int(match[1]))
        except ValueError as error:
            self.fault((*TABLE, "name"), str(error))
            return None
        if said.get("physicalType", "table") != "table":
            wrong = f"{table} is a {said['physicalType']}"
            self.fault((*TABLE, "physicalType"), wrong, "what is promised is published as a table")
        if said.get("physicalName", table.name) not in (table.name, table.relation):
            wrong = f"{table} is physically {said['physicalName']!r}"
            self.fault((*TABLE, "physicalName"), wrong, f"write {table.relation}, or leave it out")
        return table

    def columns(self) -> tuple[Column, ...]:
        said = self.value["schema"][0].get("properties")
        if not isinstance(said, list) or not said:
            place = (*TABLE, "properties")
            self.fault(place, "no column is promised", "write properties:")
            self.found.refused.setdefault(place, self.faults[-1])
            return (Column("", ""),)
        found: list[Column] = []
        keyed: dict[int, str] = {}
        for index, entry in enumerate(said):
            # Places count columns, so that one which cannot be read still stands for itself.
            column = Column(_word(entry.get("name")) if isinstance(entry, dict) else "", "")
            with self.guard():
                column = self.column((*TABLE, "properties", index), entry, found, keyed)
            found.append(column)
        return tuple(found)

    def column(
        self, place: Place, entry: Any, before: Sequence[Column], keyed: dict[int, str]
    ) -> Column:
        name = entry["name"]
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            self.fault((*place, "name"), f"{name!r} is no column name", "write letters, digits, _")
        if name.lower() in (column.name.lower() for column in before):
            self.fault((*place, "name"), f"the column {name!r} is promised twice")
        if entry.get("physicalName", name) != name:
            wrong = f"{name} is physically {entry['physicalName']!r}"
            self.fault((*place, "physicalName"), wrong, "name the column as it is in the table")
        if entry.get("semanticType") == "measure":
            self.fault((*place, "semanticType"), f"{name} is a measure, not a column")
        if (sealed := entry.get("encryptedName")) is not None:
            names = [each.get("name") for each in self.value["schema"][0]["properties"]]
            if sealed not in names:
                wrong = f"no column {sealed!r} is promised"
                self.fault((*place, "encryptedName"), wrong, nearest(str(sealed), names))
        position = self.key_position(place, entry, keyed)
        return Column(
            name,
            self.type(place, entry),
            entry.get("required", False) or position is not None,
            entry.get("unique", False),
            position,
            (entry.get("description") or "").strip(),
            entry.get("classification", ""),
            entry.get("logicalType", ""),
            promised.told(entry),
        )

    def type(self, place: Place, entry: Mapping[str, Any]) -> str:
        said = entry.get("physicalType", "")
        try:
            sqlrule.column_type(said)
        except ValueError as error:
            wrong = str(error) if said else f"{entry['name']} has no physicalType"
            self.fault((*place, "physicalType"), wrong, "write DuckDB's word, like VARCHAR")
        return str(said)

    def key_position(
        self, place: Place, entry: Mapping[str, Any], keyed: dict[int, str]
    ) -> int | None:
        said = entry.get("primaryKeyPosition", -1)
        if not entry.get("primaryKey"):
            if said > 0:
                wrong = f"{entry['name']} has a key position and is not in the key"
                self.fault((*place, "primaryKeyPosition"), wrong, "write primaryKey: true")
            return None
        position = int(said) if said > 0 else len(keyed) + 1
        if position in keyed:
            wrong = f"{entry['name']} and {keyed[position]} both stand at key position {position}"
            self.fault((*place, "primaryKeyPosition"), wrong, "number them 1, 2, 3")
        keyed[position] = entry["name"]
        return position

    def custom(self) -> tuple[dict[str, Any], dict[str, Place], bool]:
        """The table's custom properties, their places, and whether one could not be read."""
        said: dict[str, Any] = {}
        places: dict[str, Place] = {}
        entries = self.value["schema"][0].get("customProperties", ())
        torn = not isinstance(entries, list | tuple)
        for index, entry in enumerate(() if torn else entries):
            place = (*TABLE, "customProperties", index)
            name = entry.get("property") if isinstance(entry, dict) else None
            torn = torn or not isinstance(name, str) or "value" not in entry
            if not isinstance(name, str):
                continue
            near = nearest(name, _CUSTOM) if name not in _CUSTOM else ""
            if near.startswith("did you mean"):
                self.fault((*place, "property"), f"unknown custom property {name!r}", near)
            if "value" in entry:
                said[name], places[name] = entry["value"], (*place, "value")
        return said, places, torn

    def slicing(self, columns: Sequence[Column]) -> tuple[Grain | None, str, str | None]:
        """Grain, zone and interval column; no grain where nobody can tell how it is sliced."""
        said, places, torn = self.custom()
        where: Place = (*TABLE, "customProperties")
        grains = {grain.value: grain for grain in Grain}
        grain = grains.get(str(said.get("grain")))
        if grain is None and ("grain" in said or not torn):
            wrong = f"no grain {said['grain']!r}" if "grain" in said else "the grain is missing"
            right = nearest(str(said.get("grain")), grains)
            self.fault(places.get("grain", where), wrong, right)
        zone = "UTC"
        if "zone" in said or not torn:
            zone = self.zone(said.get("zone"), grain, places.get("zone", where))
        if grain is not None:
            start, week = said.get("dayStart"), said.get("weekStart")
            zone, wrongs = calendars.declared(grain.value, zone, start, week)
            for word, wrong, right in wrongs:
                self.fault(places.get(_CALENDAR[word], where), wrong, right)
        interval = said.get("intervalColumn")
        if grain is Grain.WHOLE:
            if interval is not None:
                wrong = "a whole table has no interval"
                self.fault(places["intervalColumn"], wrong, "leave out intervalColumn")
            return grain, "UTC", None
        column = next((column for column in columns if column.name == interval), None)
        place = places.get("intervalColumn", where)
        if interval is None:
            if grain is not None and not torn:
                right = "name the column that holds the time"
                self.fault(place, "the intervalColumn is missing", right)
        elif column is not None:
            self.interval(place, column, grain)
        elif promised.unpromised(interval, names := [column.name for column in columns]):
            self.fault(place, f"no column {interval!r} is promised", nearest(str(interval), names))
        if grain is None or column is None:
            return None, "UTC", None
        return grain, zone, interval

    def zone(self, said: Any, grain: Grain | None, place: Place) -> str:
        if said is None:
            if grain not in (None, Grain.WHOLE, Grain.HOUR):
                self.fault(place, "the zone is missing", "name the calendar, like America/New_York")
            return "UTC"
        try:
            return ZoneInfo(str(said)).key
        except (KeyError, ValueError, OSError):
            near = nearest(str(said), available_timezones())
            right = near if near.startswith("did") else "write a name like America/New_York"
            self.fault(place, f"no zone {said!r}", right)
            return "UTC"

    def interval(self, place: Place, column: Column, grain: Grain | None) -> None:
        try:
            kind = sqlrule.column_type(column.type)
        except ValueError:
            return  # told where the column stands
        if kind not in (_INSTANT, "DATE"):
            wrong = f"the interval column {column.name} is {column.type}"
            self.fault(place, wrong, "it must be TIMESTAMPTZ or DATE")
        elif kind == "DATE" and grain is Grain.HOUR:
            self.fault(place, f"the DATE {column.name} cannot tell hours apart", "use TIMESTAMPTZ")

    def checks(
        self,
        columns: tuple[Column, ...],
        interval: str | None,
        table: TableRef | None,
        grain: Grain | None,
    ) -> tuple[Check, ...]:
        found: dict[str, Check] = {}
        for each in (
            *promised.derived(self.found, columns, interval),
            *promised.relationships(self.found, columns, table.domain if table else "unknown"),
            *promised.quality(self.found, columns),
            *service.checks(self.found, columns, interval, grain),
        ):
            if isinstance(each, Fault):
                self.faults.append(each)
                continue
            place, check = each
            if not isinstance(check.id, str):
                continue  # the schema refused it
            if check.id in found:
                self.fault(place, f"the check id {check.id!r} is taken", "give it an id of its own")
            found[check.id] = check
            self.places[check.id] = place
        return tuple(found.values())


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""
