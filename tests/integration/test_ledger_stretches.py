"""A stretch is a run of slots without a hole: the same whatever the order in which they came."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest

from levada.intervals import end, following, parse, windows, within
from levada.ledger import roles
from levada.ledger.codec import encode_partition
from levada.ledger.roles import OWNER, READER, RUNNER, domain_role
from levada.terms import WHOLE, Grain, Landing, Partition, Span, TableRef

pytestmark = pytest.mark.integration

FLIGHTS = TableRef("operations", "flights")
FILES = TableRef("operations", "landing.flights", 0)
PRODUCT = "operations.flights"
NEW_YORK = "America/New_York"
# Ambiguous midnights (Havana, Azores), skipped ones (Sao Paulo, Asuncion, Beirut), a skipped day
# (Apia), half an hour (Lord Howe), and the plain.
ZONES = (
    *("America/Havana", "Atlantic/Azores", "America/Sao_Paulo", "America/Asuncion", "Asia/Beirut"),
    *("Pacific/Apia", "Australia/Lord_Howe", NEW_YORK, "Europe/London", "Asia/Kathmandu", "UTC"),
)
Stretch = tuple[datetime, datetime, int]


def days(first: str, last: str, zone: str = NEW_YORK) -> tuple[Partition, ...]:
    return within(Grain.DAY, zone, Span.days(first, last, zone))


def landed(partitions: Iterable[Partition], content: str = "a") -> list[Landing]:
    now = datetime(2013, 3, 12, tzinfo=UTC)
    return [Landing(FILES, p, 0, content, "p", 1, now) for p in partitions]


def stretches(ledgers: Any, table: TableRef = FILES) -> list[Stretch]:
    with psycopg.connect(ledgers.url(RUNNER)) as connection:
        connection.execute("set timezone = 'UTC'")
        rows = connection.execute(
            "select since, until, slots from ledger.stretches where table_name = %s"
            " order by grain, zone, since",
            [str(table)],
        )
        return [(since, until, slots) for since, until, slots in rows]


def one_stretch(partitions: Sequence[Partition]) -> list[Stretch]:
    return [(partitions[0].begin, end(partitions[-1]), len(partitions))]


def holes(ledgers: Any, table: TableRef, span: Span, zone: str = NEW_YORK) -> list[Any]:
    with psycopg.connect(ledgers.url(domain_role("company"))) as connection:
        asked = [str(table), "day", zone, span.start, span.end]
        connection.execute("set timezone = 'UTC'")
        found = connection.execute("select * from ledger.holes(%s, %s, %s, %s, %s)", asked)
        rows = found.fetchall()
        whole = connection.execute("select ledger.complete(%s, %s, %s, %s, %s)", asked).fetchone()
        assert whole == (not rows,)
        return rows


def test_days_of_23_and_25_hours_join_in_whatever_order_they_come(ledgers: Any) -> None:
    year = days("2013-01-01", "2013-12-31")
    shuffled = random.Random(1).sample(year, len(year))
    for first in range(0, len(shuffled), 40):
        ledgers.runner.land(landed(shuffled[first : first + 40]))
    assert stretches(ledgers) == one_stretch(year)


def test_published_slots_are_covered_and_a_restatement_changes_nothing(ledgers: Any) -> None:
    march = days("2013-03-08", "2013-03-12")
    ledgers.publish(PRODUCT, [ledgers.line(FLIGHTS, p) for p in march])
    before = stretches(ledgers, FLIGHTS)
    ledgers.publish(PRODUCT, [ledgers.line(FLIGHTS, march[2], made_by="f2")], run="run-2")
    assert before == stretches(ledgers, FLIGHTS) == one_stretch(march)


def test_holes_are_named_at_both_ends_and_in_the_middle(ledgers: Any) -> None:
    span = Span.days("2013-03-08", "2013-03-14", NEW_YORK)
    march = days("2013-03-08", "2013-03-14")
    assert holes(ledgers, FILES, span) == [(span.start, span.end)]
    ledgers.runner.land(landed([march[1], march[2], march[4]]))
    assert holes(ledgers, FILES, span) == [
        (march[0].begin, end(march[0])),
        (march[3].begin, end(march[3])),
        (march[5].begin, end(march[6])),
    ]
    ledgers.runner.land(landed(march))
    assert holes(ledgers, FILES, span) == []
    assert holes(ledgers, FILES, span, "UTC") != [], "another calendar's slots are not these"


def test_an_undivided_table_has_no_stretch(ledgers: Any) -> None:
    ledgers.runner.land(landed([WHOLE]))
    assert stretches(ledgers) == []


@pytest.mark.parametrize("seed", range(4))
def test_holes_are_those_of_a_brute_force_recount(ledgers: Any, seed: int) -> None:
    dice = random.Random(seed)
    slots = days("2013-02-20", "2013-04-10")
    have: set[Partition] = set()
    for _ in range(12):
        batch = dice.sample(slots, dice.randint(1, 6))
        have |= set(batch)
        ledgers.runner.land(landed(batch, f"{dice.random()}"))
        assert [s[:2] for s in stretches(ledgers)] == list(windows(have))
        first, last = sorted(dice.sample(range(len(slots)), 2))
        span = Span(slots[first].begin, end(slots[last]))
        missing = [p for p in slots[first : last + 1] if p not in have]
        assert holes(ledgers, FILES, span) == list(windows(missing))
    assert ledgers.owner.verify() == ()


def test_writers_of_neighbouring_slots_at_once_leave_one_stretch(ledgers: Any) -> None:
    slots = days("2013-01-01", "2013-02-09")
    gate, failed = threading.Barrier(4), []

    def land(number: int) -> None:
        gate.wait()
        try:
            for slot in slots[number::4]:
                ledgers.runner.land(landed([slot]))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=land, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert stretches(ledgers) == one_stretch(slots)


@pytest.mark.prove
def test_the_server_ends_the_slots_of_old_lines_where_the_calendar_does(ledgers: Any) -> None:
    told = 0
    with psycopg.connect(ledgers.url(OWNER)) as connection:
        for zone in ZONES:
            slots = [
                slot
                for grain in Grain
                if grain is not Grain.WHOLE
                for slot in chain_of(grain, zone, 40 if grain is Grain.HOUR else 12_800)
            ]
            rows = connection.execute(
                "select n, ledger.ends(part) from unnest(%s::text[]) with ordinality as x(part, n)",
                [[encode_partition(slot) for slot in slots]],
            )
            for number, ends in rows:
                slot = slots[number - 1]
                assert ends == end(slot), f"{encode_partition(slot)}: {ends} is not {end(slot)}"
                told += 1
    assert told > 100_000


def chain_of(grain: Grain, zone: str, count: int) -> list[Partition]:
    """So many slots from 2000 on, but none that starts after 2034."""
    found = (
        [parse(grain, "2000-01-01T00Z" if grain is Grain.HOUR else "2000-01-01", zone)]
        if (grain is not Grain.WEEK)
        else [parse(grain, "2000-01-03", zone)]
    )
    while len(found) < count and found[-1].begin.year < 2035:
        found.append(following(found[-1]))
    return found


def test_a_log_from_before_stretches_is_covered_when_it_is_migrated(
    server: Any, ledgers: Any
) -> None:
    year = days("2013-01-01", "2013-12-31")
    lines = [
        {"table_name": str(FILES), "part": encode_partition(p), "generation": g, "content": "a",
         "path": "p", "size": 1, "at": "2013-03-01T00:00:00Z"}
        for p in year
        for g in (1, 2)
    ]  # fmt: skip
    name = f"{ledgers.database}_old"
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(f"create database {name} owner {OWNER}")
        try:
            url = server.url(OWNER, name)
            roles.migrate(url, "0001")
            with psycopg.connect(url) as connection, connection.cursor() as cursor:
                cursor.executemany(
                    "insert into ledger.entry (kind, name, key, body)"
                    " values ('landing', %s, %s, %s)",
                    [(str(FILES), "k", psycopg.types.json.Jsonb(line)) for line in lines],
                )
            roles.migrate(url)
            old = replace(ledgers, database=name)
            with psycopg.connect(server.url(OWNER, name)) as connection:
                connection.execute(f"grant connect on database {name} to {READER}")
            assert stretches(old) == one_stretch(year)
        finally:
            admin.execute(f"drop database {name} with (force)")


def test_a_ledger_that_lacks_the_newest_migration_alone_is_brought_to_it(
    server: Any, ledgers: Any
) -> None:
    versions = Path(roles.__file__).parent / "migrations" / "versions"
    (file,) = versions.glob(f"{roles.newest()}_*.py")
    (version,) = re.findall(r'^down_revision = "(\w+)"', file.read_text(), re.MULTILINE)
    name = f"{ledgers.database}_before"
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(f"create database {name} owner {OWNER}")
        try:
            roles.migrate(server.url(OWNER, name), version)
            roles.prepare(server, name)
            with psycopg.connect(server.url(OWNER, name)) as connection:
                found = connection.execute("select version_num from ledger.alembic_version")
                assert found.fetchall() == [(roles.newest(),)]
        finally:
            admin.execute(f"drop database {name} with (force)")


def test_a_forged_stretch_is_found_and_made_anew_from_the_log(ledgers: Any) -> None:
    ledgers.runner.land(landed(days("2013-03-08", "2013-03-12")))
    right = stretches(ledgers)
    with psycopg.connect(ledgers.url("postgres"), autocommit=True) as admin:
        admin.execute("update ledger.stretch set until = until + interval '1 day'")
    assert {found.split(":")[0] for found in ledgers.owner.verify()} == {"stretch"}
    ledgers.owner.rebuild()
    assert ledgers.owner.verify() == ()
    assert stretches(ledgers) == right


def test_one_statement_of_many_lines_projects_as_many_statements_of_one(ledgers: Any) -> None:
    slots = days("2013-03-08", "2013-03-12")
    ledgers.publish(PRODUCT, [ledgers.line(FLIGHTS, p) for p in slots])
    again = [ledgers.line(FLIGHTS, p, made_by="f2", content="2:b") for p in slots[1:]]
    ledgers.publish(PRODUCT, again, run="run-2")
    facts = ledgers.runner.facts([FLIGHTS], [PRODUCT])
    assert [facts.lines[FLIGHTS, p].generation for p in slots] == [1, 2, 2, 2, 2]
    positions = [facts.lines[FLIGHTS, p].position for p in slots]
    assert all(a < b for a, b in pairwise(positions))
    assert facts.claims == {}
    assert ledgers.owner.verify() == (), "the replay projects one by one"


def test_only_the_runner_beats_and_pings(ledgers: Any) -> None:
    for role in (domain_role("company"), roles.PUBLISHER):
        with psycopg.connect(ledgers.url(role), autocommit=True) as connection:
            for call in ("ledger.beat('reconcile')", "ledger.ping('x')"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"select {call}")


def test_a_ping_is_a_line_that_projects_to_nothing(ledgers: Any) -> None:
    before = ledgers.runner.position()
    ledgers.runner.ping("x")
    assert ledgers.runner.position() > before
    assert ledgers.owner.verify() == ()
    assert ledgers.owner.rebuild() == 1


def test_the_newest_heartbeat_is_kept(ledgers: Any) -> None:
    assert ledgers.runner.heartbeats() == {}
    ledgers.runner.beat("reconcile")
    (first,) = ledgers.runner.heartbeats().values()
    ledgers.runner.beat("reconcile")
    assert ledgers.runner.heartbeats()["reconcile"] > first
