"""A running canary is told with what it needs by now, not only by what it was started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Tell canaries by governance's terms, and what to do where it recorded none."""
    connection: Any = op.get_bind().connection.driver_connection
    connection.execute(Path(__file__).with_name("0026_effective_terms.sql").read_text("utf-8"))


def downgrade() -> None:
    """Refuse: the ledger is append-only, and so is its schema."""
    raise RuntimeError("the ledger has no way back: restore a backup instead")
