"""What whoever looks after a mesh asks the ledger: who is at work, what stands, and since when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from levada.ledger._connections import Asking
from levada.ledger.codec import decode_partition
from levada.terms import Facts, Partition

__all__ = ["Tended"]

_TRIED = """
    select distinct on (name, body ->> 'part') name, body ->> 'part', (body ->> 'at')::timestamptz
    from ledger.entries
    where kind = 'attempt' and name = any (%s) and body ->> 'tries' = '1'
    order by name, body ->> 'part', pos desc"""
"""Of each slice, the first of the attempts that nothing was published after."""
_GRANTED = """
    select (body ->> 'token')::bigint, at from ledger.entries
    where kind = 'claim' and name = any (%s) and (body ->> 'token')::bigint = any (%s)"""


class Tended(Asking):
    """The part of the ledger that tells how a mesh fares."""

    def dated(self, facts: Facts) -> Facts:
        """The same facts; claims and retried attempts say since when, as the log has it."""
        attempts, claims = dict(facts.attempts), dict(facts.claims)
        if again := {key for key, attempt in attempts.items() if attempt.tries > 1}:
            for product, part, at in self._rows(_TRIED, sorted({name for name, _ in again})):
                key = (product, decode_partition(part))
                if key in again:
                    attempts[key] = replace(attempts[key], since=at.astimezone(UTC))
        if claims:
            tokens = [claim.token for claim in claims.values()]
            asked = (sorted({name for name, _ in claims}), tokens)
            granted = {token: at.astimezone(UTC) for token, at in self._rows(_GRANTED, *asked)}
            claims = {k: replace(c, since=granted.get(c.token)) for k, c in claims.items()}
        return replace(facts, attempts=attempts, claims=claims)

    def beat(self, name: str) -> None:
        """Say that `name` is at work now (runner)."""
        self._rows("select ledger.beat(%s)", name)

    def heartbeats(self) -> Mapping[str, datetime]:
        """Who was last heard of when."""
        rows = self._rows("select name, at from ledger.heartbeats")
        return {name: at.replace(tzinfo=UTC) for name, at in rows}

    def asked(self) -> Mapping[tuple[str, Partition], datetime]:
        """When each open step was last asked for."""
        rows = self._rows(
            "select s.product, s.part, max(e.at) from ledger.steps s join ledger.entries e"
            " on e.kind = 'step' and e.name = s.product and e.key = s.key group by 1, 2"
        )
        return {(product, decode_partition(part)): at for product, part, at in rows}

    def dead_claims(self) -> tuple[tuple[str, Partition, str, datetime], ...]:
        """Claims whose lease has run out, without an open intent: product, slice, run, its end."""
        rows = self._rows(
            "select product, part, run, until from ledger.claims"
            " where until <= coalesce(%s::timestamptz, clock_timestamp())"
            " and run not in (select run from ledger.intents) order by product, start, part",
            self._now(),
        )
        return tuple((product, decode_partition(part), *rest) for product, part, *rest in rows)

    def ping(self, key: str) -> None:
        """Commit a line that says nothing, so that its way to a follower can be seen (runner)."""
        self._rows("select ledger.ping(%s)", key)
