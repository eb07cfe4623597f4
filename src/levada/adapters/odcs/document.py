"""
An ODCS file as plain values that know their lines, held against the standard's JSON schema.

The schema leaves some objects open; a key that it does not list is a fault everywhere, because a
misspelt promise would otherwise promise nothing.

A value that the schema refuses does not hide what else is wrong: the rest of the document is read
with `Document.guard` around every part of it.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterator
from typing import Any

from levada.adapters.documents import Document, Place
from levada.adapters.odcs.schema import Schema
from levada.adapters.odcs.words import Rank, Told, name, told
from levada.errors import Fault
from levada.settings import nearest

__all__ = ["VERSIONS", "schema_faults", "unknown_keys"]

VERSIONS = ("v3.2.0", "v3.1.0")

_SINCE_3_2 = (
    ("properties", "context"),
    ("$defs", "CustomProperty", "properties", "vendor"),
    ("$defs", "RelationshipBase", "properties", "id"),
    ("$defs", "SchemaBaseProperty", "properties", "enum"),
    ("$defs", "SchemaBaseProperty", "properties", "semanticType"),
    ("$defs", "SchemaElement", "properties", "deprecated"),
    ("$defs", "SchemaElement", "properties", "synonyms"),
    ("$defs", "SchemaObject", "properties", "context"),
    ("$defs", "ServiceLevelAgreementProperty", "properties", "authoritativeDefinitions"),
    ("$defs", "ServiceLevelAgreementProperty", "properties", "customProperties"),
)
"""The library ships the newest schema only; without these keys it is that of 3.1."""


# The schema


@functools.cache
def _schema(version: str) -> Schema:
    from importlib import resources

    # The model class would do, but importing pydantic's models costs ten times as much.
    text = (resources.files("open_data_contract_standard") / "schema.json").read_text("utf-8")
    schema = json.loads(text, object_pairs_hook=_open)
    schema["properties"]["description"]["additionalProperties"] = False
    for branch in schema["$defs"]["SchemaBaseProperty"]["allOf"]:
        if "if" in branch:  # as published, a column without logicalType is asked to be a map too
            branch["if"] = {"allOf": [branch["if"], {"required": ["logicalType"]}]}
    library = schema["$defs"]["DataQuality"]["allOf"][0]
    library["if"] = {"anyOf": [{"properties": {"type": {"const": "library"}}}, library["if"]]}
    if version == "v3.1.0":
        schema = copy.deepcopy(schema)
        for *above, key in _SINCE_3_2:
            holder = schema
            for step in above:
                holder = holder[step]
            holder.pop(key, None)
        words = schema["$defs"]["SchemaBaseProperty"]["properties"]["logicalType"]["enum"]
        words[:] = [word for word in words if word not in ("map", "vector")]
    return Schema(schema)


def _open(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Drop what costs half of validation: `unknown_keys` finds unlisted keys, with the nearest."""
    return {key: value for key, value in pairs if key != "unevaluatedProperties"}


def schema_faults(document: Document) -> tuple[Fault, ...]:
    """Every way in which a document breaks its schema; the values that do so become refused."""
    said = document.value.get("apiVersion")
    if said not in VERSIONS:
        wrong = "is missing" if said is None else f"{said!r} is not read"
        right = f"write {VERSIONS[0]} or {VERSIONS[1]}"
        fault = document.fault(("apiVersion",), f"apiVersion {wrong}", right)
        document.refused["apiVersion",] = fault
    schema = _schema(said if said in VERSIONS else VERSIONS[0])
    unknown = tuple(unknown_keys(document, schema, schema.root, document.value, ()))
    broken = [] if schema.valid(document.value) else _broken(document, schema)
    for each in sorted(broken, key=lambda each: each.rank):
        if each.rank is not Rank.VAGUE or not document.torn(each.refused):
            fault = Fault(document.path, document.line(each.place), each.wrong, each.right)
            document.refused.setdefault(each.refused, fault)
    # Which keys there are may hang on a `type`: where that is refused nobody can tell.
    strange = (f for place, f in unknown if (*place[:-1], "type") not in document.refused)
    return tuple(dict.fromkeys((*strange, *document.refused.values())))


def _broken(document: Document, schema: Schema) -> list[Told]:
    from jsonschema import Draft201909Validator

    errors = Draft201909Validator(schema.root).iter_errors(document.value)
    return [each for error in errors for each in told(error)]


def unknown_keys(
    document: Document, schema: Schema, part: Any, value: Any, place: Place
) -> Iterator[tuple[Place, Fault]]:
    """Keys that no part of a schema lists, found by walking value and schema together."""
    if isinstance(value, dict):
        known = schema.keys(part, value)
        for key, inner in value.items():
            if key in known:
                yield from unknown_keys(document, schema, known[key], inner, (*place, key))
            elif known:
                wrong = f"unknown key {key!r}" + (f" in {name(place)}" if place else "")
                at = (*place, key)
                yield at, document.fault(at, wrong, nearest(str(key), known))
    elif isinstance(value, list) and (items := schema.items(part, value)) is not None:
        for index, inner in enumerate(value):
            yield from unknown_keys(document, schema, items, inner, (*place, index))
