"""
Which models an earlier check linted without a fault, by all that decides what linting finds.

Beside the model that is: the settings above it, the macros of its project and those that settings
have loaded, what contracts promise, the names and layers of all models, and the versions of
SQLFluff and its plugins. Settings that name another path, from which jinja or Python is read, are
never relied on: what lies there is not looked at.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from levada.adapters.remembered import Memory, digest
from levada.adapters.sqlfluff import above, facts

__all__ = ["Sound"]


class Sound:
    """The models of some domains that need not be linted again, and those that must be."""

    def __init__(self, memory: Memory, root: Path, domains: Iterable[str]) -> None:
        self._memory, self._root = memory, root
        self._keys = _keys(root, domains)
        self._hashes = {
            domain: {
                path.relative_to(root).as_posix(): _hash(path)
                for path in facts.model_files(root, domain)
            }
            for domain in self._keys
        }
        self._sound = {domain: self._before(domain) for domain in self._keys}

    def unknown(self) -> tuple[Path, ...]:
        """The models to lint."""
        return tuple(
            self._root / path
            for domain, hashes in self._hashes.items()
            for path, told in hashes.items()
            if self._sound[domain].get(path) != told
        )

    def keep(self, faulty: Iterable[str]) -> None:
        """
        Keep those that were linted and are not among the faulty, unless they, or what else decides,
        changed since.
        """
        wrong = frozenset(faulty)
        changed: dict[str, dict[str, str]] = {}
        for domain, hashes in self._hashes.items():
            before = self._sound[domain]
            found = {
                path: told
                for path, told in hashes.items()
                if path not in wrong
                and (before.get(path) == told or _hash(self._root / path) == told)
            }
            if self._keys[domain] and found != before:
                changed[domain] = found
        now = _keys(self._root, changed) if changed else {}
        for domain, found in changed.items():
            if now[domain] == self._keys[domain]:
                self._memory.put(f"lint-{domain}", now[domain], found)

    def _before(self, domain: str) -> Mapping[str, str]:
        key = self._keys[domain]
        return (key and self._memory.get(f"lint-{domain}", key)) or {}


def _hash(path: Path) -> str:
    try:
        return digest([path.read_bytes()])
    except OSError:
        return ""


def _keys(root: Path, domains: Iterable[str]) -> dict[str, str]:
    """The key of each domain, by what lies there now."""
    facts.forget()
    known = facts.facts_of(root)
    mesh = digest(_mesh(known))
    return {domain: _key(known, domain, mesh) for domain in domains}


def _key(known: facts.Facts, domain: str, mesh: str) -> str:
    """One hash of what decides beside the models; empty where nobody can tell it all."""
    root, project = known.root, known.root / "models" / domain
    settings = {p: said for p in above.settings(root, domain) if (said := above.said(p))}
    loaded = [above.macro_files(path) for path in settings]
    if None in loaded:
        return ""
    parts: list[str | bytes] = [mesh, *sorted(known.packages(domain)), *_tools()]
    for path, said in settings.items():
        parts += [str(path), said]
    own = (path for path in sorted((project / "macros").rglob("*")) if path.is_file())
    for path in (*own, *(path for files in loaded for path in files or ())):
        parts += [str(path), path.read_bytes()]
    return digest(parts)


def _mesh(known: facts.Facts) -> Iterator[str]:
    for promise in known.promises:
        yield f"{promise.path} {promise.status} {known.grain(promise)}"
    for domain, models in sorted(known.models.items()):
        yield domain
        yield from (f"{name} {layer}" for name, layer in sorted(models.items()))


@functools.cache
def _tools() -> tuple[str | bytes, ...]:
    """SQLFluff, what it parses with and is plugged into it, and the defaults of our rules."""
    plugged = {
        f"{entry.value} {entry.dist.version if entry.dist else ''}"
        for entry in importlib.metadata.entry_points(group="sqlfluff")
    }
    defaults = Path(__file__).with_name("defaults.cfg").read_bytes()
    versions = (f"{name} {_version(name)}" for name in ("sqlfluff", "sqlfluffrs", "jinja2"))
    return (*versions, *sorted(plugged), defaults)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""  # SQLFluff parses without `sqlfluffrs`, too
