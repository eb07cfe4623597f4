"""The Airflow DAGs of the consistency batches, one for each."""

from __future__ import annotations

from levada_sensors import batch_dags

globals().update(batch_dags())
