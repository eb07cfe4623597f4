"""
P5: the audit of one day out of 334 in ten million rows, against the same suite over the whole
table, and against SQL written by hand for that day.

One contract with twenty checks: shape and types, keys, NULLs, ranges, allowed values, a pattern, a
share, a rule of SQL. Ours audits the newest day of a staged table that holds all of them. The peer
is the same contract over the same table as a whole, by the same auditor. The SQL by hand is two
statements: one aggregate for all that a row can tell, one for the key. What Great Expectations
costs however small the data is, is measured on a table of the same shape without rows.

CPU seconds of this process, after imports, in turns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
from _figure import arguments, median, repeated, report, say, spent

from levada.adapters.gx import GreatExpectations, preload
from levada.intervals import within
from levada.ports import Relation, Stage
from levada.terms import (
    WHOLE,
    Check,
    Column,
    Contract,
    Grain,
    Owner,
    Partition,
    Severity,
    Span,
    TableRef,
    Verdict,
)

ROWS, DAYS = 10_000_000, 334
CHEAPER, AT_MOST = 50.0, 2.0
TABLE = TableRef("sales", "orders")

COLUMNS = (
    Column("order_id", "BIGINT", required=True, key_position=1),
    Column("customer_id", "BIGINT", required=True),
    Column("status", "VARCHAR", required=True),
    Column("country", "VARCHAR"),
    Column("amount", "DOUBLE"),
    Column("ordered_at", "TIMESTAMPTZ", required=True),
)
CHECKS = (
    Check("columns", "columnSet", arguments=(("columns", tuple(c.name for c in COLUMNS)),)),
    *(
        Check(f"{c.name}.type", "columnType", c.name, arguments=(("type", c.type),))
        for c in COLUMNS
    ),
    *(Check(f"{c.name}.required", "nullValues", c.name) for c in COLUMNS if c.required),
    Check("primary_key", "primaryKey", arguments=(("properties", ("order_id",)),)),
    Check(
        "status_known",
        "invalidValues",
        "status",
        arguments=(("validValues", ("open", "paid", "void")),),
    ),
    Check("country_code", "invalidValues", "country", arguments=(("pattern", "^[A-Z]{2}$"),)),
    Check("amount.minimum", "invalidValues", "amount", arguments=(("minimum", 0),)),
    Check("amount.maximum", "invalidValues", "amount", arguments=(("maximum", 1000),)),
    Check("some", "rowCount", operator="mustBeGreaterThan"),
    Check("amounts", "nullValues", "amount", "mustBeLessThan", (5,), "percent"),
    Check(
        "paid_is_paid",
        "sql",
        arguments=(
            ("query", "select count(*) from {object} where status = 'paid' and amount <= 0"),
        ),
        severity=Severity.ADVISORY,
    ),
)


def contract(grain: Grain) -> Contract:
    """The same promise, by day or as a whole."""
    daily = grain is Grain.DAY
    return Contract(
        id="sales.orders",
        version="1.0.0",
        status="active",
        table=TABLE,
        product="orders",
        grain=grain,
        zone="UTC",
        interval_column="ordered_at" if daily else None,
        columns=COLUMNS,
        checks=CHECKS,
        owner=Owner("sales"),
        description="",
        hash="0" * 64,
        path="",
    )


def filled(path: Path, rows: int, days: int) -> Stage:
    """A staged table of as many rows, evenly over the days, in the order of time."""
    with duckdb.connect(str(path)) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(
            "create table orders_v1 as select i::bigint as order_id, (i % 10000)::bigint as"
            " customer_id, case i % 3 when 0 then 'paid' when 1 then 'open' else 'void' end as"
            " status, case i % 4 when 0 then 'PT' when 1 then 'ES' when 2 then 'FR' else 'DE' end"
            " as country, ((i % 997) + 0.5)::double as amount,"
            " TIMESTAMPTZ '2026-01-01 00:00:00+00' +"
            f" to_microseconds(i * {days * 86_400_000_000 // rows}) as ordered_at"
            f" from range({rows}) t(i)"
        )
    return Stage("run", path, {TABLE: Relation("stage", "main", "orders_v1")}, {})


def audited(stage: Stage, of: Contract, partition: Partition) -> Callable[[], float]:
    """CPU seconds of an audit, all of whose checks must pass."""
    auditor = GreatExpectations()

    def run() -> float:
        with spent() as took:
            found = auditor.audit(stage, of, [partition])[partition]
        bad = [(r.check.id, r.because) for r in found if r.verdict is not Verdict.PASS]
        assert not bad, bad
        return took.cpu

    return run


BY_HAND = """
select count(*), count(*) filter (order_id is null), count(*) filter (customer_id is null),
 count(*) filter (status is null), count(*) filter (ordered_at is null),
 count(*) filter (status not in ('open', 'paid', 'void')),
 count(*) filter (not regexp_matches(country, '^[A-Z]{2}$')),
 count(*) filter (amount < 0), count(*) filter (amount > 1000), count(*) filter (amount is null),
 count(*) filter (status = 'paid' and amount <= 0)
from s.orders_v1 where ordered_at >= ? and ordered_at < ?
"""
KEY_BY_HAND = """
select count(*) from (select order_id from s.orders_v1 where ordered_at >= ? and ordered_at < ?
 group by order_id having count(*) > 1)
"""


def by_hand(path: Path, day: Partition) -> Callable[[], float]:
    """CPU seconds of the day's SQL as somebody would write it, connecting included."""

    def run() -> float:
        bounds = [day.begin, day.begin.replace(hour=23, minute=59, second=59, microsecond=999999)]
        with spent() as took, duckdb.connect() as connection:
            connection.execute("set TimeZone = 'UTC'")
            connection.execute(f"attach '{path}' as s (read_only)")
            found: Any = connection.execute(BY_HAND, bounds).fetchone()
            twice: Any = connection.execute(KEY_BY_HAND, bounds).fetchone()
        assert found[0] > 0
        assert found[1:] == (0,) * 10
        assert twice == (0,)
        return took.cpu

    return run


def main() -> None:
    """Fill, measure in turns, and print the line."""
    words = arguments(__doc__)
    rows, days, times = (200_000, 20, 2) if words.small else (ROWS, DAYS, 5)
    preload()
    with tempfile.TemporaryDirectory(prefix="levada-p5-") as folder:
        say(f"filling {rows:,} rows")
        stage = filled(Path(folder) / "stage.duckdb", rows, days)
        empty = filled(Path(folder) / "empty.duckdb", days, days)
        with duckdb.connect(str(empty.path)) as connection:
            connection.execute("delete from orders_v1")
        span = Span.days("2026-01-01", "2027-12-31", "UTC")
        day = within(Grain.DAY, "UTC", span)[days - 2]
        daily, whole = contract(Grain.DAY), contract(Grain.WHOLE)
        sides = (
            audited(stage, daily, day),
            audited(stage, whole, WHOLE),
            by_hand(stage.path, day),
            audited(empty, replace(daily, checks=_without_rows(daily.checks)), day),
        )
        for side in sides:  # what is paid once in a process
            side()
        say(f"measuring {times} times in turns")
        ours, peer, hand, fixed = (median(each) for each in repeated(times, *sides))
    cheaper = peer / ours
    allowed = AT_MOST * hand + fixed
    report(
        "p5_audit",
        ours=ours,
        peer=peer,
        ratio=cheaper,
        goal=f"{CHEAPER:g}x cheaper than the whole table, and at most {AT_MOST:g}x the SQL by hand"
        " plus Great Expectations' fixed cost",
        met=cheaper >= CHEAPER and ours <= allowed,
        unit="CPU s",
        rows=rows,
        days=days,
        checks=len(CHECKS),
        by_hand=hand,
        fixed=fixed,
        allowed=allowed,
        within_allowed=ours <= allowed,
    )


def _without_rows(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """The same checks, of which one asks for rows: of none it is content with none."""
    return tuple(
        replace(c, operator="mustBe", threshold=(0,)) if c.metric == "rowCount" else c
        for c in checks
    )


if __name__ == "__main__":
    main()
