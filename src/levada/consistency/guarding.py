"""
The over-detection guard: whether what a rule flags is the data's fault or the rule's own.

A rule that flags too much soon after its definition changed is suspended until somebody reviewed
it. A disaster fires on everything, too; so it is asked whether the rule changed, whether it did so
before, and whether rules that did not change agree. What is never muted is held: it goes on, and
its owner is told.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from levada.terms import (
    Batch,
    ConsistencyRule,
    Guard,
    Guarded,
    GuardState,
    Judged,
    Partition,
    Report,
    RuleResult,
    Verdict,
)

__all__ = ["Record", "Witness", "dead", "dead_whole", "decide", "guarded"]

_ROWS = 20
"""Fewer rows or groups are no share: one of three is no flood."""
_INTERVALS = 5


def decide(
    *, over: bool, changed: bool, before: bool, agreed: bool, reviewed: bool, holds: bool
) -> GuardState | None:
    """
    What becomes of a rule that failed. None: it goes on, and what it says counts.

    `over`: it flags too much. `changed`: its definition is new. `before`: its former definition
    flagged as much. `agreed`: a rule that did not change, of this batch or of another one, over one
    of its tables, fails as well and usually does not. `reviewed`: somebody entitled accepted this
    definition. `holds`: it is never muted.

    >>> decide(over=True, changed=True, before=False, agreed=False, reviewed=False, holds=False)
    <GuardState.SUSPENDED: 'suspended'>
    >>> decide(over=True, changed=True, before=False, agreed=True, reviewed=False, holds=False)
    """
    if not over or not changed or before or agreed or reviewed:
        return None
    return GuardState.HELD if holds else GuardState.SUSPENDED


@dataclass
class _Definition:
    first: datetime
    """When it first stood in a report, judged or not."""
    judged: datetime | None = None
    """When it was first judged."""
    told: dict[Partition, Judged] = field(default_factory=dict)
    """Its newest verdict of each interval, PASS or FAIL."""

    def failing(self, guard: Guard, *, without: Partition | None = None) -> bool:
        """Whether it flags more of its intervals than it may; of few nothing is said."""
        told = [t.verdict for part, t in self.told.items() if part != without]
        failed = told.count(Verdict.FAIL)
        return len(told) >= _INTERVALS and failed > guard.share * len(told)

    def flooding(self, guard: Guard, at: Partition) -> bool:
        """Whether it flags too many rows of this interval, or of most others."""
        if at in self.told:
            return _rows(guard, self.told[at])
        return 2 * sum(_rows(guard, each) for each in self.told.values()) > len(self.told)

    @property
    def intervals(self) -> str:
        """How many of its intervals it flags, in words."""
        failed = sum(t.verdict is Verdict.FAIL for t in self.told.values())
        return f"{failed} of {len(self.told)} intervals"


class Record:
    """What a batch has reported so far, definition by definition."""

    def __init__(self, told: Iterable[Judged], marks: Iterable[Guarded]) -> None:
        self._begun: datetime | None = None
        self._definitions: dict[str, dict[str, _Definition]] = {}
        self.marks = {(mark.rule, mark.hash): mark for mark in marks}
        for each in told:
            self._add(each)

    def _add(self, each: Judged) -> None:
        self._begun = self._begun or each.at
        known = self._definitions.setdefault(each.rule, {})
        found = known.setdefault(each.hash, _Definition(each.at))
        if each.verdict is not Verdict.UNKNOWN:
            found.judged = found.judged or each.at
            found.told[each.partition] = each

    def add(self, report: Report) -> None:
        """Remember a report that was written."""
        for r in report.results:
            self._add(_judged_now(r, report.partition, report.at))
            if r.guarded is not None:
                self.marks.setdefault((r.rule.name, r.rule.hash), r.guarded)

    @property
    def begun(self) -> bool:
        """Whether anything was reported: before that nobody knows what is usual."""
        return self._begun is not None

    def mark(self, rule: ConsistencyRule) -> Guarded | None:
        """What the guard did with this definition, if anything."""
        return self.marks.get((rule.name, rule.hash))

    def suspended(self, batch: Batch) -> Mapping[str, Guarded]:
        """The rules of a batch that are not judged now. What holds is never among them."""
        return {
            rule.id: mark
            for rule in batch.rules
            if (mark := self.mark(rule)) is not None
            and mark.state is GuardState.SUSPENDED
            and not rule.holds
        }

    def changed(self, rule: ConsistencyRule, guard: Guard, now: datetime) -> bool:
        """
        Whether a definition is new: it came after its batch began, and was first judged not long
        ago. In a batch that begins nothing has changed.
        """
        found = self._definitions.get(rule.id, {}).get(rule.hash)
        if found is None:
            return self._begun is not None
        soon = found.judged is None or now <= found.judged + guard.soon
        return self._begun is not None and found.first > self._begun and soon

    def over(self, guard: Guard, found: Judged) -> str:
        """Of what a definition flags too much with this verdict, in words; empty if it does not."""
        known = self._definition(found)
        if _rows(guard, found):
            return f"{found.cases} of {found.compared} rows or groups of {found.partition.key}"
        return known.intervals if known.failing(guard) else ""

    def before(self, guard: Guard, found: Judged) -> bool:
        """Whether an earlier definition flagged as much: here, or in most of its intervals."""
        known = self._definitions.get(found.rule, {})
        others = [each for hash_, each in known.items() if hash_ != found.hash]
        if not _rows(guard, found):
            return any(each.failing(guard) for each in others)
        return any(each.flooding(guard, found.partition) for each in others)

    def usually(self, rule: ConsistencyRule, guard: Guard, at: Partition) -> bool:
        """Whether a rule fails in most other intervals, too: then its failing tells nothing new."""
        found = self._definitions.get(rule.id, {}).get(rule.hash)
        return found is not None and found.failing(guard, without=at)

    def _definition(self, found: Judged) -> _Definition:
        """A definition with this verdict added."""
        known = self._definitions.get(found.rule, {}).get(found.hash) or _Definition(found.at)
        return replace(known, told={**known.told, found.partition: found})


@dataclass(frozen=True, slots=True)
class Witness:
    """What a rule said of an interval, and what its batch has reported so far."""

    batch: Batch
    partition: Partition
    result: RuleResult
    record: Record

    def agrees(self, rule: ConsistencyRule, now: datetime) -> bool:
        """Whether it is over a table of this rule, did not change, fails here, usually does not."""
        own = self.result.rule
        return (
            own.name != rule.name
            and self.result.verdict is Verdict.FAIL
            and bool(set(own.tables) & set(rule.tables))
            and self.record.begun
            and not self.record.changed(own, self.batch.guard, now)
            and not self.record.usually(own, self.batch.guard, self.partition)
        )


Others = Callable[[ConsistencyRule], Iterable[Witness]]
"""What rules of other batches say of the tables of a rule, asked for only where it matters."""


def guarded(
    batch: Batch,
    partition: Partition,
    results: Sequence[RuleResult],
    record: Record,
    now: datetime,
    others: Others = lambda _: (),
) -> tuple[RuleResult, ...]:
    """The results of one interval as the guard lets them be told."""
    own = [Witness(batch, partition, each, record) for each in results]
    return tuple(
        _looked_at(each, now, lambda rule: itertools.chain(own, others(rule))) for each in own
    )


def _looked_at(of: Witness, now: datetime, witnesses: Others) -> RuleResult:
    batch, partition, result, record = of.batch, of.partition, of.result, of.record
    rule, guard = result.rule, batch.guard
    if result.verdict is not Verdict.FAIL:
        return result
    mark = record.mark(rule)
    if mark is not None and mark.state is GuardState.HELD:
        return replace(result, guarded=mark)
    found = _judged_now(result, partition, now)
    over = record.over(guard, found)
    state = decide(
        over=bool(over),
        changed=record.changed(rule, guard, now),
        before=record.before(guard, found),
        agreed=False,
        reviewed=mark is not None and mark.state is GuardState.REVIEWED,
        holds=rule.holds,
    )
    if state is None or any(each.agrees(rule, now) for each in witnesses(rule)):
        return result
    because = f"it flagged {over} soon after its definition changed, and no other rule agrees"
    new = Guarded(rule.name, rule.hash, state, because, rule.owner, now, now + guard.expires)
    if state is GuardState.HELD:
        return replace(result, guarded=new)
    return replace(result, verdict=Verdict.UNKNOWN, because=str(new), offences=(), guarded=new)


def dead(
    batch: Batch, due: Sequence[Partition], told: Mapping[Partition, Mapping[str, Verdict]]
) -> Mapping[str, str]:
    """
    The rules without a verdict in the newest so many intervals that have a case, and since when.

    `told` are the verdicts of the newest reports, and those of gates.
    """
    newest = sorted(due)[-batch.guard.dead_after :]
    if len(newest) < batch.guard.dead_after:
        return {}
    found: dict[str, str] = {}
    for rule in batch.rules:
        judged = [p for p in sorted(due) if _judged(told, p, rule)]
        if not set(judged) & set(newest):
            since = f"the last one is of {judged[-1].key}" if judged else "there never was one"
            found[rule.id] = f"no verdict in the last {len(newest)} intervals: {since}"
    return found


def dead_whole(batch: Batch, told: Iterable[Judged]) -> Mapping[str, str]:
    """
    The rules of a batch of whole tables, which have one interval, without a verdict in the newest
    so many reports of them.
    """
    verdicts: dict[str, list[Judged]] = {}
    for each in told:
        verdicts.setdefault(each.rule, []).append(each)
    found: dict[str, str] = {}
    for rule in batch.rules:
        known = verdicts.get(rule.id, [])
        newest = known[-batch.guard.dead_after :]
        if len(newest) == batch.guard.dead_after and not any(_says(each) for each in newest):
            last = next((each for each in reversed(known) if _says(each)), None)
            since = f"the last one is of {last.at:%Y-%m-%d}" if last else "there never was one"
            found[rule.id] = f"no verdict in the last {len(newest)} reports: {since}"
    return found


def _says(each: Judged) -> bool:
    return each.verdict is not Verdict.UNKNOWN


def _judged(
    told: Mapping[Partition, Mapping[str, Verdict]], at: Partition, rule: ConsistencyRule
) -> bool:
    return told.get(at, {}).get(rule.id, Verdict.UNKNOWN) is not Verdict.UNKNOWN


def _rows(guard: Guard, found: Judged) -> bool:
    return found.compared >= _ROWS and found.cases > guard.share * found.compared


def _judged_now(found: RuleResult, partition: Partition, at: datetime) -> Judged:
    rule = found.rule
    return Judged(rule.id, rule.hash, partition, found.verdict, found.cases, found.compared, at)
