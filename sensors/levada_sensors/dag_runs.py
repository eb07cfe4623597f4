"""The runs of DAGs, as a task may ask for them: the Task SDK's calls, as its own operators make."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

__all__ = ["ALIVE", "ask", "count_alive", "is_alive", "is_there", "run_at", "trigger"]

ALIVE = ("queued", "running")


def run_at(dag_id: str, logical_date: datetime) -> Any:
    """The run of exactly this logical date, or None."""
    from airflow.sdk.execution_time.comms import GetPreviousDagRun

    just_after = logical_date + timedelta(microseconds=1)
    found = ask(GetPreviousDagRun(dag_id=dag_id, logical_date=just_after)).dag_run
    return found if found is not None and found.logical_date == logical_date else None


def count_alive(dag_id: str) -> int:
    """How many runs of a DAG have not ended."""
    return _count(dag_id, states=list(ALIVE))


def is_alive(dag_id: str, run_id: str) -> bool:
    """Whether a run is there and has not ended."""
    return bool(_count(dag_id, run_ids=[run_id], states=list(ALIVE)))


def is_there(dag_id: str, run_id: str) -> bool:
    """Whether a run was ever created."""
    return bool(_count(dag_id, run_ids=[run_id]))


def trigger(
    dag_id: str,
    run_id: str,
    logical_date: datetime | None,
    run_after: datetime,
    *,
    reset: bool = False,
    conf: Mapping[str, Any] | None = None,
    note: str | None = None,
) -> None:
    """Create a run, or clear it where it is there already and `reset` says so."""
    from airflow.sdk.execution_time.comms import TriggerDagRun

    ask(
        TriggerDagRun(
            dag_id=dag_id,
            run_id=run_id,
            logical_date=logical_date,
            run_after=run_after,
            reset_dag_run=reset,
            conf=dict(conf) if conf else None,
            note=note,
        )
    )


def ask(message: Any) -> Any:
    """Send one message to the task's supervisor."""
    from airflow.sdk.execution_time import task_runner

    return task_runner.SUPERVISOR_COMMS.send(message)


def _count(dag_id: str, **words: Any) -> int:
    from airflow.sdk.execution_time.comms import GetDRCount

    return int(ask(GetDRCount(dag_id=dag_id, **words)).count)
