"""The words keep their promises: verdicts, waits, grains, names."""

from __future__ import annotations

import itertools
import pickle
from datetime import UTC, datetime, timedelta

import pytest

from levada.intervals import parse, within
from levada.terms import (
    WHOLE,
    AuditReport,
    Check,
    CheckResult,
    Grain,
    Identity,
    Lag,
    Latest,
    OnRestatement,
    Partition,
    Severity,
    Span,
    TableRef,
    Trailing,
    Verdict,
    WaitPolicy,
)

A, B = TableRef("a", "x"), TableRef("a", "y")
TOLD = (Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN)
RANK = {Verdict.PASS: 2, Verdict.UNKNOWN: 1, Verdict.FAIL: 0}  # Kleene's strong conjunction: min


def result(
    verdict: Verdict, severity: Severity = Severity.BLOCKING, table: TableRef = A
) -> CheckResult:
    return CheckResult(Check("c", "rowCount", severity=severity), table, verdict)


def report(*results: CheckResult) -> AuditReport:
    return AuditReport("a.p", WHOLE, results)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_blocking_checks_are_joined_by_kleenes_strong_table(size: int) -> None:
    for verdicts in itertools.product(TOLD, repeat=size):
        expected = min(verdicts, key=RANK.__getitem__)
        assert report(*map(result, verdicts)).verdict is expected, verdicts


def test_advisory_checks_only_turn_pass_into_warn() -> None:
    for blocking, advisory in itertools.product(TOLD, repeat=2):
        found = report(result(blocking), result(advisory, Severity.ADVISORY)).verdict
        if blocking is Verdict.PASS and advisory is not Verdict.PASS:
            assert found is Verdict.WARN
        else:
            assert found is blocking


def test_every_mix_of_two_blocking_and_two_advisory_checks_of_two_tables() -> None:
    cases = list(itertools.product(TOLD, (Severity.BLOCKING, Severity.ADVISORY), (A, B)))
    for size in (1, 2, 3):
        for chosen in itertools.product(cases, repeat=size):
            results = [result(*case) for case in chosen]
            blocking = [r.verdict for r in results if r.check.severity is Severity.BLOCKING]
            unjudged = {r.table for r in results} - {
                r.table for r in results if r.check.severity is Severity.BLOCKING
            }
            found = report(*results).verdict
            assert (found is Verdict.FAIL) == (Verdict.FAIL in blocking)
            if found.publishes:
                assert blocking
                assert not unjudged
                assert set(blocking) == {Verdict.PASS}
                warned = any(r.verdict is not Verdict.PASS for r in results)
                assert (found is Verdict.WARN) == warned
            elif found is Verdict.UNKNOWN:
                assert not blocking or Verdict.UNKNOWN in blocking or unjudged


def test_a_report_without_a_blocking_check_is_unknown() -> None:
    assert report().verdict is Verdict.UNKNOWN
    assert report(result(Verdict.PASS, Severity.ADVISORY)).verdict is Verdict.UNKNOWN
    sibling = result(Verdict.PASS, Severity.ADVISORY, B)
    assert report(result(Verdict.PASS), sibling).verdict is Verdict.UNKNOWN


def test_only_pass_and_warn_publish() -> None:
    assert {v for v in Verdict if v.publishes} == {Verdict.PASS, Verdict.WARN}


def test_offending_results_come_blocking_first() -> None:
    advisory, blocking = result(Verdict.FAIL, Severity.ADVISORY), result(Verdict.UNKNOWN)
    assert report(advisory, result(Verdict.PASS), blocking).offending == (blocking, advisory)


@pytest.mark.parametrize("total", range(6))
@pytest.mark.parametrize("ready", range(6))
def test_a_wait_policy_is_met_when_it_says(ready: int, total: int) -> None:
    if ready > total:
        return
    assert WaitPolicy().met(ready=ready, total=total) == (ready == total > 0)
    for n in range(1, 6):
        met = WaitPolicy(at_least=n).met(ready=ready, total=total)
        assert met == (ready > 0 and ready >= min(n, total))
        met = WaitPolicy(at_most_missing=n).met(ready=ready, total=total)
        assert met == (ready > 0 and total - ready <= n)


def test_degenerate_declarations_are_refused_when_they_are_made() -> None:
    for wrong in (
        lambda: WaitPolicy(at_least=0),
        lambda: WaitPolicy(at_most_missing=0),
        lambda: WaitPolicy(at_least=1, at_most_missing=1),
        lambda: Lag(0),
        lambda: Trailing(1),
        lambda: Latest(timedelta(0)),
        lambda: OnRestatement("ignore"),
        lambda: OnRestatement("sometimes"),
        lambda: Partition(Grain.DAY),
        lambda: Partition(Grain.WHOLE, datetime(2013, 1, 1, tzinfo=UTC)),
        lambda: Partition(Grain.DAY, datetime(2013, 1, 1)),  # noqa: DTZ001
        lambda: Span(datetime(2013, 1, 2, tzinfo=UTC), datetime(2013, 1, 2, tzinfo=UTC)),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            wrong()


def test_grains_are_ordered_from_fine_to_coarse() -> None:
    grains = [
        Grain.WHOLE,
        Grain.DAY,
        Grain.YEAR,
        Grain.HOUR,
        Grain.QUARTER,
        Grain.WEEK,
        Grain.MONTH,
    ]
    assert sorted(grains) == list(Grain)
    assert Grain.HOUR < Grain.DAY <= Grain.DAY < Grain.WHOLE
    assert max(Grain) is Grain.WHOLE


@pytest.mark.parametrize("text", ["operations.flights@1", "a.b@12", "operations.landing.flights"])
def test_a_table_reads_back_what_it_prints(text: str) -> None:
    assert str(TableRef.parse(text)) == text


def test_a_table_without_a_major_means_the_first_and_a_source_has_none() -> None:
    assert TableRef.parse("a.b") == TableRef("a", "b", 1)
    source = TableRef.parse("a.landing.b")
    assert source.is_source
    assert (source.relation, TableRef.parse("a.b@2").relation) == ("landing__b", "b_v2")


@pytest.mark.parametrize("text", ["flights", "a.b@x", "A.b", "a.B", "a.b-c", "", ".b", "a."])
def test_what_names_no_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no table"):
        TableRef.parse(text)


def test_partitions_are_equal_by_grain_instant_and_zone_and_survive_pickling() -> None:
    day = parse(Grain.DAY, "2013-03-10", "America/New_York")
    other = Partition(Grain.DAY, day.begin.astimezone(), "America/New_York")
    assert (day, hash(day)) == (other, hash(other))
    assert day != Partition(Grain.DAY, day.begin, "America/Toronto")
    assert pickle.loads(pickle.dumps(day)) == day  # noqa: S301
    assert Partition(Grain.WHOLE, zone="Asia/Tokyo") == WHOLE


def test_a_span_of_local_days_holds_exactly_these_days() -> None:
    for zone in ("America/New_York", "America/Sao_Paulo", "Asia/Beirut", "Pacific/Apia"):
        span = Span.days("2013-03-08", "2013-04-02", zone)
        days = within(Grain.DAY, zone, span)
        assert (days[0].key, days[-1].key, len(days)) == ("2013-03-08", "2013-04-02", 26)


def test_mappings_are_told_apart_by_kind() -> None:
    assert Identity() == Identity()
    assert len({Lag(1), Lag(1), Lag(2), Trailing(2), Identity()}) == 4
