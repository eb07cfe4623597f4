"""
What a statement that writes would leave behind, as a SELECT: nothing is written to know it.

Each statement becomes a query for all rows of its table as they would be afterwards. NULL is not
true: a row whose condition is NULL stays. What cannot be said as a query is refused, never left
out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from levada.adapters.placing import named, parsed, placed, reading
from levada.errors import DeclarationError, Fault

if TYPE_CHECKING:
    from sqlglot import exp

__all__ = ["Rewritten", "Tables", "rewrite"]

_CAN = "INSERT, UPDATE, DELETE, MERGE, TRUNCATE or CREATE OR REPLACE TABLE ... AS"
_PARTS: Mapping[str, frozenset[str]] = {
    "Insert": frozenset({"this", "expression", "by_name", "with_"}),
    "Update": frozenset({"this", "expressions", "from_", "where", "with_"}),
    "Delete": frozenset({"this", "using", "where", "with_"}),
    "Merge": frozenset({"this", "using", "on", "using_cond", "whens", "with_"}),
    "TruncateTable": frozenset({"expressions"}),
    "Create": frozenset({"this", "kind", "replace", "expression", "with_"}),
}
"""The parts of each statement that a rewriting takes over; any other is refused."""

Columns = Sequence[tuple[str, str]]


class Tables(Protocol):
    """The tables that a statement may name."""

    def relation(self, name: str) -> str:
        """What SQL calls `domain.table`. Raises LookupError: what is wrong, the nearest name."""

    def columns(self, name: str) -> Columns:
        """Its columns and their types, in order."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What would be afterwards."""

    target: str
    """The table that would be written, as `domain.table`."""
    after: str
    """The SELECT of all its rows as they would be."""
    matched: str = ""
    """
    The SELECT of how many pairs and lone rows there are, where a join decides: more than the
    table has rows says that a row is matched twice, and nobody could tell which one wins.
    """


def rewrite(sql: str, tables: Tables, path: str = "statement") -> Rewritten:
    """
    The query for what a statement would leave behind. Raises DeclarationError with path and line.

    >>> class One:
    ...     def relation(self, name: str) -> str: return "lake.flights"
    ...     def columns(self, name: str) -> Columns: return [("id", "INTEGER")]
    >>> rewrite("delete from ops.flights where id = 1", One()).after
    'WITH levada_0 AS (SELECT * FROM lake.flights) SELECT "flights".* FROM levada_0 AS "flights" \
WHERE NOT COALESCE((id = 1), FALSE)'
    """
    statement = _parsed(sql, path)
    try:
        return _Statement(statement, tables).rewritten()
    except (LookupError, ValueError) as error:
        raise DeclarationError((Fault(path, 1, *map(str, error.args)),)) from error


def _parsed(sql: str, path: str) -> Any:
    found = parsed(sql, path)
    if len(found) != 1:
        raise DeclarationError((Fault(path, 1, f"{len(found)} statements: give one"),))
    kind = type(found[0]).__name__
    if kind not in _PARTS or (kind == "Create" and not found[0].args.get("expression")):
        raise DeclarationError((Fault(path, 1, f"{kind.upper()} is no {_CAN}"),))
    odd = sorted(k for k, value in found[0].args.items() if value and k not in _PARTS[kind])
    if odd:
        wrong = f"{kind.upper()} with {', '.join(odd)} has no query that says the same"
        right = "write it as MERGE" if {"conflict", "alternative"} & set(odd) else ""
        raise DeclarationError((Fault(path, 1, wrong, right),))
    return found[0]


class _Statement:
    """One statement, its tables replaced by the queries of where they stand."""

    def __init__(self, statement: exp.Expression, tables: Tables) -> None:
        self._tables = tables
        self._statement = statement
        self.target = named(_target(statement))
        self.columns = tables.columns(self.target)
        self._named = placed(statement, tables.relation)
        self.alias = _target(statement).alias_or_name

    def rewritten(self) -> Rewritten:
        after, matched = getattr(self, f"_{type(self._statement).__name__.lower()}")()
        return Rewritten(self.target, self._whole(after), self._whole(matched) if matched else "")

    # Statements

    def _delete(self) -> tuple[str, str]:
        using = self._statement.args.get("using")
        where = self._condition()
        if using:
            return self._unmatched(", ".join(_sql(each) for each in using), where), ""
        gone = f"NOT COALESCE({where}, FALSE)" if where else "FALSE"
        return f"SELECT {self._star()} FROM {self._source()} WHERE {gone}", ""

    def _truncatetable(self) -> tuple[str, str]:
        return f"SELECT {self._star()} FROM {self._source()} WHERE FALSE", ""

    def _insert(self) -> tuple[str, str]:
        from sqlglot import exp

        query, into = self._statement.expression, self._statement.this
        if isinstance(query, exp.Values):
            query = exp.select("*").from_(exp.alias_(_without_defaults(query), "given", table=True))
        named = [each.name for each in into.expressions] if isinstance(into, exp.Schema) else []
        known = [column for column, _ in self.columns]
        if self._statement.args.get("by_name"):
            listed = f"SELECT * FROM ({_sql(query)})"
            empty = f"SELECT {self._star()} FROM {self._source()} WHERE FALSE"
            return self._and(f"{empty} UNION ALL BY NAME {listed}"), ""
        self._know(named)
        columns = ", ".join(_quoted(name) for name in named or known)
        given = {name.lower(): f"new.{_quoted(name)}" for name in named or known}
        values = ", ".join(
            _cast(given.get(name.lower(), "NULL"), kind, name) for name, kind in self.columns
        )
        return self._and(f"SELECT {values} FROM ({_sql(query)}) AS new({columns})"), ""

    def _create(self) -> tuple[str, str]:
        if not self._statement.args.get("replace"):
            raise ValueError(f"{self.target} is there already: CREATE without OR REPLACE fails")
        return _sql(self._statement.expression), ""

    def _update(self) -> tuple[str, str]:
        sets = self._sets(self._statement.expressions)
        where = self._condition() or "TRUE"
        source = self._statement.args.get("from_")
        if source is None:
            values = [
                f"CASE WHEN {where} THEN {_cast(sets[n.lower()], kind)} ELSE {self._own(n)} END"
                f" AS {_quoted(n)}"
                if n.lower() in sets
                else f"{self._own(n)} AS {_quoted(n)}"
                for n, kind in self.columns
            ]
            return f"SELECT {', '.join(values)} FROM {self._source()}", ""
        other = _sql(source).removeprefix("FROM ")
        pairs = f"FROM {self._source()}, {other} WHERE {where}"
        made = ", ".join(
            _cast(sets.get(n.lower(), self._own(n)), kind, n) for n, kind in self.columns
        )
        lone = self._unmatched(other, where)
        return f"SELECT {made} {pairs} UNION ALL {lone}", _counted(f"SELECT 1 {pairs}", lone)

    def _merge(self) -> tuple[str, str]:
        from sqlglot import exp

        source = self._statement.args["using"]
        other, on = _sql(source), self._statement.args.get("on")
        if on is not None:
            where = f"({_sql(on)})"
        else:
            theirs = source.alias_or_name
            where = " AND ".join(
                f"{self._own(c.name)} = {_quoted(theirs)}.{_quoted(c.name)}"
                for c in self._statement.args["using_cond"]
            )
        whens: dict[str, list[Any]] = {"pairs": [], "ours": [], "theirs": []}
        for when in self._statement.args["whens"].expressions:
            kind = "pairs" if when.args.get("matched") else "theirs"
            whens["ours" if when.args.get("source") else kind].append(when)
        pairs = f"FROM {self._source()} JOIN {other} ON {where}"
        lone = self._unmatched(other, where)
        ours = f"FROM ({lone}) AS {_quoted(self.alias)}"
        found = [self._kept(whens["pairs"], pairs, source), self._kept(whens["ours"], ours, source)]
        left = f"FROM {other} WHERE NOT EXISTS (SELECT 1 FROM {self._source()} WHERE {where})"
        before: list[str] = []
        for when in whens["theirs"]:
            condition = _sql(when.args["condition"]) if when.args.get("condition") else "TRUE"
            only = " AND ".join([*(f"NOT COALESCE({b}, FALSE)" for b in before), condition])
            before.append(condition)
            then = when.args["then"]
            if isinstance(then, exp.Insert):
                found.append(f"SELECT {self._inserted(then, source)} {left} AND ({only})")
            elif not _does_nothing(then):
                raise ValueError(f"WHEN NOT MATCHED can INSERT or DO NOTHING, not {_sql(then)}")
        return " UNION ALL ".join(found), _counted(f"SELECT 1 {pairs}", lone)

    # Parts

    def _kept(self, whens: Sequence[Any], rows: str, source: exp.Expression) -> str:
        """The rows of the table for which the first clause that holds is done."""
        from sqlglot import exp

        cases, gone = [], ["-1"]
        updates: dict[int, dict[str, str]] = {}
        for number, when in enumerate(whens):
            condition = _sql(when.args["condition"]) if when.args.get("condition") else "TRUE"
            cases.append(f"WHEN {condition} THEN {number}")
            then = when.args["then"]
            if isinstance(then, exp.Update):
                updates[number] = self._sets(then.expressions) or self._same(source)
            elif _sql(then).upper() == "DELETE":
                gone.append(str(number))
            elif not _does_nothing(then):
                raise ValueError(f"WHEN MATCHED can UPDATE, DELETE or DO NOTHING, not {_sql(then)}")
        first = f"CASE {' '.join(cases)} ELSE {len(whens)} END" if cases else "0"
        values = []
        for name, kind in self.columns:
            arms = " ".join(
                f"WHEN {n} THEN {_cast(sets[name.lower()], kind)}"
                for n, sets in updates.items()
                if name.lower() in sets
            )
            own = self._own(name)
            value = f"CASE {first} {arms} ELSE {own} END" if arms else own
            values.append(f"{value} AS {_quoted(name)}")
        return f"SELECT {', '.join(values)} {rows} WHERE {first} NOT IN ({', '.join(gone)})"

    def _inserted(self, then: exp.Expression, source: exp.Expression) -> str:
        names = (
            [c.name for c in then.this.expressions] if then.this and then.this.expressions else []
        )
        self._know(names)
        given = then.args.get("expression")
        if given is None:
            sets = self._same(source)
        else:
            listed = names or [name for name, _ in self.columns]
            if len(listed) != len(given.expressions):
                raise ValueError(f"INSERT names {len(listed)} columns for {len(given.expressions)}")
            sets = {n.lower(): _sql(v) for n, v in zip(listed, given.expressions, strict=True)}
        return ", ".join(_cast(sets.get(n.lower(), "NULL"), kind, n) for n, kind in self.columns)

    def _same(self, source: exp.Expression) -> dict[str, str]:
        """Every column from the one of the same name: what `UPDATE` and `INSERT` alone mean."""
        theirs = _quoted(source.alias_or_name)
        return {name.lower(): f"{theirs}.{_quoted(name)}" for name, _ in self.columns}

    def _sets(self, assignments: Iterable[Any]) -> dict[str, str]:
        from sqlglot import exp

        found: dict[str, str] = {}
        for each in assignments:
            left, right = each.this, each.expression
            if isinstance(left, exp.Tuple):
                if not isinstance(right, exp.Tuple) or len(left.expressions) != len(
                    right.expressions
                ):
                    raise ValueError(f"{_sql(each)}: give as many values as columns")
                pairs = list(zip(left.expressions, right.expressions, strict=True))
            else:
                pairs = [(left, right)]
            for column, value in pairs:
                found[column.name.lower()] = _sql(value)
        self._know(found)
        return found

    def _know(self, names: Iterable[str]) -> None:
        from levada.settings import nearest

        known = {name.lower(): name for name, _ in self.columns}
        for name in names:
            if name.lower() not in known:
                near = nearest(name, known.values())
                raise ValueError(
                    f"{self.target} has no column {name!r}" + (f": {near}" if near else "")
                )

    def _unmatched(self, other: str, where: str) -> str:
        found = f"SELECT 1 FROM {other}" + (f" WHERE {where}" if where else "")
        return f"SELECT {self._star()} FROM {self._source()} WHERE NOT EXISTS ({found})"

    def _and(self, more: str) -> str:
        return f"SELECT {self._star()} FROM {self._source()} UNION ALL {more}"

    def _condition(self) -> str:
        where = self._statement.args.get("where")
        return f"({_sql(where.this)})" if where is not None else ""

    def _star(self) -> str:
        return f"{_quoted(self.alias)}.*"

    def _own(self, column: str) -> str:
        return f"{_quoted(self.alias)}.{_quoted(column)}"

    def _source(self) -> str:
        return f"{self._named[self.target]} AS {_quoted(self.alias)}"

    def _whole(self, query: str) -> str:
        relations = {name: self._tables.relation(name) for name in self._named}
        return reading(query, self._named, relations, self._statement.args.get("with_"))


def _target(statement: exp.Expression) -> exp.Table:
    from sqlglot import exp

    place = statement.expressions[0] if isinstance(statement, exp.TruncateTable) else statement.this
    table = place.this if isinstance(place, exp.Schema) else place
    if not isinstance(table, exp.Table):
        raise ValueError(f"{_sql(place)} is no table of the mesh")
    return table


def _without_defaults(values: exp.Expression) -> exp.Expression:
    """VALUES in which DEFAULT is NULL: published tables have no defaults."""
    from sqlglot import exp

    def plain(node: exp.Expression) -> exp.Expression:
        word = isinstance(node, exp.Column | exp.Var) and node.name.upper() == "DEFAULT"
        return exp.null() if word else node

    return values.transform(plain)


def _does_nothing(then: exp.Expression) -> bool:
    return _sql(then).upper() == "DO NOTHING"


def _counted(pairs: str, lone: str) -> str:
    return f"SELECT (SELECT count(*) FROM ({pairs})) + (SELECT count(*) FROM ({lone}))"


def _cast(value: str, kind: str, name: str = "") -> str:
    cast = f"CAST({value} AS {kind})"
    return f"{cast} AS {_quoted(name)}" if name else cast


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _sql(node: exp.Expression) -> str:
    return node.sql(dialect="duckdb")
