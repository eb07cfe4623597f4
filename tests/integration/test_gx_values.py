"""Values inside values, formats and service levels, judged by Great Expectations over DuckDB."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from contract_files import write

from levada.adapters import odcs
from levada.adapters.gx import GreatExpectations
from levada.audit import promised
from levada.intervals import within
from levada.ports import Relation, Stage
from levada.terms import WHOLE, CheckResult, Contract, Grain, Span, Verdict

pytestmark = pytest.mark.integration

DAYS = within(Grain.DAY, "UTC", Span.days("2026-03-01", "2026-03-03", "UTC"))

CONTRACT = """
apiVersion: v3.2.0
kind: DataContract
id: harbour.ships
version: 1.0.0
status: active
domain: harbour
description: {purpose: Ships that called.}
team: {name: harbour-data}
slaProperties:
  - {id: fresh, property: freshness, value: 6, unit: h}
  - {id: called, property: freshness, value: 1, unit: d, element: ships.called,
     customProperties: [{property: severity, value: error}]}
  - {property: latency, value: 3, unit: y, customProperties: [{property: severity, value: info}]}
schema:
  - name: ships
    customProperties:
      - {property: grain, value: day}
      - {property: zone, value: UTC}
      - {property: intervalColumn, value: at}
    properties:
      - {name: id, physicalType: BIGINT, primaryKey: true}
      - {name: at, physicalType: TIMESTAMPTZ, required: true}
      - {name: called, physicalType: TIMESTAMPTZ}
      - {name: mail, physicalType: VARCHAR, logicalType: string,
         logicalTypeOptions: {format: email}}
      - {name: host, physicalType: VARCHAR, logicalType: string,
         logicalTypeOptions: {format: ipv4}}
      - {name: crew, physicalType: BIGINT, logicalType: integer, logicalTypeOptions: {format: u8}}
      - name: master
        logicalType: object
        physicalType: STRUCT(name VARCHAR, papers STRUCT(kind VARCHAR)[])
        logicalTypeOptions: {required: [name]}
        properties:
          - name: papers
            logicalType: array
            items:
              logicalType: object
              properties: [{name: kind, required: true, enum: [{value: pass}, {value: log}]}]
      - {name: way, physicalType: "FLOAT[2]", logicalType: vector,
         logicalTypeOptions: {dimensions: 2, normalized: true}}
"""

GOOD = {
    "id": "1",
    "at": "TIMESTAMPTZ '2026-03-01 20:00:00+00'",
    "called": "TIMESTAMPTZ '2026-03-01 03:00:00+00'",
    "mail": "'master@ship.example'",
    "host": "'10.0.255.1'",
    "crew": "255",
    "master": "{'name': 'Ana', 'papers': [{'kind': 'pass'}, {'kind': 'log'}]}",
    "way": "[0.6, 0.8]::float[2]",
}


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    root = tmp_path_factory.mktemp("contract")
    path = write(root, yaml.safe_dump(yaml.safe_load(CONTRACT)), "harbour/ships.v1.odcs.yaml")
    found, faults = odcs.read_contract(path, root)
    assert faults == ()
    assert found is not None
    return found


def audited(root: Path, contract: Contract, *rows: dict[str, str]) -> dict[str, CheckResult]:
    """What the checks find in the first day, of these rows; each differs from a good one."""
    path = root / "stage.duckdb"
    columns = ", ".join(f'"{column.name}" {column.type}' for column in contract.columns)
    with duckdb.connect(str(path)) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(f"create or replace table ships_v1 ({columns})")
        for number, row in enumerate(rows):
            values = {**GOOD, "id": str(number), **row}
            connection.execute(f"insert into ships_v1 values ({', '.join(values.values())})")
    stage = Stage("run", path, {contract.table: Relation("stage", "main", "ships_v1")}, {})
    partition = DAYS[0] if contract.interval_column else WHOLE
    found = GreatExpectations().audit(stage, contract, [partition])[partition]
    return {result.check.id: result for result in found}


def failing(found: dict[str, CheckResult]) -> set[str]:
    assert not [r for r in found.values() if r.verdict is Verdict.UNKNOWN]
    return {name for name, result in found.items() if result.verdict is Verdict.FAIL}


def test_good_values_pass(contract: Contract, tmp_path: Path) -> None:
    found = audited(tmp_path, contract, {})
    assert failing(found) == set()
    assert {"master.papers.items.kind.enum", "master.name.inside", "sla.fresh"} <= set(found)


@pytest.mark.parametrize(
    ("row", "check"),
    [
        ({"mail": "'nobody'"}, "mail.format"),
        ({"host": "'10.0.256.1'"}, "host.format"),
        ({"crew": "256"}, "crew.format"),
        ({"crew": "-1"}, "crew.format"),
        ({"way": "[1, 1]::float[2]"}, "way.normalized"),
        ({"master": "{'name': NULL, 'papers': NULL}"}, "master.name.inside"),
        (
            {"master": "{'name': 'a', 'papers': [{'kind': 'log'}, {'kind': NULL}]}"},
            "master.papers.items.kind.required",
        ),
        (
            {"master": "{'name': 'a', 'papers': [{'kind': 'visa'}]}"},
            "master.papers.items.kind.enum",
        ),
        ({"at": "TIMESTAMPTZ '2026-03-01 17:59:00+00'"}, "sla.fresh"),
        ({"called": "TIMESTAMPTZ '2026-02-28 23:59:00+00'"}, "sla.called"),
    ],
)
def test_a_value_that_breaks_its_promise_fails_by_name(
    row: dict[str, str], check: str, contract: Contract, tmp_path: Path
) -> None:
    found = audited(tmp_path, contract, row)
    assert failing(found) == {check}
    if not check.startswith("sla."):
        assert found[check].count == 1
        assert found[check].rows


def test_an_absent_value_breaks_no_promise_about_what_is_inside(
    contract: Contract, tmp_path: Path
) -> None:
    nothing = dict.fromkeys(("mail", "host", "crew", "master", "way"), "NULL")
    assert failing(audited(tmp_path, contract, nothing)) == set()


def test_how_old_the_newest_row_is_is_told_in_hours(contract: Contract, tmp_path: Path) -> None:
    old = {"at": "TIMESTAMPTZ '2026-03-01 12:00:00+00'"}
    result = audited(tmp_path, contract, old)["sla.fresh"]
    assert result.observed == "12"
    assert "must be less or equal to 6 hours" in result.because


def test_nothing_is_neither_fresh_nor_old(contract: Contract, tmp_path: Path) -> None:
    assert audited(tmp_path, contract)["sla.fresh"].verdict is Verdict.UNKNOWN


def test_a_latency_is_judged_where_it_was_promised(contract: Contract, tmp_path: Path) -> None:
    """The first of March 2026 is long over: in a replay it passes, else it is late."""
    hour = tuple(
        replace(check, threshold=(1.0,)) if check.metric == "latency" else check
        for check in contract.checks
    )
    contract = replace(contract, checks=hour)
    assert failing(audited(tmp_path, promised(contract, ()), {})) == set()
    assert failing(audited(tmp_path, promised(contract, DAYS[1:]), {})) == set()
    found = audited(tmp_path, promised(contract, DAYS[:1]), {})
    assert failing(found) == {"sla.latency"}
    assert "must be less or equal to 1 hours" in found["sla.latency"].because


def test_a_whole_table_is_fresh_until_now(tmp_path: Path) -> None:
    said: dict[str, Any] = yaml.safe_load(CONTRACT)
    said["schema"][0]["customProperties"] = [{"property": "grain", "value": "whole"}]
    said["slaProperties"] = [
        {"property": "freshness", "value": 1, "unit": "h", "element": "ships.called"}
    ]
    path = write(tmp_path, yaml.safe_dump(said), "harbour/ships.v1.odcs.yaml")
    whole, faults = odcs.read_contract(path, tmp_path)
    assert faults == ()
    assert whole is not None
    old = audited(tmp_path, whole, {})
    assert failing(old) == {"sla.freshness"}
    assert failing(audited(tmp_path, whole, {"called": "now()"})) == set()


@pytest.mark.parametrize(
    "statement",
    [
        "select count(*) from read_text('/etc/hostname')",
        "select count(*) from '/etc/hostname'",
        "copy (select 1) to '{0}/out.csv'",
        "attach '{0}/other.duckdb' as other",
        "install httpfs",
        "set enable_external_access = true",
        "set threads = 3",
        "insert into stage.main.ships_v1 select * from stage.main.ships_v1",
        "drop table stage.main.ships_v1",
    ],
)
def test_an_audit_s_session_lets_nothing_through_that_a_rule_might(
    statement: str, contract: Contract, tmp_path: Path
) -> None:
    """The second line: what a rule could do if the first one had let it pass."""
    audited(tmp_path, contract, {})
    path = tmp_path / "stage.duckdb"
    relation = Relation("stage", "main", "ships_v1")
    stage = Stage("run", path, {contract.table: relation}, {})
    auditor = GreatExpectations()
    with (
        auditor._connection(stage, relation) as (connection, _),
        pytest.raises(duckdb.Error),
    ):
        connection.execute(statement.format(tmp_path))
