"""The Airflow DAG of the reconciler."""

from __future__ import annotations

from levada_sensors import reconcile_dag

reconcile = reconcile_dag()
