"""
P8: what a backfill costs per day, by the size of its batches, against a day at a time.

The reference mesh's `operations.delays` over 2013, made again by force: each batch claims, stages
its inputs, runs dbt, is audited interval by interval, swapped, and its lines written. The peer is
the same in the same process with one day in each build, so that its imports and its dbt are warm as
ours are. CPU seconds of this process, of the domain's dbt process and of PostgreSQL, per day.

A batch stops paying where one of twice the size no longer saves a tenth. For days as small as the
reference mesh's that is beyond a year. So there is a second part (`--part large`): days of 40,000
rows, which are sorted, so that rows cost more than dbt's start does within the days that there are.
Of these the curve is that of batches and of shards, each with what a day costs and the memory that
the domain's process takes at the most; shards stop paying where twice as many no longer save a
tenth of it.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import psutil
from _figure import arguments, cpu_of, report, say

REPOSITORY = Path(__file__).parents[1]
sys.path[:0] = [str(REPOSITORY / "tests" / "support"), str(REPOSITORY / "demo")]

import tiny  # noqa: E402
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
SIZES = (1, 2, 4, 8, 16, 31, 62, 124, 365)
SINGLES = 20
"""So many days tell what one costs."""
LARGE_FIRST, LARGE_PRODUCT = date(2013, 3, 8), "south.sorted"
LARGE_SIZES, CUT_SIZES = (1, 4, 16, 31, 62, 124), (31, 124)
SHARDS = (8, 4, 2, 1)
"""From the least memory to the most: what a process has taken it may keep."""
ROWS = 40_000


def main() -> None:
    words = arguments(
        __doc__,
        part={"choices": ["both", "small", "large"], "default": "both", "help": "of the days"},
    )
    found: dict[str, object] = {}
    ours, peer, best = 0.0, 0.0, 0
    if words.part != "large":
        days, sizes, singles = (4, (1, 4), 2) if words.small else (365, SIZES, SINGLES)
        with _reference(days) as mesh:
            curve = _curve(mesh, PRODUCT, sizes, singles)
        peer = curve[1].cpu
        best = min(curve, key=lambda size: curve[size].cpu)
        ours = curve[best].cpu
        found = {"days": days, **_told(curve)}
    if words.part != "small":
        sizes, cut, shards, rows = LARGE_SIZES, CUT_SIZES, SHARDS, ROWS
        if words.small:
            sizes, cut, shards, rows = (1, 4), (4,), (2, 1), 100
        with _large(max(sizes), rows) as mesh:
            curve = _curve(mesh, LARGE_PRODUCT, sizes, 4, 16)
            grid = {size: _cut(mesh, size, shards) for size in cut}
        found["large"] = {
            "rows_a_day": rows,
            **_told(curve),
            "shards": {
                str(size): {
                    str(count): {"cpu": _short(each.cpu), "mb": round(each.mb)}
                    for count, each in sorted(by.items())
                }
                for size, by in grid.items()
            },
            "shards_stop_paying_at": {
                str(size): _stops({count: each.mb for count, each in by.items()})
                for size, by in grid.items()
            },
        }
        if not ours:
            best = min(curve, key=lambda size: curve[size].cpu)
            ours, peer = curve[best].cpu, curve[1].cpu
    report(
        "p8_backfill",
        ours=ours,
        peer=peer,
        ratio=peer / ours,
        goal=f"at least {CHEAPER:g}x cheaper per day",
        met=peer / ours >= CHEAPER,
        unit="CPU s per day",
        part=words.part,
        best=best,
        **found,
    )


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a day: CPU and wall seconds. Of its batch: the most memory, in MB, of the dbt process."""

    cpu: float
    wall: float
    mb: float


@contextmanager
def _reference(days: int) -> Iterator[Workspace]:
    """The reference mesh's operations, published once."""
    last = FIRST + timedelta(days=days - 1)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        mesh = Workspace.make(
            Path(folder), domains=["operations"], first=str(FIRST), last=str(last), lease="60s"
        )
        say(f"landing {days} days")
        land_span(FIRST, last, mesh.landing)
        with _published(mesh):
            yield mesh


@contextmanager
def _large(days: int, rows: int) -> Iterator[Workspace]:
    """Days of many rows, and a table that sorts them by their key."""
    span = [str(LARGE_FIRST + timedelta(days=n)) for n in range(days)]
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        mesh = tiny.mesh(Path(folder) / "mesh", ("north", "south"), last=span[-1])
        settings = mesh.root / "levada.yaml"
        settings.write_text(settings.read_text().replace("lease: 2s", "lease: 60s"))
        together = "{{ config(meta={'levada': {'batch': true}}) }}\n"
        tiny.project(mesh, "north", lands=True)
        tiny.contract(mesh, "north", "numbers")
        landed = "{{ source('landing', 'numbers') }}"
        tiny.model(mesh, "north", "numbers", f"{together}select {tiny.NUMBERS} from {landed}")
        tiny.project(mesh, "south")
        tiny.contract(mesh, "south", "sorted")
        place = "cast(row_number() over (partition by day, id order by amount) as integer)"
        reads = "{{ ref('north', 'numbers') }}"
        model = f"{together}select id, day, {place} as amount from {reads}"
        tiny.model(mesh, "south", "sorted", model)
        say(f"landing {days} days of {rows} rows")
        for day in span:
            path = tiny.landed(mesh, "north", day, [])
            with path.open("a") as file:
                file.writelines(f"{n % (rows // 4)},{day},{n * 7919 % rows}\n" for n in range(rows))
        with _published(mesh):
            yield mesh


@contextmanager
def _published(mesh: Workspace) -> Iterator[None]:
    mesh.start()
    try:
        say("publishing them once")
        done = mesh.begin("run").wait(3600)
        assert done.returncode == 0, done.stderr
        yield
    finally:
        mesh.stop()


@dataclass
class Bench:
    """One product over a mesh that is published, and the processes that work on it."""

    platform: Platform
    product: Product
    slices: tuple[Partition, ...]
    workers: DbtWorkers
    server: int

    def cost(self, size: int, count: int, shards: int = 1) -> Cost:
        """Of a day in batches of a size, over so many days, built in so many shards."""
        product = self.product
        if shards > 1:
            key = "carrier" if product.id == PRODUCT else "id"
            product = replace(product, shards=Shards(key, shards))
        batches = [self.slices[n : n + size] for n in range(0, count - count % size, size)]
        pids = [os.getpid(), self.server]
        cpu, wall = cpu_of(pids), time.perf_counter()
        with _peak(self.workers.pid(product.domain)) as peak:
            for n, batch in enumerate(batches):
                self.built(product, batch, f"{size}-{shards}-{n}")
        done = sum(map(len, batches))
        spent = (cpu_of(pids) - cpu) / done, (time.perf_counter() - wall) / done
        return Cost(*spent, max(peak))

    def built(self, product: Product, batch: Sequence[Partition], name: str) -> None:
        again = Again(f"bench-{name}-{time.monotonic_ns()}")
        run = execute(self.platform, product, tuple(batch), again)
        assert len(run.lines) == len(batch) * len(product.marts), run


@contextmanager
def _opened(mesh: Workspace, product_id: str) -> Iterator[Bench]:
    """With a dbt process of its own, which has built one day already."""
    settings = read_settings(mesh.root)
    with DbtWorkers() as workers:
        declared = declaring.compiled_mesh(settings, workers)
        with (
            opening.services(settings) as credentials,
            opening.open_platform(settings, declared, credentials, workers) as platform,
        ):
            product = declared.product(product_id)
            slices = within(product.grain, product.zone, declared.span)
            bench = Bench(platform, product, slices, workers, _server(mesh.root))
            bench.built(product, slices[:1], "warm")
            yield bench


def _curve(
    mesh: Workspace, product: str, sizes: Sequence[int], singles: int, least: int = 62
) -> dict[int, Cost]:
    """What a day costs at each size of a batch, over so many days at the least."""
    found = {}
    with _opened(mesh, product) as bench:
        for size in sizes:
            count = min(len(bench.slices), singles if size == 1 else max(size, least))
            found[size] = bench.cost(size, count)
            say(f"{size:>4} days a build: {found[size].cpu:.4f} CPU s per day")
    return found


def _cut(mesh: Workspace, size: int, shards: Sequence[int]) -> dict[int, Cost]:
    """What a day of one batch costs, and its memory, by the number of shards."""
    found = {}
    with _opened(mesh, LARGE_PRODUCT) as bench:
        for count in shards:
            found[count] = bench.cost(size, size, count)
            cost = found[count]
            say(f"{size:>4} days, {count:>2} shards: {cost.cpu:.4f} CPU s, {cost.mb:.0f} MB")
    return found


@contextmanager
def _peak(pid: int | None) -> Iterator[list[float]]:
    """The resident MB of a process in the block, seen every few milliseconds."""
    seen, over = [0.0], threading.Event()

    def look() -> None:
        process = psutil.Process(pid)
        while not over.wait(0.005):
            seen.append(process.memory_info().rss / 2**20)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()


def _server(root: Path) -> int:
    """The process of the embedded PostgreSQL, whose children serve."""
    return int((root / ".levada" / "postgres" / "postmaster.pid").read_text().split()[0])


def _told(curve: Mapping[int, Cost]) -> dict[str, object]:
    return {
        "stops_paying_at": _stops({size: cost.cpu for size, cost in curve.items()}),
        "curve": {str(size): _short(cost.cpu) for size, cost in curve.items()},
        "wall": {str(size): _short(cost.wall) for size, cost in curve.items()},
    }


def _stops(curve: Mapping[int, float]) -> int | None:
    """Where the next one saves less than a tenth; None: nowhere in this curve."""
    for before, after in itertools.pairwise(sorted(curve)):
        if curve[after] > 0.9 * curve[before]:
            return before
    return None


def _short(value: float) -> float:
    return float(f"{value:.3g}")


if __name__ == "__main__":
    main()
