"""What a review found."""

from __future__ import annotations

from dataclasses import dataclass

from levada.govern.kinds import Change, Impact
from levada.govern.law import LawChange
from levada.govern.lineage import ALL, Columns
from levada.govern.radius import Reached
from levada.terms import Owner, TableRef

__all__ = ["Approval", "Broken", "Review", "Reviewed"]


@dataclass(frozen=True, slots=True)
class Broken:
    """
    A reader that relies on what changes take away; `stated` are those of which its YAML says so.
    `columns` are what it reads of the table.
    """

    table: TableRef
    owner: Owner
    changes: tuple[Change, ...]
    stated: tuple[Change, ...] = ()
    columns: Columns = ALL


@dataclass(frozen=True, slots=True)
class Reviewed:
    """One table: its changes, the tables below it, the readers that break, and what is refused."""

    table: TableRef
    changes: tuple[Change, ...]
    versions: tuple[str, str]
    """Before and after; empty where there is none."""
    reached: tuple[Reached, ...] = ()
    below: int = 0
    """How many tables are made of it, whether a changed column concerns them or not."""
    broken: tuple[Broken, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def impact(self) -> Impact:
        """That of its gravest change."""
        order = list(Impact)
        return max((c.impact for c in self.changes), key=order.index, default=Impact.COMPATIBLE)


@dataclass(frozen=True, slots=True)
class Approval:
    """Somebody who must approve, and why: a team, its people, or owners by CODEOWNERS."""

    who: str
    people: tuple[str, ...]
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Review:
    """What was found. It passes if nothing is refused."""

    tables: tuple[Reviewed, ...]
    law: tuple[LawChange, ...] = ()
    approvals: tuple[Approval, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether the change may be merged, once those who must have approved."""
        return not self.refused

    @property
    def refused(self) -> tuple[str, ...]:
        """Every reason why it may not."""
        return tuple(reason for table in self.tables for reason in table.refused)

    @property
    def changes(self) -> tuple[Change, ...]:
        """Every change."""
        return tuple(change for table in self.tables for change in table.changes)
