"""
The SQL of consistency rules, parsed before it is believed: it reads, and only what it names.

Batches run with the platform's rights, so that an expression holds no query, a query no table but
those of the mesh, and neither a function that looks outside the data.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError

from levada.adapters import readonly
from levada.adapters.sqlrule import named_table
from levada.terms import TableRef

__all__ = ["Expression", "expression", "not_additive", "query"]


@dataclass(frozen=True, slots=True)
class Expression:
    """One value of a row or of a group: its SQL, its columns, and whether it sums rows up."""

    sql: str
    columns: tuple[str, ...]
    aggregates: bool


def expression(text: str) -> Expression:
    """
    Read an expression. Raises ValueError with what is wrong.

    >>> expression("sum(late) filter (where origin = 'JFK')").columns
    ('late', 'origin')
    >>> expression("(select 1)")
    Traceback (most recent call last):
    ...
    ValueError: '(select 1)' holds a query: an expression is made of columns
    """
    parsed = _one(f"SELECT {text}", text)
    if not isinstance(parsed, exp.Select) or len(parsed.selects) != 1 or len(_said(parsed)) != 1:
        raise ValueError(f"{text!r} is more than one expression")
    inner = parsed.selects[0]
    if isinstance(inner, exp.Alias):
        raise ValueError(f"{text!r} names itself: write `name: expression`")
    if inner.find(exp.Query, exp.Table):
        raise ValueError(f"{text!r} holds a query: an expression is made of columns")
    if inner.find(exp.Star) and not inner.find(exp.Count):
        raise ValueError(f"{text!r} is every column: name one")
    columns = tuple(dict.fromkeys(column.name for column in inner.find_all(exp.Column)))
    if inner.find(exp.Window):
        raise ValueError(f"{text!r} looks at other rows: an expression is about one row or group")
    aggregates = inner.find(exp.AggFunc) is not None
    sql = inner.sql(dialect="duckdb", comments=False)
    if wrong := readonly.unfit(f"SELECT {sql}", frozenset()):
        raise ValueError(wrong.replace("the query", repr(text), 1))
    return Expression(sql, columns, aggregates)


def not_additive(text: str) -> str:
    """
    Why a measure is not what its parts add up to; empty if it is.

    >>> not_additive("sum(late) - count(*) filter (where cancelled)"), not_additive("max(delay)")
    ('', '')
    >>> not_additive("count(distinct carrier)")
    'COUNT(DISTINCT carrier) does not add up: what is in two parts counts once in the whole'
    >>> not_additive("sum(late) / sum(arrived)")
    'SUM(late) / SUM(arrived) is a ratio, which does not add up: roll its two parts up'
    """
    inner = sqlglot.parse_one(f"SELECT {text}", dialect="duckdb")
    for node in inner.find_all(exp.AggFunc):
        shown = node.sql(dialect="duckdb", comments=False)
        if node.find(exp.Distinct):
            return f"{shown} does not add up: what is in two parts counts once in the whole"
        if isinstance(node, exp.Avg):
            return f"{shown} does not add up: roll its sum and its count up"
        if not isinstance(node, _ADDITIVE):
            return f"{shown} does not add up"
    for whole in inner.find_all(exp.Div, exp.IntDiv, exp.Mul, exp.Mod, exp.Round):
        if whole.find(exp.AggFunc):
            shown = whole.sql(dialect="duckdb", comments=False)
            if isinstance(whole, exp.Round):
                return f"{shown} does not add up: rounded parts are not the rounded whole"
            return f"{shown} is a ratio, which does not add up: roll its two parts up"
    return ""


def query(text: str, known: Collection[TableRef]) -> tuple[str, tuple[TableRef, ...]]:
    """
    A query that returns offending rows: its SQL with every table as `{domain.table@major}`, and
    the tables. Raises ValueError with what is wrong.

    >>> query("select * from fleet.planes where seats < 1", [TableRef("fleet", "planes")])[0]
    'SELECT * FROM {fleet.planes@1} AS planes WHERE seats < 1'
    """
    parsed = _one(text, "the query")
    if not isinstance(parsed, exp.Query):
        raise ValueError("the query is not a single SELECT")
    if parsed.find(exp.Placeholder, exp.Parameter):
        raise ValueError("the query has a parameter, which nobody fills")
    names = frozenset((t.db, t.name) for t in parsed.find_all(exp.Table) if t.db)
    if wrong := readonly.unfit(parsed.sql(dialect="duckdb", comments=False), names):
        raise ValueError(wrong.replace("{object}, or ", ""))
    local = {cte.alias_or_name.lower() for cte in parsed.find_all(exp.CTE)}
    found: dict[TableRef, None] = {}
    for table in list(parsed.find_all(exp.Table)):
        if isinstance(table.this, exp.Func):
            if not isinstance(table.this, exp.GenerateSeries):
                raise ValueError(
                    f"the query reads {table.this.sql(dialect='duckdb')}: it reads published tables"
                )
            continue
        if not table.db and table.name.lower() in local:
            continue
        ref = named_table(table)
        if ref not in known:
            raise LookupError(str(ref))
        found[ref] = None
        if not table.alias:
            table.set("alias", exp.TableAlias(this=exp.to_identifier(table.name)))
        table.set("this", exp.to_identifier(_MARK.format(ref), quoted=True))
        table.set("db", None)
    if not found:
        raise ValueError("the query reads no table")
    sql = parsed.sql(dialect="duckdb", comments=False)
    for ref in found:
        sql = sql.replace(f'"{_MARK.format(ref)}"', f"{{{ref}}}")
    return sql, tuple(found)


_MARK = "levada table {}"
_ADDITIVE = (exp.Sum, exp.Count, exp.CountIf, exp.Min, exp.Max)


def _one(sql: str, shown: str) -> exp.Expr:
    try:
        statements = sqlglot.parse(sql, dialect="duckdb")
    except SqlglotError as error:
        told = error.errors[0]["description"] if isinstance(error, ParseError) else error
        first = str(told).splitlines()[0]
        raise ValueError(f"{shown} is no SQL: {first}") from None
    if len(statements) != 1 or statements[0] is None:
        raise ValueError(f"{shown} is not one statement")
    return statements[0]


def _said(select: exp.Select) -> set[str]:
    return {clause for clause, value in select.args.items() if value}
