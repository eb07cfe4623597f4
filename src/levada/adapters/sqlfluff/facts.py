"""
What the rules know of a mesh: its domains, what they promise, and where their models stand.

Everything comes from names of files and folders and from the `status` of contracts; dbt is not
asked. It is read once a process, on the first model of a mesh.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from levada.adapters.promised import Promise, titled
from levada.adapters.sqlfluff.jinja import Macro, macros
from levada.terms.layers import LAYERS

if TYPE_CHECKING:
    from levada.adapters.sqlfluff.rendering import Rendering

__all__ = ["Facts", "Here", "facts_of", "forget", "here", "model_files"]

_NO_MODELS = frozenset(
    {"analyses", "dbt_packages", "logs", "macros", "snapshots", "target", "tests"}
)
_MODELS = (".csv", ".py", ".sql")
_GRAIN = re.compile(r"property:\s*['\"]?grain['\"]?\s*[,\n]\s*value:\s*['\"]?(\w+)")
_VERSIONED = re.compile(r"(?P<name>.+?)[._]v(?P<major>\d+)")


@dataclass(frozen=True)
class Facts:
    """A mesh, as far as SQL can offend against it."""

    root: Path
    promises: tuple[Promise, ...]
    models: Mapping[str, Mapping[str, str]]
    """By domain: each model with the layer of its folder, empty outside any."""
    _macros: dict[str, Mapping[str, Macro]] = field(default_factory=dict)
    _rendering: dict[str, Rendering] = field(default_factory=dict)

    def held(self, name: str) -> tuple[Promise, ...]:
        """Who promises a table of this name."""
        return tuple(p for p in self.promises if p.holds and p.table.name == name)

    def domain(self, name: str) -> bool:
        """Whether this is a domain of the mesh."""
        return name in self.models or any(p.table.domain == name for p in self.promises)

    def layer(self, domain: str, name: str, major: int | None) -> str:
        """The layer of a model; empty where nobody can tell."""
        known = self.models.get(domain, {})
        return known.get(f"{name}_v{major}", "") or known.get(name, "")

    def grain(self, promise: Promise) -> str:
        """The grain that a contract says; empty where it cannot be told."""
        said = _GRAIN.search(_text(self.root / promise.path))
        return said[1] if said else ""

    def macros(self, domain: str) -> Mapping[str, Macro]:
        """The macros of a domain's project, by name."""
        if domain not in self._macros:
            self._macros[domain] = {
                macro.name: macro
                for path in self._macro_files(domain)
                for macro in macros(_text(path), path.relative_to(self.root).as_posix())
            }
        return self._macros[domain]

    def rendering(self, domain: str) -> Rendering:
        """The same macros, to be rendered."""
        from levada.adapters.sqlfluff.rendering import Rendering  # jinja: only where it is called

        if domain not in self._rendering:
            self._rendering[domain] = Rendering(map(_text, self._macro_files(domain)))
        return self._rendering[domain]

    def _macro_files(self, domain: str) -> list[Path]:
        return sorted((self.root / "models" / domain / "macros").rglob("*.sql"))

    def packages(self, domain: str) -> frozenset[str]:
        """The packages that are installed in a domain's project."""
        folder = self.root / "models" / domain / "dbt_packages"
        return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()


@dataclass(frozen=True, slots=True)
class Here:
    """A model, and the mesh that it stands in."""

    facts: Facts
    domain: str
    layer: str
    """The folder that names it; empty outside any."""
    model: str


def here(path: Path) -> Here | None:
    """The model of a file; None where it is none of a mesh."""
    path = path.absolute()
    root = _root(path.parent)
    if root is None:
        return None
    parts = path.relative_to(root).parts
    if len(parts) < 3 or parts[0] != "models" or _NO_MODELS & {*parts[2:-1]}:
        return None
    name, _ = _name(path.stem)
    return Here(facts_of(root), parts[1], _layer(parts[2:-1]), name)


def model_files(root: Path, domain: str) -> Iterator[Path]:
    """Every model of a domain that is written in SQL."""
    return (path for path in _models(root / "models" / domain) if path.suffix == ".sql")


@functools.cache
def facts_of(root: Path) -> Facts:
    """The facts of a mesh, read once a process."""
    folders = [path for path in sorted((root / "models").glob("*")) if path.is_dir()]
    return Facts(root, titled(root), {f.name: dict(_named(f)) for f in folders})


def forget() -> None:
    """Read the meshes anew: files have changed."""
    facts_of.cache_clear()
    _root.cache_clear()


@functools.cache
def _root(folder: Path) -> Path | None:
    """The mesh around a folder. What is linted is judged where it stands: no variable names it."""
    return next(
        (each for each in (folder, *folder.parents) if (each / "levada.yaml").is_file()), None
    )


def _models(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in _MODELS and not _NO_MODELS & {*path.relative_to(folder).parts[:-1]}:
            yield path


def _named(folder: Path) -> Iterator[tuple[str, str]]:
    """The models of a project by every name that a `ref` may give them, with their layers."""
    for path in _models(folder):
        layer = _layer(path.relative_to(folder).parts[:-1])
        name, major = _name(path.stem)
        yield name, layer
        if major:
            yield f"{name}_v{major}", layer


def _name(stem: str) -> tuple[str, str]:
    """
    Name and major of a model's file.

    >>> _name("flights_v2"), _name("flights")
    (('flights', '2'), ('flights', ''))
    """
    versioned = _VERSIONED.fullmatch(stem)
    return (versioned["name"], versioned["major"]) if versioned else (stem, "")


def _layer(folders: tuple[str, ...]) -> str:
    return next((folder for folder in folders if folder in LAYERS), "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
