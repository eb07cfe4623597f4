"""What a parsed dbt project says, as plain facts: no object of dbt leaves the domain's process."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from levada.build import Columns
from levada.errors import Fault
from levada.terms import TableRef

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


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model (or seed, whose `materialized` is `seed`)."""

    node: str
    name: str
    major: int | None
    """Its dbt version, where it has one."""
    package: str
    path: str
    """From the mesh's root, as every path here."""
    layer: str
    """The folder that names its layer; empty outside any."""
    materialized: str
    models: tuple[str, ...]
    """Nodes of its own project that it reads."""
    externals: tuple[TableRef, ...]
    """Promised tables of other domains that it reads."""
    sources: tuple[str, ...]
    """Source nodes that it reads."""
    meta: Mapping[str, object]
    """Its `meta.levada`."""
    yaml: str
    """The YAML that describes it; empty where none does."""
    yaml_line: int
    columns: Columns
    """Columns listed in the YAML; the type is empty where none is said."""
    code: str
    """Checksum of its SQL, configuration, reached macros, vars and env_vars."""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """One table of a dbt source."""

    node: str
    name: str
    """The source's name: `landing`."""
    table: str
    columns: tuple[str, ...]
    meta: Mapping[str, object]
    """Its `meta.levada`."""
    yaml: str
    yaml_line: int


@dataclass(frozen=True, slots=True)
class ParsedProject:
    """A project as dbt read it, or as much of it as could be read, with every fault found."""

    name: str
    path: str
    models: tuple[ModelFacts, ...] = ()
    sources: tuple[SourceFacts, ...] = ()
    faults: tuple[Fault, ...] = ()

    def model(self, node: str) -> ModelFacts:
        """The model of this dbt id. Raises KeyError."""
        for model in self.models:
            if model.node == node:
                return model
        raise KeyError(node)

    def code(self, nodes: Collection[str]) -> str:
        """
        One checksum over the code of these nodes, whatever their order.

        >>> ParsedProject("fleet", "models/fleet").code(())[:8]
        'e3b0c442'
        """
        lines = sorted(f"{node} {self.model(node).code}\n" for node in nodes)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


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
