"""`levada check` and `levada compile`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from levada.cli import output
from levada.cli.annotations import lines
from levada.declare import Declared, ModelFacts
from levada.errors import DeclarationError, Fault
from levada.flow.changed import Changed, changed_since
from levada.flow.telling import Told
from levada.settings import Settings, find_root, look, nearest, read_settings

__all__ = ["FORMATS", "check", "compile_"]

FORMATS = ("text", "json", "github")

_NOT_BUILT = "models are not built on empty tables here: their warehouse would have to run"


def check(
    project: Path | None, *, domains: Sequence[str], since: str | None, form: str = "text"
) -> int:
    """Every fault of every file; 2 if there is one, warnings alone are no fault."""
    found: Declared | None = None
    warnings: tuple[Fault, ...] = ()
    changed: Changed | None = None
    told = Told()
    root = Path()
    try:
        if form not in FORMATS:
            raise _unknown("--format", "format", form, FORMATS)
        root = find_root(project)
        settings, faults = look(root)
        if settings is not None:
            _known(settings, domains)
            changed = changed_since(settings, since) if since else None
            found, others = _look(settings, told, _wanted(settings, domains, changed))
            faults = tuple(sorted({*faults, *others}))
            faults = _shown(faults, settings, domains, changed)
            warnings = _shown(found.warnings, settings, domains, changed)
    except DeclarationError as error:
        faults = error.faults
    if form == "json":
        output.print_json(_document(faults, warnings, told, changed))
    elif form == "github":
        output.print_lines(lines(faults, warnings, root))
    else:
        output.warn(warnings)
        if faults:
            output.fail(DeclarationError(faults))
        elif found:
            _sum_up(found, told, changed)
    return 2 if faults else 0


def _document(
    faults: Sequence[Fault], warnings: Sequence[Fault], told: Told, changed: Changed | None
) -> dict[str, object]:
    document: dict[str, object] = {
        "ok": not faults,
        "faults": output.faults_json(faults),
        "warnings": output.faults_json(warnings),
        "stages": [
            {"stage": s.name, "faults": s.faults, "looked_at": s.looked, "seconds": s.seconds}
            for s in told.stages
        ],
    }
    if changed is not None:
        document["changed"] = {
            "since": changed.since,
            "paths": sorted(changed.paths),
            "domains": sorted(changed.domains),
        }
    return document


def _wanted(settings: Settings, domains: Sequence[str], changed: Changed | None) -> frozenset[str]:
    """The domains whose faults are asked for."""
    wanted = frozenset(domains or settings.domains)
    return wanted & changed.domains if changed else wanted


def _shown(
    faults: Sequence[Fault],
    settings: Settings,
    domains: Sequence[str],
    changed: Changed | None,
) -> tuple[Fault, ...]:
    if domains:
        prefixes = tuple(f"{kind}/{d}/" for kind in ("contracts", "models") for d in domains)
        everybody = ("levada.yaml", "--", "contracts/governance/")
        faults = [f for f in faults if f.path.startswith((*prefixes, *everybody))]
    return tuple(f for f in faults if changed is None or changed.shows(f, settings.domains))


def _known(settings: Settings, domains: Sequence[str]) -> None:
    for domain in domains:
        if domain not in settings.domains:
            raise _unknown("--domain", "domain", domain, settings.domains)


def _unknown(option: str, what: str, said: str, known: Collection[str]) -> DeclarationError:
    return DeclarationError((Fault(option, 0, f"no {what} {said!r}", nearest(said, known)),))


def compile_(project: Path | None, *, as_json: bool) -> int:
    """Write the compiled declarations of the sound domains; 2 if a domain has a fault."""
    from levada.flow import declaring

    settings = read_settings(find_root(project))
    try:
        declaring.up_to_date(settings)
    except DeclarationError:
        pass
    else:
        if as_json:
            output.print_json({"compiled": list(settings.domains), "faults": [], "warnings": []})
        else:
            output.console.print("the compiled declarations are up to date")
        return 0
    found, faults = _look(settings, Told(), None)
    sound = [domain for domain in settings.domains if domain not in found.broken]
    if as_json:
        document = {"compiled": sound, "faults": output.faults_json(faults)}
        output.print_json({**document, "warnings": output.faults_json(found.warnings)})
    else:
        for domain in sound:
            output.console.print(f"compiled .levada/{domain}.json")
        output.warn(found.warnings)
        if faults:
            output.fail(DeclarationError(faults))
    return 2 if faults else 0


def _look(
    settings: Settings, told: Told, deep: Collection[str] | None
) -> tuple[Declared, tuple[Fault, ...]]:
    """
    The stages in their order, the cheapest first. None stops the next: all faults are told at once.
    `deep` are the domains that are also linted and built on nothing; None compiles, and no more.
    """
    from levada.adapters import approvers, schedules, waivers
    from levada.adapters.dbt.workers import DbtWorkers
    from levada.adapters.sqlfluff import Linting, told_once
    from levada.adapters.sqlfluff.above import source_layers
    from levada.flow import declaring
    from levada.flow.gating import between
    from levada.flow.layering import upward
    from levada.flow.remembering import memory_of

    def landing(model: ModelFacts) -> tuple[str, ...]:
        return source_layers(settings.root, settings.root / model.path)

    memory = memory_of(settings)
    begun = memory.begun
    with (
        Linting(settings.root, tuple(deep or ()), memory) as linting,  # beside all the others
        closing(DbtWorkers()) as workers,
        output.errors.status("reading contracts") as status,
    ):
        if not begun:
            workers.warm()  # all will be parsed: dbt is imported beside the contracts
        told.begins = lambda stage: status.update(f"checking: {stage}")
        contracts = declaring.read_contracts(settings, told)
        found = declaring.declared(settings, workers, told, contracts)
        faults = found.faults
        if deep is not None:
            with told.stage("waivers") as stage:
                policy, wrong = approvers.look(settings.root, settings.domains)
                every = replace(found.mesh, products=found.seen)  # those with a fault elsewhere too
                asked = waivers.requests(settings.root, every, policy)[1]
                own = (fault for fault in asked if not (faults and fault.follows))
                stage.found(waived := (*wrong, *own))
            with told.stage("scheduled backfills") as stage:
                listed, recurring = schedules.look(settings.root, settings.zone, found.mesh)
                stage.found(recurring, f"{len(listed)} schedules")
            with told.stage("consistency") as stage:
                rules, batches = between(settings, found, faults)
                stage.found(rules, f"{batches} batches")
            with told.stage("empty build") as stage:
                built = declaring.static_faults(settings, workers, found.mesh, deep)
                stage.found(built, f"{len(set(deep) - set(found.broken))} domains")
            if not declaring.rehearses(settings):
                output.errors.print(_NOT_BUILT, style="dim")
            with told.stage("sqlfluff") as stage:  # begun first; here it is waited for
                linted = linting.faults()
                linted = (*linted, *upward(found.projects, linted, landing))
                stage.found(linted, f"{len(deep)} domains")
            faults = told_once(linted, (*faults, *waived, *recurring, *rules, *built))
    return found, tuple(sorted(set(faults)))


def _sum_up(found: Declared, told: Told, changed: Changed | None) -> None:
    mesh = found.mesh
    tables = sum(len(product.marts) for product in mesh.products)
    edges = sum(len(product.dependencies) for product in mesh.products)
    checks = sum(len(m.contract.checks) for p in mesh.products for m in p.marts)
    domains = len({p.domain for p in mesh.products})
    output.console.print(
        f"[green]no fault[/]: {domains} domains, {len(mesh.products)} products, {tables} tables, "
        f"{len(mesh.sources)} landed sources, {edges} edges, {checks} checks"
    )
    if changed is not None:
        looked = ", ".join(sorted(changed.domains)) or "no domain"
        since = f"{len(changed.paths)} files changed since {changed.since}: looked at {looked}"
        output.console.print(since, markup=False)
    stages = ", ".join(f"{stage.name} {stage.seconds:.1f} s" for stage in told.stages)
    output.console.print(stages, style="dim")
