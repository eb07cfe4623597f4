"""The append-only record, in PostgreSQL: the log, the state projected from it, and its tail."""

from __future__ import annotations

from levada.ledger.postgres import PostgresLedger

__all__ = ["PostgresLedger"]
