"""What befalls a backfill in the middle: a full disk, a lost database, overlap, no data."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from source_system import land_span
from workspace import Workspace

from levada.adapters import postgres

pytestmark = [pytest.mark.integration, pytest.mark.prove]

FIRST, LAST, EMPTY = "2013-03-08", "2013-03-09", "2013-03-10"
ROOM = 8192
"""Bytes that a file may have on the full disk: less than any that is written here."""


@pytest.fixture(scope="module", params=["ducklake", "postgres"])
def mesh(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    """One domain of two products; of its three days two have landed and are published."""
    workspace = Workspace.make(
        tmp_path_factory.mktemp(request.param),
        domains=["operations"],
        first=FIRST,
        last=EMPTY,
        lease="6s",  # so long one backfill waits for another that says nothing
        warehouse=request.param,
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
    """No claim, no intent, no version without its lines, no step; the state is the log's."""
    assert not mesh.rows("select run from ledger.claims")
    assert not mesh.rows("select run from ledger.intents")
    assert not mesh.rows("select product from ledger.steps")
    assert "what the log says" in mesh.levada("ledger", "verify").stdout
    runs = {run for *_, run, _ in mesh.publications()}
    with mesh.warehouse() as warehouse:
        assert [c for c in warehouse.changes("operations") if c.run not in runs] == []


def filled(mesh: Workspace, pid: int, point: str) -> Callable[[], None]:
    """
    Let there be no room any more for what a process writes next; how to make room again. A limit of
    the size of its files stands for it, and where a server writes, the error that it would answer:
    its own files are the ledger's too.
    """
    if "type: ducklake" in (mesh.root / "levada.yaml").read_text():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (ROOM, ROOM))
        return lambda: None  # the limit goes with the process

    def asked(*statements: str) -> None:
        url = mesh.credentials.url(mesh.credentials.admin, "warehouse")
        with psycopg.connect(url) as connection:
            # So that it is not taken for a change of a published table by hand.
            connection.execute("set session_replication_role = replica")
            for statement in statements:
                connection.execute(statement.encode())

    kind = "event_trigger" if point == "before build" else "trigger"
    made = {
        "event_trigger": "event trigger no_room on ddl_command_start"
        " when tag in ('CREATE TABLE', 'CREATE TABLE AS')",
        "trigger": 'trigger no_room before insert on "operations$rows".flights_v1 for each row',
    }
    raises = "raise exception 'could not extend file: No space left on device'"
    asked(
        f"create function public.no_room() returns {kind} language plpgsql as"
        f" $$ begin {raises} using errcode = 'disk_full'; end $$",
        f"create {made[kind]} execute function public.no_room()",
    )
    return lambda: asked("drop function public.no_room() cascade")


@pytest.mark.parametrize("point", ["before swap", "before build"])
def test_a_disk_that_is_full_leaves_what_it_stopped_and_nothing_half_done(
    mesh: Workspace, point: str
) -> None:
    before, name = mesh.publications(), f"full {point}"
    plan = planned(mesh, name)
    run = mesh.begin(
        *("backfill", "run", plan, "--local", "--force"), point=point, number=signal.SIGSTOP
    )
    run.wait_until_stopped()
    make_room = filled(mesh, run.pid, point)
    run.signal(signal.SIGCONT)
    done = run.wait()
    make_room()
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert len(fresh(mesh, before)) < 4, "what did not fit was not published"
    mesh.levada("backfill", "resume", id_of(plan), code=None)
    told = ran(mesh, plan)
    assert (told["state"], told["steps"]) == ("finished", {"made": 4})
    assert set(fresh(mesh, before).values()) == {1}
    assert len(fresh(mesh, before)) == 4
    assert_whole(mesh)


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
