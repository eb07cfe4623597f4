"""Blocking rules as gates: what they add to the mesh, and which are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.unit.strategies import NOW, edge, little_mesh, make_mesh, make_source, ref, single

from levada import govern
from levada.consistency import gated, gates_of
from levada.intervals import parse
from levada.readiness import Judge, fingerprint
from levada.terms import (
    Batch,
    Check,
    ConsistencyRule,
    Facts,
    Grain,
    Identity,
    Mesh,
    Read,
    RuleKind,
    Severity,
    State,
)

NEW_YORK = "America/New_York"
DAY = parse(Grain.DAY, "2013-03-08", NEW_YORK)


def batch(guards: str, *tables: str, grain: Grain = Grain.DAY, **more: Any) -> Batch:
    reads = tuple(Read(ref(table)) for table in (guards, *tables))
    rule = ConsistencyRule(
        *(
            "adds_up",
            "daily",
            RuleKind.KEYS,
            (),
            Severity.BLOCKING,
            "o",
            "it adds up",
            "rules.yaml",
        ),
        *(7, "h1"),
        reads=reads,
        guards=ref(guards),
    )
    return Batch("daily", grain, NEW_YORK, "o", "", "rules.yaml", (replace(rule, **more),))


def made(batch: Batch) -> Mesh:
    mesh, faults = gated(little_mesh(), [batch])
    assert faults == ()
    return mesh


def refused(batch: Batch) -> str:
    mesh, (fault,) = gated(little_mesh(), [batch])
    assert gates_of(mesh.product("company.daily")) == ()
    assert (fault.path, fault.line) == ("rules.yaml", 7)
    return fault.wrong


def test_a_gate_stands_on_the_table_that_it_guards() -> None:
    mesh = made(batch("company.daily", "operations.flights"))

    (gate,) = gates_of(mesh.product("company.daily"))
    assert gate.name == "daily.adds_up"
    assert gates_of(mesh.product("operations.flights")) == ()


def test_what_a_gate_compares_besides_becomes_a_required_input() -> None:
    before = {e.upstream for e in little_mesh().product("operations.flights").dependencies}

    product = made(batch("operations.flights", "weather.observations")).product(
        "operations.flights"
    )

    added = [e for e in product.dependencies if e.upstream not in before]
    (edge,) = added
    assert (edge.upstream, edge.mapping.kind) == (ref("weather.observations"), "rollup")
    assert (edge.required, edge.gate) == (True, True)


def test_an_input_that_was_optional_is_required_for_its_gate() -> None:
    mesh = little_mesh()
    daily = mesh.product("company.daily")
    (mart,) = daily.marts
    lax = tuple(replace(each, required=False) for each in mart.dependencies)
    products = [
        replace(p, marts=(replace(mart, dependencies=lax),)) if p.id == daily.id else p
        for p in mesh.products
    ]
    mesh = Mesh(mesh.name, mesh.span, mesh.zone, mesh.live_from, tuple(products), mesh.sources)

    mesh, _ = gated(mesh, [batch("company.daily", "operations.flights")])

    told = {e.upstream: e.required for e in mesh.product("company.daily").dependencies}
    assert told[ref("operations.flights")]
    assert not told[ref("weather.observations")]


def test_whoever_waits_for_a_gate_is_told_its_name() -> None:
    mesh = made(batch("operations.flights", "weather.observations"))

    found = Judge(mesh, Facts(), NOW).inputs(mesh.product("operations.flights"), DAY)

    assert found.state is State.WAITING
    assert "weather.observations@1" in found.because
    assert "(for the rule daily.adds_up)" in found.because


def test_another_rule_is_another_fingerprint_so_that_what_failed_is_tried_again() -> None:
    plain = little_mesh().product("company.daily")
    one = made(batch("company.daily", "operations.flights")).product("company.daily")
    changed: dict[str, Any] = {"hash": "h2", "kind": RuleKind.DUPLICATES}
    other = made(batch("company.daily", "operations.flights", **changed)).product("company.daily")

    assert len({fingerprint(p, DAY, ()) for p in (plain, one, other)}) == 3


def test_a_gate_that_would_close_a_cycle_is_refused_with_the_way() -> None:
    wrong = refused(batch("operations.flights", "company.daily"))

    assert wrong.endswith(
        "the gate would close a cycle: operations.flights -> company.daily -> operations.flights"
    )


def test_two_gates_that_close_a_cycle_together_are_not_both_made() -> None:
    source = make_source("a.landing.x", Grain.DAY)
    names = ("a.one", "a.two")
    products = [single(n, Grain.DAY, edge("a.landing.x", n, Identity())) for n in names]
    batches = [batch("a.one", "a.two"), batch("a.two", "a.one", id="again")]

    mesh, (fault,) = gated(make_mesh(products, [source]), batches)

    assert [gate.id for p in mesh.products for gate in gates_of(p)] == ["adds_up"]
    assert fault.wrong.endswith("the gate would close a cycle: a.two -> a.one -> a.two")


def test_a_gate_judges_the_very_interval_that_is_built() -> None:
    wrong = refused(batch("company.daily", "operations.flights", grain=Grain.WEEK))

    assert "is built by days of America/New_York, and the batch compares weeks" in wrong


def test_a_gate_that_is_called_as_a_check_of_the_contract_is_refused() -> None:
    """A waiver of the one would let the other through."""
    mesh = little_mesh()
    daily = mesh.product("company.daily")
    (mart,) = daily.marts
    checks = (Check("daily.adds_up", "sql"),)
    named = replace(mart, contract=replace(mart.contract, checks=checks))
    products = [replace(p, marts=(named,)) if p.id == daily.id else p for p in mesh.products]
    mesh = Mesh(mesh.name, mesh.span, mesh.zone, mesh.live_from, tuple(products), mesh.sources)

    found, (fault,) = gated(mesh, [batch("company.daily", "operations.flights")])

    assert gates_of(found.product("company.daily")) == ()
    assert fault.wrong.endswith("the contract of company.daily@1 has a check of this name")


def test_a_review_lists_a_new_gate_and_one_that_is_gone() -> None:
    old, new = little_mesh(), made(batch("company.daily", "operations.flights"))
    changed: dict[str, Any] = {"hash": "h2", "kind": RuleKind.DUPLICATES}
    other = made(batch("company.daily", "operations.flights", **changed))

    def kinds(a: Mesh, b: Mesh) -> list[tuple[str, str]]:
        changes = govern.touched(a, b).get(ref("company.daily"), ())
        return [(c.kind, c.subject) for c in changes if c.kind.startswith("gate.")]

    assert kinds(old, new) == [("gate.added", "daily.adds_up")]
    assert kinds(new, old) == [("gate.removed", "daily.adds_up")]
    assert kinds(new, other) == [("gate.changed", "daily.adds_up")]
    assert kinds(new, new) == []
    told = [str(c) for c in govern.touched(old, new)[ref("company.daily")]]
    assert any("a new gate" in each for each in told)
