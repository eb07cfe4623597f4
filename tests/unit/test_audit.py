"""Verdicts: Kleene's tables, completeness of reports, and what a waiver may do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product as pairs

import pytest

from levada.audit import (
    BUILT_IN,
    METRICS,
    OPERATORS,
    both,
    conjunction,
    decomposes,
    either,
    negation,
    reads,
    reports,
    unknown,
    waive,
)
from levada.flow.gating import said_of
from levada.terms import (
    WHOLE,
    AuditReport,
    Check,
    CheckResult,
    Column,
    Contract,
    GateVerdict,
    Grain,
    Layer,
    Mart,
    Owner,
    Partition,
    Product,
    Severity,
    Span,
    TableRef,
    Verdict,
    Waiver,
)

P, F, U = Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN
BLOCKING, ADVISORY = Severity.BLOCKING, Severity.ADVISORY
TABLES = (TableRef("operations", "flights"), TableRef("operations", "delays"))
DAY = Partition(Grain.DAY, datetime(2013, 3, 9, 5, tzinfo=UTC), "America/New_York")
NEXT = Partition(Grain.DAY, datetime(2013, 3, 10, 5, tzinfo=UTC), "America/New_York")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = Check("columns", "columnSet", origin=BUILT_IN)
NULLS = Check("origin.required", "nullValues", "origin", origin="schema")
ADVICE = Check("some", "rowCount", severity=Severity.ADVISORY, origin="quality")


def contract(name: str, *checks: Check) -> Contract:
    return Contract(
        id=f"operations.{name}",
        version="1.0.0",
        status="active",
        table=TableRef("operations", name),
        product="flights",
        grain=Grain.DAY,
        zone="America/New_York",
        interval_column="day",
        columns=(Column("day", "DATE"),),
        checks=checks,
        owner=Owner("operations-data"),
        description="",
        hash="0" * 64,
        path="",
    )


def product(*contracts: Contract) -> Product:
    marts = tuple(Mart(c.table, Layer.BASE, c.id, c, (), "", "") for c in contracts)
    return Product("operations", "flights", marts, Grain.DAY, "America/New_York")


def found(of: Contract, *verdicts: Verdict) -> tuple[CheckResult, ...]:
    told = zip(of.checks, verdicts, strict=False)
    return tuple(CheckResult(check, of.table, verdict) for check, verdict in told)


FLIGHTS = contract("flights", COLUMNS, NULLS, ADVICE)
DELAYS = contract("delays", COLUMNS, NULLS)


@pytest.mark.parametrize(
    ("operation", "table"),
    [
        (both, {(P, P): P, (P, U): U, (U, P): U, (U, U): U}),
        (either, {(F, F): F, (F, U): U, (U, F): U, (U, U): U}),
    ],
)
def test_kleene_s_strong_tables_hold_for_every_pair(
    operation: Callable[[Verdict, Verdict], Verdict],
    table: dict[tuple[Verdict, Verdict], Verdict],
) -> None:
    settled = F if operation is both else P
    for a, b in pairs((P, F, U), repeat=2):
        assert operation(a, b) is table.get((a, b), settled)
        assert operation(a, b) is operation(b, a)


def test_negation_keeps_unknown() -> None:
    assert [negation(verdict) for verdict in (P, F, U)] == [F, P, U]


def test_a_conjunction_is_the_fold_of_both_and_of_nothing_unknown() -> None:
    for verdicts in pairs((P, F, U), repeat=3):
        expected = F if F in verdicts else U if U in verdicts else P
        assert conjunction(verdicts) is expected
    assert conjunction([]) is U


def by_the_law(told: Sequence[tuple[int, Severity, Verdict]]) -> Verdict:
    """The verdict of (table, severity, verdict), word for word as the law says it."""
    blocking = [(table, verdict) for table, severity, verdict in told if severity is BLOCKING]
    advice = [verdict for _, severity, verdict in told if severity is ADVISORY]
    if any(verdict is F for _, verdict in blocking):
        return F
    untold = {table for table, _, _ in told} - {table for table, _ in blocking}
    if not blocking or untold or not all(verdict is P for _, verdict in blocking):
        return U
    return P if all(verdict is P for verdict in advice) else Verdict.WARN


def test_a_report_s_verdict_is_the_law_s_for_every_combination_of_four_checks() -> None:
    one = list(pairs((0, 1), (BLOCKING, ADVISORY), (P, F, U)))
    seen: dict[Verdict, int] = {}
    for size in range(5):
        for told in pairs(one, repeat=size):
            results = tuple(
                CheckResult(Check(f"c{n}", "sql", severity=severity), TABLES[table], verdict)
                for n, (table, severity, verdict) in enumerate(told)
            )
            verdict = AuditReport("a.b", WHOLE, results).verdict
            assert verdict is by_the_law(told), told
            assert verdict.publishes is (verdict in (P, Verdict.WARN))
            seen[verdict] = seen.get(verdict, 0) + 1
    assert sum(seen.values()) == sum(12**size for size in range(5))
    assert set(seen) == set(Verdict), "every verdict was reached"


def test_an_unknown_check_never_makes_a_report_better() -> None:
    """Whatever an unknown check turns out to be, the report was no better before."""
    order = [F, U, Verdict.WARN, P]
    one = list(pairs((BLOCKING, ADVISORY), (P, F, U)))
    for told in pairs(one, repeat=3):
        results = tuple(
            CheckResult(Check(f"c{n}", "sql", severity=severity), TABLES[0], verdict)
            for n, (severity, verdict) in enumerate(told)
        )
        before = AuditReport("a.b", WHOLE, results).verdict
        passed = tuple(replace(r, verdict=P) if r.verdict is U else r for r in results)
        after = AuditReport("a.b", WHOLE, passed).verdict
        assert order.index(after) >= order.index(before), told


def test_a_warning_is_no_verdict_of_a_check() -> None:
    with pytest.raises(ValueError, match="verdict of a report"):
        both(P, Verdict.WARN)


def test_all_eight_operators_of_the_standard_are_known() -> None:
    assert len(OPERATORS) == 8
    assert {"nullValues", "missingValues", "invalidValues", "duplicateValues", "rowCount"} <= set(
        METRICS
    )


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (Check("a", "nullValues", "x"), True),
        (Check("a", "nullValues", "x", "mustBeLessThan", (1,)), True),
        (Check("a", "nullValues", "x", "mustBeLessOrEqualTo", (0,)), True),
        (Check("a", "duplicateValues", "x"), True),
        (Check("a", "columnSet"), True),
        (Check("a", "nullValues", "x", "mustBeLessThan", (2,)), False),
        (Check("a", "nullValues", "x", "mustBe", (3,)), False),
        (Check("a", "nullValues", "x", "mustNotBe", (0,)), False),
        (Check("a", "nullValues", "x", unit="percent"), False),
        (Check("a", "rowCount", None), False),
        (Check("a", "sql"), False),
    ],
)
def test_only_checks_that_allow_no_row_decompose(check: Check, expected: bool) -> None:
    assert decomposes(check) is expected


def test_a_check_reads_what_its_arguments_name() -> None:
    named = ("reads", ("fleet.planes@1", "weather.observations@2"))
    assert reads(Check("a", "sql", arguments=(named,))) == (
        TableRef("fleet", "planes"),
        TableRef("weather", "observations", 2),
    )


def judged(
    of: Product, results: Sequence[tuple[TableRef, dict[Partition, tuple[CheckResult, ...]]]]
) -> AuditReport:
    return reports(of, [DAY], results)[DAY]


def test_a_product_passes_only_whole() -> None:
    both_pass = [
        (FLIGHTS.table, {DAY: found(FLIGHTS, P, P, P)}),
        (DELAYS.table, {DAY: found(DELAYS, P, P)}),
    ]
    one_fails = [both_pass[0], (DELAYS.table, {DAY: found(DELAYS, P, F)})]
    assert judged(product(FLIGHTS, DELAYS), both_pass).verdict is P
    report = judged(product(FLIGHTS, DELAYS), one_fails)
    assert report.verdict is F
    assert [str(result.table) for result in report.offending] == ["operations.delays@1"]


def test_a_check_that_never_ran_is_unknown() -> None:
    report = judged(product(FLIGHTS), [(FLIGHTS.table, {DAY: found(FLIGHTS, P)})])
    assert report.verdict is U
    assert {result.because for result in report.offending} == {"the check did not run"}


def test_a_table_that_was_not_audited_is_unknown() -> None:
    results = [(FLIGHTS.table, {DAY: found(FLIGHTS, P, P, P)})]
    assert judged(product(FLIGHTS, DELAYS), results).verdict is U


def test_a_contract_without_checks_is_unknown_and_not_pass() -> None:
    bare = contract("bare")
    assert judged(product(bare), [(bare.table, {DAY: ()})]).verdict is U


def test_a_result_nobody_promised_is_left_out() -> None:
    stray = CheckResult(Check("stray", "rowCount"), DELAYS.table, F)
    results = [(DELAYS.table, {DAY: (*found(DELAYS, P, P), stray)})]
    assert judged(product(DELAYS), results).verdict is P


def test_partitions_are_judged_apart_and_carry_their_contents() -> None:
    results = [(DELAYS.table, {DAY: found(DELAYS, P, P), NEXT: found(DELAYS, P, F)})]
    both_days = reports(product(DELAYS), [DAY, NEXT], results, {DELAYS.table: {DAY: "3:9"}})
    assert [both_days[day].verdict for day in (DAY, NEXT)] == [P, F]
    assert both_days[DAY].contents == ((DELAYS.table, "3:9"),)


def waiver(check: str = NULLS.id, days: tuple[str, str] = ("2013-03-09", "2013-03-09")) -> Waiver:
    window = Span.days(*days, "America/New_York")
    return Waiver(DELAYS.table, check, window, NOW + timedelta(days=1), "late fix", "governance")


def failing(partition: Partition = DAY) -> AuditReport:
    return AuditReport("operations.flights", partition, found(DELAYS, P, F))


def test_a_waived_check_leaves_the_conjunction_and_taints() -> None:
    left, used = waive(failing(), [waiver()], NOW)
    assert left.verdict is P
    (one,) = used
    assert str(one) == (
        "operations.delays@1 origin.required: "
        "waived by governance until 2026-01-02 00:00Z (late fix)"
    )


@pytest.mark.parametrize("verdict", [F, U])
def test_a_gate_is_waived_like_any_check_and_what_it_said_is_kept(verdict: Verdict) -> None:
    gate = Check("daily.adds_up", "consistency", arguments=(("definition", "h1"),))
    told = CheckResult(gate, DELAYS.table, verdict)
    report = AuditReport("operations.flights", DAY, (*found(DELAYS, P, P), told))
    assert report.verdict is verdict

    left, used = waive(report, [waiver("daily.adds_up")], NOW)

    assert (left.verdict, len(used)) == (P, 1)
    assert said_of(report, DELAYS.table) == (GateVerdict("daily.adds_up", "h1", verdict),)
    assert said_of(report, FLIGHTS.table) == ()


def test_a_check_that_passes_needs_no_waiver() -> None:
    report = AuditReport("operations.flights", DAY, found(DELAYS, P, P))
    assert waive(report, [waiver()], NOW) == (report, ())


def test_of_several_waivers_the_longest_holds() -> None:
    longer = replace(waiver(), expires=NOW + timedelta(days=9), hash="longer")
    assert waive(failing(), [waiver(), longer, waiver()], NOW)[1] == (longer,)


@pytest.mark.parametrize(
    ("given", "now"),
    [
        (waiver(), NOW + timedelta(days=1)),
        (waiver(days=("2013-03-08", "2013-03-08")), NOW),
        (waiver("another"), NOW),
    ],
    ids=["expired", "another window", "another check"],
)
def test_a_waiver_that_is_not_live_for_the_check_does_nothing(given: Waiver, now: datetime) -> None:
    assert waive(failing(), [given], now) == (failing(), ())


def test_what_the_platform_needs_cannot_be_waived() -> None:
    report = AuditReport("operations.flights", DAY, found(DELAYS, F, P))
    assert waive(report, [waiver("columns")], NOW) == (report, ())


def test_any_window_covers_a_whole_table() -> None:
    assert waive(failing(WHOLE), [waiver()], NOW)[0].verdict is P


def test_everything_unknown_has_one_reason() -> None:
    assert {(r.verdict, r.because) for r in unknown(FLIGHTS, "gone")} == {(U, "gone")}
