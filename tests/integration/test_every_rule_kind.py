"""
Every kind of rule between tables: what agrees passes, one planted row fails and is named, and
tables that cannot be read are UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from levada.adapters.gx import batches, judging
from levada.adapters.gx.batches import RuleSession, rule_session
from levada.consistency import statement
from levada.terms import (
    ConsistencyRule,
    RuleKind,
    RuleResult,
    Severity,
    Side,
    TableRef,
    Tolerance,
    Verdict,
)

pytestmark = pytest.mark.integration

END = datetime(2013, 3, 2, tzinfo=UTC)
A, B, C = (TableRef("ops", name) for name in "abc")
ID, G = (("id", "id"),), (("g", "g"),)
SUM, COUNT, VALUE = (("v", "sum(v)"),), (("n", "count(*)"),), (("v", "v"),)
TAKEN = (("v", "v"), ("taken", "tm"))
MOVED = (("amount", "v"), ("effective", "tm"), ("recorded", "tm"), ("reversed", "back"))

RULES: dict[RuleKind, tuple[tuple[Side, ...], dict[str, Any], str]] = {
    # sides and what else a rule says, and the row that breaks it: table, id, g, v, tm
    RuleKind.TOTALS: ((Side(A, G, SUM), Side(B, G, SUM)), {}, "b 3 x 1 12:00"),
    RuleKind.ROLLUP: ((Side(A, G, SUM), Side(B, G, SUM)), {}, "b 3 x 1 12:00"),
    RuleKind.RATIO: ((Side(A, G), Side(B, G)), {"bounds": (1, 1)}, "a 3 x 0 12:00"),
    RuleKind.KEYS: ((Side(A, ID), Side(B, ID)), {}, "b 3 x 0 12:00"),
    RuleKind.ROWS: ((Side(A, ID, VALUE), Side(B, ID, VALUE)), {}, "b 3 x 0 12:00"),
    RuleKind.DUPLICATES: ((Side(A, ID),), {}, "a 1 x 0 12:00"),
    RuleKind.REFERENCES: ((Side(A, ID), Side(B, ID)), {"share": 1}, "a 3 x 0 12:00"),
    RuleKind.FRESHNESS: (
        (Side(A, G, (("newest", "max(tm)"),)),),
        {"within": timedelta(hours=13)},
        "a 3 z 0 10:00",
    ),
    RuleKind.WEEKDAY: (
        (Side(A, G, COUNT),),
        {"weeks": 1, "tolerance": {"": Tolerance(Decimal("0.5"))}},
        "a 3 x 0 12:00",
    ),
    RuleKind.BALANCES: (
        (Side(A, ID, TAKEN), Side(B, ID, VALUE), Side(C, ID, MOVED)),
        {},
        "c 1 x 5 13:00",
    ),
    RuleKind.SQL: (
        (),
        {"query": "select id from {ops.a@1} where g || v = 'x9'", "key": ("id",)},
        "a 3 x 9 12:00",
    ),
}


def asked(kind: RuleKind) -> ConsistencyRule:
    sides, more, _ = RULES[kind]
    said = ("r", "b", kind, sides, Severity.ADVISORY, "ops", "", "", 0, "")
    return ConsistencyRule(*said, **more)


def test_every_kind_of_rule_is_here() -> None:
    assert set(RULES) == set(RuleKind)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Tables that agree, on a disk: `a`, its week before, `b`, and no movements."""
    path = tmp_path / "lake.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("set TimeZone = 'UTC'")
        for name in ("a", "a_1", "b", "c"):
            connection.execute(
                f"create table {name} (id integer, g varchar, v integer, tm timestamptz,"
                " back timestamptz)"
            )
        for name in ("a", "a_1", "b"):
            connection.execute(
                f"insert into {name} select i, 'x', i, '2013-03-01 12:00:00+00', null"
                " from range(1, 3) t(i)"
            )
    return path


def plant(lake: Path, row: str) -> None:
    table, key, group, value, hour = row.split()
    with duckdb.connect(str(lake)) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(
            f"insert into {table} values (?, ?, ?, ?, null)",
            [int(key), group, int(value), f"2013-03-01 {hour}:00+00"],
        )


@contextmanager
def session(lake: Path) -> Iterator[RuleSession]:
    with rule_session([f"attach '{lake}' as lake (read_only)"]) as opened:
        yield opened


def judge(opened: RuleSession, kind: RuleKind) -> RuleResult:
    rule = asked(kind)
    names = {(table, week): f"lake.{table.name}" for table in (A, B, C) for week in (0,)}
    names[A, 1] = "lake.a_1"
    made = statement(rule, lambda table, week: names[table, week], END, (1,))
    (result,) = opened.judge({}, [(rule, made)])
    return result


@pytest.mark.parametrize("kind", RuleKind, ids=lambda kind: kind.value)
def test_what_agrees_passes_and_one_planted_row_fails_by_its_key(
    kind: RuleKind, lake: Path
) -> None:
    with session(lake) as opened:
        assert judge(opened, kind).verdict is Verdict.PASS
    row = RULES[kind][2]
    plant(lake, row)
    with session(lake) as opened:
        result = judge(opened, kind)
    assert result.verdict is Verdict.FAIL, result
    (offence,) = result.offences
    _, key, group, *_ = row.split()
    assert offence.key in (f'{{"id":"{key}"}}', f'{{"g":"{group}"}}')


def _dies_before(opened: RuleSession, _: pytest.MonkeyPatch) -> None:
    opened._connection.close()


def _dies_while_great_expectations_asks(opened: RuleSession, patch: pytest.MonkeyPatch) -> None:
    really = judging.validate

    def dying(connection: Any, *rest: Any) -> dict[str, Any]:
        connection.close()
        return really(connection, *rest)

    patch.setattr(batches, "validate", dying)


@pytest.mark.parametrize("kind", RuleKind, ids=lambda kind: kind.value)
@pytest.mark.parametrize("breaks", [_dies_before, _dies_while_great_expectations_asks])
def test_a_connection_that_dies_is_unknown(
    breaks: Callable[[RuleSession, pytest.MonkeyPatch], None],
    kind: RuleKind,
    lake: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with session(lake) as opened:
        breaks(opened, monkeypatch)
        result = judge(opened, kind)
    assert (result.verdict, result.broke) == (Verdict.UNKNOWN, True)
    assert result.because


@pytest.mark.parametrize("kind", RuleKind, ids=lambda kind: kind.value)
def test_tables_whose_rows_cannot_be_read_are_unknown(kind: RuleKind, lake: Path) -> None:
    whole = lake.read_bytes()
    lake.write_bytes(whole[: len(whole) // 2])
    with session(lake) as opened:
        result = judge(opened, kind)
    assert (result.verdict, result.broke) == (Verdict.UNKNOWN, True)
    assert "Could not read enough bytes" in result.because
