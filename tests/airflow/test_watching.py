"""The reconciler wakes for its own work, tells it once, and leaves timetables alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent
from tests.unit.strategies import NOW, World, little_mesh

from levada import terms
from levada.adapters.probes import Probes
from levada.adapters.probes.files import location
from levada.intervals import parse
from levada.ledger.tail import Batch
from levada.settings import Settings
from levada.terms import (
    Attempt,
    Begun,
    Facts,
    Grain,
    Landing,
    Mesh,
    Source,
    Span,
    TableRef,
    Verdict,
)
from levada_sensors import dag_runs, reconcile, watching
from levada_sensors import restating as restating_tasks
from levada_sensors.watching import (
    Nudge,
    ReconcileTrigger,
    Reminders,
    Task,
    Work,
    nudge_of,
    probe,
    work_of,
    yielding,
)

pytestmark = pytest.mark.airflow

LIVE = datetime(2013, 3, 9, 5, tzinfo=UTC)
FLIGHTS, FILES = "operations.flights", "operations.landing.flights"


@pytest.fixture
def world() -> World:
    return World(replace(little_mesh(), live_from=LIVE))


def tasks(world: World) -> dict[tuple[str, str], Task]:
    found = work_of(world.mesh, world.facts, world.now).tasks
    return {(task.step.product, task.step.partition.key): task for task in found}


def test_a_routine_first_run_is_marked_as_the_timetables(world: World) -> None:
    world.land(FILES, "2013-03-10")
    (task,) = tasks(world).values()
    assert task.patient


def test_a_first_run_before_live_from_is_nobodys_here(world: World) -> None:
    world.land(FILES, "2013-03-08")
    assert tasks(world) == {}


def test_a_first_run_is_work_where_no_timetable_starts_it(world: World) -> None:
    world.land(FILES, "2013-03-08")
    world.land(FILES, "2013-03-10")
    (task,) = work_of(world.mesh, world.facts, world.now, "ready").tasks
    assert (task.step.partition.key, task.patient) == ("2013-03-10", False)


def test_a_restatement_is_work_even_of_history(world: World) -> None:
    world.land(FILES, "2013-03-08")
    world.publish(FLIGHTS, "2013-03-08")
    assert tasks(world) == {}
    world.land(FILES, "2013-03-08", "b")
    task = tasks(world)[FLIGHTS, "2013-03-08"]
    assert not task.patient
    assert [generation for _, _, generation in task.step.required] == [2]


def test_a_whole_table_that_landed_is_work(world: World) -> None:
    assert tasks(world) == {}
    world.land("fleet.landing.planes", "whole")
    assert not tasks(world)["fleet.planes", "whole"].patient


def test_what_somebody_has_claimed_is_looked_after_when_that_lasts(world: World) -> None:
    world.land("fleet.landing.planes", "whole")
    world.claim("fleet.planes", "whole")
    (task,) = tasks(world).values()
    assert task.patient
    assert task.claim is not None


def test_a_retry_is_work_when_it_is_due_and_not_before(world: World) -> None:
    world.land(FILES, "2013-03-10")
    due = world.now + timedelta(minutes=1)
    attempt = world.attempt(FLIGHTS, "2013-03-10", Verdict.UNKNOWN, not_before=due)
    found = work_of(world.mesh, world.facts, world.now)
    assert (found.tasks, found.next) == ((), due)
    world.now = due
    task = tasks(world)[FLIGHTS, "2013-03-10"]
    assert not task.patient
    assert task.tried == attempt.position


def test_a_failed_audit_is_parked_until_its_input_is_mended(world: World) -> None:
    world.land(FILES, "2013-03-10")
    world.attempt(FLIGHTS, "2013-03-10", Verdict.FAIL)
    assert tasks(world) == {}
    world.land(FILES, "2013-03-10", "mended")
    assert not tasks(world)[FLIGHTS, "2013-03-10"].patient


def test_a_step_whose_inputs_are_not_ready_waits_without_a_run(world: World) -> None:
    world.land(FILES, "2013-03-09")
    assert ("company.daily", "2013-03-09") not in tasks(world)


# Backfills


def begun(world: World, *, forced: bool = True) -> Begun:
    return Begun("bf-1", "running", "", forced, "ines", world.now, world.position, {"open": 1}, {})


def restating(world: World, *days: str) -> Facts:
    """The facts while these days of flights are open in a backfill."""
    slices = {(FLIGHTS, world.slice(FLIGHTS, day)): "bf-1" for day in days}
    return replace(world.facts, restating=slices)


def test_what_a_running_backfill_makes_anyway_is_no_work_of_the_reconcilers_own(
    world: World,
) -> None:
    world.land(FILES, "2013-03-08")
    world.publish(FLIGHTS, "2013-03-08")
    world.land(FILES, "2013-03-08", "b")
    world.land(FILES, "2013-03-10")
    facts = restating(world, "2013-03-08", "2013-03-10")
    found = work_of(world.mesh, facts, world.now).tasks

    def left(*running: str) -> list[str]:
        return [task.step.partition.key for task in yielding(found, facts, running)]

    assert left("bf-1") == ["2013-03-10"], "a first run is its timetable's"
    assert left() == ["2013-03-08", "2013-03-10"], "one that is paused makes nothing"


def test_a_backfill_wakes_the_reconciler_while_there_is_room_and_something_to_do(
    world: World,
) -> None:
    def nudge(*days: str, parallel: int = 1) -> Nudge | None:
        facts = restating(world, *days)
        return nudge_of(world.mesh, facts, world.now, [begun(world)], parallel)

    assert nudge() is None
    for day in ("2013-03-08", "2013-03-09"):
        world.land(FILES, day)
        world.publish(FLIGHTS, day)
    ready = nudge("2013-03-08", "2013-03-09")
    assert ready is not None
    assert not ready.patient
    for day in ("2013-03-08", "2013-03-09"):
        world.claim(FLIGHTS, day, run=f"levada.backfill@bf-1__{day}@1")
    full = nudge("2013-03-08", "2013-03-09")
    assert full is not None
    assert full.patient, "its builds are under way: looked after when that lasts"
    assert full.mark != ready.mark
    left = nudge("2013-03-10", parallel=9)
    assert left is not None
    assert left.mark.startswith("nothing"), "it has not landed: the reconciler leaves it, named"


def test_a_backfill_begins_nothing_while_a_run_of_the_day_is_at_work(world: World) -> None:
    for day in ("2013-03-08", "2013-03-09"):
        world.land(FILES, day)
        world.publish(FLIGHTS, day)

    def nudge() -> Nudge:
        facts = restating(world, "2013-03-08", "2013-03-09")
        found = nudge_of(world.mesh, facts, world.now, [begun(world)], 2)
        assert found is not None
        return found

    before = nudge()
    world.land("weather.landing.hours", "2013-03-10T07Z")
    world.claim("weather.observations", "2013-03-10T07Z", run="weather.observations@1")
    behind = nudge()
    assert (before.patient, behind.patient) == (False, True), "it is looked after in a minute"
    ((key, claim),) = world.claims.items()
    world.claims[key] = replace(claim, until=world.now)
    assert nudge() == before, "one that died is nobody's work"
    world.claims.clear()
    assert nudge() == before, "and at once, when that has ended"


class Day:
    """A clock, and a ledger in which runs of the live day hold claims now and then."""

    def __init__(self, *work: tuple[float, float]) -> None:
        self.work, self.now = work, 0.0

    def at_work_besides(self, prefix: str) -> bool:
        assert prefix == "levada.backfill@"
        return any(begin <= self.now < end for begin, end in self.work)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("work", "until"),
    [
        ([], 0),
        ([(1, 9)], 0),  # nobody is at work now
        ([(0, 3)], 5),
        ([(0, 3), (4, 6)], 8),  # the next of the chain
        ([(0, 99)], 30),  # the backfill gets on, too
    ],
)
def test_a_build_of_a_backfill_stands_aside_for_the_day_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, work: list[tuple[float, float]], until: float
) -> None:
    day: Any = Day(*work)
    monkeypatch.setattr(restating_tasks, "time", day)
    restating_tasks._stand_aside(day)
    assert until - 0.5 < day.now <= until


# What was told


def restated(world: World) -> Task:
    world.land("fleet.landing.planes", "whole", f"{world.position}")
    return tasks(world)["fleet.planes", "whole"]


def test_new_work_is_told_at_once_and_then_less_and_less_often(world: World) -> None:
    reminders, task = Reminders(), restated(world)
    assert reminders.fresh("m", [task], 0.0) == [task]
    assert reminders.fresh("m", [task], 19.0) == []
    assert reminders.fresh("m", [task], 20.0) == [task]
    assert reminders.due("m") == 60.0


def test_work_that_changed_is_new_work(world: World) -> None:
    reminders, task = Reminders(), restated(world)
    assert reminders.fresh("m", [task], 0.0) == [task]
    changed = restated(world)
    assert reminders.fresh("m", [changed], 1.0) == [changed]


def test_work_that_was_done_and_comes_again_is_new_work(world: World) -> None:
    reminders, task = Reminders(), restated(world)
    reminders.fresh("m", [task], 0.0)
    reminders.fresh("m", [], 1.0)
    assert reminders.due("m") == float("inf")
    assert reminders.fresh("m", [task], 2.0) == [task]


def test_a_first_run_has_a_minute_before_it_is_looked_after(world: World) -> None:
    world.land(FILES, "2013-03-10")
    (task,) = tasks(world).values()
    reminders = Reminders()
    assert reminders.fresh("m", [task], 0.0) == []
    assert reminders.fresh("m", [task], 61.0) == [task]


# Probing


class Lines:
    """A ledger that takes landings, and what sources said."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.said: dict[TableRef, str] = {}

    def probed(self, said: dict[TableRef, str]) -> None:
        self.said |= said

    def land(self, landings: list[Landing]) -> list[Landing]:
        self.keys += [landing.partition.key for landing in landings]
        return landings


def test_the_landing_zones_of_a_past_mesh_are_listed_from_its_end(
    project: Settings, mesh: Mesh
) -> None:
    source = Source(
        TableRef("operations", "landing.flights", 0),
        *(Grain.DAY, mesh.zone, "landing/{start:%Y-%m-%dT%H}Z.csv", ("a",), "s"),
    )
    folder = project.root / "landing"
    folder.mkdir()
    for name in ("2013-03-04T05Z", "2013-03-16T04Z", "2013-03-17T04Z"):
        Path(folder, f"{name}.csv").write_text("a\n")
    near = replace(project, probe_horizon=timedelta(days=2))
    lines = Lines()
    probed = replace(mesh, products=(), sources=(source,))
    count = probe(near, probed, lines, Probes(project.root), NOW)  # type: ignore[arg-type]
    assert (count, lines.keys) == (2, ["2013-03-16", "2013-03-17"])
    assert lines.said == {source.table: ""}


@pytest.mark.parametrize(
    ("grain", "key", "over", "late"),
    [
        (Grain.HOUR, "2013-02-01T05Z", "2013-02-01T06", 40),
        (Grain.DAY, "2013-02-01", "2013-02-02T05", 40),
        (Grain.WEEK, "2013-02-04", "2013-02-11T05", 40),
        (Grain.MONTH, "2013-02-01", "2013-03-01T05", 40),
        (Grain.QUARTER, "2013-01-01", "2013-04-01T04", 40),
        (Grain.YEAR, "2012-01-01", "2013-01-01T05", 40),
        (Grain.WHOLE, "whole", "2013-02-01T05", 4000),
    ],
)
def test_a_slice_of_any_grain_is_asked_for_until_it_is_the_horizon_late(
    project: Settings, mesh: Mesh, grain: Grain, key: str, over: str, late: int
) -> None:
    table = TableRef("operations", "landing.flights", 0)
    source = Source(table, grain, mesh.zone, "landing/{start}.csv", ("a",), "s")
    if grain is Grain.WHOLE:
        source = replace(source, location="landing/whole.csv")
    end = datetime.fromisoformat(over).replace(tzinfo=UTC)
    span = Span.days("2012-01-01", "2013-12-31", mesh.zone)
    declared = replace(project, span=span, probe_horizon=timedelta(days=40))
    probed = replace(mesh, span=span, products=(), sources=(source,))
    partition = parse(grain, key, mesh.zone)
    path = location(project.root, source, partition)
    path.parent.mkdir()
    path.write_text("a\n")

    def found(now: datetime) -> list[str]:
        lines = Lines()
        probe(declared, probed, lines, Probes(project.root), now)  # type: ignore[arg-type]
        return lines.keys

    # The hour in which it is over, one that is late, and the last hour of the horizon.
    for days in (0, 10, late):
        assert found(end + timedelta(days=days) - timedelta(hours=1)) == [key], days
    if grain is not Grain.WHOLE:
        assert found(end + timedelta(days=41)) == []
        if partition.start and partition.start > span.start:
            assert found(partition.start - timedelta(days=41)) == []


# Starting runs


class Airflow:
    """What the Task SDK would answer."""

    def __init__(self, state: str | None = None, alive: int = 0) -> None:
        self.state, self.alive = state, alive
        self.triggered: list[dict[str, object]] = []

    def __call__(self, message: object) -> object:
        kind = type(message).__name__
        if kind == "GetDRCount":
            return type("Count", (), {"count": self.alive})
        if kind == "GetPreviousDagRun":
            at = message.logical_date - timedelta(microseconds=1)  # type: ignore[attr-defined]
            words = {"logical_date": at, "run_id": "scheduled__x", "state": self.state}
            run = type("Run", (), words) if self.state else None
            return type("Answer", (), {"dag_run": run})
        self.triggered.append(message.model_dump())  # type: ignore[attr-defined]
        return None


@pytest.mark.parametrize(
    ("state", "key", "run_id"),
    [
        ("success", "2013-03-10", "scheduled__x"),
        ("failed", "2013-03-10", "scheduled__x"),
        ("running", "2013-03-10", None),
        ("queued", "2013-03-10", None),
        (None, "2013-03-10", None),
        (None, "2013-03-08", "step__2013-03-08"),
    ],
)
def test_an_ended_run_is_cleared_an_absent_one_made_and_a_living_one_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, state: str | None, key: str, run_id: str | None
) -> None:
    airflow = Airflow(state)
    monkeypatch.setattr(dag_runs, "ask", airflow)
    world.land(FILES, key)
    world.publish(FLIGHTS, key)
    world.land(FILES, key, "b")
    reconcile.ensure_run(tasks(world)[FLIGHTS, key], LIVE)
    assert [run["run_id"] for run in airflow.triggered] == ([run_id] if run_id else [])
    for run in airflow.triggered:
        # One that somebody made in between is not reset.
        assert run["reset_dag_run"] is (state is not None)
        # Due when its interval ended, or Airflow would reckon the interval from now.
        assert run["logical_date"] < run["run_after"] < NOW  # type: ignore[operator]


@pytest.mark.parametrize(
    ("state", "said", "cleared"),
    [
        ("success", "run scheduled__x was cleared", 1),
        ("running", "run scheduled__x is alive", 0),
        (None, "its timetable has yet to create the run", 0),
    ],
)
def test_a_batch_compares_a_restated_interval_again(
    monkeypatch: pytest.MonkeyPatch, state: str | None, said: str, cleared: int
) -> None:
    airflow = Airflow(state)
    monkeypatch.setattr(dag_runs, "ask", airflow)
    day = parse(Grain.DAY, "2013-03-10", "UTC")
    batch = terms.Batch("daily", Grain.DAY, "UTC", "ops", "", "p", ())

    assert reconcile.compare_again(batch, day) == said

    assert [(run["dag_id"], run["reset_dag_run"]) for run in airflow.triggered] == [
        ("consistency.daily", True)
    ] * cleared


@pytest.mark.parametrize("dispatch", ["sensor", "ready"])
def test_a_live_first_run_is_made_where_no_timetable_makes_it(
    world: World, monkeypatch: pytest.MonkeyPatch, dispatch: str
) -> None:
    airflow = Airflow()
    monkeypatch.setattr(dag_runs, "ask", airflow)
    world.land(FILES, "2013-03-10")
    (task,) = work_of(world.mesh, world.facts, world.now, dispatch).tasks
    reconcile.ensure_run(task, LIVE, dispatch)
    made = [run["run_id"] for run in airflow.triggered]
    assert made == (["step__2013-03-10"] if dispatch == "ready" else [])


@pytest.mark.parametrize("alive", [0, 1])
def test_a_whole_table_runs_once_at_a_time_without_a_logical_date(
    world: World, monkeypatch: pytest.MonkeyPatch, alive: int
) -> None:
    airflow = Airflow(alive=alive)
    monkeypatch.setattr(dag_runs, "ask", airflow)
    task = restated(world)
    reconcile.ensure_run(task, LIVE)
    assert len(airflow.triggered) == 1 - alive
    for run in airflow.triggered:
        assert run["logical_date"] is None
        assert run["run_id"] == f"step__{task.mark[:16]}"


@pytest.mark.parametrize(
    ("holder", "state", "dead"),
    [
        ("operations.flights@scheduled__x@abc.1", "failed", True),
        ("operations.flights@scheduled__x@abc.1", "success", True),
        ("operations.flights@scheduled__x@abc.1", "running", False),
        ("operations.flights@another@abc.1", "failed", False),
        ("run-of-a-command", "failed", False),
        ("operations.flights@scheduled__x@abc.1", None, False),
    ],
)
def test_a_claim_is_dead_when_its_own_dag_run_has_ended(
    world: World, monkeypatch: pytest.MonkeyPatch, holder: str, state: str | None, dead: bool
) -> None:
    monkeypatch.setattr(dag_runs, "ask", Airflow(state))
    recorded: list[Attempt] = []
    runner = type(
        "Runner", (), {"facts": lambda *_: world.facts, "withhold": lambda _, x: recorded.extend(x)}
    )()
    platform: Any = type(
        "P", (), {"runner": runner, "mesh": world.mesh, "clock": lambda _: world.now}
    )()
    world.land(FILES, "2013-03-10")
    world.claim(FLIGHTS, "2013-03-10")
    (task,) = tasks(world).values()
    assert task.claim is not None
    claim = replace(task.claim, run=holder)
    reconcile.look_after(replace(task, claim=claim), platform)
    assert [(a.run, a.verdict) for a in recorded] == ([(holder, Verdict.UNKNOWN)] if dead else [])


def test_whoever_plans_says_in_the_ledger_that_he_lives(
    project: Settings, ledgers: Any, ledger_url: str
) -> None:
    assert ledgers.runner.heartbeats() == {}
    ReconcileTrigger(root=str(project.root))._plan(ledger_url)
    assert set(ledgers.runner.heartbeats()) == {"watch"}


class Silence:
    """A stream of a ledger in which nothing happens."""

    async def __aiter__(self) -> AsyncIterator[Batch]:
        await asyncio.Event().wait()
        yield Batch(0, 0, frozenset())


def test_the_end_of_a_back_off_alone_makes_the_reconciler_look_again(
    world: World, project: Settings, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = project.root / "levada.yaml"
    declared.write_text(declared.read_text().replace("every: 1s", "every: 1h"))
    monkeypatch.setattr(watching, "_reminders", Reminders())
    world.land(FILES, "2013-03-10")
    looks: list[datetime] = []

    def plan(trigger: ReconcileTrigger, url: str) -> Work:
        looks.append(datetime.now(UTC))
        if len(looks) == 1:
            due = looks[0] + timedelta(seconds=1)
            world.attempt(FLIGHTS, "2013-03-10", Verdict.UNKNOWN, not_before=due)
        return work_of(world.mesh, world.facts, looks[-1])

    monkeypatch.setattr(ReconcileTrigger, "_plan", plan)

    async def scene() -> TriggerEvent:
        trigger = ReconcileTrigger(root=str(project.root))
        async with asyncio.timeout(60):
            return await anext(trigger.filter_shared_stream(aiter(Silence())))

    assert isinstance(asyncio.run(scene()), TaskSuccessEvent)
    assert len(looks) == 2
    assert looks[1] - looks[0] >= timedelta(seconds=1)
