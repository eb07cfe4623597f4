"""
Data contracts of the Open Data Contract Standard become `Contract`s, with every fault they have.

The JSON schema comes first, because the standard's model classes drop unknown nested keys; then
what Levada needs beyond it. A file with one fault gives no contract, and is read to its end all the
same: whatever else can be told is told at once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from levada import calendars
from levada.adapters import sqlrule
from levada.adapters.documents import Document, Place, read_file
from levada.adapters.gx.rehearsal import Stage
from levada.adapters.odcs import checks as promised
from levada.adapters.odcs import service
from levada.adapters.odcs.document import schema_faults
from levada.adapters.odcs.kept import Kept
from levada.adapters.remembered import Memory, Nothing
from levada.errors import DeclarationError, Fault
from levada.settings import find_root, nearest
from levada.terms import Check, Column, Contract, Grain, Member, Owner, TableRef

__all__ = [
    "canonical",
    "document",
    "from_canonical",
    "label",
    "read_contract",
    "read_contracts",
]

_STATUSES = ("active", "deprecated", "draft", "retired")
_CUSTOM = ("dayStart", "grain", "intervalColumn", "tier", "weekStart", "zone")
_CALENDAR = {"day_start": "dayStart", "week_start": "weekStart", "zone": "zone"}
_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?")
_INSTANT = "TIMESTAMP WITH TIME ZONE"
_TABLE: Place = ("schema", 0)
_UNNAMED = TableRef("unknown", "unknown")
"""The table of a contract that does not say which it is."""


def read_contracts(
    root: Path, memory: Memory | None = None
) -> tuple[tuple[Contract, ...], tuple[Fault, ...]]:
    """
    Read every contract of a mesh: `contracts/<domain>/<table>.v<major>.odcs.yaml`. A file that has
    not changed since it was found sound, by the `memory`, is not judged again.
    """
    kept = Kept(memory or Nothing())
    found: list[_Judged] = []
    faults: list[Fault] = []
    files: dict[str, bytes] = {}
    for path in sorted((root / "contracts").rglob("*.y*ml")):
        if path.name.endswith(".odcs.yaml"):
            shown = _relative(path, root)
            files[shown] = path.read_bytes() if path.is_file() else b""
            if contract := kept.contract(shown, files[shown]):
                found.append(_Judged(contract, Document(shown, {}), {}, remembered=True))
                continue
            judged, told = _read(path, root)
            faults += told
            found += [judged] if judged else []
        elif path.relative_to(root / "contracts").parts[0] != "governance":
            right = "a contract is named <table>.v<major>.odcs.yaml"
            faults.append(Fault(_relative(path, root), 0, "this file is not read", right))
    bad = {fault.path for fault in faults}
    sound = [judged.contract for judged in found if judged.contract.path not in bad]
    twins = tuple(_twins(found, root))
    places = {(fault.path, fault.line) for fault in twins}
    # That two promise a table says enough: what the other file should be called is no second fault.
    faults = [*twins, *(fault for fault in faults if (fault.path, fault.line) not in places)]
    known = {contract.table: contract for contract in sound}
    untried = [j for j in found if not (j.remembered and kept.tried(j.contract, known))]
    if untried:
        with Stage() as stage:
            for judged in untried:
                faults += _full(judged, root).rehearsed(stage, known)
    bad = {fault.path for fault in faults}
    whole = tuple(c for c in sound if c.path not in bad)
    kept.keep(whole, known, files)
    return whole, tuple(sorted(set(faults)))


def _full(judged: _Judged, root: Path) -> _Judged:
    """With its document, from which a remembered contract is no longer read."""
    again = _read(root / judged.contract.path, root)[0] if judged.remembered else None
    return again or judged


def _twins(found: Sequence[_Judged], root: Path) -> Iterator[Fault]:
    """Ids that two tables have, and tables that two contracts promise."""
    first: dict[str, Contract] = {}
    tables: dict[TableRef, Contract] = {}
    for judged in sorted(found, key=lambda judged: bool(tuple(_misplaced(judged)))):
        contract = judged.contract
        other = tables.setdefault(contract.table, contract)
        if other is not contract and contract.table != _UNNAMED:
            wrong = f"{contract.table} is promised in {other.path} too"
            document = _full(judged, root).document
            yield document.fault((*_TABLE, "name"), wrong, "keep one of the two")
        if contract.id and contract.table != _UNNAMED:
            twin = first.setdefault(contract.id, contract)
            if (twin.table.domain, twin.table.name) != (contract.table.domain, contract.table.name):
                wrong = f"the id {contract.id!r} is that of {twin.path}"
                document = _full(judged, root).document
                yield document.fault(("id",), wrong, "give each table its own id")


def read_contract(path: Path, root: Path) -> tuple[Contract | None, tuple[Fault, ...]]:
    """
    Read one contract; it is None when the file has any fault.

    A check that reads another table is tried only by `read_contracts`, which knows that table.
    """
    judged, faults = _read(path, root)
    if judged is not None:
        with Stage() as stage:
            faults += judged.rehearsed(stage, {})
    return (judged.contract if judged and not faults else None), tuple(sorted(set(faults)))


def _read(path: Path, root: Path) -> tuple[_Judged | None, tuple[Fault, ...]]:
    """What a file says, as far as it can be read, and its faults."""
    found, faults = read_file(path, root)
    if found is None:
        return None, faults
    judged, more = _judge(found)
    faults += more
    if judged is not None:
        faults += tuple(_misplaced(judged))
    return judged, faults


@dataclass(frozen=True)
class _Judged:
    """
    A contract, the document it was read from, and where its checks stand there.

    Of a document with `faults` the contract is what could be read: good for finding more of them.
    """

    contract: Contract
    document: Document
    places: Mapping[str, Place]
    faults: tuple[Fault, ...] = ()
    remembered: bool = False
    """Whether it was sound before, and its document was not read again."""

    def rehearsed(self, stage: Stage, others: Mapping[TableRef, Contract]) -> tuple[Fault, ...]:
        """The checks that could not run over the promised columns."""
        said: Mapping[str, str] = {}
        with suppress(Exception) if self.faults else nullcontext():  # not all columns can be made
            said = stage.rehearse(self.contract, others)
        return tuple(
            self.document.fault(self.places[check], f"the check {check!r} cannot run: {error}")
            for check, error in said.items()
            if not self.document.torn(self.places[check])
        )


def from_canonical(text: str) -> Contract:
    """
    The contract of a recorded canonical text; its path is `(recorded)`. Raises DeclarationError.

    Audits judge by what was recorded, not by what a working tree says.
    """
    value = json.loads(text)
    judged, faults = _judge(Document("(recorded)", value))
    if judged is None or faults:
        raise DeclarationError(faults)
    return judged.contract


def canonical(value: Mapping[str, Any]) -> str:
    """
    One text for one meaning: what is recorded and hashed. Comments, order and layout do not count.

    >>> canonical({"b": 1, "a": "x"})
    '{"a":"x","b":1}'
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def document(contract: Contract, root: Path | None = None) -> str:
    """
    The canonical text of a contract, from its file below `root` (default: the mesh around here).

    Raises DeclarationError when the file no longer says what the contract was read from.
    """
    path = (root or find_root()) / contract.path
    found, faults = read_file(path, root or find_root())
    if found is None or _hash(found.value) != contract.hash:
        changed = Fault(contract.path, 0, "the file changed since it was read", "read it again")
        raise DeclarationError(faults or (changed,))
    return canonical(found.value)


def label(contract: Contract) -> str:
    """`id version hash`: how the ledger names a contract, with twelve digits of the hash."""
    return contract.label


def _hash(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _misplaced(judged: _Judged) -> Iterator[Fault]:
    """The folder is the domain, and the file is named by table and major."""
    table, found = judged.contract.table, judged.document
    path = PurePosixPath(found.path)
    if table == _UNNAMED:
        return
    name = f"{table.name}.v{table.major}.odcs.yaml"
    if path.name != name:
        yield found.fault(
            (*_TABLE, "name"), f"{table} is promised in {path.name}", f"name it {name}"
        )
    if path.parent.name != table.domain or path.parent.parent.name != "contracts":
        wrong = f"the domain {table.domain!r} does not own this folder"
        yield found.fault(("domain",), wrong, f"move it to contracts/{table.domain}/")


def _judge(found: Document) -> tuple[_Judged | None, tuple[Fault, ...]]:
    faults = schema_faults(found)
    reading = _Reading(found)
    contract = reading.contract()
    faults = tuple(dict.fromkeys((*faults, *reading.faults)))
    if contract is None:
        return None, faults
    return _Judged(contract, found, reading.places, faults), faults


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
                (str(p["property"]), f"{p['value']} {p.get('unit', '')}".strip())
                for p in value.get("slaProperties", ())
            )
        deprecated, sunset, faults = service.lifetime(self.found)
        self.faults += faults
        product = value.get("dataProduct")
        return Contract(
            id=_word(value.get("id")),
            version=_word(value.get("version")),
            status=_word(value.get("status")),
            table=table or _UNNAMED,
            product=product or (table or _UNNAMED).name,
            grain=grain,
            zone=zone,
            interval_column=interval,
            columns=columns,
            checks=checks,
            owner=self.owner(),
            description=self.purpose(),
            hash=_hash(value),
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
            self.fault((*_TABLE, "name"), str(error))
            return None
        if said.get("physicalType", "table") != "table":
            wrong = f"{table} is a {said['physicalType']}"
            self.fault((*_TABLE, "physicalType"), wrong, "what is promised is published as a table")
        if said.get("physicalName", table.name) not in (table.name, table.relation):
            wrong = f"{table} is physically {said['physicalName']!r}"
            self.fault((*_TABLE, "physicalName"), wrong, f"write {table.relation}, or leave it out")
        return table

    def columns(self) -> tuple[Column, ...]:
        said = self.value["schema"][0].get("properties")
        if not isinstance(said, list) or not said:
            place = (*_TABLE, "properties")
            self.fault(place, "no column is promised", "write properties:")
            self.found.refused.setdefault(place, self.faults[-1])
            return (Column("", ""),)
        found: list[Column] = []
        keyed: dict[int, str] = {}
        for index, entry in enumerate(said):
            # Places count columns, so that one which cannot be read still stands for itself.
            column = Column(_word(entry.get("name")) if isinstance(entry, dict) else "", "")
            with self.guard():
                column = self.column((*_TABLE, "properties", index), entry, found, keyed)
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
            place = (*_TABLE, "customProperties", index)
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

    def slicing(self, columns: Sequence[Column]) -> tuple[Grain, str, str | None]:
        said, places, torn = self.custom()
        where: Place = (*_TABLE, "customProperties")
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
            return Grain.WHOLE, "UTC", None
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
        grain: Grain,
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
