"""Replaying the log beside the state: `levada ledger verify`."""

from __future__ import annotations

from levada.ledger._connections import Connection

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
            for sign, one, other in (
                ("the state has, and the log has not", "ledger", "pg_temp"),
                ("the log has, and the state has not", "pg_temp", "ledger"),
            ):
                rows = connection.execute(
                    f"select to_jsonb(x)::text from (select * from {one}.{table}"
                    f" except select * from {other}.{table}) x limit 20"
                )
                found.extend(f"{table}: {sign}: {row[0]}" for row in rows)
    return tuple(found)
