"""DuckDB's extensions from their wheels: loaded by path, or linked into a folder. No download."""

from __future__ import annotations

import importlib.util
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from levada.adapters.warehouses._sql import literal
from levada.errors import TerminalError

__all__ = ["EXTENSIONS", "SIGNED", "TRUSTED", "extension", "extension_directory", "loading"]

EXTENSIONS = ("postgres_scanner", "ducklake")
"""In the order in which they are loaded: a DuckLake with its catalogue in PostgreSQL needs both."""

TRUSTED: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "allow_unsigned_extensions": "true",
}
"""
How a DuckDB is opened that loads the wheels' files. They are trusted as the DuckDB beside them is:
to read all of them for their signature takes 0.4 s each time. `SIGNED` ends that.
"""
SIGNED = "SET allow_unsigned_extensions = false"


def extension(name: str) -> Path:
    """The file of an extension inside its wheel. Raises TerminalError when there is none."""
    import duckdb

    package = f"duckdb_extension_{name}"
    spec = importlib.util.find_spec(package)
    folders: Sequence[str] = (spec and spec.submodule_search_locations) or ()
    for folder in folders:
        path = Path(folder) / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if path.is_file():
            return path
    wheel = f"{package.replace('_', '-')}=={duckdb.__version__}"
    raise TerminalError(f"DuckDB has no extension {name} for its version; install {wheel}")


def loading() -> tuple[str, ...]:
    """
    The statements that load the extensions into a DuckDB, and keep it from downloading any and from
    loading others without a signature.
    """
    quiet = "SET autoinstall_known_extensions = false"
    return (quiet, *(f"LOAD {literal(extension(name))}" for name in EXTENSIONS), SIGNED)


def extension_directory(home: Path) -> Path:
    """
    A folder that DuckDB takes as its `extension_directory`: links to the wheels' files.

    Made once; any number of processes may make it at the same time, since a link is made under a
    name of its own and then renamed. A link into another environment is renewed.
    """
    import duckdb

    with duckdb.connect() as connection:
        row = connection.execute("PRAGMA platform").fetchone()
    folder = home / f"v{duckdb.__version__}" / str(row[0] if row else "")
    folder.mkdir(parents=True, exist_ok=True)
    for name in EXTENSIONS:
        target, link = extension(name), folder / f"{name}.duckdb_extension"
        if not link.is_symlink() or link.readlink() != target:
            fresh = folder / f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
            fresh.symlink_to(target)
            fresh.replace(link)
    return home
