"""Tables of another PostgreSQL: probed once for all, copied as judged, and never guessed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import psycopg
import pytest
from tests.conftest import Ledgers

from levada.adapters.postgres import Credentials
from levada.adapters.probes import Answers, Probes, record
from levada.adapters.warehouses._landing import load_sources
from levada.adapters.warehouses._stage import Loader
from levada.errors import LandingMoved, LawBroken, Unavailable
from levada.intervals import parse, within
from levada.ports import StagedSource
from levada.readiness import judge_table
from levada.terms import (
    Facts,
    Grain,
    Mesh,
    Partition,
    QueryProbe,
    Source,
    Span,
    State,
    TableProbe,
    TableRef,
)

pytestmark = pytest.mark.integration

NEW_YORK = "America/New_York"
ORDERS = TableRef("shop", "sales.orders", 0)
SIGN = TableRef("shop", "sales.sign", 0)
SPAN = Span.days("2013-03-08", "2013-03-12", "UTC")
NOW = datetime(2013, 4, 1, tzinfo=UTC)
_number = itertools.count(1)


@dataclass(frozen=True)
class Shop:
    """A database outside the mesh, as its owner sees it."""

    server: Credentials
    name: str

    @property
    def url(self) -> str:
        return self.server.url(self.server.admin, self.name)

    def address(self, connection: str) -> str:
        assert connection == "shop_db"
        return self.url

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def open(self, *, yes: bool) -> None:
        """Let connections in, or end them all and let none in."""
        with psycopg.connect(self.server.admin_url, autocommit=True) as admin:
            admin.execute(f"alter database {self.name} with allow_connections {yes}".encode())
            if not yes:
                admin.execute(
                    "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                    " where datname = %s",
                    [self.name],
                )


@pytest.fixture
def shop(server: Credentials) -> Iterator[Shop]:
    """A shop of which three days have orders."""
    name = f"shop_{next(_number)}"
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
        made = Shop(server, name)
        made.run(
            "create table orders (id int, at timestamptz, note text, price numeric)",
            "insert into orders values (1, '2013-03-08 10:00Z', 'a', 1.50),"
            " (2, '2013-03-08 23:59:59Z', '', null), (3, '2013-03-09 00:00Z', null, 2),"
            " (4, '2013-03-11 12:00Z', 'line' || chr(10) || '\"two\", \\N', 3)",
        )
        yield made
        admin.execute(f"drop database {name} with (force)".encode())


def orders(*, zone: str = "UTC", grain: Grain = Grain.DAY, **changes: Any) -> Source:
    probe = replace(TableProbe("shop_db", "public.orders", "at"), **changes)
    columns = ("id", "at", "note", "price")
    return Source(ORDERS, grain, zone, "shop_db:public.orders", columns, "s", probe=probe)


def sign(sql: str) -> Source:
    probe = QueryProbe("shop_db", sql)
    return Source(SIGN, Grain.DAY, "UTC", "shop_db:query", (), "s", probe=probe)


def landed(answers: Answers) -> dict[str, str]:
    assert set(answers.said.values()) <= {""}, answers.said
    return {landing.partition.key: landing.content for landing in answers.landed}


def asked(shop: Shop, source: Source, now: datetime = NOW) -> dict[str, str]:
    return landed(Probes(Path(), shop.address).ask([source], SPAN, now))


# A table


def test_a_partition_with_a_row_has_landed_and_its_fingerprint_is_its_rows(shop: Shop) -> None:
    before = asked(shop, orders())
    shop.run(
        "update orders set note = 'b' where id = 1",
        "delete from orders where id = 3",
        "insert into orders values (3, '2013-03-09 00:00Z', null, 2)",
    )
    after = asked(shop, orders())

    assert set(before) == {"2013-03-08", "2013-03-09", "2013-03-11"}
    assert {key for key in before if before[key] != after[key]} == {"2013-03-08"}
    assert before["2013-03-08"].startswith("2:")


def test_twice_the_same_row_is_another_fingerprint(shop: Shop) -> None:
    before = asked(shop, orders())
    shop.run("insert into orders select * from orders where id = 4")

    assert asked(shop, orders())["2013-03-11"] != before["2013-03-11"]


def test_a_null_is_not_an_empty_text(shop: Shop) -> None:
    before = asked(shop, orders())
    shop.run("update orders set note = null where id = 2")

    assert asked(shop, orders())["2013-03-08"] != before["2013-03-08"]


def test_with_a_version_only_its_change_is_a_change(shop: Shop) -> None:
    before = asked(shop, orders(version="price"))
    shop.run("update orders set note = 'unseen'")
    unseen = asked(shop, orders(version="price"))
    shop.run("update orders set price = 9 where id = 3")

    after = asked(shop, orders(version="price"))
    assert before == unseen
    assert {key for key in before if before[key] != after[key]} == {"2013-03-09"}


def test_an_interval_that_is_not_over_has_not_landed_unless_it_says_so_itself(shop: Shop) -> None:
    now = datetime(2013, 3, 11, 13, tzinfo=UTC)

    assert "2013-03-11" not in asked(shop, orders(), now)
    assert "2013-03-11" in asked(shop, orders(complete_when=":rows >= 1"), now)


def test_complete_when_may_ask_another_table_and_lets_nothing_be_a_fact(shop: Shop) -> None:
    shop.run("create table loads (day date)")
    shop.run("insert into loads values ('2013-03-10'), ('2013-03-08')")
    when = "exists (select from loads where day = :key::date and :end > :start) -- :rows"

    found = asked(shop, orders(complete_when=when))

    assert set(found) == {"2013-03-08", "2013-03-10"}
    assert found["2013-03-10"].startswith("0:")


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
def test_days_are_those_of_the_sources_calendar(shop: Shop, kind: str) -> None:
    local = f"timezone('{NEW_YORK}', g)::{kind}" if kind != "timestamptz" else "g"
    shop.run(
        "drop table orders",
        f"create table orders as select 0 as id, {local} as at, '' as note, 0 as price"
        " from generate_series('2013-03-08 05:00Z'::timestamptz, '2013-03-12 03:00Z', '1h') g",
    )

    found = asked(shop, orders(zone=NEW_YORK))

    hours = {key: content.partition(":")[0] for key, content in found.items()}
    # On 10 March New York's clocks went forward.
    assert hours == {"2013-03-08": "24", "2013-03-09": "24", "2013-03-10": "23", "2013-03-11": "24"}


def test_a_whole_table_is_one_partition(shop: Shop) -> None:
    found = asked(shop, orders(grain=Grain.WHOLE, time=""))

    assert {key: content[:2] for key, content in found.items()} == {"whole": "4:"}


@pytest.fixture
def quiet(shop: Shop) -> Iterator[None]:
    """Nobody but the test has transactions in the shop: the server cleans nothing up meanwhile."""
    with psycopg.connect(shop.server.admin_url, autocommit=True) as admin:
        try:
            admin.execute("alter system set autovacuum = off")
            admin.execute("select pg_reload_conf()")
            yield
        finally:
            admin.execute("alter system reset autovacuum")
            admin.execute("select pg_reload_conf()")


@pytest.mark.usefixtures("quiet")
def test_a_thousand_partitions_take_one_transaction_and_one_pass(shop: Shop) -> None:
    shop.run(
        "insert into orders select g, '2010-01-01Z'::timestamptz + g * interval '1 day', '', 0"
        " from generate_series(0, 999) g"
    )
    one, thousand = (Span.days("2010-01-01", end, "UTC") for end in ("2010-01-01", "2012-09-26"))
    assert len(within(Grain.DAY, "UTC", thousand)) == 1000
    table, query = orders(), sign("select count(*) from orders where at >= :start and at < :end")

    def counted() -> tuple[int, int]:
        with psycopg.connect(shop.server.admin_url, autocommit=True) as admin:
            # A session is counted when it has ended, which its client does not wait for.
            while admin.execute(
                "select from pg_stat_activity where datname = %s", [shop.name]
            ).fetchone():
                time.sleep(0.02)
            (ended,) = admin.execute(
                "select xact_commit + xact_rollback from pg_stat_database where datname = %s",
                [shop.name],
            ).fetchone() or (0,)
        ((scans,),) = shop.run("select seq_scan from pg_stat_user_tables")
        return ended, scans

    def cost(sources: list[Source], span: Span) -> tuple[int, int, int]:
        """Partitions found, transactions and passes over the table."""
        (a, scans), (b, _) = counted(), counted()
        found = Probes(Path(), shop.address).ask(sources, span, NOW)
        c, scanned = counted()
        return len(found.landed), c - b - (b - a), scanned - scans

    # Each connection begins with a transaction of the server's own.
    assert cost([table], one) == (1, 1 + 1, 1)
    assert cost([table], thousand) == (1000, 1 + 1, 1)
    found, transactions, _ = cost([table, query], thousand)
    assert (found, transactions) == (2000, 1 + 2)


def test_a_source_is_asked_again_only_after_its_pause(shop: Shop) -> None:
    probes = Probes(Path(), shop.address, timedelta(hours=1))

    assert set(probes.ask([orders()], SPAN, NOW).said) == {ORDERS}
    assert probes.ask([orders()], SPAN, NOW) == Answers((), {})


# A query

BURGLAR = (
    "select 1) q(content) on true; drop table orders; select s.n, q.content"
    " from (select 1 as n) s join lateral (select 2"
)


@pytest.mark.parametrize(
    ("sql", "content"),
    [
        ("select 'v' || count(*) from orders where at >= :start and at < :end", "v2"),
        ("select count(*) from orders where at::date = :key::date", "2"),
        ("with a as (select 1.5) select * from a order by 1 limit 1 -- :nobody", "1.5"),
        ("select true, 'more'", "true"),
        ("select id from orders where false", None),
        ("select null", None),
        ("select false", None),
        ("select 0", None),
        ("select ''", None),
        ("select ':start 100%'", ":start 100%"),
    ],
)
def test_the_first_column_of_the_one_row_is_the_fingerprint(
    shop: Shop, sql: str, content: str | None
) -> None:
    assert asked(shop, sign(sql)).get("2013-03-08") == content


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("select id from orders", "several rows for 2013-03-08"),
        ("select no_such from orders", 'column "no_such" does not exist'),
        ("select 1 / 0", "division by zero"),
        ("select lo_create(0)", "read-only transaction"),
        (BURGLAR, "multiple commands"),
    ],
)
def test_a_query_that_cannot_be_told_says_why_and_changes_nothing(
    shop: Shop, sql: str, says: str
) -> None:
    answers = Probes(Path(), shop.address).ask([sign(sql), orders()], SPAN, NOW)

    assert says in answers.said[SIGN]
    assert answers.said[ORDERS] == "", "its neighbour is told all the same"
    assert {landing.table for landing in answers.landed} == {ORDERS}


# UNKNOWN


def facts(ledgers: Ledgers) -> Facts:
    return ledgers.runner.facts([ORDERS, SIGN], [])


def day(key: str) -> Partition:
    return parse(Grain.DAY, key, "UTC")


def test_a_source_that_does_not_answer_is_unknown_until_it_does(
    shop: Shop, ledgers: Ledgers
) -> None:
    probes, source = Probes(Path(), shop.address), orders()
    mesh = Mesh("m", SPAN, "UTC", SPAN.start, (), (source,))

    def round_() -> Facts:
        record(ledgers.runner, probes.ask([source], SPAN, NOW))
        return facts(ledgers)

    well = round_()
    shop.open(yes=False)
    down, still = round_(), round_()
    shop.open(yes=True)
    shop.run("insert into orders values (5, '2013-03-10 10:00Z', '', 0)")
    again, quiet = round_(), round_()

    assert not well.probes
    assert "not currently accepting connections" in down.probes[ORDERS].because
    assert still == down, "no line for each round"
    said = judge_table(mesh, ORDERS, day("2013-03-10"), down, NOW)
    assert said.state is State.WAITING
    since = down.probes[ORDERS].since
    assert said.because.startswith(f"could not be asked since {since:%Y-%m-%d %H:%M}Z: ")
    assert judge_table(mesh, ORDERS, day("2013-03-08"), down, NOW).state is State.READY
    assert not again.probes
    assert judge_table(mesh, ORDERS, day("2013-03-10"), again, NOW).state is State.READY
    assert quiet == again
    log = "select body ->> 'verdict' from ledger.entries where kind = 'probe' order by pos"
    with psycopg.connect(ledgers.url("levada_runner")) as connection:
        assert [row[0] for row in connection.execute(log)] == ["UNKNOWN", "PASS"]


def test_another_reason_is_news_and_the_time_since_when_stays(ledgers: Ledgers) -> None:
    ledgers.runner.probed({ORDERS: "refused"})
    first = facts(ledgers).probes[ORDERS]
    ledgers.runner.probed({ORDERS: "no such host"})
    second = facts(ledgers).probes[ORDERS]

    assert (first.because, second.because) == ("refused", "no such host")
    assert first.since == second.since


def test_probes_are_of_the_log_and_are_rebuilt_from_it(ledgers: Ledgers) -> None:
    ledgers.runner.probed({ORDERS: "refused", SIGN: "refused"})
    ledgers.runner.probed({SIGN: ""})
    before = facts(ledgers)

    assert ledgers.owner.verify() == ()
    ledgers.owner.rebuild()
    assert ledgers.owner.verify() == ()
    assert facts(ledgers) == before
    assert set(before.probes) == {ORDERS}


def test_only_the_runner_says_what_sources_answer_and_only_of_sources(ledgers: Ledgers) -> None:
    with pytest.raises(LawBroken, match="published, not probed"):
        ledgers.runner.probed({TableRef("shop", "orders"): "refused"})
    with closing(ledgers.domain("operations")) as domain, pytest.raises(LawBroken):
        domain.probed({ORDERS: ""})


def test_a_changed_partition_lands_again_and_the_others_do_not(
    shop: Shop, ledgers: Ledgers
) -> None:
    probes = Probes(Path(), shop.address)
    first = record(ledgers.runner, probes.ask([orders()], SPAN, NOW))
    shop.run("update orders set price = 7 where id = 3")
    second = record(ledgers.runner, probes.ask([orders()], SPAN, NOW))

    assert [(x.partition.key, x.generation) for x in first] == [
        ("2013-03-08", 1),
        ("2013-03-09", 1),
        ("2013-03-11", 1),
    ]
    assert [(x.partition.key, x.generation) for x in second] == [("2013-03-09", 2)]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (None, "AIRFLOW_CONN_SHOP_DB is not set"),
        ("mysql://u:p@h/d", "is no address like postgresql://"),
        ("postgresql://nobody:p@127.0.0.1:1/x", "Connection refused"),
        ("postgresql://u@h/d?odd=1", "invalid URI query parameter"),
    ],
)
def test_a_connection_that_leads_nowhere_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, said: str | None, why: str
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SHOP_DB", raising=False)
    if said:
        monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", said)

    answers = Probes(Path()).ask([orders(), sign("select 1")], SPAN, NOW)

    assert answers.landed == ()
    assert set(answers.said) == {ORDERS, SIGN}
    assert all(why in text for text in answers.said.values()), answers.said


def test_the_variable_of_airflow_leads_there_without_airflow(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = urlsplit(shop.url)
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", place._replace(scheme="postgres").geturl())

    assert landed(Probes(Path()).ask([orders()], SPAN, NOW))


# Copying


def copied(
    shop: Shop, source: Source, pins: dict[Partition, str], room: Path
) -> list[tuple[Any, ...]]:
    """What a stage would hold of the pinned partitions."""
    rows = Probes(Path(), shop.address).rows(source, pins)
    with duckdb.connect() as connection:
        connection.execute("create schema up")
        staged = StagedSource(source.table, source.columns, (), rows)
        load_sources(Loader(connection, "memory"), [staged], room)
        return connection.execute("from up.shop__sales__orders order by 1").fetchall()


def pinned(shop: Shop, source: Source, *keys: str) -> dict[Partition, str]:
    found = asked(shop, source)
    return {day(key): found[key] for key in keys}


def test_a_copy_holds_the_pinned_rows_as_text_and_nothing_else(shop: Shop, tmp_path: Path) -> None:
    pins = pinned(shop, orders(), "2013-03-11", "2013-03-08")

    assert copied(shop, orders(), pins, tmp_path) == [
        ("1", "2013-03-08 10:00:00+00", "a", "1.50"),
        ("2", "2013-03-08 23:59:59+00", "", None),
        ("4", "2013-03-11 12:00:00+00", 'line\n"two", \\N', "3"),
    ]


def test_a_copy_of_nothing_asks_nobody(tmp_path: Path) -> None:
    nowhere = Shop(Credentials("127.0.0.1", 1, "s"), "x")

    assert copied(nowhere, orders(), {}, tmp_path) == []


@pytest.mark.parametrize(
    "change",
    [
        "update orders set note = 'b' where id = 1",
        "delete from orders where at < '2013-03-09Z'",
        "insert into orders select * from orders where id = 1",
        "update orders set at = '2013-03-11 10:00Z' where id = 1",
    ],
)
def test_rows_that_changed_between_probe_and_copy_end_the_attempt(
    shop: Shop, tmp_path: Path, change: str
) -> None:
    pins = pinned(shop, orders(), "2013-03-08")
    shop.run(change)

    with pytest.raises(LandingMoved, match=r"public.orders 2013-03-08 changed since it was pinned"):
        copied(shop, orders(), pins, tmp_path)


def test_a_change_of_another_partition_ends_nothing(shop: Shop, tmp_path: Path) -> None:
    pins = pinned(shop, orders(), "2013-03-08")
    shop.run("delete from orders where id = 4")

    assert len(copied(shop, orders(), pins, tmp_path)) == 2


def test_a_copy_from_a_database_that_is_down_says_so(shop: Shop, tmp_path: Path) -> None:
    pins = pinned(shop, orders(), "2013-03-08")
    shop.open(yes=False)

    with pytest.raises(Unavailable, match="connection shop_db does not answer"):
        copied(shop, orders(), pins, tmp_path)
