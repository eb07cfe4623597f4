"""
Calls of a project's own macros, rendered as dbt would: with its arguments, and nothing of a run.

A macro that asks for what only dbt knows (`execute`, `target`, `var`) is not rendered here, nor one
that dbt's own tags surround.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.runtime import Macro
from jinja2.sandbox import SandboxedEnvironment

__all__ = ["Names", "Rendering"]

_PREFIX = "levada_read_"
_T = TypeVar("_T")


class Names:
    """A name of ours for each table that a model reads by `ref` or `source`."""

    def __init__(self) -> None:
        self.issued: set[str] = set()

    def new(self, *_said: Any, **_named: Any) -> str:
        """The next one; what was said is looked at elsewhere."""
        name = f"{_PREFIX}{len(self.issued)}_"
        self.issued.add(name)
        return name

    @staticmethod
    def within(text: str) -> bool:
        """Whether a text could be taken for one that has a name of ours."""
        return _PREFIX in text.lower()


class Rendering:
    """The macros of a project, as jinja reads them."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._jinja = SandboxedEnvironment(
            undefined=StrictUndefined, extensions=["jinja2.ext.do"], autoescape=False
        )
        sound = "\n".join(text for text in texts if self._reads(text))
        self._names = Names()
        self._calls: dict[str, Template] = {}
        self._macros: Mapping[str, Macro] = {}
        if not Names.within(sound):
            self._macros = self._of(sound)

    def of(self, call: str, names: Names) -> str | None:
        """What a call in a tag comes to; None where that cannot be told here."""
        self._names = names
        return _told(lambda: self._template(call).render(**self._known()))

    def _template(self, call: str) -> Template:
        """Compiled once: models of a project call alike."""
        if call not in self._calls:
            self._calls[call] = self._jinja.from_string(f"{{{{ {call} }}}}")
        return self._calls[call]

    def _of(self, text: str) -> Mapping[str, Macro]:
        made = _told(lambda: vars(self._jinja.from_string(text).make_module(self._builtins())))
        return {name: each for name, each in (made or {}).items() if isinstance(each, Macro)}

    def _known(self) -> dict[str, Any]:
        return {**self._builtins(), **self._macros}

    def _builtins(self) -> dict[str, Any]:
        read = self._read
        return {"ref": read, "source": read, "config": lambda *_, **__: ""}

    def _read(self, *said: Any, **named: Any) -> str:
        return self._names.new(*said, **named)

    def _reads(self, text: str) -> bool:
        try:
            self._jinja.parse(text)
        except TemplateError:
            return False
        return True


def _told(ask: Callable[[], _T]) -> _T | None:
    try:
        return ask()
    except Exception:  # whatever an author's jinja raises: SQLFluff and dbt tell it
        return None
