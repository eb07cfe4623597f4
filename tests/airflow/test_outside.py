"""Airflow's connections lead to the tables outside the mesh, and say why where they do not."""

from __future__ import annotations

import asyncio
import json

import pytest

from levada.errors import Unavailable
from levada_sensors import connections

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
