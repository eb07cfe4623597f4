"""
What one look of the reconciler costs: 10,000 products of 30 days, of which a few have moved.

Ours is the look that decides what new lines and time may have changed; its peer, in the same run,
is the look at everything. Both are told the same facts, from memory; the CPU time of this process
is taken, so that other programs do not count. In each round another day of a source lands, and a
table that another reads is published.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from _figure import report
from _meshes import wide_mesh

from levada.intervals import within
from levada.plan import Lookout
from levada.settings import read_settings
from levada.terms import Facts, Landing, Mesh, Partition, Publication, TableRef, Verdict

ROUNDS, GOAL = 20, 100.0
SETTINGS = """\
mesh: bench
zone: America/New_York
span: {from: 2013-01-01, to: 2013-01-30}
live_from: 2013-01-01
landing: {zone: landing}
domains: [a, b]
"""


def mesh_of(products: int) -> Mesh:
    with tempfile.TemporaryDirectory(prefix="levada-p12-") as home:
        (Path(home) / "levada.yaml").write_text(SETTINGS)
        return wide_mesh(read_settings(Path(home)), products)


def landed(table: TableRef, partition: Partition, at: datetime, position: int) -> Landing:
    return Landing(table, partition, 1, f"c{position}", "file", 1, at, position)


def published(mesh: Mesh, number: int, partition: Partition, at: datetime, n: int) -> Publication:
    """As good as the judge needs it: the table stands."""
    mart = mesh.products[number].marts[0]
    return Publication(
        *(mart.table, partition, 1, mart.contract.label, Verdict.PASS, "1", f"c{n}", "f1"),
        *((), (), "run", at, n),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=10_000)
    parser.add_argument("--small", action="store_true", help="50 products, for the tests")
    options = parser.parse_args()
    count = 50 if options.small else options.products
    mesh = mesh_of(count)
    days = within(mesh.products[0].grain, mesh.zone, mesh.span)
    now = mesh.span.end + timedelta(days=1)
    # Every source has landed but its last day; nothing is published yet, so that all is open.
    lines = {
        (source.table, day): landed(source.table, day, now, 1)
        for source in mesh.sources
        for day in list(days)[:-1]
    }
    facts = Facts(dict(lines), position=1)
    lookout = Lookout(mesh)
    begun = time.process_time()
    lookout.look(facts, now)
    first = time.process_time() - begun
    print(f"a look at everything: {first:.1f} CPU s", file=sys.stderr, flush=True)
    took, decided = [], []
    for n in range(ROUNDS):
        now += timedelta(seconds=1)
        source, number = mesh.sources[n * 7 % count].table, n * 11 % count
        new = {
            (source, days[-1]): landed(source, days[-1], now, n + 2),
            (mesh.products[number].marts[0].table, days[n % 29]): published(
                mesh, number, days[n % 29], now, n + 2
            ),
        }
        facts = replace(facts, lines=facts.lines | new, position=n + 2)
        begun = time.process_time()
        ours = lookout.look(facts, now)
        took.append(time.process_time() - begun)
        decided.append(lookout.decided)
    begun = time.process_time()
    full = Lookout(mesh).look(facts, now)
    peer = time.process_time() - begun
    assert [s.step for s in ours] == [s.step for s in full], "both find the same steps"
    median = statistics.median(took)
    report(
        "p12_reconcile",
        ours=median,
        peer=peer,
        ratio=peer / median,
        goal=f"a look at what moved costs a {GOAL:.0f}th of a look at everything",
        met=peer / median >= GOAL,
        unit="CPU s of a look, median",
        products=count,
        partitions=count * len(days),
        steps=len(full),
        decided_each=statistics.median(decided),
        slowest=round(max(took), 4),
    )


if __name__ == "__main__":
    main()
