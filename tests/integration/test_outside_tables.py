"""A mesh that reads a table of another database and waits for a sign there, by the real command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import tiny
from workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.prove]

SOURCES = """\
sources:
  - name: sales
    tables:
      - name: orders
        config:
          meta:
            levada:
              connection: shop_db
              postgres: public.orders
              time: day
              complete_when: "{complete_when}"
              grain: day
        columns: [{{name: id}}, {{name: day}}, {{name: amount}}]
      - name: closed
        config:
          meta:
            levada:
              connection: shop_db
              query: "select max(at) from closings where day = :key::date"
              grain: day
"""
DAYS = ("2013-03-08", "2013-03-09")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """
    Orders are read from the shop's database; totals, of another domain, are made of them; reports
    wait for the shop's sign as well.
    """
    mesh = tiny.mesh(
        tmp_path_factory.mktemp("outside") / "mesh", ["sales", "finance"], last=DAYS[1]
    )
    settings = mesh.root / "levada.yaml"
    settings.write_text(settings.read_text() + "connections: [shop_db]\n")
    folder = tiny.project(mesh, "sales")
    (folder / "base/sources.yml").write_text(SOURCES.format(complete_when=":rows > 0"))
    (folder / "base/models.yml").write_text(
        "models:\n  - name: reports\n"
        "    config: {meta: {levada: {inputs: {sales.sales.closed: {}}}}}\n"
    )
    tiny.contract(mesh, "sales", "orders")
    tiny.model(
        *(mesh, "sales", "orders"),
        f"select {tiny.NUMBERS} from {{{{ source('sales', 'orders') }}}}",
    )
    tiny.contract(mesh, "sales", "reports")
    tiny.model(mesh, "sales", "reports", "select id, day, amount from {{ ref('orders') }}")
    tiny.project(mesh, "finance")
    tiny.contract(mesh, "finance", "totals")
    tiny.model(
        *(mesh, "finance", "totals"),
        "select 1::int as id, day, sum(amount)::int as amount"
        " from {{ ref('sales', 'orders') }} group by day",
    )
    mesh.start()
    try:
        with psycopg.connect(mesh.credentials.admin_url, autocommit=True) as admin:
            admin.execute("create database shop")
            admin.execute("create role shop_reader login password 'r'")
        ask(
            mesh,
            "create table orders (id int, day date, amount int)",
            "create table closings (day date, at timestamptz)",
            "grant select on orders, closings to shop_reader",
            "insert into orders values (1, '2013-03-08', 10), (2, '2013-03-08', 5)",
            "insert into orders values (3, '2013-03-09', 7)",
            "insert into closings values ('2013-03-08', '2013-03-09 02:00Z')",
        )
        yield mesh
    finally:
        mesh.stop()


def ask(mesh: Workspace, *statements: str) -> None:
    url = mesh.credentials.url(mesh.credentials.admin, "shop")
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def let_in(mesh: Workspace, *, yes: bool) -> None:
    with psycopg.connect(mesh.credentials.admin_url, autocommit=True) as admin:
        admin.execute(f"alter database shop with allow_connections {yes}".encode())


def run(mesh: Workspace, code: int = 0) -> set[tuple[str, str, int]]:
    """What a run of the real command published: table, day, generation."""
    place = mesh.credentials
    address = f"postgresql://shop_reader:r@{place.host}:{place.port}/shop"
    done = mesh.begin("run", "--json", AIRFLOW_CONN_SHOP_DB=address).wait()
    assert done.returncode == code, done.stdout + done.stderr
    published: list[dict[str, Any]] = json.loads(done.stdout)["published"]
    return {(line["table"], line["partition"], line["generation"]) for line in published}


def why(mesh: Workspace, table: str, day: str) -> list[tuple[str, str]]:
    causes = mesh.json("why", table, day)["causes"]
    return [(cause["table"], cause["because"]) for cause in causes]


@pytest.mark.prove
def test_a_table_outside_is_waited_for_read_restated_and_never_guessed(shop: Workspace) -> None:
    # Nothing answers: that is known, and is not "nothing landed".
    let_in(shop, yes=False)
    assert run(shop) == set()
    ((table, because),) = why(shop, "finance.totals", DAYS[0])
    assert table == "sales.sales.orders"
    assert because.startswith("could not be asked since ")
    assert 'database "shop" is not currently accepting connections' in because

    # It answers: everything is read, and what waits for the sign waits for no more than that.
    let_in(shop, yes=True)
    read = {(f"{name}@1", day, 1) for name in ("sales.orders", "finance.totals") for day in DAYS}
    assert run(shop) == read | {("sales.reports@1", DAYS[0], 1)}
    assert why(shop, "sales.reports", DAYS[1]) == [("sales.sales.closed", "nothing landed")]
    assert run(shop) == set()

    # One day changed: exactly its readers are restated.
    ask(shop, "update orders set amount = 11 where id = 1")
    changed = {"sales.orders@1", "finance.totals@1", "sales.reports@1"}
    assert run(shop) == {(name, DAYS[0], 2) for name in changed}

    # Away again: what had landed stays ready, and the sign that never came is now unknown.
    let_in(shop, yes=False)
    assert run(shop) == set()
    assert shop.json("why", "sales.orders", DAYS[1])["state"] == "READY"
    ((table, because),) = why(shop, "sales.reports", DAYS[1])
    assert (table, because[:24]) == ("sales.sales.closed", "could not be asked since")

    # And back: another sign builds what waited for it; another fingerprint of a sign rebuilds.
    let_in(shop, yes=True)
    ask(shop, "insert into closings select day + 1, at + interval '1 day' from closings")
    ask(shop, "insert into closings values ('2013-03-08', '2013-03-10 00:00Z')")
    assert run(shop) == {("sales.reports@1", DAYS[1], 1), ("sales.reports@1", DAYS[0], 3)}
    assert shop.rows("select table_name from ledger.probes where verdict <> 'PASS'") == []


def test_check_builds_the_models_of_a_table_without_file_and_line(shop: Workspace) -> None:
    said = shop.json("check")
    assert (said["ok"], said["faults"], said["warnings"]) == (True, [], [])

    model = shop.root / "models/sales/base/orders.sql"
    sound = model.read_text()
    model.write_text(sound.replace("as id", "as id, _line as x"))
    try:
        faults = shop.json("check", code=2)["faults"]
    finally:
        model.write_text(sound)

    assert any("_line" in fault["wrong"] for fault in faults)
