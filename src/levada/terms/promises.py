"""What a table promises, and what its checks may find."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import date, datetime

from levada.terms.slices import Grain, Partition, Span, TableRef

__all__ = [
    "BUILT_IN",
    "Approval",
    "AuditReport",
    "Check",
    "CheckResult",
    "Column",
    "Contract",
    "Member",
    "Owner",
    "Severity",
    "Verdict",
    "Waived",
    "Waiver",
]

BUILT_IN = "built in"
"""`Check.origin` of what the platform itself needs; such a check cannot be waived."""


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
    logical: str = ""
    """The standard's word for its kind: string, integer."""
    told: tuple[tuple[str, str], ...] = ()
    """What is said of its values and decides nothing: `format`, `timezone`."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who answers for a table: the contract's team."""

    team: str
    contact: str = ""

    def __str__(self) -> str:
        return f"{self.team} <{self.contact}>" if self.contact else self.team


@dataclass(frozen=True, slots=True)
class Member:
    """One of a contract's team, and the role the contract gives them: `owner`, `steward`."""

    username: str
    role: str = ""


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
    tier: int | None = None
    """How much depends on the table, 1 the most; None where its owner does not say."""
    members: tuple[Member, ...] = ()

    @property
    def owners(self) -> tuple[str, ...]:
        """The members who own the table, by username."""
        return tuple(m.username for m in self.members if m.role == "owner")

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

        >>> from levada.terms import WHOLE
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

        >>> from levada.terms import WHOLE
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
    consumers: tuple[str, ...] = ()
    """The products that may run on what it let through; none named: all of them."""
    owner: str = ""
    """Who answers for the waiver, and mends what it covers."""
    approver: str = ""
    """Whom the file asks."""
    revoked: datetime | None = None

    @property
    def until(self) -> datetime:
        """When it ends: it expires, or was revoked before."""
        return min(self.expires, self.revoked) if self.revoked else self.expires

    def __str__(self) -> str:
        who = f"waived by {self.approved_by} until {self.until:%Y-%m-%d %H:%M}Z"
        return f"{self.table} {self.check}: {who} ({self.reason})"


@dataclass(frozen=True, slots=True, order=True)
class Waived:
    """A check that was set aside for one slice of a table: what its line is tainted by."""

    table: TableRef
    partition: Partition
    check: str

    def __str__(self) -> str:
        return f"{self.check} of {self.table} {self.partition}"


@dataclass(frozen=True, slots=True)
class Approval:
    """Who approved a file as it stands in a commit, and by which way."""

    reviewer: str
    authors: tuple[str, ...] = ()
    """Who wrote the file as it is: none of them may be its reviewer."""
    commit: str = ""
    via: str = ""
