"""A waiver that is approved in Airflow: asked for, answered, and one line of the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import tiny
from live import Live, until
from merged import approvers, repository, waiver

from levada.flow.canary import version
from levada.intervals import parse
from levada.ledger import PostgresLedger
from levada.terms import Canary, CanaryState, CanaryTerms, Trial
from levada_sensors import connections
from levada_sensors.approvals import ApproveWaiver, OpenRequests, approvals_dag, grant

pytestmark = [pytest.mark.airflow, pytest.mark.integration, pytest.mark.prove]

DAY = "2013-03-08"
ASKED = {
    "table": "north.numbers",
    "check": "enough_rows",
    "window": f"{{from: {DAY}, to: {DAY}}}",
    "expires": f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}",
    "reason": "the source is short of rows",
    "owner": "joe",
    "approver": "ines",
}
PLACE = "contracts/governance/waivers/short.yaml"


def declared(mesh: Live, approver: str) -> None:
    """A product whose day is short of rows, and a request for a waiver that was merged."""
    tiny.project(mesh, "north", lands=True)
    enough = "{id: enough_rows, metric: rowCount, mustBeGreaterThan: 2}"
    tiny.contract(mesh, "north", "numbers", quality=enough)
    source = "{{ source('landing', 'numbers') }}"
    tiny.model(mesh, "north", "numbers", f"select {tiny.NUMBERS} from {source}")
    tiny.landed(mesh, "north", DAY, [1])
    approvers(
        mesh, f"{{username: {approver}, domains: [north]}}", "{username: max, domains: [all]}"
    )
    waiver(mesh, "short", **{**ASKED, "approver": approver})
    repository(mesh)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    mesh = Live(tiny.mesh(tmp_path_factory.mktemp("asked") / "mesh", ["north"]).root)
    declared(mesh, "ines")
    mesh.start()
    mesh.levada("compile")
    yield mesh
    mesh.stop()


@pytest.fixture
def signed_in(mesh: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The roles of the mesh, where Airflow's connections would lead."""

    def url(_: object, role: str, database: str = "levada") -> str:
        return mesh.credentials.url(role, database)

    monkeypatch.setattr(connections.AirflowCredentials, "url", url)
    connections.ledger_at.cache_clear()


def answered(mesh: Live, chosen: str, who: str | None, digest: str, **of: str) -> Any:
    asked = {"path": PLACE, "digest": digest, **of}
    task = ApproveWaiver(task_id="approve", subject="?", root=str(mesh.root), **asked)
    event: dict[str, Any] = {
        "chosen_options": [chosen],
        "params_input": {},
        "responded_at": datetime.now(UTC),
        "responded_by_user": {"id": "7", "name": who} if who else None,
    }
    return task.execute_complete({}, event)


@pytest.mark.usefixtures("signed_in")
def test_an_answer_counts_by_the_rules_of_every_other_approval(mesh: Live) -> None:
    (asked,) = OpenRequests(task_id="ask", root=str(mesh.root)).execute({})
    assert asked["path"] == PLACE
    assert "reason: the source is short of rows" in asked["body"]
    digest = asked["digest"]
    answered(mesh, "Reject", "ines", digest)
    for who, why in (
        ("joe", "wrote it"),
        ("eve", "is no approver"),
        ("max", "it asks ines, not max"),
        (None, "nobody has reviewed it"),
    ):
        with pytest.raises(Exception, match=why):
            answered(mesh, "Approve", who, digest)
    with pytest.raises(Exception, match="changed after it was asked for"):
        answered(mesh, "Approve", "ines", "0" * 64)
    path = mesh.root / PLACE
    text = path.read_text()
    path.write_text(text + "# an afterthought\n")
    with pytest.raises(Exception, match=r"is not in .* as it is here"):
        answered(mesh, "Approve", "ines", digest)
    path.write_text(text)
    assert not mesh.rows("select 1 from ledger.waivers")

    answered(mesh, "Approve", "ines", digest)

    ((reviewer, said, by),) = mesh.rows("select reviewer, said, by from ledger.waivers")
    assert (reviewer, said["via"], by) == ("ines", "airflow", "levada_governance")
    assert "joe" in said["authors"]
    assert OpenRequests(task_id="ask", root=str(mesh.root)).execute({}) == []
    assert "granted already" in grant(mesh.root, ("waiver", PLACE, digest), "ines")


@pytest.mark.usefixtures("signed_in")
def test_a_canary_that_is_ripe_is_asked_for_and_promoted_by_the_same_rules(mesh: Live) -> None:
    mesh.levada("run")
    ((run,),) = mesh.rows("select run from ledger.publications")
    product = connections.mesh_of(mesh.root).product("north.numbers")
    ledger = PostgresLedger(mesh.credentials.url("levada_runner", "levada"))
    publisher = PostgresLedger(mesh.credentials.url("levada_publisher", "levada"))
    governance = PostgresLedger(mesh.credentials.url("levada_governance", "levada"))
    governance.set_canary_terms({product.id: CanaryTerms(by_policy=True)})
    terms: Any = (1, True, {}, "count otherwise", datetime.now(UTC))
    ledger.start_canary(
        Canary("c-1", product.id, CanaryState.RUNNING, "old", version(product), *terms)
    )
    assert OpenRequests(task_id="ask", root=str(mesh.root)).execute({}) == []
    day = parse(product.grain, DAY, product.zone)
    publisher.tell_canary("c-1", [Trial(day, True, "the same rows", {}, run)])
    assert OpenRequests(task_id="ask", root=str(mesh.root)).execute({}) == [], "its policy does it"
    governance.set_canary_terms({product.id: CanaryTerms(by_policy=False)})

    (asked,) = OpenRequests(task_id="ask", root=str(mesh.root)).execute({})
    told = {key: asked[key] for key in ("kind", "name", "path")}
    assert told == {"kind": "canary", "name": product.id, "path": product.marts[0].model_path}
    with pytest.raises(Exception, match="wrote it"):
        answered(mesh, "Approve", "joe", asked["digest"], **told)
    answered(mesh, "Approve", "ines", asked["digest"], **told)

    found = ledger.canary(product.id)
    assert found is not None
    assert (found.state, found.reviewer) == (CanaryState.PROMOTED, "ines")
    for each in (ledger, publisher, governance):
        each.close()


def test_the_dag_asks_in_rounds_and_holds_no_address(tmp_path: Path) -> None:
    dag = approvals_dag(tmp_path)
    assert (dag.dag_id, dag.max_active_runs, dag.catchup) == ("levada.approvals", 1, False)
    assert set(dag.task_dict) == {"ask", "approve"}
    said = dag.task_dict["approve"].partial_kwargs  # type: ignore[union-attr]
    assert "postgresql" not in str(said)


@pytest.mark.prove
def test_in_a_running_airflow_who_answers_is_who_approves(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Asked by the scheduler, answered through the API as the page does, granted by a worker."""
    root = tmp_path_factory.mktemp("live") / "mesh"
    mesh = Live(tiny.mesh(root, ["north"]).root)
    declared(mesh, "Anonymous")  # as whom Airflow signs everybody in on one machine
    mesh.start()
    try:
        mesh.levada("run", code=1)
        mesh.fly("north", "approvals")

        def asking() -> list[Any]:
            return mesh.airflow(
                "select dag_id, run_id, task_id, map_index from task_instance"
                " where dag_id = 'levada.approvals' and state = 'awaiting_input'"
            )

        def told() -> object:
            return (mesh.faults(), mesh.airflow("select * from task_instance"), scheduled())

        def scheduled() -> list[str]:
            """What the scheduler said of the question."""
            said = mesh.root / ".levada" / "airflow" / "logs" / "scheduler.log"
            return [line for line in said.read_text().splitlines() if "task_id=approve" in line]

        def heard() -> bool:
            """
            Whether the scheduler has heard that the worker which asked has ended. Where the answer
            is queued before, Airflow may take that end for the answer's, and fails the task: it is
            asked anew in the next round, which is later than this test waits.
            """
            return any("TaskInstance Finished" in line for line in scheduled())

        until(lambda: asking() and heard(), told, 300)
        ((dag, run, task, index),) = asking()
        place = f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/{index}/hitlDetails"
        mesh.ask("PATCH", place, {"chosen_options": ["Approve"], "params_input": {}})

        until(lambda: mesh.rows("select 1 from ledger.waivers"), told, 300)
        ((reviewer, said),) = mesh.rows("select reviewer, said from ledger.waivers")
        assert (reviewer, said["via"]) == ("Anonymous", "airflow")
        # The ledger's line wakes the reconciler, and the day that was withheld is published.
        until(lambda: mesh.counts().get("north.numbers@1"), mesh.lines, 300)
    finally:
        mesh.land_hard()
        mesh.stop()
