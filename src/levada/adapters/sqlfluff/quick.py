"""
Models that offend against no law, told without SQLFluff: by their jinja and DuckDB's own parser.

SQLFluff needs some 10 ms for a model, this a tenth of it. It answers only for what is plain: tags
that call `ref`, `source` or `config` once, and SQL that reads from nothing else but its CTEs. All
the rest, and whatever may be a fault, is SQLFluff's to judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from levada.adapters import readonly
from levada.adapters.sqlfluff import decisions
from levada.adapters.sqlfluff.facts import Here
from levada.adapters.sqlfluff.jinja import reads, tags

__all__ = ["plain", "sound"]

_TABLE = "levada_read_"
_BUILTINS = ("ref", "source", "config")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_JINJA = re.compile(r"\{[{%#]")
_BESIDE = re.compile(r"[\w.'\"`]")
"""A tag next to one of these is a part of a name or of a text."""


def sound(model: Here, text: str, landing: Sequence[str]) -> bool:
    """
    Whether a model surely keeps LV01 to LV03 and parses; `landing` are the layers that may read
    sources. Where it is not sure, it may be sound all the same.
    """
    macros = model.facts.macros(model.domain)
    if "sqlfluff" in text.lower() or any(name in macros for name in _BUILTINS):
        return False
    found = reads(text, macros)
    if any(decisions.promised_only(model, found)):
        return False
    if any(decisions.layer_order(model, found, landing)):
        return False
    return plain(text)


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
    rendered = _rendered(text)
    if rendered is None:
        return False
    parsed = readonly.parsed(rendered)
    return not isinstance(parsed, str) and _closed(parsed["node"])


def _rendered(text: str) -> str | None:
    """The SQL with a name of ours for each table; None where jinja does anything else."""
    if _TABLE in text:
        return None
    text = _COMMENT.sub(" ", text)
    parts, at = list[str](), 0
    for number, tag in enumerate(tags(text)):
        inner = text[tag.start + 2 : tag.stop - 2].strip()
        if len(tag.calls) != 1 or not text.startswith("{{", tag.start):
            return None
        call = tag.calls[0]
        if call.name not in _BUILTINS or text[call.start : call.stop] != inner:
            return None
        if call.name == "config":
            said = " "
        elif any(a.value is None for a in call.arguments) or _beside(text, tag.start, tag.stop):
            return None
        else:
            said = f"{_TABLE}{number}"
        parts += [text[at : tag.start], said]
        at = tag.stop
    rendered = "".join([*parts, text[at:]])
    return None if _JINJA.search(rendered) else rendered


def _beside(text: str, start: int, stop: int) -> bool:
    around = text[max(0, start - 1) : start] + text[stop : stop + 1]
    return bool(_BESIDE.search(around))


def _closed(node: Mapping[str, Any]) -> bool:
    """Whether a query reads from names of ours and its CTEs; only the outermost may have any."""
    known: set[str] = set()
    for entry in node["cte_map"]["map"]:
        name, query = str(entry["key"]).lower(), entry["value"]["query"]["node"]
        own = {name} if query["type"] == "RECURSIVE_CTE_NODE" else set()
        if name in known or not _reads_only(query, known | own):
            return False
        known.add(name)
    return _reads_only({key: value for key, value in node.items() if key != "cte_map"}, known)


def _reads_only(query: Mapping[str, Any], ctes: set[str]) -> bool:
    return all(_allowed(node, ctes) for node in readonly.walk(query))


def _allowed(node: Mapping[str, Any], ctes: set[str]) -> bool:
    if any(True for _ in _ctes(node)):
        return False
    if "table_name" in node:
        name = str(node["table_name"]).lower()
        placed = node["schema_name"] or node["catalog_name"] or node["at_clause"]
        return not placed and (name.startswith(_TABLE) or name in ctes)
    sources = (node.get(key) for key in ("from_table", "left", "right"))
    return all(
        source.get("type") in readonly.SOURCES | readonly.QUERIES
        for source in sources
        if isinstance(source, dict) and "class" not in source
    )


def _ctes(node: Mapping[str, Any]) -> Iterator[Any]:
    inner = node.get("cte_map")
    yield from inner["map"] if isinstance(inner, dict) else ()
