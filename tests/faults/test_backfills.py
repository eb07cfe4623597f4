"""What befalls a backfill in the middle: a full disk, a lost database, overlap, no data."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from source_system import land_span
from workspace import Workspace

from levada.adapters import postgres

pytestmark = pytest.mark.integration

FIRST, LAST, EMPTY = "2013-03-08", "2013-03-09", "2013-03-10"
ROOM = 8192
"""Bytes that a file may have on the full disk: less than any that is written here."""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One domain of two products; of its three days two have landed and are published."""
    workspace = Workspace.make(
        tmp_path_factory.mktemp("backfills"),
        domains=["operations"],
        first=FIRST,
        last=EMPTY,
        lease="6s",  # so long one backfill waits for another that says nothing
    )
    land_span(date(2013, 3, 8), date(2013, 3, 9), workspace.landing)
    workspace.start()
    workspace.levada("run")
    yield workspace
    workspace.stop()


def planned(mesh: Workspace, name: str, *more: str) -> str:
    path = mesh.root / f"{name}.json"
    mesh.levada(
        *("backfill", "plan", "operations.flights", "--from", FIRST, "--to", LAST),
        *("--reason", name, "--out", str(path), *more),
    )
    return str(path)


def ran(mesh: Workspace, *words: str, code: int = 0) -> Any:
    return mesh.json("backfill", "run", *words, "--local", code=code)


def id_of(path: str) -> str:
    return str(json.loads(Path(path).read_text())["id"])


def fresh(mesh: Workspace, before: list[tuple[Any, ...]]) -> Counter[tuple[Any, ...]]:
    """How often each interval was published since."""
    return Counter(line[:2] for line in mesh.publications() if line not in before)


def assert_whole(mesh: Workspace) -> None:
    """No claim, no intent, no snapshot without its lines, no step; the state is the log's."""
    assert not mesh.rows("select run from ledger.claims")
    assert not mesh.rows("select run from ledger.intents")
    assert not mesh.rows("select product from ledger.steps")
    assert "what the log says" in mesh.levada("ledger", "verify").stdout
    with mesh.lake() as lake:
        assert lake.unaccounted("operations", {run for *_, run, _ in mesh.publications()}) == ()


@pytest.mark.prove
@pytest.mark.parametrize("point", ["before swap", "before build"])
def test_a_disk_that_is_full_leaves_what_it_stopped_and_nothing_half_done(
    mesh: Workspace, point: str
) -> None:
    """A limit of the size of files stands for it: each write fails as on a full disk."""
    before, name = mesh.publications(), f"full {point}"
    plan = planned(mesh, name)
    run = mesh.begin(
        *("backfill", "run", plan, "--local", "--force"), point=point, number=signal.SIGSTOP
    )
    run.wait_until_stopped()
    resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (ROOM, ROOM))
    run.signal(signal.SIGCONT)
    done = run.wait()
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    mesh.levada("backfill", "resume", id_of(plan), code=None)
    told = ran(mesh, plan)
    assert (told["state"], told["steps"]) == ("finished", {"made": 4})
    assert set(fresh(mesh, before).values()) == {1}
    assert len(fresh(mesh, before)) == 4
    assert_whole(mesh)


@pytest.mark.prove
@pytest.mark.parametrize("point", ["after swap", "before build"])
def test_a_database_that_is_lost_in_the_middle_loses_and_doubles_nothing(
    mesh: Workspace, point: str
) -> None:
    before = mesh.publications()
    plan = planned(mesh, f"lost {point}")
    run = mesh.begin(
        *("backfill", "run", plan, "--local", "--force"), point=point, number=signal.SIGSTOP
    )
    run.wait_until_stopped()
    server = postgres.running(mesh.root / ".levada")
    assert server is not None
    os.kill(server, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while postgres.running(mesh.root / ".levada") is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.signal(signal.SIGCONT)
    done = run.wait()
    assert done.returncode == 2, done.stdout
    assert "does not answer" in done.stderr
    mesh.start()
    told = ran(mesh, plan)
    assert (told["state"], told["steps"]) == ("finished", {"made": 4})
    assert set(fresh(mesh, before).values()) == {1}
    assert_whole(mesh)


@pytest.mark.prove
def test_a_forced_backfill_over_a_running_one_is_one_build_of_each_interval(
    mesh: Workspace,
) -> None:
    before = mesh.publications()
    first, second = planned(mesh, "first"), planned(mesh, "second")
    mesh.killed_at("before build", "backfill", "run", first, "--local", "--force")
    mesh.killed_at("before build", "backfill", "run", second, "--local", "--force")
    both = [mesh.begin("backfill", "run", plan, "--local", "--json") for plan in (first, second)]
    told = [json.loads(each.wait().stdout) for each in both]
    assert [each["steps"] for each in told] == [{"made": 4}, {"made": 4}]
    assert set(fresh(mesh, before).values()) == {1}, "merged, never doubled"
    assert_whole(mesh)


@pytest.mark.prove
def test_a_range_without_data_is_left_with_what_it_waits_for(mesh: Workspace) -> None:
    before = mesh.publications()
    path = mesh.root / "empty.json"
    mesh.levada(
        *("backfill", "plan", "operations.flights", "--from", EMPTY, "--to", EMPTY),
        *("--out", str(path)),
    )
    told = ran(mesh, str(path), code=1)
    assert told["steps"] == {"left": 2}
    assert {each["product"]: each["because"] for each in told["left"]} == {
        "operations.flights": f"waits for operations.landing.flights {EMPTY}: nothing landed",
        "operations.delays": f"waits for operations.flights@1 {EMPTY}: nothing published",
    }
    assert mesh.publications() == before
