"""
P10: whom a change of one table reaches, in a mesh of 40,000 tables, while somebody waits.

Ours is `levada.govern.downstream`, with the readers of the mesh gathered anew for every question,
of tables of the first layer, which reach furthest. The peer asks every product what it reads at
each hop, as a script over a catalogue's edges does. It is asked once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from _figure import arguments, median, report, say
from _meshes import COLUMNS

from levada import govern
from levada.compiled import uncollected
from levada.terms import (
    Contract,
    Dependency,
    Grain,
    Identity,
    Layer,
    Mart,
    Mesh,
    Owner,
    Product,
    Span,
    TableRef,
)

GOAL = 1.0
WIDTH = 400
"""Tables of one layer; each reads three of the layer above."""
ZONE = "UTC"


def layered(tables: int) -> Mesh:
    """Layers of tables, each of which reads three of the layer above it."""
    width = min(WIDTH, max(tables // 10, 3))
    day = datetime(2013, 1, 1, tzinfo=UTC)
    made = []
    for number in range(tables):
        layer, place = divmod(number, width)
        above = [(layer - 1) * width + (place + by) % width for by in range(3)] if layer else []
        made.append(_product(_table(number), [_table(each) for each in above]))
    return Mesh("bench", Span(day, day.replace(month=2)), ZONE, day, tuple(made))


def _table(number: int) -> TableRef:
    return TableRef(f"d{number % 40:02}", f"t{number:05}")


def _product(table: TableRef, reads: list[TableRef]) -> Product:
    contract = Contract(
        id=f"{table.domain}.{table.name}",
        version="1.0.0",
        status="active",
        table=table,
        product=table.name,
        grain=Grain.DAY,
        zone=ZONE,
        interval_column="day",
        columns=COLUMNS,
        checks=(),
        owner=Owner(f"{table.domain}-data"),
        description="",
        hash=str(table),
        path=f"contracts/{table.domain}/{table.name}.v1.odcs.yaml",
    )
    edges = tuple(Dependency(upstream, table, Identity()) for upstream in reads)
    mart = Mart(table, Layer.BASE, f"model.{table}", contract, edges, f"{table.name}.sql", "c0de")
    return Product(table.domain, table.name, (mart,), Grain.DAY, ZONE)


def lineage(mesh: Mesh) -> govern.Lineages:
    """Every column is made of the column of its name in every input."""
    return {
        mart.table: govern.Lineage(
            {c.name: frozenset((e.upstream, c.name) for e in mart.dependencies) for c in COLUMNS}
        )
        for product in mesh.products
        for mart in product.marts
    }


def by_asking_everybody(mesh: Mesh, table: TableRef) -> int:
    """The peer."""
    reached, front = set[TableRef](), {table}
    while front:
        front = set(_readers(mesh, front)) - reached
        reached |= front
    return len(reached)


def _readers(mesh: Mesh, tables: set[TableRef]) -> Iterator[TableRef]:
    for product in mesh.products:
        for edge in product.dependencies:
            if edge.upstream in tables:
                yield edge.downstream


def timed(call: Callable[[], int]) -> tuple[float, int]:
    with uncollected():  # as the command does
        began = time.process_time()
        found = call()
        return time.process_time() - began, found


def main() -> None:
    words = arguments(__doc__, tables={"type": int, "default": 40_000})
    tables = 400 if words.small else words.tables
    with uncollected():
        mesh = layered(tables)
        known = lineage(mesh)
    say(f"p10: {tables:,} tables")
    asked = [_table(n) for n in range(5)]
    ours = [timed(lambda t=t: len(govern.downstream(mesh, t))) for t in asked]
    columns = [
        timed(
            lambda t=t: len(
                govern.downstream(mesh, t, columns=frozenset({"delay"}), lineages=known)
            )
        )
        for t in asked
    ]
    say(f"p10: reached {ours[0][1]:,}, by columns {columns[0][1]:,}")
    peer, reached = timed(lambda: by_asking_everybody(mesh, asked[0]))
    assert reached == ours[0][1] == columns[0][1]
    mine, by_column = (median([seconds for seconds, _ in found]) for found in (ours, columns))
    worst = max(seconds for seconds, _ in (*ours, *columns))
    report(
        "p10_review",
        ours=mine,
        peer=peer,
        ratio=peer / mine if mine else 0.0,
        goal=f"the blast radius of one table under {GOAL:g} s",
        met=worst < GOAL,
        unit="CPU s",
        tables=tables,
        reached=reached,
        by_columns=by_column,
        worst=worst,
    )


if __name__ == "__main__":
    sys.exit(main())
