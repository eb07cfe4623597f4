"""A copy of the reference mesh in a folder of its own, and the real command over it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import yaml

from levada.adapters import postgres
from levada.adapters.postgres import Credentials

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
        settings |= {"live_from": first, "lease": lease}
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
        done = subprocess.run(
            [sys.executable, "-m", "levada.cli", *words],
            cwd=self.root,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
            env=self.environment(),
        )
        if code is not None:
            assert done.returncode == code, (
                f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def json(self, *words: str, code: int | None = 0) -> Any:
        """The JSON document that a command prints."""
        return json.loads(self.levada(*words, "--json", code=code).stdout)

    def killed_at(self, point: str, *words: str) -> None:
        """Run a command in a process that kills itself with SIGKILL at this point."""
        script = REPOSITORY / "tests" / "support" / "killed.py"
        done = subprocess.run(
            [sys.executable, str(script), point, *words],
            cwd=self.root,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
            env=self.environment(),
        )
        assert done.returncode == -signal.SIGKILL, f"{point}: {done.stdout}{done.stderr}"

    def environment(self) -> dict[str, str]:
        return {**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "LEVADA_PROJECT": str(self.root)}

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
