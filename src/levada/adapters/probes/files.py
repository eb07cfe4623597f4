"""Landing zones on a file system: which files are there, and their fingerprints."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from levada.terms import FileProbe, Landing, Partition, Source

__all__ = ["LandingZone", "awaited", "location"]


def location(root: Path, source: Source, partition: Partition) -> Path:
    """
    Where a partition's file arrives.

    >>> from datetime import UTC
    >>> from levada.terms import Grain, TableRef
    >>> zone = "landing/weather/{start:%Y-%m-%dT%H}Z.csv"
    >>> weather = Source(TableRef("weather", "landing.w", 0), Grain.HOUR, "UTC", zone, ("a",), "s")
    >>> hour = Partition(Grain.HOUR, datetime(2013, 3, 10, 5, tzinfo=UTC))
    >>> str(location(Path("/mesh"), weather, hour))
    '/mesh/landing/weather/2013-03-10T05Z.csv'
    """
    return root / source.location.format(start=partition.start)


def awaited(source: Source, partition: Partition) -> tuple[str, ...]:
    """
    What is there once a partition has landed: its file, and the marker where one is waited for; as
    paths inside the project, or as addresses.
    """
    marker = source.probe.marker if isinstance(source.probe, FileProbe) else ""
    wanted = (source.location, marker) if marker else (source.location,)
    return tuple(name.format(start=partition.start) for name in wanted)


def _zone(source: Source) -> str:
    return source.probe.zone if isinstance(source.probe, FileProbe) else "."


class LandingZone:
    """
    Lists landed files. A file is hashed again only when its size or time of change differs; files
    arrive by rename, or before their marker, so what is there is whole.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen: dict[Path, tuple[int, int, int, str]] = {}

    def probe(
        self, source: Source, partitions: Collection[Partition], now: datetime
    ) -> tuple[list[Landing], str]:
        """
        What has landed of these partitions, and why nobody can tell of the others; empty where all
        could be told. Nothing is said of a file that is not there, unless its zone is not.

        Something other than a file of the zone speaks for its own partition only: we may read what
        whoever lands it may not.
        """
        landed: list[Landing] = []
        wrong: list[str] = []
        for partition in partitions:
            try:
                if landing := self._landing(source, partition, now):
                    landed.append(landing)
            except OSError as error:
                wrong.append(self._told(error))
        zone = _zone(source)
        # Asked last: a folder that goes away meanwhile has not lost its files.
        try:
            (self.root / zone).stat()
        except FileNotFoundError:
            wrong.append(f"{zone}: the zone's folder is not there")
        except OSError as error:
            wrong.append(self._told(error))
        more = f"; and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return landed, wrong[0] + more if wrong else ""

    def _told(self, error: OSError) -> str:
        return f"{str(error.filename).removeprefix(f'{self.root}/')}: {error.strerror}"

    def _landing(self, source: Source, partition: Partition, now: datetime) -> Landing | None:
        path, *marker = (self.root / name for name in awaited(source, partition))
        try:
            for each in marker:
                each.stat()
            found = path.stat()
            print_of = (found.st_mtime_ns, found.st_size, found.st_ino)
            seen = self._seen.get(path)
            if seen is None or seen[:3] != print_of:
                seen = self._seen[path] = (*print_of, self._digest(source, path))
        except FileNotFoundError:
            return None
        return Landing(
            table=source.table,
            partition=partition,
            generation=0,
            content=seen[3],
            path=str(path.relative_to(self.root)),
            size=seen[1],
            at=now,
        )

    def _digest(self, source: Source, path: Path) -> str:
        shown = str(path.relative_to(self.root))
        zone = _zone(source)
        if not path.resolve().is_relative_to((self.root / zone).resolve()):
            raise OSError(errno.EPERM, f"leads out of its landing zone, {zone}", shown)
        # Never waits: a pipe that nobody writes would hold up every source.
        with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "is no regular file", shown)
            return hashlib.file_digest(file, "sha256").hexdigest()
