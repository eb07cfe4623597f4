"""
Column lineage, read from compiled SQL by sqlglot.

Everything errs to one side. A column whose origin cannot be told, a star that cannot be spelled
out, a function that makes rows: then nothing is known of the whole model, which counts as reading
and handing on every column.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from levada.govern.lineage import Lineage
from levada.terms import TableRef

__all__ = ["Model", "lineages"]

Pair = tuple[str, str]
"""A table in the SQL, and a column of it; both in lower case."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model's SQL, by the table that it makes; `of` is the published one, if it is that."""

    table: str
    sql: str
    reads: tuple[str, ...]
    of: TableRef | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """Of one select, or one model: what its columns are made of, and what decides its rows."""

    outputs: Mapping[str, frozenset[Pair]]
    rows: frozenset[Pair]
    read: frozenset[Pair]


class _Unknown(Exception):
    """Where a column comes from cannot be told."""


def lineages(
    models: Mapping[str, Model], promised: Mapping[str, tuple[TableRef, tuple[str, ...]]]
) -> dict[TableRef, Lineage]:
    """
    The lineage of every published table of which it can be told.

    `promised` gives what the models read, by its name in their SQL: the published table or source,
    and its columns. Everything else that they read must be one of the models.

    >>> flights = TableRef("operations", "flights")
    >>> model = Model("d", "select day, delay + 1 as n from f where ok", ("f",), TableRef("a", "d"))
    >>> known = lineages({"d": model}, {"f": (flights, ("day", "delay", "ok"))})
    >>> sorted(known[TableRef("a", "d")].outputs["n"]), sorted(known[TableRef("a", "d")].rows)[0][1]
    ([(TableRef(domain='operations', name='flights', major=1), 'delay')], 'ok')
    """
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    reading = _Reading(models, promised)
    found: dict[TableRef, Lineage] = {}
    for name, model in models.items():
        if model.of is None:
            continue
        try:
            found[model.of] = reading.lineage(name)
        except Exception:  # noqa: S112 - whatever it is, nothing is known then
            continue
    return found


@dataclass
class _Reading:
    models: Mapping[str, Model]
    promised: Mapping[str, tuple[TableRef, tuple[str, ...]]]
    _known: dict[str, _Known] = field(default_factory=dict)

    def lineage(self, name: str) -> Lineage:
        known = self.model(name)
        outputs = {column: self._pairs(pairs) for column, pairs in known.outputs.items()}
        rows = self._pairs(known.rows)
        unused = self._pairs(known.read) - rows.union(*outputs.values())
        return Lineage(outputs, rows, unused)

    def _pairs(self, pairs: frozenset[Pair]) -> frozenset[tuple[TableRef, str]]:
        found = set()
        for table, column in pairs:
            ref, columns = self.promised[table]
            named = {each.lower(): each for each in columns}
            found.add((ref, named[column]))
        return frozenset(found)

    def model(self, name: str) -> _Known:
        """A model's lineage, with that of the private models it reads put in their place."""
        if name not in self._known:
            model = self.models[name]
            schema = {table: self._columns(table) for table in model.reads}
            self._known[name] = self._through(_analysed(model.sql, schema))
        return self._known[name]

    def _columns(self, table: str) -> tuple[str, ...]:
        if table in self.promised:
            return self.promised[table][1]
        return tuple(self.model(table).outputs)

    def _through(self, known: _Known) -> _Known:
        private = {table for table, _ in known.read if table not in self.promised}
        inner = {table: self.model(table) for table in private}

        def through(pairs: frozenset[Pair]) -> frozenset[Pair]:
            found: set[Pair] = set()
            for table, column in pairs:
                found |= inner[table].outputs[column] if table in inner else {(table, column)}
            return frozenset(found)

        return _Known(
            {column: through(pairs) for column, pairs in known.outputs.items()},
            through(known.rows).union(*(each.rows for each in inner.values())),
            through(known.read).union(*(each.read for each in inner.values())),
        )


def _analysed(sql: str, schema: Mapping[str, tuple[str, ...]]) -> _Known:
    import sqlglot
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    tables = {
        table.lower(): {column.lower(): "VARCHAR" for column in columns}
        for table, columns in schema.items()
    }
    tree = qualify(
        sqlglot.parse_one(sql, dialect="duckdb"),
        schema={"memory": {"main": tables}},
        db="main",
        catalog="memory",
        dialect="duckdb",
    )
    scope = build_scope(tree)
    if scope is None:
        raise _Unknown(sql)
    return _scoped(scope, {})


def _scoped(scope: Any, done: dict[int, _Known]) -> _Known:
    if id(scope) not in done:
        done[id(scope)] = (_united if scope.set_operation_scopes else _selected)(scope, done)
    return done[id(scope)]


def _united(scope: Any, done: dict[int, _Known]) -> _Known:
    from sqlglot import exp

    parts = [_scoped(each, done) for each in scope.set_operation_scopes]
    names = [list(part.outputs) for part in parts]
    if len({len(each) for each in names}) != 1:
        raise _Unknown("the parts of a union differ")
    outputs = {
        row[0]: frozenset().union(*(p.outputs[n] for p, n in zip(parts, row, strict=True)))
        for row in zip(*names, strict=True)
    }
    rows = frozenset[Pair]().union(*(part.rows for part in parts))
    if not isinstance(scope.expression, exp.Union) or scope.expression.args.get("distinct"):
        rows = rows.union(*outputs.values())
    read = frozenset[Pair]().union(*(part.read for part in parts))
    return _Known(outputs, rows, read | _beside(scope, done))


def _selected(scope: Any, done: dict[int, _Known]) -> _Known:
    from sqlglot import exp

    select = scope.expression
    if not isinstance(select, exp.Select):
        raise _Unknown(select.sql())
    if any(isinstance(each, exp.Star) or each.is_star for each in select.expressions):
        raise _Unknown("a star that cannot be spelled out")
    if odd := select.find(*_odd()):
        raise _Unknown(odd.sql())
    projected = {
        id(column): each.alias_or_name
        for each in select.expressions
        for column in each.find_all(exp.Column)
    }
    outputs: dict[str, set[Pair]] = {each.alias_or_name: set() for each in select.expressions}
    if len(outputs) != len(select.expressions):
        raise _Unknown("two columns of one name")
    rows: set[Pair] = set()
    for column in scope.columns:
        pairs = _origin(scope, column, done)
        name = projected.get(id(column))
        (rows if name is None else outputs[name]).update(pairs)
    read = rows.union(*outputs.values())
    for inner in _sources(scope):
        known = _scoped(inner, done)
        rows |= known.rows
        read |= known.read
    for inner in scope.subquery_scopes:  # what it finds may decide anything here
        known = _scoped(inner, done)
        rows |= known.rows.union(*known.outputs.values())
        read |= known.read
    grouped = select.args.get("group")
    if select.args.get("distinct") or (grouped and grouped.args.get("all")):
        rows = rows.union(*outputs.values())
    made = {name: frozenset(pairs) for name, pairs in outputs.items()}
    return _Known(made, frozenset(rows), frozenset(read) | _beside(scope, done))


def _odd() -> tuple[Any, ...]:
    """What makes rows or columns that no name in the SQL tells."""
    from sqlglot import exp

    return (
        *(exp.Columns, exp.Explode, exp.Lateral, exp.Pivot),
        *(exp.TableColumn, exp.Unnest, exp.Values),
    )


def _sources(scope: Any) -> Iterator[Any]:
    """The selects that it selects from."""
    from sqlglot.optimizer.scope import Scope

    for name, _ in scope.references:
        source = scope.sources.get(name)
        if isinstance(source, Scope):
            yield source


def _beside(scope: Any, done: dict[int, _Known]) -> frozenset[Pair]:
    """What `with` reads, even where nothing selects from it."""
    return frozenset[Pair]().union(*(_scoped(each, done).read for each in scope.cte_scopes))


def _origin(scope: Any, column: Any, done: dict[int, _Known]) -> frozenset[Pair]:
    from sqlglot import exp

    around = scope
    while around is not None and column.table not in around.sources:
        around = around.parent  # a subquery speaks of what is around it
    source = around.sources[column.table] if around is not None else None
    name = column.name.lower()
    if isinstance(source, exp.Table):
        return frozenset({(source.name.lower(), name)})
    if source is None or not hasattr(source, "sources"):
        raise _Unknown(column.sql())
    return _scoped(source, done).outputs[name]
