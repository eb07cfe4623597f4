"""The way of the data through the layers, and how a read against it is told, whoever finds it."""

from __future__ import annotations

from collections.abc import Collection

from levada.terms.declared import Layer

__all__ = ["LAYERS", "against_the_way", "past_the_landing"]

LAYERS = tuple(layer.value for layer in Layer)
"""From where data lands to where it is served."""


def against_the_way(
    model: str, layer: str, read: str, of: str, *, foreign: bool
) -> tuple[str, str] | None:
    """
    What is wrong where a model reads a table or a model of another layer, and what would be right;
    None where it is on the way of the data, or a layer cannot be told.

    >>> against_the_way("a", "base", "b", "serve", foreign=False)
    ('model a of layer base reads b of layer serve', 'move what both need to base, or a to serve')
    """
    me = f"model {model} of layer {layer} reads {read}"
    if foreign and layer == LAYERS[0]:
        return f"{me}, a table of another domain", "read it from base on"
    if of not in LAYERS or LAYERS.index(of) <= LAYERS.index(layer):
        return None
    return f"{me} of layer {of}", f"move what both need to {layer}, or {model} to {of}"


def past_the_landing(
    model: str, layer: str, source: str, landing: Collection[str]
) -> tuple[str, str] | None:
    """The same of a source, which models of the layers at the `landing` may read."""
    if layer in landing:
        return None
    wrong = f"model {model} of layer {layer} reads the source {source}"
    return wrong, f"take it in by a model of {' or '.join(landing)}"
