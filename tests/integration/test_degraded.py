"""A deadline over the real thing: published without a late hour, marked, rebuilt when it comes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest
from source_system import land_span, land_weather_hour
from workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DAY = "2013-03-08"
LATE = datetime(2013, 3, 8, 15, tzinfo=UTC)
PUNCTUALITY, BOARD = "company.daily_punctuality", "company.route_board"
MARK = "degraded: weather.observations@1 2013-03-08T15Z absent"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One day, of which one weather hour is late; the board goes on without it after an hour."""
    workspace = Workspace.make(tmp_path_factory.mktemp("degraded"), first=DAY, last=DAY)
    land_span(date.fromisoformat(DAY), date.fromisoformat(DAY), workspace.landing)
    (workspace.landing / "weather" / "2013-03-08T15Z.csv").unlink()
    (path,) = (workspace.root / "models" / "company" / "aggregate").glob("*.yml")
    waits = "            weather.observations: {wait: {at_most_missing: 2, deadline: 1h}}\n"
    anchor = "            fleet.planes: {mapping: latest"
    path.write_text(path.read_text().replace(anchor, waits + anchor))
    # The other readers of the table are by week and month, and none lies within one day.
    board = workspace.root / "models" / "company" / "serve" / "route_board.sql"
    anchor = "group by delays.flight_date"
    reads = "where exists (select 1 from {{ ref('daily_punctuality') }})\n"
    board.write_text(board.read_text().replace(anchor, reads + anchor))
    workspace.start()
    yield workspace
    workspace.stop()


def marks(mesh: Workspace) -> list[tuple[int, list[str]]]:
    return [
        (generation, taint)
        for generation, taint in mesh.rows(
            "select generation, taint from ledger.publications where table_name = %s order by 1",
            f"{PUNCTUALITY}@1",
        )
    ]


def inherited(mesh: Workspace) -> list[str]:
    """What whoever asks about the board of routes is told of the table that it reads."""
    found = mesh.json("why", BOARD, DAY)
    assert found["state"] == "READY"
    return [mark["mark"] for mark in found["marks"] if PUNCTUALITY in mark["table"]]


def test_a_day_is_published_without_the_late_hour_and_says_so(mesh: Workspace) -> None:
    mesh.levada("run")

    assert marks(mesh) == [(1, [MARK])]
    said = mesh.json("why", PUNCTUALITY, DAY)
    assert (said["state"], said["degraded"]) == ("READY", True)
    assert MARK in said["because"]


def test_whoever_asks_about_a_table_below_is_told_too(mesh: Workspace) -> None:
    board = {row["product"]: row for row in mesh.json("status")}
    assert board[PUNCTUALITY]["degraded"]
    assert MARK in inherited(mesh)


def test_the_late_hour_rebuilds_the_day_by_itself_and_takes_the_mark_away(
    mesh: Workspace,
) -> None:
    land_weather_hour(LATE, mesh.landing)
    mesh.levada("run")

    assert [(generation, bool(taint)) for generation, taint in marks(mesh)] == [
        (1, True),
        (2, False),
    ]
    said = mesh.json("why", PUNCTUALITY, DAY)["marks"]
    assert [mark["mark"] for mark in said] == ["mostly_departed (18.3861%)"], (
        "an advisory check of flights"
    )
    assert inherited(mesh) == [], "a table below is made again, and told so no more"
    mesh.levada("ledger", "verify")
