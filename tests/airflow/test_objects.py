"""
Objects that land in a store, on real Airflow, published in PostgreSQL: a DAG waits for one without
holding anything, and starts when it has landed; a store that is away is nothing worse than a wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import psutil
import psycopg
import pytest
import store as stores
import tiny
import yaml
from live import Live, until
from store import SECRET, Store

from levada_sensors import service

pytestmark = [pytest.mark.airflow, pytest.mark.integration, pytest.mark.prove]

DAYS = FIRST, AWAY = "2013-03-08", "2013-03-09"
NUMBERS, SUMS = "north.numbers", "south.sums"
TABLES = (f"{NUMBERS}@1", f"{SUMS}@1")


@pytest.fixture
def store() -> Iterator[Store]:
    with stores.serve() as serving:
        yield serving


@pytest.fixture
def mesh(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    """One domain reads objects, the other what the first one publishes."""
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)  # of whoever runs `levada up`
    mesh = Live(tiny.mesh(tmp_path / "mesh", ("north", "south"), last=AWAY).root)
    words = yaml.safe_load((mesh.root / "levada.yaml").read_text())
    words |= {"landing": {"numbers": "s3://bucket/in"}, "warehouse": {"type": "postgres"}}
    words |= {"probe": {"every": "1s", "horizon": "40d"}, "lease": "10s"}
    (mesh.root / "levada.yaml").write_text(yaml.safe_dump(words))
    tiny.project(mesh, "north", lands=True)
    tiny.contract(mesh, "north", "numbers")
    source = "{{ source('landing', 'numbers') }}"
    tiny.model(mesh, "north", "numbers", f"select {tiny.CASTS} from {source}")
    tiny.project(mesh, "south")
    tiny.contract(mesh, "south", "sums")
    reads = "{{ ref('north', 'numbers') }}"
    tiny.model(mesh, "south", "sums", f"select id, day, amount from {reads}")
    mesh.start()
    try:
        mesh.fly("north", "south")
        yield mesh
    finally:
        mesh.land_hard()
        mesh.stop()


def land(store: Store, day: str, *amounts: int) -> None:
    rows = [f"{n},{day},{amount}" for n, amount in enumerate(amounts)]
    content = "\n".join([",".join(tiny.COLUMNS), *rows, ""])
    store.objects[f"/bucket/in/north/{day}.csv"] = content.encode()


def sums(mesh: Live) -> list[tuple[str, int]]:
    """What is published at the end of the way: days and amounts."""
    with psycopg.connect(mesh.credentials.url("levada_domain_south", "warehouse")) as connection:
        found = connection.execute("select day, amount from south.sums_v1 order by day, id")
        return [(str(day), amount) for day, amount in found]


def senses(mesh: Live) -> Counter[str]:
    return Counter(state for _, state, _, _ in mesh.tasks("sense"))


def who_knows(mesh: Live) -> set[str]:
    """The components of Airflow whose environment holds the store's secret."""
    found = set()
    for name, pid in service.running(mesh.settings).items():
        for process in (psutil.Process(pid), *psutil.Process(pid).children()):
            if name != "supervisor" and SECRET in process.environ().values():
                found.add(name)
    return found


def test_a_dag_starts_when_its_object_has_landed_and_a_store_that_is_away_is_a_wait(
    mesh: Live, store: Store
) -> None:
    until(lambda: senses(mesh) == {"deferred": 4}, lambda: (senses(mesh), mesh.faults()))
    assert {(pid, host) for _, _, pid, host in mesh.tasks("sense")} == {(None, "")}
    assert mesh.lines() == {}
    assert who_knows(mesh) == {"scheduler", "triggerer"}

    land(store, FIRST, 10, 20)
    until(lambda: mesh.counts() == dict.fromkeys(TABLES, 1), mesh.lines)
    assert sums(mesh) == [(FIRST, 10), (FIRST, 20)]
    assert store.asked("GET").count(f"/bucket/in/north/{FIRST}.csv") == 1, "fetched once, by one"

    # While the store is away the second day lands, and the first is replaced.
    store.broken = HTTPStatus.SERVICE_UNAVAILABLE
    land(store, AWAY, 30)
    land(store, FIRST, 11, 20)

    def because() -> str:
        return str(mesh.json("why", NUMBERS, AWAY)["causes"][0]["because"])

    until(lambda: because().startswith("could not be asked since "), because)
    assert because().endswith("s3://bucket/in: 503 Service Unavailable")
    assert mesh.json("why", NUMBERS, FIRST)["state"] == "READY"
    assert senses(mesh)["deferred"] == 2

    store.broken = None
    until(lambda: mesh.counts() == dict.fromkeys(TABLES, 3), mesh.lines)
    for table in TABLES:
        assert mesh.generations(table, FIRST) == [1, 2]
        assert mesh.generations(table, AWAY) == [1]
    assert sums(mesh) == [(FIRST, 11), (FIRST, 20), (AWAY, 30)]
    ended = "select distinct state from dag_run where dag_id in (%s, %s)"
    until(lambda: mesh.airflow(ended, NUMBERS, SUMS) == [("success",)], mesh.lines)
    tried = "select task_id, try_number from task_instance where state not in ('success')"
    assert mesh.airflow(f"{tried} and dag_id in (%s, %s)", NUMBERS, SUMS) == []
    assert not [path for path in (mesh.root / ".levada").rglob("*.log") if _tells(path)]


def _tells(path: Path) -> bool:
    """Whether a log repeats the store's secret."""
    return SECRET.encode() in path.read_bytes()
