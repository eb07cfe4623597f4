"""
Starting the canary of a new major: its gate compares it with the old one, and withholds.

Both majors are tables of their own, and the old one is published whatever the new one is: its
readers choose when they move. The gate is a blocking rule of kind `rows`. By it the old major is an
input of the new one, pinned and current, so that both are of the same inputs; what the gate said of
each interval is what the canary counts.
"""

from __future__ import annotations

from datetime import datetime

from levada.errors import DeclarationError, Fault
from levada.flow.canarying import Terms, running, unfit
from levada.terms import (
    Canary,
    ConsistencyRule,
    Contract,
    Mesh,
    Product,
    RuleKind,
    TableRef,
)

__all__ = ["afterwards", "begun", "compared"]


def compared(mesh: Mesh, name: str, against: str) -> tuple[Product, ConsistencyRule]:
    """The product of a new major, and the gate that compares it. Raises DeclarationError."""
    new, old = _majors(mesh, name, against)
    product = mesh.product(new)
    if mesh.product(old).id == product.id:
        wrong = f"{old} and {new} are of one product, which is published all or nothing"
        raise _fault(name, wrong, f"give {new} a dataProduct of its own")
    for rule in mesh.mart(new).gates:
        if rule.kind is RuleKind.ROWS and set(rule.tables) == {old, new}:
            return product, rule
    wrong = f"no gate of {new} compares it with {old}"
    suggestion = _gate(product, mesh.mart(old).contract, mesh.mart(new).contract)
    right = f"declare one in contracts/governance/consistency, as\n{suggestion}"
    raise _fault(name, wrong, right)


def _majors(mesh: Mesh, name: str, against: str) -> tuple[TableRef, TableRef]:
    right = "write DOMAIN.TABLE@2 --against 1"
    try:
        new = TableRef.parse(name)
    except ValueError as error:
        raise _fault("PRODUCT", str(error), right) from None
    try:
        own = f"{new.domain}.{new.name}@{against}"
        old = TableRef.parse(own if against.isdecimal() else against)
    except ValueError:
        raise _fault(name, f"{against!r} is no major of it", right) from None
    if (old.domain, old.name) != (new.domain, new.name):
        raise _fault(name, f"{old} is no major of it", f"name one of its own: {right}")
    for table in (new, old):
        if mesh.find(table) is None:
            raise _fault(name, f"no table {table}", "a new major has a contract and a model")
    if old == new:
        raise _fault(name, f"{new} is compared with itself", "name the old major: --against 1")
    return new, old


def _gate(product: Product, old: Contract, new: Contract) -> str:
    """The rule that would compare all columns that both majors have under one name."""
    named = {column.name for column in old.columns}
    both = [column.name for column in new.columns if column.name in named]
    key = [k for k in new.key if k in both] or [c for c in both if c == new.interval_column]
    key = key or both[:1]
    columns = f"key: [{', '.join(key)}], values: [{', '.join(c for c in both if c not in key)}]"
    return f"""\
batch: {new.table.name}_majors
grain: {product.grain.value}
zone: {product.zone}
owner: {new.owner.team if new.owner else new.table.domain}
description: The new major of {old.table} tells what the old one tells.
rules:
  - id: v{new.table.major}_is_v{old.table.major}
    kind: rows
    severity: blocking
    guards: {new.table}
    description: Rows of the same key are equal in every column that both have.
    left: {{table: {old.table}, {columns}}}
    right: {{table: {new.table}, {columns}}}"""


def _fault(name: str, wrong: str, right: str) -> DeclarationError:
    return DeclarationError((Fault(name, 0, wrong, right),))


def begun(product: Product, rule: ConsistencyRule, terms: Terms, now: datetime) -> Canary:
    """The canary of a new major; nothing is started. Raises DeclarationError."""
    faults = unfit(product, terms)
    if terms.tolerance:
        faults.append(Fault("--tolerance", 0, "is the gate's to say", f"write it in {rule.path}"))
    if faults:
        raise DeclarationError(faults)
    (old,) = (table for table in rule.tables if table != rule.guards)
    return running(product, str(old), terms, now, rule)


def afterwards(mesh: Mesh, canary: Canary) -> str:
    """What is left to do once a new major is promoted: it is its readers' to move."""
    old = mesh.mart(TableRef.parse(canary.old)).contract
    if old.sunset:
        return f"the readers of {old.table} may move to it, until {old.sunset}"
    return (
        f"the readers of {old.table} may move to it; give that its end in {old.path}, as"
        " `slaProperties: [{property: endOfLife, value: ...}]`"
    )
