"""What publishing refuses: the whole truth table, as data."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import cast

import pytest

from levada import publish
from levada.errors import NotPublishable
from levada.intervals import parse
from levada.ports import Warehouse
from levada.publish import Standing, refusals
from levada.terms import Contract, Grain, Owner, Publication, TableRef, Verdict

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
TODAY = NOW.date()
LABEL = "weather.observations {} {}"

STATUSES = {"active": True, "deprecated": True, "draft": False, "proposed": False, "retired": False}
STATUSES[""] = False
SUNSETS = {None: True, TODAY + timedelta(days=1): True, TODAY: False, date(2013, 1, 1): False}
KEPT = ("none", "the same", "another version", "this version, other content", "a later version")
TABLE = list(
    itertools.product(STATUSES, (True, False), KEPT, (True, False), (True, False), SUNSETS, Verdict)
)


def contract(status: str, sunset: date | None) -> Contract:
    return Contract(
        id="weather.observations",
        version="1.1.0",
        status=status,
        table=TableRef("weather", "observations"),
        product="observations",
        grain=Grain.HOUR,
        zone="UTC",
        interval_column="at",
        columns=(),
        checks=(),
        owner=Owner("weather-data"),
        description="",
        hash="b" * 64,
        path="contracts/weather/observations.v1.odcs.yaml",
        sunset=sunset,
    )


def told(
    row: tuple[str, bool, str, bool, bool, date | None, Verdict],
) -> tuple[str, ...]:
    status, recorded, kept, breaks, approved, sunset, verdict = row
    label = {
        "none": "",
        "the same": LABEL.format("1.1.0", "b" * 12),
        "another version": LABEL.format("1.0.0", "a" * 12),
        "this version, other content": LABEL.format("1.1.0", "a" * 12),
        "a later version": LABEL.format("1.10.0", "c" * 12),
    }[kept]
    said = ("column wind_gust is gone",) if breaks else ()
    standing = Standing(contract(status, sunset), recorded, label, said, approved)
    return refusals(standing, verdict, NOW)


def test_the_whole_table_and_each_reason_by_its_own_words() -> None:
    """Exhaustive; one reason for each thing that is wrong, and no other."""
    passed = 0
    for row in TABLE:
        status, recorded, kept, breaks, approved, sunset, verdict = row
        rewritten = kept == "this version, other content"
        fallen = kept == "a later version"
        wrong = {
            f"its verdict is {verdict.value}": verdict not in (Verdict.PASS, Verdict.WARN),
            "is not recorded": not recorded,
            "`status: active`": not STATUSES[status],
            "the sunset of": not SUNSETS[sunset],
            "raise the version": rewritten,
            "is below": fallen,
            "nobody has approved it": breaks and not approved and not rewritten and not fallen,
        }
        found = told(row)
        assert len(found) == sum(wrong.values()), row
        for words, expected in wrong.items():
            assert any(words in each for each in found) == expected, (row, words)
        passed += not found
    assert 0 < passed < len(TABLE) / 10
    assert len(TABLE) == 6 * 2 * 5 * 2 * 2 * 4 * 4


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.WARN])
def test_a_breaking_change_says_what_breaks_and_who_can_help(verdict: Verdict) -> None:
    row = ("active", True, "another version", True, False, None, verdict)
    (said,) = told(row)
    assert said == (
        "the contract weather.observations 1.1.0 bbbbbbbbbbbb breaks weather.observations 1.0.0 "
        "aaaaaaaaaaaa, and nobody has approved it: column wind_gust is gone; make it a new major, "
        "or let its reviewer run `levada approve contracts/weather/observations.v1.odcs.yaml`"
    )


def test_only_the_rows_that_lines_tell_are_put_back() -> None:
    held = contract("active", None)
    days = [parse(Grain.DAY, f"2013-03-0{n}", "UTC") for n in (8, 9)]
    lines = [
        Publication(
            *(held.table, each, 0, held.label, Verdict.PASS, "", f"{n}:a", "", (), (), "r", NOW)
        )
        for n, each in enumerate(days)
    ]

    def compare(*contents: str) -> None:
        shown = dict(zip(days, contents, strict=True))
        warehouse = cast("Warehouse", SimpleNamespace(shown=lambda *_: shown))
        publish._compare(warehouse, lines, "7", lambda _: held)

    compare("0:a", "1:a")
    with pytest.raises(NotPublishable, match=r"version 7 shows other rows of .* 2013-03-09 .*1:b"):
        compare("0:a", "1:b")
