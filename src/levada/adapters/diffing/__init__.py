"""Compare two tables: digests of buckets first, then only the rows of buckets that differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from levada.adapters.diffing.cut import Cut, Stretches, stretchable
from levada.adapters.diffing.sides import DuckSide, PostgresSide, Side, portable
from levada.adapters.warehouses._sql import literal, name
from levada.diff import Aligned, ChangedColumn, Difference, Drift, Question, Sample, align

if TYPE_CHECKING:
    import duckdb

__all__ = ["DuckSide", "PostgresSide", "Side", "compare", "cut_of"]

_TABLES = ("diff_a", "diff_b", "diff_pairs")


def compare(
    connection: duckdb.DuckDBPyConnection, a: Side, b: Side, question: Question
) -> Difference:
    """
    Everything in which B differs from A; the rows that differ meet in this DuckDB.

    Two scans tell which buckets differ; what they hold is compared row by row. A row hash has 64
    bits (60 between engines) and a bucket the sum of some thousands: that two different buckets
    agree is as likely as that two rows do.

    >>> import duckdb
    >>> db = duckdb.connect()
    >>> a = DuckSide(db, "(VALUES (1, 'x'), (2, 'y')) t(id, v)")
    >>> b = DuckSide(db, "(VALUES (1, 'x'), (2, 'z')) t(id, v)")
    >>> print(compare(db, a, b, Question(("id",))))
    A has 2 rows, B has 2; 1 changed
    """
    cut = cut_of(a, b, question)
    aligned = cut.aligned
    ours, theirs = a.digests(cut), b.digests(cut)
    differing = {
        bucket for bucket in ours.keys() | theirs if ours.get(bucket) != theirs.get(bucket)
    }
    rows = sum(count for count, _ in ours.values()), sum(count for count, _ in theirs.values())
    if not differing:
        return Difference(aligned.key, aligned.drift, rows[0], rows[1], 0, 0, 0, 0, 0, (), ())
    try:
        a.load(connection, "diff_a", cut, differing)
        b.load(connection, "diff_b", cut, differing)
        return _pair(connection, aligned, question, rows)
    finally:
        for table in _TABLES:
            connection.execute(f"DROP TABLE IF EXISTS {table}")


def cut_of(a: Side, b: Side, question: Question) -> Cut:
    """How the two deal their rows: what is compared, whose hash, and which column is stretched."""
    aligned = align(a.columns(), b.columns(), question)
    if not (isinstance(a, DuckSide) and isinstance(b, DuckSide)):
        return Cut(_between_engines(aligned), native=False)
    found = [
        Stretches.of(column, min(low for low, _ in both), max(high for _, high in both))
        for column in stretchable(aligned)
        if (both := [ends for side in (a, b) if (ends := side.ends(column))])
    ]
    widest = max(filter(None, found), key=lambda it: it.high - it.low, default=None)
    return Cut(aligned, native=True, stretches=widest)


def _between_engines(aligned: Aligned) -> Aligned:
    """What two engines do not write alike is a difference that nobody can look at: told so."""
    foreign = portable(aligned)
    if not foreign:
        return aligned
    columns = dict(aligned.columns)
    left = tuple((c, t) for c, t in aligned.columns if c not in foreign)
    drift = (*aligned.drift, *(Drift(c, columns[c], columns[c]) for c in foreign))
    return Aligned(left, drift, tuple(c for c in aligned.key if c not in foreign))


def _pair(
    connection: duckdb.DuckDBPyConnection,
    aligned: Aligned,
    question: Question,
    rows: tuple[int, int],
) -> Difference:
    """Equal rows leave first, as often as both sides have them; the rest is paired by key."""
    everything = ", ".join(name(c) for c in aligned.names)
    key = ", ".join(name(c) for c in aligned.key)
    values = [c for c in aligned.names if c not in aligned.key]
    ranked = (
        f"SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY {everything}) AS diff_rank"
        f" FROM (SELECT {everything} FROM {{}} EXCEPT ALL SELECT {everything} FROM {{}})"
    )
    same = " AND ".join(f"a.{name(c)} IS NOT DISTINCT FROM b.{name(c)}" for c in aligned.key)
    both = "a.diff_rank IS NOT NULL AND b.diff_rank IS NOT NULL"
    differs = [
        f"({both} AND {_differs(c, question)}) AS {name(f'differs {n}')}"
        for n, c in enumerate(values)
    ]
    pairs = [f"a.{name(c)} AS {name(f'a {n}')}, b.{name(c)} AS {name(f'b {n}')}"
             for n, c in enumerate(aligned.names)]  # fmt: skip
    connection.execute(
        f"CREATE TEMP TABLE diff_pairs AS SELECT {', '.join([*pairs, *differs])},"
        " CASE WHEN b.diff_rank IS NULL THEN 'only in A' WHEN a.diff_rank IS NULL"
        f" THEN 'only in B' WHEN {_any(len(values), differs)} THEN 'changed'"
        " ELSE 'tolerated' END AS kind, greatest(a.diff_rank, b.diff_rank) > 1 AS again"
        f" FROM ({ranked.format('diff_a', 'diff_b')}) a"
        f" FULL JOIN ({ranked.format('diff_b', 'diff_a')}) b"
        f" ON {same} AND a.diff_rank = b.diff_rank"
    )
    counts = dict(
        connection.execute("SELECT kind, count(*) FROM diff_pairs GROUP BY kind").fetchall()
    )
    again = connection.execute("SELECT count(*) FROM diff_pairs WHERE again").fetchone() or (0,)
    per_column = [
        (connection.execute(f"SELECT count(*) FROM diff_pairs WHERE {name(f'differs {n}')}")
         .fetchone() or (0,))[0]
        for n in range(len(values))
    ]  # fmt: skip
    return Difference(
        key=aligned.key,
        drift=aligned.drift,
        rows_a=rows[0],
        rows_b=rows[1],
        only_a=counts.get("only in A", 0),
        only_b=counts.get("only in B", 0),
        changed=counts.get("changed", 0),
        tolerated=counts.get("tolerated", 0),
        duplicated=again[0],
        columns=tuple(ChangedColumn(c, n) for c, n in zip(values, per_column, strict=True) if n),
        samples=tuple(_samples(connection, aligned, values, question.samples)),
    )


def _differs(column: str, question: Question) -> str:
    a, b = f"a.{name(column)}", f"b.{name(column)}"
    tolerance = question.tolerance.get(column)
    exact = f"{a} IS DISTINCT FROM {b}"
    return f"{exact} AND NOT coalesce({tolerance.sql(a, b)}, false)" if tolerance else exact


def _any(count: int, differs: Sequence[str]) -> str:
    return " OR ".join(each.rpartition(" AS ")[0] for each in differs) if count else "false"


def _samples(
    connection: duckdb.DuckDBPyConnection, aligned: Aligned, values: Sequence[str], most: int
) -> Iterator[Sample]:
    place = {c: n for n, c in enumerate(aligned.names)}
    for kind in ("only in A", "only in B", "changed"):
        side = "b" if kind == "only in B" else "a"
        order = ", ".join(name(f"{side} {place[c]}") for c in aligned.key)
        wanted = [f"CAST({name(f'{x} {n}')} AS VARCHAR)" for n in place.values() for x in "ab"]
        wanted += [name(f"differs {n}") for n in range(len(values))]
        found = connection.execute(
            f"SELECT {', '.join(wanted)} FROM diff_pairs WHERE kind = {literal(kind)}"
            f" ORDER BY {order} LIMIT {int(most)}"
        )
        for row in found.fetchall():
            shown = [_shown(value) for value in row[: 2 * len(place)]]
            pairs = list(zip(shown[0::2], shown[1::2], strict=True))
            differs = row[2 * len(place) :]
            yield Sample(
                kind,
                tuple(pairs[place[c]][side == "b"] for c in aligned.key),
                tuple(
                    (c, *pairs[place[c]])
                    for n, c in enumerate(values)
                    if kind != "changed" or differs[n]
                ),
            )


def _shown(value: Any) -> str:
    return "NULL" if value is None else str(value)
