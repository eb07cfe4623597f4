"""
P2: from a commit in the ledger to the fired event, with 10,000 waiters in one process.

A line is committed from another process, then the next, with a pause between them. Five waiters
wait for each slice; all others must sleep on. Measured is from the sending of COMMIT to the event,
on one clock; beside it stands the floor, a bare LISTEN of the same commits in the same process,
which on a busy machine is most of it. The peer is a trigger that asks every 2 s, as
Airflow's WorkflowTrigger does (SqlSensor asks every 60 s): measured the same way, with as many
triggers as such polling lets one process have.

A triggerer adds its own tick: its loop tells its events once a second, so that a task ends half a
second later on average. That is told apart, from the source of the Airflow that is installed;
`p1_waiting.py --airflow` measures commit to success of the task.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from _figure import arguments, quantiles, report, say, spent
from _waiting import Bench, Pollers, Waiters, bench, hushed

GOAL_P50, GOAL_P99 = 10.0, 50.0
POLL = 2.0
PEERS = 500
EACH = 5


class Writer:
    """Commits lines from a process of its own, so that its work is not done in ours."""

    def __init__(self, found: Bench) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), "--writer", found.runner_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._said()

    async def land(self, table: Any, partition: Any) -> tuple[float, float]:
        """When the commit was asked for, and when it was done."""
        assert self._process.stdin
        self._process.stdin.write(f"{table} {partition.start.isoformat()}\n")
        self._process.stdin.flush()
        before, after = (await asyncio.to_thread(self._said)).split()
        return float(before), float(after)

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(10)

    def _said(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()


def write(url: str) -> None:
    """The writer's process: a line of stdin is a landing to commit."""
    from datetime import UTC, datetime

    import psycopg
    from psycopg.types.json import Jsonb

    from levada.intervals import containing
    from levada.ledger.codec import encode_landing
    from levada.terms import Grain, Landing, TableRef

    connection = psycopg.connect(url)
    print("ready", flush=True)
    for line in sys.stdin:
        name, start = line.split()
        hour = containing(Grain.HOUR, datetime.fromisoformat(start), "UTC")
        now = datetime.now(UTC)
        landing = Landing(TableRef.parse(name), hour, 0, "a", name, 1, now)
        connection.execute("select ledger.land(%s)", [Jsonb([encode_landing(landing)])])
        before = time.perf_counter()  # CLOCK_MONOTONIC: the same in every process
        connection.commit()
        print(before, time.perf_counter(), flush=True)


async def one_by_one(
    found: Bench, side: Any, slices: list[tuple[Any, Any]], events: int, pause: float
) -> tuple[list[float], ...]:
    """
    Milliseconds from commit to each event, to the last of each line's, to a bare LISTEN, and from
    there to the last event.
    """
    import asyncpg

    writer = Writer(found)
    each: list[float] = []
    last: list[float] = []
    heard: list[float] = []
    added: list[float] = []
    told: list[float] = []
    bare = await asyncpg.connect(found.runner_url)
    await bare.add_listener("levada", lambda *_: told.append(time.perf_counter()))
    chosen = random.Random(7)  # noqa: S311 - the same slices every time
    for number in chosen.sample(range(len(slices)), events):
        told.clear()
        before, _ = await writer.land(*slices[number])
        mine = range(number, len(side.tasks), len(slices))
        deadline = time.perf_counter() + 4 * POLL
        while not all(n in side.fired for n in mine):
            assert time.perf_counter() < deadline, f"not all of {list(mine)} fired"
            await asyncio.sleep(0.002)
        times = [1000 * (side.fired[n] - before) for n in mine]
        each += times
        last.append(max(times))
        heard += [1000 * (t - before) for t in told[:1]]
        added += [max(times) - heard[-1]] if told else []
        await asyncio.sleep(chosen.uniform(0, pause))
    writer.close()
    await bare.close()
    return each, last, heard, added


async def ours(
    found: Bench, waiters: int, slices: list[tuple[Any, Any]], events: int
) -> dict[str, Any]:
    side = Waiters(found)
    side.start([slices[n % len(slices)] for n in range(waiters)])
    await side.settled()
    say(f"p2: {waiters:,} wait")
    before = side.judgements
    with spent() as cost:
        each, last, heard, added = await one_by_one(found, side, slices, events, 0.1)
    woken = side.judgements - before
    assert len(side.fired) == len(each), "somebody fired who was not meant"
    await side.close()
    return {
        "each": each,
        "last": last,
        "heard": heard,
        "added": added,
        "judgements": woken,
        "cpu": cost.cpu / events,
    }


async def theirs(found: Bench, slices: list[tuple[Any, Any]], events: int) -> list[float]:
    side = Pollers(found, POLL)
    slices = slices[: PEERS // EACH]
    await side.start([slices[n % len(slices)] for n in range(PEERS)])
    await asyncio.sleep(POLL)
    each, _, _, _ = await one_by_one(found, side, slices, min(events, len(slices)), 0.5)
    await side.close()
    return each


async def claimed(found: Bench, slices: list[tuple[Any, Any]], events: int) -> list[float]:
    """The same for products, which are judged again and claimed before they fire."""
    side = Waiters(found)
    for number, (table, partition) in enumerate(slices[:events]):
        product = str(table).replace("landing.", "").partition("@")[0]
        side.start(
            [(table, partition)],
            tables=[],
            product=product,
            claimant=[product, f"run{number}", "try1"],
        )
    await side.settled()
    _, last, _, _ = await one_by_one(found, side, slices[:events], events, 0.1)
    await side.close()
    return last


def tick() -> float:
    """Seconds that the installed triggerer rests between two times that it tells its events."""
    import inspect
    import re

    from airflow.jobs import triggerer_job_runner

    source = inspect.getsource(triggerer_job_runner.TriggerRunner)
    (seconds,) = re.findall(r"move_on_after\((\d+(?:\.\d+)?)\)", source)
    return float(seconds)


def main() -> None:
    words = arguments(__doc__, writer={"default": ""}, waiters={"type": int, "default": 10_000})
    if words.writer:
        write(words.writer)
        return
    waiters, count, events = words.waiters, 2_000, 200
    if words.small:
        waiters, count, events = 100, 20, 5
    with hushed(), bench(tables=4, history=50 if words.small else 5_000) as found:
        names = found.tables
        slices = [(names[n % 4], found.partition(n // 4)) for n in range(count)]
        mine = asyncio.run(ours(found, waiters, slices, events))
        say(f"p2: ours, each event: {_told(mine['each'])}")
        product_slices = [(names[n % 4], found.partition(count + n // 4)) for n in range(events)]
        claims = asyncio.run(claimed(found, product_slices, events))
        say(f"p2: ours, with a claim: {_told(claims)}")
        other_slices = [(names[n % 4], found.partition(2 * count + n // 4)) for n in range(count)]
        peer = asyncio.run(theirs(found, other_slices, 5 if words.small else 40))
        say(f"p2: peer, each event: {_told(peer)}")
        rests = tick()
    p50, p99 = quantiles(mine["each"], 50, 99)
    peer50, peer99 = quantiles(peer, 50, 99)
    last50, last99 = quantiles(mine["last"], 50, 99)
    claim50, claim99 = quantiles(claims, 50, 99)
    report(
        "p2_latency",
        ours=p50,
        peer=peer50,
        ratio=peer50 / p50,
        goal=f"p50 under {GOAL_P50:g} ms, p99 under {GOAL_P99:g} ms",
        met=p50 < GOAL_P50 and p99 < GOAL_P99,
        unit="ms from COMMIT to the event, p50",
        p99=p99,
        floor_of_a_bare_listen=dict(
            zip(("p50", "p99"), quantiles(mine["heard"], 50, 99), strict=True)
        ),
        added_to_the_floor=dict(zip(("p50", "p99"), quantiles(mine["added"], 50, 99), strict=True)),
        peer_p99=peer99,
        peer_poll_seconds=POLL,
        last_of_five={"p50": round(last50, 2), "p99": round(last99, 2)},
        with_a_claim={"p50": round(claim50, 2), "p99": round(claim99, 2)},
        waiters=waiters,
        lines=events,
        judgements_a_line=mine["judgements"] / events,
        cpu_ms_a_line=1000 * mine["cpu"],
        triggerer_tick_seconds=rests,
    )


def _told(values: list[float]) -> str:
    p50, p95, p99 = quantiles(values, 50, 95, 99)
    return f"p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f}, max {max(values):.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
