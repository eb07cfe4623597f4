"""
Tables outside the mesh, as a dbt source's `meta.levada` declares them: files, a query, or a table.

A query and `complete_when` name the partition by `:start`, `:end` and `:key`, as SQL names things
that are put in later. They are put in as columns, so that one statement asks for any number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from levada import calendars
from levada.settings import Settings, nearest
from levada.terms import FileProbe, Grain, Owner, Probe, QueryProbe, Source, TableProbe, TableRef

__all__ = ["Described", "names", "placed", "source_of"]

_ANY = ("grain", "calendar", "day_start", "week_start", "owner")
_KEYS: Mapping[str, tuple[str, ...]] = {
    "files": ("zone", "files", "marker"),
    "query": ("connection", "query"),
    "postgres": ("connection", "postgres", "time", "version", "complete_when"),
}
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "files": ("zone", "files", "grain"),
    "query": ("connection", "query", "grain"),
    "postgres": ("connection", "postgres", "grain"),
}
_SLICE = ("start", "end", "key")
_TABLE = re.compile(r"\w+(\.\w+)?")
# What stands in quotes or in a comment is no name, nor is what follows the colons of a cast.
_NAME = re.compile(
    r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|::|:([A-Za-z_]\w*)|(;)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Described:
    """One table of a dbt source, as its YAML describes it."""

    domain: str
    source: str
    table: str
    node: str
    columns: tuple[str, ...]
    meta: Mapping[str, Any]


def names(sql: str) -> tuple[str, ...]:
    """
    The names that a text of SQL wants put in.

    >>> names("select max(at)::text from loads where day = :start and note <> ':key'")
    ('start',)
    """
    return tuple(dict.fromkeys(m[1] for m in _NAME.finditer(sql) if m[1]))


def placed(sql: str, places: Mapping[str, str]) -> str:
    """
    The text with something in place of each name.

    >>> placed("select :key::date -- at :start", {"key": "s.key", "start": "s.start"})
    'select s.key::date -- at :start'
    """
    return _NAME.sub(lambda m: places.get(m[1], m[0]) if m[1] else m[0], sql)


def source_of(
    settings: Settings, described: Described
) -> tuple[Source | None, list[tuple[str, str]]]:
    """The source, unless it cannot be made of what is said; and every fault: wrong, and right."""
    reading = _Reading(settings, described)
    source = reading.source()
    return source, reading.faults


class _Reading:
    """One look at one source that collects its faults."""

    def __init__(self, settings: Settings, described: Described) -> None:
        self.settings, self.described, self.meta = settings, described, described.meta
        self.faults: list[tuple[str, str]] = []

    def fault(self, wrong: str, right: str = "") -> None:
        named = f"source {self.described.source}.{self.described.table}"
        self.faults.append((f"{named}: {wrong}", right))

    def source(self) -> Source | None:
        ways = [way for way in _KEYS if way in self.meta]
        if len(ways) > 1:
            self.fault(f"is probed by {' and by '.join(ways)}", "say one of them")
            return None
        way = ways[0] if ways else "files"
        self._keys(way)
        grain, zone = self._slicing()
        if missing := [key for key in _NEEDED[way] if key not in self.meta]:
            ways_said = "" if ways else "say files, query or postgres"
            self.fault(f"meta.levada lacks {', '.join(missing)}", ways_said)
        found = self._files(grain) if way == "files" else self._asked(way, grain)
        if not self.described.columns and way != "query":
            right = "list the header, in order" if way == "files" else "list those that are read"
            self.fault("declares no columns", right)
        if missing or grain is None or found is None:
            return None
        location, probe = found
        try:
            table = TableRef(
                self.described.domain, f"{self.described.source}.{self.described.table}", 0
            )
        except ValueError as error:
            self.fault(str(error))
            return None
        return Source(
            table=table,
            grain=grain,
            zone=zone,
            location=location,
            columns=self.described.columns,
            node=self.described.node,
            owner=Owner(str(self.meta.get("owner", self.described.domain))),
            probe=probe,
        )

    def _keys(self, way: str) -> None:
        known = (*_ANY, *_KEYS[way])
        others = {key: each for each, keys in _KEYS.items() for key in keys if key not in known}
        for key in self.meta:
            if key in others:
                self.fault(f"{key!r} belongs to {others[key]}", f"this source is probed by {way}")
            elif key not in known:
                self.fault(f"unknown key {key!r}", nearest(key, known))

    def _slicing(self) -> tuple[Grain | None, str]:
        said = self.meta.get("grain")
        zone, wrongs = calendars.declared(
            str(said),
            self.meta.get("calendar", "UTC"),
            self.meta.get("day_start"),
            self.meta.get("week_start"),
        )
        for _, wrong, right in wrongs:
            self.fault(wrong, right)
        try:
            return (Grain(said) if said is not None else None), zone
        except ValueError:
            self.fault(f"no grain {said!r}", nearest(str(said), [g.value for g in Grain]))
            return None, zone

    def _files(self, grain: Grain | None) -> tuple[str, Probe] | None:
        folder, start = None, None if grain is Grain.WHOLE else datetime(2013, 1, 1, tzinfo=UTC)
        if (zone := self.meta.get("zone")) is not None:
            folder = self.settings.landing.get(str(zone))
            if folder is None:
                known = nearest(str(zone), list(self.settings.landing))
                self.fault(f"no landing zone {zone!r}", known)
        patterns = [str(self.meta.get(key) or "") for key in ("files", "marker")]
        for pattern in patterns:
            try:
                pattern.format(start=start)
            except (LookupError, ValueError, AttributeError, TypeError):
                right = "a whole table has no start" if start is None else ""
                right = right or "write it like {start:%Y-%m-%d}.csv"
                self.fault(f"{pattern!r} names no file", right)
            if PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
                self.fault(f"{pattern!r} leads out of its landing zone", "name a file in it")
        if folder is None:
            return None
        if isinstance(folder, Path):
            folder = folder.relative_to(self.settings.root).as_posix()
        inside = "" if folder == "." else f"{folder}/"
        files, marker = (f"{inside}{PurePosixPath(each)}" if each else "" for each in patterns)
        return files, FileProbe(marker, folder)

    def _asked(self, way: str, grain: Grain | None) -> tuple[str, Probe] | None:
        connection = str(self.meta.get("connection", ""))
        if connection and connection not in self.settings.connections:
            known = nearest(connection, self.settings.connections or ["none yet"])
            self.fault(f"levada.yaml names no connection {connection!r}", known)
        if way == "query":
            sql = self._sql("query", _SLICE)
            return f"{connection}:query", QueryProbe(connection, sql)
        table = str(self.meta.get("postgres", ""))
        if not _TABLE.fullmatch(table):
            self.fault(f"{table!r} is no table", "postgres: schema.table")
        time = str(self.meta.get("time", ""))
        if self.meta.get("day_start"):
            wrong = "a table's dates are calendar dates: day_start cannot cut them"
            self.fault(wrong, "slice it by the hour, and roll the hours up")
        if grain is Grain.WHOLE and time:
            self.fault("a whole table has no time", "leave it out")
        elif grain not in (None, Grain.WHOLE) and not time:
            self.fault("lacks time", "name the column by which its rows belong to an interval")
        probe = TableProbe(
            connection=connection,
            table=table,
            time=time,
            version=str(self.meta.get("version", "")),
            complete_when=self._sql("complete_when", (*_SLICE, "rows")),
        )
        return f"{connection}:{table}", probe

    def _sql(self, key: str, known: Sequence[str]) -> str:
        sql = str(self.meta.get(key, "")).strip().removesuffix(";").rstrip()
        if any(match[2] for match in _NAME.finditer(sql)):
            self.fault(f"{key} holds more than one statement")
        for name in _others(names(sql), known):
            said = nearest(name, known).replace("'", "")
            self.fault(f"{key} names :{name}, which nothing puts in", said)
        if key == "query" and sql and not re.match(r"(?i)\s*(select|with)\b", sql):
            self.fault("query is no SELECT", "it answers with the fingerprint of one interval")
        return sql


def _others(said: Iterable[str], known: Sequence[str]) -> list[str]:
    return [name for name in said if name not in known]
