"""
An ODCS file as plain values that know their lines, held against the standard's JSON schema.

YAML is read by the rules of YAML 1.2: dates stay strings, `no` is a word and `010` is not eight; a
key said twice is a fault. The schema leaves some objects open; a key that it does not list is a
fault everywhere, because a misspelt promise would otherwise promise nothing.

A value that the schema refuses does not hide what else is wrong: the rest of the document is read
with `Document.guard` around every part of it.
"""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import yaml

from levada.adapters.odcs.schema import Schema
from levada.adapters.odcs.words import Place, Rank, Told, name, told
from levada.errors import Fault
from levada.settings import nearest

__all__ = ["VERSIONS", "Document", "Place", "read", "schema_faults", "unknown_keys"]

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


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.2's core words for null, booleans and numbers; everything else is a string."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


_WORDS = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?)", "-+.0123456789"),
    ("merge", r"<<", "<"),
)
for _tag, _form, _first in _WORDS:
    _firsts = ["" if letter == "\0" else letter for letter in _first]
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_form})$"), _firsts
    )


@dataclass
class Document:
    """
    The values of one file, and where each stands. `path` is relative to the mesh.

    `refused` holds the fault of every value that the schema refuses, missing ones included.
    """

    path: str
    value: dict[str, Any]
    lines: Mapping[Place, int] = field(default_factory=dict)
    refused: dict[Place, Fault] = field(default_factory=dict)

    def line(self, place: Place) -> int:
        """The line of a value, or of the nearest value around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 0)

    def fault(self, place: Place, wrong: str, right: str = "") -> Fault:
        """A fault that stands at a value; of a refused value it is the one that refused it."""
        for size in range(len(place) + 1):
            if place[:size] in self.refused:
                return self.refused[place[:size]]
        return Fault(self.path, self.line(place), wrong, right)

    def torn(self, place: Place) -> bool:
        """Whether a value, or something inside it, is refused."""
        return any(refused[: len(place)] == place for refused in self.refused)

    def guard(self) -> AbstractContextManager[None]:
        """Around what reads a part: a document with refused values is read as far as it can be."""
        return suppress(Exception) if self.refused else nullcontext()


def read(path: str, text: str) -> tuple[Document | None, tuple[Fault, ...]]:
    """
    Read YAML into values with lines; what is no YAML at all has one fault.

    >>> document, _ = read("a.yaml", "{id: a, when: 2013-01-01}")
    >>> document.value, document.line(("when",))
    ({'id': 'a', 'when': '2013-01-01'}, 1)
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        lines: dict[Place, int] = {}
        faults = tuple(_mark(node, (), lines, path)) if node is not None else ()
        value = loader.construct_document(node) if node is not None else None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        return None, (Fault(path, mark.line + 1 if mark else 0, f"is no YAML: {problem}"),)
    finally:
        loader.dispose()
    if not isinstance(value, dict):
        return None, (Fault(path, 1, "holds no keys", "write an ODCS data contract"),)
    return Document(path, value, lines), faults


def _mark(node: Any, place: Place, lines: dict[Place, int], path: str) -> Iterator[Fault]:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                yield Fault(path, key.start_mark.line + 1, f"{name!r} is said twice", "say it once")
            seen.add(name)
            lines[(*place, name)] = key.start_mark.line + 1
            yield from _mark(value, (*place, name), lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _mark(value, (*place, index), lines, path)


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
