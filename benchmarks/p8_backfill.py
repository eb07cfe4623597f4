"""
P8: what a backfill costs per day, by the size of its batches, against a day at a time.

The reference mesh's `operations.delays` over 2013, made again by force: each batch claims, stages
its inputs, runs dbt, is audited interval by interval, swapped, and its lines written. The peer is
the same in the same process with one day in each build, so that its imports and its dbt are warm as
ours are. CPU seconds of this process, of the domain's dbt process and of PostgreSQL, per day.

The curve tells the cost per day at each size, and where a doubling no longer saves a tenth; a
second one what shards add to the largest batch: they save memory, and each costs dbt's start again.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from _figure import arguments, cpu_of, report, say

REPOSITORY = Path(__file__).parents[1]
sys.path[:0] = [str(REPOSITORY / "tests" / "support"), str(REPOSITORY / "demo")]

from source_system import land_span  # noqa: E402
from workspace import Workspace  # noqa: E402

from levada.adapters.dbt.workers import DbtWorkers  # noqa: E402
from levada.flow import declaring  # noqa: E402
from levada.flow import platform as opening  # noqa: E402
from levada.flow.stages import Platform, execute  # noqa: E402
from levada.intervals import within  # noqa: E402
from levada.sense import Again  # noqa: E402
from levada.settings import read_settings  # noqa: E402
from levada.terms import Partition, Product, Shards  # noqa: E402

CHEAPER = 30.0
FIRST, PRODUCT = date(2013, 1, 1), "operations.delays"
SHARDS = (2, 4, 8)
SIZES = (1, 2, 4, 8, 16, 31, 62, 124, 365)
SINGLES = 20
"""So many days tell what one costs."""


def main() -> None:
    words = arguments(__doc__)
    days, sizes, singles = (4, (1, 4), 2) if words.small else (365, SIZES, SINGLES)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        last = FIRST + timedelta(days=days - 1)
        mesh = Workspace.make(
            Path(folder), domains=["operations"], first=str(FIRST), last=str(last), lease="60s"
        )
        say(f"landing {days} days")
        land_span(FIRST, last, mesh.landing)
        mesh.start()
        try:
            say("publishing them once")
            mesh.levada("run")
            curve, cut = _curve(mesh, sizes, singles)
        finally:
            mesh.stop()
    peer = curve[1]["cpu"]
    best = min(curve, key=lambda size: curve[size]["cpu"])
    ours = curve[best]["cpu"]
    report(
        "p8_backfill",
        ours=ours,
        peer=peer,
        ratio=peer / ours,
        goal=f"at least {CHEAPER:g}x cheaper per day",
        met=peer / ours >= CHEAPER,
        unit="CPU s per day",
        product=PRODUCT,
        days=days,
        best=best,
        stops_paying_at=_stops(curve),
        curve={str(size): round(found["cpu"], 5) for size, found in curve.items()},
        shards={str(count): round(spent, 5) for count, spent in cut.items()},
        wall={str(size): round(found["wall"], 5) for size, found in curve.items()},
    )


def _curve(
    mesh: Workspace, sizes: Sequence[int], singles: int
) -> tuple[dict[int, dict[str, float]], dict[int, float]]:
    """What a day costs at each size, CPU and wall seconds; and CPU by the number of shards."""
    settings = read_settings(mesh.root)
    found: dict[int, dict[str, float]] = {}
    with DbtWorkers() as workers:
        declared = declaring.compiled_mesh(settings, workers)
        with (
            opening.services(settings) as credentials,
            opening.open_platform(settings, declared, credentials, workers) as platform,
        ):
            product = declared.product(PRODUCT)
            slices = within(product.grain, product.zone, declared.span)
            _built(platform, product, slices[:1], "warm")
            for size in sizes:
                count = min(len(slices), singles if size == 1 else max(size, 62))
                batches = [slices[n : n + size] for n in range(0, count - count % size, size)]
                pids = [os.getpid(), _server(mesh.root)]
                cpu, wall = cpu_of(pids), time.perf_counter()
                for n, batch in enumerate(batches):
                    _built(platform, product, batch, f"{size}-{n}")
                done = sum(map(len, batches))
                found[size] = {
                    "cpu": (cpu_of(pids) - cpu) / done,
                    "wall": (time.perf_counter() - wall) / done,
                }
                say(f"{size:>4} days a build: {found[size]['cpu']:.4f} CPU s per day")
            cut = {}
            for count in SHARDS:
                sharded = replace(product, shards=Shards("carrier", count))
                cpu = cpu_of(pids)
                _built(platform, sharded, slices[: sizes[-1]], f"cut-{count}")
                cut[count] = (cpu_of(pids) - cpu) / min(len(slices), sizes[-1])
                say(f"{count:>4} shards: {cut[count]:.4f} CPU s per day")
    return found, cut


def _built(platform: Platform, product: Product, slices: Sequence[Partition], name: str) -> None:
    run = execute(platform, product, tuple(slices), Again(f"bench-{name}"))
    assert len(run.lines) == len(slices) * len(product.marts), run


def _server(root: Path) -> int:
    """The process of the embedded PostgreSQL, whose children serve."""
    return int((root / ".levada" / "postgres" / "postmaster.pid").read_text().split()[0])


def _stops(curve: dict[int, dict[str, float]]) -> int:
    """The size from which the next one saves less than a tenth."""
    sizes = sorted(curve)
    for size, larger in itertools.pairwise(sizes):
        if curve[larger]["cpu"] > 0.9 * curve[size]["cpu"]:
            return size
    return sizes[-1]


if __name__ == "__main__":
    main()
