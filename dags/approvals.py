"""The Airflow DAG that asks for open waivers."""

from __future__ import annotations

from levada_sensors import approvals_dag

approvals = approvals_dag()
