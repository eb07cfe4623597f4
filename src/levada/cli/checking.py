"""`levada check` and `levada compile`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from levada.cli import output
from levada.declare import Declared
from levada.errors import DeclarationError, Fault
from levada.govern import leaving
from levada.settings import Settings, find_root, look, nearest, read_settings

__all__ = ["check", "compile_"]


def check(project: Path | None, *, domains: Sequence[str], as_json: bool) -> int:
    """Every fault of every file; 2 if there is one."""
    found: Declared | None = None
    try:
        settings, faults = look(find_root(project))
        if settings is not None:
            _known(settings, domains)
            found, others = _look(settings, deep=True)
            faults = tuple(sorted({*faults, *others}))
    except DeclarationError as error:
        faults = error.faults
    if domains:
        prefixes = tuple(f"{kind}/{d}/" for kind in ("contracts", "models") for d in domains)
        faults = tuple(
            f for f in faults if f.path.startswith((*prefixes, "levada.yaml", "--domain"))
        )
    warnings = tuple(leaving(found.mesh)) if found else ()
    if as_json:
        told = {"faults": output.faults_json(faults), "warnings": list(warnings)}
        output.print_json({"ok": not faults, **told})
    elif faults:
        output.fail(DeclarationError(faults))
    elif found:
        _sum_up(found)
        for warning in warnings:
            output.errors.print(Text(f"warning: {warning}", style="yellow"))
    return 2 if faults else 0


def _known(settings: Settings, domains: Sequence[str]) -> None:
    for domain in domains:
        if domain not in settings.domains:
            right = nearest(domain, settings.domains)
            raise DeclarationError((Fault("--domain", 0, f"no domain {domain!r}", right),))


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
            output.print_json({"compiled": list(settings.domains), "faults": []})
        else:
            output.console.print("the compiled declarations are up to date")
        return 0
    found, faults = _look(settings, deep=False)
    sound = [domain for domain in settings.domains if domain not in found.broken]
    if as_json:
        output.print_json({"compiled": sound, "faults": output.faults_json(faults)})
    else:
        for domain in sound:
            output.console.print(f"compiled .levada/{domain}.json")
        if faults:
            output.fail(DeclarationError(faults))
    return 2 if faults else 0


def _look(settings: Settings, *, deep: bool) -> tuple[Declared, tuple[Fault, ...]]:
    from levada.adapters.dbt.workers import DbtWorkers
    from levada.adapters.sqlfluff import Linting, told_once
    from levada.adapters.waivers import waiver_faults
    from levada.flow import declaring

    with (
        Linting(settings.root, settings.domains if deep else ()) as linting,
        DbtWorkers() as workers,
        output.errors.status("reading contracts and dbt projects"),
    ):
        found = declaring.declared(settings, workers)
        faults = found.faults
        if deep:
            faults += declaring.static_faults(settings, workers, found.mesh)
            faults += waiver_faults(settings.root, found.mesh)
            faults = told_once(linting.faults(), faults)
    return found, tuple(sorted(set(faults)))


def _sum_up(found: Declared) -> None:
    mesh = found.mesh
    tables = sum(len(product.marts) for product in mesh.products)
    edges = sum(len(product.dependencies) for product in mesh.products)
    checks = sum(len(m.contract.checks) for p in mesh.products for m in p.marts)
    domains = len({p.domain for p in mesh.products})
    output.console.print(
        f"[green]no fault[/]: {domains} domains, {len(mesh.products)} products, {tables} tables, "
        f"{len(mesh.sources)} landed sources, {edges} edges, {checks} checks"
    )
