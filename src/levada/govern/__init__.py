"""
Govern: what a change of the declarations does to those who read the tables. Pure functions.

`changes` compares two contracts of one table and classes every difference; `downstream` tells whom
a table reaches; `judged` puts both together over two meshes, with who must approve.
"""

from __future__ import annotations

from levada.govern import codeowners
from levada.govern.approvals import leaving
from levada.govern.findings import Approval, Broken, Review, Reviewed
from levada.govern.kinds import KINDS, Change, Impact
from levada.govern.law import Law, LawChange, law_changes
from levada.govern.lineage import Lineage, Lineages
from levada.govern.promises import changes
from levada.govern.radius import Reached, downstream, readers
from levada.govern.reviewing import judged, touched

__all__ = [
    "KINDS",
    "Approval",
    "Broken",
    "Change",
    "Impact",
    "Law",
    "LawChange",
    "Lineage",
    "Lineages",
    "Reached",
    "Review",
    "Reviewed",
    "changes",
    "codeowners",
    "downstream",
    "judged",
    "law_changes",
    "leaving",
    "readers",
    "touched",
]
