"""What can go wrong, as one tree.

* LevadaError
  x TerminalError            the same call will fail again until a person changes something
    + DeclarationError       files are wrong; carries every `Fault`
    + LawBroken              a law of the ledger or of publishing refused the call
      - ClaimLost            another run holds, or has taken over, the claim
      - NotPublishable       the publication would break the law (verdict, contract, fingerprint)
      - TableHeld            somebody changed the published table by hand; governance releases it
    + VersionGone            the pinned data version has expired
  x TransientError           the same call may succeed later
    + Unavailable            a database or a service does not answer
    + ToolError              dbt, the warehouse or Great Expectations failed
    + LandingMoved           what landed changed between its pin and its copy

Every error is picklable, carries its data as attributes and makes its sentence from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "ClaimLost",
    "DeclarationError",
    "Fault",
    "LandingMoved",
    "LawBroken",
    "LevadaError",
    "NotPublishable",
    "TableHeld",
    "TerminalError",
    "ToolError",
    "TransientError",
    "Unavailable",
    "VersionGone",
]


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """
    One thing wrong in one declaration, and what would be right.

    >>> print(Fault("contracts/a.yaml", 7, "unknown key 'grian'", "did you mean 'grain'?"))
    contracts/a.yaml:7: unknown key 'grian'; did you mean 'grain'?
    """

    path: str
    line: int
    wrong: str
    right: str = ""

    ELSEWHERE: ClassVar[str] = "mend that first"

    @property
    def follows(self) -> bool:
        """Whether it goes away with a fault of another domain, which is told there."""
        return self.right == self.ELSEWHERE

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.wrong}" + (f"; {self.right}" if self.right else "")


class LevadaError(Exception):
    """The root; its arguments are its data, so that it survives pickling."""


class TerminalError(LevadaError):
    """The same call will fail again until a person changes something."""


class TransientError(LevadaError):
    """The same call may succeed later."""


class DeclarationError(TerminalError):
    """
    The declarations are wrong; all faults at once.

    >>> str(DeclarationError((Fault("levada.yaml", 3, "no such zone 'Mars'"),)))
    "levada.yaml:3: no such zone 'Mars'"
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(sorted(set(faults)))
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(str(fault) for fault in self.faults)


class LawBroken(TerminalError):
    """A law of the ledger or of publishing refused the call."""


class ClaimLost(LawBroken):
    """Another run holds, or has taken over, the claim."""


class NotPublishable(LawBroken):
    """The publication would break the law: its verdict, contract or fingerprint forbids it."""


class TableHeld(LawBroken):
    """Somebody changed the published table by hand: nothing is swapped in until it is released."""


class VersionGone(TerminalError):
    """The pinned data version has expired."""


class Unavailable(TransientError):
    """
    A database or a service does not answer.

    >>> str(Unavailable("the ledger", "127.0.0.1:5432", "connection refused"))
    'the ledger does not answer at 127.0.0.1:5432: connection refused'
    """

    def __init__(self, what: str, where: str, why: str) -> None:
        self.what, self.where, self.why = what, where, why
        super().__init__(what, where, why)

    def __str__(self) -> str:
        return f"{self.what} does not answer at {self.where}: {self.why}"


class ToolError(TransientError):
    """
    An outside tool failed.

    >>> str(ToolError("dbt", "Compilation Error in model flights"))
    'dbt: Compilation Error in model flights'
    """

    def __init__(self, tool: str, message: str) -> None:
        self.tool, self.message = tool, message
        super().__init__(tool, message)

    def __str__(self) -> str:
        return f"{self.tool}: {self.message}"


class LandingMoved(TransientError):
    """What landed changed between its pin and its copy; the attempt ends, its step stays open."""
