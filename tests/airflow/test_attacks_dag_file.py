"""
What a DAG file of a domain tries when the DAG processor runs it, with what that process is given.

DAG files are the platform's: what such a file may do all the same stands in the threat model as
open, and is tried here too, so that nobody believes otherwise, and so that it is found.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import date

import pytest
import yaml
from source_system import land_span
from workspace import Workspace

from levada.settings import read_settings
from levada_sensors import service

pytestmark = [pytest.mark.airflow, pytest.mark.integration, pytest.mark.prove]

DAY = "2013-03-08"
ROLES = ("levada_runner", "levada_publisher", "levada_governance", "levada_domain_operations")

FILE = """
import json, os
from pathlib import Path
from urllib.parse import urlsplit

import duckdb, psycopg
from airflow.sdk import DAG
from airflow.sdk.bases.hook import BaseHook

ROOT = Path({root!r})
said = {{"environment": dict(os.environ)}}
server = urlsplit(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("+psycopg2", ""))

def try_(name, attempt):
    try:
        said[name] = f"done: {{attempt()!r}}"
    except Exception as error:
        said[name] = f"refused: {{type(error).__name__}}: {{error}}"

def connect(user, password, database, *statements):
    with psycopg.connect(host=server.hostname, port=server.port, user=user, password=password,
                         dbname=database, connect_timeout=5) as connection:
        for statement in statements:
            connection.execute(statement)

def lent():
    names = [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]
    assert names, "there is none"
    return names

own = (server.username, server.password)
for role in {roles!r}:
    try_(f"ask Airflow for {{role}}", lambda: BaseHook.get_connection(role).password)
try_("find a connection in the environment", lent)
try_("sign in as the publisher", lambda: connect("levada_publisher", "guess", "levada"))
try_("publish as Airflow", lambda: connect(
    *own, "levada", "select ledger.publish('run-0', '1', null)"))
try_("write a line as Airflow", lambda: connect(
    *own, "levada", "insert into ledger.entry (kind, name, key, body) values "
    "('publication', 'operations.flights@1', '{day}', '{{}}')"))
try_("write the catalogue as Airflow", lambda: connect(
    *own, "lake", "delete from operations.ducklake_data_file"))
try_("become the publisher", lambda: connect(*own, "airflow", "set role levada_publisher"))

def with_what_lies_there():
    secrets = json.loads((ROOT / ".levada/secrets.json").read_text())
    assert secrets
    return len(secrets)

try_("read the platform's secrets", with_what_lies_there)
Path({report!r}).write_text(json.dumps(said))
with DAG("attack", schedule=None):
    pass
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One domain, one published day."""
    workspace = Workspace.make(
        tmp_path_factory.mktemp("dagfile"), domains=["operations"], first=DAY, last=DAY
    )
    land_span(date(2013, 3, 8), date(2013, 3, 8), workspace.landing)
    workspace.start()
    workspace.levada("run")
    yield workspace
    workspace.stop()


@pytest.fixture(scope="module")
def said(mesh: Workspace) -> dict[str, str]:
    """What came of each attempt, in the environment that `levada up` gives the DAG processor."""
    report = mesh.root / "report.json"
    path = mesh.root / "dags" / "operations_attack.py"
    path.parent.mkdir()
    path.write_text(
        textwrap.dedent(FILE).format(root=str(mesh.root), report=str(report), roles=ROLES, day=DAY)
    )
    settings = read_settings(mesh.root)
    everything = {**os.environ, **service.environment(settings, mesh.credentials)}
    program = (
        "from airflow.dag_processing.dagbag import DagBag;"
        f"bag = DagBag({str(path)!r});"
        "assert list(bag.dags) == ['attack'], bag.import_errors"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=service.given(settings, "dag-processor", everything),
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert isinstance(found, dict)
    return found


def test_a_dag_file_is_given_no_credential_of_levadas(
    mesh: Workspace, said: dict[str, str]
) -> None:
    environment = json.dumps(said["environment"])
    for role in ROLES:
        assert mesh.credentials.password(role) not in environment
        assert said[f"ask Airflow for {role}"].startswith("refused: AirflowNotFoundException")
    assert said["find a connection in the environment"].startswith("refused")


def test_what_a_dag_file_is_given_writes_neither_ledger_nor_lake(
    mesh: Workspace, said: dict[str, str]
) -> None:
    tried = ("sign in as the publisher", "publish as Airflow", "write a line as Airflow",
             "write the catalogue as Airflow", "become the publisher")  # fmt: skip
    for name in tried:
        assert said[name].startswith("refused: "), f"{name}: {said[name]}"
    assert len(mesh.publications()) == 2
    assert mesh.json("why", "operations.flights", DAY)["state"] == "READY"
    mesh.levada("ledger", "verify")


def test_a_dag_file_that_reads_the_platforms_secrets_is_found_by_what_it_writes(
    mesh: Workspace, said: dict[str, str]
) -> None:
    """Open on one system user. What it then writes is found, its table held, its owner told."""
    assert said["read the platform's secrets"].startswith("done"), "else it is open no more"
    log = mesh.root / "told.jsonl"
    settings = yaml.safe_load((mesh.root / "levada.yaml").read_text())
    settings["tell"] = ["sh", "-c", f"cat >> {log}"]
    (mesh.root / "levada.yaml").write_text(yaml.safe_dump(settings))
    with mesh.lake() as lake:
        lake._writer.run(
            ["operations"], lambda c: c.execute("delete from operations.main.flights_v1")
        )

    mesh.levada("run")

    assert mesh.json("why", "operations.flights", DAY)["state"] == "HELD"
    (message,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert message["table"] == "operations.flights@1"
