"""How one table reads another: mappings, wait policies, restatement."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time, timedelta
from typing import Literal

from levada.terms.slices import TableRef

__all__ = [
    "Deadline",
    "Dependency",
    "FanOut",
    "Identity",
    "Lag",
    "Latest",
    "OnRestatement",
    "PartitionMapping",
    "Reliance",
    "Rollup",
    "Trailing",
    "WaitPolicy",
]


@dataclass(frozen=True, slots=True)
class Identity:
    """The same slice."""

    kind: Literal["identity"] = "identity"


@dataclass(frozen=True, slots=True)
class Lag:
    """The slice `by` steps earlier."""

    by: int
    kind: Literal["lag"] = "lag"

    def __post_init__(self) -> None:
        if self.by < 1:
            raise ValueError(f"lag {self.by} is degenerate: use identity, or a lag of at least 1")


@dataclass(frozen=True, slots=True)
class Trailing:
    """The slice itself and the `n` - 1 before it."""

    n: int
    kind: Literal["trailing"] = "trailing"

    def __post_init__(self) -> None:
        if self.n < 2:
            raise ValueError(f"trailing {self.n} is degenerate: use identity, or at least 2")


@dataclass(frozen=True, slots=True)
class Rollup:
    """Every finer slice inside this one."""

    kind: Literal["rollup"] = "rollup"


@dataclass(frozen=True, slots=True)
class FanOut:
    """The coarser slice that holds this one."""

    kind: Literal["fanout"] = "fanout"


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest slice there is, if it was published at most `within` ago."""

    within: timedelta | None = None
    kind: Literal["latest"] = "latest"

    def __post_init__(self) -> None:
        if self.within is not None and self.within <= timedelta(0):
            raise ValueError("latest within nothing would never be ready")


PartitionMapping = Identity | Lag | Trailing | Rollup | FanOut | Latest


@dataclass(frozen=True, slots=True)
class Deadline:
    """
    When a reader stops waiting for all: at a local time of day, the first one at or after its
    partition's end, or so long after that end.

    >>> Deadline(at=time(7)), Deadline(after=timedelta(hours=7)).after
    (Deadline(at=datetime.time(7, 0), after=None), datetime.timedelta(seconds=25200))
    """

    at: time | None = None
    after: timedelta | None = None

    def __post_init__(self) -> None:
        if (self.at is None) == (self.after is None):
            raise ValueError("a deadline is a time of day or a time after the partition's end")
        if self.after is not None and self.after < timedelta(0):
            raise ValueError("a deadline before the partition's end would never wait")


@dataclass(frozen=True, slots=True)
class WaitPolicy:
    """
    How many of the mapped partitions suffice: all, at least n, or at most k missing.

    With a deadline all are waited for until then, and only afterwards is less enough. What is
    absent then is replaced by the last good one that is at most `max_lag` older.

    >>> WaitPolicy().met(ready=3, total=3), WaitPolicy(at_least=2).met(ready=1, total=3)
    (True, False)
    """

    at_least: int | None = None
    at_most_missing: int | None = None
    deadline: Deadline | None = None
    max_lag: timedelta | None = None

    def __post_init__(self) -> None:
        if self.at_least is not None and self.at_most_missing is not None:
            raise ValueError("say at_least or at_most_missing, not both")
        if self.at_least is not None and self.at_least < 1:
            raise ValueError("at_least 0 is degenerate: it would fire on nothing at all")
        if self.at_most_missing is not None and self.at_most_missing < 1:
            raise ValueError("at_most_missing 0 is `all`: leave it out")
        if self.max_lag is not None and self.deadline is None:
            raise ValueError("max_lag says what is enough after a deadline: say the deadline too")
        if self.max_lag is not None and self.max_lag < timedelta(0):
            raise ValueError("max_lag is how much older the last good one may be: at least 0d")

    @property
    def tolerant(self) -> bool:
        """Whether anything less than all can be enough."""
        return (self.at_least, self.at_most_missing, self.max_lag) != (None, None, None)

    def met(self, *, ready: int, total: int) -> bool:
        """Whether `ready` of `total` mapped partitions are enough; nothing ready never is."""
        if total == 0 or ready == 0:
            return False
        if self.at_least is not None:
            return ready >= min(self.at_least, total)
        return total - ready <= (self.at_most_missing or 0)


@dataclass(frozen=True, slots=True)
class OnRestatement:
    """What an edge does when its input changes after it was read: rerun, hold or ignore."""

    action: str = "rerun"
    reason: str = ""

    def __post_init__(self) -> None:
        if self.action not in ("rerun", "hold", "ignore"):
            raise ValueError(f"on_restatement {self.action!r}: say rerun, hold or ignore")
        if self.action == "ignore" and not self.reason:
            raise ValueError("on_restatement ignore needs a reason")


@dataclass(frozen=True, slots=True)
class Reliance:
    """
    What a reader states that it relies on in its input's contract: columns, rules by their ids, and
    service levels, each at least as good as said.
    """

    columns: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    sla: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Dependency:
    """
    An edge: `downstream` reads `upstream`, by this mapping, waiting so. Of the edges that share an
    `any_of`, one that is met suffices.
    """

    upstream: TableRef
    downstream: TableRef
    mapping: PartitionMapping
    wait: WaitPolicy = WaitPolicy()
    required: bool = True
    on_restatement: OnRestatement = OnRestatement()
    any_of: str = ""
    gate: bool = False
    """Whether only a blocking rule between tables reads it, and no model does."""
    relies_on: Reliance | None = None
    """None: the reader states nothing, and relies on what its SQL reads."""

    @property
    def tolerant(self) -> bool:
        """Whether its reader may be built though something that it asks for is not ready."""
        return not self.required or bool(self.any_of) or self.wait.tolerant

    def __post_init__(self) -> None:
        if self.wait.deadline and self.required and not self.wait.tolerant:
            raise ValueError(
                "after its deadline it would still wait for all: say at_least, at_most_missing or "
                "max_lag, or required: false"
            )
        if self.wait.max_lag is not None and isinstance(self.mapping, Latest):
            raise ValueError("max_lag with mapping latest: say how old it may be by `within`")
        if self.any_of and not self.required:
            raise ValueError("any_of with required: false: one of a group is always required")
