"""Reports of consistency batches, and the breaks that they open and close."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add reports and breaks, their projections and their writers."""
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(Path(__file__).with_name("0009_consistency.sql").read_text("utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is append-only, and so is its schema."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
