"""A ledger and a warehouse in memory, which keep the laws that PostgreSQL and the lake keep."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TypeVar

from levada.errors import ClaimLost, LawBroken, NotPublishable
from levada.ports import Change, Clock, Sensing, Stage, Want
from levada.readiness import covering
from levada.terms import (
    Approval,
    Attempt,
    Claim,
    Contract,
    Facts,
    Intent,
    Landing,
    Partition,
    ProbeFailure,
    Publication,
    Span,
    Step,
    TableRef,
    Tampering,
    Verdict,
    Waived,
    Waiver,
)

__all__ = ["Entry", "MemoryLedger", "MemoryWarehouse"]

Line = Publication | Landing
Some = TypeVar("Some", Publication, Landing)
Slice = tuple[TableRef, Partition]
Target = tuple[str, Partition]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log, as its tail sees it: what it is about, and where it stands."""

    position: int
    subject: TableRef | str
    """A table that landed or was published, or a product that was attempted, claimed, released."""
    partition: Partition | None
    """None where it is about every slice."""


class MemoryLedger:
    """`ports.Ledger` without a database: one role that may do everything, one process."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.log: list[Entry] = []
        self.lines: dict[Slice, Line] = {}
        self.attempts: dict[Target, Attempt] = {}
        self._lines_of: dict[Slice, list[Line]] = {}
        self._claims: dict[Target, Claim] = {}
        self._leases: dict[str, datetime] = {}
        self._lost: set[str] = set()
        self._intents: dict[str, tuple[Intent, Mapping[Partition, int]]] = {}
        self._steps: dict[Target, Step] = {}
        self._contracts: dict[str, str] = {}
        self._tampered: dict[TableRef, Tampering] = {}
        self._pardons: dict[Target, int] = {}
        self._waivers: dict[tuple[TableRef, str, str], Waiver] = {}
        self._probes: dict[TableRef, ProbeFailure] = {}
        self._approvals: dict[tuple[str, str], str] = {}
        self._inspected: dict[str, str] = {}
        self._runs: set[str] = set()
        self._token = 0

    # --- reading ----------------------------------------------------------------------------------

    def facts(
        self,
        tables: Collection[TableRef] = (),  # noqa: ARG002 - everything is at hand
        products: Collection[str] = (),  # noqa: ARG002
        span: Span | None = None,  # noqa: ARG002
    ) -> Facts:
        """Newest lines, standing attempts and live claims; whatever is asked, of everything."""
        now = self.clock()
        live = {key: claim for key in self._claims if (claim := self._claim(key)).until > now}
        return Facts(
            *(dict(self.lines), dict(self.attempts), live, len(self.log)),
            *(dict(self._tampered), dict(self._pardons), tuple(self._waivers.values())),
            dict(self._probes),
        )

    def tail(self, after: int) -> Sequence[Entry]:
        """What was written after a position."""
        return self.log[after:]

    def named(self, after: int) -> tuple[int, frozenset[str]]:
        """The newest position, and what lines after this one are about."""
        return len(self.log), frozenset(str(entry.subject) for entry in self.log[after:])

    def claims(self, run: str) -> tuple[Claim, ...]:
        """The claims that this run holds, expired ones included while nobody took them over."""
        held = sorted(key for key, claim in self._claims.items() if claim.run == run)
        return tuple(self._claim(key) for key in held)

    def intents(self, tables: Collection[TableRef] | None = None) -> tuple[Intent, ...]:
        """Intents without lines, of these tables or of all."""
        now = self.clock()
        return tuple(
            replace(intent, expired=self._leases[run] <= now)
            for run, (intent, _) in sorted(self._intents.items())
            if tables is None or any(line.table in tables for line in intent.lines)
        )

    def steps(self) -> tuple[Step, ...]:
        """The open steps."""
        return tuple(self._steps[key] for key in sorted(self._steps))

    def contract(self, label: str) -> str:
        """The recorded canonical JSON of `id version hash`."""
        if label not in self._contracts:
            raise NotPublishable(f"the contract {label} is not recorded: governance records it")
        return self._contracts[label]

    def history(self, table: TableRef, partition: Partition) -> tuple[Line, ...]:
        """Every line of one partition, oldest first."""
        return tuple(self._lines_of.get((table, partition), ()))

    # --- landing, claiming, withholding -----------------------------------------------------------

    def land(self, landings: Sequence[Landing]) -> tuple[Landing, ...]:
        """Record what landed; equal content is no new line."""
        written = []
        for landing in landings:
            if not landing.table.is_source:
                raise LawBroken(f"{landing.table} is published, not landed: land only sources")
            old = self.lines.get((landing.table, landing.partition))
            if old is None or old.content != landing.content:
                written.append(self._write(replace(landing, generation=_generation(old) + 1)))
        return tuple(written)

    @contextmanager
    def sensing(
        self, tables: Collection[TableRef], products: Collection[str], span: Span | None = None
    ) -> Iterator[Sensing]:
        """Facts, and the claims made on them."""
        yield _Sensing(self, self.facts(tables, products, span))

    def claim(self, wants: Sequence[Want], run: str, lifetime: timedelta) -> tuple[Claim, ...]:
        """Claim what is free, or was left behind by a run whose lease has run out."""
        until = self.clock() + lifetime
        made = []
        for want in wants:
            key = (want.product, want.partition)
            if not self._free(want, run):
                continue
            if key in self._claims and (before := self._claims[key].run) != run:
                self._lost.add(before)
            self._token += 1
            claim = Claim(
                *(*key, run, self._token, want.fingerprint, want.inputs, until, want.taint)
            )
            self._claims[key] = claim
            self._leases[run] = until
            self._note(*key)
            made.append(claim)
        return tuple(made)

    def renew(self, run: str, lease: timedelta) -> None:
        """Start or renew the lease of all the run's claims."""
        if run in self._lost or not self.claims(run):
            raise ClaimLost(f"run {run} holds no claim")
        self._leases[run] = self.clock() + lease

    def release(self, run: str, partitions: Collection[Partition], because: str) -> None:  # noqa: ARG002
        """Give claims back with nothing done; claims that the run does not hold are passed over."""
        for claim in self.claims(run):
            if claim.partition in partitions:
                del self._claims[claim.product, claim.partition]
                self._note(claim.product, claim.partition)

    def withhold(self, attempts: Sequence[Attempt]) -> None:
        """Record attempts that do not publish and end their claims; the ledger counts the tries."""
        for attempt in attempts:
            key = (attempt.product, attempt.partition)
            claim = self._claims.get(key)
            if claim is None or claim.run != attempt.run:
                raise ClaimLost(f"run {attempt.run} holds no claim of {key[0]} {key[1]}")
            old = self.attempts.get(key)
            del self._claims[key]
            tries = old.tries + 1 if old else 1
            self.attempts[key] = replace(attempt, tries=tries, position=self._note(*key))

    # --- publishing -------------------------------------------------------------------------------

    def intend(
        self,
        run: str,
        lines: Sequence[Publication],
        breaks: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        """Record what is about to be published, without data version."""
        for label, taken in breaks.items():
            if taken and not self._let_pass(label):
                raise NotPublishable(f"the contract {label} breaks, not approved: {taken[0]}")
        held = {claim.partition: claim for claim in self.claims(run)}
        if run in self._intents:
            raise LawBroken(f"run {run} already has an open intent: publish or withdraw it first")
        for line in lines:
            claim = held.get(line.partition)
            if claim is None:
                raise ClaimLost(f"run {run} holds no claim of {line.table} {line.partition}")
            old = self.lines.get((line.table, line.partition))
            if line.verdict not in (Verdict.PASS, Verdict.WARN):
                raise NotPublishable(f"{line.table} {line.partition}: {line.verdict.value}")
            if line.made_by != claim.fingerprint:
                raise NotPublishable(f"made by {line.made_by}, but claimed for {claim.fingerprint}")
            if isinstance(old, Publication) and old.made_by == line.made_by:
                raise NotPublishable(f"already published by this fingerprint, {line.made_by}")
            for mark in line.waived:
                told = (self._waivers.values(), mark.table, mark.check, line.partition)
                if covering(*told, self.clock()) is None:
                    raise NotPublishable(f"its check {mark.check} is not waived, or is no longer")
        meant = tuple(
            replace(x, run=run, generation=_generation(self.lines.get((x.table, x.partition))) + 1)
            for x in lines
        )
        product = next(iter(held.values())).product
        tokens = {partition: claim.token for partition, claim in held.items()}
        self._intents[run] = (Intent(run, product, meant, expired=False), tokens)

    @contextmanager
    def locked(self, tables: Collection[TableRef]) -> Iterator[None]:  # noqa: ARG002
        """One process needs no lock."""
        yield

    def confirm(self, run: str) -> Intent:
        """Re-check that token and intent still stand."""
        if run not in self._intents:
            raise ClaimLost(f"run {run} has no open intent")
        intent, tokens = self._intents[run]
        now = {claim.partition: claim.token for claim in self.claims(run)}
        if any(now.get(partition) != token for partition, token in tokens.items()):
            raise ClaimLost(f"run {run} has lost its claim")
        return intent

    def publish(self, run: str, data_version: str) -> tuple[Publication, ...]:
        """Write the intent's lines, close its claims and steps."""
        intent = self.confirm(run)
        now = self.clock()
        written = []
        for line in intent.lines:
            marked = replace(line, waived=self._marks(line), data_version=data_version, at=now)
            written.append(self._write(marked))
            key = (intent.product, line.partition)
            for kept in (self.attempts, self._claims, self._steps):
                kept.pop(key, None)
        del self._intents[run]
        self._runs.add(run)
        return tuple(written)

    def withdraw(self, run: str, because: str, *, keep_claims: bool = False) -> None:
        """Drop an intent whose swap never happened; the claims go, unless they are kept."""
        self.confirm(run)
        del self._intents[run]
        if not keep_claims:
            self.release(run, [claim.partition for claim in self.claims(run)], because)

    # --- steps and contracts ----------------------------------------------------------------------

    def open_steps(self, steps: Sequence[Step]) -> int:
        """Open steps; how many were new."""
        new = {(s.product, s.partition): s for s in steps}
        opened = len(new.keys() - self._steps.keys())
        self._steps |= new
        return opened

    def close_steps(self, steps: Sequence[Step], because: str) -> None:  # noqa: ARG002
        """Close steps that nothing is left to do for."""
        for step in steps:
            self._steps.pop((step.product, step.partition), None)

    def record_contracts(self, contracts: Mapping[str, str]) -> tuple[str, ...]:
        """Record contracts by `id version hash`; returns the new labels."""
        new = tuple(sorted(contracts.keys() - self._contracts.keys()))
        self._contracts |= contracts
        return new

    def kept(self, tables: Collection[TableRef]) -> Mapping[TableRef, str]:
        """The contract of each table's newest publication."""
        newest: dict[TableRef, Publication] = {}
        for line in self.lines.values():
            if isinstance(line, Publication) and line.table in tables:
                last = newest.get(line.table)
                if last is None or line.position > last.position:
                    newest[line.table] = line
        return {table: line.contract for table, line in newest.items()}

    def approved(self, subject: str, digest: str) -> str | None:
        """Who approved what has this hash, if anybody did."""
        return self._approvals.get((subject, digest))

    def record_approval(
        self,
        subject: str,
        digest: str,
        reason: str,  # noqa: ARG002
        approval: Approval,
    ) -> bool:
        """Approve `subject` as it is under this hash; whether that is new."""
        new = (subject, digest) not in self._approvals
        self._approvals.setdefault((subject, digest), approval.reviewer)
        return new

    def _let_pass(self, label: str) -> bool:
        """Whether a contract that breaks was approved."""
        identity, _, digest = label.rsplit(" ", 2)
        return any(s == identity and h.startswith(digest) for s, h in self._approvals)

    def waivers(self, tables: Collection[TableRef]) -> tuple[Waiver, ...]:
        """What was granted for these tables, ended or not."""
        return tuple(w for w in self._waivers.values() if w.table in tables)

    def waive(self, waiver: Waiver, approval: Approval) -> bool:
        """Grant what a file asks for; whether that is new."""
        key = (waiver.table, waiver.check, waiver.hash)
        if key in self._waivers and self._waivers[key].revoked:
            raise NotPublishable(f"the waiver of {waiver.check} was revoked: ask anew")
        new = key not in self._waivers
        self._waivers.setdefault(key, replace(waiver, approved_by=approval.reviewer))
        self._note(waiver.table, None)
        return new

    def revoke_waiver(self, waiver: Waiver, because: str) -> bool:  # noqa: ARG002
        """End a waiver now; whether it was granted and not revoked before."""
        key = (waiver.table, waiver.check, waiver.hash)
        if key not in self._waivers or self._waivers[key].revoked:
            return False
        self._waivers[key] = replace(self._waivers[key], revoked=self.clock())
        self._note(waiver.table, None)
        return True

    def beat(self, name: str) -> None:
        """Nobody looks for signs of life in a simulation."""

    def probed(self, said: Mapping[TableRef, str]) -> None:
        """Record which sources do not answer, and why; an empty text says that one did."""
        for table, because in said.items():
            old = self._probes.get(table)
            if because == (old.because if old else ""):
                continue
            if because:
                since = old.since if old else self.clock()
                self._probes[table] = ProbeFailure(table, because, since)
            else:
                del self._probes[table]
            self._note(table, None)

    # --- what was changed by hand, and what is let go ---------------------------------------------

    def inspected(self, domain: str) -> str:
        """Up to which data version the domain's published data was looked through."""
        return self._inspected.get(domain, "0")

    def unknown_runs(self, runs: Collection[str]) -> frozenset[str]:
        """Those of which neither a publication nor an open intent tells."""
        return frozenset(run for run in runs if run not in self._runs and run not in self._intents)

    def inspect(self, domain: str, version: str, found: Sequence[Tampering]) -> None:
        """Record that the domain was looked through up to here, and what was found."""
        self._inspected[domain] = version
        for tampering in found:
            self._tampered[tampering.table] = tampering
            self._note(tampering.table, None)

    def untold(self) -> tuple[Tampering, ...]:
        """Nobody is told anything by a simulation."""
        return ()

    def tell(self, found: Tampering, to: str) -> bool:  # noqa: ARG002
        """Nobody is told anything by a simulation."""
        return False

    def pardon_step(self, product: str, partition: Partition, reason: str) -> None:  # noqa: ARG002
        """Let a partition be rebuilt from the changes that an edge holds."""
        self._pardons[product, partition] = self._note(product, partition)

    # --- the parts --------------------------------------------------------------------------------

    def _claim(self, key: Target) -> Claim:
        claim = self._claims[key]
        return replace(claim, until=self._leases[claim.run])

    def _free(self, want: Want, run: str) -> bool:
        """Whether nobody else holds it."""
        key = (want.product, want.partition)
        if key not in self._claims:
            return True
        holder = self._claims[key].run
        return holder == run or (
            holder not in self._intents and self._leases[holder] <= self.clock()
        )

    def _marks(self, line: Publication) -> tuple[Waived, ...]:
        """The waived checks of a line, and of the very publications that it is made of."""
        found = set(line.waived)
        for read in line.inputs:
            for old in self._lines_of.get((read.table, read.partition), ()):
                if isinstance(old, Publication) and old.generation == read.generation:
                    found |= set(old.waived)
        return tuple(sorted(found))

    def _write(self, line: Some) -> Some:
        line = replace(line, position=self._note(line.table, line.partition))
        self.lines[line.table, line.partition] = line
        self._lines_of.setdefault((line.table, line.partition), []).append(line)
        return line

    def _note(self, subject: TableRef | str, partition: Partition | None) -> int:
        self.log.append(Entry(len(self.log) + 1, subject, partition))
        return len(self.log)


class _Sensing:
    """The transaction of `sense`."""

    def __init__(self, ledger: MemoryLedger, facts: Facts) -> None:
        self._ledger, self._facts = ledger, facts

    @property
    def facts(self) -> Facts:
        """What the ledger showed when the transaction began."""
        return self._facts

    def claim(self, wants: Sequence[Want], *, run: str, lifetime: timedelta) -> tuple[Claim, ...]:
        """Claim what is free."""
        return self._ledger.claim(wants, run, lifetime)

    def release(self, run: str, partitions: Collection[Partition], because: str) -> None:
        """Give claims back."""
        self._ledger.release(run, partitions, because)


class MemoryWarehouse:
    """As much of `ports.Warehouse` as publishing asks for: swaps, and finding them again."""

    def __init__(self) -> None:
        self._swaps: dict[str, str] = {}

    @staticmethod
    def changes(domain: str, after: str = "0") -> tuple[Change, ...]:  # noqa: ARG004
        """Nothing: nobody writes past a simulation."""
        return ()

    @staticmethod
    def altered(
        domain: str,  # noqa: ARG004
        tables: Collection[TableRef] | None = None,  # noqa: ARG004
    ) -> tuple[Change, ...]:
        """Nothing: there are no files."""
        return ()

    def swap(
        self,
        stage: Stage,
        changes: Sequence[tuple[Contract, Sequence[Partition]]],  # noqa: ARG002
        note: Mapping[str, str],  # noqa: ARG002
    ) -> str:
        """Swap a stage in; the new data version."""
        self._swaps[stage.run] = str(len(self._swaps) + 1)
        return self._swaps[stage.run]

    def find(self, domain: str, run: str) -> str | None:  # noqa: ARG002
        """The data version that this run committed, if it did."""
        return self._swaps.get(run)


def _generation(line: Line | None) -> int:
    return line.generation if line else 0
