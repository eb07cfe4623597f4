"""`airflow dags test` starts nothing from a trigger, and runs a sensor to its end all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from levada.intervals import parse
from levada.ledger.roles import RUNNER
from levada.settings import Settings
from levada.terms import Landing, Mesh, TableRef

pytestmark = [pytest.mark.airflow, pytest.mark.integration]

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

    def airflow(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *words],
            check=False,
            capture_output=True,
            text=True,
            env=env,
            timeout=200,
        )
        return done.stdout + done.stderr

    airflow("db", "migrate")
    said = airflow("dags", "test", "mine", "2013-03-10T12:00:00+00:00")
    states = airflow("tasks", "states-for-dag-run", "mine", _run_id(said), "--output", "plain")
    found = {row.split()[2]: row.split()[3] for row in states.splitlines() if " mine " in f" {row}"}
    ended = {"ready": "success", "never": "failed", "maybe": "skipped", "product": "success"}
    assert found == ended, said[-3000:]
    (claim,) = ledgers.runner.facts((), ["operations.flights"]).claims.values()
    assert _run_id(said) in claim.run, "the product was claimed for this very run"


def _run_id(said: str) -> str:
    return next(word for word in said.replace(",", " ").split() if word.startswith("manual__"))
