"""
An oracle for calendars: a walk through real time, minute by minute, looking at wall clocks.

It knows three facts of the standard library and numpy: what a wall clock shows at an instant, which
date comes after which, and how to sort. It shares no code with Levada.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

__all__ = ["EPOCH", "GRAINS", "Cut", "changes", "cut", "instant", "minute"]

Numbers = NDArray[np.int64]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)
GRAINS = ("hour", "day", "week", "month", "quarter", "year")


def minute(at: datetime) -> int:
    """Which minute since 1970 an instant lies in."""
    return (at - EPOCH) // timedelta(minutes=1)


def instant(of: int | np.int64) -> datetime:
    """When a minute since 1970 begins."""
    return EPOCH + timedelta(minutes=int(of))


def _offset(zone: ZoneInfo, at: datetime) -> int:
    """How many minutes the wall clock is ahead of UTC."""
    ahead = at.astimezone(zone).utcoffset()
    assert ahead is not None
    assert not ahead % timedelta(minutes=1), f"{zone} is {ahead} ahead at {at}"
    return ahead // timedelta(minutes=1)


def _jumps(zone: ZoneInfo, first: datetime, stop: datetime) -> Iterator[datetime]:
    """The first minutes of new offsets: by hours, by minutes where an hour made a difference."""
    before = _offset(zone, first)
    while first < stop:
        after = _offset(zone, first + _HOUR)
        if after != before:
            for n in range(1, 61):
                at = first + timedelta(minutes=n)
                if _offset(zone, at) != before:
                    before = _offset(zone, at)
                    yield at
        first += _HOUR


@lru_cache(maxsize=256)
def changes(zone: str, first: int, last: int) -> tuple[datetime, ...]:
    """Every change of a zone's offset in these years."""
    years = datetime(first, 1, 1, tzinfo=UTC), datetime(last + 1, 1, 1, tzinfo=UTC)
    return tuple(_jumps(ZoneInfo(zone), *years))


@lru_cache(maxsize=2)
def _walls(zone: str, first: int, stop: int) -> NDArray[np.int32]:
    """What the wall clock shows at every minute: minutes since its own 1970."""
    tz = ZoneInfo(zone)
    bounds = [first, *(minute(at) for at in _jumps(tz, instant(first), instant(stop))), stop]
    shown = np.arange(first, stop, dtype=np.int32)
    for since, until in itertools.pairwise(bounds):
        shown[since - first : until - first] += _offset(tz, instant(since))
    return shown


@dataclass(frozen=True, slots=True)
class Cut:
    """The slices that a walk saw whole: where each begins and ends, and its first date."""

    starts: Numbers
    """One more than there are slices: the last is the end of the last."""
    keys: tuple[str, ...]

    def at(self, of: int) -> int:
        """Which slice holds a minute."""
        return int(np.searchsorted(self.starts, of, side="right")) - 1

    def between(self, first: int, stop: int) -> range:
        """Which slices begin in a stretch of minutes."""
        low, high = np.searchsorted(self.starts[:-1], [first, stop], side="left")
        return range(int(low), int(high))

    def inside(self, first: int, stop: int) -> list[int]:
        """Which slices lie wholly in a stretch of minutes."""
        return [n for n in self.between(first, stop) if self.starts[n + 1] <= stop]


def _labels(grain: str, days: Numbers, first_weekday: int) -> Numbers:
    """A number that all dates of one period, and no others, have in common."""
    dates = days.astype("datetime64[D]")
    match grain:
        case "day":
            return days
        case "week":
            # Number every date by the occurrences of the first weekday up to it.
            every = np.arange(days[0] - 7, days[-1] + 1)
            falls = np.array([date.fromordinal(int(n) + 719163).weekday() for n in every])
            counted: Numbers = np.cumsum(falls == first_weekday)[days - every[0]]
            return counted
        case "month":
            return dates.astype("datetime64[M]").astype(np.int64)
        case "quarter":
            return dates.astype("datetime64[M]").astype(np.int64) // 3
        case _:
            return dates.astype("datetime64[Y]").astype(np.int64)


@lru_cache(maxsize=256)
def cut(zone: str, day_start: int, first_weekday: int, first: int, stop: int) -> dict[str, Cut]:
    """
    The slices of every grain between two minutes, in a zone whose days start so many minutes after
    midnight. A day begins with the first minute whose clock, set back by `day_start`, shows its
    date or a later one.
    """
    newest = _walls(zone, first, stop) - np.int32(day_start)
    newest //= 24 * 60
    np.maximum.accumulate(newest, out=newest)
    begins = np.flatnonzero(newest[1:] > newest[:-1]) + 1
    days = newest[begins].astype(np.int64)
    found: dict[str, Cut] = {}
    for grain in GRAINS[1:]:
        labels = _labels(grain, days, first_weekday)
        changed = np.flatnonzero(labels[1:] != labels[:-1]) + 1
        keys = tuple(str(day) for day in days[changed[:-1]].astype("datetime64[D]"))
        found[grain] = Cut(begins[changed] + first, keys)
    return {"hour": _hours(first, stop), **found}


@lru_cache(maxsize=4)
def _hours(first: int, stop: int) -> Cut:
    hours = np.arange(-(-first // 60) * 60, stop, 60)
    stamps = hours[:-1].astype("datetime64[m]").astype("datetime64[h]")
    return Cut(hours, tuple(f"{stamp}Z" for stamp in stamps))
