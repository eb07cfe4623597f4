"""The reference mesh from the landing zone, by backfill; then one corrected file, and no more."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import date

import pytest
from source_system import break_row, land_span
from workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.prove]

SOURCES = (
    *("operations.landing.flights", "weather.landing.weather"),
    *("fleet.landing.planes", "fleet.landing.airlines", "fleet.landing.airports"),
)
DAY = "2013-03-09"
BY_DAY = (
    *("operations.flights@1", "operations.delays@1", "fleet.utilisation@1"),
    *("company.daily_punctuality@1", "company.route_board@1"),
)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    workspace = Workspace.make(tmp_path_factory.mktemp("landing"))
    land_span(date(2013, 3, 8), date(2013, 3, 10), workspace.landing)
    workspace.start()
    workspace.levada("compile")
    yield workspace
    workspace.stop()


def lines(mesh: Workspace) -> Counter[tuple[str, str]]:
    rows = mesh.rows(
        "select table_name, key from ledger.publications p join ledger.entries e using (pos)"
    )
    return Counter((table, key) for table, key in rows)


def backfilled(mesh: Workspace, *words: str) -> dict[str, int]:
    path = mesh.root / "plan.json"
    mesh.levada("backfill", "plan", *words, "--out", str(path))
    told = mesh.json("backfill", "run", str(path), "--local")
    assert told["id"] == json.loads(path.read_text())["id"]
    steps: dict[str, int] = told["steps"]
    return steps


def test_all_is_made_from_the_landing_zone_and_one_corrected_file_restates_what_reads_it(
    mesh: Workspace,
) -> None:
    assert backfilled(mesh, *SOURCES) == {"made": 5 * 3 + 71 + 3}
    first = lines(mesh)
    assert set(first.values()) == {1}
    assert Counter(table for table, _ in first) == {
        **dict.fromkeys(BY_DAY, 3),
        "weather.observations@1": 71,
        **dict.fromkeys(("fleet.planes@1", "fleet.airlines@1", "fleet.airports@1"), 1),
    }
    break_row(mesh.landed("flights", DAY), "dep_delay", "777")
    steps = backfilled(mesh, "operations.landing.flights", "--from", DAY, "--to", DAY)
    again = lines(mesh) - first
    assert again == Counter({(table, DAY): 1 for table in BY_DAY if (table, DAY) in again})
    assert {"operations.flights@1", "operations.delays@1"} <= {table for table, _ in again}
    assert steps["made"] == len(again)
    assert steps.get("unchanged", 0) == len(BY_DAY) - len(again)
    left = mesh.json("run", "--dry-run")
    assert all(step["first"] for step in left), "nothing that was made is out of date"
    made_already = {(table.partition("@")[0], key) for table, key in lines(mesh)}
    assert not made_already & {(step["product"], step["partition"]) for step in left}
