"""SQL that people wrote over published tables, made to read those where they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from levada.errors import DeclarationError, Fault

if TYPE_CHECKING:
    from sqlglot import exp

__all__ = ["named", "parsed", "placed", "reading"]


def parsed(sql: str, path: str) -> list[Any]:
    """The statements of a text. Raises DeclarationError with path and line."""
    import sqlglot
    from sqlglot.errors import SqlglotError

    try:
        return [each for each in sqlglot.parse(sql, read="duckdb") if each is not None]
    except SqlglotError as error:
        told: Any = (getattr(error, "errors", None) or [{}])[0]
        wrong = f"no SQL: {told.get('description') or str(error).splitlines()[0]}"
        raise DeclarationError((Fault(path, int(told.get("line") or 1), wrong),)) from error


def named(table: exp.Table) -> str:
    """A table as the text calls it, `domain.table`."""
    return f"{table.db}.{table.name}" if table.db else table.name


def placed(statement: Any, known: Callable[[str], object]) -> dict[str, str]:
    """
    Let a statement read each of its tables under a name of ours; those names, by the tables'.

    What it calls a table stays an alias, so that its columns resolve as before. `known` raises
    KeyError for a table that there is not; ValueError is raised for what is no table.
    """
    from sqlglot import exp

    found: dict[str, str] = {}
    local = {cte.alias for cte in statement.find_all(exp.CTE)}
    for table in list(statement.find_all(exp.Table)):
        if table.name in local and not table.db:
            continue
        if not isinstance(table.this, exp.Identifier):
            raise ValueError(f"{table.sql(dialect='duckdb')} is no table of the mesh")
        name, alias = named(table), table.alias_or_name
        known(name)
        ours = found.setdefault(name, f"levada_{len(found)}")
        table.set("this", exp.to_identifier(ours))
        table.set("db", None)
        table.set("catalog", None)
        table.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
    for column in statement.find_all(exp.Column):
        column.set("db", None)
        column.set("catalog", None)
    return found


def reading(
    query: str, names: Mapping[str, str], relations: Mapping[str, str], given: Any = None
) -> str:
    """
    A query over the names of `placed`, each bound to a relation; `given` is its own WITH.

    >>> reading("SELECT * FROM levada_0", {"ops.flights": "levada_0"}, {"ops.flights": "lake.f"})
    'WITH levada_0 AS (SELECT * FROM lake.f) SELECT * FROM levada_0'
    """
    ctes = [f"{ours} AS (SELECT * FROM {relations[name]})" for name, ours in names.items()]
    ctes += [cte.sql(dialect="duckdb") for cte in (given.expressions if given else ())]
    recursive = "RECURSIVE " if given is not None and given.args.get("recursive") else ""
    return f"WITH {recursive}{', '.join(ctes)} {query}" if ctes else query
