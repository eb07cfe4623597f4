"""Great Expectations over DuckDB stages: each check passes, fails by name, or is unknown."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from levada.adapters import gx
from levada.adapters.gx import GreatExpectations
from levada.audit import BUILT_IN
from levada.intervals import within
from levada.ports import Relation, Stage
from levada.terms import (
    WHOLE,
    Check,
    CheckResult,
    Column,
    Contract,
    Grain,
    Owner,
    Partition,
    Span,
    TableRef,
    Verdict,
)

pytestmark = pytest.mark.integration

TABLE = TableRef("operations", "flights")
PLANES = TableRef("fleet", "planes")
ZONE = "America/New_York"
DAYS = within(Grain.DAY, ZONE, Span.days("2013-02-20", "2013-04-10", ZONE))
DAY = DAYS[0]
P, F, U = Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN
COLUMNS = (
    Column("flight", "INTEGER", required=True, key_position=1),
    Column("at", "TIMESTAMPTZ", required=True),
    Column("tail", "VARCHAR"),
    Column("origin", "VARCHAR"),
    Column("miles", "DECIMAL(9,2)"),
    Column("seen", "DATE"),
    Column("tags", "VARCHAR[]"),
)


def contract(*checks: Check) -> Contract:
    return Contract(
        id="operations.flights",
        version="1.0.0",
        status="active",
        table=TABLE,
        product="flights",
        grain=Grain.DAY,
        zone=ZONE,
        interval_column="at",
        columns=COLUMNS,
        checks=checks,
        owner=Owner("operations-data"),
        description="",
        hash="0" * 64,
        path="",
    )


@dataclass
class Made:
    """A stage file with five good rows in each partition."""

    path: Path
    days: tuple[Partition, ...] = (DAY,)
    fresh: bool = True
    stage: Stage = field(init=False)

    def __post_init__(self) -> None:
        self.stage = Stage(
            "run",
            self.path,
            {TABLE: Relation("stage", "main", "flights_v1")},
            {PLANES: Relation("stage", "up", "fleet__planes_v1")},
        )
        if self.fresh:
            columns = ", ".join(f'"{column.name}" {column.type}' for column in COLUMNS)
            self.run(
                "create schema up",
                "create table up.fleet__planes_v1 as select 'N' || i as tail from range(5) t(i)",
                f"create table flights_v1 ({columns})",
            )
            self.rows(
                {"flight": n * 5 + i, "at": day.begin + timedelta(hours=i * 5), "tail": f"N{i}"}
                for n, day in enumerate(self.days)
                for i in range(5)
            )

    def run(self, *statements: str) -> None:
        with duckdb.connect(str(self.path)) as connection:
            connection.execute("set TimeZone = 'UTC'")
            for statement in statements:
                connection.execute(statement)

    def row(self, **values: Any) -> None:
        self.rows([values])

    def rows(self, rows: Iterable[dict[str, Any]]) -> None:
        good = {
            "flight": 77,
            "at": self.days[0].begin if self.days else None,
            "tail": "N1",
            "origin": "JFK",
            "miles": 10,
            "seen": date(2013, 3, 1),
            "tags": ["a", "b"],
        }
        values = [list({**good, **row}.values()) for row in rows]
        marks = ", ".join("?" for _ in good)
        with duckdb.connect(str(self.path)) as connection:
            if values:
                connection.executemany(f"insert into flights_v1 values ({marks})", values)

    def audit(self, check: Check, *more: Check, **options: Any) -> dict[Partition, CheckResult]:
        auditor = GreatExpectations(**options)
        found = auditor.audit(self.stage, contract(check, *more), self.days)
        return {day: next(r for r in results if r.check is check) for day, results in found.items()}

    def one(self, check: Check, **options: Any) -> CheckResult:
        return self.audit(check, **options)[self.days[0]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "stage.duckdb")


def invalid(option: str, value: object, column: str = "miles") -> Check:
    return Check("rule", "invalidValues", column, arguments=((option, value),))


def sql(
    query: str, operator: str = "mustBe", *threshold: float, column: str | None = None
) -> Check:
    arguments = (("query", query), ("reads", ()))
    return Check("rule", "sql", column, operator, threshold or (0.0,), arguments=arguments)


COUNTING = "select count(*) from {object} where miles < 0"

REFERENCE = (
    ("columns", ("tail",)),
    ("to", "fleet.planes@1"),
    ("to_columns", ("tail",)),
    ("reads", ("fleet.planes@1",)),
)

# A check, the one row that breaks it, and what the sample shows of that row.
CASES: dict[str, tuple[Check, dict[str, Any], str]] = {
    "required": (Check("rule", "nullValues", "origin"), {"origin": None}, "origin=NULL"),
    "unique": (Check("rule", "duplicateValues", "flight"), {"flight": 3}, "flight=3 (2 times)"),
    "unique together": (
        Check("rule", "duplicateValues", arguments=(("properties", ("flight", "tail")),)),
        {"flight": 3, "tail": "N3"},
        "flight=3, tail=N3 (2 times)",
    ),
    "primary key": (
        Check("rule", "primaryKey", arguments=(("properties", ("flight",)),)),
        {"flight": 4},
        "flight=4 (2 times)",
    ),
    "primary key without a value": (
        Check("rule", "primaryKey", arguments=(("properties", ("flight",)),)),
        {"flight": None},
        "flight=NULL",
    ),
    "enum": (invalid("validValues", ("JFK", "LGA"), "origin"), {"origin": "XXX"}, "origin=XXX"),
    "enum of numbers": (invalid("validValues", (10, 20)), {"miles": 11}, "miles=11.00"),
    "pattern": (invalid("pattern", "^N[0-9]{1}$", "tail"), {"tail": "n:1"}, "tail=n:1"),
    "minimum": (invalid("minimum", 0), {"miles": -1}, "miles=-1.00"),
    "maximum": (invalid("maximum", 99.5), {"miles": 100}, "miles=100.00"),
    "exclusive minimum": (invalid("exclusiveMinimum", 0), {"miles": 0}, "miles=0.00"),
    "exclusive maximum": (invalid("exclusiveMaximum", 50), {"miles": 50}, "miles=50.00"),
    "first date": (
        invalid("minimum", "2013-01-01", "seen"),
        {"seen": date(2012, 1, 1)},
        "seen=2012-01-01",
    ),
    "multiple of": (invalid("multipleOf", 5), {"miles": 12}, "miles=12.00"),
    "shortest": (invalid("minLength", 3, "origin"), {"origin": "JF"}, "origin=JF"),
    "longest": (invalid("maxLength", 3, "origin"), {"origin": "JFKX"}, "origin=JFKX"),
    "most items": (invalid("maxItems", 2, "tags"), {"tags": ["a", "b", "c"]}, "tags=[a, b, c]"),
    "different items": (invalid("uniqueItems", True, "tags"), {"tags": ["a", "a"]}, "[a, a]"),
    "missing": (
        Check("rule", "missingValues", "origin", arguments=(("missingValues", (None, "", "NA")),)),
        {"origin": "NA"},
        "origin=NA",
    ),
    "foreign key": (
        Check("rule", "foreignKey", "tail", arguments=REFERENCE),
        {"tail": "N9"},
        "tail=N9",
    ),
    "interval": (
        Check("rule", "interval", "at"),
        {"at": datetime(2013, 2, 21, 5, tzinfo=UTC)},
        "at=2013-02-21 05:00:00+00",
    ),
    "interval without a time": (Check("rule", "interval", "at"), {"at": None}, "at=NULL"),
    "share of nulls": (
        Check("rule", "nullValues", "origin", "mustBeLessThan", (10,), "percent"),
        {"origin": None},
        "origin=NULL",
    ),
    "share of repeats": (
        Check("rule", "duplicateValues", "flight", "mustBeLessThan", (1,), "percent"),
        {"flight": 0},
        "flight=0 (2 times)",
    ),
    "row count": (Check("rule", "rowCount", None, "mustBeLessThan", (6,)), {}, ""),
    "a query": (
        sql("select count(*) from {object} where miles < 0"),
        {"miles": -1},
        "flight=77, miles=-1.00",
    ),
    "a query of a column": (
        sql("select max({property}) from {object} o", "mustBeLessOrEqualTo", 10, column="miles"),
        {"miles": 11},
        "",
    ),
    "a query with braces, colons and signs": (
        sql("select count(*) from {object} where tail like '{%:x$1' or {object}.tail = ':y'"),
        {"tail": ":y"},
        "tail=:y",
    ),
    "a query that says yes or no": (
        sql("select bool_and(miles > 0) from {object}", "mustBe", 1),
        {"miles": -1},
        "",
    ),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_good_data_passes_and_one_bad_row_fails_by_name(case: str, made: Made) -> None:
    check, bad, shown = CASES[case]
    assert made.one(check) == CheckResult(check, TABLE, P)
    made.row(**bad)
    result = made.one(check)
    assert result.verdict is F, result
    assert result.observed
    assert any(shown in row for row in result.rows) if shown else not result.rows
    assert result.count == (1 if shown else 0)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_large_data_are_judged_by_expectations_of_their_own_and_alike(
    case: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gx, "_SMALL", -1)
    check, bad, shown = CASES[case]
    assert made.one(check).verdict is P
    made.row(**bad)
    result = made.one(check)
    assert (result.verdict, result.count) == (F, 1 if shown else 0)


def test_checks_that_are_judged_together_keep_their_own_verdicts(made: Made) -> None:
    """One passes, two fail by name, one finds no number, and one cannot be bound."""
    nothing = sql("select max(miles) from {object} where false")
    absent = Check("absent", "nullValues", "wingspan")
    checks = [
        Check("ids", "nullValues", "flight"),
        Check("tails", "nullValues", "tail"),
        Check("few", "rowCount", operator="mustBeLessThan", threshold=(3,)),
        replace(nothing, id="nothing"),
        absent,
    ]
    made.row(tail=None)
    results = GreatExpectations().audit(made.stage, contract(*checks), [DAY])[DAY]
    assert {r.check.id: r.verdict for r in results} == {
        "ids": P,
        "tails": F,
        "few": F,
        "nothing": U,
        "absent": U,
    }
    assert [(r.count, r.observed) for r in results[1:3]] == [(1, "1"), (0, "6")]


def test_an_error_among_checks_that_are_judged_together_is_its_own_alone(made: Made) -> None:
    checks = [
        replace(sql("select sum(1 // (miles::int - 10)) from {object}"), id="error"),
        replace(sql("select cast(min(tail) as int) from {object}"), id="cast"),
        Check("ids", "nullValues", "flight"),
        Check("tails", "nullValues", "tail"),
    ]
    made.row(tail=None)
    results = GreatExpectations().audit(made.stage, contract(*checks), [DAY])[DAY]
    assert [r.verdict for r in results] == [U, U, P, F]
    assert "Conversion" in results[1].because


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_dropped_relation_is_unknown(case: str, made: Made) -> None:
    made.run("drop table flights_v1")
    result = made.one(CASES[case][0])
    assert result.verdict is U
    assert "flights_v1 does not exist" in result.because


def test_columns_are_exactly_the_promised_ones_in_any_order(made: Made) -> None:
    names = tuple(column.name for column in reversed(COLUMNS))
    check = Check("columns", "columnSet", arguments=(("columns", names),), origin=BUILT_IN)
    assert made.one(check).verdict is P
    made.run("alter table flights_v1 rename origin to origen")
    result = made.one(check)
    assert (result.verdict, result.rows) == (F, ("missing: origin", "not promised: origen"))
    made.run("drop table flights_v1")
    assert made.one(check).verdict is U


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("DECIMAL(9, 2)", P),
        ("numeric(9,2)", P),
        ("DECIMAL(10,2)", F),
        ("DOUBLE", F),
    ],
)
def test_types_are_compared_as_duckdb_means_them(made: Made, said: str, verdict: Verdict) -> None:
    check = Check("miles.type", "columnType", "miles", arguments=(("type", said),))
    result = made.one(check)
    assert result.verdict is verdict
    if verdict is F:
        assert result.rows[0].endswith("found DECIMAL(9,2)")


@pytest.mark.parametrize(
    ("column", "said"), [("at", "timestamp with time zone"), ("flight", "int"), ("tail", "text")]
)
def test_other_names_of_a_type_are_that_type(made: Made, column: str, said: str) -> None:
    assert made.one(Check("x.type", "columnType", column, arguments=(("type", said),))).verdict is P


def test_the_type_of_an_absent_column_is_unknown(made: Made) -> None:
    made.run("alter table flights_v1 drop miles")
    check = Check("miles.type", "columnType", "miles", arguments=(("type", "DOUBLE"),))
    assert made.one(check).verdict is U


OPERATORS = {
    "mustBe": ((5,), (4,)),
    "mustNotBe": ((4,), (5,)),
    "mustBeGreaterThan": ((4,), (5,)),
    "mustBeGreaterOrEqualTo": ((5,), (6,)),
    "mustBeLessThan": ((6,), (5,)),
    "mustBeLessOrEqualTo": ((5,), (4,)),
    "mustBeBetween": ((5, 9), (6, 9)),
    "mustNotBeBetween": ((6, 9), (1, 5)),
}


def test_every_operator_compares_the_row_count(made: Made) -> None:
    checks = {
        (operator, good): Check(f"{operator}-{good}", "rowCount", None, operator, limits)
        for operator, both in OPERATORS.items()
        for good, limits in zip((True, False), both, strict=True)
    }
    results = GreatExpectations().audit(made.stage, contract(*checks.values()), [DAY])[DAY]
    assert [r.verdict is P for r in results] == [good for _, good in checks]


def test_a_broken_connection_is_unknown(made: Made, tmp_path: Path) -> None:
    made.stage = replace(made.stage, path=tmp_path / "absent.duckdb")
    result = made.one(Check("rule", "nullValues", "origin"))
    assert result.verdict is U
    assert "absent.duckdb" in result.because


def test_an_error_keeps_the_secrets_of_its_connection(made: Made) -> None:
    attach = "attach 'postgres:host=127.0.0.1 port=1 user=u password=hush' as lake"
    result = made.one(Check("rule", "nullValues", "origin"), setup=[f"select error($${attach}$$)"])
    assert result.verdict is U
    assert "password=***" in result.because
    assert "hush" not in result.because


def test_names_of_columns_may_differ_in_case(made: Made) -> None:
    made.run("alter table flights_v1 rename origin to Origin")
    names = tuple(column.name for column in COLUMNS)
    check = Check("columns", "columnSet", arguments=(("columns", names),), origin=BUILT_IN)
    assert made.one(check).verdict is P
    assert made.one(Check("rule", "nullValues", "origin")).verdict is P


def test_a_table_that_was_never_built_is_unknown(made: Made) -> None:
    made.stage = replace(made.stage, outputs={})
    assert made.one(Check("rule", "nullValues", "origin")).verdict is U


def test_an_input_that_is_not_in_the_stage_is_unknown(made: Made) -> None:
    made.stage = replace(made.stage, inputs={})
    result = made.one(Check("rule", "foreignKey", "tail", arguments=REFERENCE))
    assert result.verdict is U
    assert "fleet.planes@1 is not in the stage" in result.because


def test_a_missing_column_makes_only_its_own_checks_unknown(made: Made) -> None:
    made.run("alter table flights_v1 drop origin")
    check = Check("one", "nullValues", "origin")
    other = Check("two", "nullValues", "tail")
    assert made.audit(check, other)[DAY].verdict is U
    assert made.audit(other, check)[DAY].verdict is P


def test_a_query_that_returns_no_number_is_unknown(made: Made) -> None:
    nothing = made.one(sql("select avg(miles) from {object} where miles < 0"))
    assert (nothing.verdict, nothing.because) == (U, "there was no number to compare")
    assert made.one(sql("select 'NaN'::double from {object} limit 1")).verdict is U
    many = made.one(sql("select miles from {object}"))
    assert many.verdict is U
    assert "More than one row" in many.because


def test_a_query_that_takes_too_long_is_unknown(made: Made) -> None:
    slow = (
        "select count(*) from {object}, range(100000000) a(x), range(100000) b(y) where x % 7 = y"
    )
    result = made.one(sql(slow), timeout=0.5)
    assert (result.verdict, result.because) == (U, "timed out after 0.5 s")


def test_an_audit_cannot_write_or_look_outside_the_stage(made: Made) -> None:
    before = made.path.read_bytes()
    outside = sql("select count(*) from {object}, fleet.planes")
    made.stage = replace(
        made.stage,
        inputs={PLANES: "read_text('/etc/hostname')"},  # type: ignore[dict-item]
    )
    assert made.one(outside).verdict is U
    assert made.path.read_bytes() == before


def test_the_views_of_inputs_may_stand_on_attached_databases(made: Made, tmp_path: Path) -> None:
    lake = tmp_path / "fleet.duckdb"
    with duckdb.connect(str(lake)) as connection:
        connection.execute("create table planes as select 'N' || i as tail from range(5) t(i)")
    attach = f"attach if not exists '{lake}' as fleet (read_only)"
    made.run(
        attach,
        "drop table up.fleet__planes_v1",
        "create view up.fleet__planes_v1 as select * from fleet.main.planes",
    )
    check = Check("rule", "foreignKey", "tail", arguments=REFERENCE)
    assert made.one(check).verdict is U
    assert made.one(check, setup=[attach]).verdict is P
    assert made.one(check, setup=lambda _: [attach]).verdict is P


def test_a_whole_table_is_one_partition(made: Made) -> None:
    whole = replace(
        contract(
            Check("rule", "duplicateValues", "flight"), Check("rows", "rowCount", threshold=(5,))
        ),
        grain=Grain.WHOLE,
        interval_column=None,
    )
    results = GreatExpectations().audit(made.stage, whole, [WHOLE])[WHOLE]
    assert [result.verdict for result in results] == [P, P]
    made.row(flight=1)
    results = GreatExpectations().audit(made.stage, whole, [WHOLE])[WHOLE]
    assert [result.verdict for result in results] == [F, F]


def test_a_date_in_the_zone_may_hold_the_interval(made: Made) -> None:
    dated = replace(contract(Check("interval", "interval", "seen")), interval_column="seen")
    march = within(Grain.DAY, ZONE, Span.days("2013-03-01", "2013-03-01", ZONE))
    assert GreatExpectations().audit(made.stage, dated, march)[march[0]][0].verdict is P
    made.row(seen=date(2013, 3, 2))
    result = GreatExpectations().audit(made.stage, dated, march)[march[0]][0]
    assert (result.verdict, result.count) == (F, 1)


def test_no_partition_is_no_result(made: Made) -> None:
    assert GreatExpectations().audit(made.stage, contract(), []) == {}


# The rows that a SQL rule counts

COUNTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "the rows themselves": (f"{COUNTING} and origin <> 'X'", ("miles=-1.00, origin=JFK",)),
    "by another name": ("select count(*) as n from {object} o where o.miles < 0", ("miles=-1.00",)),
    "by a number": ("select count(1) from {object} where miles < 0", ("miles=-1.00",)),
    "of a self-join": (
        (
            "select count(*) from {object} a join {object} b using (flight)"
            " where a.miles < 0 and b.tail = 'N1'"
        ),
        ("miles=-1.00, tail=N1",),
    ),
    "with a table that it joins": (
        (
            "select count(*) from {object} o left join fleet.planes p on p.tail = o.tail"
            " where p.tail is null"
        ),
        ("tail=N9",),
    ),
    "without a partner": (
        (
            "select count(*) from {object} o where not exists"
            " (select 1 from fleet.planes p where p.tail = o.tail)"
        ),
        ("tail=N9",),
    ),
    "of a table that it joins": (
        "select count(*) from fleet.planes p join {object} o on o.tail = p.tail where o.miles < 0",
        ("tail=N1, miles=-1.00",),
    ),
    "and a subquery": (
        "select count(*) from {object} where miles < (select min(0) from {object} x)",
        ("miles=-1.00",),
    ),
    "of a condition with or": (
        "select count(*) from {object} where miles < 0 or origin is null",
        ("miles=-1.00, origin=JFK",),
    ),
    "where the table has no row": (
        (
            "select count(*) from fleet.planes p left join (select 1 as one) x on false"
            " left join {object} o on o.tail = p.tail and o.miles > 99 where o.tail is null"
        ),
        (),
    ),
    "in groups": (
        "select max(n) from (select count(*) as n from {object} where miles < 0 group by origin) g",
        (),
    ),
    "that differ": ("select count(distinct flight) from {object} where miles < 0", ()),
    "by a filter": ("select count(*) filter (miles < 0) from {object}", ()),
    "in a subquery": ("select count(*) from (select * from {object} where miles < 0) x", ()),
    "by a sum": ("select sum((miles < 0)::int) from {object}", ()),
    "by a common table": (
        "with a as (select * from {object}) select count(*) from {object} where miles < 0",
        (),
    ),
    "under other names": ("select count(*) from {object} o(a, b, c, d, e) where e < 0", ()),
}


@pytest.mark.parametrize("case", COUNTED, ids=str)
def test_a_failing_count_names_the_rows_that_it_counted(case: str, made: Made) -> None:
    query, shown = COUNTED[case]
    reads = (("reads", ("fleet.planes@1",)),)
    check = Check("rule", "sql", arguments=(("query", query), *reads))
    made.row(flight=70, miles=-1)
    made.row(flight=71, tail="N9")
    result = made.one(check)
    assert result.verdict is F, result
    assert len(result.rows) == len(shown)
    for row, part in zip(result.rows, shown, strict=True):
        assert row in (f"flight=70, {part}", f"flight=71, {part}")
    assert result.count == (int(result.observed) if shown or "planes" in query else 0)


def test_at_most_five_counted_rows_are_shown_and_all_are_counted(made: Made) -> None:
    made.rows({"flight": 80 + n, "miles": -n} for n in range(1, 9))
    result = made.one(sql(COUNTING))
    assert (result.verdict, result.observed, result.count) == (F, "8", 8)
    assert result.rows == tuple(f"flight={80 + n}, miles=-{n}.00" for n in range(1, 6))


def test_a_count_that_is_too_low_shows_no_row_for_none_offends(made: Made) -> None:
    rare = sql("select count(*) from {object} where miles > 0", "mustBeGreaterThan", 9)
    assert (made.one(rare).verdict, made.one(rare).rows) == (F, ())
    exact = sql("select count(*) from {object} where miles > 0", "mustBeBetween", 1, 4)
    assert len(made.one(exact).rows) == 5


def test_a_counted_row_is_found_by_its_key_and_its_line_before_all_else(tmp_path: Path) -> None:
    named = ("carrier", "day", "source_file", "source_line", "a", "b", "c", "d", "e", "f")
    table = replace(
        contract(sql("select count(*) from {object} where f + e + d + c + b + a > 0")),
        grain=Grain.WHOLE,
        interval_column=None,
        columns=tuple(
            Column(name, "INTEGER", key_position=n if n < 2 else None)
            for n, name in enumerate(named)
        ),
    )
    made = Made(tmp_path / "stage.duckdb", fresh=False)
    columns = ", ".join(f"{n} as {name}" for n, name in enumerate(named))
    made.run(f"create table flights_v1 as select {columns}")
    (result,) = GreatExpectations().audit(made.stage, table, [WHOLE])[WHOLE]
    assert result.rows == ("carrier=0, day=1, source_file=2, source_line=3, f=9, e=8, d=7, c=6",)


def test_rows_that_cannot_be_shown_leave_the_verdict_as_it_is(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.row(miles=-1)
    monkeypatch.setattr("levada.adapters.gx.measures._text", lambda *_: "error('no text')")
    result = made.one(sql(COUNTING))
    assert (result.verdict, result.observed, result.count, result.rows) == (F, "1", 1, ())


# Many partitions at once


@pytest.fixture(scope="module")
def good_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty good days, one of them of 23 hours."""
    assert len(DAYS) == 50
    return Made(tmp_path_factory.mktemp("stage") / "stage.duckdb", DAYS).path


def planted(good: Path, into: Path, bad: dict[str, Any]) -> Made:
    """The good days with one bad row in the 7th and in the 31st of them."""
    shutil.copy(good, into)
    made = Made(into, DAYS, fresh=False)
    for number in (7, 31):
        flight = bad.get("flight", 900)
        own = None if flight is None else flight + number * 5
        made.row(**{**bad, "flight": own, "at": DAYS[number].begin + timedelta(hours=3)})
    return made


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("interval")])
def test_exactly_the_bad_partitions_of_a_batch_fail(
    case: str, good_days: Path, tmp_path: Path
) -> None:
    check, bad, shown = CASES[case]
    found = planted(good_days, tmp_path / "stage.duckdb", bad).audit(check)
    failing = {day: result for day, result in found.items() if result.verdict is F}
    assert set(failing) == {DAYS[7], DAYS[31]}
    assert {result.verdict for result in found.values()} == {P, F}
    assert all(result.count == (1 if shown else 0) for result in failing.values())
    assert all(len(result.rows) == (1 if shown else 0) for result in failing.values())


BATCH: dict[str, Callable[[], Check]] = {
    "rows": lambda: Check("rule", "rowCount", None, "mustBe", (5,)),
    "percent": lambda: Check("rule", "nullValues", "origin", "mustBeLessThan", (10,), "percent"),
    "query": lambda: sql("select min(miles) from {object}", "mustBeGreaterThan", 0),
    "nested query": lambda: sql(
        "with a as (select tail, count(*) as n from {object} group by tail)"
        " select count(*) from a join {object} o using (tail) where o.miles < 0"
    ),
}


@pytest.mark.parametrize("named", BATCH)
def test_what_does_not_decompose_is_decided_for_each_partition(
    named: str, good_days: Path, tmp_path: Path
) -> None:
    bad = {"origin": None, "miles": -1}
    found = planted(good_days, tmp_path / "stage.duckdb", bad).audit(BATCH[named]())
    assert {day for day, r in found.items() if r.verdict is F} == {DAYS[7], DAYS[31]}
    assert {r.verdict for r in found.values()} == {P, F}


def test_a_partition_without_rows_counts_none(tmp_path: Path) -> None:
    made = Made(tmp_path / "stage.duckdb", DAYS[:3])
    made.days = DAYS[:4]
    empty = DAYS[3]
    none_wanted = Check("rule", "rowCount", None, "mustBeGreaterThan", (0,))
    few = Check("few", "rowCount", None, "mustBeBetween", (0, 5))
    share = Check("share", "nullValues", "origin", "mustBeLessThan", (1,), "percent")
    assert {d for d, r in made.audit(none_wanted, few).items() if r.verdict is F} == {empty}
    assert made.audit(none_wanted)[empty].observed == "0"
    assert {r.verdict for r in made.audit(few).values()} == {P}
    assert {r.verdict for r in made.audit(share).values()} == {P}
    count = sql("select count(*) from {object}", "mustBeGreaterThan", 0)
    assert {d for d, r in made.audit(count).items() if r.verdict is F} == {empty}
    average = made.audit(sql("select avg(miles) from {object}", "mustBe", 10))
    assert [average[day].verdict for day in DAYS[:4]] == [P, P, P, U]
    made.days = (empty,)
    assert made.one(Check("rule", "nullValues", "origin")).verdict is P


def test_a_value_may_repeat_in_another_partition(tmp_path: Path) -> None:
    made = Made(tmp_path / "stage.duckdb", DAYS[:2])
    made.row(flight=1, at=DAYS[1].begin)
    for check in (CASES["unique"][0], CASES["primary key"][0]):
        assert {r.verdict for r in made.audit(check).values()} == {P}


def test_a_row_of_no_partition_fails_every_partition_of_the_batch(tmp_path: Path) -> None:
    made = Made(tmp_path / "stage.duckdb", DAYS[:3])
    made.row(at=DAYS[9].begin)
    assert {r.verdict for r in made.audit(CASES["interval"][0]).values()} == {F}


def test_an_error_in_one_partition_leaves_the_others_their_verdicts(tmp_path: Path) -> None:
    made = Made(tmp_path / "stage.duckdb", DAYS[:8])
    made.row(at=DAYS[5].begin, tail="Nine")
    check = sql("select max(cast(substr(tail, 2) as integer)) from {object}", "mustBeLessThan", 5)
    found = made.audit(check)
    assert [found[day].verdict for day in DAYS[:8]] == [P, P, P, P, P, U, P, P]
    assert "Could not convert string 'ine'" in found[DAYS[5]].because


def test_every_failing_partition_of_a_large_batch_is_named(tmp_path: Path) -> None:
    hours = within(Grain.HOUR, "UTC", Span.days("2013-01-01", "2013-03-08", "UTC"))
    assert len(hours) == 1608
    path = tmp_path / "stage.duckdb"
    made = Made(path, ())
    made.run(
        "insert into flights_v1 select i, '2013-01-01'::timestamptz + i * interval 20 minute,"
        " 'N1', case when i < 900 then null else 'JFK' end, 1, null, null from range(4824) t(i)"
    )
    hourly = replace(
        contract(
            Check("origin.required", "nullValues", "origin"),
            Check("rows", "rowCount", None, "mustBe", (3,)),
            Check("flight.required", "nullValues", "flight"),
            Check("interval", "interval", "at"),
            *(Check(f"rule{n}", "nullValues", "tail") for n in range(5)),
        ),
        grain=Grain.HOUR,
        zone="UTC",
    )
    found = GreatExpectations().audit(made.stage, hourly, hours)
    failing = [hour for hour, results in found.items() if results[0].verdict is F]
    assert failing == list(hours[:300])
    assert {r.verdict for results in found.values() for r in results[1:]} == {P}
