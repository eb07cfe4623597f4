"""
P9: upstream ready to downstream ready, in a real Airflow with the LocalExecutor.

A mesh of two products, a few rows a day. Ours: `down.result` reads `up.numbers`; measured is from
the publication of the one to the publication of the other. The peer is the usual pattern, in the
same Airflow: an ExternalTaskSensor as it comes (it looks once in 60 s and holds a worker), then
`dbt build` as a command line over a DuckDB file, then Great Expectations in a task of its own with
as many expectations; measured is from the end of the upstream's last task to the end of the
downstream's. The upstream becomes ready 10, 30 and 50 s after the sensor began, so that it may wait
half its interval on average; how long it waited is told. Days are taken in turns.

Takes about ten minutes; no `--small` of it exists.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from _figure import arguments, median, report, say
from _live_mesh import live_mesh

GOAL = 4
DAYS = ("2013-03-08", "2013-03-09", "2013-03-10")
PHASES = (10.0, 30.0, 50.0)
PATIENCE = 600.0

PEER_DAGS = '''\
"""The usual pattern, written by hand."""

from __future__ import annotations

from pathlib import Path

import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.sensors.external_task import ExternalTaskSensor
from airflow.providers.standard.sensors.python import PythonSensor
from airflow.sdk import DAG

HOME = {home!r}
usual = dict(
    schedule="@daily",
    start_date=pendulum.datetime(2013, 3, 8, tz="UTC"),
    end_date=pendulum.datetime(2013, 3, 10, tz="UTC"),
    catchup=True,
    max_active_runs=1,
    is_paused_upon_creation=False,
)

with DAG("usual_up", **usual):
    PythonSensor(
        task_id="ready",
        python_callable=lambda day: Path(HOME, "up", day).exists(),
        op_kwargs={{"day": "{{{{ ds }}}}"}},
        poke_interval=0.5,
    )

with DAG("usual_down", **usual):
    wait = ExternalTaskSensor(
        task_id="wait", external_dag_id="usual_up", external_task_id="ready"
    )
    build = BashOperator(
        task_id="build",
        bash_command="{dbt} build --quiet --project-dir " + HOME + " --profiles-dir " + HOME
        + " --vars '{{day: {{{{ ds }}}}}}'",
    )
    audit = BashOperator(
        task_id="audit", bash_command="{python} " + HOME + "/audit.py {{{{ ds }}}}"
    )
    wait >> build >> audit
'''
AUDIT = '''\
"""What a task that validates with Great Expectations does."""

import sys

import duckdb
import great_expectations as gx

day = sys.argv[1]
with duckdb.connect({file!r}, read_only=True) as connection:
    frame = connection.execute("select * from result where day = ?", [day]).df()
context = gx.get_context(mode="ephemeral")
batch = (
    context.data_sources.add_pandas("here")
    .add_dataframe_asset("result")
    .add_batch_definition_whole_dataframe("day")
    .get_batch({{"dataframe": frame}})
)
suite = gx.ExpectationSuite(
    name="result",
    expectations=[
        gx.expectations.ExpectTableRowCountToBeBetween(min_value=1),
        *(gx.expectations.ExpectColumnValuesToNotBeNull(column=c) for c in frame.columns),
    ],
)
found = batch.validate(suite)
print(found.success)
sys.exit(0 if found.success else 1)
'''


def main() -> None:
    words = arguments(__doc__, keep={"action": "store_true", "help": "leave the folder"})
    if words.small:
        raise SystemExit("p9 drives a real Airflow: it has no small size")
    from workspace import Workspace

    folder = Path(tempfile.mkdtemp(prefix="levada-p9-"))
    workspace = live_mesh(folder / "mesh", DAYS[0], DAYS[-1], "40d")
    from levada.settings import read_settings
    from levada_sensors import service

    assert isinstance(workspace, Workspace)
    try:
        peer_home = peer(folder / "usual", workspace.root / "dags")
        say("p9: databases and Airflow start")
        workspace.start()
        workspace.levada("up")
        mine: list[dict[str, float]] = []
        theirs: list[dict[str, float]] = []
        _until(lambda: _state(workspace, "down.result", "sense", DAYS[-1]) == "deferred")
        say("p9: ours wait")
        for day, phase in zip(DAYS, PHASES, strict=True):
            mine.append(ours_once(workspace, day))
            say(f"p9: ours {day} {mine[-1]}")
            theirs.append(peer_once(workspace, peer_home, day, phase))
            say(f"p9: peer {day} {theirs[-1]}")
    finally:
        service.stop(read_settings(workspace.root))
        workspace.stop()
        if not words.keep:
            shutil.rmtree(folder, ignore_errors=True)
    ours, other = (median([each["whole"] for each in side]) for side in (mine, theirs))
    unwaited = median([each["whole"] - each["look"] for each in theirs])
    report(
        "p9_mesh_latency",
        ours=ours,
        peer=other,
        ratio=other / ours,
        goal=f"at least {GOAL}x faster",
        met=other / ours >= GOAL,
        unit="s from upstream ready to downstream ready, median of 3 days",
        ours_parts=_parts(mine),
        peer_parts=_parts(theirs),
        ratio_without_the_peers_poll=unwaited / ours,
    )


def _parts(side: list[dict[str, float]]) -> dict[str, float]:
    return {part: round(median([each[part] for each in side]), 2) for part in side[0]}


# Ours


def ours_once(workspace: Any, day: str) -> dict[str, float]:
    """Land a day; seconds from the upstream's publication, by part."""
    import tiny

    tiny.landed(workspace, "up", day, [1, 2, 3])
    _until(lambda: len(_published(workspace, day)) == 2)
    lines = _published(workspace, day)
    ready, done = lines["up.numbers@1"], lines["down.result@1"]
    _until(lambda: _state(workspace, "down.result", "publish", day) == "success")
    _, sensed = _task(workspace, "down.result", "sense", day)
    began, built = _task(workspace, "down.result", "build", day)
    audits, _ = _task(workspace, "down.result", "publish", day)
    return {
        "whole": (done - ready).total_seconds(),
        "fired": (sensed - ready).total_seconds(),
        "worker": (began - sensed).total_seconds(),
        "build": (built - began).total_seconds(),
        "between": (audits - built).total_seconds(),
        "audit_and_publish": (done - audits).total_seconds(),
    }


def _published(workspace: Any, day: str) -> dict[str, Any]:
    rows = workspace.rows(
        "select table_name, at from ledger.publications"
        " where left(split_part(part, '|', 2), 10) = %s",
        day,
    )
    return dict(rows)


# The peer


def peer(home: Path, dags: Path) -> Path:
    """A dbt project over a DuckDB file, and its DAGs beside ours."""
    (home / "models").mkdir(parents=True)
    (home / "up").mkdir()
    file = str(home / "usual.duckdb")
    (home / "dbt_project.yml").write_text(
        "name: usual\nversion: '1.0.0'\nconfig-version: 2\nprofile: usual\n"
        "flags: {send_anonymous_usage_stats: false}\nmodels: {usual: {+materialized: table}}\n"
    )
    (home / "profiles.yml").write_text(
        f"usual:\n  target: file\n  outputs:\n    file: {{type: duckdb, path: '{file}'}}\n"
    )
    (home / "models" / "result.sql").write_text(
        textwrap.dedent(
            """\
            select n as id, cast('{{ var("day") }}' as date) as day, n + 1 as amount
            from range(3) as numbers(n)
            """
        )
    )
    (home / "audit.py").write_text(AUDIT.format(file=file))
    binaries = Path(sys.executable).parent
    (dags / "usual.py").write_text(
        PEER_DAGS.format(home=str(home), dbt=binaries / "dbt", python=sys.executable)
    )
    return home


def peer_once(workspace: Any, home: Path, day: str, phase: float) -> dict[str, float]:
    """Let the upstream be ready so long after the sensor's first look; seconds, by part."""
    if day == DAYS[0]:
        say("p9: waits for the usual sensor's first look")
    _until(lambda: _state(workspace, "usual_down", "wait", day) == "running")
    looked, _ = _task(workspace, "usual_down", "wait", day)
    while (_now(workspace) - looked).total_seconds() < phase:
        time.sleep(0.2)
    (home / "up" / day).touch()
    _until(lambda: _state(workspace, "usual_down", "audit", day) == "success")
    _, ready = _task(workspace, "usual_up", "ready", day)
    _, passed = _task(workspace, "usual_down", "wait", day)
    began, built = _task(workspace, "usual_down", "build", day)
    audits, done = _task(workspace, "usual_down", "audit", day)
    return {
        "whole": (done - ready).total_seconds(),
        "look": (passed - ready).total_seconds(),
        "worker": (began - passed).total_seconds(),
        "dbt": (built - began).total_seconds(),
        "between": (audits - built).total_seconds(),
        "great_expectations": (done - audits).total_seconds(),
    }


# What Airflow's database says


def _rows(workspace: Any, sql: str, *values: object) -> list[tuple[Any, ...]]:
    import psycopg

    with psycopg.connect(workspace.credentials.url("airflow", "airflow")) as connection:
        return connection.execute(sql.encode(), values).fetchall()


def _now(workspace: Any) -> Any:
    return _rows(workspace, "select now()")[0][0]


def _found(workspace: Any, dag: str, task: str, day: str) -> tuple[Any, ...] | None:
    rows = _rows(
        workspace,
        "select t.state, t.start_date, t.end_date from task_instance t"
        " join dag_run r using (dag_id, run_id)"
        " where t.dag_id = %s and t.task_id = %s and r.logical_date::date = %s",
        *(dag, task, day),
    )
    return rows[0] if rows else None


def _state(workspace: Any, dag: str, task: str, day: str) -> str:
    found = _found(workspace, dag, task, day)
    state = str(found[0]) if found else ""
    if state in ("failed", "upstream_failed"):
        raise SystemExit(f"{dag}.{task} of {day} {state}")
    return state


def _task(workspace: Any, dag: str, task: str, day: str) -> tuple[Any, Any]:
    found = _found(workspace, dag, task, day)
    assert found is not None
    return found[1], found[2]


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit(f"p9: not within {timedelta(seconds=PATIENCE)}")
        time.sleep(0.25)


if __name__ == "__main__":
    sys.exit(main())
