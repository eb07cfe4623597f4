"""
The equality test of batches: intervals built one by one and together, in private stages, from the
same pinned inputs. Where all come out the same, they may go together, until anything changes.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from levada import plan as planning
from levada import sense as sensing
from levada.build import manifest_path
from levada.declare import alone_because
from levada.errors import LevadaError
from levada.flow.runs import Platform, made, new_run_id, staged
from levada.ports import Want
from levada.terms import Batching, Claim, Partition, Product, TableRef

__all__ = ["Compared", "compared", "digest_of", "together", "why_alone"]

Contents = Mapping[tuple[TableRef, Partition], str]


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of an equality test: None where nothing could be told."""

    product: str
    equal: bool | None
    because: str
    slices: tuple[Partition, ...] = ()


def together(products: Collection[Product], tested: Mapping[str, Batching]) -> frozenset[str]:
    """
    The products whose contiguous intervals go together: declared or found equal, and by no test
    of what they are now found to differ.
    """
    return frozenset(p.id for p in products if why_alone(p, tested) is None)


def why_alone(product: Product, tested: Mapping[str, Batching]) -> str | None:
    """
    Why its intervals are built one by one; None where contiguous ones go together. A product with
    shards asks for more than a declaration: that every row lies in the shard of its own key does
    not say that it saw all that it is made of (a count over all rows, a share, an anti-join).
    """
    told = tested.get(product.id)
    if told and told.digest == digest_of(product):
        return None if told.equal else f"an equality test found that it differs: {told.because}"
    if product.shards:
        return "no equality test has compared its shards with the whole"
    return None if product.batch else "it does not declare `batch: true`"


def digest_of(product: Product) -> str:
    """What a test holds for: code, contracts, inputs, slices and shards, as a plan has them."""
    said = {k: v for k, v in planning.declared(product).items() if k != "slices"}
    said |= {"grain": product.grain.value, "zone": product.zone, "shards": str(product.shards)}
    text = json.dumps(said, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def compared(platform: Platform, product: Product, partitions: Sequence[Partition]) -> Compared:
    """Build these contiguous intervals both ways and compare; nothing is published."""
    if why := alone_because(platform.mesh, product):
        return Compared(product.id, None, why)
    facts = platform.runner.facts(*sensing.all_to_read(platform.mesh, [product]))
    judged = sensing.wants(
        *(platform.mesh, product, partitions, facts, platform.clock()),
        # Each its own: what another has built and kept must not be compared with itself.
        sensing.Again(f"an equality test {secrets.token_hex(8)}"),
    )
    waits = [(p, found) for p, found in judged.items() if not isinstance(found, Want)]
    if waits:
        partition, found = waits[0]
        because = getattr(found, "because", "")
        return Compared(product.id, None, f"{partition} cannot be built now: {because}")
    claims = [
        Claim(product.id, p, "", 0, found.fingerprint, found.inputs, platform.clock())
        for p, found in judged.items()
        if isinstance(found, Want)
    ]
    try:
        whole = _built(platform, product, claims)
        single: dict[tuple[TableRef, Partition], str] = {}
        for claim in claims:
            single |= _built(platform, product, [claim])
    except (LevadaError, OSError) as error:
        return Compared(product.id, None, str(error))
    other = sorted((p, t) for (t, p), content in single.items() if whole.get((t, p)) != content)
    slices = tuple(partitions)
    if other:
        partition, table = other[0]
        one, all_ = (c.split(":")[0] for c in (single[table, partition], whole[table, partition]))
        how = f"{one} rows alone, {all_} together" if one != all_ else "other values"
        more = f", and {len(other) - 1} more" if len(other) > 1 else ""
        return Compared(product.id, False, f"{table} {partition}: {how}{more}", slices)
    return Compared(product.id, True, f"{len(slices)} intervals came out the same", slices)


def _built(platform: Platform, product: Product, claims: Sequence[Claim]) -> Contents:
    """The content of every interval of one build in a stage of its own."""
    stage = staged(platform, new_run_id(), product, claims)
    try:
        made(platform, product, stage, claims, manifest_path(platform.settings, product.domain))
        stage = platform.warehouse.seal(stage)
        slices = [claim.partition for claim in claims]
        return {
            (mart.table, partition): content
            for mart in product.marts
            for partition, content in platform.warehouse.contents(
                stage, mart.contract, slices
            ).items()
        }
    finally:
        platform.warehouse.discard(stage)
