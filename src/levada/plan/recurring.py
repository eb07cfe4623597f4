"""When scheduled backfills are due, and what each of them asks for. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from levada.terms import Recurring, Span

__all__ = ["due", "next_due", "range_of"]

_DAY = timedelta(days=1)


def due(recurring: Recurring, begun: datetime | None, now: datetime) -> tuple[datetime, ...]:
    """
    The due dates that came after the newest begun one, oldest first, as its rule to catch up has
    it: `latest` passes over all but the last.

    >>> from levada.terms import Recurring
    >>> weekly = Recurring("invoices", ("a.b",), "week", 6, first=date(2026, 11, 1), days=35)
    >>> at = datetime(2026, 11, 27, tzinfo=UTC)
    >>> [f"{each:%m-%d}" for each in due(weekly, None, at)]
    ['11-22']
    >>> due(weekly, datetime(2026, 11, 22, tzinfo=UTC), at)
    ()
    """
    found = []
    for instant in _dues(recurring, begun):
        if instant > now:
            break
        found.append(instant)
    return tuple(found if recurring.catch_up == "all" else found[-1:])


def next_due(recurring: Recurring, now: datetime) -> datetime:
    """The first due date that is still to come."""
    return next(instant for instant in _dues(recurring, now) if instant > now)


def range_of(recurring: Recurring, at: datetime) -> Span:
    """The days before a due date, its own not among them, in the zone of the schedule."""
    day = at.astimezone(ZoneInfo(recurring.zone)).date()
    return Span.days(day - recurring.days * _DAY, day - _DAY, recurring.zone)


def _dues(recurring: Recurring, after: datetime | None) -> Iterator[datetime]:
    """Every due date after an instant, for ever. A time that a day skips is an hour later."""
    zone = ZoneInfo(recurring.zone)
    day = recurring.first
    if after is not None:
        day = max(day, after.astimezone(zone).date() - _DAY)
    while day < date.max - _DAY:
        if _falls(recurring, day):
            instant = datetime.combine(day, recurring.at, tzinfo=zone).astimezone(UTC)
            if after is None or instant > after:
                yield instant
        day += _DAY


def _falls(recurring: Recurring, day: date) -> bool:
    match recurring.every:
        case "week":
            return day.weekday() == recurring.on
        case "month":
            return day.day == recurring.on
        case _:
            return True
