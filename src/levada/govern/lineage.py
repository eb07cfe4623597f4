"""What is known of the columns that a table is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from levada.terms import TableRef

__all__ = ["ALL", "Columns", "Lineage", "Lineages", "derived", "read"]

Columns = frozenset[str] | None
"""Columns of one table; None is every one of them, because nobody can tell which."""

ALL: Columns = None


@dataclass(frozen=True, slots=True)
class Lineage:
    """
    One table's columns, and the columns of its inputs that each is made of. `rows` decide which
    rows there are (a filter, a join, a grouping), and so are part of every column; `unused` are
    read on the way and go nowhere: without them the SQL fails all the same.
    """

    outputs: Mapping[str, frozenset[tuple[TableRef, str]]]
    rows: frozenset[tuple[TableRef, str]] = frozenset()
    unused: frozenset[tuple[TableRef, str]] = frozenset()


Lineages = Mapping[TableRef, Lineage]
"""By table. Of one that is not in it nothing is known: it reads and hands on every column."""


def read(lineages: Lineages, table: TableRef, upstream: TableRef) -> Columns:
    """The columns of `upstream` that the SQL of `table` reads anywhere."""
    known = lineages.get(table)
    if known is None:
        return ALL
    pairs = known.rows.union(known.unused, *known.outputs.values())
    return frozenset(column for source, column in pairs if source == upstream)


def derived(lineages: Lineages, table: TableRef, upstream: TableRef, changed: Columns) -> Columns:
    """
    The columns of `table` that come out otherwise when these of `upstream` do.

    >>> up, down = TableRef("a", "up"), TableRef("a", "down")
    >>> known = {down: Lineage({"n": frozenset({(up, "amount")}), "day": frozenset()})}
    >>> derived(known, down, up, frozenset({"amount"})), derived({}, down, up, frozenset({"x"}))
    (frozenset({'n'}), None)
    """
    known = lineages.get(table)
    if known is None:
        return ALL

    if changed is None:

        def touched(pairs: frozenset[tuple[TableRef, str]]) -> bool:
            return any(table == upstream for table, _ in pairs)

    else:
        wanted = {(upstream, column) for column in changed}

        def touched(pairs: frozenset[tuple[TableRef, str]]) -> bool:
            return not pairs.isdisjoint(wanted)

    if touched(known.rows):
        return ALL
    return frozenset(name for name, pairs in known.outputs.items() if touched(pairs))
