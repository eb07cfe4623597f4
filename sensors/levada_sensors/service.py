"""
Airflow on a laptop: the components that `levada up` starts, and one supervisor that keeps them up.

    .levada/airflow            AIRFLOW_HOME
    .levada/airflow/run        a pid file for each component and for the supervisor; the ports
    .levada/airflow/logs       what each of them says

Imports no Airflow. The supervisor holds the environment, secrets included; what a component does
not need it is not given: the DAG processor, which runs the domains' files, gets no connection.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from levada import compiled
from levada.adapters import postgres
from levada.adapters.postgres import Credentials
from levada.errors import LevadaError, ToolError
from levada.settings import Settings, find_root, read_settings
from levada_sensors.limits import waiting_at_most

__all__ = ["COMPONENTS", "address", "environment", "given", "main", "running", "start", "stop"]

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
_SUPERVISOR = "supervisor"
_HOST = "127.0.0.1"
_STARTS = 3
_CONNECTION = "AIRFLOW_CONN_"
_KNOWS = {
    "api-server": (_CONNECTION,),
    "triggerer": (f"{_CONNECTION}LEVADA_RUNNER",),
}
"""Tasks ask the API server for a connection by its name; the triggerer asks itself."""
_STORES = ("AWS_", "AZURE_", "GOOGLE_")
"""How the variables begin by which object stores are reached."""
_REACH = ("scheduler", "triggerer")
"""The triggerer probes landing zones; a task, which the scheduler forks, stages what landed."""

_log = logging.getLogger(__name__)


def environment(settings: Settings, credentials: Credentials, waiting: int = 0) -> dict[str, str]:
    """
    Everything Airflow is to know: its configuration, and Levada's connections.

    :param waiting: how many runs may wait at once
    """
    home = _home(settings)
    port, worker_logs, trigger_logs = _ports(settings)
    api = f"http://{_HOST}:{port}"
    fernet = base64.urlsafe_b64encode(bytes.fromhex(credentials.password("airflow fernet key")))
    options = {
        "core": {
            "executor": "LocalExecutor",
            "dags_folder": str(settings.root / "dags"),
            "load_examples": "False",
            # Else a file that does not say "airflow" somewhere is passed over without a word.
            "dag_discovery_safe_mode": "False",
            "fernet_key": fernet.decode(),
            "parallelism": str(max(4, os.cpu_count() or 1)),
            "execution_api_server_url": f"{api}/execution/",
            # Only this machine reaches the address below.
            "simple_auth_manager_all_admins": "True",
        },
        "database": {"sql_alchemy_conn": credentials.airflow_url},
        "logging": {
            "base_log_folder": str(home / "logs" / "tasks"),
            "worker_log_server_port": str(worker_logs),
            "trigger_log_server_port": str(trigger_logs),
        },
        "api": {
            "host": _HOST,
            "port": str(port),
            "base_url": api,
            "workers": "1",
            "secret_key": credentials.password("airflow secret key"),
        },
        "api_auth": {"jwt_secret": credentials.password("airflow tokens")},
        "scheduler": {
            # The scheduler examines so many running runs at a time, waiting ones included; runs
            # beyond it starve.
            "max_dagruns_per_loop_to_schedule": str(max(500, waiting + 100)),
            "max_dagruns_to_create_per_loop": "50",
            "scheduler_idle_sleep_time": "1",
            "task_instance_heartbeat_timeout": "60",
        },
        "triggerer": {
            # One waiting run is one trigger; other people's sensors need room beside them.
            "capacity": str(max(4000, 2 * waiting)),
            "max_trigger_to_select_per_loop": "500",
        },
        "dag_processor": {"refresh_interval": "10", "min_file_process_interval": "30"},
        "usage_data_collection": {"enabled": "False"},
    }
    named = {
        f"AIRFLOW__{section.upper()}__{key.upper()}": value
        for section, keys in options.items()
        for key, value in keys.items()
    }
    roles = ["levada_runner", "levada_publisher", *(f"levada_domain_{d}" for d in settings.domains)]
    if (settings.root / "dags" / "approvals.py").is_file():
        roles.append("levada_governance")  # else its credential never enters Airflow
    return {
        "AIRFLOW_HOME": str(home),
        "LEVADA_PROJECT": str(settings.root),
        "PYTHONPATH": _path(),
        "GX_ANALYTICS_ENABLED": "false",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
        **named,
        **{f"{_CONNECTION}{role.upper()}": credentials.url(role, "levada") for role in roles},
        **{name: os.environ[name] for name in _outside(settings) if name in os.environ},
    }


def given(settings: Settings, component: str, known: Mapping[str, str]) -> dict[str, str]:
    """
    What a component is told of all that the supervisor knows: its own connections only, and how
    object stores are reached only where their objects are fetched.
    """
    own: tuple[str, ...] = _KNOWS.get(component, ())
    own += _outside(settings) if component == "triggerer" else ()
    kept = (_CONNECTION, *(() if component in _REACH else _STORES))
    return {k: v for k, v in known.items() if k.startswith(own) or not k.startswith(kept)}


def _outside(settings: Settings) -> tuple[str, ...]:
    """The variables of the connections in which sources are probed: by the triggerer, too."""
    return tuple(f"{_CONNECTION}{name.upper()}" for name in settings.connections)


def start(settings: Settings, credentials: Credentials) -> None:
    """
    Start Airflow, detached from this process; where it runs already, nothing happens.

    It is tuned to the runs that may wait in the mesh as it is compiled now.

    Raises ToolError when it does not answer within some minutes; its logs say why.
    """
    from levada.flow.platform import warehouse

    published = warehouse(settings, credentials)
    for domain in settings.domains:
        published.create(domain)  # a build reads them, and may make none
    published.close()
    home = _home(settings)
    for folder in (home / "run", home / "logs"):
        folder.mkdir(parents=True, exist_ok=True)
    with (home / "run" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = waiting_at_most(
            compiled.load(settings), settings.dispatch, compiled.load_batches(settings)
        )
        for _ in range(_STARTS):
            if _process(settings, _SUPERVISOR) is None:
                stop(settings)  # components whose supervisor was killed
                _pick_ports(settings)
                env = {**_inherited(), **environment(settings, credentials, waiting)}
                _launch(
                    settings,
                    _SUPERVISOR,
                    [sys.executable, "-m", "levada_sensors.service", str(settings.root)],
                    env,
                )
            if _answers(settings):
                return
            stop(settings)  # somebody took the port before our server did: choose another
    raise ToolError("Airflow", f"a port of {_HOST} was taken from it {_STARTS} times")


def stop(settings: Settings) -> None:
    """End the supervisor and every component that it started; nothing else."""
    for name in (_SUPERVISOR, *COMPONENTS):
        process = _process(settings, name)
        if process is not None:
            _end(process)
        _pid_file(settings, name).unlink(missing_ok=True)


def address(settings: Settings) -> str | None:
    """Where the UI answers, or None when Airflow is not up."""
    if _process(settings, _SUPERVISOR) is None:
        return None
    return f"http://{_HOST}:{_ports(settings)[0]}"


def running(settings: Settings) -> dict[str, int]:
    """The process id of the supervisor and of each component that lives."""
    found = {name: _process(settings, name) for name in (_SUPERVISOR, *COMPONENTS)}
    return {name: process.pid for name, process in found.items() if process is not None}


# The supervisor


def main() -> None:
    """
    Migrate the metadata, start every component, and start again whichever ends, the embedded
    PostgreSQL too.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = read_settings(find_root(Path(sys.argv[1])))
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    server = _Server(settings)
    pause = 1.0
    prepare = [sys.executable, "-m", "levada_sensors.metadata", str(settings.backfill_parallel)]
    while not ended and subprocess.run(prepare, check=False).returncode:
        _log.error("the metadata database cannot be migrated; trying again in %g s", pause)
        time.sleep(pause)
        pause = min(pause * 2, 30.0)
        server.keep_up()
    _keep_up(settings, server, lambda: ended)
    for name in COMPONENTS:
        process = _process(settings, name)
        if process is not None:
            _end(process)
        _pid_file(settings, name).unlink(missing_ok=True)


class _Server:
    """The embedded PostgreSQL that `levada up` started; a server of the user's own is his own."""

    def __init__(self, settings: Settings) -> None:
        self._home = settings.home
        self._ours = postgres.running(settings.home) is not None
        self._due = 0.0

    def keep_up(self) -> None:
        """Start it again where it was killed; every few seconds, while that fails."""
        if not self._ours or time.monotonic() < self._due or postgres.running(self._home):
            return
        _log.error("PostgreSQL ended; it is started again")
        try:
            postgres.start(self._home)
        except (LevadaError, OSError) as error:
            _log.error("%s", error)
        self._due = time.monotonic() + 5.0


def _keep_up(settings: Settings, server: _Server, ended: _Ended) -> None:
    children: dict[str, subprocess.Popen[bytes]] = {}
    due: dict[str, float] = dict.fromkeys(COMPONENTS, 0.0)
    pauses: dict[str, float] = dict.fromkeys(COMPONENTS, 1.0)
    began: dict[str, float] = {}
    while not ended():
        server.keep_up()
        now = time.monotonic()
        for name in COMPONENTS:
            child = children.get(name)
            if child is not None and (code := child.poll()) is not None:
                lived = now - began[name]
                pauses[name] = 1.0 if lived > 60 else min(pauses[name] * 2, 30.0)
                due[name] = now + pauses[name]
                _log.error("%s ended (%s); again in %g s", name, code, pauses[name])
                _end_group(child.pid)
                del children[name]
            if name not in children and now >= due[name]:
                env = given(settings, name, os.environ)
                children[name] = _launch(settings, name, _command(name), env)
                began[name] = now
                _log.info("%s runs as %d", name, children[name].pid)
        time.sleep(0.5)


class _Ended(Protocol):
    def __call__(self) -> bool: ...


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "airflow", *words]


# Processes


class _Process(Protocol):
    """What is used of psutil's process."""

    @property
    def pid(self) -> int: ...


def _launch(
    settings: Settings, name: str, command: list[str], env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, and note who it is."""
    import psutil

    log = _home(settings) / "logs" / f"{name}.log"
    with log.open("ab") as said:
        child = subprocess.Popen(
            command,
            env=dict(env),
            cwd=settings.root,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    with contextlib.suppress(psutil.Error):
        born = psutil.Process(child.pid).create_time()
        _pid_file(settings, name).write_text(f"{child.pid} {born}\n")
    return child


def _process(settings: Settings, name: str) -> _Process | None:
    """The living process of a pid file; a reused process id is somebody else."""
    import psutil

    try:
        pid, born = _pid_file(settings, name).read_text().split()
        process = psutil.Process(int(pid))
        if abs(process.create_time() - float(born)) > 1 or process.status() == "zombie":
            return None
    except (OSError, ValueError, psutil.Error):
        return None
    found: _Process = process
    return found


def _end_group(leader: int) -> None:
    """End what a component left behind: a killed one leaves its log server, and that its port."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGTERM)


def _end(process: _Process, patience: float = 20.0) -> None:
    """End a process and all it started: politely, then not."""
    import psutil

    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
        parent.terminate()
        psutil.wait_procs([parent], timeout=patience)
        # Children are known by their birth, so that a reused id is never hit.
        for member in family:
            with contextlib.suppress(psutil.Error):
                member.terminate()
        _, stubborn = psutil.wait_procs(family, timeout=3)
        for member in stubborn:
            with contextlib.suppress(psutil.Error):
                member.kill()
        psutil.wait_procs(stubborn, timeout=3)
        _end_group(process.pid)


def _answers(settings: Settings, seconds: float = 240.0) -> bool:
    """Wait for the API server; whether what answers is ours."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if _process(settings, _SUPERVISOR) is None:
            break
        port = _ports(settings)[0]
        with contextlib.suppress(OSError), socket.create_connection((_HOST, port), 1):
            return _listens(settings, port)
        time.sleep(0.3)
    logs = (_home(settings) / "logs").relative_to(settings.root)
    raise ToolError("Airflow", f"its API server does not answer; {logs} says why")


def _listens(settings: Settings, port: int) -> bool:
    """Whether our API server, and nobody else's, listens on a port."""
    import psutil

    server = _process(settings, "api-server")
    if server is None:
        return False
    with contextlib.suppress(psutil.Error):
        main = psutil.Process(server.pid)
        for process in (main, *main.children(recursive=True)):
            for found in process.net_connections("tcp"):
                if found.status == psutil.CONN_LISTEN and found.laddr.port == port:
                    return True
    return False


# Places


def _home(settings: Settings) -> Path:
    return settings.home / "airflow"


def _pid_file(settings: Settings, name: str) -> Path:
    return _home(settings) / "run" / f"{name}.pid"


def _ports(settings: Settings) -> tuple[int, int, int]:
    """The ports of the API, of the workers' logs and of the triggers'; the same while they can."""
    try:
        return _kept(settings)
    except (OSError, ValueError):
        return _pick_ports(settings)


def _kept(settings: Settings) -> tuple[int, int, int]:
    api, worker, trigger = map(int, (_home(settings) / "run" / "ports").read_text().split())
    return api, worker, trigger


def _pick_ports(settings: Settings) -> tuple[int, int, int]:
    wishes = (8080, 8793, 8794)
    with contextlib.suppress(OSError, ValueError):
        wishes = _kept(settings)
    with contextlib.ExitStack() as held:
        api, worker, trigger = (_free_port(held, wish) for wish in wishes)
    file = _home(settings) / "run" / "ports"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{api} {worker} {trigger}\n")
    return api, worker, trigger


def _free_port(held: contextlib.ExitStack, wish: int) -> int:
    """The wished port, or any; held until all are chosen, so that none is chosen twice."""
    for port in (wish, 0):
        probe = held.enter_context(socket.socket())
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((_HOST, port))
            return int(probe.getsockname()[1])
    raise ToolError("Airflow", f"no port of {_HOST} is free")


def _path() -> str:
    """PYTHONPATH with the folder of our airflow_local_settings in front."""
    local = str(Path(__file__).with_name("local"))
    before = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(p for p in (local, before) if p)


def _inherited() -> dict[str, str]:
    """Our own environment, without the administrator's address and another Airflow's options."""
    return {
        name: value
        for name, value in os.environ.items()
        if name != "LEVADA_DATABASE_URL" and not name.startswith("AIRFLOW_")
    }


if __name__ == "__main__":
    main()
