"""
The ledger at ten million intervals: is a table complete over a thousand slots, and how many
publications a second does a group commit write; growth and vacuum beside them.

Filled in bulk, as the ledger's owner: the stretches of 1,000 tables with 10,000 hours each, in
which every 5,000th hour is missing, of every other table every 97th; and for the peers a row for
each of the same hours. What is measured are the functions that readers and publishers call:
`ledger.complete`, `ledger.holes`, and claim, intend, publish, through the roles that may.

Peers, in the same run: a row for each interval in PostgreSQL (same server) and in SQLite (one file,
in this process), counted over the same thousand slots.

Server time is the median of single calls, timed inside the server, so that other programs of a busy
machine do not count. Publications are counted by the wall clock; the server's CPU time for each is
told beside it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg

from levada.adapters import postgres
from levada.adapters.postgres import Credentials
from levada.ledger import PostgresLedger
from levada.ledger.roles import GOVERNANCE, OWNER, PUBLISHER, RUNNER, provision
from levada.ports import Want
from levada.terms import Grain, Input, Partition, Publication, TableRef, Verdict

TABLES, HOURS, SLOTS = 1_000, 10_000, 1_000
RARE, OFTEN = 5_000, 97  # the hours between two holes, of even tables and of odd ones
GOAL_US, GOAL_PER_SECOND, GROUP = 50.0, 20_000, 100
CONTRACT = "bench 1.0.0 aaaa"
START = datetime(2013, 1, 1, tzinfo=UTC)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- publications ---------------------------------------------------------------------------------


def intents(credentials: Credentials, number: int, groups: int, size: int) -> list[str]:
    """Claim and intend so many groups; the runs that may publish now."""
    runner = PostgresLedger(credentials.url(RUNNER))
    publisher = PostgresLedger(credentials.url(PUBLISHER))
    product, table = f"operations.p{number}", TableRef("operations", f"p{number}")
    pins = tuple(
        Input(TableRef("operations", "landing.files", 0), Partition(Grain.HOUR, at), 1, "c", "v")
        for at in (START, START + timedelta(hours=1))
    )
    runs = []
    for group in range(groups):
        first = START + timedelta(hours=group * size)
        slots = [Partition(Grain.HOUR, first + timedelta(hours=n)) for n in range(size)]
        run = f"{product}@{size}@{group}"
        with runner.sensing([], []) as sensing:
            wants = [Want(product, slot, "f1", pins) for slot in slots]
            sensing.claim(wants, run=run, lifetime=timedelta(hours=4))
        lines = [
            Publication(
                table=table, partition=slot, generation=0, contract=CONTRACT, verdict=Verdict.PASS,
                data_version="", content="1000:a1b2c3d4", made_by="f1", inputs=pins, taint=(),
                run="", at=START,
            )
            for slot in slots
        ]  # fmt: skip
        publisher.intend(run, lines)
        runs.append(run)
    return runs


def publish(url: str, runs: list[str], gate: Any, done: Any) -> None:
    """Publish each run in a transaction of its own, once everybody is ready."""
    with psycopg.connect(url, autocommit=True) as connection:
        backend = psutil.Process(connection.info.backend_pid)
        gate.wait()
        cpu, started = sum(backend.cpu_times()[:2]), time.monotonic()
        for number, run in enumerate(runs):
            connection.execute("select ledger.publish(%s, %s, null)", [run, str(number)])
        done.put((started, time.monotonic(), sum(backend.cpu_times()[:2]) - cpu))


def published(
    credentials: Credentials, first: int, writers: int, groups: int, size: int
) -> dict[str, float]:
    """So many publishers at once, each with a product of its own."""
    prepared = time.monotonic()
    runs = [intents(credentials, first + n, groups, size) for n in range(writers)]
    prepared = time.monotonic() - prepared
    spawn = multiprocessing.get_context("spawn")
    gate, done = spawn.Barrier(writers), spawn.Queue()
    url = credentials.url(PUBLISHER)
    processes = [spawn.Process(target=publish, args=[url, mine, gate, done]) for mine in runs]
    for process in processes:
        process.start()
    told = [done.get() for _ in processes]
    for process in processes:
        process.join()
    count = writers * groups * size
    took = max(end for _, end, _ in told) - min(start for start, _, _ in told)
    return {
        "per_second": round(count / took),
        "server_cpu_us_each": round(sum(cpu for *_, cpu in told) / count * 1e6, 1),
        "claimed_and_intended_per_second": round(count / prepared),
        "count": count,
    }


# --- growth ---------------------------------------------------------------------------------------


def growth(credentials: Credentials, count: int) -> dict[str, Any]:
    """
    Bytes that a publication leaves in the log (with its claim's and its intent's lines) and in the
    state, and what a vacuum finds and takes.
    """
    with psycopg.connect(
        credentials.url(credentials.admin, "levada"), autocommit=True
    ) as connection:

        def sizes() -> dict[str, int]:
            rows = connection.execute(
                "select relname, pg_total_relation_size(oid) from pg_class"
                " where relnamespace = 'ledger'::regnamespace and relkind = 'r'"
            )
            return dict(rows.fetchall())

        before, dead = (
            sizes(),
            connection.execute(
                "select sum(n_dead_tup) from pg_stat_user_tables where schemaname = 'ledger'"
            ).fetchone(),
        )
        started = time.monotonic()
        for name in before:
            connection.execute(f"vacuum (analyze) ledger.{name}")
        took, after = time.monotonic() - started, sizes()
    kept = ("entry", "feed", "publication")
    passing = ("claim", "intent", "lease", "stretch")
    return {
        "bytes_each": {name: round(after[name] / count) for name in kept},
        "passing_tables_bytes": sum(after[name] for name in passing),
        "dead_rows": int(dead[0]) if dead and dead[0] else 0,
        "vacuum_seconds": round(took, 2),
        "bytes_freed_by_vacuum": sum(before.values()) - sum(after.values()),
    }


# --- completeness ---------------------------------------------------------------------------------

EVERY = f"case t % 2 when 0 then {RARE} else {OFTEN} end"
FILL = f"""
    insert into ledger.stretch
    select 'bench.t' || t || '@1', 'hour', 'UTC', start + f * interval '1 hour',
           start + least(f + every - 1, {HOURS}) * interval '1 hour',
           least(f + every - 1, {HOURS}) - f
    from (values (timestamptz '2013-01-01Z')) s (start), generate_series(0, {TABLES - 1}) t,
         lateral (select {EVERY}) e (every), lateral generate_series(0, {HOURS - 1}, every) f"""
PEER = f"""
    create table public.slot as
    select 'bench.t' || t || '@1' as table_name, start + h * interval '1 hour' as start
    from generate_series(0, {TABLES - 1}) t, generate_series(0, {HOURS - 1}) h,
         (values (timestamptz '2013-01-01Z')) s (start) where (h + 1) % ({EVERY}) <> 0;
    create unique index slot_key on public.slot (table_name, start)"""
# The same questions for all: table number and first hour of the n-th; odd tables have holes.
TABLE, FIRST = "n * 7918 % 1000 + {odd}", "n * 7907 % 3900"
TIMED = """
    do $do$
    declare q record; began timestamptz; took float8[] := '{{}}'; answer bool; right_ int := 0;
    begin
        for q in select t, f, f + interval '{slots} hours' as u from (
            select 'bench.t' || ({table}) || '@1' as t,
                   timestamptz '2013-01-01Z' + ({first}) * interval '1 hour' as f
            from generate_series(1, {count}) n) asked
        loop
            began := clock_timestamp();
            {call};
            took := took || (extract(epoch from clock_timestamp() - began) * 1e6)::float8;
            right_ := right_ + (answer = ({odd} = 0))::int;
        end loop;
        perform set_config('bench.us', (select percentile_cont(0.5) within group (order by t)
            || ' ' || percentile_cont(0.99) within group (order by t) || ' ' || right_
            from unnest(took) t), false);
    end $do$"""
COMPLETE = "answer := ledger.complete(q.t, 'hour', 'UTC', q.f, q.u)"
HOLES = "select count(*) = 0 into answer from ledger.holes(q.t, 'hour', 'UTC', q.f, q.u)"
COUNTED = (
    f"select count(*) = {SLOTS} into answer from public.slot s"
    " where s.table_name = q.t and s.start >= q.f and s.start < q.u"
)


def timed(connection: psycopg.Connection[Any], call: str, count: int, odd: int) -> list[float]:
    """Median and 99th percentile of single calls, in microseconds of the server's clock."""
    words = {"table": TABLE.format(odd=odd), "first": FIRST, "odd": odd}
    connection.execute(TIMED.format(call=call, count=count, slots=SLOTS, **words))
    row = connection.execute("select current_setting('bench.us')").fetchone()
    assert row is not None
    median, slow, right = (float(word) for word in row[0].split())
    assert right == count, "every answer is the true one"
    return [round(median, 1), round(slow, 1)]


def sqlite_rows(path: Path) -> sqlite3.Connection:
    """The same rows in one SQLite file."""
    connection = sqlite3.connect(path)
    connection.executescript("pragma journal_mode = off; pragma synchronous = off;")
    connection.execute(
        "create table slot (table_name text, start int, primary key (table_name, start))"
        " without rowid"
    )
    connection.execute(
        f"""insert into slot with recursive
        t (t) as (select 0 union all select t + 1 from t where t < {TABLES - 1}),
        h (h) as (select 0 union all select h + 1 from h where h < {HOURS - 1})
        select 'bench.t' || t || '@1', h * 3600 from t, h
        where (h + 1) % ({EVERY}) <> 0 order by 1, 2"""
    )
    connection.commit()
    return connection


def sqlite_timed(connection: sqlite3.Connection, count: int) -> list[float]:
    """The same of the peer, in this process."""
    took = []
    for n in range(1, count + 1):
        table, first = f"bench.t{n * 7918 % 1000}@1", n * 7907 % 3900
        began = time.perf_counter()
        found = connection.execute(
            "select count(*) from slot where table_name = ? and start >= ? and start < ?",
            (table, first * 3600, (first + SLOTS) * 3600),
        ).fetchone()
        took.append((time.perf_counter() - began) * 1e6)
        assert found == (SLOTS,)
    return [round(statistics.median(took), 1), round(statistics.quantiles(took, n=100)[98], 1)]


def completeness(credentials: Credentials, home: Path, count: int) -> dict[str, Any]:
    with psycopg.connect(credentials.url(OWNER, "levada"), autocommit=True) as owner:
        say("filling stretches")
        owner.execute(FILL)
        owner.execute("analyze ledger.stretch")
        stretch_bytes = owner.execute("select pg_total_relation_size('ledger.stretch')").fetchone()
        rows = owner.execute("select count(*), sum(slots) from ledger.stretch").fetchone()
    with psycopg.connect(credentials.url(credentials.admin, "levada"), autocommit=True) as admin:
        say("filling the peer's rows in PostgreSQL")
        admin.execute(PEER)
        admin.execute("vacuum (analyze) public.slot")
        admin.execute(f"grant usage on schema public to {RUNNER}")
        admin.execute(f"grant select on public.slot to {RUNNER}")
        peer_bytes = admin.execute("select pg_total_relation_size('public.slot')").fetchone()
    assert rows is not None
    assert stretch_bytes is not None
    assert peer_bytes is not None
    with psycopg.connect(credentials.url(RUNNER, "levada"), autocommit=True) as runner:
        say("asking")
        found: dict[str, Any] = {
            "complete": timed(runner, COMPLETE, count, 0),
            "incomplete": timed(runner, COMPLETE, count, 1),
            "holes": timed(runner, HOLES, count, 1),
            "peer_postgresql": timed(runner, COUNTED, count, 0),
        }
    say("filling the peer's rows in SQLite")
    path = home / "peer.sqlite"
    lite = sqlite_rows(path)
    found["peer_sqlite"] = sqlite_timed(lite, count)
    lite.close()
    return {
        "us_p50_p99": found,
        "intervals": int(rows[1]),
        "stretch_rows": rows[0],
        "stretch_bytes": stretch_bytes[0],
        "peer_postgresql_bytes": peer_bytes[0],
        "peer_sqlite_bytes": path.stat().st_size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=100, help="group commits of each writer")
    parser.add_argument("--asks", type=int, default=5_000, help="questions of each kind")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="levada-p3-"))
    try:
        say("starting PostgreSQL")
        credentials = postgres.start(home)
        provision(credentials, ["operations"])
        governance = PostgresLedger(credentials.url(GOVERNANCE))
        governance.record_contracts({CONTRACT: '{"status":"active"}'})
        governance.close()
        rates = {}
        for first, (writers, size, groups) in enumerate(
            ((1, 1, 3 * options.groups), (1, GROUP, options.groups), (2, GROUP, options.groups))
        ):
            label = f"{writers} x {size}"
            rates[label] = published(credentials, first * 10, writers, groups, size)
            say(f"{label} publications a transaction: {rates[label]}")
        count = sum(int(rate["count"]) for rate in rates.values())
        grown = growth(credentials, count)
        asked = completeness(credentials, home, options.asks)
    finally:
        postgres.stop(home)
        shutil.rmtree(home, ignore_errors=True)
    us = asked["us_p50_p99"]
    ours, peer = us["complete"][0], min(us["peer_postgresql"][0], us["peer_sqlite"][0])
    best = max(rate["per_second"] for rate in rates.values())
    print(
        json.dumps(
            {
                "figure": "p3_ledger",
                "ours": ours,
                "peer": peer,
                "ratio": round(peer / ours, 1),
                "goal": f"{SLOTS} slots under {GOAL_US:.0f} us;"
                f" over {GOAL_PER_SECOND} publications/s in transactions of {GROUP}",
                "met": ours < GOAL_US and best > GOAL_PER_SECOND,
                "met_completeness": ours < GOAL_US,
                "met_publications": best > GOAL_PER_SECOND,
                "unit": "us of server time, median",
                **asked,
                "publications": rates,
                "growth": grown,
                "load": [round(each, 1) for each in os.getloadavg()],
                "cores": os.cpu_count(),
            }
        )
    )


if __name__ == "__main__":
    main()
