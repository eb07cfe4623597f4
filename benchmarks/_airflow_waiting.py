"""`p1_waiting.py --airflow`: 2,000 waiting runs in a real Airflow, beside the same Airflow idle."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg
from _figure import cpu_of, memory_of, quantiles, report, say
from _meshes import project

__all__ = ["measure"]

PRODUCTS, LAST, DAYS = 45, "2013-02-14", 45
PATIENCE = 2400.0


def measure(window: float = 60.0) -> None:
    """
    Start what `levada up` starts with an empty DAG folder; then give it 45 products of 45 days,
    none of which can be built, and measure the same again. The ratio is of the whole Airflow's CPU.
    """
    from levada.adapters import postgres
    from levada.ledger.roles import provision
    from levada_sensors import service

    folder = Path(tempfile.mkdtemp(prefix="levada-p1-"))
    root = folder / "mesh"
    root.mkdir()
    settings, mesh = project(root, PRODUCTS, 1, last=LAST)
    (root / "dags").mkdir()
    credentials = postgres.start(settings.home)
    try:
        provision(credentials, settings.domains)
        service.start(settings, credentials)
        _await(lambda: set(service.COMPONENTS) <= set(service.running(settings)), "Airflow")
        time.sleep(30)
        say("p1: an idle Airflow is measured")
        idle = _window(settings, window)
        say(f"p1: idle {idle}")
        (root / "dags" / "bench.py").write_text(
            '"""The Airflow DAGs of the domain."""\n\nfrom __future__ import annotations\n\n'
            'from levada_sensors import product_dags\n\nglobals().update(product_dags("d00"))\n'
        )
        begun = time.monotonic()
        wanted = PRODUCTS * DAYS
        _await(lambda: _waiting(credentials) >= wanted, f"{wanted} waiting", credentials)
        took = time.monotonic() - begun
        say(f"p1: {wanted} wait, {took:.0f} s after their DAG file came")
        time.sleep(60)
        waiting = _window(settings, window)
        say(f"p1: waiting {waiting}")
        assert _waiting(credentials) == wanted, "somebody stopped waiting though nothing happened"
        latencies = _land(credentials, mesh)
        say(f"p1: commit to a task's success, s: {latencies}")
    finally:
        service.stop(settings)
        postgres.stop(settings.home)
        shutil.rmtree(folder, ignore_errors=True)
    ours, peer = sum(waiting["cpu"].values()), sum(idle["cpu"].values())
    report(
        "p1_waiting_airflow",
        ours=ours,
        peer=peer,
        ratio=ours / peer,
        goal="stated, no goal: what a waiting run costs an Airflow",
        met=True,
        unit="CPU s a minute of all components, waiting against idle",
        waiting_runs=wanted,
        idle=idle,
        waiting=waiting,
        seconds_until_all_wait=took,
        commit_to_success_seconds=dict(
            zip(("p50", "max"), quantiles(latencies, 50, 100), strict=True)
        ),
    )


def _window(settings: Any, seconds: float) -> dict[str, dict[str, float]]:
    """CPU seconds a minute, and MB, of each component and of PostgreSQL."""
    from levada.adapters import postgres
    from levada_sensors import service

    server = postgres.running(settings.home)
    assert server is not None
    pids = {name: service.running(settings)[name] for name in service.COMPONENTS}
    pids["postgres"] = server
    before = {name: _spent(name, pid) for name, pid in pids.items()}
    time.sleep(seconds)
    after = {name: _spent(name, pid) for name, pid in pids.items()}
    return {
        "cpu": {n: round((after[n] - before[n]) * 60 / seconds, 2) for n in pids},
        "mb": {n: round(memory_of([pid])) for n, pid in pids.items()},
    }


def _spent(name: str, pid: int) -> float:
    if name != "postgres":
        return cpu_of([pid])
    # Backends that ended are counted by the postmaster; their own children they have none.
    parent = psutil.Process(pid)
    times = parent.cpu_times()
    total = times.children_user + times.children_system
    for process in [parent, *parent.children(recursive=True)]:
        try:
            each = process.cpu_times()
        except psutil.Error:
            continue
        total += each.user + each.system
    return float(total)


def _rows(credentials: Any, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(credentials.url("airflow", "airflow")) as connection:
        return connection.execute(sql.encode(), values).fetchall()


def _waiting(credentials: Any) -> int:
    """Deferred tasks whose trigger a triggerer has taken."""
    rows = _rows(
        credentials,
        "select count(*) from task_instance t join trigger g on g.id = t.trigger_id"
        " where t.state = 'deferred' and g.triggerer_id is not null",
    )
    return int(rows[0][0])


def _land(credentials: Any, mesh: Any) -> list[float]:
    """Land a day that one product waits for, five times; seconds until its `sense` succeeded."""
    from levada.intervals import within
    from levada.ledger import PostgresLedger
    from levada.terms import Landing

    ledger = PostgresLedger(credentials.url("levada_runner"))
    product = mesh.products[0]
    (edge,) = product.dependencies
    asked = (
        "select t.end_date from task_instance t join dag_run r using (dag_id, run_id)"
        " where t.dag_id = %s and t.task_id = 'sense' and r.logical_date = %s"
        " and t.state = 'success'"
    )
    found = []
    for day in list(within(product.grain, product.zone, mesh.span))[:5]:
        words = (product.id, day.begin)
        landing = Landing(edge.upstream, day, 0, "a", f"bench/{day.key}", 1, datetime.now(UTC))
        ledger.land([landing])
        landed = datetime.now(UTC)
        _await(lambda words=words: bool(_rows(credentials, asked, *words)), f"{day} sensed")
        ((ended,),) = _rows(credentials, asked, *words)
        found.append(round((ended - landed).total_seconds(), 3))
        time.sleep(3)
    ledger.close()
    return found


def _await(true: Callable[[], bool], what: str, credentials: Any = None) -> None:
    deadline = time.monotonic() + PATIENCE
    told = time.monotonic()
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit(f"p1: {what}: not within {PATIENCE:g} s")
        if credentials and time.monotonic() - told > 15:
            told = time.monotonic()
            say(f"p1: {_waiting(credentials):,} wait")
        time.sleep(0.5)
