"""kill -9 at every step of publishing: afterwards everything arrives exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest
from killed import POINTS
from source_system import break_row, land_span
from workspace import Workspace

pytestmark = pytest.mark.integration

DAYS = ("2013-03-08", "2013-03-09")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One domain, compiled, with its databases up."""
    workspace = Workspace.make(
        tmp_path_factory.mktemp("killed"), domains=["operations"], first=DAYS[0], last=DAYS[1]
    )
    workspace.start()
    workspace.levada("compile")
    yield workspace
    workspace.stop()


@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_there_is_finished_or_done_again_by_the_next(
    mesh: Workspace, point: str
) -> None:
    land_span(date(2013, 3, 8), date(2013, 3, 9), mesh.landing)
    # Each point works on a restatement of its own: one more minute of delay in one flight.
    number = list(POINTS).index(point)
    path = next(iter(sorted((mesh.landing / "flights").glob("2013-03-08*"))))
    break_row(path, "dep_delay", str(number + 100))
    before = mesh.publications()

    mesh.killed_at(point, "run", "operations.flights")
    mesh.levada("run")

    lines = mesh.publications()
    fresh = [line for line in lines if line not in before]
    per_slice = {(table, part): 0 for table, part, *_ in fresh}
    for table, part, *_ in fresh:
        per_slice[table, part] += 1
    assert per_slice, "the restatement arrived"
    assert set(per_slice.values()) == {1}, "exactly once"
    generations: dict[tuple[str, str], list[int]] = {}
    for table, part, generation, *_ in lines:
        generations.setdefault((table, part), []).append(generation)
    for found in generations.values():
        assert found == list(range(1, len(found) + 1))
    assert not mesh.rows("select run from ledger.intents"), "no intent is left behind"
    assert not mesh.rows("select run from ledger.claims"), "no claim is left behind"
    assert {row["state"] for row in mesh.json("status", "operations")} == {"READY"}
