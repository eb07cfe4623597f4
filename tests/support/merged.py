"""A workspace under git: what somebody wrote, and what was merged."""

from __future__ import annotations

import subprocess
from pathlib import Path

from workspace import Workspace

__all__ = ["approvers", "merge", "repository", "waiver"]

AUTHOR = "joe"


def repository(mesh: Workspace) -> None:
    """Put the workspace under git."""
    (mesh.root / ".gitignore").write_text(".levada/\nlanding/\n")
    _git(mesh.root, "init", "-q", "-b", "main")
    merge(mesh)


def merge(mesh: Workspace, author: str = AUTHOR) -> str:
    """Commit all that is there, written by somebody; the commit."""
    _git(mesh.root, "add", "-A")
    who = ("-c", f"user.name={author}", "-c", f"user.email={author}@mesh.example")
    _git(mesh.root, *who, "commit", "-q", "--allow-empty", "-m", "Change the mesh")
    return _git(mesh.root, "rev-parse", "HEAD").strip()


def approvers(mesh: Workspace, *said: str, limits: str = "{widest: 31d, longest: 90d}") -> None:
    """Entitle these, each as flow YAML."""
    path = mesh.root / "contracts" / "governance" / "approvers.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    people = "\n".join(f"  - {each}" for each in said)
    path.write_text(f"approvers:\n{people}\nwaivers: {limits}\n")


def waiver(mesh: Workspace, name: str, **said: str) -> Path:
    """Ask for a waiver, in a file that nobody has committed yet."""
    path = mesh.root / "contracts" / "governance" / "waivers" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key}: {value}\n" for key, value in said.items()))
    return path


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words], check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout
