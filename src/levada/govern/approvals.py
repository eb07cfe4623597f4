"""Who must approve a change: teams by their contracts, people by CODEOWNERS; and who must leave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from levada.govern import codeowners
from levada.govern.findings import Approval, Reviewed
from levada.govern.kinds import Impact
from levada.govern.law import LawChange
from levada.govern.radius import readers
from levada.terms import Mart, Mesh, TableRef

__all__ = ["approvals", "leaving", "owned"]

_GOVERNANCE = "governance"
_LEAVING = (
    *("life.sunset_set", "life.sunset_passed", "life.sunset_sooner"),
    *("life.withdrawn", "life.deprecated"),
)
"""Changes that ask the readers of a table to leave it."""


def approvals(
    old: Mesh,
    new: Mesh,
    tables: Sequence[Reviewed],
    law: Sequence[LawChange] = (),
    entitled: Sequence[str] = (),
) -> Iterator[Approval]:
    """The teams: of what changed, of what breaks or must leave; and governance."""
    asked: dict[str, tuple[set[str], dict[str, None]]] = {}
    of_law = (
        (_GOVERNANCE, tuple(entitled), f"{change.path}: {change.what}")
        for change in law
        if change.impact is not Impact.COMPATIBLE
    )
    for who, people, because in (*_asked(old, new, tables), *of_law):
        members, reasons = asked.setdefault(who, (set(), {}))
        members.update(people)
        reasons[because] = None
    for who, (members, reasons) in sorted(asked.items()):
        yield Approval(who, tuple(sorted(members)), tuple(reasons))


def _asked(
    old: Mesh, new: Mesh, tables: Sequence[Reviewed]
) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Who, with which people, and why."""
    for reviewed in tables:
        table = reviewed.table
        for mesh in (old, new):  # where the owner changes, both
            yield from _owner(mesh.find(table), f"owns {table}, which changes")
        for broken in reviewed.broken:
            yield from _owner(old.find(broken.table), f"{broken.table} reads {table} and breaks")
        if any(change.kind in _LEAVING for change in reviewed.changes):
            for each in reviewed.reached:
                if each.hops == 1:
                    yield from _owner(old.find(each.table), f"{each.table} must leave {table}")
        if reviewed.impact is not Impact.COMPATIBLE:
            yield _GOVERNANCE, (), f"{table}: {reviewed.impact.value} changes"


def _owner(mart: Mart | None, because: str) -> Iterator[tuple[str, tuple[str, ...], str]]:
    if mart is not None:
        owner = mart.contract.owner
        people = mart.contract.owners or tuple(filter(None, [owner.contact]))
        yield owner.team, people, because


def owned(
    rules: Sequence[codeowners.Rule],
    within: str,
    files: Iterable[str],
    tables: Sequence[Reviewed],
) -> Iterator[Approval]:
    """The owners by CODEOWNERS of every changed file, and of every contract that changes."""
    paths = {*files, *(within + c.path for t in tables for c in t.changes if c.path)}
    found: dict[tuple[str, ...], list[str]] = {}
    for path in sorted(paths):
        if who := codeowners.owners(rules, path):
            found.setdefault(who, []).append(path)
    for who, own in sorted(found.items()):
        reasons = tuple(f"CODEOWNERS: {path}" for path in own)
        yield Approval(" ".join(who), (), reasons)


def leaving(mesh: Mesh) -> Iterator[str]:
    """Readers of a table whose days are numbered, or that is deprecated."""
    known = readers(mesh)
    for table in sorted(mesh.tables()):
        contract = mesh.mart(table).contract
        ending = contract.sunset or contract.deprecated or contract.status == "deprecated"
        if not ending or table not in known:
            continue
        names = ", ".join(
            sorted({str(e.downstream) for e in known[table] if e.downstream != table})
        )
        newer = max((t for t in mesh.tables() if _succeeds(t, table)), default=None)
        right = f"; read {newer} instead" if newer else ""
        until = f"held from {contract.sunset}" if contract.sunset else "deprecated"
        if names:
            yield f"{table} is {until}, and is read by {names}{right}"


def _succeeds(one: TableRef, other: TableRef) -> bool:
    return (one.domain, one.name) == (other.domain, other.name) and one.major > other.major
