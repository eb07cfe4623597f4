"""
What dbt only warns of while it parses, and Levada refuses: words that concern nothing.

A model's YAML whose model is called otherwise says nothing of any model: its inputs would wait by
default, and nobody would know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from levada.adapters.dbt.invoke import inside, line_of
from levada.adapters.dbt.places import line_at
from levada.errors import Fault
from levada.settings import nearest

__all__ = ["Overheard"]

_VERSION = re.compile(r"(.+)_v(\w+)")
_FILES = {
    "models": (".sql", ".py"),
    "seeds": (".csv",),
    "snapshots": (".sql",),
    "analyses": (".sql",),
    "data_tests": (".sql",),
}


class Overheard:
    """Hears the events of a parse (it is dbt's listener), and tells the faults among them."""

    def __init__(self, root: Path, project_dir: Path) -> None:
        self._root = root
        self._folder = project_dir
        self._faults: dict[Fault, None] = {}

    def __call__(self, event: Any) -> None:
        """Hear one event of dbt."""
        tell = getattr(self, f"_on_{event.info.name}", None)
        if tell is not None:
            self._faults |= dict.fromkeys(tell(event.data))

    def faults(self) -> tuple[Fault, ...]:
        """What was heard; of several parses of the same project, once."""
        return tuple(self._faults)

    def _on_NoNodeForYamlKey(self, said: Any) -> Iterator[Fault]:  # noqa: N802 - dbt's name
        file, kind, name = self._folder / said.file_path, said.yaml_key, said.patch_name
        wrong, known = (
            f"{kind}: there is no {name!r} in this project",
            self._stems(_FILES.get(kind, ())),
        )
        right = nearest(name, known) if known else "it has none"
        line = line_at(file, [kind, name], exact=True)
        if not line and (version := _VERSION.fullmatch(name)):
            line = line_at(file, [kind, version[1]])
            right = f"make {name}.sql, or leave version {version[2]} out"
        yield self._fault(said.file_path, line, wrong, right)

    def _on_WrongResourceSchemaFile(self, said: Any) -> Iterator[Fault]:  # noqa: N802
        line = line_at(self._folder / said.file_path, [said.yaml_key, said.patch_name])
        wrong = f"{said.patch_name!r} is a {said.resource_type}, and stands under {said.yaml_key!r}"
        yield self._fault(said.file_path, line, wrong, f"move it to {said.plural_resource_type!r}")

    def _on_MacroNotFoundForPatch(self, said: Any) -> Iterator[Fault]:  # noqa: N802
        named = rf"(?m)^\s*(?:-\s+|-\s*\{{\s*)name:\s*['\"]?{said.patch_name}\b"
        for path in self._found((".yml", ".yaml")):
            if "macros:" in path.read_text("utf-8") and (
                line := line_of(path, named, pattern=True)
            ):
                wrong = f"macros: there is no {said.patch_name!r} in this project"
                yield Fault(inside(self._root, path), line, wrong, "name a macro, or leave it out")
                return

    def _on_UnusedResourceConfigPath(self, said: Any) -> Iterator[Fault]:  # noqa: N802
        for way in said.unused_config_paths:
            steps = way.split(".")
            folders = {path.name for path in self._folder.rglob("*") if path.is_dir()}
            known = folders | self._stems((".sql", ".py", ".csv")) | {self._folder.name}
            if steps[-1] in known:
                continue  # it is right, and has nothing in it yet
            line = line_at(self._folder / "dbt_project.yml", steps)
            right = nearest(steps[-1], known)
            yield self._fault("dbt_project.yml", line, f"{way} configures nothing", right)

    def _stems(self, suffixes: tuple[str, ...]) -> set[str]:
        return {path.stem for path in self._found(suffixes)}

    def _found(self, suffixes: tuple[str, ...]) -> list[Path]:
        aside = {"target", "dbt_packages", "logs"}
        return [
            path
            for path in sorted(self._folder.rglob("*"))
            if path.suffix in suffixes and not aside & set(path.relative_to(self._folder).parts)
        ]

    def _fault(self, path: str, line: int, wrong: str, right: str) -> Fault:
        return Fault(inside(self._root, self._folder / path), line, wrong, right)
