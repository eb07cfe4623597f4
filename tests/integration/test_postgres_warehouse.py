"""What is a PostgreSQL warehouse's own; what every warehouse promises is in `test_warehouses`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from bench import (
    DOMAINS,
    FLIGHTS,
    WEATHER,
    Bench,
    PostgresHands,
    contract,
    day,
    flights,
    landed,
    product,
)

from levada import intervals
from levada.adapters import postgres
from levada.adapters.postgres import ENVIRONMENT, Credentials
from levada.adapters.warehouses.postgres import PostgresWarehouse, _provision
from levada.errors import NotPublishable, ToolError, Unavailable
from levada.ledger import roles
from levada.terms import Grain

pytestmark = pytest.mark.integration

FIRST, SECOND = day("2013-01-01"), day("2013-01-02")
ROWS = '"operations$rows".flights_v1'


@pytest.fixture
def hands(server: Credentials) -> Iterator[PostgresHands]:
    made = PostgresHands(server)
    yield made
    made.close()


@pytest.fixture
def bench(hands: PostgresHands, tmp_path: Path) -> Bench:
    return Bench("postgres", hands, tmp_path, hands.open(tmp_path))


def told(bench: Bench, after: str) -> list[tuple[str | None, str]]:
    return [(c.run, c.what) for c in bench.warehouse.changes("operations", after)]


# Provisioning


def test_a_warehouse_is_completed_by_a_new_domain_and_otherwise_left_alone(
    bench: Bench, hands: PostgresHands, server: Credentials
) -> None:
    version = bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    with pytest.raises(ToolError, match="levada up"):
        bench.warehouse.create("harbour")
    roles.provision(server, [*DOMAINS, "harbour"])
    _provision.provision(server, hands.database, [*DOMAINS, "harbour"])
    bench.warehouse.create("harbour")
    assert told(bench, version) == []
    assert bench.carriers() == ["AA"]


def test_an_administrator_who_is_no_superuser_is_enough_but_sees_no_shapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path(tempfile.mkdtemp(prefix="levada-"))
    theirs = postgres.start(home)
    try:
        with psycopg.connect(theirs.admin_url, autocommit=True) as admin:
            admin.execute("create role boss login createrole createdb password 'p w'")
        url = f"postgresql://boss:p%20w@127.0.0.1:{theirs.port}/postgres"
        monkeypatch.setenv(ENVIRONMENT, url)
        ours = postgres.start(tmp_path)
        roles.provision(ours, DOMAINS)
        hands = PostgresHands(ours)
        bench = Bench("postgres", hands, tmp_path, hands.open(tmp_path))
        one = bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
        hands.reshape(FLIGHTS)
        assert told(bench, one) == []
        hands.tamper(FLIGHTS)
        assert [run for run, _ in told(bench, one)] == [None]
    finally:
        monkeypatch.delenv(ENVIRONMENT, raising=False)
        postgres.stop(home)
        shutil.rmtree(home, ignore_errors=True)


def test_a_server_that_does_not_answer_is_unavailable_and_no_password_is_told(
    tmp_path: Path,
) -> None:
    dead = "host=127.0.0.1 port=1 user=u password=hush dbname=w"
    warehouse = PostgresWarehouse(tmp_path, lambda _: dead, "w", DOMAINS)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1") as failed:
        warehouse.find("fleet", "r1")
    assert "hush" not in str(failed.value)


# Domain code


def test_what_domain_code_leaves_beside_its_rows_is_not_carried_over(
    bench: Bench, hands: PostgresHands
) -> None:
    stage = bench.build("r1", {FLIGHTS: flights("2013-01-01", "AA:1", "BB:2")})
    made = stage.outputs[FLIGHTS.table]
    spy = "RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'ran'; END $$"
    hands.domain(
        bench.warehouse,
        stage,
        [
            f'CREATE FUNCTION "{made.schema}".spy() {spy}',
            f'CREATE TRIGGER spy BEFORE INSERT ON {made} EXECUTE FUNCTION "{made.schema}".spy()',
            f'CREATE TABLE "{made.schema}".child () INHERITS ({made})',
            f"INSERT INTO \"{made.schema}\".child VALUES (now(), 'ZZ', 9)",
        ],
    )
    sealed = bench.warehouse.seal(stage)
    bench.warehouse.swap(sealed, [(FLIGHTS, [FIRST])], {"run": "r1"})
    assert bench.carriers() == ["AA", "BB"]


def test_a_policy_that_would_hide_rows_or_run_code_stops_the_seal(
    bench: Bench, hands: PostgresHands
) -> None:
    stage = bench.build("r1", {FLIGHTS: flights("2013-01-01", "AA:1")})
    made = stage.outputs[FLIGHTS.table]
    policy = f"CREATE POLICY hides ON {made} USING (carrier <> 'AA')"
    hands.domain(bench.warehouse, stage, [policy, f"ALTER TABLE {made} ENABLE ROW LEVEL SECURITY"])
    with pytest.raises(Exception, match="row-level security"):
        bench.warehouse.seal(stage)


def test_a_column_of_the_domains_own_type_is_refused(bench: Bench, hands: PostgresHands) -> None:
    stage = bench.warehouse.stage("r1", product(FLIGHTS), [], [])
    made = stage.outputs[FLIGHTS.table]
    hands.domain(
        bench.warehouse,
        stage,
        [
            f"CREATE DOMAIN \"{made.schema}\".code AS text CHECK (value <> '')",
            f'CREATE TABLE {made} (ts timestamptz, carrier "{made.schema}".code, delay integer)',
        ],
    )
    with pytest.raises(NotPublishable, match=r"operations\.flights@1: carrier is of no type"):
        bench.warehouse.seal(stage)


def test_a_session_that_domain_code_left_open_writes_to_what_nobody_reads(
    bench: Bench, hands: PostgresHands
) -> None:
    stage = bench.build("r1", {FLIGHTS: flights("2013-01-01", "AA:1")})
    made = stage.outputs[FLIGHTS.table]
    address = hands._server.conninfo("levada_domain_operations", hands.database)
    with psycopg.connect(address, autocommit=True) as left:
        left.execute(f"PREPARE later AS INSERT INTO {made} VALUES (now(), 'ZZ', 9)".encode())
        left.execute("EXECUTE later")
        sealed = bench.warehouse.seal(stage)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            left.execute(f"SELECT * FROM {made}".encode())
        with suppress(psycopg.errors.InsufficientPrivilege):
            left.execute("EXECUTE later")
        relation = sealed.outputs[FLIGHTS.table]
        assert len(bench.staged(sealed, f"SELECT * FROM {relation}")) == 2


def test_a_field_that_postgresql_cannot_hold_is_a_reject(bench: Bench, tmp_path: Path) -> None:
    source, _ = landed(tmp_path, ("a", "b"), {"2013-01-01T05Z": b"a,b\n1,x\0y\n2,z\n"})
    stage = bench.warehouse.stage("r1", product(WEATHER), [], [source])
    (reject,) = bench.warehouse.rejects(stage)
    assert (reject.line, reject.reason) == (2, "a field holds the character '\\x00'")


# Versions


def test_a_swap_that_rolls_back_leaves_no_gap_and_no_rows(bench: Bench) -> None:
    one = bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    month = contract(
        "operations.flights", "ts TIMESTAMPTZ!; carrier VARCHAR!; delay INTEGER", Grain.MONTH
    )
    stage = bench.warehouse.seal(bench.build("r2", {month: flights("2013-01-01", "BB:1")}))
    january = intervals.parse(Grain.MONTH, "2013-01-01", "America/New_York")
    with pytest.raises(NotPublishable, match="another grain is a new major"):
        bench.warehouse.swap(stage, [(month, [january])], {"run": "r2"})
    two = bench.publish("r3", {FLIGHTS: flights("2013-01-02", "CC:1")}, SECOND)
    assert int(two) == int(one) + 1
    stored = bench.warehouse.read(f"SELECT 1 FROM {ROWS}")
    assert len(stored) == 2


def test_forgetting_removes_the_rows_that_only_older_versions_showed(bench: Bench) -> None:
    assert isinstance(bench.warehouse, PostgresWarehouse)
    for run in ("r1", "r2", "r3"):
        last = bench.publish(run, {FLIGHTS: flights("2013-01-01", f"{run}:1")}, FIRST)
    assert len(bench.warehouse.read(f"SELECT 1 FROM {ROWS}")) == 3
    assert bench.warehouse.forget("operations", last) == 2
    assert bench.carriers() == ["r3"]
    with pytest.raises(ToolError, match="still to come"):
        bench.warehouse.forget("operations", "999")


# Changes by hand


def test_every_way_round_the_protocol_is_told(bench: Bench, hands: PostgresHands) -> None:
    last = bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    ways = {
        f"INSERT INTO {ROWS} SELECT * FROM {ROWS}": "insert of rows",
        f"UPDATE {ROWS} SET delay = 0": "update of rows",
        f"TRUNCATE {ROWS}": "truncate of rows",
        f"ALTER TABLE {ROWS} DISABLE TRIGGER ALL": "alter table",
        f"CREATE RULE r AS ON INSERT TO {ROWS} DO INSTEAD NOTHING": "create rule",
        "CREATE OR REPLACE VIEW operations.flights_v1 AS SELECT ts, carrier, delay"
        f" FROM {ROWS}": "create view",
        "DROP VIEW operations.flights_v1": "drop view",
        "UPDATE levada.slice SET until = 9": "update of slices",
        f"DROP TABLE {ROWS}": "drop table",
    }
    for statement, what in ways.items():
        hands.by_hand(statement)
        (change,) = bench.warehouse.changes("operations", last)
        assert change.run is None
        assert change.tables == (FLIGHTS.table,), statement
        assert what in change.what, statement
        assert "levada_publisher" in change.what
        last = change.version


def test_looking_after_a_table_is_no_tampering(bench: Bench, hands: PostgresHands) -> None:
    last = bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    hands.by_hand(f"ANALYZE {ROWS}")
    hands.by_hand(f"CREATE INDEX mine ON {ROWS} (carrier)")
    assert told(bench, last) == []


def test_a_transaction_that_says_it_is_a_swap_still_names_its_run(
    bench: Bench, hands: PostgresHands
) -> None:
    last = bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    with pytest.raises(psycopg.errors.UniqueViolation):
        hands.by_hand(f"DELETE FROM {ROWS}; SELECT levada.swap('operations', 'r1', '{{}}')")
    hands.by_hand(f"DELETE FROM {ROWS}; SELECT levada.swap('operations', 'forged', '{{}}')")
    assert [run for run, _ in told(bench, last)] == ["forged"]
