"""What a statement that writes would change: its query, compared with the table as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from levada.adapters.diffing import DuckSide, compare
from levada.adapters.postgres import Credentials
from levada.adapters.rewriting import Columns, Rewritten, rewrite
from levada.adapters.warehouses._session import scratch
from levada.diff import Difference, Question
from levada.errors import DeclarationError, Fault, ToolError
from levada.flow import platform
from levada.flow.differing import promised
from levada.ports import Warehouse
from levada.settings import Settings
from levada.terms import Mesh, TableRef

if TYPE_CHECKING:
    import duckdb

__all__ = ["Foretold", "checksum", "foretell"]

_MEMORY = "2GB"


@dataclass(frozen=True, slots=True)
class Foretold:
    """What would change, and that nothing did."""

    table: str
    difference: Difference
    """A is the table as it is, B as it would be: only in B are the rows that would be added."""
    checksum: str
    """Rows and sum of row hashes of the table, the same before and after this was told."""


def foretell(
    settings: Settings,
    mesh: Mesh,
    credentials: Credentials,
    sql: str,
    path: str,
    *,
    key: tuple[str, ...] = (),
    samples: int = 5,
) -> Foretold:
    """
    Compare a table with what a statement would make of it; the statement itself is never run.

    Raises DeclarationError for what cannot be rewritten or is ambiguous, ToolError for what DuckDB
    refuses.
    """
    import duckdb

    published = platform.warehouse(settings, credentials)
    try:
        tables = _Published(mesh, published)
        made = rewrite(sql, tables, path)
        contract = promised(mesh, made.target)
        relation = published.relation(contract.table)
        domains = {table.domain for table in tables.used}
        statements = [f"SET memory_limit = '{_MEMORY}'", *published.attaching(domains)]
        connection = scratch(statements)
        try:
            before = checksum(connection, relation)
            _unambiguous(connection, made, before, path)
            question = Question(key or contract.key, {}, samples)
            now, then = DuckSide(connection, relation), DuckSide(connection, f"({made.after})")
            difference = compare(connection, now, then, question)
            after = checksum(connection, relation)
        except duckdb.Error as error:
            raise ToolError("verify-write", str(error).splitlines()[0]) from error
        finally:
            connection.close()
    finally:
        published.close()
    if before != after:
        raise ToolError("verify-write", f"{made.target} was published meanwhile: ask again")
    return Foretold(made.target, difference, before)


class _Published:
    """The published tables of a mesh, as statements name them; it remembers which were."""

    def __init__(self, mesh: Mesh, warehouse: Warehouse) -> None:
        self._mesh, self._warehouse = mesh, warehouse
        self.used: set[TableRef] = set()

    def relation(self, name: str) -> str:
        table = promised(self._mesh, name).table
        self.used.add(table)
        return self._warehouse.relation(table)

    def columns(self, name: str) -> Columns:
        return [(column.name, column.type) for column in promised(self._mesh, name).columns]


def checksum(connection: duckdb.DuckDBPyConnection, relation: str) -> str:
    """Rows and sum of row hashes of a relation, as `rows:hash`."""
    ((rows, total),) = connection.execute(
        f"SELECT count(*), coalesce(sum(CAST(hash(t) AS HUGEINT)), 0) FROM {relation} t"
    ).fetchall()
    return f"{rows}:{total:x}"


def _unambiguous(
    connection: duckdb.DuckDBPyConnection, made: Rewritten, checksum: str, path: str
) -> None:
    """A row that a join matches twice has two futures: which one, nobody can tell."""
    if not made.matched:
        return
    found = connection.execute(made.matched).fetchone()
    rows = int(checksum.partition(":")[0])
    if found is None or found[0] != rows:
        wrong = f"rows of {made.target} are matched more than once: which match wins is not told"
        right = "join what is unique for each row of the table"
        raise DeclarationError((Fault(path, 1, wrong, right),))
