"""What a check looks at, stage by stage, with what each found and cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Stage", "Told"]


@dataclass
class Stage:
    """One stage: how many faults it found, of how many things, and how long it took."""

    name: str
    faults: int = 0
    seconds: float = 0.0
    looked: str = ""
    """At what, in words: `11 contracts`, `2 projects, 2 more as before`."""

    def found(self, faults: Collection[object], looked: str = "") -> None:
        """Count what was found, and say where."""
        self.faults += len(faults)
        self.looked = looked or self.looked


@dataclass
class Told:
    """The stages so far, in their order; `begins` hears of each as it begins."""

    begins: Callable[[str], None] = lambda _: None
    stages: list[Stage] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """
        Around one stage.

        >>> told = Told()
        >>> with told.stage("contracts") as stage:
        ...     stage.found(["a fault"], "3 contracts")
        >>> told.stages[0].name, told.stages[0].faults
        ('contracts', 1)
        """
        self.begins(name)
        stage, begun = Stage(name), time.monotonic()
        self.stages.append(stage)
        try:
            yield stage
        finally:
            stage.seconds = round(time.monotonic() - begun, 3)
