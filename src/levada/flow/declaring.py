"""Read the declarations, cheapest first, and compile them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from levada import compiled
from levada.adapters import odcs
from levada.adapters.dbt.facts import EmptyBuild, column_faults
from levada.adapters.dbt.invoke import line_of
from levada.adapters.dbt.workers import DbtWorkers
from levada.adapters.policies import FILE as POLICIES
from levada.adapters.remembered import digest
from levada.adapters.warehouses import named
from levada.build import columns_of, manifest_path, room_of
from levada.declare import Declared, ParsedProject, declare
from levada.errors import DeclarationError, Fault, NotPublishable
from levada.flow.gating import gated_mesh
from levada.flow.governing import Governed, governed
from levada.flow.keeping import keep
from levada.flow.remembering import file_hash, memory_of, parsed, promised
from levada.flow.telling import Told
from levada.settings import Settings
from levada.terms import Contract, Mesh

__all__ = [
    "compiled_mesh",
    "declared",
    "external",
    "law",
    "read_contracts",
    "rehearses",
    "static_faults",
    "up_to_date",
]


Contracts = tuple[tuple[Contract, ...], tuple[Fault, ...]]
"""The sound contracts of a mesh, and the faults of the others."""


def read_contracts(settings: Settings, told: Told | None = None) -> Contracts:
    """The first stage: each file by its JSON schema, then by what it means."""
    with (told or Told()).stage("contracts") as stage:
        contracts, faults = odcs.read_contracts(settings.root, memory_of(settings))
        stage.found(faults, f"{len(contracts)} contracts")
    return contracts, faults


def declared(
    settings: Settings,
    workers: DbtWorkers,
    told: Told | None = None,
    read: Contracts | None = None,
) -> Declared:
    """
    Contracts (unless they are `read`), then dbt projects, joined, then policies; the compiled files
    of sound domains are written, and those of the others say why not. A domain whose only fault is
    in what another one promises keeps what was compiled of it, and with it its DAGs.
    """
    told = told or Told()
    contracts, contract_faults = read or read_contracts(settings, told)
    with told.stage("dbt parse") as stage:
        projects, project_faults, anew = _projects(settings, workers, contracts)
        found = declare(settings, contracts, projects)
        named = (_placed(settings, fault) for fault in found.faults)
        faults = {*project_faults, *named, *_listed(contracts, projects)}
        faults |= {*_unreached(settings, projects), *_unheld(settings, contracts)}
        stage.found(faults, f"{anew} of {len(projects)} projects, the others as before")
    with told.stage("gates") as stage:
        gates = gated_mesh(settings, found)
        stage.found(gates.faults, f"{gates.count} rules that block")
    with told.stage("policies") as stage:
        whole = not faults and not contract_faults
        law = governed(settings, gates.seen, found.mesh.sources, datetime.now(UTC), whole=whole)
        stage.found(law.faults, f"{len(law.policies.policies)} policies")
    faults |= {*contract_faults, *law.faults}
    # What only follows is told where nothing else is: what it follows from is told before.
    faults |= {f for f in gates.faults if not (faults and f.follows)}
    broken = {*found.broken, *(d for d in settings.domains if _touches(d, faults))}
    broken |= {*gates.stops}  # what a file of gates guards is not published past it
    joined = replace(
        found.mesh, products=tuple(p for p in gates.mesh.products if p.domain not in broken)
    )
    waiting = _waiting(settings, joined, broken)
    sound = [d for d in settings.domains if d not in broken and d not in waiting]
    mesh = replace(joined, products=tuple(p for p in joined.products if p.domain in sound))
    compiled.save(settings, mesh, sound)
    compiled.save_batches(settings, gates.batches, gates.unread)
    for domain in sound:
        keep(settings, domain)
    for domain in {*broken, *waiting}:
        stopped = gates.stops.get(domain, frozenset())
        own = sorted({*(f for f in faults if _touches(domain, {f})), *stopped})
        own = own or list(waiting.get(domain, ())) or sorted(faults)
        if not (all(f.follows for f in own) and _stands(settings, domain)):
            compiled.refuse(settings, domain, own)
    left = tuple(sorted({*broken, *waiting}))
    return Declared(mesh, tuple(sorted(faults)), left, gates.seen, law.warnings, tuple(projects))


def _waiting(
    settings: Settings, mesh: Mesh, broken: Collection[str]
) -> dict[str, tuple[Fault, ...]]:
    """
    Sound domains that read what is neither sound nor was ever compiled, each with what it lacks:
    compiled now, they could not be loaded.
    """
    found: dict[str, tuple[Fault, ...]] = {}
    while True:
        away = {*broken, *found}
        shares = [share for domain in away if (share := _compiled(settings, domain))]
        known = {*mesh.tables(), *(s.table for s in mesh.sources), *compiled.tables_of(shares)}
        lacking = {
            (product.domain, mart.model_path, edge.upstream)
            for product in mesh.products
            for mart in product.marts
            for edge in mart.dependencies
            if product.domain not in away and edge.upstream not in known
        }
        if not lacking:
            return found
        for domain in {domain for domain, _, _ in lacking}:
            found[domain] = tuple(
                Fault(path, 1, f"reads {table}, which is not compiled", Fault.ELSEWHERE)
                for own, path, table in sorted(lacking)
                if own == domain
            )
        mesh = replace(mesh, products=tuple(p for p in mesh.products if p.domain not in found))


def _compiled(settings: Settings, domain: str) -> compiled.CompiledDomain | None:
    """What was compiled of a domain before, if anything."""
    try:
        return compiled.load_domain(settings, domain, fresh=False)
    except DeclarationError:
        return None


def _stands(settings: Settings, domain: str) -> bool:
    """Whether what was compiled of a domain is what its files say."""
    try:
        compiled.load_domain(settings, domain)
    except DeclarationError:
        return False
    return True


def law(settings: Settings, workers: DbtWorkers) -> Governed:
    """
    What the policies find in the declarations as they are. Raises DeclarationError for a file of
    policies that cannot be believed.
    """
    found = declared(settings, workers)
    said = governed(settings, found.seen, found.mesh.sources, datetime.now(UTC))
    if wrong := [fault for fault in said.faults if fault.path == POLICIES]:
        raise DeclarationError(wrong)
    return said


def compiled_mesh(settings: Settings, workers: DbtWorkers) -> Mesh:
    """The mesh from its compiled declarations; compiled first where they are stale."""
    try:
        mesh = up_to_date(settings)
        for domain in settings.domains:
            keep(settings, domain)
        return mesh
    except DeclarationError:
        found = declared(settings, workers)
        if found.faults:
            raise DeclarationError(found.faults) from None
        return compiled.load(settings, fresh=True)


def up_to_date(settings: Settings) -> Mesh:
    """The compiled mesh, where all of it is there and fresh. Raises DeclarationError."""
    for domain in settings.domains:
        if not manifest_path(settings, domain).is_file():
            fault = Fault(
                f".levada/manifests/{domain}.msgpack", 0, "is missing", "run `levada compile`"
            )
            raise DeclarationError((fault,))
    compiled.load_batches(settings)
    return compiled.load(settings, fresh=True)


def rehearses(settings: Settings) -> bool:
    """Whether models can be built on empty tables while nothing runs."""
    return named(settings.warehouse).rehearses


def static_faults(
    settings: Settings, workers: DbtWorkers, mesh: Mesh, domains: Collection[str]
) -> tuple[Fault, ...]:
    """
    Build every sound one of these domains on empty tables of the promised shapes: what no parse can
    see, such as a column that nobody promises or a type that the contract does not say.
    """
    faults: list[Fault] = []
    if not rehearses(settings):
        return ()
    known, memory = set(mesh.tables()), memory_of(settings)
    for domain, products in itertools.groupby(mesh.products, key=lambda p: p.domain):
        if domain not in domains:
            continue
        own = [mart for product in products for mart in product.marts]
        read = {edge.upstream for mart in own for edge in mart.dependencies}
        abroad = [t for t in read if not t.is_source and t.domain != domain]
        if not set(abroad) <= known:
            continue  # what it reads is broken, and told: nothing can be said of this domain yet
        outside = [mesh.mart(t) for t in abroad]
        request = EmptyBuild(
            root=settings.root,
            project_dir=settings.root / "models" / domain,
            manifest=manifest_path(settings, domain),
            columns={mart.node: columns_of(mart.contract) for mart in own},
            inputs={external(mart.contract): columns_of(mart.contract) for mart in outside},
            log_dir=room_of(settings, domain).logs / "check",
            room=room_of(settings, domain),
        )
        key = digest(
            [
                file_hash(request.manifest),
                repr(sorted(request.columns.items())),
                repr(sorted(request.inputs.items())),
            ]
        )
        if memory.get(f"empty-{domain}", key):
            continue
        found = workers.empty_build(domain, request)
        faults += found
        if not found:
            memory.put(f"empty-{domain}", key, True)
    return tuple(faults)


def external(contract: Contract) -> str:
    """The dbt id of a table in the projects of other domains."""
    table = contract.table
    return f"model.{table.domain}.{table.name}.v{table.major}"


def _projects(
    settings: Settings, workers: DbtWorkers, contracts: Sequence[Contract]
) -> tuple[list[ParsedProject], list[Fault], int]:
    """Every project, its faults, and how many of them dbt had to parse."""
    settings.home.mkdir(parents=True, exist_ok=True)
    promises, anew = promised(settings.root, contracts), 0
    projects: list[ParsedProject] = []
    faults: list[Fault] = []
    for domain in settings.domains:
        folder = settings.root / "models" / domain
        if not (folder / "dbt_project.yml").is_file():
            wrong = f"domain {domain} has no dbt project"
            right = f"make models/{domain}/dbt_project.yml, or leave {domain} out of `domains`"
            line = line_of(settings.root / "levada.yaml", r"(?m)^domains\b", pattern=True)
            faults.append(Fault("levada.yaml", line, wrong, right))
            continue
        project, by_dbt = parsed(settings, workers, domain, promises)
        anew += by_dbt
        if project.name != domain:
            wrong = f"the dbt project is called {project.name!r}"
            place = f"models/{domain}/dbt_project.yml"
            faults.append(Fault(place, 1, wrong, f"name it {domain!r}, as its domain"))
        projects.append(project)
    return projects, faults, anew


def _listed(contracts: Sequence[Contract], projects: Sequence[ParsedProject]) -> list[Fault]:
    """Columns that a model's YAML lists otherwise than its contract promises."""
    promised = {c.table: columns_of(c) for c in contracts}
    by_name = {(t.domain, t.name, t.major): columns for t, columns in promised.items()}
    return [
        fault
        for project in projects
        for model in project.models
        if (columns := by_name.get((project.name, model.name, model.major or 1)))
        for fault in column_faults(model, columns)
    ]


def _placed(settings: Settings, fault: Fault) -> Fault:
    """On the line of the table that a check compares with: the declaration knows no text."""
    said = re.search(r"compares with ([\w.]+)", fault.wrong)
    if fault.line or said is None:
        return fault
    path, name = settings.root / fault.path, said[1].rpartition(".")[2]
    whole, alone = (rf"\b{re.escape(each)}\b" for each in (said[1], f"{name}."))
    line = line_of(path, whole, pattern=True) or line_of(path, alone, pattern=True)
    return replace(fault, line=line or 1)


def _unheld(settings: Settings, contracts: Sequence[Contract]) -> list[Fault]:
    """Columns of types that the warehouse cannot hold."""
    kind, faults = named(settings.warehouse), []
    for contract in contracts:
        for column in contract.columns:
            try:
                kind.spelled(column.type)
            except NotPublishable as error:
                wrong, _, right = str(error).partition("; ")
                where = rf"name: {re.escape(column.name)}\b"
                line = line_of(settings.root / contract.path, where, pattern=True)
                faults.append(Fault(contract.path, line, f"column {column.name}: {wrong}", right))
    return faults


def _unreached(settings: Settings, projects: Sequence[ParsedProject]) -> list[Fault]:
    """
    Models that no product builds. What the contracts' files are called says which are published:
    a contract that has a fault still does. Where a promised model is not found, or something that
    a model reads, nobody can tell: that is told first.
    """
    faults: list[Fault] = []
    for project in projects:
        files = sorted((settings.root / "contracts" / project.name).rglob("*.y*ml"))
        promised = {path.name.split(".")[0] for path in files}
        models = {m.node: m for m in project.models}
        if not project.resolved or not promised <= {m.name for m in models.values()}:
            continue
        reached: set[str] = set()
        todo = [node for node, model in models.items() if model.name in promised]
        while todo:
            node = todo.pop()
            if node in models and node not in reached:
                reached.add(node)
                todo += models[node].models
        for node in sorted({*models} - reached):
            model = models[node]
            if model.package == project.name and model.materialized != "seed":
                wrong = f"model {model.name} has no contract, and no published table is made of it"
                right = f"give it a contract in contracts/{project.name}/, or remove it"
                faults.append(Fault(model.path, 1, wrong, right))
    return faults


def _touches(domain: str, faults: set[Fault]) -> bool:
    """Whether a fault stands in one of the domain's own files, or in everybody's."""
    own = (f"contracts/{domain}/", f"models/{domain}/", POLICIES)
    shared = f"domain {domain} "
    return any(f.path.startswith(own) or shared in f.wrong for f in faults)
