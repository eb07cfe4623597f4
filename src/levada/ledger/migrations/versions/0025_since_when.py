"""Since when claims and attempts are, found without reading the whole log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op

revision = "0025"
down_revision = "0023"


def upgrade() -> None:
    """Index the claims and first attempts of the log."""
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(Path(__file__).with_name("0025_since_when.sql").read_text("utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is append-only, and so is its schema."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
