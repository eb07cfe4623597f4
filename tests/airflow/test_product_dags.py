"""DAGs follow from compiled declarations, cheaply, stably, and one domain at a time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.metadata import distribution, entry_points
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred
from airflow.serialization.serialized_objects import DagSerialization

from levada.errors import DeclarationError
from levada.settings import Settings
from levada.terms import Mesh
from levada_sensors import TableSensor, product_dags
from levada_sensors.judging import attempt_name
from levada_sensors.products import product_dag
from levada_sensors.provider import get_provider_info
from levada_sensors.triggers import TableTrigger

pytestmark = pytest.mark.airflow

DAGS = Path(__file__).parents[2] / "dags"
HEAVY = ("dbt", "great_expectations", "datahub", "duckdb")


@pytest.fixture
def bundle(project: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reference mesh's own DAG files, over the little mesh."""
    monkeypatch.setenv("LEVADA_PROJECT", str(project.root))
    shutil.copytree(DAGS, project.root / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    return project.root / "dags"


def parsed(bundle: Path) -> DagBag:
    return DagBag(dag_folder=str(bundle), bundle_name="test")


def test_every_product_has_one_dag_and_parsing_finds_no_fault(bundle: Path) -> None:
    bag = parsed(bundle)
    assert bag.import_errors == {}
    assert sorted(bag.dags) == [
        *(
            "company.daily",
            "company.weekly",
            "fleet.planes",
            "levada.approvals",
            "levada.backfill",
            "levada.reconcile",
        ),
        *("operations.flights", "weather.observations"),
    ]


def test_a_product_dag_senses_once_then_builds_and_publishes(bundle: Path) -> None:
    dag = parsed(bundle).dags["company.daily"]
    after = {task.task_id: task.downstream_task_ids for task in dag.tasks}
    assert after == {"sense": {"build"}, "build": {"publish"}, "publish": set()}
    sense = dag.get_task("sense")
    assert isinstance(sense, TableSensor)
    assert sense.start_from_trigger
    assert dag.tags == {"company", "base"}
    assert dag.catchup
    assert {task.owner for task in dag.tasks} == {"company"}
    assert {task.retries for task in dag.tasks} == {0}
    assert [asset.uri for asset in dag.get_task("publish").outlets] == ["levada://company/daily_v1"]


def test_description_and_documentation_come_from_the_contract(
    project: Settings, mesh: Mesh
) -> None:
    product = mesh.product("company.daily")
    (mart,) = product.marts
    contract = replace(mart.contract, description="The days of the company. One row a day.")
    dag = product_dag(project, replace(product, marts=(replace(mart, contract=contract),)))
    assert dag.description == "The days of the company."
    assert dag.doc_md is not None
    told = [contract.description, contract.id, contract.version, product.owner.team]
    told += [f"| {column.name} | {column.type} |" for column in contract.columns]
    told += [f"- `{edge.upstream}` by {edge.mapping.kind}" for edge in mart.dependencies]
    assert len(told) > 6
    assert [each for each in told if each not in dag.doc_md] == []


def test_no_task_of_a_product_depends_on_another_dag(bundle: Path) -> None:
    dags = parsed(bundle).dags
    products = {name: dag for name, dag in dags.items() if not name.startswith("levada.")}
    assert products
    for name, dag in products.items():
        assert {type(task).__name__ for task in dag.tasks} == {
            *("TableSensor", "BuildOperator", "PublishOperator"),
        }
        for task in dag.tasks:
            assert not any(hasattr(task, word) for word in ("external_dag_id", "trigger_dag_id"))
            assert task.dag_id == name
        assert type(dag.timetable).__name__ in ("IntervalTimetable", "NullTimetable")


def test_a_worker_makes_the_dag_of_its_task_alone(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "company.daily")
    assert list(product_dags("company")) == ["company_daily"]
    assert product_dags("fleet") == {}


def test_a_whole_product_has_no_schedule_and_one_run_at_a_time(bundle: Path) -> None:
    dag = parsed(bundle).dags["fleet.planes"]
    assert dag.schedule is None
    assert dag.max_active_runs == 1
    assert dag.get_task("sense").partition == "whole"


def test_a_product_that_is_dispatched_when_ready_has_no_timetable(
    project: Settings, mesh: Mesh
) -> None:
    dag = product_dag(replace(project, dispatch="ready"), mesh.product("company.daily"))
    assert dag.schedule is None
    assert not dag.catchup
    assert {task.task_id for task in dag.tasks} == {"sense", "build", "publish"}


def test_nothing_is_stored_that_could_reach_a_database(bundle: Path) -> None:
    stored = str(DagSerialization.to_dict(parsed(bundle).dags["company.daily"]))
    assert "levada_runner" in stored
    assert "postgresql" not in stored


HASHES = """\
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred
from airflow.models.serialized_dag import SerializedDagModel
from airflow.serialization.serialized_objects import DagSerialization

bag = DagBag(dag_folder=sys.argv[1], bundle_name="test")
stored = {name: DagSerialization.to_dict(dag) for name, dag in bag.dags.items()}
print(json.dumps({name: SerializedDagModel.hash(dag) for name, dag in stored.items()}))
"""


def test_two_parses_in_processes_of_their_own_make_no_new_version(bundle: Path) -> None:
    """Airflow makes another version of a DAG whose hash is another: sets have another order."""
    parses = [
        subprocess.Popen(
            [sys.executable, "-c", HASHES, str(bundle)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LEVADA_PROJECT": str(bundle.parent), "PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2")
    ]
    once, again = (json.loads(parse.communicate()[0].splitlines()[-1]) for parse in parses)
    assert once == again
    assert set(once) == set(parsed(bundle).dags)


def test_a_stored_dag_reads_back_with_its_timetable(bundle: Path) -> None:
    dag = product_dags("operations")["operations_flights"]
    read = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert read.timetable.serialize() == {
        "grain": "day",
        "zone": "America/New_York",
        "start": "2013-03-09T05:00:00+00:00",
        "stop": "2013-03-18T04:00:00+00:00",
    }


def test_a_broken_domain_is_one_import_error_and_leaves_the_others(
    bundle: Path, project: Settings
) -> None:
    (project.home / "weather.json").unlink()
    (project.root / "contracts" / "fleet").mkdir(parents=True)
    (project.root / "contracts" / "fleet" / "new.v1.odcs.yaml").write_text("domain: fleet\n")
    bag = parsed(bundle)
    wrong = {Path(path).name: said for path, said in bag.import_errors.items()}
    assert sorted(wrong) == ["fleet.py", "weather.py"]
    assert "domain weather is not compiled; run `levada compile`" in wrong["weather.py"]
    assert "changed since they were compiled; run `levada compile`" in wrong["fleet.py"]
    assert "operations.flights" in bag.dags
    assert "company.daily" in bag.dags


def test_parsing_imports_no_heavy_tool(bundle: Path) -> None:
    script = (
        "import runpy, sys, pathlib\n"
        f"for file in pathlib.Path({str(bundle)!r}).glob('*.py'): runpy.run_path(str(file))\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "LEVADA_PROJECT": str(bundle.parent)},
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_domain_that_is_not_compiled_says_which_command_mends_it(project: Settings) -> None:
    (project.home / "company.json").unlink()
    with pytest.raises(DeclarationError, match="run `levada compile`"):
        product_dags("company", project.root)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({}, "one of them"),
        ({"table": "a.b", "product": "a.b"}, "one of them"),
        ({"table": "a.b", "generations": {"a.c": 2}}, "no table of this sensor"),
    ],
)
def test_a_senseless_sensor_is_refused_when_it_is_made(words: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        TableSensor(task_id="wait", root="/mesh", **words)


@pytest.mark.parametrize("words", [{"soft_fail": True}, {"never_fail": True}, {}])
def test_a_sensor_that_may_not_fail_tells_its_trigger(words: dict[str, Any]) -> None:
    sensor = TableSensor(task_id="wait", root="/mesh", table="a.b", **words)
    assert sensor.start_trigger_args is not None
    assert sensor.start_trigger_args.trigger_kwargs is not None
    assert sensor.start_trigger_args.trigger_kwargs["soft_fail"] is bool(words)


@pytest.mark.parametrize(("task_of", "nice"), [("levada.backfill", 10), ("levada.reconcile", 0)])
def test_a_task_of_a_backfill_steps_back_for_the_live_day(
    bundle: Path, task_of: str, nice: int
) -> None:
    """Its process does, as soon as it reads its DAG."""
    before = os.nice(0)
    reads = "import os, runpy, sys; runpy.run_path(sys.argv[1]); print(os.nice(0))"
    done = subprocess.run(
        [sys.executable, "-c", reads, bundle / "reconcile.py"],
        env={**os.environ, "_AIRFLOW_PARSING_CONTEXT_DAG_ID": task_of},
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout.split()[-1]) == min(before + nice, 19)


TRY = UUID(int=1)


@dataclass(frozen=True)
class Ours:
    """What a sensor asks of the task instance that it runs as."""

    dag_id: str = "operations.flights"
    run_id: str = "manual__1"
    try_number: int = 2
    id: UUID = TRY


def test_a_sensor_that_a_worker_runs_defers_at_once_for_the_run_that_it_is_of() -> None:
    sensor = TableSensor(task_id="sense", root="/mesh", product="operations.flights", timeout=60)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(cast("Context", {"ti": Ours()}))
    trigger = deferred.value.trigger
    assert isinstance(trigger, TableTrigger)
    assert trigger.product == "operations.flights"
    ours = attempt_name(Ours.try_number, Ours.id)
    assert trigger.claimant == ["operations.flights", "manual__1", ours]
    assert deferred.value.method_name == "execute_complete"
    assert deferred.value.timeout == timedelta(seconds=60)


def test_what_a_trigger_found_is_what_the_task_comes_to() -> None:
    sensor = TableSensor(task_id="wait", root="/mesh", table="a.b")
    sensor.execute_complete(cast("Context", {}), "success")
    with pytest.raises(AirflowSkipException, match="nothing is to be done"):
        sensor.execute_complete(cast("Context", {}), "skipped")
    with pytest.raises(AirflowFailException, match="never be ready"):
        sensor.execute_complete(cast("Context", {}), "failed")


def test_the_provider_is_the_distribution_and_its_plugin_is_found() -> None:
    info = get_provider_info()
    assert info["package-name"] == distribution("levada").name
    assert info["versions"] == [distribution("levada").version]
    plugins = {e.name: e.value for e in entry_points(group="airflow.plugins")}
    assert plugins["levada"] == "levada_sensors.plugin:LevadaPlugin"
