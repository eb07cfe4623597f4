"""Where in a YAML of dbt a value stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["line_at", "named", "source_tables"]


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


def named(path: Path) -> Iterator[tuple[tuple[str, ...], int]]:
    """Where every named entry of a YAML of dbt begins."""
    import yaml

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        document = yaml.compose(path.read_text(encoding="utf-8"), Loader=loader)
    except (OSError, yaml.YAMLError):
        return
    yield from _entries(document, ())


def source_tables(project_dir: Path) -> list[str]:
    """The sources that a project's YAML declares, as `source.table`."""
    found = {
        f"{steps[1]}.{steps[3]}"
        for kind in ("*.yml", "*.yaml")
        for path in project_dir.rglob(kind)
        for steps, _ in named(path)
        if steps[0] == "sources" and steps[2:3] == ("tables",) and len(steps) == 4
    }
    return sorted(found)


def _entries(node: Any, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    import yaml

    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if not isinstance(value, yaml.SequenceNode):
            continue
        for entry in value.value:
            pairs = entry.value if isinstance(entry, yaml.MappingNode) else ()
            name = next((v.value for k, v in pairs if k.value == "name"), None)
            if isinstance(name, str):
                names = (*above, key.value, name)
                yield names, entry.start_mark.line + 1
                yield from _entries(entry, names)
