"""Plan a backfill with all that a person needs to decide about it; write the plan, and read it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from levada import plan as planning
from levada.adapters.policies import read_policies
from levada.declare import selected
from levada.errors import DeclarationError, Fault
from levada.flow.batching import why_alone
from levada.govern.backfills import Need, needs
from levada.intervals import following
from levada.ledger import PostgresLedger
from levada.settings import Settings, nearest
from levada.terms import Backfill, Group, Mesh, Past, Span

__all__ = ["Planned", "approvals_of", "builds_of", "document", "named", "planned", "read", "write"]


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and what is to be known before it runs."""

    backfill: Backfill
    past: Mapping[str, Past]
    """What its products took before; those that were never built are missing."""
    needs: tuple[Need, ...]
    runs: Mapping[str, int] = field(default_factory=dict)
    """How many builds each product takes, where all of its slices are ready and none fails."""
    alone: Mapping[str, str] = field(default_factory=dict)
    """The products that declare batches or shards, and yet are built one by one; and why."""

    @property
    def seconds(self) -> float:
        """How long it is expected to take, as far as there is a past."""
        groups = self.backfill.groups
        return sum(
            g.cells * self.past[g.product].seconds_each for g in groups if g.product in self.past
        )

    @property
    def rows(self) -> float:
        """How many rows it is expected to publish, as far as there is a past."""
        groups = self.backfill.groups
        return sum(
            g.cells * self.past[g.product].rows_each for g in groups if g.product in self.past
        )

    @property
    def unknown(self) -> tuple[str, ...]:
        """The products whose time nobody can tell."""
        return tuple(g.product for g in self.backfill.groups if g.product not in self.past)


def planned(
    settings: Settings,
    mesh: Mesh,
    ledger: PostgresLedger,
    names: Sequence[str],
    span: Span,
    at: datetime,
    *,
    reason: str = "",
    exclude: Sequence[str] = (),
    only_domains: Sequence[str] = (),
    by: str = "",
) -> Planned:
    """What follows from making these tables again. Raises DeclarationError with all its faults."""
    wanted, wrong = named(mesh, names, "TABLES", sources=True)
    excluded, wrong_too = named(mesh, exclude, "--exclude")
    if wrong or wrong_too:
        raise DeclarationError((*wrong, *wrong_too))
    try:
        asked = planning.asked_for(
            *(mesh, wanted, span),
            reason=reason,
            exclude=excluded,
            only_domains=only_domains,
            by=by,
        )
    except ValueError as error:
        raise DeclarationError((Fault("backfill", 0, str(error)),)) from error
    found = planning.backfill(mesh, asked, at)
    past = ledger.past([group.product for group in found.groups])
    tested = ledger.batchings()
    runs, alone = {}, {}
    for group in found.groups:
        product = mesh.product(group.product)
        why = why_alone(product, tested)
        runs[product.id] = builds_of(group, settings.backfill_batch if why is None else 1)
        if why and (product.batch or product.shards):
            alone[product.id] = why
    return Planned(found, past, approvals_of(settings, mesh, found), runs, alone)


def builds_of(group: Group, most: int) -> int:
    """How many builds its slices take, where contiguous ones go together, at most so many."""
    lengths: list[int] = []
    for before, stretch in zip((None, *group.stretches), group.stretches, strict=False):
        if before and following(before.last) == stretch.first:
            lengths[-1] += stretch.count
        else:
            lengths.append(stretch.count)
    return sum(-(-length // most) for length in lengths)


def approvals_of(settings: Settings, mesh: Mesh, found: Backfill) -> tuple[Need, ...]:
    """What somebody must approve, by the policies as they are now. Raises DeclarationError."""
    policies, faults = read_policies(settings.root, settings.domains)
    if faults:
        raise DeclarationError(faults)
    return needs(policies.backfills, found, mesh, policies.default_tier)


def named(
    mesh: Mesh, names: Sequence[str], option: str, *, sources: bool = False
) -> tuple[tuple[str, ...], tuple[Fault, ...]]:
    """The products, and sources, that these names mean; and a fault for every unknown one."""
    known = {str(source.table) for source in mesh.sources} if sources else set()
    found: dict[str, None] = {}
    faults: list[Fault] = []
    for name in names:
        if name in known:
            found[name] = None
            continue
        try:
            found.update((product.id, None) for product in selected(mesh, [name]))
        except ValueError as error:
            right = nearest(name, known) if name.count(".") > 1 and known else ""
            faults.append(Fault(option, 0, str(error), right))
    return tuple(found), tuple(faults)


def document(mesh: Mesh, told: Planned) -> dict[str, Any]:
    """The plan's document, with what it is expected to take; only the plan itself binds."""
    found = planning.encode(mesh, told.backfill)
    owners = {
        str(mart.table): str(mart.contract.owner)
        for group in told.backfill.groups
        for mart in mesh.product(group.product).marts
    }
    return {
        **found,
        "told": {
            "intervals": told.backfill.cells,
            "runs": sum(told.runs.values()),
            "runs_of": dict(told.runs),
            "alone": dict(told.alone),
            "seconds": round(told.seconds, 1),
            "rows": round(told.rows),
            "without_a_past": list(told.unknown),
            "owners": owners,
            "needs": [{"who": need.who, "because": need.because} for need in told.needs],
        },
    }


def write(path: Path, found: Mapping[str, Any]) -> None:
    """Write a plan's document by rename."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(json.dumps(found, indent=1) + "\n")
        beside.replace(path)
    except OSError as error:
        raise DeclarationError((Fault(str(path), 0, f"cannot be written: {error}"),)) from error


def read(path: Path) -> tuple[Mapping[str, Any], Backfill]:
    """The document of a file and its plan. Raises DeclarationError."""
    right = "write one with `levada backfill plan ... --out FILE`"
    try:
        found = json.loads(path.read_text())
        return found, planning.decode(found)
    except OSError as error:
        raise DeclarationError((Fault(str(path), 0, f"cannot be read: {error}", right),)) from error
    except (ValueError, KeyError, TypeError) as error:
        wrong = str(error) if isinstance(error, ValueError) else "it is no plan of a backfill"
        raise DeclarationError((Fault(str(path), 0, wrong, right),)) from error
