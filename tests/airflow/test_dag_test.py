"""`airflow dags test` starts nothing from a trigger, and runs a sensor to its end all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import source_system
from workspace import REPOSITORY, Workspace

from levada import compiled
from levada.adapters.probes import Probes
from levada.cli import recording
from levada.flow import platform
from levada.intervals import parse
from levada.ledger.roles import RUNNER
from levada.settings import Settings, read_settings
from levada.terms import Landing, Mesh, TableRef
from levada_sensors import service
from levada_sensors.watching import probe

pytestmark = [pytest.mark.airflow, pytest.mark.integration]

DAY, TASKS = "2013-03-08", ("sense", "build", "publish")
DAG = """\
from datetime import UTC, datetime
from airflow.sdk import DAG
from levada_sensors import TableSensor

with DAG("mine", schedule="@daily", start_date=datetime(2013, 3, 1, tzinfo=UTC)):
    TableSensor(task_id="ready", table="operations.landing.flights")
    TableSensor(task_id="never", table="operations.landing.flights", partition="2014-01-01")
    TableSensor(task_id="product", product="operations.flights")
    TableSensor(
        task_id="maybe",
        table="operations.landing.flights",
        partition="2014-01-01",
        soft_fail=True,
    )
"""


@pytest.mark.prove
def test_a_sensor_of_anybodys_dag_runs_without_a_triggerer(
    project: Settings, mesh: Mesh, ledgers: Any, tmp_path: Path
) -> None:
    table = TableRef("operations", "landing.flights", 0)
    day = parse(mesh.slicing(table)[0], "2013-03-10", mesh.zone)
    ledgers.runner.land([Landing(table, day, 0, "a", "flights.csv", 1, datetime.now(UTC))])
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "mine.py").write_text(DAG)
    env = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "AIRFLOW_CONN_LEVADA_RUNNER": ledgers.url(RUNNER),
        "LEVADA_PROJECT": str(project.root),
    }

    airflow = partial(_airflow, env)

    airflow("db", "migrate")
    said = airflow("dags", "test", "mine", "2013-03-10T12:00:00+00:00")
    states = airflow("tasks", "states-for-dag-run", "mine", _run_id(said), "--output", "plain")
    found = {row.split()[2]: row.split()[3] for row in states.splitlines() if " mine " in f" {row}"}
    ended = {"ready": "success", "never": "failed", "maybe": "skipped", "product": "success"}
    assert found == ended, said[-3000:]
    (claim,) = ledgers.runner.facts((), ["operations.flights"]).claims.values()
    assert _run_id(said) in claim.run, "the product was claimed for this very run"


@pytest.mark.prove
def test_a_products_own_dag_builds_and_publishes_once(tmp_path: Path) -> None:
    mesh = Workspace.make(tmp_path / "mesh", domains=["operations"], first=DAY, last=DAY)
    source_system.land_flights(date.fromisoformat(DAY), mesh.landing)
    shutil.copytree(REPOSITORY / "dags", mesh.root / "dags", ignore=lambda *_: {"__pycache__"})
    mesh.start()
    try:
        mesh.levada("compile")
        settings = read_settings(mesh.root)
        declared = compiled.load(settings)
        recording.as_governance(settings, declared, mesh.credentials)  # as `levada up` does
        with mesh.lake() as lake:
            lake.create("operations")
        with platform.ledger(mesh.credentials, RUNNER) as runner:
            probe(settings, declared, runner, Probes(mesh.root), datetime.now(UTC))
        env = {
            **os.environ,
            **service.environment(settings, mesh.credentials),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        }
        _airflow(env, "db", "migrate")
        for ends in ("success", "skipped"):
            said = _airflow(env, "dags", "test", "operations.flights", f"{DAY}T05:00:00+00:00")
            states = ("tasks", "states-for-dag-run", "operations.flights", _run_id(said))
            found = _airflow(env, *states, "--output", "plain")
            rows = [
                row.split() for row in found.splitlines() if " operations.flights " in f" {row}"
            ]
            assert {row[2]: row[3] for row in rows} == dict.fromkeys(TASKS, ends), said[-3000:]
            assert [line[:3] for line in mesh.publications()] == [
                ("operations.flights@1", f"day|{DAY}T05:00:00+00:00|America/New_York", 1)
            ]
    finally:
        mesh.stop()


def _airflow(env: Mapping[str, str], *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *words],
        check=False,
        capture_output=True,
        text=True,
        env=dict(env),
        timeout=200,
    )
    return done.stdout + done.stderr


def _run_id(said: str) -> str:
    return next(word for word in said.replace(",", " ").split() if word.startswith("manual__"))
