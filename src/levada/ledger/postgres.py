"""
The ledger in PostgreSQL, seen through one role: `ports.Ledger` over the functions of its schema.

Laws are kept by the database (migrations/versions/*.sql), where no caller can forget them. What
stands here asks, and reads the answer back.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from psycopg.types.json import Jsonb

from levada.errors import LawBroken
from levada.ledger._backfills import Backfills
from levada.ledger._canaries import Canaries
from levada.ledger._connections import Connection
from levada.ledger._contracts import Contracts
from levada.ledger._read import (
    FACTS,
    HISTORY,
    LANDED,
    PUBLISHED,
    TAINTED,
    WAIVERS,
    claim_of,
    facts_of,
    line_of,
    waiver_of,
)
from levada.ledger._replay import differences
from levada.ledger._tended import Tended
from levada.ledger.codec import (
    decode_line,
    decode_partition,
    decode_table,
    encode_attempt,
    encode_inputs,
    encode_landing,
    encode_line,
    encode_partition,
    encode_step,
)
from levada.ports import Clock, Sensing, Want
from levada.terms import (
    Approval,
    Attempt,
    Claim,
    Facts,
    Intent,
    Landing,
    Partition,
    Publication,
    Span,
    Step,
    TableRef,
    Tampering,
    Waiver,
)

__all__ = ["PostgresLedger"]


class PostgresLedger(Backfills, Canaries, Contracts, Tended):
    """
    The ledger through the role of `url`; threads may share it, and it survives a fork.

    Time is the database's own, the same for every host, unless a `clock` is given.
    """

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        super().__init__(url, clock)
        self._here = threading.local()  # the connection that holds this thread's publishing locks

    # --- reading ----------------------------------------------------------------------------------

    def facts(
        self, tables: Collection[TableRef], products: Collection[str], span: Span | None = None
    ) -> Facts:
        """
        Newest lines, standing attempts and live claims, as of one position.

        With a span, only partitions that start inside it, and WHOLE ones.
        """
        with self._take() as connection:
            return self._facts(connection, tables, products, span)

    def named(self, after: int) -> tuple[int, frozenset[str]]:
        """The newest position, and the tables and products that lines after this one are about."""
        ((position, names),) = self._rows(
            "select p.position, array(select distinct name from ledger.changes where pos > %s)"
            " from ledger.positions p",
            after,
        )
        return position, frozenset(names)

    def claims(self, run: str) -> tuple[Claim, ...]:
        """The claims that this run holds, expired ones included while nobody took them over."""
        rows = self._rows(
            "select product, part, run, token, fingerprint, inputs, until, taint from ledger.claims"
            " where run = %s order by start, part",
            run,
        )
        return tuple(claim_of(row) for row in rows)

    def intents(self, tables: Collection[TableRef] | None = None) -> tuple[Intent, ...]:
        """Intents without lines, of these tables or of all."""
        wanted = None if tables is None else [str(table) for table in tables]
        rows = self._rows(
            "select run, product, lines, until <= coalesce(%s::timestamptz, clock_timestamp())"
            " from ledger.intents where %s::text[] is null or exists (select from"
            " jsonb_array_elements(lines) l where l ->> 'table_name' = any (%s)) order by run",
            *(self._now(), wanted, wanted),
        )
        return tuple(_intent(row) for row in rows)

    def steps(self) -> tuple[Step, ...]:
        """The open steps."""
        rows = self._rows(
            "select product, part, because, required, first from ledger.steps"
            " order by product, start nulls first, part"
        )
        return tuple(
            Step(
                product=product,
                partition=decode_partition(part),
                because=because,
                required=tuple((decode_table(t), decode_partition(p), g) for t, p, g in required),
                first=first,
            )
            for product, part, because, required, first in rows
        )

    def history(self, table: TableRef, partition: Partition) -> tuple[Publication | Landing, ...]:
        """Every line of one partition, oldest first."""
        named = {"table": str(table), "part": encode_partition(partition)}
        with self._take() as connection:
            return tuple(line_of(row) for row in connection.execute(HISTORY, named))

    def published(self, after: int, limit: int) -> tuple[Publication, ...]:
        """The next publications after a position, oldest first; read from the log itself."""
        rows = self._rows(
            "select pos, body from ledger.entries where kind = 'publication' and pos > %s"
            " order by pos limit %s",
            *(after, limit),
        )
        return tuple(replace(decode_line(body), position=pos) for pos, body in rows)

    def position(self) -> int:
        """The position of the newest line of any kind."""
        return int(self._rows("select position from ledger.positions")[0][0])

    def approved(self, subject: str, digest: str) -> str | None:
        """Who approved the file of this hash, if anybody did."""
        rows = self._rows(
            "select reviewer from ledger.approvals where subject = %s and hash = %s",
            subject,
            digest,
        )
        return str(rows[0][0]) if rows else None

    # --- sensing and claiming ---------------------------------------------------------------------

    @contextmanager
    def sensing(
        self, tables: Collection[TableRef], products: Collection[str], span: Span | None = None
    ) -> Iterator[Sensing]:
        """One transaction: facts, judgement, claims; an error in the block undoes the claims."""
        with self._take() as connection, connection.transaction():
            facts = self._facts(connection, tables, products, span)
            yield _Sensing(connection, facts, self._now())

    def renew(self, run: str, lease: timedelta) -> None:
        """Start or renew the lease of all the run's claims."""
        self._rows("select ledger.renew(%s, %s, %s)", run, lease, self._now())

    def release(self, run: str, partitions: Collection[Partition], because: str) -> None:
        """Give claims back with nothing done; claims that the run does not hold are passed over."""
        parts = Jsonb([encode_partition(partition) for partition in partitions])
        self._rows("select ledger.release(%s, %s, %s)", run, parts, because)

    def withhold(self, attempts: Sequence[Attempt]) -> None:
        """Record attempts that do not publish and end their claims; the ledger counts the tries."""
        self._rows("select ledger.withhold(%s)", Jsonb([encode_attempt(a) for a in attempts]))

    # --- landing and steps ------------------------------------------------------------------------

    def land(self, landings: Sequence[Landing]) -> tuple[Landing, ...]:
        """Record what landed; equal content is no new line."""
        rows = self._rows("select ledger.land(%s)", Jsonb([encode_landing(x) for x in landings]))
        if not rows:
            return ()
        with self._take() as connection:
            written = [line_of(row) for row in connection.execute(LANDED, [[r[0] for r in rows]])]
        return tuple(line for line in written if isinstance(line, Landing))

    def probed(self, said: Mapping[TableRef, str]) -> None:
        """Record which sources do not answer, and why; an empty text says that one did."""
        answers = Jsonb({str(table): because for table, because in said.items()})
        self._rows("select ledger.probed(%s, %s)", answers, self._now())

    def open_steps(self, steps: Sequence[Step]) -> int:
        """Open steps, merging those of one product and partition; how many were new."""
        opened = self._rows("select ledger.open_steps(%s)", Jsonb([encode_step(s) for s in steps]))
        return int(opened[0][0])

    def close_steps(self, steps: Sequence[Step], because: str) -> None:
        """Close steps as they were read: one that requires more by now stays open."""
        closed = Jsonb([encode_step(step) for step in steps])
        self._rows("select ledger.close_steps(%s, %s)", closed, because)

    # --- publishing -------------------------------------------------------------------------------

    @contextmanager
    def locked(self, tables: Collection[TableRef]) -> Iterator[None]:
        """
        Hold the publishing lock of each table.

        The locks live on a connection of their own, and inside the block this thread's calls run
        on it: when it dies, the locks are gone, and the next call (`confirm`) says so.
        """
        if getattr(self._here, "connection", None) is not None:
            raise LawBroken("the publishing locks are taken once: name all tables in one call")
        connection = self._connections.fresh()
        try:
            with self._connections.translated():
                # The holder before us may be swapping; a swap is short, a queue of them is not.
                connection.execute("set lock_timeout = '600s'")
                connection.execute("select ledger.lock_tables(%s)", [[str(t) for t in tables]])
                connection.execute("set lock_timeout = '60s'")
            self._here.connection = connection
            yield
        finally:
            self._here.connection = None
            connection.close()

    def intend(
        self,
        run: str,
        lines: Sequence[Publication],
        breaks: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        """Record what is about to be published, without data version."""
        meant = Jsonb([encode_line(line) for line in lines])
        taken = Jsonb({label: list(changes) for label, changes in breaks.items()})
        self._rows("select ledger.intend(%s, %s, %s, %s)", run, meant, taken, self._now())

    def confirm(self, run: str) -> Intent:
        """Re-check, under the locks, that token and intent still stand."""
        rows = self._rows(
            "select i.run, i.product, i.lines, i.until <= coalesce(%s::timestamptz,"
            " clock_timestamp()) from ledger.confirm(%s) checked"
            " join ledger.intents i on i.run = %s",
            *(self._now(), run, run),
        )
        return _intent(rows[0])

    def publish(self, run: str, data_version: str) -> tuple[Publication, ...]:
        """Write the intent's lines, close its claims and steps; one transaction."""
        self._rows("select ledger.publish(%s, %s, %s)", run, data_version, self._now())
        with self._take() as connection:
            written = [line_of(r) for r in connection.execute(PUBLISHED, [run, data_version])]
        return tuple(line for line in written if isinstance(line, Publication))

    def withdraw(self, run: str, because: str, *, keep_claims: bool = False) -> None:
        """Drop an intent whose swap never happened, and free the claims of its run or keep them."""
        self._rows("select ledger.withdraw(%s, %s, %s)", run, because, keep_claims)

    # --- governing --------------------------------------------------------------------------------

    def record_approval(self, subject: str, digest: str, reason: str, approval: Approval) -> bool:
        """
        Approve `subject` as it is under this hash; whether that is new. Raises NotPublishable where
        its reviewer wrote it.
        """
        said = Jsonb({"reviewer": approval.reviewer, **_said(approval)})
        rows = self._rows("select ledger.approve(%s, %s, %s, %s)", subject, digest, reason, said)
        return bool(rows[0][0])

    def waivers(self, tables: Collection[TableRef] | None = None) -> tuple[Waiver, ...]:
        """What governance granted for these tables, or for all, ended or not."""
        named = None if tables is None else [str(table) for table in tables]
        return tuple(waiver_of(row) for row in self._rows(WAIVERS, named, named))

    def tainted(self) -> tuple[Publication, ...]:
        """The newest lines that a waived check taints, theirs or of what they are made of."""
        lines = (line_of(row) for row in self._rows(TAINTED))
        return tuple(line for line in lines if isinstance(line, Publication))

    def waive(self, waiver: Waiver, approval: Approval) -> bool:
        """
        Grant what a file asks for; whether that is new. Raises NotPublishable where it has expired,
        was revoked, or its reviewer is not whom it asks, owns it or wrote it.
        """
        said = {
            "table_name": str(waiver.table),
            "check_id": waiver.check,
            "starts": waiver.window.start.isoformat(),
            "ends": waiver.window.end.isoformat(),
            "expires": waiver.expires.isoformat(),
            "reason": waiver.reason,
            "hash": waiver.hash,
            "consumers": list(waiver.consumers),
            "owner": waiver.owner,
            "approver": waiver.approver,
            "reviewer": approval.reviewer,
            "said": _said(approval),
        }
        return bool(self._rows("select ledger.waive(%s)", Jsonb(said))[0][0])

    def revoke_waiver(self, waiver: Waiver, because: str) -> bool:
        """End a waiver now; whether it was granted and not revoked before."""
        named = (str(waiver.table), waiver.check, waiver.hash, because)
        return bool(self._rows("select ledger.revoke_waiver(%s, %s, %s, %s)", *named)[0][0])

    # --- tables changed by hand, and what was released ------------------------------------------

    def inspected(self, domain: str) -> str:
        """Up to which data version the domain's published data was looked through."""
        rows = self._rows("select version from ledger.inspections where domain = %s", domain)
        return str(rows[0][0]) if rows else "0"

    def unknown_runs(self, runs: Collection[str]) -> frozenset[str]:
        """Those of which neither a publication nor an open intent tells."""
        rows = self._rows("select ledger.unknown_runs(%s)", list(runs))
        return frozenset(str(row[0]) for row in rows)

    def inspect(self, domain: str, version: str, found: Sequence[Tampering]) -> None:
        """Record that the domain was looked through up to here, and what was found."""
        said = [
            {"table_name": str(t.table), "version": t.version, "because": t.because} for t in found
        ]
        self._rows("select ledger.inspect(%s, %s, %s)", domain, version, Jsonb(said))

    def untold(self) -> tuple[Tampering, ...]:
        """Tables that are held for having been changed by hand, of which nobody was told yet."""
        rows = self._rows(
            "select table_name, version, because, at from ledger.tamperings"
            " where told_at is null order by table_name"
        )
        return tuple(Tampering(decode_table(table), *said) for table, *said in rows)

    def tell(self, found: Tampering, to: str) -> bool:
        """Record that somebody was told of it; whether that is new (runner, publisher)."""
        named = (str(found.table), found.version, to)
        return bool(self._rows("select ledger.tell(%s, %s, %s)", *named)[0][0])

    def pardon_table(self, table: TableRef, reason: str) -> bool:
        """Let a table that was changed by hand be read again; whether it was held."""
        return bool(self._rows("select ledger.pardon_table(%s, %s)", str(table), reason)[0][0])

    def pardon_step(self, product: str, partition: Partition, reason: str) -> None:
        """Let a partition be rebuilt from the changes that an edge holds."""
        part = encode_partition(partition)
        self._rows(
            "select ledger.pardon_step(%s, %s, %s, %s)", product, part, partition.key, reason
        )

    # --- the owner's ------------------------------------------------------------------------------

    def rebuild(self) -> int:
        """Make the state anew from the log, while writers wait; how many entries it read."""
        return int(self._rows("select ledger.rebuild()")[0][0])

    def verify(self) -> tuple[str, ...]:
        """Replay the log beside the state and name what differs: nothing, when all is well."""
        with self._take() as connection:
            return differences(connection)

    # --- the parts --------------------------------------------------------------------------------

    @contextmanager
    def _take(self) -> Iterator[Connection]:
        """The connection of this thread's publishing locks, else one of the pool."""
        held: Connection | None = getattr(self._here, "connection", None)
        if held is None:
            with super()._take() as connection:
                yield connection
        else:
            with self._connections.translated():
                yield held

    def _facts(
        self,
        connection: Connection,
        tables: Collection[TableRef],
        products: Collection[str],
        span: Span | None,
    ) -> Facts:
        asked = {
            "tables": [str(table) for table in tables],
            "products": list(products),
            "from": span.start if span else None,
            "to": span.end if span else None,
            "now": self._now(),
        }
        return facts_of(connection.execute(FACTS, asked))


class _Sensing:
    """The transaction of `sense`: what was seen, and the claims made on it."""

    def __init__(self, connection: Connection, facts: Facts, now: datetime | None) -> None:
        self._connection = connection
        self._facts = facts
        self._now = now

    @property
    def facts(self) -> Facts:
        """What the ledger showed when the transaction began."""
        return self._facts

    def claim(self, wants: Sequence[Want], *, run: str, lifetime: timedelta) -> tuple[Claim, ...]:
        """
        Claim what is free, all in one statement.

        Nor is granted what somebody published after these facts were read: judge it again.
        """
        asked = Jsonb(
            [
                {
                    "product": want.product,
                    "part": encode_partition(want.partition),
                    "key": want.partition.key,
                    "fingerprint": want.fingerprint,
                    "inputs": encode_inputs(want.inputs),
                    "taint": list(want.taint),
                }
                for want in wants
            ]
        )
        rows = self._connection.execute(
            "select product, part, run, token, fingerprint, inputs, until, taint"
            " from ledger.claim(%s, %s, %s, %s, %s) order by start, part",
            [asked, run, lifetime, self._facts.position, self._now],
        )
        return tuple(claim_of(row) for row in rows)

    def release(self, run: str, partitions: Collection[Partition], because: str) -> None:
        """Give claims back in this transaction: nobody but it can have them before it ends."""
        parts = Jsonb([encode_partition(partition) for partition in partitions])
        self._connection.execute("select ledger.release(%s, %s, %s)", [run, parts, because])


def _said(approval: Approval) -> dict[str, Any]:
    return {"authors": list(approval.authors), "commit": approval.commit, "via": approval.via}


def _intent(row: tuple[Any, ...]) -> Intent:
    run, product, lines, expired = row
    return Intent(run, product, tuple(decode_line(line) for line in lines), expired)
