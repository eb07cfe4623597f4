"""Whoever reads while a backfill swaps sees each interval of a product old or new, never a mix."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from warm import Running
from workspace import Workspace

from levada.terms import TableRef

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DAYS = [f"2013-03-{day:02}" for day in range(8, 16)]
BOTH = """
    select day, n.amount, t.amount as twice from {numbers} n full join {twice} t using (day)
"""


@pytest.fixture(params=["ducklake", "postgres"])
def mesh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    """A product of two tables, the one twice the other."""
    mesh = tiny.mesh(tmp_path / "mesh", ("north",), last=DAYS[-1])
    settings = mesh.root / "levada.yaml"
    settings.write_text(f"{settings.read_text()}warehouse: {{type: {request.param}}}\n")
    tiny.project(mesh, "north", lands=True)
    for table in ("numbers", "twice"):
        path = tiny.contract(mesh, "north", table)
        path.write_text(re.sub(r"dataProduct: \w+", "dataProduct: pair", path.read_text()))
    models(mesh, more=0)
    for day in DAYS:
        tiny.landed(mesh, "north", day, [1])
    mesh.start()
    mesh.levada("run")
    yield mesh
    mesh.stop()


def models(mesh: Workspace, *, more: int) -> None:
    landed = "{{ source('landing', 'numbers') }}"
    for table, times in (("numbers", 1), ("twice", 2)):
        amount = f"(cast(amount as integer) + {more}) * {times} as amount"
        said = f"cast(id as integer) as id, cast(day as date) as day, {amount}"
        tiny.model(mesh, "north", table, f"select {said} from {landed}")


def ended(running: Running) -> bool:
    try:
        running.wait(0.001)
    except TimeoutError:
        return False
    return True


def test_a_reader_beside_a_backfill_sees_both_tables_of_a_product_change_at_once(
    mesh: Workspace,
) -> None:
    models(mesh, more=100)
    mesh.levada("compile")
    plan = mesh.root / "plan.json"
    span = ("--from", DAYS[0], "--to", DAYS[-1])
    mesh.levada("backfill", "plan", "north.numbers", *span, "--reason", "more", "--out", str(plan))
    assert json.loads(plan.read_text())
    seen = set()
    with mesh.warehouse() as warehouse:
        places = {name: warehouse.place(TableRef("north", name)) for name in ("numbers", "twice")}
        both = BOTH.format(**places)
        running = mesh.begin("backfill", "run", str(plan), "--local")
        over = False
        while not over:
            over = ended(running)
            rows = [(str(r["day"]), r["amount"], r["twice"]) for r in warehouse.read(both)]
            assert sorted(day for day, *_ in rows) == DAYS, "no gap"
            assert all(twice == 2 * int(str(amount)) for _, amount, twice in rows), "no mix"
            seen.add(tuple(sorted(int(str(amount)) for _, amount, _ in rows)))
    assert running.wait().returncode == 0
    first, *_, last = sorted(seen)
    assert len(set(first)) == len(set(last)) == 1
    assert last[0] == first[0] + 100
    assert len(seen) > 2, "days that were made again stood beside days that were not yet"
