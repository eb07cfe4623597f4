"""A batch over a real mesh: run, reported once, killed in the middle, mended, breaks closed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from merged import approvers, repository
from tiny import NUMBERS, contract, landed, mesh, model, project
from workspace import Workspace

from levada import compiled
from levada.flow import consistency
from levada.settings import read_settings

pytestmark = pytest.mark.integration

DAYS = ("2013-03-08", "2013-03-09", "2013-03-10")
RULES = """\
batch: daily
grain: day
owner: governance
description: The shop sells what the store holds.
rules:
  - id: adds_up
    kind: totals
    description: The shop's amounts are the store's.
    owner: shop-data
    left: {table: store.numbers, by: [id], values: [amount]}
    right: {table: shop.numbers, by: [id], values: [amount]}
  - id: small
    kind: sql
    description: No amount is above a hundred.
    key: [id]
    query: select id, amount from shop.numbers where amount > 100
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A store and a shop that each land their numbers; on the second day one differs."""
    workspace = mesh(tmp_path_factory.mktemp("batches"), ["store", "shop"], last=DAYS[-1])
    for domain in ("store", "shop"):
        contract(workspace, domain, "numbers")
        project(workspace, domain, lands=True)
        source = "{{ source('landing', 'numbers') }}"
        model(workspace, domain, "numbers", f"select {NUMBERS}\nfrom {source}")
        for day in DAYS:
            landed(workspace, domain, day, [1, 2, 200])
    landed(workspace, "shop", DAYS[1], [1, 3, 200])
    rules = workspace.root / "contracts" / "governance" / "consistency" / "daily.yaml"
    rules.parent.mkdir(parents=True)
    rules.write_text(RULES)
    workspace.start()
    workspace.levada("run")
    yield workspace
    workspace.stop()


def reported(shop: Workspace) -> list[tuple[Any, ...]]:
    return shop.rows(
        "select key, verdict, passed, failed, unknown from ledger.reports order by pos"
    )


def breaks(shop: Workspace, *words: str) -> list[tuple[str, str, str]]:
    said = shop.json("breaks", "list", *words)
    return [(b["rule"], b["partition"], b["key"]["id"]) for b in said]


def test_a_dry_run_names_the_intervals_and_writes_nothing(shop: Workspace) -> None:
    said = shop.json("consistency", "run", "--dry-run")

    assert [(s["partition"], s["rules"]) for s in said] == [(d, ["adds_up", "small"]) for d in DAYS]
    assert reported(shop) == []


def test_killed_in_the_middle_it_goes_on_and_reports_each_interval_once(shop: Workspace) -> None:
    shop.killed_at("before a report", "consistency", "run")
    assert reported(shop) == []
    shop.killed_at("after a report", "consistency", "run")
    assert [row[0] for row in reported(shop)] == [DAYS[0]]

    said = shop.json("consistency", "run", code=1)

    assert [s["partition"] for s in said] == list(DAYS[1:])
    assert reported(shop) == [
        (DAYS[0], "WARN", 1, 1, 0),
        (DAYS[1], "WARN", 0, 2, 0),
        (DAYS[2], "WARN", 1, 1, 0),
    ]
    assert shop.json("consistency", "run") == []


def test_great_expectations_answer_stands_in_the_report(shop: Workspace) -> None:
    (second,) = [r for r in shop.json("consistency", "report") if r["partition"] == DAYS[1]]

    (adds_up, small) = second["rules"]
    assert adds_up["told"] == {
        "expectation": "unexpected_rows_expectation",
        "success": False,
        "observed_value": 1,
    }
    assert (adds_up["compared"], small["cases"]) == (3, 1)


def test_every_offending_key_is_a_break_with_its_owner_and_figures(shop: Workspace) -> None:
    assert breaks(shop, "--rule", "daily.adds_up") == [("daily.adds_up", DAYS[1], "1")]
    (one,) = shop.json("breaks", "list", "--rule", "daily.adds_up")
    assert one["figures"] == {
        "amount store.numbers": "2",
        "amount shop.numbers": "3",
        "only in": None,
    }
    assert (one["owner"], one["state"], one["times"]) == ("shop-data", "open", 1)


def test_a_break_is_assigned_and_resolved_as_governance(shop: Workspace) -> None:
    one = shop.json("breaks", "list", "--rule", "daily.small")[0]["break"]

    shop.levada("breaks", "assign", one, "--to", "ines")
    shop.levada("breaks", "resolve", one, "--reason", "a bulk order", "--by", "ines", "--dry-run")
    assert len(breaks(shop, "--rule", "daily.small")) == 3
    shop.levada("breaks", "resolve", one, "--reason", "a bulk order", "--by", "ines")

    assert len(breaks(shop, "--rule", "daily.small")) == 2
    (kept,) = [b for b in shop.json("breaks", "list", "--all") if b["break"] == one]
    assert (kept["owner"], kept["resolution"], kept["resolved_by"]) == (
        *("ines", "a bulk order", "ines"),
    )
    shop.levada("breaks", "resolve", "abcdef012345", "--reason", "x", code=2)


def restated(shop: Workspace) -> list[tuple[str, str]]:
    """What the reconciler finds to compare again."""
    settings = read_settings(shop.root)
    mesh = compiled.load(settings)
    batches = consistency.declared_batches(settings, mesh)
    with consistency.bench(settings, mesh, shop.credentials, batches) as bench:
        found = consistency.restated(bench, batches)
    return [(batch.id, partition.key) for batch, partition in found]


def test_mended_data_is_compared_anew_and_closes_its_break(shop: Workspace) -> None:
    landed(shop, "shop", DAYS[1], [1, 2, 200])
    before = len(reported(shop))
    assert restated(shop) == []
    shop.levada("run")
    assert restated(shop) == [("daily", DAYS[1])]

    said = shop.json("consistency", "run", code=1)
    assert restated(shop) == []

    assert [s["partition"] for s in said] == [DAYS[1]]
    assert len(reported(shop)) == before + 1
    assert breaks(shop, "--rule", "daily.adds_up") == []
    (closed,) = shop.json("breaks", "list", "--all", "--rule", "daily.adds_up")
    assert (closed["state"], closed["resolution"]) == ("closed", "no longer found")


def test_an_input_that_is_late_or_failed_is_unknown_and_neither_passes_nor_fails(
    shop: Workspace,
) -> None:
    landed(shop, "store", DAYS[2], ["", 2, 200])  # a NULL where one is promised
    shop.levada("run", code=1)

    (said,) = shop.json("consistency", "run", code=1)

    adds_up, small = said["rules"]
    assert (adds_up["verdict"], small["verdict"]) == ("UNKNOWN", "FAIL")
    assert adds_up["because"].startswith(f"store.numbers@1 {DAYS[2]} is FAILED")
    assert said["verdict"] == "WARN"


def test_a_faulty_rule_stops_its_batches_with_path_and_line(shop: Workspace) -> None:
    rules = shop.root / "contracts" / "governance" / "consistency" / "daily.yaml"
    rules.write_text(RULES.replace("amount > 100", "amont > 100"))

    for command in (("consistency", "run"), ("check",)):
        done = shop.levada(*command, code=2)
        assert "contracts/governance/consistency/daily.yaml:16" in done.stderr
    rules.write_text(RULES)
    assert shop.levada("check").returncode == 0
    assert shop.levada("ledger", "verify").returncode == 0


# A rule that flags nearly everything since it was changed


@pytest.mark.prove
def test_a_changed_rule_that_floods_is_suspended_and_comes_back_by_review(shop: Workspace) -> None:
    approvers(shop, "{username: ines, domains: [all]}")
    rules = shop.root / "contracts" / "governance" / "consistency" / "daily.yaml"
    for domain in ("store", "shop"):
        landed(shop, domain, DAYS[0], range(30))
    shop.levada("run", code=None)
    shop.levada("consistency", "run", code=None)
    opened = len(breaks(shop))
    doubled = "right: {table: shop.numbers, by: [id], values: {amount: sum(amount) + 1}}"
    rules.write_text(
        RULES.replace("right: {table: shop.numbers, by: [id], values: [amount]}", doubled)
    )
    shop.levada("check")
    repository(shop)

    said = shop.json("consistency", "run", "--to", DAYS[0], code=1)

    (flooded,) = [r for r in said[0]["rules"] if r["rule"] == "adds_up"]
    assert (flooded["verdict"], flooded["offences"]) == ("UNKNOWN", [])
    assert "30 of 30 rows or groups of 2013-03-08" in flooded["because"]
    assert "suspended: adds_up" in said[0]["summary"]
    assert len(breaks(shop)) == opened
    assert shop.json("consistency", "run", "--to", DAYS[0]) == []
    for told in (("status",), ("consistency", "report"), ("doctor",)):
        out = " ".join(shop.levada(*told, code=None).stdout.split())
        assert "daily.adds_up (shop-data) is suspended since" in out, told
    assert [s["suspended"] for s in shop.json("consistency", "run", "--dry-run")] == [
        ["adds_up"]
    ] * 2

    review = ("consistency", "review", "daily.adds_up", "--commit", "HEAD", "--reason", "ok")
    refused = shop.levada(*review, "--reviewer", "joe", code=2).stderr
    assert "joe wrote it" in refused
    shop.levada(*review, "--reviewer", "ines", "--dry-run")
    assert shop.rows("select state from ledger.rule_guards") == [("suspended",)]
    shop.levada(*review, "--reviewer", "ines")
    assert "reviewed already" in shop.levada(*review, "--reviewer", "ines").stdout

    shop.levada("consistency", "run", "--to", DAYS[0], code=1)
    assert len(breaks(shop)) == opened + 30
    assert shop.levada("ledger", "verify").returncode == 0
    mended(shop)


def mended(shop: Workspace) -> None:
    """The first day as it was, and the rules."""
    for domain in ("store", "shop"):
        landed(shop, domain, DAYS[0], [1, 2, 200])
    shop.levada("run", code=None)
    (shop.root / "contracts" / "governance" / "consistency" / "daily.yaml").write_text(RULES)


@pytest.mark.prove
def test_a_disaster_that_an_unchanged_rule_sees_too_is_not_muted(shop: Workspace) -> None:
    rules = shop.root / "contracts" / "governance" / "consistency" / "daily.yaml"
    right = "right: {table: shop.numbers, by: [id], values: "
    rules.write_text(RULES.replace(f"{right}[amount]}}", f"{right}{{amount: sum(amount) + 0}}}}"))
    landed(shop, "store", DAYS[0], range(30))
    landed(shop, "shop", DAYS[0], [n + 1000 for n in range(30)])
    shop.levada("run", code=None)

    said = shop.json("consistency", "run", "--to", DAYS[0], code=1)

    assert [r["verdict"] for r in said[0]["rules"]] == ["FAIL", "FAIL"]
    mended(shop)


@pytest.mark.prove
def test_a_disaster_that_a_rule_of_another_batch_sees_is_not_muted(shop: Workspace) -> None:
    folder = shop.root / "contracts" / "governance" / "consistency"
    head, _, small = RULES.partition("  - id: small")
    other = head.replace("batch: daily", "batch: other").partition("  - id:")[0]
    huge = f"  - id: huge{small}".replace("> 100", "> 500")
    (folder / "other.yaml").write_text(other + huge)
    shop.levada("consistency", "run", "other")
    right = "right: {table: shop.numbers, by: [id], values: "
    (folder / "daily.yaml").write_text(
        head.replace(f"{right}[amount]}}", f"{right}{{amount: sum(amount) + 0.0}}}}")
    )
    landed(shop, "store", DAYS[0], range(30))
    landed(shop, "shop", DAYS[0], [n + 1000 for n in range(30)])
    shop.levada("run", code=None)

    (said,) = shop.json("consistency", "run", "daily", "--to", DAYS[0], code=1)

    assert [(r["rule"], r["verdict"]) for r in said["rules"]] == [("adds_up", "FAIL")]
    (folder / "other.yaml").unlink()
    mended(shop)


# The same rule as a gate


def gate(shop: Workspace) -> None:
    rules = shop.root / "contracts" / "governance" / "consistency" / "daily.yaml"
    owner = "    owner: shop-data\n"
    rules.write_text(
        RULES.replace(owner, f"{owner}    severity: blocking\n    guards: shop.numbers\n")
    )


def test_a_gate_withholds_what_differs_and_why_names_rule_key_and_figures(shop: Workspace) -> None:
    gate(shop)
    landed(shop, "store", DAYS[2], [1, 2, 200])
    landed(shop, "shop", DAYS[0], [1, 5, 200])
    lines = "select count(*) from ledger.publications where table_name = 'shop.numbers@1'"
    before = shop.rows(lines)

    said = shop.json("run", code=1)

    assert [(w["product"], w["partition"], w["verdict"]) for w in said["withheld"]] == [
        ("shop.numbers", DAYS[0], "FAIL")
    ]
    assert said["withheld"][0]["because"].endswith("FAIL: daily.adds_up of shop.numbers@1")
    told = shop.json("why", "shop.numbers", DAYS[0])
    (check,) = told["causes"][0]["checks"]
    assert (check["id"], check["count"]) == ("daily.adds_up", 1)
    assert '"amount store.numbers":"2","amount shop.numbers":"5"' in check["rows"][0]
    assert shop.rows(lines) == before


@pytest.mark.prove
def test_data_that_is_mended_passes_its_gate(shop: Workspace) -> None:
    landed(shop, "shop", DAYS[0], [2, 2, 200])
    landed(shop, "store", DAYS[0], [2, 2, 200])

    shop.levada("run")

    assert shop.json("why", "shop.numbers", DAYS[0])["state"] == "READY"
    assert ("adds_up", "PASS") in [
        (r["rule"], r["verdict"])
        for report in shop.json("consistency", "run", code=1)
        for r in report["rules"]
    ]


@pytest.mark.prove
def test_what_a_gate_said_is_a_verdict_though_nobody_runs_its_batch(shop: Workspace) -> None:
    rules = shop.root / "contracts" / "governance" / "consistency" / "daily.yaml"
    text = rules.read_text().replace("id: adds_up", "id: passes").replace("id: small", "id: idle")
    rules.write_text(text.replace("rules:\n", "guard: {dead_after: 1}\nrules:\n"))
    for domain in ("store", "shop"):
        landed(shop, domain, DAYS[-1], [4, 5])
    shop.levada("run")

    said = shop.levada("consistency", "report").stdout

    assert "daily.idle (governance) is dead" in said
    assert "daily.passes" not in said
    gate(shop)


@pytest.mark.prove
def test_what_a_gate_compares_is_waited_for_and_plan_and_why_name_the_rule(shop: Workspace) -> None:
    settings = shop.root / "levada.yaml"
    settings.write_text(settings.read_text().replace("2013-03-10", "2013-03-11"))
    landed(shop, "shop", "2013-03-11", [1, 2, 3])

    plan = shop.json("run", "--dry-run")

    (step,) = [s for s in plan if s["product"] == "shop.numbers"]
    assert "store.numbers@1 2013-03-11" in step["because"]
    assert "(for the rule daily.adds_up)" in step["because"]
    shop.levada("run")
    (cause,) = shop.json("why", "shop.numbers", "2013-03-11")["causes"]
    assert (cause["table"], cause["rules"]) == ("store.landing.numbers", ["daily.adds_up"])
    why = shop.levada("why", "shop.numbers", "2013-03-11").stdout
    assert "store.landing.numbers" in why
    assert "for the rule daily.adds_up" in why


@pytest.mark.prove
def test_a_file_of_gates_with_a_fault_stops_what_it_may_guard_and_nobody_else(
    shop: Workspace,
) -> None:
    rules = shop.root / "contracts" / "governance" / "consistency" / "daily.yaml"
    rules.write_text(rules.read_text().replace("values: [amount]", "values: [amont]"))

    done = shop.levada("run", code=2)

    assert "daily.yaml:12: no column 'amont'; did you mean 'amount'?" in done.stderr
    shop.levada("run", "store")
    assert shop.levada("run", "shop", code=2).returncode == 2


# What a model would change, before it is run


@pytest.mark.prove
def test_a_changed_model_is_rehearsed_and_nothing_is_written(shop: Workspace) -> None:
    (shop.root / "contracts" / "governance" / "consistency" / "daily.yaml").write_text(RULES)
    more = NUMBERS.replace("try_cast(amount as INTEGER)", "try_cast(amount as INTEGER) + 1")
    assert more != NUMBERS
    model(shop, "store", "numbers", f"select {more}\nfrom {{{{ source('landing', 'numbers') }}}}")
    before = shop.publications(), shop.rows("select max(pos) from ledger.entries")

    said = shop.json("verify-write", "store.numbers", "--interval", DAYS[0])

    found = said["tables"]["store.numbers@1"]
    assert (found["identical"], found["added"], found["removed"]) == (False, 3, 3)
    assert found["checksum"] != "none"
    assert (shop.publications(), shop.rows("select max(pos) from ledger.entries")) == before
    again = shop.json("verify-write", "store.numbers", "--interval", DAYS[0])
    assert again["tables"]["store.numbers@1"]["checksum"] == found["checksum"]
    refused = shop.levada("verify-write", "store.numbers", "--interval", "2013-03-12", code=2)
    assert "2013-03-12" in refused.stderr
    lacking = shop.levada("verify-write", "store.numbers", code=2).stderr
    assert "which one is not said" in lacking
