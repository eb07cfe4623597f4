"""A published table that was changed by hand: the lake's own record gives it away."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import yaml
from source_system import break_row, land_span
from workspace import Workspace, by_hand

from levada.terms import TableRef

pytestmark = pytest.mark.integration

DAY = "2013-03-08"
FLIGHTS = TableRef("operations", "flights", 1)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One domain, one published day."""
    workspace = Workspace.make(
        tmp_path_factory.mktemp("tampering"), domains=["operations"], first=DAY, last=DAY
    )
    land_span(date(2013, 3, 8), date(2013, 3, 8), workspace.landing)
    workspace.start()
    workspace.levada("run")
    yield workspace
    workspace.stop()


def known(mesh: Workspace) -> set[str]:
    return {run for *_, run, _ in mesh.publications()}


def test_what_levada_published_is_accounted_for(mesh: Workspace) -> None:
    with mesh.lake() as lake:
        assert lake.unaccounted("operations", known(mesh)) == ()


def test_a_change_without_a_publication_id_is_reported_with_table_and_version(
    mesh: Workspace,
) -> None:
    with mesh.lake() as lake:
        newest = max(lake.heads("operations").values(), key=int)
        by_hand(
            lake,
            "operations",
            "update operations.main.flights_v1 set dep_delay = 0 where source_line = 2",
        )

        (change,) = lake.unaccounted("operations", known(mesh))

        assert (change.domain, change.tables, change.run) == ("operations", (FLIGHTS,), None)
        assert int(change.version) > int(newest)
        assert lake.unaccounted("operations", known(mesh), after=change.version) == ()


def test_a_change_under_a_name_that_no_publication_has_is_reported(mesh: Workspace) -> None:
    forged = json.dumps({"run": "run-of-nobody"})
    with mesh.lake() as lake:
        newest = max(lake.heads("operations").values(), key=int)
        by_hand(
            lake,
            "operations",
            "delete from operations.main.flights_v1 where source_line = 3",
            "call ducklake_set_commit_message('operations', 'levada', 'publish',"
            f" extra_info => '{forged}')",
        )

        (change,) = lake.unaccounted("operations", known(mesh), after=newest)

    assert (change.tables, change.run) == ((FLIGHTS,), "run-of-nobody")


def test_a_changed_table_is_held_until_somebody_releases_it_with_a_reason(mesh: Workspace) -> None:
    published = datetime.now(UTC)
    with mesh.lake() as lake:
        by_hand(
            lake,
            "operations",
            "update operations.main.flights_v1 set dep_delay = 1 where source_line = 4",
        )
    mesh.levada("run")

    said = mesh.json("why", "operations.flights", DAY)
    assert said["state"] == "HELD"
    (cause,) = said["causes"]
    assert datetime.fromisoformat(cause["since"]) > published, "since it was found, not published"
    assert "changed by hand" in said["because"]
    assert "names no run" in said["because"]
    assert mesh.json("why", "operations.delays", DAY)["state"] == "READY", (
        "its own rows are as made"
    )

    mesh.levada("release", "operations.flights", code=2)  # no reason is given
    mesh.levada("release", "operations.flights", "--reason", "seen", "--dry-run")
    assert mesh.json("why", "operations.flights", DAY)["state"] == "HELD"
    mesh.levada("release", "operations.flights", "--reason", "a test on purpose")
    assert mesh.json("why", "operations.flights", DAY)["state"] == "READY"
    mesh.levada("release", "operations.flights", "--reason", "again", code=1)
    mesh.levada("run")
    assert mesh.json("why", "operations.flights", DAY)["state"] == "READY", "it is told once"
    mesh.levada("ledger", "verify")


@pytest.mark.prove
def test_a_file_that_changed_under_its_table_holds_it(mesh: Workspace) -> None:
    (file, *_) = sorted((mesh.root / ".levada/lake/operations").rglob("*delays_v1/**/*.parquet"))
    whole = file.read_bytes()
    file.write_bytes(whole + b"x")
    mesh.levada("run")

    said = mesh.json("why", "operations.delays", DAY)
    assert said["state"] == "HELD"
    assert f"{file.name} has {len(whole) + 1} bytes, not {len(whole)}" in said["because"]
    assert "HELD" in {row["state"] for row in mesh.json("status")}

    file.write_bytes(whole)
    mesh.levada("release", "operations.delays", "--reason", "put back from the backup")
    mesh.levada("run")
    assert mesh.json("why", "operations.delays", DAY)["state"] == "READY"


def told(mesh: Workspace, *, fails: bool = False) -> Path:
    """Let owners be told by a command that writes down what it reads."""
    log = mesh.root / "told.jsonl"
    command = "exit 7" if fails else f"cat >> {log}"
    settings = yaml.safe_load((mesh.root / "levada.yaml").read_text())
    settings["tell"] = ["sh", "-c", command]
    (mesh.root / "levada.yaml").write_text(yaml.safe_dump(settings))
    return log


@pytest.mark.prove
@pytest.mark.parametrize("point", ["after build", "after intent"])
def test_what_is_changed_while_a_run_builds_is_found_before_its_swap(
    mesh: Workspace, point: str
) -> None:
    told(mesh, fails=True)
    minutes = {"after build": 61, "after intent": 62}[point]
    break_row(mesh.landed("flights", DAY), "dep_delay", str(minutes))
    before = mesh.publications()
    slow = mesh.begin("run", point=point, number=signal.SIGSTOP)
    slow.wait_until_stopped()
    with mesh.lake() as lake:
        by_hand(
            lake, "operations", f"update operations.main.flights_v1 set dep_delay = {minutes + 100}"
        )
        changed = lake.heads("operations")[FLIGHTS]
    slow.signal(signal.SIGCONT)
    done = slow.wait()

    said = mesh.json("why", "operations.flights", DAY)
    assert said["state"] == "HELD"
    assert f"version {changed} of" in said["because"]
    with mesh.lake() as lake:
        assert lake.heads("operations")[FLIGHTS] == changed, "nothing was swapped over it"
        (row,) = lake.read("select distinct dep_delay from operations.main.flights_v1")
    assert row["dep_delay"] == minutes + 100, "who looks into it finds it as it was left"
    assert not [p for p in mesh.publications() if p not in before and "flights" in p[0]]
    assert not mesh.rows("select run from ledger.intents union select run from ledger.claims")
    assert "its owner is operations-data" in done.stderr
    assert "could not be told: sh ended with 7" in done.stderr

    log = told(mesh)
    mesh.levada("run")
    mesh.levada("run")
    (message,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert message["table"] == str(FLIGHTS)
    assert (message["event"], message["owner"]) == ("held", "operations-data")
    assert "levada release" in message["todo"]
    log.unlink()

    mesh.levada("release", "operations.flights", "--reason", "a test on purpose")
    mesh.levada("run")
    assert mesh.json("why", "operations.flights", DAY)["state"] == "READY"
    with mesh.lake() as lake:
        assert lake.heads("operations")[FLIGHTS] != changed, "its step stayed open"
    mesh.levada("ledger", "verify")
