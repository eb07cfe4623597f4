"""Facts that are kept up by names are those that the ledger shows when it is asked for all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.strategies import make_mart

from levada.plan import Follower
from levada.terms import (
    Dependency,
    Facts,
    Grain,
    Identity,
    Landing,
    Mesh,
    Partition,
    Product,
    Source,
    Span,
    TableRef,
)

pytestmark = pytest.mark.integration

FILES, FLIGHTS = TableRef("operations", "landing.flights", 0), TableRef("operations", "flights")
PRODUCT, NOW = "operations.flights", datetime(2013, 3, 12, tzinfo=UTC)
SPAN = Span.days("2013-03-01", "2013-03-09", "UTC")


def day(number: int) -> Partition:
    return Partition(Grain.DAY, datetime(2013, 3, number, tzinfo=UTC))


def land(ledgers: Any, number: int, content: str) -> None:
    ledgers.runner.land([Landing(FILES, day(number), 0, content, "f.csv", 9, NOW)])


def mesh() -> Mesh:
    mart = make_mart("operations.flights", Grain.DAY, [Dependency(FILES, FLIGHTS, Identity())])
    source = Source(FILES, Grain.DAY, "UTC", "flights/{start}", (), "source.flights")
    product = Product("operations", "flights", (mart,), Grain.DAY, "UTC")
    return Mesh("one", SPAN, "UTC", SPAN.start, (product,), (source,))


def test_what_is_kept_up_is_what_is_there(ledgers: Any) -> None:
    follower = Follower(mesh(), ledgers.runner)

    def both() -> tuple[Facts, Facts]:
        return follower.facts(NOW), ledgers.runner.facts([FILES, FLIGHTS], [PRODUCT])

    land(ledgers, 1, "a")
    ours, everything = both()
    assert ours == everything
    land(ledgers, 1, "b")
    land(ledgers, 2, "a")
    ours, everything = both()
    assert ours == everything
    assert len(ours.lines) == 2
    assert ledgers.claim(PRODUCT, [day(1), day(2)])
    ours, everything = both()
    assert ours == everything
    assert len(ours.claims) == 2
    ledgers.runner.release("run-1", [day(1)], "not today")
    ours, everything = both()
    assert ours == everything
    assert [partition for _, partition in ours.claims] == [day(2)]


def test_only_what_new_lines_name_is_read_again(ledgers: Any) -> None:
    follower = Follower(mesh(), ledgers.runner)
    land(ledgers, 1, "a")
    first = follower.facts(NOW)
    assert follower.facts(NOW).lines is first.lines
    position, names = ledgers.runner.named(first.position)
    assert (position, names) == (first.position, frozenset())
    land(ledgers, 3, "c")
    assert ledgers.runner.named(first.position) == (first.position + 1, frozenset([str(FILES)]))
    later = follower.facts(NOW + timedelta(seconds=1))
    assert later.lines.keys() - first.lines.keys() == {(FILES, day(3))}
    assert later.attempts is first.attempts
