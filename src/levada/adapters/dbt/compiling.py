"""dbt compile, near no data: the SQL of every model, for reading what it reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from levada.adapters.dbt.facts import CompiledSql, CompileRequest
from levada.adapters.dbt.invoke import IN_MEMORY, close_connections, invoke, reads
from levada.adapters.dbt.run import put, trim, unpack
from levada.ports import Relation

__all__ = ["compiled_sql", "table_of"]


def table_of(node: str) -> str:
    """
    The table that stands for a node in compiled SQL.

    >>> table_of("model.fleet.planes")
    'model__fleet__planes'
    """
    return node.replace(".", "__")


def compiled_sql(request: CompileRequest) -> tuple[CompiledSql, ...]:
    """
    The SQL of the project's models. One that cannot be compiled, or is no SQL, is left out: who
    asks must take it for one that reads everything.
    """
    manifest = unpack(request.manifest)
    keep = {
        name
        for name, node in manifest.nodes.items()
        if node.resource_type in ("model", "seed", "snapshot")
    }
    trim(manifest, keep | set(manifest.sources))
    read = {name: tuple(_tables(manifest, name)) for name in manifest.nodes}
    for name, node in {**manifest.nodes, **manifest.sources}.items():
        put(node, Relation("memory", "main", table_of(name)))
    try:
        result = invoke(
            ["compile"],
            project_dir=request.project_dir,
            profile=IN_MEMORY,
            log_dir=request.log_dir,
            manifest=manifest,
        )
    finally:
        close_connections()
    return tuple(
        CompiledSql(each.node.unique_id, each.node.compiled_code, read[each.node.unique_id])
        for each in getattr(result.result, "results", None) or ()
        if str(each.status) == "success"
        and each.node.resource_type == "model"
        and each.node.language == "sql"
        and each.node.compiled_code
    )


def _tables(manifest: Any, name: str) -> Iterator[str]:
    """What stands as a table in a model's SQL; an ephemeral model's SQL stands there itself."""
    for each in reads(manifest.nodes[name]):
        node = manifest.nodes.get(each)
        if node is not None and node.config.materialized == "ephemeral":
            yield from _tables(manifest, each)
        else:
            yield each
