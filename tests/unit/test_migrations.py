"""The ledger's migrations: one line, whose last word knows every kind of line and every table."""

from __future__ import annotations

import re
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from levada.ledger.roles import newest

VERSIONS = Path(__file__).parents[2] / "src" / "levada" / "ledger" / "migrations" / "versions"
NOT_OF_THE_LOG = {"entry", "feed", "lease", "heartbeat", "inspected", "turn"}
AT_ONCE = {"landings", "publications", "claims"}
"""Projectors of a whole statement: another one of a single line calls them."""


def chain() -> list[str]:
    """The SQL of the migrations, oldest first."""
    after: dict[str, tuple[str, str]] = {}
    for path in sorted(VERSIONS.glob("*.py")):
        text = path.read_text()
        (revision,) = re.findall(r'^revision = "(\w+)"', text, re.MULTILINE)
        before = re.findall(r'^down_revision = "(\w+)"', text, re.MULTILINE)
        sql = "\n".join((VERSIONS / name).read_text() for name in re.findall(r"\w+\.sql", text))
        key = before[0] if before else ""
        assert key not in after, f"{revision} and {after[key][0]} both follow {key or 'nothing'}"
        after[key] = (revision, sql)
    found: list[str] = []
    at = ""
    while at in after:
        at, sql = after[at]
        found.append(sql)
    assert len(found) == len(after), "every migration follows another one"
    return found


def last(name: str, told: str) -> str:
    """The newest body of a function."""
    bodies = re.findall(rf"function ledger\.{name}\(.*?\$\$(.*?)\$\$", told, re.DOTALL)
    return str(bodies[-1])


def test_the_newest_is_the_head_of_the_chain_whatever_its_number() -> None:
    config = Config()
    config.set_main_option("script_location", str(VERSIONS.parent))
    assert newest() == ScriptDirectory.from_config(config).get_current_head()


def test_the_last_projector_knows_every_kind_of_line() -> None:
    told = "\n".join(chain())
    kinds = set(re.findall(r"create function ledger\.project_(\w+)\(", told)) - AT_ONCE
    body = last("project", told)
    if "'project_' || e.kind" not in body:
        missing = sorted(kind for kind in kinds if f"ledger.project_{kind}(e)" not in body)
        assert not missing, f"ledger.project forgets {', '.join(missing)}"


def test_the_last_rebuild_empties_every_table_that_the_log_makes() -> None:
    told = "\n".join(chain())
    tables = set(re.findall(r"create table ledger\.(\w+)", told)) - NOT_OF_THE_LOG
    body = last("rebuild", told)
    emptied = set(re.findall(r"\w+", body[body.index("truncate") : body.index("return")]))
    assert tables - emptied == set(), "rebuild would keep these"
