"""What a change does to the law itself: who may approve, what policies ask, what rules watch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from levada.govern.kinds import KINDS, Impact
from levada.govern.policies import Level, Policies, Policy
from levada.terms import Batch, ConsistencyRule, Severity

__all__ = ["Law", "LawChange", "law_changes"]


@dataclass(frozen=True, slots=True)
class LawChange:
    """One thing that governance no longer asks, or asks otherwise; of no table alone."""

    kind: str
    path: str
    what: str

    @property
    def impact(self) -> Impact:
        """Never breaking: no reader relies on it, and it is not for its author alone to decide."""
        return KINDS[self.kind][0]

    @property
    def because(self) -> str:
        """Why it is of its class."""
        return KINDS[self.kind][1]

    def __str__(self) -> str:
        return f"{self.path}: {self.what}; {self.impact.value}: {self.because}"


@dataclass(frozen=True, slots=True)
class Law:
    """What stands in `contracts/governance` beside waivers."""

    rights: Mapping[str, frozenset[tuple[str, str]]]
    """Kind and domain of what everybody may approve."""
    names: Mapping[str, frozenset[str]]
    """Under which other names each of them is known."""
    limits: Mapping[str, timedelta]
    """How much one waiver may ask for, by what is limited."""
    approvers_path: str
    policies: Policies
    policies_path: str
    batches: tuple[Batch, ...] = ()


def law_changes(old: Law, new: Law) -> tuple[LawChange, ...]:
    """Every change of the law, the grave ones first."""
    found = (*_approvers(old, new), *_policies(old, new), *_rules(old.batches, new.batches))
    return tuple(sorted(found, key=lambda c: (c.impact is Impact.COMPATIBLE, c.path)))


def _approvers(old: Law, new: Law) -> Iterator[LawChange]:
    was, now = old.rights, new.rights
    for who in sorted(was.keys() | now.keys()):
        for verb, rights in (
            ("widened", now.get(who, frozenset()) - was.get(who, frozenset())),
            ("narrowed", was.get(who, frozenset()) - now.get(who, frozenset())),
        ):
            if rights:
                may = "may approve" if verb == "widened" else "may no longer approve"
                said = ", ".join(sorted(f"a {kind} of {domain}" for kind, domain in rights))
                yield LawChange(f"law.approvers_{verb}", new.approvers_path, f"{who} {may} {said}")
    for who in sorted(old.names.keys() & new.names.keys()):
        if old.names[who] != new.names[who]:
            said = f"{who} is known by other names: {', '.join(sorted(new.names[who])) or 'none'}"
            yield LawChange("law.approvers_renamed", new.approvers_path, said)
    for what, before in old.limits.items():
        after = new.limits[what]
        if before != after:
            verb = "widened" if after > before else "narrowed"
            said = f"{what} of a waiver is {after.days} days, was {before.days}"
            yield LawChange(f"law.approvers_{verb}", new.approvers_path, said)


def _policies(old: Law, new: Law) -> Iterator[LawChange]:
    path = new.policies_path
    was, now = ({p.name: p for p in law.policies.policies} for law in (old, new))
    for name in sorted(was.keys() | now.keys()):
        one, other = was.get(name), now.get(name)
        if other is None:
            yield LawChange("law.policy_removed", path, f"the policy {name} is gone")
        elif one is None:
            yield LawChange("law.policy_added", path, f"a new policy: {name}")
        elif _asked(one) != _asked(other):
            yield LawChange("law.policy_changed", path, f"the policy {name} asks something else")
        elif one.level is not other.level:
            kind = "lowered" if other.level is Level.WARNING else "raised"
            said = f"the policy {name} is of severity {other.level.value}, was {one.level.value}"
            yield LawChange(f"law.policy_{kind}", path, said)
    before = {(a.table, a.input) for a in old.policies.approvals}
    for each in new.policies.approvals:
        if (each.table, each.input) not in before:
            said = f"{each.table} may ignore what is restated of {each.input}"
            yield LawChange("law.ignore_approved", path, said)
    rest = [
        (p.tiers, p.default_tier, p.backfills, p.canaries) for p in (old.policies, new.policies)
    ]
    if rest[0] != rest[1]:
        said = "tiers, or what a backfill or a canary may do unasked, are others"
        yield LawChange("law.policy_changed", path, said)


def _asked(policy: Policy) -> tuple[object, ...]:
    return policy.asks, policy.where, policy.unless


def _rules(old: Sequence[Batch], new: Sequence[Batch]) -> Iterator[LawChange]:
    """Rules between tables that only warn: those that withhold are gates of their products."""
    was, now = ({rule.name: rule for batch in of for rule in batch.rules} for of in (old, new))
    for name in sorted(was.keys() | now.keys()):
        one, other = was.get(name), now.get(name)
        if one is None and other is not None:
            if _warns(other):
                yield LawChange("law.rule_added", other.path, f"a new rule: {name}")
        elif one is not None and _warns(one):
            if other is None:
                yield LawChange("law.rule_removed", one.path, f"the rule {name} is gone")
            elif _warns(other) and one.hash != other.hash:
                yield LawChange("law.rule_changed", other.path, f"{name} is another rule")


def _warns(rule: ConsistencyRule) -> bool:
    return rule.severity is not Severity.BLOCKING
