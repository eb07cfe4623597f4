"""Scheduled backfills: one for each due date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Let a due date be begun once."""
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(Path(__file__).with_name("0020_due_backfills.sql").read_text("utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is append-only, and so is its schema."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
