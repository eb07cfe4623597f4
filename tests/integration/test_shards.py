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


def modelled(mesh: Workspace, sql: str, *, tested: bool = True) -> None:
    """The sums by this model; an equality test of the first three days finds it equal."""
    tiny.model(mesh, "south", "sums", sql)
    mesh.levada("compile")
    if tested:
        (told,) = mesh.json("backfill", "batchable", SUMS)
        assert told["equal"] is True


def remade(mesh: Workspace, name: str, table: str = SUMS) -> Any:
    """What a backfill of all days came to; it makes again all that reads the table, too."""
    path = mesh.root / f"{name}.json"
    mesh.levada("backfill", "plan", table, "--reason", name, "--out", str(path))
    return mesh.json("backfill", "run", str(path), "--local", "--force")


def runs_of(mesh: Workspace, told: Any) -> set[str]:
    """The runs that made the steps of a backfill."""
    return {
        run
        for (run,) in mesh.rows(
            "select run from ledger.backfill_steps where backfill = %s", told["id"]
        )
    }


def test_the_union_of_the_shards_is_the_unsharded_result(mesh: Workspace) -> None:
    """What lands is cut, too: the numbers are ingested in three shards."""
    before = contents(mesh)
    assert {content.split(":")[0] for content in before.values()} == {"20"}
    with mesh.lake() as lake:
        (row,) = lake.read("select count(distinct id) as n from north.main.numbers_v1")
    assert row == {"n": 20}
    modelled(mesh, f"{CUT}{SUMMED} from {READS} group by all")
    (numbers,) = mesh.json("backfill", "batchable", "north.numbers")
    assert numbers["equal"] is True
    known = runs(mesh)
    told = remade(mesh, "cut", "north.numbers")
    assert told["steps"] == {"made": 2 * len(DAYS)}
    assert len(runs_of(mesh, told)) == 2, "all days of each product together"
    ((_, builds),) = (runs(mesh) - known).items()
    assert builds == 3, "one after the other"
    assert contents(mesh) == before


def test_shards_that_nobody_has_compared_with_the_whole_are_not_built(mesh: Workspace) -> None:
    """Every row keeps its key, so no stranger is found; and a shard would count what it sees."""
    counted = "select id, day, cast(count(*) over (partition by day) as integer) as amount"
    modelled(mesh, f"{CUT}{counted} from {READS}", tested=False)
    path = mesh.root / "counted.json"
    plan = ("backfill", "plan", SUMS, "--reason", "counted", "--out", str(path))
    assert "one by one south.sums: no equality test has compared" in mesh.levada(*plan).stdout
    said = mesh.json(*plan)["told"]
    assert (said["runs"], said["runs_of"]) == (len(DAYS), {SUMS: len(DAYS)})
    told = mesh.json("backfill", "run", str(path), "--local", "--force")
    assert len(runs_of(mesh, told)) == len(DAYS)
    with mesh.lake() as lake:
        (row,) = lake.read("select min(amount) as low, max(amount) as high from south.main.sums_v1")
    assert row == {"low": 20, "high": 20}
    whole = contents(mesh)
    (found,) = mesh.json("backfill", "batchable", SUMS, code=1)
    assert found["because"].startswith(f"south.sums@1 {DAYS[0]}: other values")
    assert "one by one south.sums: an equality test found" in mesh.levada(*plan).stdout
    assert len(runs_of(mesh, remade(mesh, "found to differ"))) == len(DAYS)
    assert contents(mesh) == whole


def test_a_union_that_is_not_disjoint_is_refused_and_the_intervals_are_built_whole(
    mesh: Workspace,
) -> None:
    """The test has seen three days, and what it has not seen moves its rows to another key."""
    moved = f"select case when day = date '{DAYS[-1]}' then id + 1 else id end as id, day, amount"
    modelled(mesh, f"{CUT}{moved} from {READS}")
    known = runs(mesh)
    told = remade(mesh, "moved")
    assert told["steps"] == {"made": len(DAYS)}
    assert len(runs_of(mesh, told)) == len(DAYS), "one by one, after the batch was refused"
    assert len(runs(mesh) - known) == len(DAYS) + 1
    found = contents(mesh)
    modelled(mesh, f"{WHOLE}{moved} from {READS}", tested=False)
    remade(mesh, "whole")
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
    modelled(mesh, f"{four}{SUMMED} from {READS} group by all")
    remade(mesh, "in four")
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
    told = remade(mesh, "another")
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
    logs = (mesh.root / ".levada" / "logs" / "dbt" / "south").glob("*/dbt.log")
    return Counter({p.parent.name: p.read_text().count("Running with dbt") for p in logs})
