"""
Run by a Python that has Dagster and not Levada: the closure of a graph of daily assets, by Dagster.

    python _dagster_closure.py GRAPH.json
"""

from __future__ import annotations

import json
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any


def main() -> None:
    import dagster  # type: ignore[import-not-found]
    from dagster._core.asset_graph_view import bfs  # type: ignore[import-not-found]
    from dagster._core.asset_graph_view.asset_graph_view import (  # type: ignore[import-not-found]
        AssetGraphView,
    )
    from dagster._core.definitions.assets.graph.asset_graph_subset import (  # type: ignore[import-not-found]
        AssetGraphSubset,
    )
    from dagster._core.definitions.partitions.context import (  # type: ignore[import-not-found]
        partition_loading_context,
    )

    said = json.loads(Path(sys.argv[1]).read_text())
    first = date.fromisoformat(said["first"])
    last = first + timedelta(days=said["days"])
    days = dagster.DailyPartitionsDefinition(
        start_date=str(first), end_date=str(last), timezone=said["zone"]
    )

    def made(name: str, reads: list[tuple[str, int, int]]) -> Any:
        deps = [
            dagster.AssetDep(
                above.replace(".", "_"),
                partition_mapping=dagster.TimeWindowPartitionMapping(
                    start_offset=low, end_offset=high, allow_nonexistent_upstream_partitions=True
                ),
            )
            for above, low, high in reads
        ]

        @dagster.asset(name=name.replace(".", "_"), partitions_def=days, deps=deps)
        def body() -> None: ...

        return body

    assets = [made(name, reads) for name, reads in said["graph"]]
    definitions = dagster.Definitions(assets=assets)
    graph = definitions.resolve_asset_graph()
    root = dagster.AssetKey(said["graph"][0][0].replace(".", "_"))
    with dagster.DagsterInstance.ephemeral() as instance, partition_loading_context():
        keys = days.get_partition_keys()[slice(*said["asked"])]
        some = days.subset_with_partition_keys(keys)
        asked = AssetGraphSubset(partitions_subsets_by_asset_key={root: some})
        view = AssetGraphView.for_test(definitions, instance)

        def complete() -> Any:
            """What a backfill asks when slices fail: whatever lies below, to the end."""
            return bfs.bfs_filter_asset_graph_view(
                view,
                lambda found, _: bfs.AssetGraphViewBfsFilterConditionResult(found, []),
                asked,
                include_full_execution_set=False,
            )[0]

        def once() -> Any:
            """Each asset visited once, so that what reaches it later by a longer way is missed."""
            return graph.bfs_filter_subsets(lambda *_: True, asked)

        told: dict[str, Any] = {"version": dagster.__version__}
        for name, closure in (("once", once), ("complete", complete)):
            begun = time.process_time()
            found = closure()
            told[f"{name}_cpu"] = time.process_time() - begun
            subsets = found.partitions_subsets_by_asset_key.values()
            told[f"{name}_cells"] = sum(len(subset) for subset in subsets)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
