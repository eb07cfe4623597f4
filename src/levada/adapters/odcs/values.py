"""
The checks on single values: `enum`, `logicalTypeOptions`, and what a nested value must hold.

A nested value has a path: the steps from its column inwards. Some promises can be kept of a column
only; inside a value they are faults.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from levada.adapters.documents import Document, Place
from levada.adapters.odcs import shapes
from levada.audit import FORMATS
from levada.errors import Fault
from levada.settings import nearest
from levada.terms import Check

__all__ = ["checked"]

Found = Iterator[tuple[Place, Check] | Fault]

_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_OPTIONS = frozenset(
    {
        *_BOUNDS,
        *("multipleOf", "minLength", "maxLength", "pattern"),
        *("minItems", "maxItems", "uniqueItems", "normalized"),
    }
)
"""Options of which a check is made."""
_OF_THE_TYPE = frozenset({"dimensions", "elementType", "timezone"})
"""Options that `shapes` holds against the type."""
_TOLD = frozenset(
    {"defaultTimezone", "distanceMetric", "embeddingModel", "embeddingModelVersion", "format"}
)
"""Options that describe a value and decide nothing; a format does so for dates and times."""
_FORMATS_TOLD = frozenset({"binary", "byte", "password"})
_FLOATS = {"f32": ("FLOAT",), "f64": ("FLOAT", "DOUBLE")}
_OF_A_VALUE = ("enum", "logicalTypeOptions", "required")
_OF_A_COLUMN = ("primaryKey", "quality", "relationships", "unique")


def checked(
    document: Document, place: Place, entry: dict[str, Any], column: str, type_: str
) -> Found:
    """Every check on the values of a column and of what is inside it, and what cannot be one."""
    for part in shapes.parts(document, place, entry, type_):
        with document.guard():
            yield from shapes.accord(document, part)
        if not part.keyed:
            with document.guard():
                yield from _part(document, part, column)
    yield from _unheard(document, place, entry, column)


def _part(document: Document, part: shapes.Part, column: str) -> Found:
    entry, path = part.entry, part.path
    if path and entry.get("required"):
        yield (*part.place, "required"), _check(part, column, "nullValues", "required")
    if "enum" in entry:
        allowed = ("validValues", tuple(each["value"] for each in entry["enum"]))
        yield (*part.place, "enum"), _check(part, column, "invalidValues", "enum", allowed)
    for option, value in (entry.get("logicalTypeOptions") or {}).items():
        where: Place = (*part.place, "logicalTypeOptions", option)
        if option in _OPTIONS:
            if value is not False:
                yield where, _check(part, column, "invalidValues", option, (option, value))
        elif option == "format":
            yield from _format(document, where, part, column, value)
        elif option == "required":
            yield from _fields(document, where, part, column, value)
        elif option not in _TOLD | _OF_THE_TYPE:
            wrong = f"{column}: the option {option!r} cannot be checked"
            yield document.fault(where, wrong, nearest(option, sorted(_OPTIONS | _TOLD)))


def _format(
    document: Document, where: Place, part: shapes.Part, column: str, value: object
) -> Found:
    logical = part.entry.get("logicalType")
    if logical in ("date", "time", "timestamp") or value in _FORMATS_TOLD:
        return  # how it is written elsewhere: here it has a type
    if value in _FLOATS:
        if part.type not in _FLOATS[str(value)]:
            wrong = f"format is {value}, and the type is {part.type}"
            yield document.fault(where, wrong, f"write {' or '.join(_FLOATS[str(value)])}")
    elif value in FORMATS:
        yield where, _check(part, column, "invalidValues", "format", ("format", value))
    else:
        wrong = f"{column}: values of the format {value!r} cannot be told"
        yield document.fault(where, wrong, f"{nearest(str(value), FORMATS)}, or write a pattern")


def _fields(
    document: Document, where: Place, part: shapes.Part, column: str, names: list[str]
) -> Found:
    """The fields that an object must hold."""
    held = {
        inner.path[-1]: inner
        for inner in shapes.parts(
            document,
            part.place,
            {"properties": [{"name": name} for name in names]},
            part.type,
        )
        if inner.path
    }
    for name in names:
        if name not in held:
            wrong = f"{part.type} has no field {name!r}"
            yield document.fault(where, wrong, "let the physicalType be a STRUCT that has it")
        else:
            inner = shapes.Part(part.place, (*part.path, name), {}, held[name].type)
            yield where, _check(inner, column, "nullValues", "inside")


def _unheard(
    document: Document, place: Place, entry: dict[str, Any], column: str
) -> Iterator[Fault]:
    """What is promised inside a value and can only be kept of a column."""
    for found in _deeper(entry, place):
        wrong = f"{column}: {found[-1]} inside a nested value cannot be executed"
        yield document.fault(found, wrong, "write a rule of type: sql on the table")


def _deeper(value: dict[str, Any], at: Place) -> Iterator[Place]:
    for key in ("properties", "items"):
        yield from _inside(value.get(key), (*at, key))
    for key, inner in (value["map"] if isinstance(value.get("map"), dict) else {}).items():
        yield from _inside(inner, (*at, "map", key))
        for said in _OF_A_VALUE if isinstance(inner, dict) else ():
            if inner.get(said):
                yield (*at, "map", key, said)


def _inside(value: Any, at: Place) -> Iterator[Place]:
    if isinstance(value, dict):
        yield from ((*at, key) for key in _OF_A_COLUMN if value.get(key))
        yield from _deeper(value, at)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _inside(inner, (*at, index))


def _check(
    part: shapes.Part, column: str, metric: str, word: str, *arguments: tuple[str, Any]
) -> Check:
    names = ("items" if step == shapes.ITEMS else step for step in part.path)
    nested = (("path", part.path), ("type", part.type)) if part.path else ()
    return Check(
        ".".join((column, *names, word)),
        metric,
        column,
        arguments=(*arguments, *nested),
        dimension="completeness" if metric == "nullValues" else "conformity",
        origin="schema",
    )
