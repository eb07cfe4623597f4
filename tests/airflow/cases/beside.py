"""
What Airflow's own scheduler and sensors do in each case: one JSON object, by case.

Runs in a process, a home and a metadata database of its own. Nothing of Airflow is replaced: events
are registered by its asset manager, runs are made by a loop of its scheduler, tasks are run by
`DAG.test`, which is `airflow dags test`. Only time is: a loop is made when a case wants one.
"""

from __future__ import annotations

import json
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pendulum
from airflow.assets.manager import asset_manager
from airflow.configuration import conf
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.jobs.job import Job
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models import DagModel, DagRun, TaskInstance
from airflow.models.asset import AssetEvent, AssetPartitionDagRun
from airflow.models.backfill import ReprocessBehavior, _create_backfill
from airflow.sdk.definitions.dag import _run_task
from airflow.serialization.definitions.assets import SerializedAssetUniqueKey
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.utils.session import create_session
from airflow.utils.sqlalchemy import prohibit_commit
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select

HERE = Path(__file__).parent
NEW_YORK = ZoneInfo("America/New_York")
PLAIN, OFFSETS = "%Y-%m-%dT%H", "%Y-%m-%dT%H%z"
Seen = dict[str, Any]


class Airflow:
    """One scheduler, that loops when it is told to."""

    def __init__(self) -> None:
        self.folder = Path(conf.get("core", "dags_folder"))
        shutil.copytree(HERE / "dags", self.folder, dirs_exist_ok=True)
        DagBundlesManager().sync_bundles_to_db()  # type: ignore[no-untyped-call]
        self.job = Job()  # type: ignore[no-untyped-call]
        self.runner = SchedulerJobRunner(job=self.job)
        with create_session() as session:
            session.add(self.job)
        self.declare()

    def declare(self, *more: str) -> None:
        """Parse the files and store them, as the DAG processor does."""
        for name in more:
            shutil.copy(HERE / "later" / f"{name}.py", self.folder)
        (bundle,) = DagBundlesManager().get_all_dag_bundles()  # type: ignore[no-untyped-call]
        bundle.initialize()
        self.bag = BundleDagBag(bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
        assert not self.bag.import_errors, self.bag.import_errors
        sync_bag_to_db(self.bag, bundle.name, bundle.version)

    def emit(self, asset: str, *keys: str | None) -> None:
        """Events of an asset: what a task's success and the API do."""
        for key in keys or (None,):
            with create_session() as session:
                made = asset_manager.register_asset_change(
                    asset=SerializedAssetUniqueKey(name=asset, uri=asset),
                    extra={"number": self._number(asset)},
                    partition_key=key,
                    session=session,
                )
                assert made is not None, asset

    def loop(self, times: int = 1) -> None:
        """A loop of the scheduler: runs are made, begun, carried on, and ended."""
        for _ in range(times):
            with create_session() as session:
                self.runner._do_scheduling(session)

    def run(self, dag_id: str, logical_date: datetime) -> str:
        """Run a DAG for a date to its end; its state."""
        dag = self.bag.dags[dag_id]
        return str(dag.test(logical_date=logical_date).state)

    def work(self, dag_id: str) -> None:
        """Do what the scheduler gave to the executor, as `DAG.test` does it."""
        dag = self.bag.dags[dag_id]
        with create_session() as session:
            waiting = select(TaskInstance).where(
                TaskInstance.dag_id == dag_id, TaskInstance.state == TaskInstanceState.QUEUED
            )
            found = list(session.scalars(waiting))
            assert found, f"nothing of {dag_id} is queued"
            for each in found:
                _run_task(ti=each, task=dag.task_dict[each.task_id])

    def clear(self, dag_id: str) -> None:
        """Clear the only run of a DAG: what the UI's button does."""
        with create_session() as session:
            run = session.scalars(select(DagRun).where(DagRun.dag_id == dag_id)).one()
            stored = self.runner.scheduler_dag_bag.get_dag_for_run(run, session=session)
            assert stored is not None
            stored.clear(run_id=run.run_id, session=session)

    def runs(self, dag_id: str) -> list[Seen]:
        """The runs of a DAG, oldest first."""
        with create_session() as session:
            found = session.scalars(
                select(DagRun).where(DagRun.dag_id == dag_id).order_by(DagRun.id)
            )
            return [
                {
                    "key": run.partition_key,
                    "events": [e.extra.get("number") for e in _by_age(run.consumed_asset_events)],
                    "logical_date": run.logical_date and run.logical_date.isoformat(),
                    "interval": run.data_interval_start and run.data_interval_start.isoformat(),
                    "type": str(run.run_type),
                    "backfill": run.backfill_id is not None,
                    "state": str(run.state),
                }
                for run in found
            ]

    def pending(self, dag_id: str) -> list[str]:
        """The partitions of which something came, and that no run was made for."""
        with create_session() as session:
            return sorted(
                session.scalars(
                    select(AssetPartitionDagRun.partition_key).where(
                        AssetPartitionDagRun.target_dag_id == dag_id,
                        AssetPartitionDagRun.created_dag_run_id.is_(None),
                    )
                )
            )

    def pause(self, dag_id: str, paused: bool) -> None:
        with create_session() as session:
            session.get_one(DagModel, dag_id).is_paused = paused

    def due(self, dag_id: str, near: datetime) -> datetime:
        """The logical date of the DAG's run whose interval holds an instant."""
        made = self.bag.dags[dag_id].timetable
        interval = coerce_to_core_timetable(made).infer_manual_data_interval(
            run_after=pendulum.instance(near)
        )
        return interval.start.astimezone(UTC)

    @staticmethod
    def _number(asset: str) -> int:
        with create_session() as session:
            found = session.scalars(select(AssetEvent).where(AssetEvent.asset.has(name=asset)))
            return len(list(found)) + 1


def _by_age(events: Iterable[AssetEvent]) -> list[AssetEvent]:
    return sorted(events, key=lambda e: e.id)


def hours(first: datetime, count: int) -> list[datetime]:
    """So many hours of real time."""
    return [first + timedelta(hours=n) for n in range(count)]


def local(instants: Iterable[datetime], shape: str = PLAIN, zone: ZoneInfo = NEW_YORK) -> list[str]:
    """Partition keys as the clocks of a zone show them."""
    return [i.astimezone(zone).strftime(shape) for i in instants]


SATURDAY = hours(datetime(2013, 3, 9, 5, tzinfo=UTC), 24)
SPRING = hours(datetime(2013, 3, 10, 5, tzinfo=UTC), 23)
AUTUMN = hours(datetime(2013, 11, 3, 4, tzinfo=UTC), 25)
FIRST_OF_TWO = 1
"""Which hour of that long day is 01:00 for the first time."""


def a_local_day_of_hours(airflow: Airflow, asset: str = "local_hours") -> Seen:
    """Airflow #68004: a roll-up of a day of 23, and of 25, hours."""
    shape, reader = (PLAIN, "local_day") if asset == "local_hours" else (OFFSETS, "day_of_offsets")
    seen: Seen = {}

    def come(name: str, instants: list[datetime]) -> None:
        airflow.emit(asset, *local(instants, shape))
        airflow.loop(2)
        seen[name] = [r["key"] for r in airflow.runs(reader)]

    come("usual, one missing", SATURDAY[:23])
    come("usual", SATURDAY[23:])
    come("short, one missing", SPRING[:22])
    come("short", SPRING[22:])
    come("long, one missing", [at for n, at in enumerate(AUTUMN) if n != FIRST_OF_TWO])
    come("long", [AUTUMN[FIRST_OF_TWO]])
    seen["pending"] = airflow.pending(reader)
    return seen


def a_local_day_of_hours_with_offsets(airflow: Airflow) -> Seen:
    """The same with keys that say their offset."""
    return a_local_day_of_hours(airflow, "offset_hours")


def a_day_where_clocks_move_by_half_an_hour(airflow: Airflow) -> Seen:
    """Airflow #68004 on Lord Howe Island, at 02:00 of 6 October 2013."""
    island = ZoneInfo("Australia/Lord_Howe")
    seen: Seen = {}
    for name, day in (("usual", 5), ("short", 6)):
        # Hours of UTC that start in the local day.
        around = hours(datetime(2013, 10, day - 2, tzinfo=UTC), 72)
        come = [at for at in around if at.astimezone(island).date().day == day]
        airflow.emit("island_hours", *local(come, zone=island))
        airflow.loop(2)
        seen[name] = [r["key"] for r in airflow.runs("island_day")]
        seen[f"{name}, hours"] = len(come)
    seen["pending"] = airflow.pending("island_day")
    return seen


def a_day_of_utc(airflow: Airflow) -> Seen:
    """The way round it that Airflow's documents name: keys and days of UTC."""
    day = hours(datetime(2013, 3, 10, tzinfo=UTC), 24)
    airflow.emit("utc_hours", *[i.strftime("%Y-%m-%dT%H") for i in day])
    airflow.loop()
    return {"runs": [r["key"] for r in airflow.runs("utc_day")]}


def an_hour_that_is_run_again(airflow: Airflow) -> Seen:
    """Airflow #65923: an upstream partition is run again when its roll-up has fired."""
    day = hours(datetime(2013, 3, 10, tzinfo=UTC), 24)
    keys = [i.strftime("%Y-%m-%dT%H") for i in day]
    airflow.emit("restated_hours", *keys)
    airflow.loop()
    before = len(airflow.runs("restated_day"))
    airflow.emit("restated_hours", keys[7])
    airflow.loop(3)
    after, pending = len(airflow.runs("restated_day")), airflow.pending("restated_day")
    airflow.emit("restated_hours", *keys)
    airflow.loop()
    return {
        "before": before,
        "after": after,
        "pending": pending,
        "when all came again": len(airflow.runs("restated_day")),
    }


def one_of_two_inputs_again(airflow: Airflow) -> Seen:
    """The same of a reader of two tables: one of them is run again."""
    airflow.emit("flights_by_day", "2013-03-10")
    airflow.loop()
    alone = len(airflow.runs("of_two"))
    airflow.emit("weather_by_day", "2013-03-10")
    airflow.loop()
    before = len(airflow.runs("of_two"))
    airflow.emit("flights_by_day", "2013-03-10")
    airflow.loop(3)
    return {
        "with one": alone,
        "with both": before,
        "after": len(airflow.runs("of_two")),
        "pending": airflow.pending("of_two"),
    }


def inputs_of_different_months(airflow: Airflow) -> Seen:
    """Airflow #45187: of two tables, one is written for January and the other for February."""
    airflow.emit("orders_of_month")
    airflow.loop(2)
    alone = len(airflow.runs("both_months"))
    airflow.emit("refunds_of_month")
    airflow.loop(3)
    airflow.emit("orders_by_month", "2013-01")
    airflow.emit("refunds_by_month", "2013-02")
    airflow.loop(3)
    return {
        "with one": alone,
        "with both": airflow.runs("both_months"),
        "by key": airflow.runs("of_one_month"),
        "pending": airflow.pending("of_one_month"),
    }


def three_intervals(airflow: Airflow) -> Seen:
    """Airflow #34044: three intervals of a table, before one loop and with loops between."""
    airflow.emit("merged", None, None, None)
    airflow.loop(3)
    seen: Seen = {"at once": airflow.runs("merging")}
    airflow.emit("merged")
    airflow.loop(3)
    seen["and a fourth"] = airflow.runs("merging")
    for _ in range(3):
        airflow.emit("spaced")
        airflow.loop(3)
    seen["one by one"] = airflow.runs("spaced")
    return seen


def events_while_a_run_is_active(airflow: Airflow) -> Seen:
    """Airflow #56050: events that come while the only allowed run is active."""
    name = "one_at_a_time"
    airflow.emit("crowded")
    # Only makes the run: it stays active, as one with a long task does.
    prohibited: Any = prohibit_commit
    with create_session() as session, prohibited(session) as guard:
        airflow.runner._create_dagruns_for_dags(guard, session)
    airflow.emit("crowded", None, None, None)
    airflow.loop(8)
    still = airflow.runs(name)
    airflow.emit("crowded")
    airflow.loop(4)
    return {
        "four came": [r["events"] for r in still],
        "states": [r["state"] for r in still],
        "a fifth": [r["events"] for r in airflow.runs(name)],
    }


def a_paused_reader(airflow: Airflow) -> Seen:
    """Airflow #38826: events while a reader is paused."""
    seen: Seen = {}
    airflow.emit("paused_for")
    airflow.loop(3)
    airflow.pause("paused", True)
    airflow.emit("paused_for", None, None)
    airflow.loop(2)
    airflow.pause("paused", False)
    airflow.loop(3)
    seen["unpaused"] = [r["events"] for r in airflow.runs("paused")]
    airflow.emit("paused_for")
    airflow.loop(3)
    seen["the next"] = [r["events"] for r in airflow.runs("paused")]
    return seen


def a_new_reader(airflow: Airflow) -> Seen:
    """Airflow #38826, #39456: a reader that is declared when its asset has a history."""
    with (airflow.folder / "history.py").open("w") as file:
        file.write(
            "from airflow.sdk import DAG, Asset\n"
            "from airflow.providers.standard.operators.empty import EmptyOperator\n"
            "with DAG('history', schedule=None):\n"
            "    EmptyOperator(task_id='writes', outlets=[Asset('old')])\n"
        )
    airflow.declare()
    airflow.emit("old", None, None)
    airflow.declare("late")
    airflow.loop(3)
    seen: Seen = {"declared": [r["events"] for r in airflow.runs("late")]}
    airflow.emit("old")
    airflow.loop(3)
    seen["the next"] = [r["events"] for r in airflow.runs("late")]
    return seen


def a_backfill(airflow: Airflow) -> Seen:
    """A backfill of a reader of assets, and of what it reads."""
    words: dict[str, Any] = {
        "from_date": datetime(2013, 3, 1, tzinfo=UTC),
        "to_date": datetime(2013, 3, 1, tzinfo=UTC),
        "max_active_runs": 1,
        "reverse": False,
        "dag_run_conf": None,
        "triggering_user_name": "nobody",
        "reprocess_behavior": ReprocessBehavior.NONE,
    }
    refused = {}
    for dag_id in ("of_the_backfilled", "local_day"):
        try:
            _create_backfill(dag_id=dag_id, **words)
            refused[dag_id] = ""
        except Exception as error:
            refused[dag_id] = f"{type(error).__name__}: {error}"
    _create_backfill(dag_id="backfills", **words)
    airflow.loop(2)
    airflow.work("backfills")
    airflow.loop(3)
    (run,) = airflow.runs("backfills")
    return {"refused": refused, "run": run, "reader": airflow.runs("of_the_backfilled")}


def wrong_rows(airflow: Airflow) -> Seen:
    """A task that ends well has written rows that no contract would let through."""
    state = airflow.run("produces", datetime(2013, 3, 1, tzinfo=UTC))
    airflow.loop(3)
    return {"writer": state, "reader": airflow.runs("of_produced")}


def an_upstream_that_is_run_again(airflow: Airflow) -> Seen:
    """ExternalTaskSensor: what it reads is run again after its own run ended."""
    day = airflow.due("midnight", datetime(2013, 3, 9, 12, tzinfo=UTC))
    seen: Seen = {"upstream": airflow.run("midnight", day)}
    seen["reader"] = airflow.run("reads_midnight", day)
    airflow.clear("midnight")
    seen["another reader, while cleared"] = airflow.run("reads_it_too", day)
    airflow.loop(2)
    airflow.work("midnight")
    airflow.loop(3)
    seen["upstream again"] = [r["state"] for r in airflow.runs("midnight")]
    seen["reader afterwards"] = [r["state"] for r in airflow.runs("reads_midnight")]
    return seen


def six_hours_before(airflow: Airflow) -> Seen:
    """ExternalTaskSensor: an `execution_delta` over a change of clocks."""
    seen: Seen = {}
    for name, noon in (
        ("usual", datetime(2013, 3, 6, 17, tzinfo=UTC)),
        ("short", datetime(2013, 3, 11, 8, tzinfo=UTC)),
    ):
        above, below = (
            airflow.due("midnight", noon),
            airflow.due("at_six", noon + timedelta(hours=3)),
        )
        seen[name] = {
            "upstream": above.isoformat(),
            "reader": below.isoformat(),
            "ran": airflow.run("midnight", above),
            "waited": airflow.run("at_six", below),
        }
    return seen


def an_upstream_that_made_nothing(airflow: Airflow) -> Seen:
    """ExternalTaskSensor on an upstream that was skipped, that failed, that does not exist."""
    day = airflow.due("skips", datetime(2013, 3, 9, 12, tzinfo=UTC))
    seen: Seen = {
        name: airflow.run(name, day)
        for name in (
            *("skips", "reads_skipped", "reads_skipped_task"),
            *("breaks", "reads_broken", "reads_broken_told", "reads_nobody"),
        )
    }
    seen["ended by"] = json.loads((airflow.folder / "ends.json").read_text())
    return seen


CASES: tuple[Callable[[Airflow], Seen], ...] = (
    a_local_day_of_hours,
    a_local_day_of_hours_with_offsets,
    a_day_where_clocks_move_by_half_an_hour,
    a_day_of_utc,
    an_hour_that_is_run_again,
    one_of_two_inputs_again,
    inputs_of_different_months,
    three_intervals,
    events_while_a_run_is_active,
    a_paused_reader,
    a_new_reader,
    a_backfill,
    wrong_rows,
    an_upstream_that_is_run_again,
    six_hours_before,
    an_upstream_that_made_nothing,
)


def main() -> None:
    """Write what was seen to the file that is named."""
    airflow = Airflow()
    seen: Seen = {}
    for case in CASES:
        try:
            seen[case.__name__] = case(airflow)
        except Exception:
            seen[case.__name__] = {"error": traceback.format_exc()}
    Path(sys.argv[1]).write_text(json.dumps(seen, indent=1))


if __name__ == "__main__":
    main()
