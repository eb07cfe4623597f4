"""The calendar against a plain walk through real time, in zones that are hard."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.intervals import (
    bounds,
    check_mapping,
    containing,
    default_mapping,
    end,
    following,
    inside,
    mapped,
    parse,
    preceding,
    readers,
    runs,
    windows,
    within,
)
from levada.terms import (
    WHOLE,
    FanOut,
    Grain,
    Identity,
    Lag,
    Latest,
    Partition,
    PartitionMapping,
    Rollup,
    Span,
    Trailing,
)

ZONES = (
    "UTC",
    "America/New_York",
    "America/Sao_Paulo",  # clocks changed at midnight
    "America/Havana",
    "America/Santiago",
    "America/St_Johns",  # changed at 00:01 until 2011: yesterday's date came back
    "America/Nuuk",
    "America/Scoresbysund",
    "America/Caracas",
    "Antarctica/Troll",  # two hours
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Atlantic/Azores",
    "Australia/Lord_Howe",  # half an hour
    "Europe/Berlin",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Pacific/Apia",  # had no 30 December 2011
    "Pacific/Chatham",
    "Pacific/Kiritimati",
)
DATED = (Grain.DAY, Grain.WEEK, Grain.MONTH, Grain.QUARTER, Grain.YEAR)
QUARTER_HOUR = timedelta(minutes=15)


def _label(grain: Grain, day: date) -> object:
    """What all dates of one period, and no others, have in common."""
    match grain:
        case Grain.DAY:
            return day
        case Grain.WEEK:
            return day.isocalendar()[:2]
        case Grain.MONTH:
            return day.year, day.month
        case Grain.QUARTER:
            return day.year, (day.month + 2) // 3
        case _:
            return day.year


def _walk(zone: str, start: datetime, stop: datetime) -> list[tuple[datetime, date]]:
    """By quarter-hours of real time: when each local date was seen first."""
    tz, seen, found = ZoneInfo(zone), date.min, []
    while start < stop:
        if (day := start.astimezone(tz).date()) > seen:
            seen = day
            found.append((start, day))
        start += QUARTER_HOUR
    return found


def _periods(
    walk: list[tuple[datetime, date]], grain: Grain
) -> Iterator[tuple[datetime, datetime]]:
    """Start and end of each period that the walk saw from its first instant to its last."""
    starts = [next(g)[0] for _, g in itertools.groupby(walk, key=lambda x: _label(grain, x[1]))]
    yield from itertools.pairwise(starts[1:])


def _quarters(first: datetime, stop: datetime) -> list[datetime]:
    return [first + n * QUARTER_HOUR for n in range((stop - first) // QUARTER_HOUR)]


def _changes(zone: str) -> list[datetime]:
    """Days from 2000 to 2035 on which a zone's offset changes."""
    tz, found = ZoneInfo(zone), []
    day = datetime(2000, 1, 1, tzinfo=UTC)
    while day < datetime(2036, 1, 1, tzinfo=UTC):
        after = day + timedelta(days=5)
        if day.astimezone(tz).utcoffset() != after.astimezone(tz).utcoffset():
            found.append(day)
        day = after
    return found


@pytest.mark.parametrize("zone", ZONES)
def test_a_year_of_every_grain_equals_a_walk_through_real_time(zone: str) -> None:
    year = 2011 if zone in ("Pacific/Apia", "America/St_Johns") else 2010 + ZONES.index(zone) % 7
    start = datetime(year - 1, 12, 1, tzinfo=UTC)
    walk = _walk(zone, start, start + timedelta(days=430))
    for grain in DATED:
        for first, stop in _periods(walk, grain):
            for instant in (first, first + (stop - first) / 2, stop - timedelta(seconds=1)):
                found = containing(grain, instant, zone)
                assert bounds(found) == (first, stop), (zone, grain, instant)
            assert found.key == first.astimezone(ZoneInfo(zone)).date().isoformat()
            assert parse(grain, found.key, zone) == found
            assert following(found).begin == stop
            assert end(preceding(found)) == first


@pytest.mark.parametrize("zone", ZONES)
def test_days_around_clock_changes_from_2000_to_2035_equal_a_walk(zone: str) -> None:
    changes = _changes(zone)
    for day in changes[:: max(1, len(changes) // 6)]:
        walk = _walk(zone, day - timedelta(days=2), day + timedelta(days=8))
        for first, stop in _periods(walk, Grain.DAY):
            instants = _quarters(first, stop)
            assert all(bounds(containing(Grain.DAY, i, zone)) == (first, stop) for i in instants)
            hours = {i.replace(minute=0) for i in instants if i.replace(minute=0) >= first}
            span = Span(first - timedelta(days=1), stop + timedelta(days=1))
            local = containing(Grain.DAY, first, zone)
            rolled = mapped(Rollup(), local, Grain.HOUR, "UTC", span)
            assert [p.begin for p in rolled.partitions] == sorted(hours)
            assert rolled.impossible == ()


@pytest.mark.parametrize(
    ("zone", "key", "hours"),
    [
        ("America/New_York", "2013-03-10", 23),
        ("America/New_York", "2013-11-03", 25),
        ("America/Sao_Paulo", "2013-10-20", 23),  # 00:00 does not exist
        ("America/Sao_Paulo", "2013-02-16", 25),  # 23:00 comes twice
        ("Asia/Beirut", "2013-03-31", 23),
        ("America/Havana", "2013-11-03", 25),
        ("Antarctica/Troll", "2013-03-31", 22),
        ("Australia/Lord_Howe", "2013-10-06", 23.5),
        ("Asia/Kathmandu", "2013-03-10", 24),
    ],
)
def test_a_local_day_has_its_real_length(zone: str, key: str, hours: float) -> None:
    day = parse(Grain.DAY, key, zone)
    assert end(day) - day.begin == timedelta(hours=hours)
    assert day.key == key


def test_a_day_that_a_zone_skipped_does_not_exist() -> None:
    span = Span.days("2011-12-28", "2012-01-01", "Pacific/Apia")
    keys = [p.key for p in within(Grain.DAY, "Pacific/Apia", span)]
    assert keys == ["2011-12-28", "2011-12-29", "2011-12-31", "2012-01-01"]
    with pytest.raises(ValueError, match="no day of Pacific/Apia starts on 2011-12-30"):
        parse(Grain.DAY, "2011-12-30", "Pacific/Apia")
    week = parse(Grain.WEEK, "2011-12-26", "Pacific/Apia")
    assert end(week) - week.begin == timedelta(days=6)


def test_a_date_that_comes_back_belongs_to_the_day_that_began_first() -> None:
    # At 00:01 on 7 November 2010 St John's set its clocks back to 23:01 on the 6th.
    sunday = parse(Grain.DAY, "2010-11-07", "America/St_Johns")
    half_past = sunday.begin + timedelta(minutes=30)
    assert half_past.astimezone(ZoneInfo("America/St_Johns")).date() == date(2010, 11, 6)
    assert containing(Grain.DAY, half_past, "America/St_Johns") == sunday
    assert end(sunday) - sunday.begin == timedelta(hours=25)


def test_hours_are_utc_hours_where_the_offset_is_no_whole_hour() -> None:
    span = Span.days("2013-03-10", "2013-03-11", "Asia/Kolkata")
    hours = within(Grain.HOUR, "Asia/Kolkata", span)
    assert {p.begin.minute for p in hours} == {0}
    # The span starts at 18:30Z: the hour that it cuts is not inside, nor is the last one.
    assert (hours[0].key, hours[-1].key, len(hours)) == ("2013-03-09T19Z", "2013-03-11T17Z", 47)
    day = parse(Grain.DAY, "2013-03-11", "Asia/Kolkata")
    found = mapped(Rollup(), day, Grain.HOUR, "Asia/Kolkata", span)
    assert found.total == 24
    # The last hour starts inside the day but ends after the span.
    assert [p.key for p, _ in found.impossible if p] == ["2013-03-11T18Z"]


@pytest.mark.parametrize(
    ("grain", "key", "right"),
    [
        (Grain.HOUR, "2013-03-10", "write it like 2013-03-10T07Z"),
        (Grain.HOUR, "2013-03-10T7Z", "write 2013-03-10T07Z"),
        (Grain.DAY, "10.03.2013", "write it like 2013-03-10"),
        (Grain.DAY, "2013-02-29", "names no day"),
        (Grain.DAY, "2013-3-1", "write 2013-03-01"),
        (Grain.WEEK, "2013-03-10", "write 2013-03-04"),
        (Grain.MONTH, "2013-03-10", "write 2013-03-01"),
        (Grain.QUARTER, "2013-03-01", "write 2013-01-01"),
        (Grain.YEAR, "2013-03-01", "write 2013-01-01"),
        (Grain.WHOLE, "2013-03-01", "write whole"),
    ],
)
def test_a_wrong_key_is_answered_with_the_right_form(grain: Grain, key: str, right: str) -> None:
    with pytest.raises(ValueError, match=right):
        parse(grain, key, "America/New_York")


def test_whole_has_no_bounds_and_lies_in_every_span() -> None:
    assert parse(Grain.WHOLE, "whole") == WHOLE
    assert containing(Grain.WHOLE, datetime(2013, 1, 1, tzinfo=UTC), "UTC") == WHOLE
    assert within(Grain.WHOLE, "UTC", Span.days("2013-01-01", "2013-01-01", "UTC")) == (WHOLE,)
    with pytest.raises(ValueError, match="no start"):
        bounds(WHOLE)


def test_an_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        containing(Grain.DAY, datetime(2013, 1, 1), "UTC")  # noqa: DTZ001


def test_runs_break_where_time_grain_or_zone_does() -> None:
    days = [parse(Grain.DAY, f"2013-03-{n:02}", "America/New_York") for n in (12, 9, 10, 10)]
    hour = parse(Grain.HOUR, "2013-03-11T04Z", "America/New_York")
    found = runs([*days, hour, WHOLE])
    keys = [[p.key for p in run] for run in found]
    assert keys == [["2013-03-11T04Z"], ["2013-03-09", "2013-03-10"], ["2013-03-12"], ["whole"]]


def test_windows_merge_what_touches_or_overlaps() -> None:
    zone = "America/New_York"
    week = parse(Grain.WEEK, "2013-03-04", zone)
    day, apart = parse(Grain.DAY, "2013-03-11", zone), parse(Grain.DAY, "2013-03-13", zone)
    inner = parse(Grain.DAY, "2013-03-05", zone)
    assert windows([apart, day, inner, week]) == ((week.begin, end(day)), bounds(apart))


# Mappings

SPAN = Span.days("2013-02-20", "2013-04-10", "America/New_York")
SHORT = Span.days("2013-03-08", "2013-03-12", "America/New_York")
NAMED = ("America/New_York", "UTC", "Asia/Kolkata")
MAPPINGS: tuple[PartitionMapping, ...] = (
    Identity(),
    Lag(1),
    Lag(3),
    Trailing(2),
    Trailing(7),
    Rollup(),
    FanOut(),
    Latest(),
    Latest(timedelta(days=2)),
)
slicings = st.tuples(st.sampled_from(list(Grain)), st.sampled_from(NAMED))


@pytest.mark.thorough
@settings(max_examples=150, deadline=None)
@given(st.sampled_from(MAPPINGS), slicings, slicings, st.randoms(use_true_random=True))
def test_readers_are_the_inversion_of_mapped(
    mapping: PartitionMapping, up: tuple[Grain, str], down: tuple[Grain, str], random: Random
) -> None:
    span = SHORT if Grain.HOUR in (up[0], down[0]) else SPAN
    ups, downs = within(*up, span), within(*down, span)
    if not ups:
        return
    if check_mapping(mapping, *up, *down):
        with pytest.raises(ValueError, match=r"needs|say"):
            readers(mapping, ups[0], *down, span)
        return
    reads = {p: mapped(mapping, p, *up, span) for p in downs}
    for upstream in random.sample(ups, min(6, len(ups))):
        naive = tuple(p for p in downs if upstream in reads[p].partitions)
        assert readers(mapping, upstream, *down, span) == naive
    for found in reads.values():
        assert list(found.partitions) == sorted(set(found.partitions))
        assert all(inside(p, span) for p in found.partitions)
        assert not any(p and inside(p, span) for p, _ in found.impossible)
        assert found.total >= 1


def test_rollup_takes_the_slices_that_start_inside_across_zones() -> None:
    month = parse(Grain.MONTH, "2013-03-01", "America/New_York")
    weeks = mapped(Rollup(), month, Grain.WEEK, "Asia/Kolkata", SPAN).partitions
    start, stop = bounds(month)
    assert weeks == tuple(
        p for p in within(Grain.WEEK, "Asia/Kolkata", SPAN) if start <= p.begin < stop
    )
    # Kolkata's Monday, 1 April, starts while New York still writes March.
    assert [p.key for p in weeks][-2:] == ["2013-03-25", "2013-04-01"]


def test_fanout_reads_the_coarser_slice_that_holds_the_start() -> None:
    day = parse(Grain.DAY, "2013-03-10", "America/New_York")
    (week,) = mapped(FanOut(), day, Grain.WEEK, "America/New_York", SPAN).partitions
    assert week.key == "2013-03-04"
    assert mapped(FanOut(), day, Grain.WHOLE, "UTC", SPAN).partitions == (WHOLE,)


def test_what_lies_before_the_span_can_never_exist() -> None:
    day = parse(Grain.DAY, "2013-02-22", "America/New_York")
    found = mapped(Trailing(4), day, Grain.DAY, "America/New_York", SPAN)
    assert [p.key for p in found.partitions] == ["2013-02-20", "2013-02-21", "2013-02-22"]
    assert [(p.key, why) for p, why in found.impossible if p] == [
        ("2013-02-19", "2013-02-19 does not lie wholly inside the mesh's span")
    ]


def test_a_span_that_holds_no_slice_says_so() -> None:
    short = Span.days("2013-03-05", "2013-03-06", "UTC")
    day = parse(Grain.DAY, "2013-03-05", "UTC")
    assert mapped(Latest(), day, Grain.YEAR, "UTC", short).impossible == (
        (None, "the mesh's span holds no year"),
    )


NY, TOKYO = "America/New_York", "Asia/Tokyo"


@pytest.mark.parametrize(
    ("mapping", "up", "down", "said"),
    [
        (Identity(), (Grain.DAY, NY), (Grain.DAY, NY), None),
        (Identity(), (Grain.WHOLE, NY), (Grain.WHOLE, TOKYO), None),
        (Identity(), (Grain.DAY, NY), (Grain.DAY, TOKYO), "identity needs one calendar"),
        (Identity(), (Grain.HOUR, NY), (Grain.DAY, NY), "say rollup"),
        (Lag(1), (Grain.WEEK, NY), (Grain.DAY, NY), "say fanout"),
        (Lag(1), (Grain.WHOLE, NY), (Grain.WHOLE, NY), "say identity"),
        (Trailing(2), (Grain.WHOLE, NY), (Grain.DAY, NY), "say latest"),
        (Rollup(), (Grain.HOUR, NY), (Grain.DAY, TOKYO), None),
        (Rollup(), (Grain.DAY, NY), (Grain.WHOLE, NY), None),
        (Rollup(), (Grain.DAY, NY), (Grain.DAY, NY), "rollup needs a finer upstream"),
        (FanOut(), (Grain.WEEK, NY), (Grain.DAY, TOKYO), None),
        (FanOut(), (Grain.DAY, NY), (Grain.WEEK, NY), "fanout needs a coarser upstream"),
        (Latest(), (Grain.YEAR, NY), (Grain.HOUR, TOKYO), None),
    ],
)
def test_a_mapping_that_cannot_join_two_slicings_is_refused_with_the_reason(
    mapping: PartitionMapping, up: tuple[Grain, str], down: tuple[Grain, str], said: str | None
) -> None:
    found = check_mapping(mapping, *up, *down)
    assert found is None if said is None else said in str(found)


@pytest.mark.parametrize("up", Grain)
@pytest.mark.parametrize("down", Grain)
@pytest.mark.parametrize(
    "zones", [(NY, NY), (NY, TOKYO), (NY, f"{NY}@06:00"), (NY, f"{NY}@sunday")]
)
def test_the_default_mapping_is_that_of_slices_that_nest(
    up: Grain, down: Grain, zones: tuple[str, str]
) -> None:
    there, here = zones
    one_calendar, days = there == here, there.split("@0")[0] == here.split("@s")[0]
    fine = min(up, down)
    expected: PartitionMapping | None = Rollup() if up < down else FanOut()
    if Grain.WHOLE in (up, down):
        expected = Identity() if up is down else Latest()
    elif up is down:
        alike = one_calendar or up is Grain.HOUR or (days and up is not Grain.WEEK)
        expected = Identity() if alike else None
    elif fine is Grain.WEEK or (fine is not Grain.HOUR and not days):
        expected = None  # a slice may lie in two others
    if expected is None:
        with pytest.raises(ValueError, match=r"no mapping is right by default.*; .* say "):
            default_mapping(up, there, down, here)
        return
    assert default_mapping(up, there, down, here) == expected
    assert check_mapping(expected, up, there, down, here) is None


def test_hours_are_the_same_in_every_calendar() -> None:
    hour = parse(Grain.HOUR, "2013-03-10T07Z", f"{NY}@06:00")
    (read,) = mapped(Identity(), hour, Grain.HOUR, TOKYO, SPAN).partitions
    assert (read.key, read.zone) == ("2013-03-10T07Z", TOKYO)
    assert readers(Lag(2), read, Grain.HOUR, f"{NY}@06:00", SPAN) == (
        parse(Grain.HOUR, "2013-03-10T09Z", f"{NY}@06:00"),
    )


def test_partitions_of_two_zones_are_different_slices() -> None:
    start = datetime(2013, 3, 10, 5, tzinfo=UTC)
    assert Partition(Grain.HOUR, start, NY) != Partition(Grain.HOUR, start, TOKYO)
