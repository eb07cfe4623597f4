"""The over-detection guard on the real flights: a wrong edit is muted, a gate is held."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date

import pytest
from source_system import land_span
from workspace import REPOSITORY, Workspace

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DAYS = ("2013-03-08", "2013-03-09")
RIGHT = "cancelled: cast(cancelled as integer)"
WRONG = "cancelled: cast(not cancelled as integer)"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Two days of the reference mesh with its own daily rules, run and compared once."""
    workspace = Workspace.make(tmp_path_factory.mktemp("flood"), first=DAYS[0], last=DAYS[1])
    rules = workspace.root / "contracts" / "governance" / "consistency"
    rules.mkdir(parents=True)
    shutil.copy(REPOSITORY / "contracts" / "governance" / "consistency" / "daily.yaml", rules)
    land_span(date.fromisoformat(DAYS[0]), date.fromisoformat(DAYS[1]), workspace.landing)
    workspace.start()
    workspace.levada("run")
    workspace.levada("consistency", "run", code=None)
    yield workspace
    workspace.stop()


def edit(mesh: Workspace, old: str, new: str) -> None:
    path = mesh.root / "contracts" / "governance" / "consistency" / "daily.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def verdicts(mesh: Workspace, rule: str) -> list[tuple[str, str, int]]:
    said = mesh.json("consistency", "run", code=None)
    return [
        (report["partition"], found["verdict"], len(found["offences"]))
        for report in said
        for found in report["rules"]
        if found["rule"] == rule
    ]


def test_an_edit_that_flags_nearly_every_flight_opens_no_break(mesh: Workspace) -> None:
    before = len(mesh.json("breaks", "list"))
    edit(mesh, RIGHT, WRONG)

    told = verdicts(mesh, "delays_say_what_flights_say")

    assert told == [(day, "UNKNOWN", 0) for day in DAYS]
    assert len(mesh.json("breaks", "list")) == before
    ((because, owner),) = mesh.rows("select because, owner from ledger.rule_guards")
    assert because.startswith("it flagged 979 of 979 rows or groups of 2013-03-08 soon after")
    assert owner == "operations-data"


def test_an_edit_of_a_rule_that_blocks_is_held_and_goes_on_in_full(mesh: Workspace) -> None:
    edit(mesh, WRONG, RIGHT)
    days_before = "{flight_date: flight_date - 1, carrier: carrier, flight: flight, origin: origin}"
    key = "key: [flight_date, carrier, flight, origin]}\n    right"
    edit(mesh, key, f"key: {days_before}}}\n    right")

    told = verdicts(mesh, "delays_have_every_flight")

    assert [(day, verdict) for day, verdict, _ in told] == [(day, "FAIL") for day in DAYS]
    held = mesh.rows("select rule from ledger.rule_guards where state = 'held'")
    assert held == [("daily.delays_have_every_flight",)]
    assert mesh.levada("ledger", "verify").returncode == 0
