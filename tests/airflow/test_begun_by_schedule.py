"""What the reconciler makes of a due date: one backfill, and the runs that build it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from tests.airflow.test_watching import Airflow
from tests.unit.strategies import NEW_YORK, little_mesh, ref

from levada import compiled
from levada.flow.platform import now
from levada.flow.runs import Platform
from levada.intervals import parse
from levada.settings import Settings, read_settings
from levada.terms import Grain, Landing
from levada_sensors import connections, dag_runs, restating
from levada_sensors.limits import BACKFILL
from levada_sensors.watching import Nudge, ReconcileTrigger, Reminders

pytestmark = [pytest.mark.airflow, pytest.mark.integration]

HERE = ZoneInfo(NEW_YORK)
TODAY = datetime.now(HERE).date()
DAYS = [str(TODAY - timedelta(days=back)) for back in (3, 2, 1)]
FLIGHTS = "operations.flights"


@pytest.fixture
def present(project: Settings) -> Settings:
    """The little mesh in days of the present, with a backfill of three of them each day."""
    first, last = (str(TODAY + timedelta(days=n)) for n in (-9, 9))
    path = project.root / "levada.yaml"
    words = yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # noqa: S506 - dates as they stand
    words |= {"span": {"from": first, "to": last}, "live_from": first}
    path.write_text(yaml.safe_dump(words))
    settings = read_settings(project.root)
    compiled.save(settings, little_mesh(first=first, last=last), settings.domains)
    declare(settings)
    return settings


def declare(settings: Settings, name: str = "nightly", first: date = TODAY) -> None:
    words = {"tables": [FLIGHTS], "only_domains": ["operations"], "every": "day"}
    words |= {"from": str(first), "last": "3d", "reason": "corrections"}
    path = settings.root / "contracts" / "governance" / "backfills.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"backfills": {name: words}}))


@pytest.fixture
def advance(
    present: Settings, ledgers: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Airflow], list[str]]:
    """What the reconciler's task does of backfills, each time as a new process would."""

    def act(airflow: Airflow) -> list[str]:
        monkeypatch.setattr(dag_runs, "ask", airflow)
        of_no_use: Any = None
        platform = Platform(
            settings=present,
            mesh=connections.mesh_of(present.root),
            runner=ledgers.runner,
            publisher=ledgers.publisher,
            warehouse=of_no_use,
            builder=of_no_use,
            auditor=of_no_use,
            clock=now,
            probes=of_no_use,
            claim_lifetime=timedelta(hours=1),
        )
        return list(restating.advance(platform, ledgers.runner))

    return act


def land(ledgers: Any) -> None:
    table = ref("operations.landing.flights")
    slices = [parse(Grain.DAY, day, NEW_YORK) for day in DAYS]
    at = datetime.now(UTC)
    ledgers.runner.land([Landing(table, p, 0, "a", f"{p}.csv", 1, at) for p in slices])


def nudge(settings: Settings, url: str) -> Nudge | None:
    """What the trigger has for the reconciler of backfills, and never later than the next date."""
    work = ReconcileTrigger(root=str(settings.root))._plan(url)
    midnight = datetime.combine(TODAY + timedelta(days=1), time(), HERE)
    assert work.next is not None
    assert work.next <= midnight, "it wakes by itself for the next due date"
    return work.nudge


def test_a_due_backfill_is_begun_once_by_the_reconciler_and_its_runs_are_created(
    present: Settings, ledgers: Any, ledger_url: str, advance: Callable[[Airflow], list[str]]
) -> None:
    land(ledgers)
    due = nudge(present, ledger_url)
    assert due is not None
    assert (due.patient, due.mark.split()[0]) == (False, "nightly"), "it is work at once"

    airflow = Airflow()
    said = advance(airflow)

    (begun,) = ledgers.runner.backfills()
    assert said[0] == f"nightly of {TODAY} is begun as {begun.id}: 3 intervals"
    assert (begun.state, begun.forced, begun.steps) == ("running", False, {"open": 3})
    asked = begun.document["asked"]
    assert asked["reason"] == f"nightly of {TODAY}: corrections"
    assert asked["by"] == "schedule nightly"
    steps = ledgers.runner.backfill_steps(begun.id)
    assert [(step.product, step.partition.key) for step in steps] == [(FLIGHTS, d) for d in DAYS]
    assert {run["dag_id"] for run in airflow.triggered} == {BACKFILL}
    conf = [run["conf"] for run in airflow.triggered]
    assert conf == [{"backfill": begun.id, "product": FLIGHTS, "slices": [day]} for day in DAYS]
    note = f"backfill {begun.id}: nightly of {TODAY}: corrections"
    assert {run["note"] for run in airflow.triggered} == {note}
    claims = ledgers.runner.facts((), [FLIGHTS]).claims
    assert {partition.key for _, partition in claims} == set(DAYS), "each of them has its claim"

    again = Airflow(alive=1)
    assert advance(again) == [], "it is begun, and its runs are under way"
    assert again.triggered == []
    assert [each.id for each in ledgers.runner.backfills()] == [begun.id]
    left = nudge(present, ledger_url)
    assert left is not None
    assert left.patient, "it is looked after in case somebody dies"
    assert "nightly" not in left.mark


def test_what_has_not_landed_is_left_by_the_reconciler_and_named(
    ledgers: Any, advance: Callable[[Airflow], list[str]]
) -> None:
    airflow = Airflow()
    begun, left = advance(airflow)
    assert airflow.triggered == []
    (found,) = ledgers.runner.backfills()
    assert (begun.split()[0], left) == ("nightly", f"{found.id}: 3 steps are left")
    assert (found.state, found.steps) == ("finished", {"left": 3})
    because = {step.because for step in ledgers.runner.backfill_steps(found.id, None, "left")}
    assert because == {
        f"waits for operations.landing.flights {day}: nothing landed" for day in DAYS
    }


def test_a_due_date_that_waits_for_an_approval_begins_nothing_and_hides_nothing(
    present: Settings, ledgers: Any, ledger_url: str, advance: Callable[[Airflow], list[str]]
) -> None:
    policies = present.root / "contracts" / "governance" / "policies.yaml"
    policies.write_text("backfills: {intervals: 2}\n")
    land(ledgers)
    said = advance(Airflow())
    because = "3 intervals are made again: more than 2"
    assert said == [f"nightly of {TODAY} waits for an approval of governance: {because}"]
    assert ledgers.runner.backfills() == ()
    waits = nudge(present, ledger_url)
    assert waits is not None
    reminders = Reminders()
    assert reminders.fresh("m", [waits], 0.0) == [waits]
    assert reminders.fresh("m", [waits], 19.0) == [], "not twice a second, for days"

    other = parse(Grain.DAY, DAYS[0], NEW_YORK)
    ledgers.runner.begin_backfill("bf-1", {}, {FLIGHTS: [other]})
    both = nudge(present, ledger_url)
    assert both is not None
    assert both.mark != waits.mark
    assert reminders.fresh("m", [both], 19.5) == [both], "what runs beside it is news"


def test_a_fault_of_one_declaration_or_of_the_policies_stops_no_running_backfill(
    present: Settings, ledgers: Any, advance: Callable[[Airflow], list[str]]
) -> None:
    land(ledgers)
    advance(Airflow())
    (begun,) = ledgers.runner.backfills()
    for claim in ledgers.runner.facts((), [FLIGHTS]).claims.values():
        ledgers.runner.release(claim.run, [claim.partition], "its DAG run was never created")
    governance = Path(present.root, "contracts", "governance")
    declare(present, "weekly")
    (governance / "policies.yaml").write_text("backfills: {intervals: many}\n")
    airflow = Airflow()
    said = advance(airflow)
    assert said[0].startswith(f"weekly of {TODAY} is not begun: "), "nobody knows what it needs"
    assert len(airflow.triggered) == 3, "and what was begun goes on"
    assert [each.id for each in ledgers.runner.backfills()] == [begun.id]
    declare(replace(present), "weekly")
    text = (governance / "backfills.yaml").read_text()
    (governance / "backfills.yaml").write_text(text.replace("every: day", "every: fortnight"))
    said = advance(Airflow(alive=1))
    assert said[0].startswith("no backfill of this declaration is begun: ")
