"""
Diff: what two tables differ in, as values. An adapter compares; nothing here reads data.

Rows are paired by key. NULL equals NULL and NaN equals NaN, in keys and in values. Where a key
comes more than once, rows that are equal in full are paired first and the rest in the order of
their values, so that {1, 2, 2} against {2, 2, 3} is one changed row and not three. A column whose
type differs is a difference, whatever its values; it is compared besides where that loses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from levada.errors import DeclarationError, Fault
from levada.settings import nearest
from levada.terms import Tolerance

__all__ = [
    "Aligned",
    "ChangedColumn",
    "Difference",
    "Drift",
    "Question",
    "Sample",
    "Tolerance",
    "align",
]

_INTEGERS = {
    "TINYINT": 3,
    "SMALLINT": 5,
    "INTEGER": 10,
    "BIGINT": 19,
    "UTINYINT": 3,
    "USMALLINT": 5,
    "UINTEGER": 10,
    "UBIGINT": 20,
}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_MOST_DIGITS = 38
_NUMBERS = re.compile(r"U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\(.*\)")


@dataclass(frozen=True, slots=True)
class Question:
    """How to compare: rows by these key columns; without one, whole rows are the key."""

    key: tuple[str, ...] = ()
    tolerance: Mapping[str, Tolerance] = field(default_factory=dict)
    samples: int = 5
    """Rows shown of each kind."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A column that is not the same on both sides; an empty type where a side has no such one."""

    column: str
    a: str
    b: str
    compared: bool = False
    """Whether its values were compared besides, without loss."""

    def __str__(self) -> str:
        if not self.a or not self.b:
            return f"{self.column} is only in {'A' if self.a else 'B'} ({self.a or self.b})"
        said = "" if self.compared else ", not compared"
        return f"{self.column} is {self.a} in A and {self.b} in B{said}"


@dataclass(frozen=True, slots=True)
class ChangedColumn:
    """How many rows differ in one column, beyond its tolerance."""

    column: str
    rows: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One row that differs: its key, and of each column that differs, what A and B have."""

    kind: str
    """`only in A`, `only in B` or `changed`."""
    key: tuple[str, ...]
    values: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """
    What differs between A and B.

    >>> print(Difference(("id",), (), 3, 4, 0, 1, 0, 0, 0, (), ()))
    A has 3 rows, B has 4; 1 only in B
    """

    key: tuple[str, ...]
    drift: tuple[Drift, ...]
    rows_a: int
    rows_b: int
    only_a: int
    only_b: int
    changed: int
    tolerated: int
    """Rows that differ, each column within its tolerance."""
    duplicated: int
    """Keys among the differing rows that come more than once on a side."""
    columns: tuple[ChangedColumn, ...]
    samples: tuple[Sample, ...]

    @property
    def identical(self) -> bool:
        """Whether nothing differs: same columns, same types, same rows (within tolerance)."""
        return not (self.drift or self.only_a or self.only_b or self.changed)

    def __str__(self) -> str:
        if self.identical:
            said = f"identical: {self.rows_a} rows"
            return said + (f", {self.tolerated} of them within tolerance" * bool(self.tolerated))
        counts = ((self.only_a, "only in A"), (self.only_b, "only in B"), (self.changed, "changed"))
        parts = [f"{n} {what}" for n, what in counts if n] or ["rows equal"]
        parts += [str(drift) for drift in self.drift]
        return f"A has {self.rows_a} rows, B has {self.rows_b}; {', '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Aligned:
    """The columns that are compared, with the type that both sides are read as, and what drifts."""

    columns: tuple[tuple[str, str], ...]
    drift: tuple[Drift, ...]
    key: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The compared columns, in the order of A."""
        return tuple(name for name, _ in self.columns)


def align(
    a: Sequence[tuple[str, str]], b: Sequence[tuple[str, str]], question: Question
) -> Aligned:
    """
    Which columns of two tables can be compared, by name, and as what. Types are DuckDB's words.

    Raises DeclarationError where the key or a tolerance names what cannot bear it.

    >>> align([("id", "INTEGER"), ("x", "DECIMAL(9,2)")], [("id", "INTEGER"), ("x", "DOUBLE")],
    ...     Question(("id",))).drift
    (Drift(column='x', a='DECIMAL(9,2)', b='DOUBLE', compared=False),)
    """
    types_a, types_b = dict(a), dict(b)
    columns: list[tuple[str, str]] = []
    drift: list[Drift] = []
    for name in dict.fromkeys((*types_a, *types_b)):
        of_a, of_b = types_a.get(name, ""), types_b.get(name, "")
        if of_a == of_b:
            columns.append((name, of_a))
            continue
        common = _exact(of_a, of_b)
        drift.append(Drift(name, of_a, of_b, common is not None))
        if common is not None:
            columns.append((name, common))
    compared = dict(columns)
    faults = [
        Fault("--key", 0, _why_no_key(name, types_a, types_b), nearest(name, compared))
        for name in question.key
        if name not in compared
    ]
    for name in question.tolerance:
        if name not in compared:
            faults.append(Fault("--tolerance", 0, f"no column {name!r}", nearest(name, compared)))
        elif name in question.key:
            faults.append(Fault("--tolerance", 0, f"{name} is part of the key", "rows pair by it"))
        elif not _NUMBERS.fullmatch(compared[name]):
            wrong = f"{name} is {compared[name]}: only numbers have a tolerance"
            faults.append(Fault("--tolerance", 0, wrong))
    if not compared:
        faults.append(Fault("diff", 0, "the tables have no column in common"))
    if faults:
        raise DeclarationError(faults)
    return Aligned(tuple(columns), tuple(drift), question.key or tuple(compared))


def _why_no_key(name: str, a: Mapping[str, str], b: Mapping[str, str]) -> str:
    if name in a and name in b:
        return f"{name} is {a[name]} in A and {b[name]} in B: rows cannot be paired by it"
    here = [side for side, types in (("A", a), ("B", b)) if name in types]
    return f"no column {name!r}" + (f" but in {here[0]}" if here else "")


def _exact(a: str, b: str) -> str | None:
    """The type that holds the values of two exact number types; None if there is none."""
    shapes = [_digits(a), _digits(b)]
    if None in shapes:
        return None
    scale = max(shape[1] for shape in shapes if shape)
    whole = max(shape[0] - shape[1] for shape in shapes if shape)
    return f"DECIMAL({whole + scale},{scale})" if whole + scale <= _MOST_DIGITS else None


def _digits(kind: str) -> tuple[int, int] | None:
    if kind in _INTEGERS:
        return _INTEGERS[kind], 0
    decimal = _DECIMAL.fullmatch(kind)
    return (int(decimal[1]), int(decimal[2])) if decimal else None
