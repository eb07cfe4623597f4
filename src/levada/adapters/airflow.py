"""What Airflow's metadata database tells, where it is at hand: read only, and without Airflow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg

from levada.errors import ToolError, Unavailable

__all__ = ["Deferred", "deferred"]

_TRIGGER = "levada_sensors.triggers.TableTrigger"
_DEFERRED = """
    select i.dag_id, i.run_id, i.task_id, coalesce(r.logical_date, r.data_interval_start),
           coalesce(i.start_date, t.created_date)
    from public.task_instance i
    join public.dag_run r on r.dag_id = i.dag_id and r.run_id = i.run_id
    join public.trigger t on t.id = i.trigger_id
    where i.state = 'deferred' and t.classpath = %s order by 1, 2, 3"""


@dataclass(frozen=True, slots=True)
class Deferred:
    """A table sensor's task that waits in Airflow."""

    dag_id: str
    run_id: str
    task_id: str
    logical_date: datetime | None
    since: datetime


def deferred(url: str) -> tuple[Deferred, ...] | None:
    """
    The table sensors that wait; None where no Airflow keeps its metadata there.

    Raises Unavailable; ToolError where an Airflow keeps them in another way than this one does.
    """
    try:
        with psycopg.connect(
            url, connect_timeout=10, options="-c default_transaction_read_only=on -c timezone=UTC"
        ) as connection:
            there = connection.execute("select to_regclass('public.task_instance')").fetchone()
            if there is None or there[0] is None:
                return None
            rows = connection.execute(_DEFERRED, [_TRIGGER]).fetchall()
    except psycopg.OperationalError as error:
        raise Unavailable(
            "Airflow's metadata database", "airflow", str(error).strip().splitlines()[0]
        ) from error
    except psycopg.Error as error:
        why = f"another version's? {str(error).strip().splitlines()[0]}"
        raise ToolError("Airflow's metadata database", why) from error
    return tuple(Deferred(*row) for row in rows)
