"""
Calendars, by name: in which zone, from what time of day, and with which first weekday.

A calendar is text wherever it is stored (`Partition.zone`, the ledger's keys, a contract's zone),
and one calendar has one name: that of its time zone, followed by what is not the default.

    America/New_York                     days start at 00:00, weeks on Monday
    America/New_York@06:00               days start at 06:00, and so do weeks, months, years
    America/New_York@sunday              weeks start on Sunday
    America/New_York@06:00@sunday
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

__all__ = ["WEEKDAYS", "Calendar", "calendar", "declared", "opening"]

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Calendar:
    """
    How instants become business dates, and dates weeks.

    >>> Calendar("America/New_York", timedelta(hours=6), 6).name
    'America/New_York@06:00@sunday'
    """

    zone: str
    day_start: timedelta = timedelta(0)
    """The time of day at which a day starts: what happens before belongs to the day before."""
    first_weekday: int = 0
    """0 is Monday."""
    tz: ZoneInfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not timedelta(0) <= self.day_start < _DAY or self.day_start % timedelta(minutes=1):
            raise ValueError(f"a day starts at a minute from 00:00 to 23:59, not {self.day_start}")
        if self.first_weekday not in range(7):
            raise ValueError(f"a week has no weekday {self.first_weekday}: 0 is Monday, 6 Sunday")
        try:
            object.__setattr__(self, "tz", ZoneInfo(self.zone))
        except (KeyError, ValueError, OSError):
            raise ValueError(f"no zone {self.zone!r}") from None

    @property
    def name(self) -> str:
        """The one text that stands for this calendar."""
        minutes = self.day_start // timedelta(minutes=1)
        start = f"@{minutes // 60:02}:{minutes % 60:02}" if minutes else ""
        week = f"@{WEEKDAYS[self.first_weekday]}" if self.first_weekday else ""
        return self.zone + start + week

    @property
    def days(self) -> Calendar:
        """What its days are; the first weekday makes no difference to them."""
        return Calendar(self.zone, self.day_start)

    def date(self, instant: datetime) -> date:
        """
        The business date that the wall clock shows at an instant.

        >>> early = datetime(2013, 3, 10, 9, 30, tzinfo=UTC)  # 05:30 in New York
        >>> str(calendar("America/New_York@06:00").date(early))
        '2013-03-09'
        """
        local = instant.astimezone(self.tz)
        # An aware datetime moves along its wall clock, which is what is wanted here.
        return (local - self.day_start if self.day_start else local).date()


@lru_cache(maxsize=512)
def calendar(name: str) -> Calendar:
    """
    The calendar of this name. Raises ValueError.

    >>> calendar("Asia/Tokyo@sunday").first_weekday
    6
    >>> calendar("Asia/Tokyo@00:00")
    Traceback (most recent call last):
    ...
    ValueError: 'Asia/Tokyo@00:00' names no calendar: write Asia/Tokyo
    """
    zone, *words = name.split("@")
    day_start, first_weekday = timedelta(0), 0
    for word in words:
        if match := _TIME.fullmatch(word):
            day_start = timedelta(hours=int(match[1]), minutes=int(match[2]))
        elif word in WEEKDAYS:
            first_weekday = WEEKDAYS.index(word)
        else:
            raise ValueError(f"{name!r} names no calendar: write it like {zone}@06:00@sunday")
    found = Calendar(zone, day_start, first_weekday)
    if found.name != name:
        raise ValueError(f"{name!r} names no calendar: write {found.name}")
    return found


@lru_cache(maxsize=1 << 16)
def opening(day: date, name: str) -> datetime:
    """
    The first instant at which the business date is `day` or later, in the calendar of this name.

    >>> f"{opening(date(2013, 3, 10), 'America/New_York@06:00'):%d %H:%M}"
    '10 10:00'
    """
    of = calendar(name)
    wall = datetime(day.year, day.month, day.day, tzinfo=of.tz) + of.day_start  # the first of two
    instant = wall.astimezone(UTC)
    if instant.astimezone(of.tz).replace(tzinfo=None) == wall.replace(tzinfo=None):
        return instant
    # The clock jumped over that time, somewhere between what the two offsets make of it.
    before, after = wall.replace(fold=1).astimezone(UTC), instant
    while after - before > _SECOND:
        middle = before + _SECOND * ((after - before) // (2 * _SECOND))
        if of.date(middle) < day:
            before = middle
        else:
            after = middle
    return after


# What a declaration says


def declared(
    grain: str, zone: object, day_start: object = None, week_start: object = None
) -> tuple[str, tuple[tuple[str, str, str], ...]]:
    """
    The name of the calendar that these words mean, and what is wrong with them: the word (`zone`,
    `day_start`, `week_start`), what is wrong, and what would be right.

    >>> declared("day", "America/New_York", "06:00")
    ('America/New_York@06:00', ())
    >>> declared("week", "UTC", None, "sundy")
    ('UTC', (('week_start', "no weekday 'sundy'", "did you mean 'sunday'?"),))
    """
    wrong: list[tuple[str, str, str]] = []
    name, start, first = str(zone), timedelta(0), 0
    try:
        name = Calendar(name).zone
    except ValueError as error:
        wrong.append(("zone", str(error), _zone_like(name)))
        name = "UTC"
    if day_start is not None:
        match = _TIME.fullmatch(day_start) if isinstance(day_start, str) else None
        if grain in ("hour", "whole"):
            told = "an hour is an hour of UTC" if grain == "hour" else "a whole table has no days"
            wrong.append(("day_start", told, "leave it out"))
        elif match is None:
            wrong.append(("day_start", f"no time of day {day_start!r}", _time_like(day_start)))
        else:
            start = timedelta(hours=int(match[1]), minutes=int(match[2]))
    if week_start is not None:
        if grain != "week":
            told = f"a table by {grain} has no weeks" if grain != "whole" else "it has no weeks"
            wrong.append(("week_start", told, "leave it out"))
        elif week_start not in WEEKDAYS:
            close = difflib.get_close_matches(str(week_start).lower(), WEEKDAYS, n=1)
            right = f"did you mean {close[0]!r}?" if close else "write a weekday like sunday"
            wrong.append(("week_start", f"no weekday {week_start!r}", right))
        else:
            first = WEEKDAYS.index(str(week_start))
    return Calendar(name, start, first).name, tuple(wrong)


def _zone_like(said: str) -> str:
    """What a zone that is none was probably meant to be."""
    zone, *words = said.split("@")
    if words:
        return f"name the zone, {zone}, alone; the start of days and weeks stands beside it"
    close = difflib.get_close_matches(said, available_timezones(), n=1)
    return f"did you mean {close[0]!r}?" if close else "write a name like America/New_York"


def _time_like(said: object) -> str:
    """What a time of day that is none was probably meant to be."""
    if type(said) is int and 0 <= said < 24 * 60:
        return f'write it in quotes, "{said // 60:02}:{said % 60:02}": YAML reads it as a number'
    match = re.fullmatch(r"(\d):([0-5]\d)(:00)?|(\d\d:[0-5]\d):00", str(said))
    if match:
        return f'write "{match[4] or f"0{match[1]}:{match[2]}"}"'
    return 'write hours and minutes, like "06:00"'
