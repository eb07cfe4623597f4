"""Whom a change reaches, what changes of a mesh, who owns a path: pure functions, small meshes."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.strategies import edge, make_mesh, make_source, ref, single

from levada.adapters.lineage import Model, lineages
from levada.cli import report
from levada.govern import (
    KINDS,
    Impact,
    Law,
    Lineage,
    downstream,
    judged,
    law_changes,
    leaving,
    readers,
)
from levada.govern.codeowners import owners, rules
from levada.govern.meshes import mesh_changes
from levada.govern.policies import Approval as Ignored
from levada.govern.policies import Level, Policies, Policy
from levada.terms import (
    Batch,
    ConsistencyRule,
    Deadline,
    Dependency,
    Grain,
    Identity,
    Lag,
    Mesh,
    Product,
    QueryProbe,
    Reliance,
    RuleKind,
    Severity,
    TableRef,
    WaitPolicy,
)

DAY = Grain.DAY
A, B, C, D = (ref(f"x.{name}") for name in "abcd")


def chain(*edges: Dependency, names: str = "abcd") -> Mesh:
    """Tables x.a, x.b, ... with these edges, each a product of its own."""
    products = [
        single(f"x.{name}", DAY, *(e for e in edges if e.downstream == ref(f"x.{name}")))
        for name in names
    ]
    return make_mesh(products, ())


def reads(upstream: str, downstream: str) -> Dependency:
    return edge(f"x.{upstream}", f"x.{downstream}", Identity())


CHAIN = chain(reads("a", "b"), reads("b", "c"), reads("a", "d"))


# Reach


def test_every_hop_is_reached_and_nothing_known_is_every_column() -> None:
    found = {r.table: (r.hops, r.via, r.told) for r in downstream(CHAIN, A)}
    unknown = "columns unknown: all"
    assert found == {B: (1, A, unknown), D: (1, A, unknown), C: (2, B, unknown)}


def test_columns_end_the_reach_and_an_unknown_model_hands_on_everything() -> None:
    known = {
        B: Lineage({"n": frozenset({(A, "one")}), "m": frozenset({(A, "two")})}),
        C: Lineage({"k": frozenset({(B, "m")})}),
        D: Lineage({"k": frozenset({(A, "two")})}, unused=frozenset({(A, "one")})),
    }
    one = {
        r.table: r.told for r in downstream(CHAIN, A, columns=frozenset({"one"}), lineages=known)
    }
    assert one == {B: "n", D: "none of its columns"}  # d fails without it, and hands on nothing
    two = downstream(CHAIN, A, columns=frozenset({"two"}), lineages=known)
    assert {r.table: r.told for r in two} == {B: "m", C: "k", D: "k"}
    del known[B]
    assert C in {r.table for r in downstream(CHAIN, A, columns=frozenset({"one"}), lineages=known)}


def test_what_decides_the_rows_concerns_every_column() -> None:
    known = {B: Lineage({"n": frozenset()}, rows=frozenset({(A, "one")}))}
    (found, _) = downstream(
        CHAIN, A, columns=frozenset({"one"}), lineages={**known, D: Lineage({})}
    )
    assert (found.table, found.columns, found.told) == (B, None, "all its columns")


# Lineage by SQL

READ = {"a": (A, ("id", "day", "amount", "ok")), "d": (D, ("id", "name"))}


def known(sql: str, *private: Model) -> Lineage | None:
    models = {"b": Model("b", sql, ("a", "d", *(m.table for m in private)), B)}
    return lineages(models | {m.table: m for m in private}, READ).get(B)


@pytest.mark.parametrize(
    ("sql", "output", "rows", "unused"),
    [
        ("select amount + 1 as n from a where ok", "amount", "ok", ""),
        ("select sum(amount) as n from a group by day", "amount", "day", ""),
        ("with c as (select *, ok as x from a) select amount as n from c", "amount", "", "ok"),
        ("select a.amount as n from a join d using (id)", "amount", "id", ""),
        ("select ok as n from a where exists (select 1 from d where d.id = a.id)", "ok", "id", ""),
        ("select distinct amount as n from a", "amount", "amount", ""),
        ("select n from (select ok as n from a union all select id from a)", "ok id", "", ""),
        ("select AMOUNT as N from A", "amount", "", ""),
    ],
)
def test_what_a_column_is_made_of(sql: str, output: str, rows: str, unused: str) -> None:
    found = known(sql)
    assert found is not None
    assert {c for t, c in found.outputs["n"] if t == A} == set(output.split())
    assert {c for t, c in found.rows if t == A} == set(rows.split())
    assert {c for t, c in found.unused if t == A} >= set(unused.split())


@pytest.mark.parametrize(
    "sql",
    [
        "select nowhere as n from a",
        "select columns('.*') from a",
        "select a from a",
        "select unnest([amount]) as n from a",
        "pivot a on ok using sum(amount)",
        "with recursive r as (select id from a union all select id + 1 from r) select id from r",
        "select * from elsewhere",
        "this is no SQL",
    ],
)
def test_what_cannot_be_told_is_unknown_and_never_nothing(sql: str) -> None:
    assert known(sql) is None


def test_a_private_model_is_read_through() -> None:
    private = Model("p", "select amount as x, ok from a where day is not null", ("a",))
    found = known("select x as n from p", private)
    assert found is not None
    assert found.outputs["n"] == {(A, "amount")}
    assert found.rows == {(A, "day")}
    assert found.unused == {(A, "ok")}


# The mesh


def kinds(old: Mesh, new: Mesh) -> list[str]:
    return [change.kind for change in mesh_changes(old, new, readers(old))]


def with_edge(**changes: object) -> Mesh:
    return chain(replace(reads("a", "b"), **changes), names="ab")  # type: ignore[arg-type]


LATE = WaitPolicy(at_most_missing=1, deadline=Deadline(after=timedelta(hours=1)))


@pytest.mark.parametrize(
    ("there", "kind", "back"),
    [
        ({"wait": WaitPolicy(at_least=3)}, "edge.wait_loosened", "edge.wait_tightened"),
        ({"wait": LATE}, "edge.wait_loosened", "edge.wait_tightened"),
        ({"required": False}, "edge.required_removed", "edge.required_added"),
        ({"mapping": Lag(1)}, "edge.mapping", "edge.mapping"),
        ({"any_of": "one"}, "edge.any_of", "edge.any_of"),
        ({"relies_on": Reliance(("n",))}, "edge.relies_on", "edge.relies_on"),
    ],
)
def test_how_an_edge_waits_is_compared(there: dict[str, object], kind: str, back: str) -> None:
    assert kinds(with_edge(), with_edge(**there)) == [kind]
    assert kinds(with_edge(**there), with_edge()) == [back]


def test_an_input_that_comes_or_goes_is_an_edge_of_its_reader() -> None:
    alone = make_mesh([single("x.a", DAY), single("x.b", DAY)], [])
    reading = make_mesh(
        [single("x.a", DAY), single("x.b", DAY, edge("x.a", "x.b", Identity()))], []
    )
    assert kinds(alone, reading) == ["edge.added"]
    assert kinds(reading, alone) == ["edge.removed"]


def test_one_wait_policy_is_held_against_another() -> None:
    one, two = (with_edge(wait=WaitPolicy(at_most_missing=n)) for n in (1, 2))
    assert kinds(one, two) == ["edge.wait_loosened"]
    assert kinds(two, one) == ["edge.wait_tightened"]
    assert kinds(one, with_edge(wait=WaitPolicy(at_least=5))) == ["edge.wait_changed"]
    assert kinds(one, with_edge(wait=LATE)) == ["edge.wait_changed"]


def test_a_sign_that_is_waited_for_is_a_gate() -> None:
    gate = replace(make_source("x.landing.closed", DAY), probe=QueryProbe("db", "select 1"))
    waits = edge("x.landing.closed", "x.b", Identity())
    old = make_mesh([single("x.b", DAY)], [gate])
    new = make_mesh([single("x.b", DAY, waits)], [gate])
    assert kinds(old, new) == ["edge.gate_added"]
    assert kinds(new, old) == ["edge.gate_removed"]


def test_tables_and_products_come_and_go() -> None:
    small = chain(reads("a", "b"), names="ab")
    assert kinds(small, CHAIN) == ["table.added"] * 2 + ["product.added"] * 2
    assert kinds(CHAIN, small) == ["table.removed_unread"] * 2 + ["product.removed"] * 2
    gone = kinds(CHAIN, chain(reads("a", "d"), names="ad"))
    assert gone == ["table.removed", "table.removed_unread", "product.removed", "product.removed"]


def _with(mesh: Mesh, table: TableRef, **changes: object) -> Mesh:
    """The mesh with another contract of a table."""

    def product(old: Product) -> Product:
        marts = tuple(
            replace(m, contract=replace(m.contract, **changes)) if m.table == table else m  # type: ignore[arg-type]
            for m in old.marts
        )
        return replace(old, marts=marts)

    return replace(mesh, products=tuple(map(product, mesh.products)))


def test_a_version_rises_with_its_contract() -> None:
    words = {"description": "Better words.", "hash": "new"}
    (stays,) = judged(CHAIN, _with(CHAIN, A, **words)).refused
    assert "its version 1.0.0 stays; raise it to 1.1.0, or to 1.0.1 for words alone" in stays
    assert judged(CHAIN, _with(CHAIN, A, **words, version="1.0.1")).passes
    (falls,) = judged(CHAIN, _with(CHAIN, A, **words, version="1.0.0-rc.1")).refused
    assert "falls to 1.0.0-rc.1" in falls


def test_a_draft_that_nobody_reads_may_change_as_it_likes() -> None:
    changed = {"grain": Grain.MONTH, "hash": "new", "version": "1.1.0"}
    for table, passes in ((C, True), (A, False)):
        draft = _with(CHAIN, table, status="draft")
        found = judged(draft, _with(draft, table, **changed))
        assert found.tables[0].impact is Impact.BREAKING
        assert found.passes is passes


@pytest.mark.parametrize("kind", ["sunset_passed", "sunset_set"])
def test_an_end_that_has_come_breaks_and_one_to_come_is_asked_for(kind: str) -> None:
    """By the table's own day: it would be held at once, and nobody was told."""
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC) - timedelta(days=kind == "sunset_set")
    ending = _with(CHAIN, A, sunset=date(2030, 1, 1), hash="new", version="1.1.0")
    found = judged(CHAIN, ending, now=noon)
    assert [change.kind for change in found.tables[0].changes] == [f"life.{kind}"]
    assert found.passes is (kind == "sunset_set")


def test_readers_of_what_ends_are_warned_and_asked() -> None:
    ending = _with(CHAIN, A, sunset=date(2030, 1, 1), hash="new", version="1.1.0")
    assert [*leaving(ending)] == ["x.a@1 is held from 2030-01-01, and is read by x.b@1, x.d@1"]
    found = judged(CHAIN, ending)
    assert found.passes
    (_, team) = found.approvals
    assert {"x.b@1 must leave x.a@1", "x.d@1 must leave x.a@1"} <= set(team.because)


# CODEOWNERS


@pytest.mark.parametrize(
    ("pattern", "matched", "missed"),
    [
        ("*", "a/b.sql", None),
        ("*.sql", "models/a/b.sql", "models/a/b.sqlx"),
        ("/contracts/", "contracts/a/b.yaml", "old/contracts/a.yaml"),
        ("contracts/", "old/contracts/a.yaml", "contracts"),
        ("docs/*", "docs/a.md", "docs/a/b.md"),
        ("/docs/**", "docs/a/b.md", "old/docs/a.md"),
        ("a/**/z", "a/z", "az"),
        ("**/logs", "x/y/logs/z", "x/logsy"),
        ("/models/fl?et", "models/fleet/a.sql", "models/fl/et"),
        ("a+b.yaml", "x/a+b.yaml", "aab.yaml"),
    ],
)
def test_a_pattern_matches_as_on_github(pattern: str, matched: str, missed: str | None) -> None:
    said = rules(f"{pattern} @one")
    assert owners(said, matched) == ("@one",)
    assert missed is None or owners(said, missed) == ()


def test_the_last_pattern_wins_and_may_say_nobody() -> None:
    said = rules("# all\n*  @all @more # beside\n\n/a/ @a\n/a/free/\nwith\\ space @s\n")
    assert owners(said, "z") == ("@all", "@more")
    assert owners(said, "a/x") == ("@a",)
    assert owners(said, "a/free/x") == ()
    assert owners(said, "with space") == ("@s",)


# The reference


def law(**changes: Any) -> Law:
    usual: dict[str, Any] = {
        "rights": {"ines": frozenset({("waiver", "x")})},
        "names": {"ines": frozenset({"ines@x.example"})},
        "limits": {"the widest window": timedelta(days=31)},
        "approvers_path": "approvers.yaml",
        "policies": Policies(policies=(ASKED,)),
        "policies_path": "policies.yaml",
        "batches": (batch(WARNS),),
    }
    return Law(**usual | changes)


ASKED = Policy("described", lambda _: (), "why", asks="a description")
WARNS = ConsistencyRule(
    *("once", "daily", RuleKind.SQL, (), Severity.ADVISORY, "o", "d", "daily.yaml", 1, "h1"),
)


def batch(*rules: ConsistencyRule) -> Batch:
    return Batch("daily", Grain.DAY, "UTC", "o", "d", "daily.yaml", rules)


WIDER = {
    "ines": frozenset({("waiver", "x"), ("breaking", "all")}),
    "max": frozenset({("rule", "x")}),
}
LAWS: dict[str, tuple[dict[str, Any], str]] = {
    "law.approvers_widened": ({"rights": WIDER}, "law.approvers_narrowed"),
    "law.approvers_renamed": ({"names": {"ines": frozenset()}}, "law.approvers_renamed"),
    "law.policy_removed": ({"policies": Policies()}, "law.policy_added"),
    "law.policy_lowered": (
        {"policies": Policies(policies=(replace(ASKED, level=Level.WARNING),))},
        "law.policy_raised",
    ),
    "law.policy_changed": (
        {"policies": Policies(policies=(replace(ASKED, asks="less"),))},
        "law.policy_changed",
    ),
    "law.rule_removed": ({"batches": ()}, "law.rule_added"),
    "law.rule_changed": ({"batches": (batch(replace(WARNS, hash="h2")),)}, "law.rule_changed"),
}


@pytest.mark.parametrize("kind", LAWS)
def test_what_changes_the_law_is_told_there_and_back(kind: str) -> None:
    changes, back = LAWS[kind]
    assert law_changes(law(), law()) == ()
    assert {c.kind for c in law_changes(law(), law(**changes))} == {kind}
    assert {c.kind for c in law_changes(law(**changes), law())} == {back}


def test_limits_and_ignored_restatements_are_of_the_law() -> None:
    longer = law(limits={"the widest window": timedelta(days=300)})
    (said,) = law_changes(law(), longer)
    assert str(said).startswith("approvers.yaml: the widest window of a waiver is 300 days, was 31")
    ignored = Policies(policies=(ASKED,), approvals=(Ignored(ref("x.a"), ref("x.b"), "why"),))
    assert [c.kind for c in law_changes(law(), law(policies=ignored))] == ["law.ignore_approved"]


def test_who_may_approve_by_the_law_that_stands_must_approve_another() -> None:
    mesh = make_mesh([single("x.a", DAY)], [])
    found = judged(mesh, mesh, law=law_changes(law(), law(rights=WIDER)), entitled=["ines"])
    (asked,) = found.approvals
    assert (asked.who, asked.people) == ("governance", ("ines",))
    assert any("max may approve a rule of x" in why for why in asked.because)
    assert report.verdict(found) == "passes: 2 sensitive in the law"
    assert not judged(mesh, mesh, law=law_changes(law(rights=WIDER), law())).approvals


def test_the_reference_has_every_class_as_the_code_has_it() -> None:
    text = (Path(__file__).parents[2] / "docs/reference/changes.md").read_text()
    said = {
        kind: (impact, why)
        for kind, impact, why in re.findall(
            r"^\| `([a-z._]+)` \| (\w+) \| (.+) \|$", text, re.MULTILINE
        )
    }
    assert said == {kind: (impact.value, why) for kind, (impact, why) in KINDS.items()}
