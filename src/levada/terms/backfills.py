"""A backfill as it is planned: what is asked for, what follows, what is left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from levada.terms.slices import Partition, Span

__all__ = [
    "Asked",
    "Backfill",
    "Batching",
    "Begun",
    "Group",
    "Outcome",
    "Past",
    "Recurring",
    "Stretch",
]


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to be made again, and where it is to end."""

    names: tuple[str, ...]
    """Products, and sources by the names of their tables."""
    span: Span
    reason: str = ""
    exclude: tuple[str, ...] = ()
    """Products that stay as they are, and with them whatever only they would reach."""
    only_domains: tuple[str, ...] = ()
    """None named: every domain."""
    by: str = ""
    """Who planned it, and so does not approve it."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Slices of one product that follow one another and are there for the same reasons."""

    first: Partition
    last: Partition
    count: int
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """One product's share of a backfill."""

    product: str
    wave: int
    """How many products of the backfill must be made before it, one after the other."""
    stretches: tuple[Stretch, ...]

    @property
    def cells(self) -> int:
        """How many slices it has."""
        return sum(stretch.count for stretch in self.stretches)


@dataclass(frozen=True, slots=True)
class Backfill:
    """
    A plan over tables: groups in the order in which they are made, and what is left out.

    :param at: when it was planned; what was not over by then is not in it
    :param declared: what it was planned from, by product: digests of its code, contracts, inputs
    """

    mesh: str
    asked: Asked
    at: datetime
    groups: tuple[Group, ...]
    left_out: tuple[Group, ...]
    declared: Mapping[str, Mapping[str, str]]

    @property
    def cells(self) -> int:
        """How many slices of products are made again."""
        return sum(group.cells for group in self.groups)


@dataclass(frozen=True, slots=True)
class Past:
    """What the newest builds of a product took."""

    product: str
    runs: int
    slices: int
    seconds: float
    rows: int

    @property
    def seconds_each(self) -> float:
        """Seconds a slice."""
        return self.seconds / self.slices

    @property
    def rows_each(self) -> float:
        """Rows a slice, of all tables of the product."""
        return self.rows / self.slices


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of one slice in a backfill."""

    product: str
    partition: Partition
    state: str
    """open, made, unchanged (a build would make what is there), failed, left, cancelled."""
    because: str = ""
    run: str = ""
    since: datetime | None = None
    """When it became that, as the ledger has it."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A backfill in the ledger: a plan that was begun, and how far it has come."""

    id: str
    state: str
    """running, paused, cancelled; finished: nothing of it is open."""
    because: str
    forced: bool
    by: str
    at: datetime
    position: int
    """Of its beginning in the ledger."""
    steps: Mapping[str, int]
    """How many there are, by what has become of them."""
    document: Mapping[str, Any]

    @property
    def left(self) -> int:
        """How many steps were not done though the backfill is over."""
        return self.steps.get("failed", 0) + self.steps.get("left", 0)


@dataclass(frozen=True, slots=True)
class Recurring:
    """A backfill that governance declared: these tables, the last days, at each due date."""

    name: str
    tables: tuple[str, ...]
    """Products, and sources by the names of their tables."""
    every: str
    """day, week or month."""
    on: int = 0
    """Of a week its day from 0, Monday; of a month its day from 1."""
    at: time = time()
    zone: str = "UTC"
    first: date = date.min
    """No due date lies before it."""
    days: int = 1
    """How many days before the due date are made again, its own not among them."""
    reason: str = ""
    catch_up: str = "latest"
    """Due dates that nobody was there for: only the `latest` is made up for, or `all` are."""
    exclude: tuple[str, ...] = ()
    only_domains: tuple[str, ...] = ()
    digest: str = ""
    """Of what the declaration says; an approval is of this one."""


@dataclass(frozen=True, slots=True)
class Batching:
    """What an equality test found: whether a product's intervals come out the same together."""

    product: str
    digest: str
    """Of what the product was made by; of other code it says nothing."""
    equal: bool
    because: str
    slices: int
    """How many intervals were built both ways."""
