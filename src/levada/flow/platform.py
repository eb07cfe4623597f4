"""Open what a run needs: ledger, warehouse, dbt and Great Expectations, each with its rights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Protocol

from levada.adapters import odcs, postgres
from levada.adapters.dbt.workers import DbtWorkers
from levada.adapters.gx import GreatExpectations
from levada.adapters.policies import read_policies
from levada.adapters.probes import Probes
from levada.adapters.warehouses import named
from levada.flow.stages import Platform
from levada.govern.canaries import terms_of
from levada.govern.policies import subjects
from levada.ledger import PostgresLedger, roles
from levada.ports import Warehouse
from levada.settings import Settings
from levada.terms import Contract, Mesh

__all__ = [
    "SignsIn",
    "allow",
    "embedded",
    "ledger",
    "open_platform",
    "provision",
    "record",
    "services",
    "warehouse",
]


class SignsIn(Protocol):
    """Whoever knows how a role signs in to a database."""

    def url(self, role: str, database: str = "levada") -> str:
        """The role's address."""

    def conninfo(self, role: str, database: str) -> str:
        """The role's address as libpq keywords."""


def now() -> datetime:
    """Wall time."""
    return datetime.now(UTC)


def embedded() -> bool:
    """Whether Levada starts a PostgreSQL of its own."""
    return "LEVADA_DATABASE_URL" not in os.environ


@contextmanager
def services(settings: Settings, *, keep: bool = False) -> Iterator[postgres.Credentials]:
    """
    The databases, provisioned. An embedded server that was not running is stopped at the end,
    unless `keep`.
    """
    was_running = postgres.running(settings.home) is not None
    credentials = postgres.start(settings.home)
    provision(settings, credentials)
    try:
        yield credentials
    finally:
        if embedded() and not was_running and not keep:
            postgres.stop(settings.home)


@contextmanager
def ledger(credentials: SignsIn, role: str) -> Iterator[PostgresLedger]:
    """The ledger, as one role sees it; its time is the database's own."""
    with closing(PostgresLedger(credentials.url(role, "levada"))) as opened:
        yield opened


def provision(settings: Settings, credentials: postgres.Credentials) -> None:
    """Databases, roles, rights and the ledger's schema, then the warehouse; again and again."""
    roles.provision(credentials, settings.domains)
    named(settings.warehouse).provision(credentials, settings)


def warehouse(settings: Settings, credentials: SignsIn) -> Warehouse:
    """Where the published data of all domains lies, as `levada.yaml` says."""
    return named(settings.warehouse).opened(settings, credentials.conninfo)


def record(
    settings: Settings, credentials: postgres.Credentials, contracts: Sequence[Contract]
) -> tuple[str, ...]:
    """
    Record contract hashes as governance; the new ones. On a laptop the commands do it, visibly;
    in production governance's own pipeline does.
    """
    documents = {contract.label: odcs.document(contract, settings.root) for contract in contracts}
    with ledger(credentials, "levada_governance") as governance:
        return governance.record_contracts(documents)


def allow(settings: Settings, mesh: Mesh, credentials: postgres.Credentials) -> tuple[str, ...]:
    """
    Record what governance asks of canaries, as governance; the products for which that is new.
    Nothing of a file that has a fault: what was recorded goes on to hold.
    """
    policies, faults = read_policies(settings.root, settings.domains)
    if faults:
        return ()
    known = subjects(policies, mesh.products, mesh.sources)
    terms = {product.id: terms_of(policies, known, product.id) for product in mesh.products}
    with ledger(credentials, "levada_governance") as governance:
        return governance.set_canary_terms(terms)


@contextmanager
def open_platform(
    settings: Settings,
    mesh: Mesh,
    credentials: postgres.Credentials,
    workers: DbtWorkers,
) -> Iterator[Platform]:
    """A platform whose dbt runs in children that hold only their domain's credentials."""
    published = warehouse(settings, credentials)
    for domain in settings.domains:
        published.create(domain)
    with (
        ledger(credentials, "levada_runner") as runner,
        ledger(credentials, "levada_publisher") as publisher,
    ):
        yield Platform(
            settings=settings,
            mesh=mesh,
            runner=runner,
            publisher=publisher,
            warehouse=published,
            builder=workers.build,
            auditor=GreatExpectations(setup=published.reading),
            clock=now,
            probes=Probes(settings.root, every=settings.probe_every),
            claim_lifetime=settings.lease,  # build follows at once in this process
        )
