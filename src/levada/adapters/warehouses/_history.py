"""What the lakes' catalogues record of their snapshots, read as the runner without DuckDB."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from levada.adapters.warehouses._session import where
from levada.errors import LawBroken, ToolError, Unavailable
from levada.ports import Change
from levada.terms import TableRef

__all__ = ["History", "changed", "table_of"]

_HARMLESS = frozenset({"created_schema", "compacted_table", "merge_adjacent", "rewrite_delete"})
"""What leaves every row as it was; anything unknown counts as a change."""

_DATES = (
    "SELECT FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
    " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s"
    " AND c.relname = 'ducklake_snapshot' AND t.tgname = 'levada_expired'"
)
_DATE = """
    CREATE TABLE IF NOT EXISTS {0}.levada_expired
        (version bigint PRIMARY KEY, at timestamptz NOT NULL);
    CREATE OR REPLACE FUNCTION {0}.levada_expired() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO {0}.levada_expired SELECT snapshot_id, now() FROM gone ON CONFLICT DO NOTHING;
        RETURN NULL;
    END $$;
    CREATE TRIGGER levada_expired AFTER DELETE ON {0}.ducklake_snapshot
        REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION {0}.levada_expired()
"""
"""DuckLake forgets a snapshot without a trace; the catalogue is to remember when."""

_CHANGE = re.compile(r'(\w+):(?:"(?:[^"]|"")*"\."((?:[^"]|"")*)"|(\d+)|"(?:[^"]|"")*")')


def changed(what: str) -> tuple[tuple[str, str | int], ...]:
    """
    The changes of rows or shape that a snapshot's record lists: kind, and table by name or number.

    >>> changed('created_schema:"main",created_table:"main"."t_v1",inserted_into_table:3')
    (('created_table', 't_v1'), ('inserted_into_table', 3))
    """
    found = []
    for kind, table, number in _CHANGE.findall(what):
        if kind not in _HARMLESS:
            found.append((kind, int(number) if number else table.replace('""', '"')))
    return tuple(found)


class History:
    """
    Snapshots by version and by run.

    Its connection is kept, since making one takes longer than any answer, and each swap asks. A
    process that was forked makes its own; one that has died since is made anew.
    """

    def __init__(self, conninfo: Callable[[], str]) -> None:
        self._conninfo = conninfo
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._kept: tuple[str, psycopg.Connection[TupleRow]] | None = None

    def close(self) -> None:
        """End the connection of this process, if there is one."""
        if self._pid == os.getpid():
            with self._lock:
                self._drop()

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept[1].close()
            self._kept = None

    def missing(self, domain: str, versions: Collection[str]) -> tuple[str, ...]:
        """
        Versions that the lake does not have (any more).

        Asked beforehand, because `AT (VERSION => n)` past the newest snapshot reads the newest.
        """
        wanted = {v for v in versions if v.isdecimal()}
        rows = self._rows(
            "SELECT snapshot_id FROM {}.ducklake_snapshot WHERE snapshot_id = ANY(%s)",
            domain,
            [int(v) for v in wanted],
        )
        return tuple(sorted(set(versions) - {str(r[0]) for r in rows}))

    def date(self, domain: str, conninfo: str) -> None:
        """Let the catalogue record when snapshots go, if it does not yet; as its owner."""
        if self._rows(_DATES, domain, domain):
            return
        with self._translated(domain), psycopg.connect(conninfo, connect_timeout=10) as owner:
            # Any number may do so at once, and who comes second finds it done.
            owner.execute("SELECT pg_advisory_xact_lock(hashtext('levada_expired'))")
            if not owner.execute(_DATES, [domain]).rowcount:
                owner.execute(sql.SQL(_DATE).format(sql.Identifier(domain)))

    def expired(self, domain: str, versions: Collection[str]) -> Mapping[str, datetime]:
        """When snapshots were expired, of those whose end the catalogue has recorded."""
        rows = self._rows(
            "SELECT version, at FROM {}.levada_expired WHERE version = ANY(%s)",
            domain,
            [int(v) for v in versions if v.isdecimal()],
        )
        return {str(version): at.astimezone(UTC) for version, at in rows}

    def find(self, domain: str, run: str) -> str | None:
        """The snapshot that this run committed."""
        # The substring narrows inside PostgreSQL and never fails on a note that is not ours.
        rows = self._rows(
            "SELECT snapshot_id, commit_extra_info FROM {}.ducklake_snapshot_changes"
            " WHERE strpos(commit_extra_info, %s) > 0 ORDER BY snapshot_id",
            domain,
            json.dumps(run),
        )
        return next((str(version) for version, note in rows if _run(note) == run), None)

    def changes(self, domain: str, after: str = "0") -> tuple[Change, ...]:
        """Every later snapshot that changed rows or shape of a table, oldest first."""
        rows = self._rows(
            "SELECT snapshot_id, snapshot_time, changes_made, commit_extra_info,"
            " (SELECT jsonb_object_agg(table_id, table_name) FROM {0}.ducklake_table)"
            " FROM {0}.ducklake_snapshot_changes JOIN {0}.ducklake_snapshot USING (snapshot_id)"
            " WHERE snapshot_id > %s ORDER BY snapshot_id",
            domain,
            int(after),
        )
        found = []
        for version, at, what, note, names in rows:
            touched = changed(what or "")
            if touched:
                tables = {names.get(str(t), "") if isinstance(t, int) else t for _, t in touched}
                refs = sorted({ref for t in tables if (ref := table_of(domain, t))})
                found.append(
                    Change(domain, str(version), at.astimezone(UTC), tuple(refs), _run(note), what)
                )
        return tuple(found)

    def files(
        self, domain: str, tables: Collection[TableRef] | None = None
    ) -> Iterator[tuple[TableRef, str, int]]:
        """The files of the newest version: their table, their path in the lake, and their size."""
        kinds = ("ducklake_data_file", "ducklake_delete_file")
        one = (
            "SELECT t.table_name, f.file_size_bytes,"
            " CASE WHEN f.path_is_relative THEN"
            "   CASE WHEN t.path_is_relative THEN"
            "     s.path || t.path"
            "   ELSE t.path END || f.path ELSE f.path END"
            " FROM {{0}}.{} f JOIN {{0}}.ducklake_table t USING (table_id)"
            " JOIN {{0}}.ducklake_schema s ON s.schema_id = t.schema_id AND s.end_snapshot IS NULL"
            " WHERE f.end_snapshot IS NULL AND t.end_snapshot IS NULL"
            " AND (%s::text[] IS NULL OR t.table_name = ANY(%s))"
        )
        named = None if tables is None else [table.relation for table in tables]
        asked = " UNION ALL ".join(map(one.format, kinds))
        for table, size, path in self._rows(asked, domain, *[named] * 4):
            if ref := table_of(domain, str(table)):
                yield ref, str(path), int(size)

    def _rows(self, query: str, domain: str, *values: object) -> list[TupleRow]:
        if self._pid != os.getpid():
            self._forget()  # psycopg closes no connection that this process did not open
        statement = sql.SQL(query).format(sql.Identifier(domain))
        with self._lock, self._translated(domain):
            try:
                return self._answer(statement, values)
            except psycopg.OperationalError:
                kept = self._kept is not None
                self._drop()
                if not kept:
                    raise
                return self._answer(statement, values)

    def _answer(self, statement: sql.Composed, values: Sequence[object]) -> list[TupleRow]:
        conninfo = self._conninfo()
        if self._kept is None or self._kept[0] != conninfo:
            self._drop()
            made = psycopg.connect(
                conninfo,
                autocommit=True,
                connect_timeout=10,
                # It is asked under the lock of a table: a server that is gone is to be noticed.
                keepalives_idle=30,
                keepalives_interval=10,
                keepalives_count=3,
                tcp_user_timeout=10_000,
            )
            try:
                found = made.execute(statement, values or None).fetchall()
            except BaseException:
                made.close()
                raise
            self._kept = conninfo, made
            return found
        return self._kept[1].execute(statement, values or None).fetchall()

    @contextmanager
    def _translated(self, domain: str) -> Iterator[None]:
        try:
            yield
        except psycopg.errors.UndefinedTable as error:
            raise ToolError(
                "DuckLake", f"the lake of {domain} does not exist yet; `levada up` makes it"
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise LawBroken(f"the lake of {domain}: {error}") from error
        except psycopg.OperationalError as error:
            said = str(error).splitlines()[0]
            raise Unavailable("the lake's catalogue", where(self._conninfo()), said) from error


def _run(note: str | None) -> str | None:
    try:
        said = json.loads(note or "null")
    except ValueError:
        return None
    run = said.get("run") if isinstance(said, dict) else None
    return run if isinstance(run, str) else None


def table_of(domain: str, relation: str) -> TableRef | None:
    """The table that a relation of the lake holds; None if its name is not one of ours."""
    named = re.fullmatch(r"(.+)_v([1-9]\d*)", relation)
    try:
        return TableRef(domain, named[1], int(named[2])) if named else None
    except ValueError:
        return None
