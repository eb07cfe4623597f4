"""The schema made into functions judges as jsonschema does, and lists the same keys."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft201909Validator

from levada.adapters.documents import read
from levada.adapters.odcs.document import _schema
from levada.adapters.odcs.schema import Schema

ROOT = Path(__file__).parents[2]
VALUES: tuple[Any, ...] = (None, True, 1, 1.0, -1, "", "x", [], ["x", "x"], {}, {"name": "x"})


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    inner: dict[Any, Any] = value if isinstance(value, dict) else {}
    if isinstance(value, list):
        inner = dict(enumerate(value))
    for key, each in inner.items():
        yield from places(each, (*above, key))


def mutated(value: Any, dice: random.Random) -> Any:
    """The document with one value replaced, removed or given an unknown key."""
    changed = copy.deepcopy(value)
    *way, last = dice.choice([place for place in places(value) if place])
    holder = changed
    for step in way:
        holder = holder[step]
    match dice.randrange(3):
        case 0:
            del holder[last]
        case 1:
            holder[last] = copy.deepcopy(dice.choice(VALUES))
        case _ if isinstance(holder, dict):
            holder[dice.choice(["bogus", "enum", "quality", "type", "mustBe"])] = dice.choice(
                VALUES
            )
    return changed


@pytest.mark.parametrize("version", ["v3.2.0", "v3.1.0"])
def test_it_judges_as_jsonschema_does(version: str) -> None:
    schema, dice = _schema(version), random.Random(11)
    oracle = Draft201909Validator(schema.root)
    paths = sorted(ROOT.glob("contracts/*/*.odcs.yaml"))
    documents = [read(path.name, path.read_text())[0] for path in paths]
    sound = [document.value for document in documents if document]
    assert all(schema.valid(value) for value in sound)

    verdicts = []
    for value in sound * 3:
        changed = mutated(value, dice)
        verdicts.append(schema.valid(changed))
        assert verdicts[-1] == oracle.is_valid(changed), changed

    assert {True, False} == set(verdicts)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer"},
        {"type": ["number", "null"]},
        {"const": 1},
        {"enum": ["x", True]},
        {"uniqueItems": True},
        {"minItems": 1, "items": {"type": "string"}},
        {"required": ["name"], "properties": {"name": {"pattern": "^x$"}}},
        {"additionalProperties": False, "properties": {"a": {}}},
        {"if": {"type": "object"}, "then": {"required": ["name"]}, "else": {"type": "string"}},
        {"oneOf": [{"type": "number"}, {"const": 1}]},
        {"anyOf": [{"minimum": 1}, {"type": "null"}]},
        {"not": {"maximum": 0}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"exclusiveMinimum": 0}]}}},
        {"minProperties": 1},
    ],
)
def test_every_keyword_and_one_that_it_does_not_know(schema: dict[str, Any], value: Any) -> None:
    assert Schema(schema).valid(value) == Draft201909Validator(schema).is_valid(value)
