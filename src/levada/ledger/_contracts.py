"""What the ledger knows about contracts: their recorded texts, and which of them tables keep."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from psycopg.types.json import Jsonb

from levada.errors import NotPublishable
from levada.ledger._connections import Asking
from levada.ledger.codec import decode_table
from levada.terms import TableRef

__all__ = ["Contracts"]

# A contract's line keeps its canonical text; the standard writes a level in full or short.
_PROMISED = """
    select min(at) from ledger.entries where kind = 'contract' and name = %s
        and split_part(key, '.', 1) = %s
        and jsonb_path_exists((body ->> 'body')::jsonb,
            '$.slaProperties[*].property ? (@ like_regex "^(latency|ly)$" flag "i")')"""


class Contracts(Asking):
    """The part of the ledger that contracts ask."""

    def record_contracts(self, contracts: Mapping[str, str]) -> tuple[str, ...]:
        """Record contracts, canonical JSON by `id version hash`; returns the new labels."""
        rows = []
        for label, body in contracts.items():
            words = label.rsplit(" ", 2)
            if len(words) != 3:
                raise NotPublishable(f"{label!r} names no contract: write `id version hash`")
            identity, version, digest = words
            rows.append(
                {"label": label, "id": identity, "version": version, "hash": digest, "body": body}
            )
        return tuple(
            row[0] for row in self._rows("select ledger.record_contracts(%s)", Jsonb(rows))
        )

    def kept(self, tables: Collection[TableRef]) -> Mapping[TableRef, str]:
        """The contract of each table's newest publication, as `id version hash`."""
        rows = self._rows(
            "select table_name, contract from ledger.keepings where table_name = any (%s)",
            [str(table) for table in tables],
        )
        return {decode_table(table): contract for table, contract in rows}

    def contract(self, label: str) -> str:
        """The recorded canonical JSON of `id version hash`."""
        rows = self._rows("select body from ledger.contracts where label = %s", label)
        if not rows:
            raise NotPublishable(f"the contract {label} is not recorded: governance records it")
        return str(rows[0][0])

    def promised_since(self, label: str) -> datetime | None:
        """
        When the first contract of this table and major (by `id version hash`) that promises a
        latency was recorded.
        """
        name, version, _ = label.rsplit(" ", 2)
        rows = self._rows(_PROMISED, name, version.partition(".")[0])
        return next((at.astimezone(UTC) for (at,) in rows if at is not None), None)
