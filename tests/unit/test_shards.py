"""A shard that fails is repeated alone; the others are not built again."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from tests.unit.strategies import NOW, edge, single

from levada.adapters.warehouses._history import History
from levada.adapters.warehouses._stage import Stages
from levada.build import BuildRequest, BuildResult
from levada.errors import ToolError
from levada.flow import runs
from levada.flow.batching import digest_of, together, why_alone
from levada.flow.runs import Platform
from levada.intervals import parse
from levada.ports import Stage
from levada.terms import Batching, Claim, Grain, Identity, Product, Shards

STAGE = Stage("run-1", Path("stage.duckdb"), {}, {})


class Parts:
    """A warehouse and a builder that note what they are asked for."""

    def __init__(self, failing: dict[int, int], built: Collection[int] = ()) -> None:
        self.failing, self.said, self.number = dict(failing), list[str](), -1
        self.built = frozenset(built)

    @property
    def warehouse(self) -> Parts:
        return self

    def resume(self, _stage: Stage, _shards: Shards, mark: str) -> frozenset[int]:
        assert mark == "mark"
        return self.built

    def shard(self, _stage: Stage, shards: Shards, number: int) -> None:
        assert shards == Shards("id", 3)
        self.number = number
        self.said.append(f"cut {number}")

    def builder(self, _request: object) -> BuildResult:
        if self.failing.get(self.number, 0):
            self.failing[self.number] -= 1
            return BuildResult(False, "out of memory")
        return BuildResult(True, "")

    def collect(self, _stage: Stage, number: int) -> None:
        self.said.append(f"took {number}")


def built(parts: Parts) -> None:
    platform, request = cast("Platform", parts), cast("BuildRequest", None)
    runs._make_shards(platform, STAGE, Shards("id", 3), request, "mark")


def test_a_shard_that_fails_is_repeated_alone_and_the_others_are_not() -> None:
    parts = Parts({1: 2})
    built(parts)
    assert parts.said == [
        *("cut 0", "took 0"),
        *("cut 1", "cut 1", "cut 1", "took 1"),
        *("cut 2", "took 2"),
    ]


def test_shards_that_were_built_before_a_kill_are_not_built_again() -> None:
    parts = Parts({}, built=(0, 2))
    built(parts)
    assert parts.said == ["cut 1", "took 1"]


def test_shards_are_kept_for_the_same_build_and_no_other() -> None:
    """One of a code and contracts, of intervals and their fingerprints, of a key and a count."""

    def mark(code: str = "1", cut: str = "id", count: int = 3, of: Sequence[Claim] = ()) -> str:
        product = single("a.x", Grain.DAY, edge("a.landing.x", "a.x", Identity()), code=code)
        return runs._mark(product, Shards(cut, count), of or claims)

    days = [parse(Grain.DAY, f"2013-03-0{n}", "UTC") for n in (8, 9)]
    claims = [Claim("a.x", day, "run-1", 1, f"sha of {day}", (), NOW) for day in days]
    assert mark() == mark(of=[replace(c, run="run-2", token=7) for c in reversed(claims)])
    others = [
        *(mark(code="2"), mark(count=4), mark(cut="day")),
        *(mark(of=claims[:1]), mark(of=[replace(claims[0], fingerprint="moved"), claims[1]])),
    ]
    assert len({mark(), *others}) == 6


def test_one_that_fails_three_times_is_named() -> None:
    parts: Any = Parts({1: 3})
    with pytest.raises(ToolError, match="shard 1 of 3, tried 3 times: dbt: out of memory"):
        built(parts)
    assert parts.said[-1] == "cut 1"


def test_one_shard_cuts_nothing() -> None:
    with pytest.raises(ValueError, match="2 or more"):
        Shards("id", 1)


def test_shards_ask_for_an_equality_test_of_what_the_product_is_with_them() -> None:
    product = single("a.x", Grain.DAY, edge("a.landing.x", "a.x", Identity()))
    batched, cut = (replace(product, batch=True, shards=s) for s in (None, Shards("id", 3)))

    def alone(product: Product, *, equal: bool | None = None, of: Product | None = None) -> bool:
        found = {}
        if equal is not None:
            found["a.x"] = Batching("a.x", digest_of(of or product), equal, "3 intervals", 3)
        assert together([product], found) == (
            {"a.x"} if why_alone(product, found) is None else set()
        )
        return why_alone(product, found) is not None

    assert alone(product)
    assert not alone(batched), "declared"
    assert alone(batched, equal=False)
    assert alone(cut), "a declaration of batches is none of shards"
    assert not alone(cut, equal=True)
    assert alone(cut, equal=False)
    assert alone(cut, equal=True, of=batched), "found before it was cut"
    assert alone(cut, equal=True, of=replace(cut, shards=Shards("id", 4)))
    assert not alone(batched, equal=False, of=cut), "of what it is no more nothing is told"


class Kept:
    """The folder of all stages, and what runs do there with the shards of one mark."""

    def __init__(self, home: Path) -> None:
        self.home, self.place = home, home / ".kept" / ".shards" / "mark"
        self.stages = Stages(home, cast("History", None))

    def takes(self, run: str) -> frozenset[int]:
        (self.home / ".kept" / run).mkdir(parents=True)
        return self.stages.resume(replace(STAGE, run=run), Shards("id", 2), "mark")

    def grown_old(self) -> None:
        os.utime(self.place, (0, 0))

    def swept(self, *live: str) -> bool:
        self.stages.sweep(live, timedelta(0))
        return not self.place.exists()


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    """Two shards of a run that was killed."""
    kept = Kept(tmp_path)
    kept.takes("first")
    for number in (0, 1):
        (kept.place / f"{number}.duckdb").touch()
    return kept


def test_shards_that_another_run_has_taken_over_are_its_own(kept: Kept) -> None:
    assert kept.takes("second") == {0, 1}
    kept.stages.discard("first")
    assert kept.place.exists(), "the second builds on them"
    kept.stages.discard("second")
    assert not kept.place.exists()


def test_shards_are_not_swept_while_their_run_lives(kept: Kept) -> None:
    kept.grown_old()
    assert not kept.swept("first")
    kept.takes("second")
    assert not kept.swept(), "they are taken up again, so they are kept for six hours more"
    kept.grown_old()
    assert kept.swept()
