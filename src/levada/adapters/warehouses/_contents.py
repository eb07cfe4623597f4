"""What staged rows are, as one number for each partition: the same rows, the same number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import duckdb

from levada import intervals
from levada.adapters.warehouses._session import scratch, translated
from levada.adapters.warehouses._sql import (
    column_type,
    instant,
    name,
    row_hash,
    within_partitions,
)
from levada.errors import NotPublishable
from levada.terms import Contract, Partition

__all__ = ["contents"]


def contents(
    setup: Iterable[str], relation: str, contract: Contract, partitions: Sequence[Partition]
) -> Mapping[Partition, str]:
    """
    `rows:hash` of each partition of a relation, in one scan; `0:0` where there is no row.

    `setup` is what a DuckDB executes before it reads the relation. The hash is the sum of DuckDB's
    64-bit row hashes, in hexadecimal, over values of the promised types: it is the same whichever
    warehouse the rows lie in.
    """
    if not partitions:
        return {}
    slices = list(dict.fromkeys(partitions))
    query = _query(relation, contract, slices)
    try:
        with scratch(setup) as connection:
            rows = connection.execute(query).fetchall()
    except (duckdb.ConversionException, duckdb.BinderException, duckdb.CatalogException) as e:
        raise NotPublishable(
            f"{contract.table} cannot be read as {contract.id} {contract.version} promises: {e}"
        ) from e
    except duckdb.Error as error:
        raise translated(error, "") from error
    found = {slices[i]: f"{count}:{int(total or 0):x}" for i, count, total in rows}
    return {p: found.get(p, "0:0") for p in slices}


def _query(relation: str, contract: Contract, slices: Sequence[Partition]) -> str:
    """One query for the count and hash of every slice, by its number."""
    hashed = row_hash(contract.columns)
    if len(slices) == 1:
        inside = within_partitions(contract, slices)
        return f"SELECT 0, count(*), sum({hashed}) FROM {relation} WHERE {inside}"
    promised = contract.column(contract.interval_column or "")
    if promised is None:
        raise ValueError(f"{contract.table} is WHOLE: it has one partition, not {len(slices)}")
    kind = column_type(promised.type)
    bounds = []
    for number, (start, stop) in enumerate(intervals.bounds(p) for p in slices):
        if kind == "DATE":
            days = [intervals.day_from(at, contract.zone) for at in (start, stop)]
            bounds.append(f"({number}, DATE '{days[0]}', DATE '{days[1]}')")
        else:
            bounds.append(f"({number}, {instant(start)}, {instant(stop)})")
    # Slices do not overlap, so a row belongs to the one that begins last before it.
    row = f"CAST({name(promised.name)} AS {kind}) AS moment, {hashed} AS hashed"
    return (
        f"WITH slices(slice, low, high) AS (VALUES {', '.join(bounds)})"
        f" SELECT slice, count(*), sum(hashed) FROM (SELECT {row} FROM {relation}) AS rows"
        " ASOF JOIN slices ON moment >= low WHERE moment < high GROUP BY slice"
    )
