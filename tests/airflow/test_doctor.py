"""`levada doctor` finds in a real Airflow's metadata the sensor that sleeps too long."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from levada.adapters.airflow import deferred
from levada.flow.doctor import Health, Patient, sensors
from levada.intervals import parse
from levada.settings import Settings
from levada.terms import Grain, Landing, Mesh, TableRef

pytestmark = pytest.mark.airflow

FLIGHTS, FILES = "operations.flights", TableRef("operations", "landing.flights", 0)
ZONE = "America/New_York"


@pytest.fixture(scope="module")
def metadata(server: Any) -> Iterator[str]:
    """The database `airflow`, as `airflow db migrate` makes it."""
    address = server.airflow_url
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env={**os.environ, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": address},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    yield server.url("airflow", "airflow")


def sleep(url: str, dag_id: str, run_id: str, logical_date: datetime, task_id: str) -> None:
    """What Airflow's own tables hold while a sensor's trigger waits."""
    from airflow.models import DagModel, DagRun, TaskInstance, Trigger
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType
    from sqlalchemy import create_engine, insert
    from sqlalchemy.orm import Session

    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:", 1))
    started = datetime.now(UTC)
    with Session(engine) as session:
        session.merge(DagBundleModel(name="dags-folder"))
        session.flush()
        model: Any = DagModel
        session.merge(model(dag_id=dag_id, bundle_name="dags-folder", is_paused=False))
        session.flush()
        session.add(
            DagRun(
                dag_id=dag_id,
                run_id=run_id,
                logical_date=logical_date,
                run_after=started,
                run_type=DagRunType.SCHEDULED,
                triggered_by=DagRunTriggeredByType.TIMETABLE,
                state=DagRunState.RUNNING,
            )
        )
        trigger = Trigger("levada_sensors.triggers.TableTrigger", {"partition": "sealed"})
        session.add(trigger)
        session.flush()
        session.execute(
            insert(TaskInstance.__table__).values(
                task_id=task_id,
                dag_id=dag_id,
                run_id=run_id,
                map_index=-1,
                try_number=1,
                max_tries=0,
                pool="default_pool",
                pool_slots=1,
                state="deferred",
                start_date=started,
                trigger_id=trigger.id,
            )
        )
        session.commit()


def examined(project: Settings, mesh: Mesh, ledgers: Any, url: str, **changes: Any) -> Any:
    usual: dict[str, Any] = {
        "settings": project,
        "mesh": mesh,
        "runner": ledgers.runner,
        "owner": ledgers.owner,
        "findings": None,
        "warehouse": None,
        "connect": None,
        "airflow": url,
        "older": timedelta(minutes=15),
        "now": datetime.now(UTC),
    }
    return sensors(Patient(**{**usual, **changes}))


def test_a_sense_that_sleeps_on_what_is_ready_is_found(
    project: Settings, mesh: Mesh, ledgers: Any, metadata: str
) -> None:
    day = parse(Grain.DAY, "2013-03-10", ZONE)
    later = {"now": datetime.now(UTC) + timedelta(minutes=16)}
    sleep(metadata, FLIGHTS, "scheduled__1", day.begin, "sense")
    sleep(metadata, "somebodys.dag", "manual__1", day.begin, "wait")
    assert len(deferred(metadata) or ()) == 2

    health, detail, _ = examined(project, mesh, ledgers, metadata, **later)
    assert (health, detail) == (
        Health.OK,
        "1 deferred, all with a reason to wait; 1 sensors of other DAGs were not judged",
    )

    file = Landing(FILES, day, 0, "a", "p", 1, datetime.now(UTC))
    ledgers.runner.land([replace(file)])
    assert examined(project, mesh, ledgers, metadata)[0] is Health.OK, "it landed just now"
    health, detail, _ = examined(project, mesh, ledgers, metadata, **later)
    assert health is Health.BAD
    assert f"{FLIGHTS} scheduled__1, ready since" in detail
