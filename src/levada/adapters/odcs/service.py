"""
The service levels of a contract: how fresh its rows are, how late it may be, when it ends.

What data alone can show is a check. What the calendar of the table decides is held against it here.
The standard's other levels are about a service, and are told to people; a level that nobody knows
is a fault, because it would promise nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from levada.adapters import sqlrule
from levada.adapters.documents import Document, Place
from levada.audit import METRICS
from levada.errors import Fault
from levada.settings import nearest
from levada.terms import Check, Column, Grain, Severity

__all__ = ["LEVELS", "checks", "level", "lifetime"]

LEVELS: Mapping[str, str] = {
    "availability": "av",
    "endOfLife": "el",
    "endOfSupport": "es",
    "errorRate": "er",
    "freshness": "",
    "frequency": "fy",
    "generalAvailability": "ga",
    "latency": "ly",
    "retention": "re",
    "retirement": "",
    "throughput": "th",
    "timeOfAvailability": "",
    "timeToDetect": "td",
    "timeToNotify": "tn",
    "timeToRepair": "tr",
}
"""The properties of `slaProperties` and the standard's short names for them, in any case."""

_DATES = ("endOfLife", "endOfSupport", "generalAvailability", "retirement")
_HOURS = {
    1 / 3600: "s sec second seconds",
    1 / 60: "min minute minutes",
    1.0: "h hr hour hours",
    24.0: "d day days",
    168.0: "w week weeks",
    730.5: "mo month months",
    8766.0: "y yr year years",
}
_UNITS = {unit: hours for hours, units in _HOURS.items() for unit in units.split()}
_GRAINS = {Grain.HOUR: 1, Grain.DAY: 23, Grain.WEEK: 167, Grain.MONTH: 671, Grain.YEAR: 8759}
"""Hours of the shortest slice; a quarter is left to its months."""
_SEVERITIES = {
    "error": Severity.BLOCKING,
    "warning": Severity.ADVISORY,
    "info": Severity.ADVISORY,
}


def level(said: object) -> str:
    """
    The full name of a level, or "".

    >>> level("LY"), level("Latency"), level("lateness")
    ('latency', 'latency', '')
    """
    word = str(said).lower()
    return next((name for name, short in LEVELS.items() if word in (name.lower(), short)), "")


def _entries(document: Document) -> Iterator[tuple[Place, Mapping[str, Any], str]]:
    said: Any = document.value.get("slaProperties")
    for index, entry in enumerate(said if isinstance(said, list) else ()):
        if isinstance(entry, dict) and "property" in entry:
            yield ("slaProperties", index), entry, level(entry["property"])


def lifetime(document: Document) -> tuple[date | None, date | None, tuple[Fault, ...]]:
    """When support ends (consumers are told), and when the table does (it is held)."""
    found: dict[str, date] = {}
    faults: list[Fault] = []
    for place, entry, name in _entries(document):
        if name in _DATES:
            try:
                found[name] = date.fromisoformat(str(entry.get("value"))[:10])
            except ValueError:
                wrong = f"{name} {entry.get('value')!r} is no date"
                faults.append(document.fault((*place, "value"), wrong, "write 2027-01-31"))
    deprecated = found.get("endOfSupport")
    sunset = found.get("endOfLife", found.get("retirement"))
    if deprecated and sunset and sunset < deprecated:
        wrong = f"it ends on {sunset}, before its support does"
        right = f"let endOfLife follow {deprecated}"
        faults.append(document.fault(("slaProperties",), wrong, right))
    return deprecated, sunset, tuple(faults)


def checks(
    document: Document, columns: Sequence[Column], interval: str | None, grain: Grain | None
) -> Iterator[tuple[Place, Check] | Fault]:
    """The levels that an audit measures, and what is wrong with any of them."""
    for place, entry, name in _entries(document):
        with document.guard():
            if not name:
                wrong = f"nobody knows the service level {entry['property']!r}"
                right = nearest(str(entry["property"]), LEVELS)
                yield document.fault((*place, "property"), wrong, right)
                continue
            for key in ("schedule", "scheduler"):
                if key in entry and name in ("freshness", "latency"):
                    wrong = f"{name} is measured by every audit, not by {key!r}"
                    yield document.fault((*place, key), wrong, f"leave out {key}")
            if name not in ("freshness", "frequency", "latency"):
                continue
            hours = _hours(document, place, entry, name)
            if isinstance(hours, Fault):
                yield hours
                continue
            match name:
                case "frequency":
                    yield from _frequency(document, place, hours, grain)
                case "freshness":
                    yield from _freshness(document, place, entry, hours, columns, interval)
                case "latency":
                    yield from _latency(document, place, entry, hours, interval, grain)


def _hours(document: Document, place: Place, entry: Mapping[str, Any], name: str) -> float | Fault:
    value, unit = entry["value"], entry.get("unit")
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return document.fault((*place, "value"), f"{name} is {value!r}", "write a number")
    if str(unit).lower() not in _UNITS:
        right = "write unit: h, d or another of " + ", ".join(_UNITS)
        return document.fault((*place, "unit"), f"the unit of {name} is {unit!r}", right)
    return float(value * _UNITS[str(unit).lower()])


def _frequency(
    document: Document, place: Place, hours: float, grain: Grain | None
) -> Iterator[Fault]:
    if grain is not None and hours < _GRAINS.get(grain, 0):
        wrong = f"a table by {grain.value} is not published every {hours:g} hours"
        yield document.fault((*place, "value"), wrong, f"promise one {grain.value}")


def _severity(document: Document, place: Place, entry: Mapping[str, Any]) -> Severity | Fault:
    """What the level says, and a warning if it says nothing."""
    said = {p["property"]: p["value"] for p in entry.get("customProperties", ())}
    found = said.get("severity", "warning")
    if found not in _SEVERITIES:
        wrong = f"severity is {found!r}"
        return document.fault((*place, "customProperties"), wrong, nearest(str(found), _SEVERITIES))
    return _SEVERITIES[found]


def _freshness(
    document: Document,
    place: Place,
    entry: Mapping[str, Any],
    hours: float,
    columns: Sequence[Column],
    interval: str | None,
) -> Iterator[tuple[Place, Check] | Fault]:
    severity = _severity(document, place, entry)
    if isinstance(severity, Fault):
        yield severity
        return
    element = entry.get("element", document.value.get("slaDefaultElement", interval))
    name = str(element or "").rpartition(".")[2]
    column = next((c for c in columns if c.name == name), None)
    if column is None:
        if "" not in (names := [c.name for c in columns]):
            wrong = f"no column {name!r} is promised" if name else "freshness is of no column"
            right = nearest(name, names) if name else "name it: element: table.column"
            yield document.fault((*place, "element"), wrong, right)
        return
    try:
        kind = sqlrule.column_type(column.type)
    except ValueError:
        return  # told where the column stands
    if kind != "TIMESTAMP WITH TIME ZONE" and not (kind == "DATE" and name == interval):
        wrong = f"freshness of {name} cannot be measured: it is {kind}"
        right = "name a TIMESTAMPTZ, or the DATE of the interval"
        yield document.fault((*place, "element"), wrong, right)
        return
    yield place, _check("freshness", name, entry, hours, severity)


def _latency(
    document: Document,
    place: Place,
    entry: Mapping[str, Any],
    hours: float,
    interval: str | None,
    grain: Grain | None,
) -> Iterator[tuple[Place, Check] | Fault]:
    severity = _severity(document, place, entry)
    if isinstance(severity, Fault):
        yield severity
    elif severity is Severity.BLOCKING:
        wrong = "a table that is late cannot be mended by withholding it"
        yield document.fault((*place, "customProperties"), wrong, "write severity: warning")
    elif grain is Grain.WHOLE:
        wrong = "a whole table has no end that it could be late after"
        yield document.fault((*place, "property"), wrong, "promise its freshness")
    elif interval is None:
        return  # told where the table says its slices
    elif str(entry.get("element", interval)).rpartition(".")[2] != interval:
        wrong = "latency counts from the end of the interval"
        yield document.fault((*place, "element"), wrong, f"leave out element, or name {interval}")
    else:
        yield place, _check("latency", None, entry, hours, severity)


def _check(
    metric: str,
    column: str | None,
    entry: Mapping[str, Any],
    hours: float,
    severity: Severity,
) -> Check:
    return Check(
        f"sla.{entry.get('id') or metric}",
        metric,
        column,
        "mustBeLessOrEqualTo",
        (hours,),
        "hours",
        severity=severity,
        dimension="timeliness",
        origin="sla",
        description=entry.get("description") or METRICS[metric],
    )
