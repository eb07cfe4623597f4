"""
What a JSON schema refuses, in words for people who do not know that there is a schema.

`told` reads the errors of jsonschema and says of each what stands where, and what would be right.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from levada.adapters.documents import Place
from levada.settings import nearest

__all__ = ["Rank", "Told", "name", "told"]


class Rank(enum.IntEnum):
    """How much is said of a value; of several errors at one place the first says most."""

    EXACT = 0
    TYPE = 1
    OTHER = 2
    VAGUE = 3


class Told(NamedTuple):
    """A schema error in words, the value that it refuses, and how much it says."""

    place: Place
    wrong: str
    right: str
    refused: Place
    rank: Rank = Rank.OTHER


_KINDS = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "nothing",
    "number": "a number",
    "object": "keys with values",
    "string": "text",
}
_LIMITS = {
    "maxItems": "write at most {} of them",
    "maximum": "write {} or less",
    "minItems": "write at least {} of them",
    "minLength": "write at least {} letters",
    "minProperties": "write at least {} keys",
    "minimum": "write {} or more",
    "uniqueItems": "write each only once",
}
_COLUMN = "table.column or domain.table.column"
_EXAMPLES = {
    "columns": "{name: ...}",
    "customProperties": "{property: grain, value: day}",
    "description": "{purpose: ...}",
    "enum": "{value: ...}",
    "from": _COLUMN,
    "mustBeBetween": "1, 5",
    "mustNotBeBetween": "1, 5",
    "properties": "{name: ..., physicalType: ...}",
    "quality": "{id: ..., metric: rowCount, mustBeGreaterThan: 0}",
    "relationships": "{to: domain.table.column}",
    "schema": "{name: ..., properties: ...}",
    "slaProperties": "{property: ..., value: ...}",
    "support": "{channel: ...}",
    "tables": "{name: ...}",
    "team": "{name: ...}",
    "to": _COLUMN,
}
"""What stands under a key, where people often write something simpler."""


def told(error: Any, whole: str = "the contract") -> Iterator[Told]:
    """
    A schema error in words; alternatives are told by the branch that came furthest.

    `whole` is what the document is called. Unknown keys are not told.
    """
    place: Place = tuple(error.absolute_path)
    value, wanted = error.instance, error.validator_value
    what = f"{name(place, whole)} is {_brief(value)}"
    match error.validator:
        case "additionalProperties":
            return  # who knows all keys names the nearest right one
        case "oneOf" | "anyOf":
            yield from _alternatives(error, place, whole)
        case "required":
            for key in wanted:
                if key not in value:
                    yield Told(
                        place, f"{name(place, whole)} lacks {key!r}", f"write {key}:", (*place, key)
                    )
        case "type":
            yield Told(place, what, _kinds(place, _words(wanted)), place, Rank.TYPE)
        case "enum" | "const":
            right = nearest(str(value), [str(word) for word in _words(wanted)])
            yield Told(place, what, right, place, Rank.EXACT)
        case "pattern":
            yield Told(place, what, _pattern(str(wanted)), place)
        case "not" if isinstance(value, dict):
            wrong = f"{name(place, whole)} says 'from'"
            right = "a column's relationship has only 'to'"
            yield Told(place, wrong, right, (*place, "from"), Rank.EXACT)
        case "minItems" | "maxItems" | "uniqueItems" if "Between" in str(place[-1:]):
            yield Told(place, what, "write two different numbers, like [1, 5]", place)
        case limit if limit in _LIMITS:
            yield Told(place, what, _LIMITS[limit].format(wanted), place)
        case _:
            yield Told(place, f"{what}, which has not the right form", "", place, Rank.VAGUE)


def _alternatives(error: Any, place: Place, whole: str) -> Iterator[Told]:
    needed = [branch.get("required", [None])[0] for branch in error.validator_value]
    operators = [key for key in needed if key]
    if isinstance(error.instance, dict) and len(operators) == len(needed):
        said = [key for key in operators if key in error.instance]
        if len(said) != 1:
            many = f"has the operators {' and '.join(said)}" if said else "has no operator"
            right = f"write exactly one of {', '.join(operators)}"
            yield Told(place, f"{name(place, whole)} {many}", right, (*place, "operator"))
            return
        errors = [e for e in error.context if e.schema_path[0] == needed.index(said[0])]
    else:
        errors = list(error.context)
    # A branch for values of another type says nothing about this one.
    foreign = {e.schema_path[0] for e in errors if _types(e) and tuple(e.absolute_path) == place}
    fitting = [e for e in errors if e.schema_path[0] not in foreign]
    if fitting:
        branch = max(fitting, key=lambda e: len(e.absolute_path)).schema_path[0]
        for inner in fitting:
            if inner.schema_path[0] == branch:
                yield from told(inner, whole)
        return
    what = f"{name(place, whole)} is {_brief(error.instance)}"
    if errors:
        words = [word for inner in errors for word in _types(inner)]
        yield Told(place, what, _kinds(place, words), place, Rank.TYPE)
    else:
        yield Told(place, f"{what}, which has not the right form", "", place, Rank.VAGUE)


def _types(error: Any) -> list[str]:
    """The types that would have been right, if it is the type alone that is wrong."""
    if error.validator == "type":
        return _words(error.validator_value)
    if error.validator in ("oneOf", "anyOf") and error.context:
        each = [_types(inner) for inner in error.context]
        return [word for words in each for word in words] if all(each) else []
    return []


def _words(wanted: Any) -> list[Any]:
    return wanted if isinstance(wanted, list) else [wanted]


def _kinds(place: Place, types: Sequence[str]) -> str:
    """
    What to write, of these types.

    >>> _kinds(("tags",), ["array"]), _kinds(("a",), ["string", "number", "boolean", "null"])
    ('write a list', 'write a plain value')
    >>> _kinds(("schema", 0, "properties"), ["array"])
    'write a list, like [{name: ..., physicalType: ...}]'
    """
    if place == ("version",):
        return "write three numbers, like 1.0.0"
    if {"string", "number", "boolean"} <= set(types):
        return "write a plain value"
    key = next((step for step in reversed(place) if isinstance(step, str)), "")
    example = _EXAMPLES.get(key, "")
    if example is _COLUMN and place[-1] == key:
        return f"write {example}"
    some = [word for word in types if word != "null"] or types
    kinds = " or ".join(dict.fromkeys(_KINDS[word] for word in some))
    if not example or not {"array", "object"} & set(types):
        return f"write {kinds}"
    return f"write {kinds}, like {f'[{example}]' if 'object' not in types else example}"


def _pattern(pattern: str) -> str:
    """
    A pattern in words, as far as it is one of the standard's.

    >>> _pattern("^[A-Za-z0-9_-]+$"), _pattern("^sftp://.*")
    ('write letters, digits, _ and - only', 'begin with sftp://')
    """
    if pattern == "^[A-Za-z0-9_-]+$":
        return "write letters, digits, _ and - only"
    if pattern == r"^[^\d\W]\w*$":
        return "write letters, digits and _, a letter first"
    if "(\\." in pattern or "\\/" in pattern:  # both ways of naming a column
        return "write table.column or domain.table.column"
    if re.fullmatch(r"\^[\w:/]+\.\*", pattern):
        return f"begin with {pattern[1:-2]}"
    return f"it must match {pattern}"


def _brief(value: Any) -> str:
    """
    A value as YAML would show it, cut short.

    >>> _brief({"name": "a"}), _brief(None), _brief("x" * 99)[-5:]
    ('{"name": "a"}', 'empty', 'x ...')
    """
    if value is None:
        return "empty"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:56]} ..."


def name(place: Place, whole: str = "the contract") -> str:
    """
    How a place is called in a sentence.

    >>> name(("schema", 0, "properties", 3))
    'schema[0].properties[3]'
    """
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return text.lstrip(".") or whole
