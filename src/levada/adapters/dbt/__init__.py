"""dbt as Levada's builder: projects parsed, products built, by processes of the domains.

Nothing here imports dbt: that happens in the processes of `DbtWorkers`, or by `preload`.
"""

from __future__ import annotations

from levada.adapters.dbt.facts import (
    EmptyBuild,
    ModelFacts,
    ParsedProject,
    ParseRequest,
    SourceFacts,
    column_faults,
    same_type,
)
from levada.adapters.dbt.worker import preload
from levada.adapters.dbt.workers import DbtWorkers, keep_warm

__all__ = [
    "DbtWorkers",
    "EmptyBuild",
    "ModelFacts",
    "ParseRequest",
    "ParsedProject",
    "SourceFacts",
    "column_faults",
    "keep_warm",
    "preload",
    "same_type",
]
