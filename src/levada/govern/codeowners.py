"""CODEOWNERS: who owns a path, by the last pattern that matches it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["PLACES", "Rule", "owners", "rules"]

PLACES = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")
"""Where the file is looked for, in this order: the first that is there counts alone."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern and its owners; without owners, what it matches belongs to nobody."""

    pattern: str
    owners: tuple[str, ...]
    line: int

    def matches(self, path: str) -> bool:
        """Whether it matches a path, written from the top of the repository."""
        return re.fullmatch(_expression(self.pattern), path) is not None


def rules(text: str) -> tuple[Rule, ...]:
    r"""
    Every line that says who owns what. `\#` and `\ ` stand for themselves.

    >>> rules("* @all  # everything\n\n/docs/ @writers a@b.example\n")[1].owners
    ('@writers', 'a@b.example')
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = re.findall(r"(?:\\.|[^\s\\])+", re.sub(r"(^|\s)#.*", "", line))
        if words:
            pattern = words[0].replace("\\ ", " ").replace("\\#", "#")
            found.append(Rule(pattern, tuple(words[1:]), number))
    return tuple(found)


def owners(found: Sequence[Rule], path: str) -> tuple[str, ...]:
    r"""
    The owners of a path: those of the last rule that matches it; nobody where none does.

    >>> said = rules("* @all\n*.sql @sql\n/contracts/fleet/ @fleet\n/contracts/fleet/old/\n")
    >>> owners(said, "models/a.sql"), owners(said, "contracts/fleet/planes.yaml")
    (('@sql',), ('@fleet',))
    >>> owners(said, "contracts/fleet/old/x.yaml")
    ()
    """
    return next((rule.owners for rule in reversed(found) if rule.matches(path)), ())


def _expression(pattern: str) -> str:
    """
    A pattern as a regular expression over whole paths.

    One with a slash before its end is anchored at the top, any other matches at every depth; what
    names a folder holds everything in it, but a last `*` only the files beside it.
    """
    anchored = "/" in pattern.rstrip("/")
    body = pattern.strip("/")
    out = ""
    for piece in re.findall(r"/\*\*/|\*\*/|/\*\*|\*\*|\*|\?|[^*?/]+|/", body):
        out += {
            "/**/": "/(?:.*/)?",
            "**/": "(?:.*/)?",
            "/**": "/.*",
            "**": ".*",
            "*": "[^/]*",
            "?": "[^/]",
        }.get(piece, re.escape(piece))
    start = "" if anchored else "(?:.*/)?"
    if pattern.endswith("/"):
        return f"{start}{out}/.*"
    if body.endswith("/*") and anchored:
        return f"{start}{out}"
    return f"{start}{out}(?:/.*)?"
