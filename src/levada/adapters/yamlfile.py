"""A YAML file of governance, read with the line of every key, so that faults can name it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from levada.adapters.documents import read_file, shown
from levada.errors import Fault
from levada.settings import duration, nearest

__all__ = ["YamlFile"]


class YamlFile:
    """One pass over a file that collects its faults."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path, self.root, self.shown = path, root, shown(path, root)
        self.lines: dict[str, int] = {}
        self.faults: list[Fault] = []

    def fault(self, key: str, wrong: str, right: str = "") -> None:
        """Note what is wrong with a key, at its line."""
        self.faults.append(Fault(self.shown, self.lines.get(key, 1), wrong, right))

    def mapping(self, known: Collection[str]) -> Mapping[str, Any] | None:
        """What the file says, dates as texts; None where it is no mapping."""
        document, faults = read_file(self.path, self.root, f"write {', '.join(known)}")
        self.faults += faults
        if document is None:
            return None
        said = document.value
        self.lines = {key: document.line((key,)) for key in said}
        for key in said:
            if key not in known:
                self.fault(key, f"unknown key {key!r}", nearest(key, known))
        return said

    def names(self, key: str, said: object) -> tuple[str, ...]:
        """A list of names, none of them a pattern."""
        if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
            self.fault(key, f"{key!r} is a list of names", f"{key}: [one, another]")
            return ()
        for each in said:
            self.plain(key, each)
        return tuple(said)

    def plain(self, key: str, name: str) -> bool:
        """Whether a name names one thing; a pattern is a fault."""
        if any(sign in name for sign in "*?["):
            self.fault(key, f"{name!r} is a pattern: a waiver names one thing", "name each")
            return False
        return True

    def duration(self, key: str, said: object, default: timedelta) -> timedelta:
        """A duration, like 31d."""
        try:
            return duration(str(said))
        except ValueError as error:
            self.fault(key, str(error))
            return default
