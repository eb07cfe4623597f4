"""Which types hold everything that another one holds."""

from __future__ import annotations

import itertools
import re
from typing import Literal

from levada.terms.types import normal

__all__ = ["Kinship", "kinship"]

Kinship = Literal["same", "widened", "narrowed", "changed"]

_LADDERS = (
    ("tinyint", "smallint", "integer", "bigint", "hugeint"),
    ("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"),
    ("utinyint", "smallint"),
    ("usmallint", "integer"),
    ("uinteger", "bigint"),
    ("ubigint", "hugeint"),
    ("smallint", "float", "double"),
    ("integer", "double"),
    ("date", "timestamp"),
    ("timestamp_s", "timestamp_ms", "timestamp"),
)
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_DIGITS = {"tinyint": 3, "smallint": 5, "integer": 10, "bigint": 19, "hugeint": 39}


def kinship(old: str, new: str) -> Kinship:
    """
    How a type follows another.

    >>> kinship("INTEGER", "int"), kinship("INTEGER", "BIGINT"), kinship("BIGINT", "SMALLINT")
    ('same', 'widened', 'narrowed')
    >>> kinship("DECIMAL(5,2)", "DECIMAL(7,2)"), kinship("DECIMAL(5,2)", "DECIMAL(5,3)")
    ('widened', 'changed')
    """
    one, other = normal(old), normal(new)
    if one == other:
        return "same"
    if _holds(other, one):
        return "widened"
    return "narrowed" if _holds(one, other) else "changed"


def _holds(wide: str, narrow: str) -> bool:
    decimals = _DECIMAL.fullmatch(wide), _DECIMAL.fullmatch(narrow)
    if decimals[0]:
        whole = int(decimals[0][1]) - int(decimals[0][2])
        if decimals[1]:
            inner = int(decimals[1][1]) - int(decimals[1][2])
            return whole >= inner and int(decimals[0][2]) >= int(decimals[1][2])
        return narrow in _DIGITS and whole >= _DIGITS[narrow]
    seen, todo = set[str](), [narrow]
    while todo:
        kind = todo.pop()
        if kind == wide:
            return True
        if kind not in seen:
            seen.add(kind)
            todo += [b for rungs in _LADDERS for a, b in itertools.pairwise(rungs) if a == kind]
    return False
