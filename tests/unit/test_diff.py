"""Diff against a plain count in Python, over keys of every kind and rows that come twice."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.adapters.diffing import DuckSide, compare, cut_of
from levada.adapters.diffing.cut import BUCKETS, Stretches
from levada.diff import Difference, Drift, Question, Sample, Tolerance
from levada.errors import DeclarationError

INTEGERS = st.one_of(st.none(), st.integers(-4, 4))
TEXTS = st.one_of(st.none(), st.sampled_from(["", "a", "A", "가", "'", "N", "1:a", "a "]))
NUMBERS = st.one_of(st.none(), st.sampled_from([0.0, -0.0, 1.5, float("nan"), float("inf")]))
ROWS = st.lists(st.tuples(INTEGERS, TEXTS, NUMBERS), max_size=14)
TYPES = ("INTEGER", "VARCHAR", "DOUBLE")


@pytest.fixture
def db() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def table(
    db: duckdb.DuckDBPyConnection, name: str, rows: list[Any], types: tuple[str, ...] = TYPES
) -> DuckSide:
    columns = ", ".join(f"c{n} {kind}" for n, kind in enumerate(types))
    db.execute(f"CREATE OR REPLACE TABLE {name} ({columns})")
    if rows:
        db.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(types))})", rows)
    return DuckSide(db, name)


def plain(value: Any) -> Any:
    """Equal values look alike: NaN is NaN, and there is one zero."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value + 0.0
    return value


def counted(a: list[Any], b: list[Any], key: tuple[int, ...]) -> tuple[int, int, int]:
    """Only in A, only in B, changed: rows that both have leave, the rest is paired by key."""
    ours, theirs = (Counter(tuple(map(plain, row)) for row in rows) for rows in (a, b))
    left: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    for side, rows in enumerate((ours - theirs, theirs - ours)):
        for row, n in rows.items():
            left[tuple(row[k] for k in key)][side] += n
    pairs = [(min(n, m), n, m) for n, m in left.values()]
    return (
        sum(n - p for p, n, _ in pairs),
        sum(m - p for p, _, m in pairs),
        sum(p for p, _, _ in pairs),
    )


@pytest.mark.thorough
@settings(max_examples=60, deadline=None)
@given(a=ROWS, b=ROWS, key=st.sampled_from([(0,), (1,), (0, 1), (1, 2), (2, 0)]))
def test_it_counts_what_a_plain_count_does(
    a: list[Any], b: list[Any], key: tuple[int, ...]
) -> None:
    with duckdb.connect() as db:
        names = tuple(f"c{n}" for n in key)

        found = compare(db, table(db, "a", a), table(db, "b", b), Question(names))

    assert (found.only_a, found.only_b, found.changed) == counted(a, b, key)
    assert (found.rows_a, found.rows_b) == (len(a), len(b))
    assert found.identical == (Counter(map(str, map(plain_row, a))) == Counter(
        map(str, map(plain_row, b))))  # fmt: skip


def plain_row(row: Any) -> Any:
    return tuple(map(plain, row))


@pytest.mark.thorough
@settings(max_examples=25, deadline=None)
@given(a=ROWS, b=ROWS)
def test_without_a_key_rows_are_compared_whole(a: list[Any], b: list[Any]) -> None:
    with duckdb.connect() as db:
        found = compare(db, table(db, "a", a), table(db, "b", b), Question())

    assert (found.only_a, found.only_b, found.changed) == counted(a, b, (0, 1, 2))
    assert found.changed == 0


@pytest.mark.parametrize("key", ["i - 5000", "(i - 5000)::VARCHAR", "i * 1000003", "i % 3"])
@pytest.mark.parametrize("names", [("k",), ("k", "l"), ("l", "m")])
def test_buckets_are_disjoint_and_complete(
    db: duckdb.DuckDBPyConnection, key: str, names: tuple[str, ...]
) -> None:
    db.execute(
        f"CREATE TABLE a AS SELECT CASE WHEN i % 997 = 0 THEN NULL ELSE {key} END AS k,"
        " CASE WHEN i % 7 = 0 THEN NULL ELSE i % 5 END AS l, CAST(i AS VARCHAR) AS m, i AS v"
        " FROM range(10000) t(i)"
    )
    side = DuckSide(db, "a")
    cut = cut_of(side, side, Question(names))

    digests = side.digests(cut)

    assert (cut.stretches is None) == (names == ("k",) and "VARCHAR" in key)
    assert set(digests) <= set(range(-1, BUCKETS))
    assert sum(count for count, _ in digests.values()) == 10000
    for few in (3, 900):  # of a few, each is read again by its stretches; of many, all by one scan
        parts = [list(digests)[part::few] for part in range(few)]
        for buckets in filter(None, parts[:9]):
            side.load(db, "part", cut, buckets)
            assert db.execute("SELECT count(*) FROM part").fetchone() == (
                sum(digests[bucket][0] for bucket in buckets),
            )
            db.execute("DROP TABLE part")
    for part in range(3):
        side.load(db, f"part{part}", cut, list(digests)[part::3])
    total = db.execute(
        "SELECT count(*), sum(v) FROM (FROM part0 UNION ALL FROM part1 UNION ALL FROM part2)"
    ).fetchone()
    assert total == (10000, sum(range(10000)))


LEAST, GREATEST = -(1 << 63), (1 << 63) - 1


@pytest.mark.thorough
@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["TINYINT", "UTINYINT", "INTEGER", "UINTEGER", "BIGINT"]),
    near=st.booleans(),
    data=st.data(),
)
def test_integer_keys_of_any_range_are_compared_alike(
    kind: str, near: bool, data: st.DataObject
) -> None:
    low, high = {
        "TINYINT": (-128, 127), "UTINYINT": (0, 255), "INTEGER": (-(1 << 31), (1 << 31) - 1),
        "UINTEGER": (0, (1 << 32) - 1), "BIGINT": (LEAST, GREATEST),
    }[kind]  # fmt: skip
    least = data.draw(st.integers(low, high))
    key = st.none() | st.integers(least, min(high, least + 5000) if near else high)
    rows = st.lists(st.tuples(key, st.integers(0, 2)), max_size=60)
    a, b = data.draw(rows), data.draw(rows)
    with duckdb.connect() as db:
        types = (kind, "INTEGER")
        one, other = table(db, "a", a, types), table(db, "b", [*a, *b], types)

        found = compare(db, one, other, Question(("c0",)))

    assert (found.only_a, found.only_b, found.changed) == counted(a, [*a, *b], (0,))


def test_stretches_are_found_at_the_ends_of_what_a_bigint_holds() -> None:
    assert Stretches.of("k", LEAST, GREATEST) is None
    assert Stretches.of("k", 5, 5) is None
    stretches = Stretches.of("k", GREATEST - 300, GREATEST)
    assert stretches
    assert (stretches.shift, stretches.count, stretches.remainders) == (1, 151, 16)
    assert stretches.bounds(0, 0) == (GREATEST - 300, GREATEST - 299)


def test_one_cent_in_many_rows_is_found_and_shown(db: duckdb.DuckDBPyConnection) -> None:
    db.execute(
        "CREATE TABLE a AS SELECT i, (i % 1000)::DECIMAL(12,2) AS fare FROM range(300000) t(i)"
    )
    db.execute("CREATE TABLE b AS SELECT i, fare + (i = 123456)::INT * 0.01 AS fare FROM a")
    db.execute("ALTER TABLE b ALTER fare TYPE DECIMAL(12,2)")

    found = compare(db, DuckSide(db, "a"), DuckSide(db, "b"), Question(("i",)))

    assert (found.only_a, found.only_b, found.changed) == (0, 0, 1)
    assert found.samples == (Sample("changed", ("123456",), (("fare", "456.00", "456.01"),)),)
    assert [(c.column, c.rows) for c in found.columns] == [("fare", 1)]


def test_a_widened_decimal_is_a_difference_and_its_values_are_compared(
    db: duckdb.DuckDBPyConnection,
) -> None:
    a = table(db, "a", [(1, Decimal("1.50")), (2, Decimal("2.50"))], ("INTEGER", "DECIMAL(9,2)"))
    b = table(db, "b", [(1, Decimal("1.500")), (2, Decimal("2.501"))], ("BIGINT", "DECIMAL(12,3)"))

    found = compare(db, a, b, Question(("c0",)))

    assert not found.identical
    assert found.drift == (
        Drift("c0", "INTEGER", "BIGINT", compared=True),
        Drift("c1", "DECIMAL(9,2)", "DECIMAL(12,3)", compared=True),
    )
    assert found.changed == 1


@pytest.mark.parametrize(
    ("one", "other"), [("INTEGER", "VARCHAR"), ("DECIMAL(9,2)", "DOUBLE"), ("DATE", "TIMESTAMP")]
)
def test_another_type_is_never_identical(
    db: duckdb.DuckDBPyConnection, one: str, other: str
) -> None:
    a, b = (table(db, n, [], ("INTEGER", kind)) for n, kind in (("a", one), ("b", other)))

    found = compare(db, a, b, Question(("c0",)))

    assert not found.identical
    assert str(found) == (
        f"A has 0 rows, B has 0; rows equal, c1 is {one} in A and {other} in B, not compared"
    )


def test_a_column_of_one_side_is_a_difference(db: duckdb.DuckDBPyConnection) -> None:
    a, b = table(db, "a", [(1, "x", 0.5)]), table(db, "b", [(1, "x")], TYPES[:2])

    assert compare(db, a, b, Question(("c0",))).drift == (Drift("c2", "DOUBLE", ""),)


def test_tolerance_is_per_column_and_told(db: duckdb.DuckDBPyConnection) -> None:
    rows = [(1, "x", 100.0), (2, "x", 100.0), (3, "x", None), (4, "x", float("nan"))]
    other = [(1, "x", 100.004), (2, "x", 101.0), (3, "x", 0.0), (4, "x", 1.0)]
    question = Question(("c0",), {"c2": Tolerance(absolute=Decimal("0.01"))})

    found = compare(db, table(db, "a", rows), table(db, "b", other), question)

    assert (found.changed, found.tolerated) == (3, 1), "NULL and NaN are near nothing"
    relative = Question(("c0",), {"c2": Tolerance(relative=Decimal("0.01"))})
    found = compare(db, DuckSide(db, "a"), DuckSide(db, "b"), relative)
    assert (found.changed, found.tolerated) == (2, 2)


def test_instants_and_nested_values_are_compared_as_values(db: duckdb.DuckDBPyConnection) -> None:
    db.execute(
        "CREATE TABLE a AS SELECT 1 AS id, TIMESTAMPTZ '2013-03-10 02:00:00-05' AS at,"
        " {'x': [1, NULL], 'y': 'n'} AS nested"
    )
    db.execute(
        "CREATE TABLE b AS SELECT 1 AS id, TIMESTAMPTZ '2013-03-10 07:00:00+00' AS at, nested"
        " FROM a"
    )
    a, b = DuckSide(db, "a"), DuckSide(db, "b")

    assert compare(db, a, b, Question(("id",))).identical
    db.execute("UPDATE b SET nested = {'x': [1, 2], 'y': 'n'}")
    assert compare(db, a, b, Question(("id",))).changed == 1


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Question(("c9",)), "--key: no column 'c9'; did you mean 'c0'?"),
        (Question(("c0",), {"c1": Tolerance(Decimal(1))}), "c1 is VARCHAR: only numbers"),
        (Question(("c0",), {"c0": Tolerance(Decimal(1))}), "c0 is part of the key"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(
    db: duckdb.DuckDBPyConnection, question: Question, said: str
) -> None:
    side = table(db, "a", [])

    with pytest.raises(DeclarationError) as refused:
        compare(db, side, side, question)

    assert said.partition(";")[0] in str(refused.value)


def test_nothing_is_left_in_the_connection(db: duckdb.DuckDBPyConnection) -> None:
    a, b = table(db, "a", [(1, "x", 1.0)]), table(db, "b", [(1, "y", 1.0)])
    found: Difference = compare(db, a, b, Question(("c0",)))

    assert found.changed == 1
    assert {row[0] for row in db.execute("SHOW TABLES").fetchall()} == {"a", "b"}
