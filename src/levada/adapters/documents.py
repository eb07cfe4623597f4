"""
A YAML file as plain values that know their lines, so that a fault can say where it stands.

YAML is read by the rules of YAML 1.2: dates stay strings, `no` is a word and `010` is not eight; a
key said twice is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from levada.errors import Fault

__all__ = ["Document", "Place", "read", "read_file", "shown"]

Place = tuple[str | int, ...]
"""Keys and indexes from the top of a document to a value: ("schema", 0, "name")."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.2's core words for null, booleans and numbers; everything else is a string."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


_WORDS = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?)", "-+.0123456789"),
    ("merge", r"<<", "<"),
)
for _tag, _form, _first in _WORDS:
    _firsts = ["" if letter == "\0" else letter for letter in _first]
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_form})$"), _firsts
    )


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
    path: Path, root: Path, wanted: str = ""
) -> tuple[Document | None, tuple[Fault, ...]]:
    """Read a file of the mesh at `root`; `wanted` is what should stand in an empty one."""
    name = shown(path, root)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        return None, (Fault(name, line, f"is not UTF-8: {error.reason}", "write it as UTF-8"),)
    except OSError as error:
        return None, (Fault(name, 0, f"cannot be read: {error}"),)
    return read(name, text, wanted)


def read(path: str, text: str, wanted: str = "") -> tuple[Document | None, tuple[Fault, ...]]:
    """
    Read YAML into values with lines; what is no YAML at all has one fault.

    >>> document, _ = read("a.yaml", "{id: a, when: 2013-01-01}")
    >>> document.value, document.line(("when",))
    ({'id': 'a', 'when': '2013-01-01'}, 1)
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        lines: dict[Place, int] = {}
        faults = tuple(_mark(node, (), lines, path)) if node is not None else ()
        value = loader.construct_document(node) if node is not None else None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        return None, (Fault(path, mark.line + 1 if mark else 0, f"is no YAML: {problem}"),)
    finally:
        loader.dispose()
    if not isinstance(value, dict):
        return None, (Fault(path, 1, "holds no keys", wanted or "write an ODCS data contract"),)
    return Document(path, value, lines), faults


def _mark(node: Any, place: Place, lines: dict[Place, int], path: str) -> Iterator[Fault]:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                yield Fault(path, key.start_mark.line + 1, f"{name!r} is said twice", "say it once")
            seen.add(name)
            lines[(*place, name)] = key.start_mark.line + 1
            yield from _mark(value, (*place, name), lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _mark(value, (*place, index), lines, path)
