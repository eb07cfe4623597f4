"""
SQLFluff: Levada's rules for the SQL of models, and the run of them by `levada check`.

SQLFluff itself is imported by `plugin`, which it loads as a plugin, and in the child that lints.
"""

from __future__ import annotations

from levada.adapters.sqlfluff.linting import Linting, lint, told_once

__all__ = ["Linting", "lint", "told_once"]
