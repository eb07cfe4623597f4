"""A thousand tables by a thousand days: planned, begun, asked about, cancelled, in bounded room."""

from __future__ import annotations

import multiprocessing
import resource
import runpy
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from levada import plan as planning
from levada import sense as sensing
from levada.flow import restating
from levada.intervals import within
from levada.ledger import PostgresLedger
from levada.terms import Mesh, Span

pytestmark = pytest.mark.integration

MESHES = Path(__file__).parents[2] / "benchmarks" / "_meshes.py"
ROOM = 400
"""MB that a backfill of 800,000 steps may take, whatever is done with it."""


def in_a_process(work: Callable[[], Any]) -> tuple[Any, int]:
    """What work returns in a process of its own, and how many MB it took there at most."""
    ours, theirs = multiprocessing.Pipe()

    def run(connection: Connection) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        told = work()
        took = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        connection.send((told, took // 1024))

    process = multiprocessing.get_context("fork").Process(target=run, args=(theirs,))
    process.start()
    theirs.close()
    told: tuple[Any, int] = ours.recv()
    process.join()
    return told


def planned(mesh: Mesh) -> tuple[dict[str, Any], Any]:
    first, slices = mesh.products[0], within(mesh.products[0].grain, mesh.zone, mesh.span)
    asked = planning.asked_for(mesh, [first.id], Span(slices[0].begin, mesh.span.end))
    found = planning.backfill(mesh, asked, mesh.span.end + timedelta(days=1))
    return planning.encode(mesh, found), found


@pytest.mark.parametrize("size", [40, pytest.param(1_000, marks=pytest.mark.prove)])
def test_a_plan_of_a_thousand_tables_by_a_thousand_days(ledgers: Any, size: int) -> None:
    mesh: Mesh = runpy.run_path(str(MESHES))["chained_mesh"](size, size)
    document, found = planned(mesh)
    name, cells, url = document["id"], found.cells, ledgers.url("levada_runner")
    assert cells > 0.7 * size * size
    assert planning.decode(document) == found
    assert planning.differences(mesh, found) == ()
    product = mesh.products[size // 2]
    tables = sensing.tables_to_read(mesh, [product])
    products = sensing.products_to_read(mesh, [product])

    def begun() -> bool:
        with closing(PostgresLedger(url)) as ledger:
            return restating.begin(ledger, mesh, name, document, found, forced=False)

    def asked() -> Any:
        with closing(PostgresLedger(url)) as ledger:
            (whole,) = ledger.backfills(name)
            steps = ledger.backfill_steps(name, product.id, "open")
            facts = ledger.facts(tables, products)
            return whole.state, whole.steps, len(steps), len(facts.restating)

    def left() -> Any:
        with closing(PostgresLedger(url)) as ledger:
            told = ledger.backfill_steps(name, None, "failed", "left")
            return told, ledger.backfill_state(name), len(ledger.at_work())

    def cancelled() -> Any:
        with closing(PostgresLedger(url)) as ledger:
            ledger.turn_backfill(name, "paused", "too much")
            ledger.turn_backfill(name, "cancelled", "too much")
            (whole,) = ledger.backfills(name)
            return (
                whole.state,
                whole.steps,
                restating.begin(ledger, mesh, name, document, found, forced=False),
            )

    took = {}
    told, took["begun"] = in_a_process(begun)
    assert told
    (state, counts, steps, open_), took["asked"] = in_a_process(asked)
    share = {g.product: g.cells for g in found.groups}
    assert (state, counts, steps) == ("running", {"open": cells}, share[product.id])
    assert open_ == sum(share[each] for each in products), "a reader hears of what it reads"
    told, took["left"] = in_a_process(left)
    assert told == ((), "running", 1)
    told, took["cancelled"] = in_a_process(cancelled)
    assert told == ("cancelled", {"cancelled": cells}, False), "a plan begins once"
    assert ledgers.owner._rows("select count(*) from ledger.restating") == [(0,)]
    print(f"{cells} steps; MB: {took}")
    assert max(took.values()) < ROOM
