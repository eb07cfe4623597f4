"""What the shipped JSON schema refuses of a batch's file, in words."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

from levada.adapters.documents import Place
from levada.settings import nearest
from levada.terms import RuleKind

__all__ = ["broken"]


def broken(value: object) -> Iterator[tuple[Place, str, str]]:
    """
    Where a file breaks the schema, what is wrong, and what would be right.

    >>> [wrong for _, wrong, _ in broken({"batch": "a"})][:2]
    ["'grain' is missing", "'owner' is missing"]
    """
    from jsonschema import Draft202012Validator

    for error in Draft202012Validator(_schema()).iter_errors(value):
        yield from _told(error, tuple(error.absolute_path))


@functools.cache
def _schema() -> Mapping[str, Any]:
    text = (resources.files(__package__) / "schema.json").read_text("utf-8")
    return dict(json.loads(text))


def _told(error: Any, place: Place) -> list[tuple[Place, str, str]]:
    """An error of the JSON schema in our words: where, what is wrong, what would be right."""
    at = f" in {'.'.join(str(p) for p in place)}" if place else ""
    value, wanted, kind = error.instance, error.validator_value, error.validator
    if kind == "additionalProperties" and wanted is False:
        known = list(error.schema["properties"])
        unknown = [key for key in value if key not in known]
        return [((*place, k), f"unknown key {k!r}", nearest(str(k), known)) for k in unknown]
    if kind == "required":
        missing = [key for key in wanted if key not in value]
        return [(place, f"{key!r} is missing{at}", _WANTED.get(key, "")) for key in missing]
    wrong, right = error.message.splitlines()[0][:120], ""
    if kind == "enum":
        wrong = f"{value!r} is none of the words here"
        right = nearest(str(value), [str(v) for v in wanted])
    elif kind == "pattern":
        wrong, right = f"{value!r} is not written as it should be", f"it must match {wanted}"
    elif kind in ("minProperties", "minItems", "minLength"):
        wrong, right = "nothing is said here", "fill it, or leave the key out"
    return [(place, wrong, right)]


_WANTED = {
    "batch": "batch: daily",
    "grain": "grain: day",
    "owner": "owner: the team that answers for what is found",
    "description": "say in a sentence what must hold",
    "rules": "rules: [{id: ..., kind: ..., description: ...}]",
    "kind": f"kind: {', '.join(kind.value for kind in RuleKind)}",
    "values": "values: {flights: count(*)}",
    "key": "key: [the columns that name a row]",
    "tolerance": "tolerance: {relative: 20%}",
    "between": "between: [0.95, 1.05]",
    "within": "within: 2h",
    "guards": "guards: the table that is withheld unless the rule passes",
}
