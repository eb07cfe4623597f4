"""Faults as annotations of GitHub's workflow commands: they stand beside the line in a review."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from levada.errors import Fault

__all__ = ["annotation", "lines"]


def lines(faults: Sequence[Fault], warnings: Sequence[Fault], root: Path) -> Iterator[str]:
    """One command a fault; paths are from the top of the repository, as GitHub wants them."""
    folder = _folder(root)
    for level, found in (("error", faults), ("warning", warnings)):
        for fault in found:
            yield annotation(level, fault, folder)


def annotation(level: str, fault: Fault, folder: str = "") -> str:
    r"""
    A fault as a workflow command.

    >>> annotation("error", Fault("contracts/a,b.yaml", 7, "50% of\nit", "write: all"))
    '::error file=contracts/a%2Cb.yaml,line=7,title=levada check::50%25 of%0Ait; write: all'
    >>> annotation("warning", Fault("--domain", 0, "no domain 'x'"))
    "::warning title=levada check::--domain: no domain 'x'"
    """
    text = fault.wrong + (f"; {fault.right}" if fault.right else "")
    if fault.path.startswith("--"):  # of the command line: it stands in no file
        return f"::{level} title=levada check::{_data(f'{fault.path}: {text}')}"
    place = f"file={_property(folder + fault.path)}"
    place += f",line={fault.line}" if fault.line else ""
    return f"::{level} {place},title=levada check::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _folder(root: Path) -> str:
    """The folder of the mesh inside its repository; empty where it is the repository."""
    root = root.resolve()
    told = os.environ.get("GITHUB_WORKSPACE")
    tops = [Path(told).resolve()] if told else []
    tops += [folder for folder in (root, *root.parents) if (folder / ".git").exists()]
    top = next((top for top in tops if root.is_relative_to(top)), root)
    return "" if top == root else f"{root.relative_to(top).as_posix()}/"
