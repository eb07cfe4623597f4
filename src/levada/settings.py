"""`levada.yaml`, read in one place: the mesh's name, span, zones, warehouse and domains."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from levada.errors import DeclarationError, Fault
from levada.terms import Span

__all__ = ["Settings", "duration", "find_root", "look", "nearest", "read_settings"]

_WAREHOUSES = ("ducklake", "postgres")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_KEYS = {
    "": (
        *("mesh", "zone", "span", "live_from", "warehouse", "landing", "connections", "domains"),
        *("probe", "lease", "quiet", "dispatch", "backfill", "tell"),
    ),
    "span": ("from", "to"),
    "warehouse": ("type", "path", "database"),
    "probe": ("every", "horizon"),
    "backfill": ("batch", "parallel"),
}
_CONNECTION = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_STORES = ("s3", "gs", "az", "https", "http")
_ADDRESS = re.compile(r"\w+://[\w.:-]+(/[^?#@{}%\\\s]*)?")
_DATABASE = re.compile(r"[a-z][a-z0-9_]{0,62}")
_TAKEN = ("levada", "lake", "airflow", "postgres", "template0", "template1")
_DISPATCH = ("sensor", "ready")
_ENDS = ("from", "to")
_ONCE = "say it once"
_NEEDED = ("mesh", "zone", "span", "domains")


@dataclass(frozen=True, slots=True)
class Settings:
    """What `levada.yaml` says, with paths made absolute."""

    root: Path
    name: str
    zone: str
    span: Span
    live_from: datetime
    warehouse: str
    lake: Path
    landing: Mapping[str, Path | str]
    """Zones by name: folders, or addresses in an object store like `s3://bucket/prefix`."""
    domains: tuple[str, ...]
    probe_every: timedelta
    probe_horizon: timedelta
    lease: timedelta
    quiet: timedelta
    database: str = "warehouse"
    """The database in which a warehouse of type `postgres` lies, on the server of the ledger."""
    connections: tuple[str, ...] = ()
    """Databases outside the mesh that sources may be probed in, by the ids of their connections."""
    dispatch: str = "sensor"
    """
    Who starts a routine run. `sensor`: its timetable, and the run waits. `ready`: the reconciler,
    once all its inputs are ready, so that no run waits.
    """

    backfill_batch: int = 62
    """How many intervals a backfill builds together at most: a killed build repeats them all."""
    backfill_parallel: int = 2
    """How many builds of backfills run at once in Airflow: the slots of their pool."""

    tell: tuple[str, ...] = ()
    """The command that tells owners what befell their tables: it reads one JSON document."""

    @property
    def home(self) -> Path:
        """Where Levada keeps what it makes: compiled declarations, stages, embedded services."""
        return self.root / ".levada"


def duration(text: str) -> timedelta:
    """
    Read a duration.

    >>> duration("40d"), duration("30s")
    (datetime.timedelta(days=40), datetime.timedelta(seconds=30))
    """
    match = re.fullmatch(r"(\d+)\s*([smhdw])", str(text).strip())
    if not match:
        raise ValueError(f"{text!r} is no duration: write a number and s, m, h, d or w, like 40d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def nearest(key: str, known: Collection[str]) -> str:
    """
    What an unknown key was probably meant to be, as the second half of a fault.

    >>> nearest("grian", ["grain", "zone"])
    "did you mean 'grain'?"
    """
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(sorted(known))}"


def find_root(start: Path | None = None) -> Path:
    """The nearest folder, upwards, that holds a `levada.yaml`. Raises DeclarationError."""
    told = os.environ.get("LEVADA_PROJECT")
    here = (start or Path(told or ".")).resolve()
    for folder in (here, *here.parents):
        if (folder / "levada.yaml").is_file():
            return folder
    wrong = f"no levada.yaml here or in a folder above {here}"
    raise DeclarationError((Fault("levada.yaml", 0, wrong, "name one with --project DIR"),))


def read_settings(root: Path) -> Settings:
    """Read `levada.yaml` of this folder. Raises DeclarationError with every fault at once."""
    settings, faults = look(root)
    if faults or settings is None:
        raise DeclarationError(faults)
    return settings


def look(root: Path) -> tuple[Settings | None, tuple[Fault, ...]]:
    """The settings, as far as they can be read, and every fault of `levada.yaml`."""
    import yaml

    path = root / "levada.yaml"
    try:
        text = path.read_text()
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data: Any = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - keeps dates as strings
    except OSError as error:
        return None, (Fault("levada.yaml", 0, f"cannot be read: {error}"),)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = mark.line + 1 if mark else 0
        return None, (Fault("levada.yaml", line, f"is no YAML: {problem or error}"),)
    if not isinstance(data, dict):
        return None, (Fault("levada.yaml", 1, "is empty", "see docs/reference/declarations.md"),)
    places = list(_lines(node))
    reading = _Reading(dict(reversed(places)))
    for number, (key, line) in enumerate(places):
        if key in {earlier for earlier, _ in places[:number]}:
            reading.faults.append(Fault("levada.yaml", line, f"{key!r} is said twice", _ONCE))
    reading.keys(data)
    return reading.settings(root, data), tuple(reading.faults)


class _Reading:
    """One pass over `levada.yaml` that collects its faults."""

    def __init__(self, lines: Mapping[str, int]) -> None:
        self.lines = lines
        self.faults: list[Fault] = []

    def fault(self, key: str, wrong: str, right: str = "") -> None:
        self.faults.append(Fault("levada.yaml", self.lines.get(key, 0), wrong, right))

    def keys(self, data: dict[str, Any]) -> None:
        for section, known in _KEYS.items():
            part = data.get(section, {}) if section else data
            if not isinstance(part, dict):
                self.fault(section, f"{section!r} holds no keys", f"known: {', '.join(known)}")
                data.pop(section)
                continue
            for key in part:
                if key not in known:
                    place = f"{section}.{key}" if section else key
                    self.fault(place, f"unknown key {key!r}", nearest(key, known))
        for key in _NEEDED:
            if key not in data and key not in self.lines:
                self.faults.append(Fault("levada.yaml", 0, f"{key!r} is missing"))

    def settings(self, root: Path, data: dict[str, Any]) -> Settings | None:
        zone = str(data.get("zone", "UTC"))
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            self.fault("zone", f"no such time zone {zone!r}", "write one like America/New_York")
            zone = "UTC"
        span, live = self._span(data, zone)
        domains = data.get("domains", [])
        if not isinstance(domains, list) or not domains:
            self.fault("domains", "'domains' is a list of at least one domain")
            domains = []
        if len(set(domains)) != len(domains):
            self.fault("domains", "a domain is named twice")
        landing = data.get("landing") or {}
        if not isinstance(landing, dict):
            wrong = "'landing' names folders and addresses"
            self.fault("landing", wrong, "landing: {zone: folder}")
            landing = {}
        zones = {name: self._zone(root, name, str(place)) for name, place in landing.items()}
        tell = data.get("tell") or []
        if not isinstance(tell, list) or not all(isinstance(word, str) for word in tell):
            self.fault("tell", "'tell' is a command as a list of words", "tell: [scripts/tell]")
            tell = []
        connections = self._connections(data.get("connections") or [])
        warehouse, probe = data.get("warehouse") or {}, data.get("probe") or {}
        every = self._duration("probe.every", probe.get("every", "30s"))
        horizon = self._duration("probe.horizon", probe.get("horizon", "40d"))
        lease = self._duration("lease", data.get("lease", "30s"))
        quiet = self._duration("quiet", data.get("quiet", "0s"))
        dispatch = str(data.get("dispatch", "sensor"))
        if dispatch not in _DISPATCH:
            wrong = f"no such way to dispatch: {dispatch!r}"
            self.fault("dispatch", wrong, nearest(dispatch, _DISPATCH))
        backfill = data.get("backfill") or {}
        batch = self._count("backfill.batch", backfill.get("batch", "62"))
        parallel = self._count("backfill.parallel", backfill.get("parallel", "2"))
        if span is None or live is None:
            return None
        kind, database = self._warehouse(warehouse)
        if not span.start <= live <= span.end:
            right = "write one of its days; without it the first"
            self.fault("live_from", "'live_from' lies outside the span", right)
        return Settings(
            root=root,
            name=str(data.get("mesh", "")),
            zone=zone,
            span=span,
            live_from=live,
            warehouse=kind,
            lake=root / str(warehouse.get("path", ".levada/lake")),
            database=database,
            landing=zones,
            domains=tuple(str(d) for d in domains),
            probe_every=every,
            probe_horizon=horizon,
            lease=lease,
            quiet=quiet,
            connections=connections,
            dispatch=dispatch,
            backfill_batch=batch,
            backfill_parallel=parallel,
            tell=tuple(tell),
        )

    def _zone(self, root: Path, name: str, place: str) -> Path | str:
        """A landing zone: a folder, or an address without a slash at its end."""
        scheme, address, _ = place.partition("://")
        if not address:
            return root / place
        key = f"landing.{name}"
        if scheme not in _STORES:
            known = ", ".join(f"{each}://" for each in _STORES)
            self.fault(key, f"nothing here reads {scheme}://", f"name a folder, or {known}")
        elif not _ADDRESS.fullmatch(place) or ".." in place.split("/"):
            # What it is may be a secret: it is not said again.
            right = f"write it like {scheme}://bucket/prefix; the environment holds the credentials"
            self.fault(key, f"landing zone {name!r} is no plain address", right)
        elif importlib.util.find_spec("obstore") is None:
            wrong = f"what reads {scheme}:// is not installed"
            self.fault(key, wrong, "pip install 'levada[objects]'")
        return place.rstrip("/")

    def _warehouse(self, said: Mapping[str, Any]) -> tuple[str, str]:
        """The warehouse's type, and its database where it has one."""
        kind = str(said.get("type", "ducklake"))
        if kind not in _WAREHOUSES and kind not in _installed():
            self.fault("warehouse.type", f"no warehouse {kind!r}", nearest(kind, _WAREHOUSES))
            return "ducklake", "warehouse"
        for key, owner in (("path", "ducklake"), ("database", "postgres")):
            if key in said and kind in _WAREHOUSES and kind != owner:
                right = f"it is of type {owner}"
                self.fault(f"warehouse.{key}", f"a warehouse of type {kind} has no {key!r}", right)
        database = str(said.get("database", "warehouse"))
        if not _DATABASE.fullmatch(database):
            right = "use lower_snake_case, 63 letters at most"
            self.fault("warehouse.database", f"{database!r} cannot name a database", right)
        elif database in _TAKEN:
            right = "leave it out, or choose another name"
            self.fault("warehouse.database", f"database {database} is Levada's own", right)
        return kind, database

    def _connections(self, named: object) -> tuple[str, ...]:
        if not isinstance(named, list):
            self.fault("connections", "'connections' is a list of ids", "connections: [shop_db]")
            return ()
        for each in map(str, named):
            if not _CONNECTION.fullmatch(each):
                right = "use letters, digits and _"
                self.fault("connections", f"{each!r} is no id of a connection", right)
            elif each.startswith("levada_"):  # the roles of Levada itself
                self.fault("connections", f"{each} is the platform's own", "name another database")
        return tuple(map(str, named))

    def _span(self, data: dict[str, Any], zone: str) -> tuple[Span | None, datetime | None]:
        part = data.get("span")
        if not isinstance(part, dict):
            return None, None
        missing = [end for end in _ENDS if end not in part]
        if missing:
            right = "span: {from: 2013-01-01, to: 2013-03-10}"
            self.fault("span", f"'span' lacks {' and '.join(missing)}", right)
        ends = [self._date(f"span.{end}", part[end]) if end in part else None for end in _ENDS]
        first, last = ends
        if first is None or last is None:
            if "live_from" in data:
                self._date("live_from", data["live_from"])
            return None, None
        if last < first:
            self.fault("span", f"the span {first} .. {last} is empty", "'to' is the last day")
            return None, None
        live = self._date("live_from", data.get("live_from", str(first)))
        if live is None:
            return None, None
        begin = datetime(live.year, live.month, live.day, tzinfo=ZoneInfo(zone))
        return Span.days(first, last, zone), begin

    def _date(self, key: str, value: object) -> date | None:
        try:
            return date.fromisoformat(str(value))
        except ValueError:
            self.fault(key, f"{value!r} is no date", "write it like 2013-03-10")
            return None

    def _count(self, key: str, value: object) -> int:
        if str(value).isdigit() and int(str(value)) > 0:
            return int(str(value))
        self.fault(key, f"{value!r} is no count", "write a number of at least 1")
        return 1

    def _duration(self, key: str, value: object) -> timedelta:
        try:
            return duration(str(value))
        except ValueError as error:
            self.fault(key, str(error))
            return timedelta(seconds=30)


def _installed() -> frozenset[str]:
    """The warehouses of other distributions."""
    from importlib.metadata import entry_points

    return frozenset(point.name for point in entry_points(group="levada.warehouses"))


def _lines(node: Any, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Dotted keys of a mapping node with their lines."""
    for key, value in getattr(node, "value", None) or ():
        place = f"{prefix}{key.value}"
        yield place, key.start_mark.line + 1
        if type(value).__name__ == "MappingNode":
            yield from _lines(value, f"{place}.")
