"""Stages as schemas: one in which the domain builds, one that it reads, one that is sealed."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from levada.adapters.warehouses._landing import load_sources
from levada.adapters.warehouses._sql import literal, name, within
from levada.adapters.warehouses.postgres._history import of_table, present, standing
from levada.adapters.warehouses.postgres._session import PUBLISHER, RUNNER, Connection, connected
from levada.adapters.warehouses.postgres._sql import fitted, rows_of, schema_of, spelled
from levada.errors import LawBroken, LevadaError, NotPublishable, ToolError, VersionGone
from levada.ports import Reject, Relation, Stage, StagedSource, StagedTable
from levada.terms import Product, TableRef

__all__ = ["Stages"]

_RUN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+@=-]*")
_READ, _OWN, _SEALED = "$in", "$own", "$sealed"
_COPIED = 1 << 20


class Stages:
    """
    All stages of a database.

    Of the run whose schema is `run$x`:

        run$x          the domain makes its marts in it
        run$x$own      and its private models in this one
        run$x$in       inputs, owned by the runner; the domain reads them
        run$x$sealed   the marts as they are audited and published, owned by the publisher

    Sealing copies the rows of plain tables and leaves everything else behind: open sessions,
    triggers, policies, functions, types of the domain's making.
    """

    def __init__(self, home: Path, database: str, conninfo: Callable[[str], str]) -> None:
        self._home, self._database, self._conninfo = home, database, conninfo

    def sealed(self, run: str) -> Path:
        """By what path a sealed stage is known."""
        return self._home / f"{schema_of(run)}{_SEALED}"

    def make(
        self,
        run: str,
        product: Product,
        tables: Sequence[StagedTable],
        sources: Sequence[StagedSource],
    ) -> Stage:
        """A new stage with its inputs; one that the same run made before is dropped."""
        if not _RUN.fullmatch(run):
            raise ValueError(f"{run!r} cannot name a run: use letters, digits and _ . : + @ = -")
        self.discard(run)
        schema, role = schema_of(run), f"levada_domain_{product.domain}"
        inputs = {t.contract.table: f"{schema}{_READ}" for t in tables}
        inputs |= {s.table: f"{schema}{_READ}" for s in sources}
        self._home.mkdir(parents=True, exist_ok=True)
        with connected(self._conninfo, RUNNER) as connection:
            for made in (schema, f"{schema}{_OWN}", f"{schema}{_READ}"):
                connection.execute(f"create schema {name(made)}")
                connection.execute(f"comment on schema {name(made)} is {literal(_label(run))}")
            connection.execute(
                f"grant usage, create on schema {name(schema)}, {name(f'{schema}{_OWN}')}"
                f" to {name(role)}"
            )
            for table in tables:
                target = name(f"{schema}{_READ}", _input(table.contract.table))
                connection.execute(f"create view {target} as {_view(connection, table)}")
            with tempfile.TemporaryDirectory(dir=self._home) as room:
                loader = _Loader(connection, f"{schema}{_READ}")
                load_sources(loader, sources, Path(room))
            connection.execute(f"grant usage on schema {name(f'{schema}{_READ}')} to {name(role)}")
            connection.execute(
                f"grant select on all tables in schema {name(f'{schema}{_READ}')} to {name(role)}"
            )
        return Stage(
            run=run,
            path=self._home / schema,
            outputs={
                m.table: Relation(self._database, schema, _short(m.table)) for m in product.marts
            },
            inputs={t: Relation(self._database, where, _input(t)) for t, where in inputs.items()},
            private=f"{schema}{_OWN}",
        )

    def seal(self, stage: Stage) -> Stage:
        """Copy the marts out of the domain's reach; a second call finds that done."""
        schema, sealed = schema_of(stage.run), f"{schema_of(stage.run)}{_SEALED}"
        outputs = {t: replace(relation, schema=sealed) for t, relation in stage.outputs.items()}
        found = replace(stage, path=self.sealed(stage.run), outputs=outputs)
        with connected(self._conninfo, RUNNER) as connection:
            there = _schemas(connection, [schema, sealed])
            if sealed in there:
                return found
            if schema not in there:
                raise ToolError(
                    "PostgreSQL", f"the stage of {stage.run} is gone; it is built again"
                )
            self._take(connection, schema)
        with connected(self._conninfo, PUBLISHER) as connection:
            faults = list(_unfit(connection, stage))
            if faults:
                raise NotPublishable("; ".join(faults))
            connection.execute(f"create schema {name(sealed)}")
            connection.execute(f"comment on schema {name(sealed)} is {literal(_label(stage.run))}")
            connection.execute(f"grant usage on schema {name(sealed)} to {name(RUNNER)}")
            connection.execute("set local row_security = off")
            for relation in stage.outputs.values():
                target = name(sealed, relation.name)
                connection.execute(
                    f"create table {target} as select * from only"
                    f" {name(relation.schema, relation.name)}"
                )
                connection.execute(f"grant select on {target} to {name(RUNNER)}")
        return found

    def rejects(self, stage: Stage) -> tuple[Reject, ...]:
        """The lines of landed files that were kept out of a stage."""
        where = name(f"{schema_of(stage.run)}{_READ}", "rejects")
        with connected(self._conninfo, RUNNER) as connection:
            rows = connection.execute(
                f"select source, file, line, reason, partition_key from {where}"
                " order by source, file, line, reason, partition_key"
            ).fetchall()
        return tuple(Reject(*row) for row in rows)

    def discard(self, run: str) -> None:
        """Remove what a run has staged."""
        self._drop([f"{schema_of(run)}{part}" for part in ("", _OWN, _READ, _SEALED)])

    def sweep(self, live: Collection[str], grace: timedelta) -> int:
        """
        Remove stages of other runs; how many. A stage younger than `grace` may belong to a run
        that was claimed after `live` was read.
        """
        with connected(self._conninfo, RUNNER) as connection:
            rows = connection.execute(
                "select n.nspname, split_part(d.description, ' ', 1),"
                " split_part(d.description, ' ', 2)::timestamptz < now() - %s"
                " from pg_namespace n join pg_description d"
                " on d.objoid = n.oid and d.classoid = 'pg_namespace'::regclass"
                " where n.nspname like 'run$%%' order by 1",
                [grace],
            ).fetchall()
        dead = {run for _, run, old in rows if run not in live and old}
        swept = 0
        for run in sorted(dead):
            with suppress(LevadaError):  # somebody is in it: the next sweep comes
                self.discard(run)
                swept += 1
        return swept

    def _take(self, connection: Connection, schema: str) -> None:
        """From now on the domain names nothing in the stage. What it holds open is left behind."""
        owners = connection.execute(
            "select distinct (aclexplode(nspacl)).grantee::regrole::text from pg_namespace"
            " where nspname = %s",
            [schema],
        ).fetchall()
        for (role,) in owners:
            if role.startswith("levada_domain_"):
                for part in ("", _OWN):
                    connection.execute(
                        f"revoke all on schema {name(f'{schema}{part}')} from {role}"
                    )
        connection.execute(f"grant usage on schema {name(schema)} to {name(PUBLISHER)}")

    def _drop(self, schemas: Sequence[str]) -> None:
        for role, sealed in ((RUNNER, False), (PUBLISHER, True)):
            mine = [s for s in schemas if s.endswith(_SEALED) is sealed]
            if not mine:
                continue
            # Asked as the runner: a task that may not publish never sealed anything.
            with connected(self._conninfo, RUNNER) as connection:
                there = _schemas(connection, mine)
            for schema in there:
                with connected(self._conninfo, role) as connection:
                    connection.execute(f"drop schema if exists {name(schema)} cascade")


class _Loader:
    """Puts clean files into tables of a stage, for `load_sources`."""

    newline, refused = "\r\n", "\0"

    def __init__(self, connection: Connection, schema: str) -> None:
        self._connection, self._schema = connection, schema

    def load(self, table: str, file: Path, types: Mapping[str, str], *, exact: bool) -> None:  # noqa: ARG002 - COPY always is
        columns = ", ".join(f"{name(c)} {spelled(kind)}" for c, kind in types.items())
        self._connection.execute(f"create table {self.place(table)} ({columns})".encode())
        copy = f"copy {self.place(table)} from stdin (format csv)".encode()
        with file.open("rb") as rows, self._connection.cursor().copy(copy) as into:
            while chunk := rows.read(_COPIED):
                into.write(chunk)

    def place(self, table: str) -> str:
        return name(self._schema, fitted(table))

    def run(self, sql: str) -> Sequence[tuple[Any, ...]]:
        cursor = self._connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else ()


def _label(run: str) -> str:
    """By what a sweep knows whose a schema is, and how old."""
    return f"{run} {datetime.now(UTC).isoformat()}"


def _input(table: TableRef) -> str:
    return fitted(f"{table.domain}__{table.relation}")


def _short(table: TableRef) -> str:
    if fitted(table.relation) != table.relation:
        raise NotPublishable(f"{table}: PostgreSQL has no room for a name of over 63 bytes")
    return table.relation


def _schemas(connection: Connection, names: Sequence[str]) -> list[str]:
    rows = connection.execute(
        "select nspname from pg_namespace where nspname = any(%s) order by 1", [list(names)]
    ).fetchall()
    return [str(row[0]) for row in rows]


def _unfit(connection: Connection, stage: Stage) -> Iterator[str]:
    """
    Why marts of a stage cannot be sealed. Those that can are locked against being dropped.

    A view would run the domain's SQL with the platform's rights, and so would a column of a type
    that the domain made.
    """
    for table, relation in sorted(stage.outputs.items()):
        where = name(relation.schema, relation.name)
        kind = _kind(connection, relation)
        if kind in ("v", "m"):
            yield f"{table} is a view in the stage; a mart is materialized as a table"
            continue
        if kind != "r":
            yield f"{table} was not built: the stage has no table {relation.name}"
            continue
        try:
            connection.execute(f"lock table only {where} in access share mode")
        except psycopg.errors.InsufficientPrivilege as error:
            raise LawBroken(f"{table} was taken back by its domain: {error}") from error
        if _kind(connection, relation) != "r":
            yield f"{table} changed while it was sealed"
            continue
        strange = connection.execute(
            "select a.attname from pg_attribute a join pg_type t on t.oid = a.atttypid"
            " where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped"
            " and t.typnamespace <> 'pg_catalog'::regnamespace",
            [where],
        ).fetchall()
        if strange:
            columns = ", ".join(str(row[0]) for row in strange)
            yield f"{table}: {columns} is of no type of PostgreSQL's own"


def _kind(connection: Connection, relation: Relation) -> str:
    row = connection.execute(
        "select c.relkind from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = %s and c.relname = %s",
        [relation.schema, relation.name],
    ).fetchone()
    return str(row[0]) if row else ""


def _view(connection: Connection, table: StagedTable) -> str:
    """
    What a run may see of an upstream table: promised columns, one version, the judged windows.

    A nullable column that the contract gained after that version reads NULL. A table that was
    absent when it was judged is empty.
    """
    contract = table.contract
    have: set[str] = set()
    if table.version:
        have = present(connection, contract.table, table.version)
        absent = [c.name for c in contract.columns if c.required and c.name not in have]
        if absent:
            raise VersionGone(
                f"{contract.table} at version {table.version} lacks {', '.join(absent)}, "
                f"which {contract.id} {contract.version} promises"
            )
    elif table.windows != ():
        raise ValueError(f"{contract.table}: a table with windows to read is pinned to a version")
    columns = ", ".join(
        f"r.{name(c.name)}"
        if c.name in have
        else f"CAST(NULL AS {spelled(c.type)}) AS {name(c.name)}"
        for c in contract.columns
    )
    if not table.version:
        return f"select {columns} where false"
    return (
        f"select {columns} from {rows_of(contract.table)} r"
        f" join levada.slice _s on {of_table('_s', contract.table)}"
        f" and {standing('_s', table.version)} and _s.lot = r._lot"
        f" where {within(contract, table.windows, 'r')}"
    )
