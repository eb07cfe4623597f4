"""The statements of one lake transaction: tables to their contracts, partitions replaced."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import duckdb

from levada.adapters.warehouses._sql import (
    casts,
    column_type,
    literal,
    name,
    within_partitions,
)
from levada.errors import NotPublishable
from levada.terms import Column, Contract, Partition

__all__ = ["Changes", "committed", "published_columns", "replaced", "swapped"]

Changes = Sequence[tuple[Contract, Sequence[Partition]]]

Shape = dict[str, tuple[str, bool]]
"""Type and whether NULL is refused, by column."""


def swapped(connection: duckdb.DuckDBPyConnection, stage: str, changes: Changes) -> int:
    """Replace partitions by what an attached stage holds; how many rows went and came."""
    moved = 0
    for contract, partitions in changes:
        staged = name(stage, "main", contract.table.relation)
        have = _shape(connection, stage, contract)
        lacking = [c.name for c in contract.columns if c.name not in have]
        if lacking:
            raise NotPublishable(
                f"{contract.table}: the stage lacks {', '.join(lacking)}; {_shapes(contract, have)}"
            )
        _conform(connection, contract)
        moved += replaced(connection, contract, partitions, contract.columns, staged)
    return moved


def replaced(
    connection: duckdb.DuckDBPyConnection,
    contract: Contract,
    partitions: Sequence[Partition],
    columns: Sequence[Column],
    source: str,
) -> int:
    """Replace partitions of one lake table by these columns of a source; rows gone plus come."""
    lake = name(contract.table.domain, "main", contract.table.relation)
    inside = within_partitions(contract, partitions)
    try:
        gone = _count(connection, f"DELETE FROM {lake} WHERE {inside}")
        come = _count(
            connection,
            f"INSERT INTO {lake} BY NAME SELECT {casts(columns)} FROM {source} WHERE {inside}",
        )
    except (duckdb.ConstraintException, duckdb.ConversionException) as error:
        raise NotPublishable(f"{contract.table}: {error}") from error
    return gone + come


def committed(
    connection: duckdb.DuckDBPyConnection,
    domain: str,
    note: Mapping[str, str],
    change: Callable[[], int],
    marked: Contract,
) -> str:
    """Run `change` as one transaction that carries `note`; the snapshot that it made."""
    connection.execute("BEGIN")
    if change() == 0:
        # Empty replaced by empty makes no snapshot, and a run without a snapshot is never found.
        lake = name(domain, "main", marked.table.relation)
        connection.execute(f"COMMENT ON TABLE {lake} IS {literal(note['run'])}")
    connection.execute(
        f"CALL ducklake_set_commit_message({literal(domain)}, 'levada', ?, extra_info => ?)",
        [f"publish {note['run']}", json.dumps(dict(note), sort_keys=True)],
    )
    connection.execute("COMMIT")
    row = connection.execute(f"FROM ducklake_last_committed_snapshot({literal(domain)})").fetchone()
    return str(row[0]) if row else ""


def published_columns(
    connection: duckdb.DuckDBPyConnection, contract: Contract, version: str
) -> tuple[Column, ...]:
    """The promised columns that a published table had at a version."""
    lake = name(contract.table.domain, "main", contract.table.relation)
    rows = connection.execute(
        f"DESCRIBE SELECT * FROM {lake} AT (VERSION => {int(version)})"
    ).fetchall()
    present = {str(row[0]) for row in rows}
    return tuple(c for c in contract.columns if c.name in present)


def _conform(connection: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    """Create the table, or add the nullable columns that the contract gained; refuse the rest."""
    lake = name(contract.table.domain, "main", contract.table.relation)
    promised = _promised(contract)
    have = _shape(connection, contract.table.domain, contract)
    if not have:
        columns = ", ".join(
            f"{name(c)} {kind}" + (" NOT NULL" if required else "")
            for c, (kind, required) in promised.items()
        )
        connection.execute(f"CREATE TABLE {lake} ({columns})")
        return
    gained = {c: promised[c] for c in promised if c not in have}
    changed = any(promised.get(c) != shape for c, shape in have.items())
    if changed or any(required for _, required in gained.values()):
        raise NotPublishable(
            f"{contract.table}: a published table may only gain nullable columns, any other change "
            f"is a new major; {_shapes(contract, have, 'published')}"
        )
    for column, (kind, _) in gained.items():
        connection.execute(f"ALTER TABLE {lake} ADD COLUMN {name(column)} {kind}")


def _promised(contract: Contract) -> Shape:
    return {c.name: (column_type(c.type), c.required) for c in contract.columns}


def _shape(connection: duckdb.DuckDBPyConnection, database: str, contract: Contract) -> Shape:
    table = name(database, "main", contract.table.relation)
    try:
        rows = connection.execute(f"DESCRIBE {table}").fetchall()
    except duckdb.CatalogException:
        return {}
    return {str(row[0]): (column_type(str(row[1])), row[2] == "NO") for row in rows}


def _shapes(contract: Contract, have: Shape, whose: str = "staged") -> str:
    """Both shapes, for a person to compare."""
    return f"{whose} ({_said(have)}), promised ({_said(_promised(contract))})"


def _said(shape: Shape) -> str:
    return ", ".join(f"{c} {kind}{' NOT NULL' * required}" for c, (kind, required) in shape.items())


def _count(connection: duckdb.DuckDBPyConnection, statement: str) -> int:
    row = connection.execute(statement).fetchone()
    return int(row[0]) if row else 0
