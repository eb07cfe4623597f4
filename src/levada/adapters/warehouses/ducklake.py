"""The embedded warehouse: a DuckLake for each domain, Parquet with its catalogue in PostgreSQL."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import duckdb

from levada.adapters.warehouses import _swap
from levada.adapters.warehouses._contents import contents
from levada.adapters.warehouses._history import History
from levada.adapters.warehouses._session import (
    Session,
    attachment,
    options,
)
from levada.adapters.warehouses._sql import literal, name, within_partitions
from levada.adapters.warehouses._stage import DATABASE, Stages, lakes
from levada.adapters.warehouses.extensions import TRUSTED, extension_directory, loading
from levada.errors import LevadaError, NotPublishable, ToolError, Unavailable, VersionGone
from levada.ports import Change, Reject, Stage, StagedSource, StagedTable
from levada.settings import Settings
from levada.terms import Contract, Partition, Product, Shards, TableRef

__all__ = ["Change", "DuckLake"]

_RUNNER, _PUBLISHER = "levada_runner", "levada_publisher"
_RESERVED = frozenset({DATABASE, "main", "memory", "system", "temp"})
_TRIES = 6


class DuckLake:
    """
    Implements `levada.ports.Warehouse`. A data version is the number of a snapshot.

    Everything is read as `levada_runner`, published as `levada_publisher`, built as the domain:
    which of them may write is decided by PostgreSQL, which holds the catalogues. A table is
    `<domain>.main.<relation>`. The DuckDBs of a process are kept (opening one takes 0.2 s, nearly
    all of it loading extensions) and are never shared with a forked child.

    :param root: data path; each domain has a folder of its own in it
    :param stages: where runs build
    :param conninfo: libpq keywords for database `lake`, by role
    :param domains: all domains of the mesh
    :param grace: younger stages are never swept
    :param orphan_age: younger files may belong to a swap that has not committed yet
    """

    def __init__(
        self,
        root: Path,
        stages: Path,
        conninfo: Callable[[str], str],
        domains: Sequence[str],
        *,
        grace: timedelta = timedelta(minutes=1),
        orphan_age: timedelta = timedelta(days=1),
    ) -> None:
        for domain in domains:
            if domain in _RESERVED:
                raise ValueError(f"domain {domain!r}: DuckDB has a database of this name")
        self.root, self.stages = root.absolute(), stages.absolute()
        self.domains = tuple(domains)
        self._conninfo, self._grace, self._orphan_age = conninfo, grace, orphan_age
        self._reader = Session(_RUNNER, conninfo, self.root, write=False)
        self._writer = Session(_PUBLISHER, conninfo, self.root, write=True)
        self._history = History(lambda: conninfo(_RUNNER))
        self._stages = Stages(self.stages, self._history)

    copies, rehearses = True, True
    parsing: Mapping[str, object] = {"type": "duckdb", "path": ":memory:"}

    @classmethod
    def opened(cls, settings: Settings, conninfo: Callable[[str, str], str]) -> Self:
        """The lakes of a mesh; `conninfo` tells how a role signs in to a database."""
        return cls(
            settings.lake,
            settings.home / "stages",
            lambda role: conninfo(role, "lake"),
            settings.domains,
        )

    @classmethod
    def provision(cls, server: object, settings: Settings) -> None:
        """Nothing: the catalogues' database and schemas come with the roles."""

    @staticmethod
    def spelled(promised: str) -> str:
        """A promised type as dbt is held to it: DuckDB's words are the contract's own."""
        return promised

    def create(self, domain: str) -> None:
        """Make a domain's lake, if it is not there (publisher). Any number may do so at once."""
        (self.root / domain).mkdir(parents=True, exist_ok=True)
        for attempt in range(_TRIES):
            try:
                self._writer.run([domain], lambda _: None)
                break
            except ToolError:
                if attempt == _TRIES - 1:
                    raise
                _pause(attempt)
        self._history.date(domain, self._conninfo(_PUBLISHER))

    def close(self) -> None:
        """End the connections of this process; the next call opens them again."""
        self._reader.close()
        self._writer.close()
        self._history.close()

    # Building

    def stage(
        self,
        run: str,
        product: Product,
        tables: Sequence[StagedTable],
        sources: Sequence[StagedSource],
    ) -> Stage:
        """Make the private place, with every input in it. Raises LandingMoved, VersionGone."""
        return self._stages.make(self._reader, run, product, tables, sources)

    def resume(self, stage: Stage, shards: Shards, mark: str) -> frozenset[int]:
        """Build in shards; those that a run of the same mark, killed since, has built."""
        return self._stages.resume(stage, shards, mark)

    def shard(self, stage: Stage, shards: Shards, number: int) -> None:
        """Give the domain the stage afresh, with the rows of one shard."""
        self._stages.shard(stage, shards, number)

    def collect(self, stage: Stage, number: int) -> None:
        """Take a built shard away from the domain."""
        self._stages.collect(stage, number)

    def profile(self, stage: Stage, domain: str) -> Mapping[str, object]:
        """Dbt's output for building in this stage with only the domain's credentials."""
        conninfo = self._conninfo(f"levada_domain_{domain}")
        return {
            "type": "duckdb",
            "path": str(stage.path),
            "schema": "main",
            "threads": 1,
            "config_options": {
                **TRUSTED,
                "extension_directory": str(extension_directory(self.stages / ".extensions")),
            },
            # Set with each cursor, when the lakes are attached: what the domain loads is signed.
            "settings": {"TimeZone": "UTC", "allow_unsigned_extensions": "false"},
            "attach": [
                {
                    "path": f"ducklake:postgres:{conninfo}",
                    "alias": lake,
                    "options": options(lake, self.root, write=False),
                }
                for lake in sorted({domain, *lakes(stage)})
            ],
        }

    def rejects(self, stage: Stage) -> tuple[Reject, ...]:
        """The lines of landed files that were kept out, as the platform recorded them."""
        return self._stages.rejects(stage)

    # Auditing

    def seal(self, stage: Stage) -> Stage:
        """Take the stage away from the domain, before it is audited; refuses views as marts."""
        return self._stages.seal(stage)

    def reading(self, stage: Stage) -> list[str]:
        """What a DuckDB executes to read the stage, and its inputs (as the runner)."""
        return [
            *self.setup(stage),
            f"ATTACH IF NOT EXISTS {literal(stage.path)} AS {DATABASE} (READ_ONLY)",
        ]

    def setup(self, stage: Stage) -> list[str]:
        """What to execute in a DuckDB before it reads the stage's inputs (as the runner)."""
        return ["SET TimeZone = 'UTC'", *self.attaching(lakes(stage))]

    def attaching(self, domains: Collection[str]) -> list[str]:
        """What to execute in a DuckDB before it reads these domains' lakes (as the runner)."""
        conninfo = self._conninfo(_RUNNER)
        allowed = ", ".join(literal(f"{self.root / domain}/") for domain in sorted(domains))
        return [
            f"SET allowed_directories = [{allowed}]",  # once external access is taken away
            *(loading() if domains else ()),
            *(attachment(domain, self.root, conninfo) for domain in sorted(domains)),
        ]

    def contents(
        self, stage: Stage, contract: Contract, partitions: Sequence[Partition]
    ) -> Mapping[Partition, str]:
        """`rows:hash` of each partition of a staged table, in one scan; `0:0` for no row."""
        attach = f"ATTACH {literal(stage.path)} AS {DATABASE} (READ_ONLY)"
        relation = name(DATABASE, "main", contract.table.relation)
        return contents([attach], relation, contract, partitions)

    # Publishing

    def swap(self, stage: Stage, changes: _swap.Changes, note: Mapping[str, str]) -> str:
        """
        Replace these partitions of all tables in one transaction; the new data version.

        The caller holds the tables' publishing locks. A run that has swapped is not swapped again.
        """
        sealed = self._stages.sealed(stage.run)
        if stage.path != sealed:
            raise NotPublishable(f"the stage of {stage.run} is not sealed; only a sealed one swaps")

        def change(connection: duckdb.DuckDBPyConnection) -> int:
            return _swap.swapped(connection, DATABASE, changes)

        return self._commit(changes, note, change, attached=sealed)

    def find(self, domain: str, run: str) -> str | None:
        """The data version that this run committed, if it did."""
        return self._history.find(domain, run)

    def shown(
        self, contract: Contract, partitions: Sequence[Partition], version: str
    ) -> Mapping[Partition, str]:
        """`rows:hash` of each partition of a published table, at a version. Raises VersionGone."""
        domain = contract.table.domain
        if self._history.missing(domain, [version]):
            raise VersionGone(f"the lake of {domain} no longer has version {version}")
        relation = self.relation(contract.table, version)
        return contents(self.attaching([domain]), relation, contract, partitions)

    def restore(self, changes: _swap.Changes, version: str, note: Mapping[str, str]) -> str:
        """Put older data back, as a new version. Raises VersionGone."""
        if self._history.missing(_domain(changes), [version]):
            raise VersionGone(f"the lake of {_domain(changes)} no longer has version {version}")

        def change(connection: duckdb.DuckDBPyConnection) -> int:
            moved = 0
            for contract, partitions in changes:
                lake = name(contract.table.domain, "main", contract.table.relation)
                try:
                    columns = _swap.published_columns(connection, contract, version)
                except duckdb.CatalogException as error:
                    raise VersionGone(f"{contract.table} is not in version {version}") from error
                then = f"{lake} AT (VERSION => {int(version)})"
                # Read first: what a transaction deleted is gone from its older versions, too.
                connection.execute(
                    f"CREATE OR REPLACE TEMP TABLE levada_then AS SELECT * FROM {then}"
                    f" WHERE {within_partitions(contract, partitions)}"
                )
                moved += _swap.replaced(connection, contract, partitions, columns, "levada_then")
            return moved

        return self._commit(changes, note, change)

    def _commit(
        self,
        changes: _swap.Changes,
        note: Mapping[str, str],
        change: Callable[[duckdb.DuckDBPyConnection], int],
        attached: Path | None = None,
    ) -> str:
        """One lake transaction, done once whatever happens between its commit and its answer."""
        domain, run = _domain(changes), note["run"]

        def work(connection: duckdb.DuckDBPyConnection) -> str:
            if attached is not None:
                connection.execute(f"ATTACH {literal(attached)} AS {DATABASE} (READ_ONLY)")
            marked = changes[0][0]
            version = _swap.committed(connection, domain, note, lambda: change(connection), marked)
            if attached is not None:
                connection.execute(f"DETACH {DATABASE}")
            return version

        for attempt in range(_TRIES):
            # First look, then act: an error may also have come after the commit.
            done = self._history.find(domain, run)
            if done is not None:
                return done
            try:
                return self._writer.run([domain], work)
            except (ToolError, Unavailable) as error:
                if attempt == _TRIES - 1 or not _conflict(error):
                    done = self._found(domain, run)
                    if done is not None:
                        return done
                    raise
                _pause(attempt)
        raise AssertionError("the last try returns or raises")

    def _found(self, domain: str, run: str) -> str | None:
        try:
            return self._history.find(domain, run)
        except LevadaError:
            return None  # the first error is the one to tell; recovery will look again

    def changes(self, domain: str, after: str = "0") -> tuple[Change, ...]:
        """Every later snapshot that changed rows or shape of a table, oldest first."""
        return self._history.changes(domain, after)

    def altered(
        self, domain: str, tables: Collection[TableRef] | None = None
    ) -> tuple[Change, ...]:
        """Files of the newest version that are gone, or have another size than when written."""
        found = []
        for table, place, size in self._history.files(domain, tables):
            path = self.root / domain / place
            try:
                now = path.stat().st_size
            except FileNotFoundError:
                now = -1
            if now != size:
                said = f"{place} is gone" if now < 0 else f"{place} has {now} bytes, not {size}"
                at = datetime.now(UTC)
                found.append(Change(domain, f"{place} {now}", at, (table,), None, said))
        return tuple(found)

    # Reading

    def missing(self, domain: str, versions: Collection[str]) -> tuple[str, ...]:
        """Data versions that the lake does not have (any more)."""
        return self._history.missing(domain, versions)

    def expired(self, domain: str, versions: Collection[str]) -> Mapping[str, datetime]:
        """When data versions were expired, if that was since the lake was opened by Levada."""
        return self._history.expired(domain, versions)

    def place(self, table: TableRef) -> str:
        """How SQL of `read` names a published table."""
        return name(table.domain, "main", table.relation)

    def relation(self, table: TableRef, version: str = "") -> str:
        """What a DuckDB with the lakes calls a published table, as a version shows it."""
        return self.place(table) + (f" AT (VERSION => {int(version)})" if version else "")

    def read(self, sql: str, params: Sequence[object] = ()) -> list[dict[str, object]]:
        """Rows of a query over all lakes (as the runner)."""

        def work(connection: duckdb.DuckDBPyConnection) -> list[dict[str, object]]:
            answer = connection.execute(sql, list(params))
            names = [column[0] for column in answer.description or ()]
            return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]

        return self._reader.run(self.domains, work)

    def heads(self, domain: str) -> Mapping[TableRef, str]:
        """The newest data version that changed each published table."""
        return {t: c.version for c in self._history.changes(domain) for t in c.tables}

    def unaccounted(
        self, domain: str, known_runs: Collection[str], *, after: str = "0"
    ) -> tuple[Change, ...]:
        """
        Tampering: snapshots later than `after` that changed a table and name no known run.

        A run whose lines are not written yet must be among the known ones: pass open intents too.
        """
        known = frozenset(known_runs)
        return tuple(c for c in self._history.changes(domain, after) if c.run not in known)

    # Cleaning up

    def discard(self, stage: Stage) -> None:
        """Remove a stage and all that is in it."""
        self._stages.discard(stage.run)

    def sweep(self, live_runs: Collection[str]) -> int:
        """
        Remove stages of runs that are no longer live; how many. Data files that no snapshot knows,
        left by killed swaps, go too once they are old enough (publisher).
        """
        swept = self._stages.sweep(live_runs, self._grace)
        seconds = int(self._orphan_age.total_seconds())

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            for domain in self.domains:
                connection.execute(
                    f"CALL ducklake_delete_orphaned_files({literal(domain)},"
                    f" older_than => now() - INTERVAL {seconds} SECOND)"
                )

        self._writer.run(self.domains, work)
        return swept


def _domain(changes: _swap.Changes) -> str:
    """The one domain whose lake a transaction changes."""
    domains = sorted({contract.table.domain for contract, _ in changes})
    if len(domains) != 1:
        raise ValueError(f"one swap changes one domain's lake, not {', '.join(domains) or 'none'}")
    return domains[0]


def _conflict(error: LevadaError) -> bool:
    """Whether another transaction was in the way, so that trying again may help."""
    said = str(error).lower()
    return "transaction conflict" in said or "could not serialize" in said or "deadlock" in said


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0.02, 0.05) * 2**attempt)  # noqa: S311
