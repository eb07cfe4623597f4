"""How `meta.levada.inputs` becomes edges, and what of it is refused, all at once."""

from __future__ import annotations

from datetime import time, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.strategies import make_mart

from levada.declare import Declared, ModelFacts, ParsedProject, SourceFacts, declare
from levada.settings import Settings, read_settings
from levada.terms import (
    Deadline,
    FanOut,
    Grain,
    Identity,
    Lag,
    Latest,
    OnRestatement,
    PartitionMapping,
    Rollup,
    Trailing,
    WaitPolicy,
)

SETTINGS = """\
mesh: test
zone: America/New_York
span: {from: 2013-03-01, to: 2013-03-31}
domains: [a]
landing: {zone: landing}
quiet: 90s
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "levada.yaml").write_text(SETTINGS)
    return read_settings(tmp_path)


def model(**meta: Any) -> ModelFacts:
    return ModelFacts(
        *("model.a.x", "x", None, "a", "models/a/base/x.sql", "base", "table", (), ()),
        *(("source.a.landing.p", "source.a.landing.q"), meta, "models/a/base/base.yml", 7),
        *((), "code"),
    )


def source(table: str, grain: str = "day") -> SourceFacts:
    meta = {"zone": "zone", "files": table, "grain": grain, "calendar": "America/New_York"}
    return SourceFacts(
        f"source.a.landing.{table}", "landing", table, ("c",), meta, "models/a/ingest.yml", 3
    )


def declared(
    settings: Settings, grain: Grain = Grain.DAY, *, read: str = "day", **meta: Any
) -> Declared:
    contract = make_mart("a.x", grain).contract
    project = ParsedProject("a", "models/a", (model(**meta),), (source("p", read), source("q")))
    return declare(settings, [contract], [project])


@pytest.mark.parametrize(
    ("read", "grain", "how", "mapping"),
    [
        ("day", Grain.DAY, {}, Identity()),
        ("hour", Grain.DAY, {}, Rollup()),
        ("hour", Grain.MONTH, {}, Rollup()),
        ("day", Grain.WEEK, {}, Rollup()),
        ("month", Grain.DAY, {}, FanOut()),
        ("day", Grain.DAY, {"mapping": "identity"}, Identity()),
        ("day", Grain.DAY, {"mapping": {"lag": 2}}, Lag(2)),
        ("day", Grain.DAY, {"mapping": {"trailing": 7}}, Trailing(7)),
        ("week", Grain.MONTH, {"mapping": "rollup"}, Rollup()),
        ("month", Grain.WEEK, {"mapping": "fanout"}, FanOut()),
        ("day", Grain.DAY, {"mapping": "latest"}, Latest()),
        ("day", Grain.DAY, {"mapping": "latest", "within": "36h"}, Latest(timedelta(hours=36))),
    ],
)
def test_a_mapping_is_what_the_yaml_says_else_what_the_grains_do(
    settings: Settings,
    read: str,
    grain: Grain,
    how: dict[str, Any],
    mapping: PartitionMapping,
) -> None:
    meta = {"inputs": {"a.landing.p": how, "a.landing.q": {"mapping": "latest"}}}
    found = declared(settings, grain, read=read, **meta)
    assert found.faults == ()
    (edge, _) = found.mesh.product("a.x").dependencies
    assert edge.mapping == mapping
    what = "ignore" if mapping.kind == "latest" else "rerun"
    assert (edge.required, edge.on_restatement.action) == (True, what)


def test_required_and_what_a_restatement_does_are_read(settings: Settings) -> None:
    hold = {"required": False, "on_restatement": "hold"}
    ignore = {"on_restatement": {"ignore": "the ledger is closed"}}
    found = declared(settings, inputs={"a.landing.p": hold, "a.landing.q": ignore})
    first, second = found.mesh.product("a.x").dependencies
    assert (first.required, first.on_restatement) == (False, OnRestatement("hold"))
    assert second.on_restatement == OnRestatement("ignore", "the ledger is closed")


def test_a_deadline_a_lag_and_a_group_are_read(settings: Settings) -> None:
    found = declared(
        settings,
        inputs={
            "a.landing.p": {"wait": {"deadline": "07:00", "max_lag": "2d"}, "any_of": "feed"},
            "a.landing.q": {
                "mapping": {"trailing": 3},
                "wait": {"at_least": 1, "deadline": "7h"},
                "any_of": "feed",
            },
        },
    )
    assert found.faults == ()
    first, second = found.mesh.product("a.x").dependencies
    assert first.wait == WaitPolicy(deadline=Deadline(at=time(7)), max_lag=timedelta(days=2))
    assert second.wait == WaitPolicy(at_least=1, deadline=Deadline(after=timedelta(hours=7)))
    assert first.any_of == second.any_of == "feed"
    assert found.mesh.quiet == timedelta(seconds=90)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"wait": {"deadline": "7:00", "max_lag": "1d"}}, "no deadline '7:00'"),
        ({"wait": {"deadline": 25200, "max_lag": "1d"}}, "in quotation marks"),
        ({"wait": {"deadline": "07:00"}}, "still wait for all"),
        ({"wait": {"max_lag": "1d"}}, "say the deadline too"),
        ({"wait": {"dead_line": "07:00"}}, "did you mean 'deadline'?"),
        ({"wait": {"at_least": 0}}, "at_least 0 is degenerate"),
        ({"wait": "most"}, "no wait policy 'most'"),
        ({"any_of": "feed"}, "names a.landing.p alone"),
        ({"any_of": "feed", "required": False}, "one of a group is always required"),
        ({"anyof": "feed"}, "did you mean 'any_of'?"),
        ({"pinned": True}, "ref('domain', 'table', v=1)"),
        ({"mapping": {"lag": 31}}, "lag 31 reads beyond the mesh's span, whatever day is built"),
        ({"mapping": {"trailing": 32}}, "it holds 31 days"),
        ({"wait": {"at_least": 1}}, "counts intervals, and identity reads one"),
        ({"mapping": {"lag": 1}, "wait": {"at_most_missing": 2}}, "and lag reads one"),
        ({"mapping": "latest", "wait": {"at_least": 2}}, "and latest reads one"),
        ({"mapping": {"trailing": 3}, "wait": {"at_least": 4}}, "4 of at most 3 can never be met"),
        ({"mapping": {"trailing": 3}, "wait": {"at_most_missing": 3}}, "say at_least: 1"),
    ],
)
def test_what_cannot_be_meant_is_a_fault_with_its_place(
    settings: Settings, how: dict[str, Any], said: str
) -> None:
    found = declared(settings, inputs={"a.landing.p": how})
    (fault,) = found.faults
    assert said in f"{fault.wrong} {fault.right}"
    assert (fault.path, fault.line) == ("models/a/base/base.yml", 7)


@pytest.mark.parametrize(
    "how",
    [
        {"mapping": {"lag": 30}},
        {"mapping": {"trailing": 31}},
        {"mapping": {"trailing": 40}, "wait": {"at_least": 31}},
        {"mapping": {"trailing": 3}, "wait": {"at_most_missing": 2}},
    ],
)
def test_what_one_interval_can_meet_is_no_fault(settings: Settings, how: dict[str, Any]) -> None:
    assert declared(settings, inputs={"a.landing.p": how}).faults == ()


def test_a_whole_table_has_no_deadline(settings: Settings) -> None:
    how = {"mapping": "latest", "required": False, "wait": {"deadline": "07:00"}}
    faults = declared(settings, Grain.WHOLE, inputs={"a.landing.p": how}).faults
    assert ["no interval that a deadline could follow" in f.wrong for f in faults] == [True]


def test_batches_do_not_mix_what_stands_in(settings: Settings) -> None:
    waits = {"wait": {"deadline": "07:00", "max_lag": "1d"}}
    faults = declared(settings, batch=True, inputs={"a.landing.p": waits}).faults
    assert [f.wrong for f in faults] == ["batch: true with max_lag of a.landing.p"]
