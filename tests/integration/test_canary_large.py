"""A canary over a million rows: one cent is found, and the old version is served."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import contract, landed, mesh, model, project

pytestmark = [pytest.mark.integration, pytest.mark.prove]

ROWS = 1_000_000
MODEL = """\
select
    cast(n as integer) as id
    , try_cast(day as date) as day
    , cast(cast(n / 100 as decimal(12, 2)) {cent} as decimal(12, 2)) as amount
from {{{{ source('landing', 'numbers') }}}}
cross join range({rows}) as numbers (n)
"""


def test_one_cent_in_a_million_rows_is_found_and_the_old_version_served(tmp_path: Path) -> None:
    store = mesh(tmp_path, ["store"], last="2013-03-09")
    path = contract(store, "store", "numbers")
    promised = "name: amount, physicalType: INTEGER, logicalType: integer"
    exact = "name: amount, physicalType: 'DECIMAL(12,2)', logicalType: number"
    assert promised in path.read_text()
    path.write_text(path.read_text().replace(promised, exact))
    project(store, "store", lands=True)
    model(store, "store", "numbers", MODEL.format(rows=ROWS, cent=""))
    landed(store, "store", "2013-03-08", [1])
    store.start()
    try:
        store.levada("run")
        cent = "+ case when n = 777777 then 0.01 else 0 end"
        model(store, "store", "numbers", MODEL.format(rows=ROWS, cent=cent))
        words = ("--reason", "round otherwise", "--intervals", "1")
        store.levada("canary", "start", "store.numbers", *words)
        landed(store, "store", "2013-03-09", [1])
        store.levada("run")

        (interval,) = store.json("canary", "status", "store.numbers")[0]["intervals"]
        found = interval["differences"]["store.numbers@1"]
        # The contract names no key: a row that differs is one of each side.
        keys = [sample["key"] for sample in found["samples"]]
        assert (interval["equal"], found["only_old"], found["only_new"]) == (False, 1, 1)
        assert keys == [
            ["777777", "2013-03-09", "7777.77"],
            ["777777", "2013-03-09", "7777.78"],
        ]
        ((content, run),) = store.rows(
            "select content, run from ledger.publications where part like '%%2013-03-09%%'"
        )
        assert (content.split(":")[0], run.endswith(".old")) == (str(ROWS), True)
        assert store.json("reproduce", "store.numbers", "2013-03-09")["verdict"] == "identical"
    finally:
        store.stop()
