"""A backfill's plan as a file and as a picture, and which approvals it needs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tests.unit.strategies import NEW_YORK, NOW, little_mesh

from levada.adapters.policies import FILE, read_policies
from levada.cli.picture import picture
from levada.errors import DeclarationError
from levada.flow import backfilling
from levada.govern.backfills import Limits, Need, needs
from levada.plan import asked_for, backfill, decode, encode
from levada.terms import Backfill, Mesh, Span


def planned(mesh: Mesh, *names: str, last: str = "2013-03-12") -> Backfill:
    span = Span.days("2013-03-10", last, NEW_YORK)
    return backfill(mesh, asked_for(mesh, names, span, reason="late corrections"), NOW)


def test_a_plan_is_read_as_it_was_written() -> None:
    mesh = little_mesh()
    found = planned(mesh, "operations.flights", "weather.observations")
    document = json.loads(json.dumps(encode(mesh, found)))
    assert decode(document) == found
    assert encode(mesh, decode(document)) == document


def test_a_plan_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    mesh = little_mesh()
    document = encode(mesh, planned(mesh, "operations.flights"))
    document["steps"].pop()
    path = tmp_path / "plan.json"
    backfilling.write(path, document)
    with pytest.raises(DeclarationError, match="changed after it was planned"):
        backfilling.read(path)
    for text in ("", "[]", "{}"):
        path.write_text(text)
        with pytest.raises(DeclarationError, match=r"plan\.json"):
            backfilling.read(path)


def with_tier(mesh: Mesh, product: str, tier: int | None, **more: object) -> Mesh:
    products = tuple(
        replace(
            p,
            marts=tuple(
                replace(m, contract=replace(m.contract, tier=tier, **more))  # type: ignore[arg-type]
                for m in p.marts
            ),
        )
        if p.id == product
        else p
        for p in mesh.products
    )
    return replace(mesh, products=products)


def test_what_goes_beyond_the_limits_needs_an_approval_by_name() -> None:
    mesh = with_tier(little_mesh(), "company.daily", 1)
    found = planned(mesh, "operations.flights")
    assert needs(Limits(), found, mesh) == ()
    assert needs(Limits(intervals=8, other_domains_tier=0), found, mesh) == ()
    assert needs(Limits(intervals=7), found, mesh) == (
        Need("governance", "8 intervals are made again: more than 7"),
    )
    (need,) = needs(Limits(other_domains_tier=1), found, mesh)
    assert need == Need("company", "company.daily@1 is of tier 1, and of another domain")
    assert needs(Limits(other_domains_tier=1), planned(mesh, "company.daily"), mesh) == ()
    defaulted = needs(Limits(other_domains_tier=2), found, mesh, default_tier=2)
    assert [need.because.split()[0] for need in defaulted] == [
        "company.daily@1",
        "company.weekly@1",
    ]


def test_older_than_its_retention_needs_an_approval() -> None:
    limits = Limits(beyond_retention=True)
    for kept, count in (("3 d", 1), ("10 d", 0), ("long", 0)):
        mesh = with_tier(little_mesh(), "operations.flights", None, sla=(("retention", kept),))
        found = needs(limits, planned(mesh, "operations.flights"), mesh)
        assert len(found) == count
    assert needs(limits, planned(mesh, "fleet.planes"), mesh) == ()


def test_the_limits_stand_in_the_file_of_policies(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.parent.mkdir(parents=True)
    path.write_text("backfills: {intervals: 500, other_domains_tier: 2, beyond_retention: true}\n")
    assert read_policies(tmp_path, ())[0].backfills == Limits(500, 2, True)
    path.write_text("backfills: {interval: 5, other_domains_tier: no, beyond_retention: 3}\n")
    _, faults = read_policies(tmp_path, ())
    assert [fault.wrong for fault in faults] == [
        "beyond_retention is 3",
        "other_domains_tier is 'no'",
        "unknown key 'interval'",
    ]


def test_the_picture_shows_what_is_made_again_and_what_is_left_out() -> None:
    mesh = little_mesh()
    found = planned(mesh, "operations.flights", "fleet.planes", last="2013-03-17")
    console = Console(width=90, record=True)
    console.print(picture(mesh, found.groups, found.left_out, within=90))
    lines = {line.split()[0]: line for line in console.export_text().splitlines()[1:]}
    assert set(lines) == {p.id for p in mesh.products} - {"weather.observations"}
    assert "░" in lines["company.daily"]
    assert "8 (+6 left out)" in lines["company.daily"]
    assert lines["operations.flights"].count("█") > 10
    assert "·" in lines["operations.flights"]


def test_a_plan_of_a_mesh_that_ends_before_its_retention_began_is_judged() -> None:
    mesh = with_tier(little_mesh(), "operations.flights", None, sla=(("retention", "9999 y"),))
    assert needs(Limits(beyond_retention=True), planned(mesh, "operations.flights"), mesh) == ()
