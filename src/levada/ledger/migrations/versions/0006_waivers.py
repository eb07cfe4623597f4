"""Waivers: checks that governance sets aside for a window of data, until an instant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op

revision = "0006"
down_revision = "0004"


def upgrade() -> None:
    """Add the kind, its projection and its writer."""
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(Path(__file__).with_name("0006_waivers.sql").read_text("utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is append-only, and so is its schema."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
