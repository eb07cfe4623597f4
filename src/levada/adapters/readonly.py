"""
What DuckDB itself reads in a query: the second opinion on a rule that is to run.

sqlglot may read a query otherwise than the engine that runs it. So DuckDB's own parser is asked
what it sees, and everything that it sees must be on a list: a SELECT, tables, joins, and functions
that the engine calls free of side effects. What nobody thought of is not on a list.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["QUERIES", "SOURCES", "Named", "parsed", "unfit", "walk"]

QUERIES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "CTE_NODE", "RECURSIVE_CTE_NODE"})
SOURCES = frozenset({"BASE_TABLE", "EMPTY", "EXPRESSION_LIST", "JOIN", "SUBQUERY"})
"""What a query reads from, by DuckDB's names."""
_ROWS_FROM_VALUES = frozenset({"generate_series", "range", "unnest"})
"""The table functions that make rows of what they are given, and read nothing."""
_CLOCK = frozenset(
    {
        "current_date",
        "current_localtime",
        "current_localtimestamp",
        "get_current_time",
        "get_current_timestamp",
        "now",
        "today",
        "transaction_timestamp",
    }
)
_SESSION = frozenset(
    {
        "currval",
        "getenv",
        "getvariable",
        "in_search_path",
        "session_user",
        "stats",
        "txid_current",
        "user",
        "version",
    }
)
_SESSION_FAMILIES = ("current_", "has_", "inet_", "pg_", "json_serialize_", "json_deserialize_")
"""Functions that tell of the session, the server or the catalogue, and not of data."""


class Named(NamedTuple):
    """A table as the engine reads its name."""

    catalog: str
    schema: str
    name: str


@functools.lru_cache(maxsize=4096)
def unfit(query: str, known: frozenset[tuple[str, str]]) -> str:
    """
    Why DuckDB would do more than read these tables, or "". `known` are (schema, name).

    >>> unfit("select count(*) from a.b where x > 1", frozenset({("a", "b")}))
    ''
    >>> unfit("select nextval('s')", frozenset())
    'the query calls nextval, which is no function of data alone'
    """
    read = parsed(query)
    if isinstance(read, str):
        return read
    nodes = list(walk(read))
    local = {str(key).lower() for node in nodes for key in _ctes(node)}
    for node in nodes:
        kind = node.get("type", "")
        if (isinstance(kind, str) and kind.endswith("_NODE") and kind not in QUERIES) or node.get(
            "at_clause"
        ):
            return "the query does more than read"
        for source in ("from_table", "left", "right"):
            said = node.get(source)
            if isinstance(said, dict) and "class" not in said and (wrong := _source(said)):
                return wrong
        if kind == "BASE_TABLE" and "table_name" in node:
            named = Named(node["catalog_name"], node["schema_name"], node["table_name"])
            ours = (named.schema, named.name) in known and not named.catalog
            if not ours and (named.schema or named.name.lower() not in local):
                shown = ".".join(part for part in named if part)
                return f"the query reads {shown}: write {{object}}, or domain.table"
        name = str(node.get("function_name") or "").lower()
        # A table function was told where it stands; an operator is a function by name only.
        if name and "class" in node and not (node.get("is_operator") or name in _pure()):
            return f"the query calls {name}, which is no function of data alone"
    return ""


def _source(said: dict[str, Any]) -> str:
    kind = said.get("type")
    if kind == "TABLE_FUNCTION":
        name = str(said["function"].get("function_name", "")).lower()
        if name in _ROWS_FROM_VALUES:
            return ""
        return f"the query reads {name}(...): a rule reads {{object}} and inputs"
    return "" if kind in SOURCES else f"the query reads by {str(kind).lower()}, not from a table"


def parsed(query: str) -> dict[str, Any] | str:
    """What DuckDB's parser makes of one SELECT, or why it is none."""
    connection, lock = _engine(os.getpid())
    said = query.replace("'", "''")  # a literal: a parameter would import pandas, 0.4 s
    with lock:
        ((text,),) = connection.execute(f"select json_serialize_sql('{said}')").fetchall()
    found = json.loads(text)
    if found["error"]:
        if found.get("error_type") == "not implemented":
            return "the query is not a single SELECT"
        return f"the query is no SQL of DuckDB: {str(found['error_message']).splitlines()[0]}"
    if len(found["statements"]) != 1:
        return "the query is not a single SELECT"
    return dict(found["statements"][0])


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every object inside of what was parsed."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def _ctes(node: dict[str, Any]) -> Iterator[str]:
    ctes = node.get("cte_map")
    for entry in ctes["map"] if isinstance(ctes, dict) else ():
        yield entry["key"]


@functools.cache
def _engine(_process: int) -> tuple[Any, Any]:
    """
    A DuckDB without any data, for its parser and its list of functions; threads take turns.

    A process that was forked opens its own, and never touches the one that it inherited.
    """
    import threading

    import duckdb

    connection = duckdb.connect(config={"enable_external_access": False, "threads": 1})
    return connection, threading.Lock()


@functools.cache
def _pure() -> frozenset[str]:
    """The functions whose answer depends on their arguments and the clock, and on nothing else."""
    connection, lock = _engine(os.getpid())
    with lock:
        rows = connection.execute(
            "select function_name, bool_or(coalesce(has_side_effects, false))"
            " from duckdb_functions() where internal"
            " and function_type in ('aggregate', 'macro', 'scalar') group by all"
        ).fetchall()
    names = {str(name) for name, effects in rows if not effects}
    special = {n for n in names if n in _SESSION or n.startswith(_SESSION_FAMILIES)}
    windows = {"row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag"}
    windows |= {"lead", "first_value", "last_value", "nth_value"}
    return frozenset((names - special) | _CLOCK | windows | _ROWS_FROM_VALUES)
