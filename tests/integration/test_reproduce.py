"""What was published is made again, on PostgreSQL too, and where its inputs are gone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import tiny
from workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DAY = "2013-03-08"
TODAY = f"{datetime.now(UTC):%Y-%m-%d}"
SUMS = "south.sums"
READS = "{{ ref('north', 'numbers') }}"
NUMBERS = tiny.NUMBERS.replace("try_cast", "cast")  # the words of both warehouses
LANDED = "{{ source('landing', 'numbers') }}"


@pytest.fixture(scope="module", params=["ducklake", "postgres"])
def mesh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Numbers and their sums, published once."""
    mesh = tiny.mesh(tmp_path_factory.mktemp(request.param) / "mesh", ("north", "south"))
    settings = mesh.root / "levada.yaml"
    settings.write_text(f"{settings.read_text()}warehouse: {{type: {request.param}}}\n")
    for domain, name in (("north", "numbers"), ("south", "sums")):
        tiny.project(mesh, domain, lands=True)
        tiny.contract(mesh, domain, name)
        tiny.landed(mesh, domain, DAY, [1, 2, 3])
    tiny.model(mesh, "north", "numbers", f"select {NUMBERS} from {LANDED}")
    summed(mesh, "amount")
    mesh.start()
    mesh.levada("run")
    yield mesh
    mesh.stop()


def summed(mesh: Workspace, amount: str) -> None:
    tiny.model(mesh, "south", "sums", f"select id, day, {amount} as amount from {READS}")
    mesh.levada("compile")


def made_again(mesh: Workspace, name: str) -> str:
    """The sums, by a backfill; its id."""
    path = mesh.root / f"{name}.json"
    mesh.levada("backfill", "plan", SUMS, "--reason", name, "--out", str(path))
    told = mesh.json("backfill", "run", str(path), "--local")
    assert told["steps"] == {"made": 1}
    return str(told["id"])


def content(mesh: Workspace) -> str:
    ((found,),) = mesh.rows(
        "select content from ledger.publications where newest and table_name = %s", f"{SUMS}@1"
    )
    return str(found)


def test_what_differs_is_shown_row_by_row_and_a_backfill_of_it_is_rolled_back(
    mesh: Workspace,
) -> None:
    assert mesh.json("reproduce", SUMS, DAY)["verdict"] == "identical"
    before = content(mesh)
    summed(mesh, "cast(random() * 1000000 as integer)")
    name = made_again(mesh, "dice")
    summed(mesh, "amount")
    found = mesh.json("reproduce", SUMS, DAY, code=1)
    assert found["verdict"] == "differs"
    (difference,) = found["differences"].values()
    assert difference["only_a"] + difference["only_b"] + difference["changed"] > 0
    assert "generation 2" in mesh.levada("reproduce", SUMS, DAY, code=1).stdout
    run = mesh.json("explain-run", SUMS, DAY)
    assert [line["code"] for line in run["lines"]] == ["kept, changed since"]
    (digest,) = {line["code_digest"] for line in run["lines"]}
    shown = mesh.levada("explain-run", SUMS, DAY).stdout
    assert digest[:16] in shown
    assert run["lines"][0]["variables"] == {}
    assert run["lines"][0]["inputs"][0]["table"] == "north.numbers@1"
    done = mesh.json("backfill", "rollback", name, "--reason", "dice")
    assert done["steps"] == {"restored": 1}
    assert content(mesh) == before


def test_what_differs_by_a_variable_of_now_is_not_told_to_differ(mesh: Workspace) -> None:
    """dbt reads the variables of the project as it lies there."""
    project = mesh.root / "models" / "south" / "dbt_project.yml"
    text, before = project.read_text(), content(mesh)
    project.write_text(f"{text}vars: {{more: 10, other: 1}}\n")
    summed(mesh, "amount + {{ var('more') }}")
    name = made_again(mesh, "more")
    assert content(mesh) != before
    assert mesh.json("reproduce", SUMS, DAY)["verdict"] == "identical"
    project.write_text(f"{text}vars: {{more: 11, other: 1}}\n")
    mesh.levada("compile")
    found = mesh.json("reproduce", SUMS, DAY, code=2)
    assert found["verdict"] == "unknown"
    assert "by other variables of dbt_project.yml: more" in found["because"]
    run = mesh.json("explain-run", SUMS, DAY)
    assert run["lines"][0]["variables"] == {"more": 10, "other": 1}
    assert "more: 10" in mesh.levada("explain-run", SUMS, DAY).stdout
    mesh.json("backfill", "rollback", name, "--reason", "more")
    project.write_text(text)
    summed(mesh, "amount")


def test_where_only_its_own_version_has_expired_it_is_compared_by_its_recorded_content(
    mesh: Workspace,
) -> None:
    mesh.expire("south")
    assert mesh.json("reproduce", SUMS, DAY, "--generation", "1")["verdict"] == "identical"
    found = mesh.json("reproduce", SUMS, DAY, "--generation", "2", code=1)
    assert (found["verdict"], found["differences"]) == ("differs", {})
    assert "3 rows then and 3 now, not shown: version" in found["because"]
    assert f"of south is no longer kept since {TODAY}" in found["because"]


def test_where_an_input_has_expired_it_says_on_which_day(mesh: Workspace) -> None:
    tiny.landed(mesh, "north", DAY, [1, 2, 4])
    mesh.levada("run")
    mesh.expire("north")
    found = mesh.json("reproduce", SUMS, DAY, "--generation", "1", code=2)
    assert (found["verdict"], found["expired_on"][:10]) == ("expired", TODAY)
    assert found["because"].startswith(f"expired on {TODAY} ")
    assert re.search(r": version \d+ of north is no longer kept since 20\d\d-", found["because"])
    said = mesh.levada("reproduce", SUMS, DAY, "--generation", "1", code=2).stdout
    assert f": expired on {TODAY} " in said


def test_where_a_landed_file_was_replaced_it_says_since_when_as_far_as_anybody_knows(
    mesh: Workspace,
) -> None:
    words = ("reproduce", "north.numbers", DAY)
    found = mesh.json(*words, "--generation", "1", code=2)
    assert (found["verdict"], found["expired_on"][:10]) == ("expired", TODAY)
    ((heard,),) = mesh.rows(
        "select min(at) from ledger.landings where generation = 2"
        " and table_name = 'north.landing.numbers'"
    )
    assert found["because"].startswith(f"expired on {heard:%Y-%m-%d %H:%M}Z: ")
    assert f"{DAY}.csv changed since it was pinned" in found["because"]
    assert "its step" not in found["because"], "nothing of it is open"
    assert mesh.json(*words)["verdict"] == "identical", "the file of now is the newest's"
    landed = mesh.landing / "north" / f"{DAY}.csv"
    landed.rename(mesh.root / "away.csv")
    found = mesh.json(*words, code=2)
    (mesh.root / "away.csv").rename(landed)
    assert (found["verdict"], found["expired_on"]) == ("expired", None)
    assert found["because"].startswith("expired, nobody recorded when: ")
    assert f"{DAY}.csv is gone" in found["because"]


def test_what_was_made_of_a_table_that_nobody_declares_any_more_cannot_be_told(
    mesh: Workspace,
) -> None:
    """The last one here: it takes a domain out of the mesh."""
    settings = mesh.root / "levada.yaml"
    settings.write_text(settings.read_text().replace("[north, south]", "[south]"))
    for kind in ("contracts", "models"):
        shutil.rmtree(mesh.root / kind / "north")
    tiny.model(mesh, "south", "sums", f"select {NUMBERS} from {LANDED}")
    mesh.levada("compile")
    found = mesh.json("reproduce", SUMS, DAY, "--generation", "1", code=2)
    assert found["verdict"] == "unknown"
    assert found["because"] == "an input is no longer declared: north.numbers@1"
