"""
Sound results of earlier checks, kept by a hash of all that they were made from.

Only what had no fault is kept, and only under the versions of the code that judged it: a changed
input, tool or line of ours makes it forgotten. `.levada/checked` may be removed at any time.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Memory", "Nothing", "Remembered", "code", "digest"]

_TOOLS = (
    "dbt-core",
    "dbt-duckdb",
    "duckdb",
    "jsonschema",
    "open-data-contract-standard",
    "sqlglot",
)


class Memory(Protocol):
    """Where a sound result may be asked for and kept; values are JSON."""

    def get(self, name: str, key: str) -> Any:
        """What was kept under this name, if it was made from the same; else None."""

    def put(self, name: str, key: str, value: Any) -> None:
        """Keep a sound result; it takes the place of an earlier one of the name."""


class Nothing:
    """Remembers nothing."""

    def get(self, name: str, key: str) -> Any:
        """Nothing."""

    def put(self, name: str, key: str, value: Any) -> None:
        """Forget it."""


class Remembered:
    """Results in files of a folder, one a name; a file that cannot be read was never written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def begun(self) -> bool:
        """Whether anything was ever kept."""
        return self._folder.is_dir()

    def get(self, name: str, key: str) -> Any:
        """What was kept under this name, if it was made from the same; else None."""
        from pydantic_core import from_json  # a third of the time of Python's own

        try:
            said = from_json((self._folder / f"{name}.json").read_bytes())
            return said["value"] if said["key"] == digest([code(), key]) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, name: str, key: str, value: Any) -> None:
        """Keep a sound result; it takes the place of an earlier one of the name."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{name}.json"
        beside = path.with_suffix(f".{os.getpid()}.tmp")
        beside.write_text(json.dumps({"key": digest([code(), key]), "value": value}))
        beside.replace(path)


def digest(parts: Iterable[str | bytes]) -> str:
    """One hash of several texts, told apart."""
    seen = hashlib.sha256()
    for part in parts:
        text = part.encode() if isinstance(part, str) else part
        seen.update(f"{len(text)}:".encode() + text)
    return seen.hexdigest()


@functools.cache
def code() -> str:
    """The versions of what judges: the interpreter, the tools, and our own files as they are."""
    own = Path(__file__).parents[1]
    files = sorted((*own.rglob("*.py"), *(own.parent / "dbt_levada").rglob("*.py")))
    stats = [(path, path.stat()) for path in files]
    said = [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in stats]
    return digest([sys.version, *(f"{tool} {metadata.version(tool)}" for tool in _TOOLS), *said])
