"""What the ledger knows about backfills: what was begun, how far it is, what builds took before."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from psycopg.types.json import Jsonb

from levada.ledger._connections import Asking
from levada.ledger.codec import decode_line, decode_partition, encode_partition
from levada.terms import Batching, Begun, Outcome, Partition, Past, Publication, TableRef

__all__ = ["Backfills"]

_NEWEST = 50_000
"""How many lines are read to tell what builds take."""
_PAST = """
    with recent as (
        select kind, body ->> 'run' as run, body ->> 'product' as product, body ->> 'part' as part,
               split_part(body ->> 'content', ':', 1) as rows, at
        from ledger.entries
        where pos > (select position from ledger.positions) - %s
            and kind in ('claim', 'publication')
    ), builds as (
        select p.product, p.run, count(distinct p.part) as slices,
               extract(epoch from max(p.at) - min(c.at)) as took, sum(p.rows::bigint) as rows
        from (select * from recent where kind = 'publication') p
        join (select run, min(at) as at from recent where kind = 'claim' group by run) c
            on c.run = p.run
        where p.product = any (%s) group by 1, 2
    )
    select product, count(*)::int, sum(slices)::int, sum(took)::float, sum(rows)::bigint
    from builds group by product"""


_CLAIMED = """
    select min(at) from ledger.entries where kind = 'claim' and body ->> 'run' = %s
        and pos > (select position from ledger.positions) - %s"""


_OF_RUN = """
    select e.pos, e.body from ledger.publications p join ledger.entries e on e.id = p.entry
    where p.run = %s order by e.pos"""


_VERSIONS = """
    select data_version from ledger.publications
    where table_name = any (%s) and pos >= %s and pos < %s
        and not exists (select from ledger.entries where kind = 'tampering' and name = any (%s)
            and pos >= %s and pos < %s)
    group by 1 order by data_version::bigint desc"""


class Backfills(Asking):
    """The part of the ledger that backfills ask."""

    def past(self, products: Collection[str]) -> Mapping[str, Past]:
        """What the newest builds of these products took, from claim to publication."""
        rows = self._rows(_PAST, _NEWEST, list(products))
        return {row[0]: Past(*row) for row in rows}

    def lines_of(self, run: str) -> tuple[Publication, ...]:
        """What a run has published, in the order of the ledger; read from the log itself."""
        rows = self._rows(_OF_RUN, run)
        return tuple(replace(decode_line(body), position=pos) for pos, body in rows)

    def begun_at(self, run: str) -> datetime | None:
        """When a run claimed what it built, if the newest lines of the log still say so."""
        rows = self._rows(_CLAIMED, run, _NEWEST)
        return rows[0][0].replace(tzinfo=UTC) if rows and rows[0][0] else None

    def begin_backfill(
        self,
        name: str,
        document: Mapping[str, Any],
        steps: Mapping[str, Iterable[Partition]],
        *,
        forced: bool = False,
    ) -> bool:
        """Begin a plan of this name; whether that is new (runner)."""
        given = (name, Jsonb(dict(document)), _parts(steps), forced)
        asked = "select ledger.begin_backfill(%s, %s, %s::jsonb, %s)"
        return bool(self._rows(asked, *given)[0][0])

    def begin_due(
        self, document: Mapping[str, Any], steps: Mapping[str, Iterable[Partition]]
    ) -> bool:
        """Begin the plan of a schedule's due date; whether nobody has before (runner)."""
        given = (Jsonb(dict(document)), _parts(steps))
        return bool(self._rows("select ledger.begin_due(%s, %s::jsonb)", *given)[0][0])

    def newest_due(self) -> Mapping[str, datetime]:
        """The newest due date that was begun, by schedule."""
        rows = self._rows("select schedule, due from ledger.due_backfills")
        return {schedule: due.replace(tzinfo=UTC) for schedule, due in rows}

    def record_batching(self, found: Batching) -> None:
        """Record what an equality test found (publisher)."""
        said = {
            "product": found.product,
            "digest": found.digest,
            "equal": found.equal,
            "because": found.because,
            "slices": found.slices,
        }
        self._rows("select ledger.record_batching(%s)", Jsonb(said))

    def batchings(self) -> Mapping[str, Batching]:
        """The newest equality test of each product."""
        rows = self._rows("select product, digest, equal, because, slices from ledger.batchings")
        return {row[0]: Batching(*row) for row in rows}

    def settle_backfill(self, name: str, outcomes: Sequence[Outcome]) -> None:
        """
        Record what has become of open steps, and what was made after a cancel; of others nothing is
        heard (runner).
        """
        shares = [
            {
                "product": product,
                "state": state,
                "steps": [
                    {
                        "part": encode_partition(o.partition),
                        "key": o.partition.key,
                        "because": o.because,
                        "run": o.run,
                    }
                    for o in share
                ],
            }
            for (product, state), share in itertools.groupby(
                sorted(outcomes, key=_share), key=_share
            )
        ]
        if shares:
            self._rows("select ledger.settle_backfill(%s, %s)", name, Jsonb(shares))

    def turn_backfill(self, name: str, state: str, because: str) -> bool:
        """
        Let a backfill run again, with what failed or was left, pause or cancel it; whether that is
        news, which it is not where it is finished. Raises LawBroken where it is not known, or was
        cancelled (runner).
        """
        rows = self._rows("select ledger.turn_backfill(%s, %s, %s)", name, state, because)
        return bool(rows[0][0])

    def undo_backfill(self, name: str, because: str) -> bool:
        """
        Begin to take a backfill back, with what its runs published unsettled; whether that is news.
        Raises LawBroken where it is not known, has open steps, or may still publish (runner).
        """
        return bool(self._rows("select ledger.undo_backfill(%s, %s)", name, because)[0][0])

    def backfills(self, name: str | None = None) -> tuple[Begun, ...]:
        """The backfills that were begun, oldest first, or the one of this name."""
        rows = self._rows(
            "select id, state, because, forced, by, at, pos, steps, document from ledger.backfills"
            " where %s::text is null or id = %s order by pos",
            *(name, name),
        )
        return tuple(_begun(*row) for row in rows)

    def backfill_state(self, name: str) -> str:
        """The state of a backfill that was begun; its steps are not counted."""
        return str(self._rows("select state from ledger.backfills where id = %s", name)[0][0])

    def at_work(self) -> tuple[Begun, ...]:
        """The backfills with steps to be done now, oldest first: no documents, nothing counted."""
        rows = self._rows(
            "select id, state, because, forced, by, at, pos, '{}'::jsonb, '{}'::jsonb"
            " from ledger.backfills where state = 'running' order by pos"
        )
        return tuple(_begun(*row) for row in rows)

    def backfill_steps(
        self, name: str, product: str | None = None, *states: str
    ) -> tuple[Outcome, ...]:
        """What has become of a backfill's steps: of one product, in these states, or of all."""
        rows = self._rows(
            "select product, part, state, because, run, at from ledger.backfill_steps"
            " where backfill = %s and (%s::text is null or product = %s)"
            " and (%s::text[] = '{}' or state = any (%s)) order by product, start, part",
            *(name, product, product, list(states), list(states)),
        )
        return tuple(
            Outcome(product, decode_partition(part), state, because, run, at.replace(tzinfo=UTC))
            for product, part, state, because, run, at in rows
        )

    def backfill_counts(self, name: str) -> Mapping[str, Mapping[str, int]]:
        """How many steps of each product there are, by what has become of them."""
        rows = self._rows(
            "select product, jsonb_object_agg(state, steps) from (select product, state,"
            " count(*) as steps from ledger.backfill_steps where backfill = %s group by 1, 2) n"
            " group by 1 order by 1",
            name,
        )
        return dict(rows)

    def versions(self, tables: Collection[TableRef], first: int, before: int) -> tuple[str, ...]:
        """
        Data versions of tables, by their lines from one position to another, newest first; none
        where one of them was changed by hand meanwhile.
        """
        rows = self._rows(_VERSIONS, *[[str(table) for table in tables], first, before] * 2)
        return tuple(version for (version,) in rows)

    def at_work_besides(self, prefix: str) -> bool:
        """
        Whether runs whose names do not begin like this hold claims now of what no running backfill
        is to make: that is a backfill's work, too, by whichever run.
        """
        asked = (
            "select exists (select from ledger.claims c where c.until > now()"
            " and not starts_with(c.run, %s) and not exists (select from ledger.backfill_steps s"
            " where s.product = c.product and s.part = c.part and s.state = 'open'"
            " and s.of = 'running'))"
        )
        return bool(self._rows(asked, prefix)[0][0])


def _parts(steps: Mapping[str, Iterable[Partition]]) -> str:
    """The steps as JSON, written product by product: a million are no million objects at once."""
    shares = []
    for product, partitions in steps.items():
        share = [{"part": encode_partition(p), "key": p.key} for p in partitions]
        shares.append(f"{json.dumps(product)}:{json.dumps(share, separators=(',', ':'))}")
    return f"{{{','.join(shares)}}}"


def _share(outcome: Outcome) -> tuple[str, str]:
    return outcome.product, outcome.state


def _begun(
    name: str, state: str, because: str, forced: bool, by: str, at: datetime, *rest: Any
) -> Begun:
    position, steps, document = rest
    return Begun(
        *(name, state, because, forced, by, at.replace(tzinfo=UTC), position, steps, document)
    )
