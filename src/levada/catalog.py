"""
The catalogue stage: what the ledger's publications tell a catalogue, and how far it was told.

It runs after the runs and beside them. It reads the ledger by a cursor that the catalogue keeps, so
that a stopped one catches up, and none of it is ever waited for. A fact may be told twice, and then
says the same; none is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from levada.terms import (
    Column,
    Contract,
    Mart,
    Mesh,
    Owner,
    Partition,
    Product,
    Publication,
    Source,
    TableRef,
    Verdict,
)

__all__ = [
    "Catalog",
    "Fact",
    "Mark",
    "ProductFact",
    "PublicationFact",
    "Published",
    "TableFact",
    "catalogue",
    "facts_of",
]

Recorded = Callable[[str], Contract]
"""The contract that the ledger recorded under a label."""

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class TableFact:
    """What a table is, as its newest line shows it; told again, it replaces what was told."""

    mesh: str
    table: TableRef
    owner: Owner
    description: str
    columns: tuple[Column, ...]
    upstreams: tuple[TableRef, ...]
    properties: tuple[tuple[str, str], ...]
    at: datetime
    status: str = "active"
    """Of the contract: draft, active, deprecated or retired."""
    hash: str = ""
    """Of the contract; a landed source has none."""


@dataclass(frozen=True, slots=True)
class ProductFact:
    """The tables that one domain publishes together, and who answers for them."""

    mesh: str
    domain: str
    name: str
    tables: tuple[TableRef, ...]
    owner: Owner


@dataclass(frozen=True, slots=True)
class PublicationFact:
    """One publication: it happened once, and its audit had passed."""

    mesh: str
    table: TableRef
    partition: Partition
    generation: int
    verdict: Verdict
    rows: int | None
    at: datetime
    run: str
    properties: tuple[tuple[str, str], ...]


Fact = TableFact | ProductFact | PublicationFact


@dataclass(frozen=True, slots=True)
class Mark:
    """
    The last line that a catalogue was told: where it stands, and which line that was.

    A position alone would pass over the beginning of another ledger that stands there now.
    """

    position: int
    line: str

    @classmethod
    def of(cls, line: Publication) -> Mark:
        """The mark of a line."""
        name = f"{line.table} {line.partition.key} {line.generation} {line.run}"
        return cls(line.position, name)


class Published(Protocol):
    """The ledger, as far as the catalogue reads it."""

    def published(self, after: int, limit: int) -> tuple[Publication, ...]:
        """The next publications after a position, oldest first."""


class Catalog(Protocol):
    """A catalogue, or a file of facts that one reads later."""

    def mark(self) -> Mark | None:
        """The last line it was told, or None when it must be told everything."""

    def take(self, facts: Sequence[Fact], mark: Mark) -> None:
        """
        Hold the facts durably, then the mark: killed between the two, it is told them again.

        Raises Unavailable, with the mark unmoved.
        """


def catalogue(
    ledger: Published, catalog: Catalog, mesh: Mesh, recorded: Recorded, limit: int = _BATCH
) -> tuple[Publication, ...]:
    """Tell the catalogue the next lines that it was not told; empty when it knows them all."""
    lines = _next(ledger, catalog.mark(), limit)
    if lines:
        catalog.take(facts_of(mesh, lines, recorded), Mark.of(lines[-1]))
    return lines


def _next(ledger: Published, mark: Mark | None, limit: int) -> tuple[Publication, ...]:
    if mark is not None:
        lines = ledger.published(mark.position - 1, limit + 1)
        if lines and Mark.of(lines[0]) == mark:
            return lines[1:]
    return ledger.published(0, limit)


def facts_of(mesh: Mesh, lines: Sequence[Publication], recorded: Recorded) -> tuple[Fact, ...]:
    """
    What these lines tell, in the order in which a catalogue can take it: tables before events.

    The newest line says what a table is, by the contract that it was audited against.
    """
    if not lines:
        return ()
    newest = {line.table: line for line in lines}
    marts = {mart.table: mart for product in mesh.products for mart in product.marts}
    tables = [_table(mesh, newest[t], marts.get(t), recorded) for t in sorted(newest)]
    read = {upstream for table in tables for upstream in table.upstreams}
    sources = [s for s in mesh.sources if s.table in read]
    products = [p for p in mesh.products if any(mart.table in newest for mart in p.marts)]
    return (
        *(_source(mesh, source, lines[-1].at) for source in sources),
        *tables,
        *(_product(mesh, product) for product in products),
        *(_publication(mesh, line) for line in lines),
    )


def _table(mesh: Mesh, line: Publication, mart: Mart | None, recorded: Recorded) -> TableFact:
    known = mart is not None and mart.contract.label == line.contract
    contract = mart.contract if mart is not None and known else recorded(line.contract)
    return TableFact(
        mesh=mesh.name,
        table=line.table,
        owner=contract.owner,
        description=contract.description,
        columns=contract.columns,
        upstreams=tuple(sorted(set(_upstreams(mesh, line, mart)))),
        properties=(
            *((("layer", mart.layer.value),) if mart is not None else ()),
            ("product", f"{contract.table.domain}.{contract.product}"),
            ("contact", contract.owner.contact),
            ("grain", contract.grain.value),
            ("zone", contract.zone),
            *_said(line),
        ),
        at=line.at,
        status=contract.status,
        hash=contract.hash,
    )


def _upstreams(mesh: Mesh, line: Publication, mart: Mart | None) -> Iterator[TableRef]:
    """
    What the table was made of. A line records the inputs of its whole product: of these, the
    table's own edges; and its siblings, which no line records, since one run builds them together.
    """
    read = {pin.table for pin in line.inputs}
    if mart is None:
        yield from read
        return
    siblings = {sibling.table for sibling in mesh.product(mart.table).marts}
    for edge in mart.dependencies:
        if edge.gate:
            continue  # compared with, not made of
        if edge.upstream in read or edge.upstream in siblings:
            yield edge.upstream


_OUTSIDE = {
    "files": "Files that land outside the mesh: read by ingest models, never published.",
    "postgres": "A table outside the mesh: copied for ingest models, never published.",
    "query": "A sign from outside the mesh: waited for, never read.",
}


def _source(mesh: Mesh, source: Source, at: datetime) -> TableFact:
    return TableFact(
        mesh=mesh.name,
        table=source.table,
        owner=source.owner,
        description=_OUTSIDE[source.probe.kind],
        columns=tuple(Column(name, "VARCHAR") for name in source.columns),
        upstreams=(),
        properties=(
            ("contact", source.owner.contact),
            ("grain", source.grain.value),
            ("zone", source.zone),
            (source.probe.kind, source.location),
        ),
        at=at,
    )


def _product(mesh: Mesh, product: Product) -> ProductFact:
    tables = tuple(sorted(mart.table for mart in product.marts))
    return ProductFact(mesh.name, product.domain, product.name, tables, product.owner)


def _publication(mesh: Mesh, line: Publication) -> PublicationFact:
    rows, _, _ = line.content.partition(":")
    return PublicationFact(
        mesh=mesh.name,
        table=line.table,
        partition=line.partition,
        generation=line.generation,
        verdict=line.verdict,
        rows=int(rows) if rows.isdecimal() else None,
        at=line.at,
        run=line.run,
        properties=_said(line),
    )


def _said(line: Publication) -> tuple[tuple[str, str], ...]:
    """What the line itself says, in words."""
    return (
        ("contract", line.contract),
        ("partition", line.partition.key),
        ("generation", str(line.generation)),
        ("verdict", line.verdict.value),
        ("data_version", line.data_version),
        ("content", line.content),
        ("fingerprint", line.made_by),
        ("run", line.run),
        ("taint", ", ".join(line.taint)),
        ("waived", ", ".join(map(str, line.waived))),
    )
