"""
Run what consumers ask of a table against its old and its new version, and compare the answers.

Answers are compared as bags of rows: their order is nothing that SQL promises without ORDER BY, and
one that only orders differently tells the same.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levada.adapters.diffing import DuckSide, compare
from levada.adapters.placing import parsed, placed, reading
from levada.adapters.postgres import Credentials
from levada.adapters.warehouses._session import scratch
from levada.diff import Difference, Question
from levada.errors import DeclarationError, Fault
from levada.flow import platform
from levada.flow.differing import Place, promised
from levada.ports import Warehouse
from levada.settings import Settings
from levada.terms import Mesh

if TYPE_CHECKING:
    import duckdb

__all__ = ["Answer", "Query", "Replayed", "queries", "replay"]


class Answer(StrEnum):
    """How a query fares on the new version."""

    SAME = "same"
    DIFFERS = "differs"
    BREAKS = "breaks"
    """It ran on the old version and does not on the new one."""
    MENDED = "mended"
    """It runs on the new version and did not on the old one."""
    FAILS = "fails"
    """It runs on neither."""


@dataclass(frozen=True, slots=True)
class Query:
    """One saved query."""

    name: str
    """Its file, and its number there if it is not alone."""
    statement: Any
    """As sqlglot parsed it; its tables are placed."""
    tables: dict[str, str]
    given: Any


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a query."""

    name: str
    answer: Answer
    because: str
    seconds: tuple[float, float]
    """What the old and the new version took."""
    difference: Difference | None = None


def queries(paths: Sequence[Path], mesh: Mesh, old: Place) -> tuple[Query, ...]:
    """
    The queries of these `.sql` files, and of those in these folders, that read a table.

    Raises DeclarationError with every fault of every file.
    """
    files = [
        f for path in paths for f in (sorted(path.rglob("*.sql")) if path.is_dir() else [path])
    ]
    found: list[Query] = []
    faults: list[Fault] = []
    for file in files:
        try:
            statements = parsed(file.read_text("utf-8"), str(file))
            for number, each in enumerate(statements, 1):
                name = str(file) if len(statements) == 1 else f"{file}:{number}"
                found.append(_query(name, each, mesh))
        except DeclarationError as error:
            faults += error.faults
        except LookupError as error:
            faults.append(Fault(str(file), 1, *map(str, error.args)))
        except (OSError, ValueError) as error:  # no text among them
            faults.append(Fault(str(file), 1, str(error)))
    if not files:
        faults.append(Fault("QUERIES", 0, "no .sql file", "name files, or folders that hold some"))
    if faults:
        raise DeclarationError(faults)
    read = old.contract.table if old.contract else None
    return tuple(q for q in found if read in [promised(mesh, name).table for name in q.tables])


def _query(name: str, statement: Any, mesh: Mesh) -> Query:
    from sqlglot import exp

    if not isinstance(statement, exp.Query):
        raise ValueError(f"{type(statement).__name__.upper()} is no query: only SELECT is replayed")
    given = statement.args.get("with_")
    tables = placed(statement, lambda table: promised(mesh, table).table)
    if given is not None:
        statement.set("with_", None)
    return Query(name, statement, tables, given)


def replay(
    settings: Settings,
    mesh: Mesh,
    credentials: Credentials,
    asked: Sequence[Query],
    old: Place,
    new: Place,
    *,
    at: str = "",
    jobs: int = 0,
    seconds: float = 60.0,
    samples: int = 5,
) -> Iterator[Replayed]:
    """
    Each query's answers, compared, as they come; `at` is a data version of the old table.

    At most `jobs` queries run at once (one for each core), each side of one for so many seconds.
    """
    published = platform.warehouse(settings, credentials)
    try:
        domains = {promised(mesh, t).table.domain for query in asked for t in query.tables}
        domains |= {p.contract.table.domain for p in (old, new) if p.contract}
        session = scratch([*published.attaching(domains), "SET memory_limit = '2GB'"])
        try:
            session.execute("SET enable_external_access = false")
            session.execute("SET lock_configuration = true")
            sides = (_relation(published, old, at), _relation(published, new, ""))

            def one(query: Query) -> Replayed:
                texts = [_text(published, mesh, query, old, side) for side in sides]
                with session.cursor() as cursor:
                    return _compared(cursor, query.name, texts, seconds, samples)

            with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
                yield from pool.map(one, asked)
        finally:
            session.close()
    finally:
        published.close()


def _relation(published: Warehouse, place: Place, version: str) -> str:
    if place.contract is None:
        wrong = f"{place.text} is no published table"
        raise DeclarationError((Fault("--old, --new", 0, wrong, "write domain.table@major"),))
    table = place.contract.table
    if version and published.missing(table.domain, [version]):
        raise DeclarationError((Fault("--at", 0, f"{table} has no data version {version!r}"),))
    return published.relation(table, version)


def _text(published: Warehouse, mesh: Mesh, query: Query, old: Place, side: str) -> str:
    read = {name: promised(mesh, name).table for name in query.tables}
    relations = {
        name: side if old.contract and table == old.contract.table else published.relation(table)
        for name, table in read.items()
    }
    return reading(query.statement.sql(dialect="duckdb"), query.tables, relations, query.given)


def _compared(
    cursor: duckdb.DuckDBPyConnection,
    name: str,
    texts: Sequence[str],
    seconds: float,
    samples: int,
) -> Replayed:
    took, wrong = [], []
    for number, text in enumerate(texts):
        began = time.monotonic()
        wrong.append(_keep(cursor, f"replay_{number}", text, seconds))
        took.append(time.monotonic() - began)
    spent = (took[0], took[1])
    if any(wrong):
        answer = Answer.FAILS if all(wrong) else Answer.BREAKS if wrong[1] else Answer.MENDED
        return Replayed(name, answer, wrong[1] or wrong[0], spent)
    sides = (DuckSide(cursor, "replay_0"), DuckSide(cursor, "replay_1"))
    found = compare(cursor, *sides, Question((), {}, samples))
    answer = Answer.SAME if found.identical else Answer.DIFFERS
    return Replayed(name, answer, str(found), spent, found)


def _keep(cursor: duckdb.DuckDBPyConnection, table: str, text: str, seconds: float) -> str:
    """Keep an answer; what went wrong, if something did."""
    import duckdb

    timer = threading.Timer(seconds, cursor.interrupt)
    timer.start()
    try:
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {text}")
    except duckdb.InterruptException:
        return f"it took longer than {seconds:g} s"
    except duckdb.Error as error:
        return str(error).splitlines()[0]
    finally:
        timer.cancel()
    return ""
