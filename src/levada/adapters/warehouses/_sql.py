"""Pieces of DuckDB's SQL, made from declarations: names, literals, types, windows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from levada import intervals
from levada.errors import NotPublishable
from levada.terms import Column, Contract, Partition

__all__ = [
    "Windows",
    "casts",
    "column_type",
    "instant",
    "literal",
    "name",
    "redacted",
    "row_hash",
    "within",
    "within_partitions",
]

Windows = Sequence[tuple[datetime, datetime]]


def name(*parts: str) -> str:
    """
    A quoted, dotted name.

    >>> name("ops", "main", 'fli"ghts')
    '"ops"."main"."fli""ghts"'
    """
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def literal(text: str | Path) -> str:
    """
    A quoted string.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + str(text).replace("'", "''") + "'"


def instant(at: datetime) -> str:
    """
    An instant as TIMESTAMPTZ, whatever the session's zone.

    >>> instant(datetime(2013, 3, 10, 5, tzinfo=UTC))
    "TIMESTAMPTZ '2013-03-10 05:00:00+00:00'"
    """
    return f"TIMESTAMPTZ '{at.astimezone(UTC).isoformat(sep=' ')}'"


@lru_cache(maxsize=1024)
def column_type(text: str) -> str:
    """
    DuckDB's own spelling of a type: what is not a type is refused, so it is safe inside SQL.

    >>> column_type("timestamptz"), column_type("decimal(10, 2)")
    ('TIMESTAMP WITH TIME ZONE', 'DECIMAL(10,2)')
    """
    import duckdb

    try:
        return str(duckdb.sqltype(text))
    except duckdb.Error as error:
        raise NotPublishable(f"{text!r} is no type of DuckDB; use one of its names") from error


def casts(columns: Sequence[Column]) -> str:
    """
    Columns by name, each cast to its promised type.

    >>> casts([Column("a", "int"), Column("b", "text")])
    'CAST("a" AS INTEGER) AS "a", CAST("b" AS VARCHAR) AS "b"'
    """
    return ", ".join(
        f"CAST({name(c.name)} AS {column_type(c.type)}) AS {name(c.name)}" for c in columns
    )


def row_hash(columns: Sequence[Column]) -> str:
    """
    A row's hash, to be summed: the sum is the same in any order, and counts duplicates.

    A sum, because XOR cancels pairs; over all columns at once, so that values cannot trade places;
    of values cast to their promised types, because DuckDB's hash depends on the type.
    """
    values = ", ".join(f"CAST({name(c.name)} AS {column_type(c.type)})" for c in columns)
    return f"CAST(hash({values}) AS HUGEINT)"


def within(contract: Contract, windows: Windows | None, row: str = "") -> str:
    """
    The rows of a table whose interval column lies in the windows; None is all of them.

    A date lies in the window in which its day starts, in the contract's calendar. `row` is what
    the query calls the table, where it joins others.
    """
    if windows is None:
        return "true"
    if contract.interval_column is None:
        raise ValueError(f"{contract.table} has no interval column: it is read whole")
    promised = contract.column(contract.interval_column)
    column, kind = name(contract.interval_column), column_type(promised.type if promised else "")
    column = f"{row}.{column}" if row else column
    if kind not in ("TIMESTAMP WITH TIME ZONE", "DATE"):
        raise ValueError(
            f"{contract.table}: interval column {contract.interval_column} is {kind}; "
            "use TIMESTAMPTZ or DATE"
        )

    def bound(at: datetime) -> str:
        return instant(at) if kind != "DATE" else f"DATE '{intervals.day_from(at, contract.zone)}'"

    ranges = [f"({column} >= {bound(a)} AND {column} < {bound(b)})" for a, b in windows]
    return "(" + " OR ".join(ranges) + ")" if ranges else "false"


def within_partitions(contract: Contract, partitions: Sequence[Partition]) -> str:
    """The rows of a table that lie in these partitions; WHOLE is all of them."""
    if any(p.start is None for p in partitions):
        return "true"
    return within(contract, intervals.windows(partitions))


def redacted(message: str) -> str:
    """
    A tool's message without the password of the connection that it quotes.

    >>> redacted("cannot attach host=h password='a b' user=u or postgresql://u:pw@h/db")
    'cannot attach host=h password=*** user=u or postgresql://u:***@h/db'
    """
    message = re.sub(r"password\s*=\s*('(?:[^'\\]|\\.)*'|[^\s'\"]+)", "password=***", message)
    return re.sub(r"(\w+://[^\s:@/]+):[^\s@]+@", r"\1:***@", message)
