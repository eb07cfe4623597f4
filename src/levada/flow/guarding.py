"""Rules that are not at work: suspended, held, dead; and the review that brings one back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from levada import compiled, consistency
from levada.adapters.approvers import read_policy
from levada.approve import ALL, Subject
from levada.errors import DeclarationError, Fault
from levada.flow.granting import approval
from levada.intervals import containing, end
from levada.ledger import PostgresLedger
from levada.ledger.findings import Findings
from levada.readiness import bare, fingerprint
from levada.settings import Settings, nearest
from levada.terms import (
    Approval,
    Batch,
    ConsistencyRule,
    Facts,
    Grain,
    Guarded,
    GuardState,
    Mesh,
    Partition,
    Publication,
    Verdict,
    Waived,
)

__all__ = ["Standing", "approved", "asleep", "declared", "muted", "named"]


@dataclass(frozen=True, slots=True)
class Standing:
    """A rule that somebody has to look at, and why."""

    rule: ConsistencyRule
    state: str
    """suspended, held or dead."""
    because: str
    mark: Guarded | None = None
    overdue: bool = False
    """Whether its review should have been by now."""

    def __str__(self) -> str:
        late = "; its review is overdue" if self.overdue else ""
        by = f", review it by {self.mark.until:%Y-%m-%d}" if self.mark and not late else ""
        return f"{self.rule.name} ({self.rule.owner}) is {self.because}{by}{late}"


def declared(settings: Settings) -> tuple[tuple[Batch, ...], str]:
    """The compiled batches, or why there are none: then nothing can be said of their rules."""
    try:
        return compiled.load_batches(settings), ""
    except DeclarationError as error:
        return (), f"nothing is known of rules between tables: {error.faults[0]}"


def muted(batches: Sequence[Batch], found: Findings, now: datetime) -> tuple[Standing, ...]:
    """The rules that the guard suspended or holds, as they are written now."""
    record = consistency.Record((), found.guarded())
    return tuple(
        Standing(rule, mark.state.value, str(mark), mark, mark.overdue(now))
        for batch in batches
        for rule in batch.rules
        if (mark := record.mark(rule)) is not None and mark.state is not GuardState.REVIEWED
    )


def asleep(
    mesh: Mesh,
    batches: Sequence[Batch],
    runner: PostgresLedger,
    found: Findings,
    now: datetime,
) -> tuple[Standing, ...]:
    """Every rule that is suspended, held or dead."""
    marked = muted(batches, found, now)
    names = {each.rule.name for each in marked if each.state == GuardState.SUSPENDED.value}
    tables = {table for batch in batches for table in batch.tables}
    guards = {rule.guards for batch in batches for rule in batch.rules if rule.guards}
    facts = runner.facts(tables, {mesh.product(table).id for table in guards if mesh.find(table)})
    told: list[Standing] = []
    for batch in batches:
        if batch.grain is Grain.WHOLE:
            lacking = consistency.dead_whole(batch, found.told(batch.id))
        else:
            due = _cases(batch, facts, now)
            known = _newest(batch, found)
            for rule in batch.rules:
                for partition, verdict in _at_the_gate(mesh, rule, due, facts):
                    known.setdefault(partition, {})[rule.id] = verdict
            lacking = consistency.dead(batch, due, known)
        told += [
            Standing(rule, "dead", f"dead: {lacking[rule.id]}")
            for rule in batch.rules
            if rule.id in lacking and rule.name not in names
        ]
    return (*marked, *told)


def _cases(batch: Batch, facts: Facts, now: datetime) -> list[Partition]:
    """The intervals of a batch that are over, and in which one of its tables has a line."""
    lines = {
        part.begin
        for table, part in facts.lines
        if part.start is not None and table in batch.tables
    }
    slices = {containing(batch.grain, begin, batch.zone) for begin in lines}
    return [p for p in slices if end(p) <= now]


def _at_the_gate(
    mesh: Mesh, rule: ConsistencyRule, due: Sequence[Partition], facts: Facts
) -> Iterator[tuple[Partition, Verdict]]:
    """
    What a blocking rule said of the intervals that it let pass or withheld, whether or not its
    batch was ever run. What is published by other code may have passed another gate, or none; and
    what a waiver let through did not pass this one.
    """
    if rule.guards is None or mesh.find(rule.guards) is None:
        return
    product = mesh.product(rule.guards)
    for partition in due:
        line = facts.line(rule.guards, partition)
        waived = Waived(rule.guards, partition, rule.name)
        attempt = facts.attempts.get((product.id, partition))
        said = [r.verdict for r in attempt.results if r.check.id == rule.name] if attempt else []
        if Verdict.FAIL in said:
            yield partition, Verdict.FAIL
        elif (
            isinstance(line, Publication)
            and waived not in line.waived
            and bare(line.made_by) == fingerprint(product, partition, line.inputs)
        ):
            yield partition, Verdict.PASS


def _newest(batch: Batch, found: Findings) -> dict[Partition, dict[str, Verdict]]:
    return {
        each.partition: {r["rule"]: Verdict(r["verdict"]) for r in each.results}
        for each in found.reports(batch.id)
    }


def named(batches: Sequence[Batch], name: str) -> ConsistencyRule:
    """The rule `batch.rule`. Raises DeclarationError."""
    rules = {rule.name: rule for batch in batches for rule in batch.rules}
    if name not in rules:
        raise DeclarationError((Fault("RULE", 0, f"no rule {name!r}", nearest(name, rules)),))
    return rules[name]


def approved(
    settings: Settings, rule: ConsistencyRule, *, reviewer: str, commit: str,
    authors: Sequence[str], via: str,
) -> Approval:  # fmt: skip
    """
    The approval of a rule's file as it stands, if it counts. A rule across domains needs somebody
    who is entitled to all of them. Raises DeclarationError with all that is against it.
    """
    domains = {table.domain for table in rule.tables}
    (domain,) = domains if len(domains) == 1 else (ALL,)
    return approval(
        settings,
        read_policy(settings.root, settings.domains),
        Subject("rule", domain, rule.path, (rule.owner,)),
        reviewer=reviewer,
        commit=commit,
        authors=authors,
        via=via,
    )
