"""Batches, gates, canaries and rehearsals over the PostgreSQL warehouse: as over lakes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tiny import NUMBERS, contract, landed, mesh, model, project
from workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DAYS = ("2013-03-08", "2013-03-09", "2013-03-10")
SOURCE = "{{ source('landing', 'numbers') }}"
CAST = NUMBERS.replace("try_cast", "cast")
RULES = """\
batch: daily
grain: day
owner: governance
description: The shop sells what the store holds.
rules:
  - id: adds_up
    kind: totals
    description: The shop's amounts are the store's.
    severity: blocking
    guards: shop.numbers
    left: {table: store.numbers, by: [id], values: [amount]}
    right: {table: shop.numbers, by: [id], values: [amount]}
  - id: small
    kind: sql
    description: No amount is above a hundred.
    key: [id]
    query: select id, amount from shop.numbers where amount > 100
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A store and a shop in a PostgreSQL; on the second day one number differs."""
    workspace = mesh(tmp_path_factory.mktemp("postgres"), ["store", "shop"], last=DAYS[-1])
    settings = workspace.root / "levada.yaml"
    settings.write_text(settings.read_text() + "warehouse: {type: postgres}\n")
    for domain in ("store", "shop"):
        contract(workspace, domain, "numbers")
        project(workspace, domain, lands=True)
        model(workspace, domain, "numbers", f"select {CAST}\nfrom {SOURCE}")
        for day in DAYS[:2]:
            landed(workspace, domain, day, [1, 2, 200])
    landed(workspace, "shop", DAYS[1], [1, 3, 200])
    rules = workspace.root / "contracts" / "governance" / "consistency" / "daily.yaml"
    rules.parent.mkdir(parents=True)
    rules.write_text(RULES)
    workspace.start()
    yield workspace
    workspace.stop()


def test_a_gate_withholds_what_differs_and_lets_pass_what_agrees(shop: Workspace) -> None:
    said = shop.json("run", code=1)

    withheld = [(w["product"], w["partition"], w["verdict"]) for w in said["withheld"]]
    assert withheld == [("shop.numbers", DAYS[1], "FAIL")]
    assert said["withheld"][0]["because"].endswith("FAIL: daily.adds_up of shop.numbers@1")
    (check,) = shop.json("why", "shop.numbers", DAYS[1])["causes"][0]["checks"]
    assert '"amount store.numbers":"2","amount shop.numbers":"3"' in check["rows"][0]
    assert shop.json("why", "shop.numbers", DAYS[0])["state"] == "READY"


def test_a_batch_reports_what_is_published_there(shop: Workspace) -> None:
    said = shop.json("consistency", "run", code=1)

    first = {r["rule"]: r["verdict"] for r in said[0]["rules"]}
    assert first == {"adds_up": "PASS", "small": "FAIL"}
    assert {r["verdict"] for r in said[1]["rules"]} == {"UNKNOWN"}


def test_a_model_is_rehearsed_there_and_nothing_is_written(shop: Workspace) -> None:
    less = f"select {CAST}\nfrom {SOURCE}\nwhere cast(amount as integer) < 100"
    model(shop, "store", "numbers", less)
    before = shop.rows("select max(pos) from ledger.entries")

    said = shop.json("verify-write", "store.numbers", "--interval", DAYS[0])

    found = said["tables"]["store.numbers@1"]
    assert (found["added"], found["removed"], found["checksum"][:2]) == (0, 1, "6:")
    assert shop.rows("select max(pos) from ledger.entries") == before


def test_a_canary_serves_the_old_version_there_where_they_differ(shop: Workspace) -> None:
    shop.levada("canary", "start", "store.numbers", "--reason", "leave out what is absurd")
    landed(shop, "store", DAYS[2], [1, 2, 200])
    shop.json("run", "store")

    (interval,) = shop.json("canary", "status", "store.numbers")[0]["intervals"]
    assert (interval["equal"], interval["counts"]) == (False, True)
    assert interval["differences"]["store.numbers@1"]["only_old"] == 1
    ((content, run),) = shop.rows(
        "select content, run from ledger.publications"
        " where table_name = 'store.numbers@1' and part like %s",
        f"%{DAYS[2]}%",
    )
    assert (content.split(":")[0], run.endswith(".old")) == ("3", True)
