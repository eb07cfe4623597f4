"""What may stand in the file of a consistency batch: faults as data, each with its line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.strategies import little_mesh

from levada.adapters.consistency import FOLDER, read_batches
from levada.adapters.odcs import read_contracts
from levada.consistency import gated, gates_of, slices
from levada.errors import Fault
from levada.intervals import within
from levada.terms import (
    Batch,
    Column,
    Layer,
    Mart,
    Mesh,
    Product,
    Read,
    RuleKind,
    Severity,
    Span,
    TableRef,
)

ROOT = Path(__file__).parents[2]

FLIGHTS = TableRef("operations", "flights")
COLUMNS = (
    Column("day", "DATE"),
    Column("tailnum", "VARCHAR"),
    Column("late", "INTEGER"),
    Column("seen_at", "TIMESTAMPTZ"),
)
HEAD = """\
batch: daily
grain: day
owner: governance
description: Something holds.
rules:
"""
SOUND = """\
  - id: adds_up
    kind: totals
    description: It adds up.
    left: {table: operations.flights, by: [tailnum], values: [late]}
    right: {table: company.daily, by: [tailnum], values: {late: sum(late)}}
"""


def mesh() -> Mesh:
    """The little mesh, each table with the same columns."""
    declared = little_mesh()
    products = tuple(
        replace(
            product,
            marts=tuple(
                replace(m, contract=replace(m.contract, columns=COLUMNS)) for m in product.marts
            ),
        )
        for product in declared.products
    )
    return Mesh("test", declared.span, declared.zone, declared.live_from, products)


def read(
    root: Path, text: str, name: str = "daily.yaml", of: Mesh | None = None
) -> tuple[tuple[Batch, ...], tuple[Fault, ...]]:
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return read_batches(root, of or mesh())


def test_a_sound_file_is_a_batch_with_its_rules(tmp_path: Path) -> None:
    ((batch,), faults) = read(tmp_path, HEAD + SOUND)

    (rule,) = batch.rules
    assert faults == ()
    assert (rule.name, rule.kind, rule.line) == ("daily.adds_up", RuleKind.TOTALS, 6)
    assert rule.sides[0].values == (("late", "SUM(late)"),)
    assert rule.reads == (Read(FLIGHTS), Read(TableRef("company", "daily")))
    assert batch.zone == "America/New_York"


def test_another_tool_may_write_json(tmp_path: Path) -> None:
    rule = {
        "id": "once",
        "kind": "duplicates",
        "description": "Once.",
        "of": {"table": "operations.flights", "key": ["tailnum"]},
    }
    said = {"batch": "b", "grain": "day", "owner": "o", "description": "d", "rules": [rule]}

    ((batch,), faults) = read(tmp_path, json.dumps(said, indent=1), "b.json")

    assert faults == ()
    assert batch.rules[0].id == "once"


def test_the_rules_of_a_weekday_read_its_earlier_weeks(tmp_path: Path) -> None:
    body = """\
  - id: usual
    kind: weekday
    description: As ever.
    of: {table: operations.flights, values: {n: count(*)}}
    weeks: 2
    tolerance: {relative: 10%}
"""
    ((batch,), _) = read(tmp_path, HEAD + body)

    assert batch.rules[0].reads == (Read(FLIGHTS), Read(FLIGHTS, 1), Read(FLIGHTS, 2))


BALANCES = """\
  - id: closing
    kind: balances
    description: What is told of midnight is the later snapshot, computed back.
    snapshot: {table: company.daily, key: [tailnum], values: {sum: late}, taken: seen_at}
    of: {table: company.daily, key: [tailnum], values: {sum: late}}
    movements:
      {table: operations.flights, key: [tailnum], amount: late, effective: seen_at,
       recorded: seen_at}
    reach: 2
"""


def test_balances_read_movements_of_the_intervals_around(tmp_path: Path) -> None:
    ((batch,), faults) = read(tmp_path, HEAD + BALANCES)

    assert faults == ()
    (rule,) = batch.rules
    daily = TableRef("company", "daily")
    assert rule.reads == (Read(daily), Read(FLIGHTS, reach=2))
    assert [name for name, _ in rule.sides[2].values] == [
        *("amount", "effective", "recorded", "reversed"),
    ]


def test_what_is_read_around_an_interval_is_there_whole_or_never(tmp_path: Path) -> None:
    ((batch,), _) = read(tmp_path, HEAD + BALANCES)
    known = mesh()
    days = within(batch.grain, batch.zone, known.span)

    parts, never = slices(known, batch, Read(FLIGHTS, reach=2), days[4])
    assert (parts, never) == (days[2:7], "")
    parts, never = slices(known, batch, Read(FLIGHTS, reach=2), days[-2])
    assert parts == ()
    assert never


def test_what_is_no_balance_is_refused_with_its_line(tmp_path: Path) -> None:
    wrong = BALANCES.replace("values: {sum: late}, taken", "values: {sum: late, n: late}, taken")
    wrong = wrong.replace("table: operations.flights", "table: company.daily")
    _, faults = read(tmp_path, HEAD + wrong)

    said = "\n".join(map(str, faults))
    for told in ("a rule is about one balance", "movements are a table of their own"):
        assert told in said
    _, faults = read(tmp_path, HEAD + BALANCES.replace("amount: late, ", ""))
    assert "amount" in str(faults[0])


def test_only_what_decides_the_result_makes_another_rule(tmp_path: Path) -> None:
    ((one,), _) = read(tmp_path, HEAD + SOUND)
    ((told,), _) = read(tmp_path, HEAD + SOUND.replace("It adds up", "It still adds up"))
    ((other,), _) = read(tmp_path, HEAD + SOUND.replace("sum(late)", "max(late)"))

    assert one.rules[0].hash == told.rules[0].hash != other.rules[0].hash


CASES = {
    "an unknown key": (SOUND + "    tolerence: {relative: 1%}\n", 11, "unknown key 'tolerence'"),
    "an unknown kind": (SOUND.replace("totals", "total"), 7, "'total' is none of the words"),
    "a key of another kind": (SOUND + "    weeks: 2\n", 11, "'weeks' says nothing to a rule"),
    "a missing side": ("\n".join(SOUND.splitlines()[:4]) + "\n", 6, "'right' is missing"),
    "no description": (SOUND.replace("    description: It adds up.\n", ""), 6, "'description'"),
    "an unknown table": (SOUND.replace("company.daily", "company.dialy"), 10, "'company.dialy'"),
    "an unknown column": (SOUND.replace("values: [late]", "values: [lat]"), 9, "no column 'lat'"),
    "an unknown column inside": (SOUND.replace("sum(late)", "sum(lat)"), 10, "no column 'lat'"),
    "names that differ": (SOUND.replace("{late: sum", "{later: sum"), 10, "the values of left"),
    "a value that sums nothing": (SOUND.replace("sum(late)", "late"), 10, "is about one row"),
    "a group that sums": (SOUND.replace("by: [tailnum], v", "by: [max(late)], v"), 9, "sums rows"),
    "a subquery": (SOUND.replace("sum(late)", "(select 1)"), 10, "holds a query"),
    "a function that looks outside": (
        SOUND.replace("sum(late)", "max(getenv('HOME'))"),
        *(10, "calls getenv"),
    ),
    "a type that cannot be summed": (SOUND.replace("sum(late)", "sum(tailnum)"), 7, "cannot run"),
    "an id that comes twice": (SOUND + SOUND, 11, "stands on line 6 already"),
    "a tolerance of nothing": (SOUND + "    tolerance: {}\n", 11, "nothing is said here"),
    "a tolerance of a stranger": (
        SOUND + "    tolerance: {columns: {x: {absolute: 1}}}\n",
        *(11, "no value 'x'"),
    ),
    "no tolerance": (SOUND + "    tolerance: {relative: much}\n", 11, "not written as it should"),
    "a week in a day": (SOUND.replace("company.daily", "company.weekly"), 10, "does not fit"),
    "a query that writes": (
        "  - {id: w, kind: sql, description: d, key: [a], query: delete from operations.flights}\n",
        *(6, "not a single SELECT"),
    ),
    "a query that is no SQL": (
        "  - {id: w, kind: sql, description: d, key: [a], query: select from where}\n",
        *(6, "is no SQL"),
    ),
    "a query of a file": (
        "  - {id: w, kind: sql, description: d, key: [a], query: \"select * from 'a.csv'\"}\n",
        *(6, "the query reads"),
    ),
    "a query of a stranger": (
        "  - {id: w, kind: sql, description: d, key: [a], query: select a from x.y}\n",
        *(6, "no published table is called 'x.y'"),
    ),
    "a query without its key": (
        (
            "  - {id: w, kind: sql, description: d, key: [a], "
            "query: select tailnum from operations.flights}\n"
        ),
        *(6, "cannot run"),
    ),
    "freshness of no instant": (
        (
            "  - {id: f, kind: freshness, description: d, within: 1h,"
            " of: {table: operations.flights, newest: day}}\n"
        ),
        *(6, "names no instant"),
    ),
    "a roll-up of a distinct count": (
        (
            "  - id: r\n    kind: rollup\n    description: d\n"
            "    parent:\n      table: operations.flights\n"
            "      values: {n: count(distinct tailnum)}\n"
            "    of: {table: company.daily, values: {n: sum(late)}}\n"
        ),
        *(11, "does not add up: what is in two parts counts once in the whole"),
    ),
    "a roll-up of a mean": (
        (
            "  - id: r\n    kind: rollup\n    description: d\n"
            "    parent: {table: operations.flights, values: {n: avg(late)}}\n"
            "    of: {table: company.daily, values: {n: sum(late)}}\n"
        ),
        *(9, "does not add up: roll its sum and its count up"),
    ),
    "a roll-up of a ratio": (
        (
            "  - id: r\n    kind: rollup\n    description: d\n"
            "    parent: {table: operations.flights, values: {n: sum(late) / count(*)}}\n"
            "    of: {table: company.daily, values: {n: sum(late)}}\n"
        ),
        *(9, "is a ratio, which does not add up"),
    ),
    "a gate that guards nothing": (SOUND + "    severity: blocking\n", 6, "'guards' is missing"),
    "an advisory rule that guards": (
        SOUND + "    guards: company.daily\n",
        *(11, "an advisory rule guards nothing"),
    ),
    "a gate of a table that is not compared": (
        SOUND + "    severity: blocking\n    guards: company.weekly\n",
        *(12, "the rule compares no company.weekly"),
    ),
    "a gate of the weeks before": (
        (
            "  - id: w\n    kind: weekday\n    description: d\n    weeks: 1\n"
            "    severity: blocking\n    guards: operations.flights\n"
            "    tolerance: {relative: 1%}\n"
            "    of: {table: operations.flights, values: [late]}\n"
        ),
        *(11, "of kind weekday guards nothing"),
    ),
    "bounds the wrong way": (
        (
            "  - id: r\n    kind: ratio\n    description: d\n    between: [2, 1]\n"
            "    left: {table: operations.flights}\n    right: {table: company.daily}\n"
        ),
        *(9, "nothing lies between"),
    ),
    "no share": (
        (
            "  - id: r\n    kind: references\n    description: d\n    at_least: 2\n"
            "    left: {table: operations.flights, key: [late]}\n"
            "    right: {table: company.daily, key: [late]}\n"
        ),
        *(9, "no share of rows"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_told_with_path_and_line(case: str, tmp_path: Path) -> None:
    body, line, wrong = CASES[case]

    batches, faults = read(tmp_path, HEAD + body)

    assert batches == ()
    said = [f"{fault.line} {fault.wrong}" for fault in faults]
    assert [s for s in said if s.startswith(f"{line} ") and wrong in s], said
    assert {fault.path for fault in faults} == {f"{FOLDER}/daily.yaml"}


def test_the_faults_of_a_file_are_told_all_at_once(tmp_path: Path) -> None:
    text = HEAD.replace("grain: day", "grain: dya") + SOUND.replace("by: [tailnum]", "buy: [x]")

    _, faults = read(tmp_path, text)

    assert {fault.line for fault in faults} >= {2, 9, 10}


def test_a_batch_named_twice_is_told_where_it_stands_first(tmp_path: Path) -> None:
    read(tmp_path, HEAD + SOUND)

    batches, (fault,) = read(tmp_path, HEAD + SOUND, "other.yaml")

    assert [batch.path for batch in batches] == [f"{FOLDER}/daily.yaml"]
    assert (fault.path, fault.line) == (f"{FOLDER}/other.yaml", 1)


@pytest.fixture(scope="module")
def reference() -> Mesh:
    """The tables of the reference mesh, each a product that reads nothing."""
    contracts, faults = read_contracts(ROOT)
    assert faults == ()
    products = tuple(
        Product(
            c.table.domain,
            c.product,
            (Mart(c.table, Layer.BASE, str(c.table), c, (), "", "1"),),
            *(c.grain, c.zone),
        )
        for c in contracts
    )
    span = Span.days("2013-01-01", "2013-03-10", "America/New_York")
    return Mesh("reference", span, "America/New_York", span.start, products)


def test_the_batches_of_the_reference_mesh_are_sound_and_two_rules_block(reference: Mesh) -> None:
    batches, faults = read_batches(ROOT, reference)

    assert faults == ()
    rules = [rule for batch in batches for rule in batch.rules]
    assert [batch.grain.value for batch in batches] == ["day", "month", "whole", "week"]
    # The flights know no accounts.
    assert {rule.kind for rule in rules} == set(RuleKind) - {RuleKind.BALANCES}
    assert [r.id for r in rules if r.severity is Severity.BLOCKING] == [
        *("delays_have_every_flight", "board_adds_up"),
    ]
    mesh, unfit = gated(reference, batches)
    assert unfit == ()
    assert len(gates_of(mesh.product("company.route_board"))) == 1
