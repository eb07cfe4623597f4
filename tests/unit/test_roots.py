"""Six hops over three domains, several failing roots: `why` finds what a plain search does."""

from __future__ import annotations

from random import Random

import pytest
from tests.unit.strategies import (
    World,
    edge,
    failing_check,
    make_mesh,
    make_source,
    ref,
    single,
)

from levada.readiness import trace
from levada.terms import Grain, Identity, State, Verdict

DAY = "2013-03-10"
DOMAINS = ("spring", "channel", "garden")
HOPS = 6


def graph(random: Random) -> tuple[World, dict[str, list[str]], set[str]]:
    """A world, what each of its tables reads, and which of the lowest failed; the end is `end`."""
    layers = [[f"{domain}.t0_{n}" for n, domain in enumerate(DOMAINS)]]
    reads: dict[str, list[str]] = {name: [] for name in layers[0]}
    for hop in range(1, HOPS):
        made = [f"{random.choice(DOMAINS)}.t{hop}_{n}" for n in range(random.randint(2, 3))]
        below = [name for layer in layers for name in layer]
        for name in made:  # one of the layer below, so that the way is long, and shortcuts
            reads[name] = sorted({random.choice(layers[-1]), *random.sample(below, 1)})
        layers.append(made)
    failed = set(random.sample(layers[0], random.randint(2, 3)))
    reads["garden.end"] = sorted({*layers[-1], *random.sample(sorted(failed), 2)})
    sources = [make_source(f"{domain}.landing.files", Grain.DAY) for domain in DOMAINS]
    products = [
        single(
            name,
            Grain.DAY,
            *(
                edge(up, name, Identity())
                for up in above or [f"{name.partition('.')[0]}.landing.files"]
            ),
        )
        for name, above in reads.items()
    ]
    world = World(make_mesh(products, sources))
    for name in layers[0]:
        world.land(f"{name.partition('.')[0]}.landing.files", DAY)
        if name in failed:
            world.attempt(name, DAY, Verdict.FAIL, [failing_check(name)])
        else:
            world.publish(name, DAY)
    return world, reads, failed


def roots(table: str, reads: dict[str, list[str]], failed: set[str]) -> set[str]:
    """A plain search over what was declared: what fails above, else what nobody has built."""
    if not reads[table]:
        return {table} & failed
    return set().union(*(roots(up, reads, failed) for up in reads[table])) or {table}


@pytest.mark.parametrize("seed", range(40))
def test_why_names_every_failing_root_that_a_plain_search_finds(seed: int) -> None:
    world, reads, failed = graph(Random(seed))
    at = world.slice("garden.end", DAY)
    for table in reads:
        hops = trace(world.mesh, ref(table), at, world.facts, world.now)
        found = {str(hop.table).removesuffix("@1") for hop in hops}
        assert found == roots(table, reads, failed)
        assert len(hops) == len(found)
        bad = {str(hop.table) for hop in hops if hop.readiness.state is State.FAILED}
        assert {name.removesuffix("@1") for name in bad} == found & failed
    assert len(roots("garden.end", reads, failed) & failed) >= 2
