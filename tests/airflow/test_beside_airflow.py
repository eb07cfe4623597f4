"""
The same case by Airflow's own means and by Levada's judge, side by side.

What Airflow did is seen in a run of its own scheduler and sensors (cases/beside.py), and pinned
here as it was seen: a version that does otherwise fails a test, and what
docs/explanation/beside-airflow.md says of it is out of date.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from tests.unit.strategies import (
    NEW_YORK,
    World,
    edge,
    failing_check,
    little_mesh,
    make_mesh,
    make_source,
    ref,
    single,
)

from levada.adapters.postgres import Credentials
from levada.intervals import mapped, parse, within
from levada.plan import affected, plan
from levada.readiness import judge_inputs, judge_table
from levada.settings import Settings
from levada.terms import (
    WHOLE,
    Grain,
    Identity,
    Lag,
    Mesh,
    Partition,
    Readiness,
    Rollup,
    Span,
    State,
    Verdict,
)
from levada_sensors.judging import Misnamed
from levada_sensors.triggers import TableTrigger

pytestmark = [pytest.mark.airflow, pytest.mark.integration, pytest.mark.prove]

CASES = Path(__file__).with_name("cases")
DATABASE = "beside"
Seen = dict[str, Any]


@pytest.fixture(scope="module")
def airflow(server: Credentials) -> Iterator[Seen]:
    """What Airflow did, by case; all in one process, on a metadata database of its own."""
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(f"create database {DATABASE}")
        try:
            with tempfile.TemporaryDirectory(prefix="levada-beside-") as folder:
                yield _seen(server, Path(folder))
        finally:
            admin.execute(f"drop database {DATABASE} with (force)")


def _seen(server: Credentials, home: Path) -> Seen:
    address = server.url(server.admin, DATABASE).replace("postgresql:", "postgresql+psycopg:", 1)
    options = {
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": address,
    }
    inherited = {name: value for name, value in os.environ.items() if "AIRFLOW_" not in name}

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            check=False,
            env={**inherited, **options},
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=540,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    (home / "dags").mkdir()
    run("-m", "airflow", "db", "migrate")
    run(str(CASES / "beside.py"), str(home / "seen.json"))
    found: Seen = json.loads((home / "seen.json").read_text())
    return found


def case(airflow: Seen, name: str) -> Seen:
    seen: Seen = airflow[name]
    assert "error" not in seen, seen["error"]
    return seen


# The same in Levada


DAY = "2013-03-10"
FLIGHTS, HOURS, DAILY = "operations.flights", "weather.observations", "company.daily"
SPRING = ("2013-03-08", "2013-03-12")
AUTUMN = ("2013-11-01", "2013-11-05")


def may(world: World, product: str, key: str) -> Readiness:
    """Whether a product may be built."""
    made = world.mesh.product(product)
    at = world.slice(made.marts[0].table, key)
    return judge_inputs(world.mesh, made, at, world.facts, world.now)


def see(world: World, table: str, key: str) -> Readiness:
    """Whether a table may be read."""
    return judge_table(world.mesh, ref(table), world.slice(table, key), world.facts, world.now)


def steps(world: World, *products: str) -> list[tuple[str, str]]:
    found = plan(world.mesh, world.facts, world.now, products=products).steps
    return [(step.product, step.partition.key) for step in found]


def hours_of(world: World, key: str) -> list[Partition]:
    """The hours of UTC that start in a day of New York, counted by the clocks alone."""
    zone, every = ZoneInfo(NEW_YORK), within(Grain.HOUR, NEW_YORK, world.mesh.span)
    return [h for h in every if h.begin.astimezone(zone).date().isoformat() == key]


def weather(world: World, *hours: Partition) -> None:
    for hour in hours:
        world.land("weather.landing.hours", hour)
        world.publish(HOURS, hour)


def ready_world(key: str, span: tuple[str, str] = SPRING) -> World:
    """All that `company.daily` reads for a day is there, but the weather."""
    world = World(little_mesh(first=span[0], last=span[1]), datetime(2013, 12, 1, tzinfo=UTC))
    world.land("operations.landing.flights", key)
    world.publish(FLIGHTS, key)
    world.land("fleet.landing.planes", WHOLE)
    world.publish("fleet.planes", WHOLE)
    return world


def built_world() -> World:
    """The day is published."""
    world = ready_world(DAY)
    weather(world, *hours_of(world, DAY))
    world.publish(DAILY, DAY)
    return world


# Partitioned assets


def test_a_day_of_23_hours_is_ready_with_the_last_of_them_in_both(airflow: Seen) -> None:
    """#68004 fears an eternal wait; the hour that clocks jump over collapses into the next."""
    for name in ("a_local_day_of_hours", "a_local_day_of_hours_with_offsets"):
        seen = case(airflow, name)
        assert DAY not in seen["short, one missing"], name
        assert seen["short"] == ["2013-03-09", DAY], name

    world = ready_world(DAY)
    hours = hours_of(world, DAY)
    assert len(hours) == 23
    weather(world, *hours[:-1])
    assert may(world, DAILY, DAY).state is State.WAITING
    weather(world, hours[-1])
    assert may(world, DAILY, DAY).state is State.READY


def test_a_day_of_25_hours_fires_without_one_in_airflow_and_waits_in_levada(airflow: Seen) -> None:
    day = "2013-11-03"
    for name in ("a_local_day_of_hours", "a_local_day_of_hours_with_offsets"):
        seen = case(airflow, name)
        assert seen["long, one missing"] == ["2013-03-09", DAY, day], name
        # It comes, and nothing reads it; a second run of the day waits for the other 23 again.
        assert seen["long"] == seen["long, one missing"], name
        assert seen["pending"] == [day], name

    world = ready_world(day, AUTUMN)
    hours = hours_of(world, day)
    assert len(hours) == 25
    weather(world, *hours[:1], *hours[2:])
    found = may(world, DAILY, day)
    assert found.state is State.WAITING
    assert [p for _, p in found.missing] == [hours[1]]
    weather(world, hours[1])
    assert may(world, DAILY, day).state is State.READY


def test_a_day_with_a_change_of_half_an_hour_never_fires_in_airflow(airflow: Seen) -> None:
    seen = case(airflow, "a_day_where_clocks_move_by_half_an_hour")
    assert (seen["usual, hours"], seen["usual"]) == (24, ["2013-10-05"])
    assert (seen["short, hours"], seen["short"]) == (23, ["2013-10-05"])
    assert seen["pending"] == ["2013-10-06"]

    zone = "Australia/Lord_Howe"
    span = Span.days("2013-10-01", "2013-10-31", zone)
    day = parse(Grain.DAY, "2013-10-06", zone)
    read = mapped(Rollup(), day, Grain.HOUR, zone, span)
    assert (len(read.partitions), read.impossible) == (seen["short, hours"], ())


def test_days_and_hours_of_utc_roll_up_well_in_both(airflow: Seen) -> None:
    """The way that Airflow's documents advise; the days are then not those of anybody's clocks."""
    assert case(airflow, "a_day_of_utc") == {"runs": [DAY]}

    span = Span.days("2013-03-01", "2013-03-31", "UTC")
    read = mapped(Rollup(), parse(Grain.DAY, DAY, "UTC"), Grain.HOUR, "UTC", span)
    assert len(read.partitions) == 24


def test_an_hour_that_is_run_again_makes_no_run_in_airflow_and_a_step_in_levada(
    airflow: Seen,
) -> None:
    seen = case(airflow, "an_hour_that_is_run_again")
    assert (seen["before"], seen["after"], seen["pending"]) == (1, 1, [DAY])
    assert seen["when all came again"] == 2, "only all 24 hours together make a new run"

    world = built_world()
    assert (DAILY, DAY) not in steps(world, DAILY)
    hour = hours_of(world, DAY)[7]
    world.land("weather.landing.hours", hour, "mended")
    world.publish(HOURS, hour)
    found = see(world, DAILY, DAY)
    assert (found.state, [p for _, p in found.missing]) == (State.STALE, [hour])
    assert (DAILY, DAY) in steps(world, DAILY)
    world.publish(DAILY, DAY)
    assert see(world, DAILY, DAY).state is State.READY


def test_one_of_two_inputs_run_again_waits_for_the_other_in_airflow_but_not_in_levada(
    airflow: Seen,
) -> None:
    seen = case(airflow, "one_of_two_inputs_again")
    assert (seen["with one"], seen["with both"]) == (0, 1)
    assert (seen["after"], seen["pending"]) == (1, [DAY])

    world = built_world()
    world.land("operations.landing.flights", DAY, "mended")
    world.publish(FLIGHTS, DAY)
    assert may(world, DAILY, DAY).state is State.READY, "the weather is as good as it was"
    assert (DAILY, DAY) in steps(world, DAILY)


def test_the_same_again_starts_a_wait_in_airflow_and_nothing_in_levada(airflow: Seen) -> None:
    """Airflow compares no contents: an event is an event."""
    assert case(airflow, "one_of_two_inputs_again")["pending"] == [DAY]

    world = built_world()
    again = world.land("operations.landing.flights", DAY)
    assert again.generation == 2
    assert see(world, FLIGHTS, DAY).state is State.READY
    assert (FLIGHTS, DAY) not in steps(world, FLIGHTS)
    assert see(world, DAILY, DAY).state is State.READY


def _key(world: World, table: str) -> Any:
    return (ref(table), world.slice(table, DAY))


# Plain assets


def test_inputs_of_different_months_make_a_run_in_airflow_and_wait_in_levada(airflow: Seen) -> None:
    """#45187: an event of an asset belongs to no interval; one of a partitioned asset does."""
    seen = case(airflow, "inputs_of_different_months")
    assert seen["with one"] == 0
    (run,) = seen["with both"]
    assert (run["state"], run["interval"]) == ("success", None), (
        "January's orders, February's refunds"
    )
    assert (seen["by key"], seen["pending"]) == ([], ["2013-01", "2013-02"])

    world = World(
        make_mesh(
            (
                single(
                    *("a.net", Grain.MONTH),
                    edge("a.landing.orders", "a.net", Identity()),
                    edge("a.landing.refunds", "a.net", Identity()),
                ),
            ),
            (
                make_source("a.landing.orders", Grain.MONTH),
                make_source("a.landing.refunds", Grain.MONTH),
            ),
            *("2013-01-01", "2013-02-28"),
        ),
        datetime(2013, 12, 1, tzinfo=UTC),
    )
    january, february = "2013-01-01", "2013-02-01"
    world.land("a.landing.orders", january)
    world.land("a.landing.refunds", february)
    for month in (january, february):
        assert may(world, "a.net", month).state is State.WAITING
    world.land("a.landing.refunds", january)
    assert may(world, "a.net", january).state is State.READY
    assert may(world, "a.net", february).state is State.WAITING


def test_how_many_runs_events_make_depends_on_when_in_airflow_and_on_intervals_in_levada(
    airflow: Seen,
) -> None:
    """#34044: what is written in one loop of the scheduler, and what in several."""
    seen = case(airflow, "three_intervals")
    assert [run["events"] for run in seen["at once"]] == [[1]], "the second and third are left"
    assert [run["events"] for run in seen["and a fourth"]] == [[1], [2, 3, 4]]
    assert [run["events"] for run in seen["one by one"]] == [[1], [2], [3]]
    runs = [*seen["and a fourth"], *seen["one by one"]]
    assert {run["logical_date"] for run in runs} == {run["interval"] for run in runs} == {None}

    days = ("2013-03-08", "2013-03-09", DAY)
    at_once, one_by_one = World(_copied()), World(_copied())
    for day in days:
        at_once.land("a.landing.x", day)
        one_by_one.land("a.landing.x", day)
        assert ("a.x", day) in steps(one_by_one, "a.x")
        one_by_one.publish("a.x", day)
    ready = [d for p, d in steps(at_once, "a.x") if may(at_once, p, d).state is State.READY]
    assert ready == list(days), "one for each interval, and each knows which it is"
    for day in days:
        at_once.publish("a.x", day)
    assert {k: v.content for k, v in at_once.lines.items()} == {
        k: v.content for k, v in one_by_one.lines.items()
    }


def _copied() -> Mesh:
    """A table that copies a landed one, day by day."""
    copy = single("a.x", Grain.DAY, edge("a.landing.x", "a.x", Identity()))
    return make_mesh((copy,), (make_source("a.landing.x", Grain.DAY),), *SPRING)


def test_events_during_the_only_allowed_run_are_left_in_airflow_and_stay_steps_in_levada(
    airflow: Seen,
) -> None:
    """#56050: one run at a time."""
    seen = case(airflow, "events_while_a_run_is_active")
    assert seen["four came"] == [[1], [2]]
    assert set(seen["states"]) == {"success"}, "nothing runs, and nothing is going to"
    assert seen["a fifth"] == [[1], [2], [3, 4, 5]]

    world = World(_copied())
    days = ("2013-03-08", "2013-03-09", DAY, "2013-03-11")
    world.land("a.landing.x", days[0])
    world.claim("a.x", days[0])  # its run is active
    for day in days[1:]:
        world.land("a.landing.x", day)
    del world.claims["a.x", world.slice("a.x", days[0])]
    world.publish("a.x", days[0])
    left = [d for p, d in steps(world, "a.x") if may(world, p, d).state is State.READY]
    assert left == list(days[1:])


def test_a_paused_reader_is_not_started_by_what_came_in_airflow_and_finds_it_in_levada(
    airflow: Seen,
) -> None:
    """#38826: that Levada's DAGs do so when really paused is shown by test_real_airflow.py."""
    seen = case(airflow, "a_paused_reader")
    assert seen["unpaused"] == [[1]], "what came while it was paused starts nothing"
    assert seen["the next"] == [[1], [2, 3, 4]]

    world = World(_copied())
    world.land("a.landing.x", DAY)  # nobody looks
    world.land("a.landing.x", DAY, "mended")
    ready = [d for p, d in steps(world, "a.x") if may(world, p, d).state is State.READY]
    assert ready == [DAY], "once, with what is there now"


def test_a_new_reader_begins_with_the_next_event_in_airflow_and_with_the_tables_in_levada(
    airflow: Seen,
) -> None:
    """#38826, #39456: neither replays events; Levada plans what the tables hold."""
    seen = case(airflow, "a_new_reader")
    assert (seen["declared"], seen["the next"]) == ([], [[3]])

    world = World(_copied())
    world.land("a.landing.x", "2013-03-09")
    world.land("a.landing.x", DAY)
    world.land("a.landing.x", DAY, "mended")
    later = single("b.y", Grain.DAY, edge("a.landing.x", "b.y", Identity()))
    world.mesh = replace(world.mesh, products=(*world.mesh.products, later))
    ready = [d for p, d in steps(world, "b.y") if may(world, p, d).state is State.READY]
    assert ready == ["2013-03-09", DAY]


def test_a_reader_of_assets_cannot_be_backfilled_in_airflow_and_is_planned_in_levada(
    airflow: Seen,
) -> None:
    seen = case(airflow, "a_backfill")
    assert set(seen["refused"]) == {"of_the_backfilled", "local_day"}
    for said in seen["refused"].values():
        assert "non-periodic schedule that does not support backfills" in said
    assert (seen["run"]["type"], seen["run"]["state"]) == ("backfill", "success")
    (reader,) = seen["reader"]
    assert (reader["type"], reader["backfill"], reader["interval"]) == (
        *("asset_triggered", False),
        None,
    )

    world = built_world()
    world.land("operations.landing.flights", DAY, "mended")
    world.publish(FLIGHTS, DAY)
    below = affected(world.mesh, ref(FLIGHTS), world.slice(FLIGHTS, DAY))
    made = plan(world.mesh, world.facts, world.now, only=below, reason="backfill")
    assert [(step.product, step.partition.key) for step in made.steps] == [(DAILY, DAY)]
    assert made.reason == "backfill"


def test_a_task_that_ended_well_is_an_event_in_airflow_and_failed_rows_are_no_line_in_levada(
    airflow: Seen,
) -> None:
    seen = case(airflow, "wrong_rows")
    assert seen["writer"] == "success"
    assert [run["state"] for run in seen["reader"]] == ["success"]

    world = ready_world(DAY)
    weather(world, *hours_of(world, DAY))
    assert may(world, DAILY, DAY).state is State.READY
    del world.lines[_key(world, FLIGHTS)]
    world.attempt(FLIGHTS, DAY, Verdict.FAIL, [failing_check(FLIGHTS)])
    assert see(world, FLIGHTS, DAY).state is State.FAILED
    assert may(world, DAILY, DAY).state is not State.READY


# ExternalTaskSensor


def test_an_upstream_run_again_leaves_its_reader_alone_in_airflow_and_stale_in_levada(
    airflow: Seen,
) -> None:
    seen = case(airflow, "an_upstream_that_is_run_again")
    assert (seen["upstream"], seen["reader"]) == ("success", "success")
    assert seen["another reader, while cleared"] == "failed", "it rightly waited until its time-out"
    assert (seen["upstream again"], seen["reader afterwards"]) == (["success"], ["success"])

    world = built_world()
    world.land("operations.landing.flights", DAY, "mended")
    assert see(world, FLIGHTS, DAY).state is State.STALE
    assert may(world, DAILY, DAY).state is not State.READY, "what is being mended is waited for"
    world.publish(FLIGHTS, DAY)
    assert see(world, DAILY, DAY).state is State.STALE
    assert (DAILY, DAY) in steps(world, DAILY)


def test_six_hours_before_is_another_date_when_clocks_change_in_airflow_but_not_in_levada(
    airflow: Seen,
) -> None:
    seen = case(airflow, "six_hours_before")
    assert (seen["usual"]["ran"], seen["usual"]["waited"]) == ("success", "success")
    short = seen["short"]
    assert (short["ran"], short["waited"]) == ("success", "failed")
    apart = datetime.fromisoformat(short["reader"]) - datetime.fromisoformat(short["upstream"])
    assert apart == timedelta(hours=5)

    span = Span.days("2013-03-01", "2013-03-31", NEW_YORK)
    day = parse(Grain.DAY, DAY, NEW_YORK)
    for mapping, key in ((Identity(), DAY), (Lag(1), "2013-03-09")):
        read = mapped(mapping, day, Grain.DAY, NEW_YORK, span).partitions
        assert [p.key for p in read] == [key]


def test_a_skipped_upstream_run_is_a_success_in_airflow_and_no_line_in_levada(
    airflow: Seen,
) -> None:
    seen = case(airflow, "an_upstream_that_made_nothing")
    assert (seen["skips"], seen["reads_skipped"]) == ("success", "success")
    assert seen["reads_skipped_task"] == "failed", "of a single task a skip is no success"

    world = ready_world(DAY)
    weather(world, *hours_of(world, DAY))
    del world.lines[_key(world, FLIGHTS)]
    found = may(world, DAILY, DAY)
    assert found.state is State.WAITING
    assert [str(t) for t, _ in found.missing] == [f"{FLIGHTS}@1"]


def test_a_failed_upstream_is_waited_for_until_the_time_out_unless_airflow_is_told(
    airflow: Seen,
) -> None:
    seen = case(airflow, "an_upstream_that_made_nothing")
    assert seen["breaks"] == "failed"
    assert seen["ended by"]["reads_broken"] == "AirflowSensorTimeout"
    assert seen["ended by"]["reads_broken_told"] == "ExternalDagFailedError"

    # Levada waits too, names the failure, and goes on when it is mended.
    world = ready_world(DAY)
    weather(world, *hours_of(world, DAY))
    del world.lines[_key(world, FLIGHTS)]
    world.attempt(FLIGHTS, DAY, Verdict.FAIL, [failing_check(FLIGHTS)])
    assert "distance.positive" in see(world, FLIGHTS, DAY).because
    assert may(world, DAILY, DAY).state is not State.READY
    world.land("operations.landing.flights", DAY, "mended")
    world.publish(FLIGHTS, DAY)
    assert may(world, DAILY, DAY).state is State.READY


def test_an_upstream_that_does_not_exist_is_waited_for_in_airflow_and_refused_in_levada(
    airflow: Seen, project: Settings, mesh: Mesh
) -> None:
    """`check_existence=True` is accepted, and not looked at: #44092 said so of deferred sensors."""
    seen = case(airflow, "an_upstream_that_made_nothing")
    assert seen["ended by"]["reads_nobody"] == "AirflowSensorTimeout"

    trigger = TableTrigger(partition=DAY, root=str(project.root), tables=["operations.nothing"])
    with pytest.raises(Misnamed, match="has no table operations"):
        trigger._wanted(mesh)
