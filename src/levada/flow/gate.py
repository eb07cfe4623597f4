"""
The gate before a publication: the contracts of a product, as governance and the ledger know them.

It is asked twice: before the build, which would be in vain, and before the swap, when it counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from levada.adapters import odcs
from levada.errors import NotPublishable
from levada.govern import changes
from levada.ports import Ledger
from levada.publish import Standing, refusals
from levada.terms import Contract, Product, Verdict

__all__ = ["admit", "breaking"]


def admit(
    ledger: Ledger, product: Product, now: datetime, verdict: Verdict = Verdict.PASS
) -> Mapping[str, tuple[str, ...]]:
    """
    Let a product through whose contracts may be published now; what each of them breaks, by label.

    Raises NotPublishable with everything that is against it.
    """
    kept = ledger.kept([mart.table for mart in product.marts])
    standings = [
        _standing(ledger, contract, kept.get(contract.table, "")) for contract in product.contracts
    ]
    wrong = {
        f"{standing.contract.table}: {refusal}"
        for standing in standings
        for refusal in refusals(standing, verdict, now)
    }
    if wrong:
        raise NotPublishable("\n".join(sorted(wrong)))
    return {standing.contract.label: standing.breaks for standing in standings if standing.breaks}


def _standing(ledger: Ledger, contract: Contract, kept: str) -> Standing:
    try:
        ledger.contract(contract.label)
    except NotPublishable:
        return Standing(contract, recorded=False, kept=kept)
    if kept in ("", contract.label):
        return Standing(contract, recorded=True, kept=kept)
    return Standing(
        contract,
        recorded=True,
        kept=kept,
        breaks=breaking(odcs.from_canonical(ledger.contract(kept)), contract),
        approved=ledger.approved(contract.id, contract.hash) is not None,
    )


def breaking(old: Contract, new: Contract) -> tuple[str, ...]:
    """What a contract takes from those who read its table under another one, in words."""
    return tuple(str(change) for change in changes(old, new) if change.breaking)
