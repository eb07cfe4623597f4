"""A reading that many share, over the slices that they look at, answers as a whole one would."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.strategies import World, edge, little_mesh, ref, single

from levada.intervals import within
from levada.ports import Want
from levada.sense import want
from levada.terms import (
    Check,
    Deadline,
    Facts,
    Grain,
    Identity,
    Latest,
    Mesh,
    Partition,
    Product,
    TableRef,
    Trailing,
    Verdict,
    WaitPolicy,
)
from levada_sensors.asking import Ask, ask_of, ask_to_claim
from levada_sensors.judging import glance_at_product, judge_tables

pytestmark = pytest.mark.airflow

SEEDS = (0, *(pytest.param(seed, marks=pytest.mark.prove) for seed in range(1, 6)))


def mesh() -> Mesh:
    """The little mesh, and products that look further: back, or at the newest day."""
    little = little_mesh()
    hours, daily = "weather.observations", "company.daily"
    lagging = edge(
        hours,
        "company.lagging",
        next(d.mapping for d in little.product(hours).dependencies),
        wait=WaitPolicy(deadline=Deadline(after=timedelta(hours=3)), max_lag=timedelta(hours=5)),
    )
    trailing = edge("operations.flights", "company.trailing", Trailing(2))
    behind = edge("company.trailing", "company.behind", Identity())
    newest = edge(daily, "company.newest", Latest())
    # As compiled declarations have it: what a check is given may be a list, which has no hash.
    check = Check("known", "invalidValues", arguments=(("validValues", ["a", "b"]),))
    first = single("company.lagging", Grain.HOUR, lagging)
    (mart,) = first.marts
    checked = replace(mart, contract=replace(mart.contract, checks=(check,)))
    more = (
        replace(first, marts=(checked,)),
        single("company.trailing", Grain.DAY, trailing),
        single("company.behind", Grain.DAY, behind),
        single("company.newest", Grain.DAY, newest),
        single("company.above", Grain.DAY, replace(newest, upstream=ref("company.newest"))),
    )
    return replace(little, products=(*little.products, *more))


def lived(mesh: Mesh, seed: int) -> World:
    """A world in which things landed, were published, failed and were restated, at random."""
    world, dice = World(mesh), random.Random(seed)
    slices = {
        what: list(within(*grain_and_zone, mesh.span))
        for what, grain_and_zone in [
            *((s.table, (s.grain, s.zone)) for s in mesh.sources),
            *((p.id, (p.grain, p.zone)) for p in mesh.products),
        ]
    }
    for _ in range(1200):
        if dice.random() < 0.5:
            source = dice.choice(mesh.sources)
            at = dice.choice(slices[source.table][:60])
            world.land(str(source.table), at, dice.choice("ab"))
            continue
        product = dice.choice(mesh.products)
        at = dice.choice(slices[product.id][:60])
        if not isinstance(want(mesh, product, at, world.facts, world.now), Want):
            continue
        if dice.random() < 0.8:
            world.publish(product.id, at, dice.choice([None, "same"]))
        else:
            world.attempt(product.id, at, dice.choice([Verdict.FAIL, Verdict.UNKNOWN]))
    return world


def read(facts: Facts, ask: Ask) -> Facts:
    """What the ledger gives for an ask."""

    def inside(partition: Partition) -> bool:
        span = ask.span
        return not span or not partition.start or span.start <= partition.start < span.end

    return replace(
        facts,
        lines={k: v for k, v in facts.lines.items() if k[0] in ask.tables and inside(k[1])},
        attempts={k: v for k, v in facts.attempts.items() if k[0] in ask.products and inside(k[1])},
        claims={k: v for k, v in facts.claims.items() if k[0] in ask.products and inside(k[1])},
    )


def everywhere(mesh: Mesh) -> list[tuple[Product, Partition]]:
    return [(p, at) for p in mesh.products for at in within(p.grain, p.zone, mesh.span)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_narrow_reading_answers_a_product_as_the_whole_ledger_does(seed: int) -> None:
    declared = mesh()
    facts = lived(declared, seed).facts
    narrow = 0
    for product, partition in everywhere(declared):
        ask = ask_of(declared, [(product, partition)])
        narrow += ask.span is not None
        words: Any = {"prefix": "dag@run@", "attempt": "try"}
        some, whole = (
            glance_at_product(seen, declared, product, partition, **words)
            for seen in (read(facts, ask), facts)
        )
        assert told(some) == told(whole), f"{product} {partition}"
    assert narrow > len(everywhere(declared)) / 2


@pytest.mark.parametrize("seed", range(6))
def test_a_narrow_reading_answers_a_table_as_the_whole_ledger_does(seed: int) -> None:
    declared = mesh()
    facts = lived(declared, seed).facts
    wanted: list[tuple[TableRef, Partition, Product | TableRef]] = [
        (m.table, at, p) for p, at in everywhere(declared) for m in p.marts
    ]
    wanted += [
        (s.table, at, s.table)
        for s in declared.sources
        for at in within(s.grain, s.zone, declared.span)
    ]
    for table, partition, what in wanted:
        ask = ask_of(declared, [(what, partition)])
        some, whole = (
            judge_tables(seen, declared, [(table, partition)], {})
            for seen in (read(facts, ask), facts)
        )
        assert told(some) == told(whole), f"{table} {partition}"


@pytest.mark.parametrize("seed", SEEDS)
def test_who_claims_pins_what_it_would_pin_by_the_whole_ledger(seed: int) -> None:
    declared = mesh()
    world = lived(declared, seed)
    claimed = 0
    for product, partition in everywhere(declared):
        seen = read(world.facts, ask_to_claim(declared, product, partition))
        some, whole = (
            want(declared, product, partition, facts, world.now) for facts in (seen, world.facts)
        )
        assert some == whole, f"{product} {partition}"
        claimed += isinstance(whole, Want) and bool(whole.inputs)
    assert claimed


def told(answer: Any) -> Any:
    """An answer but for `next`, which two clocks may tell apart by microseconds."""
    return answer and (answer.outcome, answer.because, answer.next is None)
