"""A chain of six hops over three domains: `why` of its end names the root; mended, all arrives."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import tiny
from workspace import Workspace

pytestmark = pytest.mark.integration

DAY = "2013-03-08"
DOMAINS = ("spring", "channel", "garden")
# Table by table, each in the next domain: what it reads. Two shortcuts, so that ways differ.
READS = {0: [], 1: [0], 2: [1], 3: [2], 4: [3, 1], 5: [4], 6: [5, 4]}
LAST = 6


def table(number: int) -> tuple[str, str]:
    return DOMAINS[number % 3], f"hop_{number}"


def label(number: int) -> str:
    return "{}.{}@1".format(*table(number))


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """The chain; what landed for its first table has a number that is none."""
    workspace = tiny.mesh(tmp_path_factory.mktemp("hops") / "mesh", DOMAINS)
    for domain in DOMAINS:
        tiny.project(workspace, domain, lands=domain == DOMAINS[0])
    for number, reads in READS.items():
        tiny.contract(workspace, *table(number))
        sources = [_reference(number, read) for read in reads]
        sql = f"select {tiny.NUMBERS} from {{{{ source('landing', 'numbers') }}}}"
        if sources:
            sql = f"select id, day, amount + 1 as amount from {sources[0]}"
            sql += "".join(f" where id in (select id from {other})" for other in sources[1:])
        tiny.model(workspace, *table(number), sql)
    tiny.landed(workspace, DOMAINS[0], DAY, [10, "ten", 30])
    workspace.start()
    yield workspace
    workspace.stop()


def _reference(reader: int, read: int) -> str:
    domain, name = table(read)
    own = table(reader)[0] == domain
    return f"{{{{ ref('{name}') }}}}" if own else f"{{{{ ref('{domain}', '{name}') }}}}"


def roots(number: int, states: dict[str, str]) -> set[str]:
    """A plain search over the declared edges: the tables above that fail by themselves."""
    above = set().union(*(roots(read, states) for read in READS[number]), set())
    return above or ({label(number)} if states[label(number)] == "FAILED" else set())


def states(mesh: Workspace) -> dict[str, str]:
    return {f"{row['product']}@1": row["state"] for row in mesh.json("status")}


def test_why_of_the_last_table_names_the_root_that_a_plain_search_finds(mesh: Workspace) -> None:
    mesh.levada("run", code=1)

    found = states(mesh)
    said = mesh.json("why", ".".join(table(LAST)), DAY)

    assert found[label(0)] == "FAILED"
    assert {found[label(n)] for n in READS if n} == {"WAITING"}
    assert {cause["table"] for cause in said["causes"]} == roots(LAST, found) == {label(0)}
    (cause,) = said["causes"]
    assert cause["owner"].startswith("spring-data")
    way = [step.split()[0] for step in cause["path"]]
    numbers = [int(step.partition("hop_")[2].removesuffix("@1")) for step in way]
    assert (numbers[0], numbers[-1]) == (LAST, 0)
    assert all(above in READS[below] for below, above in itertools.pairwise(numbers))
    failed = [check for check in cause["checks"] if check["verdict"] == "FAIL"]
    assert [check["rows"] for check in failed], "the row that is none is shown"
    assert "amount" in str(failed)
    assert mesh.publications() == []


@pytest.mark.parametrize("number", [n for n in READS if n])
def test_why_of_every_table_between_names_the_same_root(mesh: Workspace, number: int) -> None:
    said = mesh.json("why", ".".join(table(number)), DAY)

    assert {cause["table"] for cause in said["causes"]} == roots(number, states(mesh))


@pytest.mark.prove
def test_the_mended_file_flows_through_all_six_hops(mesh: Workspace) -> None:
    tiny.landed(mesh, DOMAINS[0], DAY, [10, 20, 30])

    mesh.levada("run")

    assert set(states(mesh).values()) == {"READY"}
    assert [(line[0], line[2]) for line in mesh.publications()] == sorted(
        (label(number), 1) for number in READS
    )
    with mesh.lake() as lake:
        domain, name = table(LAST)
        rows = lake.read(f"select amount from {domain}.main.{name}_v1 order by id")
    assert [row["amount"] for row in rows] == [16, 26, 36], "one more at each hop"
    assert mesh.json("why", ".".join(table(LAST)), DAY)["causes"] == []
