"""The order of the layers, by what dbt resolved: no jinja hides a read from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from levada.declare import ModelFacts, ParsedProject
from levada.errors import Fault
from levada.terms.layers import LAYERS, against_the_way, past_the_landing

__all__ = ["upward"]


def upward(
    projects: Sequence[ParsedProject],
    linted: Iterable[Fault] = (),
    landing: Callable[[ModelFacts], Collection[str]] = lambda _: LAYERS[:2],
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
            if model.layer not in LAYERS or model.materialized == "seed":
                continue
            me = model.name, model.layer
            own = [known[node] for node in model.models if node in known]
            found = [
                *(against_the_way(*me, m.name, m.layer, foreign=False) for m in own),
                *(
                    against_the_way(
                        *me,
                        f"{t.domain}.{t.name}",
                        layers.get((t.domain, t.name, t.major), ""),
                        foreign=True,
                    )
                    for t in model.externals
                ),
                *(
                    past_the_landing(*me, sources[node], landing(model))
                    for node in model.sources
                    if node in sources
                ),
            ]
            for wrong, right in filter(None, found):
                if any(path == model.path and wrong in said for path, said in told):
                    continue
                yield Fault(model.path, 1, f"LV03: {wrong}, as dbt resolves it", right)
