"""
Great Expectations itself: imported once for a process, its context made once for a thread.

A context, its data source and each asset of it cost ten times what a few expectations do. So they
stay, and each call of `validate` lends them the connection that it is about.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["preload", "validate"]

_ASSETS = 64
"""How many names of tables are kept; beyond that a context is made anew."""


@functools.cache
def preload() -> Any:
    """
    Import Great Expectations, quiet and without telemetry, and return it; later calls are free.

    The import takes some seconds. A parent that forks its workers calls this first; it opens no
    connection.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations

    from levada.adapters import duckdb_dialect

    duckdb_dialect.register()
    logging.getLogger("great_expectations").propagate = False  # errors come back as results
    return great_expectations


def validate(
    connection: Any, table: str, suite: Mapping[str, Any], result_format: str
) -> dict[str, Any]:
    """
    Run expectations over a table or view of a DuckDB; the results by the keys of the suite.

    An expectation that raised has its error in its result. What Great Expectations raises for the
    whole suite is raised.
    """
    keys = list(suite)
    for number, key in enumerate(keys):
        suite[key].meta = {"levada": number}
    expected = preload().ExpectationSuite(name=table, expectations=list(suite.values()))
    with _source.lent(connection):
        told = _source.batch(table).validate(expected, result_format=result_format)
    return {keys[r.expectation_config.meta["levada"]]: r for r in told.results}


class _Source(threading.local):
    """The data source of a thread, over whichever connection is lent to it."""

    def __init__(self) -> None:
        self._connection: Any = None
        self._sql: Any = None
        self._batches: dict[str, Any] = {}

    @contextmanager
    def lent(self, connection: Any) -> Iterator[None]:
        """Let the source be this connection's."""
        self._connection = connection
        try:
            yield
        finally:
            self._connection = None

    def batch(self, table: str) -> Any:
        """The rows of a table as they are now."""
        if self._sql is None or len(self._batches) >= _ASSETS:
            self._open()
        if table not in self._batches:  # each asset costs a look at the table
            asset = self._sql.add_table_asset(table, table_name=table)
            self._batches[table] = asset.add_batch_definition_whole_table("all")
        return self._batches[table].get_batch()

    def _open(self) -> None:
        from levada.adapters import duckdb_dialect

        context = preload().get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        self._sql = context.data_sources.add_sql(
            "duckdb",
            connection_string=duckdb_dialect.URL,
            kwargs=duckdb_dialect.arguments(lambda: self._connection),
        )
        self._batches = {}


_source = _Source()
