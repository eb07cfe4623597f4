"""A YAML file as plain values that know their lines, so that a fault can say where it stands."""

from __future__ import annotations

import stat
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from levada.adapters.yaml12 import Place, parse
from levada.errors import Fault

__all__ = ["Document", "Place", "read", "read_file", "shown"]

_LARGEST = 1_000_000
"""Bytes of a file: some hundred times what a wide table needs."""


@dataclass
class Document:
    """
    The values of one file, and where each stands. `path` is relative to the mesh.

    `refused` holds the fault of every value that the schema refuses, missing ones included.
    """

    path: str
    value: dict[str, Any]
    lines: Mapping[Place, int] = field(default_factory=dict)
    refused: dict[Place, Fault] = field(default_factory=dict)

    def line(self, place: Place) -> int:
        """The line of a value, or of the nearest value around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 0)

    def fault(self, place: Place, wrong: str, right: str = "") -> Fault:
        """A fault that stands at a value; of a refused value it is the one that refused it."""
        for size in range(len(place) + 1):
            if place[:size] in self.refused:
                return self.refused[place[:size]]
        return Fault(self.path, self.line(place), wrong, right)

    def torn(self, place: Place) -> bool:
        """Whether a value, or something inside it, is refused."""
        return any(refused[: len(place)] == place for refused in self.refused)

    def guard(self) -> AbstractContextManager[None]:
        """Around what reads a part: a document with refused values is read as far as it can be."""
        return suppress(Exception) if self.refused else nullcontext()


def shown(path: Path, root: Path) -> str:
    """A file as faults name it: from the mesh's root, if it lies in there."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def read_file(
    path: Path, root: Path, wanted: str = "", *, numbered: Collection[Place] = ()
) -> tuple[Document | None, tuple[Fault, ...]]:
    """
    Read a file of the mesh at `root`; `wanted` is what should stand in an empty one.

    For `numbered` see `yaml12.parse`.
    """
    name = shown(path, root)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
            what = "directory" if stat.S_ISDIR(found.st_mode) else "pipe or device"
            return None, (Fault(name, 0, f"is a {what}", "a declaration is a file"),)
        if found.st_size > _LARGEST:
            wrong = f"has {found.st_size:,} bytes, and is not read"
            return None, (Fault(name, 1, wrong, f"a declaration has at most {_LARGEST:,}"),)
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        wrong = f"is not UTF-8: it holds the byte 0x{error.object[error.start]:02x}"
        return None, (Fault(name, line, wrong, "write it as UTF-8"),)
    except OSError as error:
        return None, (Fault(name, 0, f"cannot be read: {error.strerror or error}"),)
    return read(name, text, wanted, numbered=numbered)


def read(
    path: str,
    text: str,
    wanted: str = "",
    *,
    strict: bool = True,
    numbered: Collection[Place] = (),
) -> tuple[Document | None, tuple[Fault, ...]]:
    """
    Read YAML into values with lines; what is no YAML at all has one fault.

    For `strict` and `numbered` see `yaml12.parse`.

    >>> document, _ = read("a.yaml", "{id: a, when: 2013-01-01}")
    >>> document.value, document.line(("when",))
    ({'id': 'a', 'when': '2013-01-01'}, 1)
    """
    source, faults = parse(path, text, strict=strict, numbered=numbered)
    if source is None:
        return None, faults
    if not isinstance(source.value, dict):
        wrong = "is empty" if source.value is None and not faults else "holds no keys"
        right = wanted or "write an ODCS data contract"
        return None, (*faults, Fault(path, 1, wrong, right))
    return Document(path, source.value, source.lines, source.refused), faults
