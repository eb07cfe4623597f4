"""
Watching for what the timetables do not start: restatements, repairs, due retries, whole tables;
where the mesh dispatches what is ready, first runs too.

The trigger asks the tables outside the mesh, follows the ledger and plans; it ends its task when
there is work for the reconciler, or after a long pause. The class path is stored data, as in
`triggers`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from levada.adapters.probes import Probes, record
from levada.flow import scheduling
from levada.flow.steps import look
from levada.intervals import is_live
from levada.ledger import PostgresLedger
from levada.plan import Follower, Lookout, next_due, order
from levada.ports import Ledger
from levada.readiness import Judge
from levada.settings import Settings
from levada.terms import (
    WHOLE,
    Begun,
    Claim,
    Facts,
    Grain,
    Mesh,
    Partition,
    Product,
    Recurring,
    Span,
    State,
    Step,
)
from levada_sensors import connections
from levada_sensors.limits import BACKFILL
from levada_sensors.listening import Listener
from levada_sensors.triggers import LedgerTrigger

__all__ = [
    "Nudge",
    "ReconcileTrigger",
    "Task",
    "Watch",
    "Work",
    "all_facts",
    "nudge_of",
    "probe",
    "work_of",
    "yielding",
]

_PATIENCE = 60.0
"""Seconds that a run has for claiming what it may claim, before it is looked after."""
_AGAIN = 20.0
"""Seconds after which work is told once more: its DAG may not have been parsed yet."""
_LONGEST = 600.0
_BEHIND = "behind the live day"
"""Why a backfill has no work yet: when the last run of the day ends it has, or after a minute."""
_SOME = 100
"""Slices of a backfill that are judged at once, until one can be built."""


@dataclass(frozen=True, slots=True)
class Task:
    """A step that could be built now, or is claimed: a claim may outlive its run."""

    step: Step
    product: Product
    mark: str
    """The fingerprint of the run that it needs."""
    tried: int
    """Position of the attempt that failed, 0 where there is none: each is retried once."""
    patient: bool
    """Somebody is about it: its timetable, or who has claimed it. Looked after when that lasts."""
    claim: Claim | None = None

    @property
    def key(self) -> tuple[str, Partition]:
        """Which product and partition."""
        return self.step.product, self.step.partition


@dataclass(frozen=True, slots=True)
class Nudge:
    """Backfills want the reconciler's attention; at once, or in case somebody has died."""

    mark: str
    """What there is to do: another mark, another reason."""
    patient: bool
    next: datetime | None = None
    tried: int = 0
    key: tuple[str, Partition] = (BACKFILL, WHOLE)


@dataclass(frozen=True, slots=True)
class Work:
    """What could be built now, as of one position, and when a back-off will be over."""

    tasks: tuple[Task, ...]
    steps: tuple[Step, ...]
    position: int
    next: datetime | None
    nudge: Nudge | None = None


def all_facts(ledger: Ledger, mesh: Mesh) -> Facts:
    """Everything that the ledger shows of this mesh."""
    tables = {*mesh.tables(), *(source.table for source in mesh.sources)}
    return ledger.facts(tables, [product.id for product in mesh.products])


def work_of(
    mesh: Mesh,
    facts: Facts,
    now: datetime,
    dispatch: str = "sensor",
    lookout: Lookout | None = None,
) -> Work:
    """
    The steps that are not a timetable's alone, and of these what could be built now.

    Nobody starts a first run before `live_from` here: that history is a command's, or a plan's.

    :param dispatch: `sensor`, where a timetable starts first runs; `ready`, where nobody else does
    :param lookout: what looked before, which decides only what has moved since (default: all)
    """
    lookout = lookout or Lookout(mesh)
    found = [
        standing
        for standing in lookout.look(facts, now)
        if not standing.step.first or is_live(standing.step.partition, mesh.live_from)
    ]
    tasks = []
    for standing in found:
        step, attempt = standing.step, standing.attempt
        product = mesh.product(step.product)
        if claim := facts.claims.get((step.product, step.partition)):
            tasks.append(Task(step, product, claim.run, 0, patient=True, claim=claim))
        elif standing.inputs.state is State.READY:
            routine = step.first and attempt is None and step.partition.grain is not Grain.WHOLE
            routine = routine and dispatch == "sensor"
            tried = attempt.position if attempt else 0
            tasks.append(Task(step, product, standing.mark, tried, patient=routine))
    # Quiet times, back-offs and deadlines end without a line of the ledger.
    steps = tuple(standing.step for standing in found)
    return Work(tuple(tasks), steps, facts.position, lookout.next)


class Watch:
    """What one mesh's looks share: the facts that were read, and what was decided of them."""

    def __init__(self, mesh: Mesh, ledger: PostgresLedger) -> None:
        self.mesh, self.ledger = mesh, ledger
        self._follower, self._lookout = Follower(mesh, ledger), Lookout(mesh)

    def work(self, now: datetime, dispatch: str, parallel: int = 2) -> Work:
        """The work that there is now; the first look is at everything."""
        facts = self._follower.facts(now)
        found = work_of(self.mesh, facts, now, dispatch, self._lookout)
        begun = self.ledger.at_work() if facts.restating else ()
        if not begun:
            return found
        nudge = nudge_of(self.mesh, facts, now, begun, parallel)
        wakes = min((i for i in (found.next, nudge.next if nudge else None) if i), default=None)
        tasks = tuple(yielding(found.tasks, facts, {b.id for b in begun}))
        return replace(found, tasks=tasks, next=wakes, nudge=nudge)


def yielding(tasks: Iterable[Task], facts: Facts, begun: Collection[str]) -> Iterator[Task]:
    """The tasks but those that a running backfill does anyway: a first run is waited for."""
    for task in tasks:
        if task.step.first or facts.restating.get(task.key) not in begun:
            yield task


def _with_dates(
    work: Work, ledger: PostgresLedger, every: Sequence[Recurring], now: datetime
) -> Work:
    """The work, with the due dates of scheduled backfills."""
    if not every:
        return work
    wakes = min(i for i in (work.next, *(next_due(each, now) for each in every)) if i)
    due = scheduling.what_is_due(ledger, every, now)
    # What waits for an approval may be due for days: it hides nothing of what runs meanwhile.
    marks = [work.nudge.mark] if work.nudge else []
    mark = " ".join([*marks, *(f"{each.recurring.name} {each.at}" for each in due)])
    nudge = Nudge(mark, patient=False) if due else work.nudge
    return replace(work, next=wakes, nudge=nudge)


def nudge_of(
    mesh: Mesh, facts: Facts, now: datetime, begun: Sequence[Begun], parallel: int
) -> Nudge | None:
    """What running backfills have for the reconciler, if anything."""
    by_id = {each.id: each for each in begun}
    todo: dict[str, list[Partition]] = {}
    for (product_id, partition), name in facts.restating.items():
        if name in by_id:
            todo.setdefault(product_id, []).append(partition)
    if not todo:
        return None
    runs = sorted({c.run for c in facts.claims.values() if c.run.startswith(f"{BACKFILL}@")})
    under_way = " ".join(runs)
    if len(runs) >= 2 * parallel:
        return Nudge(under_way, patient=True)
    others = {c.run for c in facts.claims.values() if c.until > now}.difference(runs)
    if others:
        return Nudge(f"{_BEHIND} {under_way}", patient=True)
    judge = Judge(replace(mesh, quiet=timedelta(0)), facts, now)
    wakes: list[datetime] = []
    held = bool(runs)
    for product in (p for p in order(mesh) if p.id in todo):
        wanted = sorted(todo[product.id])
        free = [p for p in wanted if (product.id, p) not in facts.claims]
        held |= len(free) < len(wanted)
        for some in (free[n : n + _SOME] for n in range(0, len(free), _SOME)):
            for name in dict.fromkeys(facts.restating[product.id, p] for p in some):
                its = [p for p in some if facts.restating[product.id, p] == name]
                found = look(judge, by_id[name], product, its)
                tried = (a.not_before for a in found.broken.values())
                early = [at for at in tried if at and at > now]
                wakes += early + [w.next for w in found.waits.values() if w.next]
                if found.outcomes or len(found.ready) > len(early):
                    return Nudge(f"{product} {its[0]} {under_way}", patient=False)
    return Nudge(f"nothing {under_way}", patient=held or bool(wakes), next=min(wakes, default=None))


def probe(settings: Settings, mesh: Mesh, ledger: Ledger, probes: Probes, now: datetime) -> int:
    """Ask every source over the horizon and record what is new; how many lines."""
    hour, horizon = now.replace(minute=0, second=0, microsecond=0), settings.probe_horizon
    # A mesh of the past is looked at from its end; some sources deliver before a slice is over.
    oldest = max(settings.span.start, min(hour, settings.span.end) - horizon)
    latest = min(settings.span.end, hour + horizon)
    if oldest >= latest:
        return 0
    # A quarter is longer than most horizons: whatever the window touches is asked for.
    window = Span(oldest, latest)
    return len(record(ledger, probes.ask(mesh.sources, settings.span, now, window)))


class ReconcileTrigger(LedgerTrigger):
    """
    Ends its task when there is work for the reconciler, or after a pause.

    :param root: the folder of `levada.yaml`
    :param conn_id: the Airflow connection to the ledger
    :param pause: seconds after which the reconciler looks after everything anyway
    """

    def __init__(
        self, *, root: str, conn_id: str = connections.RUNNER, pause: float = _LONGEST
    ) -> None:
        super().__init__()
        self.root = root
        self.conn_id = conn_id
        self.pause = pause

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Names only."""
        return (
            "levada_sensors.watching.ReconcileTrigger",
            {"root": self.root, "conn_id": self.conn_id, "pause": self.pause},
        )

    async def events(self, listener: Listener) -> AsyncIterator[TriggerEvent]:
        """One event, when there is something to do."""
        over = time.monotonic() + self.pause
        listed = failures = 0
        list_at = 0.0
        while True:
            try:
                url = await connections.runner_address(self.conn_id)
                settings = connections.settings_of(Path(self.root))
                if time.monotonic() >= list_at:
                    await connections.look_up_outside(settings.connections)
                    listed = await asyncio.to_thread(self._list, url)
                    list_at = time.monotonic() + settings.probe_every.total_seconds()
                    if listed:
                        self.log.info("%d partitions landed", listed)
                began = time.monotonic()
                work = await asyncio.to_thread(self._plan, url)
                took = time.monotonic() - began
            except Exception as error:
                # Whatever it is: a reconciler that stops helps nobody.
                await self.backed_off(failures, error)
                failures += 1
                continue
            failures = 0
            nudges = (work.nudge,) if work.nudge else ()
            fresh = _reminders.fresh(self.root, (*work.tasks, *nudges), time.monotonic())
            for task in fresh:
                said = task.step.because if isinstance(task, Task) else "a backfill goes on"
                self.log.info("%s %s: %s", *task.key, said)
            if fresh or time.monotonic() >= over:
                yield TaskSuccessEvent()
                return
            wake = min(list_at, over, _reminders.due(self.root)) - time.monotonic()
            if work.next:
                wake = min(wake, (work.next - datetime.now(UTC)).total_seconds())
            # A busy ledger is planned at leisure: never more than a third of the time.
            await asyncio.sleep(max(0.5, 2 * took))
            await listener.changed(work.position, None, max(wake, 0.1))

    def _list(self, url: str) -> int:
        root = Path(self.root)
        settings, mesh = connections.settings_of(root), connections.mesh_of(root)
        key = (settings.root, settings.probe_every)
        if key not in _probes:
            # Kept from trigger to trigger: what was just asked is not asked again by the next.
            _probes[key] = Probes(settings.root, connections.looked_up, settings.probe_every)
        return probe(settings, mesh, connections.ledger_at(url), _probes[key], datetime.now(UTC))

    def _plan(self, url: str) -> Work:
        root = Path(self.root)
        settings, mesh = connections.settings_of(root), connections.mesh_of(root)
        ledger = connections.ledger_at(url)
        ledger.beat("watch")
        with _looking:
            # Kept from trigger to trigger, and taken out while it looks: one that broke off begins
            # anew, with a look at everything.
            watch = _watches.pop(root, None)
            if watch is None or watch.mesh is not mesh or watch.ledger is not ledger:
                watch = Watch(mesh, ledger)
            now = datetime.now(UTC)
            work = watch.work(now, settings.dispatch, settings.backfill_parallel)
            every, _ = scheduling.declared(settings, mesh)
            work = _with_dates(work, ledger, every, now)
            _watches[root] = watch
        return work


class Reminders:
    """
    What was told already, so that a step whose run has yet to begin wakes nobody twice a second.

    New work is told at once; work that stays is told again soon, then less and less often. What
    somebody is about gets its minute before it is told at all. Lost with the process:
    then it is told once more, and the reconciler finds the run alive.
    """

    def __init__(self) -> None:
        self._told: dict[
            str, dict[tuple[str, Partition], tuple[tuple[str, int], float, float]]
        ] = {}

    def fresh(self, root: str, tasks: Iterable[Task | Nudge], now: float) -> list[Task | Nudge]:
        """The tasks to tell of now."""
        before, after = self._told.get(root, {}), {}
        found: list[Task | Nudge] = []
        for task in tasks:
            what = (task.mark, task.tried)
            known = before.get(task.key)
            if known is None or known[0] != what:
                wait = _PATIENCE if task.patient else _AGAIN
                if not task.patient:
                    found.append(task)
                after[task.key] = (what, now + wait, wait)
            elif known[1] <= now:
                found.append(task)
                wait = min(known[2] * 2, _LONGEST)
                after[task.key] = (what, now + wait, wait)
            else:
                after[task.key] = known
        self._told[root] = after
        return found

    def due(self, root: str) -> float:
        """When something that was told will be told again."""
        return min((due for _, due, _ in self._told.get(root, {}).values()), default=float("inf"))


_reminders = Reminders()
_watches: dict[Path, Watch] = {}
_looking = threading.Lock()
_probes: dict[tuple[Path, timedelta], Probes] = {}
