"""How far a catalogue was told, in a file beside it; and files that are replaced whole."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from levada.catalog import Mark
from levada.errors import TerminalError, ToolError

__all__ = ["CursorFile", "replacing"]


class CursorFile:
    """A mark in a file, replaced by rename; one writer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others out for the block; the kernel lets them in again, however it ends."""
        with _said(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = self.path.with_name(f"{self.path.name}.lock").open("wb")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise TerminalError(
                    f"another `levada catalog` holds {self.path}: leave it to that one, or end it"
                ) from None
            yield

    def read(self) -> Mark | None:
        """The mark; an unreadable one is none, since being told twice is harmless."""
        try:
            kept = json.loads(self.path.read_text())
            return Mark(int(kept["position"]), str(kept["line"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, mark: Mark) -> None:
        """Move the mark."""
        text = json.dumps({"position": mark.position, "line": mark.line}) + "\n"
        with replacing(self.path) as file:
            file.write(text.encode())


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when it is whole and on the disk, and never before."""
    beside = path.with_name(f".{path.name}.new")
    with _said(path):
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Raise what a disk refuses (full, read-only, no such folder) as an error of ours."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise ToolError("the catalogue's file", f"{path}: {why}") from error
