"""`levada up`, `levada down` and `levada ledger`."""

from __future__ import annotations

from pathlib import Path

from levada.adapters import postgres
from levada.adapters.dbt.workers import DbtWorkers
from levada.cli import output, recording
from levada.flow import declaring
from levada.flow import platform as opening
from levada.settings import find_root, read_settings
from levada_sensors import service

__all__ = ["down", "rebuild", "up", "verify"]


def up(project: Path | None, *, airflow: bool) -> int:
    """Start and provision the databases, compile, and start Airflow; all stay until `down`."""
    settings = read_settings(find_root(project))
    with output.errors.status("starting PostgreSQL"):
        credentials = postgres.start(settings.home)
        opening.provision(settings, credentials)
    where = f"{credentials.host}:{credentials.port}"
    kind = "embedded" if credentials.embedded else "your own"
    output.console.print(f"PostgreSQL ({kind}) answers at {where}; roles are provisioned")
    if not airflow:
        return 0
    with output.errors.status("compiling the declarations"), DbtWorkers() as workers:
        mesh = declaring.compiled_mesh(settings, workers)
    recording.as_governance(settings, mesh, credentials)
    with output.errors.status("starting Airflow"):
        service.start(settings, credentials)
    output.console.print(f"Airflow answers at {service.address(settings)}; end it: levada down")
    return 0


def down(project: Path | None) -> int:
    """End what `up` started."""
    settings = read_settings(find_root(project))
    ended = []
    if service.running(settings):
        service.stop(settings)
        ended.append("Airflow")
    if postgres.running(settings.home) is not None:
        postgres.stop(settings.home)
        ended.append("PostgreSQL")
    output.console.print(f"ended {' and '.join(ended)}" if ended else "nothing runs")
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
