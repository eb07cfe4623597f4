"""Starting a canary, promoting it by approval, and taking it back."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from levada.adapters.approvers import read_policy
from levada.adapters.policies import read_policies
from levada.approve import Subject
from levada.errors import DeclarationError, Fault
from levada.flow.canary import version
from levada.flow.granting import approval
from levada.flow.keeping import Kept, kept_as, made_with
from levada.flow.stages import Platform, Run, execute
from levada.govern.canaries import terms_of
from levada.govern.policies import subjects
from levada.ledger import PostgresLedger
from levada.readiness import bare, fingerprint
from levada.sense import Again
from levada.settings import Settings, nearest
from levada.terms import (
    Approval,
    Canary,
    CanaryState,
    CanaryTerms,
    ConsistencyRule,
    Grain,
    Mesh,
    Partition,
    PartitionMapping,
    Product,
    Publication,
    TableRef,
    Tolerance,
)

__all__ = [
    "Terms",
    "approved",
    "begun",
    "least",
    "named",
    "restored",
    "running",
    "still_written",
    "unfit",
]


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a canary runs."""

    wanted: int
    by_policy: bool
    tolerance: Mapping[str, Tolerance]
    reason: str


def named(mesh: Mesh, name: str) -> Product:
    """The product of this id, or of this table as `domain.table@2`. Raises DeclarationError."""
    if "@" in name:
        try:
            found = TableRef.parse(name)
        except ValueError as error:
            right = "write domain.product, or of a new major domain.table@2"
            raise DeclarationError((Fault("PRODUCT", 0, str(error), right),)) from None
        if mesh.find(found) is not None:
            return mesh.product(found)
    known = {product.id: product for product in mesh.products}
    if name not in known:
        right = nearest(name, known)
        raise DeclarationError((Fault("PRODUCT", 0, f"no product is called {name!r}", right),))
    return known[name]


def still_written(product: Product, canary: Canary) -> None:
    """Whether what is written is what the canary ran. Raises DeclarationError where it is not."""
    here = version(product)
    if here != canary.new:
        wrong = f"canary {canary.id} ran version {canary.new}, and {here} is written now"
        right = "write that version again, or abort this canary and start another one"
        if canary.state is not CanaryState.RUNNING:
            right = "write that version again first: what it published is found by it"
        raise DeclarationError((Fault(product.marts[0].model_path, 1, wrong, right),))


def least(settings: Settings, mesh: Mesh, product: Product) -> CanaryTerms:
    """What governance asks of a canary of this product at least. Raises DeclarationError."""
    policies, faults = read_policies(settings.root, settings.domains)
    if faults:
        raise DeclarationError(faults)
    return terms_of(policies, subjects(policies, mesh.products, mesh.sources), product.id)


def begun(
    settings: Settings, product: Product, ledger: PostgresLedger, terms: Terms, now: datetime
) -> Canary:
    """
    The canary of what is written now, beside what was published last; nothing is started.

    Raises DeclarationError with everything that is against it.
    """
    faults: list[Fault] = []

    def fault(where: str, wrong: str, right: str = "") -> None:
        faults.append(Fault(where, 0, wrong, right))

    kept = _served(settings, product, ledger)
    if isinstance(kept, str):
        fault(product.id, kept, "publish it once; then there is an old version to compare with")
    else:
        for wrong, right in _unlike(kept.product, product):
            fault(product.id, wrong, right)
    columns = {column.name for contract in product.contracts for column in contract.columns}
    for column in terms.tolerance:
        if column not in columns:
            fault("--tolerance", f"no column {column!r}", nearest(column, columns))
    faults += unfit(product, terms)
    if faults or isinstance(kept, str):
        raise DeclarationError(faults)
    return running(product, version(kept.product), terms, now)


def running(
    product: Product, old: str, terms: Terms, now: datetime, rule: ConsistencyRule | None = None
) -> Canary:
    """A canary on these terms; where a `rule` compares the versions, with its tolerance."""
    return Canary(
        id=f"c-{secrets.token_hex(3)}",
        product=product.id,
        state=CanaryState.RUNNING,
        old=old,
        new=version(product),
        wanted=terms.wanted,
        by_policy=terms.by_policy,
        tolerance=rule.tolerance if rule else terms.tolerance,
        reason=terms.reason,
        since=now,
        owners=tuple(dict.fromkeys(who for c in product.contracts for who in c.owners)),
        rule=rule.name if rule else "",
    )


def unfit(product: Product, terms: Terms) -> list[Fault]:
    """What is wrong with the terms of a canary of this product, whatever it compares."""
    found: list[Fault] = []
    if terms.wanted < 1:
        found.append(Fault("--intervals", 0, "a canary compares one interval at least"))
    if terms.wanted > 1 and product.grain is Grain.WHOLE:
        right = "write --intervals 1: it counts once, by its newest generation"
        found.append(Fault("--intervals", 0, f"{product.id} is whole: it has one interval", right))
    if not terms.reason.strip():
        found.append(Fault("--reason", 0, "says nothing", "say what the new version changes"))
    return found


def _served(settings: Settings, product: Product, ledger: PostgresLedger) -> Kept | str:
    """The version that is served: by which the newest line was made."""
    ended = ledger.canary(product.id)
    if ended is not None and ended.state is CanaryState.ABORTED:
        kept = kept_as(settings, product, lambda each: version(each) == ended.old)
        if kept is not None:
            return kept
    lines = _lines(product, ledger)
    if not lines:
        return "nothing of it is published"
    newest = max(lines, key=lambda line: line.position)
    return made_with(settings, newest, product.id) or "the code that was published is not kept here"


def _lines(product: Product, ledger: PostgresLedger) -> list[Publication]:
    table = product.marts[0].table
    facts = ledger.facts([table], [product.id])
    return [x for x in facts.lines.values() if isinstance(x, Publication) and x.table == table]


def _unlike(old: Product, new: Product) -> list[tuple[str, str]]:
    """Why the two versions of a product cannot run beside one another."""
    if version(old) == version(new):
        return [("what is written is what was published", "change it first, and compile it")]
    found = []
    if [c.label for c in old.contracts] != [c.label for c in new.contracts]:
        right = "publish the contract first, or make it a new major: its readers choose"
        found.append(("its contracts changed: rows are compared under one promise", right))
    if _read(old) != _read(new):
        right = "make it a new major, or another product"
        found.append(("it reads other tables, or other intervals of them, than before", right))
    return found


def _read(product: Product) -> set[tuple[TableRef, PartitionMapping]]:
    return {(edge.upstream, edge.mapping) for edge in product.dependencies}


def approved(
    settings: Settings, product: Product, *, reviewer: str, commit: str,
    authors: Sequence[str], via: str,
) -> tuple[Approval, str]:  # fmt: skip
    """
    The approval of a product's models as they stand, and whose they are. Raises DeclarationError
    with all that is against it.
    """
    policy = read_policy(settings.root, settings.domains)
    found: list[Approval] = []
    faults: list[Fault] = []
    for mart in product.marts:
        subject = Subject("canary", product.domain, mart.model_path, mart.contract.owners)
        try:
            found.append(
                approval(
                    *(settings, policy, subject),
                    reviewer=reviewer, commit=commit, authors=authors, via=via,
                )
            )  # fmt: skip
        except DeclarationError as error:
            faults += error.faults
    if faults:
        raise DeclarationError(faults)
    wrote = tuple(dict.fromkeys(who for each in found for who in each.authors))
    first = found[0]
    owner = next(iter(product.marts[0].contract.owners), "")
    return Approval(first.reviewer, wrote, first.commit, via), owner


def restored(platform: Platform, product: Product, canary: Canary) -> tuple[Run, ...]:
    """Publish by the old version again what the new one has published, interval by interval."""
    return tuple(
        execute(platform, product, (partition,), Again(canary.id))
        for partition in _by_the_new(platform, product)
    )


def _by_the_new(platform: Platform, product: Product) -> list[Partition]:
    """The intervals whose newest line was made by what is written now."""
    table = product.marts[0].table
    facts = platform.runner.facts([table], [product.id])
    return sorted(
        line.partition
        for line in facts.lines.values()
        if isinstance(line, Publication)
        and line.table == table
        and bare(line.made_by) == fingerprint(product, line.partition, line.inputs)
    )
