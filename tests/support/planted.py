"""
Bugs to plant: each makes one thing of Levada wrong, for as long as a test lasts. The oracle must
object to every one of them, or it proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from levada import intervals
from levada.ports import Want
from levada.readiness import currency, impossible, reading, waits
from levada.readiness import judge as judging
from levada.readiness.coming import Coming
from levada.readiness.judge import Judge
from levada.simulate import engine
from levada.simulate.ledger import Entry, MemoryLedger, MemoryWarehouse
from levada.terms import (
    Deadline,
    Grain,
    Input,
    Partition,
    Product,
    Publication,
    Readiness,
    Rollup,
    State,
    TableRef,
    Verdict,
    WaitPolicy,
)

__all__ = ["BUGS"]

Plant = Callable[[pytest.MonkeyPatch], None]
BUGS: dict[str, Plant] = {}


def _bug(plant: Plant) -> Plant:
    BUGS[(plant.__doc__ or "").strip().rstrip(".")] = plant
    return plant


@_bug
def _no_25th_hour(patch: pytest.MonkeyPatch) -> None:
    """A day rolls up 24 hours, whatever the clock does."""
    right = intervals.mapped

    def wrong(mapping: Any, partition: Partition, *slicing: Any) -> intervals.Mapped:
        found = right(mapping, partition, *slicing)
        if isinstance(mapping, Rollup) and found.partitions[:1]:
            return replace(found, partitions=found.partitions[:24])
        return found

    for module in (reading, impossible, waits):
        patch.setattr(module, "mapped", wrong)


@_bug
def _max_seq(patch: pytest.MonkeyPatch) -> None:
    """The tail remembers the highest number that it has seen."""

    class Numbered(MemoryLedger):
        """Every fifth writer took its number before the one ahead of it, and commits after it."""

        def tail(self, after: int) -> Sequence[Entry]:
            numbered = [replace(e, position=_number(e.position)) for e in self.log]
            return [e for e in numbered if e.position > after]

    patch.setattr(engine, "MemoryLedger", Numbered)


def _number(position: int) -> int:
    return position - 1 if position % 5 == 0 else position + (position % 5 == 4)


@_bug
def _stale_passes(patch: pytest.MonkeyPatch) -> None:
    """What is stale passes for ready."""
    right = Judge._published

    def wrong(self: Judge, product: Product, at: Partition, line: Publication) -> Readiness:
        found = right(self, product, at, line)
        return replace(found, state=State.READY) if found.state is State.STALE else found

    patch.setattr(Judge, "_published", wrong)


@_bug
def _deadline_in_utc(patch: pytest.MonkeyPatch) -> None:
    """A deadline is read in UTC and not in the reader's zone."""

    def wrong(deadline: Deadline, partition: Partition) -> datetime:
        return intervals.due(deadline, replace(partition, zone="UTC"))

    patch.setattr(waits, "due", wrong)


@_bug
def _one_less_is_enough(patch: pytest.MonkeyPatch) -> None:
    """At least n is met by n - 1."""
    right = WaitPolicy.met

    def wrong(self: WaitPolicy, *, ready: int, total: int) -> bool:
        lax = ready + 1 if self.at_least and 0 < ready < total else ready
        return right(self, ready=lax, total=total)

    patch.setattr(WaitPolicy, "met", wrong)


@_bug
def _restatement_unseen(patch: pytest.MonkeyPatch) -> None:
    """A restated input is taken for the old one."""
    right = Judge.changes

    def wrong(self: Judge, product: Product, at: Partition, line: Publication) -> Any:
        return tuple(c for c in right(self, product, at, line) if c.arrived)

    patch.setattr(Judge, "changes", wrong)


@_bug
def _two_may_claim(patch: pytest.MonkeyPatch) -> None:
    """A claim is granted though another run holds it."""
    right = MemoryLedger._free
    granted: dict[tuple[str, Partition], datetime] = {}

    def wrong(self: MemoryLedger, wanted: Want, run: str) -> bool:
        key, now = (wanted.product, wanted.partition), self.clock()
        free = right(self, wanted, run) or granted.get(key, now) < now  # else it never ends
        if free:
            granted[key] = now
        return free

    patch.setattr(MemoryLedger, "_free", wrong)


@_bug
def _absent_unrecorded(patch: pytest.MonkeyPatch) -> None:
    """An input that was absent is not recorded."""
    right = Judge.pins

    def wrong(self: Judge, product: Product, at: Partition) -> tuple[Input, ...]:
        return tuple(i for i in right(self, product, at) if i.content is not None)

    patch.setattr(Judge, "pins", wrong)


@_bug
def _second_newest(patch: pytest.MonkeyPatch) -> None:
    """Latest takes the second newest slice."""
    right = Judge.newest

    def wrong(self: Judge, table: TableRef) -> Partition | None:
        newest = right(self, table)
        if newest is None or newest.start is None:
            return newest
        before = intervals.preceding(newest)
        return before if self.facts.line(table, before) else newest

    patch.setattr(Judge, "newest", wrong)


@_bug
def _lag_ahead(patch: pytest.MonkeyPatch) -> None:
    """Lag reads the slice after, not the one before."""
    right = intervals._stepped
    patch.setattr(intervals, "_stepped", lambda partition, by: right(partition, -by))
    intervals.mapped.cache_clear()


@_bug
def _no_quiet(patch: pytest.MonkeyPatch) -> None:
    """The quiet time is ignored."""
    right = Judge.resting

    def wrong(self: Judge, product: Product, at: Partition) -> Readiness | None:
        found = right(self, product, at)
        return None if found and found.state is State.WAITING else found

    patch.setattr(Judge, "resting", wrong)


@_bug
def _no_patience(patch: pytest.MonkeyPatch) -> None:
    """A rebuild does not wait for what is being made again above it."""
    patch.setattr(Coming, "above", lambda *_: None)


@_bug
def _hold_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What an edge holds is rebuilt all the same."""
    right = Judge.changes

    def wrong(self: Judge, product: Product, at: Partition, line: Publication) -> Any:
        return tuple(replace(c, action="rerun") for c in right(self, product, at, line))

    patch.setattr(Judge, "changes", wrong)


@_bug
def _parked_for_ever(patch: pytest.MonkeyPatch) -> None:
    """After a failed audit nothing is tried again."""
    right = Judge.attempt

    def wrong(self: Judge, product: Product, at: Partition) -> Any:
        found = right(self, product, at)
        if found and found.verdict is Verdict.FAIL:
            return replace(
                found, verdict=Verdict.UNKNOWN, not_before=self.now + timedelta(days=999)
            )
        return found

    patch.setattr(Judge, "attempt", wrong)


@_bug
def _swapped_and_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What died between its swap and its lines is dropped."""

    def wrong(self: MemoryWarehouse, domain: str, run: str) -> None:
        return None

    patch.setattr(MemoryWarehouse, "find", wrong)


@_bug
def _unmarked(patch: pytest.MonkeyPatch) -> None:
    """What was gone without is not said."""
    patch.setattr(Judge, "marks", lambda *_: ())


@_bug
def _unknown_is_absent(patch: pytest.MonkeyPatch) -> None:
    """What nobody could tell is said to be absent."""
    right = Judge.marks

    def wrong(self: Judge, product: Product, at: Partition) -> tuple[str, ...]:
        return tuple(mark.replace("unknown", "absent") for mark in right(self, product, at))

    patch.setattr(Judge, "marks", wrong)


@_bug
def _stand_in_for_ever(patch: pytest.MonkeyPatch) -> None:
    """What was read as its last good publication is marked though it was mended."""
    patch.setattr(judging, "holding", lambda line, _: line.taint)


@_bug
def _late_latest_ignored(patch: pytest.MonkeyPatch) -> None:
    """An edge that ignores changes ignores what was gone without."""
    patch.setattr(currency, "_indifferent", lambda edge, _: edge.on_restatement.action == "ignore")


@_bug
def _born_stale(patch: pytest.MonkeyPatch) -> None:
    """What was there and not ready counts as arrived at once."""
    patch.setattr(Judge, "_comes", lambda *_: True)


@_bug
def _ready_again_unseen(patch: pytest.MonkeyPatch) -> None:
    """What was not ready, and is again without a new line, is not read."""
    right = Judge._comes

    def wrong(
        self: Judge, edge: Any, product: Product, at: Partition, key: Any, before: Input | None
    ) -> bool:
        line = self.facts.line(*key)
        newer = before is None or line is None or line.generation > before.unready
        return newer and right(self, edge, product, at, key, before)

    patch.setattr(Judge, "_comes", wrong)


@_bug
def _stand_in_unrecorded(patch: pytest.MonkeyPatch) -> None:
    """What is read though it is not ready is recorded as if it were."""
    right = Judge.pins

    def wrong(self: Judge, product: Product, at: Partition) -> tuple[Input, ...]:
        return tuple(replace(i, unready=0) for i in right(self, product, at))

    patch.setattr(Judge, "pins", wrong)


@_bug
def _unknown_stops_early(patch: pytest.MonkeyPatch) -> None:
    """What waits for what nobody can tell is said to be absent."""
    patch.setattr(Judge, "_is_untold", lambda *judged: judged[-1].unknown)


@_bug
def _groups_read_all(patch: pytest.MonkeyPatch) -> None:
    """Of a group, what was not needed is read when it comes though its edge ignores that."""
    right = currency._indifferent

    def wrong(edge: Any, read: Any) -> bool:
        return right(replace(edge, any_of=""), read)

    patch.setattr(currency, "_indifferent", wrong)


@_bug
def _dead_for_ever(patch: pytest.MonkeyPatch) -> None:
    """The claim of a dead run is never given back."""
    right = MemoryLedger._free

    def wrong(self: MemoryLedger, wanted: Want, run: str) -> bool:
        return (wanted.product, wanted.partition) not in self._claims and right(self, wanted, run)

    patch.setattr(MemoryLedger, "_free", wrong)


@_bug
def _late_by_an_hour(patch: pytest.MonkeyPatch) -> None:
    """A fine slice at the edge of a coarse one is given the next."""
    right = intervals._asked

    def wrong(mapping: Any, partition: Partition, grain: Any, zone: str) -> Any:
        if mapping.kind == "fanout" and grain is not Grain.WHOLE:
            shifted = partition.begin + timedelta(hours=1)
            return (intervals.containing(grain, shifted, zone),)
        return right(mapping, partition, grain, zone)

    patch.setattr(intervals, "_asked", wrong)
    intervals.mapped.cache_clear()
