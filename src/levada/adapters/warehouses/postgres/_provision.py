"""Make the warehouse: its database, its catalogue, and for each domain two schemas and rights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg import sql

from levada.errors import Unavailable

__all__ = ["Server", "provision"]

_CATALOGUE = Path(__file__).with_name("catalogue.sql")
_OWNER, _PUBLISHER, _RUNNER = "levada_owner", "levada_publisher", "levada_runner"
_READER = "levada_reader"
_LOCK = 0x6C657677  # the advisory lock of provisioning: "levw"
_WATCHES = {"ddl_command_end": "shape_changed", "sql_drop": "shape_dropped"}


class Server(Protocol):
    """A PostgreSQL that we may administer, with the roles that `levada up` made."""

    @property
    def admin(self) -> str:
        """The administrator's role."""

    @property
    def admin_url(self) -> str:
        """The administrator's address."""

    def url(self, role: str, database: str = "levada") -> str:
        """The role's address of a database."""


def provision(server: Server, database: str, domains: Sequence[str]) -> None:
    """
    Create or complete the warehouse. Repeating it changes nothing, unless a domain is new; two at
    once wait for each other.
    """
    with _connected(server.admin_url) as admin:
        admin.execute("select pg_advisory_lock(%s)", [_LOCK])
        if not admin.execute("select from pg_database where datname = %s", [database]).rowcount:
            _run(admin, "create database {} owner {}", database, _OWNER)
        _run(admin, "alter database {} set timezone to 'UTC'", database)
        _run(admin, "revoke all on database {} from public", database)
        _run(admin, "grant connect on database {} to {}", database, _READER)
        # Stages are schemas: the runner makes them, the publisher those that are sealed.
        _run(admin, "grant create on database {} to {}, {}", database, _RUNNER, _PUBLISHER)
        with _connected(server.url(server.admin, database)) as warehouse:
            _catalogue(warehouse)
            for domain in sorted(set(domains)):
                _domain(warehouse, database, domain)


def _catalogue(warehouse: psycopg.Connection[Any]) -> None:
    """The tables and functions of `catalogue.sql`, where they are not those already."""
    statements = _CATALOGUE.read_text(encoding="utf-8")
    made = f"levada's catalogue {hashlib.sha256(statements.encode()).hexdigest()[:12]}"
    found = warehouse.execute(
        "select obj_description(oid) from pg_namespace where nspname = 'levada'"
    ).fetchone()
    if found == (made,):
        return
    warehouse.execute("revoke all on schema public from public")
    with warehouse.transaction():
        warehouse.execute(statements.encode())
        for event, function in _WATCHES.items():
            _watch(warehouse, event, function)
        _run(warehouse, "comment on schema levada is {}", sql.Literal(made))


def _watch(warehouse: psycopg.Connection[Any], event: str, function: str) -> None:
    """
    Have changes of shape recorded. Only a superuser may; on a server where we have none, such a
    change is not told (docs/explanation/warehouses.md).
    """
    name = f"levada_{function}"
    try:
        with warehouse.transaction():
            _run(warehouse, "drop event trigger if exists {}", name)
            statement = f"create event trigger {{}} on {event} execute function levada.{{}}()"
            _run(warehouse, statement, name, function)
    except psycopg.errors.InsufficientPrivilege:
        return


def _domain(warehouse: psycopg.Connection[Any], database: str, domain: str) -> None:
    """The schema of a domain's published views, which all read, and the one of its rows."""
    role, rows = f"levada_domain_{domain}", f"{domain}$rows"
    known = warehouse.execute("select from levada.domain where name = %s", [domain]).rowcount
    if known:
        return
    with warehouse.transaction():
        for schema, reader in ((domain, _READER), (rows, _RUNNER)):
            _run(warehouse, "create schema if not exists {} authorization {}", schema, _PUBLISHER)
            _run(warehouse, "grant usage on schema {} to {}", schema, reader)
            _run(
                warehouse,
                "alter default privileges for role {} in schema {} grant select on tables to {}",
                *(_PUBLISHER, schema, reader),
            )
        _run(warehouse, "grant usage on schema {} to {}", rows, _OWNER)
        if not _superuser(warehouse):  # who may grant a role to himself, since he made it
            _run(warehouse, "grant {} to current_user", role)
        # What the domain builds may be read by whoever seals it.
        _run(
            warehouse,
            "alter default privileges for role {} grant select on tables to {}",
            *(role, _PUBLISHER),
        )
        _run(warehouse, "grant temporary on database {} to {}", database, role)
        warehouse.execute("insert into levada.domain (name) values (%s)", [domain])


def _superuser(warehouse: psycopg.Connection[Any]) -> bool:
    row = warehouse.execute("select rolsuper from pg_roles where rolname = current_user")
    return row.fetchone() == (True,)


def _run(connection: psycopg.Connection[Any], statement: str, *words: str | sql.Composable) -> None:
    """Run a statement whose words are names, quoted here."""
    quoted = [sql.Identifier(word) if isinstance(word, str) else word for word in words]
    connection.execute(sql.SQL(statement).format(*quoted))  # type: ignore[arg-type,unused-ignore]


@contextmanager
def _connected(url: str) -> Iterator[psycopg.Connection[Any]]:
    try:
        connection = psycopg.connect(url, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        place = psycopg.conninfo.conninfo_to_dict(url)
        where = f"{place.get('host')}:{place.get('port', 5432)}"
        raise Unavailable("PostgreSQL", where, str(error).strip().splitlines()[0]) from None
    with connection:
        yield connection
