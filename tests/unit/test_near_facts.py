"""
How far up facts have to reach: the inputs of inputs are enough, unless the judge says `far`.

Whatever a run or a sensor decides by so few facts is what all facts would have it decide.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import cast

import pytest
from histories import one_history
from tests.unit.strategies import NOW, World, edge, make_mesh, make_source, ref, single
from tests.unit.test_looking import Asked

from levada.flow.stages import Platform, Run, sense
from levada.intervals import within
from levada.ports import Want
from levada.readiness import Judge
from levada.sense import asked, products_to_read, tables_to_read
from levada.simulate import Simulation
from levada.terms import (
    Deadline,
    Grain,
    Identity,
    Lag,
    Partition,
    Product,
    Publication,
    Readiness,
    State,
    Verdict,
    WaitPolicy,
)

SEED = 7013
FIRST, SECOND = "2013-03-04", "2013-03-05"


class Differs(AssertionError):
    """What is decided by few facts is not what all facts have decided."""


class Near(Simulation):
    """A simulation in which everything is decided by few facts, too."""

    compared = far = 0

    def _decide(self, dirty: set[tuple[str, Partition]]) -> None:
        targets: dict[str, list[Partition]] = {}
        for name, partition in sorted(dirty):
            targets.setdefault(name, []).append(partition)
        ledger = Asked(lambda: self.now)
        ledger.__dict__ |= self.ledger.__dict__
        whole = Judge(self.mesh, self.ledger.facts(), self.now)
        for name, partitions in targets.items():
            product = self.mesh.product(name)
            tables = tables_to_read(self.mesh, [product])
            facts = ledger.facts(tables, products_to_read(self.mesh, [product]))
            for partition in partitions:
                near = Judge(self.mesh, facts, self.now)
                found, should = (asked(j, product, [partition]) for j in (near, whole))
                type(self).compared += 1
                type(self).far += near.far
                if not near.far and _what(found) != _what(should):
                    raise Differs(f"{name} {partition}: {_what(found)}, not {_what(should)}")
        super()._decide(dirty)


def _what(found: Mapping[Partition, Want | Readiness]) -> object:
    """What is done; the words may say less of what lies far up."""
    (only,) = found.values()
    return only if isinstance(only, Want) else (only.state, only.next)


@pytest.mark.parametrize("number", range(12))
def test_few_facts_decide_as_all_do_unless_the_judge_looks_far(number: int) -> None:
    one_history(SEED + number, Near)
    assert Near.compared


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_few_facts_decide_as_all_do_in_five_hundred_histories() -> None:
    before = Near.compared, Near.far
    for seed in range(SEED, SEED + 500):
        one_history(seed, Near)
    compared, far = Near.compared - before[0], Near.far - before[1]
    print(f"\ndecided by few facts: {compared}, of which the judge looked far: {far}")
    assert 0 < far < compared


# One that stands though it can never be built again


def deep(hops: int) -> tuple[World, Partition]:
    """
    A chain whose first table reads the day before: of the span's first day it can never be made,
    and yet it was published, while the span began earlier. The last table is an optional input,
    with a deadline, of `b.y`.
    """
    names = [f"a.t{n}" for n in range(hops + 1)]
    edges = [edge("a.landing.x", "a.t0", Lag(1))]
    edges += [edge(up, down, Identity()) for up, down in itertools.pairwise(names)]
    products = [single(name, Grain.DAY, e) for name, e in zip(names, edges, strict=True)]
    policy = WaitPolicy(deadline=Deadline(after=timedelta(days=9999)))
    optional = edge(names[-1], "b.y", Identity(), wait=policy, required=False)
    needed = edge("a.landing.x", "b.y", Identity())
    products.append(single("b.y", Grain.DAY, optional, needed))
    world = World(make_mesh(products, [make_source("a.landing.x", Grain.DAY)]))
    first, second = within(*world.mesh.slicing(ref("a.t0")), world.mesh.span)[:2]
    assert (first.key, second.key) == (FIRST, SECOND)
    for day in (first, second):
        world.land("a.landing.x", day.key)
    contract = world.mesh.mart(ref("a.t0")).contract.label
    world.lines[ref("a.t0"), first] = Publication(
        *(ref("a.t0"), first, 1, contract, Verdict.PASS, "7", "1:a", "f", (), (), "r1", NOW, 1)
    )
    return world, first


def sensed(world: World, product: Product, *days: Partition) -> Run:
    """What the first stage of a run makes of it, on a ledger that shows what it is asked for."""
    ledger = Asked(lambda: world.now)
    ledger.lines, ledger.attempts = dict(world.lines), dict(world.attempts)
    ledger.probed({table: failure.because for table, failure in world.probes.items()})
    platform = SimpleNamespace(
        mesh=world.mesh,
        runner=ledger,
        clock=lambda: world.now,
        claim_lifetime=timedelta(minutes=1),
    )
    return sense(cast("Platform", platform), Run("r9", product, days))


@pytest.mark.parametrize("hops", range(1, 6))
def test_an_optional_input_that_may_yet_come_is_waited_for_however_deep_it_is(hops: int) -> None:
    world, day = deep(hops)
    found = sensed(world, world.mesh.product("b.y"), day)
    assert found.claims == (), "its deadline is to come"
    assert found.waiting[day].state is State.WAITING
    assert found.waiting[day].next is not None


@pytest.mark.parametrize("hops", range(1, 6))
def test_one_that_can_never_come_is_not_waited_for(hops: int) -> None:
    world, day = deep(hops)
    del world.lines[ref("a.t0"), day]
    found = sensed(world, world.mesh.product("b.y"), day)
    assert [claim.partition for claim in found.claims] == [day]


def test_what_is_said_of_one_slice_beside_others_that_are_claimed_looks_as_far() -> None:
    world, day = deep(3)
    product = world.mesh.product("a.t3")
    other = world.slice("a.t3", SECOND)
    for name in ("a.t0", "a.t1", "a.t2"):
        world.publish(name, SECOND)
    found = sensed(world, product, day, other)
    assert [claim.partition for claim in found.claims] == [other]
    assert found.waiting[day].state is State.WAITING, "what stands above need not be built again"


def test_an_earlier_slice_that_stands_may_replace_what_can_never_be() -> None:
    world, day = deep(0)
    second = world.slice("a.t0", SECOND)
    lost = single("a.t0", Grain.DAY, edge("a.landing.x", "a.t0", Lag(2)))  # neither day has its own
    policy = WaitPolicy(deadline=Deadline(after=timedelta(0)), max_lag=timedelta(days=1))
    reader = single("b.y", Grain.DAY, edge("a.t0", "b.y", Identity(), wait=policy))
    world.mesh = make_mesh([lost, reader], world.mesh.sources)
    assert Judge(world.mesh, world.facts, NOW).inputs(reader, second).state is State.READY
    del world.lines[ref("a.t0"), day]
    assert Judge(world.mesh, world.facts, NOW).inputs(reader, second).state is State.IMPOSSIBLE


@pytest.mark.parametrize("hops", range(5))
def test_what_nobody_can_tell_far_up_is_recorded_by_the_run_that_goes_without(hops: int) -> None:
    names = ["a.landing.x", *(f"a.t{n}" for n in range(hops + 1))]
    products = [
        single(down, Grain.DAY, edge(up, down, Identity()))
        for up, down in itertools.pairwise(names)
    ]
    optional = edge(names[-1], "b.y", Identity(), required=False)
    products.append(single("b.y", Grain.DAY, optional, edge("a.landing.o", "b.y", Identity())))
    sources = [make_source("a.landing.x", Grain.DAY), make_source("a.landing.o", Grain.DAY)]
    world = World(make_mesh(products, sources))
    world.land("a.landing.o", FIRST)
    world.silence("a.landing.x")
    (claim,) = sensed(world, world.mesh.product("b.y"), world.slice("b.y", FIRST)).claims
    assert claim.taint == (f"degraded: {names[-1]}@1 {FIRST} unknown",)


@pytest.mark.parametrize("hops", range(1, 5))
def test_what_an_input_went_without_is_judged_as_far_up_as_it_takes(hops: int) -> None:
    """
    `b.z` reads `b.y`, which went without the last of a chain. When that is there, `b.y` is to be
    made again; when it is stale itself, by what stands further up, `b.y` may be read as it is.
    """
    names = ["a.landing.x", *(f"a.t{n}" for n in range(hops + 1))]
    products = [
        single(down, Grain.DAY, edge(up, down, Identity()))
        for up, down in itertools.pairwise(names)
    ]
    optional = edge(names[-1], "b.y", Identity(), required=False)
    products.append(single("b.y", Grain.DAY, optional, edge("a.landing.o", "b.y", Identity())))
    products.append(single("b.z", Grain.DAY, edge("b.y", "b.z", Identity())))
    sources = [make_source("a.landing.x", Grain.DAY), make_source("a.landing.o", Grain.DAY)]
    world = World(make_mesh(products, sources))
    product, at = world.mesh.product("b.z"), world.slice("b.z", FIRST)
    world.land("a.landing.o", FIRST)
    world.publish("b.y", FIRST)
    world.land("a.landing.x", FIRST)
    for name in names[1:]:
        world.publish(name, FIRST)
    assert sensed(world, product, at).waiting[at].missing == ((ref("b.y"), at),)
    world.land("a.landing.x", FIRST, "moved")
    for name in names[1:-1]:
        world.publish(name, FIRST)
    (claim,) = sensed(world, product, at).claims
    assert [read.table for read in claim.inputs] == [ref("b.y")]
