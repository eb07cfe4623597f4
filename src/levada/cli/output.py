"""What commands print: tables and colours for people, JSON for programs, one error format."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from levada.errors import DeclarationError, Fault, LevadaError
from levada.terms import State

__all__ = [
    "MARKED",
    "STYLES",
    "console",
    "errors",
    "fail",
    "faults_json",
    "print_json",
    "print_lines",
    "state_text",
    "warn",
]

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

STYLES: Mapping[State, tuple[str, str]] = {
    State.READY: ("●", "green"),
    State.WAITING: ("·", "dim"),
    State.FAILED: ("✗", "red"),
    State.STALE: ("~", "yellow"),
    State.HELD: ("‖", "magenta"),
    State.IMPOSSIBLE: ("∅", "red"),
}

MARKED = ("◐", "yellow")
"""Ready, and something is to be known of it."""


def no_colour() -> None:
    """Turn colours off for this command (`NO_COLOR` does it too)."""
    os.environ["NO_COLOR"] = "1"
    for each in (console, errors):
        each.no_color = True


def state_text(state: State) -> Text:
    """A state's word in its colour."""
    return Text(state.value, style=STYLES[state][1])


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    console.file.write(json.dumps(value, indent=2, default=str) + "\n")


def faults_json(faults: Sequence[Fault]) -> list[dict[str, object]]:
    """Faults as data: path, line, what is wrong, what would be right."""
    return [{"path": f.path, "line": f.line, "wrong": f.wrong, "right": f.right} for f in faults]


def print_lines(lines: Iterable[str]) -> None:
    """Lines for a program on standard output, as they are."""
    for line in lines:
        console.file.write(f"{line}\n")


def warn(warnings: Sequence[Fault]) -> None:
    """Say on standard error what only tells."""
    for each in warnings:
        place = f"{each.path}:{each.line}" if each.line else each.path
        line = Text.assemble((place, "bold"), ": ", ("warning: ", "yellow"), each.wrong)
        if each.right:
            line.append(f"; {each.right}")
        errors.print(line)
    if warnings:
        count = len(warnings)
        errors.print(f"{count} warning{'s' if count != 1 else ''}", style="yellow")


def fail(error: LevadaError) -> None:
    """Say on standard error what is wrong; every fault on a line of its own."""
    if isinstance(error, DeclarationError):
        for fault in error.faults:
            place = f"{fault.path}:{fault.line}" if fault.line else fault.path
            line = Text.assemble((place, "bold"), ": ", (fault.wrong, "red"))
            if fault.right:
                line.append(f"; {fault.right}")
            errors.print(line)
        count = len(error.faults)
        errors.print(f"{count} fault{'s' if count != 1 else ''}", style="bold red")
    else:
        errors.print(Text.assemble(("error: ", "bold red"), str(error)))
