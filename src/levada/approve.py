"""
Approve: who may let what pass, and why not. Pure functions.

Nobody approves what he wrote or answers for. Who may approve at all is governance's to say, in
`contracts/governance/approvers.yaml`; that he did is a line of the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

__all__ = ["ALL", "KINDS", "Approver", "Policy", "Subject", "objections"]

KINDS = ("waiver", "breaking", "backfill", "rule", "canary")
"""
What can be approved: a waiver, a contract that breaks what its table promised, a backfill, a rule
between tables that flagged too much, a new version that ran beside the old one.
"""
ALL = "all"


@dataclass(frozen=True, slots=True)
class Approver:
    """Somebody whom governance entitled, and to what."""

    username: str
    domains: tuple[str, ...]
    kinds: tuple[str, ...] = KINDS
    known_as: tuple[str, ...] = ()
    """His other names: the addresses under which he commits."""

    def may(self, kind: str, domain: str) -> bool:
        """
        Whether he may approve this kind of thing of this domain.

        >>> Approver("ines", ("weather",)).may("waiver", "fleet")
        False
        """
        return kind in self.kinds and (ALL in self.domains or domain in self.domains)


@dataclass(frozen=True, slots=True)
class Policy:
    """What governance's settings say of approvals."""

    approvers: tuple[Approver, ...] = ()
    widest: timedelta = timedelta(days=31)
    """Most data time that one waiver may cover."""
    longest: timedelta = timedelta(days=90)
    """Most wall time that a waiver may live."""

    def approver(self, who: str) -> Approver | None:
        """The approver of this name, whichever of his names it is."""
        return next((a for a in self.approvers if _same(who, (a.username, *a.known_as))), None)

    def names(self, who: str) -> tuple[str, ...]:
        """Every name under which somebody is known."""
        known = self.approver(who)
        return (known.username, *known.known_as) if known else (who,)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be approved: a kind of thing, of a domain, by its file and those who own it."""

    kind: str
    domain: str
    path: str
    owners: tuple[str, ...]
    asked: str = ""
    """Whom the file itself names; empty where anybody entitled will do."""


def objections(
    subject: Subject, reviewer: str, authors: Iterable[str], policy: Policy
) -> tuple[str, ...]:
    """
    Why this reviewer's approval does not count; nothing, if it does.

    >>> policy = Policy((Approver("ines", ("weather",)),))
    >>> subject = Subject("waiver", "weather", "w.yaml", ("joe",), "ines")
    >>> objections(subject, "ines", ["joe"], policy)
    ()
    >>> objections(subject, "joe", ["joe"], policy)[0]
    'joe is no approver: approvers.yaml does not name him'
    """
    if not reviewer:
        return ("nobody has reviewed it",)
    found, names = [], policy.names(reviewer)
    known = policy.approver(reviewer)
    if known is None:
        found.append(f"{reviewer} is no approver: approvers.yaml does not name him")
    elif not known.may(subject.kind, subject.domain):
        found.append(f"{reviewer} may not approve a {subject.kind} of {subject.domain}")
    if subject.asked and not _same(subject.asked, names):
        found.append(f"it asks {subject.asked}, not {reviewer}")
    if any(_same(owner, names) for owner in subject.owners):
        found.append(f"{reviewer} answers for it: an owner does not approve his own")
    written_by = tuple(authors)
    if not written_by:
        found.append("nobody knows who wrote it")
    if any(_same(author, names) for author in written_by):
        found.append(f"{reviewer} wrote it: an author does not approve his own")
    return tuple(found)


def _same(who: str, names: Iterable[str]) -> bool:
    return who.casefold() in {name.casefold() for name in names}
