"""
Landed data on its way into a stage. Files are copied while they are hashed, then split into fields;
rows of a table outside are hashed there and counted here, as they lie in the stage.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from levada.adapters.probes.postgres import fingerprint
from levada.errors import LandingMoved
from levada.ports import LandedFile, LandedRows, StagedSource

__all__ = ["REJECTS", "Loader", "load_sources"]

REJECTS = "rejects"

_CHUNK = 1 << 20
_SLICE, _HASH = "_levada_slice", "_levada_hash"


class Loader(Protocol):
    """Where the tables of landed data are made."""

    newline: str
    """How the lines of a clean file end."""
    refused: str
    """A character that no text of the warehouse can hold, if there is one."""

    def load(self, table: str, file: Path, types: Mapping[str, str], *, exact: bool) -> None:
        """
        Make a table of these columns from a CSV file. An empty field is NULL; where it is `exact`,
        a quoted one is an empty text.
        """

    def place(self, table: str) -> str:
        """How SQL names a table that was made."""

    def run(self, sql: str) -> Sequence[tuple[Any, ...]]:
        """Run a statement over the tables; its rows, if it has any."""


def load_sources(loader: Loader, sources: Sequence[StagedSource], room: Path) -> None:
    """
    Make one table for each source, named `<domain>__<relation>`, and the table of rejects.

    Every column is VARCHAR. Of a file an empty field is NULL, `_file` its path or address, and
    `_line` the line in it. `room` is an empty folder for what lies in between. Raises LandingMoved.
    """
    # A warehouse's own reader cannot say on which line a row began, so Python splits the fields,
    # and the warehouse reads one clean file a source however many tiny files have landed.
    rejects = room / "rejects.csv"
    with rejects.open("w", encoding="utf-8", newline="") as bad_file:
        bad = csv.writer(bad_file, lineterminator=loader.newline)
        for number, source in enumerate(sources):
            target = f"{source.table.domain}__{source.table.relation}"
            if source.rows is not None:
                _load_rows(loader, target, source.columns, source.rows, room / f"{number}.csv")
                continue
            rows = room / f"{number}.csv"
            with rows.open("w", encoding="utf-8", newline="") as good_file:
                good = csv.writer(good_file, lineterminator=loader.newline)
                for file in source.files:
                    copy = _copied(file, room / "landed")
                    _split(source, file, copy, good, bad, loader.refused)
                    copy.unlink()
            types = {**dict.fromkeys((*source.columns, "_file"), "VARCHAR"), "_line": "BIGINT"}
            loader.load(target, rows, types, exact=False)
    shape = dict.fromkeys(("source", "file", "line", "reason", "partition_key"), "VARCHAR")
    loader.load(REJECTS, rejects, shape | {"line": "BIGINT"}, exact=False)


def _load_rows(
    loader: Loader, target: str, columns: Sequence[str], rows: LandedRows, file: Path
) -> None:
    """Load the rows of a table outside, and prove that they are the pinned ones."""
    if rows.pins:
        rows.copy(file)
    else:
        file.touch()
    types = {**dict.fromkeys(columns, "VARCHAR"), _SLICE: "INTEGER", _HASH: "BIGINT"}
    loader.load(target, file, types, exact=True)
    file.unlink()
    found = {
        number: fingerprint(count, int(total))
        for number, count, total in loader.run(
            f"SELECT {_SLICE}, count(*), sum({_HASH}) FROM {loader.place(target)} GROUP BY 1"
        )
    }
    for number, (partition, pinned) in enumerate(rows.pins):
        if (now := found.get(number, fingerprint(0, 0))) != pinned:
            raise LandingMoved(
                f"{rows.name} {partition.key} changed since it was pinned: {now}, "
                f"pinned {pinned}; its step stays open"
            )
    for column in (_SLICE, _HASH):
        loader.run(f"ALTER TABLE {loader.place(target)} DROP COLUMN {column}")


def _copied(file: LandedFile, to: Path) -> Path:
    """The file's bytes, and proof that they are the pinned ones."""
    digest = hashlib.sha256()
    with ExitStack() as stack:
        try:
            landed = stack.enter_context(file.path.open("rb"))
        except OSError as error:
            raise LandingMoved(
                f"{file.name} is gone since it was pinned ({error.strerror}); its step stays open"
            ) from error
        copy = stack.enter_context(to.open("wb"))
        while chunk := landed.read(_CHUNK):
            digest.update(chunk)
            copy.write(chunk)
    if digest.hexdigest() != file.sha256:
        raise LandingMoved(
            f"{file.name} changed since it was pinned: sha256 {digest.hexdigest()[:12]}, "
            f"pinned {file.sha256[:12]}; its step stays open"
        )
    return to


def _split(
    source: StagedSource, file: LandedFile, copy: Path, good: Any, bad: Any, refused: str
) -> None:
    path, width = file.name, len(source.columns)

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
                if refused and any(refused in field for field in row):
                    reject(line, f"a field holds the character {refused!a}")
                elif len(row) == width:
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
