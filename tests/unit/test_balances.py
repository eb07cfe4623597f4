"""Balances as of midnight, by the macro and by the rule, against one who books every movement."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import levada
from levada.consistency import quoted, statement
from levada.terms import ConsistencyRule, RuleKind, Severity, Side, TableRef

MIDNIGHT = datetime(2013, 3, 2, tzinfo=UTC)
TAKEN = MIDNIGHT + timedelta(minutes=7)
MACRO = Path(levada.__file__).parent / "adapters" / "dbt" / "macros" / "balances_at.sql"
SNAPSHOT, TOLD, MOVEMENTS = (TableRef("bank", n) for n in ("snapshot", "balances", "movements"))
ACCOUNTS = ("a", "b", "c")


@dataclass(frozen=True)
class Movement:
    """Minutes count from midnight."""

    account: str
    amount: int
    effective: int
    recorded: int
    reversed: int | None

    @property
    def row(self) -> tuple[Any, ...]:
        back = None if self.reversed is None else _at(self.reversed)
        return self.account, self.amount, _at(self.effective), _at(self.recorded), back


def _at(minutes: int) -> datetime:
    return MIDNIGHT + timedelta(minutes=minutes)


MINUTES = st.integers(-20, 20)
MOVED = st.builds(
    lambda account, amount, effective, recorded, back: Movement(
        account, amount, effective, recorded, None if back is None else recorded + back
    ),
    *(st.sampled_from(ACCOUNTS), st.integers(-100, 100), MINUTES, MINUTES),
    st.none() | st.integers(0, 30),
)


def booked(movements: Sequence[Movement], *, taken: int) -> dict[str, int]:
    """What the source's own snapshot shows: all that is recorded, and not reversed, by then."""
    found: dict[str, int] = {}
    for m in movements:
        if m.recorded <= taken:
            found[m.account] = found.get(m.account, 0) + m.amount
        if m.reversed is not None and m.reversed <= taken and m.recorded <= taken:
            found[m.account] -= m.amount
    return found


def truly(movements: Sequence[Movement]) -> dict[str, int]:
    """The balances at midnight, as all know them in the end."""
    found: dict[str, int] = {}
    for m in movements:
        if m.effective < 0:
            found[m.account] = found.get(m.account, 0) + m.amount
        if m.effective < 0 and m.reversed is not None:
            found[m.account] -= m.amount  # it never was
    return found


def bank(movements: Sequence[Any], shown: Sequence[Any]) -> duckdb.DuckDBPyConnection:
    db = duckdb.connect()
    db.execute("set TimeZone = 'UTC'")
    db.execute("create table snapshot (account varchar, balance integer, taken_at timestamptz)")
    db.execute(
        "create table movements (account varchar, amount integer, effective_at timestamptz,"
        " recorded_at timestamptz, reversed_at timestamptz)"
    )
    db.execute("create table told (account varchar, balance integer)")
    for table, rows in (("snapshot", shown), ("movements", movements)):
        for row in rows:
            db.execute(f"insert into {table} values ({', '.join('?' * len(row))})", list(row))
    return db


def by_macro(db: duckdb.DuckDBPyConnection) -> dict[str, int]:
    template: Any = jinja2.Environment().from_string(MACRO.read_text())  # noqa: S701 - no HTML
    macro = template.module.balances_at
    at = f"timestamptz '{MIDNIGHT.isoformat()}'"
    sql = macro(at, "snapshot", "movements", ["account"], reversed="reversed_at")
    return {account: int(balance) for account, balance in db.execute(str(sql)).fetchall()}


def by_rule(db: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    key = (("account", "account"),)
    sides = (
        Side(SNAPSHOT, key, (("balance", "balance"), ("taken", "taken_at"))),
        Side(TOLD, key, (("balance", "balance"),)),
        Side(
            *(MOVEMENTS, key),
            (
                *(("amount", "amount"), ("effective", "effective_at")),
                *(("recorded", "recorded_at"), ("reversed", "reversed_at")),
            ),
        ),
    )
    kind, advisory = RuleKind.BALANCES, Severity.ADVISORY
    rule = ConsistencyRule("r", "b", kind, sides, advisory, "o", "", "", 0, "")
    names = {SNAPSHOT: "snapshot", TOLD: "told", MOVEMENTS: "movements"}
    asked = statement(rule, lambda table, _: quoted(names[table]), MIDNIGHT)
    found = db.execute(asked.offending).fetchall()
    return {json.loads(key_)["account"]: json.loads(figures) for key_, figures, _ in found}


@pytest.mark.thorough
@settings(max_examples=60, deadline=None)
@given(st.lists(MOVED, max_size=12))
def test_a_late_snapshot_computed_back_is_the_balance_at_midnight(moved: list[Movement]) -> None:
    """Reversed, back-dated and late rows included, whoever has a row in the snapshot or not."""
    shown = [(a, b, TAKEN) for a, b in booked(moved, taken=7).items()] or [("z", 0, TAKEN)]
    true = truly(moved)
    with bank([m.row for m in moved], shown) as db:
        found = by_macro(db)
        assert {a: b for a, b in found.items() if b} == {a: b for a, b in true.items() if b}

        db.executemany(
            "insert into told values (?, ?)", [[a, b] for a, b in true.items()] or [["z", 0]]
        )
        assert by_rule(db) == {}
        db.execute("update told set balance = balance + 1")
        assert set(by_rule(db)) == set(true) or not true


@pytest.mark.parametrize(
    ("wrong", "moved", "shown"),
    [
        ("it lacks amount", [("a", None, MIDNIGHT, MIDNIGHT, None)], [("a", 1, TAKEN)]),
        ("it lacks effective", [("a", 1, None, MIDNIGHT, None)], [("a", 1, TAKEN)]),
        ("it lacks recorded", [("a", 1, MIDNIGHT, None, None)], [("a", 1, TAKEN)]),
        ("has a key twice", [], [("a", 1, TAKEN), ("a", 2, TAKEN)]),
        ("does not say when", [], [("a", 1, None)]),
        ("has no row", [("a", 1, MIDNIGHT, MIDNIGHT, None)], []),
    ],
)
def test_what_is_incomplete_is_an_error_and_so_unknown(
    wrong: str, moved: list[Any], shown: list[Any]
) -> None:
    with bank(moved, shown) as db:
        for compute in (by_macro, by_rule):
            with pytest.raises(duckdb.Error, match=wrong):
                compute(db)
