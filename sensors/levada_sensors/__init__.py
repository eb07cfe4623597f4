"""Levada on Airflow: sensors that wait for tables, product DAGs, the reconciler, approvals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from levada_sensors.approvals import approvals_dag
    from levada_sensors.backfills import backfill_dag
    from levada_sensors.batches import batch_dags
    from levada_sensors.products import product_dags
    from levada_sensors.reconcile import reconcile_dag
    from levada_sensors.sensors import TableSensor

__all__ = [
    "TableSensor",
    "approvals_dag",
    "backfill_dag",
    "batch_dags",
    "product_dags",
    "reconcile_dag",
]

_HOMES = {
    "TableSensor": "levada_sensors.sensors",
    "approvals_dag": "levada_sensors.approvals",
    "backfill_dag": "levada_sensors.backfills",
    "batch_dags": "levada_sensors.batches",
    "product_dags": "levada_sensors.products",
    "reconcile_dag": "levada_sensors.reconcile",
}


def __getattr__(name: str) -> Any:
    # Late, so that `levada up` reaches `levada_sensors.service` without importing Airflow.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
