"""
The reference mesh on DuckLake and on PostgreSQL: the same models and contracts, the same landed
files, and so the same rows, contents and verdicts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import date
from typing import Any

import psycopg
import pytest
from source_system import break_row, land_span
from workspace import Workspace

from levada.errors import ToolError
from levada.flow import platform
from levada.settings import read_settings
from levada.terms import TableRef

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DOMAINS = ("operations", "weather", "fleet")
FIRST, LAST = date(2013, 3, 9), date(2013, 3, 10)  # the second day has 23 hours
TABLES = (
    "operations.flights",
    "operations.delays",
    "weather.observations",
    "fleet.planes",
    "fleet.airlines",
    "fleet.airports",
    "fleet.utilisation",
)


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Workspace]]:
    """The base layers, run over two days on each; one flight of the first day is broken."""
    made: dict[str, Workspace] = {}
    try:
        for kind in ("ducklake", "postgres"):
            mesh = made[kind] = Workspace.make(
                tmp_path_factory.mktemp(kind),
                domains=DOMAINS,
                first=str(FIRST),
                last=str(LAST),
                warehouse=kind,
            )
            land_span(FIRST, LAST, mesh.landing)
            break_row(mesh.landed("flights", str(FIRST)), "distance", "far")
            mesh.start()
            said = mesh.json("run", code=1)
            assert [(w["product"], w["verdict"]) for w in said["withheld"]] == [
                ("operations.flights", "FAIL")
            ], said
        yield made
    finally:
        for mesh in made.values():
            mesh.stop()


def rows(mesh: Workspace, table: str) -> list[tuple[Any, ...]]:
    settings = read_settings(mesh.root)
    with closing(platform.warehouse(settings, mesh.credentials)) as warehouse:
        found = warehouse.read(f"select * from {warehouse.place(TableRef.parse(table))}")
    return sorted((tuple(row.items()) for row in found), key=repr)


@pytest.mark.parametrize("table", TABLES)
def test_published_rows_are_equal(meshes: Mapping[str, Workspace], table: str) -> None:
    lake, other = (rows(mesh, table) for mesh in meshes.values())
    assert lake
    assert lake == other


def test_contents_verdicts_and_warnings_are_equal(meshes: Mapping[str, Workspace]) -> None:
    lake, other = (
        mesh.rows(
            "select table_name, part, generation, content, verdict, warnings"
            " from ledger.publications order by 1, 2, 3"
        )
        for mesh in meshes.values()
    )
    assert len(lake) > 50
    assert lake == other


def test_a_broken_day_fails_by_the_same_checks_with_the_same_rows(
    meshes: Mapping[str, Workspace],
) -> None:
    told = []
    for mesh in meshes.values():
        said = mesh.json("why", "operations.delays", str(FIRST))
        causes = [c for c in said["causes"] if c["state"] == "FAILED"]
        told.append([(c["table"], c["checks"]) for c in causes])
    assert told[0]
    assert told[0] == told[1]


def test_a_mended_file_goes_through_and_nothing_is_left_to_do(
    meshes: Mapping[str, Workspace],
) -> None:
    mesh = meshes["postgres"]
    path = mesh.landed("flights", str(FIRST))
    path.unlink()
    land_span(FIRST, FIRST, mesh.landing)
    mesh.levada("run")
    before = mesh.publications()
    mesh.levada("run")
    assert mesh.publications() == before
    assert {(FIRST,), (LAST,)} == set(days(mesh))
    found = {f["name"]: f for f in mesh.json("doctor", "--no-verify", code=None)}
    assert found["warehouse"]["health"] == "ok", found["warehouse"]


def days(mesh: Workspace) -> list[tuple[Any, ...]]:
    url = mesh.credentials.url("levada_domain_fleet", "warehouse")
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select distinct flight_date from operations.delays_v1"
        ).fetchall()


def test_data_changed_by_hand_is_held(meshes: Mapping[str, Workspace]) -> None:
    mesh = meshes["postgres"]
    url = mesh.credentials.url("levada_publisher", "warehouse")
    with psycopg.connect(url) as connection:
        connection.execute("delete from \"operations$rows\".delays_v1 where dest = 'ORD'")
    mesh.levada("run", code=None)
    found = {(r["product"], r["partition"]): r["state"] for r in mesh.json("status")}
    assert found["operations.delays", str(LAST)] == "HELD", found


def test_nothing_is_staged_any_more(meshes: Mapping[str, Workspace]) -> None:
    url = meshes["postgres"].credentials.url("levada_runner", "warehouse")
    with psycopg.connect(url) as connection:
        left = connection.execute("select nspname from pg_namespace where nspname like 'run$%'")
        assert left.fetchall() == []


def test_a_lake_is_not_looked_for_where_none_is(meshes: Mapping[str, Workspace]) -> None:
    assert not (meshes["postgres"].root / ".levada" / "lake").exists()
    settings = read_settings(meshes["postgres"].root)
    with (
        closing(platform.warehouse(settings, meshes["postgres"].credentials)) as warehouse,
        pytest.raises(ToolError, match="levada up"),
    ):
        warehouse.create("nobody")
