"""Warehouses: where published data lives. One module for each engine, found by entry point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from levada.errors import DeclarationError, Fault
from levada.ports import Warehouse
from levada.settings import Settings, nearest

__all__ = ["Kind", "named"]


class Kind(Protocol):
    """How a warehouse is made and opened: what an entry point of `levada.warehouses` names."""

    copies: bool
    """Whether publishing copies the staged rows."""
    rehearses: bool
    """Whether a project can be built on empty tables without it: dbt builds in files."""
    parsing: Mapping[str, object]
    """A dbt output that is good for parsing, which opens nothing."""

    def opened(self, settings: Settings, conninfo: Callable[[str, str], str], /) -> Warehouse:
        """The warehouse of a mesh; `conninfo` tells how a role signs in to a database."""

    def provision(self, server: Any, settings: Settings, /) -> None:
        """Make what takes an administrator, again and again; the roles are there already."""

    def spelled(self, promised: str, /) -> str:
        """A contract's type in the words that dbt is held to here. Raises NotPublishable."""


def named(kind: str) -> Kind:
    """
    The kind of warehouse that `levada.yaml` names. Raises DeclarationError for an unknown one.

    >>> named("ducklake").copies
    True
    >>> named("ducklak")
    Traceback (most recent call last):
    ...
    levada.errors.DeclarationError: levada.yaml: no warehouse 'ducklak'; did you mean 'ducklake'?
    """
    found = _installed()
    if kind not in found:
        right = nearest(kind, sorted(found))
        raise DeclarationError((Fault("levada.yaml", 0, f"no warehouse {kind!r}", right),))
    loaded: Kind = found[kind].load()
    return loaded


@cache  # to look through all that is installed takes longer than to open a warehouse
def _installed() -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="levada.warehouses")}
