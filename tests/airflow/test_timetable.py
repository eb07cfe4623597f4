"""A data interval is a partition, however long its day is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pendulum
import pytest
from airflow.timetables.base import DataInterval, TimeRestriction

from levada.intervals import end, within
from levada.terms import Grain, Span
from levada_sensors.timetable import IntervalTimetable

pytestmark = pytest.mark.airflow

NEW_YORK = "America/New_York"
SPRING = Span.days("2013-03-08", "2013-03-11", NEW_YORK)
AUTUMN = Span.days("2013-11-02", "2013-11-04", NEW_YORK)
CATCH_UP = TimeRestriction(earliest=pendulum.datetime(2013, 1, 1), latest=None, catchup=True)


def intervals(
    grain: str, span: Span, zone: str = NEW_YORK, restriction: TimeRestriction = CATCH_UP
) -> list[DataInterval]:
    """What a scheduler would make of the timetable, stored and read back between two runs."""
    made = IntervalTimetable(grain, zone, span.start, span.end)
    found: list[DataInterval] = []
    last: DataInterval | None = None
    while len(found) < 1000:
        timetable = IntervalTimetable.deserialize(made.serialize())
        info = timetable.next_dagrun_info(
            last_automated_data_interval=last, restriction=restriction
        )
        if info is None:
            return found
        assert info.data_interval is not None
        assert info.run_after == info.data_interval.end
        assert info.logical_date == info.data_interval.start
        last = info.data_interval
        found.append(last)
    raise AssertionError("the timetable does not end")


@pytest.mark.parametrize("grain", ["hour", "day", "week", "month", "quarter", "year"])
@pytest.mark.parametrize(
    "zone",
    [
        "UTC",
        NEW_YORK,
        "Asia/Kathmandu",
        "Pacific/Apia",
        "America/New_York@06:00@sunday",
        "Australia/Lord_Howe@02:15",
    ],
)
def test_the_intervals_are_exactly_the_partitions_of_the_span(grain: str, zone: str) -> None:
    last = "2013-03-12" if grain == "hour" else "2014-12-31"
    span = Span.days("2013-03-08", last, zone)
    partitions = within(Grain(grain), zone, span)
    assert intervals(grain, span, zone) == [(p.begin, end(p)) for p in partitions]


@pytest.mark.parametrize(("span", "hours"), [(SPRING, [24, 24, 23, 24]), (AUTUMN, [24, 25, 24])])
def test_a_local_day_has_as_many_hours_as_the_clocks_say(span: Span, hours: list[int]) -> None:
    assert [(b - a).total_seconds() / 3600 for a, b in intervals("day", span)] == hours


def test_a_run_of_a_business_day_is_due_at_its_end() -> None:
    zone = "America/New_York@06:00"
    span = Span.days("2013-03-09", "2013-03-10", zone)
    assert intervals("day", span, zone) == [
        (datetime(2013, 3, 9, 11, tzinfo=UTC), datetime(2013, 3, 10, 10, tzinfo=UTC)),
        (datetime(2013, 3, 10, 10, tzinfo=UTC), datetime(2013, 3, 11, 10, tzinfo=UTC)),
    ]


def test_the_short_day_has_23_hourly_runs() -> None:
    day = Span.days("2013-03-10", "2013-03-10", NEW_YORK)
    assert len(intervals("hour", day)) == 23


def test_nothing_runs_before_the_dag_starts_or_after_it_ends() -> None:
    narrow = TimeRestriction(
        earliest=pendulum.datetime(2013, 3, 9, 12),
        latest=pendulum.datetime(2013, 3, 10, 12),
        catchup=True,
    )
    assert [a for a, _ in intervals("day", SPRING, restriction=narrow)] == [
        datetime(2013, 3, 10, 5, tzinfo=UTC)
    ]


def test_without_catch_up_the_past_is_left_alone() -> None:
    today = TimeRestriction(earliest=None, latest=None, catchup=False)
    assert intervals("day", SPRING, restriction=today) == []


def test_a_run_by_hand_gets_the_partition_that_was_over_then() -> None:
    timetable = IntervalTimetable("day", NEW_YORK, SPRING.start, SPRING.end)
    over = timetable.infer_manual_data_interval(run_after=pendulum.datetime(2013, 3, 11, 4))
    assert over == (datetime(2013, 3, 10, 5, tzinfo=UTC), datetime(2013, 3, 11, 4, tzinfo=UTC))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("whole", "UTC", SPRING.start, SPRING.end), "schedule=None"),
        (("day", "UTC", datetime(2013, 1, 1), SPRING.end), "aware"),  # noqa: DTZ001
        (("day", "UTC@6:00", SPRING.start, SPRING.end), "names no calendar"),
    ],
)
def test_a_senseless_timetable_is_refused_when_it_is_made(words: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        IntervalTimetable(*words)
