"""The over-detection guard: rules that flag too much, and the review that brings them back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op

revision = "0016"
down_revision = "0013"


def upgrade() -> None:
    """Keep what the guard did with a definition of a rule, and who reviewed it."""
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(Path(__file__).with_name("0016_guard.sql").read_text("utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is append-only, and so is its schema."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
