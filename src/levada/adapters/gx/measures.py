"""
Each check as SQL that measures it: one row for every partition, with or without rows of its own.

A measure has the columns `part` (the partition's number), `value` (what the check compares), `n`
(offending rows) and `samples` (some of them, readable). Great Expectations judges measures; the
views stand in the audit's own memory, so that what it is given has no brace, colon or parameter
sign that its templates would take for their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from levada.adapters import sqlrule
from levada.audit import FORMATS, OPERATORS, argument
from levada.intervals import bounds, day_from, windows
from levada.ports import Relation
from levada.terms import Check, Contract, Grain, Partition, TableRef

__all__ = [
    "PART",
    "holds",
    "inside",
    "measure",
    "offending",
    "parts",
    "rows",
    "samples",
    "sentence",
    "together",
    "too_many",
]

PART = "levada_part"
_BY_ROW = ("invalidValues", "missingValues", "nullValues", "rowCount")
"""Metrics that look at each row alone, so that one scan serves any number of them."""
_SAMPLES = 5
_SHOWN = 6
_SHOWN_OF_A_RULE = 8
_KEY_OF_A_RULE = 4
_ORIGIN = ("source_file", "source_line")
"""Columns by which a landed row is found in its file, where a table has them."""


def holds(check: Check, value: str) -> str:
    """
    What must be true of the measured value.

    >>> holds(Check("a", "rowCount", operator="mustBeBetween", threshold=(1, 3)), "m.value")
    'm.value between 1.0 and 3.0'
    """
    limits = [repr(float(limit)) for limit in check.threshold]
    return OPERATORS[check.operator].format(*limits, value=value)


def sentence(check: Check) -> str:
    """
    The condition in words.

    >>> sentence(Check("a", "nullValues", "x", "mustBeLessThan", (5,), "percent"))
    'must be less than 5 percent'
    """
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in check.operator)
    unit = f" {check.unit}" if check.unit in ("hours", "percent") else ""
    return f"{words} {' and '.join(f'{limit:g}' for limit in check.threshold)}{unit}"


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """
    A plain value as SQL writes it.

    >>> literal("it's"), literal(None), literal(True)
    ("'it''s'", 'NULL', 'true')
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    return (
        repr(value) if isinstance(value, int | float) else "'" + str(value).replace("'", "''") + "'"
    )


# Which rows belong to which partition


def _instant(contract: Contract, moment: datetime) -> str:
    """A bound in the interval column's own type: an instant, or the business date it opens."""
    column = contract.column(contract.interval_column or "")
    if column is not None and sqlrule.column_type(column.type) == "DATE":
        return f"DATE '{day_from(moment, contract.zone)}'"
    return f"TIMESTAMPTZ '{moment:%Y-%m-%d %H:%M:%S}+00'"


def parts(contract: Contract, partitions: Sequence[Partition], chosen: Sequence[int]) -> str:
    """The chosen partitions as a table of number, start and end."""
    if contract.grain is Grain.WHOLE:
        return "select 0 as part, NULL as lo, NULL as hi"
    tuples = []
    for number in chosen:
        start, stop = (_instant(contract, moment) for moment in bounds(partitions[number]))
        tuples.append(f"({number}, {start}, {stop})")
    return f"select * from (values {', '.join(tuples)}) t(part, lo, hi)"


def inside(contract: Contract, partitions: Sequence[Partition], row: str) -> str:
    """What is true of a row that lies in one of the partitions."""
    if contract.grain is Grain.WHOLE:
        return "true"
    column = f"{row}.{quoted(contract.interval_column or '')}"
    return " or ".join(
        f"({column} >= {_instant(contract, start)} and {column} < {_instant(contract, stop)})"
        for start, stop in windows(partitions)
    )


def rows(
    contract: Contract, relation: Relation, partitions: Sequence[Partition], chosen: Sequence[int]
) -> str:
    """The rows of the chosen partitions, each with its partition's number."""
    wanted = inside(contract, [partitions[number] for number in chosen], "r")
    if len(chosen) == 1:
        return f"select {chosen[0]} as {PART}, r.* from {relation} r where {wanted}"
    column = quoted(contract.interval_column or "")
    # The partitions do not overlap, so that the last one begun is the only one that may hold a row.
    return (
        f"select p.part as {PART}, r.* from {relation} r"
        f" asof join levada_parts p on r.{column} >= p.lo where r.{column} < p.hi and ({wanted})"
    )


# What offends


def measure(  # noqa: PLR0911 - one word, one measure
    check: Check,
    contract: Contract,
    relation: Relation,
    partitions: Sequence[Partition],
    related: Callable[[TableRef], str],
) -> str:
    """The SQL that measures a check; `related` tells where another table stands."""
    match check.metric:
        case "columnSet":
            return _broadcast(_column_set(check, relation))
        case "columnType":
            return _broadcast(_column_type(check, relation))
        case "interval":
            return _broadcast(_outside(check, contract, relation, partitions))
        case "rowCount":
            return _counted(check, f"select {PART}, NULL::varchar as shown from levada_rows")
        case "duplicateValues":
            named = argument(check, "properties")
            columns = named if isinstance(named, tuple) else (check.column,)
            return _repeated(check, [str(column) for column in columns])
        case "primaryKey":
            return _repeated(check, list(contract.key), or_null=True)
        case "freshness" | "latency":
            return _elapsed(check, contract, partitions)
        case "sql":
            return _query(check, related)
    bad = _bad(check, contract, related)
    return _counted(
        check,
        f"select r.{PART}, case when {bad} then {_shown(check, contract)} end as shown"
        " from levada_rows r",
    )


def offending(check: Check, measured: str, parts: str = "levada_parts") -> str:
    """The partitions in which a measure does not hold, and those where it found no number."""
    return (
        f"select p.part, m.value, m.n, m.samples from {parts} p"
        f" left join {measured} m on m.part = p.part"
        f" where m.value is null or not ({holds(check, 'm.value')})"
    )


def together(
    checks: Sequence[Check],
    contract: Contract,
    relation: Relation,
    partitions: Sequence[Partition],
    related: Callable[[TableRef], str],
) -> str:
    """
    What offends of all these checks, with the number of the check as `nth`.

    It raises when one of them does, in its making or when it runs: then they are asked alone.
    """
    by_row = {n: check for n, check in enumerate(checks) if check.metric in _BY_ROW}
    asked = [
        f"select {n} as nth, part, cast(value as double) as value, cast(n as bigint) as n, samples"
        f" from ({offending(check, f'({found})')}) q"
        for n, check in enumerate(checks)
        if n not in by_row
        for found in [measure(check, contract, relation, partitions, related)]
    ]
    return " union all ".join(
        [*asked, *([_row_by_row(by_row, contract, related)] if by_row else [])]
    )


def _row_by_row(
    checks: Mapping[int, Check], contract: Contract, related: Callable[[TableRef], str]
) -> str:
    counted, told = [], []
    for nth, check in checks.items():
        n, samples, value = f"coalesce(w.n{nth}, 0)", f"w.s{nth}", "coalesce(w.total, 0)"
        if check.metric == "rowCount":
            n, samples = "0", "NULL::varchar[]"
        else:
            bad = _bad(check, contract, related)
            shown = f"min({_shown(check, contract)}, {_SAMPLES})"
            counted.append(f"count(*) filter ({bad}) as n{nth}, {shown} filter ({bad}) as s{nth}")
            value = _share(check, n, value)
        told.append(
            f"{{nth: {nth}, value: cast({value} as double), n: cast({n} as bigint),"
            f" samples: {samples}, held: ({holds(check, f'({value})')})}}"
        )
    scan = ", ".join([f"r.{PART} as part", "count(*) as total", *counted])
    return (
        "select f.nth, f.part, f.value, f.n, f.samples from (select p.part, unnest(["
        f"{', '.join(told)}], recursive := true) from levada_parts p left join"
        f" (select {scan} from levada_rows r group by r.{PART}) w on w.part = p.part) f"
        " where f.value is null or not f.held"
    )


def _broadcast(found: str) -> str:
    """One finding about the table, which every partition shares."""
    return f"select p.part, f.n as value, f.n, f.samples from levada_parts p cross join ({found}) f"


def _counted(check: Check, judged: str) -> str:
    # `shown` is the text of an offending row, and NULL for every other.
    total = "coalesce(f.total, 0)"
    value = total if check.metric == "rowCount" else _share(check, "coalesce(f.n, 0)", total)
    return (
        f"select p.part, {value} as value, coalesce(f.n, 0) as n, f.samples"
        " from levada_parts p left join ("
        f"select {PART}, count(*) as total, count(shown) as n, min(shown, {_SAMPLES}) as samples"
        f" from ({judged}) j group by {PART}"
        f") f on f.{PART} = p.part"
    )


def _share(check: Check, n: str, total: str) -> str:
    """A count, or its share of the rows; the share of no rows at all is nothing."""
    if check.unit != "percent":
        return n
    return f"case when {total} = 0 then 0.0 else 100.0 * {n} / {total} end"


def _repeated(check: Check, columns: Sequence[str], *, or_null: bool = False) -> str:
    """Rows beyond the first of each value; NULL offends in a key and counts nowhere else."""
    names = [quoted(column) for column in columns]
    null = " or ".join(f"{name} is null" for name in names)
    shown = _text(columns, "g")
    grouped = f"{PART}, {', '.join(names)}"
    kept = "" if or_null else f" where not ({null})"
    extra = f"case when {null} then c else c - 1 end" if or_null else "c - 1"
    times = "case when c > 1 then ' (' || c || ' times)' else '' end"
    offending = f"({null}) or c > 1" if or_null else "c > 1"
    value = _share(check, "coalesce(f.n, 0)", "coalesce(t.total, 0)")
    return (
        f"select p.part, {value} as value, coalesce(f.n, 0) as n, f.samples"
        " from levada_parts p"
        f" left join (select {PART}, count(*) as total from levada_rows group by {PART}) t"
        f" on t.{PART} = p.part"
        f" left join (select {PART}, sum({extra}) as n, min({shown} || {times}, {_SAMPLES})"
        f" as samples from (select {grouped}, count(*) as c from levada_rows{kept}"
        f" group by {grouped}) g where {offending} group by {PART}) f on f.{PART} = p.part"
    )


def _elapsed(check: Check, contract: Contract, partitions: Sequence[Partition]) -> str:
    """Hours: from the newest row to the end of the interval, or from that end to now."""
    judged = argument(check, "partitions")
    ends = ", ".join(
        f"({n}, {_end(each)}, {str(not isinstance(judged, tuple) or each.key in judged).lower()})"
        for n, each in enumerate(partitions)
    )
    ended = f"(values {ends}) e(part, until, judged)"
    if check.metric == "latency":
        hours, joined = "case when e.judged then epoch(now()) - epoch(e.until) else 0 end", ""
    else:
        # The DATE of an interval is the day's whole length: the next one is where it ends.
        column = f"r.{quoted(check.column or '')}"
        said = contract.column(check.column or "")
        dated = said is not None and sqlrule.column_type(said.type) == "DATE"
        newest = f"epoch(max({column})) + 86400" if dated else f"epoch(max({column}))"
        until = "epoch(p.hi)" if dated and contract.grain is not Grain.WHOLE else "epoch(e.until)"
        hours = f"{until} - f.newest"
        joined = (
            f" left join (select {PART}, {newest} as newest from levada_rows r"
            f" group by {PART}) f on f.{PART} = p.part"
        )
    return (
        f"select p.part, ({hours}) / 3600 as value, 0 as n, NULL::varchar[] as samples"
        f" from levada_parts p join {ended} on e.part = p.part{joined}"
    )


def _end(partition: Partition) -> str:
    if partition.start is None:
        return "now()"
    return f"TIMESTAMPTZ '{bounds(partition)[1]:%Y-%m-%d %H:%M:%S}+00'"


def answer(check: Check, related: Callable[[TableRef], str]) -> str:
    """What a SQL rule returns for one partition, of `levada_parts levada_p`."""
    rule = sqlrule.parse(str(argument(check, "query")), check.column)
    own = f"select * exclude ({PART}) from levada_rows where {PART} = levada_p.part"
    return f"({rule.sql(own, related)})"


def _query(check: Check, related: Callable[[TableRef], str]) -> str:
    rule = sqlrule.parse(str(argument(check, "query")), check.column)
    number = f"nullif(cast({answer(check, related)} as double), 'nan')"
    counted = "cast(value as bigint)" if rule.counted is not None else "0"
    return (
        f"select part, value, {counted} as n, NULL::varchar[] as samples"
        f" from (select levada_p.part, {number} as value from levada_parts levada_p) q"
    )


def too_many(check: Check, count: int) -> bool:
    """
    Whether a count that breaks its check is over its limit; of too few rows none offends.

    >>> check = Check("a", "sql", operator="mustBeBetween", threshold=(2, 5))
    >>> too_many(check, 6), too_many(check, 1)
    (True, False)
    """
    return count > 0 and check.operator != "mustBeGreaterThan" and count >= check.threshold[0]


def samples(check: Check, contract: Contract, related: Callable[[TableRef], str]) -> str:
    """
    The SQL that gives, for each partition, some of the rows that a SQL rule counts, as text.

    Raises ValueError for a rule that does not simply count rows of its table.
    """
    rule = sqlrule.parse(str(argument(check, "query")), check.column)
    if rule.counted is None:
        raise ValueError(f"{check.id} does not count rows")
    row = quoted(rule.counted)
    names = {column.name.lower(): column.name for column in contract.columns}
    first = [*contract.key[:_KEY_OF_A_RULE], *(name for name in _ORIGIN if name in names)]
    named = [names[name.lower()] for name in rule.columns if name.lower() in names]
    wanted = list(dict.fromkeys((*first, *named))) or list(names.values())
    listed = rule.listed(
        _text(wanted[:_SHOWN_OF_A_RULE], row),
        f"{row}.{PART} is not null",  # of an outer join there may be no row of the table to show
        f"select * from levada_rows where {PART} = levada_p.part",
        related,
    )
    return (
        f"select levada_p.part, (select min(shown, {_SAMPLES}) from (select distinct shown from"
        f" ({listed}) l) d) from levada_parts levada_p"
    )


def _column_set(check: Check, relation: Relation) -> str:
    promised = ", ".join(f"({literal(name)})" for name in _names(check, "columns"))
    return (
        "select count(*) as n, min(case when d.column_name is null then 'missing: ' || c.name"
        f" else 'not promised: ' || d.column_name end, {_SAMPLES}) as samples"
        f" from (values {promised}) c(name)"
        f" full join (select column_name from (describe select * from {relation})) d"
        " on lower(d.column_name) = lower(c.name)"
        " where c.name is null or d.column_name is null"
    )


def _column_type(check: Check, relation: Relation) -> str:
    wanted = literal(sqlrule.column_type(str(argument(check, "type"))))
    told = f"{literal(f'{check.column}: promised ')} || {wanted} || ', found ' || d.column_type"
    return (
        "select case when count(*) = 0 then NULL else"
        f" count(*) filter (d.column_type <> {wanted}) end as n,"
        f" min({told}, 1) filter (d.column_type <> {wanted}) as samples"
        f" from (select * from (describe select * from {relation})) d"
        f" where lower(d.column_name) = lower({literal(check.column)})"
    )


def _outside(
    check: Check, contract: Contract, relation: Relation, partitions: Sequence[Partition]
) -> str:
    column = quoted(contract.interval_column or "")
    return (
        f"select count(*) as n, min({_shown(check, contract)}, {_SAMPLES}) as samples"
        f" from {relation} r where r.{column} is null or not ({inside(contract, partitions, 'r')})"
    )


def _bad(check: Check, contract: Contract, related: Callable[[TableRef], str]) -> str:
    """What is true of an offending row `r`."""
    column = f"r.{quoted(check.column or '')}"
    match check.metric:
        case "nullValues":
            return _within(column, _names(check, "path"), lambda value: f"{value} is null")
        case "missingValues":
            found = argument(check, "missingValues")
            values = found if isinstance(found, tuple) else ()
            return " or ".join(_equals(column, value) for value in values)
        case "foreignKey":
            pairs = list(zip(_names(check, "columns"), _names(check, "to_columns"), strict=True))
            told = " and ".join(f"r.{quoted(own)} is not null" for own, _ in pairs)
            same = " and ".join(f"t.{quoted(other)} = r.{quoted(own)}" for own, other in pairs)
            there = related(TableRef.parse(str(argument(check, "to"))))
            return f"{told} and not exists (select 1 from {there} t where {same})"
        case "invalidValues":
            said = contract.column(check.column or "")
            kind = str(argument(check, "type") or (said.type if said else "VARCHAR"))
            options = [each for each in check.arguments if each[0] not in ("path", "type")]
            return _within(
                column,
                _names(check, "path"),
                lambda value: " or ".join(_breaks(value, kind, *each) for each in options),
            )
    raise ValueError(f"{check.id}: no way to measure {check.metric!r}")


def _within(value: str, path: Sequence[str], judge: Callable[[str], str]) -> str:
    """
    What is true when a value at the end of a path offends; of an absent one nothing is told.

    >>> _within("r.tags", ["[]"], lambda value: f"{value} is null")
    'len(list_filter(r.tags, lambda x1: x1 is null)) > 0'
    """
    if not path:
        return judge(value)
    step, *rest = path
    if step == "[]":
        item = f"x{len(path)}"
        return f"len(list_filter({value}, lambda {item}: {_within(item, rest, judge)})) > 0"
    inner = _within(f"struct_extract({value}, {literal(step)})", rest, judge)
    return f"({value} is not null and ({inner}))"


def _breaks(column: str, kind: str, option: str, value: object) -> str:  # noqa: PLR0911
    """What is true of a value that breaks one option; of NULL it is NULL, which is not true."""
    limit = f"cast({literal(value)} as {kind})" if isinstance(value, str) else literal(value)
    match option:
        case "validValues":
            values = value if isinstance(value, tuple) else (value,)
            allowed = " or ".join(_equals(column, each) for each in values if each is not None)
            return f"not ({allowed or 'false'}) and {column} is not null"
        case "pattern":
            return f"not regexp_matches(cast({column} as varchar), {literal(value)})"
        case "format":
            meant = FORMATS[str(value)]
            if meant.startswith("^"):
                return f"not regexp_matches(cast({column} as varchar), {literal(meant)})"
            return f"try_cast({column} as {meant}) is null and {column} is not null"
        case "normalized":
            square = f"list_sum(list_transform({column}, lambda x: x * x))"
            return f"abs({square} - 1) > 1e-3"
        case "multipleOf":
            return f"abs({column} / {limit} - round({column} / {limit})) > 1e-9"
        case "uniqueItems":
            return f"len({column}) <> len(list_distinct({column}))"
    sign = {
        "minimum": f"{column} < {limit}",
        "maximum": f"{column} > {limit}",
        "exclusiveMinimum": f"{column} <= {limit}",
        "exclusiveMaximum": f"{column} >= {limit}",
        "minLength": f"length({column}) < {literal(value)}",
        "maxLength": f"length({column}) > {literal(value)}",
        "minItems": f"len({column}) < {literal(value)}",
        "maxItems": f"len({column}) > {literal(value)}",
    }
    return sign[option]


def _equals(column: str, value: object) -> str:
    if value is None:
        return f"{column} is null"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"coalesce(try_cast({column} as double) = {value!r}, false)"
    text = literal(value) if isinstance(value, str) else f"'{literal(value)}'"
    return f"coalesce(cast({column} as varchar) = {text}, false)"


def _names(check: Check, name: str) -> tuple[str, ...]:
    found = argument(check, name)
    return tuple(str(each) for each in found) if isinstance(found, tuple | list) else ()


def _shown(check: Check, contract: Contract) -> str:
    """An offending row, by key, time and the columns that the check is about."""
    about = [check.column] if check.column else list(_names(check, "columns"))
    interval = [contract.interval_column] if contract.interval_column else []
    wanted = [*contract.key, *interval, *about]
    known = [name for name in dict.fromkeys(wanted) if name and contract.column(name)]
    return _text((known or [c.name for c in contract.columns])[-_SHOWN:], "r")


def _text(columns: Sequence[str], row: str) -> str:
    return " || ', ' || ".join(
        f"{literal(f'{name}=')} || coalesce(cast({row}.{quoted(name)} as varchar), 'NULL')"
        for name in columns
    )
