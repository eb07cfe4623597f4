"""Another database, as the platform reaches it: through a connection, read only, never for long."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from levada.errors import ToolError, Unavailable
from levada.intervals import end
from levada.terms import Partition

__all__ = ["SLICE", "Address", "Database", "connected", "environment", "slices"]

Address = Callable[[str], str]
"""Where a connection leads, as a PostgreSQL address. Raises Unavailable."""

_POSTGRES = ("postgres", "postgresql", "pgsql")
_PATIENCE = "60s"
_SETTINGS = {
    # How values are written, whatever the server, the database or the role prefers.
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}

SLICE = {"start": "s.start", "end": "s.stop", "key": "s.key"}
"""Where the names of a declaration stand in a statement that selects from `slices`."""


def environment(connection: str) -> str:
    """
    Where a connection leads without Airflow: the variable that Airflow itself would read. Raises
    Unavailable where it is not set.

    >>> os.environ["AIRFLOW_CONN_SHOP"] = "postgres://reader:s3cret@db.example:5432/shop"
    >>> environment("shop")
    'postgresql://reader:s3cret@db.example:5432/shop'
    >>> del os.environ["AIRFLOW_CONN_SHOP"]
    """
    variable = f"AIRFLOW_CONN_{connection.upper()}"
    said = os.environ.get(variable, "")
    if not said:
        raise Unavailable(f"connection {connection}", variable, f"{variable} is not set")
    scheme = urlsplit(said).scheme
    if scheme not in _POSTGRES:
        why = f"{variable} is no address like postgresql://user:password@host:5432/database"
        raise Unavailable(f"connection {connection}", variable, why)
    return "postgresql" + said.removeprefix(scheme)


@dataclass(frozen=True, slots=True)
class Database:
    """An open connection. Its errors are ToolError, or Unavailable when it is gone."""

    name: str
    where: str
    connection: psycopg.Connection[Any]

    @contextmanager
    def reading(self, zone: str, patience: str = _PATIENCE) -> Iterator[psycopg.Cursor[Any]]:
        """
        A transaction that cannot write, with values written in one way and dates of this zone.

        The cursor takes one statement at a time, and puts its arguments in place of $1, $2, ...
        """
        settings = {"timezone": zone, "statement_timeout": patience, **_SETTINGS}
        put = sql.SQL(", ").join(
            sql.SQL("set_config({}, {}, true)").format(sql.Literal(name), sql.Literal(value))
            for name, value in settings.items()
        )
        try:
            with self.connection.transaction(), psycopg.RawCursor(self.connection) as cursor:
                cursor.execute(sql.SQL("select {}").format(put))
                yield cursor
        except psycopg.Error as error:
            said = error.diag.message_primary or _first_line(error)
            if self.connection.closed:
                raise Unavailable(self.name, self.where, said) from error
            raise ToolError(f"connection {self.name}", said) from error


@contextmanager
def connected(name: str, address: Address) -> Iterator[Database]:
    """The database of a connection, for the block."""
    url = address(name)
    try:
        place = conninfo_to_dict(url)
        connection = psycopg.connect(
            url, autocommit=True, connect_timeout=5, application_name="levada", keepalives_idle=30
        )
    except psycopg.Error as error:
        raise Unavailable(f"connection {name}", name, _first_line(error)) from None
    where = f"{place.get('host', 'localhost')}:{place.get('port', 5432)}"
    with connection:
        connection.read_only = True
        yield Database(f"connection {name}", where, connection)


def slices(partitions: Sequence[Partition]) -> tuple[sql.Composable, list[list[Any]]]:
    """The partitions as rows `s(n, start, stop, key)`, and the arguments $1 to $4 for them."""
    rows = sql.SQL(
        "unnest($1::int[], $2::timestamptz[], $3::timestamptz[], $4::text[])"
        " as s(n, start, stop, key)"
    )
    return rows, [
        list(range(len(partitions))),
        [p.start for p in partitions],
        [end(p) if p.start else None for p in partitions],
        [p.key for p in partitions],
    ]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
