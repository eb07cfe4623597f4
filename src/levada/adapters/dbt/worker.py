"""The domain's side of a build: clean processes that run dbt and hold no right of the platform.

`main` is a program: it imports dbt once (some three seconds), then forks a child for every domain.
Each child answers calls on a socket of its own until that is closed. `run_in_fork` is the same
for a process in which dbt is imported already, as in Airflow's workers.
"""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from levada.adapters.dbt.codec import decode, encode
from levada.adapters.dbt.facts import CompileRequest, EmptyBuild, ParseRequest
from levada.build import BuildRequest, BuildResult
from levada.errors import ToolError

__all__ = ["main", "preload", "run_in_fork", "scrubbed"]

_ALLOWED = frozenset(
    ("HOME", "LANG", "LC_ALL", "LEVADA_PROJECT", "PATH", "TMPDIR", "TZ", "VIRTUAL_ENV")
)
_ALLOWED_PREFIXES = ("DBT_", "PYTHON")
_PR_SET_PDEATHSIG = 1


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
    from dbt.contracts import project, selection
    from dbt.plugins.manager import PluginManager

    PluginManager.get_prefixed_modules()  # type: ignore[no-untyped-call,unused-ignore]
    # What dbt computes once a process, half of a small run's CPU: every fork inherits it.
    for checked in (
        DuckDBCredentials,
        project.Configuration,
        project.PackageConfig,
        project.ProfileConfig,
        project.Project,
        project.ProjectFlags,
        selection.SelectorFile,
    ):
        checked.json_schema()
    inspect.stack()


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


def _answer(message: bytes) -> bytes:
    """Do what is asked: `+` and the result, or `-` and what went wrong."""
    name, _, body = message.partition(b"\n")
    try:
        kind, call = _calls()[name.decode()]
        request: Any = decode(kind, body)
        _redirect(getattr(request, "log_dir", None))
        os.chdir(request.project_dir)
        return b"+" + encode(call(request))
    except BaseException as error:  # the caller is in another process
        traceback.print_exc()
        return b"-" + f"{type(error).__name__}: {error}".encode()


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
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


# The program


def main() -> None:
    """Fork a child for every socket that comes in; end when the one who started us has ended."""
    control = socket.socket(fileno=int(sys.argv[1]))
    parent = int(sys.argv[2])
    preload()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a child ended: no zombies
    while os.getppid() == parent:
        if not select.select([control], [], [], 1.0)[0]:
            continue
        order, files, _, _ = socket.recv_fds(control, 1, 1)
        if not order:
            break
        me = os.getpid()
        if os.fork() == 0:
            control.close()
            _serve(files[0], me)
        for file in files:
            os.close(file)
    os._exit(0)  # nothing to tidy up, and an orderly end of dbt's imports takes its time


def _serve(file: int, parent: int) -> None:
    """The life of a domain's child."""
    code = 1
    try:
        _die_with(parent)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        connection = Connection(file)
        connection.send_bytes(str(os.getpid()).encode())
        while True:
            connection.send_bytes(_answer(connection.recv_bytes()))
    except (EOFError, OSError):
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


# The fork


def run_in_fork(request: BuildRequest) -> BuildResult:
    """
    Build in a fork of this process, which keeps its imports and loses everything else: its
    environment, and every open file and socket (Airflow's way to its secrets among them).
    """
    reader, writer = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _forked(request, writer, parent)
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as pipe:
            answer = pipe.read()
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        with contextlib.suppress(ChildProcessError):
            _, status = os.waitpid(pid, 0)
    if answer[:1] != b"+":
        why = answer[1:].decode(errors="replace") or _ended(os.waitstatus_to_exitcode(status))
        raise ToolError("dbt", why)
    return decode(BuildResult, answer[1:])


def _forked(request: BuildRequest, writer: int, parent: int) -> None:
    try:
        _die_with(parent)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        kept = scrubbed(os.environ)
        os.environ.clear()
        os.environ.update(kept)
        _let_go(writer)
        answer = _answer(b"build\n" + encode(request))
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)


def _let_go(keep: int) -> None:
    """
    Put /dev/null in the place of every inherited descriptor. Closing them would let a new file
    take a number that some object of the parent still believes to own, and closes later.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for file in list(_open_files()):
        if file not in (keep, nothing):
            with contextlib.suppress(OSError):
                os.dup2(nothing, file)


def _open_files() -> Iterator[int]:
    for folder in (Path("/proc/self/fd"), Path("/dev/fd")):
        if folder.is_dir():
            yield from (int(entry.name) for entry in folder.iterdir())
            return


def _ended(code: int) -> str:
    how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
    return f"the process of the build {how} before it answered"
