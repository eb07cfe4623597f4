"""
The policies that come with Levada. Each is a function whose docstring is its message.

Whoever writes one more: a generator over a `Subject` that yields how the table breaks it, a
docstring of one sentence that a domain team understands, keyword arguments (whole numbers) for what
governance may set, and its name in `LIBRARY`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache

from levada.govern.policies import Broken, Subject
from levada.intervals import containing, mapped
from levada.terms import Dependency, Grain, Latest, Severity, Span

__all__ = ["LIBRARY", "message", "settings"]

Found = Iterator[Broken]


# What a contract says


def sla_stated(subject: Subject) -> Found:
    """By when a table is there must be promised: else nobody can tell a late one from a lost."""
    if not subject.contract.sla:
        right = "write slaProperties: [{property: latency, value: 6, unit: h}]"
        yield Broken("states no service level", right, ("slaProperties",))


def two_owners(subject: Subject) -> Found:
    """One person on leave must not leave a table without anybody who may decide about it."""
    owners = len(subject.contract.owners)
    if owners < 2:
        said = f"{owners or 'no'} owner{'' if owners == 1 else 's'}"
        yield Broken(f"names {said}", "name two team members with role: owner", ("team",))


def contact_named(subject: Subject) -> Found:
    """Whoever finds a table late or wrong must find a place to ask."""
    if not subject.contract.owner.contact:
        right = "write support: [{channel: ..., tool: email}]"
        yield Broken("names no channel to ask in", right, ("support",))


def tier_stated(subject: Subject) -> Found:
    """A domain says itself how much depends on its table; the default is for the undecided."""
    if subject.contract.tier is None:
        right = "write {property: tier, value: 1} under customProperties"
        yield Broken("states no tier", right, ("custom", "tier"))


def key_stated(subject: Subject) -> Found:
    """Without a key nobody can tell a row said twice from two rows."""
    if not subject.contract.key:
        yield Broken("has no primary key", "write primaryKey: true", ("properties",))


def every_column_described(subject: Subject) -> Found:
    """A column without a description is read by guessing."""
    for column in subject.contract.columns:
        if not column.description:
            right = "write description:"
            yield Broken(f"column {column.name} has no description", right, ("column", column.name))


def every_column_classified(subject: Subject) -> Found:
    """Who may see a column is decided where it is promised, not where it has leaked."""
    for column in subject.contract.columns:
        if not column.classification:
            wrong, right = f"column {column.name} has no classification", "write classification:"
            yield Broken(wrong, right, ("column", column.name))


def consistency_rule(subject: Subject) -> Found:
    """Columns that are plausible alone may contradict one another: a blocking rule must tell."""
    blocking = [c for c in subject.contract.checks if c.severity is Severity.BLOCKING]
    found = any(c.dimension == "consistency" or c.metric == "foreignKey" for c in blocking)
    if not (found or subject.mart.gates):
        right = (
            "write a rule with dimension: consistency, or a relationship, or a gate, that blocks"
        )
        yield Broken("has no blocking rule that compares columns or tables", right, ("quality",))


# How its edges wait


def edges_wait_for_enough(subject: Subject, *, percent: int = 90) -> Found:
    """A table made of too few intervals of an input looks whole, and is not."""
    for edge in subject.edges:
        if edge.wait.at_least is None and edge.wait.at_most_missing is None:
            continue
        total = _usually(edge, subject)
        missing = edge.wait.at_most_missing or 0
        enough = total - missing if edge.wait.at_least is None else edge.wait.at_least
        bound = -(-total * percent // 100)
        if min(enough, total) < bound:
            wrong = f"is content with {max(enough, 0)} of {total} intervals of {edge.upstream}"
            right = f"ask for at_least: {bound} ({percent} in 100), or for all"
            yield Broken(wrong, right, ("input", str(edge.upstream), "wait"))


def optional_inputs_bounded(subject: Subject) -> Found:
    """An input that may be missing needs a deadline, and a greatest age of what stands in."""
    for edge in subject.edges:
        if edge.required:
            continue
        latest = isinstance(edge.mapping, Latest)
        aged = edge.mapping.within if isinstance(edge.mapping, Latest) else edge.wait.max_lag
        age = "within" if latest else "wait.max_lag"
        lacks = [
            name for name, said in (("wait.deadline", edge.wait.deadline), (age, aged)) if not said
        ]
        if lacks:
            wrong = f"the optional input {edge.upstream} has no {' and no '.join(lacks)}"
            right = f"write {' and '.join(lacks)}, or let it be required"
            yield Broken(wrong, right, ("input", str(edge.upstream)))


def ignore_is_approved(subject: Subject) -> Found:
    """Who ignores corrections of an input stays wrong: governance must have agreed."""
    for edge in subject.edges:
        # The newest slice is read as of its reading: that it ignores what follows is its meaning.
        ignores = edge.on_restatement.action == "ignore" and not isinstance(edge.mapping, Latest)
        if ignores and (edge.downstream, edge.upstream) not in subject.approvals:
            wrong = f"ignores what is restated in {edge.upstream}, and nobody approved it"
            right = "let it rerun or hold, or ask governance for a line in approved_ignores"
            yield Broken(wrong, right, ("input", str(edge.upstream), "on_restatement"))


def reads_no_lower_tier(subject: Subject) -> Found:
    """A table is no better than what it is made of."""
    for edge in subject.edges:
        other = subject.tiers.get(edge.upstream)
        if subject.tier is not None and other is not None and other > subject.tier:
            wrong = f"is of tier {subject.tier} and reads {edge.upstream}, of tier {other}"
            right = "ask its owner for a higher tier, or promise less"
            yield Broken(wrong, right, ("input", str(edge.upstream)))


def _usually(edge: Dependency, subject: Subject) -> int:
    """How many intervals of an input a usual interval of the table reads."""
    own = (subject.product.grain, subject.product.zone)
    return _count(edge, *own, *subject.slices.get(edge.upstream, own))


@cache
def _count(edge: Dependency, grain: Grain, zone: str, upstream: Grain, upstream_zone: str) -> int:
    if grain is Grain.WHOLE or isinstance(edge.mapping, Latest):
        return 1
    july = containing(grain, datetime(2013, 7, 3, 12, tzinfo=UTC), zone)  # no clock changes then
    years = Span.days("2010-01-01", "2016-12-31", "UTC")
    return max(1, len(mapped(edge.mapping, july, upstream, upstream_zone, years).partitions))


LIBRARY: Mapping[str, Callable[..., Found]] = {
    rule.__name__: rule
    for rule in (
        consistency_rule,
        contact_named,
        edges_wait_for_enough,
        every_column_classified,
        every_column_described,
        ignore_is_approved,
        key_stated,
        optional_inputs_bounded,
        reads_no_lower_tier,
        sla_stated,
        tier_stated,
        two_owners,
    )
}
"""Every policy that can be named in `policies.yaml`."""


def message(name: str) -> str:
    """
    Why there is a policy of the library.

    >>> message("every_column_described")
    'A column without a description is read by guessing.'
    """
    return inspect.cleandoc(LIBRARY[name].__doc__ or "")


def settings(name: str) -> Mapping[str, int]:
    """
    What governance may set of a policy of the library, with the defaults.

    >>> settings("edges_wait_for_enough"), settings("two_owners")
    ({'percent': 90}, {})
    """
    said = inspect.signature(LIBRARY[name]).parameters.values()
    return {p.name: int(p.default) for p in said if p.kind is inspect.Parameter.KEYWORD_ONLY}
