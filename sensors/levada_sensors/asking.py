"""Which part of the ledger a judgement looks at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from levada.intervals import end, mapped
from levada.sense import above, products_to_read, tables_to_read
from levada.terms import Grain, Latest, Mesh, Partition, Product, Span, TableRef

__all__ = ["Ask", "ask_of", "ask_to_claim", "widened"]


@dataclass(frozen=True, slots=True)
class Ask:
    """What a judgement reads: these tables and products, in the slices that start in this span."""

    tables: frozenset[TableRef]
    products: frozenset[str]
    span: Span | None
    """None: in every slice."""


def ask_of(mesh: Mesh, wanted: Iterable[tuple[Product | TableRef, Partition]]) -> Ask:
    """
    What the judgement of these partitions reads: of products, their inputs and the inputs of those;
    of landed tables, themselves.
    """
    tables: set[TableRef] = set()
    ids: set[str] = set()
    slices: set[Partition] | None = set()
    for what, partition in wanted:
        if isinstance(what, TableRef):
            tables.add(what)
            near: set[Partition] | None = {partition}
        else:
            ids.add(what.id)
            near = _reach(mesh, what, partition, hops=2)
        slices = None if slices is None or near is None else slices | near
    return Ask(
        frozenset(tables | tables_to_read(mesh, ids)),
        frozenset(products_to_read(mesh, ids)),
        None if slices is None else _hull(slices, mesh.span),
    )


def widened(mesh: Mesh, ask: Ask) -> Ask:
    """
    The same with all that its tables are made from, in every slice: who finds that something can
    never be has to look that far, since what is published above need not be built again.
    """
    return Ask(*above(mesh, ask.tables), None)


def _reach(mesh: Mesh, product: Product, partition: Partition, hops: int) -> set[Partition] | None:
    """The slices that a judgement looks at; None where any of a table's may be the one."""
    found = {partition}
    for edge in product.dependencies if hops else ():
        grain, zone = mesh.slicing(edge.upstream)
        if isinstance(edge.mapping, Latest) or edge.wait.max_lag is not None:
            if grain is not Grain.WHOLE:
                return None
            continue
        for each in mapped(edge.mapping, partition, grain, zone, mesh.span).partitions:
            if edge.upstream.is_source:
                found.add(each)
                continue
            near = _reach(mesh, mesh.product(edge.upstream), each, hops - 1)
            if near is None:
                return None
            found |= near
    return found


def _hull(slices: Iterable[Partition], span: Span) -> Span:
    """From the first slice's start past the last one's: WHOLE ones are always read."""
    sliced = [p for p in slices if p.start is not None]
    if not sliced:
        return Span(span.start, span.start + timedelta(seconds=1))
    return Span(min(p.begin for p in sliced), max(end(p) for p in sliced))


def ask_to_claim(mesh: Mesh, product: Product, partition: Partition) -> Ask:
    """
    The same for who claims, and pins what it will read: a published table at its newest data
    version, which the line of any slice may name. Landed tables are pinned slice by slice.
    """
    ask = ask_of(mesh, [(product, partition)])
    if all(edge.upstream.is_source for edge in product.dependencies):
        return ask
    return Ask(ask.tables, ask.products, None)
