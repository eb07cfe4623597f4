"""A mesh whose numbers land in an object store, by the real command, on both warehouses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus
from typing import Any

import pytest
import store as stores
import tiny
from store import SECRET, Store
from workspace import Workspace

from levada.flow import platform
from levada.settings import read_settings
from levada.terms import TableRef

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DAYS = ("2013-03-08", "2013-03-09")
ZONE = "s3://bucket/in"
TABLES = ("numbers", "doubled")


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with stores.serve() as serving:
        yield serving


@pytest.fixture(scope="module", params=["ducklake", "postgres"])
def mesh(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, store: Store
) -> Iterator[Workspace]:
    """Two products of one source."""
    made = tiny.mesh(tmp_path_factory.mktemp(request.param) / "mesh", ["north"], last=DAYS[1])
    settings = made.root / "levada.yaml"
    said = settings.read_text().replace("numbers: landing", f"numbers: {ZONE}")
    settings.write_text(f"{said}warehouse: {{type: {request.param}}}\n")
    store.objects.clear()
    store.requests.clear()
    tiny.project(made, "north", lands=True)
    for name in TABLES:
        tiny.contract(made, "north", name)
        # A domain's code that looks for the platform's credentials finds none.
        seen = "{{ env_var('AWS_SECRET_ACCESS_KEY', '') }}"
        tiny.model(
            *(made, "north", name),
            f"select {tiny.CASTS}\nfrom {{{{ source('landing', 'numbers') }}}}\n"
            f"where '{seen}' = ''",
        )
    made.start()
    try:
        yield made
    finally:
        made.stop()


def land(store: Store, day: str, *amounts: int) -> None:
    rows = [f"{n},{day},{amount}" for n, amount in enumerate(amounts)]
    content = "\n".join([",".join(tiny.COLUMNS), *rows, ""])
    store.objects[f"/bucket/in/north/{day}.csv"] = content.encode()


def said(mesh: Workspace, store: Store, *words: str, code: int = 0) -> Any:
    done = mesh.begin(*words, "--json", number=0, point="", **store.environment).wait()
    assert done.returncode == code, done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    return json.loads(done.stdout)


def rows(mesh: Workspace, table: str) -> list[tuple[str, int]]:
    """What is published: days and amounts."""
    settings = read_settings(mesh.root)
    with closing(platform.warehouse(settings, mesh.credentials)) as warehouse:
        place = warehouse.place(TableRef.parse(table))
        found = warehouse.read(f"select day, amount from {place} order by day, id")
    return [(str(row["day"]), int(str(row["amount"]))) for row in found]


def run(mesh: Workspace, store: Store) -> set[tuple[str, str, int]]:
    """What a run of the real command published: table, day, generation."""
    lines = said(mesh, store, "run")["published"]
    return {(line["table"], line["partition"], line["generation"]) for line in lines}


def test_an_object_becomes_a_published_line_and_is_asked_for_once(
    mesh: Workspace, store: Store
) -> None:
    land(store, DAYS[0], 10, 20)

    published = run(mesh, store)

    assert published == {(f"north.{name}@1", DAYS[0], 1) for name in TABLES}
    assert store.asked("HEAD") == [f"/bucket/in/north/{day}.csv" for day in DAYS]
    assert store.asked("GET") == [f"/bucket/in/north/{DAYS[0]}.csv"]
    why = mesh.begin("why", "north.numbers", DAYS[1]).wait().stdout
    assert f"the platform asks for {ZONE}/north/{DAYS[1]}.csv" in why
    for name in TABLES:
        assert rows(mesh, f"north.{name}@1") == [(DAYS[0], 10), (DAYS[0], 20)]
    stored = mesh.rows("select path from ledger.landings")
    assert stored == [(f"{ZONE}/north/{DAYS[0]}.csv",)]


def test_it_is_restated_never_guessed_and_made_again(mesh: Workspace, store: Store) -> None:
    land(store, DAYS[0], 10, 20)
    run(mesh, store)

    # The store is away: nobody fails, nothing is guessed, and why says so.
    store.broken = HTTPStatus.SERVICE_UNAVAILABLE
    land(store, DAYS[1], 30)
    assert run(mesh, store) == set()
    (cause,) = mesh.json("why", "north.numbers", DAYS[1])["causes"]
    assert cause["because"].startswith("could not be asked since ")
    assert cause["because"].endswith(f"{ZONE}: 503 Service Unavailable")
    assert mesh.json("why", "north.numbers", DAYS[0])["state"] == "READY"
    mesh.levada("status")
    mesh.levada("doctor", code=None)

    # It is back, and one object was replaced meanwhile.
    store.broken = None
    land(store, DAYS[0], 11, 20)
    lines = {(day, n) for _, day, n in run(mesh, store)}
    assert lines == {(DAYS[0], 2), (DAYS[1], 1)}
    assert run(mesh, store) == set()
    for name in TABLES:
        assert rows(mesh, f"north.{name}@1") == [(DAYS[0], 11), (DAYS[0], 20), (DAYS[1], 30)]

    # What was replaced is made again of its copy; without it, it has expired.
    again = ("reproduce", "north.numbers", DAYS[0], "--generation", "1")
    assert said(mesh, store, *again)["verdict"] == "identical"
    shutil.rmtree(mesh.root / ".levada/objects")
    gone = said(mesh, store, *again, code=2)
    assert gone["verdict"] == "expired"
    assert f"{ZONE}/north/{DAYS[0]}.csv changed since it was pinned" in gone["because"]
    newest = ("reproduce", "north.numbers", DAYS[0])
    assert said(mesh, store, *newest)["verdict"] == "identical"
    store.objects.clear()
    assert run(mesh, store) == set(), "what is gone is no news"
