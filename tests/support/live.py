"""A mesh on real Airflow: what its databases say, what its API is asked, what runs beside it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import psycopg
import pytest
from workspace import REPOSITORY, Workspace

from levada.settings import Settings, read_settings
from levada_sensors import service

__all__ = ["Live", "end", "frozen", "until"]

_OPTIONS = """\
[triggerer]
triggerer_health_check_threshold = 10
job_heartbeat_sec = 2
[scheduler]
trigger_timeout_check_interval = 3
"""
"""What `levada up` leaves to Airflow, made quick."""


class Live(Workspace):
    """The workspace with Airflow over it."""

    @property
    def settings(self) -> Settings:
        return read_settings(self.root)

    def fly(self, *domains: str) -> None:
        """Bring the DAG files, choose ports that nobody has, and start Airflow."""
        (self.root / "dags").mkdir(exist_ok=True)
        for name in (*domains, "reconcile"):
            theirs = REPOSITORY / "dags" / f"{name}.py"
            text = theirs.read_text() if theirs.exists() else _file_of(name)
            (self.root / "dags" / f"{name}.py").write_text(text)
        place = self.root / ".levada" / "airflow"
        (place / "run").mkdir(parents=True)
        (place / "airflow.cfg").write_text(_OPTIONS)
        with ExitStack() as held:
            sockets = [held.enter_context(socket.socket()) for _ in range(3)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            ports = " ".join(str(each.getsockname()[1]) for each in sockets)
        (place / "run" / "ports").write_text(f"{ports}\n")
        self.levada("up")

    def beside(self, component: str) -> subprocess.Popen[bytes]:
        """One more of a component, as a second machine would run it; `end` ends it."""
        knows = component == "triggerer"
        theirs = service.environment(self.settings, self.credentials)
        environment = {
            **{
                name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")
            },
            **{n: v for n, v in theirs.items() if knows or not n.startswith("AIRFLOW_CONN_")},
        }
        log = self.root / ".levada" / "airflow" / "logs" / f"{component}-2.log"
        with log.open("ab") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "airflow", component, "--skip-serve-logs"],
                env=environment,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def land_hard(self) -> None:
        """End all components at once: nobody needs their farewell."""
        for name, pid in service.running(self.settings).items():
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                family = [process, *process.children(recursive=name != "supervisor")]
                for member in family:
                    member.kill()
        service.stop(self.settings)

    # What Airflow's database says

    def airflow(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        url = self.credentials.url("airflow", "airflow")
        with psycopg.connect(url) as connection:
            return connection.execute(sql.encode(), values).fetchall()

    def tasks(self, task: str) -> list[tuple[Any, ...]]:
        return self.airflow(
            "select dag_id, state, pid, coalesce(hostname, '') from task_instance"
            " where task_id = %s and dag_id <> 'levada.reconcile' order by 1",
            task,
        )

    def states(self, dag_id: str, day: str) -> dict[str, str]:
        """The states of the tasks of the run of a day."""
        rows = self.airflow(
            "select t.task_id, t.state from task_instance t join dag_run r"
            " on (r.dag_id, r.run_id) = (t.dag_id, t.run_id)"
            " where t.dag_id = %s and r.logical_date = %s",
            *(dag_id, _instant(day)),
        )
        return dict(rows)

    def runs(self, dag_id: str) -> dict[str, tuple[str, str]]:
        """By day: id and state. More than one of a day cannot be: Airflow would refuse it."""
        rows = self.airflow(
            "select logical_date, run_id, state from dag_run where dag_id = %s order by 1", dag_id
        )
        return {f"{at.astimezone(UTC):%Y-%m-%d}": (run, state) for at, run, state in rows}

    def faults(self) -> list[tuple[Any, ...]]:
        return self.airflow("select filename, stacktrace from import_error")

    # What the ledger says

    def lines(self) -> dict[str, list[tuple[str, int]]]:
        """Partitions and generations that each table published, in the order of the ledger."""
        found: dict[str, list[tuple[str, int]]] = {}
        rows = self.rows(
            "select table_name, split_part(part, '|', 2), generation from ledger.publications"
            " order by pos"
        )
        for table, start, generation in rows:
            found.setdefault(table, []).append((start, generation))
        return found

    def counts(self) -> dict[str, int]:
        return {table: len(found) for table, found in self.lines().items()}

    def generations(self, table: str, day: str) -> list[int]:
        """What was published of a day, in order."""
        start = _instant(day).isoformat()
        return [generation for at, generation in self.lines().get(table, ()) if at == start]

    # What its API is asked

    @cached_property
    def _api(self) -> httpx.Client:
        address = str(service.address(self.settings))
        token = httpx.get(f"{address}/auth/token", timeout=60).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=f"{address}/api/v2/", headers=headers, timeout=60)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Airflow's public API, as its page uses it."""
        answer = self._api.request(method, quote(path), json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def pause(self, dag_id: str, paused: bool) -> None:
        self.ask("PATCH", f"dags/{dag_id}", {"is_paused": paused})

    def clear(self, dag_id: str, run_id: str, *tasks: str) -> None:
        """Clear exactly these tasks of a run."""
        words = {"dry_run": False, "only_failed": False, "dag_run_id": run_id}
        answer = self.ask(
            "POST", f"dags/{dag_id}/clearTaskInstances", {**words, "task_ids": list(tasks)}
        )
        assert {task["task_id"] for task in answer["task_instances"]} == set(tasks)


def _file_of(domain: str) -> str:
    return (
        "from __future__ import annotations\n\nfrom levada_sensors import product_dags\n\n"
        f'globals().update(product_dags("{domain}"))\n'
    )


def _instant(day: str) -> datetime:
    return datetime.fromisoformat(f"{day}T00:00+00:00")


def until(true: Callable[[], object], what: Callable[[], object], seconds: float = 180) -> None:
    """Wait for something to become true; fail with what is, if it does not."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except psycopg.OperationalError:
            pass  # it is being restarted
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what()}")
        time.sleep(0.25)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process and its children stand still, as when their machine does."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in family:
        process.suspend()
    try:
        yield
    finally:
        for process in family:
            process.resume()


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    """End a component that runs beside, with all that it started."""
    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid)]
        family += family[0].children(recursive=True)
        for member in family if number == signal.SIGKILL else family[:1]:
            with suppress(psutil.NoSuchProcess):
                member.send_signal(number)
        _, left = psutil.wait_procs(family, timeout=20)
        for member in left:
            member.kill()
    process.wait()
