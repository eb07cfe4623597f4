"""
How complex a model is, and where a split would bring it under its budget.

Counted is what makes a model hard to change: joins, branches of UNION ALL, CASE within CASE, lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from levada.adapters.sqlfluff.decisions import Finding

if TYPE_CHECKING:
    from sqlfluff.core.parser import BaseSegment

__all__ = ["Budget", "Part", "cut", "exceeded", "lines_of"]


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that one model may have."""

    joins: int
    branches: int
    cases: int
    lines: int


@dataclass(frozen=True, slots=True)
class Part:
    """A CTE, or the last SELECT (without a name), with what of the model is in it."""

    name: str
    reads: frozenset[str]
    """The CTEs of the same model that it reads."""
    size: int
    start: int
    stop: int


def cut(parts: Sequence[Part], most: int) -> tuple[Part, int, int] | None:
    """
    The CTE that becomes a model of its own: it, what it takes along, what stays. Taken along are
    the CTEs that only it needs. Of the cuts that bring both under `most`, the most even one.

    >>> a, b = Part("a", frozenset(), 6, 0, 9), Part("b", frozenset({"a"}), 3, 10, 19)
    >>> last = Part("", frozenset({"b"}), 2, 20, 29)
    >>> [(p.name, moved, stays) for p, moved, stays in [cut((a, b, last), 8)]]
    [('a', 6, 5)]
    >>> cut((last,), 1)
    """
    by_name = {part.name: part for part in parts}
    total = sum(part.size for part in parts)
    found: list[tuple[int, int, Part, int, int]] = []
    for number, part in enumerate(parts):
        if not part.name:
            continue
        taken = _closure(part, by_name)
        others = [each for each in parts if each.name not in taken]
        if any(each.reads & (taken - {part.name}) for each in others):
            continue  # what it needs, others need too: that is a cut of its own
        moved = sum(by_name[name].size for name in taken)
        stays = total - moved
        if moved <= most and stays <= most:
            found.append((max(moved, stays), number, part, moved, stays))
    if not found:
        return None
    _, _, part, moved, stays = min(found, key=lambda each: each[:2])
    return part, moved, stays


def _closure(part: Part, by_name: Mapping[str, Part]) -> frozenset[str]:
    seen: set[str] = set()
    todo = [part.name]
    while todo:
        name = todo.pop()
        if name not in seen and name in by_name:
            seen.add(name)
            todo += by_name[name].reads
    return frozenset(seen)


def exceeded(model: str, tree: BaseSegment, text: str, budget: Budget) -> Iterator[Finding]:
    """What a model has more of than its budget allows, at the place of a split."""
    for found in (
        _joins_and_lines(tree, text, budget),
        _unions(tree, budget),
        _cases(tree, budget),
    ):
        for each in found:
            yield replace(each, wrong=f"model {model} {each.wrong}")


def _joins_and_lines(tree: BaseSegment, text: str, budget: Budget) -> Iterator[Finding]:
    """A model with too many joins, or too many lines of SQL."""
    withs = next(_within(tree, "with_compound_statement"), None)
    counted = [("joins", "joins", budget.joins), ("lines of SQL", "lines", budget.lines)]
    for words, kind, most in counted:
        parts = _parts(tree, withs, text, kind)
        total = sum(part.size for part in parts)
        if total <= most:
            continue
        wrong = f"has {total} {words}, {most} are allowed"
        split = cut(parts, most)
        named = [part for part in parts if part.name]
        if split:
            part, moved, stays = split
            right = f"make CTE {part.name} a model of its own: {moved} go, {stays} stay"
        elif named:
            part = max(named, key=lambda each: each.size)
            right = f"no single cut is enough; begin with CTE {part.name}, which has {part.size}"
        else:
            part = parts[0]
            right = "give its steps names as CTEs, then make one of them a model"
        yield Finding(part.start, part.stop, wrong, right)


def _parts(tree: BaseSegment, withs: BaseSegment | None, text: str, kind: str) -> tuple[Part, ...]:
    start, _ = _place(tree)
    whole = _size(tree, text, kind, (0, len(text)))
    if withs is None:
        return (Part("", frozenset(), whole, start, start),)
    ctes = [each for each in withs.segments if each.is_type("common_table_expression")]
    names = {_name(cte) for cte in ctes}
    parts = [
        Part(
            name=_name(cte),
            reads=frozenset(_tables(cte) & names - {_name(cte)}),
            size=_size(cte, text, kind, _place(cte)),
            start=_place(cte)[0],
            stop=_place(cte)[1],
        )
        for cte in ctes
    ]
    rest = [each for each in withs.segments if not each.is_type("common_table_expression")]
    reads = {name for each in rest for name in _tables(each)} & names
    left = max(0, whole - sum(part.size for part in parts))
    return (*parts, Part("", frozenset(reads), left, start, start))


def _unions(tree: BaseSegment, budget: Budget) -> Iterator[Finding]:
    """A UNION ALL with too many branches; told at the branch at which a split brings it under."""
    for union in _within(tree, "set_expression"):
        operators = [each for each in union.segments if each.is_type("set_operator")]
        if not operators or any("ALL" not in each.raw.upper() for each in operators):
            continue
        count = len(operators) + 1
        if count <= budget.branches:
            continue
        half = min(budget.branches, (count + 1) // 2)
        branch = [e for e in union.segments if e.is_code and not e.is_type("set_operator")][half]
        wrong = f"has {count} branches of UNION ALL, {budget.branches} are allowed"
        last = f"branches {half + 1} to {count}" if count > half + 1 else f"branch {count}"
        right = f"make {last} a model of its own"
        if count - half > budget.branches:
            right = f"split it from branch {half + 1} on, and what remains again"
        yield Finding(*_place(branch), wrong, right)


def _cases(tree: BaseSegment, budget: Budget) -> Iterator[Finding]:
    """A CASE within CASE, deeper than allowed; told at the first one that is too deep."""
    for case, depth, outer in _nested(tree, 0, ""):
        if depth == budget.cases + 1:
            inner = max((d for _, d, _ in _nested(case, 0, "")), default=1)
            wrong = f"has CASE {depth - 1 + inner} deep, {budget.cases} are allowed"
            where = f" of CTE {outer}" if outer else ""
            right = f"give this inner CASE{where} a column of its own in a CTE before, or a table"
            yield Finding(*_place(case), wrong, right)


def _nested(segment: BaseSegment, depth: int, cte: str) -> Iterator[tuple[BaseSegment, int, str]]:
    if "case_expression" not in segment.descendant_type_set and not segment.is_type(
        "case_expression"
    ):
        return
    if segment.is_type("common_table_expression"):
        cte = _name(segment)
    if segment.is_type("case_expression"):
        depth += 1
        yield segment, depth, cte
    elif segment.is_type("select_statement"):
        depth = 0  # a subquery begins anew
    for child in segment.segments:
        yield from _nested(child, depth, cte)


def _within(segment: BaseSegment, kind: str) -> Iterator[BaseSegment]:
    yield from segment.recursive_crawl(kind, recurse_into=True)


def _tables(segment: BaseSegment) -> set[str]:
    return {each.raw.lower() for each in _within(segment, "table_reference")}


def _name(cte: BaseSegment) -> str:
    return cte.segments[0].raw.lower()


def _place(segment: BaseSegment) -> tuple[int, int]:
    """Where it stands in the text of the model, which is not what jinja made of it."""
    marker = segment.pos_marker
    return (marker.source_slice.start, marker.source_slice.stop) if marker else (0, 0)


def _size(segment: BaseSegment, text: str, kind: str, place: tuple[int, int]) -> int:
    if kind == "joins":
        return sum(1 for _ in _within(segment, "join_clause")) + sum(
            max(0, sum(each.is_type("from_expression") for each in clause.segments) - 1)
            for clause in _within(segment, "from_clause")
        )  # `from a, b` joins, too
    return lines_of(text[slice(*place)])


def lines_of(text: str) -> int:
    r"""
    Lines of SQL: blank ones and comments do not count.

    >>> lines_of("select 1\n\n  -- why\n, 2")
    2
    """
    lines = text.splitlines()
    return sum(1 for line in lines if line.strip() and not line.lstrip().startswith("--"))
