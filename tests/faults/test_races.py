"""Runs that meet: slow ones, equal ones, neighbours. What is newer stands; nothing is lost."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date

import pytest
from source_system import break_row, land_span
from warm import Running
from workspace import Workspace

pytestmark = pytest.mark.integration

DAY, NEXT = "2013-03-08", "2013-03-09"
FLIGHTS = "operations.flights@1"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One domain, two days of it published; a lease is over after two seconds."""
    workspace = Workspace.make(
        tmp_path_factory.mktemp("races"), domains=["operations"], first=DAY, last=NEXT
    )
    land_span(date(2013, 3, 8), date(2013, 3, 9), workspace.landing)
    workspace.start()
    workspace.levada("run")
    yield workspace
    workspace.stop()


def delayed(mesh: Workspace, day: str) -> int:
    """The published delay of the first flight that was landed for a day."""
    with mesh.lake() as lake:
        (row,) = lake.read(
            "select dep_delay from operations.main.flights_v1"
            " where flight_date = ? and source_line = 2",
            [day],
        )
    assert isinstance(row["dep_delay"], int)
    return row["dep_delay"]


def delay(mesh: Workspace, day: str, minutes: int) -> None:
    """Land a day again, its first flight late by so many minutes."""
    break_row(mesh.landed("flights", day), "dep_delay", str(minutes))


def stopped(mesh: Workspace, point: str, *words: str) -> Running:
    """A run that stands still there, its heart too, as on a machine that ran out of memory."""
    slow = mesh.begin("run", *words, point=point, number=signal.SIGSTOP)
    slow.wait_until_stopped()
    return slow


def wait_until_somebody_waits_for_a_lock(mesh: Workspace) -> None:
    deadline = time.monotonic() + 60
    waiting = "select from pg_locks where locktype = 'advisory' and not granted"
    while not mesh.rows(waiting):
        assert time.monotonic() < deadline, "nobody came to the lock"
        time.sleep(0.05)


def assert_every_snapshot_has_its_lines(mesh: Workspace) -> None:
    runs = {run for *_, run, _ in mesh.publications()}
    with mesh.lake() as lake:
        assert lake.unaccounted("operations", runs) == ()
        assert all(lake.find("operations", run) for run in runs)
    assert not mesh.rows("select run from ledger.intents")
    assert not mesh.rows("select run from ledger.claims")


@pytest.mark.parametrize(
    ("point", "minutes"),
    [("after build", 210), ("after intent", 220)],
)
@pytest.mark.prove
def test_a_slow_run_of_older_input_cannot_overwrite_a_newer_publication(
    mesh: Workspace, point: str, minutes: int
) -> None:
    delay(mesh, DAY, minutes)
    slow = stopped(mesh, point, "operations.flights")
    ((run,),) = mesh.rows("select run from ledger.claims")
    delay(mesh, DAY, minutes + 1)

    mesh.levada("run")  # waits for the end of the lease, takes over, publishes
    published = mesh.publications()
    assert delayed(mesh, DAY) == minutes + 1
    slow.signal(signal.SIGCONT)

    assert slow.wait().returncode == 0, "it was too late, and that is no failure"
    assert mesh.publications() == published
    assert run not in {line[3] for line in published}
    with mesh.lake() as lake:
        assert lake.find("operations", run) is None, "nothing was swapped"
    assert delayed(mesh, DAY) == minutes + 1
    assert_every_snapshot_has_its_lines(mesh)


@pytest.mark.prove
def test_a_run_that_is_in_its_swap_is_waited_for_and_then_followed_by_the_newer(
    mesh: Workspace,
) -> None:
    before = mesh.publications()
    delay(mesh, DAY, 230)
    slow = stopped(mesh, "before swap", "operations.flights")
    delay(mesh, DAY, 231)
    newer = mesh.begin("run")
    wait_until_somebody_waits_for_a_lock(mesh)

    slow.signal(signal.SIGCONT)

    assert [slow.wait().returncode, newer.wait().returncode] == [0, 0]
    fresh = [line for line in mesh.publications() if line not in before]
    assert Counter(table for table, *_ in fresh)[FLIGHTS] == 2, "the older, then the newer"
    assert delayed(mesh, DAY) == 231
    assert_every_snapshot_has_its_lines(mesh)


def test_two_runs_of_one_product_and_interval_at_once_publish_it_once(mesh: Workspace) -> None:
    before = mesh.publications()
    delay(mesh, DAY, 240)

    both = [mesh.begin("run"), mesh.begin("run")]

    assert [run.wait().returncode for run in both] == [0, 0]
    fresh = Counter(line[:2] for line in mesh.publications() if line not in before)
    assert {table for table, _ in fresh} == {FLIGHTS, "operations.delays@1"}
    assert set(fresh.values()) == {1}
    assert delayed(mesh, DAY) == 240
    assert_every_snapshot_has_its_lines(mesh)


@pytest.mark.prove
def test_two_intervals_of_one_table_published_at_once_both_arrive(mesh: Workspace) -> None:
    before = mesh.publications()
    delay(mesh, DAY, 250)
    delay(mesh, NEXT, 251)

    # The first stands in its swap, with the table's lock; the second comes to it meanwhile.
    one = stopped(mesh, "before swap", "operations.flights", "--from", DAY, "--to", DAY)
    other = mesh.begin("run", "operations.flights", "--from", NEXT, "--to", NEXT)
    wait_until_somebody_waits_for_a_lock(mesh)
    one.signal(signal.SIGCONT)

    assert [one.wait().returncode, other.wait().returncode] == [0, 0]
    fresh = Counter(line[:2] for line in mesh.publications() if line not in before)
    assert list(fresh.values()) == [1, 1]
    assert delayed(mesh, DAY) == 250
    assert delayed(mesh, NEXT) == 251
    assert_every_snapshot_has_its_lines(mesh)
