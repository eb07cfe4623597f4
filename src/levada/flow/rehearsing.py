"""What a model as it is written now would change: built in a stage of its own, unpublished."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from levada import sense as sensing
from levada.adapters.diffing import DuckSide, compare
from levada.adapters.warehouses._session import scratch
from levada.adapters.warehouses._sql import within_partitions
from levada.build import manifest_path
from levada.diff import Difference, Question
from levada.errors import DeclarationError, Fault, ToolError
from levada.flow.foretelling import checksum
from levada.flow.runs import Platform, made, new_run_id, staged
from levada.readiness import Judge, fingerprint
from levada.terms import Claim, Contract, Mesh, Partition, Product, State, TableRef

if TYPE_CHECKING:
    from levada.ports import Stage

__all__ = ["Rehearsed", "model_of", "rehearse"]


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What a build of one interval would change, table by table, and that nothing did."""

    partition: Partition
    differences: Mapping[TableRef, Difference]
    """A is the interval as it is published, B as it would be."""
    checksums: Mapping[TableRef, str]
    """Rows and sum of row hashes of each whole table, the same before and after."""


def model_of(mesh: Mesh, said: str) -> TableRef | None:
    """The published table that a model makes, where this is the name of one."""
    try:
        table = TableRef.parse(said.strip())
    except ValueError:
        return None
    return table if mesh.find(table) is not None else None


def rehearse(
    platform: Platform, table: TableRef, partition: Partition, *, key: tuple[str, ...], samples: int
) -> Rehearsed:
    """
    Build a table's product for one interval, from its inputs as they are published now, beside all
    that is published. Nothing is claimed, recorded or published.

    Raises DeclarationError where its inputs are not ready, ToolError where it cannot be built.
    """
    product = platform.mesh.product(table)
    before = {mart.table: _checksum(platform, mart.contract) for mart in product.marts}
    claim = _pinned(platform, product, partition)
    stage = staged(platform, claim.run, product, [claim])
    try:
        manifest = manifest_path(platform.settings, product.domain)
        made(platform, product, stage, [claim], manifest)
        stage = platform.warehouse.seal(stage)
        found = {
            mart.table: _difference(platform, stage, mart.contract, partition, key, samples)
            for mart in product.marts
        }
    finally:
        platform.warehouse.discard(stage)
    after = {mart.table: _checksum(platform, mart.contract) for mart in product.marts}
    if before != after:
        raise ToolError("verify-write", f"{product} was published meanwhile: ask again")
    return Rehearsed(partition, found, before)


def _pinned(platform: Platform, product: Product, partition: Partition) -> Claim:
    """What a run would claim now, without claiming it."""
    mesh, now = platform.mesh, platform.clock()
    facts = platform.runner.facts(*sensing.all_to_read(mesh, [product]))
    judge = Judge(mesh, facts, now)
    found = judge.inputs(product, partition)
    if found.state is not State.READY:
        wrong = f"its inputs are {found.state.value}: {found.because}"
        raise DeclarationError((Fault(f"{product} {partition.key}", 0, wrong),))
    pins = judge.pins(product, partition)
    run = new_run_id()
    return Claim(product.id, partition, run, 0, fingerprint(product, partition, pins), pins, now)


def _difference(
    platform: Platform,
    stage: Stage,
    contract: Contract,
    partition: Partition,
    key: tuple[str, ...],
    samples: int,
) -> Difference:
    import duckdb

    warehouse, table = platform.warehouse, contract.table
    where = within_partitions(contract, [partition])
    statements = [*warehouse.reading(stage), *warehouse.attaching([table.domain])]
    with closing(scratch(statements)) as connection:
        new = str(stage.outputs[table])
        try:
            old = warehouse.relation(table)
            connection.execute(f"SELECT 1 FROM {old} LIMIT 0")
        except duckdb.CatalogException:
            old = f"(SELECT * FROM {new} LIMIT 0)"  # its first publication makes it
        one, other = (
            DuckSide(connection, f"(SELECT * FROM {relation} WHERE {where})")
            for relation in (old, new)
        )
        return compare(connection, one, other, Question(key or contract.key, {}, samples))


def _checksum(platform: Platform, contract: Contract) -> str:
    """Of a whole published table; nothing where there is none yet."""
    import duckdb

    warehouse = platform.warehouse
    with closing(scratch(warehouse.attaching([contract.table.domain]))) as connection:
        try:
            return checksum(connection, warehouse.relation(contract.table))
        except duckdb.CatalogException:
            return "none"
