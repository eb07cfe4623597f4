"""
Contracts that nobody wrote for Levada: each is read, and each of its promises has an answer.

With the mark `prove` it asks the same of the standard's own examples, as the source archive of the
library that reads contracts here has them, and of every YAML below `LEVADA_CONTRACTS=/a/folder`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from levada.adapters import odcs
from levada.adapters.documents import Document, Place, read
from levada.errors import Fault

FOLDER = os.environ.get("LEVADA_CONTRACTS", "")

_PROMISES = ("enum", "quality", "relationships")
_FLAGS = ("primaryKey", "required", "unique")

# In our words: what contracts elsewhere say, of other warehouses, of several tables, of topics.
OWN = {
    "a contract of two tables that refer to each other": """
apiVersion: v3.1.0
kind: DataContract
id: 0b1c
name: ledger of berths
version: 2.0.0
status: active
domain: harbour
dataProduct: berths
description: {purpose: Which ship lies where.}
servers: [{server: pg, type: postgres, host: db, port: 5432, database: harbour, schema: berths}]
schema:
  - name: berth
    physicalName: berth_2
    physicalType: table
    relationships:
      - {type: foreignKey, from: [berth.quay, berth.number], to: [quay.id, quay.number]}
    properties:
      - {name: quay, logicalType: string, physicalType: varchar(18), primaryKey: true,
         primaryKeyPosition: 1, partitioned: true, partitionKeyPosition: 1}
      - {name: number, logicalType: integer, physicalType: int, required: true,
         quality: [{metric: nullValues, mustBe: 0, schedule: 0 4 * * *, scheduler: cron}]}
    quality: [{metric: rowCount, mustBeGreaterThan: 100, severity: error}]
  - name: quay
    properties:
      - {name: id, logicalType: string, physicalType: varchar(18), unique: true}
      - {name: number, logicalType: integer, physicalType: int}
slaProperties:
  - {property: latency, value: 4, unit: d, element: berth.seen_on, schedule: 0 30 * * *}
  - {property: generalAvailability, value: 2026-05-12T09:30:10-08:00}
""",
    "a topic": """
apiVersion: v3.1.0
kind: DataContract
id: 0b1d
version: 1.0.0
status: active
servers: [{server: events, type: kafka, host: kafka.example, format: avro}]
schema:
  - name: arrivals
    physicalName: harbour.arrivals.v1
    physicalType: topic
    properties:
      - {name: ship, logicalType: string, physicalType: string, required: true}
      - {name: tons, logicalType: integer, physicalType: long}
""",
    "values inside values": """
apiVersion: v3.2.0
kind: DataContract
id: 0b1e
version: 1.0.0
status: draft
schema:
  - name: crew
    logicalType: object
    properties:
      - name: home
        logicalType: object
        physicalType: object
        properties:
          - name: lines
            logicalType: array
            physicalType: array
            items: {logicalType: string, physicalType: string, required: true}
      - {name: born, logicalType: date, physicalType: string,
         logicalTypeOptions: {format: yyyy-MM-dd, minimum: "1900-01-01"}}
      - {name: rank, logicalType: string, physicalType: text, enum: [{value: mate}],
         logicalTypeOptions: {minLength: 3, pattern: "^[a-z]+$"}}
""",
    "rules of every kind": """
apiVersion: v3.1.0
kind: DataContract
id: 0b1f
version: 1.0.0
status: active
schema:
  - name: tides
    quality:
      - {type: text, description: Springs are higher than neaps.}
      - {type: sql, query: "SELECT COUNT(*) FROM ${object} WHERE height > 9", mustBeLessThan: 60}
      - {type: custom, engine: soda, implementation: "type: duplicate_percent"}
      - {id: heights, metric: duplicateValues, mustBe: 0, arguments: {properties: [at, port]}}
      - {id: old, rule: rowCount, mustBe: 3}
    properties:
      - {name: at, logicalType: timestamp, physicalType: timestamp}
      - {name: port, logicalType: string, physicalType: string,
         quality: [{id: ports, metric: invalidValues, mustBe: 0, arguments: {validValues: [a]}}]}
      - {name: height, logicalType: number, physicalType: double}
""",
}


def promises(value: Any, place: Place) -> Iterator[Place]:
    """Where a table, a column or a value inside it promises what can be executed."""
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from promises(inner, (*place, index))
    elif isinstance(value, dict):
        for key in _PROMISES:
            said = value.get(key)
            listed: list[Any] = said if isinstance(said, list) else []
            if key == "enum" and listed:
                yield (*place, key)
            elif key != "enum":
                yield from ((*place, key, index) for index in range(len(listed)))
        yield from ((*place, key) for key in _FLAGS if value.get(key) is True)
        for option in value.get("logicalTypeOptions") or ():
            yield (*place, "logicalTypeOptions", option)
        for key in ("properties", "items"):
            yield from promises(value.get(key), (*place, key))


def told(rule: Any) -> bool:
    """What claims no verdict: a rule in words, and an option that only describes."""
    return isinstance(rule, dict) and rule.get("type") == "text"


_DESCRIBE = ("defaultTimezone", "format", "timezone", "uniqueItems")


def at(value: Any, place: Place) -> Any:
    for step in place:
        value = value[step]
    return value


def unanswered(document: Document) -> list[Place]:
    """The promises for which there is neither a check nor a fault."""
    judged, faults = odcs._judge(document)
    places = set(judged.places.values()) if judged else set()
    keyed = {("schema", 0)} if judged and judged.contract.key else set()
    lines = {fault.line for fault in faults}
    whole = len(document.value.get("schema") or []) != 1
    missing = []
    for place in promises(document.value.get("schema"), ("schema",)):
        if told(at(document.value, place)) or place[-1] in _DESCRIBE:
            continue
        checked = place in places or (place[-1] == "primaryKey" and keyed)
        around = [place[:size] for size in range(4, len(place) + 1)]
        # A type that DuckDB does not know is told where it stands, once for all that is inside.
        near = {document.line(p) for each in around for p in (each, (*each, "physicalType"))}
        if not (checked or whole or near & lines):
            missing.append(place)
    return missing


def tables(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The contract of each table alone, in a version of the standard that is read."""
    for table in value.get("schema") or ():
        yield {**value, "apiVersion": "v3.1.0", "schema": [table]}


def answer(text: str) -> tuple[tuple[Fault, ...], int, int]:
    """Its faults, its tables, and how many checks could be made of them; nothing is passed over."""
    document, faults = read("foreign.odcs.yaml", text)
    assert document is not None, faults
    canonical = odcs.canonical(document.value)
    assert odcs.canonical(json.loads(canonical)) == canonical
    assert unanswered(document) == []
    faults += odcs._judge(document)[1]
    assert all(fault.wrong and fault.path for fault in faults)
    count = checks = 0
    for alone in tables(document.value):
        single, none = read("foreign.odcs.yaml", yaml.safe_dump(alone, sort_keys=False))
        assert single is not None, none
        assert unanswered(single) == []
        judged, _ = odcs._judge(single)
        count += 1
        checks += len(judged.contract.checks) if judged else 0
    return faults, count, checks


@pytest.mark.parametrize("name", OWN)
def test_every_promise_of_a_contract_from_elsewhere_is_answered(name: str) -> None:
    faults, count, checks = answer(OWN[name])
    assert faults, "none of these was written for Levada"
    assert count
    assert checks


def test_what_is_passed_over_would_be_found() -> None:
    """The walk is no use if it finds nothing: without the code's answers it names every promise."""
    document, _ = read("foreign.odcs.yaml", OWN["rules of every kind"])
    assert document is not None
    found = list(promises(document.value["schema"], ("schema",)))
    assert len(found) == 6


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The standard's examples: they are others' text, so none of them stands in this repository."""
    folder = tmp_path_factory.mktemp("examples")
    library = f"open-data-contract-standard=={metadata.version('open-data-contract-standard')}"
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), library]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no package index gives {library}: {done.stderr.strip()[-200:]}")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return sorted(folder.rglob("*.odcs.yaml"))


@pytest.mark.prove
def test_the_examples_of_the_standard_are_read_and_answered(examples: list[Path]) -> None:
    assert any("full-example" in path.name for path in examples), examples
    for path in examples:
        faults, count, checks = answer(path.read_text("utf-8"))
        assert count, path.name
        assert checks, path.name
        assert faults, "none of these was written for Levada"


@pytest.mark.prove
@pytest.mark.skipif(not FOLDER, reason="LEVADA_CONTRACTS names no folder")
def test_every_contract_of_a_folder_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(Path(FOLDER).rglob("*.y*ml"))
    assert files
    whole = [0, 0, 0]
    for path in files:
        faults, count, checks = answer(path.read_text("utf-8"))
        whole = [a + b for a, b in zip(whole, (count, checks, len(faults)), strict=True)]
        with capsys.disabled():
            print(f"\n{path.name}: {count} tables, {checks} checks, {len(faults)} faults", end="")
    with capsys.disabled():
        print("\n{} files: {} tables, {} checks, {} faults".format(len(files), *whole))
