"""
Who may do what: databases, login roles and their rights; made by `levada up`, again and again.

    levada      the ledger        owner: levada_owner; everybody else reads views, calls functions
    lake        the catalogues    a schema per domain, owned by levada_publisher; the rest reads
    airflow     Airflow's own     owner: airflow

Reading is a group role, `levada_reader`, so that a new domain needs one grant and no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
from psycopg import sql

from levada.errors import TerminalError, Unavailable

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = [
    "GOVERNANCE",
    "LAKE",
    "LEDGER",
    "OWNER",
    "PUBLISHER",
    "READER",
    "RUNNER",
    "Server",
    "domain_role",
    "migrate",
    "newest",
    "provision",
]

LEDGER, LAKE, AIRFLOW = "levada", "lake", "airflow"
OWNER = "levada_owner"
RUNNER = "levada_runner"
PUBLISHER = "levada_publisher"
GOVERNANCE = "levada_governance"
READER = "levada_reader"

_DOMAIN = re.compile(r"[a-z][a-z0-9_]{0,40}")
_MIGRATIONS = Path(__file__).with_name("migrations")
_PROVISIONING = 0x6C657661  # the advisory lock of provisioning: "leva"


class Server(Protocol):
    """A PostgreSQL that we may administer, and how each role signs in there."""

    @property
    def admin(self) -> str:
        """The administrator's role."""

    @property
    def admin_url(self) -> str:
        """The administrator's address."""

    @property
    def embedded(self) -> bool:
        """Whether the server is ours alone."""

    def password(self, role: str) -> str:
        """The password of a role."""

    def url(self, role: str, database: str = "levada") -> str:
        """The role's address of a database."""


def domain_role(domain: str) -> str:
    """
    The login role of a domain's own code.

    >>> domain_role("weather")
    'levada_domain_weather'
    """
    if not _DOMAIN.fullmatch(domain):
        raise TerminalError(f"{domain!r} is no domain: use lower_snake_case, 41 letters at most")
    return f"levada_domain_{domain}"


def provision(server: Server, domains: Iterable[str]) -> None:
    """
    Create or complete databases, roles, rights and the ledger's schema.

    Repeating it changes nothing, unless a domain or a migration is new; two at once wait for each
    other. What a domain that is no longer declared may do is left as it was.
    """
    names = sorted(set(domains))
    domain_roles = [domain_role(name) for name in names]
    logins = [OWNER, RUNNER, PUBLISHER, GOVERNANCE, AIRFLOW, *domain_roles]
    with _connected(server.admin_url) as admin:
        admin.execute("select pg_advisory_lock(%s)", [_PROVISIONING])
        _make_roles(admin, server, logins)
        readers = [RUNNER, PUBLISHER, GOVERNANCE, *domain_roles]
        _run(admin, "grant {} to {}", READER, _list(readers))
        _bound(admin, domain_roles)
        for database, owner in ((LEDGER, OWNER), (LAKE, OWNER), (AIRFLOW, AIRFLOW)):
            _make_database(admin, database, owner)
        for database in (LEDGER, LAKE):
            _run(admin, "grant connect on database {} to {}", database, READER)
        if server.embedded:  # else whoever owns the server decides who enters its other databases
            for database in ("postgres", "template1"):
                _run(admin, "revoke all on database {} from public", database)
        with _connected(server.url(server.admin, LAKE)) as lake:
            _open_lake(lake, names)
        prepare(server, LEDGER)


def prepare(server: Server, database: str) -> None:
    """Make `database`, owned by the owner, a ledger with its newest schema."""
    with _connected(server.url(server.admin, database)) as ledger:
        _close_public(ledger)
        # Advisory locks are for the owner's functions, or any reader could stop every commit.
        _reserve(ledger, "pg_(try_)?advisory_.*")
    with _connected(server.url(OWNER, database)) as ledger:
        _run(ledger, "alter default privileges revoke execute on functions from public")
        current = _version(ledger)
    if current != newest():  # alembic takes half a second to import, and is seldom needed
        migrate(server.url(OWNER, database))


def newest() -> str:
    """The migration that no other one follows, whatever its number: what alembic calls the head."""
    told = [path.read_text() for path in (_MIGRATIONS / "versions").glob("[0-9]*.py")]
    chain: list[set[str]] = [
        {found for text in told for found in re.findall(rf'^{name} = "(\w+)"', text, re.MULTILINE)}
        for name in ("revision", "down_revision")
    ]
    (head,) = chain[0] - chain[1]
    return head


def migrate(url: str, version: str = "head") -> None:
    """Bring the ledger's schema to its newest version, or to a version, as its owner."""
    import logging

    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine, text

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    logging.getLogger("alembic").setLevel(logging.WARNING)
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:", 1))
    try:
        with engine.begin() as connection:
            connection.execute(text("create schema if not exists ledger"))
            config.attributes["connection"] = connection
            command.upgrade(config, version)
    finally:
        engine.dispose()


def _version(ledger: Connection[Any]) -> str | None:
    """The migration that the ledger's schema has come to."""
    try:
        row = ledger.execute("select version_num from ledger.alembic_version").fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    return str(row[0]) if row else None


# --- the parts ------------------------------------------------------------------------------------


def _make_roles(admin: Connection[Any], server: Server, logins: Sequence[str]) -> None:
    have = {row[0] for row in admin.execute("select rolname from pg_roles")}
    if READER not in have:
        _run(admin, "create role {} nologin", READER)
    for role in logins:
        if role not in have:
            _run(admin, "create role {} login", role)
        _run(admin, "alter role {} login password {}", role, sql.Literal(server.password(role)))
    # An administrator who is no superuser may give away only what is his.
    if not admin.execute("select rolsuper from pg_roles where rolname = current_user").fetchone()[
        0
    ]:  # type: ignore[index]
        _run(admin, "grant {} to {}", _list([OWNER, PUBLISHER, AIRFLOW]), server.admin)


def _make_database(admin: Connection[Any], name: str, owner: str) -> None:
    if not admin.execute("select from pg_database where datname = %s", [name]).rowcount:
        _run(admin, "create database {} owner {}", name, owner)
    _run(admin, "revoke all on database {} from public", name)


def _open_lake(lake: Connection[Any], domains: Sequence[str]) -> None:
    """A schema per domain that the publisher writes and the readers read, tables to come too."""
    _close_public(lake)
    for domain in domains:
        _run(lake, "create schema if not exists {} authorization {}", domain, PUBLISHER)
        _run(lake, "grant usage on schema {} to {}", domain, READER)
        _run(lake, "grant select on all tables in schema {} to {}", domain, READER)
        _run(
            lake,
            "alter default privileges for role {} in schema {} grant select on tables to {}",
            *(PUBLISHER, domain, READER),
        )


def _close_public(connection: Connection[Any]) -> None:
    """Leave nothing that just anybody may make here: no table, and no large object."""
    _run(connection, "revoke all on schema public from public")
    _reserve(connection, "lo_create?|lo_from_bytea")


def _bound(admin: Connection[Any], domain_roles: Sequence[str]) -> None:
    """No domain takes the connections that the others and the platform need."""
    found = admin.execute("select current_setting('max_connections')::int / 4").fetchone()
    for role in domain_roles:
        _run(admin, "alter role {} connection limit {}", role, sql.Literal(found and found[0]))


def _reserve(connection: Connection[Any], pattern: str) -> None:
    """
    Keep functions of PostgreSQL that everybody may call for the owner's functions.

    Only a superuser may; on a server where we have none, readers are trusted not to.
    """
    functions = connection.execute(
        "select oid::regprocedure::text from pg_proc"
        " where pronamespace = 'pg_catalog'::regnamespace and proname ~ %s",
        [f"^({pattern})$"],
    ).fetchall()
    names = sql.SQL(", ").join(sql.SQL(row[0]) for row in functions)
    try:
        _run(connection, "revoke execute on function {} from public", names)
        _run(connection, "grant execute on function {} to {}", names, OWNER)
    except psycopg.errors.InsufficientPrivilege:
        return


def _run(connection: Connection[Any], statement: str, *words: str | sql.Composable) -> None:
    """Run a statement whose words are names, quoted here."""
    quoted = [sql.Identifier(word) if isinstance(word, str) else word for word in words]
    connection.execute(sql.SQL(statement).format(*quoted))


def _list(names: Iterable[str]) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(name) for name in names)


@contextmanager
def _connected(url: str) -> Iterator[Connection[Any]]:
    try:
        connection = psycopg.connect(url, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        place = psycopg.conninfo.conninfo_to_dict(url)
        where = f"{place.get('host')}:{place.get('port', 5432)}"
        raise Unavailable("PostgreSQL", where, str(error).strip().splitlines()[0]) from None
    with connection:
        yield connection
