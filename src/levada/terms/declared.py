"""What is declared: sources, marts, products, the mesh."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from levada.terms.consistency import ConsistencyRule
from levada.terms.edges import Dependency
from levada.terms.promises import Contract, Owner
from levada.terms.slices import Grain, Span, TableRef

__all__ = [
    "FileProbe",
    "Layer",
    "Mart",
    "Mesh",
    "Probe",
    "Product",
    "QueryProbe",
    "Shards",
    "Source",
    "TableProbe",
]


_NOBODY = Owner("unknown")


class Layer(enum.Enum):
    """Where a mart stands on the way of the data; the folder of its model says it."""

    INGEST = "ingest"
    BASE = "base"
    AGGREGATE = "aggregate"
    SERVE = "serve"


@dataclass(frozen=True, slots=True)
class FileProbe:
    """
    A file or an object for each partition; with a marker it counts only when its marker is there
    too.
    """

    marker: str = ""
    zone: str = "."
    """
    The landing zone, a folder of the project or a place in an object store, as `s3://bucket/prefix`:
    what leads out of it is not read.
    """
    kind: Literal["files"] = "files"

    @property
    def stored(self) -> bool:
        """Whether the zone lies in an object store."""
        return "://" in self.zone


@dataclass(frozen=True, slots=True)
class QueryProbe:
    """A query that answers with a fingerprint for each partition. It is waited for, never read."""

    connection: str
    sql: str
    kind: Literal["query"] = "query"


@dataclass(frozen=True, slots=True)
class TableProbe:
    """A PostgreSQL table, cut into partitions by the column `time` (none: WHOLE)."""

    connection: str
    table: str
    time: str = ""
    version: str = ""
    """A column that changes whenever a row does; without one all declared columns are compared."""
    complete_when: str = ""
    """A boolean of SQL: whether a partition has landed; otherwise one row of it is enough."""
    kind: Literal["postgres"] = "postgres"


Probe = FileProbe | QueryProbe | TableProbe


@dataclass(frozen=True, slots=True)
class Source:
    """A table outside the mesh, and how it is probed: a file that lands, by default."""

    table: TableRef
    grain: Grain
    zone: str
    location: str
    """
    Path of a partition's file inside the project, or the address of its object, with
    `{start:%Y...}` of its UTC start; else the connection, and what is asked there.
    """
    columns: tuple[str, ...]
    node: str
    owner: Owner = _NOBODY
    probe: Probe = FileProbe()

    @property
    def readable(self) -> bool:
        """Whether models read it; a source that is none is only waited for."""
        return not isinstance(self.probe, QueryProbe)


@dataclass(frozen=True, slots=True)
class Mart:
    """One published table with its model, contract and dependencies."""

    table: TableRef
    layer: Layer
    node: str
    contract: Contract
    dependencies: tuple[Dependency, ...]
    model_path: str
    code: str
    """Checksum of the model, its private models and the macros they reach; and of its gates."""
    gates: tuple[ConsistencyRule, ...] = ()
    """The blocking rules between tables that it must pass before it is published."""


@dataclass(frozen=True, slots=True)
class Shards:
    """
    How a build of many intervals is cut: the rows of a shard are those whose key, as a text, has
    its hash modulo `count`. Inputs with a column of that name are cut, others are read whole.
    """

    key: str
    count: int

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"{self.count} shards cut nothing: write 2 or more")


@dataclass(frozen=True, slots=True)
class Product:
    """The marts that one domain builds together for one partition: the unit of work."""

    domain: str
    name: str
    marts: tuple[Mart, ...]
    grain: Grain
    zone: str
    batch: bool = False
    nodes: tuple[str, ...] = ()
    """dbt ids of everything built in one run: marts and their private models."""
    shards: Shards | None = None
    """Into which parts builds of several intervals are cut, if they are."""
    id: str = field(init=False, repr=False, compare=False)
    """`domain.product`: also the id of its DAG."""
    dependencies: tuple[Dependency, ...] = field(init=False, repr=False, compare=False)
    """The edges into the product from outside it, judged as one set."""

    def __post_init__(self) -> None:
        own = {mart.table for mart in self.marts}
        edges = tuple(d for m in self.marts for d in m.dependencies if d.upstream not in own)
        object.__setattr__(self, "id", f"{self.domain}.{self.name}")
        object.__setattr__(self, "dependencies", edges)

    def __str__(self) -> str:
        return self.id

    @property
    def layer(self) -> Layer:
        """The furthest layer of its marts."""
        return max((m.layer for m in self.marts), key=list(Layer).index)

    @property
    def owner(self) -> Owner:
        """Who answers for the product."""
        return self.marts[0].contract.owner

    @property
    def code(self) -> str:
        """The code part of a run's fingerprint."""
        return "+".join(sorted(m.code for m in self.marts))

    @property
    def contracts(self) -> tuple[Contract, ...]:
        """The contracts that its audit obeys."""
        return tuple(m.contract for m in self.marts)


@dataclass(frozen=True, slots=True)
class Mesh:
    """Everything that is declared: products, landed sources, and the span they live in."""

    name: str
    span: Span
    zone: str
    live_from: datetime
    products: tuple[Product, ...]
    sources: tuple[Source, ...] = ()
    quiet: timedelta = timedelta(0)
    """How long after its publication a partition rests before changed inputs rebuild it."""
    lost: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Products that cannot be judged, with the reason: an input that nothing declares any more."""
    _by_table: Mapping[TableRef, Product] = field(init=False, repr=False, compare=False)
    _sources: Mapping[TableRef, Source] = field(init=False, repr=False, compare=False)
    _by_id: Mapping[str, Product] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_table", {m.table: p for p in self.products for m in p.marts})
        object.__setattr__(self, "_sources", {s.table: s for s in self.sources})
        object.__setattr__(self, "_by_id", {p.id: p for p in self.products})

    def product(self, what: str | TableRef) -> Product:
        """The product of this id, or the one that publishes this table. Raises KeyError."""
        return self._by_table[what] if isinstance(what, TableRef) else self._by_id[what]

    def mart(self, table: TableRef) -> Mart:
        """The mart of a published table. Raises KeyError."""
        return next(m for m in self._by_table[table].marts if m.table == table)

    def find(self, table: TableRef) -> Mart | None:
        """The mart of a published table, or None."""
        return self.mart(table) if table in self._by_table else None

    def source(self, table: TableRef) -> Source:
        """The landed source of this name. Raises KeyError."""
        return self._sources[table]

    def slicing(self, table: TableRef) -> tuple[Grain, str]:
        """Grain and zone of a published table or of a source. Raises KeyError."""
        if table.is_source:
            source = self._sources[table]
            return source.grain, source.zone
        product = self._by_table[table]
        return product.grain, product.zone

    def owner(self, table: TableRef) -> Owner:
        """Who answers for a published table or a source."""
        return self._sources[table].owner if table.is_source else self.mart(table).contract.owner

    def tables(self) -> Iterator[TableRef]:
        """Every published table."""
        return (m.table for p in self.products for m in p.marts)
