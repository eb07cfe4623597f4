"""
Publish: the only writer of published tables and of publications.

No transaction spans warehouse and ledger, so publishing is a protocol, and every step of it can be
killed: claim, stage and audit went before; here are intent, locked swap, lines. `recover` finishes
what a killed run left behind, whichever step it died in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from levada.calendars import opening
from levada.errors import ClaimLost, LevadaError, NotPublishable
from levada.ports import Change, Ledger, Stage, Warehouse
from levada.terms import Contract, Intent, Partition, Publication, TableRef, Tampering, Verdict
from levada.terms.versions import version_number

__all__ = ["IN_FORCE", "Standing", "inspect", "publish", "recover", "refusals", "restore"]

IN_FORCE = ("active", "deprecated")
"""The statuses under which a contract may be published."""

Recorded = Callable[[str], Contract]
"""The contract that the ledger recorded under a label."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A contract under which a table is about to be published, and what the ledger knows of it."""

    contract: Contract
    recorded: bool
    kept: str = ""
    """`id version hash` of the contract that its table keeps; none: it is the first."""
    breaks: tuple[str, ...] = ()
    """What it takes from those who read the table under that one."""
    approved: bool = False


def refusals(standing: Standing, verdict: Verdict, now: datetime) -> tuple[str, ...]:
    """
    Everything for which publishing refuses, each with what to do; nothing, if it may go on.

    Verdicts are the audit's, all else is the contract's. What is not known to be right is refused.
    """
    contract, found = standing.contract, []
    named = f"the contract {contract.label}"
    if not verdict.publishes:
        found.append(f"its verdict is {verdict.value}: only PASS and WARN publish")
    if not standing.recorded:
        found.append(f"{named} is not recorded: governance records it, from the protected branch")
    if contract.status not in IN_FORCE:
        mend = f"set `status: active` in {contract.path}, as a new version"
        found.append(f"{named} is {contract.status or 'without a status'}: {mend}")
    if contract.sunset and opening(contract.sunset, contract.zone) <= now:
        mend = "publish its next major, or move the date in a new version"
        found.append(f"the sunset of {contract.table} was on {contract.sunset}: {mend}")
    if _rewritten(contract, standing.kept):
        found.append(
            f"version {contract.version} of {contract.id} was published with another content, as "
            f"{standing.kept.rsplit(' ', 1)[-1]}: raise the version in {contract.path}"
        )
    elif _fallen(contract, standing.kept):
        found.append(
            f"{named} is below {standing.kept}, by which its table was published last: an approval "
            f"is for a change from what was kept then; make it a later version in {contract.path}"
        )
    elif standing.breaks and not standing.approved:
        first = "; ".join(standing.breaks[:3])
        more = f", and {len(standing.breaks) - 3} more" if len(standing.breaks) > 3 else ""
        found.append(
            f"{named} breaks {standing.kept}, and nobody has approved it: {first}{more}; make it "
            f"a new major, or let its reviewer run `levada approve {contract.path}`"
        )
    return tuple(found)


def _rewritten(contract: Contract, kept: str) -> bool:
    """Whether this very version was published with another content."""
    *same, digest = kept.rsplit(" ", 2)
    return same == [contract.id, contract.version] and digest != contract.hash[:12]


def _fallen(contract: Contract, kept: str) -> bool:
    """Whether a later version was published: an old text, and its approval, come again."""
    if not kept:
        return False
    name, version, _ = kept.rsplit(" ", 2)
    return name == contract.id and version_number(contract.version) < version_number(version)


def publish(
    ledger: Ledger,
    warehouse: Warehouse,
    stage: Stage,
    lines: Sequence[Publication],
    recorded: Recorded,
    breaks: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> tuple[Publication, ...]:
    """
    Swap a sealed and audited stage in, and write its lines (as the publisher).

    `lines` lack generation and data version, which the ledger and the swap give; `breaks` says what
    contracts take from readers, which the ledger lets pass only with an approval. Raises ClaimLost
    when another run took the claim over, NotPublishable when the law forbids a line, TableHeld when
    a table was changed by hand: then nothing was swapped.
    """
    tables = sorted({line.table for line in lines})
    ledger.intend(stage.run, lines, breaks)
    with ledger.locked(tables):
        _recover(ledger, warehouse, tables, but=stage.run)
        intent = _confirmed(ledger, warehouse, stage.run, tables)
        try:
            version = warehouse.swap(stage, _changes(intent, recorded), {"run": stage.run})
        except LevadaError as error:
            _give_up(ledger, warehouse, intent, str(error))
            raise
        return ledger.publish(stage.run, version)


def _confirmed(
    ledger: Ledger, warehouse: Warehouse, run: str, tables: Sequence[TableRef]
) -> Intent:
    """
    The intent, if it still stands and nobody has changed a table of it by hand. Under the locks,
    so that what is swapped over is what was looked at. Where that cannot be told, nothing was
    swapped, and the intent is dropped, so that its run can say what went wrong.
    """
    try:
        inspect(ledger, warehouse, tables[0].domain, tables)
        return ledger.confirm(run)
    except ClaimLost:
        raise
    except (LevadaError, OSError) as error:
        with suppress(LevadaError):
            ledger.withdraw(run, str(error), keep_claims=True)
        raise


def inspect(
    ledger: Ledger,
    warehouse: Warehouse,
    domain: str,
    tables: Collection[TableRef] | None = None,
) -> tuple[Tampering, ...]:
    """
    Read on in the history of a domain and record what no publication and no open intent accounts
    for, and files (of these tables, or of all) that are not as they were written.

    The warehouse is read before the ledger: a run intends before it swaps, so it is known by then.
    """
    before = ledger.inspected(domain)
    altered = warehouse.altered(domain, tables)
    changes = warehouse.changes(domain, before)
    if not changes and not altered:
        return ()
    unknown = ledger.unknown_runs({c.run for c in changes if c.run})
    foreign = [c for c in changes if c.run is None or c.run in unknown]
    found = (
        *(_told(table, c, _said(c)) for c in foreign for table in c.tables),
        *(_told(table, c, f"file {c.what}") for c in altered for table in c.tables),
    )
    ledger.inspect(domain, changes[-1].version if changes else before, found)
    return found


def _told(table: TableRef, change: Change, because: str) -> Tampering:
    return Tampering(table, change.version, because, change.at)


def _said(change: Change) -> str:
    claims = f"which says it is of run {change.run}" if change.run else "which names no run"
    return f"version {change.version} of {change.at:%Y-%m-%d %H:%M:%S}Z, {claims} ({change.what})"


def _give_up(ledger: Ledger, warehouse: Warehouse, intent: Intent, because: str) -> None:
    """
    Drop the intent of a swap that failed, so that its run can say what went wrong. Where it cannot
    be told whether the swap happened, the intent stays, and recovery looks once its lease is over.
    """
    with suppress(LevadaError):
        if warehouse.find(intent.lines[0].table.domain, intent.run) is None:
            ledger.withdraw(intent.run, because, keep_claims=True)


def recover(ledger: Ledger, warehouse: Warehouse) -> tuple[str, ...]:
    """
    Finish or drop every intent whose lease has run out; the runs that were finished.

    Safe at any time and in any number of processes: it takes the locks that a swap takes.
    """
    finished: list[str] = []
    for intent in ledger.intents():
        if intent.expired:
            tables = sorted({line.table for line in intent.lines})
            with ledger.locked(tables):
                finished += _recover(ledger, warehouse, tables)
    return tuple(finished)


def restore(
    ledger: Ledger,
    warehouse: Warehouse,
    run: str,
    lines: Sequence[Publication],
    version: str,
    recorded: Recorded,
) -> tuple[Publication, ...]:
    """
    Put older data back by the same protocol: a new version, new lines. Raises VersionGone, and
    NotPublishable where that version does not show what the lines say: then nothing was swapped.
    """
    tables = sorted({line.table for line in lines})
    ledger.intend(run, lines)
    with ledger.locked(tables):
        intent = _confirmed(ledger, warehouse, run, tables)
        try:
            _compare(warehouse, lines, version, recorded)
            new = warehouse.restore(_changes(intent, recorded), version, {"run": run})
        except LevadaError as error:
            _give_up(ledger, warehouse, intent, str(error))
            raise
        return ledger.publish(run, new)


def _compare(
    warehouse: Warehouse, lines: Sequence[Publication], version: str, recorded: Recorded
) -> None:
    """See that a version shows what lines say; it cannot change, so what is put back is that."""
    by_contract: dict[str, list[Publication]] = {}
    for line in lines:
        by_contract.setdefault(line.contract, []).append(line)
    for label, said in sorted(by_contract.items()):
        shown = warehouse.shown(recorded(label), [line.partition for line in said], version)
        for line in said:
            if shown[line.partition] != line.content:
                raise NotPublishable(
                    f"version {version} shows other rows of {line.table} {line.partition} than "
                    f"were published then: {shown[line.partition]}, not {line.content}"
                )


def _recover(
    ledger: Ledger, warehouse: Warehouse, tables: Collection[TableRef], but: str = ""
) -> list[str]:
    """Under the locks of `tables`: what the warehouse shows decides what the ledger says."""
    finished: list[str] = []
    for intent in ledger.intents(tables):
        if not intent.expired or intent.run == but:
            continue
        found = warehouse.find(intent.lines[0].table.domain, intent.run)
        try:
            if found is None:
                ledger.withdraw(intent.run, "its run died before the swap")
            else:
                ledger.publish(intent.run, found)
                finished.append(intent.run)
        except ClaimLost:
            continue  # its run came back to life and finished by itself
    return finished


def _changes(
    intent: Intent, recorded: Recorded
) -> tuple[tuple[Contract, tuple[Partition, ...]], ...]:
    """The partitions that each table of the intent changes, by its recorded contract."""
    partitions: dict[TableRef, list[Partition]] = {}
    labels: dict[TableRef, str] = {}
    for line in intent.lines:
        partitions.setdefault(line.table, []).append(line.partition)
        labels[line.table] = line.contract
    return tuple((recorded(labels[t]), tuple(sorted(ps))) for t, ps in sorted(partitions.items()))
