"""What a role may not do, PostgreSQL itself refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from levada.errors import LawBroken, TerminalError
from levada.ledger.roles import (
    GOVERNANCE,
    LAKE,
    OWNER,
    PUBLISHER,
    RUNNER,
    domain_role,
    provision,
)
from levada.terms import Approval, Grain, Landing, Partition, Span, Step, TableRef, Waiver

pytestmark = pytest.mark.integration

DAY = Partition(Grain.DAY, datetime(2013, 3, 1, tzinfo=UTC))
NEVER = datetime(2099, 1, 1, tzinfo=UTC)
FLIGHTS = TableRef("operations", "flights")
FILES = TableRef("operations", "landing.flights", 0)
DOMAIN = domain_role("operations")
WAIVER = Waiver(
    FLIGHTS, "c", Span(DAY.begin, NEVER), NEVER, "why", "", "h", owner="o", approver="ines"
)
REFUSED = psycopg.errors.InsufficientPrivilege

WRITES = {
    "land": lambda x: x.land([Landing(FILES, DAY, 0, "a", "p", 1, datetime.now(UTC))]),
    "open_steps": lambda x: x.open_steps([Step("operations.flights", DAY, "why")]),
    "close_steps": lambda x: x.close_steps([], "why"),
    "renew": lambda x: x.renew("run", timedelta(hours=1)),
    "release": lambda x: x.release("run", [DAY], "why"),
    "withhold": lambda x: x.withhold([]),
    "intend": lambda x: x.intend("run", []),
    "confirm": lambda x: x.confirm("run"),
    "publish": lambda x: x.publish("run", "7"),
    "withdraw": lambda x: x.withdraw("run", "why"),
    "locked": lambda x: x.locked([FLIGHTS]).__enter__(),
    "record_contracts": lambda x: x.record_contracts({"a 1 b": "{}"}),
    "record_approval": lambda x: x.record_approval("a", "b", "why", Approval("ines")),
    "waive": lambda x: x.waive(WAIVER, Approval("ines")),
    "revoke_waiver": lambda x: x.revoke_waiver(WAIVER, "why"),
    "rebuild": lambda x: x.rebuild(),
    "verify": lambda x: x.verify(),
}
EVERY = frozenset(WRITES)
RUNNERS = {"land", "open_steps", "close_steps", "renew", "release", "withhold"}
PUBLISHERS = {"renew", "release", "withhold", "intend", "confirm", "publish", "withdraw", "locked"}
ALLOWED = {
    "runner": RUNNERS,
    "publisher": PUBLISHERS,
    "governance": {"record_contracts", "record_approval", "waive", "revoke_waiver"},
    "operations": set(),
}
STATEMENTS = [
    "insert into ledger.entry (kind, name, key, body) values ('publication', 'a', 'b', '{}')",
    "insert into ledger.feed (entry, kind, name, key) values (1, 'publication', 'a', 'b')",
    "insert into ledger.publication (table_name) values ('a')",
    "update ledger.publication set verdict = 'PASS'",
    "update ledger.contracts set body = ''",
    "update ledger.lease set until = now()",
    "delete from ledger.entry",
    "delete from ledger.changes",
    "truncate ledger.entry",
    "select nextval('ledger.token')",
    "select ledger.replay()",
    "create table ledger.mine (a int)",
    "create table public.mine (a int)",
    "create temp table publication (a int)",
    "create schema mine",
    "alter table ledger.entry disable trigger append_only",
    "select pg_advisory_lock(1)",
    "select pg_advisory_xact_lock(0, 42)",
    "set role levada_owner",
]


@pytest.mark.parametrize("role", sorted(ALLOWED))
def test_a_call_that_is_not_the_roles_is_refused(ledgers: Any, role: str) -> None:
    ledger = ledgers.domain(role) if role == "operations" else getattr(ledgers, role)
    for name in sorted(EVERY - ALLOWED[role]):
        with pytest.raises(LawBroken, match="this role may not: permission denied"):
            WRITES[name](ledger)
    ledger.close()
    assert ledgers.owner.position() == 0


@pytest.mark.parametrize("role", [DOMAIN, RUNNER, PUBLISHER, GOVERNANCE])
def test_no_login_role_reaches_the_tables_or_the_locks(ledgers: Any, role: str) -> None:
    with psycopg.connect(ledgers.url(role), autocommit=True) as connection:
        for statement in STATEMENTS:
            with pytest.raises(REFUSED):
                connection.execute(statement)


@pytest.mark.parametrize("role", [OWNER, "postgres"])
def test_even_the_owner_cannot_change_the_log(ledgers: Any, role: str) -> None:
    with psycopg.connect(ledgers.url(role), autocommit=True) as connection:
        for statement in (
            "update ledger.entry set body = '{}'",
            "delete from ledger.entry",
            "truncate ledger.entry cascade",
            "update ledger.feed set name = 'x'",
            "delete from ledger.feed",
        ):
            with pytest.raises(psycopg.Error, match="the ledger is append-only"):
                connection.execute(statement)


@pytest.mark.parametrize("role", [DOMAIN, RUNNER, PUBLISHER, GOVERNANCE])
def test_every_role_reads_every_view(ledgers: Any, role: str) -> None:
    views = "positions changes entries landings publications attempts claims intents steps"
    with psycopg.connect(ledgers.url(role)) as connection:
        for view in f"{views} contracts approvals".split():
            assert connection.execute(f"select * from ledger.{view}").description


def test_an_entry_names_the_role_that_wrote_it(ledgers: Any) -> None:
    ledgers.record()
    with psycopg.connect(ledgers.url(DOMAIN)) as connection:
        assert connection.execute("select by from ledger.entries").fetchall() == [(GOVERNANCE,)]


def test_only_the_publisher_writes_lakes_and_tables_to_come_can_be_read(server: Any) -> None:
    with psycopg.connect(server.conninfo(PUBLISHER, LAKE), autocommit=True) as publisher:
        publisher.execute("create table operations.later as select 1 as a")
        try:
            for role in (DOMAIN, domain_role("weather"), RUNNER):
                with psycopg.connect(server.conninfo(role, LAKE), autocommit=True) as reader:
                    assert reader.execute("select a from operations.later").fetchall() == [(1,)]
                    for statement in (
                        "insert into operations.later values (2)",
                        "update operations.later set a = 2",
                        "delete from operations.later",
                        "drop table operations.later",
                        "create table operations.mine (a int)",
                        "create table public.mine (a int)",
                    ):
                        with pytest.raises(REFUSED):
                            reader.execute(statement)
        finally:
            publisher.execute("drop table operations.later")


def test_a_domain_enters_neither_airflows_database_nor_another_roles_account(server: Any) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(server.url(DOMAIN, "airflow"))
    stolen = server.url(PUBLISHER).replace(server.password(PUBLISHER), server.password(DOMAIN))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(stolen)


def test_provisioning_again_changes_nothing_and_adds_a_new_domain(server: Any) -> None:
    provision(server, ["operations", "harbour"])
    with psycopg.connect(server.conninfo(domain_role("harbour"), LAKE)) as harbour:
        harbour.execute("select 1 from pg_namespace where nspname = 'harbour'")
        assert harbour.execute("select has_schema_privilege('operations', 'usage')").fetchone() == (
            True,
        )
    with pytest.raises(TerminalError, match="'Bad-Name' is no domain"):
        provision(server, ["Bad-Name"])
