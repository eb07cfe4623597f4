"""Look for published tables that somebody changed by hand; what is found is held by the judge."""

from __future__ import annotations

from levada.flow.stages import Platform
from levada.ports import Change
from levada.terms import TableRef, Tampering

__all__ = ["inspect"]


def inspect(platform: Platform) -> tuple[Tampering, ...]:
    """
    Read on in the histories of the warehouse and record what no publication and no open intent
    accounts for, and files that are not as they were written.

    The warehouse is read before the ledger: a run intends before it swaps, so it is known by then.
    """
    found: list[Tampering] = []
    ledger, warehouse = platform.runner, platform.warehouse
    for domain in platform.settings.domains:
        before = ledger.inspected(domain)
        altered = warehouse.altered(domain)
        changes = warehouse.changes(domain, before)
        if not changes and not altered:
            continue
        unknown = ledger.unknown_runs({c.run for c in changes if c.run})
        foreign = [c for c in changes if c.run is None or c.run in unknown]
        tampered = [
            *(_told(table, c, _said(c)) for c in foreign for table in c.tables),
            *(_told(table, c, f"file {c.what}") for c in altered for table in c.tables),
        ]
        ledger.inspect(domain, changes[-1].version if changes else before, tampered)
        found += tampered
    return tuple(found)


def _told(table: TableRef, change: Change, because: str) -> Tampering:
    return Tampering(table, change.version, because, change.at)


def _said(change: Change) -> str:
    claims = f"which says it is of run {change.run}" if change.run else "which names no run"
    return f"version {change.version} of {change.at:%Y-%m-%d %H:%M:%S}Z, {claims} ({change.what})"
