"""
Every check of a contract, tried over empty tables of the promised shape.

What DuckDB cannot bind or run there it could not run over staged data: a column nobody promised, a
function that does not exist, a bound of another type, a pattern its engine does not know. So it is
refused when it is declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from levada.adapters.gx import measures
from levada.audit import reads
from levada.intervals import containing
from levada.ports import Relation
from levada.terms import WHOLE, Check, Contract, Grain, Partition, TableRef

__all__ = ["rehearse"]

_CAN_FAIL = ("foreignKey", "invalidValues", "missingValues", "sql")
"""Metrics with words of the author's in their SQL; the others need nothing but the columns."""


def rehearse(contract: Contract, others: Sequence[Contract] = ()) -> dict[str, str]:
    """
    What is wrong with each check, by its id; a check that could run is not in the answer.

    A check that reads a table whose contract is not among `others` is left out.
    """
    import duckdb

    known = {other.table: other for other in (*others, contract)}
    needed = {contract.table} | {t for c in contract.checks for t in reads(c) if t in known}
    said: dict[str, str] = {}
    with duckdb.connect(config={"enable_external_access": False, "threads": 1}) as connection:
        connection.execute("set TimeZone = 'UTC'")
        for table in needed:
            connection.execute(f"create schema if not exists {table.domain}")
            columns = ", ".join(
                f"{measures.quoted(column.name)} {column.type}" for column in known[table].columns
            )
            connection.execute(f"create table {_where(table)} ({columns})")
        partition = _any_partition(contract)
        connection.execute(
            f"create table levada_parts as {measures.parts(contract, [partition], [0])}"
        )
        # One row without values: over no row at all DuckDB would not evaluate the author's words.
        connection.execute(f"insert into {_where(contract.table)} default values")
        connection.execute(
            f"create view levada_rows as select 0 as {measures.PART}, * from"
            f" {_where(contract.table)}"
        )
        for check in contract.checks:
            if (
                check.metric in _CAN_FAIL
                and all(table in needed for table in reads(check))
                and (error := _tried(connection, check, contract, partition))
            ):
                said[check.id] = error
    return said


def _tried(connection: Any, check: Check, contract: Contract, partition: Partition) -> str:
    import duckdb

    where = _where(contract.table)
    try:
        sql = measures.measure(check, contract, where, [partition], lambda t: str(_where(t)))
        connection.execute(f"select * from ({sql}) m where not ({measures.holds(check, 'value')})")
    except duckdb.Error as error:
        return str(error).strip().splitlines()[0]
    return ""


def _where(table: TableRef) -> Relation:
    return Relation("memory", table.domain, table.relation)


def _any_partition(contract: Contract) -> Partition:
    if contract.grain is Grain.WHOLE:
        return WHOLE
    return containing(contract.grain, datetime(2013, 1, 1, tzinfo=UTC), contract.zone)
