"""What is wrong with a mesh is found, each fault by its own check, and what is well is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import asyncpg
import duckdb
import psycopg
import pytest
from source_system import land_span
from workspace import Workspace

from levada import compiled
from levada.adapters.airflow import deferred
from levada.flow import doctor, platform
from levada.flow.consistency import findings
from levada.flow.doctor import CHECKS, Health, Patient, examine
from levada.ledger import PostgresLedger, _connections
from levada.plan import plan
from levada.ports import Want
from levada.settings import read_settings
from levada.terms import Landing, Publication, TableRef

pytestmark = pytest.mark.integration

DAY = "2013-03-08"
PRODUCT, FLIGHTS = "operations.flights", TableRef("operations", "flights")
FILES = TableRef("operations", "landing.flights", 0)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One domain, one published day. The tests plant their faults in the order of this file."""
    workspace = Workspace.make(
        tmp_path_factory.mktemp("doctor"), domains=["operations"], first=DAY, last=DAY
    )
    land_span(date(2013, 3, 8), date(2013, 3, 8), workspace.landing)
    workspace.start()
    workspace.levada("run")
    yield workspace
    workspace.stop()


@contextmanager
def patient(mesh: Workspace, **changes: Any) -> Iterator[Patient]:
    settings, credentials = read_settings(mesh.root), mesh.credentials
    with (
        platform.ledger(credentials, "levada_runner") as runner,
        platform.ledger(credentials, credentials.admin) as owner,
        findings(credentials, "levada_runner") as reports,
        closing(platform.warehouse(settings, credentials)) as lake,
    ):
        usual: dict[str, Any] = {
            "settings": settings,
            "mesh": compiled.load(settings),
            "runner": runner,
            "owner": owner,
            "findings": reports,
            "warehouse": lake,
            "connect": lambda: asyncpg.connect(credentials.url("levada_runner", "levada")),
            "airflow": credentials.url("airflow", "airflow"),
            "older": timedelta(minutes=15),
            "now": datetime.now(UTC),
        }
        yield Patient(**{**usual, **changes})


def check(mesh: Workspace, name: str, **changes: Any) -> tuple[Health, str]:
    with patient(mesh, **changes) as examined:
        health, detail, todo = CHECKS[name](examined)
    assert health is Health.OK or todo, "nobody is told what to do"
    return health, detail


def line(mesh: Workspace) -> Publication:
    with patient(mesh) as examined:
        return next(x for x in examined.facts.lines.values() if x.table == FLIGHTS)  # type: ignore[return-value]


def want(mesh: Workspace, mark: str) -> Want:
    return Want(PRODUCT, line(mesh).partition, mark, line(mesh).inputs)


def claim(mesh: Workspace, run: str, lifetime: timedelta) -> None:
    with (
        platform.ledger(mesh.credentials, "levada_runner") as runner,
        runner.sensing([], []) as sensing,
    ):
        assert sensing.claim([want(mesh, run)], run=run, lifetime=lifetime)


def intend(mesh: Workspace, run: str, lifetime: timedelta) -> PostgresLedger:
    """Claim and intend as a publisher does; the publisher."""
    claim(mesh, run, lifetime)
    publisher = PostgresLedger(mesh.credentials.url("levada_publisher", "levada"))
    publisher.intend(run, [replace(line(mesh), made_by=run)])
    return publisher


class Deaf(asyncpg.Connection):  # type: ignore[misc]
    async def add_listener(self, *_: object) -> None:
        return


def test_a_sound_mesh_has_no_finding_and_what_is_not_there_is_not_called_well(
    mesh: Workspace,
) -> None:
    told = {f["name"]: f["health"] for f in json.loads(mesh.levada("doctor", "--json").stdout)}
    unseen = {"catalogue", "reconciler", "sensors"}
    assert {name for name, health in told.items() if health == "not looked at"} == unseen
    assert {health for name, health in told.items() if name not in unseen} == {"ok"}
    assert list(told) == list(CHECKS)
    assert "not looked at" in mesh.levada("doctor", "--no-verify").stdout


def test_a_follower_that_is_not_notified_is_found(
    mesh: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_PATIENCE", 5.0)

    async def deaf() -> Any:
        url = mesh.credentials.url("levada_runner", "levada")
        return await asyncpg.connect(url, connection_class=Deaf)

    health, detail = check(mesh, "tail", connect=deaf)
    assert (health, detail) == (Health.BAD, "no notification came within 5 s")


def test_a_follower_that_cannot_sign_in_is_found(
    mesh: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_PATIENCE", 2.0)

    async def refused() -> Any:
        url = replace(mesh.credentials, secret="another").url("levada_runner", "levada")
        return await asyncpg.connect(url)

    health, detail = check(mesh, "tail", connect=refused)
    assert (health, detail) == (Health.BAD, "a committed line did not come within 2 s")


def test_a_commit_that_somebody_holds_up_is_found(
    mesh: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_connections._SESSION, "lock_timeout", "1s")
    monkeypatch.setattr(doctor, "CHECKS", {"tail": doctor.tail})
    url = mesh.credentials.url(mesh.credentials.admin, "levada")
    with psycopg.connect(url) as blocker, patient(mesh) as examined:
        blocker.execute("select pg_advisory_xact_lock(0, 42)")
        (finding,) = examine(examined)
    assert finding.health is Health.BAD
    assert "lock timeout" in finding.detail


def test_a_reconciler_that_stopped_is_found(mesh: Workspace) -> None:
    with patient(mesh) as examined:
        for name in ("watch", "reconcile"):
            examined.runner.beat(name)
    assert check(mesh, "reconciler")[0] is Health.OK
    later = datetime.now(UTC) + timedelta(minutes=16)
    assert check(mesh, "reconciler", now=later)[0] is Health.BAD


def test_a_step_that_nobody_takes_up_is_found(mesh: Workspace) -> None:
    with patient(mesh) as examined:
        landing = next(x for x in examined.facts.lines.values() if isinstance(x, Landing))
        examined.runner.land([replace(landing, content="mended")])
    with patient(mesh) as examined:
        planned = plan(examined.mesh, examined.facts, examined.now).steps
        examined.runner.open_steps([s for s in planned if s.product == PRODUCT])
    assert check(mesh, "steps")[0] is Health.OK, "it was asked for a moment ago"
    health, detail = check(mesh, "steps", now=datetime.now(UTC) + timedelta(minutes=16))
    assert health is Health.BAD
    assert f"{PRODUCT} {DAY} since" in detail


def test_a_claim_whose_lease_ran_out_is_found(mesh: Workspace) -> None:
    assert check(mesh, "claims")[0] is Health.OK
    claim(mesh, "dead", timedelta(0))
    health, detail = check(mesh, "claims")
    assert health is Health.BAD
    assert f"{PRODUCT} {DAY} by run dead" in detail
    with patient(mesh) as examined:
        examined.runner.release("dead", [line(mesh).partition], "the test is over")


def test_an_intent_whose_publisher_died_is_found_but_not_as_a_dead_claim(mesh: Workspace) -> None:
    assert check(mesh, "intents") == (Health.OK, "no intent is open")
    publisher = intend(mesh, "orphan", timedelta(0))
    health, detail = check(mesh, "intents")
    assert health is Health.BAD
    assert f"run orphan of {PRODUCT} (1 lines, the warehouse has nothing)" in detail
    assert check(mesh, "claims")[0] is Health.OK
    publisher.withdraw("orphan", "the test is over")


def test_a_catalogue_that_was_not_told_is_found(mesh: Workspace) -> None:
    mesh.levada("catalog")
    late = {"older": timedelta(0)}
    assert check(mesh, "catalogue", **late)[0] is Health.OK
    intend(mesh, "told-nobody", timedelta(hours=1)).publish("told-nobody", "999999")
    health, detail = check(mesh, "catalogue", **late)
    assert health is Health.BAD
    assert "lacks 1 publications" in detail
    assert check(mesh, "catalogue")[0] is Health.OK, "it may be a quarter of an hour late"


def test_a_line_whose_data_the_lake_lacks_is_found(mesh: Workspace) -> None:
    health, detail = check(mesh, "warehouse")
    assert health is Health.BAD
    assert detail == "operations's warehouse lacks version 999999, which newest lines name"


def test_a_table_changed_by_hand_is_found(mesh: Workspace) -> None:
    def work(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("delete from operations.main.flights_v1 where source_line = 2")

    with mesh.lake() as lake:
        lake._writer.run(["operations"], work)
    health, detail = check(mesh, "warehouse")
    assert health is Health.BAD
    assert "changed operations.flights@1 without a publication (no run)" in detail


def test_a_state_that_the_log_does_not_say_is_found_and_ends_the_command_with_1(
    mesh: Workspace,
) -> None:
    url = mesh.credentials.url(mesh.credentials.admin, "levada")
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("update ledger.publication set content = 'forged' where newest")
    health, detail = check(mesh, "ledger")
    assert health is Health.BAD
    assert "forged" in detail
    said = mesh.levada("doctor", code=1).stdout
    assert "levada ledger rebuild" in said


def test_a_database_without_airflow_has_no_sensors(mesh: Workspace) -> None:
    assert deferred(mesh.credentials.url("airflow", "airflow")) is None


def test_metadata_of_another_airflow_and_a_broken_check_are_findings_and_the_rest_is_told(
    mesh: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Patient) -> Any:
        raise ZeroDivisionError("no such luck")

    checks = {"sensors": doctor.sensors, "odd": broken, "claims": doctor.claims}
    monkeypatch.setattr(doctor, "CHECKS", checks)
    url = mesh.credentials.url(mesh.credentials.admin, "airflow")
    with psycopg.connect(url, autocommit=True) as admin, patient(mesh) as examined:
        admin.execute("create table public.task_instance (nothing text)")
        admin.execute("grant select on public.task_instance to public")
        told = {finding.name: finding for finding in examine(examined)}
        admin.execute("drop table public.task_instance")
    assert [told[name].health for name in checks] == [Health.BAD, Health.BAD, Health.OK]
    assert "another version's? relation" in told["sensors"].detail
    assert told["odd"].detail == "cannot be looked at: ZeroDivisionError: no such luck"


def test_a_duration_that_is_none_is_refused(mesh: Workspace) -> None:
    assert "is no duration" in mesh.levada("doctor", "--older-than", "soon", code=2).stderr


def test_where_no_batch_was_ever_run_no_rule_is_called_dead(
    mesh: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = SimpleNamespace(overdue=False, state="dead")
    monkeypatch.setattr(doctor, "asleep", lambda *_: (dead,))

    assert check(mesh, "rules") == (
        Health.UNSEEN,
        "no consistency batch was ever run on this ledger",
    )
