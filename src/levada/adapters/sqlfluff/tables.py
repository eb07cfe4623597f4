"""What a parsed model reads that no `ref` and no `source` names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import TYPE_CHECKING

from levada.adapters.sqlfluff.jinja import Macro, Tag, tags

if TYPE_CHECKING:
    from sqlfluff.core.parser import BaseSegment

__all__ = ["Reading", "literal_tables"]

_OF_DBT = frozenset({"this", "ref", "source"})


@dataclass(frozen=True, slots=True)
class Reading:
    """A table, a file or a function that is read from; `parts` are empty for a function."""

    shown: str
    parts: tuple[str, ...]
    start: int
    stop: int
    computed: bool = False
    """Whether its name comes out of a tag, which names no table of the mesh."""
    alias: str = ""
    """The name by which columns call it; to be kept as an alias where it has none."""
    qualified: bool = False
    """Whether columns call it by its schema too, so that no alias can stand in."""


def literal_tables(
    tree: BaseSegment,
    text: str,
    known: Mapping[str, Macro],
    *,
    functions: Sequence[str],
    allowed: Sequence[str],
) -> Iterator[Reading]:
    """Every read of what is neither a CTE nor named by `ref` or `source`."""
    found = tags(text)
    sound = _sound(found, known)
    for element, above in _elements(tree, ()):
        inner = _child(element, "table_expression")
        table = _child(inner, "table_reference") if inner else None
        function = _child(inner, "function") if inner else None
        if function is not None:
            name = function.segments[0].raw
            if any(fnmatchcase(name.lower(), pattern) for pattern in functions):
                yield Reading(name, (), *_place(function))
        elif table is not None:
            reading = _reading(table, element, above, found, sound, known)
            if reading and not any(fnmatchcase(reading.shown.lower(), each) for each in allowed):
                yield reading


def _reading(
    table: BaseSegment,
    element: BaseSegment,
    above: Sequence[BaseSegment],
    found: Sequence[Tag],
    sound: frozenset[str],
    known: Mapping[str, Macro],
) -> Reading | None:
    names = [each for each in table.segments if each.is_code and each.raw != "."]
    parts = tuple(_bare(each.raw) for each in names)
    marker = names[-1].pos_marker if names else None
    if marker is None or (len(parts) == 1 and parts[0].lower() in _ctes(above)):
        return None
    if len(parts) > 1 and parts[0].lower() in _aliases(above):
        return None  # a column of a table beside it, unnested
    start, stop = _place(table)
    if marker.is_literal():
        columns = [_path(each) for each in _columns(above)]
        unnamed = _child(element, "alias_expression") is None
        called = any(path[:1] == (parts[-1].lower(),) for path in columns) and unnamed
        whole = tuple(part.lower() for part in parts)
        qualified = len(parts) > 1 and any(path[: len(parts)] == whole for path in columns)
        if not all(each.pos_marker and each.pos_marker.is_literal() for each in names):
            parts = parts[-1:]  # what stands before it is computed
        return Reading(
            table.raw, parts, start, stop, alias=parts[-1] if called else "", qualified=qualified
        )
    tag = next((t for t in found if t.start <= marker.source_slice.start < t.stop), None)
    if tag is None or not _computed(tag, sound, known):
        return None
    return Reading(text_of(tag, table), parts, tag.start, tag.stop, computed=True)


def text_of(tag: Tag, table: BaseSegment) -> str:
    """A tag as it is written."""
    marker = table.pos_marker
    return marker.templated_file.source_str[tag.start : tag.stop] if marker else table.raw


def _sound(found: Sequence[Tag], known: Mapping[str, Macro]) -> frozenset[str]:
    """Names that stand for what `ref` or `source` gave: `{% set planes = ref('planes') %}`."""
    names: set[str] = set(_OF_DBT)
    for tag in found:
        if tag.reads or names & {*tag.names} or any(_reads(call.name, known) for call in tag.calls):
            names |= {*tag.names}
    return frozenset(names)


def _reads(name: str, known: Mapping[str, Macro], seen: frozenset[str] = frozenset()) -> bool:
    """Whether a macro reaches a `ref` or a `source`."""
    if name not in known or name in seen:
        return False
    return any(
        tag.reads or any(_reads(call.name, known, seen | {name}) for call in tag.calls)
        for tag in known[name].tags
    )


def _computed(tag: Tag, sound: frozenset[str], known: Mapping[str, Macro]) -> bool:
    """Whether a tag surely gives what is no table of the mesh. An unknown macro may give one."""
    if tag.reads or sound & {*tag.names}:
        return False
    return all(call.name in known or call.name in ("var", "env_var") for call in tag.calls)


def _elements(
    segment: BaseSegment, above: tuple[BaseSegment, ...]
) -> Iterator[tuple[BaseSegment, tuple[BaseSegment, ...]]]:
    """Every element of a FROM or a JOIN, with what it stands in."""
    if segment.is_type("from_expression_element"):
        yield segment, above
    if "from_expression_element" in segment.descendant_type_set:
        for child in segment.segments:
            yield from _elements(child, (*above, segment))


def _ctes(above: Sequence[BaseSegment]) -> frozenset[str]:
    """The CTEs that can be read here: those before, and its own if it is recursive."""
    names: set[str] = set()
    for outer, inner in pairwise([*above, above[-1]] if above else []):
        if not outer.is_type("with_compound_statement"):
            continue
        recursive = any(each.raw.lower() == "recursive" for each in outer.segments)
        for each in outer.segments:
            if each is inner and not recursive:
                break
            if each.is_type("common_table_expression"):
                names.add(_bare(each.segments[0].raw).lower())
    return frozenset(names)


def _aliases(above: Sequence[BaseSegment]) -> frozenset[str]:
    names: set[str] = set()
    for select in (each for each in above if each.is_type("select_statement")):
        for element in select.recursive_crawl("from_expression_element"):
            alias, table = _child(element, "alias_expression"), _child(element, "table_expression")
            if alias is not None:
                names |= {_bare(e.raw).lower() for e in alias.recursive_crawl("identifier")}
            elif table is not None and "." not in table.raw:
                names.add(_bare(table.raw).lower())
    return frozenset(names)


def _columns(above: Sequence[BaseSegment]) -> Iterator[BaseSegment]:
    select = next((each for each in reversed(above) if each.is_type("select_statement")), None)
    if select is not None:
        yield from select.recursive_crawl("column_reference", "wildcard_identifier")


def _path(column: BaseSegment) -> tuple[str, ...]:
    return tuple(_bare(e.raw).lower() for e in column.segments if e.is_code and e.raw != ".")[:-1]


def _child(segment: BaseSegment, kind: str) -> BaseSegment | None:
    return next((each for each in segment.segments if each.is_type(kind)), None)


def _bare(name: str) -> str:
    return name.strip("\"'`[]")


def _place(segment: BaseSegment) -> tuple[int, int]:
    marker = segment.pos_marker
    return (marker.source_slice.start, marker.source_slice.stop) if marker else (0, 0)
