"""
Landed data on its way into a stage. Files are copied while they are hashed, then split into fields;
rows of a table outside are hashed there and counted here, as they lie in the stage.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import duckdb

from levada.adapters.probes.postgres import fingerprint
from levada.adapters.warehouses._sql import literal, name
from levada.errors import LandingMoved
from levada.ports import LandedFile, LandedRows, Reject, StagedSource

__all__ = ["REJECTS", "load_sources", "read_rejects"]

REJECTS = '"up"."rejects"'

_CHUNK = 1 << 20
_SLICE, _HASH = "_levada_slice", "_levada_hash"


def load_sources(
    connection: duckdb.DuckDBPyConnection,
    database: str,
    sources: Sequence[StagedSource],
    room: Path,
) -> None:
    """
    Make one table for each source in `<database>.up`, and the table of rejects.

    Every column is VARCHAR. Of a file an empty field is NULL, `_file` its path, and `_line` the
    line in it. `room` is an empty folder for what lies in between. Raises LandingMoved.
    """
    # DuckDB's own reader cannot say on which line a row began, so Python splits the fields, and
    # DuckDB reads one clean file a source however many tiny files have landed.
    rejects = room / "rejects.csv"
    with rejects.open("w", encoding="utf-8", newline="") as bad_file:
        bad = csv.writer(bad_file, lineterminator="\n")
        for number, source in enumerate(sources):
            target = name(database, "up", f"{source.table.domain}__{source.table.relation}")
            if source.rows is not None:
                _load_rows(connection, target, source.columns, source.rows, room / f"{number}.csv")
                continue
            rows = room / f"{number}.csv"
            with rows.open("w", encoding="utf-8", newline="") as good_file:
                good = csv.writer(good_file, lineterminator="\n")
                for file in source.files:
                    copy = _copied(file, room / "landed")
                    _split(source, file, copy, good, bad)
                    copy.unlink()
            types = {**dict.fromkeys((*source.columns, "_file"), "VARCHAR"), "_line": "BIGINT"}
            _load(connection, target, rows, types)
    shape = dict.fromkeys(("source", "file", "line", "reason", "partition_key"), "VARCHAR")
    _load(connection, f"{name(database)}.{REJECTS}", rejects, shape | {"line": "BIGINT"})


def _load_rows(
    connection: duckdb.DuckDBPyConnection,
    target: str,
    columns: Sequence[str],
    rows: LandedRows,
    file: Path,
) -> None:
    """Load the rows of a table outside, and prove that they are the pinned ones."""
    if rows.pins:
        rows.copy(file)
    else:
        file.touch()
    types = {**dict.fromkeys(columns, "VARCHAR"), _SLICE: "INTEGER", _HASH: "BIGINT"}
    _load(connection, target, file, types, "parallel = false, allow_quoted_nulls = false")
    file.unlink()
    found = {
        number: fingerprint(count, int(total))
        for number, count, total in connection.execute(
            f"SELECT {_SLICE}, count(*), sum({_HASH}) FROM {target} GROUP BY 1"
        ).fetchall()
    }
    for number, (partition, pinned) in enumerate(rows.pins):
        if (now := found.get(number, fingerprint(0, 0))) != pinned:
            raise LandingMoved(
                f"{rows.name} {partition.key} changed since it was pinned: {now}, "
                f"pinned {pinned}; its step stays open"
            )
    for column in (_SLICE, _HASH):
        connection.execute(f"ALTER TABLE {target} DROP COLUMN {column}")


def _copied(file: LandedFile, to: Path) -> Path:
    """The file's bytes, and proof that they are the pinned ones."""
    digest = hashlib.sha256()
    with ExitStack() as stack:
        try:
            landed = stack.enter_context(file.path.open("rb"))
        except OSError as error:
            raise LandingMoved(
                f"{file.path} is gone since it was pinned ({error.strerror}); its step stays open"
            ) from error
        copy = stack.enter_context(to.open("wb"))
        while chunk := landed.read(_CHUNK):
            digest.update(chunk)
            copy.write(chunk)
    if digest.hexdigest() != file.sha256:
        raise LandingMoved(
            f"{file.path} changed since it was pinned: sha256 {digest.hexdigest()[:12]}, "
            f"pinned {file.sha256[:12]}; its step stays open"
        )
    return to


def _split(source: StagedSource, file: LandedFile, copy: Path, good: Any, bad: Any) -> None:
    path, width = str(file.path), len(source.columns)

    def reject(line: int, reason: str) -> None:
        bad.writerow((source.table, path, line, reason, file.partition.key))

    with copy.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)
        line = 1
        try:
            header = next(reader, None)
            if header is None:
                return reject(
                    1, f"the file is empty: it lacks its header {_listed(source.columns)}"
                )
            if tuple(header) != source.columns:
                return reject(1, _difference(header, source.columns))
            line = reader.line_num + 1
            for row in reader:
                if len(row) == width:
                    good.writerow((*row, path, line))
                elif row:
                    reject(line, f"{len(row)} fields where the header has {width}")
                line = reader.line_num + 1
        except csv.Error as error:
            # Where a quote is left open nobody can say where the next row begins.
            reject(line, f"{error}; the rest of the file was not read")
        except UnicodeDecodeError as error:
            reject(line, f"not UTF-8 from about here ({error.reason}); the rest was not read")


def _difference(header: Sequence[str], declared: Sequence[str]) -> str:
    absent = [c for c in declared if c not in header]
    extra = [c for c in header if c not in declared]
    said = [f"lacks {_listed(absent)}"] if absent else []
    said += [f"has {_listed(extra)}, which is not declared"] if extra else []
    return "the header " + (" and ".join(said) or "has the declared columns in another order")


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns)


def _load(
    connection: duckdb.DuckDBPyConnection,
    target: str,
    file: Path,
    types: dict[str, str],
    further: str = "parallel = false",
) -> None:
    if file.stat().st_size == 0:
        columns = ", ".join(f"{name(column)} {kind}" for column, kind in types.items())
        connection.execute(f"CREATE TABLE {target} ({columns})")
        return
    columns = ", ".join(f"{literal(column)}: {literal(kind)}" for column, kind in types.items())
    connection.execute(
        f"CREATE TABLE {target} AS FROM read_csv({literal(file)}, columns = {{{columns}}},"
        " header = false, auto_detect = false, delim = ',', quote = '\"', escape = '\"',"
        f" new_line = '\\n', nullstr = '', max_line_size = 16777216, {further})"
    )


def read_rejects(connection: duckdb.DuckDBPyConnection, database: str) -> Iterator[Reject]:
    """What was kept out, by source, file and line."""
    rows = connection.execute(
        "SELECT source, file, line, reason, partition_key"
        f" FROM {name(database)}.{REJECTS} ORDER BY ALL"
    ).fetchall()
    return (Reject(*row) for row in rows)
