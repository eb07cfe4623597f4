"""
What planning a backfill costs: 1,000 tables of 1,000 days, all that follows from the first of them.

Every fifth table reads a week back, every other fifth the day before, some read two others; every
tenth begins a new branch. Ours moves whole runs of slices; its peers, in the same run, are a search
that asks cell by cell (the same rules, hence the same cells) and, where a Python with Dagster is
named by --dagster, Dagster's own closure of the same graph, over
daily partitions with the same offsets. Dagster's has more cells: it keeps those that could never be
made, since they would read from before the first day.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from datetime import timedelta
from pathlib import Path
from typing import Any

from _figure import arguments, in_a_process, median, report, say
from _meshes import chained_mesh

from levada.intervals import within
from levada.plan import asked_for, backfill, cells_of
from levada.terms import Lag, Mesh, Span, Trailing

GOAL, TABLES, DAYS, ROUNDS = 0.1, 1_000, 1_000, 7
"""CPU seconds, as promised."""


def asked_days(days: int) -> tuple[int, int]:
    """All but a tenth at either end: asking for everything would be a shortcut to some."""
    return days // 10, days - days // 10


def searched(mesh: Mesh, first: str) -> set[tuple[str, int]]:
    """Cell by cell, by numbers of days: as quick as plain Python lets such a search be."""
    days = len(within(mesh.products[0].grain, mesh.zone, mesh.span))
    readers: dict[str, list[tuple[str, range]]] = {}
    lacks: dict[str, int] = {}
    for product in mesh.products:
        lacks[product.id] = 0
        for edge in product.dependencies:
            if edge.upstream.is_source:
                continue
            above = mesh.product(edge.upstream).id
            match edge.mapping:
                case Lag(by):
                    steps = range(by, by + 1)
                case Trailing(n):
                    steps = range(n)
                case _:
                    steps = range(1)
            readers.setdefault(above, []).append((product.id, steps))
            lack = lacks[above] + max(steps, default=0)
            lacks[product.id] = max(lacks[product.id], lack)
    found = {(first, day) for day in range(*asked_days(days))}
    ahead = deque(found)
    while ahead:
        name, day = ahead.popleft()
        for reader, steps in readers.get(name, ()):
            for step in steps:
                cell = (reader, day + step)
                if lacks[reader] <= day + step < days and cell not in found:
                    found.add(cell)
                    ahead.append(cell)
    return found


def graph(mesh: Mesh) -> list[list[object]]:
    """The mesh as a program without Levada may read it: name, and each input with its offsets."""
    rows: list[list[object]] = []
    for product in mesh.products:
        reads = []
        for edge in product.dependencies:
            if not edge.upstream.is_source:
                low = high = 0
                if isinstance(edge.mapping, Lag):
                    low = high = -edge.mapping.by
                elif isinstance(edge.mapping, Trailing):
                    low = 1 - edge.mapping.n
                reads.append([mesh.product(edge.upstream).id, low, high])
        rows.append([product.id, reads])
    return rows


def dagster(python: str, mesh: Mesh, days: int) -> dict[str, Any]:
    """What Dagster takes for the closure of the same graph, told by a process of its own."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        first = f"{mesh.span.start:%Y-%m-%d}"
        told = {"graph": graph(mesh), "first": first, "days": days, "zone": mesh.zone}
        told["asked"] = list(asked_days(days))
        json.dump(told, file)
        file.flush()
        done = subprocess.run(
            [python, str(Path(__file__).with_name("_dagster_closure.py")), file.name],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def main() -> None:
    options = arguments(
        __doc__,
        cold={"action": "store_true", "help": "one plan of a fresh process, as JSON"},
        dagster={"default": "", "help": "a Python that has Dagster"},
    )
    tables, days = (50, 60) if options.small else (TABLES, DAYS)
    mesh = chained_mesh(tables, days)
    first = mesh.products[0].id
    now = mesh.span.end + timedelta(days=1)
    low, high = asked_days(days)
    slices = within(mesh.products[0].grain, mesh.zone, mesh.span)
    span = Span(slices[low].begin, slices[high].begin)
    within.cache_clear()

    def planned() -> float:
        begun = time.process_time()
        backfill(mesh, asked_for(mesh, [first], span), now)
        return time.process_time() - begun

    if options.cold:
        print(json.dumps({"cpu": planned()}))
        return
    words = ["--cold", *(["--small"] if options.small else [])]
    cold = [in_a_process(Path(__file__), *words)["cpu"] for _ in range(3)]
    warm = [planned() for _ in range(ROUNDS)]
    say(f"cold {median(cold):.3f}, warm {median(warm):.3f} CPU s")
    begun = time.process_time()
    cells = searched(mesh, first)
    peer = time.process_time() - begun
    found = backfill(mesh, asked_for(mesh, [first], span), now)
    numbered = {p: n for n, p in enumerate(slices)}
    assert {(name, numbered[p]) for name, p in cells_of(mesh, found.groups)} == cells
    theirs = dagster(options.dagster, mesh, days) if options.dagster else {}
    against = theirs.get("complete_cpu", peer)
    report(
        "p7_plan",
        ours=median(cold),
        peer=against,
        ratio=against / median(cold),
        goal=f"under {GOAL * 1000:.0f} ms of CPU, and 5x the peer",
        met=median(cold) < GOAL and against >= 5 * median(cold),
        unit="CPU s of a plan, in a fresh process",
        warm=median(warm),
        search=peer,
        dagster=theirs,
        tables=tables,
        days=days,
        cells=len(cells),
    )


if __name__ == "__main__":
    sys.exit(main())
