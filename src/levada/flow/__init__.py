"""
The flow: the stages in their order. The only place where stages, ledger, warehouse and tools meet.

`stages` holds the order as one tuple, `loop` runs a plan in one command, `platform` opens what a
run needs with each part's own rights, `declaring` reads and compiles the declarations.
"""

from __future__ import annotations
