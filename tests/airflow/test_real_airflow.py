"""
What people and machines do to a running Airflow: nothing is lost, nothing published twice.

Two schedulers run from the start, two triggerers until one is killed. One Airflow for all tests of
this file, which are one story: each has a day of its own, and leaves the next as it found it. The
same story is told of a mesh in which runs wait, and of one that dispatches what is ready.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
import tiny
import yaml
from live import Live, end, frozen, until

from levada.flow import platform
from levada.intervals import parse
from levada.terms import Grain, Step
from levada_sensors import service

pytestmark = [pytest.mark.airflow, pytest.mark.integration, pytest.mark.prove]

BEFORE, FIRST, KILLED, PAUSED, PLANNED, LATE = (f"2013-03-{day:02}" for day in range(8, 14))
DAYS = (BEFORE, FIRST, KILLED, PAUSED, PLANNED, LATE)
TASKS = ("sense", "build", "publish")
NUMBERS, SUMS = "north.numbers", "south.sums"
TABLES = (f"{NUMBERS}@1", f"{SUMS}@1")

MINE = f"""\
from datetime import UTC, datetime
from airflow.sdk import DAG
from levada_sensors import TableSensor

def mapped(name, **words):
    return TableSensor.partial(task_id=name, **words)

with DAG("mine", schedule=None, start_date=datetime(2013, 3, 1, tzinfo=UTC)):
    mapped("mapped", table="{SUMS}").expand(partition=["{FIRST}", "{KILLED}"])
    mapped("by_table", partition="{{{{ dag_run.logical_date }}}}").expand(
        table=["{NUMBERS}", "{SUMS}"]
    )
    numbers = {{"table": "{NUMBERS}", "partition": "{PAUSED}"}}
    TableSensor(task_id="restated", **numbers, generations={{"{NUMBERS}": 2}})
    late = {{"table": "{NUMBERS}", "timeout": 5}}
    TableSensor(task_id="in_vain", **late, partition="{LATE}")
    TableSensor(task_id="leniently", **late, partition="{LATE}", soft_fail=True)
    mapped("mapped_in_vain", **late, soft_fail=True).expand(partition=["{LATE}"])
"""


@dataclass
class Story:
    """The mesh, and what runs beside the components of `levada up`."""

    mesh: Live
    waits: bool
    """Whether runs wait (`dispatch: sensor`)."""
    triggerer: Any

    def both(self, day: str, *generations: int) -> None:
        """Until both tables published these generations of a day, and their runs are over."""
        mesh, wanted = self.mesh, list(generations)

        def there() -> bool:
            published = all(mesh.generations(table, day) == wanted for table in TABLES)
            return published and all(
                mesh.runs(product).get(day, ("", "success"))[1] in ("success", "failed")
                for product in (NUMBERS, SUMS)
            )

        until(there, lambda: (mesh.lines(), mesh.runs(NUMBERS), mesh.runs(SUMS), mesh.faults()))

    def alive(self) -> list[tuple[Any, ...]]:
        """The products' runs that have not ended."""
        return self.mesh.airflow(
            "select dag_id, run_id from dag_run where state in ('queued', 'running')"
            " and dag_id in (%s, %s)",
            *(NUMBERS, SUMS),
        )


def told(mesh: Live, dispatch: str) -> None:
    """Declare two products: a domain lands numbers, the other reads them."""
    words = yaml.safe_load((mesh.root / "levada.yaml").read_text())
    words |= {"probe": {"every": "1s", "horizon": "40d"}, "dispatch": dispatch, "lease": "10s"}
    (mesh.root / "levada.yaml").write_text(yaml.safe_dump(words))
    tiny.project(mesh, "north", lands=True)
    tiny.contract(mesh, "north", "numbers")
    source = "{{ source('landing', 'numbers') }}"
    tiny.model(mesh, "north", "numbers", f"select {tiny.NUMBERS} from {source}")
    tiny.project(mesh, "south")
    tiny.contract(mesh, "south", "sums")
    reads = "{{ ref('north', 'numbers') }}"
    tiny.model(mesh, "south", "sums", f"select id, day, amount from {reads}")


@pytest.fixture(scope="module", params=["sensor", "ready"])
def story(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    root = tmp_path_factory.mktemp(request.param) / "mesh"
    mesh = Live(tiny.mesh(root, ("north", "south"), last=LATE).root)
    told(mesh, request.param)
    tiny.landed(mesh, "north", BEFORE, [1])
    mesh.start()
    mesh.levada("run")
    tiny.landed(mesh, "north", FIRST, [1, 2])
    (root / "dags").mkdir()
    (root / "dags" / "mine.py").write_text(MINE)
    beside = []
    try:
        mesh.fly("north", "south")
        # The second triggerer gets the products' sensors, the first those of `mine`.
        with frozen(service.running(mesh.settings)["triggerer"]):
            beside = [mesh.beside("triggerer"), mesh.beside("scheduler")]
            until(
                lambda: mesh.airflow("select from trigger where triggerer_id is not null"),
                mesh.faults,
            )
        yield Story(mesh, request.param == "sensor", beside[0])
    finally:
        for process in beside:
            end(process, signal.SIGKILL)
        mesh.land_hard()
        mesh.stop()


def holders(mesh: Live) -> dict[str, int]:
    """How many waiting tasks each triggerer holds."""
    rows = mesh.airflow(
        "select triggerer_id, count(*) from trigger where triggerer_id is not null group by 1"
    )
    return {str(triggerer): count for triggerer, count in rows}


def mine(mesh: Live) -> dict[tuple[str, int], str]:
    """The states of somebody's own sensors."""
    rows = mesh.airflow("select task_id, map_index, state from task_instance where dag_id = 'mine'")
    return {(task, index): state for task, index, state in rows}


def test_two_schedulers_build_what_is_ready_and_leave_what_is_current(story: Story) -> None:
    mesh = story.mesh
    with frozen(story.triggerer.pid):
        until(lambda: mesh.airflow("select from dag where dag_id = 'mine'"), mesh.faults)
        mesh.ask("POST", "dags/mine/dagRuns", {"dag_run_id": "r", "logical_date": _noon(FIRST)})
        mesh.pause("mine", False)
        until(lambda: "deferred" in mine(mesh).values(), lambda: (mine(mesh), mesh.faults()))
    story.both(FIRST, 1)
    assert [mesh.generations(table, BEFORE) for table in TABLES] == [[1], [1]]
    schedulers = "select from job where job_type = 'SchedulerJob' and state = 'running'"
    assert len(mesh.airflow(schedulers)) == 2
    if story.waits:
        until(lambda: set(mesh.runs(SUMS)) == set(DAYS), lambda: mesh.runs(SUMS))
        assert mesh.states(SUMS, BEFORE) == dict.fromkeys(TASKS, "skipped")
        assert mesh.states(SUMS, KILLED)["sense"] == "deferred"
    else:
        assert set(mesh.runs(SUMS)) == {FIRST}, "one waits, or was made for what is current"
        assert story.alive() == []
    tries = "select distinct try_number from task_instance where dag_id in (%s, %s)"
    assert mesh.airflow(f"{tries} and state = 'success'", NUMBERS, SUMS) == [(1,)]


def test_a_wait_that_times_out_fails_or_skips_and_goes_on_as_a_step(story: Story) -> None:
    mesh = story.mesh
    ends = {
        ("in_vain", -1): "failed",
        ("leniently", -1): "skipped",
        ("mapped_in_vain", 0): "skipped",
    }
    until(lambda: ends.items() <= mine(mesh).items(), lambda: mine(mesh))
    assert mine(mesh)["restated", -1] == "deferred"
    if story.waits:  # as after a week, Airflow's own limit
        run, _ = mesh.runs(NUMBERS)[LATE]
        path = f"dags/{NUMBERS}/dagRuns/{run}/taskInstances/sense"
        mesh.ask("PATCH", path, {"new_state": "failed"})
        until(lambda: mesh.runs(NUMBERS)[LATE][1] == "failed", lambda: mesh.runs(NUMBERS))
    # It lands now, and is looked for at the end of the story.
    tiny.landed(mesh, "north", LATE, [6])


def test_a_triggerer_killed_while_sensors_wait_loses_none_and_ends_none_twice(
    story: Story,
) -> None:
    mesh = story.mesh
    if story.waits:
        assert len(holders(mesh)) == 2, "one triggerer holds all: nothing is shown"
    end(story.triggerer, signal.SIGKILL)
    tiny.landed(mesh, "north", KILLED, [3])
    story.both(KILLED, 1)
    tried = mesh.airflow(
        "select t.dag_id, t.task_id, t.state, t.try_number from task_instance t join dag_run r"
        " on (r.dag_id, r.run_id) = (t.dag_id, t.run_id)"
        " where t.dag_id in (%s, %s) and r.logical_date = %s order by 1, 2",
        *(NUMBERS, SUMS, _midnight(KILLED)),
    )
    assert tried == [(dag, task, "success", 1) for dag in (NUMBERS, SUMS) for task in sorted(TASKS)]


def test_mapped_sensors_wait_each_for_its_own_table_and_partition(story: Story) -> None:
    mesh = story.mesh
    names = [("mapped", 0), ("mapped", 1), ("by_table", 0), ("by_table", 1)]
    until(lambda: {mine(mesh)[name] for name in names} == {"success"}, lambda: mine(mesh))
    # Airflow defers them from a worker: what each is expanded with is known only there.
    hosts = mesh.airflow("select distinct hostname <> '' from task_instance where map_index >= 0")
    assert hosts == [(True,)]


def test_what_arrives_while_a_dag_is_paused_is_built_once_when_it_is_not(story: Story) -> None:
    mesh = story.mesh
    for dag_id in (NUMBERS, SUMS):
        mesh.pause(dag_id, True)
    tiny.landed(mesh, "north", PAUSED, [4])
    if story.waits:
        until(lambda: mesh.states(NUMBERS, PAUSED)["sense"] == "success", mesh.lines)
    else:
        until(lambda: PAUSED in mesh.runs(NUMBERS), lambda: mesh.runs(NUMBERS))
    assert [mesh.generations(table, PAUSED) for table in TABLES] == [[], []]
    for dag_id in (NUMBERS, SUMS):
        mesh.pause(dag_id, False)
    story.both(PAUSED, 1)
    if story.waits:
        assert set(mesh.runs(NUMBERS)) == set(mesh.runs(SUMS)) == set(DAYS)


def test_the_steps_of_a_plan_beside_routine_runs_publish_nothing_twice(story: Story) -> None:
    mesh = story.mesh
    day = parse(Grain.DAY, PLANNED, "UTC")
    with platform.ledger(mesh.credentials, "levada_runner") as ledger:
        steps = [Step(product, day, "asked for") for product in (NUMBERS, SUMS)]
        assert ledger.open_steps(steps) == 2
        tiny.landed(mesh, "north", PLANNED, [5])
        mesh.levada("run")  # a command builds it too, while the DAGs do
        story.both(PLANNED, 1)
        until(lambda: ledger.steps() == (), ledger.steps)


def test_a_cleared_sensor_waits_for_the_lowest_generation_that_counts(story: Story) -> None:
    mesh = story.mesh
    mesh.clear("mine", "r", "restated")
    again = "select state, try_number from task_instance where task_id = 'restated'"
    until(lambda: mesh.airflow(again) == [("deferred", 2)], lambda: mesh.airflow(again))
    tiny.landed(mesh, "north", PAUSED, [4, 4])
    story.both(PAUSED, 1, 2)
    until(lambda: mesh.airflow(again) == [("success", 2)], lambda: mesh.airflow(again))


def test_clearing_tasks_of_a_finished_run_publishes_nothing_twice(story: Story) -> None:
    mesh = story.mesh
    before = mesh.lines()
    cleared = {
        (NUMBERS, FIRST): TASKS,
        (SUMS, FIRST): ("publish",),
        (NUMBERS, KILLED): ("build",),
        (SUMS, KILLED): ("build", "publish"),
        (NUMBERS, PAUSED): ("sense",),
    }
    for (dag_id, day), tasks in cleared.items():
        mesh.clear(dag_id, mesh.runs(dag_id)[day][0], *tasks)

    def ended() -> bool:
        return all(
            {mesh.states(*run)[task] for task in tasks} == {"skipped"}
            and mesh.runs(run[0])[run[1]][1] == "success"
            for run, tasks in cleared.items()
        )

    until(ended, lambda: {run: (mesh.states(*run), mesh.runs(run[0])) for run in cleared})
    assert mesh.lines() == before


def test_a_dag_that_is_made_anew_replays_no_history(story: Story) -> None:
    mesh = story.mesh
    story.both(LATE, 1)
    until(lambda: not story.alive(), story.alive)
    before = mesh.lines()
    for name, dag_id in (("north", NUMBERS), ("south", SUMS)):
        mesh.ask("DELETE", f"dags/{dag_id}")
        (mesh.root / "dags" / f"{name}.py").touch()
    found = "select dag_id from dag where dag_id in (%s, %s) and not is_stale"
    until(lambda: len(mesh.airflow(found, NUMBERS, SUMS)) == 2, mesh.faults)
    if story.waits:
        skipped = [dict.fromkeys(TASKS, "skipped")] * len(DAYS)
        for dag_id in (NUMBERS, SUMS):
            until(
                lambda dag_id=dag_id: [mesh.states(dag_id, day) for day in DAYS] == skipped,  # type: ignore[misc]
                lambda: (mesh.runs(NUMBERS), mesh.runs(SUMS)),
            )
    # It is a DAG like before: what is restated is built again, once.
    tiny.landed(mesh, "north", BEFORE, [1, 1])
    story.both(BEFORE, 1, 2)
    told = mesh.lines()
    assert {
        table: [line for line in told[table] if line not in before[table]] for table in TABLES
    } == {table: [(f"{BEFORE}T00:00:00+00:00", 2)] for table in TABLES}
    if not story.waits:
        assert set(mesh.runs(NUMBERS)) == set(mesh.runs(SUMS)) == {BEFORE}


def _noon(day: str) -> str:
    return f"{day}T12:00:00Z"


def _midnight(day: str) -> datetime:
    return datetime.fromisoformat(f"{day}T00:00+00:00")
