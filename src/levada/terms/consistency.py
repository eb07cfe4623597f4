"""What must hold between tables: rules of consistency, and what a batch of them found."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from levada.terms.promises import Severity, Verdict
from levada.terms.slices import Grain, Partition, TableRef

__all__ = [
    "Batch",
    "Break",
    "BreakState",
    "ConsistencyRule",
    "Guard",
    "GuardState",
    "Guarded",
    "Judged",
    "Offence",
    "Read",
    "Report",
    "RuleKind",
    "RuleResult",
    "Side",
    "Statement",
    "Tolerance",
]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """
    How far two numbers may be apart: by this much, or by this share of the larger one.

    What is not finite, or NULL, is near nothing but itself.
    """

    absolute: Decimal = Decimal(0)
    relative: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        if self.absolute < 0 or self.relative < 0 or not (self.absolute or self.relative):
            raise ValueError("a tolerance is above 0, absolute or relative")

    def sql(self, a: str, b: str) -> str:
        """The condition under which two numbers count as equal."""
        within: list[str] = []
        if self.absolute:
            within.append(f"abs({a} - {b}) <= {self.absolute}")
        if self.relative:
            within.append(f"abs({a} - {b}) <= {self.relative} * greatest(abs({a}), abs({b}))")
        finite = f"isfinite(CAST({a} AS DOUBLE)) AND isfinite(CAST({b} AS DOUBLE))"
        return f"{finite} AND ({' OR '.join(within)})"


class RuleKind(enum.Enum):
    """What a rule compares; `levada.consistency.KINDS` says it in a sentence."""

    TOTALS = "totals"
    ROLLUP = "rollup"
    RATIO = "ratio"
    KEYS = "keys"
    ROWS = "rows"
    DUPLICATES = "duplicates"
    REFERENCES = "references"
    FRESHNESS = "freshness"
    WEEKDAY = "weekday"
    BALANCES = "balances"
    SQL = "sql"


@dataclass(frozen=True, slots=True)
class Side:
    """One table as a rule sees it: expressions of its columns, each with its name."""

    table: TableRef
    by: tuple[tuple[str, str], ...] = ()
    """What groups or keys the rows: name and SQL."""
    values: tuple[tuple[str, str], ...] = ()
    """What is compared: name and SQL."""
    where: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Read:
    """A table that a rule reads, for the interval itself or so many weeks before it."""

    table: TableRef
    weeks: int = 0
    reach: int = 0
    """So many intervals before it and after it, too, all of them together."""


@dataclass(frozen=True, slots=True)
class ConsistencyRule:
    """
    One invariant. `query` (kind sql) names its tables as `{domain.table@major}`.

    `hash` is of all that decides what it finds: another text is another rule.
    """

    id: str
    batch: str
    kind: RuleKind
    sides: tuple[Side, ...]
    severity: Severity
    owner: str
    description: str
    path: str
    line: int
    hash: str
    tolerance: Mapping[str, Tolerance] = field(default_factory=dict)
    """By the compared name; "" is that of all the others."""
    bounds: tuple[Decimal, Decimal] | None = None
    """Between which a ratio must lie, both included."""
    share: Decimal = Decimal(1)
    """The share of rows that must have what they refer to."""
    within: timedelta | None = None
    """How long before the interval's end the newest value may lie."""
    weeks: int = 0
    query: str = ""
    key: tuple[str, ...] = ()
    """The columns of `query` that name an offending row."""
    reads: tuple[Read, ...] = ()
    never_mute: bool = False
    guards: TableRef | None = None
    """Of a blocking rule: the table whose product is withheld unless it passes."""

    @property
    def name(self) -> str:
        """`batch.rule`: unique in the mesh."""
        return f"{self.batch}.{self.id}"

    @property
    def holds(self) -> bool:
        """Whether it is never muted: what blocks is not, nor what was declared so."""
        return self.never_mute or self.severity is Severity.BLOCKING

    @property
    def tables(self) -> tuple[TableRef, ...]:
        """Every table that it compares, each once."""
        return tuple(dict.fromkeys(read.table for read in self.reads))


@dataclass(frozen=True, slots=True)
class Statement:
    """What a rule asks of the data, in SQL: every offending key with its figures."""

    offending: str
    compared: str
    """A query for one number: groups or rows that were looked at."""


@dataclass(frozen=True, slots=True)
class Guard:
    """When a rule flags too much, and for how long its owner has time to look at it."""

    share: Decimal = Decimal("0.3")
    """Of its rows, or of its intervals: more is too much."""
    soon: timedelta = timedelta(days=14)
    """So long a changed definition is watched, from when it was first judged."""
    expires: timedelta = timedelta(days=7)
    """When the review of what is suspended or held is overdue."""
    dead_after: int = 7
    """So many intervals without a verdict, and the rule is reported dead."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share: {self.share} is no share between 0 and 1")
        if self.dead_after < 1:
            raise ValueError("dead_after: a rule is dead after one interval at least")


class GuardState(enum.Enum):
    """What the over-detection guard did with a definition of a rule."""

    SUSPENDED = "suspended"
    """It is not judged until somebody reviewed it."""
    HELD = "held"
    """It goes on and counts in full; its owner is told."""
    REVIEWED = "reviewed"
    """Somebody entitled looked at it: the guard lets this definition be."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """A definition of a rule (`batch.rule` and its hash) that flagged too much, and what became."""

    rule: str
    hash: str
    state: GuardState
    because: str
    owner: str
    since: datetime
    until: datetime
    reviewer: str = ""
    reason: str = ""

    def overdue(self, now: datetime) -> bool:
        """Whether its review is late. It does not come back by itself, however late."""
        return self.state is not GuardState.REVIEWED and self.until <= now

    def __str__(self) -> str:
        return f"{self.state.value} since {self.since:%Y-%m-%d %H:%M} UTC: {self.because}"


@dataclass(frozen=True, slots=True)
class Batch:
    """Rules that are run together, for each interval of one grain."""

    id: str
    grain: Grain
    zone: str
    owner: str
    description: str
    path: str
    rules: tuple[ConsistencyRule, ...]
    guard: Guard = Guard()

    @property
    def tables(self) -> tuple[TableRef, ...]:
        """Every table that its rules compare."""
        return tuple(sorted({table for rule in self.rules for table in rule.tables}))


@dataclass(frozen=True, slots=True)
class Offence:
    """One offending key or group, and its figures; both as JSON objects."""

    key: str
    figures: str


@dataclass(frozen=True, slots=True)
class RuleResult:
    """
    What one rule found in one interval. UNKNOWN where an input was missing, late or unreadable, or
    time ran out: then nothing is said of any key.
    """

    rule: ConsistencyRule
    verdict: Verdict
    because: str = ""
    cases: int = 0
    compared: int = 0
    """Groups or rows that were looked at."""
    offences: tuple[Offence, ...] = ()
    """The offending ones, or the first of them (`complete` says which)."""
    told: Mapping[str, object] = field(default_factory=dict)
    """What Great Expectations answered."""
    broke: bool = False
    """Whether a tool broke or time ran out: the same inputs may be judged again."""
    guarded: Guarded | None = None
    """What the over-detection guard does with the rule, from this interval on or before."""

    @property
    def muted(self) -> bool:
        """Whether the rule is suspended: then nothing that it says counts."""
        return self.guarded is not None and self.guarded.state is GuardState.SUSPENDED

    @property
    def complete(self) -> bool:
        """Whether every offending key is named, so that what is not named no longer offends."""
        return self.verdict is not Verdict.UNKNOWN and len(self.offences) == self.cases


@dataclass(frozen=True, slots=True)
class Judged:
    """What a report said of one definition of a rule."""

    rule: str
    """Its id inside the batch."""
    hash: str
    partition: Partition
    verdict: Verdict
    cases: int
    compared: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Report:
    """One batch over one interval, from these generations of its inputs."""

    batch: str
    partition: Partition
    digest: str
    """Of the rules and the generations that they compared: one report each."""
    results: tuple[RuleResult, ...]
    inputs: tuple[tuple[TableRef, Partition, int], ...]
    seconds: float
    at: datetime

    @property
    def verdict(self) -> Verdict:
        """
        FAIL if a blocking rule failed, WARN if an advisory one did, else UNKNOWN if one could not
        be told. PASS is: all of them passed.

        >>> from levada.terms import WHOLE
        >>> from datetime import UTC
        >>> Report("a", WHOLE, "", (), (), 0.0, datetime(2013, 1, 1, tzinfo=UTC)).verdict
        <Verdict.UNKNOWN: 'UNKNOWN'>
        """
        failed = [r.rule.severity for r in self.results if r.verdict is Verdict.FAIL]
        if Severity.BLOCKING in failed:
            return Verdict.FAIL
        if failed:
            return Verdict.WARN
        passed = self.results and all(r.verdict is Verdict.PASS for r in self.results)
        return Verdict.PASS if passed else Verdict.UNKNOWN

    def count(self, verdict: Verdict) -> int:
        """How many rules came to a verdict."""
        return sum(result.verdict is verdict for result in self.results)

    @property
    def cases(self) -> int:
        """How many keys or groups offend, without those of suspended rules."""
        return sum(result.cases for result in self.results if not result.muted)

    @property
    def summary(self) -> str:
        """One sentence: what passed, what failed and by how much, what could not be told."""
        failed = [f"{r.rule.id} ({r.cases})" for r in self.results if r.verdict is Verdict.FAIL]
        unknown = [r.rule.id for r in self.results if r.verdict is Verdict.UNKNOWN and not r.muted]
        muted = [r.rule.id for r in self.results if r.muted]
        held = [r.rule.id for r in self.results if r.guarded and not r.muted]
        said = [f"{self.count(Verdict.PASS)} of {len(self.results)} rules passed"]
        said += [f"failed: {', '.join(failed)}"] if failed else []
        said += [f"not told: {', '.join(unknown)}"] if unknown else []
        said += [f"suspended: {', '.join(muted)}"] if muted else []
        said += [f"to be reviewed: {', '.join(held)}"] if held else []
        return "; ".join(said)


class BreakState(enum.Enum):
    """Where a break stands."""

    OPEN = "open"
    RESOLVED = "resolved"
    """Somebody explained it; the same figures open it no more."""
    CLOSED = "closed"
    """It is no longer found."""


@dataclass(frozen=True, slots=True)
class Break:
    """An offending key or group of one rule in one interval, as long as it is remembered."""

    id: str
    rule: str
    """`batch.rule`."""
    partition: Partition
    key: str
    figures: str
    owner: str
    state: BreakState
    first_seen: datetime
    last_seen: datetime
    times: int
    """In how many reports it was found."""
    resolution: str = ""
    resolved_by: str = ""
    ended: datetime | None = None

    def age(self, now: datetime) -> timedelta:
        """How long it has been, or was, open."""
        return (self.ended or now) - self.first_seen
