"""A reader that is declared when its asset has a history already."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset

with DAG("late", schedule=[Asset("old")], start_date=datetime(2013, 3, 1, tzinfo=UTC)):
    EmptyOperator(task_id="reads")
