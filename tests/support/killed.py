"""Runs `levada` and kills its own process, with SIGKILL, at a named point of a run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from levada.adapters.dbt.workers import DbtWorkers
from levada.adapters.gx import GreatExpectations
from levada.adapters.warehouses.ducklake import DuckLake
from levada.cli import main
from levada.ledger import PostgresLedger


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: type, name: str) -> None:
    def dying(*_: Any, **__: Any) -> None:
        die()

    setattr(owner, name, dying)


def after(owner: type, name: str) -> None:
    real: Callable[..., Any] = getattr(owner, name)

    def dying(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        die()

    setattr(owner, name, dying)


POINTS: dict[str, Callable[[], None]] = {
    "before build": lambda: before(DbtWorkers, "build"),
    "after build": lambda: after(DbtWorkers, "build"),
    "before audit": lambda: before(GreatExpectations, "audit"),
    "after audit": lambda: after(DuckLake, "contents"),
    "before intent": lambda: before(PostgresLedger, "intend"),
    "after intent": lambda: after(PostgresLedger, "intend"),
    "before swap": lambda: before(DuckLake, "swap"),
    "after swap": lambda: after(DuckLake, "swap"),
    "before lines": lambda: before(PostgresLedger, "publish"),
    "after lines": lambda: after(PostgresLedger, "publish"),
}

if __name__ == "__main__":
    POINTS[sys.argv[1]]()
    sys.argv = ["levada", *sys.argv[2:]]
    main()
