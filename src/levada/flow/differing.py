"""Find the two tables of a diff where they are, and compare them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from levada.adapters.diffing import DuckSide, PostgresSide, Side, compare
from levada.adapters.postgres import Credentials
from levada.adapters.probes.session import connected, environment
from levada.adapters.warehouses._sql import literal, name, within_partitions
from levada.diff import Difference, Question
from levada.errors import DeclarationError, Fault, ToolError
from levada.flow import platform
from levada.intervals import parse
from levada.settings import Settings, nearest
from levada.terms import Contract, Mesh, TableRef

if TYPE_CHECKING:
    import duckdb

__all__ = ["Place", "difference", "place", "promised"]

_READERS = {".parquet": "read_parquet", ".csv": "read_csv", ".json": "read_json"}
_MEMORY = "2GB"
_BESIDE = "postgres:"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a side is: a table of the mesh, a file, or a table behind a connection."""

    text: str
    contract: Contract | None = None
    file: Path | None = None
    connection: str = ""
    table: str = ""


def place(text: str, mesh: Mesh) -> Place:
    """
    What `operations.flights@1`, `days/flights.parquet` or `postgres:shop:sales.orders` means.

    Raises DeclarationError.
    """
    if text.startswith(_BESIDE):
        connection, _, table = text.removeprefix(_BESIDE).partition(":")
        if not connection or not table:
            raise _wrong(text, "a table behind a connection is postgres:CONNECTION:schema.table")
        return Place(text, connection=connection, table=table)
    file = Path(text)
    if file.suffix in _READERS:
        if not file.exists():
            raise _wrong(text, "no such file")
        return Place(text, file=file)
    try:
        return Place(text, contract=promised(mesh, text))
    except LookupError as error:
        raise _wrong(text, "no published table and no file", str(error.args[1])) from None


def promised(mesh: Mesh, name: str) -> Contract:
    """The contract of `domain.table`. Raises LookupError: what is wrong, and the nearest name."""
    try:
        return mesh.mart(TableRef.parse(name)).contract
    except (KeyError, ValueError):
        right = nearest(name, [str(t).removesuffix("@1") for t in mesh.tables()])
        raise LookupError(f"no published table {name}", right) from None


def difference(
    settings: Settings,
    credentials: Credentials,
    a: Place,
    b: Place,
    question: Question,
    *,
    at: str = "",
    interval: str = "",
    where: str = "",
) -> Difference:
    """
    Compare two places; A as it was `at` a data version, both cut to one interval or a condition.

    Raises DeclarationError, VersionGone, Unavailable, ToolError.
    """
    import duckdb

    condition = " AND ".join(
        f"({part})" for part in (_interval(a, b, interval) if interval else "", where) if part
    )
    with ExitStack() as stack, _meeting(settings, credentials, (a, b)) as connection:
        try:
            one, other = (
                stack.enter_context(
                    _side(connection, settings, credentials, each, version, condition)
                )
                for each, version in ((a, at), (b, ""))
            )
            return compare(connection, one, other, question)
        except duckdb.Error as error:
            raise ToolError("diff", str(error).splitlines()[0]) from error


def _interval(a: Place, b: Place, key: str) -> str:
    contract = a.contract or b.contract
    if contract is None:
        raise _wrong("--interval", "neither side is a table of the mesh", "use --where")
    try:
        return within_partitions(contract, [parse(contract.grain, key, contract.zone)])
    except ValueError as error:
        raise _wrong("--interval", str(error)) from error


@contextmanager
def _meeting(
    settings: Settings, credentials: Credentials, places: tuple[Place, Place]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB with the tables of both sides, that spills to disk instead of taking all memory."""
    from levada.adapters.warehouses._session import scratch

    domains = {p.contract.table.domain for p in places if p.contract}
    published = platform.warehouse(settings, credentials)
    with ExitStack() as stack:
        stack.callback(published.close)
        attached = published.attaching(domains) if domains else ()
        connection = scratch([f"SET memory_limit = '{_MEMORY}'", *attached])
        stack.callback(connection.close)
        yield connection


@contextmanager
def _side(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    credentials: Credentials,
    where: Place,
    version: str,
    condition: str,
) -> Iterator[Side]:
    if where.connection:
        if version:
            raise _wrong("--at", f"{where.text} has no versions")
        with connected(where.connection, environment) as database:
            yield PostgresSide(database, _quoted(where.table), _postgres(condition))
        return
    if where.file:
        relation = f"{_READERS[where.file.suffix]}({literal(where.file)})"
    elif where.contract:
        table = where.contract.table
        published = platform.warehouse(settings, credentials)
        if version and published.missing(table.domain, [version]):
            raise _wrong("--at", f"{table} has no data version {version!r}")
        relation = published.relation(table, version)
    yield DuckSide(
        connection, f"(SELECT * FROM {relation} WHERE {condition})" if condition else relation
    )


def _quoted(table: str) -> str:
    return name(*table.split("."))


def _postgres(condition: str) -> str:
    """A condition of DuckDB's SQL in PostgreSQL's."""
    import sqlglot

    if not condition:
        return "true"
    return sqlglot.transpile(condition, read="duckdb", write="postgres")[0]


def _wrong(place_: str, wrong: str, right: str = "") -> DeclarationError:
    return DeclarationError((Fault(place_, 0, wrong, right),))
