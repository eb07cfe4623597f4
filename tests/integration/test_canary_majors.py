"""A new major beside the old one: compared by its gate, withheld where they differ, promoted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from merged import approvers, merge, repository
from tiny import NUMBERS, contract, landed, mesh, model, project
from workspace import Workspace

from levada import compiled
from levada.adapters.dbt.workers import DbtWorkers
from levada.flow import platform as opening
from levada.flow import stages
from levada.intervals import parse
from levada.settings import read_settings
from levada.terms import TableRef

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DAYS = [f"2013-03-{day:02}" for day in range(8, 13)]
OLD, NEW = "store.numbers@1", "store.numbers@2"
START = ("canary", "start", NEW, "--against", "1", "--reason", "an amount is a total")
POLICIES = """\
canaries:
  - where: {table: store.numbers@2}
    promote: approval
    intervals: 2
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A published table and its second major, which calls the amount a total and cuts it at 100."""
    workspace = mesh(tmp_path_factory.mktemp("majors"), ["store"], last=DAYS[-1])
    first = contract(workspace, "store", "numbers")
    first.with_name("numbers.v2.odcs.yaml").write_text(
        first.read_text()
        .replace("version: 1.0.0", "version: 2.0.0")
        .replace("dataProduct: numbers", "dataProduct: totals")
        .replace("name: amount", "name: total")
    )
    project(workspace, "store", lands=True)
    source = "from {{ source('landing', 'numbers') }}"
    model(workspace, "store", "numbers_v1", f"select {NUMBERS}\n{source}")
    total = "least(try_cast(amount as integer), 100) as total"
    renamed = NUMBERS.replace("try_cast(amount as INTEGER) as amount", total)
    assert renamed != NUMBERS
    model(workspace, "store", "numbers_v2", f"select {renamed}\n{source}")
    (workspace.root / "models/store/base/numbers.yml").write_text(
        "models:\n  - name: numbers\n    latest_version: 2\n    versions: [{v: 1}, {v: 2}]\n"
    )
    approvers(workspace, "{username: ines, domains: [store]}")
    (workspace.root / "contracts/governance/policies.yaml").write_text(POLICIES)
    repository(workspace)
    landed(workspace, "store", DAYS[0], [1, 2])
    workspace.start()
    yield workspace
    workspace.stop()


def newest(store: Workspace) -> dict[str, list[str]]:
    """The published days of each major."""
    rows = store.rows("select table_name, part from ledger.publications where newest order by 2")
    return {
        table: [day for name, part in rows if name == table for day in DAYS if day in part]
        for table in (OLD, NEW)
    }


def told(store: Workspace) -> Any:
    return store.json("canary", "status", NEW)[-1]


@contextmanager
def in_the_midst(store: Workspace, day: str) -> Iterator[None]:
    """What is done between the audit of a day of the new major and its publication."""
    settings = read_settings(store.root)
    mesh = compiled.load(settings)
    product = mesh.product(TableRef.parse(NEW))
    partition = parse(product.grain, day, product.zone)
    with (
        DbtWorkers() as workers,
        opening.open_platform(settings, mesh, store.credentials, workers) as platform,
    ):
        run = stages.sense(platform, stages.Run(stages.new_run_id(), product, (partition,)))
        assert not run.over, run.waiting
        run = stages.audit(platform, stages.build(platform, run))
        yield
        stages.publish(platform, run)


def test_without_a_gate_it_is_refused_with_the_gate_to_declare(store: Workspace) -> None:
    refused = store.levada(*START, code=2).stderr
    assert f"no gate of {NEW} compares it with {OLD}" in refused
    suggestion = refused[refused.index("batch: ") : refused.index("\n1 fault")]
    both = "key: [day], values: [id]"
    assert suggestion.count(both) == 2

    # As suggested, with the column that is called otherwise.
    text = suggestion.replace(both, "key: [day, id], values: [amount]", 1)
    text = text.replace(both, "key: [day, id], values: {amount: total}")
    path = store.root / "contracts/governance/consistency/numbers_majors.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + "\n")
    store.levada("check")


def test_less_than_governance_asks_is_refused(store: Workspace) -> None:
    less = store.levada(*START, "--intervals", "1", "--promote", "policy", code=2).stderr
    assert "governance lets it be promoted by approval alone" in less
    assert "governance asks for 2" in less
    refused = store.levada("canary", "start", NEW, "--against", "3", code=2).stderr
    assert "no table store.numbers@3" in refused


def test_equal_intervals_are_published_and_counted_beside_the_old_major(store: Workspace) -> None:
    store.levada(*START, "--intervals", "3")
    said = " ".join(store.levada("run").stdout.split())
    assert "governance recorded what a canary of store.totals needs" in said

    assert newest(store) == {OLD: DAYS[:1], NEW: DAYS[:1]}
    assert (told(store)["in_a_row"], told(store)["rule"]) == (1, "numbers_majors.v2_is_v1")


def test_what_differs_is_withheld_told_and_starts_the_row_anew(store: Workspace) -> None:
    landed(store, "store", DAYS[1], [3, 800])
    store.levada("run", code=1)

    assert newest(store) == {OLD: DAYS[:2], NEW: DAYS[:1]}
    interval = told(store)["intervals"][-1]
    found = interval["differences"][NEW]
    assert (interval["equal"], interval["counts"], found["cases"]) == (False, True, 1)
    assert "800" in found["samples"][0]
    assert told(store)["in_a_row"] == 0

    landed(store, "store", DAYS[1], [3, 80])
    store.levada("run")
    assert newest(store) == {OLD: DAYS[:2], NEW: DAYS[:2]}
    assert told(store)["in_a_row"] == 2, "an interval counts once, by its newest generation"


def test_it_is_promoted_by_approval_after_so_many_and_its_readers_may_move(
    store: Workspace,
) -> None:
    merge(store)
    words = (
        "canary",
        "promote",
        NEW,
        "--reviewer",
        "ines",
        "--commit",
        "HEAD",
        "--reason",
        "alike",
    )
    assert "has 2 equal intervals in a row, and needs 3" in store.levada(*words, code=2).stderr
    landed(store, "store", DAYS[2], [5])
    store.levada("run")

    landed(store, "store", DAYS[3], [6])
    store.levada("run", OLD)

    with in_the_midst(store, DAYS[3]):
        said = " ".join(store.levada(*words).stdout.split())

    assert f"the readers of {OLD} may move to it; give that its end" in said
    assert told(store)["state"] == "promoted"
    assert newest(store) == {OLD: DAYS[:4], NEW: DAYS[:4]}
    assert len(told(store)["intervals"]) == 3, "what is promoted is no longer told of"
    store.levada("ledger", "verify")


def test_one_command_takes_the_new_major_out_and_the_old_one_goes_on(store: Workspace) -> None:
    store.levada("canary", "abort", NEW, "--reason", "totals are not amounts")
    landed(store, "store", DAYS[4], [7])
    said = store.json("run", code=1)

    assert newest(store) == {OLD: DAYS, NEW: DAYS[:4]}
    assert "was aborted: mend it, or take it away" in said["withheld"][0]["because"]
