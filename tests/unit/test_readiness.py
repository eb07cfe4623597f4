"""The judge: one table, one product's inputs, its pins, and the way to a root cause."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.strategies import (
    NOW,
    World,
    edge,
    failing_check,
    little_mesh,
    make_mart,
    make_mesh,
    make_product,
    make_source,
    ref,
    single,
)

from levada.intervals import within
from levada.plan import plan
from levada.ports import Want
from levada.readiness import (
    ancestors,
    fingerprint,
    judge_inputs,
    judge_table,
    pins,
    suspects,
    trace,
)
from levada.sense import want
from levada.terms import (
    WHOLE,
    Check,
    CheckResult,
    Grain,
    Identity,
    Input,
    Lag,
    Latest,
    Mesh,
    Partition,
    Publication,
    Readiness,
    Severity,
    State,
    TableRef,
    Trailing,
    Verdict,
    WaitPolicy,
)

SHORT_DAY = "2013-03-10"


def see(world: World, table: str, key: str) -> Readiness:
    return judge_table(world.mesh, ref(table), world.slice(table, key), world.facts, world.now)


def may(world: World, product: str, key: str) -> Readiness:
    made = world.mesh.product(product)
    at = world.slice(made.marts[0].table, key)
    return judge_inputs(world.mesh, made, at, world.facts, world.now)


def hours_of(world: World, key: str) -> list[Partition]:
    day = world.slice("operations.flights", key)
    hours = within(Grain.HOUR, "America/New_York", world.mesh.span)
    following = [h for h in hours if h.begin >= day.begin]
    return following[: 23 if key == SHORT_DAY else 24]


def ready_world(key: str = SHORT_DAY) -> World:
    """All that `company.daily` needs for one day is published; it is not built yet."""
    world = World(little_mesh())
    world.land("operations.landing.flights", key)
    world.publish("operations.flights", key)
    for hour in hours_of(world, key):
        world.land("weather.landing.hours", hour)
        world.publish("weather.observations", hour)
    world.land("fleet.landing.planes", WHOLE)
    world.publish("fleet.planes", WHOLE)
    return world


# One table


def test_a_source_waits_until_its_file_landed() -> None:
    world = World(little_mesh())
    found = see(world, "weather.landing.hours", "2013-03-10T07Z")
    assert (found.state, found.because) == (State.WAITING, "nothing landed")
    world.land("weather.landing.hours", "2013-03-10T07Z")
    assert see(world, "weather.landing.hours", "2013-03-10T07Z").state is State.READY


def test_a_published_current_partition_is_ready() -> None:
    world = ready_world()
    world.publish("company.daily", SHORT_DAY)
    found = see(world, "company.daily", SHORT_DAY)
    assert (found.state, found.because) == (State.READY, "published, generation 1, PASS")
    assert not found.degraded


def test_nothing_published_is_a_wait_and_a_claim_says_who_builds() -> None:
    world = ready_world()
    assert see(world, "company.daily", SHORT_DAY).because == "nothing published"
    world.claim("company.daily", SHORT_DAY)
    found = see(world, "company.daily", SHORT_DAY)
    assert (found.state, found.because) == (State.WAITING, "being built by run run-live")
    assert found.next == NOW + timedelta(minutes=5)


def test_a_changed_input_makes_a_line_stale_and_names_what_changed() -> None:
    world = ready_world()
    world.publish("company.daily", SHORT_DAY)
    world.land("weather.landing.hours", "2013-03-10T07Z", "mended")
    hour = see(world, "weather.observations", "2013-03-10T07Z")
    assert hour.state is State.STALE
    # One hop: what lies below is still ready until the hour is really republished.
    assert see(world, "company.daily", SHORT_DAY).state is State.READY
    world.publish("weather.observations", "2013-03-10T07Z")
    found = see(world, "company.daily", SHORT_DAY)
    assert found.state is State.STALE
    assert found.because == "weather.observations@1 2013-03-10T07Z changed since it was read"
    assert [(str(t), p.key) for t, p in found.missing] == [
        ("weather.observations@1", "2013-03-10T07Z")
    ]


def test_the_same_content_in_a_new_generation_leaves_readers_current() -> None:
    world = ready_world()
    world.publish("company.daily", SHORT_DAY)
    world.land("operations.landing.flights", SHORT_DAY, "b")
    before = world.lines[ref("operations.flights"), world.slice("operations.flights", SHORT_DAY)]
    world.publish("operations.flights", SHORT_DAY, before.content)
    assert see(world, "company.daily", SHORT_DAY).state is State.READY


def test_latest_ignores_by_default_what_came_later() -> None:
    world = ready_world()
    world.publish("company.daily", SHORT_DAY)
    world.land("fleet.landing.planes", WHOLE, "one new aircraft")
    assert see(world, "fleet.planes", "whole").state is State.STALE
    world.publish("fleet.planes", WHOLE)
    assert see(world, "company.daily", SHORT_DAY).state is State.READY


@pytest.mark.parametrize(
    ("action", "state"),
    [("rerun", State.STALE), ("hold", State.HELD), ("ignore", State.READY)],
)
def test_the_edge_decides_what_a_restatement_does(action: str, state: State) -> None:
    up, down = "a.landing.x", "a.x"
    product = single(down, Grain.DAY, edge(up, down, Identity(), action=action))
    world = World(make_mesh([product], [make_source(up, Grain.DAY)]))
    world.land(up, SHORT_DAY)
    world.publish(down, SHORT_DAY)
    world.land(up, SHORT_DAY, "other")
    assert see(world, down, SHORT_DAY).state is state


def test_an_input_that_was_absent_and_arrives_makes_the_line_stale() -> None:
    up, down = "a.landing.x", "a.x"
    tolerant = edge(up, down, Trailing(2), wait=WaitPolicy(at_most_missing=1))
    world = World(make_mesh([single(down, Grain.DAY, tolerant)], [make_source(up, Grain.DAY)]))
    world.land(up, SHORT_DAY)
    world.publish(down, SHORT_DAY)
    assert see(world, down, SHORT_DAY).state is State.READY
    world.land(up, "2013-03-09")
    found = see(world, down, SHORT_DAY)
    assert found.state is State.STALE
    assert found.because == "a.landing.x 2013-03-09 arrived after it was read"


def test_a_table_that_the_run_never_read_makes_nothing_stale() -> None:
    world = ready_world()
    world.publish("company.daily", SHORT_DAY)
    daily = world.mesh.product("company.daily").marts[0]
    world.land("operations.landing.flights", "2013-03-09")
    grown = (
        *daily.dependencies,
        edge("operations.landing.flights", "company.daily", Identity()),
    )
    world.redeclare("company.daily", dependencies=grown)
    assert see(world, "company.daily", SHORT_DAY).state is State.READY


def test_another_major_or_another_contract_is_not_what_readers_were_promised() -> None:
    world = ready_world()
    contract = world.mesh.mart(ref("operations.flights")).contract
    world.redeclare("operations.flights", contract=replace(contract, version="1.4.0", hash="new"))
    assert see(world, "operations.flights", SHORT_DAY).state is State.READY
    for other in (replace(contract, version="2.0.0"), replace(contract, id="elsewhere")):
        world.redeclare("operations.flights", contract=other)
        found = see(world, "operations.flights", SHORT_DAY)
        assert found.state is State.STALE
        assert "published under the contract" in found.because


def test_a_failed_audit_names_its_checks_and_old_data_stays() -> None:
    world = ready_world()
    world.land("operations.landing.flights", SHORT_DAY, "broken")
    world.attempt(
        "operations.flights", SHORT_DAY, Verdict.FAIL, [failing_check("operations.flights")]
    )
    found = see(world, "operations.flights", SHORT_DAY)
    assert found.state is State.FAILED
    assert found.because == "audit failed: distance.positive (3 rows)"
    assert (ref("operations.flights"), world.slice("operations.flights", SHORT_DAY)) in world.lines


def test_a_failure_is_overtaken_by_a_newer_line_and_by_mended_inputs() -> None:
    world = ready_world()
    world.land("operations.landing.flights", SHORT_DAY, "broken")
    world.attempt("operations.flights", SHORT_DAY, Verdict.FAIL)
    assert see(world, "operations.flights", SHORT_DAY).state is State.FAILED
    world.land("operations.landing.flights", SHORT_DAY, "a")  # as it was: the old line is right
    assert see(world, "operations.flights", SHORT_DAY).state is State.READY

    world.land("operations.landing.flights", SHORT_DAY, "good")
    attempt = world.attempts["operations.flights", world.slice("operations.flights", SHORT_DAY)]
    world.publish("operations.flights", SHORT_DAY)
    world.attempts["operations.flights", attempt.partition] = attempt
    assert see(world, "operations.flights", SHORT_DAY).state is State.READY


def test_a_failure_of_new_code_is_not_overtaken_by_the_old_line() -> None:
    world = ready_world()
    world.redeclare("operations.flights", code="2")
    world.attempt("operations.flights", SHORT_DAY, Verdict.FAIL)
    assert see(world, "operations.flights", SHORT_DAY).state is State.FAILED


def test_an_attempt_that_could_not_be_judged_leaves_the_line_as_it_is() -> None:
    world = ready_world()
    world.redeclare("operations.flights", code="2")
    world.attempt("operations.flights", SHORT_DAY, Verdict.UNKNOWN)
    assert see(world, "operations.flights", SHORT_DAY).state is State.READY
    world.land("operations.landing.flights", "2013-03-11")
    soon = NOW + timedelta(minutes=1)
    world.attempt("operations.flights", "2013-03-11", Verdict.UNKNOWN, not_before=soon)
    found = see(world, "operations.flights", "2013-03-11")
    assert (found.state, found.next) == (State.WAITING, soon)
    assert found.because == "could not be judged: dbt was killed"


def test_taint_and_warnings_degrade_what_is_ready() -> None:
    world = ready_world()
    key = (ref("operations.flights"), world.slice("operations.flights", SHORT_DAY))
    line = world.lines[key]
    assert isinstance(line, Publication)
    world.lines[key] = replace(line, taint=("waived: distance.positive",))
    assert see(world, "operations.flights", SHORT_DAY).degraded
    assert may(world, "company.daily", SHORT_DAY).degraded
    world.lines[key] = replace(line, verdict=Verdict.WARN)
    assert see(world, "operations.flights", SHORT_DAY).degraded


@pytest.mark.parametrize(
    ("partition", "said"),
    [
        (WHOLE, "it is sliced by day"),
        (Partition(Grain.DAY, datetime(2013, 3, 10, tzinfo=UTC)), "no day of America/New_York"),
        (
            Partition(Grain.DAY, datetime(2013, 3, 10, 7, tzinfo=UTC), "America/New_York"),
            "starts at 2013-03-10 07:00Z",
        ),
        (
            Partition(Grain.DAY, datetime(2013, 4, 10, 4, tzinfo=UTC), "America/New_York"),
            "inside the mesh's span",
        ),
    ],
)
def test_a_slice_that_cannot_exist_is_impossible(partition: Partition, said: str) -> None:
    world = World(little_mesh())
    table = ref("operations.flights")
    found = judge_table(world.mesh, table, partition, world.facts, NOW)
    assert found.state is State.IMPOSSIBLE
    assert said in found.because


def test_a_product_is_impossible_when_an_input_can_never_be_built() -> None:
    up, mid, down = "a.landing.x", "a.x", "b.y"
    mesh = make_mesh(
        [
            single(mid, Grain.DAY, edge(up, mid, Lag(1))),
            single(down, Grain.DAY, edge(mid, down, Identity())),
        ],
        [make_source(up, Grain.DAY)],
    )
    world = World(mesh)
    assert may(world, mid, "2013-03-04").state is State.IMPOSSIBLE
    assert see(world, mid, "2013-03-04").state is State.IMPOSSIBLE
    found = may(world, down, "2013-03-04")
    assert found.state is State.IMPOSSIBLE
    assert found.because.endswith(
        "a.landing.x 2013-03-03: 2013-03-03 does not lie wholly inside the mesh's span"
    )
    assert may(world, down, "2013-03-05").state is State.WAITING


# The inputs of a product


def test_ready_inputs_are_counted_in_one_sentence() -> None:
    found = may(ready_world(), "company.daily", SHORT_DAY)
    assert found.state is State.READY
    assert found.because == (
        "operations.flights@1 2013-03-10, 23 of 23 hours of weather.observations@1, "
        "the latest fleet.planes@1"
    )


def test_a_missing_hour_is_named_with_its_reason() -> None:
    world = ready_world()
    del world.lines[
        ref("weather.observations"), world.slice("weather.observations", "2013-03-10T07Z")
    ]
    found = may(world, "company.daily", SHORT_DAY)
    assert found.state is State.WAITING
    assert found.because == "waits for weather.observations@1 2013-03-10T07Z: nothing published"
    assert [p.key for _, p in found.missing] == ["2013-03-10T07Z"]
    del world.lines[
        ref("weather.observations"), world.slice("weather.observations", "2013-03-10T09Z")
    ]
    found = may(world, "company.daily", SHORT_DAY)
    assert found.because == (
        "waits for 2 of 23 hours of weather.observations@1: 2013-03-10T07Z: nothing published, ..."
    )


@pytest.mark.parametrize(
    ("wait", "landed", "state"),
    [
        (WaitPolicy(), 2, State.WAITING),
        (WaitPolicy(), 3, State.READY),
        (WaitPolicy(at_least=2), 1, State.WAITING),
        (WaitPolicy(at_least=2), 2, State.READY),
        (WaitPolicy(at_least=9), 2, State.WAITING),
        (WaitPolicy(at_most_missing=2), 0, State.WAITING),
        (WaitPolicy(at_most_missing=2), 1, State.READY),
    ],
)
def test_the_wait_policy_decides(wait: WaitPolicy, landed: int, state: State) -> None:
    up, down = "a.landing.x", "a.x"
    product = single(down, Grain.DAY, edge(up, down, Trailing(3), wait=wait))
    world = World(make_mesh([product], [make_source(up, Grain.DAY)]))
    for day in ("2013-03-08", "2013-03-09", "2013-03-10")[:landed]:
        world.land(up, day)
    found = may(world, down, SHORT_DAY)
    assert found.state is state
    assert found.degraded == (state is State.READY and landed < 3)
    assert len(found.missing) == 3 - landed


def test_what_lies_before_the_span_counts_as_missing_for_ever() -> None:
    up, down = "a.landing.x", "a.x"
    mesh = make_mesh(
        [
            single(down, Grain.DAY, edge(up, down, Trailing(3))),
            single("a.z", Grain.DAY, edge(up, "a.z", Trailing(3), wait=WaitPolicy(at_least=1))),
        ],
        [make_source(up, Grain.DAY)],
    )
    world = World(mesh)
    world.land(up, "2013-03-04")
    assert may(world, down, "2013-03-04").state is State.IMPOSSIBLE
    assert may(world, "a.z", "2013-03-04").state is State.READY


def test_an_optional_input_is_never_waited_for() -> None:
    up, down = "a.landing.x", "a.x"
    product = single(down, Grain.DAY, edge(up, down, Identity(), required=False))
    world = World(make_mesh([product], [make_source(up, Grain.DAY)]))
    assert may(world, down, SHORT_DAY).state is State.READY
    world.publish(down, SHORT_DAY)
    world.land(up, SHORT_DAY)
    assert see(world, down, SHORT_DAY).state is State.STALE


def test_latest_within_counts_from_the_wall_time_of_the_line() -> None:
    mesh = little_mesh(within=timedelta(days=40))
    world = ready_world()
    world.mesh = mesh
    for later, state, wakes in (
        (timedelta(days=1), State.READY, NOW + timedelta(days=40)),
        (timedelta(days=40, seconds=-1), State.READY, NOW + timedelta(days=40)),
        (timedelta(days=40), State.WAITING, None),  # the answer is another at the promised instant
    ):
        world.now = NOW + later
        found = may(world, "company.daily", SHORT_DAY)
        assert (found.state, found.next) == (state, wakes)
    assert found.because == (
        "waits for the latest fleet.planes@1: published 40d ago, not within 40d"
    )
    (hop,) = trace(
        mesh,
        ref("company.daily"),
        world.slice("company.daily", SHORT_DAY),
        world.facts,
        world.now,
    )
    assert (hop.table, hop.readiness.because) == (
        ref("fleet.planes"),
        "published 40d ago, not within 40d",
    )


def test_latest_of_a_sliced_table_reads_its_newest_slice() -> None:
    up, down = "a.landing.x", "a.x"
    product = single(down, Grain.WHOLE, edge(up, down, Latest(), action="rerun"))
    world = World(make_mesh([product], [make_source(up, Grain.DAY)]))
    found = may(world, down, "whole")
    assert found.state is State.WAITING
    assert found.because == "waits for a.landing.x 2013-03-17: nothing landed"
    world.land(up, "2013-03-05")
    world.land(up, "2013-03-04")
    (pin,) = pins(world.mesh, world.mesh.product(down), WHOLE, world.facts, NOW)
    assert pin.partition.key == "2013-03-05"
    world.publish(down, WHOLE)
    assert see(world, down, "whole").state is State.READY
    world.land(up, "2013-03-06")
    assert see(world, down, "whole").state is State.STALE


def test_a_product_that_reads_nothing_may_always_be_built() -> None:
    world = World(make_mesh([single("a.x", Grain.DAY)], []))
    assert may(world, "a.x", SHORT_DAY) == Readiness(State.READY, "reads nothing")


# Pins


def test_pins_take_one_snapshot_of_each_table_and_record_what_is_absent() -> None:
    world = ready_world()
    up = "weather.observations"
    daily = world.mesh.product("company.daily")
    tolerant = tuple(
        replace(d, wait=WaitPolicy(at_most_missing=1)) if str(d.upstream).startswith(up) else d
        for d in daily.dependencies
    )
    world.redeclare("company.daily", dependencies=tolerant)
    world.land("weather.landing.hours", "2013-03-10T07Z", "moved")  # makes that hour stale
    at = world.slice("company.daily", SHORT_DAY)
    found = pins(world.mesh, world.mesh.product("company.daily"), at, world.facts, NOW)
    weather = [i for i in found if i.table == ref(up)]
    assert len(weather) == 23
    absent = [i for i in weather if i.content is None]
    assert [(i.partition.key, i.generation) for i in absent] == [("2013-03-10T07Z", 0)]
    newest = max((n for n in world.lines.values() if n.table == ref(up)), key=lambda n: n.position)
    assert isinstance(newest, Publication)
    assert {i.data_version for i in weather if i.content} == {newest.data_version}
    assert list(found) == sorted(found, key=lambda i: (i.table, i.partition))


def test_a_landed_file_is_pinned_by_its_path_and_hash() -> None:
    world = World(little_mesh())
    line = world.land("operations.landing.flights", SHORT_DAY, "sha")
    product = world.mesh.product("operations.flights")
    (pin,) = pins(world.mesh, product, line.partition, world.facts, NOW)
    assert pin == Input(line.table, line.partition, 1, "sha", line.path)


# The fingerprint


def test_the_fingerprint_moves_with_code_contract_parameters_and_contents_only() -> None:
    world = World(little_mesh())
    day = world.slice("operations.flights", SHORT_DAY)
    source = ref("operations.landing.flights")
    read = [Input(source, day, 1, "a", "v1")]

    def mark(inputs: list[Input] = read, **parameters: str) -> str:
        product = world.mesh.product("operations.flights")
        return fingerprint(product, day, inputs, tuple(parameters.items()))

    first = mark()
    assert first == mark([Input(source, day, 9, "a", "v7")])
    others = [mark([Input(source, day, 1, "b")]), mark([Input(source, day, 1, None)]), mark(x="1")]
    world.redeclare("operations.flights", code="2")
    others.append(mark())
    contract = world.mesh.mart(ref("operations.flights")).contract
    world.redeclare("operations.flights", contract=replace(contract, hash="other"))
    others.append(mark())
    assert len({first, *others}) == 6


# Root causes


def causes(world: World, table: str, key: str) -> list[tuple[str, str, str]]:
    found = trace(world.mesh, ref(table), world.slice(table, key), world.facts, world.now)
    return [(str(h.table), h.partition.key, h.readiness.because) for h in found]


def test_a_ready_table_has_no_cause() -> None:
    world = ready_world()
    assert causes(world, "operations.flights", SHORT_DAY) == []


def test_the_cause_is_the_file_that_did_not_land_with_the_whole_way_to_it() -> None:
    world = ready_world()
    for table in ("weather.observations", "weather.landing.hours"):
        del world.lines[ref(table), world.slice(table, "2013-03-10T07Z")]
    week = world.slice("company.weekly", "2013-03-04")
    facts = world.facts
    (first, *others) = trace(world.mesh, ref("company.weekly"), week, facts, world.now)
    assert (str(first.table), first.partition.key) == ("operations.landing.flights", "2013-03-04")
    (hop,) = [h for h in (first, *others) if h.partition.key == "2013-03-10T07Z"]
    assert [str(table) for table, _ in hop.path] == [
        "company.weekly@1",
        "company.daily@1",
        "weather.observations@1",
        "weather.landing.hours",
    ]
    assert hop.owner.team == "weather-in"
    assert hop.since == datetime(2013, 3, 10, 8, tzinfo=UTC), "its hour was over, and its file due"
    early = trace(
        *(world.mesh, ref("weather.landing.hours"), hop.partition, facts),
        now=hop.since - timedelta(seconds=1),
    )
    assert [found.since for found in early] == [None]


def test_the_cause_may_be_a_failed_audit_with_its_results() -> None:
    world = ready_world()
    world.land("operations.landing.flights", SHORT_DAY, "broken")
    advisory = CheckResult(
        Check("late", "rowCount", severity=Severity.ADVISORY),
        ref("operations.flights"),
        Verdict.FAIL,
    )
    blocking = failing_check("operations.flights")
    world.attempt("operations.flights", SHORT_DAY, Verdict.FAIL, [advisory, blocking])
    (hop,) = trace(
        world.mesh,
        ref("company.daily"),
        world.slice("company.daily", SHORT_DAY),
        world.facts,
        world.now,
    )
    assert (hop.table, hop.readiness.state) == (ref("operations.flights"), State.FAILED)
    assert hop.results == (blocking, advisory)
    assert hop.since == NOW
    assert str(hop.owner) == "operations"


def test_the_cause_may_be_a_run_or_a_build_that_nobody_started() -> None:
    world = ready_world()
    assert causes(world, "company.daily", SHORT_DAY) == [
        ("company.daily@1", SHORT_DAY, "not built yet, though its inputs are ready")
    ]
    world.claim("company.daily", SHORT_DAY)
    assert causes(world, "company.daily", SHORT_DAY) == [
        ("company.daily@1", SHORT_DAY, "being built by run run-live")
    ]


def test_a_passing_table_is_withheld_with_its_failing_sibling() -> None:
    up = "a.landing.x"
    product = make_product(
        "a.pair",
        Grain.DAY,
        make_mart("a.good", Grain.DAY, [edge(up, "a.good", Identity())]),
        make_mart("a.bad", Grain.DAY, [edge("a.good", "a.bad", Identity())]),
    )
    below = single("b.y", Grain.DAY, edge("a.good", "b.y", Identity()))
    world = World(make_mesh([product, below], [make_source(up, Grain.DAY)]))
    world.land(up, SHORT_DAY)
    world.attempt("a.pair", SHORT_DAY, Verdict.FAIL, [failing_check("a.bad")])
    assert see(world, "a.good", SHORT_DAY).because == (
        "withheld with a.bad@1 of the same product: audit failed: distance.positive (3 rows)"
    )
    (hop,) = trace(world.mesh, ref("b.y"), world.slice("b.y", SHORT_DAY), world.facts, world.now)
    assert [str(table) for table, _ in hop.path] == ["b.y@1", "a.good@1", "a.bad@1"]
    assert hop.results == (failing_check("a.bad"),)


def test_a_ready_table_shows_what_it_was_made_from_as_suspect() -> None:
    world = ready_world()
    world.publish("company.daily", SHORT_DAY)
    at = world.slice("company.daily", SHORT_DAY)

    def suspected() -> list[list[str]]:
        found = suspects(world.mesh, ref("company.daily"), at, world.facts, world.now)
        return [[str(table) for table, _ in hop.path] for hop in found]

    assert suspected() == []
    world.land("fleet.landing.planes", WHOLE, "read as of then")
    world.land("operations.landing.flights", SHORT_DAY, "restated")
    assert see(world, "company.daily", SHORT_DAY).state is State.READY
    assert suspected() == [["company.daily@1", "operations.flights@1"]]
    world.publish("operations.flights", SHORT_DAY)
    assert see(world, "company.daily", SHORT_DAY).state is State.STALE
    assert suspected() == []


# Against a plain search


DAYS = ("2013-03-08", "2013-03-09", "2013-03-10", "2013-03-11")
DOMAINS = ("north", "east", "west")


def random_world(random: Random) -> World:
    """Six layers of products in three domains, built and broken at random."""
    sources = [make_source(f"{d}.landing.files", Grain.DAY) for d in DOMAINS]
    above = [str(s.table) for s in sources]
    products = []
    for layer in range(6):
        made = []
        for n in range(random.randint(1, 3)):
            domain = random.choice(DOMAINS)
            tables = [f"{domain}.t{layer}_{n}_{m}" for m in range(random.randint(1, 2))]
            marts = []
            for table in tables:
                read = random.sample(above, random.randint(1, min(3, len(above))))
                edges = [edge(up, table, Identity(), required=random.random() < 0.9) for up in read]
                marts.append(make_mart(table, Grain.DAY, edges))
            products.append(make_product(f"{domain}.p{layer}_{n}", Grain.DAY, *marts))
            made += tables
        above = made + random.sample(above, min(1, len(above)))
    world = World(make_mesh(products, sources, DAYS[0], DAYS[-1]))
    for _ in range(3):
        for source in sources:
            for day in DAYS:
                if random.random() < 0.7:
                    world.land(str(source.table), day, random.choice("abc"))
        for product in products:
            for day in DAYS:
                if may(world, product.id, day).state is State.READY and random.random() < 0.8:
                    act(world, product.id, day, random)
    return world


def act(world: World, product: str, day: str, random: Random) -> None:
    marts = world.mesh.product(product).marts
    at = world.slice(marts[0].table, day)
    if not isinstance(want(world.mesh, world.mesh.product(product), at, world.facts, NOW), Want):
        return  # already current
    chance = random.random()
    if chance < 0.7:
        world.publish(product, day, random.choice(("x", "y", None)))
    elif chance < 0.85:
        bad = [str(m.table) for m in random.sample(marts, random.randint(1, len(marts)))]
        world.attempt(product, day, Verdict.FAIL, [failing_check(t) for t in bad])
    else:
        world.claim(product, day)


class Plain:
    """Readiness of one day and its root causes, by a plain search that asks the judge nothing."""

    def __init__(self, world: World, at: Partition) -> None:
        self.world, self.mesh, self.at = world, world.mesh, at

    def ready(self, table: TableRef) -> bool:
        line = self.world.lines.get((table, self.at))
        if not isinstance(line, Publication):
            return line is not None
        read = [d.upstream for d in self.mesh.product(table).dependencies]
        newest = {up: self.world.lines.get((up, self.at)) for up in read}
        recorded = {i.table: i for i in line.inputs}
        return all(
            not self.ok(up)  # what it went without and could read now
            if recorded[up].content is None
            else n is not None and n.content == recorded[up].content
            for up, n in newest.items()
        )

    def blamed(self, table: TableRef) -> list[TableRef]:
        if table.is_source:
            return []
        product = self.mesh.product(table)
        attempt = self.world.attempts.get((product.id, self.at))
        if attempt is not None:
            bad = [r.table for r in attempt.results]
            return [] if table in bad else bad
        if (product.id, self.at) in self.world.claims:
            return []
        return [d.upstream for d in product.dependencies if d.required and not self.ok(d.upstream)]

    def ok(self, table: TableRef) -> bool:
        failed = not table.is_source and self.failed(self.mesh.product(table).id)
        return self.ready(table) and not failed

    def failed(self, product: str) -> bool:
        """Whether its newest attempt failed and the old line is not right after all."""
        marts = self.mesh.product(product).marts
        standing = (product, self.at) in self.world.attempts
        return standing and not all(self.ready(m.table) for m in marts)

    def causes(self, table: TableRef) -> dict[tuple[TableRef, Partition], int]:
        if self.ok(table):
            return {}
        distance, queue = {table: 0}, deque([table])
        while queue:
            node = queue.popleft()
            for further in self.blamed(node):
                if further not in distance:
                    distance[further] = distance[node] + 1
                    queue.append(further)
        return {(node, self.at): n for node, n in distance.items() if not self.blamed(node)}


@pytest.mark.thorough
@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=True))
def test_traces_of_random_meshes_equal_a_plain_search(random: Random) -> None:
    world = random_world(random)
    facts, mesh = world.facts, world.mesh
    for table in mesh.tables():
        for at in within(*mesh.slicing(table), mesh.span):
            found = trace(mesh, table, at, facts, NOW)
            naive = Plain(world, at).causes(table)
            assert {(h.table, h.partition): len(h.path) - 1 for h in found} == naive
            assert len(found) == len(naive)
            lengths = [len(h.path) for h in found]
            assert lengths == sorted(lengths)
            for hop in found:
                assert hop.path[0] == (table, at)
                assert hop.path[-1] == (hop.table, hop.partition)
                assert _is_a_way(mesh, hop.path)
                assert {t for t, _ in hop.path} <= ancestors(mesh, table)


def _is_a_way(mesh: Mesh, path: tuple[tuple[TableRef, Partition], ...]) -> bool:
    return all(
        upper in {d.upstream for d in mesh.product(lower).dependencies}
        or mesh.product(upper) is mesh.product(lower)
        for (lower, _), (upper, _) in itertools.pairwise(path)
    )


LOST = "reads a.raw@1: nothing declares it any more"


def test_what_lost_its_input_is_impossible_though_it_was_published_and_so_is_what_reads_it() -> (
    None
):
    top, mid, low = "a.top", "b.mid", "c.low"
    chain = make_mesh(
        [
            single(top, Grain.DAY, edge("a.landing.x", top, Identity())),
            single(mid, Grain.DAY, edge(top, mid, Identity())),
            single(low, Grain.DAY, edge(mid, low, Identity())),
        ],
        [make_source("a.landing.x", Grain.DAY)],
    )
    world = World(chain)
    for day in ("2013-03-04", "2013-03-05"):
        world.land("a.landing.x", day)
    world.publish(top, "2013-03-04")
    world.publish(mid, "2013-03-04")
    lost = single(mid, Grain.DAY)
    products = tuple(lost if p.id == mid else p for p in chain.products)
    world.mesh = replace(chain, products=products, lost={mid: LOST})

    for day in ("2013-03-04", "2013-03-05"):
        at = world.slice(mid, day)
        assert see(world, mid, day) == Readiness(State.IMPOSSIBLE, LOST)
        found = want(world.mesh, world.mesh.product(mid), at, world.facts, world.now)
        assert found == Readiness(State.IMPOSSIBLE, LOST), "a sensor ends, and says why"
        assert may(world, low, day).state is State.IMPOSSIBLE
        assert LOST in may(world, low, day).because
        (hop,) = trace(world.mesh, ref(low), at, world.facts, world.now)
        assert (hop.table, hop.readiness.because) == (ref(mid), LOST)
        assert see(world, top, day).state is not State.IMPOSSIBLE
    steps = plan(world.mesh, world.facts, world.now, products=[mid, low]).steps
    assert steps == ()
