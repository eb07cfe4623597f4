"""
Calendars with a start of days and weeks of their own, against a walk through real time around every
change of every clock. `make prove` walks all of 2000 to 2035; the gate draws samples.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from walk import Cut, changes, cut, instant, minute

from levada.intervals import (
    bounds,
    containing,
    day_from,
    following,
    mapped,
    parse,
    preceding,
    readers,
    within,
)
from levada.terms import (
    FanOut,
    Grain,
    Identity,
    Lag,
    Partition,
    PartitionMapping,
    Rollup,
    Span,
    Trailing,
)

ZONES = (
    "Africa/Cairo",
    "Africa/Casablanca",  # changes for Ramadan
    "Africa/Juba",
    "America/Adak",
    "America/Caracas",  # half an hour, for some years
    "America/Havana",
    "America/Indiana/Knox",
    "America/New_York",
    "America/Nuuk",
    "America/Santiago",
    "America/Sao_Paulo",  # at midnight
    "America/Scoresbysund",
    "America/St_Johns",  # at 00:01, so that yesterday's date came back
    "Antarctica/Casey",
    "Antarctica/Troll",  # two hours
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",  # 45 minutes
    "Asia/Kolkata",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Atlantic/Azores",
    "Australia/Eucla",
    "Australia/Lord_Howe",  # half an hour for summer
    "Europe/Berlin",
    "Europe/Istanbul",
    "Europe/Moscow",
    "Europe/Volgograd",
    "Pacific/Apia",  # had no 30 December 2011
    "Pacific/Chatham",
    "Pacific/Fakaofo",  # neither
    "Pacific/Kiritimati",
    "UTC",
)
CALENDARS = ((0, 0), (6 * 60, 6), (2 * 60 + 30, 5), (23 * 60 + 45, 2))
"""Starts of days, in minutes, and first weekdays."""
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
WHOLE_WALK = minute(datetime(1996, 1, 1, tzinfo=UTC)), minute(datetime(2039, 1, 1, tzinfo=UTC))
PROVEN = datetime(2000, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)
DAY = 24 * 60
SEED = int(os.environ.get("LEVADA_SEED", "20111230"))
HALF_SPANS = {"hour": 3, "day": 6, "week": 20, "month": 75, "quarter": 200, "year": 500}
"""How many days before and after a change are looked at, by the coarser grain."""
GRAINS = tuple(HALF_SPANS)
COARSE = (
    ("day", "month"),
    ("week", "month"),
    ("hour", "month"),
    ("day", "quarter"),
    ("week", "quarter"),
    ("month", "quarter"),
    ("day", "year"),
    ("week", "year"),
    ("quarter", "year"),
)
"""Pairs of grains with long spans: each change is met by one of them, the others by all."""


@dataclass(frozen=True, slots=True)
class Walked:
    """One calendar: as Levada names it, and as the oracle cuts it."""

    zone: str
    day_start: int
    first_weekday: int
    walk: tuple[int, int]
    name: str = field(init=False)

    def __post_init__(self) -> None:
        hour, past = divmod(self.day_start, 60)
        start = f"@{hour:02}:{past:02}" if self.day_start else ""
        week = f"@{WEEKDAYS[self.first_weekday]}" if self.first_weekday else ""
        object.__setattr__(self, "name", self.zone + start + week)

    def cut(self, grain: str) -> Cut:
        return cut(self.zone, self.day_start, self.first_weekday, *self.walk)[grain]

    def slice(self, grain: str, n: int) -> Partition:
        return Partition(Grain(grain), instant(self.cut(grain).starts[n]), self.name)

    def slices(self, grain: str, which: Iterable[int]) -> tuple[Partition, ...]:
        return tuple(self.slice(grain, n) for n in which)


def check_slice(walked: Walked, grain: str, n: int) -> None:
    """One slice, by every function that knows one slice."""
    cut, found = walked.cut(grain), walked.slice(grain, n)
    first, stop = instant(cut.starts[n]), instant(cut.starts[n + 1])
    told = (walked.name, grain, cut.keys[n])
    assert bounds(found) == (first, stop), told
    assert found.key == cut.keys[n], told
    assert parse(found.grain, found.key, walked.name) == found, told
    assert containing(found.grain, first, walked.name) == found, told
    assert containing(found.grain, stop - timedelta(microseconds=1), walked.name) == found, told
    assert following(found) == walked.slice(grain, n + 1), told
    assert preceding(found) == walked.slice(grain, n - 1), told
    if grain == "day":
        assert day_from(first, walked.name).isoformat() == cut.keys[n], told
        later = first + timedelta(minutes=1)
        assert day_from(later, walked.name).isoformat() == cut.keys[n + 1], told


def check_instants(walked: Walked, change: datetime, grains: Iterable[str] = GRAINS) -> None:
    """Every minute of the hours around a change, and every hour of the days around it."""
    middle = minute(change)
    minutes = {*range(middle - 100, middle + 101), *range(middle - 3 * DAY, middle + 3 * DAY, 59)}
    for grain in grains:
        cut = walked.cut(grain)
        for each in minutes:
            found = containing(Grain(grain), instant(each), walked.name)
            expected = instant(cut.starts[cut.at(each)])
            assert found.start == expected, (walked.name, grain, instant(each))


def check_within(walked: Walked, change: datetime) -> None:
    """What lies in a span whose ends are no slice's ends, and in one whose ends are."""
    for grain, days in HALF_SPANS.items():
        cut = walked.cut(grain)
        low, high = minute(change) - days * DAY - 17, minute(change) + days * DAY + 11
        exact = int(cut.starts[cut.at(low)]), int(cut.starts[cut.at(high)])
        for span in ((low, high), exact) if days < 200 else ((low, high),):
            found = within(Grain(grain), walked.name, Span(*map(instant, span)))
            assert found == walked.slices(grain, cut.inside(*span)), (walked.name, grain, change)


def reads(mapping: PartitionMapping, down: Cut, n: int, up: Cut) -> list[int]:
    """Which slices one slice reads, told from where the walk saw them begin and end."""
    match mapping:
        case Rollup():
            return list(up.between(int(down.starts[n]), int(down.starts[n + 1])))
        case FanOut():
            return [up.at(int(down.starts[n]))]
        case Lag(by):
            return [n - by]
        case Trailing(by):
            return list(range(n - by + 1, n + 1))
        case _:
            return [n]


def check_mapping_around(
    mapping: PartitionMapping, up: tuple[Walked, str], down: tuple[Walked, str], change: datetime
) -> None:
    """What the slices around a change and at a span's ends read, and who reads them."""
    (there, up_grain), (here, grain) = up, down
    days = max(HALF_SPANS[up_grain], HALF_SPANS[grain])
    low, high = minute(change) - days * DAY - 17, minute(change) + days * DAY + 11
    span = Span(instant(low), instant(high))
    ups, downs = there.cut(up_grain), here.cut(grain)
    told = (mapping, there.name, up_grain, here.name, grain, change)
    middle, shown = downs.at(minute(change)), downs.inside(low, high)
    possible = set(ups.inside(low, high))
    for n in {*range(middle - 1, middle + 2), *shown[:1], *shown[-1:]}:
        wanted = reads(mapping, downs, n, ups)
        found = mapped(mapping, here.slice(grain, n), Grain(up_grain), there.name, span)
        inside = [each for each in wanted if each in possible]
        assert found.partitions == there.slices(up_grain, inside), told
        outside = there.slices(up_grain, [each for each in wanted if each not in possible])
        assert tuple(p for p, _ in found.impossible if p) == outside, told
        assert found.total == max(1, len(wanted)), told
    read_by: dict[int, list[int]] = {}
    for n in shown:
        for each in reads(mapping, downs, n, ups):
            read_by.setdefault(each, []).append(n)
    middle, ordered = ups.at(minute(change)), sorted(possible)
    for n in {*range(middle - 2, middle + 3), *ordered[:2], *ordered[-2:]} & possible:
        found_readers = readers(mapping, there.slice(up_grain, n), Grain(grain), here.name, span)
        assert found_readers == here.slices(grain, read_by.get(n, ())), told


STEPS = (Identity(), Lag(1), Trailing(2), Lag(3), Trailing(7))


def edges(
    one: Walked, other: Walked, grains: Iterable[str], steps: Iterable[PartitionMapping] = STEPS
) -> Iterator[tuple[PartitionMapping, tuple[Walked, str], tuple[Walked, str]]]:
    """Every kind of edge between two calendars, or inside one."""
    grains = tuple(grains)
    for grain in grains:
        ends = [(one, one)] if grain != "hour" else [(one, one), (one, other)]
        for up, down in ends:
            for mapping in steps:
                yield mapping, (up, grain), (down, grain)
    for place, fine in enumerate(grains):
        for coarse in grains[place + 1 :]:
            for here, there in ((one, one), (one, other), (other, one)):
                yield Rollup(), (here, fine), (there, coarse)
                yield FanOut(), (there, coarse), (here, fine)


# All of it


@pytest.mark.prove
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("zone", ZONES)
def test_every_slice_and_every_clock_change_from_2000_to_2035_equals_a_walk(zone: str) -> None:
    found = changes(zone, 2000, 2035)
    slices = mappings = 0
    calendars = [Walked(zone, *each, WHOLE_WALK) for each in CALENDARS]
    elsewhere = "Pacific/Chatham" if zone == "America/New_York" else "America/New_York"
    others = [Walked(elsewhere, *each, WHOLE_WALK) for each in CALENDARS]
    for walked in calendars:
        for grain in GRAINS[1:]:
            for n in walked.cut(grain).between(*map(minute, PROVEN)):
                check_slice(walked, grain, n)
                slices += 1
        for change in found:
            check_instants(walked, change)
            check_within(walked, change)
            for n in range(-2, 3):
                hours = walked.cut("hour")
                check_slice(walked, "hour", hours.at(minute(change)) + n)
    for number, change in enumerate(found):
        one, other = calendars[number % 4], others[(number // 4 + number) % 4]
        for mapping, up, down in (
            *edges(one, other, GRAINS[:3]),
            *edges(one, other, COARSE[number % len(COARSE)], STEPS[:3]),
        ):
            check_mapping_around(mapping, up, down, change)
            mappings += 1
    print(f"{zone}: {len(found)} changes, {slices} slices, {mappings} edges at a change, 0 wrong")


# A sample of it


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, datetime]:
    """A zone, and one of the changes of its clock, or a day on which it did not change."""
    zone, year = draw(st.sampled_from(ZONES)), draw(st.integers(2000, 2035))
    found = changes(zone, year, year) or (datetime(year, 2, 28, tzinfo=UTC),)
    return zone, draw(st.sampled_from(found))


starts = st.one_of(st.sampled_from([0, 6 * 60, 30, 2 * 60 + 30]), st.integers(0, DAY - 1))
weekdays = st.integers(0, 6)
pairs = st.lists(st.sampled_from(GRAINS[:4]), min_size=2, max_size=2, unique=True)


@pytest.mark.parametrize("calendar", [*CALENDARS[:2], (30, 0)])
@pytest.mark.parametrize(
    ("zone", "year", "month"),
    [
        ("America/St_Johns", 2010, 11),  # back over midnight: a date is shown twice
        ("America/Sao_Paulo", 2013, 10),  # midnight is skipped
        ("Pacific/Apia", 2011, 12),  # a date is skipped
        ("Australia/Lord_Howe", 2013, 4),  # half an hour
        ("Antarctica/Troll", 2013, 3),  # two hours
    ],
)
def test_a_hard_change_equals_a_walk_at_every_minute_around_it(
    zone: str, year: int, month: int, calendar: tuple[int, int]
) -> None:
    (change,) = (at for at in changes(zone, year, year) if at.month == month)
    around = minute(change - timedelta(days=60)), minute(change + timedelta(days=60))
    walked = Walked(zone, *calendar, around)
    check_instants(walked, change, GRAINS[:3])
    for grain in GRAINS[:3]:
        middle = walked.cut(grain).at(minute(change))
        for n in range(middle - 2, middle + 3):
            check_slice(walked, grain, n)


@pytest.mark.thorough
@seed(SEED)
@settings(max_examples=25, deadline=None, database=None)
@given(moments(), starts, weekdays, st.sampled_from(ZONES), starts, weekdays, pairs, st.randoms())
def test_a_calendar_equals_a_walk_around_a_change_of_its_clock(
    moment: tuple[str, datetime],
    start: int,
    weekday: int,
    elsewhere: str,
    other_start: int,
    other_weekday: int,
    grains: list[str],
    random: Random,
) -> None:
    zone, change = moment
    around = minute(change - timedelta(days=310)), minute(change + timedelta(days=310))
    one = Walked(zone, start, weekday, around)
    other = Walked(elsewhere, other_start, other_weekday, around)
    for grain in GRAINS[:4]:
        middle = one.cut(grain).at(minute(change))
        for n in range(middle - 2, middle + 3):
            check_slice(one, grain, n)
    every = list(edges(one, other, sorted(grains, key=GRAINS.index)))
    for mapping, up, down in random.sample(every, 5):
        check_mapping_around(mapping, up, down, change)
