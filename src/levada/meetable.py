"""What an edge asks for, held against the slices that there can be: some of it can never be met."""

from __future__ import annotations

from levada.intervals import mapped, within
from levada.terms import Dependency, Grain, Latest, Rollup, Span, Trailing

__all__ = ["unmeetable"]


def unmeetable(
    edge: Dependency, up_grain: Grain, up_zone: str, grain: Grain, zone: str, span: Span
) -> str:
    """
    Why what an edge waits for means nothing, or can never be met by any slice of its reader within
    the span; empty if it can.

    >>> from levada.terms import Lag, TableRef
    >>> march = Span.days("2013-03-01", "2013-03-31", "UTC")
    >>> edge = Dependency(TableRef("a", "x"), TableRef("a", "y"), Lag(31))
    >>> unmeetable(edge, Grain.DAY, "UTC", Grain.DAY, "UTC", march)
    "lag 31 reads beyond the mesh's span, whatever day is built: it holds 31 days"
    """
    if wrong := _miscounted(edge, up_grain, up_zone, grain, zone, span):
        return wrong
    if isinstance(edge.mapping, Latest):
        return ""
    slices = within(grain, zone, span)
    for partition in reversed(slices):
        found = mapped(edge.mapping, partition, up_grain, up_zone, span)
        ready = len(found.partitions)
        if ready and (edge.wait.max_lag or edge.wait.met(ready=ready, total=found.total)):
            return ""
    if not slices:
        return ""
    there = len(within(up_grain, up_zone, span))
    return (
        f"{_said(edge)} reads beyond the mesh's span, whatever {grain.value} is built: "
        f"it holds {there} {up_grain.value}s"
    )


def _miscounted(
    edge: Dependency, up_grain: Grain, up_zone: str, grain: Grain, zone: str, span: Span
) -> str:
    """Why counting slices is wrong here; empty where nothing is counted."""
    wait = edge.wait
    if wait.at_least is None and wait.at_most_missing is None:
        return ""
    word = "at_least" if wait.at_least is not None else "at_most_missing"
    if not isinstance(edge.mapping, Rollup | Trailing):
        return f"wait: {word} counts intervals, and {edge.mapping.kind} reads one: leave it out"
    slices = within(grain, zone, span)
    most = max((mapped(edge.mapping, p, up_grain, up_zone, span).total for p in slices), default=0)
    if wait.at_least is not None and wait.at_least > most > 0:
        return f"wait: at_least {wait.at_least} of at most {most} can never be met: leave it out"
    if wait.at_most_missing is not None and wait.at_most_missing >= most > 0:
        said = f"wait: at_most_missing {wait.at_most_missing} of at most {most} lets all be missing"
        return f"{said}: say at_least: 1"
    return ""


def _said(edge: Dependency) -> str:
    number = getattr(edge.mapping, "by", None) or getattr(edge.mapping, "n", None)
    return f"{edge.mapping.kind} {number}" if number else edge.mapping.kind
