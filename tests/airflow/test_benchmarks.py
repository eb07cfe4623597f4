"""The figures say what they promise to say, and each runs at its smallest size."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
KEYS = ("figure", "ours", "peer", "ratio", "goal", "met")


def said(*words: str) -> Any:
    """The last line of stdout: JSON, and all that is on stdout."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=BENCHMARKS,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def test_a_report_is_one_line_with_the_promised_keys_first() -> None:
    line = said(
        "-c",
        "from _figure import report\n"
        "report('p0', ours=2.0, peer=3.00001, ratio=1.5, goal='more', met=1 > 0, unit='s')",
    )
    assert tuple(line)[: len(KEYS)] == KEYS
    assert (line["peer"], line["met"], line["unit"]) == (3.0, True, "s")
    assert line["commit"]
    assert line["machine"].endswith("cores, shared")


def test_an_unknown_figure_is_refused_with_those_that_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "_all.py", "p77"],
        cwd=BENCHMARKS,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "there are p1, p2" in done.stderr


slow = partial(pytest.param, marks=pytest.mark.prove)


@pytest.mark.integration
@pytest.mark.airflow
@pytest.mark.parametrize(
    ("figure", "own"),
    [
        slow("p1_waiting", {"queries_a_minute", "kb_a_waiter", "entry"}),
        slow("p2_latency", {"p99", "floor_of_a_bare_listen", "with_a_claim"}),
        slow("p4_parse", {"sizes"}),
        slow("p5_audit", {"by_hand", "fixed", "within_allowed"}),
        slow("p6_diff", {"fingerprints", "memory_mb", "exact"}),
        ("p7_plan", {"cells", "search", "warm"}),
        slow("p8_backfill", {"curve", "stops_paying_at", "large"}),
        ("p10_review", {"reached", "by_columns", "worst"}),
        slow("p11_check", {"warm", "dbt", "stages"}),
        ("p12_reconcile", {"partitions", "decided_each"}),
    ],
)
def test_a_figure_runs_at_its_smallest_size(figure: str, own: set[str]) -> None:
    line = said(f"{figure}.py", "--small")
    assert line["figure"] == figure
    assert set(KEYS) | own <= set(line)
    assert line["ours"] >= 0
    assert line["peer"] >= 0
    assert line["ratio"] > 0
    assert isinstance(line["met"], bool)
