"""Killed or failing at any step of a canary: each interval is of one version, published once."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import pytest
from killed import OF_CANARIES
from tiny import NUMBERS, contract, landed, mesh, model, project
from workspace import Workspace, by_hand

from levada.flow.platform import ledger
from levada.terms import TableRef

T = TypeVar("T")

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DAYS = ("2013-03-08", "2013-03-09")
PRODUCT = "store.numbers"
EQUAL, DIFFERS = "equal", "differs"
MODEL = """\
{{{{ config(meta={{'levada': {{'batch': true}}}}) }}}}
select {numbers}
from {{{{ source('landing', 'numbers') }}}}
{change}
"""
POINTS = [(point, told) for point in OF_CANARIES for told in (EQUAL, DIFFERS)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Two published days, and a canary whose new version leaves out amounts of 1000 and more."""
    workspace = mesh(tmp_path_factory.mktemp("killed"), ["store"], last=DAYS[1])
    contract(workspace, "store", "numbers")
    project(workspace, "store", lands=True)
    model(workspace, "store", "numbers", MODEL.format(numbers=NUMBERS, change=""))
    for day in DAYS:
        landed(workspace, "store", day, [1])
    workspace.start()
    workspace.levada("run")
    change = "where try_cast(amount as integer) < 1000"
    model(workspace, "store", "numbers", MODEL.format(numbers=NUMBERS, change=change))
    workspace.levada("canary", "start", PRODUCT, "--reason", "leave out what is absurd")
    yield workspace
    workspace.stop()


def lines(store: Workspace) -> list[tuple[Any, ...]]:
    """Day, generation and run of every line."""
    return [
        (next(day for day in DAYS if day in part), generation, run)
        for part, generation, run in store.rows(
            "select part, generation, run from ledger.publications order by 1, 2"
        )
    ]


def assert_published_once(
    store: Workspace, before: Sequence[object], right: Mapping[str, tuple[str, list[int]]]
) -> None:
    """
    Since then each of these days was published once, by the version and with the amounts that are
    right, and counts once; of other days nothing; and nothing is left behind.
    """
    now = lines(store)
    fresh = [line for line in now if line not in before]
    assert Counter(day for day, *_ in fresh) == dict.fromkeys(right, 1)
    for day in DAYS:
        found = [generation for each, generation, _ in now if each == day]
        assert found == list(range(1, len(found) + 1))
    (canary,) = store.json("canary", "status", PRODUCT)
    told = {each["partition"]: each for each in canary["intervals"]}
    with store.lake() as lake:
        for day, _, run in fresh:
            version, amounts = right[day]
            assert run.endswith(".old") == (version == DIFFERS)
            sql = "select amount from store.main.numbers_v1 where day = ? order by amount"
            assert lake.read(sql, [day]) == [{"amount": amount} for amount in amounts]
            (key,) = (key for key in told if day in key)
            assert (told[key]["equal"], told[key]["counts"]) == (version == EQUAL, True)
        swapped = lake.unaccounted("store", {run for *_, run in now})
        assert not [change for change in swapped if change.run], "what no line tells of"
    assert_nothing_is_left(store)


def assert_nothing_is_left(store: Workspace) -> None:
    assert not store.rows("select run from ledger.intents")
    assert not store.rows("select run from ledger.claims")
    store.levada("ledger", "verify")


@pytest.mark.parametrize(("point", "told"), POINTS)
def test_a_canary_killed_there_publishes_each_interval_once_by_the_right_version(
    store: Workspace, point: str, told: str
) -> None:
    # Each restates the first day by an amount of its own; the new version leaves some of them out.
    amount = list(OF_CANARIES).index(point) + (1000 if told == DIFFERS else 100)
    landed(store, "store", DAYS[0], [amount])
    before = lines(store)

    store.killed_at(point, "run")
    store.levada("run")

    assert_published_once(store, before, {DAYS[0]: (told, [amount])})


@pytest.mark.parametrize("point", OF_CANARIES)
def test_of_two_intervals_built_together_each_is_of_its_version(
    store: Workspace, point: str
) -> None:
    amount = 200 + list(OF_CANARIES).index(point)
    landed(store, "store", DAYS[0], [amount])
    landed(store, "store", DAYS[1], [amount, 2000])
    before = lines(store)

    store.killed_at(point, "run")
    store.levada("run")

    right = {DAYS[0]: (EQUAL, [amount]), DAYS[1]: (DIFFERS, [amount, 2000])}
    assert_published_once(store, before, right)


def test_a_table_that_is_held_when_the_old_version_is_swapped_in_leaves_no_claim(
    store: Workspace,
) -> None:
    landed(store, "store", DAYS[0], [3000])
    before = lines(store)
    run = store.begin("run", point="before intent", number=signal.SIGSTOP)
    run.wait_until_stopped()
    with store.lake() as lake:
        by_hand(
            lake, "store", f"update store.main.numbers_v1 set amount = 7 where day = '{DAYS[0]}'"
        )
    run.signal(signal.SIGCONT)

    done = run.wait()

    assert "Traceback" not in done.stderr
    assert not store.rows("select run from ledger.claims")
    store.levada("release", PRODUCT, "--reason", "a test on purpose")
    store.levada("run")
    assert_published_once(store, before, {DAYS[0]: (DIFFERS, [3000])})


def test_a_swap_of_the_old_version_that_fails_is_an_attempt_of_the_run(store: Workspace) -> None:
    landed(store, "store", DAYS[0], [4000])
    before = lines(store)
    run = store.begin("run", point="before swap", number=signal.SIGSTOP)
    run.wait_until_stopped()
    data = store.root / ".levada" / "lake" / "store"
    data.rename(data.with_name("away"))
    data.write_text("a file where a folder was")
    run.signal(signal.SIGCONT)

    done = run.wait()

    data.unlink()
    data.with_name("away").rename(data)
    assert done.returncode == 1, done.stdout + done.stderr
    assert not store.rows("select run from ledger.claims")
    ((verdict, because),) = store.rows("select verdict, because from ledger.attempts")
    assert (verdict, before) == ("UNKNOWN", lines(store)), because
    until(lambda: store.levada("run", code=None) and lines(store), lambda now: now != before)
    assert_published_once(store, before, {DAYS[0]: (DIFFERS, [4000])})


def test_a_canary_that_lost_its_claim_while_it_compared_publishes_nothing(store: Workspace) -> None:
    landed(store, "store", DAYS[0], [4100])
    before = lines(store)
    run = store.begin("run", point="before it is told", number=signal.SIGSTOP)
    run.wait_until_stopped()
    landed(store, "store", DAYS[0], [4200])
    store.levada("run")
    run.signal(signal.SIGCONT)
    done = run.wait()

    assert "Traceback" not in done.stderr
    assert_published_once(store, before, {DAYS[0]: (DIFFERS, [4200])})


def test_the_claim_of_the_old_version_is_kept_alive_while_it_waits_for_the_tables_lock(
    store: Workspace,
) -> None:
    landed(store, "store", DAYS[0], [5000])
    before = lines(store)
    with ledger(store.credentials, "levada_publisher") as other:
        with other.locked([TableRef("store", "numbers")]):
            run = store.begin("run")
            first = until(lambda: lease(store), bool)
            until(lambda: lease(store), lambda ends: bool(ends and first and ends > first))
        assert run.wait().returncode == 0

    assert_published_once(store, before, {DAYS[0]: (DIFFERS, [5000])})


def lease(store: Workspace) -> datetime | None:
    """Until when the intent of an old version has its claim."""
    found = store.rows("select until from ledger.intents where run like '%%.old'")
    return found[0][0] if found else None


def until(ask: Callable[[], T], enough: Callable[[T], bool]) -> T:
    """The first answer that is enough."""
    deadline = time.monotonic() + 60
    while not enough(answer := ask()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)
    return answer
