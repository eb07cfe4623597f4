"""One join of contracts and dbt projects into products and sources."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from levada import outside
from levada.declare import words
from levada.declare.batching import windows_differ, wrong_of_shards
from levada.declare.facts import ModelFacts, ParsedProject
from levada.errors import Fault
from levada.expectations import expected
from levada.intervals import check_mapping, default_mapping
from levada.meetable import unmeetable
from levada.settings import Settings, nearest
from levada.terms import (
    Check,
    Contract,
    Dependency,
    Grain,
    Layer,
    Mart,
    Product,
    Reliance,
    Shards,
    Source,
    TableRef,
)

__all__ = ["Joining"]

_META_KEYS = ("batch", "inputs", "shards")
_INPUT_KEYS = (
    *("mapping", "wait", "on_restatement", "within", "required", "any_of"),
    "relies_on",
)
_SAID_ELSEWHERE = {
    "pinned": "a reader pins a major version where it reads it: ref('domain', 'table', v=1)"
}


class Joining:
    """One join of contracts and projects; faults are kept with the domain they break."""

    def __init__(
        self, settings: Settings, contracts: Sequence[Contract], projects: Sequence[ParsedProject]
    ) -> None:
        self.settings = settings
        self.contracts = {c.table: c for c in contracts}
        self.projects = {p.name: p for p in projects}
        self.faults: list[tuple[str, Fault]] = []
        self.models = {m.node: m for p in projects for m in p.models}
        self.marts: dict[str, Contract] = {}
        self.sources: dict[str, Source] = {}
        for project in projects:
            self.faults += [(project.name, fault) for fault in project.faults]
            self._sources(project)
        self._promises()

    def fault(self, domain: str, path: str, line: int, wrong: str, right: str = "") -> None:
        """Keep what is wrong, with the domain that it breaks."""
        self.faults.append((domain, Fault(path, line, wrong, right)))

    def _sources(self, project: ParsedProject) -> None:
        for found in project.sources:
            meta: Mapping[str, Any] = found.meta
            if not meta:
                continue  # a source without meta.levada is not a landed table
            described = outside.Described(
                *(project.name, found.name, found.table, found.node, found.columns, meta)
            )
            source, faults = outside.source_of(self.settings, described)
            for wrong, right in faults:
                self.fault(project.name, found.yaml, found.yaml_line, wrong, right)
            if source is not None:
                self.sources[found.node] = source

    def _promises(self) -> None:
        """Find the model that keeps each contract."""
        for table, contract in self.contracts.items():
            if table.domain not in self.settings.domains:
                right = nearest(table.domain, self.settings.domains)
                self.fault(table.domain, contract.path, 1, f"no domain {table.domain!r}", right)
                continue
            project = self.projects.get(table.domain)
            if project is None:
                continue  # the missing project is a fault of its own
            if project.faults and not project.models:
                continue  # so is what kept dbt from reading it
            kept = [
                m for m in project.models if m.name == table.name and (m.major or 1) == table.major
            ]
            if not kept:
                wrong = f"promises {table}, which no model of models/{table.domain} builds"
                right = nearest(table.name, {m.name for m in project.models} or {"(no models)"})
                self.fault(table.domain, contract.path, 1, wrong, right)
                continue
            self.marts[kept[0].node] = contract

    def products(self) -> list[Product]:
        """Every product whose marts could be made."""
        grouped: dict[tuple[str, str], list[tuple[Mart, set[str], bool]]] = {}
        for node, contract in sorted(self.marts.items()):
            made = self._mart(self.models[node], contract)
            if made:
                key = (contract.table.domain, contract.product)
                grouped.setdefault(key, []).append(made)
        built: list[Product] = []
        for (domain, name), parts in sorted(grouped.items()):
            marts = tuple(mart for mart, _, _ in parts)
            grains = {(m.contract.grain, m.contract.zone) for m in marts}
            if len(grains) > 1:
                wrong = f"product {domain}.{name} mixes grains or zones of its tables"
                right = "tables that are not built for the same partition are different products"
                self.fault(domain, marts[0].contract.path, 1, wrong, right)
                continue
            nodes = {m.node for m in marts}.union(*(private for _, private, _ in parts))
            grain, zone = grains.pop()
            batch = all(batch for _, _, batch in parts)
            shards = self._shards(marts, parts[0][0].node)
            sorted_nodes = tuple(sorted(nodes))
            built.append(Product(domain, name, marts, grain, zone, batch, sorted_nodes, shards))
        self._private_once(built)
        return built

    def _shards(self, marts: Sequence[Mart], first: str) -> Shards | None:
        """Into which parts the product's builds are cut: all its models say the same, or none."""
        said: list[Any] = [self.models[mart.node].meta.get("shards") for mart in marts]
        model = self.models[first]
        if all(each is None for each in said):
            return None
        if wrong := wrong_of_shards(said, marts, self._columns_of, self.settings.warehouse):
            place = (marts[0].table.domain, model.yaml or model.path, model.yaml_line)
            self.fault(*place, f"meta.levada.shards {wrong[0]}", wrong[1])
            return None
        return Shards(str(said[0]["key"]), said[0]["count"])

    def _columns_of(self, table: TableRef) -> tuple[str, ...]:
        """The columns of an input, as far as it is declared."""
        if table.is_source:
            return next((s.columns for s in self.sources.values() if s.table == table), ())
        contract = self.contracts.get(table)
        return tuple(column.name for column in contract.columns) if contract else ()

    def _private_once(self, products: Iterable[Product]) -> None:
        reached: dict[str, str] = {}
        for product in products:
            for node in product.nodes:
                other = reached.setdefault(node, product.id)
                if other != product.id:
                    model = self.models[node]
                    wrong = f"private model {model.name} is reached from {other} and {product.id}"
                    right = "give it a contract, or a copy to each product"
                    self.fault(product.domain, model.path, 1, wrong, right)

    def _mart(self, model: ModelFacts, contract: Contract) -> tuple[Mart, set[str], bool] | None:
        domain = contract.table.domain
        place = (domain, model.yaml or model.path, model.yaml_line)
        try:
            layer = Layer(model.layer)
        except ValueError:
            right = f"put it under one of {', '.join(each.value for each in Layer)}"
            self.fault(domain, model.path, 1, f"{model.layer!r} is no layer", right)
            return None
        if model.materialized in ("view", "ephemeral"):
            wrong = f"mart {model.name} is a {model.materialized}"
            self.fault(domain, model.path, 1, wrong, "a published table is materialized: table")
        private = self._private(model)
        reads = self._reads(model, private)
        reads.discard(contract.table)
        reads |= (gates := self._gates(model))
        for key in model.meta:
            if key not in _META_KEYS:
                self.fault(*place, f"meta.levada: unknown key {key!r}", nearest(key, _META_KEYS))
        told = self._told(model, reads, place)
        edges = tuple(
            edge
            for upstream in sorted(reads)
            if (edge := self._edge(contract, upstream, told.get(upstream, {}), place))
        )
        self._groups(edges, place)
        batch = model.meta.get("batch", False) is True
        if not isinstance(model.meta.get("batch", False), bool):
            self.fault(*place, "meta.levada.batch is neither true nor false")
        for edge in edges:
            if batch and edge.wait.max_lag is not None:
                wrong = f"batch: true with max_lag of {edge.upstream}"
                self.fault(*place, wrong, "what stands in differs by interval: leave batch out")
            if batch and windows_differ(edge, self._slicing(edge.upstream), contract.zone):
                wrong = f"batch: true with the mapping {edge.mapping.kind} of {edge.upstream}"
                self.fault(*place, wrong, "its window differs by interval: leave batch out")
        for check in contract.checks:
            self._reachable(contract, check, reads - gates)
        code = self.projects[domain].code({model.node, *private})
        mart = Mart(contract.table, layer, model.node, contract, edges, model.path, code)
        return mart, private, batch

    def _private(self, model: ModelFacts) -> set[str]:
        """The private models that it reaches without passing another mart."""
        found: set[str] = set()
        todo = list(model.models)
        while todo:
            node = todo.pop()
            if node in self.models and node not in self.marts and node not in found:
                found.add(node)
                todo += self.models[node].models
        return found

    def _reads(self, model: ModelFacts, private: set[str]) -> set[TableRef]:
        reads: set[TableRef] = set()
        for node in (model.node, *private):
            found = self.models[node]
            for table in found.externals:
                if table in self.contracts:
                    reads.add(table)
                else:  # an edge that is not seen would be a wait that is not kept
                    wrong = f"reads {table}, whose contract cannot be read"
                    self.fault(found.package, found.path, 1, wrong, Fault.ELSEWHERE)
            reads |= {self.marts[parent].table for parent in found.models if parent in self.marts}
            for source in (self.sources[name] for name in found.sources if name in self.sources):
                reads.add(source.table)
                if not source.readable:
                    wrong = f"model {found.name} reads {source.table}, which is only waited for"
                    right = "name it under meta.levada.inputs, and take source() out"
                    self.fault(found.package, found.path, 1, wrong, right)
        return reads

    def _gates(self, model: ModelFacts) -> set[TableRef]:
        """Sources that cannot be read, and that its YAML says to wait for."""
        inputs = model.meta.get("inputs")
        named = set(inputs) if isinstance(inputs, Mapping) else set()
        own = (s for s in self.sources.values() if s.table.domain == model.package)
        return {s.table for s in own if not s.readable and str(s.table) in named}

    def _told(
        self, model: ModelFacts, reads: set[TableRef], place: tuple[str, str, int]
    ) -> dict[TableRef, Mapping[str, Any]]:
        told: dict[TableRef, Mapping[str, Any]] = {}
        names = {str(t): t for t in reads} | {f"{t.domain}.{t.name}": t for t in reads}
        inputs = model.meta.get("inputs") or {}
        if not isinstance(inputs, Mapping):
            self.fault(*place, "meta.levada.inputs names tables", "inputs: {domain.table: {...}}")
            return told
        for name, how in inputs.items():
            table = names.get(name)
            if table is None and not self.projects[place[0]].resolved:
                continue  # it may be what a reference that was not found would read: told there
            if table is None:
                self.fault(*place, f"meta.levada.inputs: {name} is not read", nearest(name, names))
            elif not isinstance(how, Mapping):
                self.fault(*place, f"meta.levada.inputs.{name} says {how!r}", "write {mapping: …}")
            else:
                told[table] = how
                for key in how:
                    if key not in _INPUT_KEYS:
                        wrong = f"meta.levada.inputs.{name}: unknown key {key!r}"
                        right = _SAID_ELSEWHERE.get(key) or nearest(key, _INPUT_KEYS)
                        self.fault(*place, wrong, right)
        return told

    def _groups(self, edges: Sequence[Dependency], place: tuple[str, str, int]) -> None:
        """A choice needs something to choose from."""
        members: dict[str, list[TableRef]] = {}
        for edge in edges:
            if edge.any_of:
                members.setdefault(edge.any_of, []).append(edge.upstream)
        for group, tables in members.items():
            if len(tables) == 1:
                wrong = f"any_of: {group} names {tables[0]} alone"
                self.fault(*place, wrong, "name at least two inputs so, or leave any_of out")

    def _slicing(self, table: TableRef) -> tuple[Grain, str] | None:
        if table.is_source:
            source = next((s for s in self.sources.values() if s.table == table), None)
            return (source.grain, source.zone) if source else None
        contract = self.contracts[table]
        return contract.grain, contract.zone

    def _edge(
        self,
        contract: Contract,
        upstream: TableRef,
        told: Mapping[str, Any],
        place: tuple[str, str, int],
    ) -> Dependency | None:
        slicing = self._slicing(upstream)
        if slicing is None:
            return None
        ends = (*slicing, contract.grain, contract.zone)
        try:
            mapping = words.mapping(told) or default_mapping(*ends)
            edge = Dependency(
                upstream=upstream,
                downstream=contract.table,
                mapping=mapping,
                wait=words.wait(told.get("wait")),
                required=words.truth(told.get("required", True)),
                on_restatement=words.on_restatement(told.get("on_restatement"), mapping),
                any_of=str(told.get("any_of", "")),
                relies_on=self._reliance(upstream, told.get("relies_on"), place),
            )
            if edge.wait.deadline and contract.grain is Grain.WHOLE:
                raise ValueError("a whole table has no interval that a deadline could follow")
        except ValueError as error:
            self.fault(*place, f"meta.levada.inputs.{upstream}: {error}")
            return None
        if refused := check_mapping(mapping, *ends):
            self.fault(*place, f"{contract.table} cannot read {upstream} so: {refused}")
            return None
        if refused := unmeetable(edge, *ends, self.settings.span):
            self.fault(*place, f"meta.levada.inputs.{upstream}: {refused}")
            return None
        return edge

    def _reliance(
        self, upstream: TableRef, said: object, place: tuple[str, str, int]
    ) -> Reliance | None:
        """What the reader relies on, all of which its input must promise now."""
        if said is None:
            return None
        if upstream.is_source:
            self.fault(*place, f"relies_on of {upstream}: it has no contract", "leave it out")
            return None
        found, faults = expected(said, self.contracts[upstream])
        for wrong, right in faults:
            self.fault(*place, f"meta.levada.inputs.{upstream}.relies_on: {wrong}", right)
        return found

    def _reachable(self, contract: Contract, check: Check, reads: set[TableRef]) -> None:
        """A check compares with inputs of the run; nothing else is in its stage."""
        if not self.projects[contract.table.domain].resolved:
            return  # what the model reads is not known: told there
        for named in _names(dict(check.arguments).get("reads")):
            if TableRef.parse(named) not in reads:
                wrong = f"check {check.id} compares with {named}, which the model does not read"
                right = nearest(named, {str(t) for t in reads} or {"(it reads nothing)"})
                self.fault(contract.table.domain, contract.path, 0, wrong, right)

    def acyclic(self, products: list[Product]) -> list[Product]:
        """Refuse cycles between products, naming their way."""
        by_table = {m.table: p.id for p in products for m in p.marts}
        by_id = {p.id: p for p in products}
        remaining = {
            p.id: {by_table[d.upstream] for d in p.dependencies if d.upstream in by_table}
            for p in products
        }
        while True:
            try:
                graphlib.TopologicalSorter(remaining).prepare()
                return products
            except graphlib.CycleError as error:
                way: list[str] = error.args[1]
                for name in set(way):
                    product = by_id[name]
                    wrong = f"the mesh has a cycle: {' -> '.join(reversed(way))}"
                    right = "a table cannot be made from itself; read an earlier partition of it"
                    path = product.marts[0].contract.path
                    self.fault(product.domain, path, 1, wrong, right)
                remaining[way[1]] = remaining[way[1]] - {way[0]}  # and look for another


def _names(value: object) -> tuple[str, ...]:
    return tuple(str(name) for name in value) if isinstance(value, tuple | list) else ()
