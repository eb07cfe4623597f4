"""What waits for somebody's approval: waivers, suspended and held rules, canaries that are ripe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from levada.errors import DeclarationError, Fault
from levada.flow import canarying, granting, guarding
from levada.flow.canary import version
from levada.ledger import PostgresLedger
from levada.ledger.findings import Findings
from levada.settings import Settings
from levada.terms import Mesh

__all__ = ["Open", "approve", "opened"]

_WHY = "approved in Airflow"


@dataclass(frozen=True, slots=True)
class Open:
    """Something that may be approved, as it stands when it is asked for."""

    kind: str
    """waiver, rule or canary."""
    name: str
    """The rule's, or the product's; of a waiver its file."""
    path: str
    digest: str
    """Of what would be approved: another one is asked for anew."""
    title: str
    text: str


def opened(
    settings: Settings, mesh: Mesh, ledger: PostgresLedger, found: Findings, now: datetime
) -> tuple[Open, ...]:
    """Everything that nobody has answered."""
    waivers = (
        Open(
            *("waiver", request.path, request.path, request.waiver.hash),
            f"Waive {request.waiver.check} of {request.waiver.table}?",
            (settings.root / request.path).read_text("utf-8"),
        )
        for request in granting.opened(settings, mesh, ledger, now)
    )
    return (*waivers, *_rules(settings, found, now), *_canaries(mesh, ledger))


def _rules(settings: Settings, found: Findings, now: datetime) -> Iterator[Open]:
    batches, _ = guarding.declared(settings)
    for each in guarding.muted(batches, found, now):
        rule = each.rule
        yield Open(
            *("rule", rule.name, rule.path, rule.hash),
            f"Let the rule {rule.name} go on?",
            f"{rule.description}\n{each}",
        )


def _canaries(mesh: Mesh, ledger: PostgresLedger) -> Iterator[Open]:
    known = {product.id: product for product in mesh.products}
    for each in ledger.canaries():
        product = known.get(each.product)
        if product is None or not each.ripe or each.by_policy or version(product) != each.new:
            continue
        row = f"{each.in_a_row} equal intervals in a row, {each.wanted} are needed"
        yield Open(
            *("canary", product.id, product.marts[0].model_path, each.id),
            f"Promote the new version of {product.id}?",
            f"{each.reason}\n{row}; {each.differing} of {each.told} differ",
        )


def approve(
    settings: Settings,
    mesh: Mesh,
    governance: PostgresLedger,
    found: Findings,
    asked: tuple[str, str, str],
    reviewer: str,
) -> str:
    """
    Grant what was asked for (kind, name, digest), if it still stands so; what was done, in words.

    Raises DeclarationError where it changed or the approval does not count, and as the ledger does.
    """
    kind, name, digest = asked
    said = {"reviewer": reviewer, "commit": "HEAD", "via": "airflow"}
    if kind == "rule":
        rule = guarding.named(guarding.declared(settings)[0], name)
        _same(name, rule.hash, digest)
        approval = guarding.approved(settings, rule, authors=(), **said)
        new = found.review(rule, _WHY, approval)
    elif kind == "canary":
        product = canarying.named(mesh, name)
        canary = governance.canary(name)
        _same(name, canary.id if canary else "", digest)
        _same(name, canary.new if canary else "", version(product))
        approval, owner = canarying.approved(settings, product, authors=(), **said)
        governance.promote_canary(digest, owner, _WHY, approval)
        new = True
    else:
        request, policy = granting.requested(settings, mesh, settings.root / name)
        _same(name, request.waiver.hash, digest)
        approval = granting.approval(settings, policy, request.subject, **said)
        new = governance.waive(request.waiver, approval)
    return f"{name}: {'granted' if new else 'granted already'}, approved by {approval.reviewer}"


def _same(name: str, now: str, asked: str) -> None:
    if now != asked:
        wrong = "changed after it was asked for"
        raise DeclarationError((Fault(name, 0, wrong, "it is asked anew"),))
