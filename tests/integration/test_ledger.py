"""The ledger keeps its laws, whoever calls."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from levada.errors import ClaimLost, LawBroken, NotPublishable, Unavailable
from levada.ledger import PostgresLedger
from levada.ledger.roles import RUNNER
from levada.ports import Want
from levada.terms import (
    WHOLE,
    Approval,
    Attempt,
    Check,
    CheckResult,
    GateVerdict,
    Grain,
    Input,
    Landing,
    Partition,
    Publication,
    Severity,
    Span,
    Step,
    TableRef,
    Verdict,
)

pytestmark = pytest.mark.integration

FLIGHTS = TableRef("operations", "flights")
DELAYS = TableRef("operations", "delays")
FILES = TableRef("operations", "landing.flights", 0)
PRODUCT = "operations.flights"
NEW_YORK = "America/New_York"
AGREED = Approval("ines", ("joe",), "c0ffee", "pipeline")
NOW = datetime(2013, 3, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def day(number: int) -> Partition:
    return Partition(Grain.DAY, datetime(2013, 3, number, 5, tzinfo=UTC), NEW_YORK)


def hours(count: int) -> list[Partition]:
    first = datetime(2013, 1, 1, 5, tzinfo=UTC)
    return [Partition(Grain.HOUR, first + timedelta(hours=n)) for n in range(count)]


def landed(content: str, partition: Partition | None = None) -> Landing:
    return Landing(FILES, partition or day(1), 0, content, "flights/1.csv", 9, NOW)


def read(generation: int, content: str | None = "c") -> Input:
    return Input(FILES, day(1), generation, content, "v")


def attempt(verdict: Verdict, *, run: str = "run-1", **changes: Any) -> Attempt:
    values: dict[str, Any] = {
        "product": PRODUCT,
        "partition": day(1),
        "fingerprint": "f1",
        "because": "rows are missing",
        "results": (),
        "tries": 0,
        "at": NOW,
    }
    return Attempt(run=run, verdict=verdict, **{**values, **changes})


class Hands:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


# --- landing --------------------------------------------------------------------------------------


def test_a_landing_counts_generations_and_equal_content_is_no_new_line(ledgers: Any) -> None:
    first = ledgers.runner.land([landed("a"), landed("a", day(2))])
    again = ledgers.runner.land([landed("a")])
    mended = ledgers.runner.land([landed("b")])
    assert [(line.partition, line.generation) for line in first] == [(day(1), 1), (day(2), 1)]
    assert again == ()
    assert [line.generation for line in mended] == [2]
    assert ledgers.runner.history(FILES, day(1)) == (first[0], mended[0])
    facts = ledgers.runner.facts([FILES], [])
    assert facts.line(FILES, day(1)) == mended[0]
    assert facts.position == mended[0].position > first[1].position > first[0].position


def test_a_published_table_cannot_be_landed(ledgers: Any) -> None:
    with pytest.raises(LawBroken, match=r"operations\.flights@1 is published, not landed"):
        ledgers.runner.land([Landing(FLIGHTS, day(1), 0, "a", "p", 1, NOW)])


def test_concurrent_landings_of_one_file_give_one_line(ledgers: Any) -> None:
    found: list[int] = []
    race(8, lambda _: found.append(len(ledgers.runner.land([landed("a")]))))
    assert sum(found) == 1
    assert len(ledgers.runner.history(FILES, day(1))) == 1


# --- claims ---------------------------------------------------------------------------------------


def test_a_claim_keeps_its_pins_and_is_read_back_by_its_run(ledgers: Any) -> None:
    pins = (read(3), Input(TableRef("fleet", "planes"), WHOLE, 0, None))
    (claim,) = ledgers.claim(PRODUCT, [day(1)], inputs=pins)
    assert claim.inputs == pins
    assert ledgers.domain("operations").claims("run-1") == (claim,)
    assert ledgers.runner.facts([], [PRODUCT]).claims == {(PRODUCT, day(1)): claim}


def test_of_eight_claimers_at_once_exactly_one_wins(ledgers: Any) -> None:
    days = [day(n) for n in range(1, 29)]
    won: dict[int, int] = {}

    def claim(number: int) -> None:
        won[number] = len(
            ledgers.claim(PRODUCT, days, run=f"run-{number}", fingerprint=f"f{number}")
        )

    race(8, claim)
    assert sorted(won.values()) == [0] * 7 + [28]


def test_overlapping_claims_share_the_days_without_a_double(ledgers: Any) -> None:
    won: list[Partition] = []

    def claim(number: int) -> None:
        mine = [day(n) for n in range(number + 1, number + 11)]
        for partition in (mine, mine[::-1])[number % 2]:
            won.extend(c.partition for c in ledgers.claim(PRODUCT, [partition], run=f"r{number}"))

    race(6, claim)
    assert sorted(won) == [day(n) for n in range(1, 16)]


def test_a_claim_is_not_granted_while_another_lives_and_its_token_rises_after(ledgers: Any) -> None:
    clock = Hands()
    ledgers.runner._clock = clock
    (first,) = ledgers.claim(PRODUCT, [day(1)], run="one", lifetime=HOUR)
    assert ledgers.claim(PRODUCT, [day(1)], run="two") == ()
    clock.now += HOUR
    assert ledgers.runner.facts([], [PRODUCT]).claims == {}
    (second,) = ledgers.claim(PRODUCT, [day(1)], run="two")
    assert second.token > first.token
    with pytest.raises(
        ClaimLost, match=r"run one has lost its claim of operations\.flights 2013-03-01"
    ):
        ledgers.runner.renew("one", HOUR)
    with pytest.raises(ClaimLost, match="run one holds no claim"):
        ledgers.publisher.intend("one", [ledgers.line(FLIGHTS, day(1))])


def test_an_expired_claim_that_nobody_took_is_renewed_and_published(ledgers: Any) -> None:
    clock = Hands()
    ledgers.runner._clock = ledgers.publisher._clock = clock
    ledgers.record()
    ledgers.claim(PRODUCT, [day(1)], lifetime=HOUR)
    clock.now += 5 * HOUR
    ledgers.runner.renew("run-1", HOUR)
    assert ledgers.runner.claims("run-1")[0].until == clock.now + HOUR
    clock.now += 5 * HOUR
    ledgers.publisher.intend("run-1", [ledgers.line(FLIGHTS, day(1))])
    assert len(ledgers.publisher.publish("run-1", "7")) == 1


def test_an_expired_claim_with_an_open_intent_is_not_taken_over(ledgers: Any) -> None:
    clock = Hands()
    ledgers.runner._clock = ledgers.publisher._clock = clock
    ledgers.record()
    ledgers.claim(PRODUCT, [day(1)], run="one", lifetime=HOUR)
    ledgers.publisher.intend("one", [ledgers.line(FLIGHTS, day(1))])
    assert not ledgers.publisher.intents()[0].expired
    clock.now += 2 * HOUR
    assert ledgers.claim(PRODUCT, [day(1)], run="two") == ()
    assert ledgers.publisher.intents()[0].expired
    ledgers.publisher.withdraw("one", "the swap never happened")
    assert ledgers.publisher.intents() == ()
    assert len(ledgers.claim(PRODUCT, [day(1)], run="two")) == 1


def test_a_run_that_claims_again_gets_a_new_token_and_its_old_intent_is_worthless(
    ledgers: Any,
) -> None:
    ledgers.record()
    (first,) = ledgers.claim(PRODUCT, [day(1)])
    (second,) = ledgers.claim(PRODUCT, [day(1)])
    assert second.token > first.token
    ledgers.publisher.intend("run-1", [ledgers.line(FLIGHTS, day(1))])
    assert ledgers.claim(PRODUCT, [day(1)]) == ()


def test_what_was_published_with_this_fingerprint_is_not_claimed_again(ledgers: Any) -> None:
    ledgers.publish(PRODUCT, [ledgers.line(FLIGHTS, day(1)), ledgers.line(DELAYS, day(1))])
    assert ledgers.claim(PRODUCT, [day(1)], run="again", fingerprint="f1") == ()
    assert len(ledgers.claim(PRODUCT, [day(1)], run="again", fingerprint="f2")) == 1


def test_a_judgement_older_than_a_publication_claims_nothing(ledgers: Any) -> None:
    with ledgers.runner.sensing([FLIGHTS], [PRODUCT]) as sensing:
        ledgers_in_a_hurry = PostgresLedger(ledgers.url(RUNNER))
        with ledgers_in_a_hurry.sensing([], [PRODUCT]) as other:
            other.claim([Want(PRODUCT, day(1), "f1", ())], run="fast", lifetime=HOUR)
        ledgers.record()
        ledgers.publisher.intend("fast", [ledgers.line(FLIGHTS, day(1))])
        ledgers.publisher.publish("fast", "7")
        wants = [Want(PRODUCT, day(1), "older", ()), Want(PRODUCT, day(2), "older", ())]
        claims = sensing.claim(wants, run="slow", lifetime=HOUR)
    assert [claim.partition for claim in claims] == [day(2)]


def test_an_error_while_judging_leaves_no_claim(ledgers: Any) -> None:
    with pytest.raises(KeyError), ledgers.runner.sensing([], [PRODUCT]) as sensing:
        sensing.claim([Want(PRODUCT, day(1), "f", ())], run="r", lifetime=HOUR)
        raise KeyError
    assert ledgers.runner.claims("r") == ()


def test_a_run_claims_for_one_product(ledgers: Any) -> None:
    ledgers.claim(PRODUCT, [day(1)])
    with pytest.raises(LawBroken, match="run run-1 claims for several products"):
        ledgers.claim("operations.delays", [day(1)])


def test_release_gives_claims_back_and_says_why(ledgers: Any) -> None:
    ledgers.claim(PRODUCT, [day(1), day(2)])
    ledgers.runner.release("run-1", [day(1)], "skipped")
    assert [claim.partition for claim in ledgers.runner.claims("run-1")] == [day(2)]
    assert len(ledgers.claim(PRODUCT, [day(1)], run="two")) == 1


def test_1608_hours_are_claimed_intended_and_published_in_seconds(ledgers: Any) -> None:
    observations, product = TableRef("weather", "observations"), "weather.observations"
    ledgers.record()
    slots = hours(1608)
    started = time.monotonic()
    assert len(ledgers.claim(product, slots)) == 1608
    claimed = time.monotonic()
    ledgers.publisher.intend("run-1", [ledgers.line(observations, slot) for slot in slots])
    assert len(ledgers.publisher.publish("run-1", "7")) == 1608
    published = time.monotonic()
    assert len(ledgers.runner.facts([observations], [product]).lines) == 1608
    assert claimed - started < 2
    assert published - claimed < 5


# --- attempts -------------------------------------------------------------------------------------


def test_withholding_counts_tries_ends_the_claim_and_a_publication_ends_the_count(
    ledgers: Any,
) -> None:
    check = Check("rows", "rowCount", arguments=(("of", ("a", 1)),), severity=Severity.ADVISORY)
    result = CheckResult(check, FLIGHTS, Verdict.FAIL, "0", "no rows", 1, ("a=1",))
    for tries in (1, 2):
        ledgers.claim(PRODUCT, [day(1)])
        ledgers.publisher.withhold(
            [attempt(Verdict.FAIL, results=(result,), not_before=NOW + HOUR)]
        )
        standing = ledgers.runner.facts([], [PRODUCT]).attempt(PRODUCT, day(1))
        assert standing.tries == tries
    assert standing.results == (result,)
    assert standing.not_before == NOW + HOUR
    assert ledgers.runner.claims("run-1") == ()
    ledgers.publish(PRODUCT, [ledgers.line(FLIGHTS, day(1), made_by="f2")], run="good")
    assert ledgers.runner.facts([], [PRODUCT]).attempts == {}
    ledgers.claim(PRODUCT, [day(1)], fingerprint="f3")
    ledgers.runner.withhold([attempt(Verdict.UNKNOWN)])
    assert ledgers.runner.facts([], [PRODUCT]).attempt(PRODUCT, day(1)).tries == 1


def test_dated_facts_say_when_the_first_of_attempts_in_a_row_was(ledgers: Any) -> None:
    def withhold(number: int, verdict: Verdict, at: datetime) -> None:
        ledgers.claim(PRODUCT, [day(number)])
        ledgers.publisher.withhold([attempt(verdict, partition=day(number), at=at)])

    withhold(1, Verdict.UNKNOWN, NOW)  # a row that ended with a publication
    withhold(1, Verdict.UNKNOWN, NOW + HOUR)
    ledgers.publish(PRODUCT, [ledgers.line(FLIGHTS, day(1), made_by="f2")], run="good")
    withhold(2, Verdict.FAIL, NOW + HOUR)
    for later in (2, 3, 4):
        withhold(1, Verdict.UNKNOWN, NOW + later * HOUR)
    withhold(2, Verdict.UNKNOWN, NOW + 5 * HOUR)
    withhold(3, Verdict.FAIL, NOW + 6 * HOUR)
    facts = ledgers.runner.facts([], [PRODUCT])
    dated = ledgers.runner.dated(facts).attempts
    assert [dated[PRODUCT, day(n)].since for n in (1, 2, 3)] == [NOW + 2 * HOUR, NOW + HOUR, None]
    assert {key: replace(a, since=None) for key, a in dated.items()} == facts.attempts


def test_dated_facts_say_when_a_claim_was_granted_however_often_it_was_renewed(
    ledgers: Any,
) -> None:
    ledgers.claim(PRODUCT, [day(1)], run="old")
    ledgers.runner.release("old", [day(1)], "nothing to do")
    before = datetime.now(UTC)
    ledgers.claim(PRODUCT, [day(1)], run="new")
    after = datetime.now(UTC)
    ledgers.runner.renew("new", HOUR)
    ledgers.claim(PRODUCT, [day(2)], run="other", fingerprint="f2")
    (claim, other) = ledgers.runner.dated(ledgers.runner.facts([], [PRODUCT])).claims.values()
    assert before <= claim.since <= after <= other.since


def test_the_runner_may_withhold_as_unknown_only(ledgers: Any) -> None:
    ledgers.claim(PRODUCT, [day(1)])
    with pytest.raises(LawBroken, match="levada_runner may only record UNKNOWN"):
        ledgers.runner.withhold([attempt(Verdict.FAIL)])


def test_a_run_without_the_claim_withholds_nothing(ledgers: Any) -> None:
    with pytest.raises(
        ClaimLost, match=r"run run-1 holds no claim of operations\.flights 2013-03-01"
    ):
        ledgers.publisher.withhold([attempt(Verdict.FAIL)])


# --- publishing -----------------------------------------------------------------------------------


def test_a_publication_keeps_every_field_and_counts_generations(ledgers: Any) -> None:
    line = ledgers.line(
        FLIGHTS, day(1), verdict=Verdict.WARN, inputs=(read(1),), taint=("waived: rows",)
    )
    (first,) = ledgers.publish(PRODUCT, [line], data_version="41")
    assert isinstance(first, Publication)
    assert (first.generation, first.data_version, first.run) == (1, "41", "run-1")
    assert (first.inputs, first.taint, first.verdict) == (line.inputs, line.taint, Verdict.WARN)
    changed = ledgers.line(FLIGHTS, day(1), made_by="f2", content="2:b")
    (second,) = ledgers.publish(PRODUCT, [changed], run="run-2", data_version="42")
    assert second.generation == 2
    assert second.position > first.position
    assert ledgers.runner.history(FLIGHTS, day(1)) == (first, second)
    assert ledgers.runner.facts([FLIGHTS], []).line(FLIGHTS, day(1)) == second


def test_what_gates_said_is_read_back_from_the_log_by_run(ledgers: Any) -> None:
    said = (
        GateVerdict("daily.adds_up", "a1", Verdict.PASS),
        GateVerdict("daily.once", "b2", Verdict.FAIL),
    )
    lines = [ledgers.line(FLIGHTS, day(1), gates=said), ledgers.line(DELAYS, day(1))]
    published = ledgers.publish(PRODUCT, lines)

    told = ledgers.runner.lines_of("run-1")

    assert told == (replace(published[0], gates=said), published[1])
    assert [line.gates for line in ledgers.runner.published(0, 10)] == [said, ()]
    assert ledgers.runner.lines_of("run-2") == ()


def test_publishing_closes_the_claim_and_repeating_the_call_changes_nothing(ledgers: Any) -> None:
    lines = ledgers.publish(PRODUCT, [ledgers.line(FLIGHTS, day(1))])
    assert ledgers.runner.claims("run-1") == ()
    position = ledgers.runner.position()
    assert ledgers.publisher.publish("run-1", "7") == lines
    assert ledgers.runner.position() == position
    with pytest.raises(ClaimLost, match="run run-1 has no open intent"):
        ledgers.publisher.publish("run-1", "8")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"verdict": Verdict.FAIL}, "its verdict is FAIL: only PASS and WARN publish"),
        ({"verdict": Verdict.UNKNOWN}, "its verdict is UNKNOWN"),
        ({"contract": "flights 9 ffff"}, "the contract flights 9 ffff is not recorded"),
        ({"made_by": "other"}, "made by other, but claimed for f1"),
        ({"table": FILES}, "is a source: it is landed, not published"),
        ({"table": TableRef("fleet", "planes")}, "belongs to another domain than operations"),
    ],
)
def test_an_intent_that_breaks_the_law_is_refused(
    ledgers: Any, changes: dict[str, Any], sentence: str
) -> None:
    ledgers.record()
    ledgers.claim(PRODUCT, [day(1)])
    table = changes.pop("table", FLIGHTS)
    with pytest.raises(NotPublishable, match=f"2013-03-01: {sentence}"):
        ledgers.publisher.intend("run-1", [ledgers.line(table, day(1), **changes)])
    assert ledgers.publisher.intents() == ()


def test_a_line_may_not_be_intended_twice_nor_nothing_at_all(ledgers: Any) -> None:
    ledgers.record()
    ledgers.claim(PRODUCT, [day(1)])
    with pytest.raises(NotPublishable, match="intended twice"):
        ledgers.publisher.intend("run-1", [ledgers.line(FLIGHTS, day(1))] * 2)
    with pytest.raises(NotPublishable, match="intends nothing"):
        ledgers.publisher.intend("run-1", [])
    with pytest.raises(ClaimLost, match=r"holds no claim of operations\.flights 2013-03-02"):
        ledgers.publisher.intend("run-1", [ledgers.line(FLIGHTS, day(2))])


def test_a_fingerprint_published_meanwhile_is_not_intended_again(ledgers: Any) -> None:
    ledgers.publish(PRODUCT, [ledgers.line(FLIGHTS, day(1), made_by="f2")])
    ledgers.claim(PRODUCT, [day(1)], run="run-2", fingerprint="f1")
    # As if the first had come in between: the claim itself is refused otherwise.
    with psycopg.connect(ledgers.url("postgres"), autocommit=True) as admin:
        admin.execute("update ledger.publication set made_by = 'f1'")
    with pytest.raises(NotPublishable, match="already published by this fingerprint, f1"):
        ledgers.publisher.intend("run-2", [ledgers.line(FLIGHTS, day(1))])


def test_a_restored_fingerprint_may_be_published_after_different_lines(ledgers: Any) -> None:
    for number, made_by in enumerate(["f1", "f2", "f1"]):
        line = ledgers.line(FLIGHTS, day(1), made_by=made_by)
        (published,) = ledgers.publish(PRODUCT, [line], run=f"run-{number}")
        assert published.generation == number + 1


def test_what_a_run_is_about_to_publish_it_neither_releases_nor_withholds(ledgers: Any) -> None:
    ledgers.record()
    ledgers.claim(PRODUCT, [day(1), day(2)])
    ledgers.publisher.intend("run-1", [ledgers.line(FLIGHTS, day(1))])
    with pytest.raises(LawBroken, match="publish or withdraw it first"):
        ledgers.publisher.release("run-1", [day(1)], "tired")
    with pytest.raises(LawBroken, match="publish or withdraw it first"):
        ledgers.publisher.withhold([attempt(Verdict.FAIL)])
    ledgers.publisher.withhold([attempt(Verdict.FAIL, partition=day(2))])
    assert len(ledgers.publisher.publish("run-1", "7")) == 1


def test_confirm_returns_the_intent_while_it_stands(ledgers: Any) -> None:
    ledgers.record()
    ledgers.claim(PRODUCT, [day(1)])
    ledgers.publisher.intend("run-1", [ledgers.line(FLIGHTS, day(1))])
    with ledgers.publisher.locked([FLIGHTS, DELAYS]):
        intent = ledgers.publisher.confirm("run-1")
        assert ledgers.publisher.intents([FLIGHTS]) == (intent,)
        assert ledgers.publisher.intents([DELAYS]) == ()
        assert [line.table for line in intent.lines] == [FLIGHTS]
        assert (intent.product, intent.expired) == (PRODUCT, False)
        ledgers.publisher.withdraw("run-1", "gone")
        with pytest.raises(ClaimLost, match="no open intent"):
            ledgers.publisher.confirm("run-1")


def test_publishing_locks_exclude_one_another_whatever_their_order(ledgers: Any) -> None:
    inside: list[int] = []
    most: list[int] = []

    def swap(number: int) -> None:
        tables = [FLIGHTS, DELAYS] if number % 2 else [DELAYS, FLIGHTS]
        for _ in range(3):
            with ledgers.publisher.locked(tables):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.01)
                inside.remove(number)

    race(4, swap)
    assert max(most) == 1
    assert len(most) == 12


def test_a_holder_of_locks_whose_connection_died_is_told_before_it_commits(ledgers: Any) -> None:
    ledgers.record()
    ledgers.claim(PRODUCT, [day(1)])
    ledgers.publisher.intend("run-1", [ledgers.line(FLIGHTS, day(1))])
    with ledgers.publisher.locked([FLIGHTS]):
        with psycopg.connect(ledgers.url("postgres"), autocommit=True) as admin:
            admin.execute(
                "select pg_terminate_backend(pid) from pg_locks"
                " where locktype = 'advisory' and pid <> pg_backend_pid()"
            )
        with pytest.raises(Unavailable):
            ledgers.publisher.confirm("run-1")
    assert ledgers.publisher.confirm("run-1").run == "run-1"


# --- steps ----------------------------------------------------------------------------------------


def test_steps_of_one_partition_merge_their_reasons_and_highest_generations(ledgers: Any) -> None:
    step = Step(PRODUCT, day(1), "landed", ((FILES, day(1), 2),))
    assert ledgers.runner.open_steps([step, Step(PRODUCT, day(2), "landed")]) == 2
    newer = Step(PRODUCT, day(1), "restated", ((FILES, day(1), 1), (FILES, day(2), 5)))
    assert ledgers.runner.open_steps([newer, step]) == 0
    merged, other = ledgers.runner.steps()
    assert merged.because == "landed; restated"
    assert merged.required == ((FILES, day(1), 2), (FILES, day(2), 5))
    assert other == Step(PRODUCT, day(2), "landed")
    position = ledgers.runner.position()
    assert ledgers.runner.open_steps([merged]) == 0
    assert ledgers.runner.position() == position, "what an open step says already is no news"


def test_a_publication_closes_the_step_whose_generations_it_read(ledgers: Any) -> None:
    ledgers.runner.open_steps([Step(PRODUCT, day(1), "landed", ((FILES, day(1), 2),))])
    ledgers.publish(PRODUCT, [ledgers.line(FLIGHTS, day(1), inputs=(read(1),))])
    assert len(ledgers.runner.steps()) == 1, "generation 1 was read, 2 is required"
    newer = ledgers.line(FLIGHTS, day(1), inputs=(read(2),), made_by="f2")
    ledgers.publish(PRODUCT, [newer], run="run-2")
    assert ledgers.runner.steps() == ()


def test_a_step_that_came_to_require_more_is_not_closed_by_who_read_it_earlier(
    ledgers: Any,
) -> None:
    ledgers.runner.open_steps([Step(PRODUCT, day(1), "landed", ((FILES, day(1), 1),))])
    seen = ledgers.runner.steps()
    ledgers.runner.open_steps([Step(PRODUCT, day(1), "restated", ((FILES, day(1), 2),))])
    ledgers.runner.close_steps(seen, "nothing to do")
    assert len(ledgers.runner.steps()) == 1
    ledgers.runner.close_steps(ledgers.runner.steps(), "nothing to do")
    assert ledgers.runner.steps() == ()


# --- contracts ------------------------------------------------------------------------------------


def test_a_published_version_keeps_its_hash_for_ever(ledgers: Any) -> None:
    old, new = "flights 1.0.0 aaaa", "flights 1.0.0 bbbb"
    active = '{"status": "active"}'
    assert ledgers.governance.record_contracts({old: active}) == (old,)
    assert ledgers.governance.record_contracts({old: "{}"}) == ()
    assert ledgers.runner.contract(old) == active
    assert ledgers.governance.record_contracts({new: "{}"}) == (new,)
    ledgers.publish(PRODUCT, [ledgers.line(FLIGHTS, day(1))])
    with pytest.raises(NotPublishable, match=r"1\.0\.0 cccc: .* published as flights 1\.0\.0 aaaa"):
        ledgers.governance.record_contracts({"flights 1.0.0 cccc": "{}"})
    assert ledgers.governance.record_contracts({"flights 1.1.0 cccc": "{}"})
    with pytest.raises(NotPublishable, match="the contract nobody 1 x is not recorded"):
        ledgers.runner.contract("nobody 1 x")


def test_an_approval_is_for_one_hash_and_names_who_gave_it(ledgers: Any) -> None:
    assert ledgers.governance.record_approval("contracts/x.yaml", "aaaa", "agreed", AGREED)
    assert not ledgers.governance.record_approval("contracts/x.yaml", "aaaa", "again", AGREED)
    assert ledgers.runner.approved("contracts/x.yaml", "aaaa") == "ines"
    assert ledgers.runner.approved("contracts/x.yaml", "bbbb") is None


# --- facts, replay --------------------------------------------------------------------------------


def test_facts_are_cut_to_the_span_but_whole_partitions_always_come(ledgers: Any) -> None:
    ledgers.runner.land([landed("a", day(n)) for n in (1, 2, 3)] + [landed("w", WHOLE)])
    span = Span.days("2013-03-02", "2013-03-02", NEW_YORK)
    lines = ledgers.runner.facts([FILES], [], span).lines
    assert {partition for _, partition in lines} == {day(2), WHOLE}


def test_ten_thousand_lines_are_read_at_once(ledgers: Any) -> None:
    slots = hours(10_000)
    ledgers.record()
    ledgers.claim(PRODUCT, slots)
    pins = tuple(read(n) for n in range(3))
    lines = [ledgers.line(FLIGHTS, slot, inputs=pins) for slot in slots]
    ledgers.publisher.intend("run-1", lines)
    ledgers.publisher.publish("run-1", "7")
    facts = ledgers.runner.facts([FLIGHTS], [PRODUCT])
    assert {partition for _, partition in facts.lines} == set(slots)
    assert all(line.inputs == pins for line in facts.lines.values())


def test_the_state_is_the_log_replayed_and_can_be_made_anew(ledgers: Any) -> None:
    ledgers.runner.land([landed("a"), landed("b", day(2))])
    ledgers.runner.land([landed("c")])
    step = Step(PRODUCT, day(1), "landed", ((FILES, day(1), 9),))
    ledgers.runner.open_steps([step, Step(PRODUCT, day(2), "x"), Step(PRODUCT, day(3), "y")])
    ledgers.publish(PRODUCT, [ledgers.line(FLIGHTS, day(n)) for n in (1, 2)])
    ledgers.publish(PRODUCT, [ledgers.line(FLIGHTS, day(1), made_by="f2")], run="run-2")
    ledgers.claim(PRODUCT, [day(4), day(5)], run="run-3")
    ledgers.publisher.withhold([attempt(Verdict.FAIL, run="run-3", partition=day(4))])
    ledgers.claim("operations.delays", [day(6)], run="run-4")
    ledgers.publisher.intend("run-4", [ledgers.line(DELAYS, day(6))])
    ledgers.governance.record_approval("a", "b", "c", AGREED)
    assert ledgers.owner.verify() == ()
    before = ledgers.runner.facts([FLIGHTS, DELAYS, FILES], [PRODUCT])
    steps = ledgers.runner.steps()
    with psycopg.connect(ledgers.url("postgres"), autocommit=True) as admin:
        admin.execute("update ledger.publication set content = 'forged' where generation = 2")
        admin.execute("delete from ledger.step where key like '%-03'")
        admin.execute("insert into ledger.keeping values ('a.b@1', 'b', 7)")
    assert ledgers.owner.verify() == (
        f'publication: {FLIGHTS} 2013-03-01 2 says content "forged", and the log "1:a"',
        f"step: {PRODUCT} 2013-03-03 is not there, and the log has it",
        "keeping: a.b@1 is there, and the log has it not",
    )
    with psycopg.connect(ledgers.url("postgres"), autocommit=True) as admin:
        admin.execute("delete from ledger.publication")
        admin.execute(
            "insert into ledger.keeping select 'a.b' || n, 'b', 7 from generate_series(1, 29) n"
        )
    assert ledgers.owner.verify()[-1] == "keeping: and 10 more"
    assert ledgers.owner.rebuild() > 10
    assert ledgers.owner.verify() == ()
    assert ledgers.runner.facts([FLIGHTS, DELAYS, FILES], [PRODUCT]) == before
    assert ledgers.runner.steps() == steps
    assert len(ledgers.publisher.publish("run-4", "8")) == 1, "an intent outlives a rebuild"


# --- not answering --------------------------------------------------------------------------------


def test_a_dead_port_is_named_with_host_and_port() -> None:
    ledger = PostgresLedger("postgresql://levada_runner:secret@127.0.0.1:1/levada")
    with pytest.raises(
        Unavailable, match=r"the ledger does not answer at 127\.0\.0\.1:1: "
    ) as told:
        ledger.facts([], [])
    assert "secret" not in str(told.value)


def test_a_connection_that_the_server_closed_is_replaced_unseen(ledgers: Any) -> None:
    assert ledgers.runner.position() == 0
    with psycopg.connect(ledgers.url("postgres"), autocommit=True) as admin:
        admin.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and usename = 'levada_runner'"
        )
    assert ledgers.runner.position() == 0


def test_a_forked_child_makes_its_own_connection_and_leaves_the_parents_alone(
    ledgers: Any,
) -> None:
    assert ledgers.runner.position() == 0
    child = os.fork()
    if child == 0:
        os._exit(0 if ledgers.runner.land([landed("child")]) else 1)
    assert os.waitpid(child, 0)[1] == 0
    with ledgers.runner._take() as connection:
        assert connection.execute("select count(*) from ledger.landings").fetchone() == (1,)


def race(count: int, work: Any) -> None:
    """Run `work(number)` in threads that start together; an exception in one fails the test."""
    gate, failed = threading.Barrier(count), []

    def run(number: int) -> None:
        gate.wait()
        try:
            work(number)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=[n]) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_positions_rise_with_every_line_of_one_call(ledgers: Any) -> None:
    lines = ledgers.runner.land([landed("a", slot) for slot in hours(50)])
    assert all(a.position < b.position for a, b in pairwise(lines))
