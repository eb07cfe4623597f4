"""
Real `levada` processes that need not import anything: forks of one that has imported it all.

A fresh command spends ten seconds on importing Great Expectations and dbt, which no fault is about.
`program` imports both once, opens nothing, and forks: a process for each command and, when that
asks for it, the process in which `DbtWorkers` has dbt imported. What runs is what always runs, with
its own environment, folder and output; it can be killed, stopped and waited for like any other.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Running", "begin"]

_HERE = Path(__file__).parent
_MOST = 1 << 18


@dataclass
class Running:
    """A command on its way."""

    words: tuple[str, ...]
    pid: int
    answer: socket.socket
    output: Path
    _code: list[int] = field(default_factory=list)

    def wait(self, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """How it ended, as `subprocess.run` tells it; TimeoutError if it does not end."""
        if not self._code:
            self.answer.settimeout(seconds)
            self._code.append(int(self.answer.recv(64)))
            self.answer.close()
        said = [(self.output / name).read_text() for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(self.words, self._code[0], *said)

    def wait_until_stopped(self, seconds: float = 120) -> None:
        """Until it has stopped itself (SIGSTOP)."""
        self.answer.settimeout(seconds)
        said = self.answer.recv(64)
        if said != b"stopped":
            self._code.append(int(said))
            raise AssertionError(f"ended instead of stopping: {self.wait()}")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)


def begin(
    words: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    point: str = "",
    number: int = 0,
) -> Running:
    """Start `levada` with these words; it sends itself signal `number` at a named point."""
    output = Path(tempfile.mkdtemp(dir=_home()))
    door = _home() / "socket"
    connection = _connect(door)
    order = {
        "words": list(words),
        "cwd": str(cwd),
        "environment": dict(environment),
        "output": str(output),
        "door": str(door),
        "point": point,
        "number": int(number),
    }
    connection.send(json.dumps(order).encode())
    pid = int(connection.recv(64))
    return Running(tuple(words), pid, connection, output)


@functools.cache
def _home() -> Path:
    """The folder of the program, which is started on first use and ends with us."""
    home = Path(tempfile.mkdtemp(prefix="levada-warm-"))
    places = os.pathsep.join(filter(None, (str(_HERE), os.environ.get("PYTHONPATH"))))
    # What other tests of this process have set is not what a shell would hand on.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "LEVADA"))}
    environment = {**clean, "COLUMNS": "120", "NO_COLOR": "1", "PYTHONPATH": places}
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "import warm; warm.program()", str(home / "socket")],
            env=environment,
            stdin=subprocess.PIPE,  # its end of file is our end
            stdout=subprocess.PIPE,
            stderr=log,
        )

    def end() -> None:
        process.kill()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)

    atexit.register(end)
    if process.stdout is None or process.stdout.readline() != b"ready\n":
        raise AssertionError((home / "log").read_text())
    return home


def _connect(place: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST)
    connection.connect(str(place))
    return connection


# --- the program ----------------------------------------------------------------------------------


def program() -> None:
    """Import all, then fork for every order that comes in, until whoever started us is gone."""
    import select

    import killed  # noqa: F401 - imported here, so that no fork has to

    from levada.adapters import gx
    from levada.adapters.dbt import worker
    from levada.cli import checking, looking, running, services  # noqa: F401

    gx.preload()
    worker.preload()
    _remember_macros()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    door.bind(sys.argv[1])
    door.listen()
    gc.collect()
    gc.freeze()
    os.write(1, b"ready\n")
    while door in select.select([door, 0], [], [])[0]:
        connection, _ = door.accept()
        body, files, _, _ = socket.recv_fds(connection, _MOST, 1)
        if os.fork() == 0:
            try:
                door.close()
                order = json.loads(body)
                _dbt(files[0]) if order == "dbt" else _watch(connection, order)
            finally:
                os._exit(70)
        connection.close()
        for file in files:
            os.close(file)


def _remember_macros() -> None:
    """
    Parse the five hundred macros that dbt brings along, as it does for every project that is new to
    it, a second of CPU each time; it keeps what it parsed, as in its own tests, by the text.
    """
    import dbt.adapters.duckdb
    import dbt.adapters.postgres  # noqa: F401 - their macros go into the same folder
    from dbt import include
    from dbt.clients import jinja_static
    from dbt_common.clients import jinja
    from dbt_common.tests import enable_test_caching

    enable_test_caching()
    blocks = {"macro", "materialization", "test", "data_test"}
    for folder in include.__path__:
        for path in sorted(Path(folder).glob("*/macros/**/*.sql")):
            text = path.read_text().strip()
            for block in jinja.extract_toplevel_blocks(text, blocks, collect_raw_data=False):
                if whole := block.full_block:
                    jinja.parse(whole)
                    jinja_static.statically_extract_macro_calls(whole, {})


def _dbt(file: int) -> None:
    """Become the process that `DbtWorkers` would have started, with dbt imported already."""
    from levada.adapters.dbt import worker

    kept = worker.scrubbed(os.environ)
    os.environ.clear()
    os.environ.update(kept)
    os.setsid()
    sys.argv = ["", str(file), str(os.getppid())]
    worker.main()


def _watch(connection: socket.socket, order: Mapping[str, Any]) -> None:
    """Fork the command, and tell its pid, each time it stops, and how it ended."""
    from levada.adapters.dbt.worker import _die_with

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _die_with(os.getppid())  # what a failing test left standing ends with it
    me = os.getpid()
    pid = os.fork()
    if pid == 0:
        _die_with(me)
        connection.close()
        _command(order)
    connection.send(str(pid).encode())
    while True:
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        connection.send(b"stopped")
    with contextlib.suppress(BrokenPipeError):
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _command(order: Mapping[str, Any]) -> None:
    """Be `levada`."""
    from killed import arm

    from levada.adapters.dbt.workers import DbtWorkers
    from levada.cli import main

    code = 70
    try:
        os.setsid()
        os.chdir(order["cwd"])
        os.environ.clear()
        os.environ.update(order["environment"])
        for number, name in ((0, os.devnull), (1, "stdout"), (2, "stderr")):
            file = os.open(Path(order["output"], name), os.O_RDWR | os.O_CREAT, 0o600)
            os.dup2(file, number)
        start = functools.partialmethod(_start, Path(order["door"]))
        setattr(DbtWorkers, "_start", start)  # noqa: B010
        if order["point"]:
            arm(order["point"], order["number"])
        sys.argv = ["levada", *order["words"]]
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class _Forked:
    """What `DbtWorkers` asks of the process that it would have started; it ends by end of file."""

    pid = 0

    def poll(self) -> None:
        return None

    def wait(self, timeout: float = 0) -> int:  # noqa: ARG002 - as subprocess has it
        return 0

    def kill(self) -> None:
        return


def _start(workers: Any, door: Path) -> socket.socket:
    """`DbtWorkers._start`, by a fork of the program instead of a new interpreter."""
    if workers._control is None:
        ours, theirs = socket.socketpair()
        with theirs, _connect(door) as connection:
            socket.send_fds(connection, [b'"dbt"'], [theirs.fileno()])
        workers._control, workers._process = ours, _Forked()
    control: socket.socket = workers._control
    return control
