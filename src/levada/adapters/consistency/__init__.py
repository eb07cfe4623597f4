"""`contracts/governance/consistency/*` become batches; every fault has its path and line."""

from __future__ import annotations

from levada.adapters.consistency.reading import FOLDER, Batches, batches_in, read_batches

__all__ = ["FOLDER", "Batches", "batches_in", "read_batches"]
