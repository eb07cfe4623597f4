"""Contracts: every fault is found on its line, and every promise becomes a check."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from contract_files import FLOWN, GOOD, PLANES, faults, write

from levada.adapters import odcs
from levada.adapters.documents import read as read_yaml
from levada.audit import BUILT_IN, reads
from levada.errors import DeclarationError
from levada.terms import Check, Contract, Grain, Severity, TableRef


@pytest.fixture
def contract(tmp_path: Path) -> Contract:
    found, wrong = odcs.read_contract(write(tmp_path, GOOD), tmp_path)
    assert wrong == ()
    assert found is not None
    return found


def test_a_contract_says_what_its_file_says(contract: Contract) -> None:
    assert contract.table == TableRef("operations", "flights", 1)
    assert (contract.product, contract.grain, contract.zone) == (
        "flights",
        Grain.DAY,
        "America/New_York",
    )
    assert contract.interval_column == "scheduled_at"
    assert contract.key == ("flight", "carrier")
    assert str(contract.owner) == "operations-data <ann>"
    assert contract.sla == (("latency", "2 h"),)
    assert contract.path == "contracts/operations/flights.v1.odcs.yaml"
    assert odcs.label(contract) == f"operations.flights 1.2.0 {contract.hash[:12]}"


def test_every_promise_is_a_check_with_a_stable_id(contract: Contract) -> None:
    ids = {check.id for check in contract.checks}
    types = {f"{column.name}.type" for column in contract.columns}
    assert ids == types | {
        "columns",
        "interval",
        "primary_key",
        "carrier.required",
        "flight.required",
        "scheduled_at.required",
        "tailnum.unique",
        "tailnum.references",
        "origin.minLength",
        "origin.pattern",
        "origin.enum",
        "some",
        "flown",
        "known",
        "sla.latency",
    }


def check(contract: Contract, named: str) -> Check:
    return next(check for check in contract.checks if check.id == named)


def test_rules_keep_operator_threshold_unit_and_severity(contract: Contract) -> None:
    known = check(contract, "known")
    assert (known.operator, known.threshold, known.unit) == ("mustBeLessThan", (5.0,), "percent")
    assert known.severity is Severity.ADVISORY
    assert check(contract, "some").severity is Severity.BLOCKING


def test_what_the_platform_needs_is_built_in_and_blocks(contract: Contract) -> None:
    built_in = [check for check in contract.checks if check.origin == BUILT_IN]
    assert {"columns", "interval", "distance.type"} <= {check.id for check in built_in}
    assert all(check.severity is Severity.BLOCKING for check in built_in)


def test_a_check_tells_which_tables_it_reads(contract: Contract, tmp_path: Path) -> None:
    assert reads(check(contract, "tailnum.references")) == (TableRef("fleet", "planes"),)
    assert reads(check(contract, "flown")) == ()


def test_a_foreign_key_may_advise(tmp_path: Path) -> None:
    advised = GOOD.replace(
        "{to: fleet.planes.tailnum}",
        "{to: fleet.planes.tailnum, customProperties: [{property: severity, value: warning}]}",
    )
    found, wrong = odcs.read_contract(write(tmp_path, advised), tmp_path)
    assert wrong == ()
    assert found is not None
    assert check(found, "tailnum.references").severity is Severity.ADVISORY


def test_the_recorded_text_gives_the_same_contract(contract: Contract, tmp_path: Path) -> None:
    text = odcs.document(contract, tmp_path)
    again = odcs.from_canonical(text)
    assert again.hash == contract.hash
    assert again.checks == contract.checks
    assert again.columns == contract.columns
    assert odcs.canonical(json.loads(text)) == text


def test_comments_and_layout_do_not_change_the_hash_but_words_do(
    contract: Contract, tmp_path: Path
) -> None:
    same, _ = odcs.read_contract(write(tmp_path, "# a comment\n" + GOOD), tmp_path)
    other, _ = odcs.read_contract(write(tmp_path, GOOD.replace("Every", "Each")), tmp_path)
    assert same is not None
    assert other is not None
    assert same.hash == contract.hash != other.hash


def test_a_file_that_changed_since_it_was_read_is_not_recorded(
    contract: Contract, tmp_path: Path
) -> None:
    write(tmp_path, GOOD.replace("Every", "Each"))
    with pytest.raises(DeclarationError, match="changed since it was read"):
        odcs.document(contract, tmp_path)


def test_a_recorded_text_that_is_no_contract_is_refused() -> None:
    with pytest.raises(DeclarationError, match="apiVersion is missing"):
        odcs.from_canonical("{}")


LATENCY = "slaProperties: [{property: latency, value: 2, unit: h}]\n"
WHOLE = GOOD.replace("value: day", "value: whole").replace(LATENCY, "")
WHOLE = WHOLE.replace("      - {property: intervalColumn, value: scheduled_at}\n", "")


def test_a_whole_table_has_no_interval_check(tmp_path: Path) -> None:
    found, wrong = odcs.read_contract(write(tmp_path, WHOLE), tmp_path)
    assert wrong == ()
    assert found is not None
    assert (found.grain, found.interval_column) == (Grain.WHOLE, None)
    assert all(check.metric != "interval" for check in found.checks)


def test_a_whole_table_cannot_be_late(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, WHOLE.replace("schema:", LATENCY + "schema:"))
    assert fault.wrong == "a whole table has no end that it could be late after"


def test_dates_and_plain_words_stay_strings(tmp_path: Path) -> None:
    text = GOOD.replace("{value: JFK}, {value: LGA}", "{value: NO}, {value: 2013-01-01}")
    found, wrong = odcs.read_contract(write(tmp_path, text), tmp_path)
    assert wrong == ()
    assert found is not None
    assert dict(check(found, "origin.enum").arguments)["validValues"] == ("NO", "2013-01-01")


TEAM = "team:\n  name: operations-data\n  members: [{username: ann, role: owner}]\n"
SOME = "{id: some, metric: rowCount, mustBeGreaterThan: 0}"
KNOWN = "{id: known, metric: nullValues, unit: percent, mustBeLessThan: 5, severity: warning}"


def sql(query: str) -> str:
    return f'{{id: flown, type: sql, query: "{query}", mustBe: 0}}'


# What is written instead of what; the fault stands on the line where the new words begin.
CASES = {
    "another standard's version": ("v3.2.0", "v3.0.2", "'v3.0.2' is not read"),
    "a misspelt key at the top": ("status: active", "statsu: active", "'status'?"),
    "a misspelt key inside": ("required: true}", "requird: true}", "did you mean 'required'?"),
    "a key that only looks known": (
        "{purpose: Every flight out of New York.}",
        "{purpose: x, porpoise: y}",
        "did you mean 'purpose'?",
    ),
    "a key said twice": ("status: active", "status: active\nstatus: draft", "said twice"),
    "a wrong type": ("required: true}", "required: maybe}", "write true or false"),
    "no such status": ("status: active", "status: activ", "did you mean 'active'?"),
    "a version that is not semantic": ("version: 1.2.0", "version: 1.2.x", "not semantic"),
    "major nought": ("version: 1.2.0", "version: 0.2.0", "major 0 promises nothing"),
    "an id with spaces": ("id: operations.flights", "id: my flights", "has spaces"),
    "no owner": (TEAM, "team: {}\n", "owner is missing"),
    "no description": ("{purpose: Every flight out of New York.}", "{usage: x}", "is missing"),
    "no such grain": ("{property: grain, value: day}", "{property: grain, value: dya}", "'day'?"),
    "a misspelt custom property": ("{property: zone,", "{property: zonne,", "'zone'?"),
    "no such zone": ("America/New_York", "America/New_Yorc", "'America/New_York'?"),
    "a misspelt start of days": (
        "{property: zone,",
        "{property: dayStrt, value: '06:00'}\n      - {property: zone,",
        "'dayStart'?",
    ),
    "a time of day that is none": (
        "{property: zone,",
        "{property: dayStart, value: '25:00'}\n      - {property: zone,",
        'like "06:00"',
    ),
    "a time of day without its nought": (
        "{property: zone,",
        "{property: dayStart, value: '6:00'}\n      - {property: zone,",
        'write "06:00"',
    ),
    "a start of days of hours": (
        "{property: grain, value: day}",
        "{property: dayStart, value: '06:00'}\n      - {property: grain, value: hour}",
        "an hour is an hour of UTC",
    ),
    "a start of weeks of days": (
        "{property: zone,",
        "{property: weekStart, value: sunday}\n      - {property: zone,",
        "a table by day has no weeks",
    ),
    "no such weekday": (
        "{property: grain, value: day}",
        "{property: weekStart, value: Sundy}\n      - {property: grain, value: week}",
        "'sunday'?",
    ),
    "an interval column nobody promised": (
        "intervalColumn, value: scheduled_at",
        "intervalColumn, value: scheduled",
        "did you mean 'scheduled_at'?",
    ),
    "an interval column of another type": (
        "intervalColumn, value: scheduled_at",
        "intervalColumn, value: distance",
        "must be TIMESTAMPTZ or DATE",
    ),
    "no such type": ("physicalType: DOUBLE", "physicalType: DOUBEL", "no type of DuckDB"),
    "no type": (", physicalType: DOUBLE}", "}", "has no physicalType"),
    "a column promised twice": ("{name: distance,", "{name: Origin,", "promised twice"),
    "two first keys": ("primaryKeyPosition: 1}", "primaryKeyPosition: 2}", "key position 2"),
    "a rule without an id": (SOME, "{metric: rowCount, mustBe: 0}", "cannot be waived"),
    "an id that is taken": (KNOWN, KNOWN.replace("known", "some"), "'some' is taken"),
    "an unknown metric": (SOME, SOME.replace("rowCount", "rowCout"), "did you mean 'rowCount'?"),
    "no operator": (SOME, "{id: some, metric: rowCount}", "has no operator"),
    "two operators": (SOME, "{id: some, metric: rowCount, mustBe: 1, mustNotBe: 2}", "exactly one"),
    "an operator without a number": (
        SOME,
        "{id: some, metric: rowCount, mustBe: many}",
        "write a number",
    ),
    "a bound of another type": (SOME, SOME.replace("0}", "'0'}"), "write a number"),
    "an empty range": (
        SOME,
        "{id: some, metric: rowCount, mustBeBetween: [3, 1]}",
        "smaller number first",
    ),
    "a severity nobody knows": (KNOWN, KNOWN.replace("warning", "warnin"), "'warning'?"),
    "a unit nobody knows": (KNOWN, KNOWN.replace("percent", "permille"), "rows or percent"),
    "a row count of a column": (KNOWN, SOME.replace("some", "known"), "rows of a table"),
    "nulls of a table": (SOME, "{id: some, metric: nullValues, mustBe: 0}", "about a column"),
    "a column of a rule nobody promised": (
        SOME,
        "{id: some, metric: duplicateValues, mustBe: 0, arguments: {properties: [origen]}}",
        "did you mean 'origin'?",
    ),
    "an argument nobody knows": (
        KNOWN,
        "{id: known, metric: invalidValues, mustBe: 0, arguments: {validValue: [a]}}",
        "did you mean 'validValues'?",
    ),
    "validity without a rule": (
        KNOWN,
        "{id: known, metric: invalidValues, mustBe: 0}",
        "needs arguments",
    ),
    "a pattern that is none": (
        KNOWN,
        "{id: known, metric: invalidValues, mustBe: 0, arguments: {pattern: '(?=a)('}}",
        "cannot run",
    ),
    "a rule of another engine": (
        SOME,
        "{id: some, type: custom, engine: soda, implementation: x}",
        "cannot be executed",
    ),
    "a query that is no SQL": (FLOWN, sql("select count( from {object}"), "is no SQL"),
    "a query that writes": (FLOWN, sql("delete from {object}"), "not a single SELECT"),
    "two queries": (FLOWN, sql("select 1 from {object}; select 2"), "not a single SELECT"),
    "a query of two columns": (FLOWN, sql("select 1, 2 from {object}"), "more than one column"),
    "a query of a day": (
        FLOWN,
        sql("select cast(null as date) from {object} limit 1"),
        "it returns DATE: a rule returns one number",
    ),
    "a query of a text": (FLOWN, sql("select max(tailnum) from {object}"), "it returns VARCHAR"),
    "a query of an interval": (
        FLOWN,
        sql("select max(cast(null as timestamp)) - min(cast(null as timestamp)) from {object}"),
        "it returns INTERVAL",
    ),
    "a query of all rows": (FLOWN, sql("select distance from {object}"), "it returns many rows"),
    "a query of each group": (
        FLOWN,
        sql("select count(*) from {object} group by tailnum"),
        "a row for each group",
    ),
    "a query of each value": (
        FLOWN,
        sql("select distinct distance from {object}"),
        "a row for each value",
    ),
    "a query of nothing": (FLOWN, sql("select null from {object} limit 1"), "nothing but NULL"),
    "a query of a sample": (FLOWN, sql("select 1 from {object} tablesample 9%"), "tablesample"),
    "a query of another table": (FLOWN, sql("select 1 from {object}, secrets"), "reads secrets"),
    "a query of a file": (
        FLOWN,
        sql("select 1 from {object}, read_text('/x')"),
        "READ_TEXT('/x')",
    ),
    "a query that forgets its table": (FLOWN, sql("select 1"), "never reads {object}"),
    "a placeholder nobody knows": (FLOWN, sql("select {row} from {object}"), "unknown placeholder"),
    "a property without a column": (FLOWN, sql("select {property} from {object}"), "a column"),
    "a query of an unknown column": (
        FLOWN,
        sql("select count(*) from {object} where distanse < 0"),
        "distanse",
    ),
    "a query of an unknown function": (
        FLOWN,
        sql("select sumx(distance) from {object}"),
        "sumx",
    ),
    "a reference that leads nowhere": ("{to: fleet.planes.tailnum}", "{to: planes/x}", "followed"),
    "a bound that is no such value": (
        "{name: distance, physicalType: DOUBLE}",
        "{name: distance, physicalType: DOUBLE, logicalTypeOptions: {minimum: far}}",
        "cannot run",
    ),
    "an option that cannot be checked": (
        "{name: distance, physicalType: DOUBLE}",
        "{name: distance, physicalType: DOUBLE, logicalTypeOptions: {minProperties: 1}}",
        "cannot be checked",
    ),
    "a column that is elsewhere": (
        "{name: distance, physicalType: DOUBLE}",
        "{name: distance, physicalType: DOUBLE, physicalName: dist}",
        "physically 'dist'",
    ),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_is_told_on_its_line(case: str, tmp_path: Path) -> None:
    old, new, words = CASES[case]
    assert GOOD.count(old) >= 1, "the case changes nothing"
    text = GOOD.replace(old, new, 1)
    first = next(i for i, (a, b) in enumerate(zip(GOOD, text, strict=False)) if a != b)
    line = text.count("\n", 0, first) + 1
    found = faults(tmp_path, text)
    told = [fault for fault in found if words in f"{fault.wrong}; {fault.right}"]
    assert told, [str(fault) for fault in found]
    assert line in {fault.line for fault in told}, [str(fault) for fault in found]
    assert all(fault.path == "contracts/operations/flights.v1.odcs.yaml" for fault in found)


def test_all_faults_of_a_file_come_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("value: day", "value: dya").replace("DOUBLE", "DOUBEL")
    text = text.replace("status: active", "status: on")
    assert len(faults(tmp_path, text)) == 3


# Faults that the schema finds, and the one beside them that only reading on can find.
BESIDE = {
    "a metric": ("rowCount", "rowCuont", "did you mean 'rowCount'?"),
    "a status": ("status: active", "status: 3", "status is 3"),
    "a version": ("version: 1.2.0", "version: 1.2", "write three numbers, like 1.0.0"),
    "an api version": ("v3.2.0", "v4", "'v4' is not read"),
    "no api version": ("apiVersion: v3.2.0\n", "", "apiVersion is missing"),
    "a description": ("{purpose: Every flight out of New York.}", "Flights", "{purpose: ...}"),
    "an owner": (TEAM, "team: ops\n", "{name: ...}"),
    "a custom property": (
        "{property: zone, value: America/New_York}",
        "America/New_York",
        "{property: grain, value: day}",
    ),
    "a column": ("{name: distance, physicalType: DOUBLE}", "distance", "{name: ..."),
    "a column's flag": ("required: true}", "required: maybe}", "write true or false"),
    "a column's rule": (KNOWN, "known", "metric: rowCount"),
    "a rule's kind": ("type: sql,", "type: sqll,", "did you mean 'sql'?"),
    "a rule without a metric": (KNOWN, "{id: known, mustBe: 0}", "lacks 'metric'"),
    "a reference": ("{to: fleet.planes.tailnum}", "fleet.planes", "{to: domain.table.column}"),
    "a list of values": ("{value: JFK}, {value: LGA}", "JFK", "write keys with values"),
}


@pytest.mark.parametrize("case", BESIDE, ids=str)
def test_a_fault_of_the_schema_hides_no_other_fault(case: str, tmp_path: Path) -> None:
    old, new, words = BESIDE[case]
    wrong = GOOD.replace("{property: grain,", "{property: grian,")
    wrong = wrong.replace("primaryKeyPosition: 2}", "primaryKeyPosition: 1}")
    wrong = wrong.replace(
        "{type: text, description: Cancelled flights stay.}",
        "{id: one, metric: duplicateValues, mustBe: 0, severity: errr,"
        " arguments: {properties: [carrier]}}",
    )
    others = {fault.wrong for fault in faults(tmp_path, wrong)}
    assert len(others) == 4, others
    assert wrong.count(old) >= 1, "the case changes nothing"
    found = faults(tmp_path, wrong.replace(old, new, 1))
    told = [fault for fault in found if words in f"{fault.wrong}; {fault.right}"]
    assert told, [str(fault) for fault in found]
    more = {fault.wrong for fault in found} - {fault.wrong for fault in told}
    if case == "a custom property":  # it might be the grain
        others -= {"the grain is missing"}
    assert more == others


def test_a_check_that_cannot_run_is_told_beside_other_faults(tmp_path: Path) -> None:
    text = GOOD.replace("sum(distance)", "sum(distanse)").replace("status: active", "status: on")
    status, check = faults(tmp_path, text)
    assert "status is 'on'" in status.wrong
    assert "'flown' cannot run" in check.wrong
    both = faults(tmp_path, text.replace("rowCount", "rowCuont"))
    assert {status, check} < set(both)
    assert len(both) == 3


def test_what_hangs_on_a_value_that_cannot_be_read_is_no_fault(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, GOOD.replace("{name: scheduled_at,", "{name: [scheduled_at],"))
    assert fault.wrong == 'schema[0].properties[2].name is ["scheduled_at"]'
    start = GOOD.index("    properties:")
    (fault,) = faults(tmp_path, GOOD[:start] + "    properties: {carrier: VARCHAR}\n")
    assert fault.right == "write a list, like [{name: ..., physicalType: ...}]"
    (fault,) = faults(tmp_path, GOOD[:start])
    assert fault.wrong == "no column is promised"


def test_two_contracts_share_no_id_even_if_one_has_other_faults(tmp_path: Path) -> None:
    write(tmp_path, PLANES, "fleet/planes.v1.odcs.yaml")
    other = PLANES.replace("name: planes", "name: zeppelins").replace("kind: DataC", "kind: C")
    write(tmp_path, other, "fleet/zeppelins.v1.odcs.yaml")
    contracts, found = odcs.read_contracts(tmp_path)
    assert [contract.table.name for contract in contracts] == ["planes"]
    assert [fault.line for fault in found] == [2, 3]


def test_a_major_without_a_readable_version_may_share_the_id_of_its_table(tmp_path: Path) -> None:
    write(tmp_path, PLANES, "fleet/planes.v1.odcs.yaml")
    write(tmp_path, PLANES.replace("1.0.0", "two"), "fleet/planes.v2.odcs.yaml")
    _, (fault,) = odcs.read_contracts(tmp_path)
    assert "not semantic" in fault.wrong


def places(value: object, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if at:
        yield at
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(each, (*at, key))


@pytest.mark.thorough
def test_whatever_stands_anywhere_is_a_fault_or_a_contract_and_never_an_error(
    tmp_path: Path,
) -> None:
    found, _ = read_yaml("a.yaml", GOOD)
    assert found is not None
    odd: tuple[object, ...] = (None, 3, -1.5, True, "x", "", [], {}, [3], ["x"], {"x": 1}, "gone")
    for number, place in enumerate(places(found.value)):
        value = copy.deepcopy(found.value)
        holder: Any = value
        for step in place[:-1]:
            holder = holder[step]
        new = odd[number * 5 % len(odd)]
        holder[place[-1]] = new
        if new == "gone":
            del holder[place[-1]]
        for fault in faults(tmp_path, json.dumps(value)):
            said = f"{place} {new!r}: {fault.wrong}; {fault.right}"
            technical = (
                r"Items|Length is|schemas|NoneType|an? (object|array)\b|is not valid|None is"
            )
            assert not re.search(technical, said)


# What is written instead of what, and what is right.
HUMAN = {
    "words for keys": ("{purpose: Every flight out of New York.}", "Flights", "{purpose: ...}"),
    "keys for a list": (
        "[{to: fleet.planes.tailnum}]",
        "{to: fleet.planes.tailnum}",
        "write a list, like [{to: domain.table.column}]",
    ),
    "one number for two": (SOME, SOME.replace("GreaterThan: 0", "Between: 3"), "like [1, 5]"),
    "one of two numbers": (SOME, SOME.replace("GreaterThan: 0", "Between: [3]"), "two different"),
    "two numbers for one": (
        SOME,
        "{id: some, metric: rowCount, mustBe: [1, 2]}",
        "mustBe compares with [1, 2]; write a number",
    ),
    "nothing for a number": (SOME, SOME.replace(": 0", ": "), "is empty; write a number"),
    "a number for a column": ("fleet.planes.tailnum", "3", "write table.column or domain."),
    "words for a column": ("fleet.planes.tailnum", "fleet planes", "write table.column or domain."),
    "an id with a dot": ("id: some", "id: some.rows", "letters, digits, _ and - only"),
    "no value at all": ("[{value: JFK}, {value: LGA}]", "[]", "write at least 1 of them"),
    "less than nothing": ("minLength: 3", "minLength: -3", "write 0 or more"),
    "both ends of a reference": ("{to: fleet", "{from: tailnum, to: fleet", "has only 'to'"),
    "a list for a plain value": ("value: 2,", "value: [2],", "write a plain value"),
}


@pytest.mark.parametrize("case", HUMAN, ids=str)
def test_what_the_schema_refuses_is_told_once_and_in_plain_words(case: str, tmp_path: Path) -> None:
    old, new, words = HUMAN[case]
    assert old in GOOD, "the case changes nothing"
    (fault,) = faults(tmp_path, GOOD.replace(old, new, 1))
    assert words in f"{fault.wrong}; {fault.right}", fault


def test_what_is_no_yaml_has_one_fault_with_its_line(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "a: 1\nb: [\n")
    assert fault.line == 3
    assert "is no YAML" in fault.wrong
    (fault,) = faults(tmp_path, "")
    assert fault.wrong == "is empty"


def test_what_came_with_3_2_is_unknown_to_3_1(tmp_path: Path) -> None:
    (fault,) = faults(
        tmp_path, GOOD.replace("v3.2.0", "v3.1.0").replace("fleet.planes.", "planes.")
    )
    assert "unknown key 'enum'" in fault.wrong


def test_a_column_needs_no_logical_type(tmp_path: Path) -> None:
    text = GOOD.replace("        logicalType: string\n", "")
    assert faults(tmp_path, text) == ()


def test_a_contract_of_two_tables_is_refused(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, GOOD + "  - name: more\n")
    assert "schema has 2 objects" in fault.wrong


def test_the_file_is_named_by_table_and_major(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, "operations/flights.v2.odcs.yaml")
    _, (fault,) = odcs.read_contract(path, tmp_path)
    assert fault.right == "name it flights.v1.odcs.yaml"


def test_a_domain_owns_only_its_folder(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, "fleet/flights.v1.odcs.yaml")
    _, (fault,) = odcs.read_contract(path, tmp_path)
    assert (fault.line, fault.right) == (6, "move it to contracts/operations/")


def test_a_daily_table_needs_an_interval_column_and_a_zone(tmp_path: Path) -> None:
    text = GOOD.replace("      - {property: intervalColumn, value: scheduled_at}\n", "")
    text = text.replace("      - {property: zone, value: America/New_York}\n", "")
    found = {fault.wrong: fault.line for fault in faults(tmp_path, text)}
    assert found == {"the intervalColumn is missing": 14, "the zone is missing": 14}


def test_the_zone_of_a_contract_names_its_calendar(tmp_path: Path) -> None:
    start = "{property: dayStart, value: '06:00'}\n      - "
    daily = GOOD.replace("{property: zone", start + "{property: zone")
    assert _calendar(tmp_path, daily) == "America/New_York@06:00"
    week = "{property: weekStart, value: sunday}\n      - {property: zone"
    weekly = GOOD.replace("value: day}", "value: week}").replace("{property: zone", start + week)
    assert _calendar(tmp_path, weekly) == "America/New_York@06:00@sunday"
    usual = weekly.replace("sunday", "monday").replace("06:00", "00:00")
    assert _calendar(tmp_path, usual) == "America/New_York"


def _calendar(root: Path, text: str) -> str:
    contract, wrong = odcs.read_contract(write(root, text), root)
    assert contract is not None, wrong
    return contract.zone


def test_a_rule_without_severity_blocks_and_text_is_no_check(contract: Contract) -> None:
    assert check(contract, "flown").severity is Severity.BLOCKING
    assert not any("Cancelled" in check.description for check in contract.checks)


def test_a_mesh_s_contracts_are_read_together(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, PLANES, "fleet/planes.v1.odcs.yaml")
    write(tmp_path, "policies: []", "governance/policies.yaml")
    contracts, found = odcs.read_contracts(tmp_path)
    assert found == ()
    assert [str(contract.table) for contract in contracts] == [
        "fleet.planes@1",
        "operations.flights@1",
    ]


def test_a_reference_to_an_unpromised_column_is_found_across_contracts(tmp_path: Path) -> None:
    write(tmp_path, GOOD.replace("fleet.planes.tailnum", "fleet.planes.tail"))
    write(tmp_path, PLANES, "fleet/planes.v1.odcs.yaml")
    contracts, (fault,) = odcs.read_contracts(tmp_path)
    assert [contract.table.name for contract in contracts] == ["planes"]
    assert "'tailnum.references' cannot run: fleet.planes@1 promises no column" in fault.wrong
    assert fault.line == 29


def test_a_file_that_would_not_be_read_is_a_fault(tmp_path: Path) -> None:
    write(tmp_path, PLANES, "fleet/planes.v1.yaml")
    contracts, (fault,) = odcs.read_contracts(tmp_path)
    assert contracts == ()
    assert "not read" in fault.wrong


def test_two_tables_do_not_share_an_id(tmp_path: Path) -> None:
    write(tmp_path, PLANES, "fleet/planes.v1.odcs.yaml")
    write(
        tmp_path, PLANES.replace("name: planes", "name: zeppelins"), "fleet/zeppelins.v1.odcs.yaml"
    )
    _, (fault,) = odcs.read_contracts(tmp_path)
    assert "is that of contracts/fleet/planes.v1.odcs.yaml" in fault.wrong


SLA = "slaProperties: [{property: latency, value: 2, unit: h}]"


def ending(**dates: str) -> str:
    ends = ", ".join(f'{{property: {name}, value: "{day}"}}' for name, day in dates.items())
    return GOOD.replace(SLA, f"slaProperties: [{ends}]")


def test_the_ends_of_support_and_of_life_are_local_days(tmp_path: Path) -> None:
    text = ending(endOfSupport="2027-01-31", endOfLife="2027-06-30T00:00:00Z")
    contract, found = odcs.read_contract(write(tmp_path, text), tmp_path)
    assert found == ()
    assert contract is not None
    assert (contract.deprecated, contract.sunset) == (date(2027, 1, 31), date(2027, 6, 30))


@pytest.mark.parametrize(
    ("dates", "said"),
    [
        ({"endOfLife": "soon"}, "endOfLife 'soon' is no date"),
        ({"endOfSupport": "2027-01-31", "retirement": "2026-01-01"}, "before its support does"),
    ],
)
def test_an_end_that_is_no_date_or_comes_too_early_is_told(
    tmp_path: Path, dates: dict[str, str], said: str
) -> None:
    (fault,) = faults(tmp_path, ending(**dates))
    assert said in fault.wrong
    assert fault.line == 11
