"""The plan of a backfill: cell for cell what a plain search finds, and what it leaves out."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from closure import CALENDARS, Search, Slicing
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

from levada.flow.backfilling import builds_of
from levada.flow.steps import batches
from levada.intervals import check_mapping, within
from levada.intervals import runs as contiguous
from levada.plan import asked_for, backfill, cells_of, differences, partitions_of
from levada.terms import (
    WHOLE,
    Backfill,
    Dependency,
    FanOut,
    Grain,
    Group,
    Identity,
    Lag,
    Latest,
    Mesh,
    Product,
    Rollup,
    Shards,
    Source,
    Span,
    Stretch,
    Trailing,
    WaitPolicy,
)

SHORT = (date(2013, 2, 20), date(2013, 4, 10))
"""Over the 23-hour day of 10 March."""
LONG = (date(2011, 11, 20), date(2013, 4, 10))
"""It holds a year, and quarters."""
FINE = (Grain.HOUR, Grain.DAY, Grain.WEEK, Grain.MONTH, Grain.WHOLE)
COARSE = (Grain.DAY, Grain.WEEK, Grain.MONTH, Grain.QUARTER, Grain.YEAR, Grain.WHOLE)
MESHES = int(os.environ.get("LEVADA_PLAN_MESHES", "60"))
"""How many random meshes are planned and searched."""


@st.composite
def edges(draw: st.DrawFn, up: str, above: Slicing, down: str, own: Slicing) -> Dependency:
    """An edge that a declaration may have."""
    n = draw(st.integers(1, 4))
    every = (Identity(), Identity(), Lag(n), Trailing(n + 1), Rollup(), FanOut(), Latest())
    mapping = draw(st.sampled_from([m for m in every if check_mapping(m, *above, *own) is None]))
    action = draw(st.sampled_from(["", "", "rerun", "hold", "ignore"]))
    tolerant = draw(st.integers(0, 5)) == 0 and not isinstance(mapping, Latest)
    one_of = draw(st.integers(0, 5)) == 0
    return edge(
        *(up, down, mapping),
        wait=WaitPolicy(at_most_missing=1) if tolerant else None,
        required=one_of or draw(st.integers(0, 7)) > 0,
        action=action,
        any_of="either" if one_of else "",
    )


@st.composite
def meshes(draw: st.DrawFn, days: tuple[date, date]) -> Mesh:
    """Up to six products of three domains, sliced by up to three calendars."""
    grains = draw(
        st.lists(st.sampled_from(FINE if days == SHORT else COARSE), min_size=1, max_size=6)
    )
    most = min(grains)  # at most one, and days only twice: their cells are many
    sources: list[Source] = []
    products: list[Product] = []
    for number, grain in enumerate(grains):
        if grain is most and grains[:number].count(most) > (grain is Grain.DAY):
            continue
        name = f"{'abc'[number % 3]}.t{number}"
        zone = draw(st.sampled_from([NEW_YORK, NEW_YORK, *CALENDARS]))
        if grain is Grain.WHOLE:
            zone = NEW_YORK
        sources.append(make_source(f"a.landing.s{number}", grain, zone))
        reads = [edge(f"a.landing.s{number}", name, Identity())]
        for above in products:
            if draw(st.integers(0, 2)) == 0:
                slicings = ((above.grain, above.zone), (grain, zone))
                reads.append(draw(edges(above.id, slicings[0], name, slicings[1])))
        products.append(replace(single(name, grain, *reads), zone=zone))
    first, last = map(str, days)
    return make_mesh(draw(st.permutations(products)), sources, first, last)


@pytest.mark.thorough
@settings(max_examples=MESHES, deadline=None)
@given(st.data())
def test_the_plan_is_cell_for_cell_what_a_plain_search_finds(data: st.DataObject) -> None:
    days = data.draw(st.sampled_from([SHORT, SHORT, SHORT, LONG]))
    mesh = data.draw(meshes(days))
    names = [p.id for p in mesh.products]
    asked = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1, max_size=2))
    only = data.draw(st.sets(st.sampled_from("abc"), max_size=1))
    if only:
        only = {d for d in "abc" if any(p.domain == d for p in mesh.products)} & {
            *only,
            *(mesh.product(name).domain for name in asked),
        }
    if data.draw(st.integers(0, 3)) == 0:
        asked[0] = str(data.draw(st.sampled_from(mesh.sources)).table)
    excluded = [
        n for n in data.draw(st.lists(st.sampled_from(names), max_size=2)) if n not in asked
    ]
    length = (days[1] - days[0]).days
    first = data.draw(st.integers(-3, length - 9))
    last = first + data.draw(st.integers(0, length - 19))
    span = Span.days(days[0] + timedelta(days=first), days[0] + timedelta(days=last), NEW_YORK)
    now = data.draw(st.sampled_from([NOW, datetime(2013, 3, 20, 9, tzinfo=UTC)]))
    wanted = asked_for(mesh, asked, span, exclude=excluded, only_domains=sorted(only))
    planned = backfill(mesh, wanted, now)
    made, left = Search(mesh, days, asked, span, now, excluded, only).found()
    assert plain(mesh, planned) == {(name, of and of[0]) for name, of in made}
    told = {(name, p.start) for name, p in cells_of(mesh, planned.left_out)}
    assert told == {(name, of and of[0]) for name, of in left}
    for group in planned.groups:
        assert sum(1 for _ in partitions_of(mesh, group)) == group.cells
    assert differences(mesh, planned) == ()


def plain(mesh: Mesh, planned: Backfill) -> set[tuple[str, datetime | None]]:
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
    assert builds_of(found, 1) == 3, "one by one"
    assert builds_of(found, 2) == 2
    assert builds_of(found, 62) == 1, "they follow one another, whatever they are made for"


@given(st.sets(st.integers(0, 400), min_size=1), st.integers(1, 70))
def test_the_builds_that_are_told_are_those_that_a_backfill_makes(
    numbers: set[int], most: int
) -> None:
    """Of any slices that are due, cut into stretches as reasons may cut them."""
    slices = within(Grain.DAY, "UTC", Span.days("2013-01-01", "2014-02-10", "UTC"))
    due = [slices[n] for n in sorted(numbers)]
    stretches = [Stretch(p, p, 1, (str(n % 3),)) for n, p in enumerate(due)]
    group = Group("a.x", 0, tuple(stretches))
    together = [list(batch) for batch in batches(due, most, together=True)]
    assert builds_of(group, most) == len(together)
    whole = Group("a.x", 0, tuple(Stretch(r[0], r[-1], len(r), ()) for r in contiguous(due)))
    assert builds_of(whole, most) == len(together)


def test_a_year_that_goes_together_takes_as_many_builds_as_the_batches_that_it_is_cut_into() -> (
    None
):
    year = within(Grain.DAY, "UTC", Span.days("2013-01-01", "2013-12-31", "UTC"))
    group = Group("a.x", 0, (Stretch(year[0], year[-1], 365, ()),))
    assert [builds_of(group, most) for most in (1, 31, 62, 365)] == [365, 12, 6, 1]


def test_a_change_of_batches_or_of_shards_is_a_difference() -> None:
    product = single("a.x", Grain.DAY, edge("a.landing.x", "a.x", Identity()))
    mesh = make_mesh([product], [make_source("a.landing.x", Grain.DAY)])
    asked = asked_for(mesh, ["a.x"], days("2013-03-06", "2013-03-07"))
    for before, after in (
        ({}, {"batch": True}),
        ({}, {"shards": Shards("id", 2)}),
        ({"shards": Shards("id", 2)}, {"shards": Shards("id", 3)}),
    ):
        old, new = (make_mesh([replace(product, **each)], mesh.sources) for each in (before, after))
        said = differences(new, backfill(old, asked, NOW))
        assert said == ("slices of a.x changed",), (before, after)


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


@pytest.mark.parametrize(("one_of", "made"), [("either", ["a.z", "b.y"]), ("", ["a.z"])])
def test_one_of_several_inputs_that_can_never_be_there_keeps_nothing_from_being_made(
    one_of: str, made: list[str]
) -> None:
    """The day before the first one is read too; by itself it would make the first impossible."""
    reads = [edge("a.x", "b.y", Lag(1), any_of=one_of), edge("a.z", "b.y", Identity())]
    reads[1] = replace(reads[1], any_of=one_of)
    up = [single(f"a.{n}", Grain.DAY, edge(f"a.landing.{n}", f"a.{n}", Identity())) for n in "xz"]
    sources = [make_source(f"a.landing.{n}", Grain.DAY) for n in "xz"]
    mesh = make_mesh([*up, single("b.y", Grain.DAY, *reads)], sources)
    first = mesh.span.start.date().isoformat()
    planned = backfill(mesh, asked_for(mesh, ["a.z"], days(first, first)), NOW)
    assert sorted(group.product for group in planned.groups) == made


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
