"""Named points of a run, at which a test kills (SIGKILL) or stops (SIGSTOP) its process."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from levada import publish
from levada.adapters.dbt.workers import DbtWorkers
from levada.adapters.gx import GreatExpectations
from levada.adapters.warehouses.ducklake import DuckLake
from levada.adapters.warehouses.postgres import PostgresWarehouse
from levada.flow import canary
from levada.ledger import PostgresLedger
from levada.ledger.findings import Findings

__all__ = ["OF_CANARIES", "POINTS", "arm"]


def before(owner: Any, name: str, act: Callable[[], None]) -> None:
    real: Callable[..., Any] = getattr(owner, name)

    def acting(*args: Any, **kwargs: Any) -> Any:
        act()
        return real(*args, **kwargs)

    setattr(owner, name, acting)


def after(owner: Any, name: str, act: Callable[[], None]) -> None:
    real: Callable[..., Any] = getattr(owner, name)

    def acting(*args: Any, **kwargs: Any) -> Any:
        answer = real(*args, **kwargs)
        act()
        return answer

    setattr(owner, name, acting)


def during(owner: Any, name: str, act: Callable[[], None], seconds: float) -> None:
    """In the middle of a call that takes longer than that."""
    before(owner, name, lambda: threading.Timer(seconds, act).start())


def published(place: Callable[..., None], name: str, act: Callable[[], None]) -> None:
    """Before or after a call of whichever warehouse it is."""
    for warehouse in (DuckLake, PostgresWarehouse):
        place(warehouse, name, act)


def at_number(number: int, owner: Any, name: str, act: Callable[[], None]) -> None:
    """Before so many calls, counted from one."""
    count = itertools.count(1)
    before(owner, name, lambda: act() if next(count) == number else None)


POINTS: dict[str, Callable[[Callable[[], None]], None]] = {
    "after recovery": lambda act: after(publish, "recover", act),
    "before build": lambda act: before(DbtWorkers, "build", act),
    "in build": lambda act: during(DbtWorkers, "build", act, 0.2),
    "after build": lambda act: after(DbtWorkers, "build", act),
    "before audit": lambda act: before(GreatExpectations, "audit", act),
    "in audit": lambda act: during(GreatExpectations, "audit", act, 0.1),
    "after audit": lambda act: published(after, "contents", act),
    "before intent": lambda act: before(PostgresLedger, "intend", act),
    "after intent": lambda act: after(PostgresLedger, "intend", act),
    "before swap": lambda act: published(before, "swap", act),
    "after swap": lambda act: published(after, "swap", act),
    "before lines": lambda act: before(PostgresLedger, "publish", act),
    "after lines": lambda act: after(PostgresLedger, "publish", act),
}


def second(act: Callable[[], None]) -> Callable[[], None]:
    """Act when it is called for the second time."""
    calls = iter((lambda: None, act))
    return lambda: next(calls, lambda: None)()  # noqa: PLW0108 - not the same one each time


OF_CANARIES: dict[str, Callable[[Callable[[], None]], None]] = {
    "in build of the old": lambda act: during(DbtWorkers, "build", act, 0.2),
    "after build of the old": lambda act: after(DbtWorkers, "build", act),
    "in build of the new": lambda act: during(DbtWorkers, "build", second(act), 0.2),
    "after build of the new": lambda act: after(DbtWorkers, "build", second(act)),
    "in audit of the old": lambda act: before(GreatExpectations, "audit", act),
    "in audit of the new": lambda act: before(GreatExpectations, "audit", second(act)),
    "in comparison": lambda act: after(canary, "_trial", act),
    "before it is told": lambda act: before(PostgresLedger, "tell_canary", act),
    "after it is told": lambda act: after(PostgresLedger, "tell_canary", act),
    **{
        point: POINTS[point] for point in POINTS if point.split()[-1] in ("intent", "swap", "lines")
    },
}

OF_BATCHES: dict[str, Callable[[Callable[[], None]], None]] = {
    "before a report": lambda act: before(Findings, "report", act),
    "after a report": lambda act: after(Findings, "report", act),
}


OF_SHARDS: dict[str, Callable[[Callable[[], None]], None]] = {
    "in the third shard": lambda act: at_number(3, DbtWorkers, "build", act),
}


def arm(point: str, number: int) -> None:
    """Send this process a signal, once, when it first comes to `point`."""
    left = [number]

    def act() -> None:
        if left:
            os.kill(os.getpid(), signal.Signals(left.pop()))

    (POINTS | OF_BATCHES | OF_SHARDS | OF_CANARIES)[point](act)
