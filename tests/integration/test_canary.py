"""A canary over a real mesh: equal and published, different and served by the old version."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from merged import approvers, merge, repository
from tiny import NUMBERS, contract, landed, mesh, model, project
from workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DAYS = [f"2013-03-{day:02}" for day in range(8, 17)]
SOURCE = "{{ source('landing', 'numbers') }}"
PRODUCT = "store.numbers"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A store whose first day is published; the tests go on in the order of this file."""
    workspace = mesh(tmp_path_factory.mktemp("canary"), ["store"], last=DAYS[-1])
    contract(workspace, "store", "numbers")
    project(workspace, "store", lands=True)
    write(workspace, "")
    approvers(workspace, "{username: ines, domains: [store]}")
    (workspace.root / "contracts/governance/policies.yaml").write_text(
        "canaries: [{where: {domain: store}, promote: policy, intervals: 2}]\n"
    )
    landed(workspace, "store", DAYS[0], [1, 2, 3])
    repository(workspace)
    workspace.start()
    workspace.levada("run")
    yield workspace
    workspace.stop()


def write(store: Workspace, change: str) -> None:
    """The model as it was, or with another condition, which changes code and maybe rows."""
    model(store, "store", "numbers", f"select {NUMBERS}\nfrom {SOURCE}\n{change}")


def land(store: Workspace, day: str, amounts: list[object], code: int = 0) -> Any:
    landed(store, "store", day, amounts)
    return store.json("run", code=code)


def newest(store: Workspace, day: str) -> tuple[str, int, int]:
    """Which version serves a day, in which generation and how many rows."""
    ((run, generation, content),) = store.rows(
        "select run, generation, content from ledger.publications where newest and part like %s",
        f"%{day}%",
    )
    return ("old" if run.endswith(".old") else "new"), generation, int(content.split(":")[0])


def told(store: Workspace) -> Any:
    return store.json("canary", "status", PRODUCT)[-1]


def test_what_cannot_be_a_canary_is_refused_with_all_that_is_wrong(store: Workspace) -> None:
    wrong = ("canary", "start", PRODUCT, "--tolerance", "amont=1", "--intervals", "0")
    refused = store.levada(*wrong, code=2).stderr
    for said in ("what is written is what was published", "no column 'amont'", "--intervals"):
        assert said in refused
    assert (
        "did you mean 'store.numbers'"
        in store.levada("canary", "start", "x.numbers", code=2).stderr
    )


def test_who_starts_one_does_not_say_what_promotes_it(store: Workspace) -> None:
    policies = store.root / "contracts/governance/policies.yaml"
    was = policies.read_text()
    write(store, "where true")
    policies.write_text(was.replace("intervals: 2", "intervals: 1"))
    start = ("canary", "start", PRODUCT, "--intervals", "1", "--reason", "I am in a hurry")

    refused = " ".join(store.levada(*start, code=2).stderr.split())

    assert "wants at least 2 equal intervals: governance recorded so many" in refused
    assert store.json("canary", "status") == []
    policies.write_text(was)
    write(store, "")


def test_where_both_make_the_same_the_new_version_is_published(store: Workspace) -> None:
    write(store, "where try_cast(amount as integer) < 100")
    start = (
        *("canary", "start", PRODUCT, "--intervals", "2", "--promote", "approval"),
        *("--reason", "leave out what is absurd"),
    )
    store.levada(*start, "--dry-run")
    assert store.json("canary", "status") == []
    store.levada(*start)
    assert "is running: promote or abort it first" in store.levada(*start, code=2).stderr

    land(store, DAYS[1], [4, 5, 6])

    assert newest(store, DAYS[1]) == ("new", 1, 3)
    (interval,) = told(store)["intervals"]
    assert (interval["equal"], interval["counts"], interval["because"]) == (
        True,
        True,
        "the same rows",
    )


def test_where_they_differ_the_old_one_is_and_keys_and_columns_are_kept(store: Workspace) -> None:
    land(store, DAYS[2], [7, 800, 9])

    assert newest(store, DAYS[2]) == ("old", 1, 3)
    interval = told(store)["intervals"][-1]
    found = interval["differences"]["store.numbers@1"]
    assert (interval["equal"], found["only_old"], found["only_new"]) == (False, 1, 0)
    assert found["samples"][0]["key"] == ["1", "2013-03-10", "800"]
    assert store.json("reproduce", PRODUCT, DAYS[2])["verdict"] == "identical"


def test_an_interval_counts_once_by_its_newest_generation(store: Workspace) -> None:
    land(store, DAYS[3], [1])
    assert told(store)["in_a_row"] == 1
    land(store, DAYS[3], [2])
    assert newest(store, DAYS[3]) == ("new", 2, 1)
    assert told(store)["in_a_row"] == 1

    merge(store)
    refused = store.levada(*promotion("ines"), code=2).stderr
    assert "has 1 equal intervals in a row, and needs 2" in refused


def promotion(who: str) -> tuple[str, ...]:
    return (
        "canary",
        "promote",
        PRODUCT,
        "--reviewer",
        who,
        "--commit",
        "HEAD",
        "--reason",
        "equal",
    )


def test_a_third_version_serves_nothing_until_the_canary_ended(
    store: Workspace,
) -> None:
    write(store, "where 1 = 1")
    said = land(store, DAYS[4], [1, 2], code=1)
    assert "is neither: abort it, and start another one" in said["withheld"][0]["because"]
    write(store, "where try_cast(amount as integer) < 100")
    land(store, DAYS[4], [1, 2])
    assert newest(store, DAYS[4]) == ("new", 1, 2)


def test_while_a_plan_holds_steps_of_the_product_nobody_promotes_it(store: Workspace) -> None:
    plan = str(store.root / "plan.json")
    words = ("backfill", "plan", PRODUCT, "--from", DAYS[0], "--to", DAYS[0], "--reason", "again")
    store.levada(*words, "--out", plan)
    store.killed_at("before intent", "backfill", "run", plan, "--local", "--force")

    refused = store.levada(*promotion("ines"), code=2).stderr

    assert "has open steps of store.numbers: let it finish, or cancel it first" in refused
    store.json("backfill", "run", plan, "--local", "--force")
    assert told(store)["in_a_row"] == 3


def test_it_is_promoted_by_approval_and_then_built_alone(store: Workspace) -> None:
    assert "joe wrote it" in store.levada(*promotion("joe"), code=2).stderr
    store.levada(*promotion("ines"))

    assert told(store)["state"] == "promoted"
    land(store, DAYS[5], [1, 800])
    assert newest(store, DAYS[5]) == ("new", 1, 1)
    assert len(told(store)["intervals"]) == 5


def test_one_command_rolls_back_and_the_old_version_is_built_alone(store: Workspace) -> None:
    store.levada("canary", "abort", PRODUCT, "--reason", "a bulk order is not absurd")

    assert newest(store, DAYS[5]) == ("old", 2, 2)
    assert newest(store, DAYS[2]) == ("old", 1, 3)
    land(store, DAYS[6], [1, 900])
    assert newest(store, DAYS[6]) == ("old", 1, 2)
    assert told(store)["state"] == "aborted"
    assert store.levada("ledger", "verify").returncode == 0


def test_a_policy_promotes_by_itself_after_so_many_equal_ones(store: Workspace) -> None:
    write(store, "where true")
    start = ("canary", "start", PRODUCT, "--intervals", "2")
    store.levada(*start, "--reason", "say nothing in other words")
    for day in DAYS[7:9]:
        land(store, day, [1, 2])

    assert told(store)["state"] == "promoted"
    assert told(store)["because"] == "2 equal intervals in a row"


def test_a_new_version_that_cannot_be_built_serves_the_old_one(store: Workspace) -> None:
    write(store, "where 1 / try_cast('x' as integer[])[1] > 0 or error('never')")
    store.levada("canary", "start", PRODUCT, "--reason", "it is broken")
    land(store, DAYS[8], [5])

    assert newest(store, DAYS[8]) == ("old", 2, 1)
    interval = told(store)["intervals"][-1]
    assert (interval["equal"], interval["counts"]) == (False, True)
    assert interval["because"].startswith("the new version was not built: ")


TASKS = """\
import sys
from pathlib import Path
from levada.flow import loop
from levada_sensors import working
root, product, day = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
with working.opened(root, publishing=False) as platform:
    loop.probe(platform, platform.mesh.span)
working.publish(root, product, day, working.build(root, product, day, (product, "manual")))
"""


def test_airflows_two_tasks_do_the_same(store: Workspace) -> None:
    store.levada("canary", "abort", PRODUCT, "--reason", "start anew")
    write(store, "where try_cast(amount as integer) < 100")
    store.levada("canary", "start", PRODUCT, "--reason", "leave out what is absurd")
    landed(store, "store", DAYS[8], [6, 700])
    roles = ("levada_runner", "levada_publisher", "levada_domain_store")
    said = {f"AIRFLOW_CONN_{role.upper()}": store.credentials.url(role, "levada") for role in roles}

    done = subprocess.run(
        [sys.executable, "-c", TASKS, str(store.root), PRODUCT, DAYS[8]],
        check=False, capture_output=True, text=True, timeout=200, cwd=store.root,
        env=store.environment() | said | {"AIRFLOW_HOME": str(store.root / "airflow")},
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert newest(store, DAYS[8])[::2] == ("old", 2)
    assert told(store)["intervals"][-1]["differences"]["store.numbers@1"]["only_old"] == 1
