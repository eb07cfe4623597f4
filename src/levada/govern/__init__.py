"""
Govern: what a change of the declarations does to those who read the tables. Pure functions.

`changes` compares two contracts of one table and classes every difference.
"""

from __future__ import annotations

from levada.govern.kinds import KINDS, Change, Impact
from levada.govern.promises import changes

__all__ = ["KINDS", "Change", "Impact", "changes"]
