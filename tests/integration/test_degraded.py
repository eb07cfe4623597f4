"""A deadline over the real thing: published without a late hour, marked, rebuilt when it comes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest
from source_system import land_span, land_weather_hour
from workspace import Workspace

pytestmark = pytest.mark.integration

DAY = "2013-03-08"
LATE = datetime(2013, 3, 8, 15, tzinfo=UTC)
PUNCTUALITY = "company.daily_punctuality"


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


def test_a_day_is_published_without_the_late_hour_and_says_so(mesh: Workspace) -> None:
    mesh.levada("run")

    mark = "degraded: weather.observations@1 2013-03-08T15Z absent"
    assert marks(mesh) == [(1, [mark])]
    said = mesh.json("why", PUNCTUALITY, DAY)
    assert (said["state"], said["degraded"]) == ("READY", True)
    assert mark in said["because"]


def test_whoever_asks_about_a_table_below_is_told_too(mesh: Workspace) -> None:
    board = {row["product"]: row for row in mesh.json("status")}
    assert board[PUNCTUALITY]["degraded"]
    ((downstream, part),) = mesh.rows(
        "select table_name, part from ledger.publications where inputs::text like %s limit 1",
        f'%"{PUNCTUALITY}@1"%',
    ) or [("", "")]
    if downstream:
        key = part.split("|")[1][:10]
        said = mesh.json("why", downstream, key)
        assert any(PUNCTUALITY in mark["table"] for mark in said["marks"])


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
    mesh.levada("ledger", "verify")
