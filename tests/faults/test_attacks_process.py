"""
What code of a domain tries inside the process that builds: a Python model may do whatever Python
can. It reports what came of each attempt, and its product is published all the same.
"""

from __future__ import annotations

import json
import socket
import textwrap
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from source_system import land_span
from tests.faults.test_domain_code import CATALOGUE, FOUND
from workspace import Workspace

from levada.adapters import confine

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(confine.version() < 6, reason="this kernel has no Landlock of version 6"),
]

DAY = "2013-03-08"
LOGS = ".levada/logs/dbt/operations"

# Runs in the domain's process, with its rights. `try_` keeps what an attempt gave, or its refusal.
CODE = """
import ctypes, json, os, socket, subprocess, tempfile
from pathlib import Path

ROOT, PORT = Path({root!r}), {port}
HOME = ROOT / ".levada"
said = {{}}

def ancestors():
    pid = os.getpid()
    while pid > 1:
        lines = Path(f"/proc/{{pid}}/status").read_text().splitlines()
        pid = next(int(line.split()[1]) for line in lines if line.startswith("PPid:"))
        if pid > 1:
            yield pid

def try_(name, attempt):
    try:
        said[name] = f"done: {{attempt()!r}}"
    except Exception as error:
        said[name] = f"refused: {{type(error).__name__}}: {{error}}"

def every(attempt, over):
    for one in over:
        try_("one", lambda: attempt(one))
        if (gave := said.pop("one")).startswith("done"):
            what = Path(f"/proc/{{one}}/cmdline").read_bytes()
            return f"{{one}} ({{what!r}}) gave way: {{gave[:200]}}"
    raise PermissionError("none gave way")

def some(found):
    if not found:
        raise ValueError("nothing")
    return found

def ptrace(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, None, None) != 0:
        raise PermissionError(os.strerror(ctypes.get_errno()))

def overwrite(path):
    with path.open("r+b") as file:
        file.write(b"x")

def leave_behind():
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        Path(tempfile.gettempdir(), "left").write_text(str(os.getpid()))
        os.execv("/bin/sleep", ["sleep", "600"])
    os.waitpid(child, 0)

def model(dbt, session):
    dbt.config(materialized="table")
    lake = next((HOME / "lake").rglob("*.parquet"))
    landed = Path({landed!r})
    weather = HOME / "stages/weather/run-x/stage.duckdb"
    overheard = HOME / "logs/dbt/weather/run-x/output.log"
    extension = f"{{tempfile.gettempdir()}}/x.duckdb_extension"
    sql = lambda text: session.sql(text).fetchall()
    try_("reads the secrets", (HOME / "secrets.json").read_text)
    try_("reads the secrets by SQL", lambda: sql(f"from read_text('{{HOME}}/secrets.json')"))
    try_("replaces the secrets", lambda: Path(tempfile.mkstemp()[1]).rename(HOME / "secrets.json"))
    try_("reads the platform's environment", lambda: every(
        lambda pid: some(Path(f"/proc/{{pid}}/environ").read_bytes()), ancestors()))
    try_("reads the platform's memory", lambda: every(
        lambda pid: Path(f"/proc/{{pid}}/mem").open("rb").read(1), ancestors()))
    try_("looks through the platform's descriptors", lambda: every(
        lambda pid: os.listdir(f"/proc/{{pid}}/fd") and os.readlink(f"/proc/{{pid}}/fd/0"),
        ancestors()))
    try_("traces the platform", lambda: every(ptrace, ancestors()))
    try_("signals the platform", lambda: every(lambda pid: os.kill(pid, 0), ancestors()))
    try_("overwrites a published file", lambda: overwrite(lake))
    try_("removes a published file", lake.unlink)
    try_("adds a file to the lake", (lake.parent / "mine.parquet").touch)
    try_("adds a file to the lake by SQL", lambda: sql(
        f"copy (select 1 as a) to '{{lake.parent}}/mine.parquet'"))
    try_("reads what another domain stages", weather.read_bytes)
    try_("reads the platform's copy of a stage", lambda: os.listdir(HOME / "stages/.kept"))
    try_("reads what another domain's build said", overheard.read_text)
    try_("reads what has landed", landed.read_text)
    try_("lands a file", (landed.parent / "2013-03-09.csv").touch)
    try_("changes a contract", lambda: overwrite(next((ROOT / "contracts").rglob("*.yaml"))))
    try_("changes its compiled declarations", lambda: overwrite(HOME / "operations.json"))
    try_("changes its parsed manifest", lambda: overwrite(HOME / "manifests/operations.msgpack"))
    try_("changes the settings", lambda: overwrite(ROOT / "levada.yaml"))
    try_("writes elsewhere", Path("/tmp/levada-attack").touch)
    try_("speaks to another server", lambda: socket.create_connection(("127.0.0.1", PORT), 5))
    try_("installs an extension", lambda: sql("install httpfs"))
    try_("loads an extension of its own", lambda: sql(f"load '{{extension}}'"))
    began_with = Path("/proc/self/environ").read_bytes().split(b"\\0")
    said["its environment"] = sorted(word.split(b"=")[0].decode() for word in began_with)
    files = [f"/proc/self/fd/{{n}}" for n in os.listdir("/proc/self/fd")]
    said["its descriptors"] = [os.readlink(file) for file in files if os.path.lexists(file)]
    leave_behind()
    Path(tempfile.gettempdir(), "said.json").write_text(json.dumps(said))
    return session.sql("select 1 as x")
"""

REFUSED = (
    "reads the secrets",
    "reads the secrets by SQL",
    "replaces the secrets",
    "reads the platform's environment",
    "reads the platform's memory",
    "looks through the platform's descriptors",
    "traces the platform",
    "signals the platform",
    "overwrites a published file",
    "removes a published file",
    "adds a file to the lake",
    "adds a file to the lake by SQL",
    "reads what another domain stages",
    "reads the platform's copy of a stage",
    "reads what another domain's build said",
    "reads what has landed",
    "lands a file",
    "changes a contract",
    "changes its compiled declarations",
    "changes its parsed manifest",
    "changes the settings",
    "writes elsewhere",
    "speaks to another server",
    "installs an extension",
    "loads an extension of its own",
)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One domain, whose product reads a private model of Python that attacks whatever it can."""
    workspace = Workspace.make(
        tmp_path_factory.mktemp("process"), domains=["operations"], first=DAY, last=DAY
    )
    land_span(date(2013, 3, 8), date(2013, 3, 8), workspace.landing)
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        workspace.start()
        workspace.levada("run", "operations.flights")
        home = workspace.root / ".levada"
        for place in ("stages/weather/run-x/stage.duckdb", "logs/dbt/weather/run-x/output.log"):
            (home / place).parent.mkdir(parents=True)
            (home / place).write_text("weather's own")
        landed = workspace.landed("flights", DAY)
        port = elsewhere.getsockname()[1]
        code = CODE.format(root=str(workspace.root), port=port, landed=str(landed))
        model = workspace.root / "models/operations/ingest/flights.sql"
        model.with_name("attack.py").write_text(textwrap.dedent(code).lstrip())
        model.write_text("-- depends_on: {{ ref('attack') }}\n" + model.read_text())
        landed.write_text(landed.read_text().replace(",UA,", ",AA,", 1))
        workspace.levada("run", "operations.flights")
        yield workspace
        workspace.stop()


@pytest.fixture(scope="module")
def said(mesh: Workspace) -> dict[str, object]:
    """What came of each attempt."""
    found: dict[str, object] = json.loads((mesh.root / LOGS / "tmp/said.json").read_text())
    return found


@pytest.mark.parametrize("attempt", REFUSED)
def test_what_a_python_model_tries_is_refused(said: dict[str, object], attempt: str) -> None:
    assert str(said[attempt]).startswith("refused: "), said[attempt]


def test_every_attempt_is_expected(said: dict[str, object]) -> None:
    assert set(said) == {*REFUSED, "its environment", "its descriptors"}


def test_a_build_inherits_no_secret_and_no_file(said: dict[str, object], mesh: Workspace) -> None:
    environment, descriptors = said["its environment"], said["its descriptors"]
    assert isinstance(environment, list)
    assert isinstance(descriptors, list)
    assert not [name for name in environment if name.startswith(("AIRFLOW", "LEVADA_DATABASE"))]
    own = (f"{mesh.root}/.levada/stages/operations/", f"{mesh.root}/{LOGS}/")
    inside = [place for place in descriptors if place.startswith(str(mesh.root))]
    assert inside
    assert [place for place in inside if not place.startswith(own)] == []


def test_an_attacked_product_is_published_with_what_the_model_says(mesh: Workspace) -> None:
    generations = [g for table, _, g, *_ in mesh.publications() if table == "operations.flights@1"]
    assert generations == [1, 2]
    mesh.levada("ledger", "verify")


def test_a_process_that_a_build_leaves_behind_is_ended(mesh: Workspace) -> None:
    pid = int((mesh.root / LOGS / "tmp/left").read_text())
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_what_a_build_staged_is_gone_after_it(mesh: Workspace) -> None:
    stages = mesh.root / ".levada/stages"
    assert list((stages / "operations").iterdir()) == []
    assert list((stages / ".kept").iterdir()) == []


PLACES = ("on-run-start", "on-run-end", "statement")


@pytest.mark.parametrize("place", PLACES)
def test_sql_of_a_hook_of_the_project_or_of_a_statement_is_refused(
    mesh: Workspace, place: str
) -> None:
    project = mesh.root / "models/operations"
    forged = "update operations.ducklake_snapshot set snapshot_id = 1"
    attack = FOUND + CATALOGUE + f"call postgres_execute('catalogue', '{forged}')"
    macros = "{% macro attack() %}{% if execute %}" + attack + "{% endif %}{% endmacro %}"
    (project / "macros").mkdir(exist_ok=True)
    (project / "macros/attack.sql").write_text(macros)
    path = project / ("ingest/flights.sql" if place == "statement" else "dbt_project.yml")
    sound = path.read_text()
    call = "{% if execute %}{% call statement('a') %}{{ attack() }}{% endcall %}{% endif %}\n"
    hook = f'\n{place}: ["{{{{ attack() }}}}"]\n'
    path.write_text(call + sound if place == "statement" else sound + hook)
    before = mesh.publications()
    landed = mesh.landed("flights", DAY)
    landed.write_text(landed.read_text().replace(",AA,", ",UA,", 1 + PLACES.index(place)))

    (withheld,) = mesh.json("run", "operations.flights", code=1)["withheld"]

    path.write_text(sound)
    assert "permission denied for" in withheld["because"]
    assert mesh.publications() == before
