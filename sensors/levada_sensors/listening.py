"""
How what the tail brings reaches the waiters: each line only those whom it touches.

Airflow hands every item of a shared stream to every subscriber, so that with ten thousand waiters
each committed line would cost ten thousand wake-ups. The stream therefore carries only what
everybody must hear: where the tail begins, and when it begins anew. The rest goes through the
process's switchboard, at a cost of what it touches, however many wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Hashable, Iterator
from pathlib import Path
from weakref import WeakKeyDictionary

from levada.ledger.tail import Batch
from levada_sensors import connections
from levada_sensors.judging import Touches

__all__ = ["Listener", "Switchboard"]

_LOOK = 5.0
"""Seconds between looks of a listener whose stream has failed."""
_RECENT = 20_000
"""How many keys of recent lines are kept, for those who read the ledger just before them."""
_DECLARED = 20.0
"""Seconds between looks at the compiled declarations."""
_ALL = "everything"


class Switchboard:
    """
    Wakes the listeners whom a batch touches. One for each ledger and event loop.

    Recent batches are kept: a waiter reads the ledger, learns what may change its answer, and only
    then listens. What was committed between is found here, or else it is told to read again.
    """

    def __init__(self) -> None:
        self._listening: dict[Hashable, set[asyncio.Event]] = {}
        self._recent: deque[Batch] = deque()
        self._kept = 0
        self._begin: int | None = None
        self._end = 0
        self._ears = 0
        self._watching: dict[Path, asyncio.Task[None]] = {}
        self.declared = 0
        """How often the declarations changed, as far as was seen."""

    @classmethod
    def shared(cls, key: Hashable) -> Switchboard:
        """The one of this key, in the running event loop."""
        boards = _boards.setdefault(asyncio.get_running_loop(), {})
        return boards.setdefault(key, cls())

    def begin(self, position: int) -> None:
        """The tail stands here; whoever read less has missed something."""
        self._recent.clear()
        self._kept = 0
        self._begin = self._end = position
        self.wake()

    def hand_out(self, batch: Batch) -> bool:
        """Wake those whom a batch touches; whether it joined what came before."""
        if batch.start != self._end:
            self.begin(batch.start)
            self._add(batch)
            self.wake()
            return False
        self._add(batch)
        for key in {*batch.keys, *(name for name, _ in batch.keys), _ALL}:
            for came in self._listening.get(key, ()):
                came.set()
        return True

    def wake(self) -> None:
        """Wake all: each sees for itself whether it concerns it."""
        for listening in self._listening.values():
            for came in listening:
                came.set()

    def touched(self, position: int, touches: Touches | None) -> bool:
        """Whether something after `position` concerns a waiter, as far as the tail has come."""
        if self._begin is None or position >= self._end:
            return False
        if position < self._begin:
            return True
        for batch in reversed(self._recent):
            if batch.stop <= position:
                return False
            if touches is None or touches.by(batch):
                return True
        return False

    @contextlib.contextmanager
    def listening(self, touches: Touches | None, came: asyncio.Event) -> Iterator[None]:
        """Set `came` at whatever touches, while the block lasts."""
        keys: list[Hashable] = [_ALL] if touches is None else [*touches.keys, *touches.names]
        for key in keys:
            self._listening.setdefault(key, set()).add(came)
        try:
            yield
        finally:
            for key in keys:
                listening = self._listening[key]
                listening.discard(came)
                if not listening:
                    del self._listening[key]

    def join(self) -> None:
        """One more waiter."""
        self._ears += 1

    def leave(self) -> None:
        """One less; the last one ends what was done for them."""
        self._ears -= 1
        if not self._ears:
            for task in self._watching.values():
                task.cancel()
            self._watching.clear()

    def watch(self, root: Path) -> None:
        """Tell all when the compiled declarations of a project change: one look for everybody."""
        if root not in self._watching:
            self._watching[root] = asyncio.create_task(self._watch(root))

    async def _watch(self, root: Path) -> None:
        known = None
        while True:
            with contextlib.suppress(Exception):  # half written, or away: the next look tells
                found = await asyncio.to_thread(connections.declared, root)
                if known not in (None, found):
                    self.declared += 1
                    self.wake()
                known = found
            await asyncio.sleep(_DECLARED)

    def _add(self, batch: Batch) -> None:
        self._recent.append(batch)
        self._end = batch.stop
        self._kept += len(batch.keys)
        while self._kept > _RECENT and len(self._recent) > 1:
            old = self._recent.popleft()
            self._kept -= len(old.keys)
            self._begin = old.stop


_boards: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Switchboard]] = (
    WeakKeyDictionary()
)


class Listener:
    """
    One waiter's ear: at its ledger's switchboard, and at the stream that all hear.

    Should the shared stream fail this subscriber, the waiter is woken at every look: slower, and
    still right.
    """

    def __init__(self, stream: AsyncIterator[Batch], board: Switchboard | None = None) -> None:
        self._board = board or Switchboard()
        self._batches: list[Batch] = []
        self._came = asyncio.Event()
        self._declared = self._board.declared
        self._board.join()
        self._task = asyncio.ensure_future(self._drain(stream))

    def watch(self, root: Path) -> None:
        """Hear also when the declarations of a project change."""
        self._board.watch(root)

    async def _drain(self, stream: AsyncIterator[Batch]) -> None:
        async for batch in stream:
            self._batches.append(batch)
            self._came.set()

    async def changed(self, position: int, touches: Touches | None, seconds: float) -> None:
        """
        Return when something after `position` touches the waiter, or after so many seconds.

        :param position: what the waiter has read
        :param touches: what counts; None: everything
        """
        deadline = asyncio.get_running_loop().time() + seconds
        with self._board.listening(touches, self._came):
            while True:
                batches, self._batches = self._batches, []
                self._came.clear()
                for batch in batches:
                    if batch.start > position:
                        return  # lines between its own reading and the tail's were never shown
                    if batch.stop > position:
                        if touches is None or touches.by(batch):
                            return
                        position = batch.stop
                    elif batch.start == 0 < position:
                        return  # the positions began anew: another ledger stands there
                if self._board.touched(position, touches) or self._redeclared():
                    return
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    return
                if self._task.done():
                    left = min(left, _LOOK)
                    deadline = min(deadline, asyncio.get_running_loop().time() + left)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._came.wait()

    def _redeclared(self) -> bool:
        before, self._declared = self._declared, self._board.declared
        return before != self._declared

    async def close(self) -> None:
        """Stop listening."""
        self._board.leave()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await self._task
