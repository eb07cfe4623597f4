"""
Files of consistency batches, YAML or JSON: by their JSON schema first, then by what they mean.

A file with a fault yields no batch, but all of its faults: what the schema refuses does not hide
what else is wrong.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from levada.adapters.consistency.binding import unbound
from levada.adapters.consistency.expressions import Expression, expression, not_additive, query
from levada.adapters.consistency.shape import broken
from levada.adapters.documents import Document, Place, read_file
from levada.adapters.promised import titled, withheld
from levada.calendars import calendar
from levada.consistency import mapping_of
from levada.errors import Fault
from levada.settings import duration, nearest
from levada.terms import (
    Batch,
    Column,
    ConsistencyRule,
    Grain,
    Guard,
    Mesh,
    Read,
    RuleKind,
    Severity,
    Side,
    TableRef,
    Tolerance,
)

__all__ = ["FOLDER", "Batches", "batches_in", "read_batches"]

FOLDER = "contracts/governance/consistency"

_EXAMPLE = "write batch, grain, owner, description and rules"
_KEYED = (
    *(RuleKind.KEYS, RuleKind.ROWS, RuleKind.DUPLICATES, RuleKind.REFERENCES, RuleKind.BALANCES),
)
_SUMMED = (RuleKind.TOTALS, RuleKind.ROLLUP, RuleKind.WEEKDAY)
_MOVED = ("amount", "effective", "recorded", "reversed")
_OF_A_KIND: Mapping[RuleKind, tuple[str, ...]] = {
    RuleKind.TOTALS: ("left", "right", "tolerance"),
    RuleKind.ROLLUP: ("parent", "of", "tolerance"),
    RuleKind.RATIO: ("left", "right", "between"),
    RuleKind.KEYS: ("left", "right"),
    RuleKind.ROWS: ("left", "right", "tolerance"),
    RuleKind.DUPLICATES: ("of",),
    RuleKind.REFERENCES: ("left", "right", "at_least"),
    RuleKind.FRESHNESS: ("of", "within"),
    RuleKind.WEEKDAY: ("of", "weeks", "tolerance"),
    RuleKind.BALANCES: ("snapshot", "of", "movements", "tolerance", "reach"),
    RuleKind.SQL: ("query", "key"),
}
_OF_A_RULE = ("id", "kind", "description", "severity", "owner", "never_mute", "guards")
_OF_A_SIDE: Mapping[RuleKind, tuple[str, ...]] = {
    RuleKind.TOTALS: ("by", "values"),
    RuleKind.ROLLUP: ("by", "values"),
    RuleKind.RATIO: ("by",),
    RuleKind.KEYS: ("key",),
    RuleKind.ROWS: ("key", "values"),
    RuleKind.DUPLICATES: ("key",),
    RuleKind.REFERENCES: ("key",),
    RuleKind.FRESHNESS: ("by", "newest"),
    RuleKind.WEEKDAY: ("by", "values"),
    RuleKind.BALANCES: ("key", "values", "taken", *_MOVED),
}


@dataclass(frozen=True, slots=True)
class Batches:
    """
    The sound batches of a mesh in the order of their names, the faults of the others, and of those
    where only tables that they compare have a fault: their sound rules, and the domains that the
    other rules guard.
    """

    sound: tuple[Batch, ...]
    faults: tuple[Fault, ...]
    partial: tuple[Batch, ...] = ()
    waiting: frozenset[str] = frozenset()


def read_batches(root: Path, mesh: Mesh) -> tuple[tuple[Batch, ...], tuple[Fault, ...]]:
    """Every sound batch of a mesh, in the order of their names, and the faults of the others."""
    found = batches_in(root, mesh)
    return found.sound, found.faults


def batches_in(root: Path, mesh: Mesh) -> Batches:
    """What the files of batches declare for a mesh."""
    found: dict[str, Batch] = {}
    named: dict[str, str] = {}
    partial: list[Batch] = []
    waiting: set[str] = set()
    faults: list[Fault] = []
    folder = root / FOLDER
    files = sorted(p for p in folder.glob("*") if p.suffix in (".yaml", ".yml", ".json"))
    for path in files:
        document, said = read_file(path, root, _EXAMPLE)
        faults += said
        if document is None:
            continue
        reading = _Reading(document, mesh, root)
        batch = reading.batch()
        if batch and batch.id in named:
            wrong = f"a batch {batch.id!r} stands in {named[batch.id]} already"
            reading.fault(("batch",), wrong, "give each batch a name of its own")
        faults += reading.faults
        if batch is None or said:
            continue
        named.setdefault(batch.id, batch.path)
        if not reading.faults:
            found[batch.id] = batch
        elif all(fault.follows for fault in reading.faults):
            partial.append(batch)
            waiting |= reading.waiting
    sound = tuple(found[name] for name in sorted(found))
    return Batches(sound, tuple(sorted(set(faults))), tuple(partial), frozenset(waiting))


@dataclass(frozen=True, slots=True)
class _Sided:
    """A side, with the kinds of its expressions and where it stands."""

    side: Side
    place: Place


class _Reading:
    """One pass over a file that collects its faults."""

    def __init__(self, document: Document, mesh: Mesh, root: Path) -> None:
        self.document, self.mesh, self.root = document, mesh, root
        self.faults: list[Fault] = []
        self.waiting: set[str] = set()
        """The domains guarded by rules that compare what has a fault of its own."""
        self.tables = {str(t).removesuffix("@1"): t for t in mesh.tables()}

    def fault(self, place: Place, wrong: str, right: str = "") -> None:
        self.faults.append(self.document.fault(place, wrong, right))

    def batch(self) -> Batch | None:
        said = self.document.value
        self.by_schema()
        if self.document.torn(()) and () in self.document.refused:
            return None
        grain = self.guarded(lambda: Grain(said["grain"]))
        if grain is None:
            return None
        zone = self.zone(said.get("zone"), grain)
        batch = Batch(
            *(str(said.get("batch", "")), grain, zone, str(said.get("owner", ""))),
            *(str(said.get("description", "")), self.document.path, ()),
        )
        rules: dict[str, ConsistencyRule] = {}
        for n, body in enumerate(said["rules"] if isinstance(said.get("rules"), list) else ()):
            place: Place = ("rules", n)
            if not isinstance(body, dict):
                continue
            rule = self.guarded(functools.partial(self.rule, body, place, batch))
            name = str(body.get("id", ""))
            if rule is None and "guards" in body:
                self.waiting.add(str(body["guards"]).partition(".")[0])
            if name in rules:
                wrong = f"a rule {name!r} stands on line {rules[name].line} already"
                self.fault((*place, "id"), wrong, "give each rule a name of its own")
            elif rule is not None:
                rules[name] = rule
        return Batch(
            *(batch.id, grain, zone, batch.owner, batch.description, batch.path),
            tuple(rules.values()),
            self.guarded(functools.partial(self.guard, said.get("guard"))) or Guard(),
        )

    def guarded(self, read: Callable[[], Any]) -> Any:
        """A part of a document that may have been refused is read as far as it can be."""
        with self.document.guard():
            return read()
        return None

    def by_schema(self) -> None:
        """What the JSON schema refuses, each at its line."""
        for at, wrong, right in broken(self.document.value):
            fault = Fault(self.document.path, self.document.line(at), wrong, right)
            self.faults.append(fault)
            self.document.refused.setdefault(at, fault)

    def zone(self, said: Any, grain: Grain) -> str:
        if grain is Grain.WHOLE:
            return "UTC"
        zone = str(said) if said is not None else self.mesh.zone
        try:
            calendar(zone)
        except ValueError as error:
            self.fault(("zone",), str(error))
            return self.mesh.zone
        return zone

    def guard(self, said: Any) -> Guard:
        """When a rule of this batch flags too much; as usual, where the file does not say."""
        usual = Guard()
        if not isinstance(said, dict):
            return usual
        try:
            return Guard(
                _number(said["share"]) if "share" in said else usual.share,
                duration(said["soon"]) if "soon" in said else usual.soon,
                duration(said["expires"]) if "expires" in said else usual.expires,
                int(said.get("dead_after", usual.dead_after)),
            )
        except ValueError as error:
            key, _, wrong = str(error).partition(": ")
            self.fault(("guard", key), wrong)
            return usual

    # One rule

    def rule(self, body: Mapping[str, Any], place: Place, batch: Batch) -> ConsistencyRule | None:
        before = len(self.faults)
        kind = RuleKind(body["kind"])
        for key in body:
            if key not in (*_OF_A_RULE, *_OF_A_KIND[kind]) and key in _PLACES:
                wrong = f"{key!r} says nothing to a rule of kind {kind.value}"
                right = f"it takes {', '.join(_OF_A_KIND[kind])}"
                self.fault((*place, key), wrong, right)
        sides = [
            sided
            for name in ("left", "right", "parent", "snapshot", "of", "movements")
            if name in _OF_A_KIND[kind] and name in body
            and (sided := self.side(body[name], (*place, name), kind))
        ]  # fmt: skip
        sql, tables = "", tuple(each.side.table for each in sides)
        if kind is RuleKind.SQL:
            sql, tables = self.query(str(body["query"]), (*place, "query"))
        if len(self.faults) > before or self.document.torn(place):
            return None
        self.alike(sides)
        self.special(kind, sides, body, place, batch)
        guards = self.guards(body, tables, place)
        weeks = int(body.get("weeks", 0))
        reads = [Read(table, week) for table in dict.fromkeys(tables) for week in range(weeks + 1)]
        if kind is RuleKind.BALANCES:
            reads[-1] = Read(tables[-1], reach=int(body["reach"]))
        for table in dict.fromkeys(tables):
            self.mapped(table, batch, self.placed(table, sides, place))
        if len(self.faults) > before:
            return None
        rule = ConsistencyRule(
            id=str(body["id"]),
            batch=batch.id,
            kind=kind,
            sides=tuple(each.side for each in sides),
            severity=Severity(body.get("severity", "advisory")),
            owner=str(body.get("owner", batch.owner)),
            description=str(body["description"]),
            path=self.document.path,
            line=self.document.line((*place, "id")),
            hash=_hash(body, batch),
            tolerance=self.tolerances(body.get("tolerance"), sides, (*place, "tolerance")),
            bounds=self.bounds(body.get("between"), (*place, "between")),
            share=_number(body.get("at_least", 1)),
            within=duration(body["within"]) if "within" in body else None,
            weeks=weeks,
            query=sql,
            key=tuple(body.get("key", ())),
            reads=tuple(reads),
            never_mute=bool(body.get("never_mute", False)),
            guards=guards,
        )
        if len(self.faults) > before:
            return None
        contracts = {table: self.mesh.mart(table).contract for table in rule.tables}
        if error := unbound(rule, contracts):
            where = "query" if kind is RuleKind.SQL else "kind"
            self.fault((*place, where), f"it cannot run: {error}")
            return None
        return rule

    def side(self, said: Mapping[str, Any], place: Place, kind: RuleKind) -> _Sided | None:
        name = str(said["table"])
        table = self.table(name, (*place, "table"))
        if table is None:
            return None
        contract = self.mesh.mart(table).contract
        columns = {column.name: column for column in contract.columns}
        for key in said:
            if key not in ("table", "where", *_OF_A_SIDE[kind]) and key in _SIDED:
                wrong = f"{key!r} says nothing to a rule of kind {kind.value}"
                self.fault((*place, key), wrong, f"it takes {', '.join(_OF_A_SIDE[kind])}")
        grouping = "key" if kind in _KEYED else "by"
        by = self.columns(said.get(grouping), (*place, grouping), columns, summed=False)
        values = self.columns(
            said.get("values"), (*place, "values"), columns, summed=kind in _SUMMED
        )
        if kind is RuleKind.FRESHNESS:
            values = self.newest(str(said["newest"]), (*place, "newest"), columns)
        if kind is RuleKind.BALANCES:
            values = (*values, *self.named(said, place, columns))
        where = ""
        if "where" in said:
            found = self.expression(str(said["where"]), (*place, "where"), columns)
            if found and found.aggregates:
                self.fault((*place, "where"), "a condition is about one row: it sums nothing")
            where = found.sql if found else ""
        return _Sided(Side(table, by, values, where), place)

    def table(self, name: str, place: Place) -> TableRef | None:
        try:
            table = TableRef.parse(name)
        except ValueError as error:
            self.fault(place, str(error))
            return None
        if self.mesh.find(table) is None:
            self.unknown(table, name, place)
            return None
        return table

    def unknown(self, table: TableRef, name: str, place: Place) -> None:
        """A table that nobody publishes, or that its domain promises and must mend first."""
        said = titled(self.root)
        _, right = withheld(self.root, table.domain, table.name, table.major, said)
        if right == Fault.ELSEWHERE:
            self.fault(place, f"{name} has a fault of its own, or is not compiled", right)
        else:
            wrong = f"no published table is called {name!r}"
            self.fault(place, wrong, nearest(name, self.tables))

    def columns(
        self, said: Any, place: Place, known: Mapping[str, Column], *, summed: bool
    ) -> tuple[tuple[str, str], ...]:
        """Names with their expressions; a bare column of totals is summed."""
        if said is None:
            return ()
        named: Iterable[tuple[str | int, str, str]]
        if isinstance(said, dict):
            named = [(name, name, str(text)) for name, text in said.items()]
        else:
            bare = "sum({})" if summed else "{}"
            named = [(n, str(text), bare.format(text)) for n, text in enumerate(said)]
        found = []
        for key, name, text in named:
            read = self.expression(text, (*place, key), known)
            if read is None:
                continue
            if read.aggregates != summed:
                wrong = f"{text!r} {'is about one row' if summed else 'sums rows up'}"
                right = "write sum(...) or count(*)" if summed else "name a column"
                self.fault((*place, key), wrong, right)
            found.append((name, read.sql))
        return tuple(found)

    def named(
        self, said: Mapping[str, Any], place: Place, known: Mapping[str, Column]
    ) -> Iterator[tuple[str, str]]:
        """When a snapshot was taken; what a movement moved, since when, and when it was told."""
        for key in ("taken", *_MOVED):
            if key in said and (found := self.expression(str(said[key]), (*place, key), known)):
                yield key, found.sql
            elif key == "reversed" and "amount" in said:
                yield key, "CAST(NULL AS TIMESTAMPTZ)"

    def newest(
        self, said: str, place: Place, known: Mapping[str, Column]
    ) -> tuple[tuple[str, str], ...]:
        if said not in known:
            self.fault(place, f"no column {said!r}", nearest(said, known))
        elif known[said].type.upper() not in ("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"):
            wrong = f"{said} is {known[said].type}: it names no instant"
            self.fault(place, wrong, "name a column of type TIMESTAMPTZ")
        return (("newest", f'max("{said}")'),)

    def expression(self, text: str, place: Place, known: Mapping[str, Column]) -> Expression | None:
        try:
            found = expression(text)
        except ValueError as error:
            self.fault(place, str(error))
            return None
        names = {name.lower() for name in known}
        for column in found.columns:
            if column.lower() not in names:
                self.fault(place, f"no column {column!r}", nearest(column, known))
        return found

    def query(self, text: str, place: Place) -> tuple[str, tuple[TableRef, ...]]:
        try:
            return query(text, set(self.mesh.tables()))
        except LookupError as error:
            table = TableRef.parse(str(error.args[0]))
            self.unknown(table, str(table).removesuffix("@1"), place)
        except ValueError as error:
            self.fault(place, str(error))
        return "", ()

    # What parts must have in common

    def alike(self, sides: Sequence[_Sided]) -> None:
        """Both sides name the same columns, so that it is known what is compared with what."""
        if len(sides) < 2:
            return
        left, right = (each.side for each in sides[:2])
        one, other = (each.place[-1] for each in sides[:2])
        left = replace(left, values=tuple(v for v in left.values if v[0] != "taken"))
        for what, ours, theirs in (
            ("groups", left.by, right.by),
            ("values", left.values, right.values),
        ):
            a, b = [name for name, _ in ours], [name for name, _ in theirs]
            if a != b:
                wrong = f"the {what} of {one} are {', '.join(a) or 'none'}, "
                wrong += f"those of {other} {', '.join(b) or 'none'}"
                right_ = "name them alike, in one order: `name: expression`"
                self.fault(sides[1].place, wrong, right_)

    def special(
        self,
        kind: RuleKind,
        sides: Sequence[_Sided],
        body: Mapping[str, Any],
        place: Place,
        batch: Batch,
    ) -> None:
        if kind is RuleKind.WEEKDAY and batch.grain is not Grain.DAY:
            self.fault((*place, "kind"), f"a {batch.grain.value} has no weekday", "grain: day")
        if kind is RuleKind.BALANCES:
            self.balances([each.side for each in sides], place)
        if kind in (RuleKind.FRESHNESS, RuleKind.BALANCES) and batch.grain is Grain.WHOLE:
            self.fault((*place, "kind"), "what is whole has no end", "give the batch a grain")
        if "at_least" in body and not 0 < _number(body["at_least"]) <= 1:
            self.fault((*place, "at_least"), "no share of rows", "write 0.99 or 99%")
        for each in sides if kind is RuleKind.ROLLUP else ():
            for name, sql in each.side.values:
                if why := not_additive(sql):
                    self.fault((*each.place, "values", name), why, "a roll-up is proven by sums")
        for each in sides:
            if each.side.table.is_source:
                self.fault((*each.place, "table"), "is landed, and not published")

    def balances(self, sides: Sequence[Side], place: Place) -> None:
        """One balance, and three tables with the same key."""
        snapshot, told, movements = sides
        if len(snapshot.values) != 2:
            right = "write a rule for each balance"
            self.fault((*place, "snapshot", "values"), "a rule is about one balance", right)
        if [name for name, _ in movements.by] != [name for name, _ in snapshot.by]:
            right = "name them alike, in one order: `name: expression`"
            wrong = "the keys of movements are not those of snapshot"
            self.fault((*place, "movements"), wrong, right)
        if movements.table in (snapshot.table, told.table):
            self.fault((*place, "movements", "table"), "movements are a table of their own")

    def guards(
        self, body: Mapping[str, Any], tables: Sequence[TableRef], place: Place
    ) -> TableRef | None:
        """The table whose product a blocking rule withholds."""
        if "guards" not in body:
            return None
        at = (*place, "guards")
        if body.get("severity") != "blocking":
            self.fault(at, "an advisory rule guards nothing", "severity: blocking, or leave it out")
        if body["kind"] in (RuleKind.WEEKDAY.value, RuleKind.BALANCES.value):
            right = "make it advisory: a gate judges what is built, not what comes before or after"
            self.fault(at, f"a rule of kind {body['kind']} guards nothing", right)
        table = self.table(str(body["guards"]), at)
        if table is not None and table not in tables:
            known = [str(each).removesuffix("@1") for each in tables]
            self.fault(at, f"the rule compares no {table}", nearest(str(table), known))
        return table

    def mapped(self, table: TableRef, batch: Batch, place: Place) -> None:
        grain, zone = self.mesh.slicing(table)
        try:
            mapping_of(batch, grain, zone)
        except ValueError as error:
            self.fault(place, f"{table} does not fit the batch's {batch.grain.value}s: {error}")

    @staticmethod
    def placed(table: TableRef, sides: Sequence[_Sided], place: Place) -> Place:
        places = [(*each.place, "table") for each in sides if each.side.table == table]
        return places[0] if places else (*place, "query")

    def tolerances(
        self, said: Any, sides: Sequence[_Sided], place: Place
    ) -> Mapping[str, Tolerance]:
        if said is None:
            return {}
        found: dict[str, Tolerance] = {}
        if general := _tolerance(said):
            found[""] = general
        known = [name for name, _ in sides[0].side.values]
        for name, each in said.get("columns", {}).items():
            if name not in known:
                self.fault((*place, "columns", name), f"no value {name!r}", nearest(name, known))
            elif near := _tolerance(each):
                found[name] = near
        return found

    def bounds(self, said: Any, place: Place) -> tuple[Decimal, Decimal] | None:
        if said is None:
            return None
        low, high = (_number(each) for each in said)
        if high < low:
            self.fault(place, f"nothing lies between {low} and {high}", "write the lower one first")
        return low, high


_PLACES = {key for keys in _OF_A_KIND.values() for key in keys}
_SIDED = {key for keys in _OF_A_SIDE.values() for key in keys}


def _number(said: Any) -> Decimal:
    """
    A number, or a share of a hundred.

    >>> _number("1%"), _number(0.5)
    (Decimal('0.01'), Decimal('0.5'))
    """
    text = str(said)
    return Decimal(text[:-1]) / 100 if text.endswith("%") else Decimal(text)


def _tolerance(said: Mapping[str, Any]) -> Tolerance | None:
    absolute, relative = (_number(said.get(key, 0)) for key in ("absolute", "relative"))
    return Tolerance(absolute, relative) if absolute or relative else None


def _hash(body: Mapping[str, Any], batch: Batch) -> str:
    """Of what decides the result: whom it belongs to and how it is told do not count."""
    told = ("description", "owner", "severity", "guards", "never_mute")
    said = {key: value for key, value in body.items() if key not in told}
    plain = json.dumps([said, batch.grain.value, batch.zone], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode()).hexdigest()[:16]
