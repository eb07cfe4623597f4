"""The statements of one swap: tables to their contracts, rows under new lots, slices turned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

import psycopg

from levada import intervals
from levada.adapters.warehouses._sql import instant, literal, name
from levada.adapters.warehouses.postgres._history import of_table, standing
from levada.adapters.warehouses.postgres._session import Connection
from levada.adapters.warehouses.postgres._sql import casts, place, rows_of, spelled
from levada.errors import NotPublishable
from levada.ports import Relation
from levada.terms import Contract, Partition

__all__ = ["Changes", "Sources", "restored", "swapped"]

Changes = Sequence[tuple[Contract, Sequence[Partition]]]

Sources = Mapping[Contract, Relation]
"""Where the staged rows of each table are."""

_Shape = dict[str, tuple[str, bool]]
"""Type and whether NULL is refused, by column."""

_Lots = Mapping[Partition, int]


def swapped(
    connection: Connection, sources: Sources, changes: Changes, note: Mapping[str, str]
) -> str:
    """
    Replace partitions by staged rows; the version that the commit will bring.

    The rows come first. The version is numbered last, since from then on every other swap of the
    domain waits for this one's commit.
    """
    lots = {
        contract.table: _inserted(connection, sources[contract], contract, partitions)
        for contract, partitions in changes
    }
    version = _numbered(connection, changes, note)
    for contract, partitions in changes:
        table = contract.table
        connection.execute(
            "insert into levada.published values (%s, %s, %s) on conflict do nothing",
            [table.domain, table.relation, version],
        )
        _turn(connection, contract, {p: lots[table][p] for p in partitions}, version)
    return str(version)


def restored(connection: Connection, changes: Changes, older: str, note: Mapping[str, str]) -> str:
    """Let partitions show again what they showed in an older version; no row is copied."""
    version = _numbered(connection, changes, note)
    for contract, partitions in changes:
        rows = connection.execute(
            f"select s.part, s.lot from levada.slice s where {standing('s', older)}"
            " and s.domain = %s and s.relation = %s and s.part = any(%s)",
            [contract.table.domain, contract.table.relation, [p.key for p in partitions]],
        ).fetchall()
        then = dict(rows)
        lots = {p: then[p.key] for p in partitions if p.key in then}
        gone = [p for p in partitions if p.key not in then]
        _turn(connection, contract, lots, version, gone)
    return str(version)


def _numbered(connection: Connection, changes: Changes, note: Mapping[str, str]) -> int:
    row = connection.execute(
        "select levada.swap(%s, %s, %s)",
        [changes[0][0].table.domain, note["run"], json.dumps(dict(note), sort_keys=True)],
    ).fetchone()
    if row is None:
        raise AssertionError("a function returns")
    return int(row[0])


def _inserted(
    connection: Connection, staged: Relation, contract: Contract, partitions: Sequence[Partition]
) -> _Lots:
    """Store the staged rows of these partitions, each under a lot that no view shows yet."""
    have = _shape(connection, staged.schema, staged.name)
    lacking = [c.name for c in contract.columns if c.name not in have]
    if lacking:
        raise NotPublishable(
            f"{contract.table}: the stage lacks {', '.join(lacking)}; {_shapes(contract, have)}"
        )
    _conform(connection, contract)
    lots: dict[Partition, int] = {}
    bounds = []
    for partition in partitions:
        row = connection.execute("select nextval('levada.lot')").fetchone()
        lots[partition] = int(row[0]) if row else 0
        low, high = (_bound(contract, end) for end in _ends(partition))
        bounds.append(f"({lots[partition]}, {low}, {high})")
    moment = (
        "true"
        if contract.interval_column is None
        else f"r.{name(contract.interval_column)} >= b.low"
        f" and r.{name(contract.interval_column)} < b.high"
    )
    columns = ", ".join(name(c.name) for c in contract.columns)
    try:
        connection.execute(
            f"insert into {rows_of(contract.table)} ({columns}, _lot)"
            f" select {casts(contract.columns, 'r')}, b.lot"
            f" from {name(staged.schema, staged.name)} r"
            f" join (values {', '.join(bounds)}) b (lot, low, high) on {moment}".encode()
        )
    except (
        psycopg.errors.NotNullViolation,
        psycopg.errors.CannotCoerce,
        psycopg.DataError,
    ) as error:
        raise NotPublishable(f"{contract.table}: {error}") from error
    return lots


def _turn(
    connection: Connection,
    contract: Contract,
    lots: _Lots,
    version: int,
    gone: Sequence[Partition] = (),
) -> None:
    """Let partitions show these lots from this version on, and let `gone` ones show nothing."""
    table = contract.table
    slices = [
        (table.domain, table.relation, p.key, *_ends(p), lot, version) for p, lot in lots.items()
    ]
    over = connection.execute(
        "select s.part from levada.slice s"
        " join unnest(%s::text[], %s::timestamptz[], %s::timestamptz[]) n (part, low, high)"
        " on s.low < n.high and n.low < s.high"
        " and (s.part, s.low, s.high) is distinct from (n.part, n.low, n.high)"
        " where s.domain = %s and s.relation = %s and s.until is null limit 1",
        [*([s[i] for s in slices] for i in (2, 3, 4)), table.domain, table.relation],
    ).fetchone()
    if over:
        raise NotPublishable(
            f"{table} holds {over[0]}, which is cut otherwise; another grain is a new major"
        )
    connection.execute(
        "update levada.slice set until = %s"
        " where domain = %s and relation = %s and until is null and part = any(%s)",
        [version, table.domain, table.relation, [p.key for p in (*lots, *gone)]],
    )
    connection.cursor().executemany(
        "insert into levada.slice (domain, relation, part, low, high, lot, since)"
        " values (%s, %s, %s, %s, %s, %s, %s)",
        slices,
    )


def _ends(partition: Partition) -> tuple[str, str]:
    if partition.start is None:
        return "-infinity", "infinity"
    start, stop = intervals.bounds(partition)
    return start.isoformat(), stop.isoformat()


def _bound(contract: Contract, end: str) -> str:
    """An end of a partition in the interval column's own type."""
    column = contract.column(contract.interval_column or "")
    if column is None:
        return "null"
    at = datetime.fromisoformat(end)
    if spelled(column.type) == "date":
        return f"date {literal(str(intervals.day_from(at, contract.zone)))}"
    return instant(at)


def _conform(connection: Connection, contract: Contract) -> None:
    """Create the table, or add the nullable columns that the contract gained; refuse the rest."""
    table = contract.table
    promised = _promised(contract)
    have = _shape(connection, f"{table.domain}$rows", table.relation)
    have.pop("_lot", None)
    gained = {c: promised[c] for c in promised if c not in have}
    if not have:
        _create(connection, contract, promised)
    else:
        changed = any(promised.get(c) != shape for c, shape in have.items())
        if changed or any(required for _, required in gained.values()):
            raise NotPublishable(
                f"{table}: a published table may only gain nullable columns, any other change "
                f"is a new major; {_shapes(contract, have, 'published')}"
            )
        if not gained:
            return
        for column, (kind, _) in gained.items():
            connection.execute(f"alter table {rows_of(table)} add column {name(column)} {kind}")
    # A view may gain columns only at its end; the published order is the stored one.
    columns = ", ".join(f"r.{name(column)}" for column in (*have, *gained))
    connection.execute(
        f"create or replace view {place(table)} as select {columns} from {rows_of(table)} r"
        f" join levada.slice _s on {of_table('_s', table)} and _s.until is null"
        " and _s.lot = r._lot"
    )


def _create(connection: Connection, contract: Contract, promised: _Shape) -> None:
    rows = rows_of(contract.table)
    columns = ", ".join(
        f"{name(c)} {kind}" + (" not null" if required else "")
        for c, (kind, required) in promised.items()
    )
    connection.execute(f"create table {rows} ({columns}, _lot bigint not null)")
    connection.execute(f"create index on {rows} (_lot)")
    if contract.interval_column:
        connection.execute(f"create index on {rows} ({name(contract.interval_column)})")
    connection.execute(
        f"create trigger levada_rows after insert or update or delete or truncate on {rows}"
        " for each statement execute function levada.rows_changed()"
    )
    # Who owns the catalogue may forget old rows.
    connection.execute(f"grant select, delete on {rows} to levada_owner")


def _promised(contract: Contract) -> _Shape:
    if contract.column("_lot"):
        raise NotPublishable(f"{contract.table}: column _lot is the warehouse's own; rename it")
    return {c.name: (spelled(c.type), c.required) for c in contract.columns}


def _shape(connection: Connection, schema: str, relation: str) -> _Shape:
    rows = connection.execute(
        "select a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull"
        " from pg_attribute a join pg_class c on c.oid = a.attrelid"
        " join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = %s and c.relname = %s and a.attnum > 0 and not a.attisdropped"
        " order by a.attnum",
        [schema, relation],
    ).fetchall()
    return {str(column): (str(kind), bool(required)) for column, kind, required in rows}


def _shapes(contract: Contract, have: _Shape, whose: str = "staged") -> str:
    """Both shapes, for a person to compare."""
    return f"{whose} ({_said(have)}), promised ({_said(_promised(contract))})"


def _said(shape: _Shape) -> str:
    return ", ".join(f"{c} {kind}{' NOT NULL' * required}" for c, (kind, required) in shape.items())
