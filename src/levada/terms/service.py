"""Service levels: two values of one property, compared as its reader would."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

__all__ = ["better", "readable", "seconds"]

_LESS_IS_BETTER = (
    *("latency", "frequency", "errorRate", "timeToDetect", "timeToNotify", "timeToRepair"),
    *("generalAvailability", "freshness"),
)
_MORE_IS_BETTER = ("retention", "availability", "throughput", "completeness")
_SECONDS = {
    1: "s sec secs second seconds",
    60: "min mins minute minutes",
    3600: "h hr hrs hour hours",
    86400: "d day days",
    604800: "w wk week weeks",
    2629800: "mo month months",
    31557600: "y yr yrs year years",
}
_UNITS = {word: seconds for seconds, words in _SECONDS.items() for word in words.split()}
"""`m` is left out: it is a minute to some and a month to others."""
_VALUE = re.compile(r"(-?\d+(?:\.\d+)?)\s*(.*)")


def better(name: str, old: str, new: str) -> int | None:
    """
    1 if `new` promises more than `old` does, 0 if the same, -1 if less; None if nobody can tell.

    >>> better("latency", "6 h", "360 min"), better("latency", "6 h", "1 d")
    (0, -1)
    >>> better("retention", "2 y", "3 y"), better("colour", "red", "blue")
    (1, None)
    >>> better("retention", "24 mo", "2 y"), better("freshness", "6 h", "2 h")
    (0, 1)
    """
    if old == new:
        return 0
    if name not in (*_LESS_IS_BETTER, *_MORE_IS_BETTER):
        return None
    said = _measured(old, new)
    if said is None:
        return None
    one, other = said
    if one == other:
        return 0
    return 1 if (other < one) == (name in _LESS_IS_BETTER) else -1


def readable(name: str, value: str) -> bool:
    """
    Whether a value of this property can be compared at all.

    >>> readable("latency", "6h"), readable("latency", "soon")
    (True, False)
    """
    return better(name, value, f"{value} ") is not None


def seconds(value: str) -> float | None:
    """
    How long a service level is, if it is a time.

    >>> seconds("2 d"), seconds("soon")
    (172800.0, None)
    """
    found = _VALUE.fullmatch(value.strip())
    factor = _UNITS.get(found[2].strip().lower()) if found else None
    return float(found[1]) * factor if found and factor else None


def _measured(old: str, new: str) -> tuple[float, float] | None:
    days = _both(_day, old, new)
    if days is not None:
        return days
    one, other = _VALUE.fullmatch(old.strip()), _VALUE.fullmatch(new.strip())
    if one is None or other is None:
        return None
    factors = [_UNITS.get(found[2].strip().lower()) for found in (one, other)]
    if None in factors:
        same = one[2].strip() == other[2].strip()
        return (float(one[1]), float(other[1])) if same else None
    return float(one[1]) * (factors[0] or 0), float(other[1]) * (factors[1] or 0)


def _both(read: Callable[[str], float], old: str, new: str) -> tuple[float, float] | None:
    try:
        return read(old), read(new)
    except ValueError:
        return None


def _day(text: str) -> float:
    return float(date.fromisoformat(text.strip()[:10]).toordinal())
