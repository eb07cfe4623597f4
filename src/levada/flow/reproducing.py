"""Making a published interval again, in a stage of its own, to see whether it is the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from levada.adapters.diffing import DuckSide, compare
from levada.adapters.warehouses._session import scratch
from levada.adapters.warehouses._sql import within_partitions
from levada.diff import Difference, Question
from levada.errors import LandingMoved, ToolError, VersionGone
from levada.flow import expiry
from levada.flow.expiry import Gone
from levada.flow.keeping import Kept, as_it_was, made_with, variables_of
from levada.flow.runs import Platform, made, new_run_id, staged
from levada.terms import Claim, Mesh, Publication, TableRef

if TYPE_CHECKING:
    from levada.ports import Stage

__all__ = ["Reproduced", "reproduce"]


@dataclass(frozen=True, slots=True)
class Reproduced:
    """
    What came of making a line again: `identical`, `differs`, `expired` (something that it was made
    of is gone), `unknown` (its code is not kept, an input is no longer declared, a variable is
    another), `failed` (the tool did).
    """

    line: Publication
    verdict: str
    because: str
    differences: Mapping[TableRef, Difference] = field(default_factory=dict)
    on: datetime | None = None
    """Since when what expired is gone, where that was recorded."""


def reproduce(platform: Platform, line: Publication) -> Reproduced:
    """
    Build a line again from its recorded code, contract and pinned inputs, beside everything that is
    published, and compare what comes out, row by row. Nothing is published or recorded.
    """
    mesh, settings = platform.mesh, platform.settings
    product_id = mesh.product(line.table).id
    kept = made_with(settings, line, product_id)
    if kept is None:
        because = "the code that made it is not kept here: it was compiled elsewhere, or before"
        return Reproduced(line, "unknown", because)
    then = as_it_was(mesh, kept)
    if lost := _undeclared(then, kept):
        because = f"an input is no longer declared: {', '.join(lost)}"
        return Reproduced(line, "unknown", because)
    try:
        gone = expiry.inputs_of(platform, line)
        if gone is None:
            return _rebuilt(replace(platform, mesh=then), line, kept)
    except LandingMoved as error:
        gone = expiry.replaced(platform, line, str(error))
    except VersionGone as error:  # given up while it was built
        gone = expiry.inputs_of(platform, line) or Gone(f"expired: {error}")
    except ToolError as error:
        return Reproduced(line, "failed", str(error))
    return Reproduced(line, "expired", gone.because, on=gone.on)


def _undeclared(mesh: Mesh, kept: Kept) -> list[str]:
    """What it read that the mesh no longer has: nobody says what may be read of it."""
    there = {source.table for source in mesh.sources}
    read = {edge.upstream for edge in kept.product.dependencies}
    return sorted(str(t) for t in read if t not in there and mesh.find(t) is None)


def _rebuilt(then: Platform, line: Publication, kept: Kept) -> Reproduced:
    run, product = new_run_id(), kept.product
    claim = Claim(product.id, line.partition, run, 0, line.made_by, line.inputs, then.clock())
    stage = staged(then, run, product, [claim])
    try:
        with kept.manifest(then.settings, run) as manifest:
            made(then, product, stage, [claim], manifest)
        stage = then.warehouse.seal(stage)
        return _compared(then, line, kept, stage)
    finally:
        then.warehouse.discard(stage)


def _compared(platform: Platform, line: Publication, kept: Kept, stage: Stage) -> Reproduced:
    """
    Every table of the product, against the content that the line of the same run has recorded; rows
    are shown where the warehouse still has those of then.
    """
    other: list[TableRef] = []
    found: dict[TableRef, Difference] = {}
    lost = ""
    for mart in kept.product.marts:
        history = platform.runner.history(mart.table, line.partition)
        published = [x for x in history if isinstance(x, Publication) and x.run == line.run]
        contents = platform.warehouse.contents(stage, mart.contract, [line.partition])
        if not published or contents[line.partition] == published[0].content:
            continue
        other.append(mart.table)
        domain, version = mart.table.domain, published[0].data_version
        if gone := expiry.given_up(platform, domain, {version}):
            now, then = (x.split(":")[0] for x in (contents[line.partition], published[0].content))
            lost = f"; {then} rows then and {now} now, not shown: {gone.because}"
        else:
            found[mart.table] = _difference(platform, stage, kept, mart.table, published[0])
    if not other:
        return Reproduced(line, "identical", f"the same {line.content.split(':')[0]} rows")
    tables = ", ".join(map(str, other))
    if moved := _moved(platform, kept):
        because = f"{tables} came out otherwise, but by other variables of dbt_project.yml: {moved}"
        return Reproduced(line, "unknown", because + lost, found)
    return Reproduced(line, "differs", f"{tables} came out otherwise{lost}", found)


def _moved(platform: Platform, kept: Kept) -> str:
    """
    The variables that are others now than when the code was kept: dbt reads those of now. Some of
    them may be no matter to this product; the rows that differ are told all the same.
    """
    product = kept.product
    now = variables_of(platform.settings, product.domain)
    then = now if kept.variables is None else kept.variables
    return ", ".join(sorted(n for n in {*now, *then} if now.get(n) != then.get(n)))


def _difference(
    platform: Platform, stage: Stage, kept: Kept, table: TableRef, line: Publication
) -> Difference:
    contract = next(m.contract for m in kept.product.marts if m.table == table)
    warehouse = platform.warehouse
    where = within_partitions(contract, [line.partition])
    # Of a warehouse in one database both say the same.
    connection = scratch([*warehouse.reading(stage), *warehouse.attaching([table.domain])])
    try:
        sides = (warehouse.relation(table, line.data_version), str(stage.outputs[table]))
        one, other = (
            DuckSide(connection, f"(SELECT * FROM {relation} WHERE {where})") for relation in sides
        )
        return compare(connection, one, other, Question(contract.key))
    finally:
        connection.close()
