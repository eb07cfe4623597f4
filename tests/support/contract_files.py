"""A sound contract, another that it refers to, and what is wrong with a file."""

from __future__ import annotations

from pathlib import Path

from levada.adapters import odcs
from levada.errors import Fault

GOOD = """\
apiVersion: v3.2.0
kind: DataContract
id: operations.flights
version: 1.2.0
status: active
domain: operations
description: {purpose: Every flight out of New York.}
team:
  name: operations-data
  members: [{username: ann, role: owner}]
slaProperties: [{property: latency, value: 2, unit: h}]
schema:
  - name: flights
    customProperties:
      - {property: grain, value: day}
      - {property: zone, value: America/New_York}
      - {property: intervalColumn, value: scheduled_at}
    quality:
      - {id: some, metric: rowCount, mustBeGreaterThan: 0}
      - {id: flown, type: sql, mustBe: 0, query: "select sum(distance) from {object}"}
      - {type: text, description: Cancelled flights stay.}
    properties:
      - {name: carrier, physicalType: VARCHAR, primaryKey: true, primaryKeyPosition: 2}
      - {name: flight, physicalType: INTEGER, primaryKey: true, primaryKeyPosition: 1}
      - {name: scheduled_at, physicalType: TIMESTAMPTZ, required: true}
      - name: tailnum
        physicalType: VARCHAR
        unique: true
        relationships: [{to: fleet.planes.tailnum}]
        quality:
          - {id: known, metric: nullValues, unit: percent, mustBeLessThan: 5, severity: warning}
      - name: origin
        logicalType: string
        physicalType: text
        logicalTypeOptions: {minLength: 3, pattern: "^[A-Z]+$"}
        enum: [{value: JFK}, {value: LGA}]
      - {name: distance, physicalType: DOUBLE}
"""


def write(root: Path, text: str, name: str = "operations/flights.v1.odcs.yaml") -> Path:
    path = root / "contracts" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def faults(root: Path, text: str) -> tuple[Fault, ...]:
    contract, found = odcs.read_contract(write(root, text), root)
    assert (contract is None) == bool(found)
    return found


PLANES = """\
apiVersion: v3.1.0
kind: DataContract
id: fleet.planes
version: 1.0.0
status: active
domain: fleet
description: {purpose: Planes.}
team: {name: fleet-data}
schema:
  - name: planes
    customProperties: [{property: grain, value: whole}]
    properties: [{name: tailnum, physicalType: VARCHAR, primaryKey: true}]
"""

FLOWN = '{id: flown, type: sql, mustBe: 0, query: "select sum(distance) from {object}"}'
