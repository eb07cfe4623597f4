"""A table in DuckDB and the same in PostgreSQL: digests cross, then only rows that differ."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_system import break_row, land_span
from workspace import Workspace

from levada.adapters.diffing import DuckSide, PostgresSide, compare, cut_of
from levada.adapters.diffing.sides import portable
from levada.adapters.postgres import Credentials
from levada.adapters.probes.session import Database, connected
from levada.diff import Question, Tolerance, align

pytestmark = [pytest.mark.integration, pytest.mark.prove]

COLUMNS = {
    "k": ("INTEGER", "int4"),
    "t": ("VARCHAR", "text"),
    "n": ("DECIMAL(12,2)", "numeric(12,2)"),
    "f": ("DOUBLE", "float8"),
    "b": ("BOOLEAN", "bool"),
    "d": ("DATE", "date"),
    "moment": ("TIMESTAMP WITH TIME ZONE", "timestamptz"),
    "u": ("UUID", "uuid"),
}
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
FLOATS = st.floats(width=64).filter(lambda x: x == 0 or 1e-290 < abs(x) < 1e290 or x != x)  # noqa: PLR0124
ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-9, 9),
        st.none() | TEXT,
        st.none() | st.decimals(-(10**9), 10**9, places=2, allow_nan=False),
        st.none() | FLOATS,
        st.none() | st.booleans(),
        st.none() | st.dates(date(1900, 1, 1), date(2100, 1, 1)),
        st.none()
        | st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
        st.none() | st.uuids(),
    ),
    max_size=10,
)
_number = itertools.count(1)


@pytest.fixture(scope="module")
def shop(server: Credentials) -> Iterator[Database]:
    name = f"diff{next(_number)}"
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
    with connected("shop", lambda _: server.url(server.admin, name)) as database:
        database.connection.read_only = False
        kinds = ", ".join(f"{c} {kind}" for c, (_, kind) in COLUMNS.items())
        database.connection.execute(f"create table t ({kinds})".encode())
        yield database


@pytest.fixture(scope="module")
def db() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        kinds = ", ".join(f"{c} {kind}" for c, (kind, _) in COLUMNS.items())
        connection.execute(f"CREATE TABLE t ({kinds})")
        yield connection


def fill(
    db: duckdb.DuckDBPyConnection, shop: Database, ours: list[Any], theirs: list[Any]
) -> tuple[DuckSide, PostgresSide]:
    db.execute("TRUNCATE t")
    if ours:
        db.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(COLUMNS))})", ours)
    shop.connection.execute("truncate t")
    with shop.connection.cursor() as cursor:
        places = ", ".join(["%s"] * len(COLUMNS))
        cursor.executemany(f"insert into t values ({places})".encode(), theirs)
    return DuckSide(db, "t"), PostgresSide(shop, "t")


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=ROWS, moved=st.randoms(use_true_random=False))
def test_equal_rows_in_any_order_are_identical(
    db: duckdb.DuckDBPyConnection, shop: Database, rows: list[Any], moved: Any
) -> None:
    others = list(rows)
    moved.shuffle(others)
    a, b = fill(db, shop, rows, others)

    found = compare(db, a, b, Question(("k", "t")))

    assert found.identical, found
    cut = cut_of(a, b, Question(("k", "t")))
    assert portable(align(a.columns(), b.columns(), Question(("k", "t")))) == ()
    assert a.digests(cut) == b.digests(cut), "no row moved"


ROW = (
    1, "가'\",\n", Decimal("1.50"), 0.1, True, date(2013, 3, 10),
    datetime(2013, 3, 10, 7, 0, 0, 123456, UTC), UUID(int=7),
)  # fmt: skip
OTHERS = (
    2, "가'\",", Decimal("1.51"), 0.1000000000001, False, date(2013, 3, 11),
    datetime(2013, 3, 10, 7, 0, 0, 123457, UTC), UUID(int=8),
)  # fmt: skip


@pytest.mark.parametrize("column", range(1, len(ROW)))
@pytest.mark.parametrize("null", [False, True])
def test_one_value_of_any_type_that_differs_is_found(
    db: duckdb.DuckDBPyConnection, shop: Database, column: int, null: bool
) -> None:
    other = list(ROW)
    other[column] = None if null else OTHERS[column]
    a, b = fill(db, shop, [ROW, OTHERS], [tuple(other), OTHERS])

    found = compare(db, a, b, Question(("k",)))

    assert (found.only_a, found.only_b, found.changed) == (0, 0, 1)
    assert [c.column for c in found.columns] == [list(COLUMNS)[column]]


def test_tolerance_and_missing_rows_cross_engines(
    db: duckdb.DuckDBPyConnection, shop: Database
) -> None:
    near = (1, ROW[1], Decimal("1.51"), *ROW[3:])
    a, b = fill(db, shop, [ROW, OTHERS], [near])

    found = compare(db, a, b, Question(("k",), {"n": Tolerance(Decimal("0.01"))}))

    assert (found.only_a, found.only_b, found.changed, found.tolerated) == (1, 0, 0, 1)


def test_what_engines_write_differently_is_never_identical(
    db: duckdb.DuckDBPyConnection, shop: Database
) -> None:
    shop.connection.execute("create table nested as select 1 as k, array[1, 2] as l")
    db.execute("CREATE OR REPLACE TABLE nested AS SELECT 1 AS k, [1, 2] AS l")

    found = compare(db, DuckSide(db, "nested"), PostgresSide(shop, "nested"), Question(("k",)))

    assert not found.identical
    assert "not compared" in str(found)


QUERIES = {
    "counted": "select carrier, count(*) as n from operations.flights group by carrier",
    "late": "with late as (select * from operations.flights where dep_delay > 400)"
    " select flight, l.dep_delay from late l order by 2",
    "odd": "select nothing_like_it from operations.flights",
    "elsewhere": "select 1 as one",
}


@dataclass(frozen=True)
class Restated:
    """A day of flights that was published, kept as a file, and published again with one change."""

    mesh: Workspace
    before: str
    file: Path


@pytest.fixture(scope="module")
def restated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restated]:
    day, folder = "2013-03-08", tmp_path_factory.mktemp("restated")
    mesh = Workspace.make(folder, domains=["operations"], first=day, last=day)
    land_span(date(2013, 3, 8), date(2013, 3, 8), mesh.landing)
    mesh.start()
    try:
        mesh.levada("run")
        (before,) = {line[4] for line in mesh.publications() if "flights" in line[0]}
        with mesh.lake() as lake, closing(duckdb.connect()) as db:
            for statement in lake.attaching(["operations"]):
                db.execute(statement)
            db.execute(f"COPY operations.main.flights_v1 TO '{folder}/flights.parquet'")
        break_row(mesh.landed("flights", day), "dep_delay", "500")
        mesh.levada("run")
        yield Restated(mesh, before, folder / "flights.parquet")
    finally:
        mesh.stop()


def test_the_command_compares_versions_files_and_intervals(restated: Restated) -> None:
    mesh, before = restated.mesh, restated.before
    assert mesh.json("diff", "operations.flights", "--interval", "2013-03-08")["identical"]

    moved = mesh.json("diff", "operations.flights", "--at", before, code=1)
    assert (moved["changed"], moved["only_a"], moved["only_b"]) == (1, 0, 0)
    assert {c["column"]: c["rows"] for c in moved["columns"]}["dep_delay"] == 1

    assert mesh.json("diff", str(restated.file), "operations.flights", code=1)["changed"] == 1

    wrong = mesh.levada("diff", "operations.flihgts", code=2)
    assert "did you mean 'operations.flights'" in wrong.stderr
    gone = mesh.levada("diff", "operations.flights", "--at", "99999", code=2)
    assert "no data version '99999'" in gone.stderr
    where = ("--where", "source_line <> 2")
    assert "identical" in mesh.levada("diff", "operations.flights", "--at", before, *where).stdout


def test_what_a_statement_would_change_is_told_and_not_done(restated: Restated) -> None:
    mesh = restated.mesh
    lines = len(mesh.publications())
    write = "update operations.flights set dep_delay = 0, distance = distance where flight = 1"
    told = mesh.json("verify-write", write)
    assert told["changed"] > 0
    assert [c["column"] for c in told["columns"]] == ["dep_delay"]
    assert (told["added"], told["removed"]) == (0, 0)

    again = mesh.json("verify-write", "delete from operations.flights where false")
    assert again["identical"]
    assert again["checksum"] == told["checksum"], "nothing was written"
    assert len(mesh.publications()) == lines

    twice = (
        "update operations.flights f set dep_delay = g.dep_delay"
        " from operations.flights g where g.carrier = f.carrier"
    )
    assert "matched more than once" in mesh.levada("verify-write", twice, code=2).stderr


def test_saved_queries_are_asked_of_both_versions(restated: Restated, tmp_path: Path) -> None:
    mesh = restated.mesh
    for name, query in QUERIES.items():
        (tmp_path / f"{name}.sql").write_text(query)
    flights = ("--old", "operations.flights", "--new", "operations.flights")

    replayed = mesh.json("replay", str(tmp_path), *flights, "--at", restated.before, code=1)
    said = {Path(each["name"]).stem: each["answer"] for each in replayed}
    assert said == {"counted": "same", "late": "differs", "odd": "fails"}
    now = mesh.json("replay", str(tmp_path), *flights)
    assert {each["answer"] for each in now} == {"same", "fails"}

    (tmp_path / "writes.sql").write_text("delete from operations.flights")
    (tmp_path / "nobody.sql").write_text("select * from operations.flihgts")
    refused = mesh.levada("replay", str(tmp_path), *flights, code=2).stderr
    for name, why in (("writes.sql", "is no query"), ("nobody.sql", "no published table")):
        assert any(name in line and why in line for line in refused.splitlines())
