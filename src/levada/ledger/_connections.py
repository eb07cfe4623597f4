"""Connections to the ledger's database: a few kept warm, and the database's errors in our words."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from levada.errors import (
    ClaimLost,
    LawBroken,
    LevadaError,
    NotPublishable,
    TableHeld,
    TerminalError,
    Unavailable,
)
from levada.ports import Clock

__all__ = ["Asking", "Connections"]

Connection = psycopg.Connection[tuple[Any, ...]]

# What the ledger's functions raise.
_LAWS = {"LV001": ClaimLost, "LV002": NotPublishable, "LV003": LawBroken, "LV004": TableHeld}
_SESSION = {
    "TimeZone": "UTC",
    # No writer may hold what others wait for, and none waits for ever.
    "lock_timeout": "60s",
    "idle_in_transaction_session_timeout": "120s",
}
_KEPT = 4


class Connections:
    """
    Autocommit connections of one role, shared by threads, never by processes.

    A call takes an idle connection or makes one, and gives it back. After a fork the child makes
    its own: the parent's stay untouched.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        place = conninfo_to_dict(url)
        self.where = f"{place.get('host', 'localhost')}:{place.get('port', 5432)}"
        self._idle: list[Connection] = []
        self._pid = os.getpid()
        self._lock = threading.Lock()

    @contextmanager
    def take(self) -> Iterator[Connection]:
        """A connection for the block; the database's errors leave it as ours."""
        if self._pid != os.getpid():
            # The parent's sockets, and perhaps a lock that one of its threads held: let them go.
            # psycopg closes no connection that this process did not open.
            self._idle, self._lock, self._pid = [], threading.Lock(), os.getpid()
        connection = self._idle_one() or self.fresh()
        try:
            with self.translated():
                yield connection
        finally:
            self._give_back(connection)

    def fresh(self) -> Connection:
        """A new connection, which the caller closes."""
        options = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
        with self.translated():
            return psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=10,
                options=options,
                application_name="levada",
                # A server that is gone without a word is noticed, whether we ask or wait.
                keepalives_idle=30,
                keepalives_interval=10,
                keepalives_count=3,
                tcp_user_timeout=10_000,
            )

    def close(self) -> None:
        """Close what is idle; the next call connects anew."""
        with self._lock:
            idle, self._idle = self._idle, []
        if self._pid == os.getpid():
            for connection in idle:
                connection.close()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise the database's errors as errors of Levada."""
        try:
            yield
        except psycopg.Error as error:
            raise self._ours(error) from error

    def _ours(self, error: psycopg.Error) -> LevadaError:
        sentence = error.diag.message_primary or _first_line(error)
        if error.sqlstate in _LAWS:
            return _LAWS[error.sqlstate](sentence)
        if isinstance(error, psycopg.errors.InsufficientPrivilege):
            return LawBroken(f"this role may not: {sentence}")
        if isinstance(
            error,
            psycopg.errors.UndefinedTable
            | psycopg.errors.UndefinedFunction
            | psycopg.errors.InvalidSchemaName,
        ):
            return TerminalError(f"no ledger at {self.where} ({sentence}): run `levada up`")
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return Unavailable("the ledger", self.where, sentence)
        return TerminalError(f"the ledger at {self.where} refused: {sentence}")

    def _idle_one(self) -> Connection | None:
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if not _is_stale(connection):
                    return connection
                connection.close()
        return None

    def _give_back(self, connection: Connection) -> None:
        idle = psycopg.pq.TransactionStatus.IDLE
        with self._lock:
            healthy = not connection.closed and connection.info.transaction_status == idle
            if healthy and len(self._idle) < _KEPT:
                self._idle.append(connection)
                return
        connection.close()


def _is_stale(connection: Connection) -> bool:
    """Whether an idle connection has something to say: the server only says goodbye unasked."""
    if connection.closed:
        return True
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poller.poll(0))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


class Asking:
    """What all parts of the ledger have in common: they ask its database as one role."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self._connections = Connections(url)
        self._clock = clock

    def close(self) -> None:
        """Close idle connections."""
        self._connections.close()

    @contextmanager
    def _take(self) -> Iterator[Connection]:
        with self._connections.take() as connection:
            yield connection

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._take() as connection:
            return connection.execute(statement, values).fetchall()

    def _now(self) -> datetime | None:
        """The clock's time; None is the database's own."""
        return self._clock() if self._clock else None
