"""`contracts/governance/consistency/*` become batches; every fault has its path and line."""

from __future__ import annotations

from levada.adapters.consistency.reading import FOLDER, NO_TABLE, read_batches

__all__ = ["FOLDER", "NO_TABLE", "read_batches"]
