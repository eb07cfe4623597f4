"""Databases that do not answer: a sentence, never a traceback; afterwards nothing is missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date

import pytest
from source_system import break_row, land_span
from workspace import Workspace

from levada.adapters import postgres

pytestmark = pytest.mark.integration

DAY = "2013-03-08"
NOBODY = "postgresql://admin:secret-word@127.0.0.1:1/postgres"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One domain, one published day."""
    workspace = Workspace.make(
        tmp_path_factory.mktemp("away"), domains=["operations"], first=DAY, last=DAY
    )
    land_span(date(2013, 3, 8), date(2013, 3, 8), workspace.landing)
    workspace.start()
    workspace.levada("run")
    yield workspace
    workspace.stop()


def assert_one_sentence(done: subprocess.CompletedProcess[str], *said: str) -> None:
    """What a person reads when something is away: one sentence, without secrets."""
    assert done.returncode == 2, f"{done.args}: {done.stdout}{done.stderr}"
    sentences = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1, done.stderr
    assert all(word in sentences[0] for word in said), sentences[0]
    assert "Traceback" not in done.stderr
    assert "password=" not in done.stderr
    assert "secret-word" not in done.stderr


def kill_postgresql(mesh: Workspace) -> None:
    """kill -9 of the server, and the end of what it leaves behind."""
    pid = postgres.running(mesh.root / ".levada")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while postgres.running(mesh.root / ".levada") is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    "words",
    [
        ("run",),
        ("run", "--dry-run"),
        ("status",),
        ("why", "operations.delays", DAY),
        ("up", "--no-airflow"),
        ("ledger", "verify"),
        ("ledger", "rebuild"),
        ("status", "--json"),
    ],
    ids=" ".join,
)
def test_a_database_of_ones_own_that_does_not_answer_is_one_sentence(
    mesh: Workspace, words: tuple[str, ...]
) -> None:
    done = mesh.begin(*words, LEVADA_DATABASE_URL=NOBODY).wait(60)

    assert_one_sentence(done, "does not answer at 127.0.0.1:1")
    assert done.stdout == ""


def test_a_new_interpreter_says_the_same(mesh: Workspace) -> None:
    done = mesh.fresh("status", code=2, LEVADA_DATABASE_URL=NOBODY)

    assert_one_sentence(done, "does not answer at 127.0.0.1:1")


def test_what_needs_no_database_works_without_one(mesh: Workspace) -> None:
    for words in (("check",), ("compile",)):
        done = mesh.begin(*words, LEVADA_DATABASE_URL=NOBODY).wait()
        assert done.returncode == 0, done.stderr


def test_an_address_that_is_none_is_one_sentence(mesh: Workspace) -> None:
    done = mesh.begin("status", LEVADA_DATABASE_URL="localhost").wait()

    assert_one_sentence(
        done, "LEVADA_DATABASE_URL", "postgresql://user:password@host:port/postgres"
    )


def test_after_kill_9_of_postgresql_the_next_command_finds_everything_published(
    mesh: Workspace,
) -> None:
    before = mesh.publications()
    kill_postgresql(mesh)

    # In time, whether or not somebody has reaped the killed server.
    done = mesh.begin("status", "--json").wait(60)

    board = json.loads(done.stdout)
    assert {row["state"] for row in board} == {"READY"}
    mesh.start()
    assert mesh.publications() == before
    with mesh.lake() as lake:
        (row,) = lake.read("select count(*) as n from operations.main.flights_v1")
    assert row == {"n": mesh.landed_rows("flights", DAY)}


@pytest.mark.parametrize(
    ("point", "minutes"),
    [
        pytest.param("before build", 510, marks=pytest.mark.prove),
        pytest.param("after build", 520, marks=pytest.mark.prove),
        pytest.param("before swap", 530, marks=pytest.mark.prove),
        ("after swap", 540),
        pytest.param("after audit", 550, marks=pytest.mark.prove),
        pytest.param("after intent", 560, marks=pytest.mark.prove),
        pytest.param("after lines", 570, marks=pytest.mark.prove),
    ],
)
def test_after_kill_9_of_postgresql_in_a_run_the_next_run_finishes_exactly_once(
    mesh: Workspace, point: str, minutes: int
) -> None:
    mesh.start()
    before = mesh.publications()
    break_row(mesh.landed("flights", DAY), "dep_delay", str(minutes))
    run = mesh.begin("run", "operations.flights", point=point, number=signal.SIGSTOP)
    run.wait_until_stopped()
    kill_postgresql(mesh)
    run.signal(signal.SIGCONT)

    assert_one_sentence(run.wait(), "does not answer at 127.0.0.1:")
    mesh.start()
    mesh.levada("run")

    lines = mesh.publications()
    fresh = Counter(line[:2] for line in lines if line not in before)
    assert {table for table, _ in fresh} == {"operations.flights@1", "operations.delays@1"}
    assert set(fresh.values()) == {1}
    assert {row["state"] for row in mesh.json("status")} == {"READY"}
    with mesh.lake() as lake:
        assert lake.unaccounted("operations", {run for *_, run, _ in lines}) == ()
        (row,) = lake.read(
            "select max(dep_delay) filter (source_line = 2) as moved"
            " from operations.main.flights_v1"
        )
    assert row == {"moved": minutes}
