"""
Approvals: a file, its commit, its reviewer and governance's policy become one line of the ledger.

By whichever way an answer comes, the pipeline of the protected branch or Airflow's own approval, it
passes here, and the same rules hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from levada.adapters import odcs
from levada.adapters.approvers import APPROVERS, read_policy
from levada.adapters.provenance import committed
from levada.adapters.waivers import WAIVERS, Request, read_request, requests
from levada.approve import Policy, Subject, objections
from levada.errors import DeclarationError, Fault
from levada.flow.gate import breaking
from levada.intervals import inside
from levada.ledger import PostgresLedger
from levada.settings import Settings
from levada.terms import Approval, Contract, Mesh, Publication, Waiver

__all__ = [
    "Broken",
    "Listed",
    "approval",
    "broken",
    "contract_of",
    "is_request",
    "listed",
    "opened",
    "outlives",
    "requested",
]


@dataclass(frozen=True, slots=True)
class Broken:
    """A contract that takes something from its readers, and what."""

    contract: Contract
    kept: str
    changes: tuple[str, ...]

    @property
    def subject(self) -> Subject:
        """Anybody entitled may approve it who neither owns nor wrote it."""
        contract = self.contract
        return Subject("breaking", contract.table.domain, contract.path, contract.owners)


@dataclass(frozen=True, slots=True)
class Listed:
    """A waiver, from its request to its end."""

    state: str
    """requested, live, expired or revoked."""
    waiver: Waiver
    path: str
    """Its file; empty where that is gone, which ends nothing: `levada waiver revoke` does."""
    taints: tuple[Publication, ...] = ()


def is_request(path: Path, root: Path) -> bool:
    """Whether a file is a waiver's, by where it lies."""
    return path.is_relative_to(root / WAIVERS)


def requested(settings: Settings, mesh: Mesh, path: Path) -> tuple[Request, Policy]:
    """What a waiver file asks for, and by which policy. Raises DeclarationError."""
    policy = read_policy(settings.root, settings.domains)
    return read_request(path, settings.root, mesh, policy), policy


def contract_of(settings: Settings, path: Path) -> Contract:
    """The contract of a file. Raises DeclarationError."""
    shown = path.relative_to(settings.root).as_posix() if path.is_relative_to(settings.root) else ""
    contracts, faults = odcs.read_contracts(settings.root)
    found = next((c for c in contracts if c.path == shown), None)
    if found is None:
        own = tuple(f for f in faults if f.path == shown)
        right = f"name a contract, or a file in {WAIVERS}"
        raise DeclarationError(own or (Fault(str(path), 0, "is nothing to approve", right),))
    return found


def broken(ledger: PostgresLedger, contract: Contract) -> Broken:
    """What a contract breaks of the one that its table keeps; nothing, if it is the first."""
    kept = ledger.kept([contract.table]).get(contract.table, "")
    if kept in ("", contract.label):
        return Broken(contract, kept, ())
    old = odcs.from_canonical(ledger.contract(kept))
    return Broken(contract, kept, breaking(old, contract))


def approval(
    settings: Settings,
    policy: Policy,
    subject: Subject,
    *,
    reviewer: str,
    commit: str,
    authors: Iterable[str] = (),
    via: str,
) -> Approval:
    """
    The approval of a file by its reviewer, if it counts.

    `authors` are named beside those whom git knows, never instead of them. Raises DeclarationError
    with everything that is against it.
    """
    path = settings.root / subject.path
    found = committed(path, settings.root, commit, law=(settings.root / APPROVERS,))
    wrote = tuple(dict.fromkeys((*authors, *found.authors)))
    if against := objections(subject, reviewer, wrote, policy):
        right = "ask who is entitled, and neither wrote it nor answers for it"
        raise DeclarationError([Fault(subject.path, 0, wrong, right) for wrong in against])
    known = policy.approver(reviewer)
    name = known.username if known else reviewer
    return Approval(name, wrote, found.commit, via)


def outlives(request: Request, policy: Policy, now: datetime) -> tuple[Fault, ...]:
    """That a waiver would live longer than the policy lets any, if it would."""
    if request.waiver.expires <= now + policy.longest:
        return ()
    wrong = f"it would live until {request.waiver.expires:%Y-%m-%d}"
    return (Fault(request.path, 0, wrong, f"{policy.longest.days} days from now at most"),)


def opened(
    settings: Settings, mesh: Mesh, ledger: PostgresLedger, now: datetime
) -> tuple[Request, ...]:
    """The requests that nobody has answered: sound, not expired, not granted before."""
    policy = read_policy(settings.root, settings.domains)
    found, _ = requests(settings.root, mesh, policy)
    known = {(w.table, w.check, w.hash) for w in ledger.waivers()}
    return tuple(
        request
        for request in found
        if now < request.waiver.expires
        and not outlives(request, policy, now)
        and _key(request.waiver) not in known
    )


def listed(
    settings: Settings, mesh: Mesh, ledger: PostgresLedger, now: datetime
) -> tuple[tuple[Listed, ...], tuple[Fault, ...]]:
    """Every waiver that was asked for or granted, by its end; and the faults of the files."""
    policy = read_policy(settings.root, settings.domains)
    asked, faults = requests(settings.root, mesh, policy)
    paths = {_key(request.waiver): request.path for request in asked}
    granted = ledger.waivers()
    lines = ledger.tainted()
    known = {_key(waiver) for waiver in granted}
    found = [Listed("requested", r.waiver, r.path) for r in asked if _key(r.waiver) not in known]
    found += [
        Listed(_state(waiver, now), waiver, paths.get(_key(waiver), ""), _tainted(waiver, lines))
        for waiver in granted
    ]
    found.sort(key=lambda each: (each.waiver.until, each.waiver.table, each.waiver.check))
    return tuple(found), faults


def _key(waiver: Waiver) -> tuple[object, str, str]:
    return waiver.table, waiver.check, waiver.hash


def _state(waiver: Waiver, now: datetime) -> str:
    if waiver.revoked is not None:
        return "revoked"
    return "live" if now < waiver.expires else "expired"


def _tainted(waiver: Waiver, lines: Sequence[Publication]) -> tuple[Publication, ...]:
    """The newest lines that carry a check which this waiver covers or covered."""
    return tuple(
        line
        for line in lines
        if any(
            (mark.table, mark.check) == (waiver.table, waiver.check)
            and inside(mark.partition, waiver.window)
            for mark in line.waived
        )
    )
