"""
What a column is made of: whether its logical type, its parts and its DuckDB type say the same.

A logical type is promised in the standard's words, and audited by the physical one: so the two are
held against each other when they are declared. The parts of a STRUCT, a list or a MAP likewise.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from levada.adapters import sqlrule
from levada.adapters.documents import Document, Place
from levada.errors import Fault
from levada.settings import nearest

__all__ = ["ITEMS", "Part", "accord", "parts"]

ITEMS = "[]"
"""The step of a path that leads from a list to each of its items."""

_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_INTEGERS = (*_WHOLE, *(f"U{name}" for name in _WHOLE))
_KINDS: Mapping[str, tuple[str, ...]] = {
    "array": ("LIST",),
    "boolean": ("BOOLEAN",),
    "date": ("DATE",),
    "integer": (*_INTEGERS, "DECIMAL"),
    "map": ("MAP",),
    "number": (*_INTEGERS, "DECIMAL", "DOUBLE", "FLOAT"),
    "object": ("JSON", "MAP", "STRUCT"),
    "string": ("BIT", "BLOB", "ENUM", "JSON", "UUID", "VARCHAR"),
    "time": ("TIME", "TIME WITH TIME ZONE", "TIME_NS"),
    "timestamp": (
        *("TIMESTAMP", "TIMESTAMP WITH TIME ZONE"),
        *("TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"),
    ),
    "vector": ("LIST",),
}
"""The types of DuckDB that hold a logical type, by the names of their families."""
_ELEMENTS = {
    "binary": ("BOOLEAN", "BIT"),
    "float32": ("FLOAT",),
    "float64": ("DOUBLE",),
    "int8": ("TINYINT",),
    "uint8": ("UTINYINT",),
}


class _Shape(NamedTuple):
    """A type of DuckDB taken apart."""

    family: str
    """VARCHAR, DECIMAL, LIST, MAP, STRUCT, ..."""
    name: str
    parts: tuple[tuple[str, str], ...] = ()
    """Name and type: of a STRUCT's fields, of a list's `child`, of a MAP's `key` and `value`."""
    size: int | None = None
    """Of an array: it has as many items, always."""


class Part(NamedTuple):
    """A column, or something inside one."""

    place: Place
    path: tuple[str, ...]
    entry: Mapping[str, Any]
    type: str
    keyed: bool = False
    """Inside a MAP, where types are compared and nothing else can be."""


@functools.lru_cache(maxsize=4096)
def _shape(said: str) -> _Shape:
    import duckdb

    name = sqlrule.column_type(said)
    if not name.endswith("]") and not name.startswith(("MAP(", "STRUCT(")):
        return _Shape(name.partition("(")[0], name)
    with duckdb.connect(config={"enable_external_access": False}) as connection:
        found = connection.sqltype(name)
        held: dict[str, Any] = dict(found.children)
    size = held.pop("size") if found.id == "array" else None
    family = "LIST" if found.id == "array" else found.id.upper()
    return _Shape(family, name, tuple((k, str(v)) for k, v in held.items()), size)


def parts(document: Document, place: Place, entry: Mapping[str, Any], kind: str) -> Iterator[Part]:
    """A column and everything inside it that the contract speaks of, as far as it can be read."""
    yield from _parts(document, Part(place, (), entry, kind))


def _parts(document: Document, part: Part) -> Iterator[Part]:
    yield part
    try:
        held = dict(_shape(part.type).parts)
    except ValueError:
        return  # told where the type stands
    for place, step, entry in _inside(part):
        key = "child" if step == ITEMS else step
        if isinstance(entry, dict) and key in held:
            keyed = part.keyed or "map" in place[-2:-1]
            yield from _parts(document, Part(place, (*part.path, step), entry, held[key], keyed))


def _inside(part: Part) -> Iterator[tuple[Place, str, Any]]:
    for index, entry in enumerate(part.entry.get("properties") or ()):
        name = entry.get("name") if isinstance(entry, dict) else None
        yield (*part.place, "properties", index), str(name), entry
    if "items" in part.entry:
        yield (*part.place, "items"), ITEMS, part.entry["items"]
    for key, entry in (part.entry.get("map") or {}).items():
        yield (*part.place, "map", key), key, entry


def accord(document: Document, part: Part) -> Iterator[Fault]:
    """Where the words about a part and its type part ways."""
    try:
        shape = _shape(part.type)
    except ValueError:
        return
    logical = str(part.entry.get("logicalType", ""))
    options = part.entry.get("logicalTypeOptions") or {}
    if logical in _KINDS and not (shape.family in _KINDS[logical] and _whole(logical, shape)):
        wrong = f"logicalType {logical} is not what {shape.name} holds"
        right = f"write {_logical(shape)}, or another physicalType"
        yield document.fault((*part.place, "logicalType"), wrong, right)
    if part.path and (said := part.entry.get("physicalType")) is not None:
        yield from _same(document, part, str(said), shape)
    yield from _unheld(document, part, shape)
    where: Place = (*part.place, "logicalTypeOptions")
    zoned = shape.name.endswith("WITH TIME ZONE")
    if options.get("timezone", zoned) is not zoned:
        wrong = f"timezone is {str(options['timezone']).lower()}, and the type is {shape.name}"
        yield document.fault((*where, "timezone"), wrong, "let the two say the same")
    if logical == "vector":
        yield from _vector(document, where, options, shape)


def _whole(logical: str, shape: _Shape) -> bool:
    """A DECIMAL holds whole numbers when it has no digit behind the point."""
    decimal = logical == "integer" and shape.family == "DECIMAL"
    return not decimal or shape.name.endswith(",0)")


def _logical(shape: _Shape) -> str:
    return next((k for k, held in _KINDS.items() if shape.family in held), "no logicalType")


def _same(document: Document, part: Part, said: str, shape: _Shape) -> Iterator[Fault]:
    try:
        if sqlrule.column_type(said) == shape.name:
            return
        wrong = f"physicalType {said} is {shape.name} in the type of its column"
    except ValueError as error:
        wrong = str(error)
    yield document.fault((*part.place, "physicalType"), wrong, f"write {shape.name}")


def _unheld(document: Document, part: Part, shape: _Shape) -> Iterator[Fault]:
    """Parts that the type does not have."""
    family = {"properties": "STRUCT", "items": "LIST", "map": "MAP"}
    for key, wanted in family.items():
        if part.entry.get(key) and shape.family != wanted:
            wrong = f"{key} of {shape.name} cannot be checked"
            right = f"let the physicalType of the column be a {wanted}"
            yield document.fault((*part.place, key), wrong, right)
            return
    if shape.family == "STRUCT":
        fields = [name for name, _ in shape.parts]
        for place, step, _ in _inside(part):
            if step not in fields:
                wrong = f"{shape.name} has no field {step!r}"
                yield document.fault((*place, "name"), wrong, nearest(step, fields))


def _vector(
    document: Document, place: Place, options: Mapping[str, Any], shape: _Shape
) -> Iterator[Fault]:
    if "dimensions" in options and shape.size != options["dimensions"]:
        wrong = f"dimensions is {options['dimensions']}, and the type is {shape.name}"
        yield document.fault((*place, "dimensions"), wrong, "write the type as FLOAT[n]")
    element = options.get("elementType")
    if element is not None and dict(shape.parts).get("child") not in _ELEMENTS.get(element, ()):
        wrong = f"elementType is {element}, and the type is {shape.name}"
        yield document.fault((*place, "elementType"), wrong, f"{element} is another type")
