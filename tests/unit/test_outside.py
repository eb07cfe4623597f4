"""How tables outside the mesh are declared, and how landed files are found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.unit.strategies import World, edge, make_mesh, make_source, single

from levada import compiled
from levada.adapters.probes import Probes
from levada.declare import ModelFacts, ParsedProject, SourceFacts, declare
from levada.intervals import parse
from levada.readiness import trace
from levada.settings import Settings, look, read_settings
from levada.terms import (
    Contract,
    FileProbe,
    Grain,
    Identity,
    Mesh,
    Owner,
    ProbeFailure,
    QueryProbe,
    Source,
    Span,
    State,
    TableProbe,
    TableRef,
)

SETTINGS = """\
mesh: test
zone: UTC
span: {from: 2013-03-08, to: 2013-03-10}
landing: {drop: landing}
connections: [shop_db]
domains: [shop]
"""
NOW = datetime(2013, 3, 20, tzinfo=UTC)
ORDERS = TableRef("shop", "orders", 1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "levada.yaml").write_text(SETTINGS)
    return read_settings(tmp_path)


def source(meta: Mapping[str, object], table: str = "t", line: int = 7) -> SourceFacts:
    node = f"source.shop.in.{table}"
    return SourceFacts(node, "in", table, ("id", "at"), meta, "models/shop/s.yml", line)


def contract() -> Contract:
    return Contract(
        *("c", "1.0.0", "active", ORDERS, "orders", Grain.DAY, "UTC", "at", (), ()),
        owner=Owner("shop"),
        description="",
        hash="h",
        path="contracts/shop/orders.v1.odcs.yaml",
    )


def model(meta: Mapping[str, object] = {}, sources: tuple[str, ...] = ()) -> ModelFacts:
    return ModelFacts(
        *("model.shop.orders", "orders", None, "shop", "models/shop/base/orders.sql", "base"),
        materialized="table",
        models=(),
        externals=(),
        sources=sources,
        meta=meta,
        yaml="",
        yaml_line=0,
        columns=(),
        code="1",
    )


def read(settings: Settings, *sources: SourceFacts) -> tuple[tuple[Source, ...], list[str]]:
    found = declare(settings, (), (ParsedProject("shop", "p", (), sources),))
    return found.mesh.sources, [str(fault) for fault in found.faults]


def test_a_source_is_probed_by_files_by_a_query_or_in_a_table(settings: Settings) -> None:
    sources, faults = read(
        settings,
        source({"zone": "drop", "files": "{start:%F}.csv", "marker": "{start:%F}.done"} | DAY, "a"),
        source({"connection": "shop_db", "query": "select max(at) from loads;"} | DAY, "b"),
        source(
            {"connection": "shop_db", "postgres": "sales.orders", "time": "at", "version": "v"}
            | {"complete_when": "exists (select from loads where day = :start)"}
            | DAY,
            "c",
        ),
    )

    assert faults == []
    assert [(s.location, s.probe) for s in sources] == [
        ("landing/{start:%F}.csv", FileProbe("landing/{start:%F}.done", "landing")),
        ("shop_db:query", QueryProbe("shop_db", "select max(at) from loads")),
        (
            "shop_db:sales.orders",
            TableProbe(
                *("shop_db", "sales.orders", "at", "v"),
                "exists (select from loads where day = :start)",
            ),
        ),
    ]


def test_a_zone_of_a_store_makes_addresses(settings: Settings) -> None:
    settings = replace(settings, landing={"drop": "s3://bucket/in"})
    meta = {"zone": "drop", "files": "./a/{start:%F}.csv", "marker": "{start:%F}.done"} | DAY

    (made,), faults = read(settings, source(meta, "a"))
    _, (wrong,) = read(settings, source(meta | {"files": "../{start:%F}.csv"}, "a"))

    assert faults == []
    assert made.location == "s3://bucket/in/a/{start:%F}.csv"
    assert made.probe == FileProbe("s3://bucket/in/{start:%F}.done", "s3://bucket/in")
    assert "leads out of its landing zone" in wrong


DAY = {"grain": "day"}
TABLE = {"connection": "shop_db", "postgres": "orders", "time": "at"} | DAY
QUERY = {"connection": "shop_db", "query": "select 1"} | DAY


@pytest.mark.parametrize(
    ("meta", "says"),
    [
        ({"files": "a.csv", "query": "select 1"} | DAY, "is probed by files and by query"),
        (QUERY | {"marker": "x"}, "'marker' belongs to files; this source is probed by query"),
        (TABLE | {"versoin": "v"}, "unknown key 'versoin'; did you mean 'version'?"),
        (TABLE | {"connection": "shop"}, "no connection 'shop'; did you mean 'shop_db'?"),
        (TABLE | {"grain": "dya"}, "no grain 'dya'; did you mean 'day'?"),
        (TABLE | {"grain": "whole"}, "a whole table has no time"),
        ({"connection": "shop_db", "postgres": "orders"} | DAY, "lacks time"),
        (TABLE | {"postgres": "a b"}, "'a b' is no table"),
        (TABLE | {"calendar": "Mars"}, "no zone 'Mars'"),
        (TABLE | {"day_start": "06:00"}, "day_start cannot cut them"),
        (TABLE | {"complete_when": ":row > 1"}, "names :row, which nothing puts in; did you mean"),
        (QUERY | {"query": "select :rows"}, "query names :rows, which nothing puts in"),
        (QUERY | {"query": "select 1; drop table t"}, "holds more than one statement"),
        (QUERY | {"query": "delete from t returning 1"}, "query is no SELECT"),
        ({"connection": "shop_db", "query": "select 1"}, "meta.levada lacks grain"),
        ({"owner": "me"}, "meta.levada lacks zone, files, grain; say files, query or postgres"),
        ({"zone": "drpo", "files": "a.csv"} | DAY, "no landing zone 'drpo'; did you mean 'drop'?"),
        ({"zone": "drop", "files": "{strat}.csv"} | DAY, "'{strat}.csv' names no file"),
        (
            {"zone": "drop", "files": "a.csv", "marker": "{start:%F}", "grain": "whole"},
            "'{start:%F}' names no file; a whole table has no start",
        ),
    ],
)
def test_a_wrong_source_is_a_fault_of_its_line(
    settings: Settings, meta: dict[str, object], says: str
) -> None:
    _, faults = read(settings, source(meta))

    assert len(faults) == 1, faults
    assert faults[0].startswith("models/shop/s.yml:7: source in.t")
    assert says in faults[0]


def test_all_faults_of_a_source_are_told_at_once(settings: Settings) -> None:
    wrong = {"connection": "shp_db", "postgres": "a-b", "grain": "dya", "tmie": "at"}

    _, faults = read(settings, source(wrong), source({"zone": "x"}, "u", 12))

    assert {fault.partition(";")[0] for fault in faults} == {
        "models/shop/s.yml:12: source in.u: meta.levada lacks files, grain",
        "models/shop/s.yml:12: source in.u: no landing zone 'x'",
        "models/shop/s.yml:7: source in.t: 'a-b' is no table",
        "models/shop/s.yml:7: source in.t: levada.yaml names no connection 'shp_db'",
        "models/shop/s.yml:7: source in.t: no grain 'dya'",
        "models/shop/s.yml:7: source in.t: unknown key 'tmie'",
    }


def test_what_is_only_waited_for_is_named_in_inputs_and_never_read(settings: Settings) -> None:
    sources = (source(QUERY, "sign"),)
    named: dict[str, object] = {"inputs": {"shop.in.sign": {}}}
    reading = ParsedProject("shop", "p", (model(sources=(sources[0].node,)),), sources)
    waiting = ParsedProject("shop", "p", (model(named),), sources)

    (fault,) = declare(settings, (contract(),), (reading,)).faults
    waits = declare(settings, (contract(),), (waiting,))

    assert "model orders reads shop.in.sign, which is only waited for" in str(fault)
    assert fault.path == "models/shop/base/orders.sql"
    assert waits.faults == ()
    (product,) = waits.mesh.products
    assert [str(d.upstream) for d in product.dependencies] == ["shop.in.sign"]


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("shop_db", "'connections' is a list of ids"),
        ("[shop db]", "'shop db' is no id of a connection"),
        ("[levada_publisher]", "levada_publisher is the platform's own"),
    ],
)
def test_the_connections_of_a_mesh_are_named_and_never_the_platforms(
    tmp_path: Path, said: str, wrong: str
) -> None:
    (tmp_path / "levada.yaml").write_text(SETTINGS.replace("[shop_db]", said))

    _, faults = look(tmp_path)

    assert [(f.line, f.wrong) for f in faults] == [(5, wrong)]


def test_how_a_source_is_probed_survives_compilation(settings: Settings) -> None:
    sources, _ = read(
        settings,
        source({"zone": "drop", "files": "a", "marker": "b"} | DAY, "a"),
        source(QUERY, "b"),
        source(TABLE, "c"),
    )
    span = Span.days("2013-03-08", "2013-03-10", "UTC")

    compiled.save(settings, Mesh("test", span, "UTC", span.start, (), sources), ["shop"])

    assert compiled.load(settings).sources == sources


# Files


def test_a_file_counts_when_its_marker_is_there_and_its_content_is_the_files(
    tmp_path: Path,
) -> None:
    table = TableRef("shop", "in.t", 0)
    marked = Source(
        *(table, Grain.DAY, "UTC", "in/{start:%F}.csv", ("a",), "s"),
        probe=FileProbe("in/{start:%F}.done"),
    )
    probes, span = Probes(tmp_path), Span.days("2013-03-08", "2013-03-09", "UTC")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/2013-03-08.csv").write_text("a\n1\n")
    (tmp_path / "in/2013-03-09.done").touch()
    assert probes.ask([marked], span, NOW).landed == ()

    (tmp_path / "in/2013-03-08.done").write_text("whatever")
    (first,) = probes.ask([marked], span, NOW).landed
    (tmp_path / "in/2013-03-08.done").write_text("something else")
    (second,) = probes.ask([marked], span, NOW).landed
    (tmp_path / "in/2013-03-08.csv").write_text("a\n2\n3\n")
    (third,) = probes.ask([marked], span, NOW).landed

    assert first.partition.key == "2013-03-08"
    assert first.content == second.content != third.content


def test_a_landing_zone_that_cannot_be_read_is_said_and_is_not_nothing_landed(
    tmp_path: Path,
) -> None:
    (tmp_path / "in").write_text("a file where the folder should be")
    table = TableRef("shop", "in.t", 0)
    broken = Source(table, Grain.DAY, "UTC", "in/{start:%F}.csv", ("a",), "s")

    answers = Probes(tmp_path).ask([broken], Span.days("2013-03-08", "2013-03-08", "UTC"), NOW)

    assert answers.landed == ()
    assert "Not a directory" in answers.said[table]


def test_a_zone_whose_folder_is_not_there_is_said_and_is_not_nothing_landed(
    tmp_path: Path,
) -> None:
    table, span = TableRef("shop", "in.t", 0), Span.days("2013-03-08", "2013-03-10", "UTC")
    gone = Source(
        *(table, Grain.DAY, "UTC", "in/t/{start:%F}.csv", ("a",), "s"), probe=FileProbe("", "in")
    )

    answers = Probes(tmp_path).ask([gone], span, NOW)
    (tmp_path / "in").mkdir()
    empty = Probes(tmp_path).ask([gone], span, NOW)

    assert (answers.landed, answers.said) == ((), {table: "in: the zone's folder is not there"})
    assert (empty.landed, empty.said) == ((), {table: ""}), "nobody has landed of this table yet"


def test_an_odd_entry_of_a_zone_hides_no_other_slice(tmp_path: Path) -> None:
    table, span = TableRef("shop", "in.t", 0), Span.days("2013-03-07", "2013-03-10", "UTC")
    days = Source(table, Grain.DAY, "UTC", "in/{start:%F}.csv", ("a",), "s")
    for day in ("2013-03-08", "2013-03-09"):
        (tmp_path / f"in/{day}.csv").mkdir(parents=True)
    for day in ("2013-03-07", "2013-03-10"):
        (tmp_path / f"in/{day}.csv").write_text("a\n")

    answers = Probes(tmp_path).ask([days], span, NOW)

    assert [x.partition.key for x in answers.landed] == ["2013-03-07", "2013-03-10"]
    assert answers.said[table].startswith("in/2013-03-08.csv: ")
    assert answers.said[table].endswith("; and 1 more")


# What the judge says of it


def test_a_source_that_could_not_be_asked_is_waited_for_with_its_reason() -> None:
    name, day = "a.landing.x", parse(Grain.DAY, "2013-03-10", "America/New_York")
    product = single("a.x", Grain.DAY, edge(name, "a.x", Identity()))
    world = World(make_mesh([product], [make_source(name, Grain.DAY)]))
    world.land(name, "2013-03-09")
    table, since = TableRef("a", "landing.x", 0), datetime(2013, 3, 11, 5, 30, tzinfo=UTC)
    failure = ProbeFailure(table, "connection refused", since)
    facts = type(world.facts)(lines=world.facts.lines, probes={table: failure})

    (hop,) = trace(world.mesh, TableRef("a", "x"), day, facts, world.now)
    landed = trace(world.mesh, table, parse(Grain.DAY, "2013-03-09", day.zone), facts, world.now)

    assert hop.readiness.state is State.WAITING
    said = "could not be asked since 2013-03-11 05:30Z: connection refused"
    assert (hop.readiness.because, hop.since) == (said, since)
    assert landed == (), "what has landed stays"
