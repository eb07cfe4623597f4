"""Look for published tables that somebody changed by hand; what is found is held by the judge."""

from __future__ import annotations

from levada.flow.stages import Platform
from levada.ports import Change
from levada.terms import Tampering

__all__ = ["inspect"]


def inspect(platform: Platform) -> tuple[Tampering, ...]:
    """
    Read on in the lakes' histories and record what no publication and no open intent accounts for.

    The lake is read before the ledger: a run intends before it swaps, so it is known by then.
    """
    found: list[Tampering] = []
    ledger, warehouse = platform.runner, platform.warehouse
    for domain in platform.settings.domains:
        changes = warehouse.changes(domain, ledger.inspected(domain))
        if not changes:
            continue
        unknown = ledger.unknown_runs({c.run for c in changes if c.run})
        foreign = [c for c in changes if c.run is None or c.run in unknown]
        tampered = [
            Tampering(table, change.version, _said(change), change.at)
            for change in foreign
            for table in change.tables
        ]
        ledger.inspect(domain, changes[-1].version, tampered)
        found += tampered
    return tuple(found)


def _said(change: Change) -> str:
    claims = f"which says it is of run {change.run}" if change.run else "which names no run"
    return f"version {change.version} of {change.at:%Y-%m-%d %H:%M:%S}Z, {claims} ({change.what})"
