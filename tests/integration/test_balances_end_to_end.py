"""Balances as of midnight on a mesh: a snapshot taken late, computed back by macro and by rule."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tiny import contract, mesh
from workspace import Workspace

import levada

pytestmark = [pytest.mark.integration, pytest.mark.prove]

DAYS = ("2013-03-08", "2013-03-09", "2013-03-10", "2013-03-11")
MACRO = Path(levada.__file__).parent / "adapters" / "dbt" / "macros" / "balances_at.sql"
BALANCES = {"account": "VARCHAR", "day": "DATE", "balance": "INTEGER"}
SNAPSHOT = {**BALANCES, "taken_at": "TIMESTAMPTZ"}
MOVEMENTS = {
    "account": "VARCHAR",
    "day": "DATE",
    "amount": "INTEGER",
    **dict.fromkeys(("effective_at", "recorded_at", "reversed_at"), "TIMESTAMPTZ"),
}
LANDED = {"snapshot": SNAPSHOT, "movements": MOVEMENTS, "closing": BALANCES}
RULE = """\
batch: bank
grain: day
owner: governance
description: What the bank says that its accounts held at midnight is what they held.
rules:
  - id: closing_balances
    kind: balances
    description: The closing balances are the snapshot of 00:07, computed back.
    snapshot: {table: bank.snapshot, key: [account], values: [balance], taken: taken_at}
    of: {table: bank.closing, key: [account], values: [balance]}
    movements: {table: bank.movements, key: [account], amount: amount, effective: effective_at,
                recorded: recorded_at, reversed: reversed_at}
    reach: 1
"""
OPENING = """\
{{ config(meta={'levada': {'inputs': {
    'bank.snapshot': {'mapping': {'lag': 1}}, 'bank.movements': {'mapping': {'trailing': 2}}}}}) }}
{%- set day = "(select max(day) + 1 from " ~ ref('bank', 'snapshot') ~ ")" %}
select account, cast({{ day }} as date) as day, cast(balance as integer) as balance
from (
    {{ balances_at("cast(" ~ day ~ " as timestamptz)", ref('bank', 'snapshot'),
                   ref('bank', 'movements'), ['account'], reversed='reversed_at') }}
)
"""

# What moved on the 9th, as it was recorded that day and the next one until the snapshot of 00:07.
NINTH = [
    "a,2013-03-09,100,2013-03-09 10:00,2013-03-09 10:00,",
    "b,2013-03-09,50,2013-03-09 12:00,2013-03-09 12:00,2013-03-10 00:05",  # reversed before it
    "c,2013-03-09,9,2013-03-09 11:00,2013-03-09 11:00,2013-03-10 15:00",  # reversed after it
]
TENTH = [
    "c,2013-03-10,30,2013-03-09 23:50,2013-03-10 00:20,",  # late
    "a,2013-03-10,7,2013-03-10 00:03,2013-03-10 00:04,",  # of the 10th, and in the snapshot
    "b,2013-03-10,20,2013-03-09 08:00,2013-03-10 09:00,",  # back-dated
]
SHOWN = {"a": 107, "b": 0, "c": 9}
TRUE = {"a": 100, "b": 20, "c": 30}


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A bank lands snapshots, movements and closing balances; a desk computes opening ones."""
    workspace = mesh(tmp_path_factory.mktemp("bank"), ["bank", "desk"], last=DAYS[-1])
    for name, columns in LANDED.items():
        promised(workspace, "bank", name, columns)
    promised(workspace, "desk", "opening", BALANCES)
    for domain in ("bank", "desk"):
        base = workspace.root / "models" / domain / "base"
        base.mkdir(parents=True)
        (base.parent / "dbt_project.yml").write_text(
            f"name: {domain}\nversion: '1.0.0'\nconfig-version: 2\nprofile: levada\n"
            f"model-paths: [base]\nmacro-paths: [macros]\n"
            f"models: {{{domain}: {{+materialized: table}}}}\n"
        )
    tables = ""
    for name, columns in LANDED.items():
        named = ", ".join(f"{{name: {column}}}" for column in columns)
        levada_ = (
            f"zone: numbers, files: 'bank/{name}/{{start:%Y-%m-%d}}.csv', grain: day,"
            " calendar: UTC, owner: bank-source"
        )
        tables += f"      - name: {name}\n        config: {{meta: {{levada: {{{levada_}}}}}}}\n"
        tables += f"        columns: [{named}]\n"
        listed = "\n    , ".join(f"try_cast({c} as {kind}) as {c}" for c, kind in columns.items())
        model = workspace.root / "models" / "bank" / "base" / f"{name}.sql"
        model.write_text(f"select {listed}\nfrom {{{{ source('landing', '{name}') }}}}\n")
    sources = workspace.root / "models" / "bank" / "base" / "sources.yml"
    sources.write_text(f"sources:\n  - name: landing\n    tables:\n{tables}")
    macros = workspace.root / "models" / "desk" / "macros"
    macros.mkdir()
    shutil.copy(MACRO, macros)
    (workspace.root / "models" / "desk" / "base" / "opening.sql").write_text(OPENING)
    rules = workspace.root / "contracts" / "governance" / "consistency" / "bank.yaml"
    rules.parent.mkdir(parents=True)
    rules.write_text(RULE)

    for day in DAYS[:3]:
        land(workspace, "movements", day, {DAYS[1]: NINTH, DAYS[2]: TENTH}.get(day, []))
    land(
        workspace,
        "snapshot",
        DAYS[1],
        [f"{a},{DAYS[1]},{b},{DAYS[2]} 00:07" for a, b in SHOWN.items()],
    )
    closing(workspace, TRUE)
    workspace.start()
    yield workspace
    workspace.stop()


def promised(bank: Workspace, domain: str, name: str, columns: dict[str, str]) -> None:
    """A contract in which an amount and a reversal may be missing, and a day may be empty."""
    few = "{id: few, metric: rowCount, mustBeLessThan: 1000}"
    path = contract(bank, domain, name, columns, quality=few)
    text = path.read_text().replace(
        "TIMESTAMPTZ, logicalType: string", "TIMESTAMPTZ, logicalType: timestamp"
    )
    for column in ("amount", "reversed_at"):
        text = "\n".join(
            line.replace("required: true", "required: false")
            if f"name: {column}," in line
            else line
            for line in text.split("\n")
        )
    path.write_text(text)


def land(bank: Workspace, table: str, day: str, rows: Sequence[str]) -> None:
    path = bank.landing / "bank" / table / f"{day}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    arriving = path.with_suffix(".part")
    arriving.write_text("\n".join([",".join(LANDED[table]), *rows, ""]))
    arriving.replace(path)


def closing(bank: Workspace, balances: dict[str, int]) -> None:
    """What the bank says of the midnight after the 9th."""
    land(bank, "closing", DAYS[1], [f"{a},{DAYS[1]},{b}" for a, b in balances.items()])


def verdict(bank: Workspace) -> tuple[str, str, list[str]]:
    """What the rule says of the 9th: verdict, why, and the accounts with an open break."""
    bank.levada("run", code=None)
    bank.levada("consistency", "run", code=None)
    (report,) = (r for r in bank.json("consistency", "report") if r["partition"] == DAYS[1])
    (rule,) = report["rules"]
    open_ = [each["key"]["account"] for each in bank.json("breaks", "list")]
    return rule["verdict"], rule["because"], open_


def opening(bank: Workspace) -> dict[str, int]:
    with bank.lake() as lake:
        sql = "select account, balance from desk.main.opening_v1 where day = ? order by 1"
        return {str(r["account"]): int(str(r["balance"])) for r in lake.read(sql, [DAYS[2]])}


def test_reversed_back_dated_and_late_rows_come_out_as_at_midnight(bank: Workspace) -> None:
    assert verdict(bank)[0] == "PASS"
    assert opening(bank) == TRUE


def test_a_balance_that_is_off_by_one_is_a_break_of_its_account(bank: Workspace) -> None:
    closing(bank, {**TRUE, "b": 21})
    said, _, accounts = verdict(bank)
    assert (said, accounts) == ("FAIL", ["b"])


def test_a_row_that_comes_later_still_is_taken_into_account(bank: Workspace) -> None:
    late = "b,2013-03-10,1,2013-03-09 07:00,2013-03-10 20:00,"
    land(bank, "movements", DAYS[2], [*TENTH, late])
    said, _, accounts = verdict(bank)
    assert (said, accounts) == ("PASS", [])
    assert opening(bank)["b"] == 21


def test_movements_that_are_incomplete_are_unknown_and_neither_pass_nor_fail(
    bank: Workspace,
) -> None:
    land(bank, "movements", DAYS[2], [*TENTH, "b,2013-03-10,,2013-03-09 07:00,2013-03-10 20:00,"])
    said, because, accounts = verdict(bank)
    assert (said, accounts) == ("UNKNOWN", [])
    assert "a movement is incomplete: it lacks amount" in because
    assert opening(bank)["b"] == 21, "what cannot be computed is not published"
    ((state, why),) = bank.rows("select verdict, because from ledger.attempts")
    assert (state, "it lacks amount" in why) == ("UNKNOWN", True)


def test_a_day_that_has_not_landed_is_unknown(bank: Workspace) -> None:
    land(bank, "snapshot", DAYS[2], [f"a,{DAYS[2]},107,{DAYS[3]} 00:07"])
    land(bank, "closing", DAYS[2], [f"a,{DAYS[2]},107"])
    bank.levada("run", code=None)
    bank.levada("consistency", "run", code=None)
    (report,) = (r for r in bank.json("consistency", "report") if r["partition"] == DAYS[2])
    (rule,) = report["rules"]
    assert (rule["verdict"], f"bank.movements@1 {DAYS[3]}" in rule["because"]) == ("UNKNOWN", True)
