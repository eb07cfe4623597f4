"""Builds of several intervals in shards: disjoint, complete, and the same as in one piece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import tiny
from workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DAYS = [f"2013-03-{day:02}" for day in range(8, 12)]
SUMS = "south.sums"
READS = "{{ ref('north', 'numbers') }}"
LEVADA = "{{{{ config(meta={{'levada': {{'batch': true{more}}}}}) }}}}\n"
WHOLE = LEVADA.format(more="")
CUT = LEVADA.format(more=", 'shards': {'key': 'id', 'count': 3}")
SUMMED = "select id, day, cast(sum(amount) as integer) as amount"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    root = tmp_path_factory.mktemp("shards") / "mesh"
    mesh = tiny.mesh(root, ("north", "south"), last=DAYS[-1])
    tiny.project(mesh, "north", lands=True)
    tiny.contract(mesh, "north", "numbers")
    source = "{{ source('landing', 'numbers') }}"
    tiny.model(mesh, "north", "numbers", f"{CUT}select {tiny.NUMBERS} from {source}")
    tiny.project(mesh, "south")
    tiny.contract(mesh, "south", "sums")
    tiny.model(mesh, "south", "sums", f"{WHOLE}{SUMMED} from {READS} group by all")
    for day in DAYS:
        tiny.landed(mesh, "north", day, list(range(20)))
    mesh.start()
    mesh.levada("run")
    yield mesh
    mesh.stop()


def contents(mesh: Workspace) -> dict[tuple[str, str], str]:
    """The newest content of every interval, from its rows."""
    rows = mesh.rows("select table_name, part, content from ledger.publications where newest")
    return {(table, part): content for table, part, content in rows}


def remade(mesh: Workspace, name: str, sql: str, code: int = 0) -> Any:
    """The sums, made again by this model."""
    tiny.model(mesh, "south", "sums", sql)
    mesh.levada("compile")
    path = mesh.root / f"{name}.json"
    mesh.levada("backfill", "plan", SUMS, "--reason", name, "--out", str(path))
    return mesh.json("backfill", "run", str(path), "--local", "--force", code=code)


def test_the_union_of_the_shards_is_the_unsharded_result(mesh: Workspace) -> None:
    """What landed was cut already: the numbers are ingested in three shards."""
    before = contents(mesh)
    assert {content.split(":")[0] for content in before.values()} == {"20"}
    with mesh.lake() as lake:
        (row,) = lake.read("select count(distinct id) as n from north.main.numbers_v1")
    assert row == {"n": 20}
    told = remade(mesh, "cut", f"{CUT}{SUMMED} from {READS} group by all")
    assert told["steps"] == {"made": len(DAYS)}
    assert contents(mesh) == before


def test_a_union_that_is_not_disjoint_is_refused_and_the_intervals_are_built_whole(
    mesh: Workspace,
) -> None:
    moved = "select id + 1 as id, day, amount"
    told = remade(mesh, "moved", f"{CUT}{moved} from {READS}")
    assert told["steps"] == {"made": len(DAYS)}
    runs = mesh.rows(
        "select distinct run from ledger.backfill_steps where backfill = %s", told["id"]
    )
    assert len(runs) == len(DAYS), "one by one, after the batch was refused"
    found = contents(mesh)
    remade(mesh, "whole", f"{WHOLE}{moved} from {READS}")
    assert contents(mesh) == found


def test_a_declaration_that_cuts_nothing_is_refused_with_its_reason(mesh: Workspace) -> None:
    for words, said in (
        ("{'key': 'nobody', 'count': 3}", "promises no such column"),
        ("{'key': 'id', 'count': 1}", "1 is no number of shards"),
        ("{'key': 'id'}", "says no key and count"),
    ):
        more = LEVADA.format(more=f", 'shards': {words}")
        tiny.model(mesh, "south", "sums", f"{more}select id, day, amount from {READS}")
        assert said in mesh.levada("check", code=2).stderr
    tiny.model(mesh, "south", "sums", f"{CUT}{SUMMED} from {READS} group by all")
    mesh.levada("check")


def test_killed_in_the_third_of_four_shards_it_repeats_only_the_third_and_the_fourth(
    mesh: Workspace,
) -> None:
    four = LEVADA.format(more=", 'shards': {'key': 'id', 'count': 4}")
    remade(mesh, "in four", f"{four}{SUMMED} from {READS} group by all")
    before, path = contents(mesh), mesh.root / "killed.json"
    words = ("backfill", "run", str(path), "--local", "--force")
    mesh.levada("backfill", "plan", SUMS, "--reason", "killed", "--out", str(path))
    mesh.killed_at("in the third shard", *words)
    assert built(mesh) == {"0.duckdb", "1.duckdb"}
    known = runs(mesh)
    told = mesh.json(*words)
    assert told["steps"] == {"made": len(DAYS)}
    ((_, builds),) = (runs(mesh) - known).items()
    assert builds == 2, "the third shard and the fourth"
    assert built(mesh) == set(), "nothing of it is left"
    assert contents(mesh) == before

    path = mesh.root / "killed again.json"
    words = ("backfill", "run", str(path), "--local", "--force")
    mesh.levada("backfill", "plan", SUMS, "--reason", "killed again", "--out", str(path))
    mesh.killed_at("in the third shard", *words)
    assert built(mesh) == {"0.duckdb", "1.duckdb"}
    known = runs(mesh)
    told = remade(mesh, "another", f"{four}{SUMMED} from {READS} group by all")
    assert told["steps"] == {"made": len(DAYS)}
    ((_, builds),) = (runs(mesh) - known).items()
    assert builds == 4, "of another forced backfill nothing is taken over"
    assert built(mesh) == {"0.duckdb", "1.duckdb"}, "nor is anything of it removed"
    known = runs(mesh)
    assert mesh.json(*words)["steps"] == {"made": len(DAYS)}
    assert runs(mesh) == known, "made for another since it was asked for: it is made"
    assert contents(mesh) == before


def built(mesh: Workspace) -> set[str]:
    """The shards that are kept of builds which have not ended."""
    place = mesh.root / ".levada" / "stages" / ".kept" / ".shards"
    return {path.name for path in place.rglob("*.duckdb")}


def runs(mesh: Workspace) -> Counter[str]:
    """How often dbt was run for each run of the sums."""
    logs = (mesh.root / ".levada" / "logs" / "dbt" / "south").glob("run-*/dbt.log")
    return Counter({p.parent.name: p.read_text().count("Running with dbt") for p in logs})
