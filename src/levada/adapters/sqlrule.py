"""
The SQL rules of contracts: one SELECT that returns one number, about one partition's rows.

A rule reads `{object}` and the tables that its product depends on, by `domain.table`. Audits run
with the platform's rights, so that a rule is parsed before it is believed, by sqlglot and by DuckDB
(`readonly`): nothing but a SELECT, no other table, no table function, no function with an effect.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from levada.adapters import readonly
from levada.terms import TableRef

__all__ = ["Rule", "column_type", "named_table", "parse"]

# What it cannot read is refused here; it need not say so on standard error as well.
logging.getLogger("sqlglot").setLevel(logging.ERROR)

_OBJECT = "levada_object"
_PLACEHOLDER = re.compile(r"\$?\{(\w+)\}")
_TOKEN = re.compile(r"<Token token_type: [\w.]+, text: (.*?), line: \d+, col: .*?>")
"""How sqlglot speaks of a word in its messages."""
_TYPE = re.compile(r"[\w\s(),\[\]'\"]+")
_OF_THE_ENGINE = frozenset({"information_schema", "main", "pg_catalog"})
_WRITES = (exp.Insert, exp.Update, exp.Delete, exp.Create, exp.Drop, exp.Command, exp.Copy)
_OF_A_COUNT = frozenset({"expressions", "from", "from_", "joins", "where"})
"""The clauses of a query that counts rows and does nothing else with them."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that may run: its parsed query, and the other tables it reads."""

    query: exp.Select
    reads: tuple[TableRef, ...]

    def sql(self, rows: str, relation: Callable[[TableRef], str]) -> str:
        """
        The query over these rows (a SELECT), with its other tables where `relation` says.

        >>> rule = parse("select count(*) from {object} where {property} < 0", "delay")
        >>> rule.sql("select * from staged", str)
        'SELECT COUNT(*) FROM (SELECT * FROM staged) AS levada_object WHERE "delay" < 0'
        """

        def placed(node: exp.Expr) -> exp.Expr:
            if not isinstance(node, exp.Table):
                return node
            alias = node.args.get("alias") or exp.TableAlias(this=exp.to_identifier(node.name))
            if _is_object(node):
                inner = _read(rows).copy()
                return exp.Subquery(this=inner, alias=alias, joins=node.args.get("joins"))
            if node.db:
                there = _read(f"select * from {relation(_named(node))}").copy()
                return exp.Subquery(this=there, alias=alias, joins=node.args.get("joins"))
            return node

        own = self.query.transform(placed)  # a copy, which nobody reads again
        return own.sql(dialect="duckdb", copy=False)

    @property
    def counted(self) -> str | None:
        """
        The name of `{object}` in a rule that counts its rows and does nothing else, or None.

        >>> parse("select count(*) from {object} o where o.delay < 0").counted
        'o'
        >>> parse("select count(distinct carrier) from {object}").counted
        """
        said = {clause for clause, value in self.query.args.items() if value}
        count = self.query.selects[0].unalias()
        if said - _OF_A_COUNT or not isinstance(count, exp.Count):
            return None
        if not isinstance(count.this, exp.Star | exp.Literal | None):
            return None
        for table in self.query.find_all(exp.Table):
            own = isinstance(table.parent, exp.From | exp.Join)
            if own and table.parent_select is self.query and _is_object(table):
                # Names of its own for the columns would hide which of them are shown.
                return None if table.alias_column_names else table.alias_or_name
        return None

    @property
    def columns(self) -> tuple[str, ...]:
        """
        The names that may be columns of `{object}`, in the order of the query.

        >>> parse("select count(*) from {object} o join fleet.planes p using (tail)"
        ...       " where o.seats <> p.seats and p.year > 2000 and miles > 0").columns
        ('tail', 'seats', 'miles')
        """
        own = {""}
        own |= {
            table.alias_or_name for table in self.query.find_all(exp.Table) if _is_object(table)
        }
        found = [
            name.name
            for join in self.query.find_all(exp.Join)
            for name in join.args.get("using") or ()
        ]
        found += [
            column.name
            for column in self.query.find_all(exp.Column, bfs=False)
            if column.table in own
        ]
        return tuple(dict.fromkeys(found))

    def listed(self, shown: str, where: str, rows: str, relation: Callable[[TableRef], str]) -> str:
        """
        The rows that a counting rule counts, each `shown` by an expression, where also this holds.

        >>> rule = parse("select count(*) from {object} where delay < 0 or delay is null")
        >>> rule.listed("flight", "here", "select * from staged", str).partition(" WHERE ")[2]
        '(delay < 0 OR delay IS NULL) AND here'
        """
        query = self.query.copy()
        query.set("expressions", [])
        query = query.select(f"{shown} AS shown", dialect="duckdb", copy=False)
        query = query.where(where, dialect="duckdb", copy=False)
        return Rule(query, self.reads).sql(rows, relation)


@functools.lru_cache(maxsize=256)
def _read(query: str) -> exp.Expr:
    """A query of our own; whoever changes it takes a copy."""
    return sqlglot.parse_one(query, dialect="duckdb")


@functools.lru_cache(maxsize=4096)  # a contract's rules are read when judged, tried and run
def parse(query: str, column: str | None = None) -> Rule:
    """
    Read a rule. Raises ValueError with what is wrong.

    >>> parse("select count(*) from {object} join fleet.planes using (tailnum)").reads
    (TableRef(domain='fleet', name='planes', major=1),)
    >>> parse("delete from {object}")
    Traceback (most recent call last):
    ...
    ValueError: the query is not a single SELECT
    """
    try:
        statements = sqlglot.parse(_filled(query, column), dialect="duckdb")
    except SqlglotError as error:
        first = _TOKEN.sub(r"'\1'", re.sub(r"\x1b\[\d+m", "", str(error)).splitlines()[0])
        raise ValueError(f"the query is no SQL: {first}") from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Select):
        raise ValueError("the query is not a single SELECT")
    select = statements[0]
    if select.find(*_WRITES) or select.args.get("into") or select.args.get("locks"):
        raise ValueError("the query does more than read")
    if select.find(exp.Placeholder, exp.Parameter):
        raise ValueError("the query has a parameter, which nobody fills")
    if odd := select.find(exp.TableSample, exp.Pivot):
        raise ValueError(f"the query holds a {odd.key}, which an audit cannot carry over")
    if len(select.selects) != 1 or select.is_star:
        raise ValueError("the query returns more than one column: a rule returns one number")
    for clause, each in (("group", "group"), ("distinct", "value")):
        if select.args.get(clause) and not select.args.get("limit"):
            raise ValueError(
                f"the query returns a row for each {each}: a rule returns one number; count in a"
                " query around it"
            )
    if isinstance(select.selects[0].unalias(), exp.Null):
        raise ValueError("the query returns nothing but NULL: a rule returns one number")
    rule = Rule(select, _tables(select))
    known = {("", _OBJECT), *((table.db, table.name) for table in select.find_all(exp.Table))}
    if wrong := readonly.unfit(select.sql(dialect="duckdb"), frozenset(known)):
        raise ValueError(wrong.replace(_OBJECT, "{object}"))
    return rule


def _filled(query: str, column: str | None) -> str:
    def fill(match: re.Match[str]) -> str:
        word = match[1]
        if word in ("object", "table"):
            return _OBJECT
        if word in ("property", "column") and column is not None:
            return exp.to_identifier(column, quoted=True).sql(dialect="duckdb")
        right = "write {object}" + (" or {property}" if column else " ({property} needs a column)")
        raise ValueError(f"the query has the unknown placeholder {match[0]}: {right}")

    return _PLACEHOLDER.sub(fill, query)


def _is_object(table: exp.Table) -> bool:
    return table.name == _OBJECT and not table.db


def _tables(select: exp.Select) -> tuple[TableRef, ...]:
    local = {cte.alias_or_name.lower() for cte in select.find_all(exp.CTE)}
    seen = False
    found: dict[TableRef, None] = {}
    for table in select.find_all(exp.Table):
        if isinstance(table.this, exp.Func):
            if not isinstance(table.this, exp.GenerateSeries):
                shown = table.this.sql(dialect="duckdb")
                raise ValueError(f"the query reads {shown}: a rule reads {{object}} and inputs")
        elif _is_object(table):
            seen = True
        elif not table.db and table.name.lower() in local:
            continue
        else:
            found[_named(table)] = None
    if not seen:
        raise ValueError("the query never reads {object}")
    return tuple(found)


def _named(table: exp.Table) -> TableRef:
    return named_table(table, "{object}, or domain.table")


def named_table(table: exp.Table, right: str = "domain.table") -> TableRef:
    """`domain.table`, or `domain.table_v2` for a later major. Raises ValueError."""
    name, _, major = table.name.rpartition("_v")
    if not (name and major.isdigit()):
        name, major = table.name, "1"
    try:
        if not table.db or table.catalog or table.db.lower() in _OF_THE_ENGINE:
            raise ValueError
        return TableRef(table.db, name, int(major))
    except ValueError:
        shown = exp.table_(table.name, db=table.db or None, catalog=table.catalog or None)
        raise ValueError(f"the query reads {shown.sql(dialect='duckdb')}: write {right}") from None


@functools.cache
def column_type(said: str) -> str:
    """
    DuckDB's own name of a type. Raises ValueError if it has no such type.

    >>> column_type("text"), column_type("timestamptz"), column_type("decimal(9, 2)")
    ('VARCHAR', 'TIMESTAMP WITH TIME ZONE', 'DECIMAL(9,2)')
    """
    import duckdb

    if _TYPE.fullmatch(said):
        try:
            with duckdb.connect(config={"enable_external_access": False}) as connection:
                found = connection.execute(f"select typeof(cast(null as {said}))").fetchone()
            if found:
                return str(found[0])
        except duckdb.Error:
            pass
    raise ValueError(f"{said!r} is no type of DuckDB")
