"""The platform's side: one warm dbt process for each domain, started when first needed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeVar

from levada.adapters.dbt.codec import decode, encode
from levada.adapters.dbt.facts import (
    CompiledSql,
    CompileRequest,
    EmptyBuild,
    ParsedProject,
    ParseRequest,
)
from levada.adapters.dbt.worker import scrubbed
from levada.build import BuildRequest, BuildResult, Room
from levada.errors import Fault, ToolError

__all__ = ["DbtWorkers", "keep_warm"]

T = TypeVar("T")
_Request = ParseRequest | BuildRequest | EmptyBuild | CompileRequest

_PROGRAM = "from levada.adapters.dbt.worker import main; main()"
_START = 120.0
"""Seconds for importing dbt, on a machine that is busy."""
_END = 5.0


@dataclass(frozen=True, slots=True)
class _Child:
    pid: int
    connection: Connection[bytes, bytes]
    room: Room | None

    def alive(self) -> bool:
        """An idle child says nothing; one that ended has an end of file for us."""
        try:
            return not self.connection.poll(0)
        except OSError:
            return False

    def started_something(self) -> bool:
        """Whether processes of its own are left (Linux)."""
        with contextlib.suppress(OSError):
            threads = Path(f"/proc/{self.pid}/task").iterdir()
            return any((thread / "children").read_text() for thread in threads)
        return False

    def end(self) -> None:
        """Kill it, and wait until it is gone: its stage stays locked until then."""
        self.connection.close()
        patience = time.monotonic() + _END
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
            while time.monotonic() < patience:
                time.sleep(0.002)
                os.kill(self.pid, 0)


class DbtWorkers:
    """
    Parses and builds, each domain in a process of its own without the platform's credentials.

    Calls for one domain wait for one another, calls for several do not. A child that dies costs
    the call that it served (ToolError); the next call gets a fresh one, and so does a build after
    one that left processes behind. Nothing outlives us.
    """

    def __init__(self, *, limit: float = 3600.0) -> None:
        """`limit` is how many seconds one call may take."""
        self._limit = limit
        self._guard = threading.Lock()
        self._busy: Mapping[str, threading.Lock] = defaultdict(threading.Lock)
        self._children: dict[str, _Child] = {}
        self._inherits = True
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._said: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self.warm()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def warm(self) -> None:
        """Start importing dbt, beside whatever the caller does next."""
        with self._guard:
            self._start()

    def parse(self, domain: str, request: ParseRequest) -> ParsedProject:
        """Parse the domain's project and keep its manifest; faults are in the answer."""
        if request.room is None:
            return self._call(domain, "parse", request, ParsedProject)
        # The child cannot write where its builds will read: we carry the manifest over.
        made = request.room.logs / "manifest.msgpack"
        made.unlink(missing_ok=True)
        found = self._call(domain, "parse", replace(request, out=made), ParsedProject)
        if made.is_file() and not made.is_symlink():
            made.replace(request.out)
        return found

    def build(self, request: BuildRequest) -> BuildResult:
        """Build a product in its stage (a `levada.build.Builder`)."""
        return self._call(request.domain, "build", request, BuildResult)

    def empty_build(self, domain: str, request: EmptyBuild) -> tuple[Fault, ...]:
        """Build the domain's whole project on empty tables; every fault."""
        return self._call(domain, "empty_build", request, tuple[Fault, ...])

    def compiled_sql(self, domain: str, request: CompileRequest) -> tuple[CompiledSql, ...]:
        """The SQL of the domain's models, as far as it can be compiled without any data."""
        return self._call(domain, "compile", request, tuple[CompiledSql, ...])

    def pid(self, domain: str | None = None) -> int | None:
        """The process of a domain, or the one that forks them; None where there is none."""
        if domain is None:
            return self._process.pid if self._process else None
        child = self._children.get(domain)
        return child.pid if child else None

    def control(self) -> socket.socket:
        """The socket on which children are asked for."""
        with self._guard:
            return self._start()

    def close(self) -> None:
        """End every process."""
        with self._guard:
            for child in self._children.values():
                child.end()
            self._children.clear()
            self._stop()

    def _call(self, domain: str, name: str, request: _Request, kind: type[T]) -> T:
        with self._busy[domain]:
            child = self._child(domain, request.room)
            try:
                child.connection.send_bytes(name.encode() + b"\n" + encode(request))
                if not child.connection.poll(self._limit):
                    raise ToolError("dbt", f"{domain}: no answer to {name} in {self._limit:g} s")
                answer = child.connection.recv_bytes()
            except (EOFError, OSError) as error:
                self._drop(domain, child)
                why = f"the process of {domain} ended before it answered ({name})"
                raise ToolError("dbt", why) from error
            except BaseException:  # its late answer must not be taken for that of another call
                self._drop(domain, child)
                raise
            if child.started_something():
                self._drop(domain, child)
        if answer[:1] != b"+":
            raise ToolError("dbt", f"{domain}: {answer[1:].decode(errors='replace')}")
        try:
            return decode(kind, answer[1:])
        except (TypeError, ValueError, KeyError) as error:
            raise ToolError("dbt", f"{domain}: an answer of the wrong shape: {error}") from error

    def _child(self, domain: str, room: Room | None) -> _Child:
        child = self._children.get(domain)
        if child is not None and child.room == room and child.alive():
            return child
        with self._guard:
            if child is not None:
                child.end()
            self._children[domain] = self._fork(room)
            return self._children[domain]

    def _drop(self, domain: str, child: _Child) -> None:
        with self._guard:
            child.end()
            if self._children.get(domain) is child:
                del self._children[domain]

    def _fork(self, room: Room | None) -> _Child:
        try:
            return self._ask_for_child(room)
        except (EOFError, OSError):  # the process that forks was ended, perhaps just now
            self._stop()
        try:
            return self._ask_for_child(room)
        except (EOFError, OSError) as error:
            said = self._last_words()
            self._stop()
            raise ToolError("dbt", f"its process does not start: {said}") from error

    def _ask_for_child(self, room: Room | None) -> _Child:
        ours, theirs = socket.socketpair()
        connection: Connection[bytes, bytes] = Connection(ours.detach())
        try:
            with theirs:
                socket.send_fds(self._start(), [b"f"], [theirs.fileno()])
            if not connection.poll(_START):
                raise EOFError
            return _Child(int(connection.recv_bytes()), connection, room)
        except BaseException:
            connection.close()
            raise

    def _start(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._stop()
        if self._control is None and self._inherits and _kept:
            self._control = _kept[0].dup()
        if self._control is not None:
            return self._control
        self._control, theirs = socket.socketpair()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        number = str(theirs.fileno())
        with theirs:
            self._process = subprocess.Popen(
                # -P: no folder of the mesh may stand in for a module.
                [sys.executable, "-P", "-c", _PROGRAM, number, str(os.getpid())],
                env=scrubbed(os.environ),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                start_new_session=True,  # Ctrl-C is for us, who then end it
            )
        return self._control

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                self._process.wait(timeout=0.2)  # it ends when its socket does
            except subprocess.TimeoutExpired:  # or it is still importing
                self._process.kill()
                self._process.wait()
        if self._said is not None:
            self._said.close()
        self._control = self._process = self._said = None
        self._inherits = False  # what was inherited is gone, or we are

    def _last_words(self) -> str:
        if self._said is None:
            return ""
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


_kept: list[socket.socket] = []
"""The way to a process that has dbt imported, for us and for all that are forked from us."""
_keeper = DbtWorkers()


def keep_warm() -> None:
    """
    Start a process that imports dbt, once, for every process that will be forked from this one:
    their `DbtWorkers` ask it for children. It ends with this process.
    """
    if not _kept:
        _keeper.warm()
        _kept.append(_keeper.control())
