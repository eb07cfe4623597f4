"""
Following the ledger: one tail serves all waiters of a process.

Positions are given inside COMMIT, in commit order, so that reading on from the last one misses
nothing and repeats nothing. NOTIFY wakes the reader; a slow poll stands behind it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg

__all__ = ["CHANNEL", "Batch", "follow", "position"]

CHANNEL = "levada"
_MOST = 10_000
_PATIENCE = 30.0  # a server that hangs is a server that is down
_BACK_OFF = (0.1, 5.0)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """
    What changed after position `start`, up to `stop`: (table or product, partition key) pairs.

    A batch joins the one before it when its `start` is that one's `stop`. A waiter whose own
    position lies before `start` has missed something, and reads the ledger again.
    """

    start: int
    stop: int
    keys: frozenset[tuple[str, str]]


async def position(connection: asyncpg.Connection) -> int:
    """The position of the newest line."""
    value = await connection.fetchval("select position from ledger.positions", timeout=_PATIENCE)
    return int(value)


async def follow(
    connect: Callable[[], Awaitable[asyncpg.Connection]],
    after: int | None,
    *,
    poll: float = 15.0,
) -> AsyncIterator[Batch]:
    """
    Yield what is committed after a position (None: from now on), for ever.

    Nothing that goes wrong ends it, since one error would fail every waiter: it connects anew,
    waiting 5 s at most between tries, and goes on from where it stood.
    """
    cursor, pause = after, _BACK_OFF[0]
    while True:
        try:
            connection = await connect()
        except Exception as error:
            pause = await _rest("does not answer", error, pause)
            continue
        try:
            wake = asyncio.Event()
            connection.add_termination_listener(lambda *_, wake=wake: wake.set())
            await connection.add_listener(CHANNEL, lambda *_, wake=wake: wake.set())
            newest = await position(connection)
            if cursor is None or newest < cursor:
                # Behind us: another ledger stands there now, perhaps a restored one.
                cursor = newest if cursor is None else 0
            while True:
                wake.clear()
                batch = await _read(connection, cursor)
                pause = _BACK_OFF[0]
                if batch is not None:
                    cursor = batch.stop
                    yield batch
                    continue
                await _sleep(wake, poll)
        except Exception as error:
            pause = await _rest("broke off", error, pause)
        finally:
            connection.terminate()


async def _read(connection: asyncpg.Connection, cursor: int) -> Batch | None:
    rows = await connection.fetch(
        "select pos, name, key from ledger.changes where pos > $1 order by pos limit $2",
        *(cursor, _MOST),
        timeout=_PATIENCE,
    )
    if not rows:
        return None
    return Batch(cursor, rows[-1]["pos"], frozenset((row["name"], row["key"]) for row in rows))


async def _sleep(wake: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        return


async def _rest(what: str, error: Exception, pause: float) -> float:
    """Wait before the next try; how long to wait before the one after it."""
    _log.warning("the ledger %s (%s: %s); trying again", what, type(error).__name__, error)
    await asyncio.sleep(pause)
    return min(pause * 2, _BACK_OFF[1])
