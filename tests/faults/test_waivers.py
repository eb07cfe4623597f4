"""A waiver over the real thing: granted by governance, tainted, expired, of another file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from source_system import break_row, land_span
from workspace import Workspace

from levada.ledger import PostgresLedger
from levada.terms import Span, TableRef, Waiver

pytestmark = pytest.mark.integration

DAY = "2013-03-08"
FLIGHTS = TableRef("operations", "flights")
WAIVER = """\
table: operations.flights
check: {check}
window: {{from: 2013-03-08, to: 2013-03-08}}
expires: {expires}
reason: the source sends no better
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One domain, one day with one broken row."""
    workspace = Workspace.make(
        tmp_path_factory.mktemp("waivers"), domains=["operations"], first=DAY, last=DAY
    )
    land_span(date.fromisoformat(DAY), date.fromisoformat(DAY), workspace.landing)
    break_row(workspace.landed("flights", DAY), "dep_delay", "late")
    workspace.start()
    workspace.levada("run", code=1)
    yield workspace
    workspace.stop()


def asked(mesh: Workspace, check: str, expires: str = "2099-01-01") -> Path:
    path = mesh.root / "contracts" / "governance" / "waivers" / f"{check}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(WAIVER.format(check=check, expires=expires))
    return path


def failing(mesh: Workspace) -> list[str]:
    (cause,) = mesh.json("why", "operations.flights", DAY)["causes"]
    return [check["id"] for check in cause["checks"]]


def test_a_file_alone_grants_nothing(mesh: Workspace) -> None:
    for check in failing(mesh):
        asked(mesh, check)
    mesh.levada("run", code=1)
    assert mesh.json("why", "operations.flights", DAY)["state"] == "FAILED"


def test_what_is_wrong_in_a_file_is_told_all_at_once(mesh: Workspace) -> None:
    path = mesh.root / "wrong.yaml"
    path.write_text(
        "table: operations.flight\ncheck: x\nwindow: {from: 2013-03-08}\nexpire: 2099-01-01\n"
    )
    said = mesh.levada("approve", str(path), code=2).stderr
    for line in (
        "wrong.yaml:1: no published table is called 'operations.flight'",
        "wrong.yaml:3: the window has no ends",
        "wrong.yaml:4: unknown key 'expire'; did you mean 'expires'?",
        "'reason' is missing",
    ):
        assert line in said.replace("\n", " ") or line in said
    for check in ("columns", "distance.required"):
        said = mesh.levada("approve", str(asked(mesh, check)), code=2).stderr
        assert "cannot be waived" in said.replace("\n", " ")


def test_an_expired_waiver_is_not_granted(mesh: Workspace) -> None:
    path = asked(mesh, failing(mesh)[0], expires="2020-01-01")
    assert "expired" in mesh.levada("approve", str(path), code=1).stdout
    assert not mesh.rows("select 1 from ledger.waivers")


def test_a_granted_waiver_lets_the_day_through_with_a_mark_on_its_line(mesh: Workspace) -> None:
    checks = failing(mesh)
    for check in checks:
        assert (
            "would be granted"
            in mesh.levada("approve", str(asked(mesh, check)), "--dry-run").stdout
        )
        assert "granted" in mesh.levada("approve", str(asked(mesh, check))).stdout
        assert "already" in mesh.levada("approve", str(asked(mesh, check))).stdout
    waiting = mesh.json("why", "operations.flights", DAY)
    assert waiting["state"] == "WAITING"
    assert waiting["next"].startswith("2099-01-01")
    (step, *_) = mesh.json("run", "--dry-run")
    assert step["because"].startswith("repair: waived since its audit failed")

    mesh.levada("run")

    said = mesh.json("why", "operations.flights", DAY)
    assert (said["state"], said["degraded"]) == ("READY", True)
    ((taint,),) = mesh.rows(
        "select taint from ledger.publications where table_name = 'operations.flights@1'"
    )
    assert len(taint) == len(checks)
    assert "waived by levada_governance until 2099-01-01 (the source sends no better)" in taint[0]
    mesh.levada("ledger", "verify")


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
            governance.waive(Waiver(FLIGHTS, check, window, expires, "on purpose", "", "h"))

    said = mesh.json("run", code=1)

    assert "NOT NULL" in said["withheld"][-1]["because"]
    assert said["withheld"][-1]["verdict"] == "UNKNOWN"
    assert not mesh.rows("select 1 from ledger.intents")
    assert mesh.publications() == before
    mesh.levada("ledger", "verify")
