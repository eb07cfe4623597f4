"""A review as one document: JSON for programs, Markdown for the comment on a pull request."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

from levada.flow.reviewing import Compared
from levada.govern import Approval, Broken, Change, Impact, Review, Reviewed

__all__ = ["breaks", "document", "gravest_first", "markdown", "reach", "reasons", "verdict"]

_ORDER = list(Impact)
_MOST = 20
"""How many lines of one kind a comment shows; the JSON has them all."""


def verdict(review: Review) -> str:
    """The result in one line."""
    if not review.tables and not review.law:
        return "passes: nothing that a reader may rely on has changed"
    counted = dict.fromkeys(reversed(_ORDER), 0)
    impacts = [*(c.impact for c in review.changes), *(c.impact for c in review.law)]
    for each in impacts:
        counted[each] += 1
    said = ", ".join(f"{n} {impact.value}" for impact, n in counted.items() if n)
    tables = len(review.tables)
    places = [f"{tables} table{'s' if tables > 1 else ''}"] if tables else []
    places += ["the law"] if review.law else []
    across = f"{said} in {' and '.join(places)}"
    return f"passes: {across}" if review.passes else f"does not pass: {across}"


def gravest_first(review: Review) -> list[Reviewed]:
    """The tables, breaking ones first."""
    return sorted(review.tables, key=lambda t: (-_ORDER.index(t.impact), t.table))


def reasons(asked: Approval) -> str:
    """Why somebody must approve, briefly."""
    said = asked.because[:3]
    more = f"; and {len(asked.because) - 3} more" if len(asked.because) > 3 else ""
    return "; ".join(said) + more


def breaks(broken: Broken) -> str:
    """What a reader loses, and why that is known."""
    said = "; ".join(change.what for change in broken.changes)
    if broken.stated:
        return f"{said}; it states that it relies on it"
    if broken.columns is None:
        return f"{said}; columns unknown: all"
    return said


def reach(reviewed: Reviewed) -> str:
    """How far a change of a table can reach, and how far this one does."""
    tables = f"{reviewed.below} table{'s' if reviewed.below > 1 else ''}"
    products = len({each.product for each in reviewed.reached})
    concerned = f"{len(reviewed.reached)} of them concerned, in {products} products"
    return f"{tables} below; {concerned if reviewed.reached else 'none concerned'}"


# JSON


def document(found: Compared) -> dict[str, Any]:
    """The whole review as data; its shape is in docs/reference/cli.md."""
    review = found.review
    return {
        "passes": review.passes,
        "base": {"name": found.base.name, "commit": found.base.commit, "tip": found.base.tip},
        "refused": list(review.refused),
        "tables": [_table(table) for table in gravest_first(review)],
        "law": [
            {
                "kind": each.kind,
                "impact": each.impact.value,
                "what": each.what,
                "because": each.because,
                "path": each.path,
            }
            for each in review.law
        ],
        "approvals": [
            {"who": a.who, "people": list(a.people), "because": list(a.because)}
            for a in review.approvals
        ],
        "warnings": list(review.warnings),
    }


def _table(reviewed: Reviewed) -> dict[str, Any]:
    return {
        "table": str(reviewed.table),
        "impact": reviewed.impact.value,
        "version": {"before": reviewed.versions[0], "after": reviewed.versions[1]},
        "changes": [_change(change) for change in reviewed.changes],
        "below": reviewed.below,
        "reached": [
            {
                "table": str(each.table),
                "product": each.product,
                "owner": str(each.owner),
                "hops": each.hops,
                "via": str(each.via),
                "columns": None if each.columns is None else sorted(each.columns),
                "known": each.known,
            }
            for each in reviewed.reached
        ],
        "broken": [
            {
                "table": str(each.table),
                "owner": str(each.owner),
                "changes": [change.what for change in each.changes],
                "stated": [change.what for change in each.stated],
                "reads": None if each.columns is None else sorted(each.columns),
            }
            for each in reviewed.broken
        ],
        "refused": list(reviewed.refused),
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "impact": change.impact.value,
        "subject": change.subject,
        "columns": list(change.columns),
        "what": change.what,
        "because": change.because,
        "path": change.path,
        "product": change.of,
    }


# Markdown


def markdown(found: Compared) -> str:
    """One comment: the verdict, what is refused, who must approve; everything else folded."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Compared) -> Iterator[str]:
    review = found.review
    yield f"### Levada review: {_text(verdict(review))}"
    yield ""
    yield f"Compared with `{found.base.commit[:12]}` ({_text(found.base.name)})."
    if review.refused:
        yield from ("", "**Refused**", "", *_listed(review.refused))
    if review.warnings:
        yield from ("", "**Warnings**", "", *_listed(review.warnings))
    if review.approvals:
        yield from ("", "**Must approve**", "", "| who | because |", "| --- | --- |")
        for asked in review.approvals:
            people = f" ({_text(', '.join(asked.people))})" if asked.people else ""
            yield f"| **{_text(asked.who)}**{people} | {_text(reasons(asked))} |"
    if review.law:
        yield from ("", "**The law itself**", "", *_listed([str(each) for each in review.law]))
    for reviewed in gravest_first(review):
        yield from _details(reviewed)


def _details(reviewed: Reviewed) -> Iterator[str]:
    before, after = reviewed.versions
    count = len(reviewed.changes)
    head = f"<code>{reviewed.table}</code>: {reviewed.impact.value}"
    head += f", {count} change{'s' if count > 1 else ''}"
    yield from ("", f"<details><summary>{head}</summary>", "")
    if before and after:
        yield from (f"Version {before} → {after}." if before != after else f"Version {before}.", "")
    yield from ("| impact | change | because |", "| --- | --- | --- |")
    for change in reviewed.changes:
        yield f"| {change.impact.value} | {_text(change.what)} | {_text(change.because)} |"
    if reviewed.broken:
        yield from ("", "Breaks:", "")
        yield from _listed(
            [f"{each.table} ({each.owner.team}): {breaks(each)}" for each in reviewed.broken]
        )
    if reviewed.below:
        yield from ("", f"Reach: {reach(reviewed)}.", "")
        rows = [
            f"{each.table}, {each.hops} hop{'s' if each.hops > 1 else ''} away "
            f"({each.owner.team}): {each.told}"
            for each in reviewed.reached
        ]
        yield from _listed(rows)
    yield from ("", "</details>")


def _listed(lines: list[str] | tuple[str, ...]) -> Iterator[str]:
    yield from (f"- {_text(line)}" for line in lines[:_MOST])
    if len(lines) > _MOST:
        yield f"- and {len(lines) - _MOST} more"


def _text(text: str) -> str:
    """Words of the declarations, which must not become markup, mentions or images."""
    escaped = re.sub(r"([\\`*_\[\]|#!])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
    return escaped.replace("@", "@<!-- -->")
