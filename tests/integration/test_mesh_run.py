"""The whole reference mesh by `levada run`: broken, mended and late files, restatement, `why`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import psycopg
import pytest
from psycopg import sql
from source_system import break_row, land_flights, land_span, land_weather_hour, utc_hours
from workspace import Workspace

pytestmark = pytest.mark.integration

DAY = date(2013, 3, 10)  # the clocks go forward: 23 hours
LATE = datetime(2013, 3, 10, 15, tzinfo=UTC)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Four domains over three days; one flight of the last day is broken, one hour is late."""
    workspace = Workspace.make(tmp_path_factory.mktemp("mesh"))
    land_span(date(2013, 3, 8), DAY, workspace.landing)
    (workspace.landing / "weather" / "2013-03-10T15Z.csv").unlink()
    (path,) = (workspace.landing / "flights").glob("2013-03-10*")
    break_row(path, "distance", "far")
    workspace.start()
    yield workspace
    workspace.stop()


def states(mesh: Workspace, *words: str) -> dict[tuple[str, str], str]:
    return {(r["product"], r["partition"]): r["state"] for r in mesh.json("status", *words)}


def test_one_command_carries_sound_data_through_four_layers(mesh: Workspace) -> None:
    said = mesh.json("run", code=1)

    withheld = {(w["product"], w["partition"]): w["verdict"] for w in said["withheld"]}
    assert withheld == {("operations.flights", "2013-03-10"): "FAIL"}
    found = states(mesh)
    for product in ("operations.flights", "company.daily_punctuality", "company.route_board"):
        assert found[product, "2013-03-08"] == "READY"
        assert found[product, "2013-03-09"] == "READY"
    assert found["operations.flights", "2013-03-10"] == "FAILED"
    assert found["company.daily_punctuality", "2013-03-10"] == "WAITING"
    hours = [k for p, k in found if p == "weather.observations" and found[p, k] == "READY"]
    assert len(hours) == 24 + 24 + 23 - 1


def test_nothing_of_a_withheld_day_is_visible(mesh: Workspace) -> None:
    days = {part for table, part, *_ in mesh.publications() if table.startswith("operations")}
    assert not any("2013-03-10" in part for part in days)


def test_why_names_the_failing_check_its_rows_and_its_owner_and_the_late_hour(
    mesh: Workspace,
) -> None:
    said = mesh.json("why", "company.daily_punctuality", "2013-03-10")

    causes = {(c["table"], c["partition"]): c for c in said["causes"]}
    failed = causes["operations.flights@1", "2013-03-10"]
    assert failed["state"] == "FAILED"
    assert failed["owner"] == "operations-data <operations-data@flights.example>"
    assert failed["path"] == [
        "company.daily_punctuality@1 2013-03-10",
        "operations.flights@1 2013-03-10",
    ]
    (check,) = failed["checks"]
    assert (check["id"], check["verdict"], check["count"]) == ("distance.required", "FAIL", 1)
    (row,) = check["rows"]
    assert "flight_date=2013-03-10, carrier=B6, flight=727, origin=JFK" in row
    assert "distance=NULL" in row
    late = causes["weather.landing.weather", "2013-03-10T15Z"]
    assert late["because"] == "nothing landed"
    text = mesh.levada("why", "company.daily_punctuality", "2013-03-10").stdout
    assert "operations.flights@1" in text
    assert failed["owner"] in text


def test_a_second_run_finds_nothing_to_do(mesh: Workspace) -> None:
    before = mesh.publications(), snapshots(mesh)

    said = mesh.json("run", code=1)  # the broken day is still parked, and told

    assert said["published"] == []
    parked = [each for each in said["left"] if each["state"] == "FAILED"]
    assert [(p["product"], p["partition"]) for p in parked] == [
        ("operations.flights", "2013-03-10")
    ]
    assert (mesh.publications(), snapshots(mesh)) == before


def snapshots(mesh: Workspace) -> list[tuple[str, int]]:
    """The newest snapshot of every lake."""
    lakes = ("operations", "weather", "fleet", "company")
    with psycopg.connect(mesh.credentials.url(mesh.credentials.admin, "lake")) as connection:
        newest = "select max(snapshot_id) from {}.ducklake_snapshot"
        asked = [sql.SQL(newest).format(sql.Identifier(lake)) for lake in lakes]
        found = [connection.execute(each).fetchall() for each in asked]
    return [(lake, newest) for lake, ((newest,),) in zip(lakes, found, strict=True)]


def test_a_mended_file_and_a_late_hour_arrive_through_open_steps(mesh: Workspace) -> None:
    land_flights(DAY, mesh.landing)
    land_weather_hour(LATE, mesh.landing)
    plan = mesh.json("run", "--dry-run")
    assert any("changed since its audit failed" in step["because"] for step in plan)

    mesh.levada("run")

    found = states(mesh)
    assert set(found.values()) == {"READY"}
    assert not mesh.rows("select product from ledger.steps")
    opened = mesh.rows("select kind from ledger.entries where kind like %s", "%step%")
    assert opened, "the repair went through a step of the ledger"


def test_a_roll_up_reads_the_23_hours_of_the_short_day(mesh: Workspace) -> None:
    ((inputs,),) = mesh.rows(
        "select inputs from ledger.publications where table_name = 'company.daily_punctuality@1'"
        " and part like %s and newest",
        "%2013-03-10%",
    )
    hours = [i for i in inputs if "weather.observations" in str(i)]
    assert len(hours) == len(tuple(utc_hours(DAY))) == 23


def test_a_file_mended_after_publication_restates_exactly_what_was_made_of_it(
    mesh: Workspace,
) -> None:
    before = mesh.publications()
    (path,) = (mesh.landing / "flights").glob("2013-03-09*")
    break_row(path, "arr_delay", "777")  # another number, and a sound one

    mesh.levada("run")

    fresh = [line for line in mesh.publications() if line not in before]
    assert sorted(table for table, *_ in fresh) == [
        "company.daily_punctuality@1",
        "company.route_board@1",
        "fleet.utilisation@1",
        "operations.delays@1",
        "operations.flights@1",
    ]
    assert all("2013-03-09" in part for _, part, *_ in fresh)
    assert set(states(mesh).values()) == {"READY"}


def test_the_same_content_again_stops_there(mesh: Workspace) -> None:
    before = mesh.publications()
    (path,) = (mesh.landing / "weather").glob("2013-03-08T12Z*")
    path.write_text(path.read_text() + "\n")  # other bytes, the same rows

    mesh.levada("run")

    fresh = [line for line in mesh.publications() if line not in before]
    assert {table for table, *_ in fresh} <= {"weather.observations@1"}
    assert set(states(mesh).values()) == {"READY"}


def test_every_publication_has_its_snapshot_and_no_snapshot_lacks_one(mesh: Workspace) -> None:
    from levada.flow import platform as opening
    from levada.settings import read_settings

    lake = opening.warehouse(read_settings(mesh.root), mesh.credentials)
    runs = {run for *_, run, _ in mesh.publications()}
    for domain in ("operations", "weather", "fleet", "company"):
        assert {change.run for change in lake.changes(domain)} <= runs
    lake.close()


def test_the_projections_are_what_the_log_says(mesh: Workspace) -> None:
    assert "what the log says" in mesh.levada("ledger", "verify").stdout
