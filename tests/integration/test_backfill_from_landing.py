"""The reference mesh from the landing zone, by backfill; then one corrected file, and no more."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from datetime import date

import pytest
from source_system import break_row, land_span
from workspace import Workspace

from levada import compiled
from levada.intervals import within
from levada.settings import read_settings

pytestmark = [pytest.mark.integration, pytest.mark.prove, pytest.mark.timeout(3600)]

SOURCES = (
    *("operations.landing.flights", "weather.landing.weather"),
    *("fleet.landing.planes", "fleet.landing.airlines", "fleet.landing.airports"),
)
FIRST, LAST = os.environ.get("LEVADA_LANDED", "2013-03-08..2013-03-10").split("..")
"""What is landed; all of the source is 2013-01-01..2013-12-31."""
DAY = "2013-03-09"
BY_DAY = (
    *("operations.flights@1", "operations.delays@1", "fleet.utilisation@1"),
    *("company.daily_punctuality@1", "company.route_board@1"),
)
LATER = {("company.weekly_carriers@1", "2013-03-04"), ("company.monthly_network@1", "2013-03-01")}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    workspace = Workspace.make(tmp_path_factory.mktemp("landing"), first=FIRST, last=LAST)
    land_span(date.fromisoformat(FIRST), date.fromisoformat(LAST), workspace.landing)
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
    done = mesh.begin("backfill", "run", str(path), "--local", "--json").wait(3600)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["id"] == json.loads(path.read_text())["id"]
    steps: dict[str, int] = told["steps"]
    return steps


def test_all_is_made_from_the_landing_zone_and_one_corrected_file_restates_what_reads_it(
    mesh: Workspace,
) -> None:
    declared = compiled.load(read_settings(mesh.root))
    slices = {p.id: len(within(p.grain, p.zone, declared.span)) for p in declared.products}
    if (FIRST, LAST) == ("2013-03-08", "2013-03-10"):
        assert sum(slices.values()) == 5 * 3 + 71 + 3
    assert backfilled(mesh, *SOURCES) == {"made": sum(slices.values())}
    first = lines(mesh)
    assert set(first.values()) == {1}
    tables = {str(m.table): slices[p.id] for p in declared.products for m in p.marts}
    assert Counter(table for table, _ in first) == {t: n for t, n in tables.items() if n}
    break_row(mesh.landed("flights", DAY), "dep_delay", "777")
    steps = backfilled(mesh, "operations.landing.flights", "--from", DAY, "--to", DAY)
    again = lines(mesh) - first
    below = {(table, DAY) for table in BY_DAY}
    below |= {key for key in LATER if key in first}  # of a span that holds a week, or a month
    assert set(again) <= below
    assert set(again.values()) == {1}
    assert {"operations.flights@1", "operations.delays@1"} <= {table for table, _ in again}
    assert steps["made"] == len(again)
    assert steps.get("unchanged", 0) == len(below) - len(again)
    left = mesh.json("run", "--dry-run")
    assert all(step["first"] for step in left), "nothing that was made is out of date"
    made_already = {(table.partition("@")[0], key) for table, key in lines(mesh)}
    assert not made_already & {(step["product"], step["partition"]) for step in left}
