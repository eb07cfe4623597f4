"""Where a slice of a table lies: grains, partitions, spans; and how a table is named."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import total_ordering

from levada.calendars import calendar, opening

__all__ = ["WHOLE", "Grain", "Partition", "Span", "TableRef"]

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?")


@total_ordering
class Grain(enum.Enum):
    """How long a partition is; ordered from fine to coarse.

    >>> Grain.HOUR < Grain.DAY
    True
    """

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"
    WHOLE = "whole"

    __hash__ = object.__hash__  # there is one of each; Enum's own is slow, and in every slice's

    def __lt__(self, other: Grain) -> bool:
        order = list(Grain)
        return order.index(self) < order.index(other)


@dataclass(frozen=True, slots=True, order=True)
class TableRef:
    """
    A table, named by the domain that owns it. Major 0 is a source: landed, never published.

    >>> str(TableRef("operations", "flights")), TableRef.parse("operations.flights@1").major
    ('operations.flights@1', 1)
    >>> str(TableRef("operations", "landing.flights", 0))
    'operations.landing.flights'
    """

    domain: str
    name: str
    major: int = 1

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or not _NAME.fullmatch(self.domain):
            raise ValueError(f"{self.domain}.{self.name} is no table name: use lower_snake_case")
        if self.major < 0:
            raise ValueError(f"{self.domain}.{self.name}: a major version is at least 1")

    def __str__(self) -> str:
        return f"{self.domain}.{self.name}" + (f"@{self.major}" if self.major else "")

    @property
    def is_source(self) -> bool:
        """Whether the table lies outside the mesh and is landed, not published."""
        return self.major == 0

    @property
    def relation(self) -> str:
        """The name of the table inside its domain's lake or stage: `flights_v1`."""
        name = self.name.replace(".", "__")
        return f"{name}_v{self.major}" if self.major else name

    @classmethod
    def parse(cls, text: str) -> TableRef:
        """Read `domain.table` or `domain.table@major` (major 1 when none is said)."""
        head, _, major = text.partition("@")
        domain, _, name = head.partition(".")
        if not name or (major and not major.isdecimal()):
            raise ValueError(f"{text!r} is no table: write domain.table or domain.table@major")
        if "." in name:
            return cls(domain, name, 0)
        return cls(domain, name, int(major or 1))


@dataclass(frozen=True, slots=True)
class Partition:
    """
    One slice of a table. Equal by grain, instant and zone; WHOLE has no start.

    The zone is the name of a calendar (`levada.calendars`): of a time zone, or of one with a start
    of days or weeks of its own, like `America/New_York@06:00`.

    >>> Partition(Grain.DAY, datetime(2013, 3, 10, 5, tzinfo=UTC), "America/New_York").key
    '2013-03-10'
    >>> Partition(Grain.HOUR, datetime(2013, 3, 10, 5, tzinfo=UTC), "America/New_York").key
    '2013-03-10T05Z'
    """

    grain: Grain
    start: datetime | None = None
    zone: str = "UTC"

    def __post_init__(self) -> None:
        if (self.grain is Grain.WHOLE) != (self.start is None):
            raise ValueError("a partition has a start unless its grain is WHOLE")
        if self.start is not None:
            if self.start.tzinfo is None:
                raise ValueError("a partition's start is an aware datetime")
            object.__setattr__(self, "start", self.start.astimezone(UTC))
        else:
            object.__setattr__(self, "zone", "UTC")

    @property
    def begin(self) -> datetime:
        """The start, for a partition that has one."""
        if self.start is None:
            raise ValueError("a WHOLE partition has no start")
        return self.start

    @property
    def key(self) -> str:
        """The name of the slice: the business date of its start, the UTC hour, or `whole`."""
        if self.start is None:
            return "whole"
        if self.grain is Grain.HOUR:
            minutes = f":{self.start:%M}" if self.start.minute else ""
            return f"{self.start:%Y-%m-%dT%H}{minutes}Z"
        return calendar(self.zone).date(self.start).isoformat()

    def __str__(self) -> str:
        return self.key

    def __lt__(self, other: Partition) -> bool:
        low = datetime.min.replace(tzinfo=UTC)
        return (self.start or low, self.grain) < (other.start or low, other.grain)


WHOLE = Partition(Grain.WHOLE)


@dataclass(frozen=True, slots=True)
class Span:
    """
    A half-open stretch of time; what lies wholly inside it belongs to it.

    >>> Span.days("2013-01-01", "2013-01-02", "UTC").end
    datetime.datetime(2013, 1, 3, 0, 0, tzinfo=datetime.timezone.utc)
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("a span is bounded by aware datetimes")
        if self.end <= self.start:
            raise ValueError(f"the span {self.start} .. {self.end} is empty")
        object.__setattr__(self, "start", self.start.astimezone(UTC))
        object.__setattr__(self, "end", self.end.astimezone(UTC))

    @classmethod
    def days(cls, first: str | date, last: str | date, zone: str) -> Span:
        """The days of a calendar from `first` to `last`, both included."""
        a = date.fromisoformat(first) if isinstance(first, str) else first
        b = date.fromisoformat(last) if isinstance(last, str) else last
        return cls(opening(a, zone), opening(b + timedelta(days=1), zone))
