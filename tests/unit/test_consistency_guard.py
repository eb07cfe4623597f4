"""The over-detection guard: what is decided of a rule that flags much, case by case."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from levada.consistency import Record, Witness, dead, dead_whole, decide, guarded
from levada.intervals import following
from levada.terms import (
    WHOLE,
    Batch,
    ConsistencyRule,
    Grain,
    Guard,
    Guarded,
    GuardState,
    Judged,
    Offence,
    Partition,
    Read,
    Report,
    RuleKind,
    RuleResult,
    Severity,
    TableRef,
    Verdict,
)

FIRST = Partition(Grain.DAY, datetime(2013, 3, 1, tzinfo=UTC), "UTC")
DAYS = list(itertools.accumulate(range(30), lambda day, _: following(day), initial=FIRST))
BEGUN = datetime(2013, 6, 1, tzinfo=UTC)
A, B, C = (TableRef("ops", name) for name in "abc")
FACTS = ("over", "changed", "before", "agreed", "reviewed", "holds")


@pytest.mark.parametrize("known", itertools.product((False, True), repeat=len(FACTS)))
def test_only_a_lone_flood_of_a_changed_rule_is_stopped(known: tuple[bool, ...]) -> None:
    facts = dict(zip(FACTS, known, strict=True))

    state = decide(**facts)

    excused = facts["before"] or facts["agreed"] or facts["reviewed"]
    if not facts["over"] or not facts["changed"] or excused:
        assert state is None
    else:
        assert state is (GuardState.HELD if facts["holds"] else GuardState.SUSPENDED)


def rule(name: str, *tables: TableRef, hash_: str = "h", **more: object) -> ConsistencyRule:
    made = ConsistencyRule(
        *(name, "daily", RuleKind.KEYS, (), Severity.ADVISORY, "ops", "", "p", 1, hash_),
        reads=tuple(Read(table) for table in tables),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def result(of: ConsistencyRule, cases: int, compared: int = 100) -> RuleResult:
    verdict = Verdict.FAIL if cases else Verdict.PASS
    offences = tuple(Offence(str(n), "{}") for n in range(cases))
    return RuleResult(of, verdict, cases=cases, compared=compared, offences=offences)


OLD, NEW, OTHER = rule("r", A, B), rule("r", A, B, hash_="i"), rule("o", B, C)
FAR, WITNESS = rule("far", C), (OTHER, 1)
BATCH = Batch("daily", Grain.DAY, "UTC", "gov", "", "p", (NEW, OTHER))
Interval = list[tuple[ConsistencyRule, int]]


def lived(
    history: list[Interval],
    batch: Batch = BATCH,
    marks: tuple[Guarded, ...] = (),
    every: timedelta = timedelta(hours=1),
    compared: int = 100,
) -> list[dict[str, RuleResult]]:
    """What became of each rule, interval by interval; each is reported before the next."""
    record, told = Record((), marks), []
    for n, interval in enumerate(history):
        at = BEGUN + n * every
        results = [result(of, cases, compared) for of, cases in interval]
        found = guarded(batch, DAYS[n], results, record, at)
        record.add(Report("daily", DAYS[n], str(n), found, (), 0.1, at))
        told.append({r.rule.id: r for r in found})
    return told


def test_a_changed_rule_that_flags_most_rows_is_suspended_at_once_and_says_nothing() -> None:
    *_, last = lived([[(OLD, 0), (OTHER, 0)], [(NEW, 90), (OTHER, 0)]])

    muted = last["r"]
    assert (muted.verdict, muted.offences, muted.muted) == (Verdict.UNKNOWN, (), True)
    assert "90 of 100 rows or groups of 2013-03-02 soon after" in muted.because
    assert muted.guarded is not None
    assert muted.guarded.until - muted.guarded.since == timedelta(days=7)


def test_what_flags_much_and_did_not_change_is_never_muted() -> None:
    for interval in lived([[(OLD, 90)]] * 8):
        assert interval["r"].verdict is Verdict.FAIL
        assert interval["r"].guarded is None


def test_in_a_batch_that_begins_nothing_has_changed_a_rule_that_joins_has() -> None:
    (first,) = lived([[(NEW, 90), (OTHER, 90)]])
    assert first["r"].guarded is None
    *_, joined = lived([[(OTHER, 0)], [(NEW, 90), (OTHER, 0)]])
    assert joined["r"].muted


def test_a_disaster_that_an_unchanged_rule_sees_as_well_is_never_muted() -> None:
    clean: list[Interval] = [[(OLD, 0), (OTHER, 0)]] * 6
    *_, last = lived([*clean, [(NEW, 90), WITNESS]])
    assert last["r"].verdict is Verdict.FAIL
    assert last["r"].guarded is None


def witnessed(*told: RuleResult, before: int = 6, at: int = 6) -> GuardState | None:
    """
    What becomes of the changed rule that floods the sixth day, where a rule of another batch, which
    found nothing on so many days before, says this.
    """
    record, other = Record((), ()), Record((), ())
    for n in range(6):
        record.add(Report("daily", DAYS[n], str(n), (result(OLD, 0),), (), 0.1, BEGUN))
    for n in range(before):
        other.add(Report("weekly", DAYS[n], str(n), (result(ELSEWHERE, 0),), (), 0.1, BEGUN))
    batch = Batch("weekly", Grain.DAY, "UTC", "gov", "", "p", (ELSEWHERE,))
    (found,) = guarded(
        *(BATCH, DAYS[6], [result(NEW, 90)], record, BEGUN + timedelta(days=1)),
        lambda rule: [Witness(batch, DAYS[at], each, other) for each in told if rule == NEW],
    )
    return found.guarded.state if found.guarded else None


ELSEWHERE = replace(rule("r", A), batch="weekly")


def test_a_rule_of_another_batch_over_one_of_its_tables_is_a_witness() -> None:
    assert witnessed() is GuardState.SUSPENDED
    assert witnessed(result(ELSEWHERE, 0)) is GuardState.SUSPENDED
    assert witnessed(result(ELSEWHERE, 9)) is None, "though it has the same id in its batch"
    assert witnessed(result(replace(ELSEWHERE, reads=(Read(C),)), 9)) is GuardState.SUSPENDED
    assert witnessed(result(replace(ELSEWHERE, hash="x"), 9)) is GuardState.SUSPENDED
    assert witnessed(result(ELSEWHERE, 9), before=0) is GuardState.SUSPENDED, "never run before"


@pytest.mark.parametrize(
    ("why", "before", "now"),
    [
        ("it reads other tables", [(OLD, 0), (FAR, 0)], [(NEW, 90), (FAR, 9)]),
        ("it always fails", [(OLD, 0), (OTHER, 9)], [(NEW, 90), (OTHER, 9)]),
        (
            "it changed as well",
            [(OLD, 0), (OTHER, 0)],
            [(NEW, 90), (rule("o", B, C, hash_="x"), 9)],
        ),
    ],
)
def test_a_rule_is_no_witness(why: str, before: Interval, now: Interval) -> None:
    *_, last = lived([*([before] * 6), now])
    assert last["r"].muted, why


def test_what_the_former_definition_flagged_as_well_is_no_fault_of_the_new_one() -> None:
    *_, last = lived([[(OLD, 1)]] * 5 + [[(NEW, 1)]] * 5)
    assert last["r"].guarded is None


def test_few_rows_are_no_share_but_most_of_five_intervals_are() -> None:
    told = lived([[(OLD, 0)]] * 5 + [[(NEW, 3)]] * 5, compared=3)
    assert [i["r"].muted for i in told[5:]] == [False] * 4 + [True]
    assert told[-1]["r"].because.count("5 of 5 intervals") == 1


@pytest.mark.parametrize("kept", [{"never_mute": True}, {"severity": Severity.BLOCKING}])
def test_what_is_never_muted_holds_and_goes_on_in_full(kept: dict[str, object]) -> None:
    holding = replace(NEW, **kept)  # type: ignore[arg-type]
    *_, last, later = lived([[(OLD, 0)], [(holding, 90)], [(holding, 90)]])

    for found in (last["r"], later["r"]):
        assert (found.verdict, len(found.offences)) == (Verdict.FAIL, 90)
        assert found.guarded is not None
        assert found.guarded.state is GuardState.HELD
    assert last["r"].guarded is later["r"].guarded


def test_a_reviewed_definition_goes_on_and_another_one_is_watched_anew() -> None:
    mark = Guarded("daily.r", "i", GuardState.REVIEWED, "", "ops", BEGUN, BEGUN, "ines")
    history: list[Interval] = [[(OLD, 0)], [(NEW, 90)], [(rule("r", A, B, hash_="j"), 90)]]
    _, reviewed, edited = lived(history, marks=(mark,))
    assert reviewed["r"].verdict is Verdict.FAIL
    assert edited["r"].guarded is None, "the former one flagged no less"
    *_, anew = lived([[(OLD, 0)], [(NEW, 0)], *history[2:]], marks=(mark,))
    assert anew["r"].muted


def test_long_after_the_change_what_it_flags_is_the_datas() -> None:
    quiet: list[Interval] = [[(NEW, 0)]] * 16
    *_, last = lived([[(OLD, 0)], *quiet, [(NEW, 90)]], every=timedelta(days=1))
    assert last["r"].guarded is None


def test_shares_and_times_are_the_batchs_to_say() -> None:
    lenient = replace(BATCH, guard=Guard(share=Decimal("0.95")))
    *_, last = lived([[(OLD, 0)], [(NEW, 90)]], lenient)
    assert last["r"].guarded is None
    with pytest.raises(ValueError, match="no share"):
        Guard(share=Decimal(1))


def test_a_rule_without_a_verdict_in_so_many_intervals_is_dead() -> None:
    batch = replace(BATCH, guard=Guard(dead_after=3))
    told = {day: {"r": Verdict.PASS, "o": Verdict.PASS} for day in DAYS[:4]}
    told |= {day: {"r": Verdict.UNKNOWN, "o": Verdict.FAIL} for day in DAYS[4:7]}

    assert dead(batch, DAYS[:6], told) == {}
    assert dead(batch, DAYS[:7], told) == {
        "r": "no verdict in the last 3 intervals: the last one is of 2013-03-04"
    }
    never = dead(batch, DAYS[:3], {})
    assert never["o"] == "no verdict in the last 3 intervals: there never was one"
    assert dead(batch, DAYS[:2], {}) == {}


def test_a_rule_of_whole_tables_without_a_verdict_in_so_many_reports_is_dead() -> None:
    batch = replace(BATCH, grain=Grain.WHOLE, guard=Guard(dead_after=3))

    def told(rule: str, *verdicts: Verdict) -> list[Judged]:
        return [
            Judged(rule, "h", WHOLE, verdict, 0, 0, BEGUN + timedelta(days=n))
            for n, verdict in enumerate(verdicts)
        ]

    untold = Verdict.UNKNOWN
    known = [*told("r", Verdict.PASS, untold, untold, untold), *told("o", untold, untold)]
    assert dead_whole(batch, known) == {
        "r": "no verdict in the last 3 reports: the last one is of 2013-06-01"
    }
    never = [*told("r", untold, untold, Verdict.FAIL), *told("o", untold, untold, untold)]
    assert dead_whole(batch, never) == {
        "o": "no verdict in the last 3 reports: there never was one"
    }
    assert dead_whole(batch, []) == {}
