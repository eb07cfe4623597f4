"""Replaying the log beside the state: `levada ledger verify`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from levada.ledger._connections import Connection
from levada.ledger.codec import decode_partition

__all__ = ["differences"]

# The projected tables, and what of them is not of the log.
_TABLES = (
    *("landing", "publication", "claim", "intent"),
    *("attempt", "step", "contract", "approval", "stretch"),
    *("tampering", "pardon", "probe", "waiver", "keeping", "report", "break"),
    *(
        "backfill",
        "backfill_step",
        "rule_guard",
        "canary",
        "canary_interval",
        "canary_terms",
        "batching",
    ),
)
_FEW = 20
"""So many rows of a table are named."""

Row = Mapping[str, Any]


def differences(connection: Connection) -> tuple[str, ...]:
    """
    What the state says and the log does not, or the other way round; one sentence per row.

    The log is replayed by the very projectors that keep the state, into temporary tables of the
    same names, in one snapshot that nobody waits for. Leases are operational and not of the log.
    """
    found: list[str] = []
    with connection.transaction(force_rollback=True):
        connection.execute("set transaction isolation level repeatable read")
        for table in _TABLES:
            connection.execute(
                f"create temp table {table} (like ledger.{table} including all) on commit drop"
            )
        connection.execute("set local search_path = pg_temp, ledger")
        connection.execute("select ledger.replay()")
        for table in _TABLES:
            found.extend(f"{table}: {said}" for said in _compared(connection, table))
    return tuple(found)


def _compared(connection: Connection, table: str) -> Iterator[str]:
    """What differs of one projection: each row by its key, and by what it says otherwise."""
    key = _key(connection, table)
    columns = ", ".join(f'"{name}"' for name in key)
    rows = connection.execute(
        f"with s as (select * from ledger.{table} except select * from pg_temp.{table}),"
        f" l as (select * from pg_temp.{table} except select * from ledger.{table})"
        f" select to_jsonb(s), to_jsonb(l), count(*) over () from s full join l using ({columns})"
        f" order by {columns} limit {_FEW}"
    ).fetchall()
    for state, log, _ in rows:
        yield f"{_named(key, state or log)} {_difference(state, log)}"
    if rows and rows[0][2] > _FEW:
        yield f"and {rows[0][2] - _FEW} more"


def _key(connection: Connection, table: str) -> Sequence[str]:
    """The columns by which a projection knows its rows."""
    rows = connection.execute(
        "select a.attname from pg_index i, unnest(i.indkey) with ordinality k (number, place)"
        " join pg_attribute a on a.attnum = k.number"
        " where a.attrelid = i.indrelid and i.indrelid = %s::regclass and i.indisprimary"
        " order by k.place",
        [f"ledger.{table}"],
    )
    return [str(name) for (name,) in rows]


def _named(key: Sequence[str], row: Row) -> str:
    """
    A row by its key.

    >>> day = "day|2013-03-08T00:00:00+00:00|UTC"
    >>> _named(("table_name", "part"), {"table_name": "a.b@1", "part": day})
    'a.b@1 2013-03-08'
    """
    return " ".join(
        decode_partition(row[name]).key if name == "part" else str(row[name]) for name in key
    )


def _difference(state: Row | None, log: Row | None) -> str:
    """
    What one row says otherwise.

    >>> _difference({"content": "a", "run": "1"}, {"content": "b", "run": "1"})
    'says content "a", and the log "b"'
    """
    if state is None:
        return "is not there, and the log has it"
    if log is None:
        return "is there, and the log has it not"
    return "; ".join(
        f"says {name} {json.dumps(state[name])}, and the log {json.dumps(log[name])}"
        for name in state
        if state[name] != log[name]
    )
