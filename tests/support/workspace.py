"""A copy of the reference mesh in a folder of its own, and the real command over it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import yaml
from warm import Running, begin

from levada.adapters import postgres
from levada.adapters.postgres import Credentials
from levada.adapters.warehouses.ducklake import DuckLake
from levada.flow import platform
from levada.ledger.roles import PUBLISHER
from levada.settings import read_settings

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "demo"))


@dataclass(frozen=True)
class Workspace:
    """A mesh in `root`, with its own embedded PostgreSQL while it is used."""

    root: Path

    @classmethod
    def make(
        cls,
        root: Path,
        *,
        domains: Sequence[str] = ("operations", "weather", "fleet", "company"),
        first: str = "2013-03-08",
        last: str = "2013-03-10",
        lease: str = "2s",
        warehouse: str = "ducklake",
    ) -> Workspace:
        """Copy the contracts and models of these domains, with a short span and a short lease."""
        for domain in domains:
            for kind in ("contracts", "models"):
                shutil.copytree(
                    REPOSITORY / kind / domain,
                    root / kind / domain,
                    ignore=shutil.ignore_patterns("target", "logs", "dbt_packages"),
                )
        settings = yaml.load((REPOSITORY / "levada.yaml").read_text(), Loader=yaml.BaseLoader)  # noqa: S506
        settings |= {"domains": list(domains), "span": {"from": first, "to": last}}
        settings |= {"live_from": first, "lease": lease, "warehouse": {"type": warehouse}}
        (root / "levada.yaml").write_text(yaml.safe_dump(settings))
        return cls(root)

    @property
    def landing(self) -> Path:
        return self.root / "landing"

    @property
    def credentials(self) -> Credentials:
        return Credentials.load(self.root / ".levada")

    def start(self) -> None:
        """Start PostgreSQL, so that it outlives single commands."""
        self.levada("up", "--no-airflow")

    def stop(self) -> None:
        if postgres.running(self.root / ".levada"):
            postgres.stop(self.root / ".levada")

    def levada(self, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run the real command in the workspace; `code` is the exit code that it must have."""
        return _ended_with(code, self.begin(*words).wait())

    def begin(self, *words: str, point: str = "", number: int = 0, **environment: str) -> Running:
        """Start a command; at a named point of `killed.POINTS` it sends itself a signal."""
        variables = self.environment() | environment
        return begin(words, cwd=self.root, environment=variables, point=point, number=number)

    def fresh(
        self, *words: str, code: int | None = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command in a new interpreter, as from a shell: nothing is imported before."""
        done = subprocess.run(
            [sys.executable, "-m", "levada.cli", *words],
            cwd=self.root,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
            env=self.environment() | environment,
        )
        return _ended_with(code, done)

    def json(self, *words: str, code: int | None = 0) -> Any:
        """The JSON document that a command prints."""
        return json.loads(self.levada(*words, "--json", code=code).stdout)

    def killed_at(self, point: str, *words: str) -> None:
        """Run a command in a process that kills itself with SIGKILL at this point."""
        done = self.begin(*words, point=point, number=signal.SIGKILL).wait()
        assert done.returncode == -signal.SIGKILL, f"{point}: {done.stdout}{done.stderr}"

    def environment(self) -> dict[str, str]:
        return {**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "LEVADA_PROJECT": str(self.root)}

    def landed(self, source: str, day: str) -> Path:
        """The landed file of one local day."""
        (path,) = (self.landing / source).glob(f"{day}*")
        return path

    def landed_rows(self, source: str, day: str) -> int:
        return len(self.landed(source, day).read_text().splitlines()) - 1

    @contextmanager
    def lake(self) -> Iterator[DuckLake]:
        """The lakes, as the platform sees them."""
        with closing(platform.warehouse(read_settings(self.root), self.credentials)) as lake:
            assert isinstance(lake, DuckLake)
            yield lake

    @contextmanager
    def warehouse(self) -> Iterator[Any]:
        """Whichever warehouse it is, as the platform sees it."""
        with closing(platform.warehouse(read_settings(self.root), self.credentials)) as found:
            yield found

    def expire(self, domain: str, before: str = "") -> None:
        """Give up the versions before this one, or all but the newest, as retention does."""
        with self.warehouse() as warehouse:
            before = before or max((c.version for c in warehouse.changes(domain)), key=int)
            if not isinstance(warehouse, DuckLake):
                warehouse.forget(domain, before)
                return
            older = f"SELECT snapshot_id FROM ducklake_snapshots('{domain}')"

            def work(connection: duckdb.DuckDBPyConnection) -> None:
                found = connection.execute(f"{older} WHERE snapshot_id < {before}").fetchall()
                versions = [row[0] for row in found]
                call = f"CALL ducklake_expire_snapshots('{domain}', versions => {versions})"
                connection.execute(call)

            warehouse._writer.run([domain], work)

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """What the ledger's database answers to its owner."""
        url = self.credentials.url(self.credentials.admin, "levada")
        with psycopg.connect(url) as connection:
            return connection.execute(sql.encode(), values).fetchall()

    def publications(self) -> list[tuple[Any, ...]]:
        """Every publication line: table, partition key, generation, run, data version."""
        return self.rows(
            "select table_name, part, generation, run, data_version"
            " from ledger.publications order by 1, 2, 3"
        )


def by_hand(lake: DuckLake, domain: str, *statements: str) -> None:
    """What somebody with the publisher's credentials does past Levada, in one transaction."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        for statement in ("begin", *statements, "commit"):
            connection.execute(statement)

    assert lake._writer.role == PUBLISHER
    lake._writer.run([domain], work)


def _ended_with(
    code: int | None, done: subprocess.CompletedProcess[str]
) -> subprocess.CompletedProcess[str]:
    if code is not None:
        assert done.returncode == code, (
            f"{done.args}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done
