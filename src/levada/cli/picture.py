"""Tables by time, in one line each: what a backfill makes again, and what it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.table import Table
from rich.text import Text

from levada.intervals import end
from levada.terms import Group, Mesh, Partition

__all__ = ["picture"]

_BESIDE = 26
"""What the numbers beside the signs take."""


def picture(
    mesh: Mesh, groups: Sequence[Group], left: Sequence[Group], *, within: int = 100
) -> Table:
    """
    One line a product, in the order in which they are made; a sign stands for a share of the time
    from the first slice to the last: █ made again, ░ left out, · untouched.
    """
    bounds = [_bounds(mesh, s.first, s.last) for g in (*groups, *left) for s in g.stretches]
    start, stop = min(b[0] for b in bounds), max(b[1] for b in bounds)
    names = max(len(group.product) for group in (*groups, *left))
    width = min(60, max(20, within - names - _BESIDE))
    table = Table(box=None, pad_edge=False)
    zone = ZoneInfo(mesh.zone)
    head = f"{start.astimezone(zone):%Y-%m-%d}"
    table.add_column("", no_wrap=True, min_width=names)
    days = f"{head:<{width - 10}}{stop.astimezone(zone):%Y-%m-%d}"
    table.add_column(days, no_wrap=True, min_width=width)
    table.add_column("intervals", no_wrap=True)
    rows: dict[str, tuple[list[str], list[int]]] = {}
    for group, sign in [*((g, "█") for g in groups), *((g, "░") for g in left)]:
        signs, counts = rows.setdefault(group.product, (["·"] * width, [0, 0]))
        counts[sign == "░"] += group.cells
        for stretch in group.stretches:
            low, high = _bounds(mesh, stretch.first, stretch.last)
            first, last = (int((at - start) / (stop - start) * width) for at in (low, high))
            for n in range(first, max(last, first + 1)):
                at = min(n, width - 1)
                signs[at] = "█" if signs[at] == "█" else sign
    for name, (signs, (made, out)) in rows.items():
        said = f"{made}" + (f" (+{out} left out)" if out else "")
        table.add_row(name, Text("".join(signs), style="" if made else "dim"), said)
    return table


def _bounds(mesh: Mesh, first: Partition, last: Partition) -> tuple[datetime, datetime]:
    if first.start is None:
        return mesh.span.start, mesh.span.end
    return first.begin, end(last)
