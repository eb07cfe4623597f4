"""The log, its order, the projected state, and the functions that write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create everything. The files go to the server as they are: no placeholder is looked for."""
    connection: Any = op.get_bind().connection.driver_connection
    for name in ("0001_ledger.sql", "0001_writers.sql"):
        connection.execute(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is append-only, and so is its schema."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
