"""A batch reads what is there: a lake that is absent stops no report of what does not need it."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from tiny import NUMBERS, contract, landed, mesh, model, project
from workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DAY = "2013-03-08"
HEAD = "batch: {}\ngrain: day\nowner: governance\ndescription: Amounts are small.\nrules:\n"
SMALL = """\
  - id: {}
    kind: sql
    description: No amount is above the limit.
    key: [id]
    query: select id, amount from store.numbers where amount > {}
"""
ALIKE = """\
  - id: alike
    kind: keys
    description: The depot holds what the store holds.
    left: {table: store.numbers, key: [id]}
    right: {table: depot.numbers, key: [id]}
"""


def declare(workspace: Workspace, batch: str, *rules: str) -> None:
    path = workspace.root / f"contracts/governance/consistency/{batch}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD.format(batch) + "".join(rules))


def add(workspace: Workspace, domain: str) -> None:
    contract(workspace, domain, "numbers")
    project(workspace, domain, lands=True)
    source = "{{ source('landing', 'numbers') }}"
    model(workspace, domain, "numbers", f"select {NUMBERS}\nfrom {source}")
    landed(workspace, domain, DAY, [1000] * 30)


def verdicts(workspace: Workspace, batch: str, code: int | None) -> dict[str, str]:
    (said,) = workspace.json("consistency", "run", batch, code=code)
    return {each["rule"]: each["verdict"] for each in said["rules"]}


def test_what_cannot_be_asked_is_no_witness_and_stops_nobody(tmp_path: Path) -> None:
    store = mesh(tmp_path, ["store"], last=DAY)
    add(store, "store")
    declare(store, "daily", SMALL.format("small", 5000), SMALL.format("tiny", 5000))
    store.start()
    try:
        store.levada("run")
        assert verdicts(store, "daily", 0) == {"small": "PASS", "tiny": "PASS"}

        # A domain that has never run: it has no lake.
        add(store, "depot")
        settings = store.root / "levada.yaml"
        settings.write_text(settings.read_text().replace("[store]", "[store, depot]"))
        declare(store, "other", SMALL.format("huge", 500), ALIKE)
        store.levada("compile")
        assert verdicts(store, "other", 1) == {"huge": "FAIL", "alike": "UNKNOWN"}
        declare(store, "daily", SMALL.format("small", 100), SMALL.format("tiny", 5000))
        assert verdicts(store, "daily", 1) == {"small": "FAIL", "tiny": "PASS"}, "huge agrees"

        # Its lake is lost: the batch that needs it cannot testify, the other one is reported.
        store.levada("run", "depot")
        with psycopg.connect(store.credentials.url(store.credentials.admin, "lake")) as admin:
            admin.execute("alter schema depot rename to elsewhere")
        declare(store, "daily", SMALL.format("small", 100), SMALL.format("tiny", 50))
        muted = verdicts(store, "daily", None)
        assert muted == {"small": "UNKNOWN", "tiny": "UNKNOWN"}, "nobody agrees with either"
    finally:
        store.stop()
