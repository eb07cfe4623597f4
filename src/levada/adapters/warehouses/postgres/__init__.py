"""A warehouse in PostgreSQL: rows kept by lot, and a slice that says which lot is shown."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

import psycopg

from levada.adapters.warehouses import _contents
from levada.adapters.warehouses._sql import literal, name
from levada.adapters.warehouses.extensions import loading
from levada.adapters.warehouses.postgres import _history, _provision, _swap
from levada.adapters.warehouses.postgres._session import PUBLISHER, RUNNER, Connection, connected
from levada.adapters.warehouses.postgres._sql import place, rows_of, spelled
from levada.adapters.warehouses.postgres._stage import Stages
from levada.errors import LevadaError, NotPublishable, ToolError, Unavailable, VersionGone
from levada.ports import Change, Reject, Stage, StagedSource, StagedTable
from levada.settings import Settings
from levada.terms import Contract, Partition, Product, Shards, TableRef

__all__ = ["PostgresWarehouse"]

_TRIES = 6


class PostgresWarehouse:
    """
    Implements `levada.ports.Warehouse`. A data version is a number of its domain, without gaps.

    Everything is read as `levada_runner`, published as `levada_publisher`, built as the domain:
    which of them may write is decided by PostgreSQL. A table is the view `<domain>.<relation>`.
    Staged rows are audited and hashed by a DuckDB that reads them where they lie, so that a check
    means here what it means over a lake.

    :param stages: where landed files are taken apart; nothing stays there
    :param conninfo: libpq keywords for the warehouse's database, by role
    :param database: its name
    :param domains: all domains of the mesh
    :param grace: younger stages are never swept
    """

    copies, rehearses = True, False
    parsing: Mapping[str, object] = {
        "type": "postgres",
        **dict.fromkeys(("host", "user", "password", "dbname", "schema"), "nowhere"),
        "port": 1,
    }

    def __init__(
        self,
        stages: Path,
        conninfo: Callable[[str], str],
        database: str,
        domains: Sequence[str],
        *,
        grace: timedelta = timedelta(minutes=1),
    ) -> None:
        self.domains, self.database = tuple(domains), database
        self._conninfo, self._grace = conninfo, grace
        self._stages = Stages(stages.absolute(), database, conninfo)

    @classmethod
    def opened(cls, settings: Settings, conninfo: Callable[[str, str], str]) -> Self:
        """The warehouse of a mesh; `conninfo` tells how a role signs in to a database."""
        database = settings.database
        return cls(
            settings.home / "stages",
            lambda role: conninfo(role, database),
            database,
            settings.domains,
        )

    @classmethod
    def provision(cls, server: _provision.Server, settings: Settings) -> None:
        """Create or complete the database, its catalogue and its rights, as the administrator."""
        _provision.provision(server, settings.database, settings.domains)

    @staticmethod
    def spelled(promised: str) -> str:
        """A promised type in PostgreSQL's words. Raises NotPublishable where it has none."""
        return spelled(promised)

    def create(self, domain: str) -> None:
        """See that a domain is there; making it takes the administrator."""
        with connected(self._conninfo, RUNNER) as connection:
            _history.known(connection, domain)

    def close(self) -> None:
        """Nothing: a connection lives no longer than its task."""

    # Building

    def stage(
        self,
        run: str,
        product: Product,
        tables: Sequence[StagedTable],
        sources: Sequence[StagedSource],
    ) -> Stage:
        """Make the private place, with every input in it. Raises LandingMoved, VersionGone."""
        return self._stages.make(run, product, tables, sources)

    def resume(self, stage: Stage, shards: Shards, mark: str) -> frozenset[int]:  # noqa: ARG002
        """Nothing is cut here: a contract's `shards` are refused when it is declared."""
        raise NotPublishable(f"{stage.run}: a warehouse in PostgreSQL builds no shards")

    def shard(self, stage: Stage, shards: Shards, number: int) -> None:  # noqa: ARG002
        """Nothing is cut here."""
        raise NotPublishable(f"{stage.run}: a warehouse in PostgreSQL builds no shards")

    def collect(self, stage: Stage, number: int) -> None:  # noqa: ARG002
        """Nothing is cut here."""
        raise NotPublishable(f"{stage.run}: a warehouse in PostgreSQL builds no shards")

    def profile(self, stage: Stage, domain: str) -> Mapping[str, object]:
        """Dbt's output for building in this stage with only the domain's credentials."""
        words = psycopg.conninfo.conninfo_to_dict(self._conninfo(f"levada_domain_{domain}"))
        (schema,) = {relation.schema for relation in stage.outputs.values()}
        return {
            "type": "postgres",
            "host": words.pop("host", "localhost"),
            "port": int(words.pop("port", None) or 5432),
            "user": words.pop("user", ""),
            "password": words.pop("password", ""),
            "dbname": words.pop("dbname", ""),
            "schema": schema,
            "threads": 1,
            **{key: value for key, value in words.items() if key.startswith("ssl")},
        }

    def rejects(self, stage: Stage) -> tuple[Reject, ...]:
        """The lines of landed files that were kept out, as the platform recorded them."""
        return self._stages.rejects(stage)

    # Auditing

    def seal(self, stage: Stage) -> Stage:
        """Take the stage away from the domain, before it is audited; refuses views as marts."""
        return self._stages.seal(stage)

    def reading(self, stage: Stage) -> list[str]:  # noqa: ARG002 - all stages lie in one database
        """What a DuckDB executes to read the stage, and its inputs (as the runner)."""
        return self.attaching(self.domains)

    def attaching(self, domains: Collection[str]) -> list[str]:  # noqa: ARG002 - as do all domains
        """What a DuckDB executes to read the warehouse (as the runner)."""
        options = "-c TimeZone=UTC"
        address = psycopg.conninfo.make_conninfo(self._conninfo(RUNNER), options=options)
        return [
            *loading(),
            "SET TimeZone = 'UTC'",
            f"ATTACH {literal(address)} AS {name(self.database)} (TYPE postgres, READ_ONLY)",
        ]

    def contents(
        self, stage: Stage, contract: Contract, partitions: Sequence[Partition]
    ) -> Mapping[Partition, str]:
        """`rows:hash` of each partition of a staged table, in one scan; `0:0` for no row."""
        relation = str(stage.outputs[contract.table])
        return _contents.contents(self.reading(stage), relation, contract, partitions)

    # Publishing

    def swap(self, stage: Stage, changes: _swap.Changes, note: Mapping[str, str]) -> str:
        """
        Replace these partitions of all tables in one transaction; the new data version.

        The caller holds the tables' publishing locks. A run that has swapped is not swapped again.
        """
        if stage.path != self._stages.sealed(stage.run):
            raise NotPublishable(f"the stage of {stage.run} is not sealed; only a sealed one swaps")
        sources = {contract: stage.outputs[contract.table] for contract, _ in changes}
        return self._commit(changes, note, lambda c: _swap.swapped(c, sources, changes, note))

    def find(self, domain: str, run: str) -> str | None:
        """The data version that this run committed, if it did."""
        with connected(self._conninfo, RUNNER) as connection:
            _history.known(connection, domain)
            return _history.find(connection, domain, run)

    def shown(
        self, contract: Contract, partitions: Sequence[Partition], version: str
    ) -> Mapping[Partition, str]:
        """`rows:hash` of each partition of a published table, at a version. Raises VersionGone."""
        with connected(self._conninfo, RUNNER) as connection:
            _history.present(connection, contract.table, version)
        relation = self.relation(contract.table, version)
        return _contents.contents(self.attaching(self.domains), relation, contract, partitions)

    def restore(self, changes: _swap.Changes, version: str, note: Mapping[str, str]) -> str:
        """Put older data back, as a new version. Raises VersionGone."""
        if not version.isdecimal():
            raise VersionGone(f"{version!r} is no version of PostgreSQL's")
        with connected(self._conninfo, RUNNER) as connection:
            for contract, _ in changes:
                _history.present(connection, contract.table, version)
        return self._commit(changes, note, lambda c: _swap.restored(c, changes, version, note))

    def _commit(
        self,
        changes: _swap.Changes,
        note: Mapping[str, str],
        change: Callable[[Connection], str],
    ) -> str:
        """One transaction, done once whatever happens between its commit and its answer."""
        domains = sorted({contract.table.domain for contract, _ in changes})
        if len(domains) != 1:
            raise ValueError(f"one swap changes one domain, not {', '.join(domains) or 'none'}")
        for attempt in range(_TRIES):
            # First look, then act: an error may also have come after the commit.
            done = self.find(domains[0], note["run"])
            if done is not None:
                return done
            try:
                with connected(self._conninfo, PUBLISHER) as connection:
                    return change(connection)
            except (ToolError, Unavailable) as error:
                if attempt == _TRIES - 1 or "deadlock" not in str(error):
                    done = self._found(domains[0], note["run"])
                    if done is not None:
                        return done
                    raise
                time.sleep(random.uniform(0.02, 0.05) * 2**attempt)  # noqa: S311
        raise AssertionError("the last try returns or raises")

    def _found(self, domain: str, run: str) -> str | None:
        try:
            return self.find(domain, run)
        except LevadaError:
            return None  # the first error is the one to tell; recovery will look again

    def changes(self, domain: str, after: str = "0") -> tuple[Change, ...]:
        """Every later version that changed rows or shape of a table, oldest first."""
        with connected(self._conninfo, RUNNER) as connection:
            _history.known(connection, domain)
            return _history.changes(connection, domain, after)

    # Reading

    def altered(
        self,
        domain: str,  # noqa: ARG002 - no files of ours
        tables: Collection[TableRef] | None = None,  # noqa: ARG002
    ) -> tuple[Change, ...]:
        """Nothing: what is changed past the server's triggers, nobody can tell from the files."""
        return ()

    def missing(self, domain: str, versions: Collection[str]) -> tuple[str, ...]:
        """Data versions that the domain does not have (any more)."""
        with connected(self._conninfo, RUNNER) as connection:
            return _history.missing(connection, domain, versions)

    def expired(self, domain: str, versions: Collection[str]) -> Mapping[str, datetime]:
        """When data versions were forgotten."""
        with connected(self._conninfo, RUNNER) as connection:
            return _history.expired(connection, domain, versions)

    def place(self, table: TableRef) -> str:
        """How SQL of `read` names a published table."""
        return place(table)

    def relation(self, table: TableRef, version: str = "") -> str:
        """What a DuckDB calls a published table, as a version shows it."""
        if not version:
            return f"{name(self.database)}.{place(table)}"
        rows, slices = (f"{name(self.database)}.{of}" for of in (rows_of(table), "levada.slice"))
        return (
            f"(SELECT r.* EXCLUDE (_lot) FROM {rows} r JOIN {slices} s"
            f" ON {_history.standing('s', version)} AND s.lot = r._lot)"
        )

    def read(self, sql: str, params: Sequence[object] = ()) -> list[dict[str, object]]:
        """Rows of a query over published tables (as the runner)."""
        with connected(self._conninfo, RUNNER) as connection:
            cursor = connection.execute(sql.encode(), list(params) or None)
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    # Cleaning up

    def discard(self, stage: Stage) -> None:
        """Remove a stage and all that is in it. What somebody holds is left to a sweep."""
        with suppress(LevadaError):
            self._stages.discard(stage.run)

    def sweep(self, live_runs: Collection[str]) -> int:
        """Remove stages of runs that are no longer live; how many."""
        return self._stages.sweep(live_runs, self._grace)

    def forget(self, domain: str, oldest: str) -> int:
        """Give up what only versions before `oldest` hold (publisher); how many rows went."""
        with connected(self._conninfo, PUBLISHER) as connection:
            row = connection.execute(
                "select levada.forget(%s, %s)", [domain, int(oldest)]
            ).fetchone()
            return int(row[0]) if row else 0
