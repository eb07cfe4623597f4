"""A backfill in one process: idempotent, resumable, fail closed; and what others wait for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import merged
import pytest
from killed import POINTS
from source_system import break_row, land_span
from workspace import Workspace

pytestmark = pytest.mark.integration

FIRST, LAST = "2013-03-09", "2013-03-10"
IN_THE_GATE = ("after swap",)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One domain of two products, published once, its databases up."""
    workspace = Workspace.make(
        tmp_path_factory.mktemp("backfill"), domains=["operations"], first=FIRST, last=LAST
    )
    land_span(date(2013, 3, 9), date(2013, 3, 10), workspace.landing)
    workspace.start()
    workspace.levada("run")
    yield workspace
    workspace.stop()


def planned(mesh: Workspace, name: str, *words: str) -> Path:
    path = mesh.root / f"{name}.json"
    # A plan is known by what it says; the reason tells two of one second apart.
    mesh.levada("backfill", "plan", *words, "--reason", name, "--out", str(path))
    return path


def entries(mesh: Workspace) -> int:
    return int(mesh.rows("select count(*) from ledger.entries")[0][0])


def ran(mesh: Workspace, *words: str, code: int = 0) -> Any:
    return mesh.json("backfill", "run", *words, "--local", code=code)


def test_what_would_be_made_as_it_is_is_left_and_the_same_plan_twice_changes_nothing(
    mesh: Workspace,
) -> None:
    plan = str(planned(mesh, "twice", "operations.flights"))
    assert "no reconciler was heard of" in mesh.levada("backfill", "run", plan).stdout
    before = mesh.publications()
    told = ran(mesh, plan)
    assert (told["state"], told["steps"], told["lines"]) == ("finished", {"unchanged": 4}, 0)
    count = entries(mesh)
    assert ran(mesh, plan)["steps"] == {"unchanged": 4}
    assert entries(mesh) == count
    assert mesh.publications() == before


@pytest.mark.parametrize(
    "point",
    [p if p in IN_THE_GATE else pytest.param(p, marks=pytest.mark.prove) for p in POINTS],
)
def test_killed_anywhere_it_goes_on_with_what_was_not_done(mesh: Workspace, point: str) -> None:
    plan = str(planned(mesh, point, "operations.flights"))
    before = mesh.publications()
    mesh.killed_at(point, "backfill", "run", plan, "--local", "--force")
    told = ran(mesh, plan)
    assert told["forced"]
    assert (told["state"], told["steps"]) == ("finished", {"made": 4})
    fresh = Counter(line[:2] for line in mesh.publications() if line not in before)
    assert len(fresh) == 4
    assert set(fresh.values()) == {1}, "every interval once, whatever was killed"
    assert not mesh.rows("select run from ledger.intents")
    assert not mesh.rows("select run from ledger.claims")
    assert not mesh.rows("select product from ledger.steps"), "the steps that it opened are closed"
    assert "what the log says" in mesh.levada("ledger", "verify").stdout
    assert mesh.json("run", "--dry-run") == [], "a forced build is current"
    by = "select distinct split_part(made_by, '+', 2) from ledger.publications where newest"
    assert mesh.rows(by) == [(told["id"],)], "each line says who forced it"
    (line,) = mesh.json("explain-run", "operations.flights", LAST)["lines"]
    assert line["forced_by"] == told["id"]


@pytest.mark.prove
def test_a_failed_audit_is_named_with_what_waits_for_it_and_the_rest_goes_on(
    mesh: Workspace,
) -> None:
    landed = mesh.landed("flights", "2013-03-09")
    whole = landed.read_text()
    break_row(landed, "distance", "-5")
    plan = str(planned(mesh, "failing", "operations.landing.flights"))
    told = ran(mesh, plan, "--force", code=1)
    assert told["steps"] == {"made": 2, "failed": 1, "left": 1}
    failed, left = sorted(told["left"], key=lambda each: str(each["state"]))
    assert (failed["product"], failed["partition"]) == ("operations.flights", "2013-03-09")
    assert "its audit failed" in failed["because"]
    assert (left["product"], left["partition"]) == ("operations.delays", "2013-03-09")
    assert "operations.flights@1 2013-03-09" in left["because"]
    shown = mesh.levada("backfill", "status", told["id"]).stdout
    assert "failed operations.flights 2013-03-09" in shown
    landed.write_text(whole)
    done = mesh.levada("backfill", "resume", told["id"], "--local")
    assert "4 made" in done.stdout


@pytest.mark.prove
def test_while_a_backfill_is_open_nobody_reads_what_it_will_make_again(mesh: Workspace) -> None:
    plan = str(planned(mesh, "paused", "operations.flights"))
    mesh.killed_at("before build", "backfill", "run", plan, "--local", "--force")
    (begun,) = [b for b in mesh.json("backfill", "status") if b["because"] == "paused"]
    mesh.levada("backfill", "pause", begun["id"], "--reason", "the day is busy")
    break_row(mesh.landed("flights", FIRST), "dep_delay", "777")
    told = ran(mesh, plan)
    assert (told["state"], told["steps"]) == ("paused", {"open": 4}), "paused, nothing begins"
    shown = mesh.levada("backfill", "status", begun["id"]).stdout
    assert "  operations.delays            2 open" in shown
    assert "of builds are left, by what the last runs took" in shown
    mesh.levada("run", "operations.flights")
    waits = {
        step["partition"]: step["because"]
        for step in mesh.json("run", "operations.delays", "--dry-run")
    }
    assert f"made again by backfill {begun['id']}" in waits[FIRST]
    before = len(mesh.publications())
    mesh.levada("run", "operations.delays")
    assert len(mesh.publications()) == before, "flights are still to be made again"
    mesh.levada("backfill", "cancel", begun["id"])
    mesh.levada("backfill", "resume", begun["id"], code=2)
    mesh.levada("run", "operations.delays")
    assert len(mesh.publications()) == before + 1


def test_rolled_back_what_was_there_before_is_published_again(mesh: Workspace) -> None:
    def contents() -> dict[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], list[str]] = {}
        for table, part, content in mesh.rows(
            "select table_name, part, content from ledger.publications order by generation"
        ):
            found.setdefault((table, part), []).append(content)
        return found

    before = contents()
    model = next((mesh.root / "models" / "operations").rglob("delays.sql"))
    text = model.read_text()
    model.write_text(f"{text.rstrip()}\nwhere not cancelled\n")
    mesh.levada("compile")
    plan = str(planned(mesh, "worse", "operations.delays"))
    told = ran(mesh, plan)
    assert told["steps"] == {"made": 2}
    assert {k for k, v in contents().items() if v[-1] != before[k][-1]} == {
        key for key in before if key[0] == "operations.delays@1"
    }
    words = ("backfill", "rollback", told["id"], "--reason", "half of it was lost")
    mesh.levada("backfill", "rollback", plan, *words[-2:], "--dry-run")
    mesh.killed_at("after lines", *words)
    done = mesh.json(*words)
    assert (done["state"], done["steps"], done["made_again"]) == (
        "rolled back",
        {"restored": 2},
        {},
    )
    after = contents()
    assert {k: found[-1] for k, found in after.items()} == {k: v[-1] for k, v in before.items()}
    assert sum(map(len, after.values())) == sum(map(len, before.values())) + 4, "new lines"
    count = entries(mesh)
    mesh.json(*words)
    assert entries(mesh) == count, "it is rolled back already"
    mesh.levada("backfill", "resume", told["id"], code=2)
    with mesh.lake() as lake:
        (now,) = lake.read("select count(*) as n from operations.main.delays_v1", [])
    assert f"{now['n']}" == str(
        sum(int(v[-1].split(":")[0]) for k, v in before.items() if k[0] == "operations.delays@1")
    )
    model.write_text(text)
    mesh.levada("compile")
    assert mesh.json("run", "--dry-run") == []
    assert "what the log says" in mesh.levada("ledger", "verify").stdout


@pytest.mark.prove
def test_a_published_interval_is_made_again_from_what_its_run_recorded(mesh: Workspace) -> None:
    table, lines = "operations.delays", len(mesh.publications())
    first = ("reproduce", table, LAST, "--generation", "1")
    assert mesh.json(*first)["verdict"] == "identical"
    model = next((mesh.root / "models" / "operations").rglob("delays.sql"))
    text = model.read_text()
    model.write_text(f"{text.rstrip()}\nwhere random() < 0.5\n")
    mesh.levada("compile")
    told = ran(mesh, str(planned(mesh, "dice", table)))
    assert told["steps"] == {"made": 2}
    model.write_text(text)
    mesh.levada("compile")
    found = mesh.json("reproduce", table, LAST, code=1)
    (difference,) = found["differences"].values()
    assert found["verdict"] == "differs"
    assert difference["only_a"] > 0, "rows that the dice of another day left out"
    assert difference["changed"] == 0
    assert mesh.json(*first)["verdict"] == "identical", "by the code of then"
    run = mesh.json("explain-run", table, LAST)
    assert run["run"] == found["run"]
    assert {line["code"] for line in run["lines"]} == {"kept, changed since"}
    assert run["lines"][0]["inputs"][0]["table"] == "operations.flights@1"
    landed = mesh.landed("flights", LAST)
    whole = landed.read_text()
    landed.write_text(whole.replace(",", ",", 1) + "\n")
    gone = mesh.json("reproduce", "operations.flights", LAST, code=2)
    assert gone["verdict"] == "expired"
    assert landed.name in gone["because"]
    landed.write_text(whole)
    assert len(mesh.publications()) == lines + 2, "what is reproduced is not published"
    mesh.levada("backfill", "rollback", told["id"], "--reason", "dice")


def test_a_plan_whose_mesh_has_changed_is_refused_with_the_difference(mesh: Workspace) -> None:
    plan = str(planned(mesh, "changed", "operations.flights"))
    model = next((mesh.root / "models" / "operations").rglob("delays.sql"))
    text = model.read_text()
    model.write_text(f"{text}\n-- otherwise\n")
    count = entries(mesh)
    refused = mesh.levada("backfill", "run", plan, "--local", code=2)
    assert "code of operations.delays changed" in refused.stderr
    assert entries(mesh) == count
    model.write_text(text)


def test_beyond_the_limits_it_runs_only_once_it_is_approved(mesh: Workspace) -> None:
    governance = mesh.root / "contracts" / "governance"
    governance.mkdir(parents=True, exist_ok=True)
    (governance / "policies.yaml").write_text("backfills: {intervals: 3}\n")
    (governance / "approvers.yaml").write_text(
        "approvers: [{username: ines, domains: [all]}, {username: joe, domains: [operations]}]\n"
    )
    mesh.levada("compile")
    merged.repository(mesh)
    plan = str(planned(mesh, "approved", "operations.flights"))
    assert "more than 3" in mesh.levada("backfill", "run", plan, "--local", code=2).stderr
    words = ("backfill", "approve", plan, "--reason", "reviewed")
    assert "may not approve" in mesh.levada(*words, "--reviewer", "joe", code=2).stderr
    law = (governance / "approvers.yaml").read_text()
    (governance / "approvers.yaml").write_text(law.replace("[operations]", "[all]"))
    assert "is not in " in mesh.levada(*words, "--reviewer", "joe", code=2).stderr
    (governance / "approvers.yaml").write_text(law)
    mesh.levada(*words, "--reviewer", "ines")
    ((said,),) = mesh.rows("select said from ledger.approvals where subject = 'backfill'")
    assert len(said["commit"]) == 40
    assert ran(mesh, plan)["state"] == "finished"


@pytest.mark.prove
def test_what_the_lake_no_longer_keeps_is_expired_and_says_what_is_kept(mesh: Workspace) -> None:
    """The last one here: it takes the lake's history away."""
    mesh.expire("operations")
    found = mesh.json("reproduce", "operations.delays", LAST, "--generation", "1", code=2)
    assert found["verdict"] == "expired"
    assert re.match(r"expired on 20\d\d-.*: version \d+ of operations is no", found["because"])
