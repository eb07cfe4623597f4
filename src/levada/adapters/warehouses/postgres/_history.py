"""What the warehouse's catalogue says of its versions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from levada.adapters.warehouses._history import table_of
from levada.adapters.warehouses._sql import literal
from levada.adapters.warehouses.postgres._session import Connection
from levada.errors import ToolError, VersionGone
from levada.ports import Change
from levada.terms import TableRef

__all__ = ["changes", "expired", "find", "known", "missing", "of_table", "present", "standing"]


def standing(row: str, version: str) -> str:
    """
    What is true of a slice that a version shows.

    >>> standing("s", "7")
    's.since <= 7 and (s.until is null or s.until > 7)'
    """
    number = int(version)
    return f"{row}.since <= {number} and ({row}.until is null or {row}.until > {number})"


def of_table(row: str, table: TableRef) -> str:
    """
    What is true of a slice of a table: lots alone would find it, and a planner would not.

    >>> of_table("s", TableRef("operations", "flights"))
    "s.domain = 'operations' and s.relation = 'flights_v1'"
    """
    return f"{row}.domain = {literal(table.domain)} and {row}.relation = {literal(table.relation)}"


def known(connection: Connection, domain: str) -> None:
    """Raises ToolError for a domain that `levada up` has not made yet."""
    if not connection.execute("select from levada.domain where name = %s", [domain]).rowcount:
        raise ToolError(
            "PostgreSQL", f"the warehouse has no domain {domain} yet; `levada up` makes it"
        )


def missing(connection: Connection, domain: str, versions: Collection[str]) -> tuple[str, ...]:
    """Versions that the domain does not have (any more)."""
    wanted = [int(v) for v in set(versions) if v.isdecimal()]
    rows = connection.execute(
        "select c.version from levada.change c join levada.domain d on d.name = c.domain"
        " where d.name = %s and c.version >= d.oldest and c.version = any(%s)",
        [domain, wanted],
    ).fetchall()
    return tuple(sorted(set(versions) - {str(row[0]) for row in rows}))


def expired(
    connection: Connection, domain: str, versions: Collection[str]
) -> Mapping[str, datetime]:
    """When versions were forgotten: each by the first who gave up what was before a later one."""
    rows = connection.execute(
        "select gone, min(c.at) from unnest(%s::bigint[]) gone join levada.change c"
        " on c.domain = %s and c.housekeeping and (c.note ->> 'forgot before')::bigint > gone"
        " group by gone",
        [[int(v) for v in set(versions) if v.isdecimal()], domain],
    ).fetchall()
    return {str(version): at.astimezone(UTC) for version, at in rows}


def find(connection: Connection, domain: str, run: str) -> str | None:
    """The version that this run committed."""
    row = connection.execute(
        "select version from levada.change where domain = %s and run = %s", [domain, run]
    ).fetchone()
    return str(row[0]) if row else None


def changes(connection: Connection, domain: str, after: str) -> tuple[Change, ...]:
    """Every later version that changed rows or shape of a table, oldest first."""
    rows = connection.execute(
        "select c.version, c.at, c.run,"
        " coalesce(array_agg(distinct t.relation) filter (where t.relation is not null), '{}'),"
        " coalesce(string_agg(distinct t.relation || ': ' || t.what, '; '), '')"
        " from levada.change c left join levada.touched t"
        " on t.domain = c.domain and t.version = c.version"
        " where c.domain = %s and c.version > %s and not c.housekeeping"
        " group by c.version, c.at, c.run order by c.version",
        [domain, int(after)],
    ).fetchall()
    return tuple(
        Change(
            domain,
            str(version),
            at.astimezone(UTC),
            tuple(sorted({ref for r in relations if (ref := table_of(domain, r))})),
            run,
            what,
        )
        for version, at, run, relations, what in rows
    )


def present(connection: Connection, table: TableRef, version: str) -> set[str]:
    """The columns of a table that a version shows. Raises VersionGone."""
    if missing(connection, table.domain, [version]):
        raise VersionGone(f"the warehouse of {table.domain} no longer has version {version}")
    shown = connection.execute(
        "select from levada.published where domain = %s and relation = %s and since <= %s",
        [table.domain, table.relation, int(version)],
    )
    if not shown.rowcount:
        raise VersionGone(f"{table} is not there at version {version}")
    rows = connection.execute(
        "select a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid"
        " join pg_namespace n on n.oid = c.relnamespace where n.nspname = %s and c.relname = %s"
        " and a.attnum > 0 and not a.attisdropped and a.attname <> '_lot'",
        [f"{table.domain}$rows", table.relation],
    ).fetchall()
    return {str(row[0]) for row in rows}
