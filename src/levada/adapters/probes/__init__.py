"""
Tables outside the mesh: the platform asks, once for all who wait, and the ledger keeps the answer.

    files.py       a landing zone: a file for each partition, with or without a marker
    objects.py     one in an object store: an object for each, fetched once
    query.py       any SELECT that answers with a fingerprint; waited for, never read
    postgres.py    a table of another PostgreSQL; a build copies its rows
    session.py     how another database is reached: read only, and never for long

A source that does not answer is UNKNOWN. That is recorded once, when it begins, and once when it
is over; it is never taken for "nothing landed", and what had landed before stays.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from levada.adapters.probes import postgres, query
from levada.adapters.probes.files import LandingZone, location
from levada.adapters.probes.objects import ObjectZone
from levada.adapters.probes.session import Address, Database, connected, environment
from levada.errors import ToolError, Unavailable
from levada.intervals import overlapping, within
from levada.ports import LandedFile, LandedRows, Ledger
from levada.terms import (
    FileProbe,
    Landing,
    Partition,
    QueryProbe,
    Source,
    Span,
    TableProbe,
    TableRef,
)

__all__ = ["Address", "Answers", "Probes", "environment", "record"]

_Found = tuple[list[Landing], str]
"""What has landed of a source, and why it did not answer, or not for every slice."""
_Slices = Callable[[Source], tuple[Partition, ...]]
"""Which slices of a source are asked for."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one round of probing found."""

    landed: tuple[Landing, ...]
    said: Mapping[TableRef, str]
    """
    Of each source that was asked: why it did not answer, or not for every slice; empty where it
    did.
    """


class Probes:
    """
    Asks sources, each in its own way.

    :param root: the folder of `levada.yaml`
    :param address: where a connection leads; raises Unavailable
    :param every: a source outside this host is left alone for so long after it was asked
    """

    def __init__(
        self, root: Path, address: Address = environment, every: timedelta = timedelta(0)
    ) -> None:
        self._files, self._zones = LandingZone(root), dict[str, ObjectZone]()
        self._address, self._every = address, every.total_seconds()
        self._asked: dict[TableRef, float] = {}

    def ask(
        self, sources: Iterable[Source], span: Span, now: datetime, window: Span | None = None
    ) -> Answers:
        """
        What has landed inside a span, and who did not answer.

        :param window: ask only for the slices that share an instant with it (default: all)
        """

        def slices(source: Source) -> tuple[Partition, ...]:
            if window is None:
                return within(source.grain, source.zone, span)
            return overlapping(source.grain, source.zone, window, span)

        landed: list[Landing] = []
        said: dict[TableRef, str] = {}
        for home, group in itertools.groupby(sorted(sources, key=_home), key=_home):
            if not home:
                answers = self._here(group, slices, now)
            else:
                asked = [source for source in group if self._due(source.table)]
                ask = self._zone(home).ask if "://" in home else partial(self._there, home)
                answers = ask(asked, slices, now)
            for source, found in answers:
                landed += found[0]
                said[source.table] = found[1]
        return Answers(tuple(landed), said)

    def rows(self, source: Source, pins: Mapping[Partition, str]) -> LandedRows | None:
        """How the pinned partitions of a source are copied, where they are rows of a table."""
        probe = source.probe
        if not isinstance(probe, TableProbe):
            return None

        def copy(to: Path) -> None:
            with connected(probe.connection, self._address) as database:
                postgres.copy(database, source, probe, sorted(pins), to)

        return LandedRows(source.location, tuple(sorted(pins.items())), copy)

    def files(self, source: Source, pins: Mapping[Partition, str]) -> tuple[LandedFile, ...]:
        """
        The pinned partitions of a source, where they are files or objects. Raises LandingMoved,
        Unavailable, ToolError.
        """
        if zone := _home(source):
            return tuple(self._zone(zone).files(source, pins))
        root = self._files.root
        return tuple(LandedFile(p, location(root, source, p), pins[p]) for p in pins)

    def _zone(self, zone: str) -> ObjectZone:
        copies = self._files.root / ".levada" / "objects"
        return self._zones.setdefault(zone, ObjectZone(zone, copies))

    def _due(self, table: TableRef) -> bool:
        now = time.monotonic()
        if now - self._asked.get(table, float("-inf")) < self._every:
            return False
        self._asked[table] = now
        return True

    def _here(
        self, sources: Iterable[Source], slices: _Slices, now: datetime
    ) -> Iterator[tuple[Source, _Found]]:
        """The sources of landing zones, each with what landed or why nobody can tell."""
        for source in sources:
            yield source, self._files.probe(source, slices(source), now)

    def _there(
        self, connection: str, sources: Iterable[Source], slices: _Slices, now: datetime
    ) -> Iterator[tuple[Source, _Found]]:
        """The sources of one database: they share a connection, and its failure."""
        left = list(sources)
        if not left:
            return
        try:
            with connected(connection, self._address) as database:
                while left:
                    found: _Found
                    try:
                        found = list(_landings(database, left[0], slices(left[0]), now)), ""
                    except ToolError as error:
                        found = [], error.message
                    yield left.pop(0), found
        except Unavailable as error:
            yield from ((source, ([], error.why)) for source in left)


def record(ledger: Ledger, answers: Answers) -> tuple[Landing, ...]:
    """Write what is new: landings, and which sources began or ceased not to answer."""
    ledger.probed(answers.said)
    return ledger.land(answers.landed) if answers.landed else ()


def _home(source: Source) -> str:
    """The connection or the zone that a source is asked through; empty for files of this host."""
    if isinstance(source.probe, FileProbe):
        return source.probe.zone if source.probe.stored else ""
    return source.probe.connection


def _landings(
    database: Database, source: Source, partitions: tuple[Partition, ...], now: datetime
) -> Iterable[Landing]:
    match source.probe:
        case QueryProbe() as probe:
            return query.probe(database, source, probe, partitions, now)
        case TableProbe() as probe:
            return postgres.probe(database, source, probe, partitions, now)
    return ()
