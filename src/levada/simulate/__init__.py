"""Simulate: what a mesh would do in virtual time; no Airflow, no database, no dbt."""

from __future__ import annotations

from levada.simulate.engine import KILLS, Built, Event, Simulation, content_of, plainly
from levada.simulate.ledger import Entry, MemoryLedger, MemoryWarehouse
from levada.simulate.reading import read_scenario
from levada.simulate.scenario import Arrival, Audit, Release, Restatement, Scenario, Timeline, play

__all__ = [
    "KILLS",
    "Arrival",
    "Audit",
    "Built",
    "Entry",
    "Event",
    "MemoryLedger",
    "MemoryWarehouse",
    "Release",
    "Restatement",
    "Scenario",
    "Simulation",
    "Timeline",
    "content_of",
    "plainly",
    "play",
    "read_scenario",
]
