"""An Airflow home for the tests, and small projects whose declarations are compiled."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

# Before anything imports Airflow, which makes its home when it is imported.
_HOME = tempfile.mkdtemp(prefix="levada-airflow-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ["AIRFLOW_HOME"] = _HOME
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{_HOME}/airflow.db"
sys.path.insert(0, str(Path(__file__).parents[2]))

import pytest  # noqa: E402
from tests.unit.strategies import little_mesh  # noqa: E402

from levada import compiled  # noqa: E402
from levada.ledger.roles import RUNNER  # noqa: E402
from levada.settings import Settings, read_settings  # noqa: E402
from levada.terms import Mesh  # noqa: E402
from levada_sensors import connections  # noqa: E402

collect_ignore = ["cases"]
"""Run in a process of its own, by test_beside_airflow.py."""

DECLARED = """\
mesh: test
zone: America/New_York
span: {from: 2013-03-04, to: 2013-03-17}
live_from: 2013-03-09
landing: {zone: landing}
domains: [operations, weather, fleet, company]
probe: {every: 1s, horizon: 40d}
"""


@pytest.fixture
def project(tmp_path: Path) -> Settings:
    """A project of the little mesh: flights by day, weather by hour, planes, a day, a week."""
    (tmp_path / "levada.yaml").write_text(DECLARED)
    settings = read_settings(tmp_path)
    compiled.save(settings, little_mesh(), settings.domains)
    return settings


@pytest.fixture
def mesh(project: Settings) -> Mesh:
    return connections.mesh_of(project.root)


@pytest.fixture
def ledger_url(ledgers: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh ledger, where the connection `levada_runner` leads."""
    url: str = ledgers.url(RUNNER)

    async def address(_: str) -> str:
        return url

    monkeypatch.setattr(connections, "runner_address", address)
    connections.ledger_at.cache_clear()
    return url
