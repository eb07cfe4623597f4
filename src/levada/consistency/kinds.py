"""
Each kind of rule as SQL: a pure function from a rule to a query that returns what offends.

Every query returns `key` (what offends), `figures` (what was found of it), both JSON objects of
texts, and `cases` (rows of that key), one row for a key. Beside it stands the count of what was
compared. The SQL is DuckDB's, over relations that hold exactly the rows of the interval.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from levada.terms import ConsistencyRule, RuleKind, Side, Statement, TableRef

__all__ = ["KINDS", "Relation", "quoted", "statement"]

Relation = Callable[[TableRef, int], str]
"""What SQL calls a table's rows of the interval, or of so many weeks before it."""

KINDS: Mapping[RuleKind, str] = {
    RuleKind.TOTALS: "sums or counts of two tables are equal, in all or by groups",
    RuleKind.ROLLUP: "a roll-up is what its atomic parent adds up to, measure by measure",
    RuleKind.RATIO: "the rows of one table are so many for each row of the other",
    RuleKind.KEYS: "two tables have the same keys",
    RuleKind.ROWS: "rows of the same key are equal in every compared column",
    RuleKind.DUPLICATES: "no key comes twice",
    RuleKind.REFERENCES: "what one table refers to is in the other",
    RuleKind.FRESHNESS: "the newest value lies close to the interval's end",
    RuleKind.WEEKDAY: "a day is like the same weekday of the weeks before",
    RuleKind.BALANCES: "balances are what a later snapshot says, less what has moved since",
    RuleKind.SQL: "a query of one's own returns no row",
}

_TABLE = re.compile(r"\{([a-z][a-z0-9_]*\.[a-z][a-z0-9_]*@\d+)\}")
_Columns = Sequence[tuple[str, str]]


def quoted(name: str) -> str:
    """
    A name as SQL writes it.

    >>> quoted('a"b')
    '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'


def statement(
    rule: ConsistencyRule,
    relation: Relation,
    end: datetime | None = None,
    weeks: Sequence[int] = (),
) -> Statement:
    """
    The SQL of a rule. `end` is the interval's end, `weeks` the earlier ones that are there.

    >>> from levada.terms import Severity
    >>> side = Side(TableRef("ops", "flights"), (("flight", "flight"),))
    >>> rule = ConsistencyRule("once", "daily", RuleKind.DUPLICATES, (side,), Severity.ADVISORY,
    ...                        "ops", "", "", 0, "")
    >>> "HAVING count(*) > 1" in statement(rule, lambda table, week: table.relation).offending
    True
    """
    match rule.kind:
        case RuleKind.TOTALS | RuleKind.ROLLUP:
            offending, compared = _totals(rule, relation)
        case RuleKind.RATIO:
            offending, compared = _ratio(rule, relation)
        case RuleKind.KEYS:
            offending, compared = _keys(rule, relation)
        case RuleKind.ROWS:
            offending, compared = _rows(rule, relation)
        case RuleKind.DUPLICATES:
            offending, compared = _duplicates(rule, relation)
        case RuleKind.REFERENCES:
            offending, compared = _references(rule, relation)
        case RuleKind.FRESHNESS:
            offending, compared = _freshness(rule, relation, end)
        case RuleKind.WEEKDAY:
            offending, compared = _weekday(rule, relation, weeks)
        case RuleKind.BALANCES:
            offending, compared = _balances(rule, relation, end)
        case RuleKind.SQL:
            offending, compared = _sql(rule, relation)
    return Statement(
        f"SELECT key, min(figures) AS figures, count(*) AS cases FROM ({offending}) GROUP BY key",
        compared,
    )


# One function a kind: what offends, and how much was compared


def _totals(rule: ConsistencyRule, relation: Relation) -> tuple[str, str]:
    left, right = rule.sides
    values = [name for name, _ in left.values]
    return _paired(rule, _grouped(left, relation), _grouped(right, relation), left.by, values)


def _weekday(rule: ConsistencyRule, relation: Relation, weeks: Sequence[int]) -> tuple[str, str]:
    """Each value against its median over the earlier weeks in which its group is there."""
    (side,) = rule.sides
    past = " UNION ALL ".join(f"({_grouped(side, relation, week)})" for week in weeks)
    names = [quoted(name) for name, _ in side.by]
    medians = [f"median({quoted(name)}) AS {quoted(name)}" for name, _ in side.values]
    usual = f"SELECT {', '.join([*names, *medians])} FROM ({past})"
    usual += f" GROUP BY {', '.join(names)}" if names else ""
    values = [name for name, _ in side.values]
    return _paired(rule, _grouped(side, relation), usual, side.by, values, ("now", "before"))


def _ratio(rule: ConsistencyRule, relation: Relation) -> tuple[str, str]:
    left, right = (
        _grouped(Side(s.table, s.by, (("n", "count(*)"),), s.where), relation) for s in rule.sides
    )
    low, high = rule.bounds or (0, 0)
    a, b = "coalesce(l.n, 0)", "coalesce(r.n, 0)"
    ratio = f"{a} / nullif({b}, 0)"
    wrong = f"NOT ({a} = 0 AND {b} = 0) AND NOT coalesce({ratio} BETWEEN {low} AND {high}, false)"
    pairs = _joined(left, right, rule.sides[0].by)
    names = _names(rule.sides, ("left", "right"))
    figures = _json([(names[0], a), (names[1], b), ("ratio", f"round({ratio}, 6)")])
    by = [(name, _either(name)) for name, _ in rule.sides[0].by]
    return f"SELECT {_json(by)} AS key, {figures} AS figures {pairs} WHERE {wrong}", _count(pairs)


def _keys(rule: ConsistencyRule, relation: Relation) -> tuple[str, str]:
    by = [(name, quoted(name)) for name, _ in rule.sides[0].by]
    sides = [f"SELECT DISTINCT {_listed(s.by)} {_from(s, relation)}" for s in rule.sides]
    names = _names(rule.sides, ("left", "right"))
    only = [
        f"SELECT {_json(by)} AS key, {_json([('only in', _text(name))])} AS figures"
        f" FROM ({sides[n]} EXCEPT {sides[1 - n]})"
        for n, name in enumerate(names)
    ]
    return " UNION ALL ".join(only), f"SELECT count(*) FROM ({' UNION '.join(sides)})"


def _rows(rule: ConsistencyRule, relation: Relation) -> tuple[str, str]:
    """Rows of one key are paired in the order of their values: each is compared once."""
    left, right = (_ranked(side, relation) for side in rule.sides)
    by = (*rule.sides[0].by, (_RANK, _RANK))
    values = [name for name, _ in rule.sides[0].values]
    return _paired(rule, left, right, by, values)


def _duplicates(rule: ConsistencyRule, relation: Relation) -> tuple[str, str]:
    (side,) = rule.sides
    rows = f"SELECT {_listed(side.by)} {_from(side, relation)}"
    known = " AND ".join(f"{quoted(name)} IS NOT NULL" for name, _ in side.by)
    key = _json([(name, quoted(name)) for name, _ in side.by])
    grouped = ", ".join(quoted(name) for name, _ in side.by)
    offending = (
        f"SELECT {key} AS key, {_json([('rows', 'count(*)')])} AS figures FROM ({rows})"
        f" WHERE {known} GROUP BY {grouped} HAVING count(*) > 1"
    )
    return offending, f"SELECT count(*) FROM ({rows})"


def _references(rule: ConsistencyRule, relation: Relation) -> tuple[str, str]:
    """NULL refers to nothing; with a share below 1 all or none of the lost ones offend."""
    left, right = rule.sides
    names = [quoted(name) for name, _ in left.by]
    known = " AND ".join(f"{name} IS NOT NULL" for name in names)
    same = " AND ".join(f"l.{name} = r.{name}" for name in names)
    referring = f"SELECT {_listed(left.by)} {_from(left, relation)}"
    told = (
        f"SELECT l.*, EXISTS (SELECT 1 FROM (SELECT {_listed(right.by)} {_from(right, relation)}) r"
        f" WHERE {same}) AS there FROM (SELECT {', '.join(names)}, count(*) AS n"
        f" FROM ({referring}) WHERE {known} GROUP BY {', '.join(names)}) l"
    )
    key = _json([(name, quoted(name)) for name, _ in left.by])
    offending = (
        f"SELECT {key} AS key, {_json([('rows', 'n')])} AS figures FROM (SELECT *,"
        " sum(n) FILTER (there) OVER () AS found, sum(n) OVER () AS everything"
        f" FROM ({told})) WHERE NOT there AND coalesce(found, 0) < {rule.share} * everything"
    )
    return offending, f"SELECT count(*) FROM ({referring}) WHERE {known}"


def _freshness(rule: ConsistencyRule, relation: Relation, end: datetime | None) -> tuple[str, str]:
    (side,) = rule.sides
    if end is None or rule.within is None:
        raise ValueError(f"{rule.name}: freshness needs an interval that ends")
    newest = _grouped(side, relation)
    ((value, _),) = side.values
    edge = _instant(end - rule.within)
    key = _json([(name, quoted(name)) for name, _ in side.by])
    figures = _json([("newest", quoted(value)), ("not before", edge)])
    offending = (
        f"SELECT {key} AS key, {figures} AS figures FROM ({newest})"
        f" WHERE coalesce({quoted(value)} < {edge}, true)"
    )
    return offending, f"SELECT count(*) FROM ({newest})"


def _balances(rule: ConsistencyRule, relation: Relation, end: datetime | None) -> tuple[str, str]:
    """
    Balances at the interval's end against a snapshot taken later, computed back. A movement counts
    for the balance if it is effective before that end and was never reversed; it is in the snapshot
    if it was recorded by then and not reversed by then. The difference is taken back.
    """
    snapshot, told, movements = rule.sides
    if end is None:
        raise ValueError(f"{rule.name}: a balance needs an interval that ends")
    ((value, _), *_) = snapshot.values
    edge = _instant(end)
    names = [quoted(name) for name, _ in snapshot.by]

    def same(one: str, other: str) -> str:
        return " AND ".join(f"{one}.{n} IS NOT DISTINCT FROM {other}.{n}" for n in names)

    keys = ", ".join(f"coalesce(s.{each}, m.{each}) AS {each}" for each in names)
    taken = f"SELECT {_listed(snapshot.by)}, {_listed(snapshot.values)} {_from(snapshot, relation)}"
    counts = _known(
        ("amount", "effective", "recorded"),
        "a movement is incomplete: it lacks",
        f"x.effective < {edge} AND x.reversed IS NULL",
    )
    moved = (
        f"SELECT {', '.join(f'x.{each}' for each in names)}, sum(x.amount * ("
        f"CAST({counts} AS INTEGER)"
        " - CAST(x.recorded <= x.taken AND (x.reversed IS NULL OR x.reversed > x.taken)"
        " AS INTEGER))) AS moved FROM (SELECT m.*, coalesce(s.taken, (SELECT max(taken) FROM"
        f" snapshot), error('the snapshot has no row')) AS taken FROM (SELECT"
        f" {_listed((*movements.by, *movements.values))} {_from(movements, relation)}) m"
        f" LEFT JOIN snapshot s ON {same('m', 's')}) x GROUP BY ALL"
    )
    twice = f"count(*) OVER (PARTITION BY {', '.join(names)}) > 1"
    once = (
        f"SELECT * REPLACE (CASE WHEN {twice} THEN error('the snapshot has a key twice')"
        " WHEN taken IS NULL THEN error('the snapshot does not say when it was taken')"
        f" ELSE taken END AS taken) FROM ({taken})"
    )
    back = (
        f"WITH snapshot AS MATERIALIZED ({once}) SELECT {keys},"
        f" coalesce(s.{quoted(value)}, 0) + coalesce(m.moved, 0) AS {quoted(value)}"
        f" FROM snapshot s FULL JOIN ({moved}) m ON {same('m', 's')}"
    )
    # Who has no row has no balance: both are 0.
    zero = f"SELECT {_listed((*told.by, *told.values))} {_from(told, relation)}"
    every = f"({back}) AS l FULL JOIN ({zero}) AS r ON {same('l', 'r')}"
    either = ", ".join(f"coalesce(l.{each}, r.{each}) AS {each}" for each in names)
    filled = f"SELECT {either}, coalesce({{0}}.{quoted(value)}, 0) AS {quoted(value)} FROM {every}"
    sides = filled.format("l"), filled.format("r")
    return _paired(rule, *sides, snapshot.by, [value], ("computed back", "published"))


def _known(columns: Sequence[str], wrong: str, otherwise: str) -> str:
    """An error where one of the columns of `x` is NULL. AND would not always look."""
    cases = " ".join(f"WHEN x.{c} IS NULL THEN error('{wrong} {c}')" for c in columns)
    return f"CASE {cases} ELSE {otherwise} END"


def _sql(rule: ConsistencyRule, relation: Relation) -> tuple[str, str]:
    query = _TABLE.sub(lambda found: relation(TableRef.parse(found[1]), 0), rule.query)
    key = _json([(name, f"q.{quoted(name)}") for name in rule.key])
    offending = f"SELECT {key} AS key, CAST(to_json(q) AS VARCHAR) AS figures FROM ({query}) q"
    tables = dict.fromkeys(TableRef.parse(name) for name in _TABLE.findall(rule.query))
    rows = [f"(SELECT count(*) FROM {relation(table, 0)})" for table in tables]
    return offending, f"SELECT greatest(0, {', '.join(rows)})"  # of the largest one


# Parts

_RANK = "nth of its key"


def _paired(
    rule: ConsistencyRule,
    left: str,
    right: str,
    by: _Columns,
    values: Sequence[str],
    words: tuple[str, str] = ("left", "right"),
) -> tuple[str, str]:
    """What differs between two relations of the same columns, paired by key."""
    pairs = _joined(left, right, by)
    names = _names(rule.sides, words) if len(rule.sides) == 2 else words
    differs = {name: _differs(rule, name) for name in values}
    lone = "l.levada_has IS NULL OR r.levada_has IS NULL"
    wrong = " OR ".join(f"({each})" for each in differs.values()) or "false"
    shown = [
        (f"{name} {side}", f"{row}.{quoted(name)}")
        for name in values
        for row, side in zip("lr", names, strict=True)
    ]
    if by:
        lone_in = (
            f"CASE WHEN r.levada_has IS NULL THEN {_text(names[0])}"
            f" WHEN l.levada_has IS NULL THEN {_text(names[1])} END"
        )
        shown.append(("only in", lone_in))
    key = _json([(name, _either(name)) for name, _ in by if name != _RANK])
    offending = f"SELECT {key} AS key, {_json(shown)} AS figures {pairs} WHERE ({lone}) OR {wrong}"
    return offending, _count(pairs)


def _differs(rule: ConsistencyRule, name: str) -> str:
    a, b = f"l.{quoted(name)}", f"r.{quoted(name)}"
    tolerance = rule.tolerance.get(name) or rule.tolerance.get("")
    exact = f"{a} IS DISTINCT FROM {b}"
    return f"{exact} AND NOT coalesce({tolerance.sql(a, b)}, false)" if tolerance else exact


def _joined(left: str, right: str, by: _Columns) -> str:
    """Two relations side by side; NULL is a key like another."""
    one, other = (f"(SELECT *, 1 AS levada_has FROM ({each}))" for each in (left, right))
    same = [f"l.{quoted(name)} IS NOT DISTINCT FROM r.{quoted(name)}" for name, _ in by]
    on = " AND ".join(same or ["l.levada_has = r.levada_has"])
    return f"FROM {one} l FULL JOIN {other} r ON {on}"


def _grouped(side: Side, relation: Relation, week: int = 0) -> str:
    listed = _listed((*side.by, *side.values))
    group = ", ".join(str(n + 1) for n in range(len(side.by)))
    return f"SELECT {listed} {_from(side, relation, week)}" + (
        f" GROUP BY {group}" if group else ""
    )


def _ranked(side: Side, relation: Relation) -> str:
    everything = ", ".join(quoted(name) for name, _ in (*side.by, *side.values))
    key = ", ".join(quoted(name) for name, _ in side.by)
    return (
        f"SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY {everything}) AS {quoted(_RANK)}"
        f" FROM (SELECT {_listed((*side.by, *side.values))} {_from(side, relation)})"
    )


def _from(side: Side, relation: Relation, week: int = 0) -> str:
    return f"FROM {relation(side.table, week)}" + (f" WHERE {side.where}" if side.where else "")


def _listed(columns: _Columns) -> str:
    return ", ".join(f"{expression} AS {quoted(name)}" for name, expression in columns)


def _either(name: str) -> str:
    return f"coalesce(l.{quoted(name)}, r.{quoted(name)})"


def _count(pairs: str) -> str:
    return f"SELECT count(*) {pairs}"


def _names(sides: Sequence[Side], otherwise: tuple[str, str]) -> tuple[str, str]:
    """What figures call two sides: their tables, unless both are one."""
    one, other = (f"{side.table.domain}.{side.table.name}" for side in sides)
    return (one, other) if one != other else otherwise


def _json(columns: _Columns) -> str:
    """
    A JSON object of texts, so that a key is the same text whatever the type of a column.

    >>> _json([("origin", "o")])
    'CAST(to_json(struct_pack("origin" := CAST(o AS VARCHAR))) AS VARCHAR)'
    """
    if not columns:
        return "'{}'"
    packed = ", ".join(f"{quoted(name)} := CAST({sql} AS VARCHAR)" for name, sql in columns)
    return f"CAST(to_json(struct_pack({packed})) AS VARCHAR)"


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _instant(at: datetime) -> str:
    return f"TIMESTAMPTZ '{at.astimezone(UTC).isoformat(sep=' ')}'"
