"""Scenarios of a small mesh, and the laws of the ledger in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.strategies import little_mesh, ref

from levada.errors import ClaimLost, DeclarationError, LawBroken, NotPublishable
from levada.ports import Want
from levada.sense import want
from levada.simulate import Event, MemoryLedger, Simulation, Timeline, play, read_scenario
from levada.terms import Landing, Partition, State

WEEK = "span: {from: 2013-03-04, to: 2013-03-10}\n"
FLIGHTS, HOURS, DAILY = "operations.landing.flights", "weather.landing.hours", "company.daily"


def told(tmp_path: Path, text: str, dispatch: str = "sensor", span: str = WEEK) -> Timeline:
    path = tmp_path / "scenario.yaml"
    path.write_text(span + text)
    mesh = little_mesh()
    return play(mesh, read_scenario(path, mesh), dispatch)


def of(timeline: Timeline, kind: str, subject: str, key: str) -> list[Event]:
    return [
        e
        for e in timeline.events
        if (e.kind, e.subject) == (kind, subject) and e.partition and e.partition.key == key
    ]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_week_on_time_is_ready_when_its_last_day_is_over_and_built(tmp_path: Path) -> None:
    timeline = told(tmp_path, "builds: {default: 0}\n")

    assert timeline.left == ()
    (week,) = of(timeline, "published", "company.weekly@1", "2013-03-04")
    assert week.at == utc("2013-03-11 04:00")  # the last day has 23 hours


def test_a_late_source_makes_its_readers_late_and_nobody_else(tmp_path: Path) -> None:
    timeline = told(tmp_path, f"arrivals: {{{HOURS}: {{after: 3h}}}}\nbuilds: {{default: 0}}\n")

    (flights,) = of(timeline, "published", "operations.flights@1", "2013-03-05")
    (daily,) = of(timeline, "published", "company.daily@1", "2013-03-05")
    assert (flights.at, daily.at) == (utc("2013-03-06 05:00"), utc("2013-03-06 08:00"))


def test_what_never_lands_is_left_waiting_with_its_reason(tmp_path: Path) -> None:
    rule = f"arrivals: {{{HOURS}: [{{partitions: 2013-03-06T17Z, never: true}}]}}\n"
    timeline = told(tmp_path, rule)

    left = {f"{product} {partition}": found for (product, partition), found in timeline.left}
    assert set(left) == {
        "weather.observations 2013-03-06T17Z",
        "company.daily 2013-03-06",
        "company.weekly 2013-03-04",
    }
    assert {found.state for found in left.values()} == {State.WAITING}


def test_a_restatement_rebuilds_what_reads_it_and_what_reads_that(tmp_path: Path) -> None:
    again = f"{{table: {FLIGHTS}, partitions: 2013-03-05, at: 2013-03-07 14:00}}"
    timeline = told(tmp_path, f"restatements: [{again}]\n")

    rebuilt = [(e.subject, e.generation) for e in timeline.events if e.generation > 1]
    assert rebuilt == [(FLIGHTS, 2), ("operations.flights@1", 2), ("company.daily@1", 2)]
    (fired, again_fired) = of(timeline, "fired", DAILY, "2013-03-05")
    assert "changed since it was read" in again_fired.because
    assert fired.run != again_fired.run


def test_a_restatement_of_a_day_before_the_span_rebuilds_what_was_made_of_it(
    tmp_path: Path,
) -> None:
    again = f"restatements: [{{table: {FLIGHTS}, partitions: 2013-03-05, at: 2013-03-08 14:00}}]\n"
    timeline = told(tmp_path, again, span="span: {from: 2013-03-07, to: 2013-03-09}\n")

    assert [e.generation for e in of(timeline, "restated", FLIGHTS, "2013-03-05")] == [2]
    for table in ("operations.flights@1", "company.daily@1"):
        assert [e.generation for e in of(timeline, "published", table, "2013-03-05")] == [2]
        assert of(timeline, "published", table, "2013-03-06") == []
    assert of(timeline, "published", "company.weekly@1", "2013-03-04") == [], "it is not over"
    assert timeline.left == ()


def test_the_same_content_again_moves_nothing(tmp_path: Path) -> None:
    again = f"{{table: {FLIGHTS}, partitions: 2013-03-05, at: 2013-03-07 14:00, same: true}}"
    timeline = told(tmp_path, f"restatements: [{again}]\n")

    assert len(of(timeline, "repeated", FLIGHTS, "2013-03-05")) == 1
    assert [e for e in timeline.events if e.generation > 1] == []


def test_a_failed_audit_is_parked_until_its_input_changes(tmp_path: Path) -> None:
    timeline = told(
        tmp_path,
        "audits: [{product: operations.flights, partitions: 2013-03-05, check: departure}]\n"
        f"restatements: [{{table: {FLIGHTS}, partitions: 2013-03-05, at: 2013-03-07 14:00}}]\n",
    )

    (failed,) = of(timeline, "failed", "operations.flights", "2013-03-05")
    assert failed.because == "audit failed: departure"
    (published,) = of(timeline, "published", "operations.flights@1", "2013-03-05")
    assert published.at == utc("2013-03-07 19:01")
    assert timeline.left == ()


def test_an_audit_that_cannot_be_told_is_tried_again_by_itself(tmp_path: Path) -> None:
    spoilt = "{product: operations.flights, partitions: 2013-03-05, verdict: UNKNOWN, times: 2}"
    timeline = told(tmp_path, f"audits: [{spoilt}]\nbuilds: {{default: 0}}\n")

    tries = of(timeline, "untold", "operations.flights", "2013-03-05")
    (published,) = of(timeline, "published", "operations.flights@1", "2013-03-05")
    assert [e.at for e in (*tries, published)] == [
        utc("2013-03-06 05:00:00"),
        utc("2013-03-06 05:00:05"),
        utc("2013-03-06 05:00:15"),
    ]


def test_a_pause_of_the_reconciler_delays_rebuilds_and_not_first_runs(tmp_path: Path) -> None:
    timeline = told(
        tmp_path,
        "pauses: [{from: 2013-03-07 00:00, to: 2013-03-08 00:00}]\n"
        f"restatements: [{{table: {FLIGHTS}, partitions: 2013-03-05, at: 2013-03-07 14:00}}]\n",
    )

    rebuilt = of(timeline, "published", "operations.flights@1", "2013-03-05")[1]
    (first,) = of(timeline, "published", "operations.flights@1", "2013-03-06")
    assert (rebuilt.at, first.at) == (utc("2013-03-08 05:01"), utc("2013-03-07 05:01"))


def test_a_paused_reconciler_starts_no_first_run_where_it_dispatches(tmp_path: Path) -> None:
    pause = "pauses: [{from: 2013-03-07 00:00, to: 2013-03-08 00:00}]\n"
    timeline = told(tmp_path, pause, dispatch="ready")
    (first,) = of(timeline, "published", "operations.flights@1", "2013-03-06")
    assert first.at == utc("2013-03-08 05:01"), "the day was over when it had just been paused"
    assert timeline.left == ()


@pytest.mark.thorough
def test_the_same_scenario_is_the_same_timeline(tmp_path: Path) -> None:
    text = f"arrivals: {{{HOURS}: {{after: 3h}}}}\n"
    assert told(tmp_path, text) == told(tmp_path, text)


def test_every_fault_of_a_scenario_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(
        "spam: 1\n"
        "span: {from: 2013-03-04, to: 2013-03-10}\n"
        "arrivals:\n"
        "  weather.landing.hour: {after: 3h}\n"
        "  operations.landing.flights: {after: 3h, never: true}\n"
        "  fleet.landing.planes: {after: soon}\n"
        "restatements:\n"
        "  - {table: operations.landing.flights, partitions: 2013-02-30, at: 2013-03-07 14:00}\n"
        "  - {table: operations.landing.flights, partitions: 2013-03-05, at: 2013-03-10 02:30}\n"
        "audits: [{product: operations.flight, partitions: 2013-03-05}]\n"
        "pauses: [{from: 2013-03-05 00:00, to: 2013-03-04 00:00}]\n"
        "builds: {operations.flights: long}\n"
        "releases:\n"
        "  - {product: operations.flights, partitions: 2014-03-05, at: 2013-03-07 14:00}\n"
        "  - {product: operations.flights, partitions: 2013-03-12, at: 2013-03-07 14:00}\n"
    )

    with pytest.raises(DeclarationError) as refused:
        read_scenario(path, little_mesh())

    found = {(f.line, f.wrong) for f in refused.value.faults}
    assert {line for line, _ in found} == {1, 4, 5, 6, 8, 9, 10, 11, 12, 14, 15}
    assert {f.path for f in refused.value.faults} == {str(path)}
    assert "did you mean 'weather.landing.hours'?" in str(refused.value)
    assert "the clock jumps over it" in str(refused.value)
    assert "has no such slice in the mesh's span" in str(refused.value)
    assert "2013-03-12 of operations.flights@1 ends after the scenario's span" in str(refused.value)


@pytest.mark.parametrize(
    ("arrives", "said"),
    [
        ("{}", "2013-03-05 is restated before it has landed: it lands at 2013-03-06 00:00"),
        ("{after: 9h}", "it lands at 2013-03-06 09:00"),
        ("never", "2013-03-05 is restated before it has landed: it never does"),
    ],
)
def test_what_has_not_landed_is_not_restated(tmp_path: Path, arrives: str, said: str) -> None:
    rules = f"arrivals: {{{FLIGHTS}: {arrives}}}\n" if arrives != "{}" else ""
    again = f"restatements: [{{table: {FLIGHTS}, partitions: 2013-03-05, at: 2013-03-05 14:00}}]\n"
    with pytest.raises(DeclarationError, match=said):
        told(tmp_path, rules + again)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "holds no keys"),
        ("name: [\n", "is no YAML"),
        ("name: a\n", "'span' is missing"),
        ("span: {from: 2013-02-01, to: 2013-03-05}\n", "leaves the mesh's span"),
        ("span: {from: 2013-03-06, to: 2013-03-05}\n", "is empty"),
    ],
)
def test_a_file_that_is_no_scenario_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    with pytest.raises(DeclarationError, match=said):
        read_scenario(path, little_mesh())


def test_a_scenario_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="cannot be read"):
        read_scenario(tmp_path / "none.yaml", little_mesh())


# A run that dies


@pytest.mark.parametrize("where", ["build", "intent", "swap"])
def test_wherever_a_run_dies_its_partition_is_published_once(where: str) -> None:
    simulation, _ = one_landed()
    simulation.work()
    (run,) = simulation.live
    simulation.kill(run, where)
    simulation.rest(simulation.now + timedelta(hours=1))

    published = [e for e in simulation.events if e.kind == "published"]
    assert len(published) == 1
    assert (published[0].run == run) == (where == "swap"), "what was swapped is finished"
    assert simulation.live == {}


def one_landed() -> tuple[Simulation, Partition]:
    mesh = little_mesh()
    start = utc("2013-03-05 05:00")
    grain, zone = mesh.slicing(ref(FLIGHTS))
    partition = Partition(grain, utc("2013-03-04 05:00"), zone)
    simulation = Simulation(mesh, [("operations.flights", partition)], start)
    simulation.land(ref(FLIGHTS), partition, "a")
    return simulation, partition


# The ledger in memory


def asked(simulation: Simulation, partition: Partition) -> Want:
    mesh, ledger = simulation.mesh, simulation.ledger
    product = mesh.product("operations.flights")
    found = want(mesh, product, partition, ledger.facts(), simulation.now)
    assert isinstance(found, Want)
    return found


def test_a_claim_is_exclusive_until_its_lease_is_over() -> None:
    simulation, partition = one_landed()
    ledger, wanted = simulation.ledger, asked(simulation, partition)
    lease = timedelta(minutes=1)

    (first,) = ledger.claim([wanted], "one", lease)
    assert ledger.claim([wanted], "two", lease) == ()
    simulation.now += lease
    (second,) = ledger.claim([wanted], "two", lease)
    assert second.token > first.token
    with pytest.raises(ClaimLost):
        ledger.renew("one", lease)


def test_equal_content_is_no_new_landing_and_tables_are_not_landed() -> None:
    simulation, partition = one_landed()
    ledger: MemoryLedger = simulation.ledger
    line = ledger.history(ref(FLIGHTS), partition)[0]
    assert isinstance(line, Landing)
    assert ledger.land([line]) == ()
    with pytest.raises(LawBroken):
        ledger.land([Landing(ref("operations.flights"), partition, 0, "a", "", 1, simulation.now)])


def test_nothing_is_intended_twice_or_without_a_claim() -> None:
    simulation, partition = one_landed()
    simulation.rest(simulation.now + timedelta(hours=1))
    line = simulation.ledger.lines[ref("operations.flights"), partition]
    assert not isinstance(line, Landing)
    with pytest.raises(ClaimLost):
        simulation.ledger.intend("nobody", [line])
    again = Want("operations.flights", partition, line.made_by, line.inputs)
    simulation.ledger.claim([again], "again", timedelta(minutes=1))
    with pytest.raises(NotPublishable, match="already published"):
        simulation.ledger.intend("again", [line])
