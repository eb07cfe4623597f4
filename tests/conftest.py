"""Fixtures that need a real PostgreSQL: one server a session, one fresh ledger a test."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from levada.adapters import postgres
from levada.adapters.postgres import Credentials
from levada.ledger import PostgresLedger
from levada.ledger.roles import (
    GOVERNANCE,
    OWNER,
    PUBLISHER,
    READER,
    RUNNER,
    domain_role,
    prepare,
    provision,
)
from levada.ports import Want
from levada.terms import Claim, Input, Partition, Publication, TableRef, Verdict

DOMAINS = ("operations", "weather", "fleet", "company")
_TEMPLATE = "ledger_template"
_number = itertools.count(1)


@dataclass(frozen=True)
class Ledgers:
    """One migrated database, and the ledger in it as each role sees it."""

    server: Credentials
    database: str
    runner: PostgresLedger
    publisher: PostgresLedger
    governance: PostgresLedger
    owner: PostgresLedger

    def url(self, role: str) -> str:
        return self.server.url(role, self.database)

    def domain(self, name: str) -> PostgresLedger:
        return PostgresLedger(self.url(domain_role(name)))

    def record(self, label: str = "flights 1.0.0 aaaa") -> str:
        """A recorded contract's label."""
        self.governance.record_contracts({label: '{"status":"active"}'})
        return label

    def claim(
        self,
        product: str,
        partitions: Sequence[Partition],
        *,
        run: str = "run-1",
        fingerprint: str = "f1",
        inputs: tuple[Input, ...] = (),
        lifetime: timedelta = timedelta(hours=1),
    ) -> tuple[Claim, ...]:
        """Claim as `sense` does, without a judgement."""
        wants = [Want(product, p, fingerprint, inputs) for p in partitions]
        with self.runner.sensing([], [product]) as sensing:
            return sensing.claim(wants, run=run, lifetime=lifetime)

    def line(self, table: TableRef, partition: Partition, **changes: Any) -> Publication:
        """A line that may be intended: it passed, by fingerprint f1, under a recorded contract."""
        usual = Publication(
            table=table,
            partition=partition,
            generation=0,
            contract="flights 1.0.0 aaaa",
            verdict=Verdict.PASS,
            data_version="",
            content="1:a",
            made_by="f1",
            inputs=(),
            taint=(),
            run="",
            at=datetime(2013, 3, 11, tzinfo=UTC),
        )
        return replace(usual, **changes)

    def publish(
        self,
        product: str,
        lines: Sequence[Publication],
        *,
        run: str = "run-1",
        data_version: str = "7",
    ) -> tuple[Publication, ...]:
        """Claim, intend and publish, as a whole run does."""
        self.record()
        self.claim(product, [x.partition for x in lines], run=run, fingerprint=lines[0].made_by)
        self.publisher.intend(run, lines)
        return self.publisher.publish(run, data_version)


@pytest.fixture(scope="session")
def server() -> Iterator[Credentials]:
    """The embedded PostgreSQL with databases, roles and rights, as `levada up` leaves it."""
    home = Path(tempfile.mkdtemp(prefix="levada-"))
    try:
        # Nobody cuts the power here, and a database that is dropped waits for the disk for seconds.
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(postgres._SETTINGS, "fsync", "off")
            credentials = postgres.start(home)
        provision(credentials, DOMAINS)
        with psycopg.connect(credentials.admin_url, autocommit=True) as admin:
            admin.execute(f"create database {_TEMPLATE} owner {OWNER}")
        prepare(credentials, _TEMPLATE)
        yield credentials
    finally:
        postgres.stop(home)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def ledgers(server: Credentials) -> Iterator[Ledgers]:
    """A fresh ledger, through every role; the database goes with the test."""
    database = f"ledger_{next(_number)}"
    with psycopg.connect(server.admin_url, autocommit=True) as admin:
        admin.execute(f"create database {database} owner {OWNER} template {_TEMPLATE}")
        admin.execute(f"revoke all on database {database} from public")
        admin.execute(f"grant connect on database {database} to {READER}")
        roles = (RUNNER, PUBLISHER, GOVERNANCE, OWNER)
        seen = [PostgresLedger(server.url(role, database)) for role in roles]
        yield Ledgers(server, database, *seen)
        for ledger in seen:
            ledger.close()
        admin.execute(f"drop database {database} with (force)")
