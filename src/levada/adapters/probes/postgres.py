"""
A table of another PostgreSQL: its partitions are compared by their rows, and copied row by row.

A partition's fingerprint is `rows:hash`, the hash a sum over its rows, so that it is the same in
any order and counts duplicates. `hashtextextended` is PostgreSQL's own for hash partitions: an
upgrade may not change it. The same expression says what a probe saw and what a copy copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from psycopg import sql

from levada.adapters.probes.session import SLICE, Database, slices
from levada.calendars import calendar
from levada.intervals import end, windows
from levada.outside import placed
from levada.terms import Landing, Partition, Source, TableProbe

__all__ = ["copy", "fingerprint", "probe"]

_ROWS = "coalesce(f.rows, 0)"


def fingerprint(rows: int, hashed: int) -> str:
    """
    The rows of a partition as one name.

    >>> fingerprint(2, -1)
    '2:ffffffffffffffff'
    """
    return f"{rows}:{hashed % 2**64:016x}"


def probe(
    database: Database,
    source: Source,
    asked: TableProbe,
    partitions: Sequence[Partition],
    now: datetime,
) -> Iterator[Landing]:
    """
    What has landed, by one pass over the table for all partitions. One that is not over counts
    only where the declaration says when it is complete.
    """
    if not asked.complete_when:
        partitions = [p for p in partitions if p.start is None or end(p) <= now]
    if not partitions:
        return
    of, arguments = slices(partitions)
    places = {**SLICE, "rows": _ROWS}
    statement = sql.SQL(
        "with f as (select slice, count(*) as rows, sum(hash) as hash from ({}) r group by slice)"
        " select s.n, {}, coalesce(f.hash, 0) from {} left join f on f.slice = s.n where ({}\n)"
    ).format(
        _select(source, asked, partitions, ()),
        sql.SQL(_ROWS),
        of,
        sql.SQL(placed(asked.complete_when or ":rows > 0", places)),
    )
    with database.reading(calendar(source.zone).zone) as cursor:
        answers = cursor.execute(statement, arguments).fetchall()
    for number, rows, hashed in answers:
        yield Landing(
            table=source.table,
            partition=partitions[number],
            generation=0,
            content=fingerprint(rows, int(hashed)),
            path=source.location,
            size=rows,
            at=now,
        )


def copy(
    database: Database,
    source: Source,
    asked: TableProbe,
    partitions: Sequence[Partition],
    to: Path,
) -> None:
    """
    Write the rows of these partitions to a file of CSV without a header: the declared columns as
    text, then the number of the partition and the hash of the row. NULL is an empty field, an
    empty text is quoted.
    """
    select = _select(source, asked, partitions, source.columns)
    statement = sql.SQL("copy ({}) to stdout (format csv)").format(select)
    with (
        to.open("wb") as file,
        database.reading(calendar(source.zone).zone, patience="0") as cursor,
        cursor.copy(statement) as stream,
    ):
        for data in stream:
            file.write(data)


def _select(
    source: Source, asked: TableProbe, partitions: Sequence[Partition], columns: Sequence[str]
) -> sql.Composable:
    """Columns of the rows of these partitions as text, with the partition's number and a hash."""
    compared = (asked.version,) if asked.version else source.columns
    parts = [_text(column) for column in columns]
    parts.append(sql.SQL("{} as slice").format(_number(asked, partitions)))
    hashed = sql.SQL(", ").join(map(_text, compared))
    parts.append(sql.SQL("hashtextextended(row({})::text, 0) as hash").format(hashed))
    where = sql.SQL(" or ").join(
        sql.SQL("t.{0} >= {1} and t.{0} < {2}").format(
            sql.Identifier(asked.time), _instant(start), _instant(stop)
        )
        for start, stop in windows(p for p in partitions if p.start)
    )
    return sql.SQL("select {} from {} t{}").format(
        sql.SQL(", ").join(parts),
        sql.Identifier(*asked.table.split(".")),
        sql.SQL(" where ") + where if asked.time else sql.SQL(""),
    )


def _number(asked: TableProbe, partitions: Sequence[Partition]) -> sql.Composable:
    """Which of the partitions a row belongs to; they are in order, and `where` leaves no other."""
    if not asked.time:
        return sql.SQL("0")
    starts = ",".join(p.begin.isoformat() for p in partitions)
    return sql.SQL("width_bucket(t.{}::timestamptz, {}::timestamptz[]) - 1").format(
        sql.Identifier(asked.time), sql.Literal(f"{{{starts}}}")
    )


def _text(column: str) -> sql.Composable:
    return sql.SQL("t.{}::text").format(sql.Identifier(column))


def _instant(at: datetime) -> sql.Composable:
    return sql.SQL("{}::timestamptz").format(sql.Literal(at.isoformat()))
