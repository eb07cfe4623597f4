"""What governance asks of a canary binds it; a new major may be one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op

revision = "0024"
down_revision = "0021"


def upgrade() -> None:
    """Keep what governance asks, who answers for a product, and which gate compares a major."""
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(Path(__file__).with_name("0024_canary_terms.sql").read_text("utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is append-only, and so is its schema."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
