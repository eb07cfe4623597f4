"""A consistency batch in Airflow: a DAG of its own, waiting for all slices that it compares."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from airflow.serialization.serialized_objects import DagSerialization

from levada import compiled
from levada.errors import DeclarationError
from levada.intervals import parse
from levada.settings import Settings
from levada.terms import (
    Batch,
    ConsistencyRule,
    Grain,
    Mesh,
    Read,
    RuleKind,
    Severity,
    TableRef,
)
from levada_sensors import TableSensor, batch_dags
from levada_sensors.judging import Misnamed, slices_inside
from levada_sensors.limits import waiting_at_most

pytestmark = pytest.mark.airflow

NEW_YORK = "America/New_York"
FLIGHTS = TableRef("operations", "flights")
WEATHER = TableRef("weather", "observations")
PLANES = TableRef("fleet", "planes")


def batch(name: str, grain: Grain, *tables: TableRef) -> Batch:
    zone = "UTC" if grain is Grain.WHOLE else NEW_YORK
    rule = ConsistencyRule(
        *("adds_up", name, RuleKind.KEYS, (), Severity.ADVISORY, "ops", "It adds up."),
        *("rules.yaml", 7, "h1"),
        reads=tuple(Read(table) for table in tables),
    )
    return Batch(name, grain, zone, "ops", "Something holds.", "rules.yaml", (rule,))


@pytest.fixture
def batches(project: Settings, monkeypatch: pytest.MonkeyPatch) -> tuple[Batch, ...]:
    """Two compiled batches: of a day, and of what is whole."""
    monkeypatch.setenv("LEVADA_PROJECT", str(project.root))
    file = project.root / "contracts" / "governance" / "consistency" / "rules.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("batch: daily\n")
    made = (
        batch("daily", Grain.DAY, FLIGHTS, WEATHER, PLANES),
        batch("whole", Grain.WHOLE, PLANES),
    )
    compiled.save_batches(project, made)
    return made


def test_every_batch_has_one_dag_that_senses_and_compares(batches: tuple[Batch, ...]) -> None:
    dags = batch_dags()

    assert sorted(dags) == ["consistency_daily", "consistency_whole"]
    dag = dags["consistency_daily"]
    assert dag.dag_id == "consistency.daily"
    after = {task.task_id: task.downstream_task_ids for task in dag.tasks}
    assert after == {"sense": {"compare"}, "compare": set()}
    sense = dag.get_task("sense")
    assert isinstance(sense, TableSensor)
    assert sense.start_from_trigger
    assert sense.tables == [str(PLANES), str(FLIGHTS), str(WEATHER)]
    assert sense.interval == f"day {NEW_YORK}"
    assert {task.owner for task in dag.tasks} == {"ops"}
    assert "`adds_up` (advisory): It adds up." in (dag.doc_md or "")


def test_what_is_whole_is_looked_at_once_a_day(batches: tuple[Batch, ...]) -> None:
    dag = batch_dags()["consistency_whole"]

    assert type(dag.timetable).__name__ == "IntervalTimetable"
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    sense = dag.get_task("sense")
    assert isinstance(sense, TableSensor)
    assert sense.partition == "whole"


def test_two_parses_serialize_alike(batches: tuple[Batch, ...]) -> None:
    one, other = (
        {name: DagSerialization.to_dict(dag) for name, dag in batch_dags().items()}
        for _ in range(2)
    )
    assert one == other


def test_a_mesh_without_batches_has_no_such_dag(project: Settings) -> None:
    assert batch_dags(project.root) == {}


def test_batches_that_changed_since_they_were_compiled_name_the_command(
    project: Settings, batches: tuple[Batch, ...]
) -> None:
    assert compiled.load_batches(project) == batches
    file = project.root / "contracts" / "governance" / "consistency" / "rules.yaml"
    file.write_text("batch: other\n")

    with pytest.raises(DeclarationError, match="run `levada compile`"):
        batch_dags()


def test_parsing_imports_nothing_heavy(project: Settings, batches: tuple[Batch, ...]) -> None:
    code = (
        "import sys, json; from levada_sensors import batch_dags; batch_dags();"
        "print(json.dumps([m for m in ('dbt', 'great_expectations', 'datahub', 'duckdb', 'sqlglot')"
        " if m in sys.modules]))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )
    assert json.loads(said.stdout.splitlines()[-1]) == []


def test_an_interval_is_waited_for_with_all_its_slices(mesh: Mesh) -> None:
    def inside(day: str, table: TableRef) -> list[str]:
        return [p.key for p in slices_inside(mesh, f"day {NEW_YORK}", day, table)]

    assert inside("2013-03-09", FLIGHTS) == ["2013-03-09"]
    assert len(inside("2013-03-09", WEATHER)) == 24
    assert len(inside("2013-03-10", WEATHER)) == 23  # the day on which the clocks went forward
    assert inside("2013-03-09", PLANES) == ["whole"]
    with pytest.raises(Misnamed, match="has no slices"):
        slices_inside(mesh, f"day {NEW_YORK}", "2013-03-09", TableRef("company", "weekly"))
    with pytest.raises(Misnamed, match="span"):
        slices_inside(mesh, f"day {NEW_YORK}", "2014-03-09", FLIGHTS)


def test_waiting_batches_count_among_the_runs_for_which_airflow_is_tuned(
    mesh: Mesh, batches: tuple[Batch, ...]
) -> None:
    days = 9
    assert waiting_at_most(mesh, "ready", batches) == days + 1
    assert waiting_at_most(mesh, "ready") == 0
    assert parse(Grain.DAY, "2013-03-09", NEW_YORK).begin == mesh.live_from
