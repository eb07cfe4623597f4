"""`levada up`, `levada down` and `levada ledger`."""

from __future__ import annotations

from pathlib import Path

from levada.adapters import postgres
from levada.cli import output
from levada.flow import platform as opening
from levada.ledger.roles import provision
from levada.settings import find_root, read_settings

__all__ = ["down", "rebuild", "up", "verify"]


def up(project: Path | None) -> int:
    """Start and provision the databases; they stay up until `levada down`."""
    settings = read_settings(find_root(project))
    with output.errors.status("starting PostgreSQL"):
        credentials = postgres.start(settings.home)
        provision(credentials, settings.domains)
    where = f"{credentials.host}:{credentials.port}"
    kind = "embedded" if credentials.embedded else "your own"
    output.console.print(f"PostgreSQL ({kind}) answers at {where}; roles are provisioned")
    return 0


def down(project: Path | None) -> int:
    """End what `up` started."""
    settings = read_settings(find_root(project))
    if postgres.running(settings.home) is None:
        output.console.print("nothing runs")
        return 0
    postgres.stop(settings.home)
    output.console.print("PostgreSQL stopped")
    return 0


def verify(project: Path | None) -> int:
    """Replay the log and compare; 1 if a projection differs."""
    settings = read_settings(find_root(project))
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, credentials.admin) as owner,
    ):
        differing = owner.verify()
    for sentence in differing:
        output.errors.print(sentence, style="red", markup=False)
    if not differing:
        output.console.print("the projections are what the log says")
    return 1 if differing else 0


def rebuild(project: Path | None) -> int:
    """Make the projections anew from the log."""
    settings = read_settings(find_root(project))
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, credentials.admin) as owner,
    ):
        owner.rebuild()
    output.console.print("the projections were made anew from the log")
    return 0
