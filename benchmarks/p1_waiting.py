"""
P1: what waiting costs. 10,000 sensors on 2,000 slices, in one process.

Ours are the real triggers on Airflow's own shared stream, over the embedded PostgreSQL. The peer is
a poller in each trigger, by primary key, at the interval of our tail's slow poll: once in 15 s each
where ours poll once in 15 s together. Both are measured for the same time on the same ledger, the
server's CPU included. What they cost when they begin is told apart, and so is what a waiter's
judgement costs that is made every hour in any case.

    --airflow   the same inside a real triggerer, with 2,000 runs' tasks waiting, beside an Airflow
                that is idle: takes some ten minutes
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from _figure import arguments, memory_of, report, say, spent
from _waiting import Bench, Pollers, Waiters, bench, hushed

GOAL = 100
POLL = 15.0
AN_HOUR = 60.0
"""Minutes between the judgements that a waiter makes in any case (`triggers._SAFETY`)."""


def wanted(found: Bench, waiters: int, slices: int, built: bool) -> list[tuple[Any, Any]]:
    """Five or so on each slice of the tables; `built` ones wait for what is made of a landing."""
    from levada.terms import TableRef

    names = [
        TableRef(t.domain, t.name.removeprefix("landing.")) if built else t for t in found.tables
    ]
    each = [(names[n % len(names)], found.partition(n // len(names))) for n in range(slices)]
    return [each[n % slices] for n in range(waiters)]


async def ours(
    found: Bench, who: Sequence[tuple[Any, Any]], seconds: float, rest: float
) -> dict[str, float]:
    me = os.getpid()
    gc.collect()
    before, asked = memory_of([me]), found.transactions()
    server = found.server_cpu()
    waiters = Waiters(found)
    with spent() as entry:
        waiters.start(who)
        await waiters.settled()
    entry_server, entry_asked = found.server_cpu() - server, found.transactions() - asked - 1
    say(f"p1: {len(who):,} wait; {entry.cpu:.2f} CPU s and {entry.wall:.1f} s to begin")
    gc.collect()
    memory = memory_of([me]) - before
    await asyncio.sleep(rest)  # a backend tells its statistics up to ten seconds late
    judged, asked, server = waiters.judgements, found.transactions(), found.server_cpu()
    with spent() as waiting:
        await asyncio.sleep(seconds)
    spent_there = found.server_cpu() - server
    queries = found.transactions() - asked - 1
    assert waiters.judgements == judged, "somebody judged though nothing happened"
    assert not waiters.fired, "somebody fired though nothing happened"
    await waiters.close()
    minute = 60 / seconds
    return {
        "entry_cpu": entry.cpu,
        "entry_server_cpu": entry_server,
        "entry_seconds": entry.wall,
        "entry_queries": entry_asked,
        "waiting_cpu": waiting.cpu * minute,
        "server_cpu": spent_there * minute,
        "queries": queries * minute,
        "kb_each": memory * 1024 / len(who),
    }


async def theirs(
    found: Bench, who: Sequence[tuple[Any, Any]], seconds: float, poll: float
) -> dict[str, float]:
    pollers = Pollers(found, poll)
    await pollers.start(who)
    await asyncio.sleep(poll)  # all have begun
    polls, asked, server = pollers.polls, found.transactions(), found.server_cpu()
    with spent() as waiting:
        await asyncio.sleep(seconds)
    server = found.server_cpu() - server
    queries = found.transactions() - asked - 1
    assert not pollers.fired, "somebody fired though nothing happened"
    minute = 60 / seconds
    polls = pollers.polls - polls
    await pollers.close()
    return {
        "waiting_cpu": waiting.cpu * minute,
        "server_cpu": server * minute,
        "queries": queries * minute,
        "polls": polls * minute,
    }


def main() -> None:
    words = arguments(
        __doc__,
        airflow={"action": "store_true", "help": "inside a real triggerer"},
        seconds={"type": float, "default": 60.0, "help": "how long they wait"},
        waiters={"type": int, "default": 10_000},
    )
    if words.airflow:
        from _airflow_waiting import measure

        measure()
        return
    count, slices, seconds, history = words.waiters, 2_000, words.seconds, 5_000
    poll, rest = POLL, 11.0
    if words.small:
        count, slices, seconds, history, poll, rest = 100, 20, 2.0, 50, 1.0, 0.0
    with hushed(), bench(tables=4, history=history) as found:
        say(f"p1: a ledger of {4 * history:,} lines")
        time.sleep(rest)
        idle = found.server_cpu()
        time.sleep(seconds)
        idle = (found.server_cpu() - idle) * 60 / seconds
        say(f"p1: the server alone: {idle:.2f} CPU s a minute")
        few = asyncio.run(
            ours(found, wanted(found, count // 10, slices // 10, True), seconds / 4, rest)
        )
        many = asyncio.run(ours(found, wanted(found, count, slices, True), seconds, rest))
        say(f"p1: ours {many}")
        peer = asyncio.run(theirs(found, wanted(found, count, slices, False), seconds, poll))
        say(f"p1: peer {peer}")
    mine = many["waiting_cpu"] + max(many["server_cpu"] - idle, 0)
    again = (many["entry_cpu"] + many["entry_server_cpu"]) / AN_HOUR
    other = peer["waiting_cpu"] + max(peer["server_cpu"] - idle, 0)
    ratio = other / max(mine, 0.01)  # the clock of a process ticks in hundredths
    report(
        "p1_waiting",
        ours=mine,
        peer=other,
        ratio=ratio,
        goal=f"CPU of waiting at least {GOAL}x less; queries independent of the waiters",
        met=ratio >= GOAL and many["queries"] <= few["queries"] + 4,
        unit="CPU s a minute, with what the server spends beyond its own rest",
        server_at_rest=idle,
        ours_apart={"process": many["waiting_cpu"], "server": many["server_cpu"]},
        peer_apart={"process": peer["waiting_cpu"], "server": peer["server_cpu"]},
        waiters=count,
        slices=slices,
        queries_a_minute=many["queries"],
        queries_a_minute_of_a_tenth=few["queries"],
        peer_queries_a_minute=peer["queries"],
        ratio_with_hourly_judgements=other / max(mine + again, 0.01),
        hourly_judgements=again,
        kb_a_waiter=many["kb_each"],
        entry={k: round(v, 3) for k, v in many.items() if k.startswith("entry")},
        poll_seconds=poll,
    )


if __name__ == "__main__":
    sys.exit(main())
