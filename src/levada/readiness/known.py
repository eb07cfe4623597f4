"""What whoever reads a table must know of it although it is READY."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from levada.calendars import opening
from levada.readiness.marks import holding
from levada.terms import Contract, Mesh, Partition, Publication, TableRef, Verdict

if TYPE_CHECKING:
    from levada.readiness.judge import Judge

__all__ = ["ending", "endings", "mark", "marks"]

_FEW = 3


def ending(contract: Contract, now: datetime) -> str:
    """
    What readers of a table that goes away are told; nothing, where none of its dates is known.

    A last day without an end of support is told at once: whoever reads the table must know by then.
    """
    since, said = contract.deprecated, []
    begun = since is not None and opening(since, contract.zone) <= now
    if since is not None and not begun and contract.status != "deprecated":
        return ""
    if begun:
        said.append(f"deprecated since {since}")
    elif contract.status == "deprecated":
        said.append("deprecated")
    if contract.sunset:
        over = opening(contract.sunset, contract.zone) <= now
        said.append(f"held {'since' if over else 'from'} {contract.sunset}")
    return ", ".join(said)


def endings(mesh: Mesh, tables: Iterable[TableRef], now: datetime) -> tuple[str, ...]:
    """The same of each of these tables that goes away, with its name."""
    told = []
    for table in sorted({table for table in tables if not table.is_source}):
        with suppress(KeyError):  # nothing declares it any more: its readers are told that
            if said := ending(mesh.mart(table).contract, now):
                told.append(f"{table} is {said}")
    return tuple(told)


def mark(judge: Judge, table: TableRef, partition: Partition) -> str:
    """What is the matter with the newest publication of a slice; nothing, if it simply passed."""
    line = judge.facts.line(table, partition)
    if not isinstance(line, Publication):
        return ""
    said = [*holding(line, judge.mended), *(f"waived: {each}" for each in line.waived)]
    if line.verdict is not Verdict.PASS:
        said = [": ".join((line.verdict.value, ", ".join(line.warnings))).rstrip(": "), *said]
    return "; ".join(said)


def marks(judge: Judge, slices: Collection[tuple[TableRef, Partition]]) -> tuple[str, ...]:
    """The marks of these slices, those of a table that say the same together."""
    alike: dict[tuple[TableRef, str], list[Partition]] = {}
    for table, partition in slices:
        if said := mark(judge, table, partition):
            alike.setdefault((table, said), []).append(partition)
    told = []
    for (table, said), found in sorted(alike.items(), key=lambda each: each[0]):
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        told.append(f"{table} {found[0]}{more}: {said}")
    if len(told) > _FEW:
        told[_FEW:] = [f"and {len(told) - _FEW} more marks"]
    return tuple(told)
