"""
Blocking rules as gates: an audit of the product they guard, on its staged interval.

What a gate compares besides becomes a required input of the product: it is there, pinned, and
judged as one set with all others.
"""

from __future__ import annotations

import graphlib
import hashlib
from collections.abc import Iterable
from dataclasses import replace

from levada.consistency.deciding import mapping_of
from levada.errors import Fault
from levada.terms import (
    Batch,
    ConsistencyRule,
    Dependency,
    Mart,
    Mesh,
    Product,
    Severity,
    TableRef,
    WaitPolicy,
)

__all__ = ["gated", "gates_of"]


def gates_of(product: Product) -> tuple[ConsistencyRule, ...]:
    """The rules that a product must pass before it is published."""
    return tuple(rule for mart in product.marts for rule in mart.gates)


def gated(mesh: Mesh, batches: Iterable[Batch]) -> tuple[Mesh, tuple[Fault, ...]]:
    """The mesh with its gates, and the faults of those that cannot be one."""
    faults: list[Fault] = []
    for batch in batches:
        for rule in batch.rules:
            if rule.severity is Severity.BLOCKING and rule.guards is not None:
                found = _with_gate(mesh, batch, rule, rule.guards)
                if isinstance(found, Mesh):
                    mesh = found
                else:
                    faults.append(found)
    return mesh, tuple(faults)


def _with_gate(mesh: Mesh, batch: Batch, rule: ConsistencyRule, guarded: TableRef) -> Mesh | Fault:
    product = mesh.product(guarded)
    mart = mesh.mart(guarded)
    if (product.grain, product.zone) != (batch.grain, batch.zone):
        wrong = f"{guarded} is built by {product.grain.value}s of {product.zone}, and the batch "
        wrong += f"compares {batch.grain.value}s of {batch.zone}"
        return _fault(rule, wrong, "a gate judges the very interval that is built")
    if any(check.id == rule.name for check in mart.contract.checks):
        wrong = f"the contract of {guarded} has a check of this name"
        return _fault(rule, wrong, "call one of them otherwise: reports and waivers go by the name")
    own = {each.table for each in product.marts}
    edges = {edge.upstream: edge for edge in mart.dependencies}
    for table in rule.tables:
        if table in own:
            continue
        mapping = mapping_of(batch, *mesh.slicing(table))
        others = [e for m in product.marts for e in m.dependencies if e.upstream == table]
        differs = [e for e in others if e.mapping.kind != mapping.kind]
        if differs:
            wrong = f"{product.id} reads {table} by {differs[0].mapping.kind}, and the rule by "
            return _fault(rule, wrong + mapping.kind, "make it advisory, or read it alike")
        if way := _way(mesh, table, product.id):
            wrong = f"the gate would close a cycle: {' -> '.join((*way, product.id))}"
            right = f"let it guard {way[-1]} instead, or make it advisory"
            return _fault(rule, wrong, right)
        edge = edges.get(table) or Dependency(table, guarded, mapping, gate=True)
        edges[table] = replace(edge, required=True, any_of="", wait=WaitPolicy())
    code = hashlib.sha256(f"{mart.code} {rule.name} {rule.hash}".encode()).hexdigest()
    gate = replace(mart, gates=(*mart.gates, rule), dependencies=tuple(edges.values()), code=code)
    return _replaced(mesh, product, gate)


def _fault(rule: ConsistencyRule, wrong: str, right: str) -> Fault:
    return Fault(rule.path, rule.line, f"rule {rule.id}: {wrong}", right)


def _way(mesh: Mesh, table: TableRef, guarded: str) -> tuple[str, ...]:
    """The products from the guarded one down to the one that makes a table; empty if none."""
    ways: dict[str, tuple[str, ...]] = {guarded: (guarded,)}
    for name in graphlib.TopologicalSorter(
        {
            product.id: {
                mesh.product(edge.upstream).id
                for edge in product.dependencies
                if not edge.upstream.is_source and mesh.find(edge.upstream)
            }
            for product in mesh.products
        }
    ).static_order():
        if name in ways:
            continue
        for edge in mesh.product(name).dependencies:
            if edge.upstream.is_source or not mesh.find(edge.upstream):
                continue
            above = mesh.product(edge.upstream).id
            if above in ways:
                ways.setdefault(name, (*ways[above], name))
    return ways.get(mesh.product(table).id, ())


def _replaced(mesh: Mesh, product: Product, mart: Mart) -> Mesh:
    marts = tuple(mart if each.table == mart.table else each for each in product.marts)
    changed = replace(product, marts=marts)
    products = tuple(changed if each.id == product.id else each for each in mesh.products)
    return Mesh(mesh.name, mesh.span, mesh.zone, mesh.live_from, products, mesh.sources, mesh.quiet)
