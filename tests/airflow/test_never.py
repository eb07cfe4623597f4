"""That something can never be is said only after looking at all that it is made from."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from tests.unit.strategies import NOW, World, edge, make_mesh, make_source, ref, single
from tests.unit.test_looking import Asked
from tests.unit.test_near_facts import deep

from levada.intervals import within
from levada.terms import (
    Facts,
    Grain,
    Identity,
    Lag,
    Mesh,
    Partition,
    Product,
    Publication,
    Verdict,
)
from levada_sensors.asking import Ask, ask_of
from levada_sensors.desk import Glance, _answers
from levada_sensors.judging import Outcome, glance_at_product, judge_product, product_touches

pytestmark = pytest.mark.airflow
WAYS = ("desk", "claim")


def chain(*, published: bool) -> tuple[World, Partition]:
    """
    Six tables, of which the first reads the day before: of the span's first day it can never be
    made. It was published all the same, while the span began earlier.
    """
    names = ["a.t0", *(f"a.t{n}" for n in range(1, 6))]
    edges = [edge("a.landing.x", "a.t0", Lag(1))]
    edges += [edge(up, down, Identity()) for up, down in itertools.pairwise(names)]
    products = [single(name, Grain.DAY, e) for name, e in zip(names, edges, strict=True)]
    world = World(make_mesh(products, [make_source("a.landing.x", Grain.DAY)]))
    day = within(*world.mesh.slicing(ref("a.t0")), world.mesh.span)[0]
    if published:
        contract = world.mesh.mart(ref("a.t0")).contract
        world.lines[ref("a.t0"), day] = Publication(
            *(
                ref("a.t0"),
                day,
                1,
                contract.label,
                Verdict.PASS,
                "7",
                "1:a",
                "f",
                (),
                (),
                "r1",
                NOW,
                1,
            ),
        )
    return world, day


def ledger_of(world: World) -> Asked:
    ledger = Asked(lambda: world.now)
    ledger.lines = dict(world.lines)
    return ledger


@dataclass(frozen=True)
class Waiter:
    product: Product
    at: Partition

    def ask(self, mesh: Mesh) -> Ask:
        return ask_of(mesh, [(self.product, self.at)])

    def glance(self, mesh: Mesh, facts: Facts) -> Glance:
        found = glance_at_product(facts, mesh, self.product, self.at, prefix="p@", attempt="1")
        return Glance(found, product_touches(mesh, self.product, self.at))


def outcome(way: str, world: World, product: Product, day: Partition) -> Outcome:
    ledger = ledger_of(world)
    if way == "claim":
        found = judge_product(ledger, world.mesh, product, day, prefix="p@", attempt="1")
        return found.outcome
    (glance,) = _answers(world.mesh, ledger, [Waiter(product, day)])
    assert isinstance(glance, Glance)
    answer = glance.answer
    if answer is None:  # it may be claimed: it judges alone
        return outcome("claim", world, product, day)
    return answer.outcome


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("hops", [2, 3, 4, 5])
def test_what_was_published_above_need_not_be_built_again(way: str, hops: int) -> None:
    world, day = chain(published=True)
    product = world.mesh.product(f"a.t{hops}")
    assert outcome(way, world, product, day) is Outcome.WAITING


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("hops", range(6))
def test_what_can_never_be_is_said_however_far_below(way: str, hops: int) -> None:
    world, day = chain(published=False)
    product = world.mesh.product(f"a.t{hops}")
    assert outcome(way, world, product, day) is Outcome.NEVER


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("hops", range(1, 6))
def test_an_optional_input_that_may_yet_come_is_waited_for_until_its_deadline(
    way: str, hops: int
) -> None:
    world, day = deep(hops)
    product = world.mesh.product("b.y")
    assert outcome(way, world, product, day) is Outcome.WAITING
    del world.lines[ref("a.t0"), day]
    assert outcome(way, world, product, day) is Outcome.READY, "now it can never come"


def test_all_who_look_far_up_are_answered_by_one_more_reading() -> None:
    world, day = chain(published=False)
    ledger = ledger_of(world)
    waiters = [Waiter(world.mesh.product(f"a.t{hops}"), day) for hops in (3, 4, 5)]
    told = _answers(world.mesh, ledger, waiters)
    answers = [each.answer for each in told if isinstance(each, Glance)]
    assert [each and each.outcome for each in answers] == [Outcome.NEVER] * 3
    near, all_of_it = ledger.readings
    assert near < all_of_it
