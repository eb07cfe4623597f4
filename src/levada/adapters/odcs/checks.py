"""
Every check that a contract promises: derived from its columns, and written under `quality`.

Derived checks have stable ids with a dot or of their own (`tailnum.required`, `primary_key`), which
an author's id cannot be. What the standard calls executable and this platform cannot execute is a
fault here, never a check that is silently not run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from levada.adapters import sqlrule
from levada.adapters.documents import Document, Place
from levada.adapters.odcs import values
from levada.audit import BUILT_IN, METRICS, OPERATORS
from levada.errors import Fault
from levada.settings import nearest
from levada.terms import Check, Column, Severity, TableRef

__all__ = ["Found", "derived", "quality", "relationships", "told", "unpromised"]

Found = Iterator[tuple[Place, Check] | Fault]
"""Checks with their places, and faults, as they come."""

_SEVERITIES = {
    "error": Severity.BLOCKING,
    "warning": Severity.ADVISORY,
    "info": Severity.ADVISORY,
}
_PARSED_BY = ("defaultTimezone", "format", "timezone")
"""Options of a column that its readers parse by."""
_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "duplicateValues": ("properties",),
    "invalidValues": ("validValues", "pattern"),
    "missingValues": ("missingValues",),
    "nullValues": (),
    "rowCount": (),
}


def derived(document: Document, columns: tuple[Column, ...], interval: str | None) -> Found:
    """The checks that columns, their options, keys and the interval imply."""
    table: Place = ("schema", 0)
    names = tuple(column.name for column in columns)
    shape = (("columns", names),)
    yield table, Check("columns", "columnSet", arguments=shape, **_built_in("conformity"))
    if interval is not None:
        yield table, Check("interval", "interval", interval, **_built_in("timeliness"))
    keyed = sorted((c for c in columns if c.key_position is not None), key=lambda c: c.key_position)  # type: ignore[arg-type,return-value]
    if keyed:
        key = (("properties", tuple(column.name for column in keyed)),)
        yield table, Check("primary_key", "primaryKey", arguments=key, **_derived("uniqueness"))
    for index, column in enumerate(columns):
        place = (*table, "properties", index)
        if not column.name:
            continue
        typed = (("type", column.type),)
        yield (
            place,
            Check(
                f"{column.name}.type",
                "columnType",
                column.name,
                arguments=typed,
                **_built_in("conformity"),
            ),
        )
        if column.required:
            required = Check(
                f"{column.name}.required", "nullValues", column.name, **_derived("completeness")
            )
            yield (*place, "required"), required
        if column.unique:
            unique = Check(
                f"{column.name}.unique", "duplicateValues", column.name, **_derived("uniqueness")
            )
            yield (*place, "unique"), unique
        with document.guard():
            said = dict(_at(document, place))
            yield from values.checked(document, place, said, column.name, column.type)


def told(entry: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The options of a column that its readers parse by."""
    options = entry.get("logicalTypeOptions", {})
    return tuple((name, str(options[name])) for name in _PARSED_BY if name in options)


def relationships(document: Document, columns: tuple[Column, ...], domain: str) -> Found:
    """Foreign keys of columns and of the table: every value is in the table it refers to."""
    table: Place = ("schema", 0)
    for place, entry in _entries(document, table, "relationships"):
        with document.guard():
            sources = tuple(_text(s).rpartition(".")[2] for s in _listed(entry["from"]))
            own = str(_at(document, table)["name"])
            if strange := [s for s in _listed(entry["from"]) if _owner(_text(s)) not in ("", own)]:
                wrong = f"the relationship comes from {strange[0]!r}"
                yield document.fault((*place, "from"), wrong, f"begin at a column of {own}")
                continue
            yield from _foreign_key(document, place, entry, sources, columns, domain)
    for number, column in enumerate(columns):
        within = (*table, "properties", number)
        for place, entry in _entries(document, within, "relationships"):
            with document.guard():
                yield from _foreign_key(document, place, entry, (column.name,), columns, domain)


def _foreign_key(
    document: Document,
    place: Place,
    entry: Mapping[str, Any],
    sources: tuple[str, ...],
    columns: tuple[Column, ...],
    domain: str,
) -> Found:
    names = [column.name for column in columns]
    for unknown in (source for source in sources if unpromised(source, names)):
        yield document.fault(
            (*place, "from"), f"no column {unknown!r} is promised", nearest(unknown, names)
        )
        return
    if document.torn((*place, "to")):
        return
    tables, targets = set(), []
    for target in _listed(entry["to"]):
        parts = _text(target).split(".")
        if "/" in _text(target) or len(parts) not in (2, 3):
            wrong = f"a reference to {target!r} cannot be followed"
            yield document.fault((*place, "to"), wrong, "write table.column or domain.table.column")
            return
        owner, name, column = [domain, *parts][-3:]
        base, _, major = name.rpartition("_v")
        base, major = (base, major) if base and major.isdigit() else (name, "1")
        try:
            tables.add(TableRef(owner, base, int(major)))
        except ValueError as error:
            yield document.fault((*place, "to"), str(error))
            return
        targets.append(column)
    if len(tables) != 1 or len(targets) != len(sources):
        wrong = f"{len(sources)} columns refer to {len(targets)} columns of {len(tables)} tables"
        yield document.fault(place, wrong, "refer to as many columns of one table")
        return
    severity = _custom(entry).get("severity", "error")
    if severity not in _SEVERITIES:
        yield document.fault(
            place, f"severity is {severity!r}", nearest(str(severity), _SEVERITIES)
        )
        return
    to = str(tables.pop())
    yield (
        place,
        Check(
            str(entry.get("id") or "+".join(sources) + ".references"),
            "foreignKey",
            sources[0] if len(sources) == 1 else None,
            arguments=(
                ("columns", sources),
                ("to", to),
                ("to_columns", tuple(targets)),
                ("reads", (to,)),
            ),
            severity=_SEVERITIES[severity],
            dimension="consistency",
            origin="schema",
        ),
    )


def quality(document: Document, columns: tuple[Column, ...]) -> Found:
    """The rules under `quality`, of the table and of each column."""
    table: Place = ("schema", 0)
    places: list[tuple[Place, str | None]] = [(table, None)]
    places += [((*table, "properties", i), c.name) for i, c in enumerate(columns)]
    names = tuple(column.name for column in columns)
    for holder, column in places:
        for place, rule in _entries(document, holder, "quality"):
            with document.guard():
                yield from _judged(document, place, rule, column, names)


def _judged(
    document: Document,
    place: Place,
    rule: Mapping[str, Any],
    column: str | None,
    names: tuple[str, ...],
) -> Found:
    """A rule as a check, or why it is none."""
    kind = rule.get("type", "library")
    if kind == "text":
        for key in ("metric", "query", *OPERATORS):
            if key in rule:
                wrong = f"a rule of type text claims nothing, and has {key!r}"
                yield document.fault((*place, key), wrong, "leave out type, or " + key)
        return  # it is told to people
    if kind not in ("custom", "library", "sql"):
        return  # another word was refused
    for key in ("schedule", "scheduler"):
        if key in rule:
            wrong = f"a rule runs in every audit, and at no {key!r} of its own"
            yield document.fault((*place, key), wrong, f"leave out {key}")
    if not rule.get("id"):
        yield document.fault((*place, "id"), "a rule without an id cannot be waived", "write id:")
    if kind == "custom":
        wrong = f"a rule for the engine {rule.get('engine')!r} cannot be executed"
        right = "write a library metric or type: sql; words for people are type: text"
        yield document.fault(place, wrong, right)
    elif fault := _unfit(document, place, rule, column, names):
        yield from fault
    else:
        yield place, _rule(rule, column)


def _unfit(
    document: Document,
    place: Place,
    rule: Mapping[str, Any],
    column: str | None,
    names: tuple[str, ...],
) -> list[Fault]:
    """Why a library or SQL rule cannot be executed."""
    found: list[Fault] = []

    def fault(key: str | None, wrong: str, right: str = "") -> None:
        found.append(document.fault((*place, key) if key else place, wrong, right))

    with document.guard():
        _unfit_operator(rule, fault)
    with document.guard():
        if rule.get("severity", "error") not in _SEVERITIES:
            right = nearest(rule["severity"], _SEVERITIES)
            fault("severity", f"severity is {rule['severity']!r}", right)
    unit = rule.get("unit", "rows")
    if unit not in ("rows", "percent"):
        fault("unit", f"unit is {unit!r}", "write rows or percent")
    with document.guard():
        if rule.get("type", "library") == "library":
            _unfit_library(rule, column, names, unit, fault)
        else:
            try:
                sqlrule.parse(rule["query"], column)
            except ValueError as error:
                fault("query", str(error))
    return found


def _unfit_operator(rule: Mapping[str, Any], fault: Any) -> None:
    said = [operator for operator in OPERATORS if operator in rule]
    if len(said) != 1:
        many = f"has the operators {' and '.join(said)}" if said else "has no operator"
        fault("operator", f"the rule {many}", f"write exactly one of {', '.join(OPERATORS)}")
        return
    (operator,), limit = said, rule[said[0]]
    if operator.endswith("etween"):  # two numbers: the schema has seen to that
        if float(limit[0]) > float(limit[1]):
            fault(operator, f"nothing is between {limit}", "write the smaller number first")
    elif isinstance(limit, bool) or not isinstance(limit, int | float):
        fault(operator, f"{operator} compares with {limit!r}", "write a number")


def _unfit_library(
    rule: Mapping[str, Any], column: str | None, names: tuple[str, ...], unit: str, fault: Any
) -> None:
    metric = rule["metric"]
    if rule.get("rule"):
        fault("rule", "'rule' and 'metric' say the same thing", "leave out 'rule'")
    if metric in ("nullValues", "missingValues", "invalidValues") and column is None:
        fault("metric", f"{metric} is about a column", "write the rule under the column")
    if metric == "rowCount" and (column is not None or unit == "percent"):
        fault("metric", "rowCount counts the rows of a table", "write it under the table, in rows")
    arguments = rule.get("arguments", {})
    known = _ARGUMENTS[metric]
    for key in arguments:
        if key not in known:
            right = nearest(key, known) if known else f"{metric} has no arguments"
            fault("arguments", f"unknown argument {key!r} of {metric}", right)
        elif key == "pattern":
            if not isinstance(arguments[key], str):
                fault("arguments", f"pattern is {arguments[key]!r}", "write a regular expression")
        elif not (isinstance(arguments[key], list) and all(map(_scalar, arguments[key]))):
            fault("arguments", f"{key} is no list of plain values", "write [a, b]")
            return
    for name in arguments.get("properties", ()):
        if unpromised(name, names):
            fault("arguments", f"no column {name!r} is promised", nearest(str(name), names))
    needed = metric in ("missingValues", "invalidValues")
    needed = needed or (metric == "duplicateValues" and column is None)
    if needed and not any(arguments.get(key) for key in known):
        fault("metric", f"{metric} needs arguments", f"write arguments.{' or '.join(known)}")


def _rule(rule: Mapping[str, Any], column: str | None) -> Check:
    operator = next(key for key in OPERATORS if key in rule)
    metric = "sql" if rule.get("type") == "sql" else rule["metric"]
    arguments = {key: _frozen(value) for key, value in rule.get("arguments", {}).items()}
    if metric == "sql":
        query = rule["query"]
        found = sqlrule.parse(query, column).reads
        arguments = {"query": query, "reads": tuple(str(table) for table in found)}
    return Check(
        id=rule.get("id", ""),
        metric=metric,
        column=column,
        operator=operator,
        threshold=tuple(float(value) for value in _listed(rule[operator])),
        unit=rule.get("unit", "rows"),
        arguments=tuple(sorted(arguments.items())),
        severity=_SEVERITIES[rule.get("severity", "error")],
        dimension=rule.get("dimension", ""),
        origin="quality",
        description=rule.get("description") or rule.get("name") or METRICS[metric],
    )


def unpromised(name: str, names: Collection[str]) -> bool:
    """
    Whether no column has this name; where the name of one cannot be read ("") nobody can tell.

    >>> unpromised("tial", ["tail"]), unpromised("tial", ["tail", ""])
    (True, False)
    """
    return name not in names and "" not in names


def _derived(dimension: str) -> dict[str, Any]:
    return {"dimension": dimension, "origin": "schema"}


def _built_in(dimension: str) -> dict[str, Any]:
    return {"dimension": dimension, "origin": BUILT_IN}


def _custom(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {p["property"]: p["value"] for p in entry.get("customProperties", ())}


def _entries(document: Document, holder: Place, key: str) -> Iterator[tuple[Place, Any]]:
    """What stands in a list of the table or of a column, each with its place."""
    entries: Any = ()
    with document.guard():
        entries = list(_at(document, holder).get(key, ()))
    for index, entry in enumerate(entries):
        yield (*holder, key, index), entry


def _at(document: Document, place: Place) -> Mapping[str, Any]:
    value: Any = document.value
    for step in place:
        value = value[step]
    return value  # type: ignore[no-any-return]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _owner(reference: str) -> str:
    """The table of `table.column`, or of `domain.table.column`."""
    return reference.rpartition(".")[0].rpartition(".")[2]


def _text(value: Any) -> str:
    return str(value)


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
