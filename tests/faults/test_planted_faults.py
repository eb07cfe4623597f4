"""
Faults that are planted are found, and clean days raise no alarm: for any seed and any domain.

`LEVADA_FAULTS_DOMAIN` and `LEVADA_FAULTS_SEED` choose others than those that stand here.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from planting import DAYS, FAULTS, Domain

CHOSEN = (
    os.environ.get("LEVADA_FAULTS_DOMAIN", "orders"),
    int(os.environ.get("LEVADA_FAULTS_SEED", "20261127")),
)
MORE = [
    pytest.param(name, seed, marks=pytest.mark.prove)
    for name in ("claims", "meters", "trades", "parcels", "visits")
    for seed in range(4)
]


def test_there_are_faults_of_twenty_kinds_at_least() -> None:
    assert len({fault.kind for fault in FAULTS}) == len(FAULTS) >= 20


def alarms(domain: Domain) -> dict[int, dict[str, int]]:
    """The days on which a rule fails, with which."""
    return {n: found for n in range(DAYS) if (found := domain.found(n))}


@pytest.mark.parametrize(("name", "seed"), [CHOSEN, *MORE])
def test_planted_faults_are_found_and_clean_days_are_quiet(
    name: str, seed: int, tmp_path: Path
) -> None:
    domain = Domain(name, seed, tmp_path)

    assert alarms(domain) == {}, f"{name} {seed}: false alarms"

    days = {fault.kind: domain.random.randrange(7, DAYS) for fault in FAULTS}
    missed = [f.kind for f in FAULTS if not f.planted(domain, days[f.kind])]
    share = 1 - len(missed) / len(FAULTS)
    print(f"{name} {seed}: found {share:.0%} of {len(FAULTS)} kinds, no alarm on {DAYS} clean days")
    assert share >= 0.95, f"{name} {seed}: missed {missed}"
    assert alarms(domain) == {}, "not as it was before"
