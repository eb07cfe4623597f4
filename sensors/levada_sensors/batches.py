"""
A DAG for each consistency batch: it waits for every table that it compares, then reports.

Parsing reads `.levada/consistency/batches.json` and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, get_parsing_context

from levada import compiled
from levada.intervals import containing
from levada.settings import Settings
from levada.terms import Batch, Grain
from levada_sensors import connections
from levada_sensors.limits import ACTIVE
from levada_sensors.sensors import TableSensor
from levada_sensors.timetable import IntervalTimetable

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["CompareOperator", "batch_dag", "batch_dags"]


def batch_dags(root: Path | None = None) -> dict[str, DAG]:
    """
    The DAGs of the mesh's batches, by name, for `globals().update(...)` in a DAG file.

    Raises DeclarationError, naming the command that mends it, where the batches are not compiled or
    changed since.

    :param root: the folder of `levada.yaml` (default: LEVADA_PROJECT, or above the DAG folder)
    """
    settings = connections.settings_of(root or connections.project_root())
    only = get_parsing_context().dag_id
    return {
        f"consistency_{batch.id}": batch_dag(settings, batch)
        for batch in compiled.load_batches(settings)
        if only in (None, f"consistency.{batch.id}")
    }


def batch_dag(settings: Settings, batch: Batch) -> DAG:
    """One batch's DAG: sense its tables at the interval they share, compare. Whole ones, daily."""
    whole = batch.grain is Grain.WHOLE
    grain, zone = (Grain.DAY, settings.zone) if whole else (batch.grain, batch.zone)
    begin = containing(grain, settings.live_from, zone).begin
    start = max(begin, settings.span.start)
    with DAG(
        dag_id=f"consistency.{batch.id}",
        schedule=IntervalTimetable(grain.value, zone, start, settings.span.end),
        start_date=settings.span.start,
        catchup=not whole,
        max_active_runs=1 if whole else ACTIVE[grain],
        is_paused_upon_creation=False,
        description=" ".join(batch.description.split()),
        doc_md=_documentation(batch),
        tags=["consistency"],
        default_args={"owner": batch.owner},
    ) as dag:
        at = "whole" if whole else "{{ dag_run.logical_date or '' }}"
        root = str(settings.root)
        sense = TableSensor(
            task_id="sense",
            tables=[str(table) for table in batch.tables],
            interval=f"{batch.grain.value} {batch.zone}",
            partition=at,
            root=root,
        )
        compare = CompareOperator(
            task_id="compare", batch=batch.id, partition=at, root=root, retries=2
        )
        sense >> compare
    return dag


class CompareOperator(BaseOperator):
    """
    Runs a batch's rules over one interval, and reports; findings do not fail the task.

    :param batch: the batch's name
    :param partition: key of the interval, or an instant inside it
    :param root: the folder of `levada.yaml`
    """

    template_fields: Sequence[str] = ("partition",)
    ui_color = "#efe4f4"

    def __init__(self, *, batch: str, partition: str, root: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch = batch
        self.partition = partition
        self.root = root

    def execute(self, context: Context) -> list[dict[str, Any]]:  # noqa: ARG002
        """Compare as the platform; what was reported, interval by interval."""
        from levada_sensors import comparing

        return comparing.compare(Path(self.root), self.batch, self.partition)


def _documentation(batch: Batch) -> str:
    """Every rule in a sentence, and the tables that are waited for."""
    rules = [f"- `{rule.id}` ({rule.severity.value}): {rule.description}" for rule in batch.rules]
    tables = [f"- `{table}`" for table in batch.tables]
    return "\n".join([batch.description.strip(), "", *rules, "", "Compares", "", *tables])
