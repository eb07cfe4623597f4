"""What ExternalTaskSensor is asked to wait for beside Levada."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.providers.standard.sensors.external_task import ExternalTaskSensor
from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow.sdk.exceptions import AirflowSkipException


def live(dag_id: str, hour: int = 0) -> DAG:
    """Every local day of New York, at an hour of its clocks; over, so that none runs by itself."""
    return DAG(
        dag_id,
        schedule=CronDataIntervalTimetable(f"0 {hour} * * *", timezone="America/New_York"),
        start_date=datetime(2013, 3, 1, tzinfo=UTC),
        end_date=datetime(2013, 4, 1, tzinfo=UTC),
        catchup=False,
    )


def done() -> None:
    """End well."""


def skipped() -> None:
    """Find no data and say so, as a task does."""
    raise AirflowSkipException("no data")


def broken() -> None:
    """Fail."""
    raise ValueError("broken")


def note(context: Any) -> None:
    """Write down what ended a sensor."""
    file = Path(__file__).with_name("ends.json")
    ends = json.loads(file.read_text()) if file.exists() else {}
    ends[context["dag"].dag_id] = type(context["exception"]).__name__
    file.write_text(json.dumps(ends))


def upstream(dag_id: str, does: Any) -> None:
    """A daily writer."""
    with live(dag_id):
        PythonOperator(task_id="writes", python_callable=does)


def downstream(dag_id: str, of: str, hour: int = 0, **words: Any) -> None:
    """A daily reader that waits, for some seconds at most."""
    with live(dag_id, hour):
        wait = {"external_dag_id": of, "poke_interval": 0.5, "timeout": 2, **words}
        ExternalTaskSensor(task_id="waits", on_failure_callback=note, **wait)


upstream("midnight", done)
upstream("skips", skipped)
upstream("breaks", broken)
downstream("reads_midnight", "midnight")
downstream("reads_it_too", "midnight")
downstream("at_six", "midnight", hour=6, execution_delta=timedelta(hours=6))
downstream("reads_skipped", "skips")
downstream("reads_skipped_task", "skips", external_task_id="writes")
downstream("reads_broken", "breaks")
downstream("reads_broken_told", "breaks", failed_states=["failed"], timeout=3600)
downstream("reads_nobody", "no_such_dag", check_existence=True)
