"""Look for published tables that somebody changed by hand, and tell their owners."""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Mapping

from levada import publish as publishing
from levada.adapters import odcs
from levada.ports import Ledger, Warehouse
from levada.settings import Settings
from levada.terms import Tampering

__all__ = ["inspect", "send", "tell_owners"]

_PATIENCE = 30.0
"""Seconds that telling somebody may take."""

_log = logging.getLogger(__name__)


def inspect(settings: Settings, ledger: Ledger, warehouse: Warehouse) -> tuple[Tampering, ...]:
    """Look through all domains; what was found is held by the judge, and its owners are told."""
    found = [
        each
        for domain in settings.domains
        for each in publishing.inspect(ledger, warehouse, domain)
    ]
    tell_owners(settings, ledger)
    return tuple(found)


def tell_owners(settings: Settings, ledger: Ledger) -> None:
    """
    Tell the owner of each held table once, by the command that `tell` of `levada.yaml` names: it
    reads one JSON document. A command that fails is asked again in the next round.
    """
    untold = ledger.untold()
    if not untold:
        return
    kept = ledger.kept([each.table for each in untold])
    for each in untold:
        label = kept.get(each.table)
        owner = odcs.from_canonical(ledger.contract(label)).owner if label else None
        whom = str(owner) if owner else f"the domain {each.table.domain}"
        said = f"{each.table} is HELD, changed by hand: {each.because}; its owner is {whom}"
        if not settings.tell:
            _log.error("%s, who was not told: levada.yaml names no `tell`", said)
            continue
        message = {
            "event": "held",
            "mesh": settings.name,
            "table": str(each.table),
            "owner": owner.team if owner else each.table.domain,
            "contact": owner.contact if owner else "",
            "because": each.because,
            "since": each.at.isoformat(),
            "todo": f"find who did it, then `levada release {each.table} --reason WHY`",
        }
        failed = send(settings, message)
        if failed:
            _log.error("%s, who could not be told: %s", said, failed)
        else:
            _log.error("%s, who was told", said)
            ledger.tell(each, whom)


def send(settings: Settings, message: Mapping[str, str]) -> str:
    """Tell somebody, by the command of `tell`; why that failed, nothing if it did not."""
    try:
        done = subprocess.run(
            settings.tell,
            cwd=settings.root,
            input=json.dumps(dict(message)) + "\n",
            text=True,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
    return f"{settings.tell[0]} ended with {done.returncode}" + "".join(f": {s}" for s in last)
