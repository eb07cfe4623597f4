"""Taking a backfill back: what was there before is published again, as a new line."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from levada import publish as publishing
from levada import sense as sensing
from levada.errors import LevadaError, NotPublishable, VersionGone
from levada.flow import expiry
from levada.flow.stages import Platform, new_run_id
from levada.ports import Want
from levada.readiness import Judge
from levada.terms import Backfill, Outcome, Partition, Product, Publication, State, TableRef

__all__ = ["Undoing", "restore", "stale"]


class Undoing(Protocol):
    """What the ledger keeps of backfills (role: runner)."""

    def settle_backfill(self, name: str, outcomes: Sequence[Outcome]) -> None:
        """Record what has become of steps."""

    def backfill_steps(
        self, name: str, product: str | None = None, *states: str
    ) -> tuple[Outcome, ...]:
        """What has become of its steps."""

    def versions(self, tables: Collection[TableRef], first: int, before: int) -> tuple[str, ...]:
        """Data versions of tables, by their lines from one position to another; newest first."""


@dataclass(frozen=True, slots=True)
class _Older:
    """One slice, and the lines of its product before the backfill."""

    partition: Partition
    lines: tuple[Publication, ...]
    until: int
    """Position of the first of the lines that followed them."""
    made: int
    """Data version of those: only what is older shows what was before."""


def restore(platform: Platform, record: Undoing, name: str, found: Backfill) -> None:
    """
    Publish again what each slice was before, by the protocol of every publication. What retention
    no longer keeps, what was published again since, and what was nothing before is kept, and named.
    Killed anywhere, the next call goes on.
    """
    for group in found.groups:
        product = platform.mesh.product(group.product)
        by_version: dict[str, list[_Older]] = {}
        for step in record.backfill_steps(name, product.id, "restoring"):
            older = _before(platform, product, step)
            if isinstance(older, Outcome):
                record.settle_backfill(name, [older])
            else:
                version = _shown_by(platform, record, older)
                by_version.setdefault(version, []).append(older)
        for version, slices in by_version.items():
            record.settle_backfill(name, _restored(platform, product, version, slices))


def _before(platform: Platform, product: Product, step: Outcome) -> _Older | Outcome:
    """What a slice was before its step made it, or why that is not put back."""

    def kept(because: str) -> Outcome:
        return Outcome(product.id, step.partition, "kept", because, step.run)

    older: list[Publication] = []
    followed: list[Publication] = []
    for mart in product.marts:
        history = platform.runner.history(mart.table, step.partition)
        lines = [line for line in history if isinstance(line, Publication)]
        made = next((n for n, line in enumerate(lines) if line.run == step.run), None)
        if not made:
            return kept(f"there was nothing of {mart.table} before")
        before, after = lines[made - 1], lines[made + 1 :]
        if after and (len(after) > 1 or after[0].made_by != before.made_by):
            return kept(f"{mart.table} was published again since, by {after[-1].run}")
        if after:  # a rollback that was killed before it could say so
            return Outcome(product.id, step.partition, "restored", "", after[0].run)
        older.append(before)
        followed.append(lines[made])
    until = min(line.position for line in followed)
    version = min(int(line.data_version) for line in followed)
    return _Older(step.partition, tuple(older), until, version)


def _shown_by(platform: Platform, record: Undoing, older: _Older) -> str:
    """
    A data version that still shows these lines: their own or, where that has expired, the newest
    that is kept of those from them to what followed. None is kept: their own, which is said.

    The order of the lines alone does not tell what a version shows: a run that died after its swap
    gets its line when it is recovered, behind those of later versions.
    """
    own = str(max(int(line.data_version) for line in older.lines))
    domain = older.lines[0].table.domain

    def gone(versions: Sequence[str]) -> Collection[str]:
        return platform.warehouse.missing(domain, versions)

    if not gone([own]):
        return own
    tables = [line.table for line in older.lines]
    first = max(line.position for line in older.lines)
    found = record.versions(tables, first, older.until)
    later = [version for version in found if int(own) < int(version) < older.made]
    lost = gone(later)
    return next((version for version in later if version not in lost), own)


def _restored(
    platform: Platform, product: Product, version: str, slices: Sequence[_Older]
) -> list[Outcome]:
    """Put slices of one data version back in one transaction, or say why not."""
    run = new_run_id()
    wants = [
        Want(product.id, each.partition, each.lines[0].made_by, each.lines[0].inputs)
        for each in slices
    ]
    tables = sensing.tables_to_read(platform.mesh, [product])
    products = sensing.products_to_read(platform.mesh, [product])
    with platform.runner.sensing(tables, products) as transaction:
        claims = transaction.claim(wants, run=run, lifetime=platform.settings.lease)
    granted = {claim.partition for claim in claims}
    mine = [each for each in slices if each.partition in granted]
    if not mine:
        return []
    now = platform.clock()
    lines = [
        replace(line, generation=0, data_version="", run=run, position=0, at=now)
        for each in mine
        for line in each.lines
    ]
    try:
        publishing.restore(
            *(platform.publisher, platform.warehouse, run, lines, version, platform.recorded)
        )
    except LevadaError as error:
        platform.runner.release(run, [each.partition for each in mine], str(error))
        if not isinstance(error, VersionGone | NotPublishable):
            raise
        because = str(error)
        if isinstance(error, VersionGone):
            gone = expiry.given_up(platform, product.domain, [version])
            because = f"the data of before has expired: {gone.because if gone else error}"
        return [Outcome(product.id, each.partition, "kept", because) for each in mine]
    return [Outcome(product.id, each.partition, "restored", "", run) for each in mine]


def stale(platform: Platform, record: Undoing, name: str) -> Mapping[tuple[str, Partition], str]:
    """What was put back, or kept, and yet will be made again: its inputs are not the same now."""
    found: dict[tuple[str, Partition], str] = {}
    steps = record.backfill_steps(name, None, "restored", "kept")
    products = {step.product for step in steps}
    mesh = platform.mesh
    facts = platform.runner.facts(*sensing.all_to_read(mesh, products))
    judge = Judge(mesh, facts, platform.clock())
    for step in steps:
        table = mesh.product(step.product).marts[0].table
        state = judge.table(table, step.partition)
        if state.state is State.STALE:
            found[step.product, step.partition] = state.because
    return found
