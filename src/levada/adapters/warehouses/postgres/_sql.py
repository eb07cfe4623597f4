"""What PostgreSQL calls things: types, schemas, casts. Names and windows are as anywhere."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from levada.adapters.warehouses._sql import column_type, name
from levada.errors import NotPublishable
from levada.terms import Column, TableRef

__all__ = ["casts", "fitted", "place", "rows_of", "schema_of", "spelled"]

_LONGEST = 63
_TYPES = {
    "BIGINT": "bigint",
    "BLOB": "bytea",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "DOUBLE": "double precision",
    "FLOAT": "real",
    "INTEGER": "integer",
    "INTERVAL": "interval",
    "SMALLINT": "smallint",
    "TIME": "time without time zone",
    "TIMESTAMP": "timestamp without time zone",
    "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
    "UUID": "uuid",
    "VARCHAR": "text",
}


def spelled(promised: str) -> str:
    """
    A promised type in PostgreSQL's words. Raises NotPublishable where it has none that holds it.

    >>> spelled("DOUBLE"), spelled("decimal(10, 2)"), spelled("VARCHAR[]")
    ('double precision', 'numeric(10,2)', 'text[]')
    >>> spelled("HUGEINT")
    Traceback (most recent call last):
    ...
    levada.errors.NotPublishable: PostgreSQL holds no HUGEINT; promise DECIMAL(38,0)
    """
    kind = column_type(promised)
    if kind in _TYPES:
        return _TYPES[kind]
    if decimal := re.fullmatch(r"DECIMAL(\(\d+,\d+\))", kind):
        return f"numeric{decimal[1]}"
    if kind.endswith("[]") and not kind.endswith("[][]"):
        return f"{spelled(kind[:-2])}[]"
    instead = {"HUGEINT": "DECIMAL(38,0)", "TINYINT": "SMALLINT", "UTINYINT": "SMALLINT"}
    instead |= {"USMALLINT": "INTEGER", "UINTEGER": "BIGINT", "UBIGINT": "DECIMAL(20,0)"}
    right = instead.get(kind, "a type that both know, or VARCHAR")
    raise NotPublishable(f"PostgreSQL holds no {kind}; promise {right}")


def casts(columns: Sequence[Column], row: str) -> str:
    """
    Columns of a row, each cast to its promised type.

    >>> casts([Column("a", "int")], "r")
    'CAST(r."a" AS integer)'
    """
    return ", ".join(f"CAST({row}.{name(c.name)} AS {spelled(c.type)})" for c in columns)


def fitted(words: str) -> str:
    """
    A name that PostgreSQL does not cut: a long one ends in its hash.

    >>> fitted("flights"), len(fitted("f" * 80))
    ('flights', 63)
    """
    if len(words.encode()) <= _LONGEST:
        return words
    return f"{words[:46]}_{hashlib.sha256(words.encode()).hexdigest()[:16]}"


def place(table: TableRef) -> str:
    """The published table, which is a view."""
    return name(table.domain, table.relation)


def rows_of(table: TableRef) -> str:
    """Where all rows of a table lie, those of older versions too."""
    return name(f"{table.domain}$rows", table.relation)


def schema_of(run: str) -> str:
    """
    The schema in which a run builds. A run's name may hold what a schema's may not.

    >>> schema_of("run-1").startswith("run$"), schema_of("run-1") == schema_of("run-2")
    (True, False)
    """
    return f"run${hashlib.sha256(run.encode()).hexdigest()[:16]}"
