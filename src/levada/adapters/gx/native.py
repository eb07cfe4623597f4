"""
Checks for which Great Expectations has an expectation of its own that means the same on DuckDB.

Where the meanings part, there is none here and the check's measure is judged instead: regular
expressions (it knows none for DuckDB), names that differ in case, dates written as strings.
"""

from __future__ import annotations

from typing import Any

from levada.adapters import sqlrule
from levada.audit import argument
from levada.terms import Check, Contract

__all__ = ["expectation"]

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL")


def expectation(check: Check, contract: Contract, gxe: Any) -> Any:
    """The expectation that passes exactly when no row of a batch offends, or None."""
    column = contract.column(check.column or "")
    if argument(check, "path") is not None:
        return None  # it looks inside the values of its column
    match check.metric:
        case "nullValues" if column:
            return gxe.ExpectColumnValuesToNotBeNull(column=column.name)
        case "duplicateValues" if column and argument(check, "properties") is None:
            return gxe.ExpectColumnValuesToBeUnique(column=column.name)
        case "invalidValues" if column and len(check.arguments) == 1:
            return _invalid(check, column.name, sqlrule.column_type(column.type), gxe)
    return None


def _invalid(check: Check, column: str, kind: str, gxe: Any) -> Any:
    ((option, value),) = check.arguments
    number = kind.partition("(")[0] in _NUMBERS
    if option == "validValues" and isinstance(value, tuple):
        wanted = int | float if number else str
        fits = all(isinstance(v, wanted) and not isinstance(v, bool) for v in value)
        if fits and (number or kind == "VARCHAR"):
            return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=list(value))
    if number and isinstance(value, int | float) and not isinstance(value, bool):
        match option:
            case "minimum" | "exclusiveMinimum":
                return gxe.ExpectColumnValuesToBeBetween(
                    column=column, min_value=value, strict_min=option == "exclusiveMinimum"
                )
            case "maximum" | "exclusiveMaximum":
                return gxe.ExpectColumnValuesToBeBetween(
                    column=column, max_value=value, strict_max=option == "exclusiveMaximum"
                )
    return None
