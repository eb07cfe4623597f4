"""Airflow's connections lead to the tables outside the mesh, and say why where they do not."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import psycopg
import pytest
from tests.conftest import Ledgers

from levada import compiled
from levada.errors import Unavailable
from levada.ledger.roles import OWNER, RUNNER
from levada.settings import Settings
from levada.terms import Facts, Grain, Mesh, Source, TableProbe, TableRef
from levada_sensors import connections, watching
from levada_sensors.watching import ReconcileTrigger

pytestmark = pytest.mark.airflow

SHOP = {
    "conn_type": "postgres",
    "host": "db.example",
    "port": 5433,
    "login": "reader",
    "password": "a/b",
    "schema": "shop",
    "extra": {"sslmode": "require"},
}
ADDRESS = "postgresql://reader:a%2Fb@db.example:5433/shop?sslmode=require"


def test_a_connection_of_airflow_leads_to_the_same_place_for_tasks_and_triggers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", json.dumps(SHOP))

    asyncio.run(connections.look_up_outside(["shop_db"]))

    assert connections.outside("shop_db") == ADDRESS
    assert connections.looked_up("shop_db") == ADDRESS


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (json.dumps(SHOP | {"conn_type": "mysql"}), "it is of type mysql"),
        (None, "isn't defined"),
    ],
)
def test_a_connection_that_leads_nowhere_is_said_and_not_raised_in_a_trigger(
    monkeypatch: pytest.MonkeyPatch, said: str | None, why: str
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SHOP_DB", raising=False)
    if said:
        monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", said)

    asyncio.run(connections.look_up_outside(["shop_db"]))

    with pytest.raises(Unavailable, match=why):
        connections.looked_up("shop_db")
    with pytest.raises(Unavailable, match=why):
        connections.outside("shop_db")


def test_a_connection_that_nobody_looked_up_is_not_guessed() -> None:
    with pytest.raises(Unavailable, match="it was not looked up"):
        connections.looked_up("another")


def test_the_reconcilers_trigger_asks_there_and_the_ledger_keeps_what_it_found(
    ledgers: Ledgers, project: Settings, mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A table of the very database that holds this ledger: any other would do.
    with psycopg.connect(ledgers.url(OWNER), autocommit=True) as connection:
        connection.execute("create table ledger.orders (id int, day date)")
        connection.execute("insert into ledger.orders values (1, '2013-03-10'), (2, '2013-03-12')")
    asked = TableProbe("shop_db", "ledger.orders", "day")
    orders = Source(
        TableRef("operations", "sales.orders", 0),
        *(Grain.DAY, mesh.zone, "shop_db:ledger.orders", ("id",), "s"),
        probe=asked,
    )
    (project.root / "levada.yaml").write_text(
        (project.root / "levada.yaml").read_text() + "connections: [shop_db]\n"
    )
    compiled.save(project, replace(mesh, products=(), sources=(orders,)), project.domains)
    trigger = ReconcileTrigger(root=str(project.root))

    def listed(address: str) -> tuple[int, Facts]:
        monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", address)
        watching._probes.clear()  # as if `probe.every` had passed
        asyncio.run(connections.look_up_outside(["shop_db"]))
        count = trigger._list(ledgers.url(RUNNER))
        return count, ledgers.runner.facts([orders.table], [])

    found, facts = listed(ledgers.url(OWNER))
    lost, later = listed("postgresql://nobody:p@127.0.0.1:1/x")

    assert (found, lost) == (2, 0)
    assert sorted(p.key for _, p in facts.lines) == ["2013-03-10", "2013-03-12"]
    assert facts.probes == {}
    assert later.lines == facts.lines
    assert "Connection refused" in later.probes[orders.table].because
