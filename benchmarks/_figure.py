"""
What every benchmark shares: progress on stderr, one JSON line on stdout, CPU seconds.

Times of the wall are quoted only where the figure is one (a latency). Everything else is CPU
seconds, since the machines that run this are shared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

__all__ = [
    "KEYS",
    "Spent",
    "arguments",
    "commit",
    "cpu_of",
    "in_a_process",
    "machine",
    "median",
    "memory_of",
    "quantiles",
    "repeated",
    "report",
    "say",
    "spent",
]

KEYS = ("figure", "ours", "peer", "ratio", "goal", "met")
"""What every figure says; further keys are its own."""

_REPOSITORY = Path(__file__).parents[1]


def say(text: str) -> None:
    """Progress, for whoever waits."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def report(
    figure: str,
    *,
    ours: float,
    peer: float,
    ratio: float,
    goal: str,
    met: bool,
    **more: object,
) -> dict[str, object]:
    """
    Print the figure as one JSON line, the last of stdout; returns what it says.

    :param ratio: as the goal counts it, `peer / ours` or `ours / peer`
    :param goal: what was promised, in words
    :param more: units, sizes, and what else a reader needs to judge the ratio
    """
    line: dict[str, object] = {
        "figure": figure,
        "ours": _short(ours),
        "peer": _short(peer),
        "ratio": _short(ratio),
        "goal": goal,
        "met": bool(met),
        **{key: _short(value) for key, value in more.items()},
        "commit": commit(),
        "machine": machine(),
    }
    print(json.dumps(line), flush=True)
    return line


def arguments(doc: str | None, **more: Mapping[str, Any]) -> argparse.Namespace:
    """The command line: `--small`, and what else the figure knows (`name=dict(of argparse)`)."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="a size that takes seconds")
    for name, words in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **words)
    return parser.parse_args()


def commit() -> str:
    """The commit that is measured; `+` where files differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=_REPOSITORY, check=False, capture_output=True, text=True
        )
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")


def machine() -> str:
    """What a reader may know of where it was measured."""
    return f"{os.cpu_count()} cores, shared"


# CPU and memory


@dataclass
class Spent:
    """CPU and wall seconds of a block."""

    cpu: float = 0.0
    wall: float = 0.0


@contextmanager
def spent() -> Iterator[Spent]:
    """What this process, with all its threads, spends in the block."""
    found = Spent()
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        yield found
    finally:
        found.cpu, found.wall = time.process_time() - cpu, time.perf_counter() - wall


def cpu_of(pids: Iterable[int]) -> float:
    """CPU seconds of these processes and of what they started: the living and the reaped."""
    total = 0.0
    for process in _families(pids):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_of(pids: Iterable[int]) -> float:
    """Resident MB of these processes and of what they started; pages they share count twice."""
    total = 0
    for process in _families(pids):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total / 2**20


def _families(pids: Iterable[int]) -> set[psutil.Process]:
    found: set[psutil.Process] = set()
    for pid in pids:
        try:
            parent = psutil.Process(pid)
            found |= {parent, *parent.children(recursive=True)}
        except psutil.Error:
            continue
    return found


# Repeating


def repeated(times: int, *sides: Callable[[], float]) -> list[list[float]]:
    """
    What each side measures, taken in turns: noise of the machine then falls on all alike.

    >>> repeated(2, lambda: 1.0, lambda: 2.0)
    [[1.0, 1.0], [2.0, 2.0]]
    """
    found: list[list[float]] = [[] for _ in sides]
    for _ in range(times):
        for side, values in zip(sides, found, strict=True):
            values.append(side())
    return found


def quantiles(values: Sequence[float], *percents: int) -> list[float]:
    """
    Percentiles by the nearest rank.

    >>> quantiles([3.0, 1.0, 2.0], 50, 99)
    [2.0, 3.0]
    """
    ranked = sorted(values)
    return [ranked[max(0, -(-len(ranked) * p // 100) - 1)] for p in percents]


def in_a_process(script: Path, *words: str, **environment: str) -> Any:
    """The JSON that a fresh interpreter prints as its last line, running a script."""
    done = subprocess.run(
        [sys.executable, str(script), *words],
        check=False,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    if done.returncode:
        raise SystemExit(f"{script.name} {' '.join(words)} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def _short(value: object) -> object:
    """Four digits tell enough."""
    if isinstance(value, bool) or not isinstance(value, float):
        return value
    return float(f"{value:.4g}")


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)
