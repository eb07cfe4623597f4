"""Calendars with a start of days and weeks of their own: names, declarations, slices, SQL."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import duckdb
import pytest
import tiny

from levada.adapters.gx import measures
from levada.adapters.warehouses import _sql
from levada.calendars import Calendar, calendar, declared
from levada.declare import Declared, ParsedProject, SourceFacts, declare
from levada.intervals import bounds, containing, day_from, end, mapped, parse
from levada.settings import read_settings
from levada.terms import (
    Column,
    Contract,
    Grain,
    Owner,
    Partition,
    Rollup,
    Span,
    TableRef,
)


def keys(partitions: Iterable[Partition]) -> list[str]:
    return [partition.key for partition in partitions]


NY6 = "America/New_York@06:00"


@pytest.mark.parametrize(
    ("name", "zone", "start", "weekday"),
    [
        ("UTC", "UTC", 0, 0),
        (NY6, "America/New_York", 6, 0),
        ("Asia/Tokyo@sunday", "Asia/Tokyo", 0, 6),
        ("Asia/Tokyo@18:00@saturday", "Asia/Tokyo", 18, 5),
    ],
)
def test_a_calendar_has_one_name(name: str, zone: str, start: int, weekday: int) -> None:
    found = calendar(name)
    assert found == Calendar(zone, timedelta(hours=start), weekday)
    assert found.name == name
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 - our own


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("UTC@00:00", "write UTC"),
        ("UTC@monday", "write UTC"),
        ("UTC@sunday@06:00", "write UTC@06:00@sunday"),
        ("UTC@6:00", "like UTC@06:00@sunday"),
        ("UTC@24:00", "like UTC@06:00@sunday"),
        ("UTC@", "like UTC@06:00@sunday"),
        ("Mars@06:00", "no zone 'Mars'"),
        ("", "no zone ''"),
    ],
)
def test_another_spelling_of_a_calendar_is_refused(name: str, right: str) -> None:
    with pytest.raises(ValueError, match=right):
        calendar(name)


@pytest.mark.parametrize(
    ("start", "weekday"), [(-timedelta(hours=1), 0), (timedelta(days=1), 0), (timedelta(0), 7)]
)
def test_a_day_starts_within_itself_and_a_week_has_seven_days(
    start: timedelta, weekday: int
) -> None:
    with pytest.raises(ValueError, match=r"a day starts|a week has"):
        Calendar("UTC", start, weekday)


def test_a_business_day_has_the_date_of_its_start() -> None:
    late = datetime(2013, 3, 10, 9, 59, tzinfo=UTC)  # 05:59, an hour after the clocks went forward
    assert containing(Grain.DAY, late, NY6).key == "2013-03-09"
    day = parse(Grain.DAY, "2013-03-09", NY6)
    assert end(day) - day.begin == timedelta(hours=23)
    assert parse(Grain.YEAR, "2013-01-01", NY6).begin == datetime(2013, 1, 1, 11, tzinfo=UTC)
    with pytest.raises(ValueError, match="write 2013-03-03"):
        parse(Grain.WEEK, "2013-03-04", "America/New_York@sunday")


def test_a_skipped_date_leaves_a_business_day_what_clocks_showed_of_it() -> None:
    # At midnight after 29 December 2011, Apia's clocks showed 31 December.
    shown = [parse(Grain.DAY, f"2011-12-{n}", "Pacific/Apia@06:00") for n in (29, 30, 31)]
    assert [(end(day) - day.begin) // timedelta(hours=1) for day in shown] == [18, 6, 24]


def test_a_day_that_starts_at_a_time_that_clocks_skip_starts_when_they_jump() -> None:
    day = parse(Grain.DAY, "2013-03-10", "America/New_York@02:30")
    assert day.begin == datetime(2013, 3, 10, 7, tzinfo=UTC)
    twice = parse(Grain.DAY, "2013-11-03", "America/New_York@01:30")
    assert twice.begin == datetime(2013, 11, 3, 5, 30, tzinfo=UTC)


def test_hours_roll_up_into_the_business_day_in_which_they_start() -> None:
    span = Span.days("2013-03-08", "2013-03-12", NY6)
    day = parse(Grain.DAY, "2013-03-09", NY6)
    found = keys(mapped(Rollup(), day, Grain.HOUR, "Asia/Kolkata", span).partitions)
    assert (found[0], found[-1], len(found)) == ("2013-03-09T11Z", "2013-03-10T09Z", 23)


@pytest.mark.parametrize(
    ("said", "name", "right"),
    [
        (("day", "UTC", "06:00", None), "UTC@06:00", ""),
        (("week", "Asia/Tokyo", "06:00", "sunday"), "Asia/Tokyo@06:00@sunday", ""),
        (("week", "Asia/Tokyo", "00:00", "monday"), "Asia/Tokyo", ""),
        (("day", "Asia/Tokio", None, None), "UTC", "did you mean 'Asia/Tokyo'?"),
        (("day", NY6, None, None), "UTC", "name the zone, America/New_York, alone"),
        (("day", "UTC", 1110, None), "UTC", '"18:30"'),
        (("day", "UTC", "06:00:00", None), "UTC", 'write "06:00"'),
        (("day", "UTC", True, None), "UTC", 'like "06:00"'),
        (("whole", "UTC", "06:00", None), "UTC", "leave it out"),
        (("month", "UTC", None, "sunday"), "UTC", "leave it out"),
        (("week", "UTC", None, "SUNDAY"), "UTC", "did you mean 'sunday'?"),
        (("week", "UTC", None, 7), "UTC", "write a weekday like sunday"),
    ],
)
def test_what_is_declared_names_a_calendar_or_is_told_the_right_word(
    said: tuple[str, object, object, object], name: str, right: str
) -> None:
    found, wrong = declared(*said)
    assert found == name
    assert bool(wrong) == bool(right)
    assert all(right in better for _, _, better in wrong)


def test_a_source_has_a_calendar_of_its_own(tmp_path: Path) -> None:
    workspace = tiny.mesh(tmp_path / "mesh", ["harbour"])
    meta = {"zone": "numbers", "files": "{start:%Y}.csv", "grain": "week"}
    meta |= {"calendar": "Asia/Tokyo", "day_start": "06:00", "week_start": "sunday"}
    facts = partial(
        SourceFacts, "source.n", "landing", "numbers", ("id",), yaml="s.yml", yaml_line=3
    )

    def found(**change: object) -> Declared:
        source = facts(meta={**meta, **change})
        project = ParsedProject("harbour", "models/harbour", sources=(source,))
        return declare(read_settings(workspace.root), (), (project,))

    assert [s.zone for s in found().mesh.sources] == ["Asia/Tokyo@06:00@sunday"]
    for change, right in (
        ({"calendar": "Asia/Tokio"}, "did you mean 'Asia/Tokyo'?"),
        ({"day_start": 1110}, '"18:30"'),
        ({"week_start": "sundy"}, "did you mean 'sunday'?"),
        ({"week_strat": "sunday"}, "did you mean 'week_start'?"),
    ):
        (fault,) = found(**change).faults
        assert (fault.path, fault.line) == ("s.yml", 3)
        assert right in fault.right


# What SQL is made of it


BUSINESS = Contract(
    id="operations.flights",
    version="1.0.0",
    status="active",
    table=TableRef("operations", "flights"),
    product="flights",
    grain=Grain.DAY,
    zone=NY6,
    interval_column="day",
    columns=(Column("day", "DATE"), Column("at", "TIMESTAMPTZ")),
    checks=(),
    owner=Owner("operations-data"),
    description="",
    hash="",
    path="",
)


@pytest.mark.parametrize("column", ["day", "at"])
def test_rows_lie_in_the_business_day_that_wall_clocks_give_them(column: str) -> None:
    contract = replace(BUSINESS, interval_column=column)
    days = [parse(Grain.DAY, f"2013-03-{n:02}", NY6) for n in (9, 10)]
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(
            'create table flights as select moment as "at",'
            " cast(timezone('America/New_York', moment) - interval 6 hour as date) as day from"
            " range(timestamptz '2013-03-08 00:00:00+00', timestamptz '2013-03-13 00:00:00+00',"
            " interval 1 minute) t(moment)"
        )
        for where in (_sql.within_partitions(contract, days), measures.inside(contract, days, "f")):
            rows = connection.execute(
                f"select day, count(*) from flights f where {where} group by day order by day"
            ).fetchall()
            assert rows == [(date(2013, 3, 9), 23 * 60), (date(2013, 3, 10), 24 * 60)]


def test_a_window_of_another_calendar_takes_the_dates_that_start_in_it() -> None:
    midnight = parse(Grain.DAY, "2013-03-09", "America/New_York")
    where = _sql.within(BUSINESS, [bounds(midnight)])
    assert where == "((\"day\" >= DATE '2013-03-09' AND \"day\" < DATE '2013-03-10'))"
    # The date of the 7th came back after it had begun to be the 8th.
    back = "America/St_Johns"
    eighth = parse(Grain.DAY, "2010-11-08", back)
    assert day_from(parse(Grain.DAY, "2010-11-07", back).begin, back) == date(2010, 11, 7)
    again = eighth.begin - timedelta(hours=24)  # 00:00 on the 7th, for the second time
    assert day_from(again, back) == date(2010, 11, 8)
