"""What bash, zsh and fish complete, asked as they ask: by the command line itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.unit.strategies import little_mesh

from levada import compiled
from levada.settings import read_settings

pytestmark = pytest.mark.thorough  # each asks a shell

DOMAINS = ("company", "fleet", "operations", "weather")
YAML = """\
mesh: test
zone: America/New_York
span: {from: 2013-03-04, to: 2013-03-17}
domains: [operations, weather, fleet, company]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    (root / "levada.yaml").write_text(YAML)
    for domain in DOMAINS:
        (root / "contracts" / domain).mkdir(parents=True)
    settings = read_settings(root)
    compiled.save(settings, little_mesh(), settings.domains)
    return root


def ask(root: Path, line: str, shell: str = "bash") -> list[str]:
    """The words that a shell is offered for the last word of a line."""
    words = line.split(" ")
    asked: Mapping[str, str] = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {
            "_TYPER_COMPLETE_ARGS": line,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "_TYPER_COMPLETE_WORD_TO_COMPLETE": words[-1],
        },
    }[shell]
    done = subprocess.run(
        [str(Path(sys.executable).parent / "levada")],
        cwd=root,
        env={**os.environ, **asked, "_LEVADA_COMPLETE": f"complete_{shell}"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stderr == "", "a shell would write it into the line"
    return done.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_completes_a_table(shell: str, project: Path) -> None:
    said = " ".join(ask(project, "levada why comp", shell))
    assert "company.daily" in said
    assert "company.weekly" in said
    assert "fleet" not in said


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("levada why weather.", ["weather.landing.hours", "weather.observations"]),
        ("levada release fleet.p", ["fleet.planes"]),
        ("levada why fleet.planes@", ["fleet.planes@1"]),
        ("levada run company.daily@1", ["company.daily@1"]),
        ("levada run comp", ["company", "company.daily", "company.weekly"]),
        ("levada status company.daily op", ["operations", "operations.flights"]),
        ("levada backfill plan flee", ["fleet", "fleet.planes"]),
        ("levada canary start oper", ["operations.flights"]),
        ("levada canary start operations.flights@", ["operations.flights@1"]),
        ("levada check --domain f", ["fleet"]),
        ("levada check --domain ", sorted(DOMAINS)),
    ],
)
def test_what_is_asked_for_is_offered_and_nothing_else(
    line: str, offered: list[str], project: Path
) -> None:
    assert ask(project, line) == offered


def test_where_nothing_is_compiled_nothing_is_offered_and_nothing_said(
    project: Path, tmp_path: Path
) -> None:
    assert ask(tmp_path, "levada why comp") == []
    (tmp_path / "levada.yaml").write_text(YAML)
    assert ask(tmp_path, "levada why comp") == []
    (tmp_path / "levada.yaml").write_text("mesh: [")
    assert ask(tmp_path, "levada check --domain f") == []
    assert ask(tmp_path, f"levada why --project {project} comp") != []
