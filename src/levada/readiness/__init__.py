"""May this table's partition be read, may this product's partition be built, and why not.

Pure: everything follows from the mesh, the facts and `now`. Readiness looks one hop: a line is
current when the newest line of each mapped input has the content that the line recorded. The
functions ask one question each; a caller with many about the same facts keeps a `Judge`.
"""

from __future__ import annotations

from datetime import datetime

from levada.readiness.causes import Change
from levada.readiness.edges import soonest
from levada.readiness.fingerprints import bare, fingerprint, forced
from levada.readiness.judge import Judge
from levada.readiness.known import ending, endings, mark, marks
from levada.readiness.trace import Hop, ancestors, inherited, suspects, trace
from levada.readiness.waived import Cover, admission, covering, standing
from levada.terms import Facts, Input, Mesh, Partition, Product, Readiness, TableRef

__all__ = [
    "Change",
    "Cover",
    "Hop",
    "Judge",
    "admission",
    "ancestors",
    "bare",
    "covering",
    "ending",
    "endings",
    "fingerprint",
    "forced",
    "inherited",
    "judge_inputs",
    "judge_table",
    "mark",
    "marks",
    "pins",
    "soonest",
    "standing",
    "suspects",
    "trace",
]


def judge_table(
    mesh: Mesh, table: TableRef, partition: Partition, facts: Facts, now: datetime
) -> Readiness:
    """What a reader of this table's partition may count on: one hop, as the facts stand."""
    return Judge(mesh, facts, now).table(table, partition)


def judge_inputs(
    mesh: Mesh, product: Product, partition: Partition, facts: Facts, now: datetime
) -> Readiness:
    """
    Whether the product's partition may be built now: READY, WAITING, HELD (an input was let through
    by a waiver that has ended) or IMPOSSIBLE. `missing` is
    what it waits for or, when READY, what it does without.
    """
    return Judge(mesh, facts, now).inputs(product, partition)


def pins(
    mesh: Mesh, product: Product, partition: Partition, facts: Facts, now: datetime
) -> tuple[Input, ...]:
    """What a build of this partition would read now, absent slices with content None."""
    return Judge(mesh, facts, now).pins(product, partition)
