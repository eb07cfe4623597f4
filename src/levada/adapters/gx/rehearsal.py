"""
Every check of a contract, tried over empty tables of the promised shape.

What DuckDB cannot bind or run there it could not run over staged data: a column nobody promised, a
function that does not exist, a bound of another type, a pattern its engine does not know. So it is
refused when it is declared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Self

from levada.adapters.gx import measures
from levada.audit import reads
from levada.intervals import containing
from levada.ports import Relation
from levada.terms import WHOLE, Check, Contract, Grain, Partition, TableRef

__all__ = ["Stage", "rehearse"]

_ONE_NUMBER = "a rule returns one number for the interval"
_NUMBERS = frozenset(
    (
        *("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "DECIMAL", "DOUBLE"),
        *("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT", "FLOAT", "BIGNUM"),
    )
)
"""What a bound can be compared with, as a number."""

_CAN_FAIL = ("foreignKey", "invalidValues", "missingValues", "sql")
"""Metrics with words of the author's in their SQL; the others need nothing but the columns."""


def rehearse(contract: Contract, others: Sequence[Contract] = ()) -> dict[str, str]:
    """
    What is wrong with each check, by its id; a check that could run is not in the answer.

    A check that reads a table whose contract is not among `others` is left out.
    """
    with Stage() as stage:
        return stage.rehearse(contract, {other.table: other for other in others})


class Stage:
    """An empty database in which one contract after another is rehearsed; nothing stays in it."""

    def __init__(self) -> None:
        import duckdb

        self._connection = duckdb.connect(config={"enable_external_access": False, "threads": 1})
        self._connection.execute("set TimeZone = 'UTC'")
        self._connection.execute("pragma disable_optimizer")  # it costs more than one row does

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def rehearse(self, contract: Contract, others: Mapping[TableRef, Contract]) -> dict[str, str]:
        """As `rehearse`: a database of its own costs six times what the checks of a contract do."""
        trying = [check for check in contract.checks if check.metric in _CAN_FAIL]
        wanted = {table for check in trying for table in reads(check)}
        known = {table: others[table] for table in wanted if table in others}
        known[contract.table] = contract
        trying = [check for check in trying if all(table in known for table in reads(check))]
        partition = _any_partition(contract)
        if not trying or self._pass(trying, known, contract, partition):
            return {}
        said: dict[str, str] = {}
        for check in trying:  # alone: an error ends a transaction
            sql = _try(check, contract, partition, lambda table: str(_where(table)))
            if error := self._fails(sql, known, contract, partition):
                many = "More than one row" in error
                said[check.id] = f"it returns many rows: {_ONE_NUMBER}" if many else error
            elif check.metric == "sql" and (kind := self._kind(check, known, contract, partition)):
                said[check.id] = f"it returns {kind}: {_ONE_NUMBER}"
        return said

    def _kind(
        self,
        check: Check,
        known: Mapping[TableRef, Contract],
        contract: Contract,
        partition: Partition,
    ) -> str:
        """The type of what a SQL rule returns, if that is no number; empty if it is one."""
        self._connection.execute("begin")
        try:
            self._set(known, contract, partition)
            answer = measures.answer(check, lambda table: str(_where(table)))
            sql = f"select typeof({answer}) from levada_parts levada_p"
            (kind,) = self._connection.execute(sql).fetchone() or ("",)
            return "" if str(kind).partition("(")[0] in _NUMBERS else str(kind)
        finally:
            self._connection.execute("rollback")

    def _pass(
        self,
        checks: Sequence[Check],
        known: Mapping[TableRef, Contract],
        contract: Contract,
        partition: Partition,
    ) -> bool:
        """
        Whether all run in one statement, with the tables as its CTEs: what is sound costs half of
        what tables do. What fails is tried over tables, one by one.
        """
        import duckdb

        names = {table: f"levada_{number}" for number, table in enumerate(known)}
        own = names[contract.table]
        ctes = [f"levada_parts as materialized ({measures.parts(contract, [partition], [0])})"]
        for table, promised in known.items():
            values = (
                f"cast(null as {c.type}) as {measures.quoted(c.name)}" for c in promised.columns
            )
            one = " from range(2)" if table == contract.table else " where false"
            ctes.append(f"{names[table]} as materialized (select {', '.join(values)}{one})")
        ctes.append(f"levada_rows as (select 0 as {measures.PART}, * from {own})")
        tries = (
            _number(check, names.__getitem__)
            if check.metric == "sql"
            else _try(check, contract, partition, names.__getitem__)
            for check in checks
        )
        try:
            self._connection.execute(f"with {', '.join(ctes)} {' union all '.join(tries)}")
        except duckdb.Error:
            return False
        return True

    def _fails(
        self,
        sql: str,
        known: Mapping[TableRef, Contract],
        contract: Contract,
        partition: Partition,
    ) -> str:
        """What DuckDB says against it; empty if it runs."""
        import duckdb

        self._connection.execute("begin")
        try:
            self._set(known, contract, partition)
            try:
                self._connection.execute(sql)
            except duckdb.Error as error:
                return str(error).strip().splitlines()[0]
            return ""
        finally:
            self._connection.execute("rollback")

    def _set(
        self, known: Mapping[TableRef, Contract], contract: Contract, partition: Partition
    ) -> None:
        run = self._connection.execute
        for domain in {table.domain for table in known}:
            run(f"create schema if not exists {domain}")
        for table, promised in known.items():
            columns = ", ".join(f"{measures.quoted(c.name)} {c.type}" for c in promised.columns)
            run(f"create table {_where(table)} ({columns})")
        run(f"create table levada_parts as {measures.parts(contract, [partition], [0])}")
        # Rows without values: over no row at all DuckDB would not evaluate the author's words, and
        # over a single one it would not see that a rule returns as many as there are.
        for _ in range(2):
            run(f"insert into {_where(contract.table)} default values")
        run(
            f"create view levada_rows as select 0 as {measures.PART}, * from"
            f" {_where(contract.table)}"
        )


def _try(
    check: Check, contract: Contract, partition: Partition, related: Callable[[TableRef], str]
) -> str:
    where = _where(contract.table)
    sql = measures.measure(check, contract, where, [partition], related)
    return f"select * from ({sql}) m where not ({measures.holds(check, 'value')})"


def _number(check: Check, related: Callable[[TableRef], str]) -> str:
    """What of a SQL rule does not even bind where it returns a day, a text or an interval."""
    value = f"{measures.answer(check, related)} + 0.0::double"
    sql = f"select {value} as value from levada_parts levada_p"
    return f"select 0 as part, value, 0 as n, NULL::varchar[] as samples from ({sql}) m"


def _where(table: TableRef) -> Relation:
    return Relation("memory", table.domain, table.relation)


def _any_partition(contract: Contract) -> Partition:
    if contract.grain is Grain.WHOLE:
        return WHOLE
    return containing(contract.grain, datetime(2013, 1, 1, tzinfo=UTC), contract.zone)
