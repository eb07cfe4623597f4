"""`levada approve`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from levada import compiled
from levada.adapters.approvers import read_policy
from levada.cli import output
from levada.errors import DeclarationError, Fault
from levada.flow import granting
from levada.flow import platform as opening
from levada.settings import Settings, find_root, read_settings
from levada.terms import Waiver

__all__ = ["Review", "approve", "told"]


@dataclass(frozen=True, slots=True)
class Review:
    """Who reviewed which commit, as the caller or the pipeline around him says."""

    commit: str | None
    reviewer: str | None
    authors: Sequence[str]
    reason: str

    @property
    def at(self) -> str:
        """The commit: what the pipeline runs for, or what is checked out."""
        return self.commit or _first("GITHUB_SHA", "CI_COMMIT_SHA") or "HEAD"

    @property
    def by(self) -> str:
        """The reviewer: by default whoever started the pipeline of the protected branch."""
        found = self.reviewer or _first("GITHUB_ACTOR", "GITLAB_USER_LOGIN")
        if not found:
            right = "name the reviewer; a pipeline's is GITHUB_ACTOR or GITLAB_USER_LOGIN"
            raise DeclarationError((Fault("--reviewer", 0, "nobody is named", right),))
        return found


def approve(project: Path | None, file: Path, review: Review, *, dry_run: bool) -> int:
    """Let pass, as governance, what a file asks for or changes: a line for the file as it is."""
    settings = read_settings(find_root(project))
    path = file.resolve()
    if granting.is_request(path, settings.root):
        return _waiver(settings, path, review, dry_run=dry_run)
    return _contract(settings, path, review, dry_run=dry_run)


def _waiver(settings: Settings, path: Path, review: Review, *, dry_run: bool) -> int:
    mesh = compiled.load(settings)
    request, policy = granting.requested(settings, mesh, path)
    what, now = told(request.waiver), opening.now()
    if request.waiver.expires <= now:
        output.console.print(Text(f"not granted, it has expired: {what}"))
        return 1
    if faults := granting.outlives(request, policy, now):
        raise DeclarationError(faults)
    approval = granting.approval(
        settings,
        policy,
        request.subject,
        reviewer=review.by,
        commit=review.at,
        authors=review.authors,
        via="pipeline",
    )
    if dry_run:
        output.console.print(Text(f"would be granted: {what}"))
        return 0
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_governance") as ledger,
    ):
        new = ledger.waive(request.waiver, approval)
    how = f"granted by {approval.reviewer}" if new else "granted already"
    output.console.print(Text(f"{how}: {what}"))
    return 0


def told(waiver: Waiver) -> str:
    """A waiver in one line."""
    window = f"{waiver.window.start:%Y-%m-%d %H:%M} .. {waiver.window.end:%Y-%m-%d %H:%M} UTC"
    who = f", for {', '.join(waiver.consumers)}" if waiver.consumers else ""
    until = f"until {waiver.until:%Y-%m-%d %H:%M} UTC"
    return f"{waiver.check} of {waiver.table}, {window}{who}, {until}: {waiver.reason}"


def _contract(settings: Settings, path: Path, review: Review, *, dry_run: bool) -> int:
    policy = read_policy(settings.root, settings.domains)
    contract = granting.contract_of(settings, path)
    if not review.reason.strip():
        right = "say why its readers can bear it"
        raise DeclarationError((Fault("--reason", 0, "says nothing", right),))
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_governance") as ledger,
    ):
        found = granting.broken(ledger, contract)
        if not found.changes:
            output.console.print(Text(f"{contract.label} breaks nothing: it needs no approval"))
            return 0
        approval = granting.approval(
            settings,
            policy,
            found.subject,
            reviewer=review.by,
            commit=review.at,
            authors=review.authors,
            via="pipeline",
        )
        how = "would be approved"
        if not dry_run:
            new = ledger.record_approval(contract.id, contract.hash, review.reason, approval)
            how = f"approved by {approval.reviewer}" if new else "approved already"
    output.console.print(Text(f"{how}: {contract.label}, which breaks {found.kept}:"))
    for change in found.changes:
        output.console.print(Text(f"  {change}"))
    return 0


def _first(*names: str) -> str:
    return next((os.environ[name] for name in names if os.environ.get(name)), "")
