"""dbt run: a product's nodes moved to a stage, everything else read from the stage's views.

The saved manifest is unpacked afresh for every run (a used one keeps compiled state and fails the
second time), cut down to what the run may touch, and its nodes are moved: no ref or source leads to
anything that the request does not name. What SQL names without them is a matter of rights: see the
profile, which is the warehouse's.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from levada.adapters.dbt.facts import EmptyBuild
from levada.adapters.dbt.invoke import (
    close_connections,
    inside,
    invoke,
    line_of,
    place,
    reads,
    sentence,
)
from levada.build import BuildRequest, BuildResult, ModelTiming
from levada.errors import Fault
from levada.ports import Relation

__all__ = ["empty_build", "put", "run", "trim", "unpack"]

_MART_KINDS = ("table", "incremental")


def run(request: BuildRequest) -> BuildResult:
    """Build one product in its stage. What dbt refuses is in the result, not raised."""
    began = time.monotonic()
    try:
        manifest = unpack(request.manifest)
    except FileNotFoundError:
        stale = Fault(inside(request.root, request.manifest), 0, "no manifest is kept here")
        return BuildResult(False, f"{stale}; run levada compile", failures=(stale,))
    faults = tuple(_move(manifest, request))
    if faults:
        return BuildResult(False, str(faults[0]), failures=faults)
    command = ["run"]
    if any(node.startswith("seed.") for node in request.nodes):
        command = ["build", "--resource-type=model", "--resource-type=seed"]
    if request.window:
        start, end = request.window
        # --vars would parse the whole project again; these do not. dbt takes naive UTC.
        command += [f"--event-time-start={_naive(start)}", f"--event-time-end={_naive(end)}"]
    errors: dict[str, str] = {}
    try:
        result = invoke(
            command,
            project_dir=request.project_dir,
            profile=request.profile,
            log_dir=request.log_dir,
            manifest=manifest,
            listener=partial(_hear, errors),
        )
    finally:
        close_connections()
    return _told(request, result, errors, time.monotonic() - began)


def _hear(errors: dict[str, str], event: Any) -> None:
    """Keep what failed: of a microbatch model, its result says no more than `ERROR`."""
    if event.info.name == "GenericExceptionOnRun":
        errors.setdefault(event.data.node_info.unique_id, event.data.exc)


def unpack(path: Path) -> Any:
    """The kept manifest, afresh."""
    from dbt.contracts.graph.manifest import Manifest
    from dbt.parser.manifest import extended_mashumuro_decoder

    return Manifest.from_msgpack(path.read_bytes(), decoder=extended_mashumuro_decoder)


def _naive(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _move(manifest: Any, request: BuildRequest) -> Iterator[Fault]:
    """Cut the manifest down to the request and place its nodes; yields why that is impossible."""
    built = {name: manifest.nodes[name] for name in request.nodes if name in manifest.nodes}
    known = {**manifest.nodes, **manifest.sources}
    for name in [*request.nodes, *request.inputs]:
        if name not in known:
            path = inside(request.root, request.manifest)
            yield Fault(path, 0, f"the manifest does not know {name}", "run levada compile")
    hooks = {n: node for n, node in manifest.nodes.items() if node.resource_type == "operation"}
    for node in {**built, **hooks}.values():
        for read in reads(node):
            if read not in built and read not in request.inputs:
                what = f"{node.resource_type} {node.name} reads {read}, which this build lacks"
                yield Fault(_file(request, node), 1, what, "it must be an input of the product")

    for name, node in built.items():
        if name in request.columns and not _is_table(node):
            yield _no_table(node, request)
        if node.config.materialized != "ephemeral":
            put(node, request.outputs.get(name) or _private(node, request))
        if name in request.columns:
            _promise(node, request.columns[name])
    for name, relation in request.inputs.items():
        if name in known:
            put(known[name], relation)
            _externalise(known[name])
    trim(manifest, {*built, *hooks, *request.inputs})


def _is_table(node: Any) -> bool:
    return node.config.materialized in _MART_KINDS


def _no_table(node: Any, request: BuildRequest | EmptyBuild) -> Fault:
    what = f"mart {node.name} is materialized as {node.config.materialized}"
    return Fault(_file(request, node), 1, what, f"say {' or '.join(_MART_KINDS)}")


def _file(request: BuildRequest | EmptyBuild, node: Any) -> str:
    return inside(request.root, request.project_dir / (node.original_file_path or ""))


def _private(node: Any, request: BuildRequest) -> Relation:
    database = next(iter(request.outputs.values())).database
    version = getattr(node, "version", None)
    suffix = "" if version is None else f"_v{version}"
    return Relation(database, request.private_schema, f"{node.name}{suffix}")


def put(node: Any, relation: Relation) -> None:
    """Move a node: what reads it finds it there."""
    node.database, node.schema = relation.database, relation.schema
    if node.resource_type == "source":
        node.identifier = relation.name
    else:
        node.alias = relation.name
    node.relation_name = str(relation)


def _promise(node: Any, columns: tuple[tuple[str, str], ...]) -> None:
    """
    Hold a mart to its contract's columns. Its constraints are left out: a broken row must reach
    the audit, which names it, instead of ending the run.
    """
    from dbt.artifacts.resources.v1.components import ColumnInfo, Contract
    from dbt.artifacts.resources.v1.config import ContractConfig

    node.columns = {n: ColumnInfo(name=n, data_type=kind, quote=True) for n, kind in columns}
    node.constraints = []
    node.config.contract = ContractConfig(enforced=True, alias_types=False)
    node.contract = Contract(enforced=True, alias_types=False)


def _externalise(node: Any) -> None:
    """Make a model of the same project a thing that is read and never built."""
    if node.resource_type == "source":
        return
    node.refs, node.sources = [], []
    node.original_file_path = node.path = ""
    node.depends_on.nodes = []
    node.config.materialized = "table"
    node.raw_code = ""  # which is how dbt tells what it does not build


def trim(manifest: Any, keep: set[str]) -> None:
    """Leave only these nodes and sources."""
    manifest.nodes = {name: node for name, node in manifest.nodes.items() if name in keep}
    manifest.sources = {name: node for name, node in manifest.sources.items() if name in keep}
    for kind in ("exposures", "metrics", "saved_queries", "semantic_models", "unit_tests"):
        setattr(manifest, kind, {})
    manifest.build_flat_graph()


def _told(
    request: BuildRequest, result: Any, errors: Mapping[str, str], seconds: float
) -> BuildResult:
    """The result in Levada's words."""
    results = getattr(result.result, "results", None) or ()
    timings = tuple(
        ModelTiming(r.node.unique_id, round(r.execution_time, 3))
        for r in results
        if str(r.status) == "success" and r.node.unique_id in request.nodes
    )
    failures: list[Fault] = []
    for each in results:
        if str(each.status) in ("error", "fail", "runtime error", "partial success"):
            known = each.node.original_file_path
            message = errors.get(each.node.unique_id, str(each.message))
            path, line = place(message, request.project_dir, known)
            where = inside(request.root, request.project_dir / path)
            mismatches = _mismatches(request, path, message)
            failures += mismatches or [Fault(where, line, sentence(message))]
    if result.exception is not None and not failures:
        path, line = place(result.exception, request.project_dir)
        where = inside(request.root, request.project_dir / path)
        failures.append(Fault(where, line, sentence(result.exception)))
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        return BuildResult(False, f"{failures[0]}{more}", timings, tuple(failures), seconds)
    if not result.success:
        return BuildResult(False, "dbt failed and does not say why", timings, (), seconds)
    return BuildResult(
        True, f"built {len(timings)} models in {seconds:.1f} s", timings, (), seconds
    )


def empty_build(request: EmptyBuild) -> tuple[Fault, ...]:
    """
    Build a whole project on empty tables of the promised shapes; every fault, model by model.

    Nothing live is near: dbt's own `--empty` would replace published tables by empty ones.
    """
    with tempfile.TemporaryDirectory(prefix="levada-empty-") as folder:
        file = Path(folder, "stage.duckdb")
        manifest = unpack(request.manifest)
        sources = {name: _landed(source) for name, source in manifest.sources.items()}
        promised = {n: c for n, c in request.inputs.items() if n in manifest.nodes}
        shapes = {**promised, **sources}
        places = {n: Relation("stage", "up", n.replace(".", "__")) for n in shapes}
        faults = list(_make_tables(file, shapes, places, request))
        nodes = {
            name: node
            for name, node in manifest.nodes.items()
            if node.resource_type in ("model", "seed") and node.original_file_path
        }
        faults += _leave_out_blocked(nodes, places, request)
        views = {n for n, node in nodes.items() if n in request.columns and not _is_table(node)}
        faults += [_no_table(nodes[name], request) for name in views]
        result = run(
            BuildRequest(
                run="empty",
                domain=manifest.metadata.project_name,
                root=request.root,
                project_dir=request.project_dir,
                manifest=request.manifest,
                nodes=tuple(nodes),
                outputs={n: Relation("stage", "main", n.replace(".", "__")) for n in nodes},
                inputs=places,
                columns={n: c for n, c in request.columns.items() if n in nodes and n not in views},
                profile={
                    "type": "duckdb",
                    "path": str(file),
                    "config_options": {"autoinstall_known_extensions": "false"},
                    "settings": {"TimeZone": "UTC"},
                },
                log_dir=request.log_dir,
                window=(_SOME_DAY, _SOME_DAY + timedelta(days=1)),
            )
        )
    faults += result.failures
    if not result.ok and not faults:
        faults.append(Fault(inside(request.root, request.project_dir), 0, result.message))
    return tuple(sorted(set(faults)))


_SOME_DAY = datetime(2013, 1, 1, tzinfo=UTC)


def _leave_out_blocked(
    nodes: dict[str, Any], places: Mapping[str, Relation], request: EmptyBuild
) -> Iterator[Fault]:
    """Drop the models that read what has no known shape, and all that read those."""
    given = set(nodes)
    while blocked := {n for n, node in nodes.items() if set(reads(node)) - {*nodes, *places}}:
        for name in sorted(blocked):
            node = nodes.pop(name)
            for read in sorted(set(reads(node)) - {*given, *places}):
                what = f"model {node.name} reads {read}, whose columns no contract tells"
                yield Fault(_file(request, node), 1, what, "mend that contract first")


def _landed(source: Any) -> tuple[tuple[str, str], ...]:
    columns = tuple((name, "VARCHAR") for name in source.columns)
    meta = source.config.meta or source.meta
    if "postgres" in (meta.get("levada") or {}):  # rows of a table: they have no file and no line
        return columns
    return (
        *columns,
        ("_file", "VARCHAR"),
        ("_line", "BIGINT"),
    )


def _make_tables(
    file: Path,
    shapes: Mapping[str, tuple[tuple[str, str], ...]],
    places: Mapping[str, Relation],
    request: EmptyBuild,
) -> Iterator[Fault]:
    import duckdb

    with duckdb.connect(str(file)) as connection:
        connection.execute("create schema up")
        for name, columns in shapes.items():
            listed = ", ".join(f'"{column}" {kind}' for column, kind in columns)
            try:
                connection.execute(f"create table {places[name]} ({listed})")
            except duckdb.Error as error:
                where = inside(request.root, request.project_dir / "dbt_project.yml")
                yield Fault(where, 0, f"no table can have the columns of {name}: {error}")


_REASONS: Mapping[str, Callable[[str, str, str], str]] = {
    "data type mismatch": lambda c, is_, was: f"column {c} is promised as {was} but made as {is_}",
    "missing in contract": lambda c, is_, _: f"column {c} ({is_}) is made but not promised",
    "missing in definition": lambda c, _, was: f"column {c} ({was}) is promised but not made",
}


def _mismatches(request: BuildRequest, path: str, message: str) -> list[Fault]:
    """One fault a column, from the table that dbt draws when a contract is not kept."""
    file, found = request.project_dir / path, []
    for row in message.splitlines():
        cells = [cell.strip() for cell in row.strip().strip("|").split("|")]
        if len(cells) == 4 and cells[3] in _REASONS:
            wrong = _REASONS[cells[3]](*cells[:3])
            # Where the column is spoken of first; one that is not made may stand nowhere.
            column = rf"(?im)^(?!\s*--).*\b{re.escape(cells[0])}\b"  # not where a comment says it
            line = line_of(file, column, pattern=True) or 1
            where = inside(request.root, file)
            found.append(Fault(where, line, wrong, "change the model or the contract"))
    return found
