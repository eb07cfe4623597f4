"""
Random histories: files land late, twice, changed, broken and mended, in any order, and after each
few events the planner's steps are worked off. An oracle that knows only what landed in the end
says what must be published; it shares no code with judge or planner.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from tests.unit.strategies import World, failing_check, little_mesh, ref

from levada.plan import plan
from levada.ports import Want
from levada.sense import want
from levada.terms import Partition, TableRef, Verdict

FIRST, LAST = "2013-03-04", "2013-03-10"  # one week whose last day has 23 hours
BAD = "bad"
ZONE = ZoneInfo("America/New_York")
SEED = int(os.environ.get("LEVADA_SEED", "20130310"))


def digest(*words: str) -> str:
    """Few different contents, so that rebuilding often gives the same one."""
    return f"c{int(hashlib.sha256('|'.join(words).encode()).hexdigest(), 16) % 5}"


def hours_of(day: str) -> list[str]:
    """The UTC hours of a local day, by walking real time."""
    start = datetime.fromisoformat(day).replace(tzinfo=ZONE).astimezone(UTC)
    hours = (start + timedelta(hours=n) for n in range(26))
    return [f"{hour:%Y-%m-%dT%H}Z" for hour in hours if f"{hour.astimezone(ZONE):%Y-%m-%d}" == day]


DAYS = [f"2013-03-{day:02d}" for day in range(4, 11)]
SLOTS = (
    [("operations.landing.flights", day) for day in DAYS]
    + [("weather.landing.hours", hour) for day in DAYS for hour in hours_of(day)]
    + [("fleet.landing.planes", "whole")]
)


class History(World):
    """A world that works off its plan, as `levada run` would."""

    def __init__(self) -> None:
        super().__init__(little_mesh(first=FIRST, last=LAST))
        self.made: list[tuple[str, str, str]] = []

    def settle(self) -> None:
        """Plan and work until a round publishes nothing."""
        for _ in range(12):
            before = len(self.made)
            for step in plan(self.mesh, self.facts, self.now).steps:
                self.work(step.product, step.partition)
            if len(self.made) == before:
                return
        raise AssertionError("the plan never comes to rest")

    def work(self, product: str, partition: Partition) -> None:
        asked = want(self.mesh, self.mesh.product(product), partition, self.facts, self.now)
        if not isinstance(asked, Want):
            return
        contents = sorted(pin.content or "" for pin in asked.inputs if "planes" not in str(pin))
        if product == "fleet.planes":
            contents = [asked.inputs[0].content or ""]
        if any(BAD in content for content in contents):
            self.attempt(product, partition, Verdict.FAIL, [failing_check(product)])
            return
        self.made.append((product, partition.key, asked.fingerprint))
        self.publish(product, partition, digest(product, *contents))


def expected(landed: dict[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """What must be published in the end, from what landed in the end."""
    out: dict[tuple[str, str], str] = {}
    made = {
        "operations.landing.flights": "operations.flights",
        "weather.landing.hours": "weather.observations",
        "fleet.landing.planes": "fleet.planes",
    }
    for (table, key), content in landed.items():
        if BAD not in content:
            out[made[table], key] = digest(made[table], content)
    for day in DAYS:
        inputs = [("operations.flights", day)]
        inputs += [("weather.observations", hour) for hour in hours_of(day)]
        if ("fleet.planes", "whole") in out and all(i in out for i in inputs):
            out["company.daily", day] = digest("company.daily", *sorted(out[i] for i in inputs))
    if all(("company.daily", day) in out for day in DAYS):
        week = sorted(out["company.daily", day] for day in DAYS)
        out["company.weekly", DAYS[0]] = digest("company.weekly", *week)
    return out


def live(history: History) -> dict[tuple[str, str], str]:
    """What is ready to be read."""
    judge = history.judge()
    return {
        (f"{table.domain}.{table.name}", slice_.key): line.content
        for (table, slice_), line in history.lines.items()
        if not table.is_source and judge.table(table, slice_).state.value == "READY"
    }


def one_history(seed: int) -> Counter[str]:
    """Play one history and compare it with the oracle; how many events of each kind."""
    rng = random.Random(seed)
    history, landed, counts = History(), dict[tuple[str, str], str](), Counter[str]()
    queue = list(SLOTS)
    rng.shuffle(queue)
    never = rng.choice([*SLOTS, None])  # a file that is broken for ever, or none
    queue += rng.choices(SLOTS, k=30)
    for slot in queue:
        kind = rng.choices(["new", "bad", "same"], [8, 1, 1])[0]
        content = f"{rng.randrange(3)}" if kind == "new" else BAD
        if kind == "same" and slot in landed:
            content = landed[slot]
        content = BAD if slot == never else content
        landed[slot] = content
        counts[kind] += 1
        known = history.lines.get(_key(history, slot))
        if known is None or known.content != content:
            history.land(*slot, content)
        if rng.random() < 0.05:
            history.settle()
    for slot in SLOTS:  # in the end, every other broken file is mended
        if BAD in landed[slot] and slot != never:
            landed[slot] = "mended"
            history.land(*slot, "mended")
            counts["mended"] += 1
    history.settle()
    should = expected(landed)
    assert live(history) == should, f"seed {seed}"
    twice = [made for made, n in Counter(history.made).items() if n > 1]
    counts["published"] = len(history.made)
    counts["again, after other inputs"] = len(twice)
    steps = plan(history.mesh, history.facts, history.now).steps
    assert not [s for s in steps if (s.product, s.partition.key) in should], f"seed {seed}"
    return counts


def _key(history: History, slot: tuple[str, str]) -> tuple[TableRef, Partition]:
    return ref(slot[0]), history.slice(slot[0], slot[1])


@pytest.mark.parametrize("number", range(4))
def test_a_history_ends_as_an_oracle_says_whatever_its_order(number: int) -> None:
    counts = one_history(SEED + number)
    assert counts["published"] > 0


@pytest.mark.prove
def test_two_hundred_histories_end_as_an_oracle_says() -> None:
    total: Counter[str] = Counter()
    for number in range(200):
        total += one_history(SEED + number)
    print(f"\nhistories: 200, seeds {SEED} .. {SEED + 199}, {dict(total)}")
    assert total["published"] > 200
