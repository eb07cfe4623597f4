"""The sensor that waits for tables: landed, audited, published and current."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from airflow.triggers.base import StartTriggerArgs

from levada_sensors.connections import RUNNER, project_root
from levada_sensors.judging import attempt_name
from levada_sensors.triggers import TableTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["TableSensor"]


class TableSensor(BaseSensorOperator):
    """
    Waits until tables may be read, for the partition that each of them has at one instant.

    Waiting holds no worker, at either end: the scheduler hands the task to the triggerer, where one
    tail of the ledger serves every sensor, and the trigger ends it there. A mapped sensor is
    deferred by a worker, where what it is expanded with is known; it, too, waits without one.

    :param table: the table to wait for, `domain.table` or `domain.table@major`
    :param tables: several, judged together
    :param product: a product to sense instead: all its inputs as one set; ready, it is claimed
    :param partition: the partition's key, or an instant inside it (default: the start of the run's
        data interval); each table has its own partition there, a day or an hour of its own zone
    :param interval: the grain and calendar of an interval, like `day America/New_York`: of each
        table all slices inside it are waited for, of an undivided one itself
    :param generations: lowest generation that counts, by table: a re-run that must not pass on what
        was published before
    :param conn_id: the Airflow connection to the ledger
    :param root: the folder of `levada.yaml` (default: LEVADA_PROJECT, or above the DAG folder)
    """

    template_fields: Sequence[str] = ("partition",)
    ui_color = "#d6e9f2"

    def __init__(
        self,
        *,
        table: str | None = None,
        tables: Sequence[str] = (),
        product: str | None = None,
        partition: str = "{{ dag_run.data_interval_start or dag_run.logical_date or '' }}",
        interval: str = "",
        generations: Mapping[str, int] | None = None,
        conn_id: str = RUNNER,
        root: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        named = [*([table] if table else []), *tables]
        if bool(named) == bool(product):
            raise ValueError("say which tables to wait for, or which product to sense: one of them")
        if unknown := sorted(set(generations or ()) - set(named)):
            raise ValueError(f"generations of {', '.join(unknown)}: no table of this sensor")
        self.tables = named
        self.product = product or ""
        self.partition = partition
        self.interval = interval
        self.generations = dict(generations or {})
        self.conn_id = conn_id
        self.root = root or str(project_root())
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="levada_sensors.triggers.TableTrigger",
            trigger_kwargs=self._trigger_kwargs(),
            next_method="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )

    def execute(self, context: Context) -> NoReturn:
        """Defer at once: for `dag.test()`, which does not start tasks from their trigger."""
        task = context["ti"]
        attempt = attempt_name(task.try_number, task.id)
        self.defer(
            trigger=TableTrigger(
                **self._trigger_kwargs(), claimant=[task.dag_id, task.run_id, attempt]
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )

    def execute_complete(self, context: Context, event: object = None) -> None:  # noqa: ARG002
        """What the trigger found, where it could not end the task by itself."""
        match event:
            case "skipped":
                raise AirflowSkipException("nothing is to be done")
            case "failed":
                raise AirflowFailException("this can never be ready: the trigger's log says why")

    def _trigger_kwargs(self) -> dict[str, Any]:
        return {
            "partition": self.partition,
            "root": self.root,
            "conn_id": self.conn_id,
            "tables": self.tables,
            "product": self.product,
            "generations": self.generations,
            "interval": self.interval,
            "soft_fail": self.soft_fail or self.never_fail,
        }
