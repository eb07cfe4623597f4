"""
Random meshes and random histories of them: the simulator plays, the oracle hears every event.

A history is a list of moves; `Player` makes them one by one, so that a seeded generator and a
state machine of hypothesis drive the same thing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, time, timedelta

import oracle as other
from oracle import Oracle, Reads, Told, World, Wrong
from tests.unit.strategies import make_mart, ref

from levada.intervals import within
from levada.readiness import Judge
from levada.simulate import KILLS, Built, Event, Simulation
from levada.terms import (
    WHOLE,
    Claim,
    Deadline,
    Dependency,
    FanOut,
    Grain,
    Identity,
    Input,
    Lag,
    Latest,
    Mesh,
    OnRestatement,
    Partition,
    PartitionMapping,
    Product,
    Rollup,
    Source,
    Span,
    Trailing,
    Verdict,
    WaitPolicy,
)

__all__ = ["Player", "mesh_of", "one_history", "random_world"]

# Days around a change of the clocks, by zone: the first day of a span, before the change.
CHANGES = {
    "America/New_York": [date(2013, 3, 10), date(2013, 11, 3)],
    "Europe/Berlin": [date(2013, 3, 31), date(2013, 10, 27)],
    "Australia/Lord_Howe": [date(2013, 4, 7), date(2013, 10, 6)],  # by half an hour
    "Pacific/Apia": [date(2011, 12, 31)],  # the day before it does not exist
    "America/Sao_Paulo": [date(2013, 10, 20), date(2013, 2, 17)],  # at midnight
    "Asia/Kathmandu": [date(2013, 6, 1)],  # none, and a quarter of an hour off
    "UTC": [date(2013, 6, 1)],
}
GRAINS = {"hours": ("hour", "day"), "days": ("day", "week"), "months": ("day", "month")}
HOUR = timedelta(hours=1)
FEW = 6
"""So many slices of sources are moved more often."""


# Random meshes


def random_world(rng: random.Random) -> World:
    """A small mesh over a change of the clocks."""
    if rng.random() < 0.15:
        return _chain(rng)
    home = rng.choice(list(CHANGES))
    change = rng.choice(CHANGES[home])
    shape = rng.choices(list(GRAINS), [10, 10, 1])[0]
    if shape == "hours":
        first = change - timedelta(days=rng.choice([0, 0, 0, 1]))
        last = change
    elif shape == "days":
        first = change - timedelta(days=rng.randint(1, 7))
        last = first + timedelta(days=rng.randint(6, 8))
    else:
        first = change.replace(day=1) - timedelta(days=rng.randint(0, 2))
        last = change.replace(day=28) + timedelta(days=rng.randint(3, 6))
    zones = [home] * 4 + [rng.choice(list(CHANGES))]
    tables: list[other.Table] = []
    for number in range(rng.randint(2, 3)):
        fine, coarse = GRAINS[shape]
        grain = fine if number == 0 else rng.choice([fine, coarse, coarse, "whole"])
        zone = "UTC" if grain == "whole" else rng.choice(zones)
        tables.append(other.Table(f"d{number}.landing.s{number}", "", grain, zone))
    for number in range(rng.randint(2, 4)):
        grain = rng.choices([*GRAINS[shape], "whole"], [2, 3, 1])[0]
        zone = "UTC" if grain == "whole" else rng.choice(zones)
        product = f"p{number}.product{number}"
        made: list[other.Table] = []
        for mart in range(rng.choices([1, 2], [4, 1])[0]):
            reads = _reads(rng, tables, grain, zone)
            if reads:
                made.append(other.Table(f"p{number}.t{mart}", product, grain, zone, reads))
        tables += made
    quiet = rng.choice([timedelta(0), timedelta(0), timedelta(minutes=10), timedelta(hours=3)])
    world = World(home, first, last, tuple(tables), quiet)
    return world if world.products else random_world(rng)


def _chain(rng: random.Random) -> World:
    """A table that goes on without the one above it, and one below: few slices, often moved."""
    home = rng.choice(list(CHANGES))
    first = rng.choice(CHANGES[home])
    quiet = rng.choice([timedelta(0), timedelta(0), timedelta(minutes=10)])
    after, lag = rng.choice([timedelta(0), timedelta(hours=2)]), rng.choice([0, 0, 1])
    restated = rng.choice(["rerun", "rerun", "rerun", "ignore", "hold"])
    upper = rng.choice(
        [
            Reads("p0.x", "identity", required=False, restated=restated),
            Reads("p0.x", "identity", until=after, max_lag=timedelta(days=lag), restated=restated),
            Reads("p0.x", "trailing", 2, may_miss=1, restated=restated),
            Reads("p0.x", "latest", required=False, restated=restated),
            Reads("p0.x", "identity", any_of="feed", restated=restated),
        ]
    )
    made = [
        ("p0.x", (Reads("d0.landing.s", "identity"),)),
        ("p1.y", (upper, Reads("d1.landing.s", "identity", any_of=upper.any_of))),
        ("p2.z", (Reads("p1.y", "identity"),)),
    ]
    tables = [other.Table(f"d{n}.landing.s", "", "day", home) for n in range(2)]
    tables += [other.Table(name, f"{name[:2]}.product", "day", home, reads) for name, reads in made]
    last = first + timedelta(days=rng.randint(0, 2))
    return World(home, first, last, tuple(tables), quiet)


def _reads(
    rng: random.Random, tables: list[other.Table], grain: str, zone: str
) -> tuple[Reads, ...]:
    found = []
    for upper in rng.sample(tables, min(len(tables), rng.choice([1, 1, 2, 2, 3]))):
        ways = _ways(rng, upper, grain, zone)
        if ways:
            found.append(_edge(rng, grain != "whole", upper.name, *rng.choice(ways)))
    return tuple(found)


def _ways(rng: random.Random, upper: other.Table, grain: str, zone: str) -> list[tuple[str, int]]:
    order = ["hour", "day", "week", "month", "whole"]
    if upper.grain == grain == "whole":
        return [("identity", 0), ("latest", 0)]
    if upper.grain == grain:
        if upper.zone != zone:
            return [("latest", 0)]
        own = [("identity", 0)] * 2 + [("lag", rng.randint(1, 2)), ("trailing", rng.randint(2, 3))]
        return [*own, ("latest", 0)]
    finer = order.index(upper.grain) < order.index(grain)
    how = "rollup" if finer else "fanout"
    return [(how, 0), (how, 0), (how, 0), ("latest", 0)]


def _edge(rng: random.Random, start_is_known: bool, table: str, how: str, n: int) -> Reads:
    wait = rng.choice(["all", "all", "least", "missing"]) if how in ("rollup", "trailing") else ""
    within = rng.choice([None, None, timedelta(hours=30)]) if how == "latest" else None
    required, max_lag, any_of = rng.random() < 0.85, None, ""
    until: time | timedelta | None = None
    if start_is_known and rng.random() < 0.25:
        local, after = [time(7), time(2, 30), time(1, 30)], [timedelta(0), timedelta(hours=20)]
        until = rng.choice(local) if rng.random() < 0.6 else rng.choice(after)
    if until is not None and how != "latest":
        if rng.random() < 0.5:
            max_lag = timedelta(days=rng.choice([0, 1, 2, 40]))
        elif wait in ("", "all"):
            required = False
    if until is not None and how == "latest":
        required = False
    if required and rng.random() < 0.2:
        any_of = "feed"
    odds = [3, 1, 6] if how == "latest" else [8, 1, 1]
    return Reads(
        table,
        how,
        n,
        at_least=rng.choice([1, 2, 5, 20]) if wait == "least" else 0,
        may_miss=rng.randint(1, 3) if wait == "missing" else 0,
        required=required,
        restated=rng.choices(["rerun", "hold", "ignore"], odds)[0],
        within=within,
        until=until,
        max_lag=max_lag,
        any_of=any_of,
    )


def mesh_of(world: World) -> Mesh:
    """The same mesh in the words of Levada."""
    sources = tuple(
        Source(ref(t.name), Grain(t.grain), t.zone, f"{t.name}/{{start}}", (), t.name)
        for t in world.sources
    )
    products = []
    for name in world.products:
        tables = world.product(name)
        marts = tuple(
            make_mart(t.name, Grain(t.grain), [_dependency(t, edge) for edge in t.reads])
            for t in tables
        )
        domain, _, bare = name.partition(".")
        products.append(Product(domain, bare, marts, Grain(tables[0].grain), tables[0].zone))
    span = Span.days(world.first, world.last, world.zone)
    return Mesh("random", span, world.zone, span.start, tuple(products), sources, quiet=world.quiet)


def _dependency(table: other.Table, edge: Reads) -> Dependency:
    made: dict[str, Callable[[], PartitionMapping]] = {
        "identity": Identity,
        "lag": lambda: Lag(edge.n),
        "trailing": lambda: Trailing(edge.n),
        "rollup": Rollup,
        "fanout": FanOut,
        "latest": lambda: Latest(edge.within),
    }
    until = None
    if edge.until is not None:
        local = isinstance(edge.until, time)
        until = Deadline(at=edge.until) if local else Deadline(after=edge.until)  # type: ignore[arg-type]
    return Dependency(
        upstream=ref(edge.table),
        downstream=ref(table.name),
        mapping=made[edge.how](),
        wait=WaitPolicy(edge.at_least or None, edge.may_miss or None, until, edge.max_lag),
        required=edge.required,
        on_restatement=OnRestatement(edge.restated, "as of" if edge.restated == "ignore" else ""),
        any_of=edge.any_of,
    )


# Playing


class Player:
    """One history: moves go to the simulator, its events to the oracle."""

    def __init__(
        self, world: World, rng: random.Random, build: Callable[..., Simulation] = Simulation
    ) -> None:
        self.world, self.mesh, self.rng = world, mesh_of(world), rng
        span = self.mesh.span
        targets = [
            (product.id, partition)
            for product in self.mesh.products
            for partition in within(product.grain, product.zone, span)
        ]
        lengths = [timedelta(0), timedelta(minutes=1), timedelta(minutes=7), 2 * HOUR]
        self._long = {p.id: rng.choice(lengths) for p in self.mesh.products}
        self.simulation = build(
            self.mesh, targets, span.start, takes=lambda p, _: self._long[p.id], makes=self._makes
        )
        self.oracle = Oracle(world)
        self.names = {str(ref(t.name)): t.name for t in world.tables}
        self.slots = [
            (t.name, Partition(Grain(t.grain), start, t.zone) if start else WHOLE)
            for t in world.sources
            for start in world.slices(t.name)
        ]
        self.landed: dict[tuple[str, Partition], str] = {}
        self.before: dict[tuple[str, Partition], str] = {}
        """What stood there before it was restated."""
        self.counts: Counter[str] = Counter()
        self.broken = 0
        """How many of the next builds end in an error of a tool."""
        self._heard = 0
        self._dead: list[tuple[datetime, str, str, datetime | None]] = []

    # Moves

    def land(self, slot: tuple[str, Partition], content: str) -> None:
        """A file lands: new, changed, broken, or once more."""
        if self.landed.get(slot, content) != content:
            self.before[slot] = self.landed[slot]
        self.landed[slot] = content
        self.simulation.land(ref(slot[0]), slot[1], content)

    def wait(self, time: timedelta) -> None:
        """Let time pass."""
        self.simulation.advance(self.simulation.now + time)
        self.hear()

    def jump(self) -> None:
        """Let time pass to the next instant at which something may happen."""
        instant = self.simulation.next
        self.simulation.advance(instant or self.simulation.now)
        self.hear()

    def kill(self, number: int, where: str) -> None:
        """Kill one of the runs that live."""
        live = sorted(self.simulation.live)
        if live:
            self.simulation.kill(live[number % len(live)], where)
            self.counts["killed"] += 1

    def pause(self, on: bool) -> None:
        """Pause the reconciler, or start it again."""
        if on != self.simulation.paused:
            (self.simulation.pause if on else self.simulation.resume)()

    def silence(self, number: int) -> None:
        """A source stops answering, or answers again."""
        source = self.world.sources[number % len(self.world.sources)].name
        self.hear()
        silent = source not in self.oracle.silent
        self.oracle.tell(Told("silent" if silent else "answers", self.simulation.now, source, None))
        self.simulation.silence(ref(source), "no route to host" if silent else "")
        self.counts["silenced"] += silent

    def release(self) -> None:
        """Let go of what is held."""
        for product, partition in sorted(self.simulation.held):
            self.simulation.release(product, partition, "told so")

    def _makes(self, product: Product, claim: Claim) -> Built:
        inputs = {self._slice(i): i.content for i in claim.inputs}
        start = claim.partition.start
        contents = {
            m.table: other.made(self.names[str(m.table)], start, inputs) for m in product.marts
        }
        if self.broken:
            self.broken -= 1
            return Built(Verdict.UNKNOWN, contents, "a tool broke")
        failed = other.bad(inputs)
        return Built(Verdict.FAIL if failed else Verdict.PASS, contents, "broken" if failed else "")

    def _slice(self, read: Input) -> other.Slice:
        return (self.names[str(read.table)], read.partition.start)

    # Telling the oracle

    def hear(self) -> None:
        """Tell the oracle what happened since, in order."""
        events = self.simulation.events[self._heard :]
        self._heard += len(events)
        lines: dict[str, list[Event]] = {}
        for event in events:
            self.counts[event.kind] += 1
            if event.kind == "published":
                lines.setdefault(event.run, []).append(event)
        for event in events:
            self._freed(event.at)
            if event.kind == "published" and event is not lines[event.run][-1]:
                continue  # a run publishes all its tables at once
            told = self._told(event, lines)
            if told is not None:
                self.oracle.tell(told)
        self._freed(self.simulation.now)
        self.oracle.now = self.simulation.now

    def _freed(self, now: datetime) -> None:
        for dead in sorted(self._dead, key=lambda d: d[:3]):
            until, product, run, start = dead
            if until <= now:
                self._dead.remove(dead)
                self.oracle.tell(Told("freed", until, product, start, run))

    def _told(self, event: Event, lines: dict[str, list[Event]]) -> Told | None:
        start = event.partition.start if event.partition else None
        inputs = {self._slice(i): i.content for i in event.read}
        if event.kind in ("landed", "restated"):
            name = self.names[event.subject]
            return Told("landed", event.at, name, start, content=event.content)
        if event.kind == "fired":
            return Told("fired", event.at, event.subject, start, event.run, inputs=inputs)
        if event.kind == "published":
            group = lines[event.run]
            contents = {self.names[e.subject]: e.content for e in group}
            product = self.world.table(self.names[event.subject]).product
            return Told(
                *("published", event.at, product, start, event.run),
                contents=contents,
                degraded=event.degraded,
                unknown=frozenset(
                    self.names[mark.split()[1]] for mark in event.marks if "unknown" in mark
                ),
            )
        if event.kind == "released":
            return Told("released", event.at, event.subject, start)
        if event.kind in ("failed", "untold"):
            key = (event.subject, event.partition)
            attempt = self.simulation.ledger.attempts.get(key)  # type: ignore[arg-type]
            again = attempt.not_before if attempt and attempt.run == event.run else None
            return Told(
                event.kind, event.at, event.subject, start, event.run, inputs=inputs, again=again
            )
        if event.kind == "killed" and "swap" not in event.because:  # else it is finished for it
            self._dead.append((event.at + self.simulation.lease, event.subject, event.run, start))
        return None

    # Checking

    def check(self) -> None:
        """Compare every state with the oracle's, and look for what nobody builds."""
        self.simulation.work()
        self.hear()
        judge = Judge(self.mesh, self.simulation.ledger.facts(), self.simulation.now)
        for table in self.world.tables:
            grain = Grain(table.grain)
            for start in self.world.slices(table.name):
                partition = Partition(grain, start, table.zone) if start else WHOLE
                judged = judge.table(ref(table.name), partition)
                found, should = judged.state.value, self.oracle.state(table.name, start)
                said = f"{table.name} {partition} at {self.oracle.now}"
                if found != should:
                    raise Wrong("misjudged", f"{said}: {found}, not {should}")
                if (
                    found == "READY"
                    and table.product
                    and judged.degraded != self.oracle.degraded(table.name, start)
                ):
                    raise Wrong("unmarked", f"{said}: degraded is {judged.degraded}")
        paused, dispatches = self.simulation.paused, self.simulation.dispatch == "ready"
        waiting = [
            key
            for key in ((p, s) for p in self.world.products for s in self._starts(p))
            if paused and (dispatches or not self.oracle.first(*key))
        ]
        self.oracle.missed(waiting)

    def _starts(self, product: str) -> list[other.Start]:
        return self.world.slices(self.world.product(product)[0].name)

    def finish(self, never: set[tuple[str, Partition]]) -> None:
        """Everything else arrives, everything broken is mended, and all comes to rest."""
        self.pause(False)
        self.broken = 0
        rest = [slot for slot in self.slots if slot not in never]
        self.rng.shuffle(rest)
        for slot in rest:
            if self.landed.get(slot, "bad") == "bad":
                self.land(slot, f"late{self.rng.randrange(2)}")
        over = max(self.mesh.span.end, self.simulation.now) + timedelta(days=90)
        self.simulation.rest(over)
        self.check()
        if self.oracle.alive:
            raise Wrong("missed", f"swapped or claimed, and never published: {self.oracle.alive}")
        self._compare()

    def _compare(self) -> None:
        """Where nothing holds or ignores, only what landed in the end may matter."""
        landed = {(name, p.start): content for (name, p), content in self.landed.items()}
        should = other.final(self.world, landed)
        ruled = {name for name, _ in should}
        there = {}
        for (table, partition), line in self.simulation.ledger.lines.items():
            if (name := self.names[str(table)]) in ruled:
                there[name, partition.start] = line.content
        if there != should:
            odd = [str(k) for k in there.keys() | should.keys() if there.get(k) != should.get(k)]
            raise Wrong("not the same in the end", f"{sorted(odd)[:4]}")
        self.counts["compared in the end"] += len(should)


def one_history(seed: int, build: Callable[..., Simulation] = Simulation) -> Counter[str]:
    """Play a random history of a random mesh; what happened, by kind. Raises Wrong."""
    rng = random.Random(seed)
    player = Player(random_world(rng), rng, build)
    queue = list(player.slots)
    never = set(rng.sample(queue, rng.choice([0, 0, 1, 2]) % len(queue)))
    rng.shuffle(queue)
    if rng.random() < 0.5:
        queue.sort(key=lambda slot: slot[1])
    queue = [slot for slot in queue if slot not in never]
    again = rng.choices(queue, k=rng.randint(0, 20)) if queue else []
    for slot in again:
        queue.insert(rng.randrange(len(queue)), slot)
    if rng.random() < 0.5:
        player.wait(player.mesh.span.end - player.mesh.span.start)
    while queue:
        for _ in range(rng.randint(1, 16)):
            if queue:
                _land(player, rng, queue.pop())
        _move(player, rng)
    for slot in rng.choices(again, k=rng.randint(0, 6)) if again else ():
        _land(player, rng, slot)
        _move(player, rng)
    if len(player.slots) <= FEW:
        _stir(player, rng, [slot for slot in player.slots if slot not in never])
    player.check()
    player.finish(never)
    return player.counts


def _stir(player: Player, rng: random.Random, slots: list[tuple[str, Partition]]) -> None:
    """Few slices are broken, mended, restated and taken back again and again."""
    player.wait(player.mesh.span.end - player.mesh.span.start)
    for _ in range(30):
        slot = rng.choice(slots)
        if slot in player.before and rng.random() < 0.4:
            player.land(slot, player.before[slot])
        else:
            player.land(slot, rng.choice(["a", "b", "bad"]))
        player.wait(rng.choice([timedelta(seconds=40), timedelta(minutes=20), 3 * HOUR]))
        if rng.random() < 0.3:
            player.check()


def _land(player: Player, rng: random.Random, slot: tuple[str, Partition]) -> None:
    kind = rng.choices(["new", "bad", "same"], [8, 1, 1])[0]
    content = rng.choice("abc") if kind == "new" else "bad"
    player.land(slot, player.landed.get(slot, "a") if kind == "same" else content)


def _take_back(player: Player, rng: random.Random) -> None:
    """What was restated is as it was before."""
    if player.before:
        slot = rng.choice(sorted(player.before))
        player.land(slot, player.before[slot])


def _move(player: Player, rng: random.Random) -> None:
    """Anything that is not a landing."""
    match rng.choice(
        [
            *("jump", "jump", "wait", "wait", "kill", "pause", "break", "check", "release", "kill"),
            *("silence", "back", "back"),
        ]
    ):
        case "jump":
            player.jump()
        case "wait":
            player.wait(rng.choice([timedelta(seconds=40), HOUR, 9 * HOUR, 30 * HOUR]))
        case "kill":
            player.kill(rng.randrange(9), rng.choice(KILLS))
        case "pause":
            player.pause(rng.random() < 0.4)
        case "break":
            player.broken += rng.randint(1, 2)
        case "check":
            player.check()
        case "release":
            player.release()
        case "back":
            _take_back(player, rng)
        case "silence":
            player.silence(rng.randrange(9))
    player.hear()
