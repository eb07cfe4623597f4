"""A rule, tried over empty tables of the promised shapes: what cannot be bound there cannot run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from levada.consistency import quoted, statement
from levada.terms import ConsistencyRule, Contract, RuleKind, TableRef

__all__ = ["unbound"]


def unbound(rule: ConsistencyRule, contracts: Mapping[TableRef, Contract]) -> str:
    """What DuckDB says against a rule; empty if it runs."""
    import duckdb

    connection = duckdb.connect(config={"enable_external_access": False, "threads": 1})
    try:
        connection.execute("set TimeZone = 'UTC'")
        for table, contract in contracts.items():
            columns = ", ".join(f"{quoted(c.name)} {c.type}" for c in contract.columns)
            connection.execute(f"create table {quoted(str(table))} ({columns})")
            # One row without values: over none at all nothing would be evaluated. A balance of
            # nothing is an error by itself.
            if rule.kind is not RuleKind.BALANCES:
                connection.execute(f"insert into {quoted(str(table))} default values")
        end = datetime(2013, 1, 2, tzinfo=UTC)
        weeks = range(1, rule.weeks + 1)
        asked = statement(rule, lambda table, _: quoted(str(table)), end, weeks)
        connection.execute(asked.offending)
        connection.execute(asked.compared)
    except duckdb.Error as error:
        return str(error).strip().splitlines()[0]
    finally:
        connection.close()
    return ""
