"""Canaries: a new version of a product beside the old one, interval by interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op

revision = "0017"
down_revision = "0015"


def upgrade() -> None:
    """Keep canaries, what each interval told, and how each ended."""
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(Path(__file__).with_name("0017_canary.sql").read_text("utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is append-only, and so is its schema."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
