#!/usr/bin/env python
"""
`make demo`: the main job on real data, from an empty folder to a board.

    1  databases        the embedded PostgreSQL, roles as in production
    2  history          2013-01-01 .. 2013-03-08, landed and built by `levada run`
    3  Airflow          scheduler, triggerer, dag-processor, api-server
    4  two live days    landed hour by hour while Airflow builds; one hour late; one day of 23 hours
    5  the board        what is ready, how punctual the days were, how long each stage took

A second run lands the same bytes, finds nothing to do, and proves it by counting.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))

import source_system

from levada import compiled
from levada import sense as sensing
from levada.adapters import postgres
from levada.cli import looking
from levada.errors import LevadaError, ToolError
from levada.flow import platform as opening
from levada.intervals import within
from levada.settings import Settings, read_settings
from levada.terms import Mesh, Partition, Product, Span, State, TableRef

ROOT = Path(__file__).resolve().parents[1]
HISTORY = (date(2013, 1, 1), date(2013, 3, 8))
LIVE = (date(2013, 3, 9), date(2013, 3, 10))
LATE = 17
"""The UTC hour of the first live day whose weather file is late."""
PATIENCE = 900.0

console = Console(highlight=False)


@dataclass
class Timing:
    """How long each part took."""

    parts: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure one part, under a rule of its own."""
        console.print(Rule(name, align="left", style="dim"))
        begun = time.monotonic()
        yield
        self.parts.append((name, time.monotonic() - begun))


@dataclass(frozen=True)
class Count:
    """What a second run must not change."""

    lines: int
    snapshots: int
    """Of all lakes, by their newest one: those that change nothing count too."""


def main() -> int:
    """Run the demo; 0 when everything arrived."""
    settings = read_settings(ROOT)
    timing = Timing()
    keep = os.environ.get("KEEP") == "1"
    from levada_sensors import service

    try:
        with timing.part("databases"):
            credentials = _databases(settings)
        begun = _count(settings, credentials)
        with timing.part("history, landed and built by `levada run`"):
            mesh, landed = _history(settings)
        before = _count(settings, credentials)
        with timing.part("Airflow starts"):
            service.start(settings, credentials)
            console.print(f"scheduler, triggerer, dag-processor and {service.address(settings)}")
        with timing.part("two live days, in Airflow"):
            arrived = _live(settings, mesh, credentials)
        after = _count(settings, credentials)
        _show(settings, mesh, credentials, timing)
        _tell(before, after, arrived)
        proven = landed or arrived.landed or not begun.lines or _idle(begun, after)
        address = service.address(settings)
    except LevadaError as error:
        console.print(f"error: {error}", style="red")
        return 2
    finally:
        if not keep:
            service.stop(settings)
            postgres.stop(settings.home)
    _where_next(address if keep else None)
    return 0 if arrived.whole and proven else 1


def _databases(settings: Settings) -> postgres.Credentials:
    settings.home.mkdir(parents=True, exist_ok=True)
    credentials = postgres.start(settings.home)
    opening.provision(settings, credentials)
    console.print(
        f"PostgreSQL answers at {credentials.host}:{credentials.port}: "
        "the ledger, the lakes' catalogues and Airflow's metadata, a role for each right"
    )
    return credentials


def _history(settings: Settings) -> tuple[Mesh, int]:
    """
    Land the past and build it by the one command, as somebody without Airflow would; how many files
    were new.
    """
    first, last = HISTORY
    landing = settings.root / "landing"
    with console.status("the source systems land files"):
        changed = source_system.land_span(first, last, landing)
    console.print(f"the source systems landed {len(changed)} files in {landing.name}/")
    words = ["run", "--from", f"{first}", "--to", f"{last}"]
    console.print(f"$ levada {' '.join(words)}")
    done = subprocess.run([sys.executable, "-m", "levada.cli", *words], cwd=ROOT, check=False)
    if done.returncode:
        raise ToolError("levada run", f"it ended with {done.returncode}; what it said stands above")
    return compiled.load(settings), len(changed)


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description:<26}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


@dataclass(frozen=True)
class Arrived:
    """How far the live days came."""

    ready: int
    total: int
    waiting: tuple[str, ...]
    landed: int
    """Files that were not there, or had other bytes."""

    @property
    def whole(self) -> bool:
        """Whether everything is ready."""
        return self.ready == self.total


def _live(settings: Settings, mesh: Mesh, credentials: postgres.Credentials) -> Arrived:
    """Land the live days as they happen, and watch Airflow build them."""
    landing = settings.root / "landing"
    source, fresh = iter(_arrivals(landing)), 0
    recent = Span.days(LIVE[0] - timedelta(days=8), LIVE[1], mesh.zone)
    wanted = _wanted(mesh, recent)
    begun, started = time.monotonic(), opening.now()
    with opening.ledger(credentials, "levada_runner") as ledger, _bars() as bars:
        tasks = {p.id: bars.add_task(p.id, total=len(slices)) for p, slices in wanted}
        landing_task = bars.add_task("[dim]files landed", total=2 + 24 + 23)
        tables = sensing.tables_to_read(mesh, mesh.products)
        while True:
            if (arrival := next(source, None)) is not None:
                bars.advance(landing_task)
                fresh += arrival != landing
            facts = ledger.facts(tables, [p.id for p in mesh.products], recent)
            found = {p.id: looking.states(mesh, p, recent, facts) for p, _ in wanted}
            judged = {(p.id, s): found[p.id][s] for p, slices in wanted for s in slices}
            for product, slices in wanted:
                ready = sum(judged[product.id, s] is State.READY for s in slices)
                bars.update(tasks[product.id], completed=ready)
            missing = [key for key, state in judged.items() if state is not State.READY]
            landed = bars.tasks[-1].finished
            at_rest = landed and not missing and _at_rest(credentials, started)
            if at_rest or time.monotonic() - begun > PATIENCE:
                names = tuple(f"{product} {slice_}" for product, slice_ in missing)
                return Arrived(len(judged) - len(missing), len(judged), names, fresh)
            time.sleep(1.0)


def _at_rest(credentials: postgres.Credentials, started: datetime) -> bool:
    """
    Whether Airflow has looked and found nothing: no product's run is alive, and the reconciler
    waits in a triggerer of this start.
    """
    import psycopg

    with psycopg.connect(credentials.url("airflow", "airflow")) as connection:
        row = connection.execute(
            "select (select count(*) from dag_run where state in ('queued', 'running')"
            " and dag_id <> 'levada.reconcile'),"
            " (select count(*) from trigger t join job j on j.id = t.triggerer_id"
            " where j.latest_heartbeat > %s and t.classpath like '%%ReconcileTrigger')",
            (started,),
        ).fetchone()
    return row is not None and row[0] == 0 and row[1] > 0


def _arrivals(landing: Path) -> Iterator[Path]:
    """The files of the live days in the order in which they arrive, one at a time."""
    first, second = LIVE
    for hour in source_system.utc_hours(first):
        if hour.hour != LATE:
            yield from _one(source_system.land_weather_hour(hour, landing), landing)
    yield from _one(source_system.land_flights(first, landing), landing)
    for hour in source_system.utc_hours(second):  # the next day, while the first is being built
        yield from _one(source_system.land_weather_hour(hour, landing), landing)
    late = next(hour for hour in source_system.utc_hours(first) if hour.hour == LATE)
    yield from _one(source_system.land_weather_hour(late, landing), landing)
    yield from _one(source_system.land_flights(second, landing), landing)


def _one(changed: tuple[Path, ...], landing: Path) -> Iterator[Path]:
    """One arrival, whether its bytes are new or were there."""
    yield changed[0] if changed else landing


def _wanted(mesh: Mesh, span: Span) -> list[tuple[Product, tuple[Partition, ...]]]:
    """Every partition that ends inside the live days."""
    live = Span.days(*LIVE, mesh.zone)
    found = []
    for product in mesh.products:
        slices = within(product.grain, product.zone, span)
        recent = tuple(s for s in slices if s.start is None or _ends_in(s, live))
        if recent:
            found.append((product, recent))
    return found


def _ends_in(slice_: Partition, live: Span) -> bool:
    from levada.intervals import end

    return live.start < end(slice_) <= live.end


def _count(settings: Settings, credentials: postgres.Credentials) -> Count:
    import psycopg

    with psycopg.connect(credentials.url("levada_runner", "levada")) as connection:
        row = connection.execute("select count(*) from ledger.publications").fetchone()
    with closing(opening.warehouse(settings, credentials)) as warehouse:
        for domain in settings.domains:
            warehouse.create(domain)
    newest = " + ".join(
        f'(select max(snapshot_id) from "{domain}".ducklake_snapshot)'
        for domain in settings.domains
    )
    with psycopg.connect(credentials.url("levada_runner", "lake")) as connection:
        seen = connection.execute(f"select {newest}".encode()).fetchone()
    return Count(int(row[0]) if row else 0, int(seen[0]) if seen else 0)


def _show(
    settings: Settings, mesh: Mesh, credentials: postgres.Credentials, timing: Timing
) -> None:
    console.print(Rule("the board", align="left", style="dim"))
    with opening.ledger(credentials, "levada_runner") as ledger:
        tables = sensing.tables_to_read(mesh, mesh.products)
        facts = ledger.facts(tables, [p.id for p in mesh.products])
    span = Span.days(LIVE[0] - timedelta(days=27), LIVE[1], settings.zone)
    console.print(looking.board(mesh, mesh.products, span, facts))
    with closing(opening.warehouse(settings, credentials)) as warehouse:
        board = warehouse.place(TableRef("company", "route_board", 1))
        rows = warehouse.read(
            "select flight_date, sum(scheduled) as flights, sum(cancelled) as cancelled,"
            " round(100.0 * sum(on_time) / sum(scheduled), 1) as on_time,"
            " round(sum(arr_delay_minutes) / sum(arrived), 1) as delay"
            f" from {board} where flight_date >= date '2013-03-06'"
            " group by flight_date order by flight_date"
        )
    table = Table(title="punctuality out of New York, from company.route_board", box=None)
    for name in ("day", "flights", "cancelled", "on time %", "mean delay, min"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
    times = Table(title="how long it took", box=None)
    times.add_column("part")
    times.add_column("s", justify="right")
    for name, seconds in [*timing.parts, ("in all", sum(s for _, s in timing.parts))]:
        times.add_row(name, f"{seconds:.0f}")
    console.print(times)
    tasks = Table(title="what the products' tasks took", box=None)
    for name in ("task", "runs", "s on average"):
        tasks.add_column(name, justify="left" if name == "task" else "right")
    for task, runs, seconds in _tasks(credentials):
        tasks.add_row(task, str(runs), f"{seconds:.1f}")
    console.print(tasks)


def _tasks(credentials: postgres.Credentials) -> list[tuple[str, int, float]]:
    """How long the worker tasks of product DAGs took; a waiting sensor has no worker."""
    import psycopg

    with psycopg.connect(credentials.url("airflow", "airflow")) as connection:
        rows = connection.execute(
            "select task_id, count(*), avg(duration) from task_instance"
            " where task_id in ('build', 'publish') and state = 'success'"
            " group by task_id order by task_id"
        ).fetchall()
    return [(str(task), int(runs), float(seconds)) for task, runs, seconds in rows]


def _tell(before: Count, after: Count, arrived: Arrived) -> None:
    lines, snapshots = after.lines - before.lines, after.snapshots - before.snapshots
    console.print(
        f"live days: {arrived.ready} of {arrived.total} intervals ready, "
        f"{lines} new publication lines, {snapshots} new snapshots of the lakes"
    )
    for name in arrived.waiting[:10]:
        console.print(f"[red]not ready[/] {name}")


def _idle(begun: Count, after: Count) -> bool:
    """Nothing had landed: whether nothing was done."""
    if after == begun:
        console.print(
            f"[green]nothing was left to do, and nothing was done[/]: {after.lines} publication"
            f" lines and {after.snapshots} snapshots of the lakes, before and after"
        )
        return True
    console.print(
        f"[red]nothing had landed, and something was done[/]: {after.lines - begun.lines} lines"
        f" and {after.snapshots - begun.snapshots} snapshots are new"
    )
    return False


def _where_next(address: str | None) -> None:
    console.print(Rule("where to look next", align="left", style="dim"))
    if address:
        console.print(f"Airflow's page     {address}   (end it: .venv/bin/levada down)")
    else:
        console.print("Airflow's page     make demo KEEP=1")
    console.print("why it is ready    .venv/bin/levada why company.daily_punctuality 2013-03-10")
    console.print("the board          .venv/bin/levada status")
    console.print("the documentation  docs/README.md, docs/tutorials/add-a-mart.md")


if __name__ == "__main__":
    sys.exit(main())
