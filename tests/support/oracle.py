"""
Another implementation of readiness, from a list of events alone. It shares no code with Levada, not
even a word: slices come from walking real time in quarters of an hour, states from replaying what
was told. Slow, plain, and only for comparing with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

__all__ = [
    "Oracle",
    "Reads",
    "Table",
    "Told",
    "World",
    "Wrong",
    "bad",
    "deadline",
    "final",
    "made",
    "slices_of",
]

Start = datetime | None
Slice = tuple[str, Start]
STEP = timedelta(minutes=15)
MARGIN = {"hour": 2, "day": 6, "week": 40, "month": 130}
"""How many days around the span are walked: what a mapping may ask for beyond it."""


class Wrong(AssertionError):
    """What Levada did differs from what the oracle says; the kind comes first."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        super().__init__(f"{kind}: {text}")


@dataclass(frozen=True)
class Reads:
    """One table that a table reads, and how it waits for it."""

    table: str
    how: str
    n: int = 0
    at_least: int = 0
    may_miss: int = 0
    required: bool = True
    restated: str = "rerun"
    within: timedelta | None = None
    until: time | timedelta | None = None
    """Its deadline: a local time, or a time after the end."""
    max_lag: timedelta | None = None
    any_of: str = ""


@dataclass(frozen=True)
class Table:
    """A table; without a product it is a source."""

    name: str
    product: str
    grain: str
    zone: str
    reads: tuple[Reads, ...] = ()


@dataclass(frozen=True)
class World:
    """All tables, upstream first, and the local days from `first` to `last` that they live in."""

    zone: str
    first: date
    last: date
    tables: tuple[Table, ...]
    quiet: timedelta = timedelta(0)

    def table(self, name: str) -> Table:
        return next(t for t in self.tables if t.name == name)

    def product(self, name: str) -> tuple[Table, ...]:
        return tuple(t for t in self.tables if t.product == name)

    @property
    def products(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(t.product for t in self.tables if t.product))

    @property
    def sources(self) -> tuple[Table, ...]:
        return tuple(t for t in self.tables if not t.product)

    def slices(self, name: str) -> list[Start]:
        """The slices of a table that lie wholly inside the days, oldest first."""
        table = self.table(name)
        if table.grain == "whole":
            return [None]
        found = slices_of(table.grain, table.zone, self.zone, self.first, self.last)
        return [start for start, _, inside in found if inside]

    def over(self, name: str, start: Start) -> datetime | None:
        """When a slice is over."""
        if start is None:
            return None
        table = self.table(name)
        found = slices_of(table.grain, table.zone, self.zone, self.first, self.last)
        return next(end for begin, end, _ in found if begin == start)


# Slices, by walking


@lru_cache(maxsize=512)
def slices_of(
    grain: str, zone: str, home: str, first: date, last: date
) -> tuple[tuple[datetime, datetime, bool], ...]:
    """Start and end of every slice around the days, and whether it lies wholly inside them."""
    opens = _first_instant(home, first, first)
    closes = _first_instant(home, last + timedelta(days=1), last)
    place = ZoneInfo(zone)
    found: list[tuple[datetime, datetime, bool]] = []
    margin = timedelta(days=MARGIN[grain])
    newest, begun, now = None, None, opens - margin
    seen = date.min
    while now < closes + margin:
        if grain == "hour":
            label: object = (now.date(), now.hour)
        else:
            seen = max(seen, now.astimezone(place).date())  # a clock set back opens no old day
            label = _label(grain, seen)
        if label != newest:
            if begun is not None:
                found.append((begun, now, opens <= begun and now <= closes))
            newest, begun = label, now
        now += STEP
    return tuple(found[1:])  # the first began before the walk did


def _first_instant(zone: str, day: date, near: date) -> datetime:
    """When a local date, or one after it, is first shown."""
    place = ZoneInfo(zone)
    now = datetime(near.year, near.month, near.day, tzinfo=UTC) - timedelta(days=2)
    while now.astimezone(place).date() < day:
        now += STEP
    return now


def _label(grain: str, day: date) -> object:
    if grain == "day":
        return day
    if grain == "week":
        return day.isocalendar()[:2]
    return (day.year, day.month)


def deadline(over: datetime, zone: str, until: time | timedelta) -> datetime:
    """
    When a deadline is: the first showing of a local time at or after the end of a slice. One that
    the clock jumps over counts from where it jumped.
    """
    if isinstance(until, timedelta):
        return over + until
    place = ZoneInfo(zone)
    now = over - timedelta(days=1)
    shown: set[date] = set()
    while True:
        before = now.astimezone(place).replace(tzinfo=None)
        after = (now + STEP).astimezone(place).replace(tzinfo=None)
        for day in {before.date(), after.date()} - shown:
            wanted = datetime.combine(day, until)
            if before == wanted or before < wanted < after:
                shown.add(day)
                found = now + (wanted - before)
                if found >= over:
                    return found
        now += STEP


# What the data is


def made(table: str, start: Start, inputs: Mapping[Slice, str | None]) -> str:
    """What a build makes; few different contents, so that rebuilding often gives the same one."""
    words = sorted(f"{t} {s} {content}" for (t, s), content in inputs.items())
    said = "|".join([table, str(start), *words])
    return f"c{int(hashlib.sha256(said.encode()).hexdigest(), 16) % 4}"


def bad(inputs: Mapping[Slice, str | None]) -> bool:
    """Whether an audit must fail: something broken landed."""
    return any(content == "bad" for content in inputs.values())


# What was told


@dataclass(frozen=True)
class Told:
    """One event of a history."""

    kind: str
    """
    landed, fired, published, failed, untold, released, freed (a dead run's lease is over);
    a source is silent or answers.
    """
    at: datetime
    name: str
    start: Start
    run: str = ""
    content: str = ""
    inputs: Mapping[Slice, str | None] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)
    degraded: bool = False
    unknown: frozenset[str] = frozenset()
    """The tables of which it says that something was not known."""
    again: datetime | None = None


@dataclass
class _Line:
    content: str
    at: datetime
    inputs: Mapping[Slice, str | None]
    number: int
    lacks: bool = False
    """Whether it says that it went without something."""
    lent: frozenset[Slice] = frozenset()
    """What it read though it was not ready, and says so."""
    counts: Mapping[Slice, int] = field(default_factory=dict)
    """How often what it read, or went without, had been published when its run began."""


@dataclass
class _View:
    """An edge as it stands: met, what is read, whether it lacks something, waits for a deadline."""

    met: bool
    read: dict[Slice, str | None]
    less: bool
    waits: bool
    lent: frozenset[Slice]
    """What is read though it is not ready."""
    lacking: tuple[Slice, ...]
    """What it asks for and is not ready, if it can be at all."""
    unasked: bool = False
    """Whether what is there is too old, and nobody can tell if there is a younger one."""


class Oracle:
    """Replays a history and says what must be so; `tell` raises Wrong where it is not."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = datetime.min.replace(tzinfo=UTC)
        self.number = 0
        self.lines: dict[Slice, _Line] = {}
        self.attempts: dict[tuple[str, Start], tuple[int, Told]] = {}
        self.alive: dict[tuple[str, Start], Told] = {}
        self.runs: dict[str, Told] = {}
        self.fired = 0
        self._asked: dict[tuple[str, Start, Reads], tuple[list[Slice], list[Slice]]] = {}
        self._until: dict[tuple[str, Start, Reads], datetime] = {}
        self._ends: dict[Slice, datetime] = {}
        self.released: dict[tuple[str, Start], int] = {}
        self.marked: dict[str, tuple[bool, frozenset[str]]] = {}
        self.begun: dict[str, tuple[bool, frozenset[Slice], Mapping[Slice, int]]] = {}
        self.times: dict[Slice, int] = {}
        self.silent: set[str] = set()
        self._hopeless: dict[tuple[str, Start], bool] = {}
        self._all = {t.name: world.slices(t.name) for t in world.tables}
        self._inside = {name: set(found) for name, found in self._all.items()}
        self._over = {
            (t.product, s): world.over(t.name, s)
            for t in world.tables
            for s in self._all[t.name]
            if t.product
        }

    # Slices

    def asked(self, name: str, start: Start, edge: Reads) -> tuple[list[Slice], list[Slice]]:
        """The slices that an edge reads, and those that it asks for but that can never be."""
        key = (name, start, edge)
        if key not in self._asked:
            wanted = [(edge.table, s) for s in self._wanted(self.world.table(name), start, edge)]
            inside = self._inside[edge.table]
            there = [each for each in wanted if each[1] in inside]
            self._asked[key] = (there, [each for each in wanted if each[1] not in inside])
        return self._asked[key]

    def _wanted(  # noqa: PLR0911 - one way after the other, as a table would say it
        self, table: Table, start: Start, edge: Reads
    ) -> list[Start]:
        upper = self.world.table(edge.table)
        world = self.world
        if upper.grain == "whole":
            return [None]
        whole = slices_of(upper.grain, upper.zone, world.zone, world.first, world.last)
        if start is None or edge.how == "latest":
            return list(self._all[edge.table])
        if edge.how == "rollup":
            over = world.over(table.name, start)
            assert over is not None
            return [begin for begin, _, _ in whole if start <= begin < over]
        if edge.how == "fanout":
            return [begin for begin, end, _ in whole if begin <= start < end]
        begins = [begin for begin, _, _ in whole]
        here = begins.index(start)
        if edge.how == "identity":
            return [start]
        assert here >= edge.n, "the walk began too late"
        if edge.how == "lag":
            return [begins[here - edge.n]]
        return list(begins[here - edge.n + 1 : here + 1])

    # States

    def edges(self, product: str) -> Iterator[tuple[str, Reads]]:
        own = {t.name for t in self.world.product(product)}
        for table in self.world.product(product):
            for edge in table.reads:
                if edge.table not in own:
                    yield table.name, edge

    def newest(self, table: str) -> list[Slice]:
        """The newest slice of a table of which there is anything, if there is one."""
        found = ((table, s) for s in reversed(self._all[table]) if (table, s) in self.lines)
        return list(found)[:1]

    def changed(self, product: str, start: Start, line: _Line) -> set[str]:
        """What the edges do about inputs that are not as the line recorded them."""
        return {does for _, does in self._news(product, start, line)}

    def _news(self, product: str, start: Start, line: _Line) -> list[tuple[Slice, str]]:
        """The same, with the inputs."""
        found: list[tuple[Slice, str]] = []
        for name, edge in self.edges(product):
            something = any(c is not None for (t, _), c in line.inputs.items() if t == edge.table)
            for each in self.looks_at(name, start, edge):
                there, was = self.lines.get(each), line.inputs.get(each)
                if edge.restated == "ignore" and not self._arrives(edge, each, line, something):
                    continue
                if was is None:
                    news = there is not None and self._is_read(product, start, each)
                else:
                    news = there is None or there.content != was
                if news:
                    found.append((each, self._does(product, start, edge, there)))
        return found

    def looks_at(self, name: str, start: Start, edge: Reads) -> list[Slice]:
        """The slices that an edge means now."""
        if edge.how == "latest":
            return self.newest(edge.table)
        return list(self.asked(name, start, edge)[0])

    def _arrives(self, edge: Reads, each: Slice, line: _Line, something: bool) -> bool:
        """
        Whether a slice of an edge that ignores changes is one that the line went without: that is
        no change. Of a group, the table of which nothing was read was not needed.
        """
        if edge.any_of and not something:
            return False
        if edge.how == "latest":
            return not something
        return each in line.inputs and line.inputs[each] is None

    def _is_read(self, product: str, start: Start, each: Slice) -> bool:
        """Whether something of a slice would be read by a build now, if there were one."""
        views = (self.view(*about) for about in self._about(product, start))
        return any(view.read.get(each) is not None for view in views)

    def _about(self, product: str, start: Start) -> Iterator[tuple[str, Start, Reads]]:
        return ((name, start, edge) for name, edge in self.edges(product))

    def _does(self, product: str, start: Start, edge: Reads, there: _Line | None) -> str:
        freed = there and there.number < self.released.get((product, start), 0)
        return "hold" if edge.restated == "hold" and not freed else "rerun"

    def degraded(self, name: str, start: Start) -> bool:
        """Whether what is published still goes without something."""
        line = self.lines[name, start]
        return line.lacks or any(
            self.state(*each) != "READY" or self.lines[each].content != line.inputs[each]
            for each in line.lent
        )

    def standing(self, product: str, start: Start) -> Told | None:
        """The newest attempt that did not publish, if nothing has overtaken it."""
        if (product, start) not in self.attempts:
            return None
        number, attempt = self.attempts[product, start]
        lines = [self.lines.get((t.name, start)) for t in self.world.product(product)]
        if any(line and line.number > number for line in lines):
            return None
        if all(line and not self.changed(product, start, line) for line in lines):
            return None
        return attempt

    def state(self, name: str, start: Start) -> str:
        """What a reader may count on."""
        line, table = self.lines.get((name, start)), self.world.table(name)
        if not table.product:
            return "READY" if line else "WAITING"
        attempt = self.standing(table.product, start)
        if attempt and attempt.kind == "failed":
            return "FAILED"
        if line is None:
            if (table.product, start) in self.alive or attempt:
                return "WAITING"
            return "IMPOSSIBLE" if self.hopeless(table.product, start) else "WAITING"
        changed = self.changed(table.product, start, line)
        if "hold" in changed:
            return "HELD"
        return "STALE" if changed else "READY"

    def unknown(self, name: str, start: Start) -> bool:
        """
        Whether a slice that is not ready is so since nobody can tell what it is: neither its source
        nor its audit says, or it waits for such things and for nothing else.
        """
        table, line = self.world.table(name), self.lines.get((name, start))
        if not table.product:
            return name in self.silent and line is None
        if self.state(name, start) not in ("WAITING", "STALE"):
            return False
        attempt = self.standing(table.product, start)
        if attempt is not None and line is not None:
            return attempt.kind == "untold"
        if (table.product, start) in self.alive:
            return False
        if attempt is not None:
            return attempt.kind == "untold"
        return self._kept_waiting(table.product, start)

    def _kept_waiting(self, product: str, start: Start) -> bool:
        """Whether a slice cannot be made, and could be if all that nobody can tell were there."""
        if self.hopeless(product, start) or self.inputs(product, start) is not None:
            return False
        chosen = {
            edge.any_of
            for name, edge in self.edges(product)
            if edge.any_of and self.view(name, start, edge).met
        }
        could: dict[str, list[bool]] = {}
        for number, (name, edge) in enumerate(self.edges(product)):
            view = self.view(name, start, edge)
            blocks = view.waits or (edge.required and not view.met)
            if edge.any_of:
                blocks = edge.any_of not in chosen
            if blocks:
                well = self._met_with_unknowns(name, start, edge)
                could.setdefault(edge.any_of or str(number), []).append(well)
        return all(any(each) for each in could.values())

    def _met_with_unknowns(self, name: str, start: Start, edge: Reads) -> bool:
        view = self.view(name, start, edge)
        guessed = {each for each in view.lacking if self.unknown(*each)}
        if edge.how == "latest":
            return view.met or bool(guessed) or view.unasked
        there, never = self.asked(name, start, edge)
        good = {each for each in there if self.state(*each) == "READY"} | guessed
        lacking = [each for each in (*there, *never) if each not in good]
        if not lacking:
            return bool(good)
        until = self._deadline(name, start, edge) if edge.until is not None and start else None
        coming = any(each in there and self.state(*each) != "IMPOSSIBLE" for each in lacking)
        if until is not None and until > self.now and coming:
            return False
        replaced = 0
        if edge.max_lag is not None:
            replaced = sum(self._instead(each, edge.max_lag) is not None for each in lacking)
        return _enough(edge, len(good) + replaced, len(there) + len(never))

    def hopeless(self, product: str, start: Start) -> bool:
        """Whether a slice can never be built, whatever may land."""
        key = (product, start)
        if key not in self._hopeless:
            groups: dict[str, list[bool]] = {}
            for number, (name, edge) in enumerate(self.edges(product)):
                if edge.required:
                    lost = self._never_met(name, start, edge)
                    groups.setdefault(edge.any_of or str(number), []).append(lost)
            self._hopeless[key] = any(all(lost) for lost in groups.values())
        return self._hopeless[key]

    def _never_met(self, name: str, start: Start, edge: Reads) -> bool:
        there, never = self.asked(name, start, edge)
        if not there and not never:
            return True
        lost = list(never) + [each for each in there if self._lost(*each)]
        total = len(there) + len(never)
        if edge.max_lag is not None:
            older = self._all[edge.table]
            lost = [
                (table, at)
                for table, at in lost
                if not any(
                    at is not None
                    and s is not None
                    and timedelta(0) < at - s <= edge.max_lag
                    and not self._lost_at_all(table, s)
                    for s in older
                )
            ]
        left = total - len(lost)
        return bool(lost) and not (left > 0 if edge.how == "latest" else _enough(edge, left, total))

    def _lost(self, table: str, at: Start) -> bool:
        return (table, at) not in self.lines and self._lost_at_all(table, at)

    def _lost_at_all(self, table: str, at: Start) -> bool:
        above = self.world.table(table).product
        return bool(above) and self.hopeless(above, at)

    # Runs

    def view(self, name: str, start: Start, edge: Reads) -> _View:
        """One edge of one slice, now."""
        until = None
        if edge.until is not None and start is not None:
            until = self._deadline(name, start, edge)
        if edge.how == "latest":
            met, found, less, unasked = self._latest(edge)
            return _View(
                *(met, found, less),
                waits=until is not None and until > self.now and not met,
                lent=frozenset(),
                lacking=() if met else self._latest_lacking(edge),
                unasked=unasked,
            )
        there, never = self.asked(name, start, edge)
        states = {each: self.state(*each) for each in there}
        read: dict[Slice, str | None] = dict.fromkeys((*there, *never))
        for each, state in states.items():
            if state == "READY":
                read[each] = self.lines[each].content
        lacking = [each for each in read if states.get(each) != "READY"]
        coming = any(states.get(each, "IMPOSSIBLE") != "IMPOSSIBLE" for each in lacking)
        late = until is None or until <= self.now or not coming
        good = len(read) - len(lacking)
        lent: set[Slice] = set()
        if late and edge.max_lag is not None:
            for each in lacking:
                instead = self._instead(each, edge.max_lag)
                if instead is not None:
                    lent |= {each} & {instead}
                    read[instead] = self.lines[instead].content
                    good += 1
        full = bool(read) and not lacking
        met = full or (late and _enough(edge, good, len(there) + len(never)))
        return _View(
            *(met, read, bool(set(lacking) - lent)),
            waits=not late and not met,
            lent=frozenset(lent),
            lacking=tuple(each for each in lacking if each in states),
        )

    def _latest(self, edge: Reads) -> tuple[bool, dict[Slice, str | None], bool, bool]:
        if not self._all[edge.table]:
            return False, {}, False, False
        newest = self.newest(edge.table)
        if not newest:
            return False, {(edge.table, None): None}, True, False
        line = self.lines[newest[0]]
        old = edge.within is not None and self.now - line.at >= edge.within
        ready = self.state(*newest[0]) == "READY"
        unasked = ready and old and edge.table in self.silent
        met = ready and not old
        return met, {newest[0]: line.content if met else None}, not met, unasked

    def _latest_lacking(self, edge: Reads) -> tuple[Slice, ...]:
        if not self._all[edge.table]:
            return ()
        found = self.newest(edge.table) or [(edge.table, self._due(edge.table))]
        return (found[0],)

    def _due(self, table: str) -> Start:
        """The last slice of a table that is over, else its first."""
        over = [s for s in self._all[table] if s is None or self._ended(table, s) <= self.now]
        return over[-1] if over else self._all[table][0]

    def _ended(self, table: str, start: Start) -> datetime:
        if (table, start) not in self._ends:
            over = self.world.over(table, start)
            assert over is not None
            self._ends[table, start] = over
        return self._ends[table, start]

    def _instead(self, each: Slice, limit: timedelta) -> Slice | None:
        """What stands in for a slice: an older line of its own, else the last good one before."""
        table, at = each
        for s in reversed(self._all[table]):
            if (table, s) not in self.lines or self.state(table, s) not in (
                *("READY", "STALE", "FAILED"),
            ):
                continue
            if s == at or (at is not None and s is not None and timedelta(0) < at - s <= limit):
                return (table, s)
        return None

    def _deadline(self, name: str, start: Start, edge: Reads) -> datetime:
        key = (name, start, edge)
        if key not in self._until:
            table = self.world.table(name)
            over = self._over[table.product, start]
            assert over is not None
            assert edge.until is not None
            self._until[key] = deadline(over, table.zone, edge.until)
        return self._until[key]

    def inputs(self, product: str, start: Start) -> dict[Slice, str | None] | None:
        """What a build would read now; None if it has to wait."""
        found = self.looked(product, start)
        return found[0] if found else None

    def looked(
        self, product: str, start: Start
    ) -> tuple[dict[Slice, str | None], bool, frozenset[Slice], frozenset[str]] | None:
        """
        What a build would read now, whether it would go without something, what it would read
        though it is not ready, and of which tables nobody can tell what it goes without; None if
        it has to wait.
        """
        views = [(edge, self.view(name, start, edge)) for name, edge in self.edges(product)]
        chosen = {edge.any_of for edge, view in views if edge.any_of and view.met}
        read: dict[Slice, str | None] = {}
        less, unknown, lent = False, set[str](), set[Slice]()
        for edge, view in views:
            blocks = view.waits or (edge.required and not view.met)
            if edge.any_of:
                blocks = edge.any_of not in chosen
            if blocks:
                return None
            told = not edge.any_of or any(view.read.values())  # nothing of an unneeded one is less
            less = less or (view.less and told)
            lent |= view.lent
            if told and any(self.unknown(*each) for each in view.lacking):
                unknown.add(edge.table)
            if told and view.unasked:
                unknown.add(edge.table)
            for each, content in view.read.items():
                if content is not None or each not in read:
                    read[each] = content
        return read, less, frozenset(lent), frozenset(unknown)

    def due(  # noqa: PLR0911 - one reason after the other
        self, product: str, start: Start
    ) -> dict[Slice, str | None] | None:
        """What a run that must start now would read; None if none must."""
        over = self._over[product, start]
        if over is not None and over > self.now:
            return None
        lines = [self.lines.get((t.name, start)) for t in self.world.product(product)]
        attempt = self.standing(product, start)
        changed = [self.changed(product, start, line) for line in lines if line]
        if any("hold" in each for each in changed):
            return None
        if all(lines) and attempt is None:
            newest = max(line.at for line in lines if line)
            if not any(changed) or newest + self.world.quiet > self.now:
                return None
        inputs = self.inputs(product, start)
        if inputs is None:
            return None
        rebuilt = all(lines) and attempt is None and bool(self.world.quiet)
        if rebuilt and self._awaits(product, start):
            return None
        if all(line and _same(line.inputs, inputs) for line in lines):
            return None
        if attempt and _same(attempt.inputs, inputs):
            parked = attempt.kind == "failed"
            if parked or (attempt.again is not None and attempt.again > self.now):
                return None
        return inputs

    def _awaits(self, product: str, start: Start) -> bool:
        """
        Whether something that a rebuild would read, or that is made from further up, is being made
        again. What came twice since it was last read is waited for no more.
        """
        lines = [self.lines[t.name, start] for t in self.world.product(product)]
        views = [self.view(*about) for about in self._about(product, start)]
        now = {each for view in views for each, content in view.read.items() if content is not None}
        for name, edge in self.edges(product):
            if not self.world.table(edge.table).product:
                continue
            for each in self.looks_at(name, start, edge):
                if edge.restated == "ignore" and each in now:
                    continue
                if edge.restated == "ignore" and edge.any_of and edge.table not in dict(now):
                    continue
                known = max(line.counts.get(each, 0) for line in lines)
                if self.times.get(each, 0) - known < 2 and self._is_made_again(*each):
                    return True
        return False

    def _is_made_again(self, name: str, start: Start) -> bool:
        """Whether a published slice is being built, or will be with nobody's help."""
        product = self.world.table(name).product
        if (product, start) in self.alive:
            return True
        lines = [self.lines.get((t.name, start)) for t in self.world.product(product)]
        if not all(lines) or self.standing(product, start):
            return False
        states = {self.state(t.name, start) for t in self.world.product(product)}
        if not states <= {"READY", "STALE"}:
            return False
        if self._awaits(product, start):
            return True
        if states == {"READY"} or self.inputs(product, start) is None:
            return False
        news = [each for line in lines if line for each, _ in self._news(product, start, line)]
        could = [line.at + self.world.quiet for line in lines if line]
        could += [self.lines[each].at for each in news if each in self.lines]
        return max(could) + self.world.quiet > self.now  # else nobody cares

    # The history

    def tell(self, told: Told) -> None:
        """Hear what happened, and object to what must not."""
        self.now = max(self.now, told.at)
        self.number += 1
        self._hopeless.clear()
        key = (told.name, told.start)
        match told.kind:
            case "landed":
                self.lines[key] = _Line(told.content, told.at, {}, self.number)
            case "fired":
                self._fired(told)
            case "published":
                self._published(told)
            case "failed" | "untold":
                self.attempts[key] = (self.number, told)
                self.alive.pop(key, None)
            case "released":
                self.released[key] = self.number
            case "freed":
                if key in self.alive and self.alive[key].run == told.run:
                    del self.alive[key]
            case "silent":
                self.silent.add(told.name)
            case "answers":
                self.silent.discard(told.name)

    def _fired(self, told: Told) -> None:
        key = (told.name, told.start)
        said = f"{told.name} {told.start} at {told.at}"
        if key in self.alive:
            raise Wrong("doubled", f"{said}: run {self.alive[key].run} is still building it")
        looked = self.looked(*key)
        if looked is None:
            raise Wrong("too early", f"{said}: its inputs are not ready")
        now, less, lent, unknown = looked
        if set(told.inputs) != set(now):
            odd = sorted(map(str, set(told.inputs) ^ set(now)))
            raise Wrong("misaligned", f"{said} read other slices: {odd[:4]}")
        if now != dict(told.inputs):
            odd = [str(k) for k in now if now.get(k) != told.inputs.get(k)]
            raise Wrong("stale passed", f"{said}: read what was not so: {odd[:4]}")
        if self.due(*key) is None:
            raise Wrong("doubled", f"{said}: there was nothing to do")
        self.alive[key] = told
        self.runs[told.run] = told
        self.marked[told.run] = (less or bool(lent), unknown)
        counts = {each: self.times.get(each, 0) for each in now}
        self.begun[told.run] = (less, lent, counts)
        self.fired += 1

    def _published(self, told: Told) -> None:
        key = (told.name, told.start)
        run = self.runs.get(told.run)
        said = f"{told.name} {told.start} by run {told.run} at {told.at}"
        if run is None or (run.name, run.start) != key:
            raise Wrong("misaligned", f"{said}: that run was not started for it")
        if key not in self.alive or self.alive[key].run != told.run:
            raise Wrong("doubled", f"{said}: the run had no right to it")
        less, lent, counts = self.begun[told.run]
        for table in self.world.product(told.name):
            before = self.lines.get((table.name, told.start))
            if before and _same(before.inputs, run.inputs):
                raise Wrong("doubled", f"{said}: it stands already, from the same inputs")
            content = told.contents.get(table.name)
            if content != made(table.name, told.start, run.inputs):
                raise Wrong("stale passed", f"{said}: {table.name} is not what its inputs make")
            if (told.degraded, told.unknown) != self.marked[told.run]:
                marks = f"degraded is {told.degraded}, unknown {sorted(told.unknown)}"
                raise Wrong("unmarked", f"{said}: {marks}, not {self.marked[told.run]}")
            self.lines[table.name, told.start] = _Line(
                *(content, told.at, run.inputs, self.number, less, lent, counts)
            )
            slot = (table.name, told.start)
            self.times[slot] = self.times.get(slot, 0) + 1
        self.attempts.pop(key, None)
        del self.alive[key]

    def missed(self, waiting: Iterable[tuple[str, Start]] = ()) -> None:
        """Object to anything that is due and that nobody builds."""
        waits = set(waiting)
        for product in self.world.products:
            for start in self._all[self.world.product(product)[0].name]:
                key = (product, start)
                if key not in self.alive and key not in waits and self.due(*key) is not None:
                    raise Wrong("missed", f"{product} {start} is due at {self.now}")

    def first(self, product: str, start: Start) -> bool:
        """Whether nothing of it was ever published or tried."""
        tables = self.world.product(product)
        return self.standing(product, start) is None and not any(
            (t.name, start) in self.lines for t in tables
        )


def final(world: World, landed: Mapping[Slice, str]) -> dict[Slice, str]:
    """
    What is published when all has come to rest, by what landed in the end and by nothing else.
    Tables that hold, ignore or look at ages are left out with all that lies below them, and where
    something never lands, those that replace it by what was good at the time.
    """
    oracle = Oracle(world)
    oracle.now = datetime.max.replace(tzinfo=UTC)
    free: set[str] = {t.name for t in world.sources}
    complete = all((t.name, s) in landed for t in world.sources for s in world.slices(t.name))
    out: dict[Slice, str] = dict(landed)
    for slot, content in landed.items():
        oracle.lines[slot] = _Line(content, oracle.now, {}, 0)
    for product in world.products:
        named = list(oracle.edges(product))
        starts = world.slices(world.product(product)[0].name)
        if any(e.restated != "rerun" or e.within or e.table not in free for _, e in named) or any(
            e.max_lag is not None and not (complete and not oracle.asked(name, start, e)[1])
            for name, e in named
            for start in starts
        ):
            continue
        free |= {t.name for t in world.product(product)}
        for start in starts:
            inputs = oracle.inputs(product, start)
            if inputs is None or bad(inputs):
                continue
            for table in world.product(product):
                out[table.name, start] = made(table.name, start, inputs)
                oracle.lines[table.name, start] = _Line(
                    out[table.name, start], oracle.now, inputs, 0
                )
            oracle._hopeless.clear()
    return {slot: content for slot, content in out.items() if slot[0] in free}


def _enough(edge: Reads, ready: int, total: int) -> bool:
    if not ready:
        return False
    if edge.at_least:
        return ready >= edge.at_least or ready == total
    return ready + edge.may_miss >= total


def _same(a: Mapping[Slice, str | None], b: Mapping[Slice, str | None]) -> bool:
    """Whether two builds would read the same; what is absent is part of it."""
    return dict(a) == dict(b)
