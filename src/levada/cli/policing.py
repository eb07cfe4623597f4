"""`levada policy list` and `levada policy explain`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from levada.cli import output
from levada.errors import DeclarationError, Fault
from levada.flow.governing import Governed
from levada.govern.policies import Finding, Policy, Subject
from levada.govern.policy_library import LIBRARY, message, settings
from levada.settings import find_root, nearest, read_settings

__all__ = ["explain", "list_"]


def list_(project: Path | None, *, as_json: bool) -> int:
    """Every policy that is in force, with its reach and what it finds."""
    law = _law(project)
    counted = Counter(finding.policy.name for finding in law.findings)
    rows = [_row(policy, law, counted) for policy in law.policies.every]
    if as_json:
        output.print_json(rows)
        return 0
    if not rows:
        output.console.print("no policies: contracts/governance/policies.yaml says none")
        return 0
    table = Table(box=None, pad_edge=False)
    for heading, justify in (("policy", "left"), ("severity", "left"), ("holds for", "left")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    table.add_column("tables", justify="right")
    table.add_column("finds", justify="right")
    for row in rows:
        found = Text(str(row["findings"]), style=_style(row) if row["findings"] else "dim")
        words = (str(row["policy"]), str(row["severity"]), str(row["where"]), str(row["tables"]))
        table.add_row(*(Text(word) for word in words), found)
    output.console.print(table)
    return 0


def _style(row: dict[str, Any]) -> str:
    return "red" if row["severity"] == "error" else "yellow"


def _row(policy: Policy, law: Governed, counted: Counter[str]) -> dict[str, Any]:
    return {
        "policy": policy.name,
        "severity": policy.level.value,
        "where": policy.reach,
        "asks": policy.asks or policy.message,
        "message": policy.message,
        "tables": sum(policy.concerns(subject) for subject in law.subjects),
        "findings": counted[policy.name],
        "line": policy.line,
    }


def explain(project: Path | None, name: str, table: str | None, *, as_json: bool) -> int:
    """Why there is a policy, where it holds, what satisfies it; of a table, what it found."""
    law = _law(project)
    policy = next((p for p in law.policies.every if p.name == name), None)
    if policy is None:
        return _of_the_library(name, law, as_json=as_json)
    subject = _subject(table, law) if table else None
    findings = [f for f in law.findings if f.policy.name == name]
    if subject is not None:
        findings = [f for f in findings if f.table == subject.mart.table]
    if as_json:
        row = _row(policy, law, Counter(f.policy.name for f in law.findings))
        row["found"] = [_found(f) for f in findings]
        if subject is not None:
            row |= {"table": str(subject.mart.table), "concerns": policy.concerns(subject)}
        output.print_json(row)
        return 0
    say = output.console.print
    say(Text(f"{policy.name} ({policy.level.value})", style="bold"))
    say(Text(policy.message))
    say(Text(f"asks: {policy.asks}" if policy.asks else ""), end="\n" if policy.asks else "")
    say(Text(f"holds for: {policy.reach}"))
    if subject is not None and not policy.concerns(subject):
        say(Text(f"{subject.mart.table} is none of these (tier {subject.tier})"))
    elif not findings:
        say(Text(f"{table or 'every one'} keeps it", style="green"))
    for each in findings:
        right = f"; {each.broken.right}" if each.broken.right else ""
        say(Text(f"{each.table} {each.broken.wrong}{right}"))
    return 0


def _found(finding: Finding) -> dict[str, object]:
    broken = finding.broken
    return {"table": str(finding.table), "wrong": broken.wrong, "right": broken.right}


def _of_the_library(name: str, law: Governed, *, as_json: bool) -> int:
    """A policy that is there to be named, and that nobody has named."""
    if name not in LIBRARY:
        right = nearest(name, {*LIBRARY, *(p.name for p in law.policies.every)})
        raise DeclarationError((Fault("NAME", 0, f"no policy {name!r}", right),))
    given = dict(settings(name))
    if as_json:
        output.print_json({"policy": name, "message": message(name), "with": given, "tables": 0})
        return 0
    output.console.print(Text(name, style="bold"))
    output.console.print(Text(message(name)))
    if given:
        output.console.print(Text(f"with: {given}"))
    output.console.print("of the library, and named in no policies.yaml: it holds for no table")
    return 0


def _subject(table: str, law: Governed) -> Subject:
    named = {str(subject.mart.table): subject for subject in law.subjects}
    named |= {key.removesuffix("@1"): subject for key, subject in named.items()}
    if table not in named:
        wrong = f"no published table is called {table!r}"
        raise DeclarationError((Fault("TABLE", 0, wrong, nearest(table, named)),))
    return named[table]


def _law(project: Path | None) -> Governed:
    """The policies judged over the declarations as they are, of domains with a fault too."""
    from levada.adapters.dbt.workers import DbtWorkers
    from levada.flow import declaring

    settings_ = read_settings(find_root(project))
    with DbtWorkers() as workers, output.errors.status("reading contracts and dbt projects"):
        return declaring.law(settings_, workers)
