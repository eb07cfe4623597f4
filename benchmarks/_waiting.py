"""Waiters as a triggerer runs them, on a ledger of their own, and pollers as their peer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg

__all__ = ["Bench", "Pollers", "Waiters", "bench", "hushed"]

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Bench:
    """A mesh of hourly landed tables, its ledger, and the server's processes."""

    root: Path
    credentials: Any
    ledger: Any
    settings: Any
    tables: tuple[Any, ...]
    postmaster: int

    @property
    def runner_url(self) -> str:
        return str(self.credentials.url("levada_runner"))

    def partition(self, number: int) -> Any:
        """The nth hour to wait for, counted from the middle of the span."""
        from levada.intervals import containing
        from levada.terms import Grain

        return containing(Grain.HOUR, datetime(2013, 3, 1, tzinfo=UTC) + number * HOUR, "UTC")

    def land(self, pairs: Sequence[tuple[Any, Any]], content: str = "a") -> None:
        """Commit these slices, in one transaction."""
        from levada.terms import Landing

        now = datetime.now(UTC)
        self.ledger.land([Landing(t, p, 0, content, f"{t}/{p.key}", 1, now) for t, p in pairs])

    def transactions(self) -> int:
        """Transactions that the ledger's database has seen, this one included."""
        with psycopg.connect(self.credentials.url("postgres"), autocommit=True) as connection:
            connection.execute("select pg_stat_force_next_flush()")
            row = connection.execute(
                "select xact_commit + xact_rollback from pg_stat_database"
                " where datname = current_database()"
            ).fetchone()
        return int(row[0]) if row else 0

    def server_cpu(self) -> float:
        """CPU seconds of the server: of those who live and of those who ended."""
        total = 0.0
        parent = psutil.Process(self.postmaster)
        for process in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        times = parent.cpu_times()
        return total + times.children_user + times.children_system


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """What triggers log goes to /dev/null: it is written, as in a triggerer, and read by nobody."""
    sys.stdout.flush()
    kept, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
        os.close(null)


@contextlib.contextmanager
def bench(tables: int, history: int) -> Iterator[Bench]:
    """
    A fresh server, ledger and mesh; `history` hours of each table have landed before.

    The tables are built: each product reads a landed source, so that a judgement looks one hop up,
    as it does in a real mesh.
    """
    from levada.adapters import postgres
    from levada.ledger import PostgresLedger
    from levada.ledger.roles import provision
    from levada.terms import TableRef
    from levada_sensors import connections

    folder = Path(tempfile.mkdtemp(prefix="levada-waiting-"))
    try:
        credentials = postgres.start(folder / "server")
        provision(credentials, ["bench"])
        root = folder / "mesh"
        root.mkdir()
        settings = _declared(root, tables)
        names = tuple(TableRef("bench", f"landing.t{n:03}", 0) for n in range(tables))
        ledger = PostgresLedger(credentials.url("levada_runner"))
        postmaster = postgres.running(folder / "server")
        assert postmaster is not None
        found = Bench(root, credentials, ledger, settings, names, postmaster)
        for number in range(0, history, 500):
            for table in names:
                hours = range(number - history, min(number + 500, history) - history)
                found.land([(table, found.partition(h)) for h in hours])

        async def address(_: str) -> str:
            return found.runner_url

        connections.runner_address = address
        yield found
        ledger.close()
    finally:
        connections.ledger_at.cache_clear()
        postgres.stop(folder / "server")
        shutil.rmtree(folder, ignore_errors=True)


def _declared(root: Path, tables: int) -> Any:
    from levada import compiled
    from levada.settings import read_settings
    from levada.terms import Grain, Mesh, Owner, Source, TableRef

    (root / "levada.yaml").write_text(
        "mesh: waiting\nzone: UTC\nspan: {from: 2012-01-01, to: 2013-12-31}\n"
        "live_from: 2013-01-01\nlanding: {zone: landing}\ndomains: [bench]\n"
    )
    settings = read_settings(root)
    sources = tuple(
        Source(
            TableRef("bench", f"landing.t{n:03}", 0),
            *(Grain.HOUR, "UTC", f"landing/t{n:03}/{{start:%Y-%m-%dT%H}}.csv"),
            *(("id",), f"source.bench.t{n:03}", Owner("bench")),
        )
        for n in range(tables)
    )
    products = tuple(_product(source) for source in sources)
    mesh = Mesh(settings.name, settings.span, settings.zone, settings.live_from, products, sources)
    compiled.save(settings, mesh, settings.domains)
    return settings


def _product(source: Any) -> Any:
    from levada.terms import (
        Contract,
        Dependency,
        Grain,
        Identity,
        Layer,
        Mart,
        Owner,
        Product,
        TableRef,
    )

    table = TableRef("bench", source.table.name.removeprefix("landing."))
    contract = Contract(
        id=f"bench.{table.name}",
        version="1.0.0",
        status="active",
        table=table,
        product=table.name,
        grain=Grain.HOUR,
        zone="UTC",
        interval_column=None,
        columns=(),
        checks=(),
        owner=Owner("bench"),
        description="",
        hash="0" * 64,
        path="",
    )
    edge = Dependency(source.table, table, Identity())
    mart = Mart(table, Layer.BASE, table.name, contract, (edge,), "", "c0de")
    return Product("bench", table.name, (mart,), Grain.HOUR, "UTC")


@dataclass
class Waiters:
    """
    TableTriggers on Airflow's own shared stream, as `TriggerRunner.run_trigger` runs them: each in
    a task, subscribed first, then filtering.
    """

    bench: Bench
    fired: dict[int, float] = field(default_factory=dict)
    judgements: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        from airflow.triggers.shared_stream import SharedStreamManager

        from levada_sensors.triggers import TableTrigger

        waiters = self
        self.manager = SharedStreamManager()

        class Counting(TableTrigger):
            """The trigger, counting its judgements."""

            def glance(self, mesh: Any, facts: Any) -> Any:
                waiters.judgements += 1
                return super().glance(mesh, facts)

        self.trigger = Counting

    def start(self, wanted: Sequence[tuple[Any, Any]], **words: Any) -> None:
        """One for each (table or product, partition)."""
        first = len(self.tasks)
        for number, (table, partition) in enumerate(wanted, first):
            coroutine = self._one(number, str(table), partition.start.isoformat(), words)
            self.tasks.append(asyncio.create_task(coroutine))

    async def _one(self, number: int, table: str, partition: str, words: dict[str, Any]) -> None:
        words = {"tables": [table], **words}
        trigger = self.trigger(partition=partition, root=str(self.bench.root), **words)
        key = trigger.shared_stream_key()
        stream = self.manager.subscribe(trigger_id=number, trigger=trigger, key=key)
        try:
            async for _ in trigger.filter_shared_stream(stream):
                self.fired[number] = time.perf_counter()
                return
        finally:
            await self.manager.unsubscribe(number, key)

    async def settled(self) -> None:
        """Until everybody has judged once, and none is busy."""
        while self.judgements < len(self.tasks):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@dataclass
class Pollers:
    """
    The peer: a trigger that asks for its own slice every `interval` seconds, through asyncpg and a
    pool that all share, by primary key. Nothing is cheaper that polls by itself.
    """

    bench: Bench
    interval: float
    fired: dict[int, float] = field(default_factory=dict)
    polls: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self, wanted: Sequence[tuple[Any, Any]]) -> None:
        import asyncpg

        async def nothing(_: object) -> None:
            """The reset after each use would cost a second query, and needs rights."""

        self.pool = await asyncpg.create_pool(
            self.bench.runner_url, min_size=8, max_size=8, reset=nothing
        )
        from levada.ledger.codec import encode_partition

        for number, (table, partition) in enumerate(wanted):
            # Spread over the interval, as triggers are that began at different times.
            late = self.interval * number / len(wanted)
            self.tasks.append(
                asyncio.create_task(
                    self._one(number, str(table), str(encode_partition(partition)), late)
                )
            )

    async def _one(self, number: int, table: str, part: str, late: float) -> None:
        await asyncio.sleep(late)
        while True:
            self.polls += 1
            if await self.pool.fetchval(
                "select generation from ledger.landings"
                " where table_name = $1 and part = $2 and newest",
                *(table, part),
            ):
                self.fired[number] = time.perf_counter()
                return
            await asyncio.sleep(self.interval)

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.pool.close()


os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="levada-airflow-"))
