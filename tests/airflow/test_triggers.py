"""Waiters miss nothing, wake only for what concerns them, and outlive the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from airflow.triggers.base import (
    TaskFailedEvent,
    TaskSkippedEvent,
    TaskSuccessEvent,
    TriggerEvent,
)

from levada import compiled
from levada.intervals import parse
from levada.ledger.tail import Batch
from levada.ports import Want
from levada.sense import products_to_read, tables_to_read, want
from levada.settings import Settings
from levada.terms import (
    WHOLE,
    Claim,
    Facts,
    Landing,
    Mesh,
    Outcome,
    Partition,
    Publication,
    TableRef,
    Verdict,
)
from levada_sensors import connections, listening
from levada_sensors.desk import Glance
from levada_sensors.judging import CLAIM_LIFETIME, Touches, claim_prefix
from levada_sensors.listening import Switchboard
from levada_sensors.triggers import TableTrigger

pytestmark = [pytest.mark.airflow, pytest.mark.integration, pytest.mark.usefixtures("ledger_url")]

HOURS = TableRef("weather", "landing.hours", 0)
FLIGHTS = TableRef("operations", "landing.flights", 0)
OBSERVATIONS = "weather.observations"
DAY = "2013-03-10"
HOUR = "2013-03-10T05Z"
RUN = ("weather.observations", "scheduled__2013-03-10T06:00:00+00:00")


def landing(mesh: Mesh, table: TableRef, key: str, content: str = "a") -> Landing:
    partition = WHOLE if key == "whole" else parse(*mesh.slicing(table)[:1], key, mesh.zone)
    return Landing(table, partition, 0, content, f"{table}/{key}", 1, datetime.now(UTC))


class Listening(TableTrigger):
    """Counts its judgements."""

    def __init__(self, **words: Any) -> None:
        super().__init__(**words)
        self.judgements = 0

    def glance(self, mesh: Mesh, facts: Facts) -> Glance:
        self.judgements += 1
        return super().glance(mesh, facts)


def waiting(project: Settings, **words: Any) -> Listening:
    words = {"partition": HOUR, "root": str(project.root), **words}
    return Listening(**words)


def sensing(project: Settings, product: str = OBSERVATIONS, **words: Any) -> Listening:
    words = {"claimant": [*RUN, "1-a"], **words}
    return waiting(project, product=product, **words)


class Stream:
    """A tail played by hand."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Batch] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[Batch]:
        while True:
            yield await self.queue.get()

    def say(self, start: int, stop: int, *keys: tuple[str, str]) -> None:
        self.queue.put_nowait(Batch(start, stop, frozenset(keys)))


async def first(events: AsyncIterator[TriggerEvent], seconds: float = 10) -> TriggerEvent:
    async with asyncio.timeout(seconds):
        return await anext(events)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - tells nobody when it becomes true
            await asyncio.sleep(0.01)


def event_of(trigger: TableTrigger) -> TriggerEvent:
    return asyncio.run(first(trigger.filter_shared_stream(aiter(Stream()))))


def test_what_is_ready_ends_the_task_at_once(project: Settings, mesh: Mesh, ledgers: Any) -> None:
    ledgers.runner.land([landing(mesh, HOURS, HOUR)])
    assert isinstance(event_of(waiting(project, tables=[str(HOURS)])), TaskSuccessEvent)


def test_each_table_has_its_own_partition_at_one_instant(
    project: Settings, mesh: Mesh, ledgers: Any
) -> None:
    ledgers.runner.land([landing(mesh, HOURS, "2013-03-10T09Z"), landing(mesh, FLIGHTS, DAY)])
    both = waiting(
        project, tables=[str(HOURS), str(FLIGHTS)], partition="2013-03-10 09:30:00+00:00"
    )
    assert isinstance(event_of(both), TaskSuccessEvent)


def test_a_waiter_wakes_for_its_own_lines_and_sleeps_through_others(
    project: Settings, mesh: Mesh, ledgers: Any
) -> None:
    async def scene() -> None:
        trigger, stream = waiting(project, tables=[str(HOURS)]), Stream()
        event = asyncio.ensure_future(first(trigger.filter_shared_stream(aiter(stream))))
        await until(lambda: trigger.judgements == 1)
        stream.say(0, 1, (str(HOURS), "2013-03-10T06Z"), (str(FLIGHTS), DAY))
        await asyncio.sleep(0.2)
        assert trigger.judgements == 1
        ledgers.runner.land([landing(mesh, HOURS, HOUR)])
        stream.say(1, 2, (str(HOURS), HOUR))
        assert isinstance(await event, TaskSuccessEvent)
        assert trigger.judgements == 2

    asyncio.run(scene())


def test_time_alone_makes_a_waiter_judge_again(
    project: Settings, mesh: Mesh, ledgers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing comes from the stream, and the very instant that was named wakes it."""
    judged, named = Listening.glance, list[datetime]()

    def glance(trigger: Listening, mesh: Mesh, facts: Facts) -> Glance:
        found = judged(trigger, mesh, facts)
        assert found.answer is not None
        if named:
            return found
        named.append(datetime.now(UTC) + timedelta(seconds=1))
        return replace(found, answer=replace(found.answer, next=named[0]))

    monkeypatch.setattr(Listening, "glance", glance)

    async def scene() -> None:
        trigger = waiting(project, tables=[str(HOURS)])
        event = asyncio.ensure_future(first(trigger.filter_shared_stream(aiter(Stream())), 6))
        await until(lambda: trigger.judgements == 1)
        ledgers.runner.land([landing(mesh, HOURS, HOUR)])
        assert isinstance(await event, TaskSuccessEvent)
        assert datetime.now(UTC) >= named[0]
        assert trigger.judgements == 2

    asyncio.run(scene())


def test_a_batch_that_does_not_join_makes_a_waiter_read_the_ledger_again(
    project: Settings, mesh: Mesh, ledgers: Any
) -> None:
    async def scene() -> None:
        trigger, stream = waiting(project, tables=[str(HOURS)]), Stream()
        event = asyncio.ensure_future(first(trigger.filter_shared_stream(aiter(stream))))
        await until(lambda: trigger.judgements == 1)
        # Its line is committed before the tail stands anywhere, so that no batch ever shows it.
        ledgers.runner.land([landing(mesh, HOURS, HOUR)])
        stream.say(1, 1)
        assert isinstance(await event, TaskSuccessEvent)

    asyncio.run(scene())


def test_batches_that_a_waiter_has_read_already_do_not_wake_it(
    project: Settings, mesh: Mesh, ledgers: Any
) -> None:
    async def scene() -> None:
        ledgers.runner.land([landing(mesh, FLIGHTS, DAY), landing(mesh, FLIGHTS, "2013-03-09")])
        trigger, stream = waiting(project, tables=[str(HOURS)]), Stream()
        event = asyncio.ensure_future(first(trigger.filter_shared_stream(aiter(stream))))
        await until(lambda: trigger.judgements == 1)
        stream.say(1, 2, (str(HOURS), HOUR))
        await asyncio.sleep(0.2)
        assert trigger.judgements == 1
        event.cancel()

    asyncio.run(scene())


def test_a_ledger_that_does_not_answer_ends_no_wait(
    project: Settings, mesh: Mesh, ledgers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = connections.runner_address
    failures = iter([OSError("connection refused"), psycopg.OperationalError("starting up")])

    async def address(conn_id: str) -> str:
        if error := next(failures, None):
            raise error
        return await found(conn_id)

    monkeypatch.setattr(connections, "runner_address", address)
    ledgers.runner.land([landing(mesh, HOURS, HOUR)])
    assert isinstance(event_of(waiting(project, tables=[str(HOURS)])), TaskSuccessEvent)
    assert next(failures, None) is None


def test_a_stream_that_fails_its_subscriber_ends_no_wait(
    project: Settings, mesh: Mesh, ledgers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "_LOOK", 0.2)

    async def broken() -> AsyncIterator[Batch]:
        yield Batch(0, 0, frozenset())
        raise RuntimeError("overflow")

    async def scene() -> None:
        trigger = waiting(project, tables=[str(HOURS)])
        event = asyncio.ensure_future(first(trigger.filter_shared_stream(broken())))
        await until(lambda: trigger.judgements >= 2)
        ledgers.runner.land([landing(mesh, HOURS, HOUR)])
        assert isinstance(await event, TaskSuccessEvent)

    asyncio.run(scene())


@pytest.mark.parametrize("partition", ["", "None", "yesterday", "2013-03-10T05:00", "2013-02-31"])
@pytest.mark.parametrize("soft", [False, True])
def test_a_partition_that_nobody_can_read_ends_the_task_at_once(
    project: Settings, partition: str, soft: bool
) -> None:
    event = event_of(waiting(project, tables=[str(HOURS)], partition=partition, soft_fail=soft))
    assert isinstance(event, TaskSkippedEvent if soft else TaskFailedEvent)


@pytest.mark.parametrize(
    "words",
    [
        {"tables": ["weather.nothing"]},
        {"tables": ["Weather"]},
        {"product": "weather.nothing"},
        {"tables": [OBSERVATIONS], "partition": "2014-01-01T05Z"},
        {"product": OBSERVATIONS, "partition": "2014-01-01T05Z"},
    ],
)
def test_what_can_never_be_ready_fails_at_once(project: Settings, words: dict[str, Any]) -> None:
    event = event_of(waiting(project, **{"claimant": [*RUN, "1-a"], **words}))
    assert isinstance(event, TaskFailedEvent)


def test_a_lowest_generation_keeps_a_re_run_from_passing_on_what_was_there(
    project: Settings, mesh: Mesh, ledgers: Any
) -> None:
    async def scene() -> None:
        ledgers.runner.land([landing(mesh, HOURS, HOUR)])
        trigger = waiting(project, tables=[str(HOURS)], generations={str(HOURS): 2})
        event = asyncio.ensure_future(first(trigger.run()))
        await until(lambda: trigger.judgements >= 1)
        await asyncio.sleep(0.2)
        assert not event.done()
        ledgers.runner.land([landing(mesh, HOURS, HOUR, "b")])
        assert isinstance(await event, TaskSuccessEvent)

    asyncio.run(scene())


# A product: judged, pinned and claimed


def claims(ledgers: Any, product: str) -> list[str]:
    return [claim.run for claim in ledgers.runner.facts((), [product]).claims.values()]


def test_a_ready_product_is_claimed_for_this_very_run(
    project: Settings, mesh: Mesh, ledgers: Any
) -> None:
    ledgers.runner.land([landing(mesh, HOURS, HOUR)])
    assert isinstance(event_of(sensing(project)), TaskSuccessEvent)
    (run,) = claims(ledgers, OBSERVATIONS)
    assert run.startswith(claim_prefix(*RUN) + "1-a.")


def test_a_trigger_that_moved_after_claiming_fires_again_with_the_same_claim(
    project: Settings, mesh: Mesh, ledgers: Any
) -> None:
    ledgers.runner.land([landing(mesh, HOURS, HOUR)])
    assert isinstance(event_of(sensing(project)), TaskSuccessEvent)
    before = claims(ledgers, OBSERVATIONS)
    assert isinstance(event_of(sensing(project)), TaskSuccessEvent)
    assert claims(ledgers, OBSERVATIONS) == before


def test_a_cleared_task_takes_over_the_claim_of_its_earlier_try(
    project: Settings, mesh: Mesh, ledgers: Any
) -> None:
    ledgers.runner.land([landing(mesh, HOURS, HOUR)])
    earlier, later = [*RUN, "9-a"], [*RUN, "10-b"]
    assert isinstance(event_of(sensing(project, claimant=earlier)), TaskSuccessEvent)
    assert isinstance(event_of(sensing(project, claimant=later)), TaskSuccessEvent)
    (run,) = claims(ledgers, OBSERVATIONS)
    assert run.startswith(claim_prefix(*RUN) + "10-b.")


def test_a_claim_that_is_about_to_publish_is_not_taken_over(
    project: Settings, mesh: Mesh, ledgers: Any
) -> None:
    async def scene() -> None:
        ledgers.runner.land([landing(mesh, HOURS, HOUR)])
        earlier = sensing(project, claimant=[*RUN, "1-a"])
        assert isinstance(
            await first(earlier.filter_shared_stream(aiter(Stream()))), TaskSuccessEvent
        )
        (claim,) = ledgers.runner.facts((), [OBSERVATIONS]).claims.values()
        intend(ledgers, mesh, claim)
        trigger = sensing(project, claimant=[*RUN, "2-b"])
        event = asyncio.ensure_future(first(trigger.run()))
        await until(lambda: trigger.judgements >= 1)
        await asyncio.sleep(0.3)
        assert not event.done()
        assert claims(ledgers, OBSERVATIONS) == [claim.run]
        ledgers.publisher.publish(claim.run, "1")
        assert isinstance(await event, TaskSkippedEvent)

    asyncio.run(scene())


@pytest.mark.parametrize(
    "other", [[*RUN, "2-b"], [*RUN, "1-b"], [*RUN, "again"], ["x", "y", "0-a"]]
)
def test_a_claim_held_by_another_is_waited_for(
    project: Settings, mesh: Mesh, ledgers: Any, other: list[str]
) -> None:
    async def scene() -> None:
        ledgers.runner.land([landing(mesh, HOURS, HOUR)])
        assert isinstance(
            await first(sensing(project, claimant=other).filter_shared_stream(aiter(Stream()))),
            TaskSuccessEvent,
        )
        trigger = sensing(project)
        event = asyncio.ensure_future(first(trigger.run()))
        await until(lambda: trigger.judgements >= 1)
        await asyncio.sleep(0.3)
        assert not event.done()
        (held,) = claims(ledgers, OBSERVATIONS)
        hour = parse(mesh.product(OBSERVATIONS).grain, HOUR, mesh.zone)
        ledgers.runner.release(held, [hour], "its run was cancelled")
        assert isinstance(await event, TaskSuccessEvent)

    asyncio.run(scene())


def intend(ledgers: Any, mesh: Mesh, claim: Claim) -> None:
    """Say what a claimed build is about to publish."""
    product, run = mesh.product(claim.product), claim.run
    ledgers.governance.record_contracts(
        {m.contract.label: '{"status":"active"}' for m in product.marts}
    )
    lines = [
        Publication(
            *(mart.table, claim.partition, 0, mart.contract.label, Verdict.PASS, ""),
            *(f"1:{claim.fingerprint[:8]}", claim.fingerprint, claim.inputs, (), run),
            datetime.now(UTC),
        )
        for mart in product.marts
    ]
    ledgers.publisher.intend(run, lines)
    ledgers.publisher.confirm(run)


def publish(ledgers: Any, mesh: Mesh, name: str, partition: Partition, run: str = "r1") -> None:
    """Publish a product's partition as a run would."""
    product = mesh.product(name)
    tables, products = tables_to_read(mesh, [name]), products_to_read(mesh, [name])
    with ledgers.runner.sensing(tables, products) as transaction:
        asked = want(mesh, product, partition, transaction.facts, datetime.now(UTC))
        assert isinstance(asked, Want), asked
        (claim,) = transaction.claim([asked], run=run, lifetime=CLAIM_LIFETIME)
    intend(ledgers, mesh, claim)
    ledgers.publisher.publish(run, "1")


def test_a_product_that_is_already_current_is_skipped(
    project: Settings, mesh: Mesh, ledgers: Any
) -> None:
    ledgers.runner.land([landing(mesh, HOURS, HOUR)])
    publish(ledgers, mesh, OBSERVATIONS, parse(mesh.product(OBSERVATIONS).grain, HOUR, mesh.zone))
    assert isinstance(event_of(sensing(project)), TaskSkippedEvent)
    assert claims(ledgers, OBSERVATIONS) == []


@pytest.mark.parametrize("outcome", ["unchanged", "left"])
def test_who_waits_for_what_a_backfill_makes_again_is_woken_when_it_comes_to_something(
    project: Settings, mesh: Mesh, ledgers: Any, outcome: str
) -> None:
    async def scene() -> None:
        hour = parse(mesh.product(OBSERVATIONS).grain, HOUR, mesh.zone)
        ledgers.runner.land([landing(mesh, HOURS, HOUR)])
        publish(ledgers, mesh, OBSERVATIONS, hour)
        assert ledgers.runner.begin_backfill("bf-1", {}, {OBSERVATIONS: [hour]})
        trigger = waiting(project, tables=[OBSERVATIONS])
        event = asyncio.ensure_future(first(trigger.run()))
        await until(lambda: trigger.judgements >= 1)
        await asyncio.sleep(0.3)
        assert not event.done(), "its neighbours may be new already"
        # No line of the table, nor of its partition, tells of it.
        ledgers.runner.settle_backfill("bf-1", [Outcome(OBSERVATIONS, hour, outcome, "so")])
        assert isinstance(await event, TaskSuccessEvent)

    asyncio.run(scene())


def test_a_day_waits_for_the_last_of_its_23_hours_and_then_fires(
    project: Settings, mesh: Mesh, ledgers: Any
) -> None:
    async def scene() -> None:
        hours = [f"2013-03-10T{h:02}Z" for h in range(5, 24)]
        hours += [f"2013-03-11T{h:02}Z" for h in range(4)]
        grain = mesh.product(OBSERVATIONS).grain
        planes = TableRef("fleet", "landing.planes", 0)
        ledgers.runner.land([landing(mesh, planes, "whole"), landing(mesh, FLIGHTS, DAY)])
        ledgers.runner.land([landing(mesh, HOURS, hour) for hour in hours])
        day = parse(mesh.product("company.daily").grain, DAY, mesh.zone)
        publish(ledgers, mesh, "fleet.planes", WHOLE, "planes")
        publish(ledgers, mesh, "operations.flights", day, "flights")
        for hour in hours[:-1]:
            publish(ledgers, mesh, OBSERVATIONS, parse(grain, hour, mesh.zone), f"run-{hour}")
        trigger = sensing(project, "company.daily", partition=DAY)
        event = asyncio.ensure_future(first(trigger.run(), 20))
        await until(lambda: trigger.judgements >= 1)
        await asyncio.sleep(0.3)
        assert not event.done()
        publish(ledgers, mesh, OBSERVATIONS, parse(grain, hours[-1], mesh.zone), "the-last")
        assert isinstance(await event, TaskSuccessEvent)

    asyncio.run(scene())


def test_a_waiter_judges_again_when_the_declarations_change(
    project: Settings, mesh: Mesh, ledgers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "_DECLARED", 0.05)

    async def scene() -> None:
        gone = "company.daily"
        trigger = sensing(project, gone, partition=DAY)
        event = asyncio.ensure_future(first(trigger.filter_shared_stream(aiter(Stream()))))
        await until(lambda: trigger.judgements == 1)
        await asyncio.sleep(0.3)
        assert trigger.judgements == 1
        kept = tuple(p for p in mesh.products if p.domain != "company")
        compiled.save(project, replace(mesh, products=kept), ["company"])
        assert isinstance(await event, TaskFailedEvent)

    asyncio.run(scene())


def test_what_a_line_does_not_touch_is_not_woken_by_it() -> None:
    async def scene() -> None:
        board, silence = Switchboard(), asyncio.Event()
        board.begin(7)
        mine = Touches(frozenset({(str(HOURS), HOUR)}))
        with board.listening(mine, silence):
            assert board.hand_out(Batch(7, 8, frozenset({(str(FLIGHTS), DAY)})))
            assert not silence.is_set()
            assert board.hand_out(Batch(8, 9, frozenset({(str(HOURS), HOUR)})))
            assert silence.is_set()

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("position", "missed"),
    [
        (9, False),  # it read all
        (8, True),  # its line came between its reading and its listening
        (7, True),
        (6, True),  # it read before the tail began: nobody knows what came between
        (99, False),  # it read ahead of the tail
    ],
)
def test_whoever_listens_late_learns_what_it_missed(position: int, missed: bool) -> None:
    board, mine = Switchboard(), Touches(frozenset({(str(HOURS), HOUR)}))
    board.begin(7)
    board.hand_out(Batch(7, 8, frozenset({(str(FLIGHTS), DAY)})))
    board.hand_out(Batch(8, 9, frozenset({(str(HOURS), HOUR)})))
    assert board.touched(position, mine) is missed


def test_forgotten_lines_make_a_late_listener_read_again() -> None:
    board, mine = Switchboard(), Touches(frozenset({(str(HOURS), HOUR)}))
    board.begin(0)
    for number in range(4):
        others = {(str(FLIGHTS), f"{number}-{n}") for n in range(listening._RECENT // 2)}
        board.hand_out(Batch(number, number + 1, frozenset(others)))
    assert board.touched(0, mine)
    assert not board.touched(3, mine)


def test_another_ledger_in_its_place_is_told_to_all() -> None:
    board, mine = Switchboard(), Touches(frozenset())
    board.begin(50)
    assert not board.hand_out(Batch(0, 3, frozenset({(str(FLIGHTS), DAY)})))
    assert not board.touched(3, mine)
    assert board.hand_out(Batch(3, 4, frozenset({(str(FLIGHTS), DAY)})))


# The real tail


def test_many_who_ask_at_once_are_each_answered_for_themselves(
    project: Settings, mesh: Mesh, ledgers: Any
) -> None:
    async def scene() -> None:
        ledgers.runner.land([landing(mesh, HOURS, HOUR)])
        ready = [waiting(project, tables=[str(HOURS)]) for _ in range(300)]
        wrong = [waiting(project, tables=["weather.nothing"]) for _ in range(20)]
        heard = await asyncio.gather(
            *(first(t.filter_shared_stream(aiter(Stream()))) for t in [*ready, *wrong])
        )
        kinds = [type(event) for event in heard]
        assert kinds == [TaskSuccessEvent] * 300 + [TaskFailedEvent] * 20

    asyncio.run(scene())


def test_one_tail_serves_every_waiter_and_survives_the_loss_of_its_connection(
    project: Settings, mesh: Mesh, ledgers: Any
) -> None:
    async def scene() -> None:
        trigger = waiting(project, tables=[str(HOURS)])
        event = asyncio.ensure_future(first(trigger.run(), 20))
        await until(lambda: trigger.judgements >= 1)
        await asyncio.sleep(0.5)
        with psycopg.connect(ledgers.server.url("postgres", "postgres"), autocommit=True) as admin:
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s",
                [ledgers.database],
            )
        ledgers.runner.close()
        ledgers.runner.land([landing(mesh, HOURS, HOUR)])
        assert isinstance(await event, TaskSuccessEvent)

    asyncio.run(scene())


def test_waiters_of_one_ledger_share_one_tail_and_store_no_address(project: Settings) -> None:
    one, other = waiting(project, tables=[str(HOURS)]), sensing(project)
    assert one.shared_stream_key() == other.shared_stream_key()
    path, words = TableTrigger(partition=HOUR, root="/mesh", product=OBSERVATIONS).serialize()
    assert path == "levada_sensors.triggers.TableTrigger"
    assert words["conn_id"] == "levada_runner"
    assert "postgres" not in str(words)
    assert TableTrigger(**words).serialize() == (path, words)
