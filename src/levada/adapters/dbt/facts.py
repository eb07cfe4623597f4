"""What a parsed dbt project says, as plain facts: no object of dbt leaves the domain's process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from levada.build import Columns
from levada.declare import ModelFacts, ParsedProject, SourceFacts
from levada.errors import Fault

__all__ = [
    "EmptyBuild",
    "ModelFacts",
    "ParseRequest",
    "ParsedProject",
    "SourceFacts",
    "column_faults",
    "same_type",
]

_ALIASES = {
    "bigint": "int8 long",
    "boolean": "bool logical",
    "blob": "bytea binary varbinary",
    "double": "float8",
    "float": "float4 real",
    "integer": "int int4 signed",
    "smallint": "int2 short",
    "tinyint": "int1",
    "timestamp": "datetime timestamp without time zone",
    "varchar": "char bpchar text string",
}
_CANONICAL = {alias: name for name, aliases in _ALIASES.items() for alias in aliases.split()}


@dataclass(frozen=True, slots=True)
class ParseRequest:
    """A project to parse, and the file that keeps its manifest for builds."""

    root: Path
    project_dir: Path
    out: Path


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


def same_type(one: str, other: str) -> bool:
    """
    Whether two names of a DuckDB type mean the same.

    >>> same_type("int", "INTEGER"), same_type("TIMESTAMPTZ", "timestamp with time zone")
    (True, True)
    >>> same_type("DECIMAL(10, 2)", "numeric(10,2)"), same_type("bigint", "integer")
    (True, False)
    """
    return _normal(one) == _normal(other)


def _normal(kind: str) -> str:
    words = " ".join(kind.lower().split()).replace(", ", ",").replace(" (", "(")
    words = words.replace("timestamp with time zone", "timestamptz").replace("numeric", "decimal")
    words = "decimal(18,3)" if words == "decimal" else words
    return _CANONICAL.get(
        words.split("(")[0] if words.startswith(("varchar", "char")) else words, words
    )


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
