"""
Whatever the order of events: once every input has arrived, and where no edge holds or ignores,
random meshes come to rest, with the same contents and verdicts in every partition.

Each mesh is played several times. The same files stand there in the end, broken ones among them;
before that they land in another order each time, some with other contents first, while runs die,
tools break, sources fall silent, the reconciler pauses and time passes.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from histories import Player, random_world
from oracle import Reads, Start, World
from tests.unit.strategies import ref

from levada.readiness import Judge
from levada.simulate import KILLS
from levada.terms import WHOLE, Grain, Partition, State

SEED = int(os.environ.get("LEVADA_SEED", "20130310"))
ORDERS = 3
Slot = tuple[str, Partition]
Ends = dict[tuple[str, Start], tuple[str, str | None, bool]]
"""Of each slice of a table: its state, what is published, whether that is degraded."""


@pytest.mark.thorough
@pytest.mark.parametrize("number", range(12))
def test_contents_and_verdicts_are_the_same_whatever_the_order_of_events(number: int) -> None:
    assert _compared(number) > 0


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_a_thousand_meshes_end_alike_whatever_the_order_of_events() -> None:
    compared = Counter(slices=sum(_compared(number) for number in range(1_000)))
    print(f"\n1000 meshes, {ORDERS} orders each, from seed {SEED}: {dict(compared)} end alike")
    assert compared["slices"] > 1_000


def _compared(number: int) -> int:
    """How many slices of one mesh ended alike in all orders."""
    rng = random.Random(SEED + number)
    world = _unheld(random_world(rng))
    contents = {slot: rng.choice(["a", "b", "c"]) for slot in Player(world, rng).slots}
    for slot in rng.sample(sorted(contents), rng.choice([0, 0, 1])):
        contents[slot] = "bad"
    ends = [_played(world, contents, random.Random(rng.random())) for _ in range(ORDERS)]
    below = _below(world, {name for name, _ in ends[0] if _failed(ends[0], name)})
    first, *others = ({s: e for s, e in end.items() if s[0] not in below} for end in ends)
    for other in others:
        odd = [s for s in first if first[s] != other[s]]
        assert not odd, f"mesh {SEED + number}: {[(s, first[s], other[s]) for s in odd[:3]]}"
    return len(first)


def _unheld(world: World) -> World:
    """The mesh with edges that neither hold nor ignore, and do not look at ages."""
    tables = (replace(t, reads=tuple(map(_plain, t.reads))) for t in world.tables)
    return replace(world, tables=tuple(tables))


def _plain(edge: Reads) -> Reads:
    until = edge.until if edge.max_lag is None else None  # else it would still wait for all
    return replace(edge, restated="rerun", within=None, max_lag=None, until=until)


def _played(world: World, contents: dict[Slot, str], rng: random.Random) -> Ends:
    """How a mesh ends in which these files stand at last, in some order."""
    player = Player(world, rng)
    to_come = {
        slot: [*rng.choices(["a", "b", "bad"], k=rng.choice([0, 0, 1, 2]))] for slot in contents
    }
    for slot, content in contents.items():
        to_come[slot].append(content)
    order = [slot for slot, each in to_come.items() for _ in each]
    rng.shuffle(order)
    for slot in order:
        player.land(slot, to_come[slot].pop(0))
        if rng.random() < 0.4:
            _disturb(player, rng)
    return _rested(player)


def _disturb(player: Player, rng: random.Random) -> None:
    match rng.choice(["jump", "wait", "kill", "pause", "break", "silence"]):
        case "jump":
            player.jump()
        case "wait":
            player.wait(timedelta(hours=rng.choice([0.01, 1, 9, 30])))
        case "kill":
            player.kill(rng.randrange(9), rng.choice(KILLS))
        case "pause":
            player.pause(rng.random() < 0.4)
        case "break":
            player.broken += 1
        case "silence":
            player.silence(rng.randrange(9))


def _rested(player: Player) -> Ends:
    """All answers, nobody is killed any more, and time passes until nothing moves."""
    player.pause(False)
    player.broken = 0
    for number, source in enumerate(player.world.sources):
        if source.name in player.oracle.silent:
            player.silence(number)
    over = max(player.mesh.span.end, player.simulation.now) + timedelta(days=90)
    player.simulation.rest(over)
    player.check()
    late = [e for e in player.simulation.events if e.at > over - timedelta(days=60)]
    assert not late, f"it does not come to rest: {late[:3]}"
    judge = Judge(player.mesh, player.simulation.ledger.facts(), over)
    ends: Ends = {}
    for table in player.world.tables:
        for start in player.world.slices(table.name):
            partition = Partition(Grain(table.grain), start, table.zone) if start else WHOLE
            found = judge.table(ref(table.name), partition)
            line = player.simulation.ledger.lines.get((ref(table.name), partition))
            # What failed keeps what was good before, if anything was.
            content = line.content if line and found.state is State.READY else None
            ends[table.name, start] = (found.state.value, content, found.degraded)
    return ends


def _failed(ends: Ends, table: str) -> bool:
    return any(name == table and state == "FAILED" for (name, _), (state, *_) in ends.items())


def _below(world: World, failed: set[str]) -> set[str]:
    """Every table that is made from one of these, through whatever lies between."""
    below: set[str] = set()
    for name in world.products:  # upstream first
        made = {table.name for table in world.product(name)}
        read = {edge.table for table in world.product(name) for edge in table.reads} - made
        if read & (failed | below):
            below |= made
    return below
