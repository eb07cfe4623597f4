"""
Both warehouses on one bench: what a test says once, each does in its own words.

Contracts and rows here are written in SQL that DuckDB and PostgreSQL read alike.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import duckdb
import psycopg

from levada import intervals
from levada.adapters.postgres import Credentials
from levada.adapters.warehouses import extensions
from levada.adapters.warehouses.ducklake import DuckLake
from levada.adapters.warehouses.postgres import PostgresWarehouse, _provision
from levada.ledger import roles
from levada.ports import LandedFile, Stage, StagedSource, StagedTable, Warehouse
from levada.terms import (
    WHOLE,
    Column,
    Contract,
    Grain,
    Layer,
    Mart,
    Owner,
    Partition,
    Product,
    TableRef,
)

DOMAINS = ("operations", "weather", "fleet", "company")
NEW_YORK = "America/New_York"
_number = itertools.count(1)
_MADE = "lakes_template"


def contract(
    table: str, columns: str, grain: Grain = Grain.DAY, key: str | None = "ts", zone: str = NEW_YORK
) -> Contract:
    """A contract from `name TYPE!; ...`, where `!` marks a required column."""
    parts = [c.strip().split(" ", 1) for c in columns.split(";")]
    return Contract(
        id=table,
        version="1.0.0",
        status="active",
        table=TableRef.parse(table),
        product=table,
        grain=grain,
        zone=zone,
        interval_column=key,
        columns=tuple(Column(n, t.rstrip("!"), required=t.endswith("!")) for n, t in parts),
        checks=(),
        owner=Owner("team"),
        description="",
        hash="",
        path="",
    )


FLIGHTS = contract("operations.flights", "ts TIMESTAMPTZ!; carrier VARCHAR!; delay INTEGER")
DELAYS = contract("operations.delays", "day DATE!; carrier VARCHAR; minutes BIGINT", key="day")
PLANES = contract("fleet.planes", "tail VARCHAR!; seats INTEGER", Grain.WHOLE, None)
WEATHER = contract("weather.observations", "ts TIMESTAMPTZ!; temp DOUBLE", Grain.HOUR, zone="UTC")


def product(*contracts: Contract) -> Product:
    first = contracts[0]
    marts = tuple(Mart(c.table, Layer.BASE, "n", c, (), "p", "code") for c in contracts)
    return Product(first.table.domain, first.table.name, marts, first.grain, first.zone)


def day(key: str, zone: str = NEW_YORK) -> Partition:
    return intervals.parse(Grain.DAY, key, zone)


def flights(key: str, *rows: str) -> str:
    """SQL of flights at 07:00 New York time of a day, from `carrier:delay` words."""
    pairs = [row.split(":") for row in rows]
    values = ", ".join(f"('{carrier}', {delay or 'NULL'})" for carrier, delay in pairs)
    return (
        f"SELECT timezone('{NEW_YORK}', TIMESTAMP '{key} 07:00:00') AS ts, c AS carrier, d AS delay"
        f" FROM (VALUES {values}) v(c, d)"
    )


def landed(
    folder: Path, columns: Sequence[str], files: Mapping[str, bytes]
) -> tuple[StagedSource, dict[str, Path]]:
    """A source with one file for each hour key."""
    pins, paths = [], {}
    for key, content in files.items():
        path = paths[key] = folder / f"{key}.csv"
        path.write_bytes(content)
        partition = intervals.parse(Grain.HOUR, key)
        pins.append(LandedFile(partition, path, hashlib.sha256(content).hexdigest()))
    return StagedSource(TableRef("weather", "landing.obs", 0), tuple(columns), tuple(pins)), paths


class Hands(Protocol):
    """What a test does to a warehouse past its protocol."""

    def open(self, folder: Path, grace: timedelta = timedelta(0)) -> Warehouse: ...
    def domain(self, warehouse: Warehouse, stage: Stage, statements: Sequence[str]) -> None: ...
    def refused(self, role: str, contract: Contract) -> list[str]: ...
    def tamper(self, contract: Contract) -> None: ...
    def reshape(self, contract: Contract) -> None: ...
    def forget(self, warehouse: Warehouse, domain: str, version: str) -> None: ...
    def close(self) -> None: ...


@dataclass
class Bench:
    """One warehouse, and hands of its own kind."""

    kind: str
    hands: Hands
    folder: Path
    warehouse: Warehouse

    def build(
        self,
        run: str,
        tables: Mapping[Contract, str],
        inputs: Sequence[StagedTable] = (),
        sources: Sequence[StagedSource] = (),
    ) -> Stage:
        """A stage in which each table was built from SQL, as dbt would; `{input}` is the first."""
        stage = self.warehouse.stage(run, product(*tables), inputs, sources)
        place = str(next(iter(stage.inputs.values()), ""))
        self.hands.domain(
            self.warehouse,
            stage,
            [
                f"CREATE TABLE {stage.outputs[c.table]} AS {sql.replace('{input}', place)}"
                for c, sql in tables.items()
            ],
        )
        return stage

    def publish(self, run: str, tables: Mapping[Contract, str], *partitions: Partition) -> str:
        stage = self.warehouse.seal(self.build(run, tables))
        version = self.warehouse.swap(stage, [(c, partitions) for c in tables], {"run": run})
        self.warehouse.discard(stage)
        return version

    def rows(
        self, contract: Contract, columns: str = "*", order: str = "1"
    ) -> list[tuple[Any, ...]]:
        table = self.warehouse.place(contract.table)
        found = self.warehouse.read(f"SELECT {columns} FROM {table} ORDER BY {order}")
        return [tuple(row.values()) for row in found]

    def carriers(self) -> list[str]:
        return [row[0] for row in self.rows(FLIGHTS, "carrier")]

    def staged(self, stage: Stage, sql: str) -> list[tuple[Any, ...]]:
        """A query of a stage as the auditor opens it."""
        with duckdb.connect() as connection:
            for statement in self.warehouse.reading(stage):
                connection.execute(statement)
            return connection.execute(sql).fetchall()

    def content(self, run: str, sql: str, promised: Contract = FLIGHTS) -> str:
        stage = self.warehouse.seal(self.build(run, {promised: sql}))
        one = day("2013-01-01") if promised.interval_column else WHOLE
        return self.warehouse.contents(stage, promised, [one])[one]


@contextmanager
def empty_lakes(server: Credentials) -> Iterator[str]:
    """
    A database with the new lake of every domain. It is a copy: to make four lakes anew takes longer
    than most that is asked of one.
    """
    database = f"lakes_{next(_number)}"
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        if admin.execute("select from pg_database where datname = %s", [_MADE]).fetchone() is None:
            admin.execute(f"create database {_MADE}")
            _make_lakes(server)
        admin.execute(f"create database {database} template {_MADE}")
        admin.execute(f"revoke all on database {database} from public")
        admin.execute(f"grant connect on database {database} to {roles.READER}")
        yield database
        admin.execute(f"drop database {database} with (force)")


def _make_lakes(server: Credentials) -> None:
    with psycopg.connect(server.url(server.admin, _MADE), autocommit=True) as admin:
        roles._open_lake(admin, DOMAINS)
    with TemporaryDirectory() as folder:
        conninfo = partial(server.conninfo, database=_MADE)
        lake = DuckLake(Path(folder), Path(folder), conninfo, DOMAINS)
        for domain in DOMAINS:
            lake.create(domain)
        lake.close()


class LakeHands:
    """DuckLake, its catalogues empty."""

    def __init__(self, server: Credentials) -> None:
        self._server = server
        self._open = ExitStack()
        self.database = self._open.enter_context(empty_lakes(server))

    def open(self, folder: Path, grace: timedelta = timedelta(0)) -> Warehouse:
        self._root = folder / "lake"
        lake = DuckLake(
            self._root,
            folder / "stages",
            lambda role: self._server.conninfo(role, self.database),
            DOMAINS,
            grace=grace,
        )
        self._open.callback(lake.close)
        return lake

    def domain(self, warehouse: Warehouse, stage: Stage, statements: Sequence[str]) -> None:
        with duckdb.connect(str(stage.path)) as connection:
            for statement in warehouse.reading(stage)[:-1]:  # the stage is open already
                connection.execute(statement)
            for statement in statements:
                connection.execute(statement)

    def attached(self, role: str, domain: str) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        for statement in extensions.loading():
            connection.execute(statement)
        conninfo = self._server.conninfo(role, self.database)
        connection.execute(
            f"ATTACH 'ducklake:postgres:{conninfo}' AS w (METADATA_SCHEMA '{domain}',"
            f" DATA_PATH '{self._root}/{domain}/', OVERRIDE_DATA_PATH true)"
        )
        connection.execute(f"ATTACH '{conninfo}' AS pg (TYPE postgres)")
        return connection

    def refused(self, role: str, contract: Contract) -> list[str]:
        table, schema = f"w.main.{contract.table.relation}", contract.table.domain
        wanted = (
            f"INSERT INTO {table} SELECT * FROM {table}",
            f"DELETE FROM {table}",
            f"DROP TABLE {table}",
            f"ALTER TABLE {table} ADD COLUMN mine INTEGER",
            "CREATE TABLE w.main.mine (a INTEGER)",
            f"CALL postgres_execute('pg', 'delete from {schema}.ducklake_data_file')",
            f"CALL postgres_execute('pg', 'truncate {schema}.ducklake_snapshot')",
            f"CALL postgres_execute('pg', 'drop schema {schema} cascade')",
            "CALL postgres_execute('pg', 'set role levada_publisher')",
        )
        with self.attached(role, contract.table.domain) as connection:
            connection.execute(f"SELECT * FROM {table}")
            return [s for s in wanted if not _denied(partial(connection.execute, s))]

    def tamper(self, contract: Contract) -> None:
        with self.attached("levada_publisher", contract.table.domain) as connection:
            connection.execute(f"DELETE FROM w.main.{contract.table.relation}")

    def reshape(self, contract: Contract) -> None:
        with self.attached("levada_publisher", contract.table.domain) as connection:
            connection.execute(f"ALTER TABLE w.main.{contract.table.relation} ADD COLUMN odd INT")

    def forget(self, warehouse: Warehouse, domain: str, version: str) -> None:  # noqa: ARG002
        with self.attached("levada_publisher", domain) as connection:
            connection.execute(f"CALL ducklake_expire_snapshots('w', versions => [{version}])")

    def close(self) -> None:
        self._open.close()


class PostgresHands:
    """A PostgreSQL warehouse in a database of its own."""

    def __init__(self, server: Credentials) -> None:
        self._server, self.database = server, f"warehouse_{next(_number)}"
        _provision.provision(server, self.database, DOMAINS)

    def open(self, folder: Path, grace: timedelta = timedelta(0)) -> Warehouse:
        return PostgresWarehouse(
            folder / "stages",
            lambda role: self._server.conninfo(role, self.database),
            self.database,
            DOMAINS,
            grace=grace,
        )

    def domain(self, warehouse: Warehouse, stage: Stage, statements: Sequence[str]) -> None:
        (domain,) = {table.domain for table in stage.outputs}
        said = warehouse.profile(stage, domain)
        with psycopg.connect(
            host=str(said["host"]),
            port=str(said["port"]),
            user=str(said["user"]),
            password=str(said["password"]),
            dbname=str(said["dbname"]),
        ) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def refused(self, role: str, contract: Contract) -> list[str]:
        rows = f'"{contract.table.domain}$rows"'
        table = f"{contract.table.domain}.{contract.table.relation}"
        stored = f"{rows}.{contract.table.relation}"
        wanted = (
            f"INSERT INTO {table} SELECT * FROM {table}",
            f"DELETE FROM {table}",
            f"DROP VIEW {table}",
            f"CREATE OR REPLACE VIEW {table} AS SELECT 1",
            f"CREATE TABLE {contract.table.domain}.mine (a INTEGER)",
            f"DELETE FROM {stored}",
            f"INSERT INTO {stored} SELECT * FROM {stored}",
            f"TRUNCATE {stored}",
            f"DROP TABLE {stored}",
            f"ALTER TABLE {stored} DISABLE TRIGGER ALL",
            f"DROP SCHEMA {rows} CASCADE",
            "UPDATE levada.slice SET until = 1",
            "DELETE FROM levada.touched",
            "UPDATE levada.change SET run = 'r1'",
            "SELECT levada.swap('operations', 'r9', '{}')",
            "SELECT levada.number('operations', 'r9', '{}', true)",
            "SELECT levada.forget('operations', 1)",
            "SET ROLE levada_publisher",
            "CREATE TABLE public.mine (a INTEGER)",
        )
        address = self._server.conninfo(role, self.database)
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(f"SELECT * FROM {table}".encode())
            return [s for s in wanted if not _denied(partial(connection.execute, s.encode()))]

    def by_hand(self, statement: str, role: str = "levada_publisher") -> None:
        with psycopg.connect(self._server.conninfo(role, self.database)) as connection:
            connection.execute(statement.encode())

    def tamper(self, contract: Contract) -> None:
        table = contract.table
        self.by_hand(f'DELETE FROM "{table.domain}$rows".{table.relation}')

    def reshape(self, contract: Contract) -> None:
        table = contract.table
        self.by_hand(f'ALTER TABLE "{table.domain}$rows".{table.relation} ADD COLUMN odd integer')

    def forget(self, warehouse: Warehouse, domain: str, version: str) -> None:
        assert isinstance(warehouse, PostgresWarehouse)
        warehouse.forget(domain, str(int(version) + 1))

    def close(self) -> None:
        with psycopg.connect(self._server.admin_url, autocommit=True) as admin:
            admin.execute(f"drop database {self.database} with (force)")


HANDS: Mapping[str, Callable[[Credentials], Any]] = {
    "ducklake": LakeHands,
    "postgres": PostgresHands,
}


def _denied(act: Callable[[], object]) -> bool:
    """Whether a right is what was missing; another error is the test's own fault."""
    try:
        act()
    except (duckdb.Error, psycopg.Error) as error:
        wanted = "permission denied", "must be owner", "cannot delete from view", "cannot insert"
        assert any(words in str(error) for words in wanted), error
        return True
    return False
