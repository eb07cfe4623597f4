"""`make bench`: run every figure, one after the other, and print the table. ONLY=p2 runs one."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="p1, p2, ...: the first part of a file's name")
    words = parser.parse_args()
    files = sorted(HERE.glob("p[0-9]*_*.py"), key=lambda f: int(f.stem[1:].partition("_")[0]))
    chosen = [f for f in files if not words.only or f.stem.partition("_")[0] in words.only]
    if not chosen:
        known = ", ".join(f.stem.partition("_")[0] for f in files)
        print(f"no figure {' '.join(words.only)}: there are {known}", file=sys.stderr)
        return 2
    lines = [run(file) for file in chosen]
    show(lines)
    return 0 if all(line.get("met") for line in lines) else 1


def run(file: Path) -> dict[str, Any]:
    """The JSON line of one figure, which is printed too; one that broke says so."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(file)], check=False, stdout=subprocess.PIPE, text=True
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode and not said:
        return {"figure": file.stem, "met": None, "goal": f"ended with {done.returncode}"}
    print(said[-1], flush=True)
    line: dict[str, Any] = json.loads(said[-1])
    return {**line, "took": time.monotonic() - begun}


def show(lines: list[dict[str, Any]]) -> None:
    """The table, of what every line has."""
    table = Table(title="benchmarks", title_justify="left")
    for name in ("figure", "ours", "peer", "ratio", "goal", "met", "took"):
        table.add_column(name, justify="right" if name in ("ours", "peer", "ratio") else "left")
    for line in lines:
        met = {True: "[green]yes[/]", False: "[red]no[/]"}.get(line["met"], "[red]broke[/]")
        took = f"{line['took']:.0f} s" if "took" in line else ""
        numbers = [_number(line.get(name)) for name in ("ours", "peer", "ratio")]
        table.add_row(line["figure"], *numbers, str(line["goal"]), met, took)
    Console().print(table)


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else ""


if __name__ == "__main__":
    sys.exit(main())
