"""
What the jinja of a model says, read from its text and not from what it renders to.

A rendering shows one branch and no call; a finding that only it can see is lost as soon as a branch
is not taken. The text shows every `ref` and `source`, in any branch, tag or macro call, with its
place. Arguments that are no literal strings stay unknown: dbt's parse resolves those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

__all__ = ["Call", "Macro", "Read", "Tag", "line_of", "macros", "reads", "tags"]

_TOKEN = re.compile(
    r"""
    (?P<string>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")
    | (?P<name>[A-Za-z_]\w*)
    | (?P<number>\d+)
    | (?P<open>[(\[{])
    | (?P<close>[)\]}])
    | (?P<space>\s+)
    | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_OPEN = re.compile(r"\{[{%#]")
_RAW_ENDS = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_READS = ("ref", "source")


@dataclass(frozen=True, slots=True)
class Token:
    """A word of a tag, and where it stands in the text."""

    kind: str
    text: str
    start: int

    @property
    def stop(self) -> int:
        """Where it ends."""
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a call; `value` is None where it is neither a string nor a number."""

    keyword: str
    value: str | None
    start: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function called in a tag, from its name to its closing bracket."""

    name: str
    arguments: tuple[Argument, ...]
    start: int
    stop: int

    @property
    def plain(self) -> tuple[Argument, ...]:
        """The arguments without a keyword."""
        return tuple(argument for argument in self.arguments if not argument.keyword)


@dataclass(frozen=True, slots=True)
class Tag:
    """A `{{ }}` or `{% %}`, with the calls in it and every name in it."""

    start: int
    stop: int
    calls: tuple[Call, ...]
    names: tuple[str, ...]

    @property
    def reads(self) -> bool:
        """Whether it calls `ref` or `source`."""
        return any(call.name in _READS for call in self.calls)


@dataclass(frozen=True, slots=True)
class Macro:
    """A macro of a project, and where it stands."""

    name: str
    place: str
    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """A table that is read: by `ref`, or by `source`, whose `domain` is the source's name."""

    kind: str
    domain: str
    name: str
    major: int | None
    call: Call
    tag: Tag
    via: str = ""
    """The macro that reads it, where the model itself only calls that."""


def tags(text: str) -> tuple[Tag, ...]:
    """
    The tags of a text. What stands in comments of jinja and in `{% raw %}` is not read; what stands
    in comments of SQL is, since dbt reads it too.

    >>> [(c.name, [a.value for a in c.arguments])
    ...  for tag in tags("select 1 from {{ ref('fleet', 'planes') }} {# {{ ref('x') }} #}")
    ...  for c in tag.calls]
    [('ref', ['fleet', 'planes'])]
    """
    return tuple(_tags(text))


def reads(text: str, known: Mapping[str, Macro]) -> tuple[Read, ...]:
    """
    Every table that a model names literally: in its own text, at the call; in a macro of `known`
    that it reaches, at the call of that macro.

    >>> text = "{% if a %} {{ ref('flights') }} {% else %} {{ latest() }} {% endif %}"
    >>> latest = Macro("latest", "macros/latest.sql:1", tags("{{ source('landing', 'planes') }}"))
    >>> [(r.kind, r.domain, r.name, r.via) for r in reads(text, {"latest": latest})]
    [('ref', '', 'flights', ''), ('source', 'landing', 'planes', 'latest (macros/latest.sql:1)')]
    """
    found: list[Read] = []
    for tag in _tags(text):
        found += (read for call in tag.calls if (read := _read(call, tag)))
        for call in tag.calls:
            for macro in _reached(call.name, known):
                inner = (_read(each, tag) for its in macro.tags for each in its.calls)
                via = f"{macro.name} ({macro.place})"
                found += (replace(read, call=call, via=via) for read in inner if read)
    return tuple(found)


def macros(text: str, path: str) -> Iterator[Macro]:
    """
    The macros that a file defines.

    >>> [m.name for m in macros("{% macro a(x) %}{{ ref(x) }}{% endmacro %}", "macros/a.sql")]
    ['a']
    """
    name, start, inner = "", 0, list[Tag]()
    for tag in _tags(text):
        words = [word for word in tag.names if word not in ("do", "set")]
        if words[:1] == ["macro"] and tag.calls:
            name, start, inner = tag.calls[0].name, tag.start, []
        elif words[:1] == ["endmacro"]:
            yield Macro(name, f"{path}:{line_of(text, start)}", tuple(inner))
        else:
            inner.append(tag)


def line_of(text: str, at: int) -> int:
    """The line on which a character stands; the first is 1."""
    return text.count("\n", 0, at) + 1


def _reached(name: str, known: Mapping[str, Macro]) -> Iterator[Macro]:
    """The macro of this name and all that it calls."""
    seen: set[str] = set()
    todo = [name]
    while todo:
        name = todo.pop()
        if name in known and name not in seen:
            seen.add(name)
            yield known[name]
            todo += (call.name for tag in known[name].tags for call in tag.calls)


def _read(call: Call, tag: Tag) -> Read | None:
    values = [argument.value for argument in call.plain]
    if call.name not in _READS or not values or len(values) > 2 or None in values:
        return None
    words = [value for value in values if value is not None]
    if call.name == "source" and len(words) != 2:
        return None
    domain = words[0] if len(words) == 2 else ""
    return Read(call.name, domain, words[-1], _major(call), call, tag)


def _major(call: Call) -> int | None:
    for argument in call.arguments:
        if argument.keyword in ("v", "version") and argument.value is not None:
            number = argument.value.removeprefix("v").split(".")[0]
            return int(number) if number.isdecimal() else None
    return None


def _tags(text: str) -> Iterator[Tag]:
    at = 0
    while found := _OPEN.search(text, at):
        start, kind = found.start(), found[0][1]
        if kind == "#":
            end = text.find("#}", found.end())
            at = len(text) if end < 0 else end + 2
            continue
        words, at = _words(text, found.end(), "}}" if kind == "{" else "%}")
        names = tuple(word.text for word in words if word.kind == "name")
        if kind == "%" and names[:1] == ("raw",):
            ended = _RAW_ENDS.search(text, at)
            at = ended.end() if ended else len(text)
            continue
        yield Tag(start, at, tuple(_calls(words)), names)


def _words(text: str, at: int, end: str) -> tuple[list[Token], int]:
    """The words of a tag, and where the tag ends. Brackets are balanced, as jinja does it."""
    words: list[Token] = []
    depth = 0
    while at < len(text):
        if depth == 0 and text.startswith(end, at):
            return words, at + len(end)
        match = _TOKEN.match(text, at)
        if match is None:
            break
        kind, at = str(match.lastgroup), match.end()
        if kind != "space":
            words.append(Token(kind, match[0], match.start()))
        depth += {"open": 1, "close": -1}.get(kind, 0)
    return words, len(text)


def _calls(words: Sequence[Token]) -> Iterator[Call]:
    for number, word in enumerate(words[:-1]):
        if word.kind != "name" or words[number + 1].text != "(":
            continue
        before = [each.text for each in words[max(0, number - 2) : number]]
        if before[-1:] == ["."] and before != ["builtins", "."]:
            continue  # a method, or a macro of a package
        depth, parts = 0, list[list[Token]]([[]])
        for inner in words[number + 1 :]:
            depth += {"open": 1, "close": -1}.get(inner.kind, 0)
            if depth == 0:
                given = tuple(_argument(part) for part in parts if part)
                yield Call(word.text, given, word.start, inner.stop)
                break
            if depth == 1 and inner.text == ",":
                parts.append([])
            elif not (depth == 1 and inner.kind == "open" and not parts[0] and len(parts) == 1):
                parts[-1].append(inner)


def _argument(words: Sequence[Token]) -> Argument:
    keyword = ""
    if len(words) > 2 and words[0].kind == "name" and words[1].text == "=":
        keyword, words = words[0].text, words[2:]
    value = None
    if len(words) == 1 and words[0].kind == "string":
        value = words[0].text[1:-1]
    elif len(words) == 1 and words[0].kind == "number":
        value = words[0].text
    return Argument(keyword, value, words[0].start)
