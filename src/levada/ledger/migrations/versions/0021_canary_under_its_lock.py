"""What may be told of a canary, and who ends it, is decided under its lock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Judge a canary under its lock, and keep what each run told of an interval."""
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(
        Path(__file__).with_name("0021_canary_under_its_lock.sql").read_text("utf-8")
    )


def downgrade() -> None:
    """Refuse: the ledger is append-only, and so is its schema."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
