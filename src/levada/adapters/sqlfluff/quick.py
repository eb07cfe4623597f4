"""
Models that offend against no law, told without SQLFluff: by their jinja and DuckDB's own parser.

SQLFluff needs some 10 ms for a model, this a tenth of it. It answers only for what is plain: tags
that call `ref`, `source`, `config` or a macro of the project, and SQL that reads from nothing else
but its CTEs. All the rest, and whatever may be a fault, is SQLFluff's to judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from levada.adapters import readonly
from levada.adapters.sqlfluff import decisions
from levada.adapters.sqlfluff.budget import Budget, lines_of
from levada.adapters.sqlfluff.facts import Here
from levada.adapters.sqlfluff.jinja import Tag, reads, tags

if TYPE_CHECKING:
    from levada.adapters.sqlfluff.rendering import Names, Rendering

__all__ = ["Asked", "plain", "sound"]

_READ = re.compile(r"(?i)levada_read_\d*_?")
_BUILTINS = ("ref", "source", "config")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_JINJA = re.compile(r"\{[{%#]")
_BESIDE = re.compile(r"[\w.'\"`]")
"""A tag next to one of these is a part of a name or of a text."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of the models of a folder."""

    landing: tuple[str, ...]
    """The layers that may read sources."""
    names: tuple[str, str] | None = None
    """How tables and private models are named, where LV04 asks."""
    most: Budget | None = None
    """What a model may have at most, where LV05 asks."""


def sound(model: Here, text: str, asked: Asked) -> bool:
    """
    Whether a model surely keeps all that is asked and parses. Where it is not sure, it may be sound
    all the same.
    """
    macros = model.facts.macros(model.domain)
    if "sqlfluff" in text.lower() or any(name in macros for name in _BUILTINS):
        return False
    found = reads(text, macros)
    if any(decisions.promised_only(model, found)):
        return False
    if any(decisions.layer_order(model, found, asked.landing)):
        return False
    if asked.names and decisions.misnamed(model, *asked.names):
        return False
    calls = model.facts.rendering(model.domain) if macros else None
    query = _query(text, frozenset(macros), calls)
    return query is not None and (asked.most is None or _small(query, text, asked.most))


def plain(text: str) -> bool:
    """
    Whether a text reads from its `ref`s, `source`s and CTEs and from nothing else.

    >>> plain("select id from {{ ref('fleet', 'planes') }} join {{ source('a', 'b') }} using (id)")
    True
    >>> plain("with a as (select 1 as id) select id from a"), plain("select id from fleet.planes")
    (True, False)
    >>> plain("select id from {% if x %} {{ ref('planes') }} {% endif %}")
    False
    """
    return _query(text, frozenset(), None) is not None


def _query(text: str, macros: frozenset[str], calls: Rendering | None) -> Mapping[str, Any] | None:
    """What a text asks, as DuckDB reads it; None where it may read from anything else."""
    from levada.adapters.sqlfluff.rendering import Names

    names = Names()
    rendered = _rendered(text, names, macros, calls)
    if rendered is None or not _apart(rendered, names.issued):
        return None
    parsed = readonly.parsed(rendered)
    if isinstance(parsed, str) or not _closed(parsed["node"], names.issued):
        return None
    return parsed


def _rendered(
    text: str, names: Names, macros: frozenset[str], calls: Rendering | None
) -> str | None:
    """The SQL with a name of ours for each table; None where jinja does anything else."""
    if names.within(text):
        return None
    text = _COMMENT.sub(" ", text)
    parts, at = list[str](), 0
    for tag in tags(text):
        said = _said(text, tag, names, macros, calls)
        if said is None:
            return None
        parts += [text[at : tag.start], said]
        at = tag.stop
    rendered = "".join([*parts, text[at:]])
    return None if _JINJA.search(rendered) else rendered


def _said(
    text: str, tag: Tag, names: Names, macros: frozenset[str], calls: Rendering | None
) -> str | None:
    """What a tag comes to that is one call, whatever calls are its arguments."""
    inner = text[tag.start + 2 : tag.stop - 2].strip()
    if not (tag.calls and text.startswith("{{", tag.start)):
        return None
    call = tag.calls[0]
    if text[call.start : call.stop] != inner:
        return None
    if call.name in macros and calls is not None:
        return calls.of(inner, names)
    if call.name not in _BUILTINS or len(tag.calls) != 1:
        return None
    if call.name == "config":
        return " "
    return None if any(a.value is None for a in call.arguments) else names.new()


def _apart(rendered: str, issued: set[str]) -> bool:
    """Whether each of our names stands alone, and no other text looks like one."""
    return all(
        found[0] in issued
        and not _BESIDE.search(rendered[max(0, found.start() - 1) : found.start()])
        and not _BESIDE.search(rendered[found.end() : found.end() + 1])
        for found in _READ.finditer(rendered)
    )


def _small(query: Mapping[str, Any], text: str, most: Budget) -> bool:
    """Whether a query is surely within its budget: what is counted here is never too little."""
    joins = sum(1 for node in readonly.walk(query) if node.get("type") == "JOIN")
    unions = sum(1 for node in readonly.walk(query) if node.get("type") == "SET_OPERATION_NODE")
    return (
        joins <= most.joins
        and unions + 1 <= most.branches
        and _cases(query) <= most.cases
        and lines_of(text) <= most.lines
    )


def _cases(said: Any) -> int:
    """How deep CASE stands within CASE, subqueries included."""
    if isinstance(said, list):
        return max(map(_cases, said), default=0)
    if not isinstance(said, dict):
        return 0
    own = said.get("class") == "CASE"
    return own + max(map(_cases, said.values()), default=0)


def _closed(node: Mapping[str, Any], issued: set[str]) -> bool:
    """Whether a query reads from names of ours and its CTEs; only the outermost may have any."""
    known: set[str] = set()
    for entry in node["cte_map"]["map"]:
        name, query = str(entry["key"]).lower(), entry["value"]["query"]["node"]
        own = {name} if query["type"] == "RECURSIVE_CTE_NODE" else set()
        if name in known or not _reads_only(query, known | own, issued):
            return False
        known.add(name)
    return _reads_only(
        {key: value for key, value in node.items() if key != "cte_map"}, known, issued
    )


def _reads_only(query: Mapping[str, Any], ctes: set[str], issued: set[str]) -> bool:
    return all(_allowed(node, ctes, issued) for node in readonly.walk(query))


def _allowed(node: Mapping[str, Any], ctes: set[str], issued: set[str]) -> bool:
    if any(True for _ in _ctes(node)):
        return False
    if "table_name" in node:
        name = str(node["table_name"])
        placed = node["schema_name"] or node["catalog_name"] or node["at_clause"]
        return not placed and (name in issued or name.lower() in ctes)
    sources = (node.get(key) for key in ("from_table", "left", "right"))
    return all(
        source.get("type") in readonly.SOURCES | readonly.QUERIES
        for source in sources
        if isinstance(source, dict) and "class" not in source
    )


def _ctes(node: Mapping[str, Any]) -> Iterator[Any]:
    inner = node.get("cte_map")
    yield from inner["map"] if isinstance(inner, dict) else ()
