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


LINES, QUICK, HOLDERS = 1_000_000, 4, 2


def write_many(url: str, number: int, wanted: int, done: Any) -> None:
    """
    Commit `wanted` lines in transactions of one to a thousand. Some rest between insert and commit,
    some are rolled back, some lose their connection with everything in it.
    """
    dice, committed, n = random.Random(number), 0, 0
    connection = psycopg.connect(url)
    while committed < wanted:
        n += 1
        size = min(dice.choice([1, 1, 10, 100, 1000]), wanted - committed)
        ends = dice.choices(["commit", "roll back", "vanish"], [90, 9, 1])[0]
        insert_many(connection, f"{'' if ends == 'commit' else 'aborted '}{number}/{n}", size)
        if dice.random() < 0.2:
            time.sleep(dice.random() * 0.02)
        if ends == "commit":
            connection.commit()
            committed += size
        elif ends == "roll back":
            connection.rollback()
        else:
            connection.close()
            connection = psycopg.connect(url)
    connection.close()
    done.put((number, committed, n))


def hold_open(url: str, number: int, over: Any, done: Any) -> None:
    """Insert a little, let everybody else commit for seconds, then commit or give up."""
    dice, committed, n = random.Random(number), 0, 0
    with psycopg.connect(url) as connection:
        while not over.is_set():
            n += 1
            size, gives_up = dice.randint(1, 50), dice.random() < 0.3
            insert_many(connection, f"{'aborted ' if gives_up else ''}{number}/{n}", size)
            over.wait(dice.random() * 4)
            if gives_up:
                connection.rollback()
            else:
                connection.commit()
                committed += size
    done.put((number, committed, n))


def insert_many(connection: psycopg.Connection[Any], prefix: str, size: int) -> None:
    connection.execute(
        "insert into ledger.entry (kind, name, key, body) select 'approval', 'tail',"
        """ %s || '/' || n, '{"reason": "x"}' from generate_series(1, %s) n""",
        [prefix, size],
    )


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


@pytest.mark.prove
@pytest.mark.timeout(3000)
def test_of_a_million_lines_none_is_lost_none_doubled_and_nothing_aborted_is_seen(
    ledgers: Any,
) -> None:
    """The follower's own connection is broken every few seconds, too."""
    url, spawn = ledgers.url(OWNER), multiprocessing.get_context("spawn")
    done, over = spawn.Queue(), spawn.Event()
    quick = [
        spawn.Process(target=write_many, args=[url, n, LINES // QUICK, done]) for n in range(QUICK)
    ]
    slow = [
        spawn.Process(target=hold_open, args=[url, QUICK + n, over, done]) for n in range(HOLDERS)
    ]
    batches: list[Batch] = []
    connects = 0

    async def connect() -> Any:
        nonlocal connects
        connects += 1
        return await asyncpg.connect(ledgers.url(RUNNER))

    async def keep_reading() -> None:
        async for batch in follow(connect, 0, poll=5):
            batches.append(batch)  # noqa: PERF401 - it never ends

    async def watch() -> dict[int, tuple[int, int]]:
        reading = asyncio.ensure_future(keep_reading())
        for process in (*quick, *slow):
            process.start()
        while any(process.is_alive() for process in quick):
            await asyncio.sleep(3)
            await asyncio.to_thread(break_off, ledgers)
        over.set()
        told = [await asyncio.to_thread(done.get) for _ in range(QUICK + HOLDERS)]
        newest = ledgers.runner.position()
        while not batches or batches[-1].stop < newest:
            assert not reading.done()
            await asyncio.sleep(0.1)
        reading.cancel()
        return {number: (committed, tried) for number, committed, tried in told}

    started = time.monotonic()
    told = asyncio.run(watch())
    took = time.monotonic() - started
    for process in (*quick, *slow):
        process.join()
    with psycopg.connect(url) as connection:
        written = {row[0] for row in connection.execute("select key from ledger.entry")}
    seen = [key for batch in batches for _, key in batch.keys]
    lost, doubled = written - set(seen), len(seen) - len(set(seen))
    aborted = [key for key in seen if key.startswith("aborted")]
    print(
        f"{len(written)} lines committed by {QUICK + HOLDERS} processes in"
        f" {sum(tried for _, tried in told.values())} transactions; {len(batches)} batches over"
        f" {connects} connections; lost {len(lost)}, doubled {doubled}, aborted and seen"
        f" {len(aborted)}; {took:.0f} s"
    )
    assert [process.exitcode for process in (*quick, *slow)] == [0] * (QUICK + HOLDERS)
    assert sum(committed for committed, _ in told.values()) == len(written) > LINES
    assert connects > 3
    assert (lost, doubled, aborted) == (set(), 0, [])
    assert set(seen) == written
    assert batches[0].start == 0
    assert all(a.stop == b.start for a, b in pairwise(batches))


def break_off(ledgers: Any) -> None:
    """End the follower's connection: the tail's own, not that of `land`."""
    with psycopg.connect(ledgers.url("postgres"), autocommit=True) as admin:
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'levada_runner'"
            " and datname = current_database() and application_name <> 'levada'"
        )


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
        break_off(ledgers)
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
