"""The DuckDB in which checks and rules read: what stands behind the refusal of those that write."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

__all__ = ["opened", "shut"]


def opened() -> duckdb.DuckDBPyConnection:
    """
    A database in memory that sees no variable of Python's. The statements which set it up may load
    extensions from their wheels as they lie there (`warehouses.extensions`).
    """
    import duckdb

    return duckdb.connect(
        config={"python_enable_replacements": False, "allow_unsigned_extensions": True}
    )


def shut(connection: duckdb.DuckDBPyConnection) -> None:
    """
    From now on no file is opened, nothing loaded and no setting changed. What is attached stays so,
    and the set-up allows the folders of lakes.
    """
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
