"""How `meta.levada.inputs` becomes edges, and what of it is refused, all at once."""

from __future__ import annotations

from datetime import time, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.strategies import make_mart

from levada.declare import Declared, ModelFacts, ParsedProject, SourceFacts, declare
from levada.settings import Settings, read_settings
from levada.terms import Deadline, Grain, WaitPolicy

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


def source(table: str) -> SourceFacts:
    meta = {"zone": "zone", "files": table, "grain": "day", "calendar": "America/New_York"}
    return SourceFacts(
        f"source.a.landing.{table}", "landing", table, ("c",), meta, "models/a/ingest.yml", 3
    )


def declared(settings: Settings, grain: Grain = Grain.DAY, **meta: Any) -> Declared:
    contract = make_mart("a.x", grain).contract
    project = ParsedProject("a", "models/a", (model(**meta),), (source("p"), source("q")))
    return declare(settings, [contract], [project])


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
