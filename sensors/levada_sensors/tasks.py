"""
The two tasks of a product that need a worker: `build` with the domain's rights, then `publish`.

Airflow never retries them: what could not be told is recorded with its back-off, and the reconciler
starts the run again. What they do stands in `working`, which a worker imports and parsing does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["BuildOperator", "PublishOperator"]


class _ProductOperator(BaseOperator):
    """
    Works on one product's partition.

    :param product: the product's id
    :param partition: key of the partition, or an instant inside it
    :param root: the folder of `levada.yaml`
    """

    template_fields: Sequence[str] = ("partition",)

    def __init__(self, *, product: str, partition: str, root: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.product = product
        self.partition = partition
        self.root = root


class BuildOperator(_ProductOperator):
    """Builds what `sense` has claimed, beside the published tables. Nothing is published."""

    ui_color = "#f2e6d6"

    def execute(self, context: Context) -> dict[str, Any]:
        """Stage and build; returns where the stage is."""
        from levada_sensors import working

        task = context["ti"]
        run = (task.dag_id, task.run_id)
        return working.build(Path(self.root), self.product, self.partition, run)


class PublishOperator(_ProductOperator):
    """Audits the build by the recorded contracts and, if it passes, swaps it in."""

    ui_color = "#dff2d6"

    def execute(self, context: Context) -> None:
        """Audit and publish, as the platform."""
        from levada_sensors import working

        built = context["ti"].xcom_pull(task_ids="build")
        working.publish(Path(self.root), self.product, self.partition, built)
