"""
What the warehouse protocol promises, asked of every warehouse. One is as good as another that
passes; what is its own is in a module of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest
from bench import (
    DELAYS,
    FLIGHTS,
    HANDS,
    NEW_YORK,
    PLANES,
    WEATHER,
    Bench,
    contract,
    day,
    flights,
    landed,
    product,
)

from levada import intervals
from levada.adapters.postgres import Credentials
from levada.errors import LandingMoved, NotPublishable, VersionGone
from levada.ports import StagedSource, StagedTable
from levada.terms import WHOLE, Column, Grain, TableRef

pytestmark = pytest.mark.integration

ONE_DELAY = "SELECT DATE '2013-01-01' AS day, 'AA' AS carrier, 5 AS minutes"
FIRST, SECOND, THIRD = (day(f"2013-01-0{n}") for n in (1, 2, 3))


@pytest.fixture(params=list(HANDS))
def bench(request: pytest.FixtureRequest, server: Credentials, tmp_path: Path) -> Iterator[Bench]:
    hands = HANDS[request.param](server)
    yield Bench(request.param, hands, tmp_path, hands.open(tmp_path))
    hands.close()


# Publishing


def test_publishing_says_that_it_copies_and_does(bench: Bench) -> None:
    assert bench.warehouse.copies
    bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)  # its stage is discarded
    assert bench.rows(FLIGHTS) == [(datetime(2013, 1, 1, 12, tzinfo=UTC), "AA", 1)]


def test_a_swap_replaces_its_partitions_and_nothing_else(bench: Bench) -> None:
    both = f"{flights('2013-01-01', 'AA:1')} UNION ALL {flights('2013-01-02', 'BB:1')}"
    first = bench.publish("r1", {FLIGHTS: both}, FIRST, SECOND)
    stray = f"{flights('2013-01-02', 'CC:1', 'DD:')} UNION ALL {flights('2013-01-03', 'XX:1')}"
    second = bench.publish("r2", {FLIGHTS: stray}, SECOND)
    assert bench.carriers() == ["AA", "CC", "DD"]
    assert first != second


def test_columns_go_by_name_cast_to_their_promised_types(bench: Bench) -> None:
    turned = "SELECT CAST(7 AS BIGINT) AS delay, 'secret' AS unpromised, carrier, ts FROM ({}) t"
    bench.publish("r1", {FLIGHTS: turned.format(flights("2013-01-01", "AA:1"))}, FIRST)
    assert bench.rows(FLIGHTS, "carrier, delay") == [("AA", 7)]


def test_two_tables_are_swapped_together_or_not_at_all(bench: Bench) -> None:
    version = bench.publish(
        "r1", {FLIGHTS: flights("2013-01-01", "AA:1"), DELAYS: ONE_DELAY}, FIRST
    )
    changes = bench.warehouse.changes("operations")
    assert [(c.version, c.tables, c.run) for c in changes] == [
        (version, (DELAYS.table, FLIGHTS.table), "r1")
    ]
    bad = "SELECT CAST(NULL AS DATE) AS day, 'BB' AS carrier, 'late' AS minutes"
    bad += " UNION ALL SELECT DATE '2013-01-01', 'BB', 'late'"
    with pytest.raises(NotPublishable, match=r"operations\.delays@1"):
        bench.publish("r2", {FLIGHTS: flights("2013-01-01", "BB:1"), DELAYS: bad}, FIRST)
    assert bench.carriers() == ["AA"]
    assert bench.rows(DELAYS, "minutes") == [(5,)]
    assert bench.warehouse.find("operations", "r2") is None
    assert bench.warehouse.changes("operations", version) == ()


def test_a_run_that_has_swapped_is_found_and_not_swapped_again(bench: Bench) -> None:
    warehouse = bench.warehouse
    stage = warehouse.seal(bench.build("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}))
    change = [(FLIGHTS, [FIRST])]
    assert warehouse.find("operations", "r1") is None
    version = warehouse.swap(stage, change, {"run": "r1", "why": 'it\'s "new"'})
    bench.publish("r2", {FLIGHTS: flights("2013-01-01", "BB:1")}, FIRST)
    assert warehouse.swap(stage, change, {"run": "r1"}) == version
    assert warehouse.find("operations", "r1") == version
    assert warehouse.find("operations", "r") is None
    assert bench.carriers() == ["BB"]


def test_nothing_replaced_by_nothing_is_a_version_that_can_be_found(bench: Bench) -> None:
    hour = intervals.parse(Grain.HOUR, "2013-01-01T05Z")
    empty = "SELECT now() AS ts, CAST(1 AS FLOAT8) AS temp WHERE false"
    first = bench.publish("r1", {WEATHER: empty}, hour)
    second = bench.publish("r2", {WEATHER: empty}, hour)
    found = [bench.warehouse.find("weather", run) for run in ("r1", "r2")]
    assert [first, second] == found
    assert first != second
    assert bench.rows(WEATHER) == []


def test_a_whole_table_is_replaced_whole(bench: Bench) -> None:
    bench.publish("r1", {PLANES: "SELECT 'N1' AS tail, 5 AS seats"}, WHOLE)
    bench.publish("r2", {PLANES: "SELECT 'N2' AS tail, CAST(NULL AS INTEGER) AS seats"}, WHOLE)
    assert bench.rows(PLANES) == [("N2", None)]


def test_null_in_a_required_column_is_refused_and_nothing_changes(bench: Bench) -> None:
    before = bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    bad = flights("2013-01-01", "BB:1").replace("c AS", "CAST(NULL AS VARCHAR) AS")
    with pytest.raises(NotPublishable, match=r"operations\.flights@1.*carrier"):
        bench.publish("r2", {FLIGHTS: bad}, FIRST)
    assert bench.carriers() == ["AA"]
    assert bench.warehouse.changes("operations", before) == ()


def test_a_swap_may_add_nullable_columns_and_older_versions_read_null(bench: Bench) -> None:
    old = bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    gate = replace(FLIGHTS, columns=(*FLIGHTS.columns, Column("gate", "VARCHAR")))
    sql = f"SELECT t.*, 'B4' AS gate FROM ({flights('2013-01-02', 'BB:1')}) t"
    bench.publish("r2", {gate: sql}, SECOND)
    assert bench.rows(gate, "carrier, gate") == [("AA", None), ("BB", "B4")]
    made = "SELECT CAST(ts AS DATE) AS day, gate AS carrier, 1 AS minutes FROM {input}"
    inputs = [StagedTable(gate, old, intervals.windows([FIRST]))]
    stage = bench.warehouse.seal(bench.build("r3", {DELAYS: made}, inputs))
    relation = stage.outputs[DELAYS.table]
    assert bench.staged(stage, f"SELECT carrier FROM {relation}") == [(None,)]


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ("ts TIMESTAMPTZ!; carrier VARCHAR!; delay BIGINT", "delay BIGINT"),
        ("ts TIMESTAMPTZ!; carrier VARCHAR!", "delay INTEGER"),
        ("ts TIMESTAMPTZ!; carrier VARCHAR; delay INTEGER", "NOT NULL, delay"),
        (
            "ts TIMESTAMPTZ!; carrier VARCHAR!; delay INTEGER; gate INTEGER!",
            "gate INTEGER NOT NULL",
        ),
    ],
)
def test_any_other_change_of_a_published_shape_is_refused_with_both_shapes(
    bench: Bench, columns: str, named: str
) -> None:
    bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    sql = f"SELECT t.*, 1 AS gate FROM ({flights('2013-01-01', 'BB:1')}) t"
    with pytest.raises(NotPublishable) as refused:
        bench.publish("r2", {contract("operations.flights", columns): sql}, FIRST)
    assert named.lower() in str(refused.value).lower()
    assert "published (ts" in str(refused.value)
    assert "promised (ts" in str(refused.value)
    assert bench.carriers() == ["AA"]


def test_a_stage_without_a_promised_column_is_refused(bench: Bench) -> None:
    built = bench.build("r1", {FLIGHTS: "SELECT now() AS ts, 'AA' AS carrier"})
    stage = bench.warehouse.seal(built)
    with pytest.raises(NotPublishable, match="the stage lacks delay"):
        bench.warehouse.swap(stage, [(FLIGHTS, [FIRST])], {"run": "r1"})
    with pytest.raises(NotPublishable, match="delay"):
        bench.warehouse.contents(stage, FLIGHTS, [FIRST])


def test_only_a_sealed_stage_of_one_domain_is_swapped(bench: Bench) -> None:
    stage = bench.build("r1", {FLIGHTS: flights("2013-01-01", "AA:1")})
    with pytest.raises(NotPublishable, match="not sealed"):
        bench.warehouse.swap(stage, [(FLIGHTS, [FIRST])], {"run": "r1"})
    sealed = bench.warehouse.seal(stage)
    both = replace(sealed, outputs={**sealed.outputs, PLANES.table: sealed.outputs[FLIGHTS.table]})
    with pytest.raises(ValueError, match="fleet, operations"):
        bench.warehouse.swap(both, [(FLIGHTS, [FIRST]), (PLANES, [WHOLE])], {"run": "r1"})


def test_values_of_every_kind_come_back_as_they_went_in(bench: Bench) -> None:
    odd = contract(
        "operations.odd",
        "n INTEGER!; text VARCHAR; share DOUBLE; price DECIMAL(10,2); at TIMESTAMPTZ; on_day DATE;"
        " sure BOOLEAN; big BIGINT; small SMALLINT; half FLOAT; stamp TIMESTAMP",
        Grain.WHOLE,
        None,
    )
    nulls = ", ".join(f"CAST(NULL AS {c.type}) AS {c.name}" for c in odd.columns[1:])
    nulls = nulls.replace("AS DOUBLE", "AS FLOAT8").replace("AS FLOAT)", "AS REAL)")
    full = (
        "SELECT 1 AS n, 'it''s \"ü\" 漢 😀' AS text, CAST('NaN' AS FLOAT8) AS share,"
        " CAST('12345678.90' AS DECIMAL(10,2)) AS price,"
        " TIMESTAMPTZ '2013-11-03 05:30:00.123456+00' AS at, DATE '2013-03-10' AS on_day,"
        " true AS sure, CAST(9223372036854775807 AS BIGINT) AS big, CAST(-3 AS SMALLINT) AS small,"
        " CAST(0.5 AS REAL) AS half, TIMESTAMP '2013-03-10 02:30:00' AS stamp"
    )
    empty = full.replace("1 AS n", "3 AS n").replace("'it''s \"ü\" 漢 😀'", "''")
    infinite = empty.replace("3 AS n", "4 AS n").replace("'NaN'", "'Infinity'")
    sql = f"{full} UNION ALL SELECT 2 AS n, {nulls} UNION ALL {empty} UNION ALL {infinite}"
    stage = bench.warehouse.seal(bench.build("r1", {odd: sql}))
    assert bench.warehouse.contents(stage, odd, [WHOLE]) == {WHOLE: CONTENT_OF_ODD_VALUES}
    bench.warehouse.swap(stage, [(odd, [WHOLE])], {"run": "r1"})
    one, two, three, four = bench.rows(odd)
    assert one[2] != one[2]  # NaN
    assert one[:2] + one[3:] == (
        *(1, 'it\'s "ü" 漢 😀', Decimal("12345678.90")),
        *(datetime(2013, 11, 3, 5, 30, 0, 123456, tzinfo=UTC), date(2013, 3, 10), True),
        *(9223372036854775807, -3, 0.5, datetime(2013, 3, 10, 2, 30)),  # noqa: DTZ001
    )
    assert two == (2, *[None] * 10)
    assert three[1] == ""
    assert four[2] == float("inf")


CONTENT_OF_ODD_VALUES = "4:1d4533fff732c720d"
"""The same over both, so that data may move from one warehouse to the other as what it is."""


# Calendars


def test_a_local_day_of_23_hours_is_swapped_and_read_exactly(bench: Bench) -> None:
    every_half_hour = (
        "SELECT t AS ts, 'XX' AS carrier, 1 AS delay FROM generate_series("
        "TIMESTAMPTZ '2013-03-09 00:00:00+00', TIMESTAMPTZ '2013-03-12 00:00:00+00',"
        " INTERVAL '30 minutes') g(t)"
    )
    short = day("2013-03-10")
    version = bench.publish("r1", {FLIGHTS: every_half_hour}, short)
    local = f"CAST(timezone('{NEW_YORK}', ts) AS DATE)"
    assert {row[0] for row in bench.rows(FLIGHTS, local)} == {date(2013, 3, 10)}
    assert len(bench.carriers()) == 46
    made = "SELECT DATE '2013-03-10' AS day, 'x' AS carrier, count(*) AS minutes FROM {input}"
    inputs = [StagedTable(FLIGHTS, version, intervals.windows([short]))]
    stage = bench.warehouse.seal(bench.build("r2", {DELAYS: made}, inputs))
    assert bench.staged(stage, f"SELECT minutes FROM {stage.outputs[DELAYS.table]}") == [(46,)]


def test_dates_are_cut_to_the_local_days_of_the_zone(bench: Bench) -> None:
    march = (
        "SELECT CAST(d AS DATE) AS day, 'AA' AS carrier, 1 AS minutes FROM generate_series("
        "TIMESTAMP '2013-03-01', TIMESTAMP '2013-03-20', INTERVAL '1 day') g(d)"
    )
    days = [day(f"2013-03-{n:02}") for n in (9, 10, 11, 14)]
    version = bench.publish("r1", {DELAYS: march}, *days)
    assert [r[0].day for r in bench.rows(DELAYS, "day")] == [9, 10, 11, 14]
    stage = bench.warehouse.stage(
        "r2", product(FLIGHTS), [StagedTable(DELAYS, version, intervals.windows(days[1:3]))], []
    )
    found = bench.staged(stage, f"SELECT day(day) FROM {stage.inputs[DELAYS.table]} ORDER BY 1")
    assert found == [(10,), (11,)]


# Staging


def test_an_input_is_promised_columns_at_its_version_in_its_windows(bench: Bench) -> None:
    sql = " UNION ALL ".join(flights(f"2013-01-0{n}", f"A{n}:1") for n in (1, 2, 3))
    old = bench.publish("r1", {FLIGHTS: sql}, FIRST, SECOND, THIRD)
    bench.publish("r2", {FLIGHTS: flights("2013-01-01", "ZZ:1")}, FIRST)
    narrow = replace(FLIGHTS, columns=FLIGHTS.columns[:2])
    windows = intervals.windows([FIRST, THIRD])
    stage = bench.warehouse.stage("r3", product(DELAYS), [StagedTable(narrow, old, windows)], [])
    found = bench.staged(stage, f"SELECT * FROM {stage.inputs[FLIGHTS.table]} ORDER BY 2")
    assert [row[1:] for row in found] == [("A1",), ("A3",)]


def test_a_run_builds_from_its_pins_whatever_is_swapped_meanwhile(bench: Bench) -> None:
    pinned = bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1", "AA:1")}, FIRST)
    stage = bench.warehouse.stage("r2", product(DELAYS), [StagedTable(FLIGHTS, pinned, None)], [])
    read = f"SELECT carrier FROM {stage.inputs[FLIGHTS.table]}"
    bench.publish("r3", {FLIGHTS: flights("2013-01-01", "BB:1")}, FIRST)
    assert bench.staged(stage, read) == [("AA",), ("AA",)]
    bench.warehouse.restore([(FLIGHTS, [FIRST])], pinned, {"run": "r4"})
    bench.publish("r5", {FLIGHTS: flights("2013-01-02", "CC:1")}, SECOND)
    assert bench.staged(stage, read) == [("AA",), ("AA",)]
    made = f"CREATE TABLE {stage.outputs[DELAYS.table]} AS {read}"
    bench.hands.domain(bench.warehouse, stage, [made])
    stage = bench.warehouse.seal(stage)
    built = f"SELECT count(*) FROM {stage.outputs[DELAYS.table]}"
    assert bench.staged(stage, built) == [(2,)]


def test_an_input_that_was_absent_or_of_which_nothing_is_wanted_is_empty(bench: Bench) -> None:
    stage = bench.warehouse.stage("r1", product(DELAYS), [StagedTable(FLIGHTS, "", ())], [])
    read = f"SELECT carrier, delay FROM {stage.inputs[FLIGHTS.table]}"
    assert bench.staged(stage, read) == []
    version = bench.publish("r2", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    stage = bench.warehouse.stage("r3", product(DELAYS), [StagedTable(FLIGHTS, version, ())], [])
    read = f"SELECT carrier, delay FROM {stage.inputs[FLIGHTS.table]}"
    assert bench.staged(stage, read) == []


@pytest.mark.parametrize("version", ["0", "999999", "nonsense"])
def test_a_version_that_is_not_there_is_gone(bench: Bench, version: str) -> None:
    bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    with pytest.raises(VersionGone, match="operations"):
        bench.warehouse.stage("r2", product(DELAYS), [StagedTable(FLIGHTS, version, None)], [])
    if version != "0":  # of a lake it is the state before any table
        assert tuple(bench.warehouse.missing("operations", [version])) == (version,)
    assert bench.warehouse.sweep(()) == 0  # nothing of it was left behind


def test_a_version_that_was_forgotten_is_gone_and_the_newest_data_stays(bench: Bench) -> None:
    old = bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    new = bench.publish("r2", {FLIGHTS: flights("2013-01-01", "BB:1")}, FIRST)
    before = datetime.now(UTC)
    bench.hands.forget(bench.warehouse, "operations", old)
    dates = bench.warehouse.expired("operations", [old, new])
    assert list(dates) == [old]
    assert before <= dates[old] <= datetime.now(UTC), "when, to the second"
    with pytest.raises(VersionGone):
        bench.warehouse.stage("r3", product(DELAYS), [StagedTable(FLIGHTS, old, None)], [])
    with pytest.raises(VersionGone):
        bench.warehouse.restore([(FLIGHTS, [FIRST])], old, {"run": "r4"})
    assert bench.carriers() == ["BB"]
    assert tuple(bench.warehouse.missing("operations", [old, new])) == (old,)
    assert bench.warehouse.changes("operations", new) == ()  # forgetting is no tampering


def test_a_run_may_be_staged_again_and_not_every_word_names_one(bench: Bench) -> None:
    bench.build("r1", {FLIGHTS: flights("2013-01-01", "AA:1")})
    stage = bench.warehouse.seal(bench.build("r1", {FLIGHTS: flights("2013-01-01", "BB:1")}))
    read = f"SELECT carrier FROM {stage.outputs[FLIGHTS.table]}"
    assert bench.staged(stage, read) == [("BB",)]
    with pytest.raises(ValueError, match="cannot name a run"):
        bench.warehouse.stage("../r1", product(FLIGHTS), [], [])


# Landing

OBS = TableRef("weather", "landing.obs", 0)


def test_landed_rows_are_text_with_their_file_and_line(bench: Bench, tmp_path: Path) -> None:
    source, paths = landed(
        tmp_path,
        ("a", "b"),
        {
            "2013-01-01T05Z": b'a,b\n1,NA\n\n2,"two\nlines"\r\n3,\n4,"a\rb"\n',
            "2013-01-01T06Z": b"a,b\n",
            "2013-01-01T07Z": "\ufeffa,b\nü,'x'\n\\.,\\N\n".encode(),
        },
    )
    stage = bench.warehouse.stage("r1", product(WEATHER), [], [source])
    first, last = (str(paths[k]) for k in ("2013-01-01T05Z", "2013-01-01T07Z"))
    place = stage.inputs[OBS]
    assert bench.staged(stage, f"SELECT * FROM {place} ORDER BY _file, _line") == [
        ("1", "NA", first, 2),
        ("2", "two\nlines", first, 4),
        ("3", None, first, 6),
        ("4", "a\rb", first, 7),
        ("ü", "'x'", last, 2),
        ("\\.", "\\N", last, 3),
    ]
    types = bench.staged(stage, f"SELECT DISTINCT typeof(a), typeof(_line) FROM {place}")
    assert types == [("VARCHAR", "BIGINT")]
    assert bench.warehouse.rejects(stage) == ()


def test_a_copy_goes_by_the_name_of_the_object(bench: Bench, tmp_path: Path) -> None:
    source, _ = landed(tmp_path, ("a",), {"2013-01-01T05Z": b"a\n1\n2,3\n"})
    name = "s3://bucket/2013-01-01T05Z.csv"
    copies = tuple(replace(file, copy_of=name) for file in source.files)
    stage = bench.warehouse.stage("r1", product(WEATHER), [], [replace(source, files=copies)])
    assert bench.staged(stage, f"SELECT a, _file FROM {stage.inputs[OBS]}") == [("1", name)]
    assert [reject.file for reject in bench.warehouse.rejects(stage)] == [name]


def test_lines_that_are_no_rows_are_kept_out_and_named(bench: Bench, tmp_path: Path) -> None:
    files = {
        "2013-01-01T01Z": b"a,b\n1,2\n3\n4,5,6\n7,8\n",
        "2013-01-01T02Z": b"b,a\n1,2\n",
        "2013-01-01T06Z": b"a,b\n1,2\n3,\xff\n",
    }
    source, _ = landed(tmp_path, ("a", "b"), files)
    stage = bench.build("r1", {WEATHER: "SELECT now() AS ts, 1 AS temp"}, sources=[source])
    before = bench.warehouse.rejects(stage)
    sealed = bench.warehouse.seal(stage)
    for rejects in (before, bench.warehouse.rejects(sealed)):
        found = [(Path(r.file).stem, r.line, r.reason) for r in rejects]
        assert found[:3] == [
            ("2013-01-01T01Z", 3, "1 fields where the header has 2"),
            ("2013-01-01T01Z", 4, "3 fields where the header has 2"),
            ("2013-01-01T02Z", 1, "the header has the declared columns in another order"),
        ]
        assert "not UTF-8" in found[3][2]
    good = bench.staged(sealed, f"SELECT a FROM {sealed.inputs[OBS]} WHERE _file LIKE '%T01Z%'")
    assert sorted(good) == [("1",), ("7",)]


def test_a_landed_file_that_moved_or_went_ends_the_attempt(bench: Bench, tmp_path: Path) -> None:
    source, paths = landed(tmp_path, ("a",), {"2013-01-01T05Z": b"a\n1\n"})
    path = paths["2013-01-01T05Z"]
    path.write_bytes(b"a\n2\n")
    with pytest.raises(LandingMoved, match=r"T05Z\.csv changed"):
        bench.warehouse.stage("r1", product(WEATHER), [], [source])
    path.unlink()
    with pytest.raises(LandingMoved, match=r"T05Z\.csv is gone"):
        bench.warehouse.stage("r1", product(WEATHER), [], [source])
    assert bench.warehouse.sweep(()) == 0
    path.write_bytes(b"a\n1\n")
    stage = bench.warehouse.stage("r1", product(WEATHER), [], [source])
    assert bench.staged(stage, f"SELECT a FROM {stage.inputs[OBS]}") == [("1",)]


def test_a_source_without_files_is_an_empty_table(bench: Bench) -> None:
    stage = bench.warehouse.stage("r1", product(WEATHER), [], [StagedSource(OBS, ("a",), ())])
    assert bench.staged(stage, f"SELECT a, _file, _line FROM {stage.inputs[OBS]}") == []


# Sealing


def test_a_sealed_stage_is_out_of_the_domains_reach(bench: Bench) -> None:
    stage = bench.build("r1", {FLIGHTS: flights("2013-01-01", "AA:1")})
    sealed = bench.warehouse.seal(stage)
    relation = sealed.outputs[FLIGHTS.table]
    for reach in (stage.outputs[FLIGHTS.table], relation):
        with pytest.raises(Exception, match=r"(?i)permission denied|does not exist|no such"):
            bench.hands.domain(
                bench.warehouse,
                replace(stage, outputs={FLIGHTS.table: reach}, path=stage.path),
                [f"DELETE FROM {reach}"],
            )
    assert bench.staged(sealed, f"SELECT carrier FROM {relation}") == [("AA",)]
    assert bench.warehouse.seal(stage) == sealed


def test_marts_that_are_views_or_were_not_built_are_refused(bench: Bench) -> None:
    stage = bench.warehouse.stage("r1", product(FLIGHTS, DELAYS), [], [])
    view = f"CREATE VIEW {stage.outputs[FLIGHTS.table]} AS SELECT 1 AS ts"
    bench.hands.domain(bench.warehouse, stage, [view])
    with pytest.raises(NotPublishable) as refused:
        bench.warehouse.seal(stage)
    assert "operations.flights@1 is a view" in str(refused.value)
    assert "operations.delays@1 was not built" in str(refused.value)


# Contents


def test_content_is_free_of_order_and_counts_duplicates(bench: Bench) -> None:
    a = bench.content("r1", flights("2013-01-01", "AA:1", "BB:", "BB:"))
    assert a == bench.content("r2", flights("2013-01-01", "BB:", "AA:1", "BB:"))
    assert a.startswith("3:")
    assert a != bench.content("r3", flights("2013-01-01", "AA:1", "AA:1", "BB:"))
    zero = bench.content("r4", flights("2013-01-01", "AA:0"))
    assert zero != bench.content("r5", flights("2013-01-01", "AA:"))


def test_content_is_of_promised_columns_and_types_only(bench: Bench) -> None:
    plain = flights("2013-01-01", "AA:1")
    wide = f"SELECT 'x' AS more, CAST(delay AS BIGINT) AS delay, carrier, ts FROM ({plain}) t"
    assert bench.content("r1", plain) == bench.content("r2", wide)
    pair = contract("operations.pairs", "a INTEGER; b INTEGER", Grain.WHOLE, None)
    one = bench.content("r3", "SELECT 1 AS a, 2 AS b", pair)
    assert one != bench.content("r4", "SELECT 2 AS a, 1 AS b", pair)


def test_contents_of_many_partitions_are_those_of_each(bench: Bench) -> None:
    sql = (
        "SELECT CAST(d AS DATE) AS day, 'c' AS carrier, 1 AS minutes FROM generate_series("
        "TIMESTAMP '2013-01-01', TIMESTAMP '2013-01-05', INTERVAL '6 hours') g(d)"
    )
    parts = [day(f"2013-01-0{n}") for n in (1, 2, 4, 9)]
    stage = bench.warehouse.seal(bench.build("r1", {DELAYS: sql}))
    together = bench.warehouse.contents(stage, DELAYS, parts)
    assert together == {p: bench.warehouse.contents(stage, DELAYS, [p])[p] for p in parts}
    assert [c.partition(":")[0] for c in together.values()] == ["4", "4", "4", "0"]
    assert together[parts[3]] == "0:0"
    assert bench.warehouse.contents(stage, DELAYS, []) == {}


# Restoring and accounting


def test_restore_brings_the_values_of_a_version_back_as_a_new_one(bench: Bench) -> None:
    good = f"{flights('2013-01-01', 'AA:1', 'AA:1')} UNION ALL {flights('2013-01-02', 'BB:1')}"
    old = bench.publish("r1", {FLIGHTS: good}, FIRST, SECOND)
    bad = f"{flights('2013-01-01', 'XX:1')} UNION ALL {flights('2013-01-02', 'YY:1')}"
    bench.publish("r2", {FLIGHTS: bad}, FIRST, SECOND)
    new = bench.warehouse.restore([(FLIGHTS, [FIRST])], old, {"run": "r3"})
    assert bench.carriers() == ["AA", "AA", "YY"]
    assert bench.warehouse.find("operations", "r3") == new
    assert bench.warehouse.restore([(FLIGHTS, [FIRST, SECOND])], old, {"run": "r3"}) == new
    assert bench.carriers() == ["AA", "AA", "YY"]
    assert [c.run for c in bench.warehouse.changes("operations")] == ["r1", "r2", "r3"]


def test_what_a_version_shows_is_told_as_what_was_staged_is(bench: Bench) -> None:
    good = f"{flights('2013-01-01', 'AA:1', 'AA:')} UNION ALL {flights('2013-01-02', 'BB:1')}"
    old = bench.publish("r1", {FLIGHTS: good}, FIRST, SECOND)
    stage = bench.warehouse.seal(bench.build("r2", {FLIGHTS: good}))
    staged = bench.warehouse.contents(stage, FLIGHTS, [FIRST, SECOND, THIRD])
    new = bench.publish("r3", {FLIGHTS: flights("2013-01-01", "AA:2")}, FIRST)
    assert bench.warehouse.shown(FLIGHTS, [FIRST, SECOND, THIRD], old) == staged
    assert bench.warehouse.shown(FLIGHTS, [SECOND], new) == {SECOND: staged[SECOND]}
    assert bench.warehouse.shown(FLIGHTS, [FIRST], new) != {FIRST: staged[FIRST]}
    with pytest.raises(VersionGone):
        bench.warehouse.shown(FLIGHTS, [FIRST], "999999")


def test_restore_to_a_version_without_the_partition_empties_it(bench: Bench) -> None:
    old = bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    bench.publish("r2", {FLIGHTS: flights("2013-01-02", "BB:1")}, SECOND)
    bench.warehouse.restore([(FLIGHTS, [FIRST, SECOND])], old, {"run": "r3"})
    assert bench.carriers() == ["AA"]


def test_a_version_without_the_table_or_beyond_the_newest_is_not_restored(bench: Bench) -> None:
    before = bench.publish("r1", {DELAYS: ONE_DELAY}, FIRST)
    bench.publish("r2", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    for version in (before, "999999"):
        with pytest.raises(VersionGone):
            bench.warehouse.restore([(FLIGHTS, [FIRST])], version, {"run": "r3"})
    assert bench.carriers() == ["AA"]


def test_a_change_by_hand_names_its_table_and_no_run(bench: Bench) -> None:
    bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    bench.hands.tamper(FLIGHTS)
    last = bench.publish("r2", {FLIGHTS: flights("2013-01-01", "BB:1")}, FIRST)
    changes = bench.warehouse.changes("operations")
    assert [(c.run, c.tables) for c in changes] == [
        ("r1", (FLIGHTS.table,)),
        (None, (FLIGHTS.table,)),
        ("r2", (FLIGHTS.table,)),
    ]
    assert bench.warehouse.changes("operations", last) == ()
    assert bench.carriers() == ["BB"]


def test_a_change_of_shape_by_hand_is_told_too(bench: Bench) -> None:
    one = bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    bench.hands.reshape(FLIGHTS)
    (change,) = bench.warehouse.changes("operations", one)
    assert (change.run, change.tables) == (None, (FLIGHTS.table,))
    assert "alter" in change.what


# Rights


@pytest.mark.parametrize(
    "role", ["levada_domain_operations", "levada_domain_company", "levada_runner"]
)
def test_only_the_publisher_can_write_published_data(bench: Bench, role: str) -> None:
    version = bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    assert bench.hands.refused(role, FLIGHTS) == []
    assert bench.carriers() == ["AA"]
    assert bench.warehouse.changes("operations", version) == ()


# Processes

CHILD = """
import json, sys, time, fcntl
from pathlib import Path
import bench as b
from levada.adapters.postgres import Credentials
said = json.loads(sys.argv[1])
hands = b.HANDS[said["kind"]].__new__(b.HANDS[said["kind"]])
hands.__dict__.update(said["hands"], _open=b.ExitStack())
hands._server = Credentials(**said["server"])
bench = b.Bench(said["kind"], hands, Path(said["folder"]), hands.open(Path(said["folder"])))
"""


def child(bench: Bench, server: Credentials, code: str) -> subprocess.Popen[str]:
    """A process of its own with the same warehouse, in which `bench` and its module `b` exist."""
    said = {
        "kind": bench.kind,
        "folder": str(bench.folder),
        "hands": {"database": getattr(bench.hands, "database", "")},
        "server": {
            "host": server.host,
            "port": server.port,
            "secret": server.secret,
            "admin_password": server.admin_password,
        },
    }
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + code, json.dumps(said)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")},
    )


KILLED = """
from levada.adapters.warehouses import _swap
from levada.adapters.warehouses.postgres import _swap as _other
for module in (_swap, _other):
    def slow(*arguments, swapped=module.swapped):
        swapped(*arguments)
        print("between", flush=True)
        time.sleep(60)
    module.swapped = slow
bench.publish("r2", {b.FLIGHTS: b.flights("2013-01-01", "BB:1", "CC:1")}, b.day("2013-01-01"))
"""

SWAPPED = """
stage = bench.warehouse.seal(bench.build("r2", {b.FLIGHTS: b.flights("2013-01-01", "BB:1")}))
version = bench.warehouse.swap(stage, [(b.FLIGHTS, [b.day("2013-01-01")])], {"run": "r2"})
print(version, flush=True)
time.sleep(60)
"""


def killed(bench: Bench, server: Credentials, code: str) -> str:
    """Run a child until it has said something, then kill it; what it said."""
    process = child(bench, server, code)
    assert process.stdout is not None
    said = process.stdout.readline().strip()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    return said


def test_a_swap_killed_before_its_commit_changed_nothing_and_is_done_again(
    bench: Bench, server: Credentials
) -> None:
    bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    assert killed(bench, server, KILLED) == "between"
    assert bench.warehouse.find("operations", "r2") is None
    assert bench.carriers() == ["AA"]
    assert bench.warehouse.sweep({"r2"}) == 0
    assert bench.warehouse.sweep(()) == 1
    bench.publish("r2", {FLIGHTS: flights("2013-01-01", "BB:1")}, FIRST)
    assert bench.carriers() == ["BB"]


def test_a_swap_whose_process_was_killed_before_it_told_is_found(
    bench: Bench, server: Credentials
) -> None:
    bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1")}, FIRST)
    version = killed(bench, server, SWAPPED)
    assert bench.warehouse.find("operations", "r2") == version
    assert bench.carriers() == ["BB"]


def test_processes_that_swap_different_days_under_a_lock_all_arrive(
    bench: Bench, server: Credentials, tmp_path: Path
) -> None:
    code = """
for n in (1, 2, 3):
    key, run = f"2013-0{month}-0{{n}}", f"{who}{{n}}"
    stage = bench.warehouse.seal(bench.build(run, {{b.FLIGHTS: b.flights(key, run + ":1")}}))
    with open("{lock}", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        bench.warehouse.swap(stage, [(b.FLIGHTS, [b.day(key)])], {{"run": run}})
"""
    lock = tmp_path / "lock"
    children = [
        child(bench, server, code.format(who=who, month=month, lock=lock))
        for who, month in (("A", 1), ("B", 2))
    ]
    for process in children:
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert bench.carriers() == [f"{who}{n}" for who in "AB" for n in (1, 2, 3)]
    changes = bench.warehouse.changes("operations")
    assert sorted(c.run or "" for c in changes) == bench.carriers()


def test_swaps_of_different_tables_need_no_lock(bench: Bench) -> None:
    stages = {
        FLIGHTS: bench.build("f", {FLIGHTS: flights("2013-01-01", "AA:1")}),
        DELAYS: bench.build("d", {DELAYS: ONE_DELAY}),
    }
    failures: list[BaseException] = []

    def swap(promised: object) -> None:
        stage = stages[promised]  # type: ignore[index]
        own = bench.hands.open(bench.folder)
        try:
            own.swap(own.seal(stage), [(promised, [FIRST])], {"run": stage.run})  # type: ignore[list-item]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=swap, args=[promised]) for promised in stages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {c.run for c in bench.warehouse.changes("operations")} == {"f", "d"}


def test_only_stages_of_dead_runs_that_are_old_enough_are_swept(bench: Bench) -> None:
    for run in ("alive", "dead", "sealed"):
        stage = bench.build(run, {FLIGHTS: flights("2013-01-01", "AA:1")})
    bench.warehouse.seal(stage)
    assert bench.hands.open(bench.folder, grace=timedelta(hours=1)).sweep({"alive"}) == 0
    assert bench.warehouse.sweep({"alive"}) == 2
    assert bench.warehouse.sweep({"alive"}) == 0
    assert bench.warehouse.sweep(()) == 1


def test_a_duckdb_reads_published_tables_beside_others_at_any_version(bench: Bench) -> None:
    old = bench.publish("r1", {FLIGHTS: flights("2013-01-01", "AA:1", "BB:2")}, FIRST)
    bench.publish("r2", {FLIGHTS: flights("2013-01-01", "CC:3")}, FIRST)
    warehouse = bench.warehouse
    with duckdb.connect() as connection:
        for statement in warehouse.attaching(["operations"]):
            connection.execute(statement)
        now, then = (warehouse.relation(FLIGHTS.table, version) for version in ("", old))
        said = f"SELECT carrier, delay FROM {now} ORDER BY 1"
        assert connection.execute(said).fetchall() == [("CC", 3)]
        said = f"DESCRIBE SELECT * FROM {then}"
        names = [row[0] for row in connection.execute(said).fetchall()]
        assert names == ["ts", "carrier", "delay"]
        said = f"SELECT carrier FROM {then} ORDER BY 1"
        assert connection.execute(said).fetchall() == [("AA",), ("BB",)]
