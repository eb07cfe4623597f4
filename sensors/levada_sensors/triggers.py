"""
Triggers that follow the ledger: one tail for all waiters of a triggerer.

A waiter judges once when it starts, and again when the tail brings a line that may change its
answer, when the tail and its own reading do not join, and when time alone may change the answer.
Nothing that goes wrong with a database ends a wait: it backs off and judges again.

The class paths here are stored with every waiting task: renaming one is a migration.
"""

from __future__ import annotations

import asyncio
import random
from abc import abstractmethod
from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from airflow.triggers.base import (
    BaseEventTrigger,
    TaskFailedEvent,
    TaskSkippedEvent,
    TaskSuccessEvent,
    TriggerEvent,
)

from levada.ledger import tail
from levada.ledger.tail import Batch
from levada.terms import Facts, Mesh, Partition, Product, TableRef
from levada_sensors import connections
from levada_sensors.asking import Ask, ask_of
from levada_sensors.desk import Desk, Glance
from levada_sensors.judging import (
    Answer,
    Misnamed,
    Outcome,
    attempt_name,
    claim_prefix,
    glance_at_product,
    judge_product,
    judge_tables,
    partition_of,
    product_touches,
    slices_inside,
    table_touches,
)
from levada_sensors.listening import Listener, Switchboard

__all__ = ["LedgerTrigger", "TableTrigger"]

_BACK_OFF = (0.2, 5.0)
_SAFETY = 3600.0
"""Seconds after which a waiter judges again whatever it was told."""


class LedgerTrigger(BaseEventTrigger):
    """
    Waits on the ledger's tail, shared with every trigger of the same connection.

    :param conn_id: the Airflow connection through which the ledger is read
    """

    conn_id: str

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def shared_stream_key(self) -> Hashable | None:
        """One tail for each ledger."""
        return ("levada.ledger", self.conn_id)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Batch]:
        """
        Follow the ledger for ever; it never raises, since that would fail every waiter.

        What it yields is for all: an empty batch first, which tells those who read the ledger
        before the tail stood where it stands, and whatever does not join. The rest goes through
        the switchboard to those whom it touches.
        """
        conn_id = kwargs["conn_id"]
        async for batch in _followed(conn_id, Switchboard.shared(conn_id)):
            yield batch

    async def filter_shared_stream(
        self, shared_stream: AsyncIterator[Batch]
    ) -> AsyncIterator[TriggerEvent]:
        """Judge until there is an event."""
        async for event in self._heard(shared_stream, Switchboard.shared(self.conn_id)):
            yield event

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """The same with a tail of its own, where nobody shares one (`dag.test()`)."""
        board = Switchboard()
        async for event in self._heard(_followed(self.conn_id, board), board):
            yield event

    async def _heard(
        self, stream: AsyncIterator[Batch], board: Switchboard
    ) -> AsyncIterator[TriggerEvent]:
        listener = Listener(stream, board)
        try:
            async for event in self.events(listener):
                yield event
        finally:
            await listener.close()

    @abstractmethod
    def events(self, listener: Listener) -> AsyncIterator[TriggerEvent]:
        """Judge, listen, judge again; yields the event that ends the wait."""

    async def backed_off(self, failures: int, error: Exception) -> None:
        """Rest after a failure."""
        self.log.warning("cannot judge yet (%s: %s); trying again", type(error).__name__, error)
        low, high = _BACK_OFF
        # Not all at once, when a database comes back and a thousand wait for it.
        await asyncio.sleep(min(low * 2**failures, high) * random.uniform(0.5, 1))  # noqa: S311


async def _followed(conn_id: str, board: Switchboard) -> AsyncIterator[Batch]:
    """Hand out the ledger's batches at a switchboard, and yield those that all must hear."""
    connect = partial(connections.connect, conn_id)
    pause = _BACK_OFF[0]
    while True:
        try:
            connection = await connect()
            try:
                start = await tail.position(connection)
            finally:
                connection.terminate()
            break
        except Exception:  # whatever it is, the waiters wait
            await asyncio.sleep(pause)
            pause = min(pause * 2, _BACK_OFF[1])
    board.begin(start)
    yield Batch(start, start, frozenset())
    async for batch in tail.follow(connect, start):
        if not board.hand_out(batch):
            yield batch


class TableTrigger(LedgerTrigger):
    """
    Waits until tables may be read, or until a product may be built, which it then claims.

    Ends the task where it is: success when ready, skipped when nothing is to be done, failed when
    it can never be.

    :param partition: key of the partition, or an instant inside it; a template
    :param root: the folder of `levada.yaml`
    :param conn_id: the Airflow connection to the ledger
    :param tables: the tables to wait for
    :param product: the product to sense and claim
    :param generations: lowest generation of a table that counts
    :param interval: grain and calendar of the interval of which each table's slices are waited for
    :param soft_fail: skip instead of failing
    :param claimant: `[dag_id, run_id, attempt]`, where the trigger cannot know its task
    """

    def __init__(
        self,
        *,
        partition: str,
        root: str,
        conn_id: str = connections.RUNNER,
        tables: Sequence[str] = (),
        product: str = "",
        generations: Mapping[str, int] | None = None,
        interval: str = "",
        soft_fail: bool = False,
        claimant: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.partition = partition
        self.root = root
        self.conn_id = conn_id
        self.tables = list(tables)
        self.product = product
        self.generations = dict(generations or {})
        self.interval = interval
        self.soft_fail = soft_fail
        self.claimant = list(claimant)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Names only: no address and no secret is stored with a waiting task."""
        return (
            "levada_sensors.triggers.TableTrigger",
            {
                "partition": self.partition,
                "root": self.root,
                "conn_id": self.conn_id,
                "tables": self.tables,
                "product": self.product,
                "generations": self.generations,
                "interval": self.interval,
                "soft_fail": self.soft_fail,
                "claimant": self.claimant,
            },
        )

    async def events(self, listener: Listener) -> AsyncIterator[TriggerEvent]:
        """The one event that ends the task."""
        failures, said = 0, ""
        listener.watch(Path(self.root))
        while True:
            try:
                url = await connections.runner_address(self.conn_id)
                glance = await Desk.of(Path(self.root), url).answer(self)
                answer, touches = glance.answer, glance.touches
                if answer is None:
                    answer = await asyncio.to_thread(self.claimed, url)
            except Misnamed as error:  # no line of the ledger can mend it
                self.log.error("%s", error)
                yield TaskSkippedEvent() if self.soft_fail else TaskFailedEvent()
                return
            except Exception as error:  # the wait outlives every database
                await self.backed_off(failures, error)
                failures += 1
                continue
            failures = 0
            if answer.because != said:
                said = answer.because
                self.log.info("%s: %s", answer.outcome.value, said)
            if event := self._event(answer):
                yield event
                return
            await listener.changed(answer.position, touches, _seconds_until(answer.next))

    def ask(self, mesh: Mesh) -> Ask:
        """What its judgement reads. Raises Misnamed for what does not exist."""
        if self.product:
            return ask_of(mesh, [self._sought(mesh)])
        wanted = self._wanted(mesh)
        return ask_of(mesh, [(t if t.is_source else mesh.product(t), p) for t, p in wanted])

    def glance(self, mesh: Mesh, facts: Facts) -> Glance:
        """The answer as these facts have it, and what may change it; none where it may claim."""
        if self.product:
            product, partition = self._sought(mesh)
            dag_id, run_id, attempt = self._claimant()
            answer = glance_at_product(
                facts,
                mesh,
                product,
                partition,
                prefix=claim_prefix(dag_id, run_id),
                attempt=attempt,
            )
            return Glance(answer, product_touches(mesh, product, partition))
        wanted = self._wanted(mesh)
        least = {_table(t): g for t, g in self.generations.items()}
        return Glance(judge_tables(facts, mesh, wanted, least), table_touches(mesh, wanted))

    def claimed(self, url: str) -> Answer:
        """Judge the product alone, and claim it. Blocks: call it in a thread."""
        mesh = connections.mesh_of(Path(self.root))
        product, partition = self._sought(mesh)
        dag_id, run_id, attempt = self._claimant()
        return judge_product(
            *(connections.ledger_at(url), mesh, product, partition),
            prefix=claim_prefix(dag_id, run_id),
            attempt=attempt,
        )

    def _sought(self, mesh: Mesh) -> tuple[Product, Partition]:
        """The product and its partition that holds the named one."""
        try:
            product = mesh.product(self.product)
        except KeyError:
            raise Misnamed(f"the mesh has no product {self.product}") from None
        return product, partition_of(self.partition, product.grain, product.zone)

    def _wanted(self, mesh: Mesh) -> list[tuple[TableRef, Partition]]:
        """Each table's own partition that holds the named one; of an interval, all inside it."""
        wanted: list[tuple[TableRef, Partition]] = []
        for name in self.tables:
            table = _table(name)
            try:
                grain, zone = mesh.slicing(table)
            except KeyError:
                raise Misnamed(f"the mesh has no table {table}") from None
            if self.interval:
                inside = slices_inside(mesh, self.interval, self.partition, table)
                wanted += [(table, each) for each in inside]
            else:
                wanted.append((table, partition_of(self.partition, grain, zone)))
        return wanted

    def _claimant(self) -> tuple[str, str, str]:
        """Whose claim it is: this try of this run's task, wherever its trigger runs."""
        if self.claimant:
            dag_id, run_id, attempt = self.claimant
            return dag_id, run_id, attempt
        task = self.task_instance
        if task is None:
            raise Misnamed("a product's trigger runs for a task: say claimant")
        return task.dag_id, task.run_id, attempt_name(task.try_number, task.id)

    def _event(self, answer: Answer) -> TriggerEvent | None:
        match answer.outcome:
            case Outcome.READY:
                return TaskSuccessEvent()
            case Outcome.CURRENT:
                return TaskSkippedEvent()
            case Outcome.NEVER:
                return TaskSkippedEvent() if self.soft_fail else TaskFailedEvent()
            case Outcome.WAITING:
                return None


def _table(name: str) -> TableRef:
    try:
        return TableRef.parse(name)
    except ValueError as error:
        raise Misnamed(str(error)) from None


def _seconds_until(instant: datetime | None) -> float:
    safety = _SAFETY * random.uniform(0.8, 1.2)  # noqa: S311 - spreads the load, no secret
    if instant is None:
        return safety
    left = (instant - datetime.now(UTC)).total_seconds()
    return min(max(left, 0.1), safety)
