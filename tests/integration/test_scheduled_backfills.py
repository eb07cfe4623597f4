"""A scheduled backfill begins by itself, once for each due date, and only with its approval."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import tiny
import yaml
from workspace import Workspace

from levada import compiled
from levada.flow import platform as opening
from levada.flow import scheduling
from levada.settings import read_settings

pytestmark = [pytest.mark.integration, pytest.mark.prove]

NUMBERS = "north.numbers"
TODAY = datetime.now(UTC).date()
HISTORY = [f"{TODAY - timedelta(days=back)}" for back in range(12, 0, -1)]
FILE = Path("contracts") / "governance" / "backfills.yaml"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    root = tmp_path_factory.mktemp("scheduled") / "mesh"
    mesh = tiny.mesh(root, ("north",))
    words = yaml.safe_load((root / "levada.yaml").read_text())
    words["span"] = {"from": HISTORY[0], "to": f"{TODAY + timedelta(days=5)}"}
    (root / "levada.yaml").write_text(yaml.safe_dump(words))
    tiny.project(mesh, "north", lands=True)
    tiny.contract(mesh, "north", "numbers")
    model = f"select {tiny.NUMBERS} from {{{{ source('landing', 'numbers') }}}}"
    tiny.model(mesh, "north", "numbers", model)
    together = "models: [{name: numbers, config: {meta: {levada: {batch: true}}}}]\n"
    (root / "models" / "north" / "base" / "numbers.yml").write_text(together)
    for day in HISTORY:
        tiny.landed(mesh, "north", day, [1, 2])
    mesh.start()
    mesh.levada("run")
    yield mesh
    mesh.stop()


def declare(mesh: Workspace, **more: object) -> None:
    words = {"tables": [NUMBERS], "every": "day", "from": f"{TODAY}", "last": "7d"} | more
    path = mesh.root / FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({"backfills": {"nightly": {"reason": "corrections"} | words}}))


def recode(mesh: Workspace, word: str) -> None:
    """Other code, so that a backfill has something to do."""
    text = f"select {tiny.NUMBERS} from {{{{ source('landing', 'numbers') }}}}\n-- {word}"
    tiny.model(mesh, "north", "numbers", text)


def count(mesh: Workspace) -> int:
    return len(mesh.publications())


def test_two_that_look_at_once_begin_it_once_and_make_the_days_it_asks_for(
    mesh: Workspace,
) -> None:
    before = count(mesh)
    recode(mesh, "otherwise")
    declare(mesh)
    assert "1 schedules" in mesh.levada("check").stdout or mesh.levada("check")
    (told,) = mesh.json("backfill", "schedule", "list")
    assert (told["name"], told["intervals"], told["newest"]) == ("nightly", 7, None)
    assert len(told["due"]) == 1
    both = [mesh.begin("run"), mesh.begin("run")]
    assert [each.wait().returncode for each in both] == [0, 0]
    (begun,) = mesh.json("backfill", "status")
    assert begun["state"] == "finished"
    assert begun["steps"] == {"made": 7}
    assert begun["because"].startswith(f"nightly of {TODAY}: corrections")
    run = mesh.json("explain-run", NUMBERS, HISTORY[-2])
    assert [line["partition"] for line in run["lines"]] == [HISTORY[-2]], "one was asked for"
    together = len(mesh.json("explain-run", run["run"])["lines"])
    assert 1 < together == run["published_lines"], "days went together"
    assert count(mesh) == before + 7
    mesh.levada("run")
    (told,) = mesh.json("backfill", "schedule", "list")
    assert told["due"] == []
    assert told["newest"] == {"id": begun["id"], "state": "finished"}
    assert len(mesh.json("backfill", "status")) == 1
    assert count(mesh) == before + 7


def test_a_fault_of_the_file_is_told_by_the_check_and_stops_nothing_else(mesh: Workspace) -> None:
    declare(mesh, every="fortnight")
    refused = mesh.levada("check", code=2)
    assert f"{FILE}:3: no schedule is 'fortnight'" in refused.stderr
    done = mesh.levada("run")
    assert "no backfill of this declaration is begun" in done.stderr
    mesh.levada("backfill", "schedule", "list", code=2)


def test_where_the_policies_have_a_fault_nothing_is_begun_and_whoever_looked_goes_on(
    mesh: Workspace,
) -> None:
    declare(mesh, reason="corrections, again", last="3d")
    path = mesh.root / FILE
    path.write_text(path.read_text().replace("nightly", "unlawful"))
    policies = mesh.root / FILE.parent / "policies.yaml"
    policies.write_text("backfills: {intervals: many}\n")
    settings = read_settings(mesh.root)
    with opening.ledger(mesh.credentials, "levada_runner") as record:
        told = scheduling.begin_due(settings, compiled.load(settings), record, opening.now())
    policies.unlink()
    (said,) = told
    assert said.startswith(f"unlawful of {TODAY} is not begun: ")
    assert "policies.yaml:1" in said
    assert not any("again" in each["because"] for each in mesh.json("backfill", "status"))


@pytest.mark.prove
def test_beyond_the_limits_it_waits_for_an_approval_of_its_very_declaration(
    mesh: Workspace,
) -> None:
    governance = mesh.root / FILE.parent
    (governance / "policies.yaml").write_text("backfills: {intervals: 3}\n")
    (governance / "approvers.yaml").write_text(
        "approvers: [{username: ines, domains: [all]}, {username: joe, domains: [all]}]\n"
    )
    recode(mesh, "once more")
    words = {"reason": "corrections, weekly", "last": "5d"}
    path = mesh.root / FILE
    declare(mesh, **words)
    text = path.read_text().replace("nightly", "larger")
    path.write_text(text)
    git(mesh, "init", "-q")
    git(mesh, "add", "contracts")
    git(mesh, "commit", "-q", "-m", "declare")
    before = count(mesh)
    done = mesh.levada("run")
    assert "waits for an approval of governance: 5 intervals" in done.stderr
    assert count(mesh) == before
    approve = ("backfill", "schedule", "approve", "larger", "--reason", "reviewed")
    assert "joe wrote it" in mesh.levada(*approve, "--reviewer", "joe", code=2).stderr
    assert "approved by ines" in mesh.levada(*approve, "--reviewer", "ines").stdout
    path.write_text(text.replace("5d", "6d"))
    assert "waits for an approval" in mesh.levada("run").stderr, "that is another declaration"
    path.write_text(text)
    mesh.levada("run")
    assert count(mesh) == before + 5


def test_a_run_whose_scheduled_backfill_leaves_something_ends_with_one(mesh: Workspace) -> None:
    tiny.landed(mesh, "north", HISTORY[-1], [])  # no row: the audit fails
    declare(mesh, reason="corrections, failing", last="2d")
    path = mesh.root / FILE
    path.write_text(path.read_text().replace("nightly", "failing"))
    done = mesh.levada("run", code=1)
    assert f"failed in a scheduled backfill: {NUMBERS} {HISTORY[-1]}: its audit" in done.stderr


def git(mesh: Workspace, *words: str) -> None:
    who = ("-c", "user.name=joe", "-c", "user.email=joe@tiny.example")
    subprocess.run(["git", *who, *words], cwd=mesh.root, check=True)
