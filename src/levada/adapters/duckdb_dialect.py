"""
The SQLAlchemy dialect `duckdb+buffered`, through which Great Expectations reads DuckDB.

duckdb-engine leaves rows on DuckDB's one cursor per connection. Great Expectations fetches them
after it has sent the next statement or closed the connection; by then they are gone and good data
looks bad. Here every statement's rows are read when it is executed. Whole results come into
memory, so that whoever queries through this dialect asks for few rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import duckdb_engine
from sqlalchemy import types
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg2 import PGExecutionContext_psycopg2
from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.pool import NullPool
from sqlalchemy.sql import text

__all__ = ["URL", "Dialect", "arguments", "register"]

URL = "duckdb+buffered:///:memory:"


class _Execution(PGExecutionContext_psycopg2):
    """An execution that owns its rows."""

    def post_exec(self) -> None:
        super().post_exec()  # type: ignore[no-untyped-call]
        if self.cursor.description:
            self.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(
                self.cursor, initial_buffer=deque(self.cursor.fetchall())
            )


class Dialect(duckdb_engine.Dialect):
    """duckdb-engine's dialect with buffered rows, and with columns read from DuckDB's catalogue."""

    driver = "buffered"
    supports_statement_cache = False
    execution_ctx_cls = _Execution

    def get_columns(
        self, connection: Any, table_name: str, schema: str | None = None, **_: Any
    ) -> list[ReflectedColumn]:
        """
        The columns of a table or view.

        The inherited query is PostgreSQL's, and fails on DuckDB from SQLAlchemy 2.1 on.
        """
        database, _dot, name = (schema or "").rpartition(".")
        found = connection.execute(
            text(
                "select column_name, data_type, is_nullable from duckdb_columns()"
                " where table_name = :t and schema_name = coalesce(:s, current_schema())"
                " and database_name = coalesce(:d, current_database()) order by column_index"
            ),
            {"t": table_name, "s": name or None, "d": database or None},
        )
        return [
            {
                "name": column,
                "type": self._reflected(data_type),
                "nullable": bool(nullable),
                "default": None,
                "comment": None,
            }
            for column, data_type, nullable in found
        ]

    def _reflected(self, data_type: str) -> types.TypeEngine[Any]:
        known = self.ischema_names.get(data_type.partition("(")[0].lower())
        return known() if known else types.NullType()


def register() -> None:
    """Make the dialect known to SQLAlchemy; repeating it does no harm."""
    registry.register("duckdb.buffered", __name__, "Dialect")


class _Lent(duckdb_engine.ConnectionWrapper):
    """A connection that is closed by whom it belongs to."""

    def close(self) -> None:
        """Leave it open."""


def arguments(connection: Callable[[], Any]) -> dict[str, Any]:
    """Further arguments of `create_engine(URL, ...)`: which DuckDB connection it is to use now."""
    return {"creator": lambda: _Lent(connection()), "poolclass": NullPool}
