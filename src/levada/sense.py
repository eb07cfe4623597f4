"""Sense: may a product's partition be built now, from which inputs, under which fingerprint."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from levada.ports import Want
from levada.readiness import Judge, ancestors, bare, fingerprint, forced
from levada.terms import Facts, Mesh, Partition, Product, Readiness, State, TableRef

__all__ = [
    "Again",
    "above",
    "all_to_read",
    "asked",
    "fingerprint",
    "near_to_read",
    "products_to_read",
    "tables_to_read",
    "want",
    "wants",
]


@dataclass(frozen=True, slots=True)
class Again:
    """
    A build that somebody asks for: what an ignoring edge reads is a reason, too.

    :param forced_by: who wants it though its like is published; empty: what is there is left
    :param since: the position in the ledger at which it was asked for: the same build, made later
        for whomever, is that one
    """

    forced_by: str = ""
    since: int | None = None


def tables_to_read(mesh: Mesh, products: Iterable[Product | str]) -> set[TableRef]:
    """
    The tables whose lines the judgement of these products needs: their own, their inputs, and the
    inputs of their inputs. A judge that says `far` needs more: see `above`.
    """
    found: set[TableRef] = set()
    for product in _resolved(mesh, products):
        found |= _reach(product)
        for dependency in product.dependencies:
            if not dependency.upstream.is_source:
                found |= _reach(mesh.product(dependency.upstream))
    return found


def products_to_read(mesh: Mesh, products: Iterable[Product | str]) -> set[str]:
    """The products whose attempts and claims that judgement needs: these and those they read."""
    found: set[str] = set()
    for product in _resolved(mesh, products):
        above = {d.upstream for d in product.dependencies if not d.upstream.is_source}
        found |= {product.id, *(mesh.product(table).id for table in above)}
    return found


def above(mesh: Mesh, tables: Iterable[TableRef]) -> tuple[frozenset[TableRef], frozenset[str]]:
    """
    Tables and all that they are made from, and the products that make these. Whether a slice can
    never be built hangs on lines however far above: one that stands there need not be built again.
    """
    found = frozenset[TableRef]().union(*(ancestors(mesh, table) for table in tables))
    return found, frozenset(mesh.product(table).id for table in found if not table.is_source)


def near_to_read(
    mesh: Mesh, products: Collection[Product | str]
) -> tuple[frozenset[TableRef], frozenset[str]]:
    """`tables_to_read` and `products_to_read`."""
    tables, makers = tables_to_read(mesh, products), products_to_read(mesh, products)
    return frozenset(tables), frozenset(makers)


def all_to_read(
    mesh: Mesh, products: Iterable[Product | str]
) -> tuple[frozenset[TableRef], frozenset[str]]:
    """The tables and products of whatever the judgement of these products may rest on."""
    return above(mesh, {m.table for p in _resolved(mesh, products) for m in p.marts})


def _resolved(mesh: Mesh, products: Iterable[Product | str]) -> Iterator[Product]:
    """Products, of which some may be named by id."""
    return (mesh.product(p) if isinstance(p, str) else p for p in products)


def _reach(product: Product) -> set[TableRef]:
    """A product's own tables and its inputs."""
    return {m.table for m in product.marts} | {d.upstream for d in product.dependencies}


def want(
    mesh: Mesh, product: Product, partition: Partition, facts: Facts, now: datetime
) -> Want | Readiness:
    """
    The claim to ask for, or why not: its inputs are not ready, or there is nothing to do (READY,
    "already current"). What an ignoring edge reads may have moved on; changed code is built.
    """
    return _want(Judge(mesh, facts, now), product, partition, None)


def wants(
    mesh: Mesh,
    product: Product,
    partitions: Iterable[Partition],
    facts: Facts,
    now: datetime,
    again: Again | None = None,
) -> Mapping[Partition, Want | Readiness]:
    """`want` of many partitions of one product, judged together."""
    return asked(Judge(mesh, facts, now), product, partitions, again)


def asked(
    judge: Judge, product: Product, partitions: Iterable[Partition], again: Again | None = None
) -> Mapping[Partition, Want | Readiness]:
    """`wants` of a judge, who can say afterwards whether his facts reached far enough."""
    return {partition: _want(judge, product, partition, again) for partition in partitions}


def _want(
    judge: Judge, product: Product, partition: Partition, again: Again | None
) -> Want | Readiness:
    if resting := judge.resting(product, partition):
        return resting
    if again is None and judge.settled(product, partition):
        return Readiness(State.READY, "already current")
    readiness = judge.inputs(product, partition)
    if readiness.state is not State.READY:
        return readiness
    pinned = judge.pins(product, partition)
    mark = forced(fingerprint(product, partition, pinned), again.forced_by if again else "")
    if judge.published_as(product, partition, mark) or _made_since(
        judge, product, partition, mark, again
    ):
        return Readiness(State.READY, "already current")
    return Want(product.id, partition, mark, pinned, judge.marks(product, partition))


def _made_since(
    judge: Judge, product: Product, partition: Partition, mark: str, again: Again | None
) -> bool:
    """Whether somebody else has made the very build that is forced, after it was asked for."""
    if again is None or again.since is None:
        return False
    return all(
        line is not None and line.position > again.since and bare(line.made_by) == bare(mark)
        for line in judge.lines(product, partition)
    )
