"""What Airflow's own partitioned and plain assets are asked to do beside Levada."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import (
    DAG,
    Asset,
    CronDataIntervalTimetable,
    DayWindow,
    PartitionedAssetTimetable,
    RollupMapper,
    StartOfDayMapper,
)

BORN = datetime(2013, 3, 1, tzinfo=UTC)
NEW_YORK, LORD_HOWE = "America/New_York", "Australia/Lord_Howe"


def by_day(zone: str, asset: str, key: str) -> PartitionedAssetTimetable:
    """A local day of hours: waits for all of them."""
    return PartitionedAssetTimetable(
        assets=Asset(asset),
        default_partition_mapper=RollupMapper(
            upstream_mapper=StartOfDayMapper(timezone=zone, input_format=key),
            window=DayWindow(),
        ),
    )


def consumer(dag_id: str, schedule: object, **words: int) -> None:
    """A reader whose one task the scheduler ends by itself."""
    with DAG(dag_id, schedule=schedule, start_date=BORN, catchup=False, **words):  # type: ignore[arg-type]
        EmptyOperator(task_id="reads")


consumer("local_day", by_day(NEW_YORK, "local_hours", "%Y-%m-%dT%H"))
consumer("day_of_offsets", by_day(NEW_YORK, "offset_hours", "%Y-%m-%dT%H%z"))
consumer("island_day", by_day(LORD_HOWE, "island_hours", "%Y-%m-%dT%H"))
consumer("utc_day", by_day("UTC", "utc_hours", "%Y-%m-%dT%H"))
consumer("restated_day", by_day("UTC", "restated_hours", "%Y-%m-%dT%H"))
consumer(
    "of_two", PartitionedAssetTimetable(assets=Asset("flights_by_day") & Asset("weather_by_day"))
)
consumer("both_months", [Asset("orders_of_month"), Asset("refunds_of_month")])
consumer(
    "of_one_month",
    PartitionedAssetTimetable(assets=Asset("orders_by_month") & Asset("refunds_by_month")),
)
consumer("merging", [Asset("merged")])
consumer("spaced", [Asset("spaced")])
consumer("one_at_a_time", [Asset("crowded")], max_active_runs=1)
consumer("paused", [Asset("paused_for")])
consumer("of_produced", [Asset("produced")])
consumer("of_the_backfilled", [Asset("backfilled")])


def wrong_rows() -> None:
    """Write rows that no contract would let through, and end well."""


def daily(dag_id: str, asset: str) -> None:
    """A daily writer of an asset."""
    schedule = CronDataIntervalTimetable("0 0 * * *", timezone="UTC")
    with DAG(dag_id, schedule=schedule, start_date=BORN, end_date=BORN, catchup=False):
        PythonOperator(task_id="writes", python_callable=wrong_rows, outlets=[Asset(asset)])


daily("produces", "produced")
daily("backfills", "backfilled")
