"""What follows from making some tables again: the closure of slices through every mapping."""

from __future__ import annotations

import hashlib
import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from operator import itemgetter

from levada.plan.cells import Axis, Runs, axis, both, makeable, reached, runs_of, without
from levada.plan.deciding import order
from levada.terms import (
    Asked,
    Backfill,
    Dependency,
    Grain,
    Group,
    Lag,
    Latest,
    Mesh,
    Partition,
    PartitionMapping,
    Product,
    Shards,
    Span,
    Stretch,
    TableRef,
    Trailing,
    WaitPolicy,
)

__all__ = ["asked_for", "backfill", "cells_of", "declared", "differences", "partitions_of"]

ASKED = "asked for"
NOT_OVER = "is not over"
NEVER = "can never be made: it would read beyond the mesh's span"
_AT_ONCE = WaitPolicy()

Cause = tuple[str, Runs]


def asked_for(
    mesh: Mesh,
    names: Sequence[str],
    span: Span,
    *,
    reason: str = "",
    exclude: Sequence[str] = (),
    only_domains: Sequence[str] = (),
    by: str = "",
) -> Asked:
    """
    What is asked for, with every fault of it as one ValueError.

    :param names: ids of products, or names of sources
    :param exclude: ids of products
    """
    known = {p.id for p in mesh.products} | {str(s.table) for s in mesh.sources}
    domains = {p.domain for p in mesh.products}
    wrong = [f"nothing is called {name}" for name in (*names, *exclude) if name not in known]
    wrong += [f"{name} is asked for and excluded" for name in names if name in exclude]
    wrong += [f"no domain {name}" for name in only_domains if name not in domains]
    if only_domains:
        asked = {p.id: p.domain for p in mesh.products if p.id in names}
        outside = [name for name, domain in asked.items() if domain not in only_domains]
        wrong += [f"{name} is asked for and lies outside the domains" for name in outside]
    if not names:
        wrong.append("no table is asked for")
    if wrong:
        raise ValueError("; ".join(wrong))
    once = (tuple(dict.fromkeys(each)) for each in (names, exclude, only_domains))
    named, excluded, domains_only = once
    return Asked(named, span, reason, excluded, domains_only, by)


def backfill(mesh: Mesh, asked: Asked, at: datetime) -> Backfill:
    """
    The slices that are asked for and those that read them, hop by hop, in the order in which they
    are made. Pure: what the ledger says, the run asks.

    An edge that holds or ignores changes is where it ends; so is what is excluded, what is not over
    and what can never be made. All these are named.
    """
    closure = _Closure(mesh, asked, at)
    for product in order(mesh):
        closure.add(product)
    groups, left = tuple(closure.groups), tuple(closure.left)
    concerned = dict.fromkeys(group.product for group in (*groups, *left))
    said = {product_id: declared(mesh.product(product_id)) for product_id in concerned}
    return Backfill(mesh.name, asked, at, groups, left, said)


def partitions_of(mesh: Mesh, group: Group) -> Iterator[tuple[Partition, Stretch]]:
    """The slices of a group in order, each with the stretch that says why."""
    product = mesh.product(group.product)
    slices = axis(product.grain, product.zone, mesh.span).partitions
    number = {stretch.first: stretch for stretch in group.stretches}
    current: Stretch | None = None
    left = 0
    for partition in slices:
        if partition in number:
            current = number[partition]
            left = current.count
        if current is not None and left:
            left -= 1
            yield partition, current


def cells_of(mesh: Mesh, groups: Iterable[Group]) -> frozenset[tuple[str, Partition]]:
    """Every slice of these groups."""
    return frozenset((g.product, p) for g in groups for p, _ in partitions_of(mesh, g))


def differences(mesh: Mesh, planned: Backfill) -> tuple[str, ...]:
    """
    What of a plan's mesh is other now: declarations of what it is about, or what would follow.
    Empty: the plan holds. What else has changed in the mesh is no concern of it.
    """
    ids = {product.id for product in mesh.products}
    said: list[str] = []
    for product_id, before in planned.declared.items():
        if product_id not in ids:
            said.append(f"{product_id} is no longer there")
            continue
        now = declared(mesh.product(product_id))
        said += [f"{part} of {product_id} changed" for part in before if before[part] != now[part]]
    try:
        again = backfill(mesh, planned.asked, planned.at)
    except (KeyError, ValueError) as error:
        return (*said, str(error))
    old, new = ({g.product: g.stretches for g in b.groups} for b in (planned, again))
    said += [f"{name} would be made again too" for name in new if name not in old]
    said += [f"{name} would not be made again" for name in old if name in ids and name not in new]
    said += [
        f"other slices of {name} would be made again"
        for name in new
        if name in old and _ends(new[name]) != _ends(old[name])
    ]
    return tuple(said)


def _ends(stretches: Sequence[Stretch]) -> list[tuple[Partition, Partition]]:
    return [(stretch.first, stretch.last) for stretch in stretches]


def declared(product: Product) -> Mapping[str, str]:
    """Digests of what a product is made by, part by part."""
    edges = sorted(_words(edge) for edge in product.dependencies)
    return {
        "code": _digest(product.code),
        "contracts": _digest(*sorted(c.label for c in product.contracts)),
        "inputs": _digest(*edges),
        "slices": _slicing(product.grain, product.zone, product.batch, product.shards),
    }


@lru_cache(maxsize=256)
def _slicing(grain: Grain, zone: str, batch: bool, shards: Shards | None) -> str:
    cut = () if shards is None else (shards.key, str(shards.count))
    return _digest(grain.value, zone, str(batch), *cut)


def _words(edge: Dependency) -> str:
    wait = "" if edge.wait == _AT_ONCE else repr(edge.wait)
    mapping, does = edge.mapping, edge.on_restatement
    more = f"{mapping.kind} {_number(mapping)} {wait} {edge.required} {edge.any_of}"
    return f"{edge.upstream} {edge.downstream} {more} {does.action} {does.reason}"


def _number(mapping: PartitionMapping) -> str:
    match mapping:
        case Lag(n) | Trailing(n):
            return str(n)
        case Latest(within):
            return str(within or "")
        case _:
            return ""


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


@dataclass(slots=True)
class _Closure:
    """One pass over the products, every one after those that it reads."""

    mesh: Mesh
    asked: Asked
    at: datetime
    groups: list[Group] = field(default_factory=list)
    left: list[Group] = field(default_factory=list)
    changed: dict[TableRef, tuple[Runs, int]] = field(default_factory=dict)
    """What is made again of each table, and in which wave."""
    there: dict[TableRef, Runs] = field(default_factory=dict)
    """What can be made at all, where that is not everything."""

    axes: dict[tuple[Grain, str], Axis] = field(default_factory=dict)
    over: dict[Axis, Runs] = field(default_factory=dict)
    """The slices that have ended."""

    def __post_init__(self) -> None:
        for source in self.mesh.sources:
            if str(source.table) in self.asked.names:
                slices = self._axis(source.table)
                self.changed[source.table] = (slices.inside(self.asked.span), -1)

    def add(self, product: Product) -> None:
        """What the product has to make again, judged after all that it reads."""
        own = self._calendar(product.grain, product.zone)
        edges = product.dependencies
        there = self._there(edges, own)
        if there != own.all:
            self.there.update((mart.table, there) for mart in product.marts)
        causes, ends, wave = self._causes(product, edges, own)
        if not causes and not ends:
            return
        wanted = _union(causes)
        ends = [(why, without(runs, wanted)) for why, runs in ends]
        if why := self._kept_out(product):
            self._leave(product, own, [(why, wanted), *ends], wave)
            return
        over = self.over[own]
        doable = both(wanted, there) if there != own.all else wanted
        doable = both(doable, over) if over != own.all else doable
        if doable:
            stretches = _stretches(own, doable, causes)
            self.groups.append(Group(product.id, wave, stretches))
            self.changed.update((mart.table, (doable, wave)) for mart in product.marts)
        if doable != wanted:
            never = without(wanted, there)
            ends += [(NEVER, never), (NOT_OVER, without(without(wanted, over), never))]
        self._leave(product, own, ends, wave)

    def _causes(
        self, product: Product, edges: Sequence[Dependency], own: Axis
    ) -> tuple[list[Cause], list[Cause], int]:
        """Why slices of it are made again, where that ends at an edge, and in which wave."""
        causes: list[Cause] = []
        ends: list[Cause] = []
        wave = 0
        if product.id in self.asked.names:
            causes.append((ASKED, own.inside(self.asked.span)))
        for edge in edges:
            found = self.changed.get(edge.upstream)
            if found is None:
                continue
            runs = reached(edge.mapping, found[0], self._axis(edge.upstream), own)
            does = edge.on_restatement
            if does.action == "rerun":
                causes.append((_because(edge), runs))
                wave = max(wave, found[1] + 1)
            elif does.action == "hold":
                ends.append((f"holds changes of {edge.upstream}", runs))
            else:
                ends.append((f"ignores changes of {edge.upstream}: {does.reason}", runs))
        return [c for c in causes if c[1]], [e for e in ends if e[1]], wave

    def _there(self, edges: Sequence[Dependency], own: Axis) -> Runs:
        """The slices that can be made, as far as edges say that need every slice they map."""
        there = own.all
        for edge in edges:
            if edge.mapping.kind == "identity" and edge.upstream not in self.there:
                continue
            if edge.required and not edge.any_of and not edge.wait.tolerant:
                above = self._axis(edge.upstream)
                can = self.there.get(edge.upstream, above.all)
                there = both(there, makeable(edge.mapping, can, above, own))
        return there

    def _axis(self, table: TableRef) -> Axis:
        return self._calendar(*self.mesh.slicing(table))

    def _calendar(self, grain: Grain, zone: str) -> Axis:
        found = self.axes.get((grain, zone))
        if found is None:
            found = self.axes[grain, zone] = axis(grain, zone, self.mesh.span)
            self.over[found] = runs_of([(0, found.over(self.at))])
        return found

    def _kept_out(self, product: Product) -> str:
        if product.id in self.asked.exclude:
            return "is excluded"
        only = self.asked.only_domains
        if only and product.domain not in only:
            return f"is not of {', '.join(only)}"
        return ""

    def _leave(self, product: Product, own: Axis, causes: Sequence[Cause], wave: int) -> None:
        causes = [cause for cause in causes if cause[1]]
        if causes:
            self.left.append(Group(product.id, wave, _stretches(own, _union(causes), causes)))


def _union(causes: Sequence[Cause]) -> Runs:
    if len({runs for _, runs in causes}) == 1:
        return causes[0][1]
    return runs_of(run for _, runs in causes for run in runs)


def _because(edge: Dependency) -> str:
    kind = edge.mapping.kind
    how = "" if kind == "identity" else f" ({f'{kind} {_number(edge.mapping)}'.strip()})"
    return f"reads {edge.upstream}{how}"


def _stretches(own: Axis, runs: Runs, causes: Sequence[Cause]) -> tuple[Stretch, ...]:
    """Runs of numbers as slices, cut where their reasons change."""
    if all(cause == runs for _, cause in causes):
        because = tuple(dict.fromkeys(why for why, _ in causes))
        return tuple(_stretch(own, low, high, because) for low, high in runs)
    cuts = sorted({end for _, cause in causes for run in cause for end in run})
    found: list[Stretch] = []
    for low, high in runs:
        ends = [low, *(cut for cut in cuts if low < cut < high), high]
        for first, last in itertools.pairwise(ends):
            because = tuple(dict.fromkeys(why for why, cause in causes if _holds(cause, first)))
            before = found[-1] if found else None
            if before and before.because == because and first > low:
                found[-1] = Stretch(
                    before.first, own.partitions[last - 1], before.count + last - first, because
                )
            else:
                found.append(_stretch(own, first, last, because))
    return tuple(found)


def _holds(runs: Runs, number: int) -> bool:
    at = bisect_right(runs, number, key=_low) - 1
    return at >= 0 and number < runs[at][1]


_low = itemgetter(0)


def _stretch(own: Axis, low: int, high: int, because: tuple[str, ...]) -> Stretch:
    return Stretch(own.partitions[low], own.partitions[high - 1], high - low, because)
