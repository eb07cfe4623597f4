"""
From a failing check to a held consumer, over the real thing.

Three domains read one another: north lands numbers, south reads them, east reads south. The tests
are one story, each from where the last one left the mesh.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import tiny
from merged import approvers, merge, repository, waiver
from workspace import Workspace

from levada import compiled
from levada.intervals import parse
from levada.ledger import PostgresLedger
from levada.readiness import judge_inputs
from levada.sense import products_to_read, tables_to_read
from levada.settings import read_settings
from levada.terms import Grain, State

pytestmark = pytest.mark.integration

FIRST, NEXT = "2013-03-08", "2013-03-09"
SOON = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
ASKED = {
    "table": "north.numbers",
    "check": "enough_rows",
    "window": f"{{from: {FIRST}, to: {NEXT}}}",
    "expires": SOON,
    "reason": "the source is short of rows",
    "owner": "joe",
    "approver": "ines",
}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    names = ("north", "south", "east")
    workspace = tiny.mesh(tmp_path_factory.mktemp("waived"), names, last=NEXT)
    tiny.project(workspace, "north", lands=True)
    enough = "{id: enough_rows, metric: rowCount, mustBeGreaterThan: 2}"
    tiny.contract(workspace, "north", "numbers", quality=enough)
    tiny.model(workspace, "north", "numbers", SOURCE)
    for domain, table, reads in (
        ("south", "sums", "ref('north', 'numbers')"),
        ("east", "tops", "ref('south', 'sums')"),
    ):
        tiny.project(workspace, domain)
        tiny.contract(workspace, domain, table)
        tiny.model(workspace, domain, table, f"select id, day, amount from {{{{ {reads} }}}}")
    for day in (FIRST, NEXT):
        tiny.landed(workspace, "north", day, [1])
    people = ("{username: ines, domains: [north]}", "{username: max, domains: [south]}")
    approvers(workspace, *people)
    repository(workspace)
    workspace.start()
    yield workspace
    workspace.stop()


SOURCE = f"select {tiny.NUMBERS} from {{{{ source('landing', 'numbers') }}}}"


def published(mesh: Workspace) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for table, part in mesh.rows(
        "select table_name, substr(split_part(part, '|', 2), 1, 10) from ledger.publications"
        " where newest order by 1, 2"
    ):
        found.setdefault(table, []).append(part)
    return found


def left(said: Any) -> dict[tuple[str, str], str]:
    return {
        (each["product"], each["partition"]): each["because"]
        for each in said["left"]
        if each["state"] == "HELD"
    }


def test_a_request_that_nobody_approved_withholds(mesh: Workspace) -> None:
    waiver(mesh, "short", **ASKED)
    merge(mesh)
    said = mesh.json("run", code=1)
    assert len(said["withheld"]) == 2
    assert published(mesh) == {}


def test_the_wrong_one_is_refused_and_the_right_one_lets_it_through(mesh: Workspace) -> None:
    path = str(mesh.root / "contracts/governance/waivers/short.yaml")
    assert "max may not" in mesh.levada("approve", path, "--reviewer", "max", code=2).stderr
    assert "wrote it" in mesh.levada("approve", path, "--reviewer", "joe", code=2).stderr
    mesh.levada("approve", path, "--reviewer", "ines")
    mesh.levada("run", "north")
    mesh.levada("run", "south", "--to", FIRST)
    assert published(mesh) == {"north.numbers@1": [FIRST, NEXT], "south.sums@1": [FIRST]}
    said = mesh.json("why", "south.sums", FIRST)
    assert (said["state"], said["degraded"]) == ("READY", True)
    assert f"made from waived: enough_rows of north.numbers@1 {FIRST}" in said["because"]
    assert said["next"].startswith(SOON)
    assert any("waived by ines" in mark["mark"] for mark in said["marks"])
    ((waived,),) = mesh.rows("select waived from ledger.publications where product = 'south.sums'")
    assert [mark[::2] for mark in waived] == [["north.numbers@1", "enough_rows"]]
    board = {(row["product"], row["partition"]): row for row in mesh.json("status")}
    assert any("waived: enough_rows" in m for m in board["south.sums", FIRST]["marks"])
    drawn = mesh.levada("status").stdout
    assert "◐ marked" in drawn
    assert f"south.sums: south.sums@1 {FIRST}: " in drawn
    assert f"waived: enough_rows of north.numbers@1 {FIRST}" in drawn.replace("\n", " ")


def test_a_consumer_that_has_not_fired_is_held_once_it_has_expired(mesh: Workspace) -> None:
    declared = compiled.load(read_settings(mesh.root))
    product, day = declared.product("south.sums"), parse(Grain.DAY, NEXT, "UTC")
    with closing(PostgresLedger(mesh.credentials.url("levada_runner", "levada"))) as ledger:
        facts = ledger.facts(
            tables_to_read(declared, [product]), products_to_read(declared, [product])
        )
    until = datetime.fromisoformat(f"{SOON}T00:00Z")
    before = judge_inputs(declared, product, day, facts, until - timedelta(seconds=1))
    after = judge_inputs(declared, product, day, facts, until)
    assert (before.state, before.next) == (State.READY, until)
    assert after.state is State.HELD
    assert (
        f"waiver expired at {SOON} 00:00Z: enough_rows of north.numbers@1 {NEXT}" in after.because
    )


def test_a_waiver_that_ended_holds_all_that_is_below_and_takes_nothing_back(
    mesh: Workspace,
) -> None:
    (listed,) = mesh.json("waiver", "list")
    before = published(mesh)
    mesh.levada("waiver", "revoke", listed["hash"][:12], "--reason", "mended at the source")
    said = mesh.json("run")
    held = left(said)
    assert set(held) == {
        ("north.numbers", FIRST),
        ("north.numbers", NEXT),
        ("south.sums", FIRST),
        ("south.sums", NEXT),
        ("east.tops", FIRST),
    }
    assert all("waiver was revoked at" in because for because in held.values())
    assert published(mesh) == before
    with mesh.lake() as lake:
        assert lake.changes("north")[-1].tables, "what is published can still be read"
    why = mesh.json("why", "south.sums", NEXT)
    assert why["state"] == "HELD"
    assert [cause["table"] for cause in why["causes"]] == ["north.numbers@1"]
    board = {
        (row["product"], row["partition"]): row["state"] for row in mesh.json("status", "south")
    }
    assert set(board.values()) == {"HELD"}
    path = str(mesh.root / "contracts/governance/waivers/short.yaml")
    again = mesh.levada("approve", path, "--reviewer", "ines", code=2).stderr
    assert "was revoked on" in again.replace("\n", " ")


def test_a_waiver_for_one_consumer_lets_only_that_one_start(mesh: Workspace) -> None:
    path = waiver(mesh, "short", **ASKED, consumers="[south.sums]")
    merge(mesh)
    mesh.levada("approve", str(path), "--reviewer", "ines")
    held = left(mesh.json("run"))
    assert published(mesh)["south.sums@1"] == [FIRST, NEXT]
    assert "waived for south.sums only" in held["east.tops", FIRST]
    assert "east.tops@1" not in published(mesh)
    mesh.levada("ledger", "verify")


@pytest.mark.prove
def test_data_that_is_mended_needs_no_waiver_and_frees_all(mesh: Workspace) -> None:
    for day in (FIRST, NEXT):
        tiny.landed(mesh, "north", day, [1, 2, 3])
    assert not left(mesh.json("run"))
    assert published(mesh)["east.tops@1"] == [FIRST, NEXT]
    assert not mesh.rows("select 1 from ledger.publications where newest and waived <> '[]'")
    mesh.levada("ledger", "verify")


@pytest.mark.prove
def test_a_contract_that_breaks_is_published_once_its_reviewer_has_approved_it(
    mesh: Workspace,
) -> None:
    path = mesh.root / "contracts" / "south" / "sums.v1.odcs.yaml"
    text = path.read_text().replace("version: 1.0.0", "version: 1.1.0")
    path.write_text(text.replace("mustBeGreaterThan: 0", "mustBeGreaterOrEqualTo: 0"))
    merge(mesh)
    tiny.landed(mesh, "north", NEXT, [1, 2, 3, 4])
    (withheld,) = mesh.json("run", "--from", NEXT, code=1)["withheld"]
    assert "breaks south.sums 1.0.0" in withheld["because"]
    assert "levada approve contracts/south/sums.v1.odcs.yaml" in withheld["because"]

    words = ("approve", str(path), "--reason", "nobody reads it yet", "--reviewer")
    assert "is no approver" in mesh.levada(*words, "joe", code=2).stderr
    assert "approved by max" in mesh.levada(*words, "max").stdout
    assert "approved already" in mesh.levada(*words, "max").stdout
    time.sleep(6)  # its back-off
    mesh.levada("run")
    ((contract,),) = mesh.rows(
        "select contract from ledger.keepings where table_name = 'south.sums@1'"
    )
    assert contract.startswith("south.sums 1.1.0 ")
    mesh.levada("ledger", "verify")
