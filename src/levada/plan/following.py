"""Following the facts of a mesh: after the first reading, only what has moved is read again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from levada.ports import Ledger
from levada.terms import Facts, Mesh, TableRef

__all__ = ["Follower"]

Key = TypeVar("Key")
Fact = TypeVar("Fact")


@dataclass(frozen=True, slots=True)
class _Part:
    """The tables and products that are read again."""

    tables: frozenset[TableRef]
    products: frozenset[str]


class Follower:
    """
    The facts of a whole mesh, kept up by the names that the ledger's new lines give.

    What it holds is of one position or later: what was written while it read is read once more the
    next time. It decides nothing by itself; a run judges again in the transaction that claims.

    :param around: the time after which everything is read anew
    """

    def __init__(self, mesh: Mesh, ledger: Ledger, around: timedelta = timedelta(hours=1)) -> None:
        self._ledger, self._around = ledger, around
        self._tables = {
            str(table): table for table in (*mesh.tables(), *(s.table for s in mesh.sources))
        }
        self._products = frozenset(product.id for product in mesh.products)
        self._makers = {t: mesh.product(t).id for t in self._tables.values() if not t.is_source}
        self._facts: Facts | None = None
        self._read = datetime.min.replace(tzinfo=UTC)

    def facts(self, now: datetime) -> Facts:
        """What the ledger shows now."""
        if self._facts is None or not timedelta(0) <= now - self._read < self._around:
            return self._everything(now)
        position, names = self._ledger.named(self._facts.position)
        if position < self._facts.position:  # another ledger stands there now, perhaps a restored
            return self._everything(now)
        part = self._part(names, self._facts, now)
        if part.tables or part.products:
            read = self._ledger.facts(part.tables, part.products)
            self._facts = _merged(self._facts, read, part, position)
        else:
            self._facts = replace(self._facts, position=position)
        return self._facts

    def _everything(self, now: datetime) -> Facts:
        self._facts = self._ledger.facts(self._tables.values(), self._products)
        self._read = now
        return self._facts

    def _part(self, names: Collection[str], facts: Facts, now: datetime) -> _Part:
        tables = frozenset(self._tables[name] for name in names if name in self._tables)
        products = {name for name in names if name in self._products}
        products |= {self._makers[table] for table in tables if table in self._makers}
        # A lease that is renewed, or runs out, writes no line.
        products |= {claim.product for claim in facts.claims.values() if claim.until <= now}
        return _Part(tables, frozenset(products))


def _merged(old: Facts, read: Facts, part: _Part, position: int) -> Facts:
    """The old facts with a part of them replaced by what was read of it."""
    tables, products = part.tables, part.products
    return Facts(
        lines=_sliced(old.lines, read.lines, tables),
        attempts=_sliced(old.attempts, read.attempts, products),
        claims=_sliced(old.claims, read.claims, products),
        position=position,
        tampered=_named(old.tampered, read.tampered, tables),
        pardons=_sliced(old.pardons, read.pardons, products),
        waivers=(
            *(w for w in old.waivers if w.table not in tables),
            *(w for w in read.waivers if w.table in tables),
        ),
        probes=_named(old.probes, read.probes, tables),
        restating=_sliced(old.restating, read.restating, products),
    )


def _sliced(
    old: Mapping[tuple[Key, Any], Fact],
    read: Mapping[tuple[Key, Any], Fact],
    names: Collection[Key],
) -> Mapping[tuple[Key, Any], Fact]:
    """By name and partition, in the old order; the very same where nothing of it was read."""
    if not names:
        return old
    found = {key: fact for key, fact in read.items() if key[0] in names}
    kept = {
        key: fact if key[0] not in names else found.pop(key)
        for key, fact in old.items()
        if key[0] not in names or key in found
    }
    return kept | found


def _named(
    old: Mapping[Key, Fact], read: Mapping[Key, Fact], names: Collection[Key]
) -> Mapping[Key, Fact]:
    kept = {key: fact for key, fact in old.items() if key not in names}
    return kept | {key: fact for key, fact in read.items() if key in names}
