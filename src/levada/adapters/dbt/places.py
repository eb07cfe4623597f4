"""Where in a YAML of dbt a value stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["line_at"]


def line_at(path: Path, steps: Sequence[str | int], *, exact: bool = False) -> int:
    """
    The line of a value in a YAML; entries of lists are found by number and by `name`. If it is not
    there: the line of what stands around it, or 0 where it must be `exact`.
    """
    import yaml

    try:
        node: Any = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, yaml.YAMLError):
        return 0
    line = 0
    for step in steps:
        found = [(mark, value) for key, mark, value in _inner(node) if key == step]
        if not found:
            return 0 if exact else line
        mark, node = found[0]
        line = mark.start_mark.line + 1
    return line


def _inner(node: Any) -> Iterator[tuple[str | int, Any, Any]]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        yield from ((key.value, key, value) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        for number, entry in enumerate(node.value):
            yield number, entry, entry
            named = (value.value for key, _, value in _inner(entry) if key == "name")
            yield from ((name, entry, entry) for name in named)
