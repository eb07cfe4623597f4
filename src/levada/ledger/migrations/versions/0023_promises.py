"""Since when a table promises anything, found without reading the whole log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op

revision = "0023"
down_revision = "0024"


def upgrade() -> None:
    """Index the contracts of the log."""
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(Path(__file__).with_name("0023_promises.sql").read_text("utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is append-only, and so is its schema."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
