"""An equality test finds whether intervals may be built together, until the code is another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DAYS = [f"2013-03-{day:02}" for day in range(8, 12)]
NUMBERS, SUMS = "north.numbers", "south.sums"
READS = "{{ ref('north', 'numbers') }}"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    root = tmp_path_factory.mktemp("batchable") / "mesh"
    mesh = tiny.mesh(root, ("north", "south"), last=DAYS[-1])
    tiny.project(mesh, "north", lands=True)
    tiny.contract(mesh, "north", "numbers")
    model = f"select {tiny.NUMBERS} from {{{{ source('landing', 'numbers') }}}}"
    tiny.model(mesh, "north", "numbers", model)
    tiny.project(mesh, "south")
    tiny.contract(mesh, "south", "sums")
    tiny.model(mesh, "south", "sums", f"select id, day, amount from {READS}")
    for n, day in enumerate(DAYS):
        tiny.landed(mesh, "north", day, list(range(n + 1)))
    mesh.start()
    mesh.levada("run")
    yield mesh
    mesh.stop()


def backfilled(mesh: Workspace, name: str) -> list[int]:
    """Make the sums again; how many intervals each of the runs has made."""
    path = mesh.root / f"{name}.json"
    mesh.levada("backfill", "plan", SUMS, "--reason", name, "--out", str(path))
    told = mesh.json("backfill", "run", str(path), "--local", "--force")
    assert told["steps"] == {"made": len(DAYS)}
    runs = mesh.rows("select run from ledger.backfill_steps where backfill = %s", told["id"])
    return sorted(Counter(run for (run,) in runs).values())


def compared(mesh: Workspace, *words: str, code: int = 0) -> Any:
    return mesh.json("backfill", "batchable", *words, code=code)


def test_what_comes_out_the_same_goes_together_until_its_code_is_another(mesh: Workspace) -> None:
    assert backfilled(mesh, "before") == [1, 1, 1, 1]
    lines = len(mesh.publications())
    (told,) = compared(mesh, SUMS)
    assert (told["equal"], told["because"]) == (True, "3 intervals came out the same")
    assert told["intervals"] == DAYS[:3]
    assert len(mesh.publications()) == lines, "what is compared is not published"
    assert backfilled(mesh, "found") == [4]
    # Of other code the test says nothing.
    tiny.model(mesh, "south", "sums", f"select id, day, amount from {READS}\n-- otherwise")
    mesh.levada("compile")
    assert backfilled(mesh, "otherwise") == [1, 1, 1, 1]
    assert "what the log says" in mesh.levada("ledger", "verify").stdout


def test_what_differs_is_named_and_not_built_together_though_it_is_declared(
    mesh: Workspace,
) -> None:
    batch = "{{ config(meta={'levada': {'batch': true}}) }}\n"
    counts = "cast(count(*) over () as integer) as amount"
    path = tiny.model(mesh, "south", "sums", f"{batch}select id, day, {counts} from {READS}")
    mesh.levada("compile")
    assert backfilled(mesh, "declared") == [4], "nobody has asked yet"
    (told,) = compared(mesh, SUMS, "--intervals", "4", code=1)
    assert told["equal"] is False
    assert told["because"].startswith(f"south.sums@1 {DAYS[0]}: other values, and 3 more")
    assert backfilled(mesh, "told") == [1, 1, 1, 1]
    path.write_text(f"select id, day, amount from {READS}\n")


def test_what_cannot_be_told_is_said_and_not_recorded(mesh: Workspace, tmp_path: Path) -> None:
    count = mesh.rows("select count(*) from ledger.entries")
    (told,) = compared(mesh, NUMBERS, "--from", DAYS[0], "--to", DAYS[0], code=2)
    assert "two are compared at least" in told["because"]
    gone = mesh.landing / "north" / f"{DAYS[1]}.csv"
    gone.rename(tmp_path / "gone.csv")
    (told,) = compared(mesh, NUMBERS, code=2)
    assert told["equal"] is None
    (tmp_path / "gone.csv").rename(gone)
    assert mesh.rows("select count(*) from ledger.entries") == count
