"""
The plan of a whole mesh, kept up: a look decides only what new lines and time may have changed.

A full look costs a quarter of a millisecond for each partition that there is, however few have
moved. So the first look is full, and later ones decide what the difference of the facts reaches and
what has come to its `next` instant; and, slowly behind, everything else once more, in case a reach
was too short. Nothing is kept outside the process: a restart is a full look.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from operator import is_
from typing import Any

from levada.calendars import opening
from levada.intervals import within
from levada.plan.deciding import Target, decided, order
from levada.plan.reaching import Reach
from levada.readiness import Judge, fingerprint
from levada.terms import (
    Attempt,
    Facts,
    Mesh,
    Partition,
    Publication,
    Readiness,
    State,
    Step,
    TableRef,
    Waived,
    Waiver,
)

__all__ = ["Lookout", "Standing"]


@dataclass(frozen=True, slots=True)
class Standing:
    """A step of the plan, and what a build of it would find now."""

    step: Step
    inputs: Readiness
    attempt: Attempt | None
    mark: str
    """The fingerprint of the run that it needs; empty while its inputs are not ready."""


class Lookout:
    """
    The steps of a whole mesh as its facts stand, look after look.

    :param around: the time in which everything is decided once more, a little in each look
    """

    def __init__(self, mesh: Mesh, around: timedelta = timedelta(hours=1)) -> None:
        self.mesh, self.around = mesh, around
        self._known = {product.id for product in mesh.products}
        self._targets: list[Target] = [
            (product.id, partition)
            for product in order(mesh)
            for partition in within(product.grain, product.zone, mesh.span)
        ]
        self._place = {target: n for n, target in enumerate(self._targets)}
        self._reach = Reach(mesh, self._targets)
        self._steps: dict[int, Standing] = {}  # by place: the order of `plan`
        self._wakes: dict[Target, datetime] = {}
        self._alarms: list[tuple[datetime, Target]] = []
        self._hanging: set[Target] = set()
        """Rebuilds that wait for what is made again, however far up: looked at each time."""
        self._dates = tuple(_dates(mesh))
        self._facts: Facts | None = None
        self._seen: datetime | None = None
        self._cursor = 0
        self.decided = 0
        """How many partitions the last look decided."""

    def look(self, facts: Facts, now: datetime) -> tuple[Standing, ...]:
        """The steps now, in the order of `plan`."""
        looked_at = self._touched(facts, now)
        judge = Judge(self.mesh, facts, now)
        for target in looked_at:
            self._decide(judge, *target)
        self._facts, self._seen, self.decided = facts, now, len(looked_at)
        return tuple(self._steps[place] for place in sorted(self._steps))

    @property
    def next(self) -> datetime | None:
        """When time alone may change a step next, as of the last look."""
        self._drop_stale_alarms()
        dates = [at for at, _ in self._dates]
        dates += [waiver.expires for waiver in (self._facts.waivers if self._facts else ())]
        ahead = [at for at in dates if self._seen and at > self._seen]
        return min([*ahead, *(at for at, _ in self._alarms[:1])], default=None)

    # What is looked at

    def _touched(self, facts: Facts, now: datetime) -> set[Target]:
        if self._facts is None or self._seen is None or now < self._seen:
            return set(self._targets)
        found = self._come(now) | self._behind(now - self._seen) | self._hanging
        for subject, partition in _moved(self._facts, facts):
            if self._knows(subject):
                found |= self._reach.of(subject, partition)
        for table in (table for at, table in self._dates if self._seen < at <= now):
            found |= self._reach.of(table, None)
        ended = [waiver for waiver in facts.waivers if self._seen < waiver.expires <= now]
        for slice_ in _let_through(ended, facts):
            found |= self._reach.of(*slice_)
        return found

    def _knows(self, subject: TableRef | str) -> bool:
        return isinstance(subject, TableRef) or subject in self._known

    def _come(self, now: datetime) -> set[Target]:
        """Those whose instant has come."""
        found = set()
        while self._alarms and self._alarms[0][0] <= now:
            at, target = heapq.heappop(self._alarms)
            if self._wakes.get(target) == at:
                found.add(target)
        return found

    def _behind(self, passed: timedelta) -> set[Target]:
        """The next few of all, as many as the time that passed is of a round."""
        count = min(math.ceil(len(self._targets) * (passed / self.around)), len(self._targets))
        begin, self._cursor = self._cursor, (self._cursor + count) % max(len(self._targets), 1)
        twice = self._targets[begin : begin + count]
        return {*twice, *self._targets[: count - len(twice)]}

    def _drop_stale_alarms(self) -> None:
        while self._alarms and self._wakes.get(self._alarms[0][1]) != self._alarms[0][0]:
            heapq.heappop(self._alarms)

    # One of them

    def _decide(self, judge: Judge, product_id: str, partition: Partition) -> None:
        target, product = (product_id, partition), self.mesh.product(product_id)
        found = decided(judge, product, partition)
        instants = []
        if isinstance(found, Readiness):
            self._steps.pop(self._place[target], None)
            instants.append(found.next)
            hangs = found.state is State.WAITING and bool(found.missing)
        else:
            inputs = judge.inputs(product, partition)
            ready = inputs.state is State.READY
            mark = fingerprint(product, partition, judge.pins(product, partition)) if ready else ""
            attempt = judge.attempt(product, partition)
            self._steps[self._place[target]] = Standing(found, inputs, attempt, mark)
            instants.append(inputs.next)
            hangs = ready and not found.first and attempt is None
        # What is further up than lines reach may make another thing of a rebuild.
        (self._hanging.add if hangs and self.mesh.quiet else self._hanging.discard)(target)
        if tried := judge.facts.attempt(*target):
            instants.append(tried.not_before)
        if claim := judge.facts.claims.get(target):
            instants.append(claim.until)
        self._wake(target, min((i for i in instants if i and i > judge.now), default=None))

    def _wake(self, target: Target, instant: datetime | None) -> None:
        if instant is None:
            self._wakes.pop(target, None)
        elif self._wakes.get(target) != instant:
            self._wakes[target] = instant
            heapq.heappush(self._alarms, (instant, target))


def _dates(mesh: Mesh) -> Iterator[tuple[datetime, TableRef]]:
    """When a contract's date makes another thing of its table."""
    for product in mesh.products:
        for mart in product.marts:
            for day in (mart.contract.deprecated, mart.contract.sunset):
                if day is not None:
                    yield opening(day, mart.contract.zone), mart.table


def _moved(old: Facts, new: Facts) -> Iterator[tuple[TableRef | str, Partition | None]]:
    """What two facts of one mesh say differently: of which table or product, and which slice."""
    by_slice: tuple[tuple[Mapping[Any, object], Mapping[Any, object]], ...] = (
        (old.lines, new.lines),
        (old.attempts, new.attempts),
        (old.claims, new.claims),
        (old.pardons, new.pardons),
        (old.restating, new.restating),
    )
    for before, after in by_slice:
        yield from _differing(before, after)
    for subject in _differing(old.tampered, new.tampered):
        yield subject, None
    for subject in _differing(old.probes, new.probes):
        yield subject, None
    yield from _let_through(set(old.waivers) ^ set(new.waivers), new)
    cleared = {
        key
        for key in _differing(old.lines, new.lines)
        if isinstance(line := old.lines.get(key), Publication) and line.waived
    }
    if cleared:  # whoever is made of it is tainted no more, perhaps
        yield from _marked(new, lambda mark: (mark.table, mark.partition) in cleared)


def _let_through(
    waivers: Collection[Waiver], facts: Facts
) -> Iterator[tuple[TableRef, Partition | None]]:
    """The tables of waivers, and the slices made of what they let through, however far below."""
    checks = {(waiver.table, waiver.check) for waiver in waivers}
    yield from ((table, None) for table, _ in checks)
    if checks:
        yield from _marked(facts, lambda mark: (mark.table, mark.check) in checks)


def _marked(
    facts: Facts, which: Callable[[Waived], bool]
) -> Iterator[tuple[TableRef, Partition | None]]:
    """The slices whose lines carry such marks."""
    for key, line in facts.lines.items():
        if isinstance(line, Publication) and any(map(which, line.waived)):
            yield key


def _differing(old: Mapping[Any, object], new: Mapping[Any, object]) -> Iterator[Any]:
    if old is new:
        return
    if len(old) <= len(new) and all(map(is_, old, new)):  # nothing left, what is new came last
        for key, before, fact in zip(old, old.values(), new.values(), strict=False):
            if before is not fact and before != fact:  # what was not read again is the same object
                yield key
        yield from islice(new, len(old), None)
        return
    yield from (key for key in old if key not in new)
    for key, fact in new.items():
        before = old.get(key)
        if before is not fact and before != fact:
            yield key
