"""Lines of a backfill's steps wake who waits for any slice of their product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op

revision = "0019"
down_revision = "0017"


def upgrade() -> None:
    """Give lines of steps no key in the feed."""
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(Path(__file__).with_name("0019_backfill_feed.sql").read_text("utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is append-only, and so is its schema."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
