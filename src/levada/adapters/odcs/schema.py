"""
A JSON schema made into functions, once: whether a value keeps it, and which keys it lists.

jsonschema walks the schema anew for every value, 20 ms for a contract; these functions need one. It
is asked only for what a value breaks, and for keywords that are not known here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["Schema"]

Test = Callable[[Any], bool]

_SAID = frozenset(
    (
        *("$comment", "$defs", "$id", "$schema", "default", "definitions", "deprecated"),
        *("description", "else", "examples", "format", "then", "title", "unevaluatedProperties"),
    )
)
"""What refuses nothing by itself: words for people, and what other keywords refer to."""


class Schema:
    """
    A schema with its subschemas, by the rules of draft 2019-09.

    >>> schema = Schema({"required": ["id"], "properties": {"id": {"minimum": 1}}})
    >>> schema.valid({"id": 1}), schema.valid({"id": 0}), schema.valid({})
    (True, False, False)
    >>> list(schema.keys(schema.root, {"id": 1}))
    ['id']
    """

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.root = root
        self._tests: dict[int, Test] = {}
        self._parts: dict[int, tuple[tuple[tuple[Test, ...], Any], ...]] = {}
        self._plain: dict[int, Mapping[str, Any]] = {}

    def valid(self, value: object) -> bool:
        """Whether a value keeps the schema."""
        return self._test(self.root)(value)

    def keys(self, schema: Any, value: Any) -> Mapping[str, Any]:
        """The keys that a schema, or a part of it that concerns this value, lists; with schemas."""
        plain = self._plain.get(id(schema))
        if plain is not None:
            return plain
        known: dict[str, Any] = {}
        always = True
        for conditions, part in self._all(schema):
            always = always and not conditions
            types = part.get("type", "object")
            if (types == "object" or "object" in types) and all(c(value) for c in conditions):
                for key, inner in part.get("properties", {}).items():
                    known.setdefault(key, inner)
        if always:
            self._plain[id(schema)] = known
        return known

    def items(self, schema: Any, value: Any) -> Any:
        """The schema of the entries of a list; None where there is none."""
        for conditions, part in self._all(schema):
            if isinstance(part.get("items"), dict) and all(c(value) for c in conditions):
                return part["items"]
        return None

    def _all(self, schema: Any) -> tuple[tuple[tuple[Test, ...], Any], ...]:
        """A schema and every schema it brings in, each with what must hold for it to concern."""
        found = self._parts.get(id(schema))
        if found is None:
            found = self._parts[id(schema)] = tuple(self._brought(schema, ()))
        return found

    def _brought(
        self, schema: Any, conditions: tuple[Test, ...]
    ) -> Iterator[tuple[tuple[Test, ...], Any]]:
        if not isinstance(schema, dict):
            return
        yield conditions, schema
        if "$ref" in schema:
            yield from self._brought(self._resolved(schema["$ref"]), conditions)
        for word in ("allOf", "oneOf", "anyOf"):
            for part in schema.get(word, ()):
                yield from self._brought(part, conditions)
        if "if" in schema:
            yield from self._brought(schema.get("then"), (*conditions, self._test(schema["if"])))

    def _resolved(self, reference: str) -> Any:
        steps = reference.split("/")[1:]
        return functools.reduce(lambda at, step: at[step], steps, self.root)

    def _test(self, schema: Any) -> Test:
        """The function of a subschema; made once, so that schemas may refer to themselves."""
        if isinstance(schema, bool):
            return lambda _: schema
        if id(schema) not in self._tests:
            later: list[Test] = []
            self._tests[id(schema)] = lambda value: later[0](value)  # noqa: PLW0108 - not yet made
            later.append(self._made(schema))
            self._tests[id(schema)] = later[0]
        return self._tests[id(schema)]

    def _made(self, schema: Mapping[str, Any]) -> Test:
        tests: list[Test] = []
        for word, wanted in schema.items():
            if word in _SAID:
                continue
            make = getattr(self, f"_on_{word.removeprefix('$')}", None)
            if make is None:
                return self._by_jsonschema(schema)
            tests.append(make(wanted, schema))
        if len(tests) == 1:
            return tests[0]
        return lambda value: all(test(value) for test in tests)

    def _by_jsonschema(self, schema: Mapping[str, Any]) -> Test:
        from jsonschema import Draft201909Validator

        validator = Draft201909Validator(self.root).evolve(schema=schema)
        return lambda value: bool(validator.is_valid(value))

    # One method a keyword: what it wants, and the schema around it.

    def _on_ref(self, wanted: str, _: Any) -> Test:
        return self._test(self._resolved(wanted))

    def _on_type(self, wanted: str | list[str], _: Any) -> Test:
        tests = [_TYPES[word] for word in ([wanted] if isinstance(wanted, str) else wanted)]
        return tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)

    def _on_enum(self, wanted: list[Any], _: Any) -> Test:
        return lambda value: any(_same(value, each) for each in wanted)

    def _on_const(self, wanted: Any, _: Any) -> Test:
        return lambda value: _same(value, wanted)

    def _on_properties(self, wanted: Mapping[str, Any], _: Any) -> Test:
        tests = {key: self._test(inner) for key, inner in wanted.items()}

        def keeps(value: Any) -> bool:
            if not isinstance(value, dict):
                return True
            return all(tests[key](inner) for key, inner in value.items() if key in tests)

        return keeps

    def _on_additionalProperties(self, wanted: Any, schema: Any) -> Test:  # noqa: N802
        listed, rest = frozenset(schema.get("properties", ())), self._test(wanted)
        if "patternProperties" in schema:
            return self._by_jsonschema(schema)

        def keeps(value: Any) -> bool:
            if not isinstance(value, dict):
                return True
            return all(rest(inner) for key, inner in value.items() if key not in listed)

        return keeps

    def _on_required(self, wanted: list[str], _: Any) -> Test:
        keys = frozenset(wanted)
        return lambda value: not isinstance(value, dict) or keys <= value.keys()

    def _on_items(self, wanted: Any, schema: Any) -> Test:
        if isinstance(wanted, list):
            return self._by_jsonschema(schema)
        test = self._test(wanted)
        return lambda value: not isinstance(value, list) or all(map(test, value))

    def _on_minItems(self, wanted: int, _: Any) -> Test:  # noqa: N802
        return lambda value: not isinstance(value, list) or len(value) >= wanted

    def _on_maxItems(self, wanted: int, _: Any) -> Test:  # noqa: N802
        return lambda value: not isinstance(value, list) or len(value) <= wanted

    def _on_uniqueItems(self, wanted: bool, _: Any) -> Test:  # noqa: N802
        def keeps(value: Any) -> bool:
            if not wanted or not isinstance(value, list):
                return True
            return not any(_same(a, b) for n, a in enumerate(value) for b in value[:n])

        return keeps

    def _on_pattern(self, wanted: str, _: Any) -> Test:
        form = re.compile(wanted)
        return lambda value: not isinstance(value, str) or form.search(value) is not None

    def _on_minimum(self, wanted: float, _: Any) -> Test:
        return lambda value: not _number(value) or value >= wanted

    def _on_maximum(self, wanted: float, _: Any) -> Test:
        return lambda value: not _number(value) or value <= wanted

    def _on_exclusiveMinimum(self, wanted: float, _: Any) -> Test:  # noqa: N802
        return lambda value: not _number(value) or value > wanted

    def _on_allOf(self, wanted: list[Any], _: Any) -> Test:  # noqa: N802
        tests = [self._test(part) for part in wanted]
        return lambda value: all(test(value) for test in tests)

    def _on_anyOf(self, wanted: list[Any], _: Any) -> Test:  # noqa: N802
        tests = [self._test(part) for part in wanted]
        return lambda value: any(test(value) for test in tests)

    def _on_oneOf(self, wanted: list[Any], _: Any) -> Test:  # noqa: N802
        tests = [self._test(part) for part in wanted]
        return lambda value: sum(test(value) for test in tests) == 1

    def _on_not(self, wanted: Any, _: Any) -> Test:
        test = self._test(wanted)
        return lambda value: not test(value)

    def _on_if(self, wanted: Any, schema: Any) -> Test:
        test = self._test(wanted)
        yes, no = self._test(schema.get("then", True)), self._test(schema.get("else", True))
        return lambda value: yes(value) if test(value) else no(value)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(one: Any, other: Any) -> bool:
    """
    Equal as JSON is: true is not 1.

    >>> _same(1, 1.0), _same(True, 1), _same([{"a": 1}], [{"a": 1}])
    (True, False, True)
    """
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


_TYPES: Mapping[str, Test] = {
    "array": lambda value: isinstance(value, list),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _number(value) and value == value // 1,
    "null": lambda value: value is None,
    "number": _number,
    "object": lambda value: isinstance(value, dict),
    "string": lambda value: isinstance(value, str),
}
