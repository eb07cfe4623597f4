"""What publications tell a catalogue, and how the cursor moves: never past a line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import pytest
from tests.unit.strategies import (
    World,
    edge,
    little_mesh,
    make_mart,
    make_mesh,
    make_product,
    make_source,
    ref,
)

from levada.catalog import (
    Fact,
    Mark,
    ProductFact,
    PublicationFact,
    TableFact,
    catalogue,
    facts_of,
)
from levada.errors import NotPublishable, Unavailable
from levada.terms import WHOLE, Column, Contract, Grain, Identity, Mesh, Publication, Verdict

DAY = "2013-03-10"
A = TypeVar("A", TableFact, ProductFact, PublicationFact)


def unasked(label: str) -> Contract:
    raise NotPublishable(label)


def of(kind: type[A], facts: Sequence[Fact]) -> list[A]:
    return [fact for fact in facts if isinstance(fact, kind)]


def world() -> World:
    """Two days of flights, published; the second twice."""
    made = World(little_mesh(first="2013-03-09", last="2013-03-10"))
    made.land("operations.landing.flights", "2013-03-09")
    made.land("operations.landing.flights", DAY)
    return made


def published(made: World, *days: str) -> list[Publication]:
    lines = []
    for day in days:
        made.publish("operations.flights", day, content=f"842:{day}")
        line = made.lines[ref("operations.flights"), made.slice("operations.flights", day)]
        assert isinstance(line, Publication)
        label = made.mesh.mart(line.table).contract.label
        lines.append(replace(line, contract=label))
    return lines


class Ledger:
    """Publications in memory, as the ledger gives them out."""

    def __init__(self, lines: Sequence[Publication]) -> None:
        self.lines = list(lines)

    def published(self, after: int, limit: int) -> tuple[Publication, ...]:
        return tuple(line for line in self.lines if line.position > after)[:limit]


class Memory:
    """A catalogue that may be down, or die between its facts and its mark."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.at: Mark | None = None
        self.fault = ""

    def mark(self) -> Mark | None:
        return self.at

    def take(self, facts: Sequence[Fact], mark: Mark) -> None:
        if self.fault == "down":
            raise Unavailable("DataHub", "http://datahub", "connection refused")
        self.facts += facts
        if self.fault == "dies":
            raise KeyboardInterrupt
        self.at = mark

    @property
    def told(self) -> list[tuple[str, int]]:
        return [(f.partition.key, f.generation) for f in of(PublicationFact, self.facts)]


def test_every_line_is_an_event_and_the_newest_says_what_the_table_is() -> None:
    made = world()
    lines = published(made, "2013-03-09", DAY)

    facts = facts_of(made.mesh, lines, unasked)

    events = of(PublicationFact, facts)
    assert [e.partition.key for e in events] == ["2013-03-09", DAY]
    assert {e.rows for e in events} == {842}
    assert {e.verdict for e in events} == {Verdict.PASS}
    flights = next(t for t in of(TableFact, facts) if not t.table.is_source)
    assert flights.table == ref("operations.flights")
    said = dict(flights.properties)
    assert said["partition"] == DAY
    assert said["data_version"] == lines[-1].data_version
    assert said["contract"] == lines[-1].contract
    assert said["verdict"] == "PASS"
    assert said["generation"] == "1"
    assert said["layer"] == "base"
    assert str(flights.owner) == "operations"


def test_tables_come_before_the_events_that_speak_of_them() -> None:
    made = world()
    kinds = [type(f) for f in facts_of(made.mesh, published(made, DAY), unasked)]
    assert kinds == [TableFact, TableFact, ProductFact, PublicationFact]


def test_a_landed_source_is_described_where_a_line_reads_it() -> None:
    made = world()
    facts = of(TableFact, facts_of(made.mesh, published(made, DAY), unasked))
    source = next(fact for fact in facts if fact.table.is_source)
    flights = next(fact for fact in facts if not fact.table.is_source)
    assert flights.upstreams == (source.table,)
    assert str(source.table) == "operations.landing.flights"
    assert source.owner.team == "operations-in"
    assert dict(source.properties)["grain"] == "day"


def test_the_schema_is_that_of_the_recorded_contract_where_declarations_have_moved_on() -> None:
    made = world()
    (line,) = published(made, DAY)
    mart = made.mesh.mart(line.table)
    old = replace(mart.contract, columns=(Column("carrier", "VARCHAR"),), hash="older")
    line = replace(line, contract=old.label)

    def recorded(label: str) -> Contract:
        assert label == old.label
        return old

    facts = of(TableFact, facts_of(made.mesh, [line], recorded))
    assert next(f for f in facts if not f.table.is_source).columns == old.columns


def test_a_table_that_nobody_declares_any_more_is_told_by_its_contract_and_its_inputs() -> None:
    made = world()
    (line,) = published(made, DAY)
    contract = made.mesh.mart(line.table).contract
    empty = Mesh("test", made.mesh.span, made.mesh.zone, made.mesh.live_from, ())

    facts = facts_of(empty, [line], lambda _: contract)

    (table,) = of(TableFact, facts)
    assert table.upstreams == (ref("operations.landing.flights"),)
    assert "layer" not in dict(table.properties)
    assert of(ProductFact, facts) == []
    assert len(of(PublicationFact, facts)) == 1


def product_of_two() -> World:
    """A product whose second table reads the first, and whose first alone reads the files."""
    source = make_source("fleet.landing.planes", Grain.WHOLE)
    other = make_source("fleet.landing.airlines", Grain.WHOLE)
    planes = make_mart(
        "fleet.planes", Grain.WHOLE, [edge(str(source.table), "fleet.planes", Identity())]
    )
    makers = make_mart(
        "fleet.makers",
        Grain.WHOLE,
        [
            edge("fleet.planes", "fleet.makers", Identity()),
            edge(str(other.table), "fleet.makers", Identity()),
        ],
    )
    product = make_product("fleet.registry", Grain.WHOLE, planes, makers)
    made = World(make_mesh([product], [source, other]))
    made.land("fleet.landing.planes", WHOLE)
    made.land("fleet.landing.airlines", WHOLE)
    return made


def test_a_table_has_its_own_lineage_and_not_that_of_its_product() -> None:
    made = product_of_two()
    made.publish("fleet.registry", WHOLE)
    lines = [x for x in made.lines.values() if isinstance(x, Publication)]
    assert {len(line.inputs) for line in lines} == {2}, "a line records what its product read"

    facts = facts_of(made.mesh, lines, lambda _: made.mesh.mart(lines[0].table).contract)

    upstreams = {str(f.table): [str(u) for u in f.upstreams] for f in of(TableFact, facts)}
    assert upstreams["fleet.planes@1"] == ["fleet.landing.planes"]
    assert upstreams["fleet.makers@1"] == ["fleet.landing.airlines", "fleet.planes@1"]
    (product,) = of(ProductFact, facts)
    assert [str(t) for t in product.tables] == ["fleet.makers@1", "fleet.planes@1"]


def test_rows_that_are_not_counted_are_not_told() -> None:
    made = world()
    (line,) = published(made, DAY)
    (event,) = of(PublicationFact, facts_of(made.mesh, [replace(line, content="x")], unasked))
    assert event.rows is None


def test_nothing_published_tells_nothing() -> None:
    catalog = Memory()
    assert facts_of(world().mesh, [], unasked) == ()
    assert catalogue(Ledger([]), catalog, world().mesh, unasked) == ()
    assert catalog.at is None


# --- the cursor -----------------------------------------------------------------------------------


def test_each_line_is_told_once_however_small_the_batches() -> None:
    made = world()
    lines = published(made, "2013-03-09", DAY)
    ledger, catalog = Ledger(lines), Memory()

    while catalogue(ledger, catalog, made.mesh, unasked, limit=1):
        pass

    assert catalog.told == [("2013-03-09", 1), (DAY, 1)]
    assert catalog.at == Mark.of(lines[-1])


def test_a_new_line_is_all_that_is_told_next() -> None:
    made = world()
    ledger, catalog = Ledger(published(made, "2013-03-09")), Memory()
    catalogue(ledger, catalog, made.mesh, unasked)
    fresh = published(made, DAY)
    ledger.lines += fresh

    assert catalogue(ledger, catalog, made.mesh, unasked) == tuple(fresh)
    assert catalogue(ledger, catalog, made.mesh, unasked) == ()
    assert catalog.told == [("2013-03-09", 1), (DAY, 1)]


def test_a_catalogue_that_is_down_moves_no_cursor_and_is_told_everything_later() -> None:
    made = world()
    ledger, catalog = Ledger(published(made, "2013-03-09", DAY)), Memory()
    catalog.fault = "down"
    with pytest.raises(Unavailable, match="DataHub does not answer"):
        catalogue(ledger, catalog, made.mesh, unasked)
    assert catalog.at is None

    catalog.fault = ""
    catalogue(ledger, catalog, made.mesh, unasked)
    assert catalog.told == [("2013-03-09", 1), (DAY, 1)]


def test_one_that_dies_before_its_mark_is_told_the_same_again() -> None:
    made = world()
    ledger, catalog = Ledger(published(made, "2013-03-09", DAY)), Memory()
    catalog.fault = "dies"
    with pytest.raises(KeyboardInterrupt):
        catalogue(ledger, catalog, made.mesh, unasked)
    before = list(catalog.facts)

    catalog.fault = ""
    catalogue(ledger, catalog, made.mesh, unasked)
    assert catalog.facts == before * 2, "a repetition says the same"


@pytest.mark.parametrize("positions", [(1, 2), (1, 90), (80, 90)])
def test_another_ledger_in_its_place_is_told_from_the_beginning(positions: tuple[int, int]) -> None:
    made = world()
    lines = published(made, "2013-03-09", DAY)
    catalog = Memory()
    catalogue(Ledger(lines), catalog, made.mesh, unasked)
    others = [
        replace(line, run="of another ledger", position=position)
        for line, position in zip(lines, positions, strict=True)
    ]
    assert catalogue(Ledger(others), catalog, made.mesh, unasked) == tuple(others)


def test_the_same_position_in_another_ledger_is_another_line() -> None:
    made = world()
    lines = published(made, "2013-03-09", DAY)
    catalog = Memory()
    catalogue(Ledger(lines), catalog, made.mesh, unasked)
    others = [replace(line, run="of another ledger") for line in lines]
    assert catalogue(Ledger(others), catalog, made.mesh, unasked) == tuple(others)


def test_neither_the_command_line_nor_the_stage_nor_the_adapter_imports_datahub() -> None:
    program = (
        "import sys, levada.cli.app, levada.catalog, levada.adapters.datahub;"
        "print([n for n in sys.modules if n.split('.')[0] in ('datahub', 'requests')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
