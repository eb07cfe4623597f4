"""Connections to the warehouse, one a task: each as the role whose rights the task needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors

from levada.adapters.warehouses._session import where
from levada.adapters.warehouses._sql import redacted
from levada.errors import LawBroken, LevadaError, NotPublishable, ToolError, Unavailable

__all__ = ["PUBLISHER", "RUNNER", "Connection", "connected", "told"]

RUNNER, PUBLISHER = "levada_runner", "levada_publisher"

Connection = psycopg.Connection[Any]

# Nothing is looked up but by its full name: what a domain put into its schema shadows nothing.
_SETTINGS = "-c TimeZone=UTC -c search_path=pg_catalog -c lock_timeout=10s"


@contextmanager
def connected(conninfo: Callable[[str], str], role: str) -> Iterator[Connection]:
    """
    One transaction as a role, committed at the end.

    Connecting costs some milliseconds, and leaves nothing that a forked child would share.
    """
    address = conninfo(role)
    try:
        with psycopg.connect(address, connect_timeout=10, options=_SETTINGS) as connection:
            yield connection
    except psycopg.Error as error:
        raise told(error, address) from error


def told(error: psycopg.Error, address: str) -> LevadaError:
    """What an error of PostgreSQL means to a caller."""
    message = redacted((str(error).strip().splitlines() or [type(error).__name__])[0])
    match error:
        case errors.InsufficientPrivilege():
            return LawBroken(f"the warehouse: {message}")
        case errors.NotNullViolation() | errors.DataError():
            return NotPublishable(message)
        case errors.InvalidSchemaName() | errors.UndefinedTable():
            message += "; the warehouse is made by `levada up`"
        case errors.LockNotAvailable():
            message += ": somebody holds a lock"
        case psycopg.OperationalError() if (error.sqlstate or "08")[:2] in ("08", "3D", "57"):
            return Unavailable("the warehouse", where(address), message)
    return ToolError("PostgreSQL", message)
