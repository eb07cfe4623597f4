"""
Every check that is executed, in one table: good rows pass, one bad row fails by name, and a stage
that is gone or a connection that dies is UNKNOWN.

All stand in one contract, as its author would write it. Each case has a partition of its own, with
its bad row in it; so each must fail there, name the row, and pass everywhere else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from contract_files import write

from levada.adapters import gx, odcs
from levada.adapters.gx import GreatExpectations, judging
from levada.adapters.odcs import checks as written
from levada.adapters.odcs import values as inside
from levada.audit import FORMATS, METRICS
from levada.ports import Relation, Stage
from levada.terms import CheckResult, Contract, Grain, Partition, TableRef, Verdict

pytestmark = pytest.mark.integration

Found = Mapping[Partition, Sequence[CheckResult]]
Row = dict[str, str]

FIRST = datetime(2013, 1, 1, tzinfo=UTC)
FUTURE = Partition(Grain.DAY, datetime(2999, 1, 1, tzinfo=UTC))
"""A day that no calendar has reached: it cannot be late."""
PLANES = TableRef("fleet", "planes")
HUGE = f"{2**127}::uhugeint"
"""One more than the largest whole number of 128 bits with a sign."""

VALUES: dict[str, tuple[str, str, object, str, str]] = {
    # an option, and of a value: logical and physical type, the option's, a good one, a bad one
    "exclusiveMaximum": ("integer", "INTEGER", 9, "8", "9"),
    "exclusiveMinimum": ("integer", "INTEGER", 0, "1", "0"),
    "maxItems": ("array", "INTEGER[]", 2, "[1, 2]", "[1, 2, 3]"),
    "maxLength": ("string", "VARCHAR", 3, "'abc'", "'abcd'"),
    "maximum": ("integer", "INTEGER", 9, "9", "10"),
    "minItems": ("array", "INTEGER[]", 2, "[1, 2]", "[1]"),
    "minLength": ("string", "VARCHAR", 3, "'abc'", "'ab'"),
    "minimum": ("integer", "INTEGER", 0, "0", "-1"),
    "multipleOf": ("integer", "INTEGER", 5, "10", "12"),
    "normalized": ("vector", "FLOAT[2]", True, "[0.6, 0.8]::float[2]", "[1, 1]::float[2]"),
    "pattern": ("string", "VARCHAR", "^N[0-9]+$", "'N1'", "'n:1'"),
    "uniqueItems": ("array", "INTEGER[]", True, "[1, 2]", "[1, 1]"),
    "format email": ("string", "VARCHAR", "email", "'a@b.example'", "'nobody'"),
    "format hostname": ("string", "VARCHAR", "hostname", "'a-1.example'", "'-a.example'"),
    "format ipv4": ("string", "VARCHAR", "ipv4", "'10.0.255.1'", "'10.0.256.1'"),
    "format uri": ("string", "VARCHAR", "uri", "'urn:isbn:1'", "'no uri'"),
    "format uuid": ("string", "VARCHAR", "uuid", f"'{'0' * 8}-0000-4000-8000-{'a' * 12}'", "'0'"),
    "format i8": ("integer", "HUGEINT", "i8", "-128", "128"),
    "format i16": ("integer", "HUGEINT", "i16", "-32768", "32768"),
    "format i32": ("integer", "HUGEINT", "i32", f"{-(2**31)}", f"{2**31}"),
    "format i64": ("integer", "HUGEINT", "i64", f"{-(2**63)}", f"{2**63}"),
    "format i128": ("integer", "UHUGEINT", "i128", f"{2**127 - 1}::uhugeint", HUGE),
    "format u8": ("integer", "HUGEINT", "u8", "255", "256"),
    "format u16": ("integer", "HUGEINT", "u16", "65535", "65536"),
    "format u32": ("integer", "HUGEINT", "u32", f"{2**32 - 1}", f"{2**32}"),
    "format u64": ("integer", "HUGEINT", "u64", f"{2**64 - 1}", f"{2**64}"),
    "format u128": ("integer", "HUGEINT", "u128", "0", "-1"),
    "validValues": ("string", "VARCHAR", "a", "'a'", "'c'"),
    "nullValues": ("string", "VARCHAR", True, "'a'", "NULL"),
}


@dataclass(frozen=True)
class Case:
    """A check, and the rows of a partition that break it: `{}` is a good one."""

    check: str
    rows: tuple[Row, ...]
    shown: bool = True
    """Whether the row that breaks it is named: others count or compute a number."""
    good: str = ""
    property: dict[str, Any] = field(default_factory=dict)


def _words(option: str, value: object) -> dict[str, Any]:
    """What is written of a value that an option is about."""
    match option.split():
        case ["nullValues"]:
            return {"required": True}
        case ["validValues"]:
            return {"enum": [{"value": value}, {"value": "b"}]}
        case ["format", _]:
            return {"logicalTypeOptions": {"format": value}}
        case ["normalized"]:
            return {"logicalTypeOptions": {"dimensions": 2, option: value}}
        case _:
            return {"logicalTypeOptions": {option: value}}


def _of_values() -> Iterator[tuple[str, Case]]:
    """Each option of a column, of a field of a STRUCT and of the items of a list."""
    ids = {"nullValues": "required", "validValues": "enum"}
    for option, (logical, kind, value, good, bad) in VALUES.items():
        name, word = option.replace(" ", "_").lower(), ids.get(option, option.split()[0])
        told = {"logicalType": logical, **_words(option, value)}
        plain = {"name": name, "physicalType": kind, **told}
        yield option, Case(f"{name}.{word}", ({}, {name: bad}), good=good, property=plain)
        struct = {
            "name": f"{name}_struct",
            "logicalType": "object",
            "physicalType": f"STRUCT(v {kind})",
            "properties": [{"name": "v", **told}],
        }
        rows: tuple[Row, ...] = ({}, {f"{name}_struct": f"{{'v': {bad}}}"})
        held = f"{{'v': {good}}}"
        yield (
            f"{option} in a STRUCT",
            Case(f"{name}_struct.v.{word}", rows, good=held, property=struct),
        )
        listed = {
            "name": f"{name}_list",
            "logicalType": "array",
            "physicalType": f"{kind}[]",
            "items": told,
        }
        rows = ({}, {f"{name}_list": f"[{good}, {bad}]"})
        yield (
            f"{option} in a list",
            Case(f"{name}_list.items.{word}", rows, good=f"[{good}, {good}]", property=listed),
        )


ROWS: dict[str, Case] = {
    **dict(_of_values()),
    "duplicateValues": Case("code.unique", ({"code": "1"}, {"code": "1"})),
    "primaryKey": Case("primary_key", ({"id": "7"}, {"id": "7"})),
    "missingValues": Case("told", ({}, {"origin": "'NA'"})),
    "foreignKey": Case("tail.references", ({}, {"tail": "'N9'"})),
    "rowCount": Case("few", ({}, {}, {}), shown=False),
    "sql": Case("whole", ({}, {"origin": "'broken'"})),
    "freshness": Case("sla.fresh", ({"at": "early"},), shown=False),
}
"""What one row of a partition breaks."""
OF_THE_TABLE: dict[str, tuple[str, str]] = {
    "columnSet": ("columns", "alter table flights_v1 add column wingspan integer"),
    "columnType": ("origin.type", "alter table flights_v1 alter origin type blob"),
    "interval": (
        "interval",
        "insert into flights_v1 by name select timestamptz '2012-01-01 00:00:00+00' as at",
    ),
}
"""A check, and a change of the table that breaks it: all partitions share the finding."""
LATENCY = "sla.late"
CASES = (*ROWS, *OF_THE_TABLE, "latency")


def executed() -> set[str]:
    """All that an audit executes: metrics, and what is asked of values, at any depth."""
    options = {*inside._OPTIONS, *written._ARGUMENTS["invalidValues"]}
    values = {"nullValues", *options, *(f"format {name}" for name in FORMATS)}
    places = ("", " in a STRUCT", " in a list")
    return {*METRICS, *(value + place for value in values for place in places)} - {"invalidValues"}


def test_the_table_has_a_case_for_all_that_is_executed() -> None:
    assert set(CASES) == executed()


PLAIN = [
    {"name": "id", "physicalType": "BIGINT", "primaryKey": True},
    {"name": "at", "physicalType": "TIMESTAMPTZ", "required": True},
    {"name": "code", "physicalType": "BIGINT", "unique": True},
    {
        "name": "tail",
        "physicalType": "VARCHAR",
        "relationships": [{"to": "fleet.planes.tail"}],
    },
    {
        "name": "origin",
        "physicalType": "VARCHAR",
        "quality": [
            {
                "id": "told",
                "metric": "missingValues",
                "mustBe": 0,
                "arguments": {"missingValues": ["NA"]},
            }
        ],
    },
]
BROKEN = "select count(*) from {object} where origin = 'broken'"


def contract_in(root: Path) -> Contract:
    said = {
        "apiVersion": "v3.2.0",
        "kind": "DataContract",
        "id": "operations.flights",
        "version": "1.0.0",
        "status": "active",
        "domain": "operations",
        "description": {"purpose": "Every check there is."},
        "team": {"name": "operations-data"},
        "slaProperties": [
            {"id": "fresh", "property": "freshness", "value": 6, "unit": "h"},
            {
                "id": "late",
                "property": "latency",
                "value": 6,
                "unit": "h",
                "customProperties": [{"property": "severity", "value": "warning"}],
            },
        ],
        "schema": [
            {
                "name": "flights",
                "customProperties": [
                    {"property": "grain", "value": "day"},
                    {"property": "zone", "value": "UTC"},
                    {"property": "intervalColumn", "value": "at"},
                ],
                "quality": [
                    {"id": "few", "metric": "rowCount", "mustBeLessThan": 3},
                    {"id": "whole", "type": "sql", "mustBe": 0, "query": BROKEN},
                ],
                "properties": [*PLAIN, *(case.property for case in ROWS.values() if case.property)],
            }
        ],
    }
    path = write(root, json.dumps(said))
    found, faults = odcs.read_contract(path, root)
    assert faults == ()
    assert found is not None
    return found


@dataclass
class Field:
    """A contract with every check, and a stage in which each case has broken its own partition."""

    root: Path
    contract: Contract
    days: tuple[Partition, ...]
    named: dict[str, str]
    """The bad row of each case, by its key."""

    @property
    def path(self) -> Path:
        return self.root / "stage.duckdb"

    def stage(self, path: Path | None = None) -> Stage:
        here = Relation("stage", "main", "flights_v1")
        planes = Relation("stage", "main", "planes")
        return Stage("run", path or self.path, {self.contract.table: here}, {PLANES: planes})

    def day(self, case: str) -> Partition:
        return self.days[list(ROWS).index(case)]

    def only(self, metric: str) -> Contract:
        """One check alone, of a metric."""
        check = next(check for check in self.contract.checks if check.metric == metric)
        return replace(self.contract, checks=(check,))

    def audit(self, days: Sequence[Partition], path: Path | None = None) -> Found:
        return GreatExpectations().audit(self.stage(path), self.contract, days)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Field:
    root = tmp_path_factory.mktemp("every")
    contract = contract_in(root)
    days = (*(Partition(Grain.DAY, FIRST + timedelta(days=n)) for n in range(len(ROWS))), FUTURE)
    good: Row = {"tail": "'N1'", "origin": "'JFK'"}
    good |= {str(case.property["name"]): case.good for case in ROWS.values() if case.property}
    number, named, statements = 100, {}, []
    for case, day in (*((case, day) for case, day in zip(ROWS, days, strict=False)), ("", FUTURE)):
        for row in ROWS[case].rows if case else ({},):
            number += 1
            hour = 1 if row.get("at") else 20
            at = f"timestamptz '{day.begin + timedelta(hours=hour):%Y-%m-%d %H:%M:%S}+00'"
            values = {"id": f"{number}", "code": f"{number}", **good, **row, "at": at}
            chosen = ", ".join(f'{value} as "{name}"' for name, value in values.items())
            statements.append(f"select {chosen}")
            named[case] = (
                f"code={values['code']}" if case == "duplicateValues" else f"id={values['id']}"
            )
    columns = ", ".join(f'"{column.name}" {column.type}' for column in contract.columns)
    with duckdb.connect(str(root / "stage.duckdb")) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute("create table planes as select 'N1' as tail")
        connection.execute(f"create table flights_v1 ({columns})")
        for statement in statements:
            connection.execute(f"insert into flights_v1 by name {statement}")
    return Field(root, contract, days, named)


@pytest.fixture(scope="module")
def found(made: Field) -> Found:
    return made.audit(made.days)


def of(found: Found, check: str) -> dict[Partition, CheckResult]:
    return {day: next(r for r in results if r.check.id == check) for day, results in found.items()}


@pytest.mark.parametrize("case", ROWS)
def test_one_bad_row_fails_by_name_and_good_ones_pass(case: str, made: Field, found: Found) -> None:
    told = of(found, ROWS[case].check)
    bad = told.pop(made.day(case))
    assert {result.verdict for result in told.values()} == {Verdict.PASS}
    assert bad.verdict is Verdict.FAIL
    assert bad.observed
    if ROWS[case].shown:
        assert bad.count == 1
        (row,) = bad.rows
        assert made.named[case] in row.replace(" (2 times)", "").split(", ")
    else:
        assert bad.rows == ()


def test_nothing_is_unknown_and_no_check_is_left_out(made: Field, found: Found) -> None:
    results = [result for day in made.days for result in found[day]]
    assert len(results) == len(made.days) * len(made.contract.checks)
    assert not [result for result in results if result.verdict is Verdict.UNKNOWN]
    asked = {case.check for case in ROWS.values()} | {name for name, _ in OF_THE_TABLE.values()}
    others = {c.id for c in made.contract.checks if c.id not in {*asked, LATENCY}}
    assert {name.rpartition(".")[2] for name in others} == {"required", "type"}, "of another column"


def test_what_is_late_fails_and_what_cannot_be_late_yet_passes(found: Found) -> None:
    told = of(found, LATENCY)
    assert told.pop(FUTURE).verdict is Verdict.PASS
    assert {result.verdict for result in told.values()} == {Verdict.FAIL}
    first = told[Partition(Grain.DAY, FIRST)]
    assert float(first.observed) > 24 * 365 * 10
    assert "must be less or equal to 6 hours" in first.because


@pytest.mark.parametrize("case", OF_THE_TABLE)
def test_a_table_of_another_shape_fails_in_all_its_partitions(
    case: str, made: Field, found: Found, tmp_path: Path
) -> None:
    check, change = OF_THE_TABLE[case]
    assert {result.verdict for result in of(found, check).values()} == {Verdict.PASS}
    path = tmp_path / "stage.duckdb"
    path.write_bytes(made.path.read_bytes())
    with duckdb.connect(str(path)) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(change)
    only = replace(made.contract, checks=tuple(c for c in made.contract.checks if c.id == check))
    told = of(GreatExpectations().audit(made.stage(path), only, made.days), check)
    assert {result.verdict for result in told.values()} == {Verdict.FAIL}
    (row,) = told[FUTURE].rows
    shown = {"columnSet": "wingspan", "columnType": "found BLOB", "interval": "at=2012-01-01"}
    assert shown[case] in row


# Databases that break


NO_ROWS = ("columnSet", "columnType", "latency")
"""What is told of a stage whose rows nobody can read."""


def _gone(path: Path) -> None:
    path.unlink()


def _overwritten(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: 3 * 4096] + bytes(len(whole) - 3 * 4096))


@pytest.mark.parametrize("breaks", [_gone, _overwritten], ids=lambda breaks: breaks.__name__)
def test_a_stage_that_cannot_be_opened_makes_every_check_unknown(
    breaks: Callable[[Path], None], made: Field
) -> None:
    path = made.root / f"{breaks.__name__}.duckdb"
    path.write_bytes(made.path.read_bytes())
    breaks(path)
    _all_unknown(made, made.days, made.audit(made.days, path))


@pytest.mark.parametrize("metric", METRICS)
def test_a_stage_of_which_half_is_lost_makes_checks_of_rows_unknown(
    metric: str, made: Field
) -> None:
    path = made.root / "half.duckdb"
    path.write_bytes(made.path.read_bytes()[: made.path.stat().st_size // 2])
    (result,) = GreatExpectations().audit(made.stage(path), made.only(metric), [FUTURE])[FUTURE]
    told = metric in NO_ROWS
    assert result.verdict is (Verdict.PASS if told else Verdict.UNKNOWN)
    assert told or "Could not read enough bytes" in result.because


def _all_unknown(made: Field, days: Sequence[Partition], found: Found) -> None:
    assert set(found) == set(days)
    for results in found.values():
        assert len(results) == len(made.contract.checks)
        for result in results:
            assert result.verdict is Verdict.UNKNOWN, result.check.id
            assert result.because


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection to the stage dies when Great Expectations is about to ask."""
    asked = judging.validate

    def dying(connection: Any, *rest: Any) -> dict[str, Any]:
        connection.close()
        return asked(connection, *rest)

    monkeypatch.setattr(gx, "validate", dying)


@pytest.mark.usefixtures("dying")
def test_a_connection_that_dies_makes_every_check_unknown(made: Field) -> None:
    _all_unknown(made, [FUTURE], made.audit([FUTURE]))


@pytest.mark.usefixtures("dying")
@pytest.mark.parametrize("metric", METRICS)
def test_an_error_that_great_expectations_meets_itself_is_unknown(metric: str, made: Field) -> None:
    (told,) = GreatExpectations().audit(made.stage(), made.only(metric), [FUTURE])[FUTURE]
    assert told.verdict is Verdict.UNKNOWN
    assert "closed" in told.because.lower()
