"""Tables whose end is announced, and who still reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from levada.govern.policies import Broken, Finding, Level, Policy, Subject
from levada.readiness import ending
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
            if read is not None and (said := ending(read, now)):
                at = ("input", str(edge.upstream))
                wrong = f"reads {read.table}, which is {said}"
                broken = Broken(wrong, _right(read, contracts), at)
                yield Finding(DEPRECATED, subject.mart.table, broken)


def _right(contract: Contract, known: Iterable[TableRef]) -> str:
    table = contract.table
    newer = [
        t.major for t in known if (t.domain, t.name) == (table.domain, table.name) if t > table
    ]
    if newer:
        return f"read {table.domain}.{table.name}@{max(newer)}"
    return "ask its owner what replaces it"
