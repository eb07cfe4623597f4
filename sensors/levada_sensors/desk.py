"""
One reading of the ledger for all who ask at the same moment.

A triggerer that starts asks for ten thousand waiters at once, and a line that many wait for wakes
them together. Who asks while a reading is under way is answered by the next one. Claims are not
made here: who may claim judges once more, alone and in a transaction of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary

from levada.ports import Ledger
from levada.terms import Facts, Mesh, Span, TableRef
from levada_sensors import connections
from levada_sensors.asking import Ask, widened
from levada_sensors.judging import Answer, Touches

__all__ = ["Desk", "Glance"]

_TOGETHER = 250
"""Most that are answered by one reading: the first need not wait for ten thousand others."""
_APART = timedelta(days=31)
"""Slices further apart than that are read apart, so that what lies between is not read at all."""


@dataclass(frozen=True, slots=True)
class Glance:
    """An answer from a shared reading; None where the waiter must judge by itself, and claim."""

    answer: Answer | None
    touches: Touches


class Asker(Protocol):
    """A trigger that can be answered from a shared reading."""

    def ask(self, mesh: Mesh) -> Ask:
        """What to read for it. Raises Misnamed."""

    def glance(self, mesh: Mesh, facts: Facts) -> Glance:
        """Its answer as these facts have it."""


class Desk:
    """Answers the waiters of one project and one ledger, in the running event loop."""

    def __init__(self, root: Path, url: str) -> None:
        self._root, self._url = root, url
        self._asked: list[tuple[Asker, asyncio.Future[Glance]]] = []
        self._serving: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, root: Path, url: str) -> Desk:
        """The one desk of a project and a ledger's address."""
        desks = _desks.setdefault(asyncio.get_running_loop(), {})
        key = (root, url)
        if key not in desks:
            desks[key] = cls(root, url)
        return desks[key]

    async def answer(self, asker: Asker) -> Glance:
        """
        The asker's answer, with those of all who ask now. Raises what its own judgement raised,
        or, for all, what the ledger did.
        """
        future: asyncio.Future[Glance] = asyncio.get_running_loop().create_future()
        self._asked.append((asker, future))
        if self._serving is None or self._serving.done():
            self._serving = asyncio.create_task(self._serve())
        return await future

    async def _serve(self) -> None:
        while self._asked:
            taken, self._asked = self._asked[:_TOGETHER], self._asked[_TOGETHER:]
            taken = [(asker, future) for asker, future in taken if not future.done()]
            try:
                found = await asyncio.to_thread(
                    _look, self._root, self._url, [asker for asker, _ in taken]
                )
            except Exception as error:  # the ledger's: all of them back off
                found = [error] * len(taken)
            for (_, future), said in zip(taken, found, strict=True):
                if future.done():
                    continue  # its trigger was cancelled
                if isinstance(said, Exception):
                    future.set_exception(said)
                else:
                    future.set_result(said)


_desks: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[Path, str], Desk]] = (
    WeakKeyDictionary()
)


def _look(root: Path, url: str, askers: Sequence[Asker]) -> list[Glance | Exception]:
    """The askers' answers, from this process's mesh and ledger. Blocks."""
    return _answers(connections.mesh_of(root), connections.ledger_at(url), askers)


def _answers(mesh: Mesh, ledger: Ledger, askers: Sequence[Asker]) -> list[Glance | Exception]:
    """Each asker's answer, from as few readings as their slices allow."""
    found: dict[int, Glance | Exception] = {}
    asks: dict[int, Ask] = {}
    for number, asker in enumerate(askers):
        try:
            asks[number] = asker.ask(mesh)
        except Exception as error:
            found[number] = error
    for group in _groups(asks):
        found |= _glances(mesh, ledger, {n: asks[n] for n in group}, askers)
    # Those that look far up are given all that they are made from, of one more reading.
    far = {n: widened(mesh, asks[n]) for n, glance in found.items() if _looks_far(glance)}
    if far:
        found |= _glances(mesh, ledger, far, askers)
    return [found[number] for number in range(len(askers))]


def _glances(
    mesh: Mesh, ledger: Ledger, asks: Mapping[int, Ask], askers: Sequence[Asker]
) -> dict[int, Glance | Exception]:
    """The answers of some askers by one reading."""
    facts = _facts(ledger, list(asks.values()))
    found: dict[int, Glance | Exception] = {}
    for number in asks:
        try:
            found[number] = askers[number].glance(mesh, facts)
        except Exception as error:
            found[number] = error
    return found


def _looks_far(glance: Glance | Exception) -> bool:
    return isinstance(glance, Glance) and glance.answer is not None and glance.answer.far


def _facts(ledger: Ledger, asks: Sequence[Ask]) -> Facts:
    spans = [ask.span for ask in asks if ask.span]
    whole = len(spans) < len(asks)
    span = None if whole else Span(min(s.start for s in spans), max(s.end for s in spans))
    tables = frozenset[TableRef]().union(*(ask.tables for ask in asks))
    return ledger.facts(tables, frozenset[str]().union(*(ask.products for ask in asks)), span)


def _groups(asks: dict[int, Ask]) -> Iterator[list[int]]:
    """Those that are read together: near in time, and those that read every slice."""
    every = [number for number, ask in asks.items() if ask.span is None]
    if every:
        yield every
    group: list[int] = []
    reach: datetime | None = None
    spans = [(ask.span.start, ask.span.end, n) for n, ask in asks.items() if ask.span]
    for start, stop, number in sorted(spans):
        if reach is not None and start > reach + _APART:
            yield group
            group = []
        group.append(number)
        reach = max(stop, reach or stop)
    if group:
        yield group
