"""Build: what a run of one product is asked to make in its stage, and what came of it.

The stage decides and asks; a `Builder` (dbt, in `levada.adapters.dbt`) makes. Whatever a builder
returns was said by a process with the domain's rights: it tells a person why, and proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from levada.errors import Fault
from levada.ports import Relation, Stage
from levada.settings import Settings
from levada.terms import Contract, Mesh, Product, Span, TableRef

__all__ = [
    "BuildRequest",
    "BuildResult",
    "Builder",
    "Columns",
    "ModelTiming",
    "Room",
    "build_request",
    "columns_of",
    "manifest_path",
    "node_of",
    "room_of",
]

Columns = tuple[tuple[str, str], ...]
"""Names and types, in order."""


@dataclass(frozen=True, slots=True)
class Room:
    """
    What code of a domain may touch of the file system, beside the programs of the system: the
    mesh's declarations and the lake to read, its own stages and logs to write.
    """

    read: tuple[Path, ...]
    write: tuple[Path, ...]

    @property
    def logs(self) -> Path:
        """Where its runs log, each in a folder of its name."""
        return self.write[-1]


def manifest_path(settings: Settings, domain: str) -> Path:
    """Where the parsed manifest of a domain is kept for its builds."""
    return settings.home / "manifests" / f"{domain}.msgpack"


def room_of(settings: Settings, domain: str) -> Room:
    """The room of a domain: not the secrets, not what lands, not what others stage."""
    stages, logs = settings.home / "stages" / domain, settings.home / "logs" / "dbt" / domain
    manifests, extensions = settings.home / "manifests", settings.home / "stages" / ".extensions"
    lake = (settings.lake,) if settings.warehouse == "ducklake" else ()
    read = (*lake, manifests, extensions)
    for folder in (*read, stages, logs):  # what is not there cannot be allowed
        folder.mkdir(parents=True, exist_ok=True)
    return Room((settings.root / "contracts", settings.root / "models", *read), (stages, logs))


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One run of one product: plain data, so that it can be sent to a process of the domain."""

    run: str
    domain: str
    root: Path
    project_dir: Path
    manifest: Path
    nodes: tuple[str, ...]
    """dbt ids of everything to build: the marts and their private models."""
    outputs: Mapping[str, Relation]
    """Where each mart is built."""
    inputs: Mapping[str, Relation]
    """Where everything else is read: other domains, other products of this one, sources."""
    columns: Mapping[str, Columns]
    """What each mart has promised; dbt refuses to build another shape."""
    profile: Mapping[str, object]
    """dbt's output: the domain's credentials, and no others."""
    log_dir: Path
    window: tuple[datetime, datetime] | None = None
    """The stretch of time that is built; None for WHOLE."""
    private_schema: str = "private"
    room: Room | None = None
    """What the process that builds is confined to."""


@dataclass(frozen=True, slots=True)
class ModelTiming:
    """How long one model took."""

    node: str
    seconds: float


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What came of a build. A failed one says why in one sentence, and where in `failures`."""

    ok: bool
    message: str
    models: tuple[ModelTiming, ...] = ()
    failures: tuple[Fault, ...] = ()
    seconds: float = 0.0


class Builder(Protocol):
    """Makes a product's tables in its stage. Raises ToolError when the tool itself is gone."""

    def __call__(self, request: BuildRequest) -> BuildResult:
        """Build what is asked for."""


def columns_of(contract: Contract, spelled: Callable[[str], str] = str) -> Columns:
    """The promised columns, as a build is held to them; types as a warehouse spells them."""
    return tuple((column.name, spelled(column.type)) for column in contract.columns)


def node_of(mesh: Mesh, table: TableRef, domain: str) -> str:
    """The dbt id by which the project of `domain` knows a table."""
    if table.is_source:
        return mesh.source(table).node
    if table.domain == domain:
        return mesh.mart(table).node
    return f"model.{table.domain}.{table.name}.v{table.major}"


def build_request(
    mesh: Mesh,
    product: Product,
    stage: Stage,
    *,
    span: Span | None,
    profile: Mapping[str, object],
    root: Path,
    project_dir: Path,
    manifest: Path,
    room: Room,
    spelled: Callable[[str], str] = str,
) -> BuildRequest:
    """What to build in a stage: every node placed on one of the stage's relations."""
    return BuildRequest(
        run=stage.run,
        domain=product.domain,
        root=root,
        project_dir=project_dir,
        manifest=manifest,
        nodes=product.nodes or tuple(mart.node for mart in product.marts),
        outputs={mart.node: stage.outputs[mart.table] for mart in product.marts},
        inputs={node_of(mesh, t, product.domain): place for t, place in stage.inputs.items()},
        columns={mart.node: columns_of(mart.contract, spelled) for mart in product.marts},
        profile=profile,
        log_dir=room.logs / stage.run,
        window=(span.start, span.end) if span else None,
        room=room,
        private_schema=stage.private,
    )
