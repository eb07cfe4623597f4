"""What sense asks the ledger for, and the claims that it wants."""

from __future__ import annotations

from tests.unit.strategies import NOW, World, edge, little_mesh, make_mesh, make_source, single

from levada.ports import Want
from levada.readiness import fingerprint, pins
from levada.sense import products_to_read, tables_to_read, want, wants
from levada.terms import WHOLE, Facts, Grain, Identity, Latest, Readiness, State, Verdict

DAY = "2013-03-10"


def names(world: World, product: str) -> set[str]:
    return {str(table) for table in tables_to_read(world.mesh, [product])}


def test_the_tables_to_read_are_own_tables_inputs_and_their_inputs() -> None:
    world = World(little_mesh())
    assert names(world, "operations.flights") == {
        "operations.flights@1",
        "operations.landing.flights",
    }
    assert names(world, "company.weekly") == {
        "company.weekly@1",
        "company.daily@1",
        "operations.flights@1",
        "weather.observations@1",
        "fleet.planes@1",
    }
    weekly = world.mesh.product("company.weekly")
    assert tables_to_read(world.mesh, [weekly]) == tables_to_read(world.mesh, ["company.weekly"])
    assert products_to_read(world.mesh, [weekly]) == {"company.weekly", "company.daily"}
    assert products_to_read(world.mesh, ["operations.flights"]) == {"operations.flights"}


def test_these_tables_are_enough_to_judge_by() -> None:
    world = World(little_mesh(first="2013-03-10", last="2013-03-10"))
    world.land("operations.landing.flights", DAY)
    world.publish("operations.flights", DAY)
    world.land("fleet.landing.planes", WHOLE)
    world.publish("fleet.planes", WHOLE)
    world.land("operations.landing.flights", DAY, "moved")
    product = world.mesh.product("company.daily")
    tables = tables_to_read(world.mesh, [product])
    facts = world.facts
    part = Facts({k: n for k, n in facts.lines.items() if k[0] in tables})
    at = world.slice("company.daily", DAY)
    judged = want(world.mesh, product, at, part, NOW)
    assert judged == want(world.mesh, product, at, facts, NOW)
    assert isinstance(judged, Readiness)
    assert "operations.flights@1 2013-03-10: operations.landing.flights" in judged.because


def test_a_ready_product_is_wanted_with_its_pins_and_fingerprint() -> None:
    world = World(little_mesh())
    world.land("operations.landing.flights", DAY)
    product = world.mesh.product("operations.flights")
    at = world.slice("operations.flights", DAY)
    found = want(world.mesh, product, at, world.facts, NOW)
    read = pins(world.mesh, product, at, world.facts, NOW)
    assert found == Want(product.id, at, fingerprint(product, at, read), read)
    assert [i.content for i in read] == ["a"]


def test_a_product_that_waits_is_not_wanted() -> None:
    world = World(little_mesh())
    at = world.slice("operations.flights", DAY)
    found = want(world.mesh, world.mesh.product("operations.flights"), at, world.facts, NOW)
    assert isinstance(found, Readiness)
    assert found.state is State.WAITING
    assert found.because == "waits for operations.landing.flights 2013-03-10: nothing landed"


def test_what_is_published_with_the_same_fingerprint_is_not_wanted_again() -> None:
    world = World(little_mesh())
    world.land("operations.landing.flights", DAY)
    world.publish("operations.flights", DAY)
    product = world.mesh.product("operations.flights")
    at = world.slice("operations.flights", DAY)
    assert want(world.mesh, product, at, world.facts, NOW) == Readiness(
        State.READY, "already current"
    )
    world.redeclare("operations.flights", code="2")
    product = world.mesh.product("operations.flights")
    assert isinstance(want(world.mesh, product, at, world.facts, NOW), Want)


def test_a_current_partition_is_not_built_again_for_what_its_edges_ignore() -> None:
    product = single("a.x", Grain.DAY, edge("a.landing.whole", "a.x", Latest()))
    world = World(make_mesh([product], [make_source("a.landing.whole", Grain.WHOLE)]))
    world.land("a.landing.whole", WHOLE)
    world.publish("a.x", DAY)
    world.land("a.landing.whole", WHOLE, "one more")
    at = world.slice("a.x", DAY)
    assert want(world.mesh, product, at, world.facts, NOW) == Readiness(
        State.READY, "already current"
    )


def test_a_failed_attempt_does_not_stop_a_run_that_is_asked_for() -> None:
    # Parking is the plan's: after a waiver the same fingerprint may pass.
    world = World(little_mesh())
    world.land("operations.landing.flights", DAY)
    attempt = world.attempt("operations.flights", DAY, Verdict.FAIL)
    product = world.mesh.product("operations.flights")
    found = want(world.mesh, product, attempt.partition, world.facts, NOW)
    assert isinstance(found, Want)
    assert found.fingerprint == attempt.fingerprint


def test_many_partitions_are_judged_as_one_by_one() -> None:
    product = single("a.x", Grain.DAY, edge("a.landing.x", "a.x", Identity()))
    world = World(make_mesh([product], [make_source("a.landing.x", Grain.DAY)]))
    for day in ("2013-03-04", "2013-03-06"):
        world.land("a.landing.x", day)
    days = [world.slice("a.x", f"2013-03-0{n}") for n in range(4, 8)]
    found = wants(world.mesh, product, days, world.facts, NOW)
    assert list(found) == days
    assert found == {d: want(world.mesh, product, d, world.facts, NOW) for d in days}
    assert [isinstance(f, Want) for f in found.values()] == [True, False, True, False]
