"""
A gate that is waived, over the real thing: withheld, asked for, let through, marked, held again.

The shop must sell what the store holds, and a board reads the shop. The tests are one story.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import tiny
from merged import approvers, merge, repository, waiver
from workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DAY = "2013-03-08"
SOON = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
RULES = """\
batch: daily
grain: day
owner: governance
description: The shop sells what the store holds.
rules:
  - id: adds_up
    kind: totals
    severity: blocking
    guards: shop.numbers
    description: The shop's amounts are the store's.
    owner: kim
    left: {table: store.numbers, by: [id], values: [amount]}
    right: {table: shop.numbers, by: [id], values: [amount]}
"""
ASKED = {
    "table": "shop.numbers",
    "check": "daily.adds_up",
    "window": f"{{from: {DAY}, to: {DAY}}}",
    "expires": SOON,
    "reason": "the store counts again next week",
    "owner": "joe",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """The store and the shop differ by one amount."""
    workspace = tiny.mesh(tmp_path_factory.mktemp("gates"), ["store", "shop", "board"], last=DAY)
    source = f"select {tiny.NUMBERS} from {{{{ source('landing', 'numbers') }}}}"
    for domain, amounts in (("store", [1, 2]), ("shop", [1, 3])):
        tiny.project(workspace, domain, lands=True)
        tiny.contract(workspace, domain, "numbers")
        tiny.model(workspace, domain, "numbers", source)
        tiny.landed(workspace, domain, DAY, amounts)
    tiny.project(workspace, "board")
    tiny.contract(workspace, "board", "tops")
    reads = "select id, day, amount from {{ ref('shop', 'numbers') }}"
    tiny.model(workspace, "board", "tops", reads)
    rules = workspace.root / "contracts" / "governance" / "consistency" / "daily.yaml"
    rules.parent.mkdir(parents=True)
    rules.write_text(RULES)
    approvers(workspace, "{username: ines, domains: [shop]}", "{username: kim, domains: [shop]}")
    repository(workspace)
    workspace.start()
    yield workspace
    workspace.stop()


def test_a_waiver_of_a_gate_lets_the_very_interval_through_with_its_mark(shop: Workspace) -> None:
    (withheld,) = shop.json("run", code=1)["withheld"]
    assert withheld["because"].endswith("FAIL: daily.adds_up of shop.numbers@1")

    waiver(shop, "short", **ASKED, approver="kim")
    assert "kim answers for it himself" in shop.levada("check", code=2).stderr.replace("\n", " ")
    path = str(waiver(shop, "short", **ASKED, approver="ines"))
    shop.levada("check")
    merge(shop)
    assert "FAILED" in shop.levada("why", "shop.numbers", DAY).stdout
    shop.levada("approve", path, "--reviewer", "ines")
    shop.levada("run")

    why = shop.json("why", "shop.numbers", DAY)
    assert (why["state"], why["degraded"]) == ("READY", True)
    assert [(g["rule"], g["verdict"]) for g in why["gates"]] == [("daily.adds_up", "FAIL")]
    ((waived,),) = shop.rows("select waived from ledger.publications where product = 'board.tops'")
    assert [mark[::2] for mark in waived] == [["shop.numbers@1", "daily.adds_up"]]
    (line,) = shop.json("explain-run", "shop.numbers", DAY)["lines"]
    assert line["gates"] == why["gates"]
    assert "(the store counts again next week)" in line["taint"][0]
    said = shop.levada("explain-run", "shop.numbers", DAY).stdout
    assert f"gate        daily.adds_up ({why['gates'][0]['definition']}) FAIL" in said
    shop.levada("ledger", "verify")


def test_once_it_is_revoked_whoever_reads_it_is_held(shop: Workspace) -> None:
    (listed,) = shop.json("waiver", "list")
    assert (listed["state"], listed["check"]) == ("live", "daily.adds_up")
    shop.levada("waiver", "revoke", listed["hash"][:12], "--reason", "counted again")

    held = {each["product"] for each in shop.json("run")["left"] if each["state"] == "HELD"}

    assert held == {"shop.numbers", "board.tops"}


def test_a_gate_that_passes_is_written_with_its_definition_and_marks_nothing(
    shop: Workspace,
) -> None:
    tiny.landed(shop, "store", DAY, [1, 3])
    shop.levada("run")

    why = shop.json("why", "shop.numbers", DAY)

    assert (why["state"], why["degraded"]) == ("READY", False)
    assert [(g["rule"], g["verdict"]) for g in why["gates"]] == [("daily.adds_up", "PASS")]
    assert shop.json("why", "board.tops", DAY)["state"] == "READY"
