"""`levada consistency` and `levada breaks`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from rich.table import Table
from rich.text import Text

from levada import compiled
from levada.cli import output
from levada.cli.approving import Review
from levada.cli.spans import span_of
from levada.errors import DeclarationError, Fault
from levada.flow import consistency as batches
from levada.flow import guarding
from levada.flow import platform as opening
from levada.ledger.findings import Findings, Reported
from levada.settings import find_root, read_settings
from levada.terms import Batch, Break, BreakState, Report, Span, Verdict

__all__ = ["assign", "list_breaks", "report", "resolve", "review", "run"]

_STYLES = {
    Verdict.PASS: "green",
    Verdict.WARN: "yellow",
    Verdict.FAIL: "red",
    Verdict.UNKNOWN: "magenta",
}
_STATES = {
    BreakState.OPEN: "red",
    BreakState.RESOLVED: "yellow",
    BreakState.CLOSED: "green",
}
Days = tuple[str | None, str | None]


def run(
    project: Path | None, batch: str | None, days: Days, *, dry_run: bool, as_json: bool
) -> int:
    """Run what is not reported as it stands; 1 if a rule failed or could not be told."""
    settings = read_settings(find_root(project))
    span = span_of(settings, days)
    mesh = compiled.load(settings)
    declared = batches.declared_batches(settings, mesh)
    wanted = batches.chosen(declared, (batch,) if batch is not None else ())
    with (
        opening.services(settings) as credentials,
        batches.bench(settings, mesh, credentials, declared) as bench,
    ):
        if dry_run:
            return _dry(bench, wanted, span, as_json=as_json)
        made = batches.run(bench, wanted, span, lambda r, _: None if as_json else _line(r))
    if as_json:
        output.print_json([_report_json(each) for each in made])
    elif made:
        failed = sum(each.count(Verdict.FAIL) for each in made)
        unknown = sum(each.count(Verdict.UNKNOWN) for each in made)
        rules = sum(len(each.results) for each in made)
        output.console.print(
            f"{len(made)} reports of {rules} rules: {failed} failed, {unknown} not told, "
            f"{sum(each.seconds for each in made):.1f} s"
        )
    else:
        output.console.print("nothing to report: all is reported as it stands", style="dim")
    return 0 if all(each.verdict is Verdict.PASS for each in made) else 1


def _dry(bench: batches.Bench, wanted: Sequence[Batch], span: Span, *, as_json: bool) -> int:
    found, _ = batches.pending(bench, wanted, span)
    dues = [due for due, new in found if new]
    if as_json:
        output.print_json(
            [
                {
                    "batch": due.batch.id,
                    "partition": due.partition.key,
                    "rules": [each.rule.id for each in due.rules if each.told],
                    "not_told": {e.rule.id: e.because for e in due.rules if e.because},
                    "suspended": [e.rule.id for e in due.rules if e.mark],
                }
                for due in dues
            ]
        )
        return 0
    for due in dues:
        untold = [each for each in due.rules if not each.told]
        first = untold[0].because or str(untold[0].mark) if untold else ""
        said = f", {len(untold)} not told: {first}" if untold else ""
        rules = len(due.rules) - len(untold)
        output.console.print(f"{due.batch.id:<24} {due.partition.key:<15} {rules} rules{said}")
    output.console.print(f"{len(dues)} intervals to report; nothing was changed", style="dim")
    return 0


def _line(each: Report) -> None:
    head = Text.assemble(
        f"{each.batch:<24} {each.partition.key:<15} ",
        (f"{each.verdict.value:<7}", _STYLES[each.verdict]),
        f" {each.summary}",
    )
    output.console.print(head)


def _report_json(each: Report) -> dict[str, object]:
    return {
        "batch": each.batch,
        "partition": each.partition.key,
        "verdict": each.verdict.value,
        "cases": each.cases,
        "summary": each.summary,
        "seconds": round(each.seconds, 3),
        "rules": [
            {
                "rule": r.rule.id,
                "severity": r.rule.severity.value,
                "verdict": r.verdict.value,
                "because": r.because,
                "cases": r.cases,
                "compared": r.compared,
                "offences": [
                    {"key": json.loads(o.key), "figures": json.loads(o.figures)}
                    for o in r.offences[:20]
                ],
            }
            for r in each.results
        ],
    }


def report(project: Path | None, batch: str | None, days: Days, *, as_json: bool) -> int:
    """The newest report of each interval; 0 whatever it says."""
    settings = read_settings(find_root(project))
    span = span_of(settings, days)
    with (
        opening.services(settings) as credentials,
        batches.findings(credentials, "levada_runner") as found,
    ):
        reports = found.reports(batch, span.start, span.end)
        declared, unknown = guarding.declared(settings)
        wanted = [b for b in declared if batch in (None, b.id)]
        with opening.ledger(credentials, "levada_runner") as runner:
            mesh = compiled.load(settings) if wanted else None
            rules = guarding.asleep(mesh, wanted, runner, found, opening.now()) if mesh else ()
    if as_json:
        output.print_json([_kept_json(each) for each in reports])
        return 0
    for each in reports:
        output.console.print(
            Text.assemble(
                f"{each.batch:<24} {each.partition.key:<15} ",
                (f"{each.verdict.value:<7}", _STYLES[each.verdict]),
                f" {each.summary}; {each.seconds:.2f} s",
            )
        )
        for result in each.results:
            if result["verdict"] != Verdict.PASS.value:
                output.console.print(
                    Text(f"  {result['rule']} ({result['severity']}): {result['because']}", "dim")
                )
    if not reports:
        output.console.print("none", style="dim")
    for rule in rules:
        output.console.print(Text(str(rule), "bold red" if rule.overdue else "yellow"))
    if unknown:
        output.console.print(Text(unknown, "yellow"))
    return 0


def review(project: Path | None, name: str, given: Review, *, dry_run: bool) -> int:
    """Let a rule that was suspended or held be, as it is written now, as governance."""
    settings = read_settings(find_root(project))
    mesh = compiled.load(settings)
    rule = guarding.named(batches.declared_batches(settings, mesh), name)
    if not given.reason.strip():
        right = "say why what it flags is right"
        raise DeclarationError((Fault("--reason", 0, "says nothing", right),))
    approval = guarding.approved(
        *(settings, rule),
        reviewer=given.by, commit=given.at, authors=given.authors, via="pipeline",
    )  # fmt: skip
    with (
        opening.services(settings) as credentials,
        batches.findings(credentials, "levada_governance") as found,
    ):
        marks = {(m.rule, m.hash): m for m in found.guarded()}
        mark = marks.get((rule.name, rule.hash))
        if mark is None:
            output.console.print(f"{name} is neither suspended nor held: it needs no review")
            return 1
        new = dry_run or found.review(rule, given.reason, approval)
    how = f"reviewed by {approval.reviewer}" if new else "reviewed already"
    said = f"{'would be ' if dry_run else ''}{how}: {name}, {mark}"
    output.console.print(Text(said))
    return 0


def _kept_json(each: Reported) -> dict[str, object]:
    return {
        "batch": each.batch,
        "partition": each.partition.key,
        "verdict": each.verdict.value,
        "severity": each.severity,
        "passed": each.passed,
        "failed": each.failed,
        "unknown": each.unknown,
        "cases": each.cases,
        "summary": each.summary,
        "seconds": each.seconds,
        "at": each.at.isoformat(),
        "rules": each.results,
    }


def list_breaks(project: Path | None, *, all_: bool, rule: str, as_json: bool) -> int:
    """Open breaks, or all of them."""
    settings = read_settings(find_root(project))
    states = () if all_ else (BreakState.OPEN,)
    with (
        opening.services(settings) as credentials,
        batches.findings(credentials, "levada_runner") as found,
    ):
        breaks = [b for b in found.breaks(states=states) if rule in ("", b.rule)]
    now = opening.now()
    if as_json:
        output.print_json([_break_json(each, each.age(now)) for each in breaks])
        return 0
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("break", "state", "rule", "interval", "key", "figures", "owner", "age", "seen"):
        table.add_column(head)
    for each in breaks:
        table.add_row(
            each.id,
            Text(each.state.value, _STATES[each.state]),
            *(each.rule, each.partition.key, _plain(each.key), _plain(each.figures), each.owner),
            _long(each.age(now)),
            str(each.times),
        )
    output.console.print(table if breaks else Text("none", "dim"))
    return 0


def _break_json(each: Break, age: timedelta) -> dict[str, object]:
    return {
        "break": each.id,
        "state": each.state.value,
        "rule": each.rule,
        "partition": each.partition.key,
        "key": json.loads(each.key),
        "figures": json.loads(each.figures),
        "owner": each.owner,
        "first_seen": each.first_seen.isoformat(),
        "last_seen": each.last_seen.isoformat(),
        "age_seconds": int(age.total_seconds()),
        "times": each.times,
        "resolution": each.resolution,
        "resolved_by": each.resolved_by,
    }


def assign(project: Path | None, id_: str, owner: str, *, dry_run: bool) -> int:
    """Give a break to somebody."""
    return _change(project, id_, f"given to {owner}", dry_run, lambda f, b: f.assign(b, owner))


def resolve(project: Path | None, id_: str, reason: str, who: str, *, dry_run: bool) -> int:
    """Say what a break was: the same figures open it no more."""
    if not reason.strip():
        raise DeclarationError((Fault("--reason", 0, "says nothing", "say what it was"),))
    who = who or os.environ.get("USER", "") or "governance"
    done = f"resolved by {who}: {reason}"
    return _change(project, id_, done, dry_run, lambda f, b: f.resolve(b, reason, who))


def _change(
    project: Path | None,
    id_: str,
    done: str,
    dry_run: bool,
    change: Callable[[Findings, str], bool],
) -> int:
    """Change the one break whose id begins so, as governance; 1 where that changes nothing."""
    settings = read_settings(find_root(project))
    with (
        opening.services(settings) as credentials,
        batches.findings(credentials, "levada_governance") as found,
    ):
        alike = found.breaks(like=id_) if len(id_) >= 6 else ()
        if len(alike) != 1:
            wrong = f"{len(alike) or 'no'} breaks begin with {id_!r}"
            right = "write it as `levada breaks list` shows it"
            raise DeclarationError((Fault("BREAK", 0, wrong, right),))
        (one,) = alike
        changed = dry_run or change(found, one.id)
    said = f"{one.id} {one.rule} {one.partition.key} {_plain(one.key)}"
    if not changed:
        output.console.print(Text(f"nothing changed: {said} is {one.state.value}"))
        return 1
    output.console.print(Text(f"{'would be ' if dry_run else ''}{done}: {said}"))
    return 0


def _plain(text: str) -> str:
    """A JSON object of figures as people read it."""
    said = json.loads(text)
    return ", ".join(f"{key} {value}" for key, value in said.items() if value is not None) or "-"


def _long(age: timedelta) -> str:
    if age.days:
        return f"{age.days}d"
    return f"{age.seconds // 3600}h" if age.seconds >= 3600 else f"{age.seconds // 60}m"
