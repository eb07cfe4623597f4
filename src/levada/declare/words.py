"""The words with which `meta.levada` says how an input is waited for, read one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import time
from typing import Any

from levada.settings import duration, nearest
from levada.terms import (
    Deadline,
    FanOut,
    Identity,
    Lag,
    Latest,
    OnRestatement,
    PartitionMapping,
    Rollup,
    Trailing,
    WaitPolicy,
)

__all__ = ["mapping", "on_restatement", "truth", "wait"]

_WAIT_KEYS = ("at_least", "at_most_missing", "deadline", "max_lag")
_PLAIN: Mapping[str, type[Identity | Rollup | FanOut]] = {
    "identity": Identity,
    "rollup": Rollup,
    "fanout": FanOut,
}


def truth(value: object) -> bool:
    """What `required` says. Raises ValueError, as all of these do."""
    if isinstance(value, bool):
        return value
    raise ValueError(f"{value!r} is neither true nor false")


def mapping(told: Mapping[str, Any]) -> PartitionMapping | None:
    """
    What `mapping` and `within` say; None where the grains decide.

    >>> mapping({"mapping": {"trailing": 7}}) == Trailing(7)
    True
    """
    said = told.get("mapping")
    within = duration(str(told["within"])) if "within" in told else None
    if said == "latest":
        return Latest(within)
    if within is not None:
        raise ValueError("'within' belongs to mapping: latest")
    if said is None:
        return None
    if isinstance(said, Mapping) and len(said) == 1:
        ((kind, number),) = said.items()
        if kind == "lag":
            return Lag(int(number))
        if kind == "trailing":
            return Trailing(int(number))
    if isinstance(said, str) and said in _PLAIN:
        return _PLAIN[said]()
    known = "identity, {lag: n}, {trailing: n}, rollup, fanout or latest"
    raise ValueError(f"no mapping {said!r}: say {known}")


def wait(said: object) -> WaitPolicy:
    """What `wait` says: how much of an input is enough, and until when."""
    if said is None or said == "all":
        return WaitPolicy()
    if not isinstance(said, Mapping):
        raise ValueError(f"no wait policy {said!r}: say all, or {{{', '.join(_WAIT_KEYS)}}}")
    for key in said:
        if key not in _WAIT_KEYS:
            raise ValueError(f"wait: unknown key {key!r}; {nearest(str(key), _WAIT_KEYS)}")
    counts = {key: int(said[key]) for key in ("at_least", "at_most_missing") if key in said}
    max_lag = duration(str(said["max_lag"])) if "max_lag" in said else None
    deadline = _deadline(str(said["deadline"])) if "deadline" in said else None
    return WaitPolicy(deadline=deadline, max_lag=max_lag, **counts)


def _deadline(said: str) -> Deadline:
    """
    A local time of day, or a time after the partition's end.

    >>> _deadline("07:00").at, _deadline("7h").after
    (datetime.time(7, 0), datetime.timedelta(seconds=25200))
    """
    if re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", said):
        return Deadline(at=time.fromisoformat(said))
    try:
        return Deadline(after=duration(said))
    except ValueError:
        raise ValueError(
            f'no deadline {said!r}: write a local time like "07:00" in quotation marks, or how '
            "long after the interval's end, like 7h"
        ) from None


def on_restatement(said: object, mapping: PartitionMapping) -> OnRestatement:
    """What `on_restatement` says; what is read as of now ignores changes unless told otherwise."""
    if said is None:
        return OnRestatement("ignore", "as of") if isinstance(mapping, Latest) else OnRestatement()
    if isinstance(said, Mapping) and set(said) == {"ignore"}:
        return OnRestatement("ignore", str(said["ignore"]))
    return OnRestatement(str(said))
