"""The order of the layers, by what dbt resolved: no jinja hides a read from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from levada.declare import ModelFacts, ParsedProject
from levada.errors import Fault
from levada.terms import Layer

__all__ = ["upward"]

_ORDER = [layer.value for layer in Layer]


def upward(
    projects: Sequence[ParsedProject],
    linted: Iterable[Fault] = (),
    landing: Callable[[ModelFacts], Collection[str]] = lambda _: _ORDER[:2],
) -> Iterator[Fault]:
    """
    Models, published and private ones, that read against the way of the data, unless SQLFluff
    `linted` that very read already: LV03 stands at the call, but sees no name that jinja computes
    or that a macro of a package makes. `landing` are the layers that may read sources.
    """
    layers = {(p.name, m.name, m.major or 1): m.layer for p in projects for m in p.models}
    told = {(fault.path, fault.wrong) for fault in linted}
    for project in projects:
        sources = {each.node: f"{each.name}.{each.table}" for each in project.sources}
        known = {model.node: model for model in project.models}
        for model in project.models:
            if model.layer not in _ORDER or model.materialized == "seed":
                continue
            reads = [
                *((known[n].name, known[n].layer) for n in model.models if n in known),
                *((f"{t.domain}.{t.name}", layers.get((t.domain, t.name, t.major), ""))
                  for t in model.externals),
            ]  # fmt: skip
            found = [*_reads(model, reads)]
            if model.layer not in landing(model):
                wrong = "reads the source {}"
                right = f"take it in by a model of {' or '.join(landing(model))}"
                found += [(wrong.format(sources[n]), right) for n in model.sources if n in sources]
            for wrong, right in found:
                if any(path == model.path and wrong in said for path, said in told):
                    continue
                me = f"LV03: model {model.name} of layer {model.layer}"
                yield Fault(model.path, 1, f"{me} {wrong}, as dbt resolves it", right)


def _reads(model: ModelFacts, reads: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for name, layer in reads:
        if "." in name and model.layer == _ORDER[0]:
            yield f"reads {name}, a table of another domain", "read it from base on"
        elif layer in _ORDER and _ORDER.index(layer) > _ORDER.index(model.layer):
            right = f"move what both need to {model.layer}, or {model.name} to {layer}"
            yield f"reads {name} of layer {layer}", right
