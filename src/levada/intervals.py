"""The one calendar: which slices of time there are, and which of them a slice reads.

A slice is cut by the calendar that its zone names (`levada.calendars`). A day is real time between
the first instants of two business dates, so it has 23, 24 or 25 hours, and a date that a zone
skipped has no day. Weeks start on Monday, or as the calendar says. An HOUR is a UTC hour whatever
the zone's offset, so a local day rolls up the hours that *start* inside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from levada.calendars import calendar, opening
from levada.terms import (
    WHOLE,
    Deadline,
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

__all__ = [
    "Mapped",
    "bounds",
    "check_mapping",
    "containing",
    "day_from",
    "default_mapping",
    "due",
    "end",
    "following",
    "inside",
    "is_live",
    "mapped",
    "nests",
    "overlapping",
    "parse",
    "preceding",
    "readers",
    "runs",
    "windows",
    "within",
]

_HOUR = timedelta(hours=1)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Mapped:
    """The upstream slices that one slice reads, in order, and those that can never exist."""

    partitions: tuple[Partition, ...]
    impossible: tuple[tuple[Partition | None, str], ...] = ()

    @property
    def total(self) -> int:
        """How many slices the mapping asks for, possible or not."""
        return len(self.partitions) + len(self.impossible)


# Business dates


def _first_day(grain: Grain, day: date, first_weekday: int) -> date:
    """The date on which the period of `day` starts."""
    match grain:
        case Grain.WEEK:
            return day - timedelta(days=(day.weekday() - first_weekday) % 7)
        case Grain.MONTH:
            return day.replace(day=1)
        case Grain.QUARTER:
            return date(day.year, day.month - (day.month - 1) % 3, 1)
        case Grain.YEAR:
            return date(day.year, 1, 1)
        case _:
            return day


# Periods differ in length, but none is shorter or longer than lets these land in the next.
_STEPS = {
    Grain.DAY: timedelta(days=1),
    Grain.WEEK: timedelta(days=7),
    Grain.MONTH: timedelta(days=31),
    Grain.QUARTER: timedelta(days=92),
    Grain.YEAR: timedelta(days=366),
}


def _next_first_day(grain: Grain, first: date, first_weekday: int) -> date:
    """The date on which the period after that of `first` starts."""
    return _first_day(grain, first + _STEPS[grain], first_weekday)


# One slice


def containing(grain: Grain, instant: datetime, zone: str = "UTC") -> Partition:
    """
    The slice that holds an instant.

    >>> containing(Grain.WEEK, datetime(2013, 3, 10, 12, tzinfo=UTC), "America/New_York").key
    '2013-03-04'
    """
    if grain is Grain.WHOLE:
        return WHOLE
    if instant.tzinfo is None:
        raise ValueError(f"{instant} is no instant: give an aware datetime")
    instant = instant.astimezone(UTC)
    if grain is Grain.HOUR:
        return Partition(grain, instant.replace(minute=0, second=0, microsecond=0), zone)
    of = calendar(zone)
    first = _first_day(grain, of.date(instant), of.first_weekday)
    # A clock set back over the start of a day shows yesterday's date again after today has begun.
    while instant >= opening(after := _next_first_day(grain, first, of.first_weekday), zone):
        first = after
    return Partition(grain, opening(first, zone), zone)


def end(partition: Partition) -> datetime:
    """
    The first instant after a slice.

    >>> day = parse(Grain.DAY, "2013-03-10", "America/New_York")
    >>> end(day) - day.begin
    datetime.timedelta(seconds=82800)
    """
    start = partition.begin
    if partition.grain is Grain.HOUR:
        return start + _HOUR
    of = calendar(partition.zone)
    first = _first_day(partition.grain, of.date(start), of.first_weekday)
    return opening(_next_first_day(partition.grain, first, of.first_weekday), partition.zone)


def bounds(partition: Partition) -> tuple[datetime, datetime]:
    """
    Start and end of a slice, half-open, in UTC.

    >>> start, stop = bounds(parse(Grain.MONTH, "2013-02-01", "UTC"))
    >>> f"{start:%d.%m.} {stop:%d.%m.}"
    '01.02. 01.03.'
    """
    return partition.begin, end(partition)


def following(partition: Partition) -> Partition:
    """
    The next slice. A date that the zone skipped is no slice.

    >>> following(parse(Grain.DAY, "2011-12-29", "Pacific/Apia")).key
    '2011-12-31'
    """
    return containing(partition.grain, end(partition), partition.zone)


def preceding(partition: Partition) -> Partition:
    """
    The slice before.

    >>> preceding(parse(Grain.QUARTER, "2013-01-01", "UTC")).key
    '2012-10-01'
    """
    return containing(partition.grain, partition.begin - _TICK, partition.zone)


def day_from(at: datetime, zone: str) -> date:
    """
    The first business date that starts at or after an instant.

    >>> day_from(datetime(2013, 3, 10, 5, tzinfo=UTC), "America/New_York").isoformat()
    '2013-03-10'
    >>> day_from(datetime(2013, 3, 10, 5, tzinfo=UTC), "America/New_York@06:00").isoformat()
    '2013-03-10'
    >>> day_from(datetime(2013, 3, 10, 6, tzinfo=UTC), "America/New_York").isoformat()
    '2013-03-11'
    """
    day = containing(Grain.DAY, at, zone)
    return calendar(zone).date(day.begin if day.begin == at else end(day))


def is_live(partition: Partition, live_from: datetime) -> bool:
    """
    Whether a timetable starts the partition: it is not wholly over when live days begin.

    >>> saturday = datetime(2013, 3, 9, tzinfo=UTC)
    >>> is_live(containing(Grain.WEEK, saturday, "UTC"), saturday)
    True
    >>> is_live(containing(Grain.DAY, saturday - timedelta(days=1), "UTC"), saturday)
    False
    """
    return partition.start is None or end(partition) > live_from


def due(deadline: Deadline, partition: Partition) -> datetime:
    """
    The instant of a slice's deadline. A local time that the clock jumps over counts as if it had
    not jumped; of one that comes twice, the first.

    >>> from datetime import time
    >>> day = parse(Grain.DAY, "2013-03-09", "America/New_York")
    >>> due(Deadline(at=time(7)), day) - end(day), due(Deadline(after=_HOUR), day) - end(day)
    (datetime.timedelta(seconds=21600), datetime.timedelta(seconds=3600))
    """
    over = end(partition)
    if deadline.at is None:
        return over + (deadline.after or timedelta(0))
    zone = calendar(partition.zone).tz
    day = over.astimezone(zone).date()
    while True:
        instant = datetime.combine(day, deadline.at, zone).astimezone(UTC)
        if instant >= over:
            return instant
        day += timedelta(days=1)


_SHOWN = {
    Grain.HOUR: "2013-03-10T07Z",
    Grain.DAY: "2013-03-10",
    Grain.WEEK: "2013-03-04, its first day",
    Grain.MONTH: "2013-03-01, its first day",
    Grain.QUARTER: "2013-01-01, its first day",
    Grain.YEAR: "2013-01-01, its first day",
}


def parse(grain: Grain, key: str, zone: str = "UTC") -> Partition:
    """
    The slice of this name: the inverse of `Partition.key`.

    >>> parse(Grain.HOUR, "2013-03-10T07Z", "America/New_York").begin.hour
    7
    >>> parse(Grain.WEEK, "2013-03-05", "UTC")
    Traceback (most recent call last):
    ...
    ValueError: no week of UTC starts on 2013-03-05: write 2013-03-04
    """
    if grain is Grain.WHOLE:
        if key != WHOLE.key:
            raise ValueError(f"{key!r} names no slice of an undivided table: write {WHOLE.key}")
        return WHOLE
    form = "%Y-%m-%dT%HZ" if grain is Grain.HOUR else "%Y-%m-%d"
    shown = _SHOWN[grain]
    try:
        read = datetime.strptime(key, form).replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"{key!r} names no {grain.value}: write it like {shown}") from None
    if read.strftime(form) != key:
        raise ValueError(f"{key!r} names no {grain.value}: write {read.strftime(form)}")
    if grain is Grain.HOUR:
        return Partition(grain, read, zone)
    partition = containing(grain, opening(read.date(), zone), zone)
    if partition.key != key:
        raise ValueError(f"no {grain.value} of {zone} starts on {key}: write {partition.key}")
    return partition


# Many slices


def inside(partition: Partition, span: Span) -> bool:
    """
    Whether a slice lies wholly inside a span; WHOLE lies in every span.

    >>> inside(parse(Grain.WEEK, "2013-01-07", "UTC"), Span.days("2013-01-08", "2013-02-01", "UTC"))
    False
    """
    if partition.start is None:
        return True
    return span.start <= partition.start and end(partition) <= span.end


def _starting(grain: Grain, zone: str, start: datetime, stop: datetime) -> Iterator[Partition]:
    """The slices whose start lies in [start, stop), in order."""
    partition = containing(grain, start, zone)
    if partition.begin < start:
        partition = following(partition)
    while partition.begin < stop:
        yield partition
        partition = following(partition)


@lru_cache(maxsize=512)
def within(grain: Grain, zone: str, span: Span) -> tuple[Partition, ...]:
    """
    The slices that lie wholly inside a span, in order.

    >>> days = within(Grain.DAY, "UTC", Span.days("2013-01-01", "2013-01-03", "UTC"))
    >>> [day.key for day in days]
    ['2013-01-01', '2013-01-02', '2013-01-03']
    """
    if grain is Grain.WHOLE:
        return (WHOLE,)
    starting = tuple(_starting(grain, zone, span.start, span.end))
    # They follow one another, so that none but the last can reach beyond.
    return starting if not starting or end(starting[-1]) <= span.end else starting[:-1]


@lru_cache(maxsize=512)
def overlapping(grain: Grain, zone: str, window: Span, span: Span) -> tuple[Partition, ...]:
    """
    The slices inside a span that share an instant with a window, in order.

    >>> span = Span.days("2012-01-01", "2013-12-31", "UTC")
    >>> window = Span.days("2013-01-30", "2013-02-02", "UTC")
    >>> [month.key for month in overlapping(Grain.MONTH, "UTC", window, span)]
    ['2013-01-01', '2013-02-01']
    """
    if grain is Grain.WHOLE:
        return (WHOLE,)
    first = containing(grain, window.start, zone).begin
    return tuple(p for p in _starting(grain, zone, first, window.end) if inside(p, span))


def runs(partitions: Iterable[Partition]) -> tuple[tuple[Partition, ...], ...]:
    """
    Contiguous runs of slices, each of one grain and zone.

    >>> days = [parse(Grain.DAY, f"2013-01-0{n}", "UTC") for n in (5, 1, 2)]
    >>> [[day.key for day in run] for run in runs(days)]
    [['2013-01-01', '2013-01-02'], ['2013-01-05']]
    """
    found: list[list[Partition]] = []
    for partition in sorted(set(partitions), key=lambda p: (p.grain, p.zone, p)):
        last = found[-1][-1] if found else None
        if (
            last is not None
            and partition.start is not None
            and (last.grain, last.zone) == (partition.grain, partition.zone)
            and end(last) == partition.start
        ):
            found[-1].append(partition)
        else:
            found.append([partition])
    return tuple(tuple(run) for run in found)


def windows(partitions: Iterable[Partition]) -> tuple[tuple[datetime, datetime], ...]:
    """
    The stretches of time that slices cover, merged and in order. WHOLE has no window.

    >>> days = [parse(Grain.DAY, f"2013-01-0{n}", "UTC") for n in (1, 2, 5)]
    >>> [(start.day, stop.day) for start, stop in windows(days)]
    [(1, 3), (5, 6)]
    """
    merged: list[tuple[datetime, datetime]] = []
    for start, stop in sorted(bounds(p) for p in set(partitions)):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)


# Mappings


def check_mapping(
    mapping: PartitionMapping, up_grain: Grain, up_zone: str, down_grain: Grain, down_zone: str
) -> str | None:
    """
    Why a mapping cannot join these slicings, or None if it can.

    >>> check_mapping(Rollup(), Grain.DAY, "UTC", Grain.DAY, "UTC")
    'rollup needs a finer upstream: day is not finer than day'
    """
    up, down = up_grain.value, down_grain.value
    wrong: str | None = None
    match mapping:
        case Latest():
            pass
        case Rollup():
            if up_grain >= down_grain:
                wrong = f"rollup needs a finer upstream: {up} is not finer than {down}"
        case FanOut():
            if up_grain <= down_grain:
                wrong = f"fanout needs a coarser upstream: {up} is not coarser than {down}"
        case _ if up_grain is not down_grain:
            right = "rollup" if up_grain < down_grain else "fanout"
            if Grain.WHOLE in (up_grain, down_grain):
                right = "latest"
            wrong = f"{mapping.kind} needs one grain: {up} is read by {down}; say {right}"
        case _ if up_grain is Grain.WHOLE:
            if not isinstance(mapping, Identity):
                wrong = f"{mapping.kind} needs slices, and a whole table has none: say identity"
        case _ if not _alike(up_grain, up_zone, down_zone):
            wrong = (
                f"{mapping.kind} needs one calendar: {up}s of {up_zone} are not {down}s of "
                f"{down_zone}; slice them alike, or say latest"
            )
    return wrong


def _alike(grain: Grain, one: str, other: str) -> bool:
    """Whether two calendars cut the same slices: hours are UTC's, and only weeks have a weekday."""
    if one == other or grain in (Grain.HOUR, Grain.WHOLE):
        return True
    return grain is not Grain.WEEK and calendar(one).days == calendar(other).days


def nests(fine: Grain, fine_zone: str, coarse_zone: str) -> bool:
    """
    Whether every fine slice lies in one coarser slice. An hour counts by its start.

    >>> nests(Grain.DAY, "Asia/Tokyo", "Asia/Tokyo@sunday"), nests(Grain.DAY, "UTC", "UTC@06:00")
    (True, False)
    """
    if fine in (Grain.HOUR, Grain.WEEK):
        return fine is Grain.HOUR
    return calendar(fine_zone).days == calendar(coarse_zone).days


def default_mapping(
    up_grain: Grain, up_zone: str, down_grain: Grain, down_zone: str
) -> PartitionMapping:
    """
    The mapping that the two slicings suggest. Raises ValueError where none does: a slice that lies
    in two others belongs to neither of them by itself, so the author must say which is meant.

    >>> default_mapping(Grain.HOUR, "UTC", Grain.DAY, "America/New_York").kind
    'rollup'
    >>> default_mapping(Grain.WEEK, "UTC", Grain.MONTH, "UTC")
    Traceback (most recent call last):
    ...
    ValueError: a week of UTC may lie in two months of UTC: no mapping is right by default; read \
days, or say rollup: each week goes to the month in which it starts
    """
    up, down = up_grain.value, down_grain.value
    if up_grain is down_grain:
        if not _alike(up_grain, up_zone, down_zone):
            raise ValueError(
                f"{up}s of {up_zone} and of {down_zone} do not match: no mapping is "
                "right by default; slice them alike, or say latest"
            )
        return Identity()
    if Grain.WHOLE in (up_grain, down_grain):
        return Latest()
    rolls = up_grain < down_grain
    if rolls and not nests(up_grain, up_zone, down_zone):
        finer = "days" if up_grain is Grain.WEEK else "hours"
        raise ValueError(
            f"a {up} of {up_zone} may lie in two {down}s of {down_zone}: no mapping is right by "
            f"default; read {finer}, or say rollup: each {up} goes to the {down} in which it starts"
        )
    if not rolls and not nests(down_grain, down_zone, up_zone):
        raise ValueError(
            f"a {down} of {down_zone} may lie in two {up}s of {up_zone}: no mapping is right by "
            "default; slice them alike, or say fanout: it reads the one that holds its start"
        )
    return Rollup() if rolls else FanOut()


@lru_cache(maxsize=1 << 14)
def mapped(
    mapping: PartitionMapping, partition: Partition, grain: Grain, zone: str, span: Span
) -> Mapped:
    """
    The upstream slices (of `grain` and `zone`) that `partition` reads, oldest first; what lies
    outside the span can never exist. For latest: every slice that might be the newest.

    >>> span = Span.days("2013-03-01", "2013-03-31", "America/New_York")
    >>> day = parse(Grain.DAY, "2013-03-10", "America/New_York")
    >>> len(mapped(Rollup(), day, Grain.HOUR, "America/New_York", span).partitions)
    23
    """
    if wrong := check_mapping(mapping, grain, zone, partition.grain, partition.zone):
        raise ValueError(wrong)
    if isinstance(mapping, Latest) or partition.start is None:
        whole = within(grain, zone, span)
        return Mapped(whole, () if whole else ((None, f"the mesh's span holds no {grain.value}"),))
    wanted = _asked(mapping, partition, grain, zone)
    if not wanted:
        return Mapped((), ((None, f"{partition} holds no {grain.value}"),))
    outside = tuple(p for p in wanted if not inside(p, span))
    return Mapped(
        tuple(p for p in wanted if p not in outside) if outside else wanted,
        tuple((p, f"{p} does not lie wholly inside the mesh's span") for p in outside),
    )


def _asked(
    mapping: PartitionMapping, partition: Partition, grain: Grain, zone: str
) -> tuple[Partition, ...]:
    """What the mapping asks for, whether or not the span holds it."""
    match mapping:
        case Identity():
            return (_named(partition, zone),)
        case Lag(by):
            return (_stepped(_named(partition, zone), -by),)
        case Trailing(n):
            last = _named(partition, zone)
            return tuple(_stepped(last, -back) for back in reversed(range(n)))
        case FanOut():
            return (WHOLE if grain is Grain.WHOLE else containing(grain, partition.begin, zone),)
        case _:
            return tuple(_starting(grain, zone, *bounds(partition)))


def _named(partition: Partition, zone: str) -> Partition:
    """The same slice as a calendar that cuts alike names it."""
    if partition.zone == zone:
        return partition
    return Partition(partition.grain, partition.start, zone)


def _stepped(partition: Partition, by: int) -> Partition:
    for _ in range(abs(by)):
        partition = preceding(partition) if by < 0 else following(partition)
    return partition


def readers(
    mapping: PartitionMapping, upstream: Partition, grain: Grain, zone: str, span: Span
) -> tuple[Partition, ...]:
    """
    The downstream slices (of `grain` and `zone`, inside the span) that read `upstream`, oldest
    first: the inverse of `mapped`.

    >>> span = Span.days("2013-03-01", "2013-03-31", "UTC")
    >>> hour = parse(Grain.HOUR, "2013-03-10T07Z", "UTC")
    >>> [day.key for day in readers(Rollup(), hour, Grain.DAY, "UTC", span)]
    ['2013-03-10']
    """
    if wrong := check_mapping(mapping, upstream.grain, upstream.zone, grain, zone):
        raise ValueError(wrong)
    if not inside(upstream, span):
        return ()
    found: Iterable[Partition]
    match mapping:
        case Identity():
            found = (_named(upstream, zone),)
        case Lag(by):
            found = (_stepped(_named(upstream, zone), by),)
        case Trailing(n):
            first = _named(upstream, zone)
            found = (_stepped(first, ahead) for ahead in range(n))
        case Rollup() if grain is not Grain.WHOLE:
            found = (containing(grain, upstream.begin, zone),)
        case FanOut() if upstream.start is not None:
            found = _starting(grain, zone, *bounds(upstream))
        case _:
            return within(grain, zone, span)
    return tuple(p for p in found if inside(p, span))
