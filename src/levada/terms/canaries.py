"""Canaries: a new version of a product, built beside the old one."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from levada.terms.consistency import Tolerance
from levada.terms.slices import Partition

__all__ = ["Canary", "CanaryState", "CanaryTerms", "Trial"]


class CanaryState(enum.Enum):
    """Where a canary stands."""

    RUNNING = "running"
    """Both versions are built, and compared: equal, the new one is published, else the old."""
    PROMOTED = "promoted"
    """The new version is built alone."""
    ABORTED = "aborted"
    """The old version is built alone, though the new one is what is written."""


@dataclass(frozen=True, slots=True)
class CanaryTerms:
    """The least that governance asks before a new version is built alone."""

    by_policy: bool = False
    """Whether nobody's approval is needed."""
    intervals: int = 1
    """So many equal ones in a row."""

    def __post_init__(self) -> None:
        if self.intervals < 1:
            raise ValueError("a canary compares one interval at least")


@dataclass(frozen=True, slots=True)
class Canary:
    """
    One canary of a product, and how far it has come. `old` and `new` name versions; of a new major
    `old` names the table that it is compared with.
    """

    id: str
    product: str
    state: CanaryState
    old: str
    new: str
    wanted: int
    """So many equal intervals in a row, before it may be promoted."""
    by_policy: bool
    """Whether it is then promoted without anybody's approval."""
    tolerance: Mapping[str, Tolerance]
    """By column; what is not named must be equal."""
    reason: str
    since: datetime
    owners: tuple[str, ...] = ()
    """Who answers for its tables, and does not promote it."""
    rule: str = ""
    """Of a new major: the gate, `batch.rule`, that compares it with the old one."""
    told: int = 0
    differing: int = 0
    in_a_row: int = 0
    because: str = ""
    reviewer: str = ""

    @property
    def ripe(self) -> bool:
        """Whether it may be promoted, as far as its intervals say."""
        return self.state is CanaryState.RUNNING and self.in_a_row >= self.wanted


@dataclass(frozen=True, slots=True)
class Trial:
    """What one interval told: whether both versions made the same of it, and what differs."""

    partition: Partition
    equal: bool
    because: str
    differences: Mapping[str, Any] = field(default_factory=dict)
    """By table: counts, columns and samples of keys, as JSON."""
    run: str = ""
    """The run that publishes it: what it told counts while its publication is the newest."""
    counts: bool = False
