"""What each kind of rule finds, on rows written here: the SQL runs, nothing else does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from levada.consistency import KINDS, quoted, statement
from levada.terms import ConsistencyRule, RuleKind, Severity, Side, TableRef, Tolerance

A, B = TableRef("ops", "a"), TableRef("ops", "b")
END = datetime(2013, 3, 2, tzinfo=UTC)
G, ID = (("g", "g"),), (("id", "id"),)
V = (("v", "sum(v)"),)
Found = list[tuple[dict[str, Any], dict[str, Any]]]


@pytest.fixture
def db() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"enable_external_access": False}) as connection:
        connection.execute("set TimeZone = 'UTC'")
        yield connection


def rule(kind: str, *sides: Side, **more: Any) -> ConsistencyRule:
    severity = Severity.ADVISORY
    return ConsistencyRule("r", "b", RuleKind(kind), sides, severity, "o", "", "", 0, "", **more)


def table(
    db: duckdb.DuckDBPyConnection, ref: TableRef, rows: Sequence[tuple[Any, ...]], week: int = 0
) -> None:
    name = quoted(f"{ref} {week}")
    db.execute(f"create table {name} (id integer, g varchar, v decimal(9, 2), tm timestamptz)")
    for row in rows:
        db.execute(f"insert into {name} values (?, ?, ?, ?)", [*row, *[None] * (4 - len(row))])


def found(
    db: duckdb.DuckDBPyConnection, asked: ConsistencyRule, weeks: Sequence[int] = ()
) -> Found:
    made = statement(asked, lambda t, week: quoted(f"{t} {week}"), END, weeks)
    assert db.execute(made.compared).fetchone()
    rows = db.execute(f"{made.offending} order by key").fetchall()
    return [(json.loads(key), json.loads(figures)) for key, figures, _ in rows]


def keys(*told: Any) -> list[Any]:
    return [key for key, _ in found(*told)]


def test_every_kind_is_said_in_a_sentence() -> None:
    assert set(KINDS) == set(RuleKind)


def test_totals_name_the_group_that_differs_and_both_figures(db: duckdb.DuckDBPyConnection) -> None:
    table(db, A, [(1, "x", 2), (2, "x", 3), (3, "y", 1)])
    table(db, B, [(1, "x", 5), (2, "y", "1.01")])

    asked = rule("totals", Side(A, G, V), Side(B, G, V))

    assert found(db, asked) == [
        ({"g": "y"}, {"v ops.a": "1.00", "v ops.b": "1.01", "only in": None})
    ]


def test_a_group_that_only_one_side_has_offends_and_null_is_a_group(
    db: duckdb.DuckDBPyConnection,
) -> None:
    table(db, A, [(1, "x", 0), (2, None, 1)])
    table(db, B, [(2, None, 1), (3, "z", 0)])

    assert keys(db, rule("totals", Side(A, G, V), Side(B, G, V))) == [{"g": "x"}, {"g": "z"}]


def test_totals_without_groups_are_one_figure_and_empty_equals_empty(
    db: duckdb.DuckDBPyConnection,
) -> None:
    table(db, A, [])
    table(db, B, [])
    asked = rule("totals", Side(A, (), V), Side(B, (), V))

    assert found(db, asked) == []
    db.execute("insert into \"ops.b@1 0\" values (1, 'x', 1, null)")
    assert keys(db, asked) == [{}]


@pytest.mark.parametrize(
    ("near", "offends"),
    [
        ({"": Tolerance(Decimal("0.01"))}, False),
        ({"": Tolerance(Decimal("0.009"))}, True),
        ({"": Tolerance(relative=Decimal("0.001"))}, False),
        ({"": Tolerance(relative=Decimal("0.0001"))}, True),
        ({"": Tolerance(Decimal("0.001")), "v": Tolerance(Decimal(1))}, False),
        ({"w": Tolerance(Decimal(1))}, True),
    ],
)
def test_a_tolerance_is_absolute_relative_or_of_a_column(
    db: duckdb.DuckDBPyConnection, near: dict[str, Tolerance], offends: bool
) -> None:
    table(db, A, [(1, "x", 10)])
    table(db, B, [(1, "x", "10.01")])

    asked = rule("totals", Side(A, G, V), Side(B, G, V), tolerance=near)

    assert bool(found(db, asked)) is offends


def test_a_ratio_lies_between_its_bounds_and_both_belong_to_it(
    db: duckdb.DuckDBPyConnection,
) -> None:
    table(db, A, [(1, "x"), (2, "x"), (3, "y"), (4, "w")])
    table(db, B, [(1, "x"), (2, "y"), (3, "y"), (4, "z")])
    bounds = (Decimal("0.5"), Decimal(2))

    assert keys(db, rule("ratio", Side(A, G), Side(B, G), bounds=bounds)) == [
        {"g": "w"},
        {"g": "z"},
    ]
    tight = (Decimal(1), Decimal("1.99"))
    assert {"g": "x"} in keys(db, rule("ratio", Side(A, G), Side(B, G), bounds=tight))


def test_keys_are_missed_on_either_side_and_said_where(db: duckdb.DuckDBPyConnection) -> None:
    table(db, A, [(1,), (2,), (2,), (None,)])
    table(db, B, [(2,), (3,), (None,)])

    assert found(db, rule("keys", Side(A, ID), Side(B, ID))) == [
        ({"id": "1"}, {"only in": "ops.a"}),
        ({"id": "3"}, {"only in": "ops.b"}),
    ]


def test_rows_of_one_key_are_paired_in_order_and_compared_by_value(
    db: duckdb.DuckDBPyConnection,
) -> None:
    table(db, A, [(1, "x", 1), (1, "x", 2), (2, "y", None), (3, "z", 3)])
    table(db, B, [(1, "x", 2), (1, "x", 1), (2, "y", None), (3, "z", 4)])
    values = (("g", "g"), ("v", "v"))
    asked = rule("rows", Side(A, ID, values), Side(B, ID, values))

    assert keys(db, asked) == [{"id": "3"}]
    db.execute("insert into \"ops.b@1 0\" values (1, 'x', 1, null)")
    assert keys(db, asked) == [{"id": "1"}, {"id": "3"}]


def test_duplicates_are_keys_that_are_whole_and_come_twice(db: duckdb.DuckDBPyConnection) -> None:
    table(db, A, [(1, "x"), (1, "x"), (1, "y"), (2, None), (2, None)])

    asked = rule("duplicates", Side(A, (*ID, *G)))

    assert found(db, asked) == [({"id": "1", "g": "x"}, {"rows": "2"})]


@pytest.mark.parametrize(("share", "lost"), [("1", ["2", "3"]), ("0.7", ["2", "3"]), ("0.5", [])])
def test_references_offend_where_too_few_of_the_rows_have_theirs(
    db: duckdb.DuckDBPyConnection, share: str, lost: list[str]
) -> None:
    table(db, A, [(1,), (1,), (2,), (3,), (None,)])
    table(db, B, [(1,), (4,)])

    asked = rule("references", Side(A, ID), Side(B, ID), share=Decimal(share))

    assert [key["id"] for key in keys(db, asked)] == lost


def test_what_is_newest_may_lie_so_long_before_the_end_and_an_empty_table_is_stale(
    db: duckdb.DuckDBPyConnection,
) -> None:
    at = (("newest", "max(tm)"),)
    table(db, A, [(1, "x", 0, END - timedelta(hours=1)), (2, "y", 0, END - timedelta(hours=2))])
    table(db, B, [])

    assert keys(db, rule("freshness", Side(A, G, at), within=timedelta(hours=1))) == [{"g": "y"}]
    assert keys(db, rule("freshness", Side(B, (), at), within=timedelta(hours=1))) == [{}]


def test_a_weekday_is_compared_with_the_median_of_the_weeks_that_are_there(
    db: duckdb.DuckDBPyConnection,
) -> None:
    counted = (("n", "count(*)"),)
    table(db, A, [(n, "x") for n in range(10)] + [(99, "new")])
    for week, rows in ((1, 10), (2, 11), (3, 100)):
        table(db, A, [(n, "x") for n in range(rows)], week)
    asked = rule("weekday", Side(A, G, counted), weeks=3,
                 tolerance={"": Tolerance(relative=Decimal("0.1"))})  # fmt: skip

    assert keys(db, asked, [1, 2, 3]) == [{"g": "new"}]
    assert keys(db, asked, [3]) == [{"g": "new"}, {"g": "x"}]


def test_a_query_of_ones_own_returns_what_offends_once_for_each_key(
    db: duckdb.DuckDBPyConnection,
) -> None:
    table(db, A, [(1, "x", 5), (2, "x", 6), (3, "y", 1)])

    asked = rule("sql", query="select g, v from {ops.a@1} where v > 1", key=("g",))

    assert found(db, asked) == [({"g": "x"}, {"g": "x", "v": 5.0})]


def test_conditions_cut_each_side_by_itself(db: duckdb.DuckDBPyConnection) -> None:
    table(db, A, [(1, "x", 1), (2, "y", 9)])
    table(db, B, [(1, "x", 1)])

    asked = rule("totals", Side(A, (), V, "g = 'x'"), Side(B, (), V))

    assert found(db, asked) == []
