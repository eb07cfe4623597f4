"""One DuckDB inside this process, speaking to the lakes as one PostgreSQL role."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TypeVar

import duckdb

from levada.adapters.warehouses import extensions
from levada.adapters.warehouses._sql import literal, name, redacted
from levada.errors import LevadaError, NotPublishable, ToolError, Unavailable, VersionGone

__all__ = ["Session", "attachment", "options", "scratch", "translated", "where"]

Answer = TypeVar("Answer")

_UNREACHABLE = (
    "unable to connect",
    "connection to server",
    "server closed the connection",
    "terminating connection",
    "connection is closed",
    "no connection to the server",
    "could not receive data",
)


def options(domain: str, root: Path, *, write: bool) -> dict[str, object]:
    """
    How a domain's lake is attached.

    The data path is given each time, so that a project may be moved. Nothing is inlined into the
    catalogue: DuckLake of DuckDB 1.5.5 loses quotes inside inlined STRUCT values.
    """
    common: dict[str, object] = {
        "metadata_schema": domain,
        "data_path": f"{root / domain}/",
        "override_data_path": True,
    }
    return common | ({"data_inlining_row_limit": 0} if write else {"read_only": True})


def attachment(domain: str, root: Path, conninfo: str, *, write: bool = False) -> str:
    """The statement that attaches a domain's lake under the domain's name."""
    settings = ", ".join(
        f"{key.upper()} {literal(value) if isinstance(value, str) else str(value).upper()}"
        for key, value in options(domain, root, write=write).items()
    )
    path = literal(f"ducklake:postgres:{conninfo}")
    return f"ATTACH IF NOT EXISTS {path} AS {name(domain)} ({settings})"


def scratch(statements: Iterable[str] = ()) -> duckdb.DuckDBPyConnection:
    """A new DuckDB in memory, in UTC, after these statements, each of them once."""
    connection = duckdb.connect(config=extensions.TRUSTED)
    try:
        connection.execute("SET TimeZone = 'UTC'")
        # It would stand in the midst of what `--json` prints, once a query takes two seconds.
        connection.execute("SET enable_progress_bar = false")
        for statement in (*dict.fromkeys(statements), extensions.SIGNED):
            connection.execute(statement)
    except BaseException:
        connection.close()
        raise
    return connection


class Session:
    """
    A DuckDB that is opened once in a process and kept, because loading the extensions is what
    takes long. Calls follow one another. A process that was forked opens its own and never
    touches, not even by closing it, the connections that it inherited.
    """

    def __init__(self, role: str, conninfo: Callable[[str], str], root: Path, write: bool) -> None:
        self.role = role
        self._conninfo, self._root, self._write = conninfo, root, write
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._connection: duckdb.DuckDBPyConnection | None = None

    def run(
        self, domains: Collection[str], work: Callable[[duckdb.DuckDBPyConnection], Answer]
    ) -> Answer:
        """
        Do `work` with these lakes attached.

        After an error the DuckDB is thrown away, and with it an open transaction and whatever else
        was attached. When it had been kept from an earlier call and its catalogue connection has
        died since, `work` is done once more with a fresh one.
        """
        if self._pid != os.getpid():
            if self._connection is not None:
                # Never collected: its end would say goodbye on the parent's sockets.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
            self._forget()
        with self._lock:
            kept = self._connection is not None
            try:
                return self._attempt(domains, work)
            except Unavailable:
                if not kept:
                    raise
                return self._attempt(domains, work)

    def close(self) -> None:
        """End the DuckDB of this process, if there is one."""
        if self._pid == os.getpid():
            with self._lock:
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None

    def _attempt(
        self, domains: Collection[str], work: Callable[[duckdb.DuckDBPyConnection], Answer]
    ) -> Answer:
        try:
            if self._connection is None:
                self._connection = scratch(
                    (*extensions.loading(), "SET ducklake_max_retry_count = 100")
                )
            for domain in sorted(domains):
                conninfo = self._conninfo(self.role)
                self._connection.execute(
                    attachment(domain, self._root, conninfo, write=self._write)
                )
            return work(self._connection)
        except duckdb.Error as error:
            self.close()
            raise translated(error, self._conninfo(self.role)) from error
        except BaseException:
            self.close()
            raise


def where(conninfo: str) -> str:
    """
    The place that a connection string names, without its secrets.

    >>> where("host=127.0.0.1 port=5544 user=u password=p dbname=lake")
    '127.0.0.1:5544/lake'
    """
    from psycopg.conninfo import conninfo_to_dict

    said = conninfo_to_dict(conninfo)
    return f"{said.get('host', 'localhost')}:{said.get('port', 5432)}/{said.get('dbname', '')}"


def translated(error: duckdb.Error, conninfo: str) -> LevadaError:
    """What an error of DuckDB means to a caller."""
    message = redacted(str(error))
    if any(sign in message.lower() for sign in _UNREACHABLE):
        return Unavailable("the lake's catalogue", where(conninfo), message.splitlines()[-1])
    if "No snapshot found at version" in message:
        return VersionGone(message)
    if isinstance(error, duckdb.ConstraintException):
        return NotPublishable(message)
    if "creating a new DuckLake is explicitly disabled" in message:
        return ToolError("DuckLake", "a domain's lake does not exist yet; `levada up` makes it")
    return ToolError("DuckLake", message)
