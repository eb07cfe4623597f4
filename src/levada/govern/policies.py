"""
Policies: what governance asks of a table, its product and its edges, beyond the standard.

A policy is a rule, and where it holds. A rule is a function of one `Subject`; those of the library
(`levada.govern.policy_library`) have their message as docstring, the others are made here from
`require`: fields and tests of two short lists, never code.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from levada.govern.backfills import UNLIMITED, Limits
from levada.terms import CanaryTerms, Contract, Dependency, Grain, Mart, Product, Source, TableRef

__all__ = [
    "FIELDS",
    "SELECTORS",
    "TESTS",
    "Approval",
    "Broken",
    "Field",
    "Finding",
    "Level",
    "OfCanaries",
    "Policies",
    "Policy",
    "Selector",
    "Subject",
    "Test",
    "judge",
    "required",
    "subjects",
]


class Level(enum.Enum):
    """What a finding does: an error keeps its domain from being compiled, a warning only tells."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Approval:
    """Governance's word that an edge may ignore what is restated."""

    table: TableRef
    input: TableRef
    reason: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class Subject:
    """One published table as policies see it. `tier` is its own, or the mesh's default."""

    product: Product
    mart: Mart
    tier: int | None
    tiers: Mapping[TableRef, int | None]
    """The tiers of every table, for what is read."""
    slices: Mapping[TableRef, tuple[Grain, str]]
    """Grain and zone of everything that is read."""
    approvals: frozenset[tuple[TableRef, TableRef]] = frozenset()
    """Tables and inputs whose restatement governance lets them ignore."""

    @property
    def contract(self) -> Contract:
        """The promise about the table."""
        return self.mart.contract

    @property
    def edges(self) -> tuple[Dependency, ...]:
        """What the model reads from outside its product, and not what gates compare it with."""
        own = {mart.table for mart in self.product.marts}
        edges = (edge for edge in self.mart.dependencies if not edge.gate)
        return tuple(edge for edge in edges if edge.upstream not in own)


@dataclass(frozen=True, slots=True)
class Broken:
    """
    How a table breaks a rule. `at` says where, in words that an adapter finds the line by:
    `("slaProperties",)`, `("column", "tailnum")`, `("input", "fleet.planes@1")`.
    """

    wrong: str
    right: str = ""
    at: tuple[str, ...] = ()


Rule = Callable[[Subject], Iterable[Broken]]


@dataclass(frozen=True, slots=True)
class Selector:
    """
    Which tables: all of what is said must hold; of several values one. `domain`, `product` and
    `table` may be patterns, like `fleet.*`.

    >>> Selector((("layer", ("serve", "aggregate")),)).words
    'layer serve or aggregate'
    """

    said: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def matches(self, subject: Subject) -> bool:
        """Whether the table is one of these."""
        return all(
            any(fnmatchcase(name, value) for name in SELECTORS[word](subject) for value in values)
            for word, values in self.said
        )

    @property
    def words(self) -> str:
        """The selector in words; empty where it says nothing."""
        return ", ".join(f"{word} {' or '.join(values)}" for word, values in self.said)


SELECTORS: Mapping[str, Callable[[Subject], tuple[str, ...]]] = {
    "domain": lambda s: (s.product.domain,),
    "grain": lambda s: (s.product.grain.value,),
    "layer": lambda s: (s.mart.layer.value,),
    "product": lambda s: (s.product.id, s.product.name),
    "status": lambda s: (s.contract.status,),
    "table": lambda s: (f"{s.mart.table.domain}.{s.mart.table.name}", str(s.mart.table)),
    "tier": lambda s: (str(s.tier),),
}
"""What `where` and `except` may say, and what a table has there."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A rule, where it holds, and what a finding does. `message` says why there is the policy."""

    name: str
    rule: Rule
    message: str
    level: Level = Level.ERROR
    where: Selector = Selector()
    unless: Selector | None = None
    line: int = 0
    asks: str = ""
    """What would satisfy it, in the words of the file or of the library."""

    def concerns(self, subject: Subject) -> bool:
        """Whether the policy holds for the table."""
        return self.where.matches(subject) and not (self.unless and self.unless.matches(subject))

    @property
    def reach(self) -> str:
        """Where it holds, in words."""
        said = self.where.words or "every table"
        return f"{said}, except {self.unless.words}" if self.unless else said


@dataclass(frozen=True, slots=True)
class OfCanaries:
    """What a canary of some products needs before its new version is built alone."""

    terms: CanaryTerms
    where: Selector = Selector()
    unless: Selector | None = None

    def concerns(self, subject: Subject) -> bool:
        """Whether it is said of the table."""
        return self.where.matches(subject) and not (self.unless and self.unless.matches(subject))


@dataclass(frozen=True, slots=True)
class Finding:
    """A table that breaks a policy."""

    policy: Policy
    table: TableRef
    broken: Broken

    @property
    def level(self) -> Level:
        """What it does."""
        return self.policy.level


@dataclass(frozen=True, slots=True)
class Policies:
    """All that `contracts/governance/policies.yaml` says; nothing, where there is none."""

    path: str = ""
    policies: tuple[Policy, ...] = ()
    tiers: tuple[int, ...] = ()
    default_tier: int | None = None
    approvals: tuple[Approval, ...] = ()
    backfills: Limits = UNLIMITED
    canaries: tuple[OfCanaries, ...] = ()

    @property
    def every(self) -> tuple[Policy, ...]:
        """What is judged: the file's policies, and that every tier is one that it knows."""
        return (*self.policies, *_known_tier(self))


def subjects(
    policies: Policies, products: Sequence[Product], sources: Sequence[Source]
) -> tuple[Subject, ...]:
    """Every published table of these products, as policies see it."""
    marts = [(product, mart) for product in products for mart in product.marts]
    tiers = {m.table: m.contract.tier or policies.default_tier for _, m in marts}
    slices = {m.table: (p.grain, p.zone) for p, m in marts}
    slices |= {s.table: (s.grain, s.zone) for s in sources}
    approved = frozenset((a.table, a.input) for a in policies.approvals)
    return tuple(Subject(p, m, tiers[m.table], tiers, slices, approved) for p, m in marts)


def judge(policies: Policies, all_of: Iterable[Subject]) -> tuple[Finding, ...]:
    """Every policy against every table that it concerns."""
    every = policies.every
    return tuple(
        Finding(policy, subject.mart.table, broken)
        for subject in all_of
        for policy in every
        if policy.concerns(subject)
        for broken in policy.rule(subject)
    )


def _known_tier(policies: Policies) -> Iterator[Policy]:
    """A tier that nobody described would be free of every policy that is said by tier."""
    if not policies.tiers:
        return
    known = ", ".join(str(tier) for tier in policies.tiers)

    def known_tier(subject: Subject) -> Iterator[Broken]:
        if subject.tier not in policies.tiers:
            said = "states no tier" if subject.tier is None else f"states tier {subject.tier}"
            yield Broken(f"{said}; {policies.path} knows {known}", f"write one of {known}", _TIER)

    yield Policy("known_tier", known_tier, "Every table has a tier that governance knows.")


_TIER = ("custom", "tier")


# Expressions


@dataclass(frozen=True, slots=True)
class Field:
    """A field: its kind (`text`, `number`, `list`) and its values, with their places."""

    kind: str
    values: Callable[[Subject], Iterable[tuple[str, Any, tuple[str, ...]]]]
    says: str


def _one(
    kind: str, name: str, value: Callable[[Contract], Any], at: str, says: str
) -> tuple[str, Field]:
    return name, Field(kind, lambda s: [(name, value(s.contract), (at,) if at else ())], says)


def _column(name: str, says: str) -> tuple[str, Field]:
    def values(subject: Subject) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
        for column in subject.contract.columns:
            yield f"{name} of column {column.name}", getattr(column, name), ("column", column.name)

    return f"columns.{name}", Field("text", values, says)


def _input(name: str, value: Callable[[Dependency], str], says: str) -> tuple[str, Field]:
    def values(subject: Subject) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
        for edge in subject.edges:
            yield f"{name} of input {edge.upstream}", value(edge), ("input", str(edge.upstream))

    return f"inputs.{name}", Field("text", values, says)


def _waits(edge: Dependency) -> str:
    if edge.wait.at_least is not None:
        return "at_least"
    return "at_most_missing" if edge.wait.at_most_missing is not None else "all"


FIELDS: Mapping[str, Field] = dict(
    sorted(
        [
            _one("text", "description", lambda c: c.description, "description", "its purpose"),
            _one("text", "owner", lambda c: c.owner.team, "team", "the team that answers for it"),
            _one("text", "contact", lambda c: c.owner.contact, "support", "where they are reached"),
            _one("list", "owners", lambda c: c.owners, "team", "members whose role is owner"),
            _one("text", "status", lambda c: c.status, "status", "draft, active, deprecated"),
            _one("text", "version", lambda c: c.version, "version", "like 1.2.0"),
            _one("text", "grain", lambda c: c.grain.value, "", "day, hour, whole"),
            _one("number", "tier", lambda c: c.tier, "", "what the contract states itself"),
            _one("list", "sla", lambda c: [n for n, _ in c.sla], "slaProperties", "its promises"),
            _one("list", "key", lambda c: c.key, "", "the columns of the primary key"),
            _one("list", "checks", lambda c: [k.id for k in c.checks], "", "ids of its checks"),
            _one(
                *("list", "dimensions"),
                lambda c: sorted({k.dimension for k in c.checks if k.dimension and k.origin == ""}),
                *("", "the dimensions that its checks judge"),
            ),
            _column("classification", "public, internal, confidential"),
            _column("description", "what the column means"),
            _column("name", "its name"),
            _column("type", "DuckDB's word for its type"),
            _input("mapping", lambda e: e.mapping.kind, "identity, rollup, latest"),
            _input("on_restatement", lambda e: e.on_restatement.action, "rerun, hold, ignore"),
            _input("table", lambda e: str(e.upstream), "the table that is read"),
            _input("wait", _waits, "all, at_least, at_most_missing"),
        ]
    )
)
"""What `require` may speak of."""


@dataclass(frozen=True, slots=True)
class Test:
    """A whitelisted test: the kinds of field and of argument it takes, and what it asks."""

    kinds: tuple[str, ...]
    argument: str
    holds: Callable[[Any, Any], bool]
    asks: str


def _size(value: Any) -> int:
    return len(value) if isinstance(value, list | tuple) else int(value or 0)


_ANY = ("text", "number", "list")
TESTS: Mapping[str, Test] = {
    "present": Test(_ANY, "", lambda v, _: bool(v), "must be said"),
    "absent": Test(_ANY, "", lambda v, _: not v, "must not be said"),
    "equals": Test(("text", "number"), "value", lambda v, a: str(v) == str(a), "must be {}"),
    "in": Test(("text", "number"), "list", lambda v, a: str(v) in map(str, a), "must be one of {}"),
    "not_in": Test(
        ("text", "number"), "list", lambda v, a: str(v) not in map(str, a), "must be none of {}"
    ),
    "like": Test(("text",), "value", lambda v, a: fnmatchcase(v, str(a)), "must look like {}"),
    "contains": Test(("list",), "value", lambda v, a: str(a) in map(str, v), "must hold {}"),
    "at_least": Test(("number", "list"), "number", lambda v, a: _size(v) >= a, "at least {}"),
    "at_most": Test(("number", "list"), "number", lambda v, a: _size(v) <= a, "at most {}"),
}
"""What `require` may ask. `like` is a pattern with * and ?; of a list its length counts."""


def required(conditions: Sequence[tuple[str, str, Any]]) -> tuple[Rule, str]:
    """
    The rule of `require`, and what it asks: all of these fields, tests and arguments.

    >>> rule, asks = required([("owners", "at_least", 2), ("columns.type", "in", ["DATE"])])
    >>> asks
    'owners: at least 2; columns.type: must be one of DATE'
    """

    def rule(subject: Subject) -> Iterator[Broken]:
        for field, test, argument in conditions:
            asked = TESTS[test].asks.format(_shown(argument))
            for what, value, at in FIELDS[field].values(subject):
                if not TESTS[test].holds(value, argument):
                    yield Broken(f"{what} is {_shown(value) or 'not said'}", f"it {asked}", at)

    asks = "; ".join(f"{f}: {TESTS[t].asks.format(_shown(a))}" for f, t, a in conditions)
    return rule, asks


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(each) for each in value)
    return "" if value is None else str(value)
