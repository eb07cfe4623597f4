"""What is known of a dbt project once it has been parsed, whatever parsed it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from levada.errors import Fault
from levada.terms import TableRef

__all__ = ["ModelFacts", "ParsedProject", "SourceFacts"]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model (or seed, whose `materialized` is `seed`). Paths are from the mesh's root."""

    node: str
    name: str
    major: int | None
    """Its dbt version, where it has one."""
    package: str
    path: str
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
    columns: tuple[tuple[str, str], ...]
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
    resolved: bool = True
    """Whether everything that its models read was found."""

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
