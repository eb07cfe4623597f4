"""
What is tried inside the databases, with each role's own password: which rights hold, and which
tricks with names, paths and settings change nothing.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from levada.errors import LawBroken, NotPublishable, TerminalError
from levada.ledger.roles import (
    GOVERNANCE,
    LAKE,
    OWNER,
    PUBLISHER,
    RUNNER,
    domain_role,
)
from levada.terms import Approval, Grain, Partition, TableRef

pytestmark = pytest.mark.integration

DOMAIN = domain_role("operations")
ROLES = (DOMAIN, RUNNER, PUBLISHER, GOVERNANCE)
REFUSED = psycopg.errors.InsufficientPrivilege

EVERYBODY, NOBODY = frozenset(ROLES), frozenset[str]()
BOTH = frozenset({RUNNER, PUBLISHER})
MAY_CALL: dict[str, frozenset[str]] = {
    "complete": EVERYBODY,
    "holes": EVERYBODY,
    **dict.fromkeys(
        ("beat", "claim", "close_steps", "land", "open_steps", "ping", "probed"),
        frozenset({RUNNER}),
    ),
    **dict.fromkeys(
        ("begin_backfill", "begin_due", "settle_backfill", "turn_backfill", "undo_backfill"),
        frozenset({RUNNER}),
    ),
    **dict.fromkeys(("inspect", "release", "tell", "renew", "unknown_runs", "withhold"), BOTH),
    **dict.fromkeys(("abort_canary", "settle_canary", "start_canary"), frozenset({RUNNER})),
    **dict.fromkeys(("promote_canary", "set_canary_terms"), frozenset({GOVERNANCE})),
    **dict.fromkeys(("tell_canary",), frozenset({PUBLISHER})),
    **dict.fromkeys(("project_canary", "project_canary_told", "promotable"), NOBODY),
    **dict.fromkeys(("project_canary_terms",), NOBODY),
    **dict.fromkeys(
        ("confirm", "intend", "lock_tables", "publish", "record_batching", "report", "withdraw"),
        frozenset({PUBLISHER}),
    ),
    **dict.fromkeys(
        (
            *("approve", "pardon_step", "pardon_table", "record_contracts", "revoke_waiver"),
            "review_rule",
            *("assign_break", "resolve_break", "waive"),
        ),
        frozenset({GOVERNANCE}),
    ),
    # What only the owner's functions, triggers and the administrator call.
    **dict.fromkeys(
        (
            *("cover", "ends", "highest", "hold", "on_entry", "opening", "project", "reasons"),
            *("rebuild", "refuse", "replay", "standing", "starts", "to_feed", "unintended"),
            *("project_approval", "project_attempt", "project_claim", "project_claims"),
            *("project_contract", "project_intent", "project_landing", "project_landings"),
            *("project_pardon", "project_probe", "project_publication", "project_publications"),
            *("project_release", "project_step", "project_step_closed", "project_tampering"),
            *("project_waiver", "project_waiver_revoked", "project_withdrawal"),
            *("project_report", "project_break_assigned", "project_break_resolved"),
            *("project_findings", "project_rule_reviewed"),
            *("impartial", "marks", "project_backfill", "project_backfill_step"),
            *("project_batching", "project_told", "version_number"),
        ),
        NOBODY,
    ),
}
"""Every function of the ledger, and who may call it. A new one is refused until it stands here."""


def functions(ledgers: Any) -> list[tuple[str, str]]:
    """Each function, and a call of it."""
    found = """
        select proname, format('ledger.%I(%s)', proname, (
            select string_agg('null::' || format_type(t, null), ', ' order by n)
            from unnest(proargtypes) with ordinality as given(t, n)))
        from pg_proc where pronamespace = 'ledger'::regnamespace order by 1"""
    with psycopg.connect(ledgers.url("postgres")) as admin:
        return admin.execute(found).fetchall()


def test_every_function_of_the_ledger_is_named_with_who_may_call_it(ledgers: Any) -> None:
    assert {name for name, _ in functions(ledgers)} == set(MAY_CALL)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_calls_its_own_functions_and_no_other(ledgers: Any, role: str) -> None:
    with psycopg.connect(ledgers.url(role)) as connection:
        for name, call in functions(ledgers):
            refused = False
            try:
                connection.execute(f"select {call}".encode())
            except REFUSED:
                refused = True
            except psycopg.Error:
                pass  # it was called, and did not like what it was given
            connection.rollback()
            assert refused == (role not in MAY_CALL[name]), f"{role}: {name}"


def test_what_runs_with_the_owners_rights_looks_only_where_the_owner_writes(ledgers: Any) -> None:
    with psycopg.connect(ledgers.url("postgres")) as admin:
        found = admin.execute(
            "select proname, proconfig, proowner::regrole::text from pg_proc"
            " where pronamespace = 'ledger'::regnamespace and prosecdef"
        ).fetchall()
        superuser = admin.execute("select rolsuper from pg_roles where rolname = %s", [OWNER])
        assert superuser.fetchone() == (False,)
    assert len(found) > 20
    for name, settings, owner in found:
        assert owner == OWNER, name
        assert "search_path=ledger, pg_temp" in settings, f"{name}: temporary names come last"


def test_names_that_shadow_those_of_a_function_change_nothing(ledgers: Any) -> None:
    """Even what an administrator's carelessness would allow: objects of the caller on its path."""
    forged = [{"product": "operations.flights", "part": "day|x|UTC", "key": "x", "run": "r"}]
    attempt = json.dumps([{**forged[0], "verdict": "PASS", "because": "forged"}])
    with psycopg.connect(ledgers.url("postgres"), autocommit=True) as admin:
        admin.execute(f"grant create, usage on schema public to {RUNNER}")
    with psycopg.connect(ledgers.url(RUNNER), autocommit=True) as runner:
        runner.execute(
            "create function public.pg_has_role(name, text, text) returns boolean"
            " language sql as 'select true'"
        )
        runner.execute(
            "create function public.differ(text, text) returns boolean"
            " language sql as 'select false'"
        )
        runner.execute(
            "create operator public.<> (leftarg = text, rightarg = text, function = public.differ)"
        )
        runner.execute("create table public.entry (kind text)")
        runner.execute("set search_path = public, pg_catalog, ledger")
        with pytest.raises(psycopg.Error, match="may only record UNKNOWN"):
            runner.execute("select ledger.withhold(%s)", [attempt])
        for setting in ("transform_null_equals = on", "standard_conforming_strings = off"):
            runner.execute(f"set {setting}".encode())
        with pytest.raises(psycopg.Error, match="may only record UNKNOWN"):
            runner.execute("select ledger.withhold(%s)", [attempt])
    assert ledgers.owner.position() == 0


SPOOFS = (
    "set role levada_publisher",
    "set session authorization levada_publisher",
    "set session_replication_role = replica",
    "alter role current_user superuser",
    "alter role levada_publisher password 'mine'",
    "grant levada_publisher to current_user",
    "alter system set log_statement = 'all'",
    "alter database levada owner to current_user",
    "alter function ledger.publish(text, text, timestamptz) security invoker",
    "create or replace view ledger.publications as select 1 as one",
    "set local row_security = off; lock table ledger.publications in access exclusive mode",
    "select passwd from pg_shadow",
    "select rolpassword from pg_authid",
    "select pg_read_file('postgresql.conf')",
    "copy (select 1) to program 'true'",
    "copy (select 1) to '/tmp/stolen'",
    "select pg_stat_reset()",
)


@pytest.mark.parametrize("statement", SPOOFS)
def test_a_domain_becomes_nobody_else_and_reaches_no_file(ledgers: Any, statement: str) -> None:
    with (
        psycopg.connect(ledgers.url(DOMAIN), autocommit=True) as connection,
        pytest.raises(REFUSED),
    ):
        connection.execute(statement.encode())


STORES = (
    "create temp table mine as select generate_series(1, 10)",
    "create table public.mine (a int)",
    "create schema mine",
    "select lo_create(0)",
    "select lo_creat(-1)",
    "select lo_from_bytea(0, 'x')",
)


@pytest.mark.parametrize("statement", STORES)
def test_a_domain_stores_nothing_in_the_databases(
    ledgers: Any, server: Any, statement: str
) -> None:
    for url in (ledgers.url(DOMAIN), server.url(DOMAIN, LAKE)):
        with psycopg.connect(url, autocommit=True) as connection, pytest.raises(REFUSED):
            connection.execute(statement.encode())


@pytest.mark.parametrize("database", ["postgres", "template1", "airflow"])
def test_a_domain_enters_no_other_database(server: Any, database: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(server.url(DOMAIN, database))


def test_a_domain_cannot_take_all_connections(ledgers: Any, server: Any) -> None:
    with ExitStack() as held:
        admin = held.enter_context(psycopg.connect(server.admin_url))
        row = admin.execute("select current_setting('max_connections')::int / 4").fetchone()
        assert row
        for _ in range(row[0]):
            held.enter_context(psycopg.connect(ledgers.url(DOMAIN)))
        with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
            psycopg.connect(ledgers.url(DOMAIN))
        assert held.enter_context(psycopg.connect(ledgers.url(PUBLISHER)))
        assert held.enter_context(psycopg.connect(ledgers.url(domain_role("weather"))))


def test_a_reader_that_never_ends_its_transaction_holds_up_no_writer(ledgers: Any) -> None:
    with psycopg.connect(ledgers.url(DOMAIN)) as reader:
        reader.execute("select * from ledger.entries, ledger.publications, ledger.claims")
        with pytest.raises(REFUSED), reader.transaction():
            reader.execute("lock table ledger.entries in share mode")
        ledgers.record()
        assert ledgers.owner.position() == 1


def test_a_forged_notification_says_nothing(ledgers: Any) -> None:
    """Who listens reads on from a cursor: a call that nothing follows wakes it, no more."""
    with psycopg.connect(ledgers.url(DOMAIN), autocommit=True) as connection:
        connection.execute("notify levada, 'published: operations.flights@1'")
    assert ledgers.owner.position() == 0


REVIEWED = Approval("ines", ("joe",))
NAMES = ("x'; drop table ledger.entry; --", 'y"; drop schema ledger cascade; --', "%s {0} $1 \\")


@pytest.mark.parametrize("name", NAMES)
def test_names_and_reasons_are_data_to_the_ledger(ledgers: Any, name: str) -> None:
    ledgers.governance.record_approval(name, name, name, Approval(name))
    label = ledgers.record(name)
    with psycopg.connect(ledgers.url(DOMAIN)) as connection:
        said = connection.execute("select subject, hash, reason from ledger.approvals").fetchall()
        kept = connection.execute("select label from ledger.contracts").fetchall()
    assert said == [(name, name, name)]
    assert kept == [(label,)]


@pytest.mark.parametrize("name", ["a'; drop role postgres; --", 'a"b', "A", "a b", "a" * 60, ""])
def test_a_domain_with_such_a_name_gets_no_role(name: str) -> None:
    with pytest.raises(TerminalError, match="is no domain"):
        domain_role(name)


def test_an_approval_is_of_one_hash_and_repeating_it_writes_nothing(ledgers: Any) -> None:
    ledgers.governance.record_approval("flights 1.0.0", "aaaa", "seen", REVIEWED)
    ledgers.governance.record_approval("flights 1.0.0", "aaaa", "an old one, once more", REVIEWED)
    with psycopg.connect(ledgers.url(DOMAIN)) as connection:
        said = connection.execute("select hash, reason, by from ledger.approvals").fetchall()
    assert said == [("aaaa", "seen", GOVERNANCE)]
    with pytest.raises(LawBroken):
        ledgers.runner.record_approval("flights 1.0.0", "bbbb", "mine", REVIEWED)


def test_a_published_version_keeps_its_content(ledgers: Any) -> None:
    """A contract that was altered after review: the same version, another hash."""
    day = Partition(Grain.DAY, datetime(2013, 3, 1, tzinfo=UTC))
    ledgers.publish("operations.flights", [ledgers.line(TableRef("operations", "flights"), day)])
    with pytest.raises(NotPublishable, match="raise the version"):
        ledgers.governance.record_contracts({"flights 1.0.0 bbbb": "{}"})
