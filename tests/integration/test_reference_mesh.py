"""The reference mesh is true: its models build what its contracts promise, from the real data.

All 69 days are landed and built at once by plain dbt on DuckDB, without Levada: the four projects
are merged into one, so that a two-argument ref becomes an ordinary one.
"""

from __future__ import annotations

import graphlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
import yaml

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
LAYERS = ("ingest", "base", "aggregate", "serve")
NEW_YORK = ZoneInfo("America/New_York")
FIRST, LAST = date(2013, 1, 1), date(2013, 3, 10)
DAYS = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
PATHS = sorted(ROOT.glob("contracts/*/*.odcs.yaml"))
ADDITIVE = (
    "scheduled",
    "departed",
    "cancelled",
    "arrived",
    "diverted",
    "on_time",
    "late",
    "dep_delay_minutes",
    "arr_delay_minutes",
)
SUMS = ", ".join(f"sum({column})" for column in ADDITIVE)


def _source_system() -> ModuleType:
    spec = importlib.util.spec_from_file_location("source", ROOT / "demo" / "source_system.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Promise:
    """A contract as this test reads it."""

    path: Path
    document: Mapping[str, Any]

    @property
    def table(self) -> Mapping[str, Any]:
        return dict(self.document["schema"][0])

    @property
    def name(self) -> str:
        return str(self.table["name"])

    @property
    def id(self) -> str:
        return f"{self.document['domain']}.{self.name}"

    @property
    def columns(self) -> list[dict[str, Any]]:
        return list(self.table["properties"])

    @property
    def key(self) -> list[str]:
        keyed = [c for c in self.columns if c.get("primaryKey")]
        return [c["name"] for c in sorted(keyed, key=lambda c: c["primaryKeyPosition"])]

    def custom(self, name: str) -> str | None:
        found = {p["property"]: p["value"] for p in self.table["customProperties"]}
        return found.get(name)

    def checks(self) -> Iterator[tuple[str | None, dict[str, Any]]]:
        yield from ((None, check) for check in self.table.get("quality", ()))
        for column in self.columns:
            yield from ((column["name"], check) for check in column.get("quality", ()))

    def slices(self) -> list[tuple[str, str]]:
        """Every partition of the span: its name, and the rows that belong to it."""
        column, grain = self.custom("intervalColumn"), self.custom("grain")
        if column is None:
            return [("whole", "true")]
        starts = [date for date in DAYS if grain in ("day", "hour") or _starts(date, str(grain))]
        if grain == "hour":
            begin, end = _midnight(FIRST), _midnight(LAST + timedelta(days=1))
            hours = [begin + timedelta(hours=n) for n in range((end - begin) // timedelta(hours=1))]
            bounds = [(hour, hour + timedelta(hours=1)) for hour in hours]
            return [(f"{a:%Y-%m-%dT%HZ}", _between(column, a, b)) for a, b in bounds]
        local = f"cast(timezone('America/New_York', {column}) as date)"
        day = local if self.type_of(column) == "TIMESTAMPTZ" else column
        return [
            (str(start), f"date_trunc('{grain}', {day}) = date '{start}'")
            for start in starts
            if _whole(start, str(grain))
        ]

    def type_of(self, column: str) -> str:
        return str(next(c["physicalType"] for c in self.columns if c["name"] == column))


def _starts(day: date, grain: str) -> bool:
    return day.isoweekday() == 1 if grain == "week" else day.day == 1


def _whole(start: date, grain: str) -> bool:
    """Whether a slice lies wholly inside the span."""
    if grain == "month":
        return (start.replace(day=28) + timedelta(days=4)).replace(day=1) <= LAST
    return start + timedelta(days=6 if grain == "week" else 0) <= LAST


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=NEW_YORK).astimezone(UTC)


def _between(column: str, a: datetime, b: datetime) -> str:
    return f"{column} >= timestamptz '{a}' and {column} < timestamptz '{b}'"


PROMISES = [Promise(path, yaml.safe_load(path.read_text())) for path in PATHS]
BY_ID = {promise.id: promise for promise in PROMISES}
each_promise = pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.id)


# Building: land, merge, run


def _sources() -> Iterator[tuple[str, str, list[str]]]:
    for path in ROOT.glob("models/*/*/*.yml"):
        for source in yaml.safe_load(path.read_text()).get("sources", ()):
            for table in source["tables"]:
                pattern = re.sub(r"\{start:.*\}", "*", table["config"]["meta"]["levada"]["files"])
                yield table["name"], pattern, [c["name"] for c in table["columns"]]


def _stage_landings(database: Path, landing: Path) -> None:
    with duckdb.connect(str(database)) as db:
        db.execute("create schema landing")
        for name, pattern, columns in _sources():
            types = ", ".join(f"'{column}': 'VARCHAR'" for column in columns)
            # An unordered, unpartitioned row_number() keeps the order in which rows are read.
            db.execute(f"""
                create table landing.{name} as
                select * exclude (filename, row), filename as _file,
                    row - min(row) over (partition by filename) + 2 as _line
                from (
                    select *, row_number() over () as row
                    from read_csv('{landing}/{pattern}', header = true, auto_detect = false,
                        delim = ',', filename = true, columns = {{{types}}})
                )
            """)


def _merged_project(folder: Path) -> None:
    """The four projects as one: the models of each domain, and two-argument refs shortened."""
    for domain in sorted(p.name for p in (ROOT / "models").iterdir() if p.is_dir()):
        for layer in LAYERS:
            if (ROOT / "models" / domain / layer).is_dir():
                shutil.copytree(
                    ROOT / "models" / domain / layer, folder / "models" / domain / layer
                )
    macros = sorted(ROOT.glob("models/*/macros"))
    assert len({(each / "unreadable.sql").read_text() for each in macros}) == 1
    shutil.copytree(macros[0], folder / "macros")
    for model in folder.rglob("models/**/*.sql"):
        model.write_text(re.sub(r"ref\('\w+', ('\w+')\)", r"ref(\1)", model.read_text()))
    (folder / "dbt_project.yml").write_text(
        "{name: mesh, version: '1.0', config-version: 2, profile: mesh,"
        " models: {mesh: {+materialized: table}}}"
    )
    (folder / "profiles.yml").write_text(
        "mesh: {target: test, outputs: {test: {type: duckdb, path: mesh.duckdb, threads: 1,"
        " settings: {TimeZone: UTC}}}}"
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mesh")
    _source_system().land_span(FIRST, LAST, folder / "landing")
    _merged_project(folder)
    _stage_landings(folder / "mesh.duckdb", folder / "landing")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LEVADA")}
    done = subprocess.run(
        [Path(sys.executable).with_name("dbt"), "--no-send-anonymous-usage-stats", "run"],
        cwd=folder,
        env={**environment, "DBT_PROFILES_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout, done.stdout
    return folder


@pytest.fixture(scope="module")
def db(project: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(project / "mesh.duckdb"), read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        yield connection


def _all(db: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    return db.execute(query).fetchall()


def _one(db: duckdb.DuckDBPyConnection, query: str) -> Any:
    ((value,),) = _all(db, query)
    return value


# What is promised is built


def test_the_sources_declare_the_headers_that_land(project: Path) -> None:
    for _, pattern, columns in _sources():
        landed = sorted((project / "landing").glob(pattern))

        assert landed
        assert {path.read_text().partition("\n")[0] for path in landed} == {",".join(columns)}


@each_promise
def test_columns_and_types_are_the_promised_ones(
    promise: Promise, db: duckdb.DuckDBPyConnection
) -> None:
    built = [(name, kind) for name, kind, *_ in _all(db, f"describe {promise.name}")]

    def duck(kind: str) -> str:
        return str(_one(db, f"select typeof(cast(null as {kind}))"))

    assert built == [(c["name"], duck(c["physicalType"])) for c in promise.columns]


@each_promise
def test_keys_are_unique_and_what_is_required_is_there(
    promise: Promise, db: duckdb.DuckDBPyConnection
) -> None:
    key = ", ".join(promise.key)
    twice = f"select {key} from {promise.name} group by {key} having count(*) > 1"
    required = [c["name"] for c in promise.columns if c.get("required")]
    missing = " or ".join(f"{name} is null" for name in required)

    assert _all(db, twice) == []
    assert set(promise.key) <= set(required)
    assert _one(db, f"select count(*) from {promise.name} where {missing}") == 0


def _measure(
    db: duckdb.DuckDBPyConnection, rows: str, column: str | None, check: Mapping[str, Any]
) -> float:
    """The number that a check is about."""
    arguments = check.get("arguments", {})
    match check.get("metric", "sql"):
        case "sql":
            return float(_one(db, str(check["query"]).replace("{object}", f"({rows})")))
        case "rowCount":
            return float(_one(db, f"select count(*) from ({rows})"))
        case "nullValues":
            bad = f"{column} is null"
        case "invalidValues" if "pattern" in arguments:
            bad = f"not regexp_matches({column}, '{arguments['pattern']}')"
        case "invalidValues":
            values = ", ".join(f"'{value}'" for value in arguments["validValues"])
            bad = f"{column} not in ({values})"
        case other:
            raise AssertionError(f"no metric {other}")
    scale = "100.0 * {} / count(*)" if check.get("unit") == "percent" else "{}"
    return float(_one(db, f"select {scale.format(f'count(*) filter (where {bad})')} from ({rows})"))


def _holds(value: float, check: Mapping[str, Any]) -> bool:
    operators = {
        "mustBe": lambda limit: value == limit,
        "mustBeLessThan": lambda limit: value < limit,
        "mustBeGreaterThan": lambda limit: value > limit,
        "mustBeBetween": lambda limit: limit[0] <= value <= limit[1],
    }
    ((operator, limit),) = ((k, v) for k, v in check.items() if k.startswith("must"))
    return bool(operators[operator](limit))


def _failing(
    db: duckdb.DuckDBPyConnection, promise: Promise, severity: str
) -> dict[str, list[str]]:
    """The partitions in which each check of a severity does not hold."""
    failing: dict[str, list[str]] = {}
    for column, check in promise.checks():
        if check["severity"] != severity:
            continue
        counts = check.get("metric") != "rowCount" and check.get("mustBe") == 0
        if counts and _measure(db, f"select * from {promise.name}", column, check) == 0:
            continue  # what counts nothing in all partitions counts nothing in any
        for name, where in promise.slices():
            rows = f"select * from {promise.name} where {where}"
            if not _holds(_measure(db, rows, column, check), check):
                failing.setdefault(check["id"], []).append(name)
    return failing


@each_promise
def test_every_blocking_check_holds_in_every_partition(
    promise: Promise, db: duckdb.DuckDBPyConnection
) -> None:
    assert _failing(db, promise, "error") == {}


# The faults of the data: told, and not tuned away.
SILENT_HOURS = [
    "2013-01-01T05Z",
    "2013-01-01T17Z",
    "2013-01-06T11Z",
    "2013-02-18T04Z",
    "2013-02-20T19Z",
    "2013-02-21T05Z",
    "2013-02-23T02Z",
    "2013-03-05T06Z",
]
HOURS_MISSING = [
    "2013-01-01",
    "2013-01-06",
    "2013-02-17",
    "2013-02-20",
    "2013-02-21",
    "2013-02-22",
    "2013-03-05",
]
WARNED: dict[str, dict[str, list[str]]] = {
    "operations.flights": {
        "mostly_departed": ["2013-02-08", "2013-02-09", "2013-03-06", "2013-03-08"],
        "tailnum_known": ["2013-02-08", "2013-02-09", "2013-03-06"],
        "tailnum_us": ["2013-02-11"],
    },
    "weather.observations": {
        "all_airports_report": SILENT_HOURS,
        "wind_plausible": ["2013-02-12T08Z"],
    },
    "fleet.airports": {"in_america": ["whole"]},
    "company.daily_punctuality": {"weather_whole": HOURS_MISSING},
    "company.weekly_carriers": {"mostly_departed": ["2013-02-04"]},
}


@each_promise
def test_the_advisory_checks_tell_the_known_faults_of_the_data_and_no_others(
    promise: Promise, db: duckdb.DuckDBPyConnection
) -> None:
    assert _failing(db, promise, "warning") == WARNED.get(promise.id, {})


# Space and time


def test_every_row_lies_in_the_partition_whose_file_it_came_in(
    db: duckdb.DuckDBPyConnection,
) -> None:
    for table, column, part in (
        ("flights", "scheduled_at", "day"),
        ("observations", "observed_at", "hour"),
    ):
        start = "strptime(source_file, '%Y-%m-%dT%HZ.csv')"
        local = "timezone('America/New_York', timezone('UTC', {}))"
        landed = local.format(start)
        here = f"date_trunc('{part}', timezone('America/New_York', {column}))"

        assert _one(db, f"select count(*) from {table} where {landed} <> {here}") == 0
        assert _one(db, f"select count(*) from {table} where source_line < 2") == 0


def test_the_day_on_which_clocks_go_forward_has_23_hours(db: duckdb.DuckDBPyConnection) -> None:
    hours = _all(
        db,
        """select distinct origin, hours_observed from daily_punctuality
        where flight_date = date '2013-03-10' order by origin""",
    )

    assert hours == [("EWR", 23), ("JFK", 23), ("LGA", 23)]


def test_hours_without_observations_are_empty_and_not_missing(
    db: duckdb.DuckDBPyConnection, project: Path
) -> None:
    landed = {path.stem for path in (project / "landing" / "weather").glob("*.csv")}
    observed = {
        hour
        for (hour,) in _all(
            db, "select distinct strftime(observed_at, '%Y-%m-%dT%HZ') from observations"
        )
    }

    assert len(landed) == 69 * 24 - 1
    assert landed - observed == {"2013-01-01T05Z", "2013-02-21T05Z"}


# Sums


def test_delays_are_the_flights_and_route_board_adds_up_to_them(
    db: duckdb.DuckDBPyConnection,
) -> None:
    flights = _all(
        db,
        """select count(*), count(dep_time), count(*) - count(dep_time), count(arr_delay),
        count(dep_time) - count(arr_delay), count(*) filter (where arr_delay < 15),
        count(*) filter (where arr_delay >= 15), sum(greatest(dep_delay, 0)),
        sum(greatest(arr_delay, 0)) from flights""",
    )
    by_day = f"select flight_date, origin, {SUMS} from {{}} group by all order by all"

    assert flights == _all(db, f"select {SUMS} from delays")
    assert flights == _all(db, f"select {SUMS} from route_board")
    assert flights == _all(db, f"select {SUMS} from daily_punctuality")
    assert _all(db, by_day.format("delays")) == _all(db, by_day.format("route_board"))
    assert _all(db, by_day.format("delays")) == _all(db, by_day.format("daily_punctuality"))


def test_weeks_and_months_add_up_to_their_days(db: duckdb.DuckDBPyConnection) -> None:
    for table, start, part, by in (
        ("weekly_carriers", "week_start", "week", "carrier"),
        ("monthly_network", "month_start", "month", "origin"),
    ):
        days = f"""select cast(date_trunc('{part}', flight_date) as date), {by}, {SUMS}
            from daily_punctuality group by all order by all"""
        rolled = f"select {start}, {by}, {SUMS} from {table} group by all order by all"

        assert _all(db, rolled) == _all(db, days)


def test_aircraft_that_the_register_does_not_know_stay(db: duckdb.DuckDBPyConnection) -> None:
    scheduled = _one(db, "select count(*) from flights where tailnum is not null")
    minutes = _one(db, "select sum(air_time) from flights")

    assert _one(db, "select sum(scheduled) from utilisation") == scheduled
    assert _one(db, "select sum(minutes_flown) from utilisation") == minutes
    assert _all(
        db,
        """select count(distinct tailnum), sum(scheduled) from utilisation where not known_plane""",
    ) == [(614, 9574)]


def test_relationships_hold(db: duckdb.DuckDBPyConnection) -> None:
    told = [
        (promise.name, column["name"], relationship["to"])
        for promise in PROMISES
        for column in promise.columns
        for relationship in column.get("relationships", ())
    ]

    assert told
    for table, column, to in told:
        _, other, theirs = to.split(".")
        orphans = f"select {column} from {table} where {column} is not null except select {theirs}"
        assert _all(db, f"{orphans} from {other}") == []


# What a batch builds is what one by one builds, and what is broken is seen


@dataclass(frozen=True)
class Spoil:
    """One landed value overwritten, and who has to see it."""

    file: str
    column: str
    value: str
    table: str
    check: str
    """Id of the blocking check that fails, or the required column that is then NULL."""


def _rebuild(
    project: Path, folder: Path, first: date, last: date, spoil: Spoil | None = None
) -> Path:
    """Build these days alone, from the SQL that dbt compiled for all of them."""
    source = _source_system()
    source.land_span(first, last, folder / "landing")
    if spoil:
        source.break_row(folder / "landing" / spoil.file, spoil.column, spoil.value)
    database = folder / "mesh.duckdb"
    _stage_landings(database, folder / "landing")
    nodes = json.loads((project / "target" / "manifest.json").read_text())["nodes"]
    order = graphlib.TopologicalSorter(
        {n: [d for d in node["depends_on"]["nodes"] if d in nodes] for n, node in nodes.items()}
    )
    with duckdb.connect(str(database)) as db:
        db.execute("set TimeZone = 'UTC'")
        for node in (nodes[name] for name in order.static_order()):
            kind = node["config"]["materialized"]
            if kind != "ephemeral":
                compiled = project / "target" / "compiled" / "mesh" / node["original_file_path"]
                db.execute(f"create {kind} {node['relation_name']} as {compiled.read_text()}")
    return database


@pytest.mark.parametrize(
    ("first", "last", "grains"),
    [
        (date(2013, 2, 12), date(2013, 2, 12), ("day", "hour")),
        (date(2013, 3, 10), date(2013, 3, 10), ("day", "hour")),
        (date(2013, 3, 4), date(2013, 3, 10), ("day", "hour", "week")),
        (date(2013, 2, 1), date(2013, 2, 28), ("month",)),
    ],
)
def test_what_declares_batch_builds_the_same_one_by_one(
    project: Path,
    db: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    first: date,
    last: date,
    grains: tuple[str, ...],
) -> None:
    database = _rebuild(project, tmp_path, first, last)
    with duckdb.connect(str(database), read_only=True) as alone:
        alone.execute("set TimeZone = 'UTC'")
        for promise in (p for p in PROMISES if p.custom("grain") in grains):
            column, key = promise.custom("intervalColumn"), ", ".join(promise.key)
            begin, end = _midnight(first), _midnight(last + timedelta(days=1))
            where = (
                _between(str(column), begin, end)
                if promise.type_of(str(column)) == "TIMESTAMPTZ"
                else f"{column} between date '{first}' and date '{last}'"
            )
            query = f"select * from {promise.name} where {where} order by {key}"

            built = _all(alone, f"select * from {promise.name} order by {key}")
            assert built
            assert built == _all(db, query), promise.id


FLIGHTS, WEATHER = "flights/2013-02-12T05Z.csv", "weather/2013-02-12T08Z.csv"


@pytest.mark.parametrize(
    "spoil",
    [
        Spoil(FLIGHTS, "dep_delay", "soon", "operations.flights", "values_readable"),
        Spoil(FLIGHTS, "dep_time", "25:00", "operations.flights", "values_readable"),
        Spoil(FLIGHTS, "dep_time", "1275", "operations.flights", "clock_times_real"),
        Spoil(FLIGHTS, "dep_delay", "NA", "operations.flights", "departure_whole"),
        Spoil(FLIGHTS, "air_time", "NA", "operations.flights", "arrival_whole"),
        Spoil(FLIGHTS, "arr_delay", "99999", "operations.flights", "delays_plausible"),
        Spoil(FLIGHTS, "distance", "-5", "operations.flights", "distance_positive"),
        Spoil(FLIGHTS, "distance", "far", "operations.flights", "distance"),
        Spoil(FLIGHTS, "minute", "59", "operations.flights", "clock_is_instant"),
        Spoil(FLIGHTS, "day", "13", "operations.flights", "date_is_local_day"),
        Spoil(FLIGHTS, "month", "13", "operations.flights", "flight_date"),
        Spoil(FLIGHTS, "time_hour", "noon", "operations.flights", "scheduled_at"),
        Spoil(FLIGHTS, "origin", "BOS", "operations.flights", "origin_known"),
        Spoil(FLIGHTS, "carrier", "NA", "operations.flights", "carrier"),
        Spoil(WEATHER, "temp", "hot", "weather.observations", "values_readable"),
        Spoil(WEATHER, "temp", "500", "weather.observations", "temperatures_plausible"),
        Spoil(WEATHER, "humid", "101", "weather.observations", "shares_in_range"),
        Spoil("planes.csv", "year", "old", "fleet.planes", "values_readable"),
        Spoil("planes.csv", "seats", "0", "fleet.planes", "counts_plausible"),
        Spoil("airports.csv", "lat", "north", "fleet.airports", "lat"),
        Spoil("airports.csv", "lat", "95", "fleet.airports", "on_earth"),
        Spoil("airlines.csv", "name", "NA", "fleet.airlines", "name"),
    ],
    ids=lambda spoil: f"{spoil.table}-{spoil.column}-{spoil.value}",
)
def test_a_broken_value_does_not_stop_the_build_and_a_blocking_check_sees_it(
    project: Path, tmp_path: Path, spoil: Spoil
) -> None:
    day, promise = date(2013, 2, 12), BY_ID[spoil.table]
    database = _rebuild(project, tmp_path, day, day, spoil)

    with duckdb.connect(str(database), read_only=True) as alone:
        alone.execute("set TimeZone = 'UTC'")
        checks = {check["id"]: (column, check) for column, check in promise.checks()}
        if spoil.check in checks:
            column, check = checks[spoil.check]
            assert check["severity"] == "error"
            rows = f"select * from {promise.name}"
            assert not _holds(_measure(alone, rows, column, check), check)
        else:
            required = {c["name"] for c in promise.columns if c.get("required")}
            assert spoil.check in required
            missing = f"select count(*) from {promise.name} where {spoil.check} is null"
            assert _one(alone, missing) == 1
