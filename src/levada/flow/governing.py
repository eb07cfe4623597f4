"""Judge the declarations by governance's policies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from levada.adapters import policies as files
from levada.errors import Fault
from levada.govern import policies as govern
from levada.govern.deprecations import deprecations
from levada.govern.policies import Finding, Level, Policies, Subject
from levada.settings import Settings, nearest
from levada.terms import Product, Source

__all__ = ["Governed", "governed"]


@dataclass(frozen=True, slots=True)
class Governed:
    """What the policies say of the tables that could be joined."""

    policies: Policies
    subjects: tuple[Subject, ...]
    findings: tuple[Finding, ...]
    faults: tuple[Fault, ...]
    """Of the policies' file, and findings of severity error."""
    warnings: tuple[Fault, ...]


def governed(
    settings: Settings,
    products: Sequence[Product],
    sources: Sequence[Source],
    now: datetime,
    *,
    whole: bool = True,
) -> Governed:
    """
    Every policy against every table of these products. A file of policies that has a fault judges
    nothing: its faults are everybody's. Only where the products are the `whole` mesh can it be said
    that a policy concerns none.
    """
    policies, wrong = files.read_policies(settings.root, settings.domains)
    believed = Policies(policies.path) if wrong else policies
    subjects = govern.subjects(believed, products, sources)
    findings = govern.judge(believed, subjects)
    told = (*findings, *deprecations(subjects, now))
    paths = {subject.mart.table: subject.contract.path for subject in subjects}
    errors = [each for each in told if each.level is Level.ERROR]
    warned = [each for each in told if each.level is Level.WARNING]
    warnings = files.located(warned, settings.root, paths)
    warnings += _idle(believed, subjects) if whole else ()
    return Governed(
        policies,
        subjects,
        findings,
        tuple(sorted({*wrong, *files.located(errors, settings.root, paths)})),
        tuple(sorted(set(warnings))),
    )


def _idle(policies: Policies, subjects: Sequence[Subject]) -> Iterator[Fault]:
    """Policies that concern no table, and approvals that no edge needs: perhaps a slip."""
    for policy in policies.policies:
        if subjects and not any(policy.concerns(subject) for subject in subjects):
            tables = [f"{s.mart.table.domain}.{s.mart.table.name}" for s in subjects]
            said = dict(policy.where.said).get("table", ())
            right = nearest(said[0], tables) if said else "widen it, or leave it out"
            wrong = f"the policy {policy.name} concerns no table ({policy.reach})"
            yield Fault(policies.path, policy.line, wrong, right)
    ignoring = {
        (edge.downstream, edge.upstream)
        for subject in subjects
        for edge in subject.edges
        if edge.on_restatement.action == "ignore"
    }
    for each in policies.approvals:
        if (each.table, each.input) not in ignoring:
            wrong = f"{each.table} does not ignore what is restated in {each.input}"
            yield Fault(policies.path, each.line, wrong, "take the approval back")
    said_twice = Counter((each.table, each.input) for each in policies.approvals)
    for each in policies.approvals:
        if said_twice[each.table, each.input] > 1:
            wrong = f"{each.table} and {each.input} are approved more than once"
            yield Fault(policies.path, each.line, wrong, "approve them once")
