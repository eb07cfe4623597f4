"""
YAML by the rules of YAML 1.2, as values that know their lines.

Dates stay strings, `no` is a word and `010` is not eight. What makes a file say something else
than it shows is a fault: a key said twice, an alias, a tag, a number that no column holds. A value
with a fault does not hide what else is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from levada.errors import Fault

__all__ = ["Place", "Source", "parse"]

Place = tuple[str | int, ...]
"""Keys and indexes from the top of a document to a value: ("schema", 0, "name")."""

_DEEPEST = 50
_DIGITS = 40
"""Of a whole number: DuckDB's HUGEINT has 39."""

_FORMS = {
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    "float": (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?)", "-+.0123456789"),
}
"""YAML 1.2's core words; every other plain scalar is a string."""
_TAG = "tag:yaml.org,2002:"
_STR, _MAP, _SEQ = f"{_TAG}str", f"{_TAG}map", f"{_TAG}seq"
_UNTAGGED = "write the plain value"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Composes nodes; values are made here, not by its constructors."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _kind, (_form, _first) in _FORMS.items():
    _firsts = ["" if letter == "\0" else letter for letter in _first]
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_form})$"), _firsts)


@dataclass
class Source:
    """The values of a file, where each stands, and the faults of those that cannot be read."""

    path: str
    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    refused: dict[Place, Fault] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def parse(
    path: str, text: str, *, strict: bool = True, numbered: Collection[Place] = ()
) -> tuple[Source | None, tuple[Fault, ...]]:
    r"""
    Read YAML into values with lines; what is no YAML at all has one fault.

    What is not `strict` belongs to another tool, which reads aliases, merges and keys of any kind.
    The keys of a mapping are words, in the `numbered` ones whole numbers too. The places of those
    are found by their digits.

    >>> source, _ = parse("a.yaml", "{id: a, when: 2013-01-01}")
    >>> source.value, source.lines["when",]
    ({'id': 'a', 'when': '2013-01-01'}, 1)
    >>> source, faults = parse("a.yaml", "a: &x 1\nb: *x")
    >>> str(faults[0])
    "a.yaml:2: b is the alias '*x', which is not read; write its words out"
    >>> parse("a.yaml", "tiers: {1: high}", numbered=[("tiers",)])[0].value
    {'tiers': {1: 'high'}}
    """
    if strange := tuple(_unprintable(path, text)):
        return None, strange
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        return None, (_no_yaml(path, text, error),)
    except RecursionError:
        return None, (Fault(path, 0, "is no YAML: it is nested too deep"),)
    finally:
        loader.dispose()
    reading = _Reading(Source(path), text, strict, numbered)
    try:
        reading.source.value = None if node is None else reading.read(node, ())
    except _TooDeepError as error:
        return None, (Fault(path, error.line, "is no YAML: it is nested too deep"),)
    source = reading.source
    return source, (*source.faults, *source.refused.values())


def _unprintable(path: str, text: str) -> Iterator[Fault]:
    for found in yaml.reader.Reader.NON_PRINTABLE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Fault(path, line, f"holds the character U+{ord(found[0]):04X}", "remove it")


def _no_yaml(path: str, text: str, error: yaml.MarkedYAMLError) -> Fault:
    mark = error.problem_mark or error.context_mark
    problem, right = error.problem or str(error), ""
    line = mark.line if mark else 0
    shown = (text.splitlines() or [""])[line : line + 1]
    if mark and shown and shown[0][mark.column : mark.column + 1] == "\t":
        problem, right = "a tab stands where only spaces may", "indent with spaces"
    elif "another document" in problem:
        problem, right = "a second document begins", "one file holds one document"
    elif "Unicode character escape" in problem:
        problem, right = "it holds half a character", "write the character itself"
    elif "nesting" in problem:
        problem = "it is nested too deep"
    return Fault(path, line + 1 if mark else 0, f"is no YAML: {problem}", right)


class _TooDeepError(Exception):
    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


@dataclass
class _Reading:
    """
    One walk over the nodes of a file, in the order of its text.

    A node that is met again stands for an alias. It is not walked a second time, so that a small
    file stays small.
    """

    source: Source
    text: str
    strict: bool
    numbered: Collection[Place] = ()
    met: dict[int, Any] = field(default_factory=dict)
    aliases: Iterator[tuple[int, str]] | None = None

    def read(self, node: Any, place: Place, depth: int = 0) -> Any:
        """The value of a node; what is wrong with it is refused at its place."""
        line = node.start_mark.line + 1
        if depth > _DEEPEST:
            raise _TooDeepError(line)
        if id(node) in self.met:
            return self._again(node, place)
        self.met[id(node)] = None  # an alias inside of itself is nothing yet
        self.source.lines.setdefault(place, line)
        value: Any = None
        wrong = right = ""
        if isinstance(node, yaml.MappingNode) and node.tag == _MAP:
            value = self._mapping(node, place, depth + 1)
        elif isinstance(node, yaml.SequenceNode) and node.tag == _SEQ:
            value = [self.read(each, (*place, i), depth + 1) for i, each in enumerate(node.value)]
        elif isinstance(node, yaml.ScalarNode):
            value, wrong, right = _scalar(node.tag, node.value)
        else:
            wrong, right = _tagged(node.tag), _UNTAGGED
        if wrong:
            self._refuse(place, line, wrong, right)
        self.met[id(node)] = value
        return value

    def _again(self, node: Any, place: Place) -> Any:
        if not self.strict:
            return self.met[id(node)]
        line, anchor = self._alias()
        wrong = f"is the alias '*{anchor}', which is not read"
        self._refuse(place, line, wrong, "write its words out")
        return None

    def _alias(self) -> tuple[int, str]:
        """Line and anchor of the next alias, which its node does not know."""
        if self.aliases is None:
            events: Iterator[Any] = yaml.parse(self.text, Loader=_Loader)
            found: list[Any] = [e for e in events if isinstance(e, yaml.AliasEvent)]
            self.aliases = iter([(each.start_mark.line + 1, each.anchor or "") for each in found])
        return next(self.aliases, (0, "?"))

    def _mapping(self, node: Any, place: Place, depth: int) -> dict[str | int, Any]:
        found: dict[str | int, Any] = {}
        merged: dict[str | int, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            where = (*place, str(key.value))
            said = self._key(key, numbered=place in self.numbered)
            if said is None:
                self.read(value, where, depth)  # what is wrong in it is told too
                continue
            if said in found:
                self._fault(line, f"{said!r} is said twice", "say it once")
            self.source.lines[where] = line
            found[said] = self.read(value, where, depth)
            if said == "<<" and not self.strict:
                shared = found.pop(said)
                for each in reversed(shared if isinstance(shared, list) else [shared]):
                    merged |= each if isinstance(each, dict) else {}
        return merged | found

    def _key(self, key: Any, *, numbered: bool) -> str | int | None:
        """A word, or where keys are numbered a whole number too; None is a fault."""
        if not self.strict:
            return str(key.value)
        line = key.start_mark.line + 1
        if id(key) in self.met:
            line, anchor = self._alias()
            self._fault(line, f"the key is the alias '*{anchor}'", "write a word")
            return None
        self.met[id(key)] = None
        plain = isinstance(key, yaml.ScalarNode)
        value, wrong, _ = _scalar(key.tag, key.value) if plain else (None, "is no word", "")
        if not wrong and (isinstance(value, str) or (numbered and type(value) is int)):
            return value
        shown = repr(key.value) if plain else "of several words"
        kind, right = ("number", "write 1, or a word") if numbered else ("text", "write a word")
        self._fault(line, f"the key {shown} is no {kind}", right)
        return None

    def _fault(self, line: int, wrong: str, right: str) -> None:
        self.source.faults.append(Fault(self.source.path, line, wrong, right))

    def _refuse(self, place: Place, line: int, wrong: str, right: str) -> None:
        text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
        what = text.lstrip(".") or "the file"
        self.source.lines[place] = line
        self.source.refused[place] = Fault(self.source.path, line, f"{what} {wrong}", right)


def _tagged(tag: str) -> str:
    return f"has the tag {tag.replace(_TAG, '!!')!r}, which is not read"


def _scalar(tag: str, said: str) -> tuple[Any, str, str]:
    """A scalar's value, or what is wrong with it and what would be right."""
    kind = tag.removeprefix(_TAG)
    wrong, right = "", ""
    value: Any = None
    if kind == "str":
        value = said
        if any("\ud800" <= letter <= "\udfff" for letter in said):
            value, wrong, right = None, "holds half a character", "write the character itself"
    elif kind not in _FORMS or not re.fullmatch(_FORMS[kind][0], said):
        wrong, right = _tagged(tag), _UNTAGGED
    elif kind == "int" and len(said) <= _DIGITS:
        value = int(said)
    elif kind == "float" and math.isfinite(float(said)):
        value = float(said)
    elif kind == "bool":
        value = said.lower() == "true"
    elif kind != "null":
        wrong, right = "is a number that is too large", "write one that a column could hold"
    return value, wrong, right
