"""A table that was changed by hand takes no swap; no contract is published below the last one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op

revision = "0015"
down_revision = "0016"


def upgrade() -> None:
    """Refuse swaps into held tables and contracts below the last one, and keep who was told."""
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(Path(__file__).with_name("0015_held_at_the_swap.sql").read_text("utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is append-only, and so is its schema."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
