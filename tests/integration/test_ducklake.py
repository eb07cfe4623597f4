"""What is a DuckLake's own; what every warehouse promises is in `test_warehouses`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from bench import (
    DELAYS,
    DOMAINS,
    FLIGHTS,
    WEATHER,
    contract,
    day,
    empty_lakes,
    flights,
    landed,
    product,
)
from psycopg.conninfo import conninfo_to_dict

from levada import intervals
from levada.adapters.gx.opening import opened, shut
from levada.adapters.postgres import Credentials
from levada.adapters.warehouses import extensions
from levada.adapters.warehouses._session import scratch
from levada.adapters.warehouses.ducklake import DuckLake
from levada.errors import (
    LevadaError,
    NotPublishable,
    ToolError,
    Unavailable,
    VersionGone,
)
from levada.ledger import roles
from levada.ledger._connections import Connections
from levada.ports import Stage, StagedSource, StagedTable
from levada.terms import (
    Contract,
    Grain,
    Partition,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def none(server: Credentials) -> Callable[[str], str]:
    """Connection strings of a database in which no lake was made."""
    with psycopg.connect(server.url(server.admin, "lake"), autocommit=True) as admin:
        for domain in DOMAINS:
            admin.execute(f"drop schema if exists {domain} cascade")
        roles._open_lake(admin, DOMAINS)
    return lambda role: server.conninfo(role, "lake")


@pytest.fixture
def conninfo(server: Credentials) -> Iterator[Callable[[str], str]]:
    """Connection strings of empty lakes."""
    with empty_lakes(server) as database:
        yield lambda role: server.conninfo(role, database)


@pytest.fixture
def lake(conninfo: Callable[[str], str], tmp_path: Path) -> Iterator[DuckLake]:
    warehouse = DuckLake(
        tmp_path / "lake", tmp_path / "stages", conninfo, DOMAINS, grace=timedelta(0)
    )
    yield warehouse
    warehouse.close()


def built(
    lake: DuckLake,
    run: str,
    tables: Mapping[Contract, str],
    inputs: Sequence[StagedTable] = (),
    sources: Sequence[StagedSource] = (),
) -> Stage:
    """A stage in which each table was built from SQL, as dbt would."""
    stage = lake.stage(run, product(*tables), inputs, sources)
    with duckdb.connect(str(stage.path)) as connection:
        for statement in lake.setup(stage):
            connection.execute(statement)
        for promised, sql in tables.items():
            connection.execute(f"CREATE TABLE main.{promised.table.relation} AS {sql}")
    return stage


def published(
    lake: DuckLake, run: str, tables: Mapping[Contract, str], *partitions: Partition
) -> str:
    stage = lake.seal(built(lake, run, tables))
    version = lake.swap(stage, [(c, partitions) for c in tables], {"run": run})
    lake.discard(stage)
    return version


def rows(lake: DuckLake, sql: str, *params: object) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in lake.read(sql, params)]


def carriers(lake: DuckLake, version: str | None = None) -> list[object]:
    at = f" AT (VERSION => {version})" if version else ""
    return [
        r[0] for r in rows(lake, f"SELECT carrier FROM operations.main.flights_v1{at} ORDER BY 1")
    ]


# Rights


def attached(lake: DuckLake, conninfo: str) -> duckdb.DuckDBPyConnection:
    """The lake of operations as whoever has these words opens it."""
    connection = duckdb.connect()
    for statement in extensions.loading():
        connection.execute(statement)
    connection.execute(
        f"ATTACH 'ducklake:postgres:{conninfo}' AS w (METADATA_SCHEMA 'operations',"
        f" DATA_PATH '{lake.root}/operations/', OVERRIDE_DATA_PATH true)"
    )
    connection.execute(f"ATTACH '{conninfo}' AS pg (TYPE postgres)")
    return connection


FORBIDDEN = (
    "INSERT INTO w.main.flights_v1 SELECT * FROM w.main.flights_v1",
    "DELETE FROM w.main.flights_v1",
    "CREATE TABLE w.main.mine (a INTEGER)",
    "DROP TABLE w.main.flights_v1",
    "ALTER TABLE w.main.flights_v1 ADD COLUMN mine INTEGER",
    "CALL ducklake_expire_snapshots('w', older_than => now())",
    "CALL postgres_execute('pg', 'delete from operations.ducklake_data_file')",
    "CALL postgres_execute('pg', 'update operations.ducklake_data_file set path = ''x''')",
    "CALL postgres_execute('pg', 'truncate operations.ducklake_snapshot')",
    "CALL postgres_execute('pg', 'drop schema operations cascade')",
    "CALL postgres_execute('pg', 'set role levada_publisher')",
    "CALL postgres_execute('pg', 'create table operations.mine (a int)')",
    "DELETE FROM pg.operations.ducklake_snapshot",
    "INSERT INTO pg.operations.ducklake_snapshot SELECT * FROM pg.operations.ducklake_snapshot",
    "CREATE TABLE pg.public.mine (a INTEGER)",
)


@pytest.mark.parametrize("role", ["levada_domain_operations", "levada_domain_company"])
def test_a_domain_cannot_write_published_data_whatever_it_attaches(
    lake: DuckLake, conninfo: Callable[[str], str], role: str
) -> None:
    version = published(lake, "r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, day("2013-01-01"))
    with attached(lake, conninfo(role)) as connection:
        assert connection.execute("SELECT carrier FROM w.main.flights_v1").fetchall() == [("AA",)]
        allowed = []
        for statement in FORBIDDEN:
            try:
                connection.execute(statement)
                allowed.append(statement)
            except duckdb.Error as error:
                refused = "permission denied", "must be owner"
                assert any(words in str(error) for words in refused), statement
    assert allowed == []
    assert carriers(lake) == ["AA"]
    assert lake.heads("operations") == {FLIGHTS.table: version}


def test_the_runner_cannot_write_published_data_either(
    lake: DuckLake, conninfo: Callable[[str], str]
) -> None:
    published(lake, "r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, day("2013-01-01"))
    with pytest.raises(ToolError, match="read-only"):
        lake.read("DELETE FROM operations.main.flights_v1")
    with (
        attached(lake, conninfo("levada_runner")) as connection,
        pytest.raises(duckdb.Error, match="permission denied"),
    ):
        connection.execute("DELETE FROM w.main.flights_v1")
    assert carriers(lake) == ["AA"]


def test_small_tables_are_files_because_inlined_structs_lose_their_quotes(lake: DuckLake) -> None:
    notes = contract("operations.notes", "ts TIMESTAMPTZ!; note STRUCT(text VARCHAR)")
    said = "SELECT TIMESTAMPTZ '2013-01-01 12:00:00+00:00' AS ts, {'text': 'it''s'} AS note"
    published(lake, "r1", {notes: said}, day("2013-01-01"))
    assert rows(lake, "SELECT note.text FROM operations.main.notes_v1") == [("it's",)]
    assert list((lake.root / "operations").rglob("*.parquet"))


def test_lakes_are_made_once_however_many_make_them(
    none: Callable[[str], str], tmp_path: Path
) -> None:
    failures: list[BaseException] = []

    def make() -> None:
        warehouse = DuckLake(tmp_path / "lake", tmp_path / "stages", none, DOMAINS)
        try:
            warehouse.create("operations")
        except BaseException as error:
            failures.append(error)
        finally:
            warehouse.close()

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_lake_that_does_not_exist_says_how_it_is_made(
    none: Callable[[str], str], tmp_path: Path
) -> None:
    warehouse = DuckLake(tmp_path / "lake", tmp_path / "stages", none, DOMAINS)
    with pytest.raises(ToolError, match="levada up"):
        warehouse.read("SELECT 1")
    with pytest.raises(ToolError, match="levada up"):
        warehouse.find("operations", "r1")


def test_what_is_given_up_is_dated_by_a_lake_of_before_too_once_it_is_opened(
    lake: DuckLake, conninfo: Callable[[str], str]
) -> None:
    """As it was made by an older Levada: nothing in its catalogue watches."""
    versions = [
        published(lake, f"r{n}", {FLIGHTS: flights("2013-01-01", "AA:1")}, day("2013-01-01"))
        for n in range(4)
    ]

    def expire(version: str) -> None:
        with attached(lake, conninfo("levada_publisher")) as connection:
            connection.execute(f"CALL ducklake_expire_snapshots('w', versions => [{version}])")

    with psycopg.connect(conninfo("levada_publisher")) as owner:
        owner.execute("drop trigger levada_expired on operations.ducklake_snapshot")
    expire(versions[0])
    assert lake.missing("operations", versions) == (versions[0],)
    assert lake.expired("operations", versions) == {}, "nobody saw it"
    lake.create("operations")
    lake.create("operations")
    expire(versions[1])
    assert list(lake.expired("operations", versions)) == [versions[1]]
    assert lake.missing("operations", versions) == tuple(versions[:2])


# Swapping


def test_the_first_publish_makes_the_table_from_its_contract(lake: DuckLake) -> None:
    published(lake, "r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, day("2013-01-01"))
    shape = lake.read("DESCRIBE operations.main.flights_v1")
    assert [(c["column_name"], c["column_type"], c["null"]) for c in shape] == [
        ("ts", "TIMESTAMP WITH TIME ZONE", "NO"),
        ("carrier", "VARCHAR", "NO"),
        ("delay", "INTEGER", "YES"),
    ]


def test_a_type_that_is_sql_is_no_type(lake: DuckLake) -> None:
    evil = contract("operations.flights", "ts TIMESTAMPTZ!; carrier INTEGER) , (SELECT 1")
    stage = lake.seal(built(lake, "r1", {evil: "SELECT now() AS ts, 1 AS carrier"}))
    with pytest.raises(NotPublishable, match="is no type"):
        lake.swap(stage, [(evil, [day("2013-01-01")])], {"run": "r1"})


# Staging


def staged(lake: DuckLake, stage: Stage, sql: str) -> list[tuple[Any, ...]]:
    """A query of a stage as the auditor opens it."""
    with duckdb.connect() as connection:
        for statement in lake.setup(stage):
            connection.execute(statement)
        connection.execute(f"ATTACH '{stage.path}' AS stage (READ_ONLY)")
        return connection.execute(sql).fetchall()


def test_an_input_is_promised_columns_at_its_version_in_its_windows(lake: DuckLake) -> None:
    days = [day("2013-01-01"), day("2013-01-02"), day("2013-01-03")]
    sql = " UNION ALL ".join(flights(f"2013-01-0{n}", f"A{n}:1") for n in (1, 2, 3))
    old = published(lake, "r1", {FLIGHTS: sql}, *days)
    published(lake, "r2", {FLIGHTS: flights("2013-01-01", "ZZ:1")}, days[0])
    narrow = replace(FLIGHTS, columns=FLIGHTS.columns[:2])
    windows = intervals.windows([days[0], days[2]])
    stage = lake.stage("r3", product(DELAYS), [StagedTable(narrow, old, windows)], [])
    relation = stage.inputs[FLIGHTS.table]
    assert str(relation) == '"stage"."up"."operations__flights_v1"'
    assert str(stage.outputs[DELAYS.table]) == '"stage"."main"."delays_v1"'
    assert staged(lake, stage, f"SELECT carrier FROM {relation} ORDER BY 1") == [("A1",), ("A3",)]
    with pytest.raises(duckdb.BinderException, match="delay"):
        staged(lake, stage, f"SELECT delay FROM {relation}")


@pytest.mark.parametrize("version", ["0", "999999", "nonsense"])
def test_a_version_that_is_not_there_is_gone_and_leaves_no_stage(
    lake: DuckLake, version: str
) -> None:
    published(lake, "r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, day("2013-01-01"))
    with pytest.raises(VersionGone, match="operations"):
        lake.stage("r2", product(DELAYS), [StagedTable(FLIGHTS, version, None)], [])
    assert not (lake.stages / "operations" / "r2").exists()
    assert not (lake.stages / ".kept" / "r2").exists()


def test_a_run_may_be_staged_again_and_its_name_may_not_leave_the_folder(lake: DuckLake) -> None:
    built(lake, "r1", {FLIGHTS: flights("2013-01-01", "AA:1")})
    stage = built(lake, "r1", {FLIGHTS: flights("2013-01-01", "BB:1")})
    assert staged(lake, stage, "SELECT carrier FROM stage.main.flights_v1") == [("BB",)]
    with pytest.raises(ValueError, match="cannot name a run"):
        lake.stage("../r1", product(FLIGHTS), [], [])


LANDED = '"up"."weather__landing__obs"'


def test_odd_characters_of_landed_fields_survive(lake: DuckLake, tmp_path: Path) -> None:
    odd = ["a\r\nb", 'say "so"', "semi;colon, comma", " padded ", "nul\0nul", "\\N", "NULL", "#x"]
    quoted = "".join('1,"' + text.replace('"', '""') + '"\n' for text in odd)
    source, _ = landed(tmp_path, ("n", "text"), {"2013-01-01T05Z": b"n,text\n" + quoted.encode()})
    stage = lake.stage("r1", product(WEATHER), [], [source])
    assert lake.rejects(stage) == ()
    assert staged(lake, stage, f"SELECT text FROM stage.{LANDED} ORDER BY _line") == [
        (text,) for text in odd
    ]


def test_lines_that_are_no_rows_are_kept_out_and_named(lake: DuckLake, tmp_path: Path) -> None:
    source, paths = landed(
        tmp_path,
        ("a", "b"),
        {
            "2013-01-01T01Z": b"a,b\n1,2\n3\n4,5,6\n7,8\n",
            "2013-01-01T02Z": b"b,a\n1,2\n",
            "2013-01-01T03Z": b"a,c\n1,2\n",
            "2013-01-01T04Z": b"",
            "2013-01-01T05Z": b'a,b\n1,2\n3,"open\n4,5\n',
            "2013-01-01T06Z": b"a,b\n1,2\n3,\xff\n",
        },
    )
    stage = lake.stage("r1", product(WEATHER), [], [source])
    found = [(Path(r.file).stem, r.line, r.reason) for r in lake.rejects(stage)]
    assert found[:5] == [
        ("2013-01-01T01Z", 3, "1 fields where the header has 2"),
        ("2013-01-01T01Z", 4, "3 fields where the header has 2"),
        ("2013-01-01T02Z", 1, "the header has the declared columns in another order"),
        ("2013-01-01T03Z", 1, "the header lacks b and has c, which is not declared"),
        ("2013-01-01T04Z", 1, "the file is empty: it lacks its header a, b"),
    ]
    assert found[5][:2] == ("2013-01-01T05Z", 3)
    assert "was not read" in found[5][2]
    assert "not UTF-8" in found[6][2]
    assert {r.partition for r in lake.rejects(stage)} == set(paths)
    assert {r.source for r in lake.rejects(stage)} == {"weather.landing.obs"}
    good = staged(lake, stage, f"SELECT a FROM stage.{LANDED} WHERE _file LIKE '%T01Z%' ORDER BY 1")
    assert good == [("1",), ("7",)]


def test_1608_landed_hours_are_staged_in_one_go(lake: DuckLake, tmp_path: Path) -> None:
    start = datetime(2013, 1, 1, 5, tzinfo=UTC)
    keys = [f"{start + timedelta(hours=n):%Y-%m-%dT%H}Z" for n in range(1608)]
    lines = "".join(f"{n},x\n" for n in range(3)).encode()
    source, _ = landed(tmp_path, ("a", "b"), dict.fromkeys(keys, b"a,b\n" + lines))
    stage = lake.stage("r1", product(WEATHER), [], [source])
    assert staged(lake, stage, f"SELECT count(*) FROM stage.{LANDED}") == [(3 * 1608,)]


# Sealing


def test_a_sealed_stage_is_out_of_the_domains_reach(lake: DuckLake) -> None:
    stage = built(lake, "r1", {FLIGHTS: flights("2013-01-01", "AA:1")})
    with stage.path.open("r+b") as handle:
        sealed = lake.seal(stage)
        handle.write(b"\0" * 4096)  # a handle that domain code kept open
    assert not stage.path.exists()
    assert not sealed.path.is_relative_to(stage.path.parent)
    assert not list(sealed.path.parent.glob("*.wal"))
    assert staged(lake, sealed, "SELECT carrier FROM stage.main.flights_v1") == [("AA",)]
    assert lake.seal(stage) == sealed


def test_a_stage_that_was_killed_before_its_checkpoint_is_sealed_with_its_rows(
    lake: DuckLake,
) -> None:
    stage = lake.stage("r1", product(FLIGHTS), [], [])
    code = (
        "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]);"
        " c.execute(\"SET checkpoint_threshold = '1GB'\"); c.execute(sys.argv[2]); os._exit(0)"
    )
    table = f"CREATE TABLE main.flights_v1 AS {flights('2013-01-01', 'AA:1')}"
    subprocess.run([sys.executable, "-c", code, str(stage.path), table], check=True)
    assert Path(f"{stage.path}.wal").exists()
    sealed = lake.seal(stage)
    assert staged(lake, sealed, "SELECT carrier FROM stage.main.flights_v1") == [("AA",)]


def test_a_stage_that_is_still_held_is_sealed_once_it_is_let_go(lake: DuckLake) -> None:
    stage = built(lake, "r1", {FLIGHTS: flights("2013-01-01", "AA:1")})
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(stage.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(ToolError, match="lock"):
        lake.seal(stage)
    holder.communicate(b"\n")
    sealed = lake.seal(stage)
    assert staged(lake, sealed, "SELECT carrier FROM stage.main.flights_v1") == [("AA",)]


def test_what_domain_code_forged_beside_its_marts_is_not_carried_over(
    lake: DuckLake, tmp_path: Path
) -> None:
    source, _ = landed(tmp_path, ("a", "b"), {"2013-01-01T05Z": b"a,b\n1\n"})
    stage = built(lake, "r1", {WEATHER: "SELECT now() AS ts"}, sources=[source])
    with duckdb.connect(str(stage.path)) as connection:
        connection.execute("DELETE FROM up.rejects")
        connection.execute(f"INSERT INTO {LANDED} VALUES ('forged', 'f', 'f', 1)")
        connection.execute("DROP TABLE main.observations_v1")
        connection.execute(
            "CREATE TABLE main.observations_v1 (ts TIMESTAMPTZ, temp DOUBLE AS (random()))"
        )
        connection.execute("INSERT INTO main.observations_v1 VALUES (now())")
    sealed = lake.seal(stage)
    assert [r.line for r in lake.rejects(sealed)] == [2]
    assert staged(lake, sealed, f"FROM stage.{LANDED}") == []
    sampled = "SELECT temp FROM stage.main.observations_v1"
    assert staged(lake, sealed, sampled) == staged(lake, sealed, sampled)


# Contents


@pytest.mark.parametrize("promised", [WEATHER, DELAYS])
def test_contents_of_many_partitions_are_those_of_each(lake: DuckLake, promised: Contract) -> None:
    sqls = {
        WEATHER: "SELECT t AS ts, epoch(t) AS temp FROM generate_series(TIMESTAMPTZ"
        " '2013-01-01 00:30:00+00:00', TIMESTAMPTZ '2013-01-03 00:00:00+00:00',"
        " INTERVAL 20 MINUTE) g(t) WHERE hour(t) <> 7",
        DELAYS: "SELECT DATE '2013-01-01' + (i % 5)::INTEGER AS day, 'c' || i AS carrier,"
        " NULLIF(i, 3) AS minutes FROM range(40) r(i)",
    }
    parts = {
        WEATHER: [intervals.parse(Grain.HOUR, f"2013-01-01T{h:02}Z") for h in range(24)],
        DELAYS: [day(f"2013-01-0{n}") for n in (1, 2, 4, 9)],
    }[promised]
    stage = lake.seal(built(lake, "r1", {promised: sqls[promised]}))
    together = lake.contents(stage, promised, parts)
    assert together == {p: lake.contents(stage, promised, [p])[p] for p in parts}
    assert list(together) == parts
    assert together[parts[7 if promised is WEATHER else 3]] == "0:0"
    assert lake.contents(stage, promised, []) == {}


# Restoring and accounting


def test_maintenance_of_files_is_no_tampering(
    lake: DuckLake, conninfo: Callable[[str], str]
) -> None:
    for n in (1, 2, 3):
        published(
            lake, f"r{n}", {FLIGHTS: flights(f"2013-01-0{n}", f"A{n}:1")}, day(f"2013-01-0{n}")
        )
    with attached(lake, conninfo("levada_publisher")) as connection:
        assert connection.execute("CALL ducklake_merge_adjacent_files('w')").fetchall()
        connection.execute("CALL ducklake_rewrite_data_files('w')")
    assert lake.unaccounted("operations", {"r1", "r2", "r3"}) == ()
    assert carriers(lake) == ["A1", "A2", "A3"]


def test_the_history_is_read_over_one_connection_that_may_die(
    lake: DuckLake, server: Credentials, conninfo: Callable[[str], str]
) -> None:
    published(lake, "r1", {FLIGHTS: flights("2013-01-01", "A1:1")}, day("2013-01-01"))
    database = conninfo_to_dict(conninfo("levada_runner"))["dbname"]

    def backends() -> set[int]:
        said = "select pid from pg_stat_activity where usename = 'levada_runner' and datname = %s"
        with psycopg.connect(server.admin_url, autocommit=True) as admin:
            return {pid for (pid,) in admin.execute(said, [database]).fetchall()}

    first = lake.changes("operations")
    lake.close()
    before = backends()
    assert lake.changes("operations") == first
    (kept,) = backends() - before
    assert lake.altered("operations") == ()
    assert backends() - before == {kept}, "who asks again need not sign in again"

    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute("select pg_terminate_backend(%s, 5000)", [kept])
    assert lake.changes("operations") == first
    (other,) = backends() - before
    assert other != kept

    if (pid := os.fork()) == 0:
        os._exit(0 if lake.changes("operations") == first else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert lake.changes("operations") == first
    assert backends() - before == {other}, "a fork uses a connection of its own"
    lake.close()
    assert backends() - before == set()


# Processes

PLACES = (Path(__file__).parent, Path(__file__).parents[1] / "support")

SWAPPER = """
import json, os, sys, time, fcntl
from pathlib import Path
import test_ducklake as t
said = json.loads(sys.argv[1])
lake = t.DuckLake(Path(said["lake"]), Path(said["stages"]), said["roles"].__getitem__, t.DOMAINS)
"""


def child(lake: DuckLake, conninfo: Callable[[str], str], code: str) -> subprocess.Popen[str]:
    """A process of its own with the same lake, in which `lake` and this module as `t` exist."""
    said = {
        "lake": str(lake.root),
        "stages": str(lake.stages),
        "roles": {r: conninfo(r) for r in ("levada_runner", "levada_publisher")},
    }
    return subprocess.Popen(
        [sys.executable, "-c", SWAPPER + code, json.dumps(said)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(p) for p in PLACES)},
    )


def test_a_swap_killed_before_its_commit_changes_nothing_and_its_files_are_swept(
    lake: DuckLake, conninfo: Callable[[str], str], tmp_path: Path
) -> None:
    published(lake, "r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, day("2013-01-01"))
    code = """
from levada.adapters.warehouses import _swap
swapped = _swap.swapped
def slow(*arguments):
    moved = swapped(*arguments)
    print("between", moved, flush=True)
    time.sleep(60)
_swap.swapped = slow
t.published(lake, "r2", {t.FLIGHTS: t.flights("2013-01-01", "BB:1", "CC:1")}, t.day("2013-01-01"))
"""
    process = child(lake, conninfo, code)
    assert process.stdout is not None
    assert process.stdout.readline() == "between 3\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()

    assert lake.find("operations", "r2") is None
    assert carriers(lake) == ["AA"]
    data = {p for p in lake.root.rglob("*.parquet") if "flights" in str(p)}
    assert len(data) > 1
    assert lake.sweep({"r2"}) == 0
    assert {p for p in lake.root.rglob("*.parquet") if "flights" in str(p)} == data
    assert lake.sweep(()) == 1  # the stage goes; its young files stay, they might be a live swap's
    eager = DuckLake(lake.root, lake.stages, conninfo, DOMAINS, orphan_age=timedelta(0))
    eager.sweep(())
    eager.close()
    left = {p for p in lake.root.rglob("*.parquet") if "flights" in str(p)}
    assert len(left) == 1
    assert left < data
    assert carriers(lake) == ["AA"]
    published(lake, "r2", {FLIGHTS: flights("2013-01-01", "BB:1")}, day("2013-01-01"))
    assert carriers(lake) == ["BB"]


def test_a_connection_that_is_kept_notices_a_server_that_is_gone(
    lake: DuckLake, server: Credentials
) -> None:
    lake.find("operations", "nobody")
    assert lake._history._kept
    ledger = Connections(server.admin_url)
    with ledger.take() as taken:
        for connection in (lake._history._kept[1], taken):
            said = connection.info.get_parameters()
            assert (said["keepalives_idle"], said["tcp_user_timeout"]) == ("30", "10000")
    ledger.close()


def test_a_forked_child_reads_for_itself_and_leaves_its_parents_connection_alone(
    lake: DuckLake,
) -> None:
    published(lake, "r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, day("2013-01-01"))
    assert carriers(lake) == ["AA"]
    pid = os.fork()
    if pid == 0:
        good = False
        try:
            good = carriers(lake) == ["AA"] and published(
                lake, "r2", {FLIGHTS: flights("2013-01-02", "BB:1")}, day("2013-01-02")
            ) == lake.find("operations", "r2")
        finally:
            os._exit(0 if good else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert carriers(lake) == ["AA", "BB"]


def test_a_connection_that_died_between_two_calls_is_opened_again(
    lake: DuckLake, server: Credentials, conninfo: Callable[[str], str]
) -> None:
    published(lake, "r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, day("2013-01-01"))
    assert carriers(lake) == ["AA"]
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s",
            [conninfo_to_dict(conninfo("levada_runner"))["dbname"]],
        )
    assert carriers(lake) == ["AA"]
    published(lake, "r2", {FLIGHTS: flights("2013-01-02", "BB:1")}, day("2013-01-02"))
    assert carriers(lake) == ["AA", "BB"]


def test_a_catalogue_that_does_not_answer_is_unavailable_and_no_password_is_told(
    tmp_path: Path,
) -> None:
    dead = "host=127.0.0.1 port=1 user=u password=hush dbname=lake"
    warehouse = DuckLake(tmp_path / "lake", tmp_path / "stages", lambda _: dead, DOMAINS)
    calls: list[Callable[[], object]] = [
        lambda: warehouse.create("fleet"),
        lambda: warehouse.read("SELECT 1"),
        lambda: warehouse.find("fleet", "r1"),
    ]
    for call in calls:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1") as failed:
            call()
        assert "hush" not in str(failed.value)


def test_an_error_of_a_query_tells_no_password(lake: DuckLake) -> None:
    with pytest.raises(LevadaError) as failed:
        lake.read("FROM nowhere")
    assert "nowhere" in str(failed.value)
    assert "password=" not in str(failed.value)


def test_only_stages_of_dead_runs_that_are_old_enough_are_swept(
    lake: DuckLake, conninfo: Callable[[str], str]
) -> None:
    for run in ("alive", "dead", "sealed"):
        stage = built(lake, run, {FLIGHTS: flights("2013-01-01", "AA:1")})
    lake.seal(stage)
    careful = DuckLake(lake.root, lake.stages, conninfo, DOMAINS)
    assert careful.sweep({"alive"}) == 0
    assert lake.sweep({"alive"}) == 2
    assert {p.name for p in (lake.stages / "operations").iterdir()} == {"alive"}
    assert {p.name for p in (lake.stages / ".kept").iterdir()} == {"alive"}
    careful.close()


def test_the_extension_folder_is_made_once_by_any_number_at_once(tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=extensions.extension_directory, args=[tmp_path]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    links = sorted(p for p in tmp_path.rglob("*") if not p.is_dir())
    assert [p.name for p in links] == [
        f"{n}.duckdb_extension" for n in sorted(extensions.EXTENSIONS)
    ]
    assert all(p.is_symlink() and p.exists() for p in links)


def unsigned(folder: Path) -> Path:
    """An extension that DuckDB's makers did not sign."""
    path = folder / "mine.duckdb_extension"
    path.write_bytes(extensions.extension("ducklake").read_bytes()[:-256] + bytes(256))
    return path


def test_only_the_extensions_of_the_wheels_are_loaded_without_a_look_at_their_signature(
    tmp_path: Path,
) -> None:
    other = f"LOAD '{unsigned(tmp_path)}'"
    for statements in ((), extensions.loading()):
        with (
            scratch(statements) as connection,
            pytest.raises(duckdb.IOException, match="signature"),
        ):
            connection.execute(other)
    with pytest.raises(duckdb.IOException, match="signature"), opened() as connection:
        for statement in (*extensions.loading(), other):
            connection.execute(statement)
    with opened() as connection:
        shut(connection)
        with pytest.raises(duckdb.Error, match="disabled"):
            connection.execute(other)


# dbt


def test_dbt_builds_in_a_stage_with_only_its_domains_rights(lake: DuckLake, tmp_path: Path) -> None:
    version = published(
        lake, "r1", {FLIGHTS: flights("2013-01-01", "AA:4", "BB:5")}, day("2013-01-01")
    )
    window = intervals.windows([day("2013-01-01")])
    stage = lake.stage("r2", product(DELAYS), [StagedTable(FLIGHTS, version, window)], [])
    profile = lake.profile(stage, "operations")
    assert "levada_domain_operations" in json.dumps(profile)
    assert "levada_publisher" not in json.dumps(profile)
    project = tmp_path / "project"
    (project / "models").mkdir(parents=True)
    outputs = {"operations": {"target": "levada", "outputs": {"levada": profile}}}
    (project / "profiles.yml").write_text(json.dumps(outputs))
    (project / "dbt_project.yml").write_text(
        json.dumps({"name": "operations", "profile": "operations", "version": "1.0.0"})
    )
    (project / "models" / "delays_v1.sql").write_text(
        "{{ config(materialized='table') }} select ts::date as day, max(carrier) as carrier,"
        " sum(delay)::bigint as minutes, current_setting('TimeZone') as zone"
        " from stage.up.operations__flights_v1 group by 1"
    )
    (project / "models" / "thief.sql").write_text(
        "{{ config(materialized='table', pre_hook=\"insert into operations.main.flights_v1"
        ' select * from operations.main.flights_v1") }} select 1 as a'
    )
    (project / "models" / "smuggler.sql").write_text(
        "{{ config(materialized='table', pre_hook=\"load '" + str(unsigned(tmp_path)) + "'\") }}"
        " select 1 as a"
    )
    dbt = Path(sys.executable).with_name("dbt")
    ran = subprocess.run(
        [dbt, "run", "--project-dir", project, "--profiles-dir", project, "--no-use-colors"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"},
    )
    assert "PASS=1" in ran.stdout, ran.stdout
    assert "ERROR=2" in ran.stdout, ran.stdout
    assert "read-only" in ran.stdout, ran.stdout
    assert "signature" in ran.stdout, ran.stdout
    sealed = lake.seal(stage)
    found = staged(lake, sealed, "FROM stage.main.delays_v1")
    assert [row[1:] for row in found] == [("BB", 9, "UTC")]
    assert carriers(lake) == ["AA", "BB"]
