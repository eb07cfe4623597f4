"""The classes of changes: each has one impact and one reason, from the reader's side."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from levada.terms import TableRef

__all__ = ["KINDS", "Change", "Impact"]


class Impact(enum.Enum):
    """What a change does to those who read the table."""

    COMPATIBLE = "compatible"
    """Whatever a reader may rely on still holds."""
    SENSITIVE = "sensitive"
    """No promise is broken, and it is not for the author alone to decide: it must be approved."""
    BREAKING = "breaking"
    """Something that a reader may rely on is gone: it needs a new major version."""


_C, _S, _B = Impact.COMPATIBLE, Impact.SENSITIVE, Impact.BREAKING

KINDS: Mapping[str, tuple[Impact, str]] = {
    # columns
    "column.added": (_C, "nobody reads it yet, and what is published has NULL there"),
    "column.added_required": (_B, "what is already published has no value in it"),
    "column.dropped": (_B, "who reads it fails"),
    "column.renamed": (_B, "who reads it by its old name fails"),
    "column.reordered": (_S, "`select *` beside `union all` goes by position"),
    "column.type_widened": (
        _B,
        "readers' narrower types overflow, and published rows keep theirs",
    ),
    "column.type_narrowed": (
        _B,
        "what is published need not fit, nor what readers compare with",
    ),
    "column.type_changed": (_B, "readers compare, join and compute by the type"),
    "column.type_spelled": (_C, "it is the same type by another name"),
    "column.logical_type_added": (_C, "it says more of the same type"),
    "column.logical_type_changed": (_B, "its values mean something else"),
    "column.logical_type_removed": (_B, "what its values are is no longer promised"),
    "column.format_added": (_C, "it says more of the same values"),
    "column.format_changed": (_B, "readers parse by it"),
    "column.format_removed": (_B, "readers parse by it"),
    "column.required_added": (_B, "what is already published may have NULL there"),
    "column.required_removed": (_B, "readers need not expect NULL there until now"),
    "column.unique_added": (_C, "one value once is more than was promised"),
    "column.unique_removed": (_B, "a join by it may now repeat rows"),
    "column.classification_raised": (_B, "what was lawful to do with it may no longer be"),
    "column.classification_lowered": (_S, "who may see it is for governance to say"),
    "column.description": (_C, "words for people"),
    # the key
    "key.added": (_C, "rows that are told apart are more than was promised"),
    "key.removed": (_B, "what tells rows apart is no longer promised"),
    "key.changed": (_B, "a row stands for something else, and joins by the key may repeat rows"),
    "key.reordered": (_C, "the same columns tell rows apart"),
    # allowed values and options of a column
    "enum.added": (_C, "fewer values can come than before"),
    "enum.removed": (_B, "any value may come now"),
    "enum.value_added": (_B, "a value comes that readers do not know"),
    "enum.value_removed": (_C, "every value that can still come is known"),
    "option.added": (_C, "fewer values can come than before"),
    "option.removed": (_B, "values may come that could not before"),
    "option.loosened": (_B, "values may come that could not before"),
    "option.tightened": (_C, "every value that can still come could come before"),
    "option.changed": (_B, "nobody can tell that what comes now could come before"),
    # rules
    "rule.added": (_C, "more is checked than before"),
    "rule.removed": (_B, "data that was withheld is now published"),
    "rule.loosened": (_B, "data that was withheld is now published"),
    "rule.tightened": (_C, "whatever passes now passed before"),
    "rule.changed": (_B, "nobody can tell that whatever passes now passed before"),
    "rule.severity_lowered": (_B, "data that was withheld is now published with a warning"),
    "rule.severity_raised": (_C, "data that was published with a warning is now withheld"),
    "rule.warning_removed": (_S, "it withheld nothing; its warning is no longer given"),
    "rule.warning_loosened": (_S, "it withheld nothing; its warning is given later"),
    "rule.warning_changed": (_S, "it withheld nothing; its warning says something else"),
    "rule.renamed": (_C, "the same holds under another id"),
    "rule.description": (_C, "words for people"),
    # slices of time
    "table.grain": (
        _B,
        "a partition is another stretch of time: readers' mappings change",
    ),
    "table.zone": (_B, "a day starts and ends at other instants"),
    "table.day_start": (_B, "a day starts and ends at other instants"),
    "table.week_start": (_B, "a week starts and ends on other days"),
    "table.interval_column": (_B, "rows lie in other partitions"),
    # service levels
    "sla.added": (_C, "more is promised than before"),
    "sla.removed": (_B, "what readers planned by is no longer promised"),
    "sla.loosened": (_B, "less is promised than readers planned by"),
    "sla.tightened": (_C, "more is promised than before"),
    "sla.changed": (_B, "nobody can tell that it still promises as much"),
    # the table's life
    "life.activated": (_C, "it may be read"),
    "life.unread": (_C, "it could not be read before either"),
    "life.withdrawn": (_B, "a table that is neither active nor deprecated cannot be read"),
    "life.deprecated": (_S, "its readers are told to leave"),
    "life.support_sooner": (_S, "its readers are told to leave sooner"),
    "life.support_later": (_C, "it is supported longer"),
    "life.sunset_set": (_S, "from that day on the table is held: its readers must agree to leave"),
    "life.sunset_passed": (_B, "it is held at once: nobody had time to leave"),
    "life.sunset_sooner": (_B, "readers planned by the later day"),
    "life.sunset_later": (_C, "it can be read longer"),
    # who answers for it, and words
    "owner.team": (_S, "somebody else answers for it"),
    "owner.members": (_S, "others may approve for it"),
    "owner.contact": (_C, "it is asked after elsewhere"),
    "owner.tier_lowered": (_S, "governance asks less of it"),
    "owner.tier_raised": (_C, "governance asks more of it"),
    "contract.id": (_S, "lines of the ledger and approvals go by the id"),
    "contract.description": (_C, "words for people"),
    "contract.text": (_C, "nothing that a reader may rely on"),
    # the mesh
    "table.added": (_C, "nobody reads it yet"),
    "table.removed": (_B, "who reads it can no longer be built"),
    "table.removed_unread": (
        _S,
        "nobody in the mesh reads it; who else does cannot be told",
    ),
    "table.moved": (_S, "it is built and withheld together with other tables"),
    "product.added": (_C, "nobody waits for it yet"),
    "product.removed": (_S, "its runs end"),
    "edge.added": (_C, "the product waits for one more table"),
    "edge.removed": (_C, "the product waits for one table less"),
    "gate.added": (_S, "what its rule does not pass is withheld, and who reads it waits"),
    "gate.tightened": (_S, "what passes now passed before; who reads it may wait"),
    "gate.loosened": (_B, "data that was withheld is now published"),
    "gate.changed": (_B, "nobody can tell that whatever passes now passed before"),
    "gate.removed": (_B, "data that was withheld is now published"),
    "gate.parted": (_S, "a new major may tell something else than the old one from now on"),
    "gate.renamed": (_C, "the same holds under another id"),
    "gate.rewritten": (_C, "it asks the same in other words"),
    "edge.gate_added": (_S, "the product starts later, and so do those who read it"),
    "edge.gate_removed": (_S, "the product no longer waits for a sign it was told to wait for"),
    "edge.wait_loosened": (_S, "the product may be built on less than before"),
    "edge.wait_tightened": (_C, "the product is built on no less than before"),
    "edge.wait_changed": (_S, "the product may be built on less than before"),
    "edge.required_removed": (_S, "the product may be built without it"),
    "edge.required_added": (_C, "the product is no longer built without it"),
    "edge.mapping": (_S, "the product is built from other partitions"),
    "edge.on_restatement": (_S, "corrections of the input reach readers otherwise"),
    "edge.any_of": (_S, "which inputs suffice has changed"),
    "edge.relies_on": (_C, "what the reader states that it relies on has changed"),
    # the law itself
    "law.approvers_widened": (_S, "more may be let pass, or by more people"),
    "law.approvers_narrowed": (_C, "less may be let pass, or by fewer people"),
    "law.approvers_renamed": (_S, "who approves his own is known by these names"),
    "law.policy_added": (_C, "more is asked than before"),
    "law.policy_removed": (_S, "what was asked is asked no more"),
    "law.policy_lowered": (_S, "what was refused is only warned of"),
    "law.policy_raised": (_C, "more is asked than before"),
    "law.policy_changed": (_S, "nobody can tell that as much is asked as before"),
    "law.ignore_approved": (_S, "corrections of the input no longer reach the table"),
    "law.rule_added": (_C, "more is watched than before"),
    "law.rule_removed": (_S, "what it flagged is flagged no more"),
    "law.rule_changed": (_S, "nobody can tell that it flags what it did before"),
}
"""Impact and reason of every kind of change; `docs/reference/changes.md` shows the same table."""


@dataclass(frozen=True, slots=True)
class Change:
    """
    One thing that a reader of `table` will find otherwise.

    `subject` is what changed: a column, the id of a rule, a service level, the table that an edge
    reads; empty for the table itself. `columns` are those it concerns; none means all.

    >>> flights = TableRef("operations", "flights")
    >>> print(Change("column.dropped", flights, "tailnum", "the column tailnum is dropped"))
    operations.flights@1: the column tailnum is dropped; breaking: who reads it fails
    """

    kind: str
    table: TableRef
    subject: str
    what: str
    columns: tuple[str, ...] = ()
    path: str = ""
    of: str = ""
    """The product, where the change is one of the mesh."""

    @property
    def impact(self) -> Impact:
        """What it does to those who read the table."""
        return KINDS[self.kind][0]

    @property
    def because(self) -> str:
        """Why it is of its class."""
        return KINDS[self.kind][1]

    @property
    def breaking(self) -> bool:
        """Whether it takes away what a reader may rely on."""
        return self.impact is Impact.BREAKING

    @property
    def family(self) -> str:
        """The first word of its kind: `column`, `rule`, `sla`."""
        return self.kind.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.table}: {self.what}; {self.impact.value}: {self.because}"
