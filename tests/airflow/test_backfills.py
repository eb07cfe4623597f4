"""
Backfills through a real Airflow: each interval is made once, whatever is killed or begun twice.

One Airflow for all tests of this file. Each plans the same history again and is judged by the
generations that it published; the live day is landed and built meanwhile.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest
import tiny
import yaml
from live import Live, until

from levada.adapters import postgres
from levada_sensors import service
from levada_sensors.limits import BACKFILL, POOL

pytestmark = [pytest.mark.airflow, pytest.mark.integration, pytest.mark.prove]

NUMBERS, SUMS = "north.numbers", "south.sums"
TABLES = (f"{NUMBERS}@1", f"{SUMS}@1")
HISTORY = [f"2013-03-{day:02}" for day in range(8, 16)]
LIVE = [f"2013-03-{day:02}" for day in range(16, 20)]
STEPS = 2 * len(HISTORY)
BATCH = """\
batch: daily
grain: day
owner: governance
description: The south sums what the north numbers.
rules:
  - id: adds_up
    kind: totals
    description: The sums are those of the numbers.
    left: {table: north.numbers, values: [amount]}
    right: {table: south.sums, values: [amount]}
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    root = tmp_path_factory.mktemp("backfills") / "mesh"
    mesh = Live(tiny.mesh(root, ("north", "south"), last=LIVE[-1]).root)
    words = yaml.safe_load((root / "levada.yaml").read_text())
    words |= {"probe": {"every": "1s", "horizon": "40d"}, "lease": "10s", "live_from": LIVE[0]}
    (root / "levada.yaml").write_text(yaml.safe_dump(words))
    tiny.project(mesh, "north", lands=True)
    tiny.contract(mesh, "north", "numbers")
    source = "{{ source('landing', 'numbers') }}"
    tiny.model(mesh, "north", "numbers", f"select {tiny.NUMBERS} from {source}")
    tiny.project(mesh, "south")
    tiny.contract(mesh, "south", "sums")
    summed(mesh)
    rules = root / "contracts" / "governance" / "consistency" / "daily.yaml"
    rules.parent.mkdir(parents=True)
    rules.write_text(BATCH)
    for day in HISTORY:
        tiny.landed(mesh, "north", day, [1, 2])
    mesh.start()
    mesh.levada("run")
    try:
        mesh.fly("north", "south", "consistency")
        yield mesh
    finally:
        mesh.land_hard()
        mesh.stop()


def summed(mesh: Live, comment: str = "") -> None:
    batched = "{{ config(meta={'levada': {'batch': true}}) }}\n"
    reads = "{{ ref('north', 'numbers') }}"
    tiny.model(mesh, "south", "sums", f"{batched}select id, day, amount from {reads}{comment}")


def begun(mesh: Live, name: str, *words: str) -> str:
    """Plan all of history again, and begin it; its id."""
    path = mesh.root / f"{name}.json"
    days = ("--from", HISTORY[0], "--to", HISTORY[-1])
    mesh.levada("backfill", "plan", NUMBERS, *days, "--reason", name, "--out", str(path))
    told = mesh.json("backfill", "run", str(path), "--force", *words)
    return str(told["id"])


def state(mesh: Live, name: str) -> tuple[str, dict[str, int]]:
    (told,) = mesh.json("backfill", "status", name)
    return told["state"], told["steps"]


def finished(mesh: Live, name: str, steps: dict[str, int] | None = None) -> None:
    wanted = ("finished", steps or {"made": STEPS})
    until(
        lambda: state(mesh, name) == wanted,
        lambda: (state(mesh, name), mesh.faults(), ran(mesh)),
        seconds=300,
    )


def ran(mesh: Live, name: str = "bf-") -> list[tuple[Any, ...]]:
    """The runs of backfills in Airflow: id, state, note."""
    return mesh.airflow(
        "select r.run_id, r.state, n.content from dag_run r"
        " left join dag_run_note n on n.dag_run_id = r.id"
        " where r.dag_id = %s and r.run_id like %s order by r.id",
        *(BACKFILL, f"{name}%"),
    )


def made(mesh: Live, before: dict[str, list[tuple[str, int]]]) -> Counter[tuple[str, str]]:
    """How often each interval of history was published since."""
    return Counter(
        (table, start[:10])
        for table, lines in mesh.lines().items()
        for start, generation in lines
        if (start, generation) not in before.get(table, []) and start[:10] in HISTORY
    )


ONCE = dict.fromkeys(((table, day) for table in TABLES for day in HISTORY), 1)


def test_its_runs_are_marked_in_airflow_and_go_through_a_pool_of_their_own(mesh: Live) -> None:
    before = mesh.lines()
    name = begun(mesh, "late corrections")
    finished(mesh, name)
    assert made(mesh, before) == ONCE
    assert mesh.json("backfill", "run", str(mesh.root / "late corrections.json"))["steps"] == {
        "made": STEPS
    }
    # The ledger has it a moment before Airflow has ended the last run.
    until(lambda: {state for _, state, _ in ran(mesh, name)} == {"success"}, lambda: ran(mesh))
    runs = ran(mesh, name)
    assert {note for _, _, note in runs} == {f"backfill {name}: late corrections"}
    sums = [run for run, _, _ in runs if f"__{SUMS}__" in run]
    assert len(sums) < len(HISTORY), "contiguous days of a batch product go together"
    tasks = mesh.airflow(
        "select distinct pool, priority_weight from task_instance where dag_id = %s", BACKFILL
    )
    assert tasks == [(POOL, 1)]
    assert mesh.airflow("select slots from slot_pool where pool = %s", POOL) == [(2,)]
    times = mesh.airflow(
        "select start_date, end_date from task_instance where dag_id = %s and run_id like %s",
        *(BACKFILL, f"{name}%"),
    )
    at_once = [sum(a <= at < b for a, b in times) for at, _ in times]
    assert max(at_once) <= 2, "never more at once than `backfill.parallel`"
    live = "select distinct pool, priority_weight from task_instance where dag_id = %s"
    tiny.landed(mesh, "north", LIVE[0], [1])
    until(lambda: mesh.generations(TABLES[1], LIVE[0]) == [1], mesh.lines)
    assert mesh.airflow(live, SUMS) == [("default_pool", 10)]
    until(
        lambda: not mesh.rows("select product from ledger.steps"),
        lambda: mesh.rows("select product, part from ledger.steps"),
    )


@pytest.mark.parametrize("component", ["scheduler", "triggerer"])
def test_killed_in_the_middle_it_repeats_only_what_was_not_done(mesh: Live, component: str) -> None:
    before = mesh.lines()
    name = begun(mesh, f"killed {component}")
    until(lambda: made(mesh, before).total() >= 2, lambda: state(mesh, name))
    pid = service.running(mesh.settings)[component]
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in family:
        os.kill(process.pid, signal.SIGKILL)
    assert state(mesh, name)[1].get("open"), "it was over before it was killed"
    finished(mesh, name)
    assert made(mesh, before) == ONCE


def test_a_database_that_is_lost_in_the_middle_loses_and_doubles_nothing(mesh: Live) -> None:
    """The ledger, the lake's catalogue and Airflow's own, at once, as they share a server."""
    before = mesh.lines()
    name = begun(mesh, "lost")
    until(lambda: made(mesh, before).total() >= 2, lambda: state(mesh, name))
    assert state(mesh, name)[1].get("open"), "it was over before the database was lost"
    place = mesh.root / ".levada"
    server = postgres.running(place)
    assert server is not None
    for process in (*psutil.Process(server).children(recursive=True), psutil.Process(server)):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    # Nobody here starts it again: who watches over Airflow does.
    until(
        lambda: postgres.running(place) not in (None, server) and mesh.rows("select 1"),
        lambda: postgres.running(place),
    )
    finished(mesh, name)
    assert made(mesh, before) == ONCE
    assert "what the log says" in mesh.levada("ledger", "verify").stdout


def test_paused_it_begins_nothing_and_the_live_day_goes_on(mesh: Live) -> None:
    before = mesh.lines()
    name = begun(mesh, "paused")
    until(lambda: state(mesh, name)[1].get("made", 0) >= 1, lambda: state(mesh, name))
    mesh.levada("backfill", "pause", name, "--reason", "the day is busy")
    alive = "select run_id from dag_run where dag_id = %s and state in ('queued', 'running')"
    until(lambda: not mesh.airflow(alive, BACKFILL), lambda: mesh.airflow(alive, BACKFILL))
    told = state(mesh, name)
    assert told[0] == "paused"
    assert told[1]["open"]
    tiny.landed(mesh, "north", LIVE[1], [1])
    until(lambda: mesh.generations(TABLES[1], LIVE[1]) == [1], mesh.lines)
    assert state(mesh, name) == told
    mesh.levada("backfill", "resume", name)
    tiny.landed(mesh, "north", LIVE[2], [1])
    finished(mesh, name)
    until(lambda: mesh.generations(TABLES[1], LIVE[2]) == [1], mesh.lines)
    assert made(mesh, before) == ONCE


def test_a_backfill_over_a_running_one_is_merged_and_nothing_is_doubled(mesh: Live) -> None:
    before = mesh.lines()
    first = begun(mesh, "first")
    mesh.levada("backfill", "pause", first)
    second = begun(mesh, "second")
    mesh.levada("backfill", "resume", first)
    finished(mesh, first)
    finished(mesh, second)
    twice = {key for key, count in made(mesh, before).items() if count > 1}
    # What the first had made before it was paused is made again for the second, which came later.
    assert len(twice) <= 4
    assert set(made(mesh, before).values()) <= {1, 2}


def test_what_fails_is_named_and_the_rest_goes_on_and_what_cannot_be_is_left(mesh: Live) -> None:
    path = mesh.landing / "north" / f"{HISTORY[2]}.csv"
    whole = path.read_text()
    tiny.contract(mesh, "north", "numbers")
    tiny.landed(mesh, "north", HISTORY[2], [])  # no row: the audit fails
    name = begun(mesh, "failing")
    finished(mesh, name, {"made": STEPS - 2, "failed": 1, "left": 1})
    (told,) = mesh.json("backfill", "status", name)
    assert {(each["product"], each["state"]) for each in told["left"]} == {
        (NUMBERS, "failed"),
        (SUMS, "left"),
    }
    path.write_text(whole)
    mesh.levada("backfill", "resume", name)
    finished(mesh, name)


def test_cancelled_it_leaves_the_rest_and_what_was_under_way_is_made_and_put_back(
    mesh: Live,
) -> None:
    before = mesh.lines()
    name = begun(mesh, "cancelled")

    def building() -> list[tuple[Any, ...]]:
        return mesh.airflow(
            "select run_id from task_instance where dag_id = %s and run_id like %s"
            " and task_id = 'build' and state = 'running'",
            *(BACKFILL, f"{name}%"),
        )

    until(
        lambda: state(mesh, name)[1].get("made") and building(),
        lambda: (state(mesh, name), ran(mesh, name)),
    )
    mesh.levada("backfill", "cancel", name)
    alive = "select run_id from dag_run where dag_id = %s and state in ('queued', 'running')"
    until(lambda: not mesh.airflow(alive, BACKFILL), lambda: mesh.airflow(alive, BACKFILL))
    told = state(mesh, name)
    published = made(mesh, before).total()
    assert told == ("cancelled", {"made": published, "cancelled": STEPS - published})
    assert 0 < published < STEPS
    mesh.levada("backfill", "rollback", name, "--reason", "wrong")
    steps = {"restored": published, "cancelled": STEPS - published}
    assert state(mesh, name) == ("rolled back", steps)
    assert [step for step in mesh.json("run", "--dry-run") if not step["first"]] == []


def test_what_governance_scheduled_is_begun_by_the_reconciler_and_made(mesh: Live) -> None:
    before = mesh.lines()
    known = {each["id"] for each in mesh.json("backfill", "status")}
    summed(mesh, "\n-- otherwise")  # so that there is something to make
    mesh.levada("compile")
    path = mesh.root / "contracts" / "governance" / "backfills.yaml"
    words = {"tables": [SUMS], "every": "day", "from": f"{datetime.now(UTC):%Y-%m-%d}"}
    words |= {"zone": "UTC", "last": "9999d", "reason": "invoices are corrected for years"}
    path.write_text(yaml.safe_dump({"backfills": {"nightly": words}}))

    def fresh() -> list[Any]:
        return [each for each in mesh.json("backfill", "status") if each["id"] not in known]

    until(fresh, lambda: (mesh.faults(), mesh.json("backfill", "schedule", "list")))
    (scheduled,) = fresh()
    assert scheduled["because"].startswith("nightly of ")
    assert scheduled["because"].endswith(": invoices are corrected for years")
    until(
        lambda: state(mesh, scheduled["id"])[0] == "finished",
        lambda: (state(mesh, scheduled["id"]), ran(mesh, scheduled["id"])),
        seconds=300,
    )
    assert made(mesh, before) == {(TABLES[1], day): 1 for day in HISTORY}
    notes = {note for _, _, note in ran(mesh, scheduled["id"])}
    assert notes == {f"backfill {scheduled['id']}: {scheduled['because']}"}
    (told,) = mesh.json("backfill", "schedule", "list")
    assert (told["due"], told["newest"]) == ([], {"id": scheduled["id"], "state": "finished"})
    assert [each["id"] for each in fresh()] == [scheduled["id"]], "once"
    path.unlink()


def test_a_batch_is_started_by_its_tables_and_a_restated_interval_is_compared_anew(
    mesh: Live,
) -> None:
    day, dag = LIVE[3], "consistency.daily"

    def compared() -> list[tuple[str, str]]:
        return mesh.rows("select key, verdict from ledger.reports where key = %s", day)

    def seen() -> object:
        return compared(), mesh.states(dag, day), mesh.lines(), mesh.faults()

    until(lambda: mesh.states(dag, day).get("sense") == "deferred", seen)
    assert compared() == []
    tiny.landed(mesh, "north", day, [1, 2])
    until(lambda: compared() == [(day, "PASS")], seen)
    until(lambda: mesh.runs(dag)[day][1] == "success", seen)
    # Airflow refuses a second run of a date, but not one that has none.
    of_day = (
        "select run_id from dag_run where dag_id = %s and"
        " (logical_date is null or (logical_date at time zone 'UTC')::date = %s::date) order by 1"
    )
    before = mesh.airflow(of_day, dag, day)
    assert len(before) == 1
    (published,) = mesh.rows(
        "select max(at) from ledger.publications where part like %s", f"%{day}%"
    )
    (began,) = mesh.airflow(
        "select t.start_date from task_instance t join dag_run r"
        " on (r.dag_id, r.run_id) = (t.dag_id, t.run_id)"
        " where t.dag_id = %s and t.task_id = 'compare' and r.run_id = %s",
        *(dag, mesh.runs(dag)[day][0]),
    )
    assert began > published, "no worker waited for what it compares"

    tiny.landed(mesh, "north", day, [1, 3])
    until(lambda: mesh.generations(TABLES[1], day) == [1, 2], seen)
    tiny.landed(mesh, "north", LIVE[1], [3])  # what the reconciler is woken by next
    until(lambda: compared() == [(day, "PASS")] * 2, seen)
    assert mesh.airflow(of_day, dag, day) == before, "its run was cleared; no other was made"
