"""Scheduled backfills: when they are due, what they ask for, and what may be declared."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.strategies import NEW_YORK, little_mesh

from levada.adapters.schedules import FILE, look
from levada.plan import due, next_due, range_of
from levada.terms import Recurring, Span

SOUND: Mapping[str, Any] = {
    "tables": ["operations.flights"],
    "every": "week",
    "on": "sunday",
    "from": "2026-11-01",
    "last": "35d",
    "reason": "invoices are corrected for a month",
}


def weekly(**more: Any) -> Recurring:
    words: dict[str, Any] = {"every": "week", "on": 6, "first": date(2026, 11, 1), "days": 35}
    return Recurring("invoices", ("operations.flights",), **words | more)


def at(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def test_it_is_due_once_for_each_date_and_what_was_missed_is_made_up_for_by_its_rule() -> None:
    now = at("2026-11-27T10:00")
    assert due(weekly(), None, now) == (at("2026-11-22"),)
    every = tuple(at(f"2026-11-{day:02}") for day in (1, 8, 15, 22))
    assert due(weekly(catch_up="all"), None, now) == every
    for rule in ("latest", "all"):
        assert due(weekly(catch_up=rule), at("2026-11-15"), now) == (at("2026-11-22"),)
        assert due(weekly(catch_up=rule), at("2026-11-22"), now) == ()
        assert due(weekly(catch_up=rule), None, at("2026-10-31T23:59")) == ()
    assert due(weekly(), None, at("2026-11-22")) == (at("2026-11-22"),), "due at its very instant"
    assert next_due(weekly(), now) == at("2026-11-29")
    assert next_due(weekly(), at("2026-10-01")) == at("2026-11-01")


@pytest.mark.parametrize(("every", "on", "days"), [("day", 0, range(1, 8)), ("month", 5, [5])])
def test_it_comes_every_day_or_on_a_day_of_the_month(every: str, on: int, days: Any) -> None:
    found = due(weekly(every=every, on=on, catch_up="all"), None, at("2026-11-07"))
    assert [each.day for each in found] == list(days)


def test_its_time_is_that_of_its_zone_whatever_its_clocks_do() -> None:
    nightly = weekly(
        every="day", on=0, at=time(2, 30), zone=NEW_YORK, first=date(2013, 3, 9), catch_up="all"
    )
    found = due(nightly, None, at("2013-03-12"))
    # 02:30 of the 10th is skipped: it is due all the same, once.
    assert [f"{each:%d %H:%M}" for each in found] == ["09 07:30", "10 07:30", "11 06:30"]
    autumn = due(
        weekly(
            every="day",
            on=0,
            at=time(1, 30),
            zone=NEW_YORK,
            first=date(2013, 11, 3),
            catch_up="all",
        ),
        *(None, at("2013-11-04")),
    )
    assert len(autumn) == 1, "01:30 comes twice, and is due at its first"


def test_it_asks_for_the_whole_days_before_its_date() -> None:
    due_at = datetime(2013, 3, 11, 4, tzinfo=UTC)  # midnight in New York
    assert range_of(weekly(days=2, zone=NEW_YORK), due_at) == Span.days(
        "2013-03-09", "2013-03-10", NEW_YORK
    )
    assert range_of(weekly(days=2, zone=NEW_YORK), due_at - timedelta(seconds=1)) == Span.days(
        "2013-03-08", "2013-03-09", NEW_YORK
    )


def declared(root: Path, text: str) -> tuple[Any, list[str]]:
    path = root / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    found, faults = look(root, NEW_YORK, little_mesh())
    return found, [str(fault) for fault in faults]


def test_what_is_declared_is_read(tmp_path: Path) -> None:
    (found,), faults = declared(tmp_path, yaml.safe_dump({"backfills": {"invoices": dict(SOUND)}}))
    assert faults == []
    assert found == weekly(
        zone=NEW_YORK, reason="invoices are corrected for a month", digest=found.digest
    )
    assert look(tmp_path / "elsewhere", NEW_YORK, little_mesh()) == ((), ())


WRONG = """\
backfills:
  invoices:
    tables: [operations.flihts]
    every: fortnight
    from: soon
    last: 35
    reason: ""
    catchup: all
  other:
    tables: [operations.flights]
    every: week
    on: caturday
    from: 2026-11-01
    last: 5w
    reason: why not
    only_domains: [operation]
    zone: Mars/Olympus
    at: noon
    catch_up: never
  third:
    tables: []
    every: month
    on: 31
    from: 2026-11-01
    last: 0d
"""


def test_words_that_cannot_be_asked_for_at_once_are_refused_when_they_are_declared(
    tmp_path: Path,
) -> None:
    said = """backfills:
  one:
    tables: [operations]
    every: day
    from: 2026-11-01
    last: {last}
    reason: mended for a week
    {more}
"""
    for more, last, why in (
        ("exclude: [operations.flights]", "7d", "is asked for and excluded"),
        ("only_domains: [weather]", "7d", "lies outside the domains"),
        ("catch_up: all", "5wd", "'5wd' is no number of days"),
        ("catch_up: all", "²d", "'²d' is no number of days"),
    ):
        found, faults = declared(tmp_path, said.format(more=more, last=last))
        assert found == ()
        assert len(faults) == 1
        assert why in faults[0]


def test_every_fault_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    found, faults = declared(tmp_path, WRONG)
    assert found == ()
    lines = [(int(each.split(":")[1]), each.split(": ", 1)[1]) for each in faults]
    assert [number for number, _ in lines] == [3, 4, 5, 6, 7, 8, 12, 16, 17, 18, 19, 20, 21, 23, 25]
    told = "\n".join(faults)
    for words in (
        "operations.flihts",
        "no schedule is 'fortnight'",
        "'soon' is no date",
        "35 is no number of days",
        "the reason says nothing",
        "did you mean 'catch_up'?",
        "no day of the week is 'caturday'",
        "did you mean 'operations'?",
        "no such time zone 'Mars/Olympus'",
        "'noon' is no time of the day",
        "no way to catch up is 'never'",
        "third says no 'reason'",
        "'tables' is a list of tables",
        "31 is no day of every month",
        "'0d' is no number of days",
    ):
        assert words in told, words
