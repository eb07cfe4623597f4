"""When what a line was made of was given up: as far as the warehouse and the ledger recorded it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from levada.flow.runs import Platform
from levada.terms import Landing, Publication

__all__ = ["Gone", "given_up", "inputs_of", "replaced"]


@dataclass(frozen=True, slots=True)
class Gone:
    """What is no longer there, in words, and since when; None: nobody recorded it."""

    because: str
    on: datetime | None = None


def inputs_of(platform: Platform, line: Publication) -> Gone | None:
    """What of the tables that a line was made of the warehouse no longer has."""
    asked: dict[str, set[str]] = {}
    for read in line.inputs:
        if not read.table.is_source and read.content is not None:
            asked.setdefault(read.table.domain, set()).add(read.data_version)
    found = [
        gone for domain, versions in asked.items() if (gone := given_up(platform, domain, versions))
    ]
    if not found:
        return None
    on = min((gone.on for gone in found if gone.on), default=None)
    return _told(on, "; ".join(gone.because for gone in found))


def given_up(platform: Platform, domain: str, versions: Collection[str]) -> Gone | None:
    """Which of a domain's data versions are no longer kept, and since when."""
    lost = sorted(platform.warehouse.missing(domain, versions), key=lambda v: (len(v), v))
    if not lost:
        return None
    dates = platform.warehouse.expired(domain, lost)
    said = []
    for version in lost:
        on = dates.get(version)
        since = f" since {on:%Y-%m-%d %H:%M}Z" if on else _bound(platform, domain)
        said.append(f"version {version} of {domain} is no longer kept{since}")
    return Gone("; ".join(said), min(dates.values(), default=None))


def _bound(platform: Platform, domain: str) -> str:
    """Of what nobody dated: all that is older than the oldest that is there has expired."""
    oldest = next(iter(platform.warehouse.changes(domain)), None)
    return f", the oldest that is there is of {oldest.at:%Y-%m-%d %H:%M}Z" if oldest else ""


def replaced(platform: Platform, line: Publication, said: str) -> Gone:
    """
    What landed is no longer what it was: since the ledger heard of another content, if it has.

    :param said: what the attempt to read it said
    """
    heard = [
        landing.at
        for read in line.inputs
        if read.table.is_source and read.content is not None
        for landing in platform.runner.history(read.table, read.partition)
        if isinstance(landing, Landing)
        and landing.generation > read.generation
        and landing.content != read.content
    ]
    return _told(min(heard, default=None), said.removesuffix("; its step stays open"))


def _told(on: datetime | None, because: str) -> Gone:
    when = f" on {on:%Y-%m-%d %H:%M}Z" if on else ", nobody recorded when"
    return Gone(f"expired{when}: {because}", on)
