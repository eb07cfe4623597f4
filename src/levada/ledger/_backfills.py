"""What the ledger knows about backfills: what builds took before."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from levada.terms import Past

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


class Backfills:
    """The part of the ledger that backfills ask."""

    def past(self, products: Collection[str]) -> Mapping[str, Past]:
        """What the newest builds of these products took, from claim to publication."""
        rows = self._rows(_PAST, _NEWEST, list(products))
        return {row[0]: Past(*row) for row in rows}

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        raise NotImplementedError
