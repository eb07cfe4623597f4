"""What several stages need from outside: a ledger, a warehouse, a clock. Protocols only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from levada.terms import (
    Attempt,
    Claim,
    Contract,
    Facts,
    Input,
    Intent,
    Landing,
    Partition,
    Product,
    Publication,
    Shards,
    Span,
    Step,
    TableRef,
    Tampering,
    Waiver,
)

__all__ = [
    "Change",
    "Clock",
    "LandedFile",
    "LandedRows",
    "Ledger",
    "Reject",
    "Relation",
    "Sensing",
    "Stage",
    "StagedSource",
    "StagedTable",
    "Want",
    "Warehouse",
]


class Clock(Protocol):
    """Wall time, as an aware UTC datetime."""

    def __call__(self) -> datetime:
        """Now."""


@dataclass(frozen=True, slots=True)
class Want:
    """A claim asked for: what `sense` judged ready, with the pins it judged."""

    product: str
    partition: Partition
    fingerprint: str
    inputs: tuple[Input, ...]
    taint: tuple[str, ...] = ()
    """What is gone without, as its publication will say."""


class Sensing(Protocol):
    """One ledger transaction in which a product is judged, pinned and claimed."""

    @property
    def facts(self) -> Facts:
        """What the ledger shows in this transaction."""

    def claim(self, wants: Sequence[Want], *, run: str, lifetime: timedelta) -> tuple[Claim, ...]:
        """
        Claim what is free; what another run holds, or is published with this very fingerprint,
        is not granted. An expired claim is taken over unless its intent is still open.
        """

    def release(self, run: str, partitions: Collection[Partition], because: str) -> None:
        """Give claims back in this transaction: nobody but it can have them before it ends."""


class Ledger(Protocol):
    """
    The append-only record, seen through one role. A call the role may not make raises LawBroken;
    a database that does not answer raises Unavailable.
    """

    def facts(
        self, tables: Collection[TableRef], products: Collection[str], span: Span | None = None
    ) -> Facts:
        """Newest lines of the tables and newest attempts and live claims of the products."""

    def named(self, after: int) -> tuple[int, frozenset[str]]:
        """
        The newest position, and the tables and products that lines after this one are about.
        A newest position before `after` says that another ledger stands there.
        """

    def sensing(
        self, tables: Collection[TableRef], products: Collection[str], span: Span | None = None
    ) -> AbstractContextManager[Sensing]:
        """Open the transaction of `sense` (role: runner)."""

    def land(self, landings: Sequence[Landing]) -> tuple[Landing, ...]:
        """Record what landed; returns the lines that are new or whose content changed (runner)."""

    def probed(self, said: Mapping[TableRef, str]) -> None:
        """
        Record which sources do not answer, and why; an empty text says that one did. Nothing is
        written where nothing changed (runner).
        """

    def claims(self, run: str) -> tuple[Claim, ...]:
        """The claims that this run holds."""

    def renew(self, run: str, lease: timedelta) -> None:
        """Start or renew the lease of the run's claims. Raises ClaimLost (runner, publisher)."""

    def release(self, run: str, partitions: Collection[Partition], because: str) -> None:
        """Give claims back with nothing done (runner, publisher)."""

    def withhold(self, attempts: Sequence[Attempt]) -> None:
        """Record attempts that do not publish and end their claims (runner: UNKNOWN only)."""

    def intend(
        self,
        run: str,
        lines: Sequence[Publication],
        breaks: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        """
        Record what is about to be published, without data version (publisher). `breaks` says, by
        the label of a contract, what it takes from the readers of the one that its table keeps.
        Raises ClaimLost when a claim is gone, TableHeld for a table that was changed by hand,
        NotPublishable when verdict, contract, waivers or fingerprint forbid it.
        """

    def locked(self, tables: Collection[TableRef]) -> AbstractContextManager[None]:
        """Hold the publishing lock of each table, taken in fixed order (publisher)."""

    def intents(self, tables: Collection[TableRef] | None = None) -> tuple[Intent, ...]:
        """Intents without lines, of these tables or of all."""

    def confirm(self, run: str) -> Intent:
        """
        Re-check, under the locks, that token and intent still stand. Raises ClaimLost, and
        TableHeld where a table of it was changed by hand.
        """

    def publish(self, run: str, data_version: str) -> tuple[Publication, ...]:
        """Write the intent's lines, close its claims and steps; one transaction (publisher)."""

    def withdraw(self, run: str, because: str, *, keep_claims: bool = False) -> None:
        """Drop an intent whose swap never happened; frees its claims or keeps them (publisher)."""

    def open_steps(self, steps: Sequence[Step]) -> int:
        """Open steps, merging those of one product and partition; how many were new (runner)."""

    def close_steps(self, steps: Sequence[Step], because: str) -> None:
        """Close steps that nothing is left to do for (runner)."""

    def steps(self) -> tuple[Step, ...]:
        """The open steps."""

    def record_contracts(self, contracts: Mapping[str, str]) -> tuple[str, ...]:
        """
        Record contracts, canonical JSON by `id version hash`; returns the new ones (governance).
        Raises NotPublishable where a published version comes with another hash.
        """

    def beat(self, name: str) -> None:
        """Say that `name` is at work now (runner)."""

    def contract(self, label: str) -> str:
        """The recorded canonical JSON of `id version hash`. Raises NotPublishable if unknown."""

    def kept(self, tables: Collection[TableRef]) -> Mapping[TableRef, str]:
        """The contract of each table's newest publication, as `id version hash`."""

    def approved(self, subject: str, digest: str) -> str | None:
        """Who approved what has this hash, if anybody did."""

    def waivers(self, tables: Collection[TableRef]) -> tuple[Waiver, ...]:
        """What governance granted for these tables, ended or not."""

    def inspected(self, domain: str) -> str:
        """Up to which data version the domain's published data was looked through."""

    def unknown_runs(self, runs: Collection[str]) -> frozenset[str]:
        """Those of which neither a publication nor an open intent tells."""

    def inspect(self, domain: str, version: str, found: Sequence[Tampering]) -> None:
        """Record that the domain was looked through up to here, and what was found (runner)."""

    def untold(self) -> tuple[Tampering, ...]:
        """Tables that are held for having been changed by hand, of which nobody was told yet."""

    def tell(self, found: Tampering, to: str) -> bool:
        """Record that somebody was told of it; whether that is new (runner, publisher)."""

    def history(self, table: TableRef, partition: Partition) -> tuple[Publication | Landing, ...]:
        """Every line of one partition, oldest first."""


@dataclass(frozen=True, slots=True)
class Relation:
    """Where a table stands inside a stage."""

    database: str
    schema: str
    name: str

    def __str__(self) -> str:
        return f'"{self.database}"."{self.schema}"."{self.name}"'


@dataclass(frozen=True, slots=True)
class StagedTable:
    """
    An upstream table as a run may read it: the contract's columns only, at one data version, cut
    to the windows that readiness judged (None: all of it).
    """

    contract: Contract
    version: str
    windows: tuple[tuple[datetime, datetime], ...] | None


@dataclass(frozen=True, slots=True)
class LandedFile:
    """One pinned file: a mismatch of its sha256 ends the attempt."""

    partition: Partition
    path: Path
    sha256: str
    copy_of: str = ""
    """The object that `path` is a copy of; empty where the file is itself what landed."""

    @property
    def name(self) -> str:
        """What has landed, as messages and the column `_file` say it."""
        return self.copy_of or str(self.path)


@dataclass(frozen=True, slots=True)
class LandedRows:
    """Pinned partitions of a table outside the mesh: other rows than these end the attempt."""

    name: str
    pins: tuple[tuple[Partition, str], ...]
    """In order, each with the `rows:hash` that it must have."""
    copy: Callable[[Path], None]
    """
    Writes the rows as CSV: the declared columns, the number of the pin, and the row's hash. NULL
    is an empty field, an empty text is quoted.
    """


@dataclass(frozen=True, slots=True)
class StagedSource:
    """A landed source as a run may read it: these files or rows, every column VARCHAR."""

    table: TableRef
    columns: tuple[str, ...]
    files: tuple[LandedFile, ...]
    rows: LandedRows | None = None


@dataclass(frozen=True, slots=True, order=True)
class Reject:
    """A line of a landed file that is no row of its source: kept out, and failed by the audit."""

    source: str
    file: str
    line: int
    reason: str
    partition: str
    """Key of the partition that the file holds."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A private place in which one run builds; nothing in it is published."""

    run: str
    path: Path
    """By what it is known: its file or, in a warehouse that keeps it elsewhere, its name there."""
    outputs: Mapping[TableRef, Relation]
    inputs: Mapping[TableRef, Relation]
    private: str = "private"
    """The schema for models that are no marts."""


@dataclass(frozen=True, slots=True)
class Change:
    """A data version that changed published tables, and the run that says it made it, if any."""

    domain: str
    version: str
    at: datetime
    tables: tuple[TableRef, ...]
    run: str | None
    what: str
    """The catalogue's own words."""


class Warehouse(Protocol):
    """Staging, swapping and restoring published data. Data versions are opaque strings."""

    @property
    def copies(self) -> bool:
        """Whether publishing copies the staged rows."""

    @staticmethod
    def spelled(promised: str) -> str:
        """A contract's type in the words that dbt is held to here. Raises NotPublishable."""

    def create(self, domain: str) -> None:
        """See that a domain is there (publisher). Any number may do so at once."""

    def close(self) -> None:
        """End the connections of this process; the next call opens them again."""

    def stage(
        self,
        run: str,
        product: Product,
        tables: Sequence[StagedTable],
        sources: Sequence[StagedSource],
    ) -> Stage:
        """Make the private place, with every input in it. Raises LandingMoved, VersionGone."""

    def resume(self, stage: Stage, shards: Shards, mark: str) -> frozenset[int]:
        """
        Build a stage in shards. Equal marks are equal builds: the shards that one of this mark had
        built when it was killed are there, and told. Raises NotPublishable where the warehouse
        cannot cut.
        """

    def shard(self, stage: Stage, shards: Shards, number: int) -> None:
        """
        Give the domain the stage afresh, with the rows of one shard: of inputs with the key those
        whose hash it is, of others all.
        """

    def collect(self, stage: Stage, number: int) -> None:
        """Take a built shard away from the domain; `seal` makes one of all that were taken."""

    def profile(self, stage: Stage, domain: str) -> Mapping[str, object]:
        """The dbt output for building in this stage with only the domain's credentials."""

    def reading(self, stage: Stage) -> Sequence[str]:
        """What a DuckDB executes to read a stage, and its inputs, under the relations' names."""

    def seal(self, stage: Stage) -> Stage:
        """Take the stage away from the domain, before it is audited; refuses views as marts."""

    def rejects(self, stage: Stage) -> tuple[Reject, ...]:
        """The lines of landed files that were kept out of the stage."""

    def contents(
        self, stage: Stage, contract: Contract, partitions: Sequence[Partition]
    ) -> Mapping[Partition, str]:
        """`rows:hash` of each partition of a staged table."""

    def swap(
        self,
        stage: Stage,
        changes: Sequence[tuple[Contract, Sequence[Partition]]],
        note: Mapping[str, str],
    ) -> str:
        """Replace these partitions of all tables in one transaction; the new data version."""

    def changes(self, domain: str, after: str = "0") -> Sequence[Change]:
        """Every later data version that changed rows or shape of a table, oldest first."""

    def altered(self, domain: str, tables: Collection[TableRef] | None = None) -> Sequence[Change]:
        """
        Published files, of these tables or of all, that are not as they were written, whatever the
        versions say.
        """

    def missing(self, domain: str, versions: Collection[str]) -> Collection[str]:
        """Those data versions that are not there, or no more."""

    def expired(self, domain: str, versions: Collection[str]) -> Mapping[str, datetime]:
        """When each of these data versions was given up; those of which that is recorded."""

    def place(self, table: TableRef) -> str:
        """How SQL of `read` names a published table."""

    def attaching(self, domains: Collection[str]) -> Sequence[str]:
        """What a DuckDB executes to read the published tables of these domains (as the runner)."""

    def relation(self, table: TableRef, version: str = "") -> str:
        """What such a DuckDB calls a published table, as a version shows it."""

    def read(self, sql: str, params: Sequence[object] = ()) -> Sequence[Mapping[str, object]]:
        """Rows of a query over published tables, in the warehouse's own words."""

    def find(self, domain: str, run: str) -> str | None:
        """The data version that this run committed, if it did."""

    def shown(
        self, contract: Contract, partitions: Sequence[Partition], version: str
    ) -> Mapping[Partition, str]:
        """`rows:hash` of each partition of a published table, at a version. Raises VersionGone."""

    def restore(
        self,
        changes: Sequence[tuple[Contract, Sequence[Partition]]],
        version: str,
        note: Mapping[str, str],
    ) -> str:
        """Put older data back, as a new version. Raises VersionGone."""

    def discard(self, stage: Stage) -> None:
        """Remove a stage and all that is in it."""

    def sweep(self, live_runs: Collection[str]) -> int:
        """Remove stages of runs that are no longer live; how many."""
