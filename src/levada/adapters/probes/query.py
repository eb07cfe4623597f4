"""A query that is asked for each partition: all of them in one statement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from psycopg import sql

from levada.adapters.probes.session import SLICE, Database, slices
from levada.calendars import calendar
from levada.errors import ToolError
from levada.outside import placed
from levada.terms import Landing, Partition, QueryProbe, Source

__all__ = ["probe"]


def probe(
    database: Database,
    source: Source,
    asked: QueryProbe,
    partitions: Sequence[Partition],
    now: datetime,
) -> Iterator[Landing]:
    """
    What has landed: the first column of the one row is the fingerprint. No row, NULL, false, 0 and
    an empty text say that nothing has. Several rows say nothing at all: raises ToolError.
    """
    rows, arguments = slices(partitions)
    statement = sql.SQL(
        "select s.n, q.content from {} join lateral ({}\n) q(content) on true"
    ).format(
        rows,
        sql.SQL(placed(asked.sql, SLICE)),
    )
    with database.reading(calendar(source.zone).zone) as cursor:
        answers = cursor.execute(statement, arguments).fetchall()
    seen: set[int] = set()
    for number, content in answers:
        if number in seen:
            wrong = f"the query of {source.table} answers with several rows for"
            raise ToolError(database.name, f"{wrong} {partitions[number].key}: it may give one")
        seen.add(number)
        if content:
            yield Landing(
                table=source.table,
                partition=partitions[number],
                generation=0,
                content="true" if content is True else str(content),
                path=source.location,
                size=0,
                at=now,
            )
