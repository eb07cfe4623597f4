"""Tables whose end is announced, and who still reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from levada.calendars import opening
from levada.govern.policies import Broken, Finding, Level, Policy, Subject
from levada.terms import Contract, TableRef

__all__ = ["DEPRECATED", "deprecations"]

DEPRECATED = Policy(
    name="deprecated",
    rule=lambda _: (),  # it is judged with the time, which no policy of the file knows
    message="A table whose support has ended goes away: its readers must have left by then.",
    level=Level.WARNING,
)


def deprecations(all_of: Iterable[Subject], now: datetime) -> Iterator[Finding]:
    """Every edge into a table that is deprecated or has its end set, as warnings of its reader."""
    subjects = tuple(all_of)
    contracts = {subject.mart.table: subject.contract for subject in subjects}
    for subject in subjects:
        for edge in subject.edges:
            read = contracts.get(edge.upstream)
            if read is not None and _ending(read, now):
                at = ("input", str(edge.upstream))
                broken = Broken(_wrong(read), _right(read, contracts), at)
                yield Finding(DEPRECATED, subject.mart.table, broken)


def _ending(contract: Contract, now: datetime) -> bool:
    since = contract.deprecated
    if contract.status == "deprecated":
        return True
    if since is None:  # a last day without an end of support: whoever reads it must know by now
        return contract.sunset is not None
    return opening(since, contract.zone) <= now


def _wrong(contract: Contract) -> str:
    said = []
    if contract.deprecated or contract.status == "deprecated":
        since = f" since {contract.deprecated}" if contract.deprecated else ""
        said.append(f"is deprecated{since}")
    if contract.sunset:
        said.append(f"is held from {contract.sunset}")
    return f"reads {contract.table}, which {', and '.join(said)}"


def _right(contract: Contract, known: Iterable[TableRef]) -> str:
    table = contract.table
    newer = [
        t.major for t in known if (t.domain, t.name) == (table.domain, table.name) if t > table
    ]
    if newer:
        return f"read {table.domain}.{table.name}@{max(newer)}"
    return "ask its owner what replaces it"
