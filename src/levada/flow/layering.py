"""The order of the layers, by what dbt resolved: no jinja hides a read from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from levada.errors import Fault
from levada.terms import Layer, Product

__all__ = ["upward"]

_ORDER = list(Layer)


def upward(products: Iterable[Product], linted: Iterable[Fault] = ()) -> Iterator[Fault]:
    """
    Tables that are made of a table of a higher layer, unless SQLFluff `linted` that read already:
    LV03 stands at the very call, but sees no name that jinja computes or that a macro makes.
    """
    every = tuple(products)
    layers = {mart.table: mart.layer for product in every for mart in product.marts}
    told = [fault.wrong for fault in linted if fault.wrong.startswith("LV03: ")]
    for product in every:
        for mart in product.marts:
            for edge in mart.dependencies:
                above = layers.get(edge.upstream)
                if above is None or edge.gate or _ORDER.index(above) <= _ORDER.index(mart.layer):
                    continue
                own = edge.upstream.domain == mart.table.domain
                shown = "" if own else f"{edge.upstream.domain}."
                read = f" reads {shown}{edge.upstream.name} of layer {above.value}"
                if any(read in wrong for wrong in told):
                    continue
                model = PurePosixPath(mart.model_path).stem
                wrong = f"LV03: model {model} of layer {mart.layer.value}{read}, as dbt resolves it"
                right = f"move what both need to {mart.layer.value}, or {model} to {above.value}"
                yield Fault(mart.model_path, 1, wrong, right)
