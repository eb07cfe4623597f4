"""
What a command records as governance, and says so: contracts, and what canaries need.

On a laptop `levada run` and `levada up` do it; in production governance's own pipeline does.
"""

from __future__ import annotations

from levada.adapters.postgres import Credentials
from levada.cli import output
from levada.flow import platform as opening
from levada.settings import Settings
from levada.terms import Mesh

__all__ = ["as_governance"]

_SHOWN = 5


def as_governance(
    settings: Settings, mesh: Mesh, credentials: Credentials, *, quiet: bool = False
) -> None:
    """Record what is declared of contracts and of canaries; of what is new, a line each."""
    contracts = [mart.contract for product in mesh.products for mart in product.marts]
    new = opening.record(settings, credentials, contracts)
    terms = opening.allow(settings, mesh, credentials)
    if quiet:
        return
    if new:
        output.console.print(f"governance recorded {len(new)} contracts", style="dim")
    for name in terms[:_SHOWN]:
        output.console.print(f"governance recorded what a canary of {name} needs", style="dim")
    if len(terms) > _SHOWN:
        output.console.print(f"and of {len(terms) - _SHOWN} products more", style="dim")
