"""What changed of a table's rules: whether what passes now would have passed before."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from levada.govern.kinds import Change
from levada.terms import Check, Contract, Severity

__all__ = ["Strictness", "rules", "strictness"]

_TOLD_ELSEWHERE = ("columnSet", "columnType", "interval", "latency", "primaryKey")
"""Metrics that say no more than the columns, the key, the slices and the service levels do."""
_OPTIONS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength"),
    *("maxLength", "pattern", "minItems", "maxItems", "uniqueItems"),
)
_HIGHER_IS_STRICTER = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_LOWER_IS_STRICTER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")

Segment = tuple[tuple[float, bool], tuple[float, bool]]
"""A stretch of numbers: its lower end (and whether that is left out), its upper end (and whether it
belongs to it)."""


_NOTHING: Segment = ((0.0, False), (0.0, True))


class Strictness(enum.Enum):
    """How a rule follows another."""

    SAME = "same"
    TIGHTER = "tightened"
    LOOSER = "loosened"
    OTHER = "changed"

    def beside(self, other: Strictness) -> Strictness:
        """Both at once: what is tighter in one part and looser in another is neither."""
        if Strictness.SAME in (self, other):
            return other if self is Strictness.SAME else self
        return self if self is other else Strictness.OTHER


def rules(old: Contract, new: Contract, renamed: Mapping[str, str]) -> Iterator[Change]:
    """Rules that went, came, or hold otherwise; with a dropped column goes its list of values."""
    after = {c.id: c for c in new.checks if not _implied(c)}
    origin = {_moved(c, renamed): c for c in old.checks if not _implied(c)}
    before = {key: _follow(c, key, renamed) for key, c in origin.items()}
    dropped = {c.name for c in old.columns if new.column(renamed.get(c.name, c.name)) is None}
    gone = {key: c for key, c in before.items() if key not in after}
    come = {key: c for key, c in after.items() if key not in before}
    moved = _renamed(gone, come)
    for key, check in before.items():
        if key in moved:
            said = [("rule.renamed", f"the rule {check.id} is called {moved[key]}")]
        elif key in after:
            said = [*_compared(check, after[key])]
        elif _option(check) and check.column in dropped:
            continue  # the column went with all that was said of its values
        else:
            said = [(_kind(check, "removed"), f"the {_noun(check)} is removed")]
        for kind, what in said:
            concerned = _columns(old, origin[key])
            yield Change(kind, old.table, origin[key].id, what, concerned, new.path)
    for key, check in come.items():
        if key not in moved.values():
            what = f"the {_noun(check)} is added"
            yield Change(f"{_family(check)}.added", old.table, key, what, path=new.path)


def _compared(old: Check, new: Check) -> Iterator[tuple[str, str]]:
    """The kinds of change from a rule to the one of its id, and their words."""
    noun = _noun(old)
    if old.severity is not new.severity:
        lowered = new.severity is Severity.ADVISORY
        kind = "rule.severity_lowered" if lowered else "rule.severity_raised"
        yield kind, f"the {noun} {'only warns' if lowered else 'withholds'} now"
    how = strictness(old, new)
    if _family(old) == "enum" and how is not Strictness.SAME:
        was, now = (set(map(repr, _value(c, "validValues"))) for c in (old, new))
        if now - was:
            yield "enum.value_added", f"the {noun} also allows {_some(now - was)}"
        if was - now:
            yield "enum.value_removed", f"the {noun} no longer allows {_some(was - now)}"
    elif how is Strictness.TIGHTER:
        yield f"{_family(old)}.tightened", f"the {noun} is tightened: {_said(old)} -> {_said(new)}"
    elif how is not Strictness.SAME:
        said = f"{_said(old)} -> {_said(new)}"
        if _said(old) == _said(new):
            said = "it asks something else"
        yield _kind(old, how.value), f"the {noun} is {how.value}: {said}"
    if (old.description, old.dimension) != (new.description, new.dimension):
        yield "rule.description", f"the {noun} is described otherwise"


def strictness(old: Check, new: Check) -> Strictness:
    """
    Whether everything that passes `new` passes `old`, the other way round, both or neither.

    >>> old = Check("few", "nullValues", "tail", "mustBeLessThan", (5.0,), "percent")
    >>> strictness(old, replace(old, threshold=(3.0,))).value
    'tightened'
    >>> strictness(old, replace(old, unit="rows")).value
    'changed'
    """
    if (old.metric, old.column) != (new.metric, new.column):
        return Strictness.OTHER
    nothing = _segments(old) == _segments(new) == (_NOTHING,)
    if old.unit != new.unit and not nothing:  # no row is no percent
        return Strictness.OTHER
    was, now = _segments(old), _segments(new)
    limits = _order(_within(now, was), _within(was, now))
    return limits.beside(_arguments(old, new))


def _order(tighter: bool, looser: bool) -> Strictness:
    if tighter and looser:
        return Strictness.SAME
    return Strictness.TIGHTER if tighter else Strictness.LOOSER if looser else Strictness.OTHER


def _segments(check: Check) -> tuple[Segment, ...]:
    """The numbers that pass."""
    limits = check.threshold
    low, high = limits[0], limits[-1]
    start, end = (-math.inf, False), (math.inf, True)
    found: Mapping[str, tuple[Segment, ...]] = {
        "mustBe": (((low, False), (low, True)),),
        "mustNotBe": ((start, (low, False)), ((low, True), end)),
        "mustBeGreaterThan": (((low, True), end),),
        "mustBeGreaterOrEqualTo": (((low, False), end),),
        "mustBeLessThan": ((start, (low, False)),),
        "mustBeLessOrEqualTo": ((start, (low, True)),),
        "mustBeBetween": (((low, False), (high, True)),),
        "mustNotBeBetween": ((start, (low, False)), ((high, True), end)),
    }
    if check.metric == "sql":
        return found[check.operator]
    # What is counted is never below nothing.
    counted = ((max(a, (0.0, False)), b) for a, b in found[check.operator])
    return tuple((a, b) for a, b in counted if a < b)


def _within(inner: tuple[Segment, ...], outer: tuple[Segment, ...]) -> bool:
    return all(any(o[0] <= i[0] and i[1] <= o[1] for o in outer) for i in inner)


def _arguments(old: Check, new: Check) -> Strictness:
    """How the arguments follow, where fewer offenders are always better."""
    was, now = dict(old.arguments), dict(new.arguments)
    if old.metric == "sql":
        same = _worded(str(was.get("query"))) == _worded(str(now.get("query")))
        return Strictness.SAME if same else Strictness.OTHER
    if was == now:
        return Strictness.SAME
    if set(was) != set(now) or not all(_fewer_is_better(check) for check in (old, new)):
        return Strictness.OTHER
    found = Strictness.SAME
    for key, value in was.items():
        found = found.beside(_argument(key, value, now[key]))
    return found


def _fewer_is_better(check: Check) -> bool:
    (low, high), *more = _segments(check)
    return not more and low <= (0.0, False) and high >= (0.0, True)


def _argument(key: str, was: Any, now: Any) -> Strictness:
    if key in ("validValues", "properties", "missingValues"):
        one, other = set(map(repr, was)), set(map(repr, now))
        fewer, more = other <= one, one <= other
        return _order(more, fewer) if key == "missingValues" else _order(fewer, more)
    numbers = isinstance(was, int | float) and isinstance(now, int | float)
    if was == now or not numbers:
        return Strictness.SAME if was == now else Strictness.OTHER
    if key in _HIGHER_IS_STRICTER:
        return _order(now > was, now < was)
    if key in _LOWER_IS_STRICTER:
        return _order(now < was, now > was)
    if key == "multipleOf" and was and now:
        return _order(math.fmod(now, was) == 0, math.fmod(was, now) == 0)
    return Strictness.OTHER


def _renamed(gone: Mapping[str, Check], come: Mapping[str, Check]) -> dict[str, str]:
    """Rules that hold as before under another id."""
    found: dict[str, str] = {}
    for key, check in gone.items():
        same = [
            k
            for k, c in come.items()
            if c.severity is check.severity and strictness(check, c) is Strictness.SAME
        ]
        if len(same) == 1 and same[0] not in found.values() and _family(check) == "rule":
            found[key] = same[0]
    return found


def _implied(check: Check) -> bool:
    """Whether the check only repeats what is compared elsewhere."""
    if check.metric in _TOLD_ELSEWHERE:
        return True
    return check.id in (f"{check.column}.required", f"{check.column}.unique")


def _follow(check: Check, key: str, renamed: Mapping[str, str]) -> Check:
    """The rule as it would be said of renamed columns."""
    if not renamed:
        return check
    arguments = tuple((name, _renaming(name, said, renamed)) for name, said in check.arguments)
    column = renamed.get(check.column or "", check.column)
    return replace(check, id=key, column=column, arguments=arguments)


def _renaming(argument: str, said: object, renamed: Mapping[str, str]) -> object:
    if argument in ("properties", "columns"):
        return tuple(renamed.get(str(each), each) for each in _listed(said))
    if argument == "query":
        return re.sub(r"\w+", lambda word: renamed.get(word[0], word[0]), str(said))
    return said


def _moved(check: Check, renamed: Mapping[str, str]) -> str:
    column, dot, option = check.id.partition(".")
    return renamed.get(column, column) + dot + option if dot else check.id


def _columns(old: Contract, check: Check) -> tuple[str, ...]:
    """The promised columns that a rule is about; none where nobody can tell."""
    said = dict(check.arguments)
    named = tuple(str(name) for key in ("properties", "columns") for name in _listed(said.get(key)))
    if check.column:
        named = (check.column, *named)
    words = set(re.findall(r"\w+", str(said.get("query", "")).lower()))
    spoken = tuple(c.name for c in old.columns if c.name.lower() in words)
    return tuple(dict.fromkeys((*named, *spoken)))


def _option(check: Check) -> bool:
    column, _, option = check.id.partition(".")
    return check.column == column and option in (*_OPTIONS, "enum")


def _family(check: Check) -> str:
    if not _option(check):
        return "rule"
    return "enum" if check.id.endswith(".enum") else "option"


def _kind(check: Check, change: str) -> str:
    """What only warns has kinds of its own: it never withheld anything."""
    if check.severity is Severity.ADVISORY:
        return f"rule.warning_{change}"
    return f"{_family(check)}.{change}"


def _noun(check: Check) -> str:
    family = _family(check)
    if family == "rule":
        return f"rule {check.id}"
    column, _, option = check.id.partition(".")
    return f"list of values of {column}" if family == "enum" else f"{option} of {column}"


def _said(check: Check) -> str:
    """A rule in its own words, briefly."""
    said = dict(check.arguments)
    if _option(check):
        return str(next(iter(said.values()), ""))
    limit = " and ".join(f"{n:g}" for n in check.threshold)
    unit = " %" if check.unit == "percent" else ""
    words = [f"{check.metric} {check.operator} {limit}{unit}"]
    words += [f"{k}={v}" for k, v in said.items() if k not in ("query", "reads")]
    return " ".join(words)


def _worded(query: str) -> object:
    r"""
    A query as its words, without layout and comments; as it stands, where it is no SQL.

    White space is not all alike: the end of a line ends a comment, and in a text it counts.

    >>> _worded("select 1 -- one\n where x") == _worded("select  1\nwhere x")
    True
    >>> _worded("select 1 -- one\n where x") == _worded("select 1 -- one where x")
    False
    """
    import sqlglot  # the start of every command would wait for it
    from sqlglot.errors import SqlglotError

    try:
        tokens = sqlglot.tokenize(query, dialect="duckdb")
    except SqlglotError:
        return query
    return tuple((token.token_type, token.text) for token in tokens)


def _value(check: Check, key: str) -> tuple[object, ...]:
    return _listed(dict(check.arguments).get(key))


def _listed(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, tuple | list) else ()


def _some(values: set[str]) -> str:
    return ", ".join(sorted(values))
