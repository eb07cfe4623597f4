"""`levada release` lets go what an edge holds, and not what a sunset does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tiny
from workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DAY, SUMS = "2013-03-08", "south.sums"
HOLD = """\
models:
  - name: sums
    config: {meta: {levada: {inputs: {north.numbers: {on_restatement: hold}}}}}
"""


@pytest.fixture
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One domain lands numbers; the other asks before it follows what changed of them."""
    made = tiny.mesh(tmp_path_factory.mktemp("release") / "mesh", ["north", "south"])
    tiny.project(made, "north", lands=True)
    tiny.contract(made, "north", "numbers")
    source = "{{ source('landing', 'numbers') }}"
    tiny.model(made, "north", "numbers", f"select {tiny.NUMBERS} from {source}")
    (tiny.project(made, "south") / "base" / "base.yml").write_text(HOLD)
    tiny.contract(made, "south", "sums")
    reads = "{{ ref('north', 'numbers') }}"
    tiny.model(made, "south", "sums", f"select id, day, amount from {reads}")
    tiny.landed(made, "north", DAY, [1])
    made.start()
    try:
        yield made
    finally:
        made.stop()


def run(mesh: Workspace) -> set[tuple[str, int]]:
    return {(line["table"], line["generation"]) for line in mesh.json("run")["published"]}


def state(mesh: Workspace) -> str:
    return str(mesh.json("why", SUMS, DAY)["state"])


def test_a_held_change_waits_for_a_release_and_a_sunset_for_another_date(mesh: Workspace) -> None:
    release = ("release", SUMS, DAY, "--reason", "seen")
    assert run(mesh) == {("north.numbers@1", 1), (f"{SUMS}@1", 1)}
    mesh.levada(*release, code=1)
    for generation in (2, 3):  # released, it is held again by the next change
        tiny.landed(mesh, "north", DAY, [generation])
        assert run(mesh) == {("north.numbers@1", generation)}
        assert state(mesh) == "HELD"
        assert "it was held: north.numbers@1 2013-03-08 changed" in mesh.levada(*release).stdout
        assert run(mesh) == {(f"{SUMS}@1", generation)}
        assert state(mesh) == "READY"

    contract = mesh.root / "contracts/south/sums.v1.odcs.yaml"
    over = "slaProperties: [{property: endOfLife, value: 2020-01-01}]\n"
    text = contract.read_text().replace("version: 1.0.0", "version: 1.1.0")
    contract.write_text(text + over)
    assert run(mesh) == set()
    assert state(mesh) == "HELD"
    said = mesh.levada(*release, code=1).stdout
    assert "no edge holds it, but this: its sunset was on 2020-01-01" in said
    text = text.replace("version: 1.1.0", "version: 1.2.0")
    contract.write_text(text + over.replace("2020", "2120"))
    mesh.levada("run")
    assert state(mesh) == "READY"
