"""What is put back of a backfill where only some of what was there before is kept."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny
from workspace import Workspace

from levada.terms import TableRef

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DAYS = ["2013-03-08", "2013-03-09", "2013-03-10"]
NUMBERS = "north.numbers"


@pytest.fixture(scope="module", params=["ducklake", "postgres"])
def mesh(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    """Three days, each of a data version of its own."""
    mesh = tiny.mesh(tmp_path_factory.mktemp(request.param) / "mesh", ("north",), last=DAYS[-1])
    settings = mesh.root / "levada.yaml"
    settings.write_text(f"{settings.read_text()}warehouse: {{type: {request.param}}}\n")
    tiny.project(mesh, "north", lands=True)
    tiny.contract(mesh, "north", "numbers")
    model(mesh, "amount")
    for number, day in enumerate(DAYS):
        tiny.landed(mesh, "north", day, [number])
    mesh.start()
    mesh.levada("run")
    yield mesh
    mesh.stop()


def model(mesh: Workspace, amount: str) -> None:
    landed = "{{ source('landing', 'numbers') }}"
    told = f"cast(id as integer) as id, cast(day as date) as day, {amount} as amount"
    sql = told.replace("amount as amount", "cast(amount as integer) as amount")
    tiny.model(mesh, "north", "numbers", f"select {sql} from {landed}")


def amounts(mesh: Workspace) -> dict[str, int]:
    with mesh.warehouse() as warehouse:
        place = warehouse.place(TableRef("north", "numbers"))
        rows = warehouse.read(f"select day, amount from {place}")
    return {str(row["day"]): int(str(row["amount"])) for row in rows}


@contextmanager
def lease(mesh: Workspace, seconds: str) -> Iterator[None]:
    """What begins in the block has a longer lease."""
    settings = mesh.root / "levada.yaml"
    text = settings.read_text()
    settings.write_text(text.replace("lease: 2s", f"lease: {seconds}"))
    yield
    settings.write_text(text)


def version_of(mesh: Workspace, day: str) -> str:
    rows = mesh.rows(
        "select data_version from ledger.publications"
        " where newest and split_part(part, '|', 2) like %s",
        f"{day}%",
    )
    return str(rows[0][0])


def doubled(mesh: Workspace, name: str, killed: str = "") -> str:
    """A backfill of all days by another code, one after the other; its id."""
    path = other_code(mesh, name)
    if killed:
        mesh.killed_at(killed, "backfill", "run", path, "--local")
    told: Any = mesh.json("backfill", "run", path, "--local")
    assert told["steps"] == {"made": 3}
    assert set(amounts(mesh).values()) == {999}
    model(mesh, "amount")
    mesh.levada("compile")
    return str(told["id"])


def test_what_a_later_version_still_shows_is_put_back_and_the_rest_is_kept_and_named(
    mesh: Workspace,
) -> None:
    before = amounts(mesh)
    last = version_of(mesh, DAYS[-1])
    name = doubled(mesh, "all of it")
    words = ("--reason", "wrong")
    # The versions of the first days; the newest of before shows them, too.
    mesh.expire("north", last)
    done = mesh.json("backfill", "rollback", name, *words)
    assert done["steps"] == {"restored": 3}
    assert amounts(mesh) == before
    name = doubled(mesh, "some of it")
    # Nothing of before is kept, but something of the backfill, in between.
    mesh.expire("north", version_of(mesh, DAYS[0]))
    done = mesh.json("backfill", "rollback", name, *words, code=1)
    assert (done["state"], done["steps"]) == ("rolled back", {"restored": 2, "kept": 1})
    ((kept, why),) = [(each["partition"], each["because"]) for each in done["left"]]
    assert kept == DAYS[0]
    assert re.search(r"the data of before has expired: version \d+ of north .* since 20\d\d-", why)
    again = mesh.levada("backfill", "status", name).stdout
    assert "1 kept" in again
    assert amounts(mesh) == {**before, DAYS[0]: 999}
    ((state, said),) = mesh.rows(
        "select state, because from ledger.backfill_steps where backfill = %s and key = %s",
        *(name, DAYS[0]),
    )
    assert (state, said) == ("kept", why), "the ledger says so"
    assert "what the log says" in mesh.levada("ledger", "verify").stdout


def test_what_was_recovered_late_is_not_taken_for_what_was_before(mesh: Workspace) -> None:
    """Its line stands behind those of later versions, which show what the backfill had made."""
    path = str(mesh.root / "as before.json")
    mesh.levada("backfill", "plan", NUMBERS, "--reason", "as before", "--out", path)
    mesh.levada("backfill", "run", path, "--local")
    with lease(mesh, "40s"):
        name = doubled(mesh, "recovered late", killed="after swap")
    lines = mesh.rows(
        "select split_part(part, '|', 2), data_version::int from ledger.publications"
        " where newest order by pos"
    )
    days = [start[:10] for start, _ in lines]
    versions = [version for _, version in lines]
    assert versions[-1] == min(versions), "the first that was swapped is the last that was told"
    mesh.expire("north", str(versions[0]))
    done = mesh.json("backfill", "rollback", name, "--reason", "wrong", code=1)
    # The last day alone is still shown as it was, by the version that made the second.
    assert done["steps"] == {"restored": 1, "kept": 2}
    assert {day for day, amount in amounts(mesh).items() if amount == 999} == {days[0], days[2]}


def test_what_was_built_while_it_was_cancelled_is_put_back_too(mesh: Workspace) -> None:
    before = amounts(mesh)
    path = other_code(mesh, "cancelled in flight", "777")
    words = ("backfill", "run", path, "--local")
    with lease(mesh, "90s"):  # what stands still holds it until the rollback was refused
        run = mesh.begin(*words, point="before swap", number=signal.SIGSTOP)
        run.wait_until_stopped()
    mesh.levada("backfill", "cancel", id_of(path))
    refused = mesh.levada("backfill", "rollback", path, "--reason", "wrong", code=2)
    assert "is still building" in refused.stderr
    run.signal(signal.SIGCONT)
    run.wait()
    told = mesh.json("backfill", "status", id_of(path))[0]
    assert (told["state"], told["steps"]) == ("cancelled", {"made": 1, "cancelled": 2})
    assert 777 in amounts(mesh).values()
    done = mesh.json("backfill", "rollback", path, "--reason", "wrong")
    assert (done["state"], done["steps"]) == ("rolled back", {"restored": 1, "cancelled": 2})
    assert amounts(mesh) == before


@pytest.mark.parametrize("point", ["after swap", "after lines"])
def test_what_a_killed_process_had_swapped_in_before_the_cancel_is_put_back_too(
    mesh: Workspace, point: str
) -> None:
    before = amounts(mesh)
    path = other_code(mesh, f"killed {point}", str(700 + len(point)))
    mesh.killed_at(point, "backfill", "run", path, "--local")
    mesh.levada("backfill", "cancel", id_of(path))
    words = ("backfill", "rollback", path, "--reason", "wrong")
    deadline = time.monotonic() + 30
    while mesh.levada(*words, code=None).returncode:  # until the lease of the dead has run out
        assert time.monotonic() < deadline
        time.sleep(0.2)
    told = mesh.json("backfill", "status", id_of(path))[0]
    assert (told["state"], told["steps"]) == ("rolled back", {"restored": 1, "cancelled": 2})
    assert amounts(mesh) == before


def other_code(mesh: Workspace, name: str, amount: str = "999") -> str:
    """A plan of all days by another code; its file."""
    model(mesh, amount)
    mesh.levada("compile")
    path = mesh.root / f"{name}.json"
    mesh.levada("backfill", "plan", NUMBERS, "--reason", name, "--out", str(path))
    return str(path)


def id_of(path: str) -> str:
    return str(json.loads(Path(path).read_text())["id"])
