"""kill -9 at every step of a run: afterwards everything arrives exactly once."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from datetime import date

import psycopg
import pytest
from killed import POINTS
from source_system import break_row, land_span
from workspace import Workspace

pytestmark = pytest.mark.integration

DAYS = ("2013-03-08", "2013-03-09")
IN_THE_GATE = ("after swap",)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One domain, compiled, with its databases up, and published once."""
    workspace = Workspace.make(
        tmp_path_factory.mktemp("killed"), domains=["operations"], first=DAYS[0], last=DAYS[1]
    )
    land_span(date(2013, 3, 8), date(2013, 3, 9), workspace.landing)
    workspace.start()
    workspace.levada("run")
    yield workspace
    workspace.stop()


@pytest.mark.parametrize(
    "point",
    [p if p in IN_THE_GATE else pytest.param(p, marks=pytest.mark.prove) for p in POINTS],
)
def test_a_run_killed_there_is_finished_or_done_again_by_the_next(
    mesh: Workspace, point: str
) -> None:
    # Each point works on a restatement of its own: one more minute of delay in one flight.
    delay = 100 + list(POINTS).index(point)
    break_row(mesh.landed("flights", DAYS[0]), "dep_delay", str(delay))
    before = mesh.publications()

    mesh.killed_at(point, "run", "operations.flights")
    mesh.levada("run")

    lines = mesh.publications()
    fresh = Counter(line[:2] for line in lines if line not in before)
    assert {table for table, _ in fresh} == {"operations.flights@1", "operations.delays@1"}
    assert set(fresh.values()) == {1}, "exactly once"
    generations: dict[tuple[str, str], list[int]] = {}
    for table, part, generation, *_ in lines:
        generations.setdefault((table, part), []).append(generation)
    for found in generations.values():
        assert found == list(range(1, len(found) + 1))
    assert not mesh.rows("select run from ledger.intents"), "no intent is left behind"
    assert not mesh.rows("select run from ledger.claims"), "no claim is left behind"
    assert {row["state"] for row in mesh.json("status", "operations")} == {"READY"}
    with mesh.lake() as lake:
        assert lake.unaccounted("operations", {run for *_, run, _ in lines}) == ()
        (now,) = lake.read(
            "select count(*) as n, max(dep_delay) filter (source_line = 2) as moved"
            " from operations.main.flights_v1 where flight_date = ?",
            [DAYS[0]],
        )
    assert now == {"n": mesh.landed_rows("flights", DAYS[0]), "moved": delay}


def test_a_lease_that_runs_out_between_recovery_and_plan_is_not_left_behind(
    mesh: Workspace,
) -> None:
    break_row(mesh.landed("flights", DAYS[0]), "dep_delay", "300")
    before = mesh.publications()
    mesh.killed_at("after swap", "run", "operations.flights")
    lease(mesh, "1 hour")
    run = mesh.begin("run", point="after recovery", number=signal.SIGSTOP)
    run.wait_until_stopped()
    lease(mesh, "-1 second")
    run.signal(signal.SIGCONT)

    assert run.wait().returncode == 0

    fresh = Counter(line[:2] for line in mesh.publications() if line not in before)
    assert {table for table, _ in fresh} == {"operations.flights@1", "operations.delays@1"}
    assert set(fresh.values()) == {1}


def lease(mesh: Workspace, left: str) -> None:
    """Let every lease end so long from now."""
    with psycopg.connect(mesh.credentials.url(mesh.credentials.admin, "levada")) as connection:
        connection.execute("update ledger.lease set until = now() + %s::interval", [left])
