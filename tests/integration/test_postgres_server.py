"""The embedded PostgreSQL starts once, stays where it is, and loses nothing when it is killed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from levada.adapters import postgres
from levada.adapters.postgres import ENVIRONMENT, Credentials
from levada.errors import TerminalError, Unavailable
from levada.ledger import PostgresLedger
from levada.ledger.roles import RUNNER, provision
from levada.terms import Approval

pytestmark = pytest.mark.integration


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="levada-"))
    yield folder
    postgres.stop(folder)
    shutil.rmtree(folder, ignore_errors=True)


def kill(home: Path) -> None:
    pid = postgres.running(home)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while postgres.running(home) is not None and time.monotonic() < deadline:
        time.sleep(0.02)


def started(home: str, out: Any) -> None:
    credentials = postgres.start(Path(home))
    out.put((credentials.port, postgres.running(Path(home))))


def test_starting_is_idempotent_and_stopping_too(home: Path) -> None:
    assert postgres.running(home) is None
    first = postgres.start(home)
    pid = postgres.running(home)
    assert postgres.start(home) == first == Credentials.load(home)
    assert postgres.running(home) == pid
    postgres.stop(home)
    postgres.stop(home)
    assert postgres.running(home) is None
    assert postgres.start(home) == first, "port and passwords stay"


def test_two_processes_that_start_it_at_once_share_one_server(home: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    out = spawn.Queue()
    starters = [spawn.Process(target=started, args=[str(home), out]) for _ in range(3)]
    for starter in starters:
        starter.start()
    answers = {out.get(timeout=60) for _ in starters}
    for starter in starters:
        starter.join()
    assert len(answers) == 1


def test_secrets_are_for_the_owner_only_and_every_connection_needs_a_password(home: Path) -> None:
    credentials = postgres.start(home)
    assert (home / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert credentials.admin_password not in repr(credentials)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"host=127.0.0.1 port={credentials.port} user=postgres dbname=postgres")
    with psycopg.connect(credentials.admin_url) as admin:
        settings = "listen_addresses fsync synchronous_commit max_connections data_checksums"
        shown = [admin.execute(f"show {name}").fetchone() for name in settings.split()]
    assert shown == [("127.0.0.1",), ("on",), ("on",), ("200",), ("on",)]


def test_kill_9_and_a_restart_lose_no_committed_line(home: Path) -> None:
    credentials = postgres.start(home)
    provision(credentials, ["operations"])
    governance = PostgresLedger(credentials.url("levada_governance"))
    for number in range(20):
        governance.record_approval("file", str(number), "agreed", Approval("ines"))
    kill(home)
    with pytest.raises(Unavailable, match=f"127.0.0.1:{credentials.port}"):
        PostgresLedger(credentials.url(RUNNER)).position()
    assert postgres.start(home) == credentials
    assert governance.approved("file", "19") == "ines"
    assert governance.position() >= 20
    assert PostgresLedger(credentials.url("levada_owner")).verify() == ()


def test_a_pid_file_that_names_another_program_does_not_stop_a_start(home: Path) -> None:
    postgres.start(home)
    pid_file = home / "postgres" / "postmaster.pid"
    text = pid_file.read_text()
    kill(home)
    pid_file.write_text(text.replace(text.splitlines()[0], str(os.getpid()), 1))
    assert postgres.running(home) is None
    postgres.start(home)
    assert postgres.running(home) not in (None, os.getpid())


def test_a_port_that_another_program_took_is_given_up_for_a_free_one(home: Path) -> None:
    old = postgres.start(home)
    postgres.stop(home)
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", old.port))
        thief.listen()
        new = postgres.start(home)
        assert new.port != old.port
    assert Credentials.load(home) == new


def test_a_half_made_data_directory_is_made_again(home: Path) -> None:
    (home / "postgres" / "base").mkdir(parents=True)
    postgres.start(home)
    assert postgres.running(home) is not None


def test_a_server_of_the_users_own_is_provisioned_and_neither_started_nor_stopped(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = postgres.start(home)
    with psycopg.connect(theirs.admin_url, autocommit=True) as admin:
        admin.execute("create role boss login createrole createdb password 'p w'")
    url = f"postgresql://boss:p%20w@127.0.0.1:{theirs.port}/postgres?application_name=ours"
    monkeypatch.setenv(ENVIRONMENT, url)
    ours = postgres.start(tmp_path)
    assert not ours.embedded
    assert not (tmp_path / "postgres").exists()
    provision(ours, ["operations"])
    provision(ours, ["operations", "weather"])
    assert PostgresLedger(ours.url(RUNNER)).position() == 0
    assert PostgresLedger(ours.url("boss")).verify() == (), "the administrator is an owner too"
    assert PostgresLedger(ours.url("boss")).rebuild() == 0
    postgres.stop(tmp_path)
    assert Credentials.load(tmp_path) == ours
    monkeypatch.setenv(ENVIRONMENT, "somewhere")
    with pytest.raises(TerminalError, match="postgresql://user:password@host:port/postgres"):
        postgres.start(tmp_path)
    monkeypatch.delenv(ENVIRONMENT)
    assert postgres.running(home) is not None


def test_credentials_of_a_server_that_was_never_started_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="never started: run `levada up`"):
        Credentials.load(tmp_path)
