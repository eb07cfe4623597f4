"""
How the parts of Levada in Airflow reach the databases and the declarations.

A role signs in through the Airflow connection of its own name (`levada_runner`,
`levada_publisher`, `levada_domain_<d>`; `levada_governance` where Airflow asks for approvals).
DAGs, triggers and XComs hold such names, never an address: a database may move, and what waits goes
on waiting at the new place.
"""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode
from weakref import WeakKeyDictionary

from airflow.sdk.exceptions import AirflowException

from levada import compiled
from levada.errors import Unavailable
from levada.ledger import PostgresLedger
from levada.settings import Settings, find_root, read_settings
from levada.terms import Mesh

if TYPE_CHECKING:
    import asyncpg

__all__ = [
    "GOVERNANCE",
    "PUBLISHER",
    "RUNNER",
    "AirflowCredentials",
    "address",
    "connect",
    "declared",
    "ledger_at",
    "look_up_outside",
    "looked_up",
    "mesh_of",
    "outside",
    "project_root",
    "runner_address",
    "settings_of",
]

RUNNER, PUBLISHER, GOVERNANCE = "levada_runner", "levada_publisher", "levada_governance"
_KEPT_FOR = 60.0
"""Seconds for which a trigger's process remembers an address; a waiter asks often."""


class Connection(Protocol):
    """What is read of an Airflow connection."""

    host: str | None
    port: int | None
    login: str | None
    password: str | None
    schema: str | None
    extra: str | None


def address(connection: Connection, database: str | None = None) -> str:
    """The connection as a PostgreSQL address."""
    options: dict[str, Any] = json.loads(connection.extra or "{}")
    host = connection.host or "localhost"
    host = f"[{host}]" if ":" in host else host
    user = quote(connection.login or "", safe="")
    password = quote(connection.password or "", safe="")
    name = quote(database or connection.schema or "levada")
    query = f"?{urlencode(options)}" if options else ""
    return f"postgresql://{user}:{password}@{host}:{connection.port or 5432}/{name}{query}"


class AirflowCredentials:
    """How each role signs in, looked up in Airflow when it is first asked for."""

    def url(self, role: str, database: str = "levada") -> str:
        """The role's address of a database."""
        return address(_connection(role), database)

    def conninfo(self, role: str, database: str = "lake") -> str:
        """The same as libpq keywords."""
        from psycopg.conninfo import conninfo_to_dict, make_conninfo

        words = conninfo_to_dict(self.url(role, database))
        return make_conninfo(**{name: str(word) for name, word in words.items()})


@functools.cache
def _connection(role: str) -> Any:
    from airflow.sdk.bases.hook import BaseHook

    return BaseHook.get_connection(role)


# In a triggerer, where nothing may block


_known: dict[str, tuple[float, str]] = {}
_asking: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def runner_address(conn_id: str) -> str:
    """The ledger's address for a connection, asked for once a minute by all waiters together."""
    from airflow.sdk.bases.hook import BaseHook

    async with _asking.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        at, url = _known.get(conn_id, (-_KEPT_FOR, ""))
        if time.monotonic() - at >= _KEPT_FOR:
            url = address(await BaseHook.aget_connection(conn_id))
            _known[conn_id] = (time.monotonic(), url)
        return url


# Databases outside the mesh, which sources are probed in


_outside: dict[str, str | Unavailable] = {}


def outside(conn_id: str) -> str:
    """Where a connection to a database outside leads; for a task."""
    from airflow.sdk.bases.hook import BaseHook

    try:
        return _outside_address(conn_id, BaseHook.get_connection(conn_id))
    except AirflowException as error:
        raise Unavailable(f"connection {conn_id}", "Airflow", str(error)) from error


async def look_up_outside(conn_ids: Iterable[str]) -> None:
    """Ask for these connections, so that a thread of a trigger may have them by `looked_up`."""
    from airflow.sdk.bases.hook import BaseHook

    for conn_id in conn_ids:
        try:
            found = _outside_address(conn_id, await BaseHook.aget_connection(conn_id))
            _outside[conn_id] = found
        except Unavailable as error:
            _outside[conn_id] = error
        except AirflowException as error:
            _outside[conn_id] = Unavailable(f"connection {conn_id}", "Airflow", str(error))


def looked_up(conn_id: str) -> str:
    """Where a connection leads that was looked up before. Raises Unavailable."""
    found = _outside.get(conn_id)
    if isinstance(found, str):
        return found
    why = found.why if found else "it was not looked up"
    raise Unavailable(f"connection {conn_id}", "Airflow", why)


def _outside_address(conn_id: str, connection: Any) -> str:
    if connection.conn_type not in ("postgres", "postgresql"):
        why = f"it is of type {connection.conn_type}: sources are probed in PostgreSQL only"
        raise Unavailable(f"connection {conn_id}", "Airflow", why)
    return address(connection, connection.schema or "postgres")


async def connect(conn_id: str) -> asyncpg.Connection:
    """A connection for the tail."""
    import asyncpg

    return await asyncpg.connect(await runner_address(conn_id), timeout=10)


@functools.lru_cache(maxsize=8)
def ledger_at(url: str) -> PostgresLedger:
    """The ledger of an address; its few connections are shared by all who ask."""
    return PostgresLedger(url)


# The declarations


def project_root() -> Path:
    """The folder of `levada.yaml`: LEVADA_PROJECT, or above Airflow's DAG folder."""
    import os

    if os.environ.get("LEVADA_PROJECT"):
        return find_root()
    from airflow.configuration import conf

    return find_root(Path(conf.get("core", "dags_folder")))


def settings_of(root: Path) -> Settings:
    """The settings of a project, read anew when `levada.yaml` changed."""
    return _settings(root, (root / "levada.yaml").stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _settings(root: Path, _changed: int) -> Settings:
    return read_settings(root)


def mesh_of(root: Path) -> Mesh:
    """The compiled mesh of a project, read anew when a compiled file changed."""
    return _mesh(settings_of(root).root, declared(root))


def declared(root: Path) -> tuple[int, ...]:
    """When each compiled file was written: another answer, other declarations."""
    settings = settings_of(root)
    files = (settings.home / f"{domain}.json" for domain in settings.domains)
    return tuple(f.stat().st_mtime_ns if f.is_file() else 0 for f in files)


@functools.lru_cache(maxsize=8)
def _mesh(root: Path, _changed: tuple[int, ...]) -> Mesh:
    return compiled.load(settings_of(root))
