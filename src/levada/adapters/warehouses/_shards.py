"""
Shards of a stage: which rows of its inputs a build sees, and whether what it made is its own.

A table of one row in the stage says which shard it is; the views of inputs with the key ask it, and
of one shard all rows are. So cutting a stage reads no lake, and is done on the domain's own copy.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from levada.adapters.warehouses._landing import REJECTS
from levada.adapters.warehouses._sql import name
from levada.errors import NotPublishable
from levada.terms import Shards, TableRef

__all__ = [
    "SHARDS",
    "Cut",
    "cut_into",
    "cut_to",
    "of_this_shard",
    "own",
    "owner_of",
    "prepare",
    "refuse_strangers",
    "shard_in",
]

SHARDS = "shards"
"""The file that says into what a stage was cut."""
_TABLE, _OWNER = "_shard", "owner"


def prepare(connection: duckdb.DuckDBPyConnection, database: str) -> None:
    """Say in a stage that it is whole."""
    table = name(database, "up", _TABLE)
    connection.execute(f"CREATE TABLE {table} AS SELECT 1::UBIGINT AS count, 0::UBIGINT AS number")


def of_this_shard(database: str, key: str) -> str:
    """The condition by which a view of a stage shows the rows of its shard."""
    table = name(database, "up", _TABLE)
    return f"{_hash(key)} % (SELECT count FROM {table}) = (SELECT number FROM {table})"


def cut_to(
    connection: duckdb.DuckDBPyConnection, database: str, shards: Shards, number: int
) -> None:
    """Leave the rows of one shard in a copy of a stage: its views are told, its tables emptied."""
    connection.execute(
        f"UPDATE {name(database, 'up', _TABLE)} SET count = {shards.count}, number = {number}"
    )
    tables = connection.execute(
        "SELECT table_name FROM duckdb_columns() WHERE database_name = ? AND schema_name = 'up'"
        " AND column_name = ? AND table_name IN (SELECT table_name FROM duckdb_tables()"
        " WHERE database_name = ? AND schema_name = 'up')",
        [database, shards.key, database],
    ).fetchall()
    for (table,) in tables:
        if table not in (_TABLE, REJECTS):
            connection.execute(
                f"DELETE FROM {name(database, 'up', table)}"
                f" WHERE {_hash(shards.key)} % {shards.count} <> {number}"
            )


@dataclass(frozen=True, slots=True)
class Cut:
    """Into what a stage is cut, and the mark by which its shards are kept."""

    shards: Shards
    mark: str


def cut_into(file: Path) -> Cut | None:
    """Into what a stage was cut, if it was."""
    if not file.exists():
        return None
    key, count, mark = file.read_text().splitlines()
    return Cut(Shards(key, int(count)), mark)


def own(place: Path, run: str) -> None:
    """Say that a run builds these shards now: while it lives nobody else removes them."""
    (place / _OWNER).write_text(run)
    os.utime(place)


def owner_of(place: Path) -> str:
    """The run that took these shards last; empty where none has said so."""
    with suppress(FileNotFoundError):
        return (place / _OWNER).read_text()
    return ""


def shard_in(place: Path, number: int) -> Path:
    """The file of a built shard."""
    return place / f"{number}.duckdb"


def refuse_strangers(
    connection: duckdb.DuckDBPyConnection, table: TableRef, built: str, shards: Shards, number: int
) -> None:
    """Raise NotPublishable where a shard made rows of another: then their union is not disjoint."""
    strange = connection.execute(
        f"SELECT count(*) FROM {built} WHERE {_hash(shards.key)} % {shards.count} <> {number}"
    ).fetchone()
    if strange and strange[0]:
        raise NotPublishable(
            f"{table}: shard {number} of {shards.count} made {strange[0]} rows of other shards: "
            f"{shards.key} is not handed through as it is, so the model cannot be cut by it"
        )


def _hash(key: str) -> str:
    """As a text, which a landed field is, too; NULL is of one shard."""
    return f"hash(coalesce({name(key)}::VARCHAR, ''))"
