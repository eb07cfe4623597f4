"""One change of the whole mesh, judged: what breaks, whom, who must approve, does it pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from levada.govern import codeowners
from levada.govern.approvals import approvals, leaving, owned
from levada.govern.findings import Broken, Review, Reviewed
from levada.govern.kinds import Change, Impact
from levada.govern.law import LawChange
from levada.govern.lineage import ALL, Columns, Lineages, read
from levada.govern.meshes import mesh_changes
from levada.govern.promises import changes
from levada.govern.radius import Reached, Readers, downstream, readers
from levada.terms import Contract, Dependency, Mart, Mesh, TableRef
from levada.terms.service import better
from levada.terms.versions import version_number

__all__ = ["judged", "touched"]


def touched(
    old: Mesh, new: Mesh, now: datetime | None = None
) -> Mapping[TableRef, tuple[Change, ...]]:
    """The changes of every table that has any, contracts and mesh together."""
    found: dict[TableRef, list[Change]] = {}
    after = set(new.tables())
    for table in sorted(after & set(old.tables())):
        for change in changes(old.mart(table).contract, new.mart(table).contract, now):
            found.setdefault(table, []).append(change)
    for change in mesh_changes(old, new, readers(old)):
        found.setdefault(change.table, []).append(change)
    order = [Impact.BREAKING, Impact.SENSITIVE, Impact.COMPATIBLE]
    return {
        table: tuple(sorted(said, key=lambda c: order.index(c.impact)))
        for table, said in sorted(found.items())
    }


def judged(
    old: Mesh,
    new: Mesh,
    *,
    lineages: Lineages | None = None,
    rules: Sequence[codeowners.Rule] = (),
    within: str = "",
    files: Iterable[str] = (),
    now: datetime | None = None,
    law: Sequence[LawChange] = (),
    entitled: Sequence[str] = (),
) -> Review:
    """
    Judge a change from one mesh to another.

    `lineages` are those of the old mesh: what stands is what can break. `rules` are those of
    CODEOWNERS and `within` the mesh's folder in the repository, with a slash at its end; `files`
    are the changed ones, from the top of the repository. `now` tells which ends have passed.
    `law` is what changes of the law, `entitled` who may approve by the law that stands.
    """
    judging = _Judging(old, new, lineages or {})
    tables = tuple(judging.table(table, said) for table, said in touched(old, new, now).items())
    asked = (
        *approvals(old, new, tables, law, entitled),
        *owned(rules, within, files, tables),
    )
    return Review(tables, tuple(law), asked, tuple(leaving(new)))


@dataclass(frozen=True)
class _Judging:
    old: Mesh
    new: Mesh
    lineages: Lineages
    readers: Readers = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "readers", readers(self.old))

    def table(self, table: TableRef, said: tuple[Change, ...]) -> Reviewed:
        before, after = self.old.find(table), self.new.find(table)
        reached: tuple[Reached, ...] = ()
        below = 0
        broken: tuple[Broken, ...] = ()
        if before is not None:
            below = len(downstream(self.old, table, known=self.readers))
            reached = self.reached(table, said)
            broken = tuple(self.broken(before.contract, said, after.contract if after else None))
        versions = tuple(m.contract.version if m else "" for m in (before, after))
        reviewed = Reviewed(table, said, (versions[0], versions[1]), reached, below, broken)
        return replace(reviewed, refused=tuple(_refused(reviewed, before, after)))

    def reached(self, table: TableRef, said: Sequence[Change]) -> tuple[Reached, ...]:
        """The tables below, as far as the changes that are not compatible concern them."""
        grave = [c for c in said if c.impact is not Impact.COMPATIBLE]
        if not grave:
            return ()
        columns: Columns = frozenset()
        for change in grave:
            own = _concerned(change)
            columns = None if columns is None or own is None else columns | own
        return downstream(
            self.old, table, columns=columns, lineages=self.lineages, known=self.readers
        )

    def broken(
        self, before: Contract, said: Sequence[Change], after: Contract | None
    ) -> Iterator[Broken]:
        table = before.table
        for edge in self.readers.get(table, ()):
            if edge.downstream == table:
                continue
            owner = self.old.owner(edge.downstream)
            columns = self.relied(edge)
            stated = tuple(c for c in said if _stated(edge, c, before, after))
            hit = tuple(c for c in said if c in stated or _implied(edge, columns, c))
            if hit:
                yield Broken(edge.downstream, owner, hit, stated, columns)

    def relied(self, edge: Dependency) -> Columns:
        """The columns that a reader relies on: those it states, and those its SQL reads."""
        known = read(self.lineages, edge.downstream, edge.upstream)
        stated = frozenset(edge.relies_on.columns) if edge.relies_on else frozenset()
        if known is None:
            return stated or ALL
        return known | stated


def _concerned(change: Change) -> Columns:
    return frozenset(change.columns) if change.columns else ALL


def _hit(columns: Columns, change: Change) -> bool:
    if columns is None or not change.columns:
        return True
    return not columns.isdisjoint(change.columns)


def _implied(edge: Dependency, columns: Columns, change: Change) -> bool:
    """
    Whether the reader relies on it without a word. Of rules and service levels, one that states
    what it relies on relies on no others; a column that its SQL reads it relies on in any case.
    """
    if not change.breaking:
        return False
    if change.family in ("gate", "rule", "sla") and edge.relies_on is not None:
        return False
    return _hit(columns, change)


def _stated(edge: Dependency, change: Change, before: Contract, after: Contract | None) -> bool:
    """Whether the reader stated that it relies on just what is taken away."""
    relies = edge.relies_on
    if relies is None:
        return False
    if change.family == "sla":
        checks = {c.id for c in before.checks if c.origin == "sla" and c.metric == change.subject}
        if change.breaking and not checks.isdisjoint(relies.checks):
            return True
        wanted = dict(relies.sla).get(change.subject)
        kept = [v for n, v in (after.sla if after else ()) if n == change.subject]
        return wanted is not None and not (
            kept and all((better(change.subject, wanted, v) or 0) >= 0 for v in kept)
        )
    gone = change.impact is not Impact.COMPATIBLE or change.kind == "rule.renamed"
    if change.family in ("rule", "enum", "option"):
        return gone and change.subject in relies.checks
    return change.breaking and not set(relies.columns).isdisjoint(change.columns)


def _refused(reviewed: Reviewed, before: Mart | None, after: Mart | None) -> Iterator[str]:
    table, said = reviewed.table, reviewed.changes
    if before is None:
        return
    draft = before.contract.status == "draft" and not reviewed.broken
    grave = [change for change in said if change.breaking]
    if grave and not draft:
        words = "; ".join(change.what for change in grave)
        if after is None:
            names = ", ".join(sorted({str(each.table) for each in reviewed.broken}))
            yield f"{table} is removed while {names or 'others'} read it"
        else:
            successor = TableRef(table.domain, table.name, table.major + 1)
            right = f"keep it as it is, and promise {successor} beside it"
            yield f"{table} breaks its readers without a new major: {words}; {right}"
    for each in reviewed.broken:
        words = "; ".join(change.what for change in each.stated if not change.breaking)
        if words:
            yield f"{each.table} states that it relies on {table}: {words}"
    if after is not None:
        yield from _version(before.contract, after.contract)


def _version(old: Contract, new: Contract) -> Iterator[str]:
    """A version names one text: it rises whenever the contract changes, and never falls."""
    if old.hash == new.hash:
        return
    was, now = version_number(old.version), version_number(new.version)
    if now > was:
        return
    major, minor, patch = was[:3]
    right = f"raise it to {major}.{minor + 1}.0, or to {major}.{minor}.{patch + 1} for words alone"
    wrong = "stays" if old.version == new.version else f"falls to {new.version}"
    yield f"{new.path}: the contract changed and its version {old.version} {wrong}; {right}"
