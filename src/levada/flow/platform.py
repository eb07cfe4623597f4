"""Open what a run needs: ledger, lake, dbt and Great Expectations, each with its own rights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime

from levada.adapters import odcs, postgres
from levada.adapters.dbt.workers import DbtWorkers
from levada.adapters.gx import GreatExpectations
from levada.adapters.probes import Probes
from levada.adapters.warehouses.ducklake import DuckLake
from levada.flow.stages import Platform
from levada.ledger import PostgresLedger
from levada.ledger.roles import provision
from levada.settings import Settings
from levada.terms import Contract, Mesh

__all__ = ["embedded", "ledger", "open_platform", "record", "services", "warehouse"]


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
    provision(credentials, settings.domains)
    try:
        yield credentials
    finally:
        if embedded() and not was_running and not keep:
            postgres.stop(settings.home)


@contextmanager
def ledger(credentials: postgres.Credentials, role: str) -> Iterator[PostgresLedger]:
    """The ledger, as one role sees it; its time is the database's own."""
    with closing(PostgresLedger(credentials.url(role, "levada"))) as opened:
        yield opened


def warehouse(settings: Settings, credentials: postgres.Credentials) -> DuckLake:
    """The lakes of all domains."""
    return DuckLake(
        settings.lake,
        settings.home / "stages",
        lambda role: credentials.conninfo(role, "lake"),
        settings.domains,
    )


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


@contextmanager
def open_platform(
    settings: Settings,
    mesh: Mesh,
    credentials: postgres.Credentials,
    workers: DbtWorkers,
) -> Iterator[Platform]:
    """A platform whose dbt runs in children that hold only their domain's credentials."""
    lake = warehouse(settings, credentials)
    for domain in settings.domains:
        lake.create(domain)
    with (
        ledger(credentials, "levada_runner") as runner,
        ledger(credentials, "levada_publisher") as publisher,
    ):
        yield Platform(
            settings=settings,
            mesh=mesh,
            runner=runner,
            publisher=publisher,
            warehouse=lake,
            builder=workers.build,
            auditor=GreatExpectations(setup=lake.setup),
            clock=now,
            probes=Probes(settings.root, every=settings.probe_every),
            claim_lifetime=settings.lease,  # build follows at once in this process
        )
