"""What the ledger records, what is judged of it, and what is to be done."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from levada.terms.promises import CheckResult, Verdict, Waived, Waiver
from levada.terms.slices import Partition, TableRef

__all__ = [
    "Attempt",
    "Claim",
    "Facts",
    "GateVerdict",
    "Input",
    "Intent",
    "Landing",
    "Plan",
    "ProbeFailure",
    "Publication",
    "Readiness",
    "State",
    "Step",
    "Tampering",
]


class State(enum.Enum):
    """What the judge says of a table's partition, or of a product's inputs."""

    READY = "READY"
    WAITING = "WAITING"
    FAILED = "FAILED"
    STALE = "STALE"
    HELD = "HELD"
    IMPOSSIBLE = "IMPOSSIBLE"


@dataclass(frozen=True, slots=True)
class Readiness:
    """
    A judgement, with its reason.

    `missing` names what is not ready; `next` is the instant at which time alone may change the
    answer, so a waiter sleeps until the ledger moves or `next` comes.
    """

    state: State
    because: str
    missing: tuple[tuple[TableRef, Partition], ...] = ()
    next: datetime | None = None
    degraded: bool = False
    unknown: bool = False
    """Whether it is not ready since nobody could tell: an audit, or a source, gave no answer."""


@dataclass(frozen=True, slots=True)
class Input:
    """One upstream partition as a run read it; content is None where it was absent."""

    table: TableRef
    partition: Partition
    generation: int
    content: str | None
    data_version: str = ""
    unready: int = 0
    """The generation that was there and not READY: gone without, or read as the last good one."""


@dataclass(frozen=True, slots=True)
class Landing:
    """What landed: its fingerprint is its content. Landed and empty is a fact."""

    table: TableRef
    partition: Partition
    generation: int
    content: str
    """
    sha256 of the bytes of a file or an object, `rows:hash` of a table's rows, or what a query
    answered.
    """
    path: str
    """The file, the object, or the connection and what was asked there."""
    size: int
    """Bytes of a file or an object, rows of a table."""
    at: datetime
    position: int = 0


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What a gate said of a slice that is published: it passed, or did not and was waived."""

    rule: str
    """`batch.rule`, the id of the check."""
    hash: str
    """Of its definition: another text is another rule."""
    verdict: Verdict

    def __str__(self) -> str:
        return f"{self.rule} ({self.hash}) {self.verdict.value}"


@dataclass(frozen=True, slots=True)
class Publication:
    """A line of the ledger: this partition passed its audit and may be read."""

    table: TableRef
    partition: Partition
    generation: int
    contract: str
    """`id version hash` of the contract it was audited against."""
    verdict: Verdict
    data_version: str
    content: str
    """`rows:hash`, order-free and duplicate-safe."""
    made_by: str
    """Fingerprint of the run: code, contract, parameters, contents of its inputs."""
    inputs: tuple[Input, ...]
    taint: tuple[str, ...]
    """What a reader must know: inputs that were gone without, checks that were waived."""
    run: str
    at: datetime
    position: int = 0
    warnings: tuple[str, ...] = ()
    """The advisory checks that did not pass."""
    waived: tuple[Waived, ...] = ()
    """The checks that were set aside for it, and for everything that it is made of."""
    gates: tuple[GateVerdict, ...] = ()
    """What the gates of the table said of it; told where the log itself is read."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The newest run of a product's partition that did not publish, and why."""

    product: str
    partition: Partition
    run: str
    fingerprint: str
    verdict: Verdict
    """FAIL: parked until the fingerprint changes. UNKNOWN: tried again after `not_before`."""
    because: str
    results: tuple[CheckResult, ...]
    tries: int
    at: datetime
    not_before: datetime | None = None
    position: int = 0
    since: datetime | None = None
    """When the first of its `tries` was; None unless the log was asked."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The exclusive right to build one product's partition, from these pins, with this token."""

    product: str
    partition: Partition
    run: str
    token: int
    fingerprint: str
    inputs: tuple[Input, ...]
    until: datetime
    taint: tuple[str, ...] = ()
    since: datetime | None = None
    """When it was granted; None unless the log was asked."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A publication about to happen: its lines, lacking only the data version of the swap."""

    run: str
    product: str
    lines: tuple[Publication, ...]
    expired: bool
    """Whether the lease of its claim has run out, so that anybody may recover it."""


@dataclass(frozen=True, slots=True)
class Tampering:
    """A published table that somebody changed by hand: it is held until governance pardons it."""

    table: TableRef
    version: str
    """The data version that no publication accounts for."""
    because: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ProbeFailure:
    """A source that does not answer: nobody knows what has landed there since."""

    table: TableRef
    because: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """
    What the ledger showed at one position: newest lines and newest failed attempts.

    >>> from levada.terms import WHOLE
    >>> Facts().line(TableRef("operations", "flights"), WHOLE) is None
    True
    """

    lines: Mapping[tuple[TableRef, Partition], Publication | Landing] = field(default_factory=dict)
    attempts: Mapping[tuple[str, Partition], Attempt] = field(default_factory=dict)
    claims: Mapping[tuple[str, Partition], Claim] = field(default_factory=dict)
    """Claims whose lifetime or lease is still running."""
    position: int = 0
    tampered: Mapping[TableRef, Tampering] = field(default_factory=dict)
    pardons: Mapping[tuple[str, Partition], int] = field(default_factory=dict)
    """Positions at which what an edge held was released, by product and partition."""
    waivers: tuple[Waiver, ...] = ()
    """What governance granted, expired or not."""
    probes: Mapping[TableRef, ProbeFailure] = field(default_factory=dict)
    """Sources that do not answer."""
    restating: Mapping[tuple[str, Partition], str] = field(default_factory=dict)
    """Slices of products that a running backfill is to make again, and which one."""

    def line(self, table: TableRef, partition: Partition) -> Publication | Landing | None:
        """The newest publication of a table's partition, or the newest landing of a source's."""
        return self.lines.get((table, partition))

    def attempt(self, product: str, partition: Partition) -> Attempt | None:
        """The newest attempt, if it did not publish and nothing was published since."""
        return self.attempts.get((product, partition))


@dataclass(frozen=True, slots=True)
class Step:
    """One product, one partition, and why it must be built."""

    product: str
    partition: Partition
    because: str
    required: tuple[tuple[TableRef, Partition, int], ...] = ()
    """Lowest generations of inputs that the step must read."""
    first: bool = False
    """Nothing of it was ever published: its timetable, not the reconciler, starts it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done, in order, each step with its reason."""

    reason: str
    steps: tuple[Step, ...]
