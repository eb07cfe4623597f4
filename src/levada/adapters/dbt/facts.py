"""What a parsed dbt project says, as plain facts: no object of dbt leaves the domain's process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from levada.adapters.dbt.invoke import IN_MEMORY
from levada.build import Columns, Room
from levada.declare import ModelFacts, ParsedProject, SourceFacts
from levada.errors import Fault
from levada.terms.types import same_type

__all__ = [
    "CompileRequest",
    "CompiledSql",
    "EmptyBuild",
    "ModelFacts",
    "ParseRequest",
    "ParsedProject",
    "SourceFacts",
    "column_faults",
    "same_type",
]


@dataclass(frozen=True, slots=True)
class ParseRequest:
    """A project to parse, and the file that keeps its manifest for builds."""

    root: Path
    project_dir: Path
    out: Path
    room: Room | None = None
    """What the process that parses is confined to."""
    profile: Mapping[str, object] = field(default_factory=lambda: IN_MEMORY)
    """dbt's output: it decides whose SQL dbt and the macros write. Nothing is opened by it."""


@dataclass(frozen=True, slots=True)
class EmptyBuild:
    """A whole project to build on empty tables of the promised shapes."""

    root: Path
    project_dir: Path
    manifest: Path
    columns: Mapping[str, Columns]
    """Promised columns of the project's own marts, by dbt id."""
    inputs: Mapping[str, Columns]
    """Promised columns of other domains' tables, by dbt id."""
    log_dir: Path
    room: Room | None = None
    """What the process that builds is confined to."""


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """A project whose SQL is wanted as dbt would send it."""

    project_dir: Path
    manifest: Path
    log_dir: Path
    room: Room | None = None
    """What the process that compiles is confined to."""


@dataclass(frozen=True, slots=True)
class CompiledSql:
    """
    A model's SQL, in which every node that it reads is a table of the node's own id, dots doubled
    to underscores.
    """

    node: str
    sql: str
    reads: tuple[str, ...]


def column_faults(model: ModelFacts, promised: Sequence[tuple[str, str]]) -> tuple[Fault, ...]:
    """
    Where the columns of a model's YAML contradict its contract. Saying less is no fault.

    >>> model = ModelFacts("model.a.t", "t", None, "a", "t.sql", "", "table", (), (), (), {},
    ...                    "t.yml", 3, (("id", "int"), ("tail", "")), "")
    >>> for fault in column_faults(model, (("id", "BIGINT"),)):
    ...     print(fault)
    t.yml:3: column id of model t is int here and BIGINT in its contract; leave the type out
    t.yml:3: column tail of model t is not in its contract; promise it there or leave it out
    """
    types = {name.lower(): kind for name, kind in promised}
    faults = []
    for name, kind in model.columns:
        what = f"column {name} of model {model.name}"
        if name.lower() not in types:
            wrong, right = "is not in its contract", "promise it there or leave it out"
        elif kind and not same_type(kind, types[name.lower()]):
            wrong = f"is {kind} here and {types[name.lower()]} in its contract"
            right = "leave the type out"
        else:
            continue
        faults.append(Fault(model.yaml or model.path, model.yaml_line, f"{what} {wrong}", right))
    return tuple(faults)
