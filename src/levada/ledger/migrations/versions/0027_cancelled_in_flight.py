"""What a cancelled backfill was building is its own, and is taken back with the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Hear of what was made after a cancel; refuse to end what has ended."""
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(Path(__file__).with_name("0027_cancelled_in_flight.sql").read_text("utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is append-only, and so is its schema."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
