"""The words of Levada: frozen values, validated when they are made. Stdlib only."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import total_ordering
from typing import Literal

from levada.calendars import calendar, opening

__all__ = [
    "BUILT_IN",
    "WHOLE",
    "Attempt",
    "AuditReport",
    "Check",
    "CheckResult",
    "Claim",
    "Column",
    "Contract",
    "Deadline",
    "Dependency",
    "Facts",
    "FanOut",
    "FileProbe",
    "Grain",
    "Identity",
    "Input",
    "Intent",
    "Lag",
    "Landing",
    "Latest",
    "Layer",
    "Mart",
    "Mesh",
    "OnRestatement",
    "Owner",
    "Partition",
    "PartitionMapping",
    "Plan",
    "Probe",
    "ProbeFailure",
    "Product",
    "Publication",
    "QueryProbe",
    "Readiness",
    "Rollup",
    "Severity",
    "Source",
    "Span",
    "State",
    "Step",
    "TableProbe",
    "TableRef",
    "Tampering",
    "Trailing",
    "Verdict",
    "WaitPolicy",
    "Waiver",
]

BUILT_IN = "built in"
"""`Check.origin` of what the platform itself needs; such a check cannot be waived."""

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?")


@total_ordering
class Grain(enum.Enum):
    """How long a partition is; ordered from fine to coarse.

    >>> Grain.HOUR < Grain.DAY
    True
    """

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"
    WHOLE = "whole"

    def __lt__(self, other: Grain) -> bool:
        order = list(Grain)
        return order.index(self) < order.index(other)


class Layer(enum.Enum):
    """Where a mart stands on the way of the data; the folder of its model says it."""

    INGEST = "ingest"
    BASE = "base"
    AGGREGATE = "aggregate"
    SERVE = "serve"


@dataclass(frozen=True, slots=True, order=True)
class TableRef:
    """
    A table, named by the domain that owns it. Major 0 is a source: landed, never published.

    >>> str(TableRef("operations", "flights")), TableRef.parse("operations.flights@1").major
    ('operations.flights@1', 1)
    >>> str(TableRef("operations", "landing.flights", 0))
    'operations.landing.flights'
    """

    domain: str
    name: str
    major: int = 1

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or not _NAME.fullmatch(self.domain):
            raise ValueError(f"{self.domain}.{self.name} is no table name: use lower_snake_case")
        if self.major < 0:
            raise ValueError(f"{self.domain}.{self.name}: a major version is at least 1")

    def __str__(self) -> str:
        return f"{self.domain}.{self.name}" + (f"@{self.major}" if self.major else "")

    @property
    def is_source(self) -> bool:
        """Whether the table lies outside the mesh and is landed, not published."""
        return self.major == 0

    @property
    def relation(self) -> str:
        """The name of the table inside its domain's lake or stage: `flights_v1`."""
        name = self.name.replace(".", "__")
        return f"{name}_v{self.major}" if self.major else name

    @classmethod
    def parse(cls, text: str) -> TableRef:
        """Read `domain.table` or `domain.table@major` (major 1 when none is said)."""
        head, _, major = text.partition("@")
        domain, _, name = head.partition(".")
        if not name or (major and not major.isdigit()):
            raise ValueError(f"{text!r} is no table: write domain.table or domain.table@major")
        if "." in name:
            return cls(domain, name, 0)
        return cls(domain, name, int(major or 1))


@dataclass(frozen=True, slots=True)
class Partition:
    """
    One slice of a table. Equal by grain, instant and zone; WHOLE has no start.

    The zone is the name of a calendar (`levada.calendars`): of a time zone, or of one with a start
    of days or weeks of its own, like `America/New_York@06:00`.

    >>> Partition(Grain.DAY, datetime(2013, 3, 10, 5, tzinfo=UTC), "America/New_York").key
    '2013-03-10'
    >>> Partition(Grain.HOUR, datetime(2013, 3, 10, 5, tzinfo=UTC), "America/New_York").key
    '2013-03-10T05Z'
    """

    grain: Grain
    start: datetime | None = None
    zone: str = "UTC"

    def __post_init__(self) -> None:
        if (self.grain is Grain.WHOLE) != (self.start is None):
            raise ValueError("a partition has a start unless its grain is WHOLE")
        if self.start is not None:
            if self.start.tzinfo is None:
                raise ValueError("a partition's start is an aware datetime")
            object.__setattr__(self, "start", self.start.astimezone(UTC))
        else:
            object.__setattr__(self, "zone", "UTC")

    @property
    def begin(self) -> datetime:
        """The start, for a partition that has one."""
        if self.start is None:
            raise ValueError("a WHOLE partition has no start")
        return self.start

    @property
    def key(self) -> str:
        """The name of the slice: the business date of its start, the UTC hour, or `whole`."""
        if self.start is None:
            return "whole"
        if self.grain is Grain.HOUR:
            minutes = f":{self.start:%M}" if self.start.minute else ""
            return f"{self.start:%Y-%m-%dT%H}{minutes}Z"
        return calendar(self.zone).date(self.start).isoformat()

    def __str__(self) -> str:
        return self.key

    def __lt__(self, other: Partition) -> bool:
        low = datetime.min.replace(tzinfo=UTC)
        return (self.start or low, self.grain) < (other.start or low, other.grain)


WHOLE = Partition(Grain.WHOLE)


@dataclass(frozen=True, slots=True)
class Span:
    """
    A half-open stretch of time; what lies wholly inside it belongs to it.

    >>> Span.days("2013-01-01", "2013-01-02", "UTC").end
    datetime.datetime(2013, 1, 3, 0, 0, tzinfo=datetime.timezone.utc)
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("a span is bounded by aware datetimes")
        if self.end <= self.start:
            raise ValueError(f"the span {self.start} .. {self.end} is empty")
        object.__setattr__(self, "start", self.start.astimezone(UTC))
        object.__setattr__(self, "end", self.end.astimezone(UTC))

    @classmethod
    def days(cls, first: str | date, last: str | date, zone: str) -> Span:
        """The days of a calendar from `first` to `last`, both included."""
        a = date.fromisoformat(first) if isinstance(first, str) else first
        b = date.fromisoformat(last) if isinstance(last, str) else last
        return cls(opening(a, zone), opening(b + timedelta(days=1), zone))


# How one downstream partition finds the upstream partitions it reads (Airflow: PartitionMapper).


@dataclass(frozen=True, slots=True)
class Identity:
    """The same slice."""

    kind: Literal["identity"] = "identity"


@dataclass(frozen=True, slots=True)
class Lag:
    """The slice `by` steps earlier."""

    by: int
    kind: Literal["lag"] = "lag"

    def __post_init__(self) -> None:
        if self.by < 1:
            raise ValueError(f"lag {self.by} is degenerate: use identity, or a lag of at least 1")


@dataclass(frozen=True, slots=True)
class Trailing:
    """The slice itself and the `n` - 1 before it."""

    n: int
    kind: Literal["trailing"] = "trailing"

    def __post_init__(self) -> None:
        if self.n < 2:
            raise ValueError(f"trailing {self.n} is degenerate: use identity, or at least 2")


@dataclass(frozen=True, slots=True)
class Rollup:
    """Every finer slice inside this one."""

    kind: Literal["rollup"] = "rollup"


@dataclass(frozen=True, slots=True)
class FanOut:
    """The coarser slice that holds this one."""

    kind: Literal["fanout"] = "fanout"


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest slice there is, if it was published at most `within` ago."""

    within: timedelta | None = None
    kind: Literal["latest"] = "latest"

    def __post_init__(self) -> None:
        if self.within is not None and self.within <= timedelta(0):
            raise ValueError("latest within nothing would never be ready")


PartitionMapping = Identity | Lag | Trailing | Rollup | FanOut | Latest


@dataclass(frozen=True, slots=True)
class Deadline:
    """
    When a reader stops waiting for all: at a local time of day, the first one at or after its
    partition's end, or so long after that end.

    >>> Deadline(at=time(7)), Deadline(after=timedelta(hours=7)).after
    (Deadline(at=datetime.time(7, 0), after=None), datetime.timedelta(seconds=25200))
    """

    at: time | None = None
    after: timedelta | None = None

    def __post_init__(self) -> None:
        if (self.at is None) == (self.after is None):
            raise ValueError("a deadline is a time of day or a time after the partition's end")
        if self.after is not None and self.after < timedelta(0):
            raise ValueError("a deadline before the partition's end would never wait")


@dataclass(frozen=True, slots=True)
class WaitPolicy:
    """
    How many of the mapped partitions suffice: all, at least n, or at most k missing.

    With a deadline all are waited for until then, and only afterwards is less enough. What is
    absent then is replaced by the last good one that is at most `max_lag` older.

    >>> WaitPolicy().met(ready=3, total=3), WaitPolicy(at_least=2).met(ready=1, total=3)
    (True, False)
    """

    at_least: int | None = None
    at_most_missing: int | None = None
    deadline: Deadline | None = None
    max_lag: timedelta | None = None

    def __post_init__(self) -> None:
        if self.at_least is not None and self.at_most_missing is not None:
            raise ValueError("say at_least or at_most_missing, not both")
        if self.at_least is not None and self.at_least < 1:
            raise ValueError("at_least 0 is degenerate: it would fire on nothing at all")
        if self.at_most_missing is not None and self.at_most_missing < 1:
            raise ValueError("at_most_missing 0 is `all`: leave it out")
        if self.max_lag is not None and self.deadline is None:
            raise ValueError("max_lag says what is enough after a deadline: say the deadline too")
        if self.max_lag is not None and self.max_lag < timedelta(0):
            raise ValueError("max_lag is how much older the last good one may be: at least 0d")

    @property
    def tolerant(self) -> bool:
        """Whether anything less than all can be enough."""
        return (self.at_least, self.at_most_missing, self.max_lag) != (None, None, None)

    def met(self, *, ready: int, total: int) -> bool:
        """Whether `ready` of `total` mapped partitions are enough; nothing ready never is."""
        if total == 0 or ready == 0:
            return False
        if self.at_least is not None:
            return ready >= min(self.at_least, total)
        return total - ready <= (self.at_most_missing or 0)


@dataclass(frozen=True, slots=True)
class OnRestatement:
    """What an edge does when its input changes after it was read: rerun, hold or ignore."""

    action: str = "rerun"
    reason: str = ""

    def __post_init__(self) -> None:
        if self.action not in ("rerun", "hold", "ignore"):
            raise ValueError(f"on_restatement {self.action!r}: say rerun, hold or ignore")
        if self.action == "ignore" and not self.reason:
            raise ValueError("on_restatement ignore needs a reason")


@dataclass(frozen=True, slots=True)
class Dependency:
    """
    An edge: `downstream` reads `upstream`, by this mapping, waiting so. Of the edges that share an
    `any_of`, one that is met suffices.
    """

    upstream: TableRef
    downstream: TableRef
    mapping: PartitionMapping
    wait: WaitPolicy = WaitPolicy()
    required: bool = True
    on_restatement: OnRestatement = OnRestatement()
    pinned: bool = False
    any_of: str = ""

    def __post_init__(self) -> None:
        if self.wait.deadline and self.required and not self.wait.tolerant:
            raise ValueError(
                "after its deadline it would still wait for all: say at_least, at_most_missing or "
                "max_lag, or required: false"
            )
        if self.wait.max_lag is not None and isinstance(self.mapping, Latest):
            raise ValueError("max_lag with mapping latest: say how old it may be by `within`")
        if self.any_of and not self.required:
            raise ValueError("any_of with required: false: one of a group is always required")


class Verdict(enum.Enum):
    """What an audit found. Only PASS and WARN publish."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"

    @property
    def publishes(self) -> bool:
        """Whether a product with this verdict may be published."""
        return self in (Verdict.PASS, Verdict.WARN)


class Severity(enum.Enum):
    """Whether a check decides (blocking) or tells (advisory)."""

    BLOCKING = "blocking"
    ADVISORY = "advisory"


@dataclass(frozen=True, slots=True)
class Check:
    """
    What must hold, engine-neutral. `id` is the contract's; without one it cannot be waived.

    `metric` is one of the library's words (see `levada.audit.METRICS`); `arguments` are its own.
    """

    id: str
    metric: str
    column: str | None = None
    operator: str = "mustBe"
    threshold: tuple[float, ...] = (0,)
    unit: str = "rows"
    arguments: tuple[tuple[str, object], ...] = ()
    severity: Severity = Severity.BLOCKING
    dimension: str = ""
    origin: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One promised column."""

    name: str
    type: str
    required: bool = False
    unique: bool = False
    key_position: int | None = None
    description: str = ""
    classification: str = ""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who answers for a table: the contract's team."""

    team: str
    contact: str = ""

    def __str__(self) -> str:
        return f"{self.team} <{self.contact}>" if self.contact else self.team


@dataclass(frozen=True, slots=True)
class Contract:
    """The promise about one table, as its ODCS file gives it. `hash` is of its canonical JSON."""

    id: str
    version: str
    status: str
    table: TableRef
    product: str
    grain: Grain
    zone: str
    interval_column: str | None
    columns: tuple[Column, ...]
    checks: tuple[Check, ...]
    owner: Owner
    description: str
    hash: str
    path: str
    sla: tuple[tuple[str, str], ...] = ()
    deprecated: date | None = None
    """From this local day on, consumers are told to leave."""
    sunset: date | None = None
    """From this local day on, the table is held."""

    @property
    def key(self) -> tuple[str, ...]:
        """The primary key's columns, in order."""
        keyed = [c for c in self.columns if c.key_position is not None]
        return tuple(c.name for c in sorted(keyed, key=lambda c: c.key_position or 0))

    @property
    def label(self) -> str:
        """`id version hash`: how ledger lines name the contract that they were audited by."""
        return f"{self.id} {self.version} {self.hash[:12]}"

    def column(self, name: str) -> Column | None:
        """The promised column of this name, if there is one."""
        return next((c for c in self.columns if c.name == name), None)


# How the platform finds out what has landed of a table outside the mesh.


@dataclass(frozen=True, slots=True)
class FileProbe:
    """A file for each partition; with a marker it counts only when its marker is there too."""

    marker: str = ""
    kind: Literal["files"] = "files"


@dataclass(frozen=True, slots=True)
class QueryProbe:
    """A query that answers with a fingerprint for each partition. It is waited for, never read."""

    connection: str
    sql: str
    kind: Literal["query"] = "query"


@dataclass(frozen=True, slots=True)
class TableProbe:
    """A PostgreSQL table, cut into partitions by the column `time` (none: WHOLE)."""

    connection: str
    table: str
    time: str = ""
    version: str = ""
    """A column that changes whenever a row does; without one all declared columns are compared."""
    complete_when: str = ""
    """A boolean of SQL: whether a partition has landed; otherwise one row of it is enough."""
    kind: Literal["postgres"] = "postgres"


Probe = FileProbe | QueryProbe | TableProbe


@dataclass(frozen=True, slots=True)
class Source:
    """A table outside the mesh, and how it is probed: a file that lands, by default."""

    table: TableRef
    grain: Grain
    zone: str
    location: str
    """
    Path of a partition's file inside the project, with `{start:%Y...}` of its UTC start; else the
    connection, and what is asked there.
    """
    columns: tuple[str, ...]
    node: str
    owner: Owner = Owner("unknown")
    probe: Probe = FileProbe()

    @property
    def readable(self) -> bool:
        """Whether models read it; a source that is none is only waited for."""
        return not isinstance(self.probe, QueryProbe)


@dataclass(frozen=True, slots=True)
class Mart:
    """One published table with its model, contract and dependencies."""

    table: TableRef
    layer: Layer
    node: str
    contract: Contract
    dependencies: tuple[Dependency, ...]
    model_path: str
    code: str
    """Checksum of the model, its private models and the macros they reach."""


@dataclass(frozen=True, slots=True)
class Product:
    """The marts that one domain builds together for one partition: the unit of work."""

    domain: str
    name: str
    marts: tuple[Mart, ...]
    grain: Grain
    zone: str
    batch: bool = False
    nodes: tuple[str, ...] = ()
    """dbt ids of everything built in one run: marts and their private models."""

    def __str__(self) -> str:
        return self.id

    @property
    def id(self) -> str:
        """`domain.product`: also the id of its DAG."""
        return f"{self.domain}.{self.name}"

    @property
    def dependencies(self) -> tuple[Dependency, ...]:
        """The edges into the product from outside it, judged as one set."""
        own = {mart.table for mart in self.marts}
        return tuple(d for m in self.marts for d in m.dependencies if d.upstream not in own)

    @property
    def layer(self) -> Layer:
        """The furthest layer of its marts."""
        return max((m.layer for m in self.marts), key=list(Layer).index)

    @property
    def owner(self) -> Owner:
        """Who answers for the product."""
        return self.marts[0].contract.owner

    @property
    def code(self) -> str:
        """The code part of a run's fingerprint."""
        return "+".join(sorted(m.code for m in self.marts))

    @property
    def contracts(self) -> tuple[Contract, ...]:
        """The contracts that its audit obeys."""
        return tuple(m.contract for m in self.marts)


@dataclass(frozen=True, slots=True)
class Mesh:
    """Everything that is declared: products, landed sources, and the span they live in."""

    name: str
    span: Span
    zone: str
    live_from: datetime
    products: tuple[Product, ...]
    sources: tuple[Source, ...] = ()
    quiet: timedelta = timedelta(0)
    """How long after its publication a partition rests before changed inputs rebuild it."""
    _by_table: Mapping[TableRef, Product] = field(init=False, repr=False, compare=False)
    _sources: Mapping[TableRef, Source] = field(init=False, repr=False, compare=False)
    _by_id: Mapping[str, Product] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_table", {m.table: p for p in self.products for m in p.marts})
        object.__setattr__(self, "_sources", {s.table: s for s in self.sources})
        object.__setattr__(self, "_by_id", {p.id: p for p in self.products})

    def product(self, what: str | TableRef) -> Product:
        """The product of this id, or the one that publishes this table. Raises KeyError."""
        return self._by_table[what] if isinstance(what, TableRef) else self._by_id[what]

    def mart(self, table: TableRef) -> Mart:
        """The mart of a published table. Raises KeyError."""
        return next(m for m in self._by_table[table].marts if m.table == table)

    def source(self, table: TableRef) -> Source:
        """The landed source of this name. Raises KeyError."""
        return self._sources[table]

    def slicing(self, table: TableRef) -> tuple[Grain, str]:
        """Grain and zone of a published table or of a source. Raises KeyError."""
        if table.is_source:
            source = self._sources[table]
            return source.grain, source.zone
        product = self._by_table[table]
        return product.grain, product.zone

    def owner(self, table: TableRef) -> Owner:
        """Who answers for a published table or a source."""
        return self._sources[table].owner if table.is_source else self.mart(table).contract.owner

    def tables(self) -> Iterator[TableRef]:
        """Every published table."""
        return (m.table for p in self.products for m in p.marts)


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


@dataclass(frozen=True, slots=True)
class Input:
    """One upstream partition as a run read it; content is None where it was absent."""

    table: TableRef
    partition: Partition
    generation: int
    content: str | None
    data_version: str = ""


@dataclass(frozen=True, slots=True)
class Landing:
    """What landed: its fingerprint is its content. Landed and empty is a fact."""

    table: TableRef
    partition: Partition
    generation: int
    content: str
    """sha256 of a file's bytes, `rows:hash` of a table's rows, or what a query answered."""
    path: str
    """The file, or the connection and what was asked there."""
    size: int
    """Bytes of a file, rows of a table."""
    at: datetime
    position: int = 0


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


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found in one partition; `rows` are samples of what offends."""

    check: Check
    table: TableRef
    verdict: Verdict
    observed: str = ""
    because: str = ""
    count: int = 0
    rows: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.check.unit == "percent" and self.observed:
            return f"{self.check.id} ({self.observed})"
        return f"{self.check.id} ({self.count} {self.check.unit})" if self.count else self.check.id


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The verdict over one product's partition, with every result. The product passes whole."""

    product: str
    partition: Partition
    results: tuple[CheckResult, ...]
    contents: tuple[tuple[TableRef, str], ...] = ()

    @property
    def verdict(self) -> Verdict:
        """
        FAIL if a blocking check failed, UNKNOWN if one could not be told, WARN if an advisory
        check did not pass, else PASS. No blocking check at all is UNKNOWN.

        >>> AuditReport("a.b", WHOLE, ()).verdict
        <Verdict.UNKNOWN: 'UNKNOWN'>
        """
        blocking = [r.verdict for r in self.results if r.check.severity is Severity.BLOCKING]
        tables = {r.table for r in self.results}
        told = {r.table for r in self.results if r.check.severity is Severity.BLOCKING}
        if Verdict.FAIL in blocking:
            return Verdict.FAIL
        if not blocking or Verdict.UNKNOWN in blocking or tables - told:
            return Verdict.UNKNOWN
        if any(r.verdict is not Verdict.PASS for r in self.results):
            return Verdict.WARN
        return Verdict.PASS

    @property
    def offending(self) -> tuple[CheckResult, ...]:
        """The results that did not pass, blocking ones first."""
        bad = [r for r in self.results if r.verdict is not Verdict.PASS]
        return tuple(sorted(bad, key=lambda r: r.check.severity is not Severity.BLOCKING))

    def warnings(self, table: TableRef) -> tuple[str, ...]:
        """
        The advisory checks of a table that did not pass, as its line names them.

        >>> check = Check("tailnum_known", "unknownValues", severity=Severity.ADVISORY)
        >>> flights = TableRef("operations", "flights")
        >>> result = CheckResult(check, flights, Verdict.FAIL, count=12)
        >>> AuditReport("operations.flights", WHOLE, (result,)).warnings(flights)
        ('tailnum_known (12 rows)',)
        """
        return tuple(
            str(r) if r.verdict is Verdict.FAIL else f"{r} could not be told"
            for r in self.results
            if r.table == table
            and r.verdict is not Verdict.PASS
            and r.check.severity is Severity.ADVISORY
        )


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
class Waiver:
    """A check set aside for a window of data, until an instant of wall time."""

    table: TableRef
    check: str
    window: Span
    expires: datetime
    reason: str
    approved_by: str
    hash: str = ""
    """Of the file that asked for it: a changed file asks anew."""


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
