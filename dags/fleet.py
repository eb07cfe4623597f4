"""The Airflow DAGs of the domain fleet, one for each of its products."""

from __future__ import annotations

from levada_sensors import product_dags

globals().update(product_dags("fleet"))
