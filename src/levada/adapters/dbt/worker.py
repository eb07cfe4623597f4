"""The domain's side of a build: clean processes that run dbt and hold no right of the platform.

`main` is a program: it imports dbt once (some three seconds), then forks a child for every socket
that it is sent. A child answers calls until its socket is closed, shut into its domain's room.
It is started as a program and never forked from the platform: an environment can be cleared and
descriptors closed, but a fork keeps the memory, and with it whatever the platform ever read.
"""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import os
import select
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from levada.adapters import confine
from levada.adapters.dbt.codec import decode, encode
from levada.adapters.dbt.facts import CompileRequest, EmptyBuild, ParseRequest
from levada.adapters.dbt.invoke import plain_locks
from levada.build import BuildRequest, Room

__all__ = ["main", "preload", "scrubbed"]

_ALLOWED = frozenset(
    ("HOME", "LANG", "LC_ALL", "LEVADA_PROJECT", "PATH", "TMPDIR", "TZ", "VIRTUAL_ENV")
)
_ALLOWED_PREFIXES = ("DBT_", "PYTHON")
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_TICK = 1.0
"""Seconds between two looks at what died, and at what it left behind."""
_ROUNDS = 300


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """
    What a domain's process may know of the platform's environment.

    >>> scrubbed({"PATH": "/bin", "DBT_ENV_SECRET_X": "own", "LEVADA_DATABASE_URL": "no"})
    {'PATH': '/bin', 'DBT_ENV_SECRET_X': 'own'}
    """
    return {
        name: value
        for name, value in environment.items()
        if name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES)
    }


def preload() -> None:
    """Import everything a build needs; open nothing, so that a fork may follow."""
    import dbt.adapters.duckdb
    import dbt.cli.main
    import dbt.parser.manifest
    import dbt.task.build
    import dbt.task.run  # noqa: F401 - the point is to have it imported
    from dbt.adapters.duckdb.credentials import DuckDBCredentials
    from dbt.artifacts.resources.v1 import components, model, source_definition
    from dbt.contracts import project, selection
    from dbt.contracts.graph import nodes, unparsed
    from dbt.contracts.graph.manifest import Manifest
    from dbt.plugins.manager import PluginManager

    PluginManager.get_prefixed_modules()  # type: ignore[no-untyped-call,unused-ignore]
    # What dbt computes once a process, half of a small run's CPU: every fork inherits it.
    for checked in (
        DuckDBCredentials,
        components.Contract,
        model.ModelConfig,
        nodes.ModelNode,
        project.Configuration,
        project.PackageConfig,
        project.ProfileConfig,
        project.Project,
        project.ProjectFlags,
        selection.SelectorFile,
        source_definition.SourceConfig,
        unparsed.UnparsedSourceDefinition,
    ):
        checked.json_schema()
    Manifest.from_msgpack(Manifest().to_msgpack())
    inspect.stack()
    plain_locks()


def _calls() -> Mapping[str, tuple[type, Callable[[Any], object]]]:
    from levada.adapters.dbt.compiling import compiled_sql
    from levada.adapters.dbt.parse import parse
    from levada.adapters.dbt.run import empty_build, run

    return {
        "parse": (ParseRequest, parse),
        "build": (BuildRequest, run),
        "empty_build": (EmptyBuild, empty_build),
        "compile": (CompileRequest, compiled_sql),
    }


def _answer(message: bytes, asker: int) -> bytes:
    """Do what is asked on a socket: `+` and the result, or `-` and what went wrong."""
    name, _, body = message.partition(b"\n")
    try:
        kind, call = _calls()[name.decode()]
        request: Any = decode(kind, body)
        _enter(request, asker)
        _redirect(getattr(request, "log_dir", None))
        os.chdir(request.project_dir)
        return b"+" + encode(call(request))
    except BaseException as error:  # the caller is in another process
        traceback.print_exc()
        return b"-" + f"{type(error).__name__}: {error}".encode()


_done: set[str] = set()
"""What was taken from this process, which is taken once and for good."""


def _enter(request: Any, asker: int) -> None:
    """Shut this process into the domain's room, and to its database once a build names it."""
    room: Room | None = request.room
    if "room" not in _done:
        _done.add("room")
        if room is not None:
            scratch = room.logs / "tmp"
            scratch.mkdir(parents=True, exist_ok=True)
            tempfile.tempdir = os.environ["TMPDIR"] = str(scratch)
            confine.confine((*confine.system(), *room.read), room.write)
        _end_with(asker)
    port = _port(request.profile) if isinstance(request, BuildRequest) else None
    if room is not None and port is not None and "network" not in _done:
        _done.add("network")
        confine.confine_network(port)


def _port(profile: Mapping[str, Any]) -> int | None:
    """The port of the database in which the lakes of a profile have their catalogues."""
    from psycopg.conninfo import conninfo_to_dict

    for attached in profile.get("attach") or ():
        said = conninfo_to_dict(attached["path"].removeprefix("ducklake:postgres:"))
        return int(said.get("port") or 5432)
    return None


def _redirect(log_dir: Path | None) -> None:
    """What domain code prints goes to the run's folder, not to whoever started us."""
    target = os.devnull
    if log_dir is not None:
        log_dir.mkdir(parents=True, exist_ok=True)
        target = str(log_dir / "output.log")
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _die_with(parent: int) -> None:
    """Be killed when the parent ends, even in the middle of a query (Linux)."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


# The program


def main() -> None:
    """
    Fork a child for every socket that comes in; end when the one who started us has ended.

    What a child starts and leaves behind becomes ours, however it hides, and is ended.
    """
    control = socket.socket(fileno=int(sys.argv[1]))
    parent = int(sys.argv[2])
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    preload()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a child ended: no zombies
    forked: set[int] = set()
    while os.getppid() == parent:
        if not select.select([control], [], [], _TICK)[0]:
            forked &= _end_strangers(forked)
            continue
        order, files, _, _ = socket.recv_fds(control, 1, 1)
        if not order:
            break
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            control.close()
            _serve(files[0], me)
        forked.add(pid)
        for file in files:
            os.close(file)
    for _ in range(_ROUNDS):  # the children of what ended are ours in the next round
        if not _end_strangers(frozenset()):
            break
        time.sleep(0.01)
    os._exit(0)  # nothing to tidy up, and an orderly end of dbt's imports takes its time


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _end_strangers(forked: Collection[int]) -> set[int]:
    """Kill the children that we did not fork; all that we had."""
    with contextlib.suppress(OSError):
        found = {int(pid) for pid in Path("/proc/thread-self/children").read_text().split()}
        for pid in found.difference(forked):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return found
    return set()


def _serve(file: int, parent: int) -> None:
    """The life of a domain's child."""
    code = 1
    try:
        _die_with(parent)
        _step_back(file)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        connection = Connection(file)
        connection.send_bytes(str(os.getpid()).encode())
        while True:
            asked = connection.recv_bytes()
            connection.send_bytes(_answer(asked, file))
    except (EOFError, OSError):
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _step_back(file: int) -> None:
    """
    Be as nice as whoever asked: we are forked from a process that serves the live day and backfills
    alike, and a backfill's build is to yield (Linux).
    """
    with contextlib.suppress(OSError, AttributeError), socket.socket(fileno=os.dup(file)) as asked:
        said = asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        asker, _, _ = struct.unpack("3i", said)
        mine, its = (os.getpriority(os.PRIO_PROCESS, pid) for pid in (0, asker))
        os.nice(max(0, its - mine))


def _end_with(file: int) -> None:
    """Be killed when whoever asked has ended, even in the middle of a query."""
    watch = select.poll()
    watch.register(file, select.POLLHUP)

    def wait() -> None:
        watch.poll()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="end with the platform", daemon=True).start()
