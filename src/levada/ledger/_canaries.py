"""What the ledger knows about canaries: which run, what their intervals told, how they ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from decimal import Decimal
from typing import Any

from psycopg.types.json import Jsonb

from levada.ledger._connections import Asking
from levada.ledger.codec import decode_partition, encode_partition
from levada.terms import Approval, Canary, CanaryState, CanaryTerms, Tolerance, Trial

__all__ = ["Canaries"]

_CANARIES = """
    select id, product, state, old, new, wanted, by_policy, tolerance, reason, at, told, differing,
           in_a_row, because, reviewer, owners, rule
    from ledger.canaries where %s::text is null or product = %s order by at, id"""


class Canaries(Asking):
    """The part of the ledger that canaries ask."""

    def canary(self, product: str) -> Canary | None:
        """The newest canary of a product, whatever has become of it."""
        found = self.canaries(product)
        return found[-1] if found else None

    def canaries(self, product: str | None = None) -> tuple[Canary, ...]:
        """Every canary, or those of a product, oldest first."""
        return tuple(_canary(row) for row in self._rows(_CANARIES, product, product))

    def trials(self, id_: str) -> tuple[Trial, ...]:
        """What the intervals of a canary told in the end: what counts, else the newest."""
        rows = self._rows(
            "select part, equal, because, differences, run, counts from"
            " (select distinct on (part) * from ledger.canary_intervals where canary = %s"
            "  order by part, counts desc, pos desc) t order by pos",
            id_,
        )
        return tuple(Trial(decode_partition(part), *told) for part, *told in rows)

    def set_canary_terms(self, terms: Mapping[str, CanaryTerms]) -> tuple[str, ...]:
        """Record what canaries of products need at least (governance); those that are new."""
        said = [
            {"product": product, "by_policy": each.by_policy, "wanted": each.intervals}
            for product, each in terms.items()
        ]
        rows = self._rows("select ledger.set_canary_terms(%s)", Jsonb(said))
        return tuple(row[0] for row in rows)

    def start_canary(self, canary: Canary) -> None:
        """
        Begin (runner). Raises TerminalError where another one of the product runs, or governance
        asks for more.
        """
        said = {
            "old": canary.old,
            "new": canary.new,
            "wanted": canary.wanted,
            "by_policy": canary.by_policy,
            "reason": canary.reason,
            "owners": list(canary.owners),
            "rule": canary.rule,
            "tolerance": {
                column: [str(t.absolute), str(t.relative)] for column, t in canary.tolerance.items()
            },
        }
        self._rows("select ledger.start_canary(%s, %s, %s)", canary.id, canary.product, Jsonb(said))

    def tell_canary(self, id_: str, trials: Sequence[Trial]) -> None:
        """Record what intervals told, before they are published (publisher)."""
        said = [
            {
                "part": encode_partition(t.partition),
                "key": t.partition.key,
                "run": t.run,
                "equal": t.equal,
                "because": t.because,
                "differences": dict(t.differences),
            }
            for t in trials
        ]
        self._rows("select ledger.tell_canary(%s, %s)", id_, Jsonb(said))

    def promote_canary(self, id_: str, owner: str, reason: str, approval: Approval) -> None:
        """
        Let the new version be built alone, by approval (governance). Raises TerminalError where too
        few equal intervals stand in a row or an open plan holds steps, NotPublishable where its
        reviewer owns or wrote it, or owned it when it was started.
        """
        said = {
            "because": reason,
            "owner": owner,
            "reviewer": approval.reviewer,
            "said": {
                "authors": list(approval.authors),
                "commit": approval.commit,
                "via": approval.via,
            },
        }
        self._rows("select ledger.promote_canary(%s, %s)", id_, Jsonb(said))

    def settle_canary(self, id_: str) -> None:
        """Promote by the policy with which it was started (runner). Raises as promoting does."""
        self._rows("select ledger.settle_canary(%s)", id_)

    def abort_canary(self, id_: str, because: str) -> bool:
        """Let the old version be built alone, promoted or not (runner); whether that is new."""
        return bool(self._rows("select ledger.abort_canary(%s, %s)", id_, because)[0][0])


def _canary(row: tuple[Any, ...]) -> Canary:
    id_, product, state, old, new, wanted, by_policy, tolerance, reason, at, *rest = row
    found = Canary(
        *(id_, product, CanaryState(state), old, new, wanted, by_policy, _near(tolerance), reason),
        at.astimezone(UTC),
    )
    told, differing, in_a_row, because, reviewer, owners, rule = rest
    return replace(
        found,
        told=told,
        differing=differing,
        in_a_row=in_a_row,
        because=because,
        reviewer=reviewer,
        owners=tuple(owners),
        rule=rule,
    )


def _near(said: Mapping[str, Sequence[str]]) -> Mapping[str, Tolerance]:
    return {column: Tolerance(*(Decimal(each) for each in pair)) for column, pair in said.items()}
