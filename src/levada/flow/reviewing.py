"""Review before merge: the mesh as it is here against the mesh as it was at a commit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from levada import compiled, govern
from levada.adapters.approvers import APPROVERS, look
from levada.adapters.consistency import read_batches
from levada.adapters.dbt.compiling import table_of
from levada.adapters.dbt.facts import CompileRequest
from levada.adapters.dbt.workers import DbtWorkers
from levada.adapters.git import Base, Repository
from levada.adapters.lineage import Model, lineages
from levada.adapters.policies import FILE as POLICIES
from levada.adapters.policies import read_policies
from levada.build import manifest_path, room_of
from levada.errors import DeclarationError, Fault, LevadaError
from levada.flow import declaring
from levada.govern import Impact, Lineages, Review, codeowners
from levada.settings import Settings, read_settings
from levada.terms import Mesh, TableRef

__all__ = ["Compared", "review"]

_DECLARATIONS = ("levada.yaml", "contracts", "models")
_KEPT = 3
"""How many bases stay declared, so that the next review of one need not ask dbt again."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A review, and what was compared."""

    base: Base
    review: Review


def review(settings: Settings, name: str, workers: DbtWorkers, now: datetime) -> Compared:
    """
    Judge what the working tree changes since `name`: since the newest commit that both share.

    Raises DeclarationError: for faults of the working tree, for faults of the base (their paths
    begin with the commit), for a commit that is not there.
    """
    repository = Repository.of(settings.root)
    base = repository.base(name)
    new = declaring.compiled_mesh(settings, workers)
    with _declared(settings, repository, base, workers) as before:
        old = declaring.up_to_date(before)
        known = _lineages(before, old, _domains(old, new, now), workers)
        stood = _law(before, old)
    with compiled.uncollected():
        found = govern.judged(
            old,
            new,
            lineages=known,
            rules=_code_owners(repository, base.tip),
            within=repository.within,
            files=repository.differing(base.commit),
            now=now,
            law=govern.law_changes(stood, _law(settings, new)),
            entitled=sorted(stood.rights),
        )
    return Compared(base, replace(found, warnings=(*_behind(base), *found.warnings)))


def _behind(base: Base) -> Iterator[str]:
    if base.commit != base.tip:
        yield (
            f"{base.name} has moved on since {base.commit[:12]}, which is compared with: who reads "
            "a table only since then is not seen; rebase to see them"
        )


@contextmanager
def _declared(
    settings: Settings, repository: Repository, base: Base, workers: DbtWorkers
) -> Iterator[Settings]:
    """
    The base's declarations in a folder of their own, declared by the code of today.

    The folder bears the commit's name and is complete from its first moment, so a later review of
    the same commit finds it compiled; what a killed one left is swept by the next.
    """
    home = settings.home / "review"
    folder = home / base.commit
    _sweep(home, folder)
    if not repository.has(base.commit, "levada.yaml"):
        wrong = f"there is no {repository.within}levada.yaml at {base.name} ({base.commit[:12]})"
        raise DeclarationError((Fault("--base", 0, wrong, "name a commit that has the mesh"),))
    if not folder.is_dir():
        repository.extract(base.commit, _DECLARATIONS, folder)
    os.utime(folder)
    _lend_packages(settings, folder)
    try:
        before = read_settings(folder)
        declaring.compiled_mesh(before, workers)
    except DeclarationError as error:
        said = [replace(f, path=f"{base.commit[:12]}:{f.path}") for f in error.faults]
        wrong = f"the declarations at {base.name} ({base.commit[:12]}) have faults themselves"
        right = "nothing can be compared with them: name a commit before them, or mend them there"
        raise DeclarationError((Fault("--base", 0, wrong, right), *said)) from error
    yield before


def _lend_packages(settings: Settings, folder: Path) -> None:
    """Dbt's packages are not committed: the base reads those that are installed here."""
    for domain in settings.domains:
        installed = settings.root / "models" / domain / "dbt_packages"
        there = folder / "models" / domain
        if installed.is_dir() and there.is_dir() and not (there / "dbt_packages").exists():
            (there / "dbt_packages").symlink_to(installed.resolve())


def _sweep(home: Path, keep: Path) -> None:
    """Remove what killed reviews left half made, and all bases but the newest."""
    if not home.is_dir():
        return
    entries = [entry for entry in home.iterdir() if entry.is_dir() and entry != keep]
    for entry in entries:
        if entry.name.startswith(".") and not _alive(entry.name[1:].partition("-")[0]):
            shutil.rmtree(entry, ignore_errors=True)
    bases = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in sorted(bases, key=lambda e: e.stat().st_mtime, reverse=True)[_KEPT - 1 :]:
        shutil.rmtree(entry, ignore_errors=True)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True


def _domains(old: Mesh, new: Mesh, now: datetime) -> tuple[str, ...]:
    """The domains whose SQL must be read: those with a table below one that changes gravely."""
    known = govern.readers(old)
    published = set(old.tables())
    found: set[str] = set()
    for table, changes in govern.touched(old, new, now).items():
        if table in published and any(c.impact is not Impact.COMPATIBLE for c in changes):
            below = govern.downstream(old, table, known=known)
            found |= {reached.table.domain for reached in below}
    return tuple(sorted(found))


def _lineages(
    settings: Settings, mesh: Mesh, domains: Iterable[str], workers: DbtWorkers
) -> Lineages:
    """Column lineage of these domains' tables. Where dbt fails, nothing is known of the domain."""
    abroad = {
        table_of(declaring.external(m.contract)): (m.table, _names(mesh, m.table))
        for p in mesh.products
        for m in p.marts
    }
    found: dict[TableRef, govern.Lineage] = {}
    for domain in domains:
        marts = {m.node: m for p in mesh.products if p.domain == domain for m in p.marts}
        request = CompileRequest(
            project_dir=settings.root / "models" / domain,
            manifest=manifest_path(settings, domain),
            log_dir=room_of(settings, domain).logs / "review",
            room=room_of(settings, domain),
        )
        try:
            said = workers.compiled_sql(domain, request)
        except LevadaError:
            continue
        promised = abroad | {
            table_of(node): (mart.table, _names(mesh, mart.table)) for node, mart in marts.items()
        }
        promised |= {
            table_of(source.node): (source.table, (*source.columns, "_file", "_line"))
            for source in mesh.sources
            if source.table.domain == domain
        }
        models = {
            table_of(each.node): Model(
                table_of(each.node),
                each.sql,
                tuple(map(table_of, each.reads)),
                marts[each.node].table if each.node in marts else None,
            )
            for each in said
        }
        found |= lineages(models, promised)
    return found


def _names(mesh: Mesh, table: TableRef) -> tuple[str, ...]:
    return tuple(column.name for column in mesh.mart(table).contract.columns)


def _law(settings: Settings, mesh: Mesh) -> govern.Law:
    """What stands in `contracts/governance`; of a file with a fault nothing, as in a check."""
    batches, _ = read_batches(settings.root, mesh)
    approvers, faults = look(settings.root, settings.domains)
    policies, _ = read_policies(settings.root, settings.domains)
    if faults:
        raise DeclarationError(faults)
    return govern.Law(
        rights={
            a.username: frozenset((kind, domain) for kind in a.kinds for domain in a.domains)
            for a in approvers.approvers
        },
        names={a.username: frozenset(a.known_as) for a in approvers.approvers},
        limits={"the widest window": approvers.widest, "the longest life": approvers.longest},
        approvers_path=APPROVERS,
        policies=policies,
        policies_path=POLICIES,
        batches=batches,
    )


def _code_owners(repository: Repository, commit: str) -> tuple[codeowners.Rule, ...]:
    """By the branch that is asked for: a change does not say itself who must approve it."""
    found = (repository.text(commit, place) for place in codeowners.PLACES)
    return codeowners.rules(next((text for text in found if text is not None), ""))
