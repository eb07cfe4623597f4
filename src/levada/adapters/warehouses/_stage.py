"""Stages on disk: the domain's copy in which dbt builds, and the platform's own beside it."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb

from levada.adapters.warehouses._history import History
from levada.adapters.warehouses._landing import REJECTS, load_sources
from levada.adapters.warehouses._session import Session, scratch, translated
from levada.adapters.warehouses._shards import (
    SHARDS,
    cut_into,
    cut_to,
    of_this_shard,
    own,
    owner_of,
    prepare,
    refuse_strangers,
    shard_in,
)
from levada.adapters.warehouses._sql import column_type, literal, name, within
from levada.errors import NotPublishable, ToolError, VersionGone
from levada.ports import Reject, Relation, Stage, StagedSource, StagedTable
from levada.terms import Product, Shards, TableRef

__all__ = ["DATABASE", "Loader", "Stages", "lakes"]

DATABASE = "stage"
"""DuckDB names a database by its file: `stage.duckdb`."""

_KEPT, _SHARDS = ".kept", ".shards"
_FILE = f"{DATABASE}.duckdb"
_KEEP = timedelta(hours=6)
"""How long the shards of a build that was killed are kept: longer than any claim of it."""
_RUN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+@=-]*")


def lakes(stage: Stage) -> tuple[str, ...]:
    """The domains in whose lakes the stage's inputs lie."""
    return tuple(sorted({table.domain for table in stage.inputs if not table.is_source}))


class Stages:
    """
    The folder of all stages: `<domain>/<run>/` is the domain's, `.kept/<run>/` the platform's.

    The platform makes a stage with all its inputs, keeps it, and gives the domain a copy. Sealing
    takes the copy away and carries over nothing but the rows of the marts. So neither an open
    handle nor a view, a generated column or a forged input that domain code left behind reaches
    the audit or the swap.
    """

    def __init__(self, home: Path, history: History) -> None:
        self.home, self._history = home, history

    def sealed(self, run: str) -> Path:
        """Where a sealed stage lies; the domain is not told."""
        return self._kept(run) / _FILE

    def make(
        self,
        session: Session,
        run: str,
        product: Product,
        tables: Sequence[StagedTable],
        sources: Sequence[StagedSource],
    ) -> Stage:
        """A new stage with its inputs; one that the same run made before is dropped."""
        self._remove(run)
        kept, folder = self._kept(run), self.home / product.domain / run
        folder.parent.mkdir(parents=True, exist_ok=True)
        (self.home / _KEPT).mkdir(mode=0o700, exist_ok=True)
        try:
            (kept / "landing").mkdir(parents=True)
            key = product.shards.key if product.shards else ""
            self._fill(session, kept, tables, sources, key)
            shutil.rmtree(kept / "landing")
            folder.mkdir()
            shutil.copyfile(kept / "pristine.duckdb", folder / _FILE)
        except BaseException:
            self.discard(run)
            raise
        staged = [t.contract.table for t in tables] + [s.table for s in sources]
        return Stage(
            run=run,
            path=folder / _FILE,
            outputs={m.table: Relation(DATABASE, "main", m.table.relation) for m in product.marts},
            inputs={t: Relation(DATABASE, "up", f"{t.domain}__{t.relation}") for t in staged},
        )

    def shard(self, stage: Stage, shards: Shards, number: int) -> None:
        """Give the domain its copy afresh, with the rows of one shard only."""
        kept = self._kept(stage.run)
        Path(f"{stage.path}.wal").unlink(missing_ok=True)
        shutil.copyfile(kept / "pristine.duckdb", stage.path)
        with scratch([f"ATTACH {literal(stage.path)} AS {DATABASE}"]) as connection:
            cut_to(connection, DATABASE, shards, number)
            connection.execute(f"CHECKPOINT {DATABASE}")

    def resume(self, stage: Stage, shards: Shards, mark: str) -> frozenset[int]:
        """Build in shards, kept by this mark; those that a build that was killed has left."""
        (self._kept(stage.run) / SHARDS).write_text(f"{shards.key}\n{shards.count}\n{mark}\n")
        place = self._of_mark(mark)
        place.mkdir(parents=True, exist_ok=True)
        own(place, stage.run)
        return frozenset(n for n in range(shards.count) if shard_in(place, n).exists())

    def collect(self, stage: Stage, number: int) -> None:
        """Take a built shard away from its domain; where its file is, it is whole."""
        cut = cut_into(self._kept(stage.run) / SHARDS)
        if cut is None:
            raise ValueError(f"{stage.run} is not built in shards")
        taken = shard_in(self._of_mark(cut.mark), number)
        taken.parent.mkdir(exist_ok=True)  # another run of this mark, its owner now, may have ended
        for suffix in (".wal", ""):
            source, target = Path(f"{stage.path}{suffix}"), Path(f"{taken}{suffix}")
            if source.exists():
                source.replace(target)
            else:
                target.unlink(missing_ok=True)

    def seal(self, stage: Stage) -> Stage:
        """Take a built stage away from its domain; a second call finds it taken."""
        kept, sealed = self._kept(stage.run), self.sealed(stage.run)
        if sealed.exists():
            return replace(stage, path=sealed)
        pristine, cut = kept / "pristine.duckdb", cut_into(kept / SHARDS)
        taken = [kept / "taken.duckdb"]
        if cut:
            place = self._of_mark(cut.mark)
            taken = [shard_in(place, number) for number in range(cut.shards.count)]
        else:
            self._take(stage, taken[0])
        if not all(each.exists() for each in (*taken, pristine)):
            raise ToolError("DuckLake", f"the stage of {stage.run} is gone; it is built again")
        marts = {table: relation.name for table, relation in stage.outputs.items()}
        try:
            with scratch([f"ATTACH {literal(pristine)} AS {DATABASE}"]) as connection:
                for number, each in enumerate(taken):
                    connection.execute(f"ATTACH {literal(each)} AS built")
                    _refuse_unbuilt(connection, marts)
                    for table, relation in sorted(marts.items()):
                        built = name("built", "main", relation)
                        if cut:
                            refuse_strangers(connection, table, built, cut.shards, number)
                        target = name(DATABASE, "main", relation)
                        head = (
                            f"INSERT INTO {target}"
                            if number
                            else f"CREATE OR REPLACE TABLE {target} AS"
                        )
                        connection.execute(f"{head} FROM {built}")
                    connection.execute("DETACH built")
                connection.execute(f"CHECKPOINT {DATABASE}")
        except duckdb.Error as error:
            raise translated(error, "") from error
        pristine.replace(sealed)
        if cut:
            self._drop(cut.mark, stage.run)
        else:
            for suffix in ("", ".wal"):
                Path(f"{taken[0]}{suffix}").unlink(missing_ok=True)
        return replace(stage, path=sealed)

    @staticmethod
    def _take(stage: Stage, taken: Path) -> None:
        """Move what the domain has built where it cannot reach it."""
        for suffix in ("", ".wal"):
            source, target = Path(f"{stage.path}{suffix}"), Path(f"{taken}{suffix}")
            if source.exists() and not target.exists():
                source.replace(target)

    def rejects(self, stage: Stage) -> tuple[Reject, ...]:
        """The lines of landed files that were kept out of a stage."""
        sealed = self.sealed(stage.run)
        path = sealed if sealed.exists() else self._kept(stage.run) / "pristine.duckdb"
        attach = f"ATTACH {literal(path)} AS {DATABASE} (READ_ONLY)"
        try:
            with scratch([attach]) as connection:
                rows = connection.execute(
                    "SELECT source, file, line, reason, partition_key"
                    f" FROM {name(DATABASE, 'up', REJECTS)} ORDER BY ALL"
                ).fetchall()
                return tuple(Reject(*row) for row in rows)
        except duckdb.Error as error:
            raise translated(error, "") from error

    def discard(self, run: str) -> None:
        """Remove what a run has staged, and its shards."""
        if cut := cut_into(self._kept(run) / SHARDS):
            self._drop(cut.mark, run)
        self._remove(run)

    def _drop(self, mark: str, run: str) -> None:
        """Remove the shards of a mark, unless another run has taken them over."""
        if owner_of(self._of_mark(mark)) == run:
            shutil.rmtree(self._of_mark(mark), ignore_errors=True)

    def _remove(self, run: str) -> None:
        for place in self._places():
            shutil.rmtree(place / _checked(run), ignore_errors=True)

    def sweep(self, live: Collection[str], grace: timedelta) -> int:
        """
        Remove stages of other runs; how many. A stage younger than `grace` may belong to a run
        that was claimed after `live` was read.
        """
        youngest = time.time() - grace.total_seconds()
        swept: set[str] = set()
        for place in self._places():
            for folder in place.iterdir():
                run = folder.name
                if run.startswith(".") or run in live or not folder.is_dir():
                    continue
                try:
                    old = folder.stat().st_mtime <= youngest
                except FileNotFoundError:
                    continue
                if old:
                    shutil.rmtree(folder, ignore_errors=True)
                    swept.add(run)
        for folder in self._of_mark("").glob("*"):
            with contextlib.suppress(FileNotFoundError):
                old = folder.stat().st_mtime <= time.time() - _KEEP.total_seconds()
                if old and owner_of(folder) not in live:
                    shutil.rmtree(folder, ignore_errors=True)
        return len(swept)

    def _places(self) -> list[Path]:
        """The folders of runs: one of each domain, and the platform's."""
        places = self.home.iterdir() if self.home.is_dir() else ()
        return [p for p in places if p.is_dir() and (p.name == _KEPT or p.name[0] != ".")]

    def _kept(self, run: str) -> Path:
        return self.home / _KEPT / _checked(run)

    def _of_mark(self, mark: str) -> Path:
        """Where the shards of a build are, whichever run makes it; the domain is not told."""
        return self.home / _KEPT / _SHARDS / mark

    def _fill(
        self,
        session: Session,
        kept: Path,
        tables: Sequence[StagedTable],
        sources: Sequence[StagedSource],
        key: str,
    ) -> None:
        path, room = kept / "pristine.duckdb", kept / "landing"
        pinned = [t for t in tables if t.version]
        by_domain: dict[str, set[str]] = {}
        for table in pinned:
            by_domain.setdefault(table.contract.table.domain, set()).add(table.version)
        for domain, versions in sorted(by_domain.items()):
            for version in self._history.missing(domain, versions):
                raise VersionGone(f"the lake of {domain} no longer has version {version}")

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            path.unlink(missing_ok=True)
            connection.execute(f"ATTACH {literal(path)} AS {DATABASE}")
            connection.execute(f"CREATE SCHEMA {name(DATABASE, 'up')}")
            prepare(connection, DATABASE)
            for table in tables:
                target = f"{table.contract.table.domain}__{table.contract.table.relation}"
                connection.execute(
                    f"CREATE VIEW {name(DATABASE, 'up', target)} AS {_view(connection, table, key)}"
                )
            load_sources(Loader(connection, DATABASE), sources, room)
            connection.execute(f"CHECKPOINT {DATABASE}")
            connection.execute(f"DETACH {DATABASE}")

        session.run(by_domain.keys(), work)


class Loader:
    """Puts clean files into tables of a database's `up`, for `load_sources`."""

    # So that a lone carriage return or line feed inside a field is quoted.
    newline, refused = "\r\n", ""

    def __init__(self, connection: duckdb.DuckDBPyConnection, database: str) -> None:
        self._connection, self._database = connection, database

    def load(self, table: str, file: Path, types: Mapping[str, str], *, exact: bool) -> None:
        """Make a table of these columns from a CSV file."""
        target = self.place(table)
        if file.stat().st_size == 0:
            columns = ", ".join(f"{name(column)} {kind}" for column, kind in types.items())
            self._connection.execute(f"CREATE TABLE {target} ({columns})")
            return
        columns = ", ".join(f"{literal(column)}: {literal(kind)}" for column, kind in types.items())
        ends = r"new_line = '\n', allow_quoted_nulls = false" if exact else r"new_line = '\r\n'"
        self._connection.execute(
            f"CREATE TABLE {target} AS FROM read_csv({literal(file)}, columns = {{{columns}}},"
            " header = false, auto_detect = false, delim = ',', quote = '\"', escape = '\"',"
            f" nullstr = '', max_line_size = 16777216, parallel = false, {ends})"
        )

    def place(self, table: str) -> str:
        """How SQL names a table that was made."""
        return name(self._database, "up", table)

    def run(self, sql: str) -> Sequence[tuple[Any, ...]]:
        """Run a statement over the tables."""
        return self._connection.execute(sql).fetchall()


def _view(connection: duckdb.DuckDBPyConnection, table: StagedTable, key: str) -> str:
    """
    What a run may see of an upstream table: promised columns, one version, the judged windows.

    A nullable column that the contract gained after that version reads NULL. A table that was
    absent when it was judged is empty.
    """
    contract = table.contract
    present: set[str] = set()
    if table.version:
        lake = name(contract.table.domain, "main", contract.table.relation)
        source = f"{lake} AT (VERSION => {int(table.version)})"
        try:
            described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
        except duckdb.CatalogException as error:
            raise VersionGone(
                f"{contract.table} is not there at version {table.version}"
            ) from error
        present = {str(row[0]) for row in described}
        absent = [c.name for c in contract.columns if c.required and c.name not in present]
        if absent:
            raise VersionGone(
                f"{contract.table} at version {table.version} lacks {', '.join(absent)}, "
                f"which {contract.id} {contract.version} promises"
            )
    elif table.windows == ():
        source = "(SELECT 1)"
    else:
        raise ValueError(f"{contract.table}: a table with windows to read is pinned to a version")
    columns = ", ".join(
        name(c.name)
        if c.name in present
        else f"CAST(NULL AS {column_type(c.type)}) AS {name(c.name)}"
        for c in contract.columns
    )
    condition = within(contract, table.windows) if table.version else "false"
    if key in present:
        condition = f"({condition}) AND {of_this_shard(DATABASE, key)}"
    return f"SELECT {columns} FROM {source} WHERE {condition}"


def _checked(run: str) -> str:
    if not _RUN.fullmatch(run):
        raise ValueError(f"{run!r} cannot name a run: use letters, digits and _ . : + @ = -")
    return run


def _refuse_unbuilt(connection: duckdb.DuckDBPyConnection, marts: Mapping[TableRef, str]) -> None:
    """Raise NotPublishable where a mart is a view, or is not there."""
    built, views = _names(connection, "tables"), _names(connection, "views")
    faults = [
        f"{table} is a view in the stage; a mart is materialized as a table"
        if relation in views
        else f"{table} was not built: the stage has no table {relation}"
        for table, relation in sorted(marts.items())
        if relation not in built
    ]
    if faults:
        raise NotPublishable("; ".join(faults))


def _names(connection: duckdb.DuckDBPyConnection, what: str) -> set[str]:
    rows = connection.execute(
        f"SELECT {what[:-1]}_name FROM duckdb_{what}()"
        " WHERE database_name = 'built' AND schema_name = 'main'"
    ).fetchall()
    return {str(row[0]) for row in rows}
