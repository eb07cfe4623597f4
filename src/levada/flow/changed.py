"""What changed since a commit, and which domains that concerns."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from levada.errors import DeclarationError, Fault
from levada.settings import Settings

__all__ = ["Changed", "changed_since"]

_MADE = ("target", "logs", "dbt_packages")
"""Folders of a dbt project that dbt makes."""
_WRITTEN = (".sql", ".yml", ".yaml", ".py", ".csv", ".md")
_WAIVERS = "contracts/governance/waivers/"


@dataclass(frozen=True, slots=True)
class Changed:
    """
    The changed files of a mesh, from its root, and the domains to look at: those that own one of
    the files, and those whose projects speak of a domain whose promises changed.
    """

    since: str
    paths: frozenset[str]
    domains: frozenset[str]

    def shows(self, fault: Fault, known: Collection[str]) -> bool:
        """Whether a fault is to be told: it is no file's of a domain that is left out."""
        kind, _, rest = fault.path.partition("/")
        owner = rest.partition("/")[0]
        return not (
            kind in ("contracts", "models") and owner in known and owner not in self.domains
        )


def changed_since(settings: Settings, ref: str) -> Changed:
    """
    The files that differ from a commit, uncommitted, untracked and deleted ones too. It may look at
    more than it must; it never leaves a changed file out. Raises DeclarationError.
    """
    root = settings.root
    if ref.startswith("-"):
        raise _refused(f"{ref!r} names no commit", "name a branch, a tag or a commit")
    _git(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", unknown=ref)
    differ = _git(
        *(root, "diff", "--name-only", "--no-renames", "--no-ext-diff", "--relative", "-z"),
        *("--ignore-submodules=none", ref, "--", "."),
    )
    # Ignored files too: they are read all the same, and git cannot tell when they changed.
    untracked = _git(root, "ls-files", "--others", "-z", "--", "contracts", "models", "levada.yaml")
    paths = frozenset(path for path in (*differ, *untracked) if not _made(path))
    return Changed(ref, paths, frozenset(_concerned(settings, paths)))


def _made(path: str) -> bool:
    parts = path.split("/")
    return parts[0] == "models" and len(parts) > 3 and parts[2] in _MADE[:2]


def _concerned(settings: Settings, paths: Collection[str]) -> Iterator[str]:
    promised: set[str] = set()
    for path in paths:
        kind, _, rest = path.partition("/")
        owner, inside, _ = rest.partition("/")
        if path.startswith(_WAIVERS):
            continue  # they are always read
        if kind in ("contracts", "models") and owner in settings.domains and inside:
            yield owner
            if kind == "contracts":
                promised.add(owner)
        elif kind in ("contracts", "models") or path == "levada.yaml":
            yield from settings.domains  # what belongs to nobody concerns everybody
            return
    if promised:
        names = re.compile(rf"\b({'|'.join(map(re.escape, sorted(promised)))})\b")
        for domain in settings.domains:
            if domain not in promised and _speaks(settings.root / "models" / domain, names):
                yield domain


def _speaks(project: Path, names: re.Pattern[str]) -> bool:
    """Whether a project's files speak of one of these domains, as whoever reads one must."""
    for path in project.rglob("*"):
        written = path.suffix in _WRITTEN and path.is_file()
        if written and names.search(path.read_text(encoding="utf-8", errors="replace")):
            return True
    return False


def _git(root: Path, *words: str, unknown: str = "") -> Sequence[str]:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words],
            check=False,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
        )
    except OSError as error:
        raise _refused(f"git cannot be run: {error.strerror}", "check without it") from None
    if done.returncode == 0:
        return [path for path in done.stdout.split("\0") if path]
    said = done.stderr.strip().splitlines()
    if "not a git repository" in done.stderr:
        raise _refused(f"{root} is in no git repository", "check without it")
    if unknown:
        right = "fetch it first, or name a branch, a tag or a commit"
        raise _refused(f"git knows no commit {unknown!r}", right)
    raise _refused(f"git {words[0]} failed: {said[-1] if said else done.returncode}", "")


def _refused(wrong: str, right: str) -> DeclarationError:
    return DeclarationError((Fault("--changed-since", 0, wrong, right),))
