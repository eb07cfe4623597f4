"""
kill -9 of what runs a task in real Airflow, in build, in audit, before the swap and after it:
everything arrives exactly once.

The DAG file of the test arms the first tasks that come: a task's own process, or with it the worker
of the LocalExecutor that watches over it, so that nobody is left to report its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import yaml
from live import Live, until

pytestmark = [pytest.mark.airflow, pytest.mark.integration, pytest.mark.prove]

DAYS = [f"2013-03-{day:02}" for day in range(8, 16)]
NUMBERS, SUMS = "north.numbers", "south.sums"
POINTS = {"build": ("in build",), "publish": ("in audit", "after intent", "after swap")}
KILLS = [
    f"{task}, {point}, {who}"
    for task, points in POINTS.items()
    for point in points
    for who in ("alone", "with its worker")
]

ARMED = f"""

import os, signal, sys
from pathlib import Path
from airflow.sdk import get_parsing_context

def killing(wish):
    def die():
        try:
            wish.rename(wish.parents[1] / "killed" / wish.name)
        except FileNotFoundError:
            return  # another one was quicker
        if "worker" in wish.name:
            os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return die

task = get_parsing_context().task_id
if task in ("build", "publish"):
    sys.path.insert(0, "{Path(__file__).parents[1] / "support"}")
    from killed import POINTS
    for wish in sorted(Path(os.environ["LEVADA_PROJECT"], "armed").glob(f"{{task}}, *"))[:1]:
        POINTS[wish.name.split(", ")[1]](killing(wish))
"""


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Live]:
    mesh = Live(tiny.mesh(tmp_path / "mesh", ("north", "south"), last=DAYS[-1]).root)
    words = yaml.safe_load((mesh.root / "levada.yaml").read_text())
    words |= {"probe": {"every": "2s", "horizon": "40d"}, "lease": "10s"}
    (mesh.root / "levada.yaml").write_text(yaml.safe_dump(words))
    tiny.project(mesh, "north", lands=True)
    tiny.contract(mesh, "north", "numbers")
    source = "{{ source('landing', 'numbers') }}"
    tiny.model(mesh, "north", "numbers", f"select {tiny.NUMBERS} from {source}")
    tiny.project(mesh, "south")
    tiny.contract(mesh, "south", "sums")
    reads = "{{ ref('north', 'numbers') }}"
    tiny.model(mesh, "south", "sums", f"select id, day, amount from {reads}")
    for folder in ("armed", "killed"):
        (mesh.root / folder).mkdir()
    for kill in KILLS:
        (mesh.root / "armed" / kill).touch()
    try:
        yield mesh
    finally:
        mesh.land_hard()
        mesh.stop()


def test_tasks_that_are_killed_lose_nothing_and_double_nothing(mesh: Live) -> None:
    mesh.start()
    mesh.fly("north", "south")
    file = mesh.root / "dags" / "north.py"
    file.write_text(file.read_text() + ARMED)
    for day in DAYS:
        tiny.landed(mesh, "north", day, [1, 2])

    def arrived() -> bool:
        wanted = {f"{table}@1": len(DAYS) for table in (NUMBERS, SUMS)}
        killed = {path.name for path in (mesh.root / "killed").iterdir()}
        return mesh.counts() == wanted and killed == set(KILLS) and given_up()

    def given_up() -> bool:
        """Airflow has seen each kill: after one behind the swap all may be ready before that."""
        said = "select task_id, count(*) from task_instance_history where dag_id = %s group by 1"
        tries = dict(mesh.airflow(said, NUMBERS))
        return all(tries.get(task, 0) >= 2 * len(points) for task, points in POINTS.items())

    said = "select dag_id, task_id, state, try_number from task_instance order by 1, 2"
    until(arrived, lambda: (mesh.lines(), mesh.airflow(said), mesh.faults()), 420)

    for table in (NUMBERS, SUMS):
        assert sorted(mesh.lines()[f"{table}@1"]) == [(f"{day}T00:00:00+00:00", 1) for day in DAYS]
    assert mesh.rows("select run from ledger.claims") == []
    assert mesh.rows("select run from ledger.intents") == []
