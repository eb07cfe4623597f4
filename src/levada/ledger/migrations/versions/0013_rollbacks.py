"""Backfills that are taken back: what was there before is published again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op

revision = "0013"
down_revision = "0010"


def upgrade() -> None:
    """Let a backfill be rolled back, and its readers wait while it is."""
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(Path(__file__).with_name("0013_rollbacks.sql").read_text("utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is append-only, and so is its schema."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
