"""
A mesh on real Airflow: nothing holds a worker while it waits, everything arrives exactly once.

One story, because starting Airflow is what costs: wait, land, withhold a broken file and mend it,
kill the triggerer and PostgreSQL, land the late hour, restate an hour and a whole table. Most hours
are published by `levada run` before. No timetable runs a whole table: what lands opens its step,
and the reconciler starts the run.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import source_system
import yaml
from live import Live, until

from levada.adapters import postgres
from levada.flow import platform
from levada.ledger.codec import encode_partition
from levada_sensors import service
from levada_sensors.judging import claim_prefix

pytestmark = [pytest.mark.airflow, pytest.mark.integration]

DAY = date(2013, 3, 10)  # the day of 23 hours
DAYS, OBSERVATIONS = "weather.days@1", "weather.observations@1"
PLANES, WHOLE = "fleet.planes@1", ""
MADE_OF_FLIGHTS = ("company.daily_punctuality", "company.route_board")
LATE = datetime(2013, 3, 11, 3, tzinfo=UTC)
HOURS = [LATE - timedelta(hours=back) for back in reversed(range(23))]
BEFORE, SOON = HOURS[:20], HOURS[20:22]

MODEL = """\
select
    origin,
    cast(timezone('America/New_York', observed_at) as date) as weather_date,
    cast(count(*) as integer) as hours,
    max(temp) as warmest
from {{ ref('observations') }}
group by all
"""
CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: weather.days
name: days
version: 1.0.0
status: active
domain: weather
dataProduct: days
description: {purpose: How many hours of a local day were observed at each airport.}
team: {name: weather-data, members: [{username: weather-data@flights.example, role: owner}]}
schema:
  - name: days
    physicalType: table
    logicalType: object
    customProperties:
      - {property: grain, value: day}
      - {property: zone, value: America/New_York}
      - {property: intervalColumn, value: weather_date}
    properties:
      - {name: origin, logicalType: string, physicalType: VARCHAR, required: true,
         primaryKey: true, primaryKeyPosition: 1, description: The airport.}
      - {name: weather_date, logicalType: date, physicalType: DATE, required: true,
         primaryKey: true, primaryKeyPosition: 2, description: The local day.}
      - {name: hours, logicalType: integer, physicalType: INTEGER, required: true,
         description: Hours observed.}
      - {name: warmest, logicalType: number, physicalType: DOUBLE, description: Fahrenheit.}
"""


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Live]:
    made = Live.make(
        tmp_path,
        domains=("operations", "weather", "fleet"),
        first=str(DAY),
        last=str(DAY),
        lease="10s",
    )
    mesh = Live(made.root)
    (mesh.root / "contracts/weather/days.v1.odcs.yaml").write_text(CONTRACT)
    (mesh.root / "models/weather/base").mkdir(exist_ok=True)
    (mesh.root / "models/weather/base/days.sql").write_text(MODEL)
    for path in (*mesh.root.glob("contracts/fleet/*"), *mesh.root.glob("models/fleet/*/*.sql")):
        if path.name.split(".")[0] not in ("planes", "unreadable", "as_type"):  # the register alone
            path.unlink()
    (mesh.root / "models/fleet/base/base.yml").unlink()
    words = yaml.safe_load((mesh.root / "levada.yaml").read_text())
    words["probe"] = {"every": "2s", "horizon": "40d"}
    (mesh.root / "levada.yaml").write_text(yaml.safe_dump(words))
    try:
        yield mesh
    finally:
        service.stop(mesh.settings)
        mesh.stop()


def register(mesh: Live) -> Path:
    return mesh.landing / "planes.csv"


def published_rows(mesh: Live) -> int:
    with mesh.lake() as lake:
        (found,) = lake.read("select count(*) as n from fleet.main.planes_v1")
    return int(str(found["n"]))


def whole_runs(mesh: Live) -> list[tuple[Any, ...]]:
    """The runs of the whole table: how each was started, its logical date, its end."""
    return mesh.airflow(
        "select split_part(run_id, '__', 1), logical_date, state from dag_run"
        " where dag_id = 'fleet.planes' order by run_after"
    )


def land_broken_flights(mesh: Live) -> None:
    """A row of the day has no readable departure time, from the first moment that it is there."""
    beside = mesh.root / "beside"
    source_system.land_flights(DAY, beside)
    (file,) = (beside / "flights").iterdir()
    source_system.break_row(file, "dep_time", "soon")
    (mesh.landing / "flights").mkdir(exist_ok=True)
    file.rename(mesh.landing / "flights" / file.name)


def flights_run(mesh: Live) -> str:
    """How the run of the day's flights stands."""
    ((state,),) = mesh.airflow("select state from dag_run where dag_id = 'operations.flights'")
    return str(state)


def assert_withheld(mesh: Live) -> None:
    """What reads the flights waits, and whoever asks is told the check, the row and whom to ask."""
    assert ("operations.delays", "deferred", None, "") in mesh.tasks("sense")
    (cause,) = mesh.json("why", "operations.delays", str(DAY))["causes"]
    assert (cause["table"], cause["state"]) == ("operations.flights@1", "FAILED")
    assert "operations-data" in cause["owner"]
    failed = {check["id"]: check["rows"] for check in cause["checks"]}
    assert "unreadable=dep_time" in failed["values_readable"][0]


def assert_all_ends(mesh: Live) -> None:
    """What was started is ended, by `levada down`, and nothing else."""
    alive = service.running(mesh.settings)
    assert set(alive) == {"supervisor", *service.COMPONENTS}
    mesh.levada("down")
    assert service.running(mesh.settings) == {}
    assert service.address(mesh.settings) is None
    assert [p.info for p in psutil.process_iter(["pid", "name", "cwd"]) if _inside(p, mesh)] == []


def kill_server(mesh: Live) -> int:
    """PostgreSQL as a machine out of memory ends it: the postmaster and every child, at once."""
    pid = postgres.running(mesh.root / ".levada")
    assert pid is not None
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return pid


@dataclass(frozen=True)
class Built:
    """A line that an Airflow run published: when its build began, and when its inputs came."""

    table: str
    began: datetime
    inputs: tuple[datetime, ...]


def built(mesh: Live) -> list[Built]:
    """Every line that Airflow made, with the task that built it, from both databases."""
    starts: dict[str, list[datetime]] = {}
    for dag_id, run_id, start in mesh.airflow(
        "select dag_id, run_id, start_date from task_instance where task_id = 'build'"
        " union select dag_id, run_id, start_date from task_instance_history"
        " where task_id = 'build' order by 3"
    ):
        if start is not None:
            starts.setdefault(claim_prefix(dag_id, run_id), []).append(start)
    came = {
        (table, part, generation): at
        for name in ("landings", "publications")
        for table, part, generation, at in mesh.rows(
            f"select table_name, part, generation, at from ledger.{name}"
        )
    }
    with platform.ledger(mesh.credentials, "levada_runner") as ledger:
        lines = ledger.published(0, 1000)
    found = []
    for line in lines:
        prefix = f"{line.run.rpartition('@')[0]}@"
        if prefix in starts:  # else `levada run` made it
            read = [i for i in line.inputs if i.content is not None]
            keys = [(str(i.table), encode_partition(i.partition), i.generation) for i in read]
            began = max(start for start in starts[prefix] if start < line.at)
            found.append(Built(str(line.table), began, tuple(came[key] for key in keys)))
    return found


def assert_no_task_depends_on_another_dag(mesh: Live) -> None:
    """Of each product's DAG, as Airflow stored it: tables go out, and nothing comes in."""
    stored = mesh.airflow("select dag_id, data -> 'dag' from serialized_dag")
    products = {name: dag for name, dag in stored if not name.startswith("levada.")}
    assert sorted(products) == [
        *("fleet.planes", "operations.delays", "operations.flights"),
        *("weather.days", "weather.observations"),
    ]
    for name, dag in products.items():
        found = {(each["source"], each["target"]) for each in dag["dag_dependencies"]}
        assert found == {(name, "asset")}
        assert dag["timetable"]["__type"].rpartition(".")[2] in (
            "IntervalTimetable",
            "NullTimetable",
        )
        tasks = [task["__var"] for task in dag["tasks"]]
        assert {task["task_type"] for task in tasks} == {
            *("TableSensor", "BuildOperator", "PublishOperator"),
        }
        assert "external_dag_id" not in str(tasks)


def assert_inputs_came_before(found: list[Built]) -> None:
    assert [each for each in found if max(each.inputs) >= each.began] == []


def _inside(process: psutil.Process, mesh: Live) -> bool:
    return str(process.info["cwd"] or "").startswith(str(mesh.root))


def test_late_data_kills_and_restarts_lose_nothing_and_double_nothing(mesh: Live) -> None:
    for hour in BEFORE:
        source_system.land_weather_hour(hour, mesh.landing)
    mesh.start()
    mesh.levada("run", "weather.observations")
    assert mesh.counts() == {OBSERVATIONS: 20}
    mesh.fly("operations", "weather", "fleet")

    # What is published already is skipped; the rest waits, and no worker is held by it.
    def states() -> Counter[str]:
        return Counter(state for _, state, _, _ in mesh.tasks("sense"))

    until(lambda: states() == {"deferred": 6, "skipped": 20}, lambda: (states(), mesh.faults()))
    assert {(pid, host) for _, _, pid, host in mesh.tasks("sense")} == {(None, "")}
    assert_no_task_depends_on_another_dag(mesh)

    assert whole_runs(mesh) == []

    # All but one hour lands, the flights with a broken row: what can be published is, and that day
    # is withheld, with what reads it.
    land_broken_flights(mesh)
    source_system.land_whole(mesh.landing)
    for hour in SOON:
        source_system.land_weather_hour(hour, mesh.landing)
    counts = {OBSERVATIONS: 22, PLANES: 1}
    until(lambda: mesh.counts() == counts and flights_run(mesh) == "failed", mesh.lines)
    assert ("weather.days", "deferred", None, "") in mesh.tasks("sense")
    assert_withheld(mesh)

    # The source lands the file again; nobody clears, marks or edits anything.
    source_system.land_flights(DAY, mesh.landing)
    counts |= {"operations.flights@1": 1, "operations.delays@1": 1}
    until(lambda: mesh.counts() == counts, mesh.lines)

    # The triggerer and all of PostgreSQL are killed while the day and its last hour wait.
    before = service.running(mesh.settings)["triggerer"]
    os.kill(before, signal.SIGKILL)
    server = kill_server(mesh)
    source_system.land_weather_hour(LATE, mesh.landing)
    counts |= {DAYS: 1, OBSERVATIONS: 23}
    until(lambda: mesh.counts() == counts, mesh.lines)
    assert service.running(mesh.settings)["triggerer"] != before
    assert postgres.running(mesh.root / ".levada") not in (None, server)
    every = [(table, *line) for table, found in mesh.lines().items() for line in found]
    assert len(every) == len(set(every))
    assert {generation for _, _, generation in every} == {1}

    # Every product's run began after the last of the lines that it read.
    made = built(mesh)
    assert Counter(each.table for each in made) == {**counts, OBSERVATIONS: 3}
    assert_inputs_came_before(made)

    # An hour is restated, and the register has an aircraft less: the reconciler runs each again,
    # and the day that reads the hour; nothing else.
    until(lambda: whole_runs(mesh) == [("step", None, "success")], lambda: whole_runs(mesh))
    for file in (next((mesh.landing / "weather").glob("2013-03-10T10Z*")), register(mesh)):
        beside = file.with_suffix(".new")
        beside.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
        beside.rename(file)
    until(lambda: len(mesh.lines()[DAYS]) == len(mesh.lines()[PLANES]) == 2, mesh.lines)
    again = [(table, *line) for table, found in mesh.lines().items() for line in found]
    assert sorted(set(again) - set(every)) == [
        (PLANES, WHOLE, 2),
        (DAYS, "2013-03-10T05:00:00+00:00", 2),
        (OBSERVATIONS, "2013-03-10T10:00:00+00:00", 2),
    ]
    assert len(again) == len(every) + 3
    until(
        lambda: {state for _, _, state in whole_runs(mesh)} == {"success"}, lambda: whole_runs(mesh)
    )
    assert [how[:2] for how in whole_runs(mesh)] == [("step", None)] * 2
    assert published_rows(mesh) == len(register(mesh).read_text().splitlines()) - 1
    assert mesh.airflow("select dag_id, run_id from dag_run where state = 'failed'") == []

    assert len(built(mesh)) == len(made) + 3
    assert_inputs_came_before(built(mesh))

    assert_all_ends(mesh)


@pytest.mark.prove
def test_a_mended_file_arrives_in_all_four_layers_and_nobody_clears_anything(
    tmp_path: Path,
) -> None:
    """The day's flights are broken, then landed again: the company's tables are made of them."""
    mesh = Live(Live.make(tmp_path, first=str(DAY), last=str(DAY), lease="10s").root)
    words = yaml.safe_load((mesh.root / "levada.yaml").read_text())
    words["probe"] = {"every": "2s", "horizon": "40d"}
    (mesh.root / "levada.yaml").write_text(yaml.safe_dump(words))
    for hour in HOURS:
        source_system.land_weather_hour(hour, mesh.landing)
    source_system.land_whole(mesh.landing)
    try:
        mesh.start()
        mesh.levada("run", "weather", code=None)
        land_broken_flights(mesh)
        mesh.fly("operations", "weather", "fleet", "company")
        until(lambda: mesh.counts().get(PLANES) == 1, mesh.lines)
        until(lambda: flights_run(mesh) == "failed", mesh.lines)
        below = ("operations.delays", "fleet.utilisation", *MADE_OF_FLIGHTS)

        def waiting() -> set[str]:
            return {dag for dag, state, _, _ in mesh.tasks("sense") if state == "deferred"}

        until(lambda: waiting() >= set(below), lambda: (waiting(), mesh.faults()))
        for product in MADE_OF_FLIGHTS:
            (cause,) = mesh.json("why", product, str(DAY))["causes"]
            assert (cause["table"], cause["state"]) == ("operations.flights@1", "FAILED")
            assert "operations-data" in cause["owner"]
            failed = {check["id"]: check["rows"] for check in cause["checks"]}
            assert "unreadable=dep_time" in failed["values_readable"][0]
        assert not [table for table in mesh.counts() if table.startswith("company.")]

        source_system.land_flights(DAY, mesh.landing)

        wanted = {f"{product}@1": 1 for product in ("operations.flights", *below)}
        until(lambda: mesh.counts().items() >= wanted.items(), mesh.lines, seconds=300)
        assert {generation for found in mesh.lines().values() for _, generation in found} == {1}
        made = built(mesh)
        assert {each.table for each in made} >= set(wanted)
        assert_inputs_came_before(made)
    finally:
        mesh.land_hard()
        mesh.stop()
