"""The tail loses nothing and doubles nothing, whatever writers and the server do."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import asyncpg
import psycopg
import pytest

from levada.ledger.roles import OWNER, RUNNER
from levada.ledger.tail import Batch, follow, position
from levada.terms import WHOLE, Landing, TableRef

pytestmark = pytest.mark.integration

WRITERS, TRANSACTIONS = 4, 150


def write(url: str, number: int) -> None:
    """Commit many small transactions: some slow between insert and commit, some aborted."""
    dice = random.Random(number)
    insert = "insert into ledger.entry (kind, name, key, body) values ('approval', %s, %s, %s)"
    with psycopg.connect(url, autocommit=True) as connection:
        for n in range(TRANSACTIONS):
            aborts = dice.random() < 0.1
            with connection.transaction(force_rollback=aborts):
                for line in range(dice.randint(1, 5)):
                    key = f"{'aborted' if aborts else number}/{n}/{line}"
                    connection.execute(insert, ["tail", key, '{"reason": "x"}'])
                    time.sleep(dice.random() * (0.03 if dice.random() < 0.05 else 0.003))


class Deaf(asyncpg.Connection):  # type: ignore[misc]
    async def add_listener(self, *_: object) -> None:
        return


async def first(batches: AsyncIterator[Batch], seconds: float = 10) -> Batch:
    async with asyncio.timeout(seconds):
        return await anext(batches)


def land(ledgers: Any, content: str) -> None:
    files = TableRef("operations", "landing.flights", 0)
    ledgers.runner.land([Landing(files, WHOLE, 0, content, "p", 1, datetime.now(UTC))])


def test_slow_and_aborted_writers_in_several_processes_lose_and_double_nothing(
    ledgers: Any,
) -> None:
    url = ledgers.url(OWNER)
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write, args=[url, n]) for n in range(WRITERS)]

    async def read() -> list[Batch]:
        seen: list[Batch] = []
        tail = follow(lambda: asyncpg.connect(url), 0, poll=0.2)
        for writer in writers:
            writer.start()
        done = False
        while True:
            try:
                seen.append(await first(tail, 1))
            except TimeoutError:
                if done:
                    return seen
                # A cancelled step ends a generator: go on from where it stood.
                tail = follow(lambda: asyncpg.connect(url), seen[-1].stop if seen else 0, poll=0.2)
            done = not any(writer.is_alive() for writer in writers)

    batches = asyncio.run(read())
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    with psycopg.connect(url) as connection:
        committed = [row[0] for row in connection.execute("select key from ledger.entry")]
    seen = [key for batch in batches for _, key in batch.keys]
    assert len(committed) > 1000
    assert sorted(seen) == sorted(committed), "each line exactly once"
    assert not any(key.startswith("aborted") for key in seen)
    assert all(a.stop == b.start for a, b in pairwise(batches))


def test_positions_follow_commits_and_not_inserts(ledgers: Any) -> None:
    insert = "insert into ledger.entry (kind, name, key, body) values ('approval', 'x', %s, '{}')"
    url = ledgers.url(OWNER)
    with psycopg.connect(url) as slow, psycopg.connect(url) as fast:
        for connection, key in ((slow, "slow"), (fast, "fast")):
            connection.execute(insert.replace("'{}'", """'{"reason": ""}'"""), [key])
        fast.commit()
        slow.commit()
        keys = [row[0] for row in slow.execute("select key from ledger.changes order by pos")]
    assert keys == ["fast", "slow"]


def test_a_commit_wakes_the_tail_long_before_its_poll(ledgers: Any) -> None:
    async def watch() -> float:
        tail = follow(lambda: asyncpg.connect(ledgers.url(RUNNER)), None, poll=60)
        waiting = asyncio.ensure_future(first(tail))
        await asyncio.sleep(0.5)
        started = time.monotonic()
        await asyncio.to_thread(land, ledgers, "a")
        batch = await waiting
        assert batch.keys == {("operations.landing.flights", "whole")}
        return time.monotonic() - started

    assert asyncio.run(watch()) < 5


def test_a_lost_notification_is_found_by_the_poll(ledgers: Any) -> None:
    async def watch() -> Batch:
        async def deaf() -> asyncpg.Connection:
            return await asyncpg.connect(ledgers.url(RUNNER), connection_class=Deaf)

        tail = follow(deaf, None, poll=0.2)
        waiting = asyncio.ensure_future(first(tail))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(land, ledgers, "a")
        return await waiting

    assert len(asyncio.run(watch()).keys) == 1


def test_the_tail_outlives_a_broken_connection_and_a_failing_connect(ledgers: Any) -> None:
    async def watch() -> tuple[Batch, Batch]:
        tries = 0

        async def connect() -> asyncpg.Connection:
            nonlocal tries
            tries += 1
            if tries in (1, 3):
                raise OSError("no route")
            return await asyncpg.connect(ledgers.url(RUNNER))

        tail = follow(connect, 0, poll=60)
        land(ledgers, "a")
        one = await first(tail)
        waiting = asyncio.ensure_future(first(tail))
        await asyncio.sleep(0.2)
        with psycopg.connect(ledgers.url("postgres"), autocommit=True) as admin:
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and usename = 'levada_runner'"
                " and application_name <> 'levada'"  # the tail's own, not that of `land`
            )
        await asyncio.to_thread(land, ledgers, "b")
        two = await waiting
        assert tries >= 4
        return one, two

    one, two = asyncio.run(watch())
    assert one.stop == two.start


def test_position_is_that_of_the_newest_line(ledgers: Any) -> None:
    async def ask() -> int:
        connection = await asyncpg.connect(ledgers.url(RUNNER))
        try:
            return await position(connection)
        finally:
            await connection.close()

    assert asyncio.run(ask()) == 0
    land(ledgers, "a")
    assert asyncio.run(ask()) == ledgers.runner.position() > 0
