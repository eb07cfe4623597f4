"""What a publication goes without and warns of; tables changed by hand; what was released."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns, the projections and their writers."""
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(Path(__file__).with_name("0003_marks_and_holds.sql").read_text("utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is append-only, and so is its schema."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
