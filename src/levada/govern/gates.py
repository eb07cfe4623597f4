"""What changed of the gates of a table: whether what passes now would have passed before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from levada.terms import ConsistencyRule, RuleKind

__all__ = ["gate_changes"]

_WORDS = {
    "added": "a new gate: {} ({}) withholds it unless it passes",
    "changed": "the gate {} is another rule",
    "loosened": "the gate {} lets more through",
    "tightened": "the gate {} lets less through",
    "rewritten": "the gate {} asks the same in other words",
    "removed": "the gate {} is gone",
    "parted": "the gate {} no longer holds the majors together",
}


def gate_changes(
    old: tuple[ConsistencyRule, ...], new: tuple[ConsistencyRule, ...]
) -> Iterator[tuple[str, ConsistencyRule, str]]:
    """The last word of the kind of each change, the rule, and what to say of it."""
    was, now = {rule.name: rule for rule in old}, {rule.name: rule for rule in new}
    gone = {name: rule for name, rule in was.items() if name not in now}
    for name, rule in now.items():
        if name in was:
            continue
        same = next((n for n, before in gone.items() if _asks(before) == _asks(rule)), None)
        if same is None:
            yield "added", rule, _WORDS["added"].format(name, rule.kind.value)
        else:
            del gone[same]
            yield "renamed", rule, f"the gate {same} is called {name}"
    for name, rule in gone.items():
        kind = "parted" if _of_majors(rule) else "removed"
        yield kind, rule, _WORDS[kind].format(name)
    for name in sorted(was.keys() & now.keys()):
        if was[name].hash != now[name].hash:
            kind = _compared(was[name], now[name])
            yield kind, now[name], _WORDS[kind].format(name)


def _compared(old: ConsistencyRule, new: ConsistencyRule) -> str:
    """Looser or tighter by its limits alone; else nobody can tell."""
    if _asks(replace(new, **_limits_of(old))) != _asks(old):
        return "changed"
    signs = {_sign(a, b) for a, b in _limits(old, new) if a != b}
    if not signs:
        return "rewritten"
    if len(signs) != 1:
        return "changed"
    return "loosened" if signs.pop() > 0 else "tightened"


def _of_majors(rule: ConsistencyRule) -> bool:
    """Whether it holds a new major, which it guards, to the rows of older ones."""
    majors = sorted(rule.tables, key=lambda table: table.major)
    of_one = len({(table.domain, table.name) for table in majors}) == 1 < len(majors)
    return rule.kind is RuleKind.ROWS and of_one and rule.guards == majors[-1]


def _limits_of(rule: ConsistencyRule) -> Mapping[str, Any]:
    names = ("tolerance", "bounds", "share", "within")
    return {name: getattr(rule, name) for name in names}


def _limits(old: ConsistencyRule, new: ConsistencyRule) -> Iterator[tuple[Decimal, Decimal]]:
    """Each limit before and now; more of it lets more through."""
    nothing = (Decimal(0), Decimal(0))
    for name in sorted({*old.tolerance, *new.tolerance}):
        pairs = []
        for rule in (old, new):
            said = rule.tolerance.get(name, rule.tolerance.get(""))
            pairs.append((said.absolute, said.relative) if said else nothing)
        yield from zip(*pairs, strict=True)
    (low, high), (lower, higher) = old.bounds or nothing, new.bounds or nothing
    yield from ((-low, -lower), (high, higher), (-old.share, -new.share))
    yield tuple(Decimal(r.within.total_seconds() if r.within else 0) for r in (old, new))  # type: ignore[misc]


def _sign(old: Decimal, new: Decimal) -> int:
    return 1 if new > old else -1


def _asks(rule: ConsistencyRule) -> ConsistencyRule:
    """The rule without its names and words."""
    told = {"id": "", "batch": "", "owner": "", "description": "", "path": "", "hash": ""}
    return replace(rule, line=0, never_mute=False, **told)  # type: ignore[arg-type]
