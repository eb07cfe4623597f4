"""Git, read only: which commit a change starts from, what differs, and its files in a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from levada.errors import DeclarationError, Fault, ToolError
from levada.settings import nearest

__all__ = ["Base", "Repository", "ask"]

_FROM_OUTSIDE = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_PREFIX")
"""What a hook sets for its own commands."""


@dataclass(frozen=True, slots=True)
class Base:
    """Where a change starts: `commit` is the newest that it shares with the named one, `tip`."""

    name: str
    commit: str
    tip: str


@dataclass(frozen=True, slots=True)
class Repository:
    """The repository of a mesh; `within` is the mesh's folder in it, with a slash, or empty."""

    top: Path
    within: str

    @classmethod
    def of(cls, root: Path) -> Repository:
        """The repository that a mesh lies in. Raises DeclarationError if there is none."""
        try:
            top = Path(_git(root, "rev-parse", "--show-toplevel").strip()).resolve()
        except ToolError as error:
            right = "make it one: git init"
            raise _fault(f"{root} is in no git repository", right) from error
        within = root.resolve().relative_to(top).as_posix()
        return cls(top, "" if within == "." else f"{within}/")

    def base(self, name: str) -> Base:
        """The commit that a change starts from. Raises DeclarationError."""
        tip = self._commit(name)
        if tip is None:
            known = _git(self.top, "for-each-ref", "--format=%(refname:short)").split()
            right = nearest(name, known) if known else "nothing is committed yet"
            raise _fault(f"no commit is called {name!r}", right)
        if self._commit("HEAD") is None:
            raise _fault("nothing is committed here yet", "commit, then review")
        try:
            commit = _git(self.top, "merge-base", "HEAD", tip).strip()
        except ToolError as error:
            wrong = f"HEAD and {name} have no commit in common"
            raise _fault(wrong, "fetch the whole history (git fetch --unshallow)") from error
        return Base(name, commit, tip)

    def _commit(self, name: str) -> str | None:
        try:
            words = ("--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
            return _git(self.top, "rev-parse", *words).strip()
        except ToolError:
            return None

    def differing(self, commit: str) -> tuple[str, ...]:
        """Every file that differs from a commit, uncommitted and new ones too, from the top."""
        place = self.within or "."
        changed = _git(self.top, "diff", "--name-only", "--no-renames", "-z", commit, "--", place)
        new = _git(self.top, "ls-files", "--others", "--exclude-standard", "-z", "--", place)
        return tuple(sorted({path for path in (changed + new).split("\0") if path}))

    def extract(self, commit: str, names: Sequence[str], folder: Path) -> None:
        """
        Put these files and folders of the mesh, as they were, into a folder that is not there yet.

        It appears whole or not at all. Nothing of the repository is touched, its index included.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{os.getpid()}-", dir=folder.parent))
        try:
            index = {"GIT_INDEX_FILE": str(beside / ".index")}
            _git(self.top, "read-tree", f"{commit}:{self.within.rstrip('/')}", **index)
            listed = _git(self.top, "ls-files", "-z", "--", *names, **index)
            words = ("checkout-index", "--force", f"--prefix={beside}/", "-z", "--stdin")
            _git(self.top, *words, said=listed, **index)
            (beside / ".index").unlink(missing_ok=True)
            if not folder.exists():
                beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def text(self, commit: str, path: str) -> str | None:
        """A file as it was, by its path from the top; None if there was none. DeclarationError."""
        done = ask(self.top, "show", f"{commit}:{path}")
        if done.returncode:
            return None
        try:
            return done.stdout.decode("utf-8")
        except UnicodeDecodeError as error:
            line = done.stdout[: error.start].count(b"\n") + 1
            place = f"{commit[:12]}:{path}"
            fault = Fault(place, line, "is not UTF-8", "write it anew as UTF-8")
            raise DeclarationError((fault,)) from error

    def has(self, commit: str, name: str) -> bool:
        """Whether the mesh had this file then."""
        try:
            _git(self.top, "cat-file", "-e", f"{commit}:{self.within}{name}")
        except ToolError:
            return False
        return True


def _fault(wrong: str, right: str) -> DeclarationError:
    return DeclarationError((Fault("--base", 0, wrong, right),))


def ask(
    folder: Path, *words: str, said: str = "", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """What git answers in this folder, whatever a hook around us has set. Raises ToolError."""
    own = {k: v for k, v in os.environ.items() if k not in _FROM_OUTSIDE}
    try:
        return subprocess.run(
            ["git", "-c", "core.quotePath=false", *words],
            cwd=folder,
            env={**own, **environment},
            input=os.fsencode(said),
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise ToolError("git", "is not installed") from error


def _git(folder: Path, *words: str, said: str = "", **environment: str) -> str:
    """What git answers as text, where it says yes. Raises ToolError."""
    done = ask(folder, *words, said=said, **environment)
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip()
        raise ToolError("git", why or f"{words[0]} ended with {done.returncode}")
    return os.fsdecode(done.stdout)
