"""What git says of a file: that it stands in a commit as it is, and who wrote it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from levada.adapters.git import ask
from levada.errors import DeclarationError, Fault, ToolError

__all__ = ["Committed", "committed", "lawful"]


@dataclass(frozen=True, slots=True)
class Committed:
    """A file as it stands in a commit, and everybody who wrote or committed it."""

    commit: str
    authors: tuple[str, ...]
    """Names and addresses."""


def committed(path: Path, root: Path, commit: str, *, law: Iterable[Path] = ()) -> Committed:
    """
    The file in this commit, and all who ever changed it, under its former names too.

    Of who changed it last nothing follows: a colleague's comma would make the author a reviewer.
    Raises DeclarationError where it is not in that commit as it is here, where a file that says
    who may approve is not, or where the history is cut, so that nobody can tell who wrote it.
    """
    shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)

    def refuse(wrong: str, right: str) -> DeclarationError:
        return DeclarationError((Fault(shown, 0, wrong, right),))

    if _git(root, "rev-parse", "--is-shallow-repository") == b"true\n":
        raise refuse("its history is cut", "fetch all of it: nobody can tell who wrote it")
    name = lawful(root, commit, law, of=shown)
    if _git(root, "show", f"{name}:./{shown}") != path.read_bytes():
        wrong = f"is not in {name[:12]} as it is here"
        raise refuse(wrong, "approve what was committed and reviewed")
    wrote = _wrote(root, name, shown)
    if not wrote:
        raise refuse("nobody can tell who wrote it", "commit it by itself, where git log finds it")
    return Committed(name, tuple(sorted(wrote)))


def lawful(root: Path, commit: str, law: Iterable[Path], *, of: str = "--commit") -> str:
    """
    The full name of a commit of the branch at hand in which these files stand as they are here.

    Raises DeclarationError where there is no such commit, or where a file that says what may be
    approved by whom is not as it was committed: what nobody reviewed entitles nobody.
    """

    def refuse(wrong: str, right: str) -> DeclarationError:
        return DeclarationError((Fault(of, 0, wrong, right),))

    if _git(root, "rev-parse", "--is-inside-work-tree") is None:
        raise refuse("is in no git repository", "approve where the change was merged")
    found = _git(
        root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}"
    )
    if found is None:
        raise refuse(f"no commit is called {commit!r}", "name the merged one with --commit")
    name = found.decode().strip()
    if _git(root, "merge-base", "--is-ancestor", name, "HEAD") is None:
        raise refuse(f"{name[:12]} is not in the branch at hand", "check out what was merged")
    for each in law:
        named = each.relative_to(root).as_posix()
        here = each.read_bytes() if each.is_file() else None
        for stands in (name, "HEAD"):  # HEAD too: an old commit's law is put back by one checkout
            if _git(root, "show", f"{stands}:./{named}") != here:
                wrong = f"is not in {stands[:12]} as it is here"
                right = "approve by the law that was committed and reviewed"
                raise DeclarationError((Fault(named, 0, wrong, right),))
    return name


def _wrote(root: Path, commit: str, shown: str) -> set[str]:
    """
    Everybody in the history of a file: of its name, and of the names that it was moved from.

    Git follows copies as well; those who wrote what it was copied from did not write it. Nor did
    who merged it, unless the merge is neither what the one side had nor what the other had.
    """
    people = "--format=%x00%an%n%ae%n%cn%n%ce"
    found: set[str] = set()
    for words in (("--full-history", "--no-merges"), (), ("--follow", "--name-status")):
        history = _git(root, "log", *words, people, commit, "--", shown) or b""
        for told in history.decode("utf-8", "replace").split("\0")[1:]:
            lines = told.splitlines()
            found |= {line.strip() for line in lines[:4] if line.strip()}
            if any(line.startswith("C") for line in lines[4:]):
                break
    return found


def _git(root: Path, *words: str) -> bytes | None:
    """What git answers, or None where it says no."""
    try:
        done = ask(root, *words)
    except ToolError:
        return None
    return done.stdout if done.returncode == 0 else None
