"""Documents that are followed word by word: every command prints what they show."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.prove]

ROOT = Path(__file__).parents[2]
BINARIES = Path(sys.executable).parent
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"`([\w./]+\.(?:sql|yml|yaml))`[^`]*\Z")
"""The file that the words before a block name last."""
CODE = re.compile(r"\A\s*The exit code is (\d+)")
"""How the last command of a block ends, by the words after it."""
VARYING = (
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"\d+\.\d s\b", "SECONDS"),
    (r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "since THEN"),
)


@dataclass(frozen=True)
class Step:
    """What a reader does next: writes a file, or gives a command and compares what it says."""

    line: int
    path: str = ""
    text: str = ""
    command: str = ""
    shown: tuple[str, ...] = ()
    code: int = 0
    """How the command ends: 0, unless the words after its block say otherwise."""


def steps(document: Path) -> Iterator[Step]:
    said = document.read_text()
    for block in FENCE.finditer(said):
        line = said[: block.start()].count("\n") + 1
        language, body = block.groups()
        named = NAMED.search(said[: block.start()])
        if language in ("sql", "yaml") and named and document.name != "README.md":
            yield Step(line, named[1], body)
        elif language == "python":
            yield Step(line, command=f"python - <<'END'\n{body}END")
        elif language == "console":
            parts = re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
            ends = CODE.match(said[block.end() :])
            for number, part in enumerate(parts, 1):
                command, *shown = part.splitlines()
                code = int(ends[1]) if ends and number == len(parts) else 0
                yield Step(line, command=command, shown=tuple(shown), code=code)


def plain(lines: list[str]) -> list[str]:
    """Without what differs from day to day, and without the bars that only a terminal gets."""
    kept = [line.rstrip() for line in lines if "━" not in line]
    for pattern, name in VARYING:
        kept = [re.sub(pattern, name, line) for line in kept]
    return [line for line in kept if line]


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Workspace]:
    """What git keeps, in a folder of its own, without what somebody tried there."""
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in kept.stdout.splitlines():
        if name.split("/")[0] in ("contracts", "models", "demo", "levada.yaml"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    workspace = Workspace(tmp_path)
    yield workspace
    workspace.stop()


LEARNT = ("docs/tutorials/add-a-mart.md", "docs/how-to/read-published-data.md")


@pytest.mark.parametrize("documents", [LEARNT, ("README.md",)], ids=["tutorial", "readme"])
def test_every_command_prints_what_is_shown(documents: Sequence[str], clone: Workspace) -> None:
    wrong = [said for document in documents for said in differences(document, clone)]

    assert not wrong, "\n".join(wrong)


def differences(document: str, clone: Workspace) -> Iterator[str]:
    """Follow a document; what a command printed otherwise, and what broke."""
    path = os.pathsep.join([str(BINARIES), os.environ["PATH"]])
    for step in steps(ROOT / document):
        if step.path:
            (clone.root / step.path).write_text(step.text)
            continue
        if step.command.startswith("source "):
            continue
        done = subprocess.run(
            ["bash", "-c", step.command],
            cwd=clone.root,
            env={**os.environ, "PATH": path, "COLUMNS": "300", "PYTHONDONTWRITEBYTECODE": "1"},
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said, shown = plain(done.stdout.splitlines()), plain(list(step.shown))
        if shown[-1:] == ["..."]:
            shown.pop()
            said = said[: len(shown)]
        if (shown and said != shown) or done.returncode != step.code:
            ended = f"ended with {done.returncode}, not {step.code}"
            both = "\n".join(["shown:", *shown, "printed:", *said, ended])
            yield f"{document}:{step.line} $ {step.command}\n{both}\n"
