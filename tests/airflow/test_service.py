"""`levada up` tunes Airflow to the mesh, and never takes another's server for its own."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import psutil
import pytest

from levada.adapters.postgres import Credentials
from levada.settings import Settings
from levada.terms import Mesh
from levada_sensors import service
from levada_sensors.limits import waiting_at_most

pytestmark = pytest.mark.airflow


def test_the_runs_that_may_wait_are_counted_by_grain_up_to_a_limit(mesh: Mesh) -> None:
    # Of nine live days: 9 flights, 9 of company, 2 weeks, and of 215 hours no more than 96.
    assert waiting_at_most(mesh, "sensor") == 9 + 9 + 2 + 96
    later = replace(mesh, live_from=datetime(2013, 3, 17, 4, tzinfo=UTC))
    assert waiting_at_most(later, "sensor") == 1 + 1 + 1 + 24
    assert waiting_at_most(mesh, "ready") == 0


@pytest.mark.parametrize(("waiting", "examined", "triggers"), [(0, 500, 4000), (3000, 3100, 6000)])
def test_airflow_is_tuned_to_more_than_what_may_wait(
    project: Settings, server: Credentials, waiting: int, examined: int, triggers: int
) -> None:
    told = service.environment(project, server, waiting)
    assert told["AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE"] == str(examined)
    assert told["AIRFLOW__TRIGGERER__CAPACITY"] == str(triggers)
    assert told["AIRFLOW__TRIGGERER__MAX_TRIGGER_TO_SELECT_PER_LOOP"] == "500"


def test_the_key_of_a_store_is_given_to_who_probes_and_who_stages_alone(
    project: Settings,
) -> None:
    keys = {"AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "GOOGLE_SERVICE_ACCOUNT"}
    known = dict.fromkeys((*keys, "PATH"), "said")
    told = {each: set(service.given(project, each, known)) for each in service.COMPONENTS}
    assert told == {
        "api-server": {"PATH"},
        "scheduler": {*keys, "PATH"},
        "dag-processor": {"PATH"},
        "triggerer": {*keys, "PATH"},
    }


LISTEN = """\
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def neighbour(project: Settings) -> Iterator[tuple[int, int]]:
    """The process id and the port of a server."""
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
        process.kill()


def noted(project: Settings, name: str, pid: int) -> None:
    """Write the pid file that the supervisor would."""
    folder = project.home / "airflow" / "run"
    folder.mkdir(parents=True, exist_ok=True)
    born = psutil.Process(pid).create_time()
    (folder / f"{name}.pid").write_text(f"{pid} {born}\n")


@pytest.mark.parametrize("ours", [True, False])
def test_a_server_that_answers_is_ours_only_if_we_started_it(
    project: Settings, neighbour: tuple[int, int], ours: bool
) -> None:
    pid, port = neighbour
    with subprocess.Popen(["sleep", "60"]) as other:
        noted(project, "supervisor", psutil.Process().pid)
        noted(project, "api-server", pid if ours else other.pid)
        (project.home / "airflow" / "run" / "ports").write_text(f"{port} 1 2\n")
        assert service._answers(project, 10) is ours
        other.kill()


def test_a_port_in_use_is_not_chosen(project: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (project.home / "airflow" / "run").mkdir(parents=True)
        (project.home / "airflow" / "run" / "ports").write_text(f"{port} 0 0\n")
        assert port not in service._pick_ports(project)
