"""What may stand in a waiver's file and in approvers.yaml: faults as data."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.strategies import little_mesh

from levada.adapters import approvers
from levada.adapters.waivers import Request, read_request
from levada.approve import Approver, Policy
from levada.errors import DeclarationError
from levada.terms import BUILT_IN, Check, ConsistencyRule, Member, Mesh, RuleKind, Severity

POLICY = Policy((Approver("ines", ("operations",)), Approver("max", ("fleet",))))
SAID = {
    "table": "operations.flights",
    "check": "enough",
    "window": {"from": "2013-03-08", "to": "2013-03-10"},
    "expires": "2026-12-01",
    "reason": "no better is to be had",
    "owner": "joe",
    "approver": "ines",
}


def mesh() -> Mesh:
    """The little mesh; flights have checks, and a team."""
    declared = little_mesh()
    checks = (Check("enough", "rowCount"), Check("columns", "columnSet", origin=BUILT_IN))

    def of(name: str) -> tuple[Check, ...]:
        return checks if name == "flights" else ()

    products = tuple(
        replace(
            p,
            marts=tuple(
                replace(
                    m,
                    contract=replace(
                        m.contract,
                        checks=of(m.table.name),
                        members=(Member("team", "owner"), Member("max", "owner")),
                    ),
                )
                for m in p.marts
            ),
        )
        for p in declared.products
    )
    return Mesh("test", declared.span, declared.zone, declared.live_from, products)


def read(
    root: Path, declared: Mesh | None = None, /, *, within: Policy = POLICY, **changes: object
) -> Request:
    said = {key: value for key, value in {**SAID, **changes}.items() if value is not None}
    path = root / "w.yaml"
    path.write_text(yaml.safe_dump(said, sort_keys=False))
    return read_request(path, root, declared or mesh(), within)


def test_a_sound_file_is_read_in_the_days_of_its_table(tmp_path: Path) -> None:
    request = read(tmp_path, consumers=["company.weekly", "company.daily"])
    waiver = request.waiver
    assert waiver.window.start == datetime(2013, 3, 8, 5, tzinfo=UTC)
    assert waiver.window.end == datetime(2013, 3, 11, 4, tzinfo=UTC), "both days; 23 hours in one"
    assert waiver.expires == datetime(2026, 12, 1, 5, tzinfo=UTC)
    assert waiver.consumers == ("company.daily", "company.weekly")
    assert (waiver.owner, waiver.approver, waiver.approved_by) == ("joe", "ines", "")
    assert request.subject.owners == ("joe", "team", "max")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2026-12-01T12:00Z", datetime(2026, 12, 1, 12, tzinfo=UTC)),
        ("2026-12-01T12:00+09:00", datetime(2026, 12, 1, 3, tzinfo=UTC)),
    ],
)
def test_it_may_end_at_an_instant(tmp_path: Path, said: str, meant: datetime) -> None:
    assert read(tmp_path, expires=said).waiver.expires == meant


def test_only_what_it_says_is_hashed(tmp_path: Path) -> None:
    first = read(tmp_path).waiver.hash
    path = tmp_path / "w.yaml"
    path.write_text("# a comment\n" + path.read_text())
    assert read_request(path, tmp_path, mesh(), POLICY).waiver.hash == first
    for key, other in (("reason", "another"), ("expires", "2026-12-02"), ("owner", "kim")):
        changed: dict[str, Any] = {key: other}
        assert read(tmp_path, **changed).waiver.hash != first, key


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"expires": None}, "'expires' is missing; a waiver without an end is a change of the"),
        ({"expires": "soon"}, "w.yaml:6: 'soon' is neither a day nor an instant"),
        ({"expires": "2026-12-01T12:00"}, "'2026-12-01T12:00' names no zone"),
        ({"owner": None}, "'owner' is missing"),
        ({"approver": ""}, "the approver says nothing"),
        ({"table": "operations.*"}, "'operations.*' is a pattern: a waiver names one thing"),
        ({"check": "*"}, "'*' is a pattern"),
        ({"check": "enoug"}, "has no check 'enoug'; did you mean 'enough'?"),
        ({"check": "columns"}, "is the platform's own: it cannot be waived"),
        ({"window": {"from": "2013-03-08"}}, "the window has no ends"),
        ({"window": {"from": "2013-03-08", "to": "2013-03-01"}}, "is empty"),
        ({"window": {"from": "2013-01-01", "to": "2013-03-01"}}, "is 60 days wide; 31 days at"),
        ({"consumers": "company.daily"}, "'consumers' is a list of names"),
        ({"consumers": []}, "'consumers' names nobody"),
        ({"consumers": ["company.dail"]}, "no product is called 'company.dail'"),
        ({"consumers": ["company.*"]}, "is a pattern"),
        ({"approver": "eve"}, "'eve' is no approver in approvers.yaml"),
        ({"approver": "joe", "owner": "joe"}, "joe answers for it himself"),
        ({"approver": "max"}, "max may not approve a waiver of operations"),
        ({"approver": "max"}, "max answers for it himself"),
        ({"until": "2026-12-01"}, "unknown key 'until'"),
    ],
)
def test_a_fault_says_what_is_wrong_and_where(
    tmp_path: Path, changes: dict[str, Any], fault: str
) -> None:
    with pytest.raises(DeclarationError) as caught:
        read(tmp_path, **changes)
    assert any(fault in str(each) for each in caught.value.faults), str(caught.value)


def test_what_is_wrong_with_the_table_hides_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError) as caught:
        read(tmp_path, table="operations.*", check="*", approver="joe", window={"from": "x"})
    assert [fault.line for fault in caught.value.faults] == [1, 2, 3, 8, 8], caught.value


def test_only_what_can_be_waived_is_offered(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError) as caught:
        read(tmp_path, gate("kim"), check="zzzz")
    (fault,) = caught.value.faults
    assert fault.right == "known here: daily.adds_up, enough"


def gate(owner: str) -> Mesh:
    """The mesh, with a gate on flights that somebody answers for."""
    found = mesh()
    product = found.product("operations.flights")
    rule = ConsistencyRule(
        *("adds_up", "daily", RuleKind.KEYS, (), Severity.BLOCKING, owner, "", "rules.yaml", 1),
        hash="h1",
        guards=product.marts[0].table,
    )
    guarded = replace(product, marts=(replace(product.marts[0], gates=(rule,)),))
    products = tuple(guarded if p.id == product.id else p for p in found.products)
    return Mesh("test", found.span, found.zone, found.live_from, products)


def test_a_gate_is_asked_for_by_its_name_and_whoever_owns_it_does_not_approve(
    tmp_path: Path,
) -> None:
    request = read(tmp_path, gate("kim"), check="daily.adds_up")
    assert request.waiver.check == "daily.adds_up"
    assert request.subject.owners == ("joe", "team", "max", "kim")

    for declared, check, fault in (
        (gate("Ines"), "daily.adds_up", "ines answers for it himself"),
        (gate("kim"), "daily.add_up", "has no check 'daily.add_up'; did you mean 'daily.adds_up'?"),
        (mesh(), "daily.adds_up", "has no check 'daily.adds_up'"),
    ):
        with pytest.raises(DeclarationError) as caught:
            read(tmp_path, declared, check=check)
        assert any(fault in str(each) for each in caught.value.faults), str(caught.value)


def test_the_limits_are_governances(tmp_path: Path) -> None:
    wide = {"from": "2013-01-01", "to": "2013-03-01"}
    assert read(tmp_path, within=replace(POLICY, widest=timedelta(days=60)), window=wide)


def test_without_a_file_nobody_may_approve_anything(tmp_path: Path) -> None:
    assert approvers.read_policy(tmp_path, ["fleet"]) == Policy()
    assert Policy().approvers == ()


def test_every_fault_of_the_approvers_is_told(tmp_path: Path) -> None:
    path = tmp_path / approvers.APPROVERS
    path.parent.mkdir(parents=True)
    path.write_text(
        "approvers:\n"
        "  - {username: ines, domains: [flee], kinds: [waive]}\n"
        "  - {username: max}\n"
        "  - {domains: [fleet]}\n"
        "  - {username: INES, domains: [all], known: [x]}\n"
        "waivers: {widest: long, longer: 3d}\n"
        "approver: x\n"
    )
    policy, faults = approvers.look(tmp_path, ["fleet"])
    told = "\n".join(map(str, faults))
    for fault in (
        "ines: no domain 'flee'; did you mean 'fleet'?",
        "ines: no kind 'waive'; did you mean 'waiver'?",
        "max is entitled to no domain",
        "an approver has no username",
        "'ines' names two approvers",
        "INES: unknown key 'known'; did you mean 'known_as'?",
        "'long' is no duration",
        "unknown key 'longer'",
        "unknown key 'approver'; did you mean 'approvers'?",
    ):
        assert fault in told, told
    assert policy.approver("INES")
