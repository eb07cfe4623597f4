"""Which intervals of a product may be built together, and into which parts a build may be cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from levada.intervals import nests
from levada.settings import nearest
from levada.terms import (
    Dependency,
    FanOut,
    Grain,
    Lag,
    Mart,
    Mesh,
    Product,
    Rollup,
    TableRef,
    Trailing,
)

__all__ = ["alone_because", "windows_differ", "wrong_of_shards"]

_MOST_SHARDS = 256


def alone_because(mesh: Mesh, product: Product) -> str:
    """Why intervals of a product can never be built together; empty where they may be."""
    if product.grain is Grain.WHOLE:
        return "an undivided table has one interval"
    for edge in product.dependencies:
        if edge.wait.max_lag is not None:
            return f"what stands in for {edge.upstream} differs by interval"
        if windows_differ(edge, mesh.slicing(edge.upstream), product.zone):
            return f"by {edge.mapping.kind} of {edge.upstream} its window differs by interval"
    return ""


def windows_differ(edge: Dependency, upstream: tuple[Grain, str] | None, zone: str) -> bool:
    """Whether an interval reads rows that lie in the window of another interval."""
    if isinstance(edge.mapping, Rollup) and upstream:
        return not nests(*upstream, zone)
    return isinstance(edge.mapping, Lag | Trailing | FanOut)


def wrong_of_shards(  # noqa: PLR0911 - one fault after the other
    said: Sequence[Any],
    marts: Sequence[Mart],
    columns_of: Callable[[TableRef], Sequence[str]],
    warehouse: str,
) -> tuple[str, str] | None:
    """What is wrong with a declaration of shards, and what would be right."""
    words = said[0]
    if any(each != words for each in said):
        return "differs in a product", "say the same of each of its models"
    if not isinstance(words, dict) or set(words) != {"key", "count"}:
        return "says no key and count", "shards: {key: carrier, count: 4}"
    key, count = str(words["key"]), words["count"]
    if not isinstance(count, int) or not 2 <= count <= _MOST_SHARDS:
        return f"of {count!r} is no number of shards", f"write 2 to {_MOST_SHARDS}"
    promised = [[column.name for column in mart.contract.columns] for mart in marts]
    lacking = next((names for names in promised if key not in names), None)
    if lacking is not None:
        return f"by {key!r}: a table promises no such column", nearest(key, lacking)
    if all(key not in columns_of(d.upstream) for m in marts for d in m.dependencies):
        right = "name a column that an input has under the same name"
        return f"by {key!r}: no input has such a column, so nothing would be cut", right
    if warehouse != "ducklake":
        return (
            f"in a warehouse of type {warehouse}",
            "only a DuckLake builds shards",
        )
    return None
