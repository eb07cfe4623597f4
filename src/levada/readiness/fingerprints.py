"""What a run would make, as one name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from levada.terms import Input, Partition, Product

__all__ = ["bare", "fingerprint", "forced"]


def fingerprint(
    product: Product,
    partition: Partition,
    inputs: Iterable[Input],
    parameters: Iterable[tuple[str, str]] = (),
) -> str:
    """
    What a run would make, as one name: code, contracts, parameters and contents of its inputs.
    Generations and data versions are left out: the same contents make the same data.

    >>> from datetime import datetime
    >>> from levada.intervals import containing
    >>> from levada.terms import Grain, TableRef
    >>> product = Product("operations", "flights", (), Grain.DAY, "UTC")
    >>> day = containing(Grain.DAY, datetime.fromisoformat("2013-03-10T00:00Z"))
    >>> source = TableRef("operations", "landing.flights", 0)
    >>> first = fingerprint(product, day, [Input(source, day, 1, "abc")])
    >>> first == fingerprint(product, day, [Input(source, day, 2, "abc", "elsewhere")])
    True
    """
    said = {
        "product": product.id,
        "partition": _words(partition),
        "code": product.code,
        "contracts": sorted((c.id, c.version, c.hash) for c in product.contracts),
        "parameters": sorted(parameters),
        "inputs": sorted(
            {(str(i.table), *_words(i.partition), i.content or "") for i in inputs},
        ),
    }
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def forced(mark: str, by: str) -> str:
    """The fingerprint of a build that is made though its like is published, and who asked."""
    return f"{mark}+{by}" if by else mark


def bare(mark: str) -> str:
    """
    A fingerprint without who forced it: what says whether two builds are the same.

    >>> bare(forced("abc", "bf-1")), bare("abc")
    ('abc', 'abc')
    """
    return mark.partition("+")[0]


def _words(partition: Partition) -> tuple[str, str, str]:
    start = partition.start.isoformat() if partition.start else ""
    return partition.grain.value, start, partition.zone
