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
from levada.adapters.dbt.worker import preload, run_in_fork
from levada.adapters.dbt.workers import DbtWorkers

__all__ = [
    "DbtWorkers",
    "EmptyBuild",
    "ModelFacts",
    "ParseRequest",
    "ParsedProject",
    "SourceFacts",
    "column_faults",
    "preload",
    "run_in_fork",
    "same_type",
]
