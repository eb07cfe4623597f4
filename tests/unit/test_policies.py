"""Policies: the library, expressions, selectors, and every fault of their file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from levada.adapters.policies import FILE, read_policies
from levada.errors import Fault
from levada.govern.canaries import terms_of
from levada.govern.deprecations import deprecations
from levada.govern.policies import FIELDS, SELECTORS, TESTS, Level, Policies, judge, subjects
from levada.govern.policy_library import LIBRARY, message, settings
from levada.terms import (
    CanaryTerms,
    Check,
    Column,
    ConsistencyRule,
    Contract,
    Deadline,
    Dependency,
    Grain,
    Identity,
    Latest,
    Layer,
    Mart,
    Member,
    OnRestatement,
    Owner,
    PartitionMapping,
    Product,
    Rollup,
    RuleKind,
    Severity,
    Source,
    TableRef,
    WaitPolicy,
)

ROOT = Path(__file__).parents[2]
ZONE = "America/New_York"
HOURS = Source(TableRef("sea", "landing.hours", 0), Grain.HOUR, ZONE, "", (), "source")
SHIPS, CLEARED = TableRef("harbour", "ships"), TableRef("customs", "cleared")
ALL = Check("same", "sql", dimension="consistency")


def contract(table: TableRef, **said: Any) -> Contract:
    """A contract that keeps every policy of the library about contracts."""
    whole: dict[str, Any] = {
        "columns": (Column("id", "INTEGER", True, False, 1, "Its number.", "public"),),
        "checks": (ALL,),
        "owner": Owner("team", "team@tiny.example"),
        "sla": (("latency", "6 h"),),
        "tier": 1,
        "members": (Member("ann", "owner"), Member("bob", "owner")),
    }
    return Contract(
        id=str(table),
        version="1.0.0",
        status="active",
        table=table,
        product=table.name,
        grain=Grain.DAY,
        zone=ZONE,
        interval_column="id",
        description="Numbers.",
        hash="",
        path=f"contracts/{table.domain}/{table.name}.v1.odcs.yaml",
        **{**whole, **said},
    )


def product(said: Contract, *edges: Dependency, layer: Layer = Layer.BASE) -> Product:
    mart = Mart(said.table, layer, f"model.{said.table}", said, edges, "", "")
    return Product(said.table.domain, said.product, (mart,), said.grain, said.zone)


def edge(upstream: TableRef, mapping: PartitionMapping | None = None, **said: Any) -> Dependency:
    return Dependency(upstream, CLEARED, mapping or Identity(), **said)


def broken(rule: str, said: Contract, *edges: Dependency, **given: int) -> list[str]:
    """How a table of this contract and with these edges breaks a policy of the library."""
    products = [product(contract(SHIPS, tier=2)), product(said, *edges)]
    (subject,) = (s for s in subjects(Policies(), products, [HOURS]) if s.contract is said)
    return [found.wrong for found in LIBRARY[rule](subject, **given)]


SOUND = contract(CLEARED)


@pytest.mark.parametrize(
    ("rule", "said", "wrong"),
    [
        ("sla_stated", {"sla": ()}, "states no service level"),
        ("two_owners", {"members": (Member("ann", "owner"), Member("b"))}, "names 1 owner"),
        ("two_owners", {"members": ()}, "names no owners"),
        ("contact_named", {"owner": Owner("team")}, "names no channel to ask in"),
        ("tier_stated", {"tier": None}, "states no tier"),
        ("key_stated", {"columns": (Column("id", "INTEGER"),)}, "has no primary key"),
        (
            *("every_column_described", {"columns": (Column("id", "INTEGER"),)}),
            "column id has no description",
        ),
        (
            *("every_column_classified", {"columns": (Column("id", "INTEGER"),)}),
            "column id has no classification",
        ),
        (
            *("consistency_rule", {"checks": (replace(ALL, severity=Severity.ADVISORY),)}),
            "has no blocking rule that compares columns or tables",
        ),
    ],
)
def test_each_policy_about_contracts_finds_what_it_is_for(
    rule: str, said: dict[str, Any], wrong: str
) -> None:
    assert broken(rule, contract(CLEARED, **said)) == [wrong]
    assert broken(rule, SOUND) == []


def test_a_gate_is_a_consistency_rule_and_what_it_compares_is_no_input_of_the_table() -> None:
    said = contract(CLEARED, checks=())
    rule = ConsistencyRule(
        *("adds_up", "daily", RuleKind.KEYS, (), Severity.BLOCKING, "o", "", "rules.yaml", 1, "h")
    )
    gated = product(said, edge(SHIPS, gate=True))
    gated = replace(gated, marts=(replace(gated.marts[0], gates=(rule,)),))
    low = [product(contract(SHIPS, tier=3)), gated]
    (subject,) = (s for s in subjects(Policies(), low, [HOURS]) if s.contract is said)

    assert broken("consistency_rule", said) == [
        "has no blocking rule that compares columns or tables"
    ]
    assert list(LIBRARY["consistency_rule"](subject)) == []
    assert broken("reads_no_lower_tier", contract(CLEARED, tier=1), edge(SHIPS)) != []
    assert list(LIBRARY["reads_no_lower_tier"](subject)) == []


def test_an_edge_waits_for_enough_of_what_a_usual_interval_holds() -> None:
    def of(**wait: Any) -> list[str]:
        return broken(
            "edges_wait_for_enough", SOUND, edge(HOURS.table, Rollup(), wait=WaitPolicy(**wait))
        )

    few = "is content with {} of 24 intervals of sea.landing.hours"
    assert of(at_least=1) == [few.format(1)]
    assert of(at_least=21) == [few.format(21)]
    assert of(at_least=22) == []
    assert of(at_most_missing=3) == [few.format(21)]
    assert of(at_most_missing=2) == []
    lower = broken(
        *("edges_wait_for_enough", SOUND),
        edge(HOURS.table, Rollup(), wait=WaitPolicy(at_least=12)),
        percent=50,
    )
    assert lower == []


def test_no_edge_can_be_declared_that_waits_for_nothing() -> None:
    with pytest.raises(ValueError, match="at_least 0 is degenerate"):
        WaitPolicy(at_least=0)


def test_an_optional_input_needs_a_deadline_and_a_greatest_age() -> None:
    day, late = timedelta(days=1), Deadline(after=timedelta(hours=7))
    rule = "optional_inputs_bounded"

    assert broken(rule, SOUND, edge(SHIPS, required=False)) == [
        "the optional input harbour.ships@1 has no wait.deadline and no wait.max_lag"
    ]
    whole = WaitPolicy(deadline=late, max_lag=day)
    assert broken(rule, SOUND, edge(SHIPS, required=False, wait=whole)) == []
    aged = edge(SHIPS, Latest(day), required=False, wait=WaitPolicy(deadline=late))
    assert broken(rule, SOUND, aged) == []
    assert broken(rule, SOUND, edge(SHIPS)) == []


def test_ignoring_what_is_restated_needs_an_approval_of_that_very_edge() -> None:
    ignores = edge(SHIPS, on_restatement=OnRestatement("ignore", "it is only a hint"))
    products = [product(contract(SHIPS)), product(SOUND, ignores)]

    def found(*approved: tuple[TableRef, TableRef]) -> int:
        (subject,) = (s for s in subjects(Policies(), products, []) if s.contract is SOUND)
        return len(
            list(LIBRARY["ignore_is_approved"](replace(subject, approvals=frozenset(approved))))
        )

    assert found() == 1
    assert found((SHIPS, CLEARED)) == 1
    assert found((CLEARED, SHIPS)) == 0
    as_of = edge(SHIPS, Latest(), on_restatement=OnRestatement("ignore", "as of"))
    assert broken("ignore_is_approved", SOUND, as_of) == []


def test_a_table_is_no_better_than_what_it_reads() -> None:
    assert broken("reads_no_lower_tier", SOUND, edge(SHIPS)) == [
        "is of tier 1 and reads harbour.ships@1, of tier 2"
    ]
    assert broken("reads_no_lower_tier", contract(CLEARED, tier=2), edge(SHIPS)) == []


def test_the_readers_of_a_deprecated_table_are_warned_from_its_local_day_on() -> None:
    old = contract(SHIPS, deprecated=date(2013, 3, 10), sunset=date(2013, 4, 1))
    newer = contract(TableRef("harbour", "ships", 2))
    every = subjects(Policies(), [product(old), product(newer), product(SOUND, edge(SHIPS))], [])

    before = deprecations(every, datetime(2013, 3, 10, 4, 59, tzinfo=UTC))
    (told,) = deprecations(every, datetime(2013, 3, 10, 5, tzinfo=UTC))

    assert list(before) == []
    assert (told.table, told.level) == (CLEARED, Level.WARNING)
    assert told.broken.wrong == (
        "reads harbour.ships@1, which is deprecated since 2013-03-10, held from 2013-04-01"
    )
    assert told.broken.right == "read harbour.ships@2"


def test_the_readers_of_a_table_whose_last_day_alone_is_set_are_warned_at_once() -> None:
    old = contract(SHIPS, sunset=date(2030, 1, 1))
    every = subjects(Policies(), [product(old), product(SOUND, edge(SHIPS))], [])

    (told,) = deprecations(every, datetime(2013, 3, 10, tzinfo=UTC))

    assert (told.table, told.level) == (CLEARED, Level.WARNING)
    assert told.broken.wrong == "reads harbour.ships@1, which is held from 2030-01-01"


# The file


def written(root: Path, text: str | bytes) -> tuple[Policies, tuple[Fault, ...]]:
    path = root / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_policies(root, ("harbour", "customs"))


def findings(root: Path, text: str, *contracts: Contract) -> list[str]:
    policies, faults = written(root, text)
    assert faults == ()
    every = subjects(policies, [product(each) for each in contracts], [])
    return [f"{f.table.name}: {f.policy.name}: {f.broken.wrong}" for f in judge(policies, every)]


FAULTS: list[tuple[str, bytes | str, list[tuple[int, str, str]]]] = [
    ("no YAML", "policies: {a: [", [(2, "is no YAML", "")]),
    ("no UTF-8", b"policies:\n  b\xff: {}\n", [(2, "is not UTF-8", "write it as UTF-8")]),
    ("empty", "", [(1, "is empty", "write policies: {every_column_described: {}}")]),
    ("a list", "- two_owners\n", [(1, "holds no keys", "write policies")]),
    (
        *("twice", "policies:\n  two_owners: {}\n  two_owners: {}\n"),
        [(3, "'two_owners' is said twice", "say it once")],
    ),
    ("key", "polices: {}\n", [(1, "unknown key 'polices'", "did you mean 'policies'?")]),
    (
        *("policy", "policies:\n  two_owner: {}\n"),
        [(2, "no policy 'two_owner'", "did you mean 'two_owners'?")],
    ),
    (
        *("listed policy", "tiers:\n  1: [sla_statd]\n"),
        [(2, "no policy 'sla_statd'", "did you mean 'sla_stated'?")],
    ),
    (
        *("selector", "policies:\n  two_owners:\n    where: {layr: base}\n"),
        [(3, "unknown selector 'layr'", "did you mean 'layer'?")],
    ),
    (
        *("selected word", "policies:\n  two_owners:\n    where: {layer: bse, domain: harbor}\n"),
        [
            (3, "no domain 'harbor'", "did you mean 'harbour'?"),
            (3, "no layer 'bse'", "did you mean 'base'?"),
        ],
    ),
    (
        *("severity", "policies:\n  two_owners:\n    severity: eror\n"),
        [(3, "no severity 'eror'", "did you mean 'error'?")],
    ),
    (
        *("field", "policies:\n  a:\n    require: {columns.clasification: present}\n"),
        [(3, "unknown field 'columns.clasification'", "did you mean 'columns.classification'?")],
    ),
    (
        *("test", "policies:\n  a:\n    require: {description: presnt}\n"),
        [(3, "unknown test 'presnt'", "did you mean 'present'?")],
    ),
    (
        *("misfit", "policies:\n  a:\n    require: {description: {at_least: 2}}\n"),
        [(3, "description is a text: at_least cannot be asked of it", "ask one of")],
    ),
    (
        *("argument", "policies:\n  a:\n    require: {owners: {at_least: two}}\n"),
        [(3, "at_least of owners is 'two'", "write a number")],
    ),
    (
        *("setting", "policies:\n  edges_wait_for_enough:\n    with: {procent: 90}\n"),
        [(3, "edges_wait_for_enough has no setting 'procent'", "did you mean 'percent'?")],
    ),
    (
        *("message", "policies:\n  two_owners:\n    message: ' '\n"),
        [(3, "the message says nothing", "say why, in a sentence")],
    ),
    (
        *("both", "policies:\n  a:\n    policy: two_owners\n    require: {owner: present}\n"),
        [(3, "a says require and policy", "say one of them")],
    ),
    ("tier", "tiers:\n  high: []\n", [(2, "no tier 'high'", "write 1 (the highest), 2, 3")]),
    ("tier twice", "tiers:\n  1: []\n  +1: []\n", [(3, "1 is said twice", "say it once")]),
    (
        "half a tier",
        "tiers:\n  1.5: []\n",
        [(2, "the key '1.5' is no number", "write 1, or a word")],
    ),
    ("tier of no digit", "tiers:\n  yes: []\n", [(2, "no tier 'yes'", "write 1 (the highest)")]),
    ("a number elsewhere", "policies:\n  1: {}\n", [(2, "the key '1' is no text", "write a word")]),
    (
        *("default", "default_tier: 4\ntiers: {1: [], 2: []}\n"),
        [(1, "no tier 4", "write one of 1, 2")],
    ),
    (
        *("tiers twice", "tiers: {1: [two_owners]}\npolicies: {two_owners: {where: {tier: 1}}}\n"),
        [(2, "the tiers of two_owners are said under tiers too", "say them once")],
    ),
    (
        *("approval", "approved_ignores:\n  - {table: a.b, input: c.d}\n"),
        [(2, "the approval lacks reason", "write {table")],
    ),
    ("canaries", "canaries: policy\n", [(1, "canaries is no list", "write a list")]),
    (
        *("canary", "canaries:\n  - {promote: soon, intervals: 0, were: {}}\n"),
        [
            (2, "intervals is 0", "write a number"),
            (2, "promote is 'soon'", "write approval or policy"),
            (2, "unknown key 'were'", "did you mean 'where'?"),
        ],
    ),
]


@pytest.mark.parametrize(("text", "told"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_fault_of_the_file_is_one_sentence_with_its_line(
    text: bytes | str, told: list[tuple[int, str, str]], tmp_path: Path
) -> None:
    _, faults = written(tmp_path, text)

    assert [fault.path for fault in faults] == [FILE] * len(told)
    for fault, (line, wrong, right) in zip(faults, told, strict=True):
        assert fault.line == line
        assert fault.wrong.startswith(wrong)
        assert fault.right.startswith(right)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    whole = [text for _, text, told in FAULTS if isinstance(text, str) and len(told) == 1][4:9]
    bodies = [line for text in whole for line in text.splitlines() if line.startswith("  ")]
    _, faults = written(tmp_path, "polices: 1\ndefault_tier: x\ntiers:\n  1: [a]\n" + "b: 1\n")

    assert bodies
    assert len(faults) == 4


def test_no_file_is_no_policy(tmp_path: Path) -> None:
    assert read_policies(tmp_path, ()) == (Policies(), ())


def test_a_tier_asks_what_it_lists_and_a_table_without_one_has_the_default(tmp_path: Path) -> None:
    law = "default_tier: 2\ntiers: {1: [two_owners, sla_stated], 2: [sla_stated]}\n"
    poor: dict[str, Any] = {"members": (), "sla": ()}

    assert findings(
        tmp_path, law, contract(SHIPS, **poor), contract(CLEARED, tier=None, **poor)
    ) == [
        "ships: two_owners: names no owners",
        "ships: sla_stated: states no service level",
        "cleared: sla_stated: states no service level",
    ]


def test_a_tier_that_nobody_described_is_no_way_round_the_policies(tmp_path: Path) -> None:
    law = "tiers: {1: [two_owners], 2: []}\n"

    assert findings(tmp_path, law, contract(SHIPS, tier=9), contract(CLEARED, tier=None)) == [
        f"ships: known_tier: states tier 9; {FILE} knows 1, 2",
        f"cleared: known_tier: states no tier; {FILE} knows 1, 2",
    ]


def test_selectors_join_and_exceptions_take_away(tmp_path: Path) -> None:
    law = (
        "policies:\n  two_owners:\n    where: {table: ['harbour.*', customs.cleared], grain: day}\n"
        "    except: {domain: customs}\n"
    )

    assert findings(tmp_path, law, contract(SHIPS, members=()), contract(CLEARED, members=())) == [
        "ships: two_owners: names no owners"
    ]


@pytest.mark.parametrize(
    ("require", "said", "wrong"),
    [
        ("{columns.classification: {in: [internal]}}", {}, "classification of column id is public"),
        ("{columns.name: {like: 'x_*'}}", {}, "name of column id is id"),
        ("{columns.type: {not_in: [INTEGER]}}", {}, "type of column id is INTEGER"),
        ("{owners: {at_least: 3}}", {}, "owners is ann, bob"),
        ("{sla: {contains: retention}}", {}, "sla is latency"),
        ("{tier: {at_most: 0}}", {}, "tier is 1"),
        ("{contact: absent}", {}, "contact is team@tiny.example"),
        ("{owner: {equals: other}, contact: present}", {}, "owner is team"),
        ("{contact: present}", {"owner": Owner("team")}, "contact is not said"),
    ],
)
def test_an_expression_asks_of_whitelisted_fields(
    require: str, said: dict[str, Any], wrong: str, tmp_path: Path
) -> None:
    law = f"policies:\n  own:\n    require: {require}\n"

    assert findings(tmp_path, law, contract(SHIPS, **said)) == [f"ships: own: {wrong}"]


@pytest.mark.parametrize(
    ("canaries", "asked"),
    [
        ("[]", CanaryTerms()),
        ("[{promote: policy}]", CanaryTerms(by_policy=True)),
        ("[{where: {table: customs.*}, promote: policy}]", CanaryTerms()),
        (
            "[{where: {table: harbour.*}, promote: policy, intervals: 3}]",
            CanaryTerms(by_policy=False, intervals=3),
        ),
        (
            "[{promote: policy, intervals: 3}, {where: {table: harbour.a}, intervals: 5}]",
            CanaryTerms(by_policy=False, intervals=5),
        ),
        (
            "[{promote: policy, intervals: 3}, {promote: policy, except: {domain: harbour}}]",
            CanaryTerms(by_policy=True, intervals=3),
        ),
    ],
)
def test_a_canary_needs_the_strictest_that_is_said_of_any_of_its_tables(
    canaries: str, asked: CanaryTerms, tmp_path: Path
) -> None:
    policies, faults = written(tmp_path, f"canaries: {canaries}\n")
    assert faults == ()
    one = product(contract(TableRef("harbour", "a")))
    two = product(replace(contract(TableRef("customs", "b")), product=one.name))
    both = replace(one, marts=(*one.marts, *two.marts))

    assert terms_of(policies, subjects(policies, [both], []), both.id) == asked


def test_a_canary_of_what_is_whole_needs_its_one_interval(tmp_path: Path) -> None:
    policies, _ = written(tmp_path, "canaries: [{promote: policy, intervals: 3}]\n")
    whole = product(replace(contract(SHIPS), grain=Grain.WHOLE))

    asked = terms_of(policies, subjects(policies, [whole], []), whole.id)
    assert asked == CanaryTerms(by_policy=True, intervals=1)


def test_the_reference_mesh_has_policies_without_a_fault() -> None:
    policies, faults = read_policies(ROOT, ("operations", "weather", "fleet", "company"))

    assert faults == ()
    assert {policy.level for policy in policies.policies} == set(Level)


# What is documented


def rows() -> Iterator[str]:
    return iter((ROOT / "docs" / "reference" / "policies.md").read_text().splitlines())


def test_the_reference_names_every_policy_with_its_message_and_settings() -> None:
    told = {row for row in rows() if row.startswith("| `")}
    for name in LIBRARY:
        given = ", ".join(f"`{key}: {value}`" for key, value in settings(name).items())
        assert f"| `{name}` | {message(name)} | {given} |" in told


@pytest.mark.parametrize("known", [FIELDS, TESTS, SELECTORS], ids=["fields", "tests", "selectors"])
def test_the_reference_names_every_field_test_and_selector(known: dict[str, object]) -> None:
    told = {row.split("`")[1] for row in rows() if row.startswith("| `")}
    told = {word for word in told if not word.endswith(":")}

    assert set(known) <= told
    assert told <= {*FIELDS, *TESTS, *SELECTORS, *LIBRARY, "known_tier", "deprecated"}
