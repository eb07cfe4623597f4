"""The plan of a backfill: cell for cell what a plain search finds, and what it leaves out."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.strategies import (
    NEW_YORK,
    NOW,
    edge,
    little_mesh,
    make_mesh,
    make_source,
    single,
)

from levada.plan import asked_for, backfill, cells_of, differences, partitions_of
from levada.terms import (
    WHOLE,
    Backfill,
    Dependency,
    FanOut,
    Grain,
    Identity,
    Lag,
    Latest,
    Mesh,
    PartitionMapping,
    Product,
    Rollup,
    Source,
    Span,
    Trailing,
    WaitPolicy,
)

FIRST, LAST = date(2013, 2, 20), date(2013, 4, 10)
"""Over the 23-hour day of 10 March."""

# A search of its own: slices from local midnights, every cell by itself ------------------------

Bounds = tuple[datetime, datetime] | None
Cell = tuple[str, datetime | None]


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(NEW_YORK)).astimezone(UTC)


def starts(grain: Grain) -> list[datetime]:
    """Far beyond the span on both sides."""
    begin, over = FIRST - timedelta(days=120), LAST + timedelta(days=120)
    days = [begin + timedelta(days=n) for n in range((over - begin).days)]
    if grain is Grain.HOUR:
        first = midnight(begin)
        return [first + timedelta(hours=n) for n in range(24 * len(days))]
    keep = {Grain.DAY: days, Grain.WEEK: [day for day in days if day.weekday() == 0]}
    return [midnight(day) for day in keep.get(grain, [day for day in days if day.day == 1])]


STARTS = {grain: starts(grain) for grain in (Grain.HOUR, Grain.DAY, Grain.WEEK, Grain.MONTH)}
SLICES = {grain: list(itertools.pairwise(found)) for grain, found in STARTS.items()}
START, END = midnight(FIRST), midnight(LAST + timedelta(days=1))


def lies_inside(
    one: tuple[datetime, datetime], start: datetime = START, end: datetime = END
) -> bool:
    return start <= one[0] and one[1] <= end


INSIDE = {grain: [s for s in found if lies_inside(s)] for grain, found in SLICES.items()}


def slices(grain: Grain) -> list[Bounds]:
    return [None] if grain is Grain.WHOLE else list(INSIDE[grain])


def asks(mapping: PartitionMapping, of: Bounds, down: Grain, up: Grain) -> list[Bounds]:
    """Every slice that one slice reads, inside the span or not."""
    if up is Grain.WHOLE:
        return [None]
    if isinstance(mapping, Latest) or of is None:
        return list(INSIDE[up])
    if isinstance(mapping, Rollup):
        return [s for s in SLICES[up] if of[0] <= s[0] < of[1]]
    if isinstance(mapping, FanOut):
        return [s for s in SLICES[up] if s[0] <= of[0] < s[1]]
    assert up is down
    at = STARTS[up].index(of[0])
    if isinstance(mapping, Lag):
        return [SLICES[up][at - mapping.by]]
    back = mapping.n if isinstance(mapping, Trailing) else 1
    return list(SLICES[up][at - back + 1 : at + 1])


@dataclass
class Search:
    """Cell by cell until nothing is new."""

    mesh: Mesh
    asked: frozenset[str]
    span: Span
    now: datetime
    out: frozenset[str]

    def __post_init__(self) -> None:
        self.grains = {str(s.table): s.grain for s in self.mesh.sources}
        self.grains |= {str(m.table): p.grain for p in self.mesh.products for m in p.marts}
        self.maker = {str(m.table): p for p in self.mesh.products for m in p.marts}
        self.known: dict[tuple[str, Bounds], bool] = {}

    def can(self, table: str, of: Bounds) -> bool:
        key = (table, of)
        if key not in self.known:
            self.known[key] = of is None or lies_inside(of)
            if self.known[key] and table in self.maker:
                self.known[key] = all(
                    self.fed(edge, of)
                    for edge in self.maker[table].dependencies
                    if edge.required and not edge.any_of and not edge.wait.tolerant
                )
        return self.known[key]

    def fed(self, edge: Dependency, of: Bounds) -> bool:
        up, down = (self.grains[str(t)] for t in (edge.upstream, edge.downstream))
        read = [self.can(str(edge.upstream), s) for s in asks(edge.mapping, of, down, up)]
        return any(read) if isinstance(edge.mapping, Latest) else bool(read) and all(read)

    def found(self) -> tuple[set[tuple[str, Bounds]], set[tuple[str, Bounds]]]:
        """What is made again, and what is left out."""
        span = (self.span.start, self.span.end)
        changed: set[tuple[str, Bounds]] = set()
        made: set[tuple[str, Bounds]] = set()
        for source in self.mesh.sources:
            if str(source.table) in self.asked:
                changed |= {
                    (str(source.table), s)
                    for s in slices(source.grain)
                    if s is None or lies_inside(s, *span)
                }
        while True:
            before, left = len(changed), set()
            for product in self.mesh.products:
                for of in slices(product.grain):
                    asked = product.id in self.asked and (of is None or lies_inside(of, *span))
                    by = {
                        edge.on_restatement.action
                        for edge in product.dependencies
                        for s in asks(
                            edge.mapping, of, product.grain, self.grains[str(edge.upstream)]
                        )
                        if (str(edge.upstream), s) in changed
                    }
                    if not asked and not by:
                        continue
                    fits = product.id not in self.out and (of is None or of[1] <= self.now)
                    if fits and (asked or "rerun" in by) and self.can(f"{product.id}@1", of):
                        made.add((product.id, of))
                        changed |= {(str(m.table), of) for m in product.marts}
                    else:
                        left.add((product.id, of))
            if len(changed) == before:
                return made, left


GRAINS = (Grain.HOUR, Grain.DAY, Grain.WEEK, Grain.MONTH, Grain.WHOLE)


@st.composite
def edges(draw: st.DrawFn, up: str, up_grain: Grain, down: str, grain: Grain) -> Dependency:
    choices: list[PartitionMapping] = [Latest()]
    if up_grain is grain and grain is not Grain.WHOLE:
        n = draw(st.integers(1, 4))
        choices = [Identity(), Identity(), Lag(n), Trailing(n + 1), Latest()]
    elif up_grain is grain:
        choices = [Identity()]
    elif up_grain < grain:
        choices = [Rollup(), Latest()]
    elif up_grain > grain:
        choices = [FanOut(), Latest()]
    mapping = draw(st.sampled_from(choices))
    action = draw(st.sampled_from(["", "", "rerun", "hold", "ignore"]))
    tolerant = draw(st.integers(0, 5)) == 0 and not isinstance(mapping, Latest)
    return edge(
        *(up, down, mapping),
        wait=WaitPolicy(at_most_missing=1) if tolerant else None,
        required=draw(st.integers(0, 7)) > 0,
        action=action,
    )


@st.composite
def meshes(draw: st.DrawFn) -> Mesh:
    grains = [draw(st.sampled_from(GRAINS)) for _ in range(draw(st.integers(1, 6)))]
    if Grain.HOUR in grains:  # at most one: its cells are many
        first = grains.index(Grain.HOUR)
        grains = [g for n, g in enumerate(grains) if g is not Grain.HOUR or n == first]
    sources: list[Source] = []
    products: list[Product] = []
    for number, grain in enumerate(grains):
        name = f"{'abc'[number % 3]}.t{number}"
        sources.append(make_source(f"a.landing.s{number}", grain))
        reads = [edge(f"a.landing.s{number}", name, Identity())]
        for other in range(number):
            if draw(st.integers(0, 2)) == 0:
                above = products[other]
                reads.append(draw(edges(above.id, above.grain, name, grain)))
        products.append(single(name, grain, *reads))
    return make_mesh(draw(st.permutations(products)), sources, str(FIRST), str(LAST))


@pytest.mark.thorough
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_plan_is_cell_for_cell_what_a_plain_search_finds(data: st.DataObject) -> None:
    mesh = data.draw(meshes())
    names = [p.id for p in mesh.products]
    some = st.lists(st.sampled_from(names), unique=True, min_size=1, max_size=2)
    asked = data.draw(some)
    if data.draw(st.integers(0, 3)) == 0:
        asked[0] = str(data.draw(st.sampled_from(mesh.sources)).table)
    excluded = [
        n for n in data.draw(st.lists(st.sampled_from(names), max_size=2)) if n not in asked
    ]
    first = data.draw(st.integers(-3, 40))
    last = first + data.draw(st.integers(0, 30))
    span = Span.days(FIRST + timedelta(days=first), FIRST + timedelta(days=last), NEW_YORK)
    now = data.draw(st.sampled_from([NOW, midnight(date(2013, 3, 20)) + timedelta(hours=5)]))
    planned = backfill(mesh, asked_for(mesh, asked, span, exclude=excluded), now)
    search = Search(mesh, frozenset(asked), span, now, frozenset(excluded))
    made, left = search.found()
    assert plain(mesh, planned) == {(name, of and of[0]) for name, of in made}
    told = {(name, p.start) for name, p in cells_of(mesh, planned.left_out)}
    assert told == {(name, of and of[0]) for name, of in left}
    for group in planned.groups:
        assert sum(1 for _ in partitions_of(mesh, group)) == group.cells
    assert differences(mesh, planned) == ()


def plain(mesh: Mesh, planned: Backfill) -> set[Cell]:
    return {(name, p.start) for name, p in cells_of(mesh, planned.groups)}


# What it says ------------------------------------------------------------------------------------


def days(first: str, last: str) -> Span:
    return Span.days(first, last, NEW_YORK)


def test_each_stretch_says_why_and_each_end_too() -> None:
    mesh = little_mesh()
    asked = asked_for(
        mesh, ["weather.observations", "fleet.planes"], days("2013-03-10", "2013-03-11")
    )
    planned = backfill(mesh, asked, NOW)
    said = {
        (g.product, s.first.key, s.last.key, s.because) for g in planned.groups for s in g.stretches
    }
    daily = ("reads weather.observations@1 (rollup)",)
    assert said == {
        ("weather.observations", "2013-03-10T05Z", "2013-03-12T03Z", ("asked for",)),
        ("fleet.planes", "whole", "whole", ("asked for",)),
        ("company.daily", "2013-03-10", "2013-03-11", daily),
        ("company.weekly", "2013-03-04", "2013-03-11", ("reads company.daily@1 (rollup)",)),
    }
    assert {g.product: g.wave for g in planned.groups} == {
        "weather.observations": 0,
        "fleet.planes": 0,
        "company.daily": 1,
        "company.weekly": 2,
    }
    (left,) = planned.left_out
    assert (left.product, left.cells) == ("company.daily", 12)
    assert left.stretches[0].because == ("ignores changes of fleet.planes@1: as of",)


def test_a_stretch_is_cut_where_its_reasons_change() -> None:
    product = single(
        "b.y", Grain.DAY, edge("a.x", "b.y", Identity()), edge("a.z", "b.y", Trailing(2))
    )
    up = [single(f"a.{n}", Grain.DAY, edge(f"a.landing.{n}", f"a.{n}", Identity())) for n in "xz"]
    mesh = make_mesh([*up, product], [make_source(f"a.landing.{n}", Grain.DAY) for n in "xz"])
    planned = backfill(mesh, asked_for(mesh, ["a.x", "a.z"], days("2013-03-06", "2013-03-07")), NOW)
    found = next(g for g in planned.groups if g.product == "b.y")
    assert [(s.first.key, s.last.key, len(s.because)) for s in found.stretches] == [
        ("2013-03-06", "2013-03-07", 2),
        ("2013-03-08", "2013-03-08", 1),
    ]
    assert found.runs == 3, "the product does not allow batches"
    batched = replace(product, batch=True)
    mesh = make_mesh([*up, batched], mesh.sources)
    again = backfill(mesh, planned.asked, NOW)
    assert next(g for g in again.groups if g.product == "b.y").runs == 1


def test_what_is_excluded_or_of_another_domain_ends_the_closure() -> None:
    mesh = little_mesh()
    span = days("2013-03-04", "2013-03-10")
    flights = ["operations.flights"]
    for asked, why in (
        (asked_for(mesh, flights, span, exclude=["company.daily"]), "is excluded"),
        (asked_for(mesh, flights, span, only_domains=["operations"]), "is not of operations"),
    ):
        planned = backfill(mesh, asked, NOW)
        assert [g.product for g in planned.groups] == flights
        (left,) = planned.left_out
        assert (left.product, left.stretches[0].because) == ("company.daily", (why,))


def test_what_is_excluded_still_says_what_an_edge_would_have_held() -> None:
    reads = edge("a.x", "b.y", Identity()), edge("a.z", "b.y", Trailing(2), action="hold")
    up = [single(f"a.{n}", Grain.DAY, edge(f"a.landing.{n}", f"a.{n}", Identity())) for n in "xz"]
    sources = [make_source(f"a.landing.{n}", Grain.DAY) for n in "xz"]
    mesh = make_mesh([*up, single("b.y", Grain.DAY, *reads)], sources)
    day = days("2013-03-06", "2013-03-06")
    planned = backfill(mesh, asked_for(mesh, ["a.x", "a.z"], day, exclude=["b.y"]), NOW)
    (left,) = planned.left_out
    assert [(s.first.key, s.because) for s in left.stretches] == [
        ("2013-03-06", ("is excluded",)),
        ("2013-03-07", ("holds changes of a.z@1",)),
    ]


def test_a_source_is_where_a_restatement_from_the_landing_zone_begins() -> None:
    mesh = little_mesh()
    asked = asked_for(mesh, ["operations.landing.flights"], days("2013-03-10", "2013-03-10"))
    planned = backfill(mesh, asked, NOW)
    assert [g.product for g in planned.groups] == [
        "operations.flights",
        "company.daily",
        "company.weekly",
    ]
    assert planned.groups[0].stretches[0].because == ("reads operations.landing.flights",)


def test_every_fault_of_a_request_is_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"no\.such.*asked for and excluded.*no domain nowhere"):
        asked_for(
            little_mesh(),
            ["no.such", "company.daily"],
            days("2013-03-10", "2013-03-10"),
            exclude=["company.daily"],
            only_domains=["nowhere"],
        )


def test_a_plan_knows_what_of_its_mesh_has_changed_since() -> None:
    mesh = little_mesh()
    asked = asked_for(mesh, ["operations.flights"], days("2013-03-10", "2013-03-10"))
    planned = backfill(mesh, asked, NOW)

    def other(*products: Product) -> Mesh:
        return make_mesh(products, mesh.sources)

    def coded(product: Product) -> Product:
        return replace(product, marts=tuple(replace(m, code="2") for m in product.marts))

    changed = [coded(p) if p.id == "company.daily" else p for p in mesh.products]
    assert differences(other(*changed), planned) == ("code of company.daily changed",)
    unread = [coded(p) if p.id == "fleet.planes" else p for p in mesh.products]
    assert differences(other(*unread), planned) == (), "the plan is not about planes"
    reader = single("company.more", Grain.DAY, edge("operations.flights", "company.more", Lag(1)))
    assert differences(other(*mesh.products, reader), planned) == (
        "company.more would be made again too",
    )
    fewer = [p for p in mesh.products if p.id != "company.weekly"]
    assert differences(other(*fewer), planned) == ("company.weekly is no longer there",)


def test_a_whole_table_has_one_cell() -> None:
    mesh = little_mesh()
    planned = backfill(
        mesh, asked_for(mesh, ["fleet.planes"], days("2013-03-10", "2013-03-10")), NOW
    )
    assert cells_of(mesh, planned.groups) == {("fleet.planes", WHOLE)}
