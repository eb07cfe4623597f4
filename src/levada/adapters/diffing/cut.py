"""
How both sides of a comparison deal their rows into buckets: by the key alone, and alike.

A bucket is a remainder of the key's hash. Where a column of the key is an integer, it is that
within a stretch of the column's values: buckets that differ are then found again by reading the
stretches they lie in, which files sorted by the key keep together, and not the whole table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from levada.adapters.warehouses._sql import name
from levada.diff import Aligned

__all__ = ["BUCKETS", "Cut", "Stretches", "stretchable"]

BUCKETS = 4096
_STRETCHES = 256
_MOST_SCANS = 32
_WIDEST = 1 << 62
"""Of a column whose values lie further apart, the distance from the least is no BIGINT."""
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")


@dataclass(frozen=True)
class Stretches:
    """
    At most 256 stretches of an integer column, from the least value on, each 2^shift wide.

    >>> stretches = Stretches.of("id", 1, 10_000_000)
    >>> stretches.shift, stretches.count, stretches.remainders
    (16, 153, 16)
    """

    column: str
    low: int
    high: int

    @classmethod
    def of(cls, column: str, low: int, high: int) -> Stretches | None:
        """None where that would help nobody: one value, or values too far apart."""
        return cls(column, low, high) if 0 < high - low < _WIDEST else None

    @property
    def shift(self) -> int:
        """The binary logarithm of a stretch's width."""
        return max(0, (self.high - self.low).bit_length() - _STRETCHES.bit_length() + 1)

    @property
    def count(self) -> int:
        """How many there are."""
        return ((self.high - self.low) >> self.shift) + 1

    @property
    def remainders(self) -> int:
        """Buckets of a stretch: a power of two, so that all have less than `BUCKETS`."""
        return BUCKETS >> (self.count - 1).bit_length()

    def bounds(self, first: int, last: int) -> tuple[int, int]:
        """The values from the first of these stretches to the last."""
        return self.low + (first << self.shift), self.low + ((last + 1) << self.shift) - 1


@dataclass(frozen=True)
class Cut:
    """The compared columns and how rows are dealt; `native` where DuckDB hashes both sides."""

    aligned: Aligned
    native: bool
    stretches: Stretches | None = None

    def bucket(self) -> str:
        """SQL of a row's bucket, for DuckDB and its own hash; -1 where the stretched is NULL."""
        columns = dict(self.aligned.columns)
        key = ", ".join(f"CAST({name(c)} AS {columns[c]})" for c in self.aligned.key)
        stretched = self.stretches
        if stretched is None:
            return f"hash({key}) % {BUCKETS}"
        size = stretched.remainders
        stretch = f"(CAST({name(stretched.column)} AS BIGINT) - {stretched.low})"
        rest = f"CAST(hash({key}) & {size - 1} AS BIGINT)"
        return f"coalesce(({stretch} >> {stretched.shift}) * {size} + {rest}, -1)"

    def chosen(self, bucket: str, buckets: Collection[int]) -> Iterator[str]:
        """
        Conditions that hold for the rows of these buckets: for each row one of them, and no other.

        >>> cut = Cut(Aligned((("id", "BIGINT"),), (), ("id",)), True, Stretches.of("id", 0, 4095))
        >>> cut.stretches.remainders
        16
        >>> list(cut.chosen("b", [3, 5, 16, 64]))
        ['"id" BETWEEN 0 AND 31 AND b IN (3, 5, 16)', '"id" BETWEEN 64 AND 79 AND b IN (64)']
        """
        if len(buckets) > BUCKETS // 2:
            yield "true"  # most of it: a list would only cost
            return
        runs = self._runs(buckets)
        if self.stretches is None or not 0 < len(runs) <= _MOST_SCANS:
            yield _among(bucket, buckets)
            return
        column, size = name(self.stretches.column), self.stretches.remainders
        for run in runs:
            if run[0] < 0:
                yield f"{column} IS NULL"
            else:
                low, high = self.stretches.bounds(run[0] // size, run[-1] // size)
                yield f"{column} BETWEEN {low} AND {high} AND {_among(bucket, run)}"

    def _runs(self, buckets: Collection[int]) -> list[list[int]]:
        """The buckets, by stretches that follow on each other."""
        size = self.stretches.remainders if self.stretches else BUCKETS
        runs: list[list[int]] = []
        for bucket in sorted(buckets):
            if runs and runs[-1][-1] >= 0 and bucket // size - runs[-1][-1] // size <= 1:
                runs[-1].append(bucket)
            else:
                runs.append([bucket])
        return runs


def stretchable(aligned: Aligned) -> tuple[str, ...]:
    """The columns of the key that are integers."""
    columns = dict(aligned.columns)
    return tuple(c for c in aligned.key if columns[c] in _INTEGERS)


def _among(bucket: str, buckets: Collection[int]) -> str:
    return f"{bucket} IN ({', '.join(map(str, sorted(buckets)))})" if buckets else "false"
