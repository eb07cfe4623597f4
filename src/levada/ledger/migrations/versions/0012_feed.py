"""A place in the order for all lines of a statement at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op

revision = "0012"
down_revision = "0009"


def upgrade() -> None:
    """Give the lines of a statement their places at once, and project them word by word."""
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(Path(__file__).with_name("0012_feed.sql").read_text("utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is append-only, and so is its schema."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
