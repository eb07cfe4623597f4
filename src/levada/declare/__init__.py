"""
Declare: contracts, dbt projects and settings become a `Mesh`; every fault is collected.

An adapter parses each dbt project into a `ParsedProject`; this stage joins the projects with the
contracts. SQL says what is read, the contract what is promised, `meta.levada` how it waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from levada.declare.batching import alone_because
from levada.declare.facts import ModelFacts, ParsedProject, SourceFacts
from levada.declare.joining import Joining
from levada.declare.selecting import selected
from levada.errors import Fault
from levada.settings import Settings
from levada.terms import Contract, Mesh, Product

__all__ = [
    "Declared",
    "ModelFacts",
    "ParsedProject",
    "SourceFacts",
    "alone_because",
    "declare",
    "selected",
]


@dataclass(frozen=True, slots=True)
class Declared:
    """The mesh of the sound domains, every fault, and the domains that have one."""

    mesh: Mesh
    faults: tuple[Fault, ...]
    broken: tuple[str, ...]
    seen: tuple[Product, ...] = ()
    """Every product that could be joined, those of domains with a fault too."""
    warnings: tuple[Fault, ...] = ()
    """What only tells: it breaks no domain."""
    projects: tuple[ParsedProject, ...] = ()
    """Every project, as dbt read it."""


def declare(
    settings: Settings, contracts: Sequence[Contract], projects: Sequence[ParsedProject]
) -> Declared:
    """Join contracts and projects into a mesh; what is wrong is collected, never raised."""
    joining = Joining(settings, contracts, projects)
    products = joining.products()
    products = joining.acyclic(products)
    broken = {domain for domain, _ in joining.faults}
    mesh = Mesh(
        name=settings.name,
        span=settings.span,
        zone=settings.zone,
        live_from=settings.live_from,
        products=tuple(p for p in products if p.domain not in broken),
        sources=tuple(joining.sources.values()),
        quiet=settings.quiet,
    )
    faults = tuple(sorted({fault for _, fault in joining.faults}))
    return Declared(mesh, faults, tuple(sorted(broken)), tuple(products))
