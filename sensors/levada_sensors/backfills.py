"""The DAG of backfills: each of its runs builds one batch of a product's slices."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, get_parsing_context

from levada_sensors import connections
from levada_sensors.limits import BACKFILL, POOL

if TYPE_CHECKING:
    from airflow.sdk import Context

    from levada_sensors.restating import Asked

__all__ = ["BuildBatchOperator", "PublishBatchOperator", "backfill_dag"]

_NICE = 10
"""How far the processes of a backfill step back for those of the live day."""


def backfill_dag(root: Path | None = None) -> DAG:
    """
    The DAG `levada.backfill`. The reconciler creates its runs; a run's name and note say which
    backfill it is of, and its conf which slices it builds.

    :param root: the folder of `levada.yaml` (default: LEVADA_PROJECT, or above the DAG folder)
    """
    if get_parsing_context().dag_id == BACKFILL:  # in the process of one of its tasks
        os.nice(_NICE)
    settings = connections.settings_of(root or connections.project_root())
    with DAG(
        dag_id=BACKFILL,
        schedule=None,
        start_date=settings.span.start,
        catchup=False,
        max_active_runs=settings.backfill_parallel,
        is_paused_upon_creation=False,
        description="Builds what backfills make again: a batch of one product's intervals a run.",
        doc_md=__doc__,
        tags=["backfill", "levada"],
        default_args={
            "owner": "levada",
            "retries": 0,
            "pool": POOL,
            "priority_weight": 1,
            "weight_rule": "absolute",
        },
    ) as dag:
        common = {
            "root": str(settings.root),
            "backfill": "{{ dag_run.conf.get('backfill', '') }}",
            "product": "{{ dag_run.conf.get('product', '') }}",
            "slices": "{{ dag_run.conf.get('slices', []) | join(' ') }}",
        }
        BuildBatchOperator(task_id="build", **common) >> PublishBatchOperator(
            task_id="publish", **common
        )
    return dag


class _BatchOperator(BaseOperator):
    """
    Works on one batch of a backfill, behind the live day.

    :param root: the folder of `levada.yaml`
    :param backfill: the backfill's id
    :param product: the product's id
    :param slices: keys of partitions, with blanks between them
    """

    template_fields: Sequence[str] = ("backfill", "product", "slices")

    def __init__(
        self, *, root: str, backfill: str, product: str, slices: str, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.root = root
        self.backfill = backfill
        self.product = product
        self.slices = slices

    def asked(self) -> Asked:
        """What is to be built."""
        from levada_sensors.restating import Asked

        return Asked(self.backfill, self.product, tuple(self.slices.split()))


class BuildBatchOperator(_BatchOperator):
    """Builds what the reconciler has claimed, beside the published tables. Nothing is published."""

    ui_color = "#e6e6e6"

    def execute(self, context: Context) -> dict[str, Any]:
        """Stage and build; returns where the stage is."""
        from levada_sensors import restating

        return restating.build(Path(self.root), self.asked(), context["ti"].run_id)


class PublishBatchOperator(_BatchOperator):
    """Audits the batch by the recorded contracts, swaps in what passes, settles its steps."""

    ui_color = "#d6d6d6"

    def execute(self, context: Context) -> None:
        """Audit and publish, as the platform."""
        from levada_sensors import restating

        built = context["ti"].xcom_pull(task_ids="build")
        restating.publish(Path(self.root), self.asked(), built)
