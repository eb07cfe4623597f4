"""
Consistency: what must hold between tables, decided.

`kinds` makes a rule into SQL that returns what offends; `deciding` says which slices a rule reads,
whether they may be compared, and what a batch reports; `guarding` tells a rule that flags too much
from data that is as bad as it says. Nothing here reads data.
"""

from __future__ import annotations

from levada.consistency.deciding import (
    Assessed,
    Due,
    due,
    earlier,
    mapping_of,
    slices,
    tables_of,
    undecided,
)
from levada.consistency.gates import gated, gates_of
from levada.consistency.guarding import (
    Record,
    Witness,
    dead,
    dead_whole,
    decide,
    guarded,
)
from levada.consistency.kinds import KINDS, quoted, statement

__all__ = [
    "KINDS",
    "Assessed",
    "Due",
    "Record",
    "Witness",
    "dead",
    "dead_whole",
    "decide",
    "due",
    "earlier",
    "gated",
    "gates_of",
    "guarded",
    "mapping_of",
    "quoted",
    "slices",
    "statement",
    "tables_of",
    "undecided",
]
