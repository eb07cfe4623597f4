"""The Airflow DAGs of the reconciler, and of the backfills that it runs."""

from __future__ import annotations

from levada_sensors import backfill_dag, reconcile_dag

reconcile = reconcile_dag()
backfill = backfill_dag()
