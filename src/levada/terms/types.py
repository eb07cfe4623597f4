"""Names of column types, and when two of them mean the same."""

from __future__ import annotations

__all__ = ["normal", "same_type"]

_ALIASES = {
    "bigint": "int8 long",
    "boolean": "bool logical",
    "blob": "bytea binary varbinary",
    "double": "float8",
    "float": "float4 real",
    "integer": "int int4 signed",
    "smallint": "int2 short",
    "tinyint": "int1",
    "timestamp": "datetime timestamp without time zone",
    "varchar": "char bpchar text string",
}
_CANONICAL = {alias: name for name, aliases in _ALIASES.items() for alias in aliases.split()}


def same_type(one: str, other: str) -> bool:
    """
    Whether two names of a DuckDB type mean the same.

    >>> same_type("int", "INTEGER"), same_type("TIMESTAMPTZ", "timestamp with time zone")
    (True, True)
    >>> same_type("DECIMAL(10, 2)", "numeric(10,2)"), same_type("bigint", "integer")
    (True, False)
    """
    return normal(one) == normal(other)


def normal(kind: str) -> str:
    """
    One spelling of a type.

    >>> normal("NUMERIC(10, 2)"), normal("text")
    ('decimal(10,2)', 'varchar')
    """
    words = " ".join(kind.lower().split()).replace(", ", ",").replace(" (", "(")
    words = words.replace("timestamp with time zone", "timestamptz").replace("numeric", "decimal")
    words = "decimal(18,3)" if words == "decimal" else words
    return _CANONICAL.get(
        words.split("(")[0] if words.startswith(("varchar", "char")) else words, words
    )
