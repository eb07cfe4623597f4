"""A waiver over the real thing: granted by governance, tainted, expired, of another file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from merged import approvers, merge, repository, waiver
from source_system import break_row, land_span
from workspace import Workspace

from levada.ledger import PostgresLedger
from levada.terms import Approval, Span, TableRef, Waiver

pytestmark = pytest.mark.integration

DAY = "2013-03-08"
FLIGHTS = TableRef("operations", "flights")
SOON = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
ASKED = {
    "table": "operations.flights",
    "window": f"{{from: {DAY}, to: {DAY}}}",
    "expires": SOON,
    "reason": "the source sends no better",
    "owner": "joe",
    "approver": "ines",
}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One domain, one day with one broken row."""
    workspace = Workspace.make(
        tmp_path_factory.mktemp("waivers"), domains=["operations"], first=DAY, last=DAY
    )
    land_span(date.fromisoformat(DAY), date.fromisoformat(DAY), workspace.landing)
    break_row(workspace.landed("flights", DAY), "dep_delay", "late")
    approvers(
        workspace, "{username: ines, domains: [operations]}", "{username: max, domains: [all]}"
    )
    repository(workspace)
    workspace.start()
    workspace.levada("run", code=1)
    yield workspace
    workspace.stop()


def asked(mesh: Workspace, check: str, **said: str) -> Path:
    path = waiver(mesh, check, check=check, **{**ASKED, **said})
    merge(mesh)
    return path


def approve(mesh: Workspace, path: Path, *words: str, code: int = 0, by: str = "ines") -> Any:
    return mesh.levada("approve", str(path), "--reviewer", by, *words, code=code)


def failing(mesh: Workspace) -> list[str]:
    (cause,) = mesh.json("why", "operations.flights", DAY)["causes"]
    return [check["id"] for check in cause["checks"]]


def test_a_file_alone_grants_nothing(mesh: Workspace) -> None:
    for check in failing(mesh):
        asked(mesh, check)
    mesh.levada("run", code=1)
    assert mesh.json("why", "operations.flights", DAY)["state"] == "FAILED"
    assert {each["state"] for each in mesh.json("waiver", "list")} == {"requested"}


def test_what_is_wrong_in_a_file_is_told_all_at_once(mesh: Workspace) -> None:
    path = waiver(
        mesh,
        "wrong",
        table="operations.flight",
        check="'*'",
        window="{from: 2013-03-08}",
        **{"expire": "2099-01-01", "owner": "joe", "approver": "eve", "owner ": "x"},
    )
    said = approve(mesh, path, code=2).stderr.replace("\n", " ")
    for line in (
        "wrong.yaml:1: no published table is called 'operations.flight'",
        "wrong.yaml:3: the window has no ends",
        "wrong.yaml:4: unknown key 'expire'; did you mean 'expires'?",
        "wrong.yaml:7: 'owner' is said twice",
        "'reason' is missing",
        "'expires' is missing; a waiver without an end is a change of the contract",
    ):
        assert line in said
    path.unlink()
    for check in ("columns", "distance.required"):
        path = asked(mesh, check)
        assert "cannot be waived" in approve(mesh, path, code=2).stderr.replace("\n", " ")
        path.unlink()


def test_an_expired_waiver_is_not_granted(mesh: Workspace) -> None:
    path = asked(mesh, failing(mesh)[0], expires="2020-01-01")
    assert "expired" in approve(mesh, path, code=1).stdout
    path = asked(mesh, failing(mesh)[0], expires="2099-01-01")
    assert "90 days from now at most" in approve(mesh, path, code=2).stderr.replace("\n", " ")
    assert not mesh.rows("select 1 from ledger.waivers")


def test_whose_approval_does_not_count_is_told_why(mesh: Workspace) -> None:
    path = asked(mesh, failing(mesh)[0])
    for by, words, why in (
        ("joe", (), "joe wrote it"),
        ("eve", (), "eve is no approver"),
        ("max", (), "it asks ines, not max"),
        ("ines", ("--author", "ines"), "ines wrote it"),
        ("ines", ("--commit", "nowhere"), "no commit is called 'nowhere'"),
    ):
        assert why in approve(mesh, path, *words, code=2, by=by).stderr.replace("\n", " "), by
    path.write_text(path.read_text().replace("better", "more"))
    assert "as it is here" in approve(mesh, path, code=2).stderr.replace("\n", " ")
    assert not mesh.rows("select 1 from ledger.waivers")


def test_a_granted_waiver_lets_the_day_through_with_a_mark_on_its_line(mesh: Workspace) -> None:
    checks = failing(mesh)
    for check in checks:
        path = asked(mesh, check)
        assert "would be granted" in approve(mesh, path, "--dry-run").stdout
        assert "granted by ines" in approve(mesh, path).stdout
        assert "already" in approve(mesh, path).stdout
    waiting = mesh.json("why", "operations.flights", DAY)
    assert waiting["state"] == "WAITING"
    assert waiting["next"].startswith(SOON)
    (step, *_) = mesh.json("run", "--dry-run")
    assert step["because"].startswith("repair: waived since its audit failed")

    mesh.levada("run")

    said = mesh.json("why", "operations.flights", DAY)
    assert (said["state"], said["degraded"]) == ("READY", True)
    assert said["next"].startswith(SOON)
    ((taint, waived),) = mesh.rows(
        "select taint, waived from ledger.publications where table_name = 'operations.flights@1'"
    )
    assert len(taint) == len(waived) == len(checks)
    assert f"waived by ines until {SOON}" in taint[0]
    assert "(the source sends no better)" in taint[0]
    (listed, *_) = mesh.json("waiver", "list")
    assert (listed["state"], listed["approved_by"]) == ("live", "ines")
    assert {"table": str(FLIGHTS), "partition": DAY, "generation": 1} in listed["taints"]
    assert mesh.levada("waiver", "expiring", "--within", "7d").stdout.strip() == "none"
    assert len(mesh.json("waiver", "expiring", "--within", "40d", code=1)) == len(checks)
    mesh.levada("ledger", "verify")


@pytest.mark.prove
def test_a_swap_that_fails_is_an_attempt_that_says_why_and_leaves_no_intent(
    mesh: Workspace,
) -> None:
    before = mesh.publications()
    break_row(mesh.landed("flights", DAY), "distance", "far", row=2)
    mesh.levada("run", code=1)
    window = Span.days(DAY, DAY, "America/New_York")
    expires = datetime(2099, 1, 1, tzinfo=UTC)
    url = mesh.credentials.url("levada_governance", "levada")
    with closing(PostgresLedger(url)) as governance:  # past what `approve` would let through
        for check in failing(mesh):
            one = Waiver(FLIGHTS, check, window, expires, "on purpose", "", "h", approver="ines")
            governance.waive(one, Approval("ines", ("joe",)))

    said = mesh.json("run", code=1)

    assert "NOT NULL" in said["withheld"][-1]["because"]
    assert said["withheld"][-1]["verdict"] == "UNKNOWN"
    assert not mesh.rows("select 1 from ledger.intents")
    assert mesh.publications() == before
    mesh.levada("ledger", "verify")
