"""
Run by a Python that has the peers and not Levada: one of them compares `old` with `new`.

    python _diff_peers.py datacompy|reladiff|sqlmesh FOLDER
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any


def datacompy(folder: Path) -> dict[str, int]:
    """By Polars, the quickest of its engines on one machine."""
    import polars as pl  # type: ignore[import-not-found]
    from datacompy import PolarsCompare  # type: ignore[import-not-found]

    old, new = (pl.read_parquet(folder / f"{side}.parquet") for side in ("old", "new"))
    found = PolarsCompare(old, new, join_columns="id")
    changed = found.intersect_rows.height - found.count_matching_rows()
    return {
        "changed": changed,
        "old": found.df1_unq_rows.height,
        "new": found.df2_unq_rows.height,
    }


def reladiff(folder: Path) -> dict[str, int]:
    """Inside one DuckDB, by an outer join: its quick way where both tables are in one database."""
    import duckdb
    from reladiff import Algorithm, connect_to_table, diff_tables  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as made:
        path = f"{made}/both.duckdb"
        with duckdb.connect(path) as db:
            for side in ("old", "new"):
                db.execute(f"CREATE VIEW {side} AS FROM read_parquet('{folder / side}.parquet')")
        others = ("customer", "store", "amount", "at", "day", "paid")
        old, new = (
            connect_to_table(f"duckdb://{path}", side, "id", extra_columns=others)
            for side in ("old", "new")
        )
        signs: dict[str, set[str]] = {}
        for sign, row in diff_tables(old, new, algorithm=Algorithm.JOINDIFF):
            signs.setdefault(row[0], set()).add(sign)
    counts = {"+": 0, "-": 0, "+-": 0}
    for each in signs.values():
        counts["".join(sorted(each))] += 1
    return {"changed": counts["+-"], "old": counts["-"], "new": counts["+"]}


def sqlmesh(folder: Path) -> dict[str, int]:
    """Its table diff over a DuckDB."""
    import duckdb
    from sqlmesh.core.engine_adapter import create_engine_adapter  # type: ignore[import-not-found]
    from sqlmesh.core.table_diff import TableDiff  # type: ignore[import-not-found]

    db = duckdb.connect()
    for side in ("old", "new"):
        db.execute(f"CREATE VIEW {side} AS FROM read_parquet('{folder / side}.parquet')")
    adapter = create_engine_adapter(lambda: db, "duckdb")
    found = TableDiff(adapter, "old", "new", on=["id"]).row_diff()
    return {"changed": found.partial_match_count, "old": found.s_only_count,
            "new": found.t_only_count}  # fmt: skip


def main() -> None:
    peer, folder = sys.argv[1], Path(sys.argv[2])
    began = time.process_time()
    peers = {"datacompy": datacompy, "reladiff": reladiff, "sqlmesh": sqlmesh}
    found: dict[str, Any] = peers[peer](folder)
    cpu = time.process_time() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {"cpu": cpu, "memory": memory, "found": found, "version": metadata.version(peer)}
        )
    )


if __name__ == "__main__":
    main()
