"""`levada canary`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from levada import compiled
from levada.adapters.dbt.workers import DbtWorkers
from levada.adapters.policies import FILE
from levada.cli import output
from levada.cli.approving import Review
from levada.cli.differing import tolerances
from levada.errors import DeclarationError, Fault
from levada.flow import canarying, declaring, majors
from levada.flow import platform as opening
from levada.settings import find_root, read_settings
from levada.terms import Canary, CanaryState, CanaryTerms, Grain, Product, Tolerance, Trial

__all__ = ["Asked", "abort", "promote", "start", "status"]

_STYLES = {
    CanaryState.RUNNING: "yellow",
    CanaryState.PROMOTED: "green",
    CanaryState.ABORTED: "red",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What whoever starts a canary asks; what is not said is as governance has it."""

    intervals: int | None
    promote: str | None
    near: Sequence[str]
    reason: str
    against: str | None = None

    def terms(self, least: CanaryTerms, usual: int) -> canarying.Terms:
        """The terms. Raises DeclarationError with all that is less than governance asks."""
        faults: list[Fault] = []
        by = self.promote or ("policy" if least.by_policy else "approval")
        wanted = max(usual, least.intervals) if self.intervals is None else self.intervals
        if by not in ("approval", "policy"):
            faults.append(Fault("--promote", 0, "is approval or policy"))
        if by == "policy" and not least.by_policy:
            right = f"governance lets it be promoted by approval alone: `canaries` of {FILE}"
            faults.append(Fault("--promote", 0, "policy is less than is asked", right))
        if 1 <= wanted < least.intervals:
            right = f"governance asks for {least.intervals}: `canaries` of {FILE}"
            faults.append(Fault("--intervals", 0, f"{wanted} are too few", right))
        near: Mapping[str, Tolerance] = {}
        try:
            near = tolerances(self.near)
        except DeclarationError as error:
            faults += error.faults
        if faults:
            raise DeclarationError(faults)
        return canarying.Terms(wanted, by == "policy", near, self.reason)


def start(
    project: Path | None,
    name: str,
    *,
    asked: Asked,
    dry_run: bool,
) -> int:
    """Run what is written now beside what was published last, or a new major beside the old one."""
    settings = read_settings(find_root(project))
    with DbtWorkers() as workers:
        mesh = declaring.compiled_mesh(settings, workers)
    if asked.against is not None:
        product, rule = majors.compared(mesh, name, asked.against)
    else:
        product, rule = canarying.named(mesh, name), None
    usual = 1 if product.grain is Grain.WHOLE else 7
    terms = asked.terms(canarying.least(settings, mesh, product), usual)
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_runner") as ledger,
    ):
        if rule is not None:
            canary = majors.begun(product, rule, terms, opening.now())
        else:
            canary = canarying.begun(settings, product, ledger, terms, opening.now())
        if not dry_run:
            ledger.start_canary(canary)
    how = "would be started" if dry_run else f"{canary.id} is started"
    then = "by itself" if canary.by_policy else "by approval"
    output.console.print(
        f"canary of {name} {how}: version {canary.new} beside {canary.old}; after {canary.wanted}"
        f" equal intervals in a row it may be promoted {then}"
    )
    return 0


def status(project: Path | None, name: str | None, *, as_json: bool) -> int:
    """Every canary, or the newest of a product with what each interval told."""
    settings = read_settings(find_root(project))
    mesh = compiled.load(settings)
    product = canarying.named(mesh, name) if name else None
    name = product.id if product else None
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_runner") as ledger,
    ):
        found = ledger.canaries(name)
        told = {each.id: ledger.trials(each.id) for each in found}
    if as_json:
        output.print_json([_json(each, told[each.id]) for each in found])
        return 0
    for each in found if product is None else found[-1:]:
        output.console.print(_line(each))
        for trial in told[each.id] if product else ():
            output.console.print(_told(trial))
        if product and each.differing:
            output.console.print(Text(f"  ask {_owner(product)}", "yellow"))
    if not found:
        output.console.print("none", style="dim")
    return 0


def _line(each: Canary) -> Text:
    end = f": {each.because}" if each.because else ""
    return Text.assemble(
        f"{each.id} {each.product} ",
        (each.state.value, _STYLES[each.state]),
        f"{end}; {each.told} intervals, {each.differing} differ, "
        f"{each.in_a_row} of {each.wanted} equal in a row",
    )


def _told(trial: Trial) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 2))
    style = "green" if trial.equal else "red"
    late = "" if trial.counts else " (does not count: another run published it, or none did)"
    table.add_row(
        trial.partition.key,
        Text("equal" if trial.equal else "differs", style),
        trial.because + late,
    )
    return table


def _json(each: Canary, told: Sequence[Trial]) -> dict[str, Any]:
    return {
        "canary": each.id,
        "product": each.product,
        "state": each.state.value,
        "old": each.old,
        "rule": each.rule,
        "new": each.new,
        "wanted": each.wanted,
        "by_policy": each.by_policy,
        "in_a_row": each.in_a_row,
        "reason": each.reason,
        "because": each.because,
        "reviewer": each.reviewer,
        "since": each.since.isoformat(),
        "intervals": [
            {
                "partition": t.partition.key,
                "equal": t.equal,
                "counts": t.counts,
                "because": t.because,
                "differences": json.loads(json.dumps(dict(t.differences))),
            }
            for t in told
        ],
    }


def _owner(product: Product) -> str:
    return ", ".join(dict.fromkeys(str(mart.contract.owner) for mart in product.marts))


def promote(project: Path | None, name: str, given: Review, *, dry_run: bool) -> int:
    """Let the new version be built alone: by the canary's policy, or as governance by approval."""
    settings = read_settings(find_root(project))
    mesh = compiled.load(settings)
    product = canarying.named(mesh, name)
    name = product.id
    with opening.services(settings) as credentials:
        with opening.ledger(credentials, "levada_runner") as ledger:
            canary = ledger.canary(name)
            if canary is None or canary.state is not CanaryState.RUNNING:
                output.console.print(f"no canary of {name} runs")
                return 1
            canarying.still_written(product, canary)
            if dry_run and not canary.ripe:
                output.console.print(
                    f"canary {canary.id} of {name} would not be promoted: {canary.in_a_row} of"
                    f" {canary.wanted} equal intervals in a row"
                )
                return 1
            alone = canary.by_policy and not given.reviewer
            if alone and not dry_run:
                ledger.settle_canary(canary.id)
        if not alone:
            if not given.reason.strip():
                raise DeclarationError((Fault("--reason", 0, "says nothing", "say why"),))
            approval, owner = canarying.approved(
                *(settings, product),
                reviewer=given.by,
                commit=given.at,
                authors=given.authors,
                via="pipeline",
            )
            with opening.ledger(credentials, "levada_governance") as governance:
                if not dry_run:
                    governance.promote_canary(canary.id, owner, given.reason, approval)
    how = "would be promoted" if dry_run else "is promoted"
    then = majors.afterwards(mesh, canary) if canary.rule else f"{canary.new} is built alone"
    output.console.print(f"canary {canary.id} of {name} {how}: {then}")
    return 0


def abort(project: Path | None, name: str, reason: str, *, dry_run: bool) -> int:
    """Build the old version alone, and publish by it again what the new one has published."""
    settings = read_settings(find_root(project))
    if not reason.strip():
        raise DeclarationError((Fault("--reason", 0, "says nothing", "say why"),))
    with DbtWorkers() as workers:
        mesh = declaring.compiled_mesh(settings, workers)
        product = canarying.named(mesh, name)
        name = product.id
        with (
            opening.services(settings) as credentials,
            opening.ledger(credentials, "levada_runner") as ledger,
            opening.open_platform(settings, mesh, credentials, workers) as platform,
        ):
            canary = ledger.canary(name)
            if canary is None:
                output.console.print(f"there is no canary of {name}")
                return 1
            if canary.state is CanaryState.PROMOTED:
                canarying.still_written(product, canary)
            if dry_run:
                output.console.print(f"canary {canary.id} of {name} would be aborted")
                return 0
            ledger.abort_canary(canary.id, reason)
            made = () if canary.rule else canarying.restored(platform, product, canary)
    if canary.rule:
        output.console.print(
            f"canary {canary.id} of {name} is aborted: no interval of it is published any more,"
            f" and {canary.old} goes on"
        )
        return 0
    lines = [line for run in made for line in run.lines]
    failed = [attempt for run in made for attempt in run.attempts]
    output.console.print(
        f"canary {canary.id} of {name} is aborted: {canary.old} is built alone; "
        f"{len(lines)} lines published by it again"
    )
    for attempt in failed:
        output.console.print(Text(f"{attempt.partition.key}: {attempt.because}", "red"))
    return 1 if failed else 0
