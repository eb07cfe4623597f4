"""
The rules as SQLFluff runs them: LV01 to LV05, all in the group `levada`.

What is read is found in the jinja of the text, so that no branch and no call hides it; what is
written literally, and how complex it is, in the parsed SQL. A finding stands where it is in the
file, inside a tag too, where SQLFluff by itself would drop it (`targets_templated`). A file outside
a mesh has no findings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sqlfluff.core.parser import BaseSegment, PositionMarker, RawSegment, SourceFix
from sqlfluff.core.rules import BaseRule, LintFix, LintResult, RuleContext
from sqlfluff.core.rules.crawlers import BaseCrawler, RootOnlyCrawler
from sqlfluff.core.templaters import TemplatedFile

from levada.adapters.sqlfluff import budget, decisions
from levada.adapters.sqlfluff.decisions import Edit, Finding
from levada.adapters.sqlfluff.facts import Here, here
from levada.adapters.sqlfluff.jinja import Read, Tag, reads, tags
from levada.adapters.sqlfluff.tables import literal_tables

__all__ = ["Rule_LV01", "Rule_LV02", "Rule_LV03", "Rule_LV04", "Rule_LV05"]

_GROUPS = ("all", "levada")


class _Looking:
    """What Levada's rules have in common: one look at a whole model of a mesh."""

    groups: tuple[str, ...] = _GROUPS
    config_keywords: list[str] = []  # noqa: RUF012 - SQLFluff asks for a list
    is_fix_compatible = False
    crawl_behaviour: BaseCrawler = RootOnlyCrawler(works_on_unparsable=True)
    targets_templated = True
    template_safe_fixes = True

    def findings(self, model: Here, text: str, tree: BaseSegment) -> Iterable[Finding]:
        """What the rule says of a model."""
        raise NotImplementedError

    def _eval(self, context: RuleContext) -> list[LintResult]:
        file = context.templated_file
        model = here(context.path) if context.path else None
        if model is None or file is None:
            return []
        found = [*self.findings(model, file.source_str, context.segment)]
        edits = _whole_tags(found, tags(file.source_str), file.source_str)
        mended = {(s.source_slice.start, s.source_slice.stop) for s in context.segment.source_fixes}
        return [
            LintResult(
                anchor=_anchor(each, file),
                description=str(each),
                fixes=[_fix(edit, context.segment)] if edit else [],
            )
            for each in found
            if (edit := edits.get(each)) is None or (edit.start, edit.stop) not in mended
        ]


class Rule_LV01(_Looking, BaseRule):
    """Tables are read by ref and source only.

    A table that is named literally is no edge of the mesh: nobody waits for it, nobody audits it,
    and the run that would read it does not find it.
    """

    name = "levada.literal_tables"
    groups = _GROUPS
    config_keywords = ["allowed_tables", "reading_functions"]  # noqa: RUF012
    is_fix_compatible = True
    allowed_tables: str | None
    reading_functions: str | None

    def findings(self, model: Here, text: str, tree: BaseSegment) -> Iterator[Finding]:
        """Reads that no `ref` and no `source` names."""
        for each in literal_tables(
            tree,
            text,
            model.facts.macros(model.domain),
            functions=_list(self.reading_functions),
            allowed=_list(self.allowed_tables),
        ):
            me = f"model {model.model} reads"
            if not each.parts:
                wrong, right = f"{me} by {each.shown}(), past the mesh", "declare it as a source"
                yield Finding(each.start, each.stop, wrong, right)
                continue
            if each.computed:
                wrong, right = f"{me} {each.shown}, which names no table of the mesh", ""
                right = "a name that is computed goes into ref() or source()"
                yield Finding(each.start, each.stop, wrong, right)
                continue
            ways = decisions.replacement(model, each.parts, _sources(model))
            right = f"write {' or '.join(ways)}" if ways else decisions.meant(model, each.parts)
            edit = None
            if len(ways) == 1 and not each.qualified:
                alias = f" as {each.alias}" if each.alias else ""
                edit = Edit(each.start, each.stop, f"{ways[0]}{alias}")
            yield Finding(
                each.start, each.stop, f"{me} the literal table {each.shown}", right, edit
            )


class Rule_LV02(_Looking, BaseRule):
    """Another domain's table is read only where it is promised, by ref of two arguments.

    What has no contract may change or vanish without a word; what is not told to be another's looks
    like one's own.
    """

    name = "levada.promised_reads"
    groups = _GROUPS
    is_fix_compatible = True

    def findings(self, model: Here, text: str, tree: BaseSegment) -> Iterator[Finding]:
        """Reads across domains that no contract holds."""
        del tree
        return decisions.promised_only(model, _reads(model, text))


class Rule_LV03(_Looking, BaseRule):
    """Models read downward: ingest, base, aggregate, serve.

    A model may read its own layer and those before it; ingest reads nothing of other domains.
    """

    name = "levada.layer_order"
    groups = _GROUPS
    config_keywords = ["source_layers"]  # noqa: RUF012
    source_layers: str | None

    def findings(self, model: Here, text: str, tree: BaseSegment) -> Iterator[Finding]:
        """Reads against the order of the layers."""
        del tree
        return decisions.layer_order(model, _reads(model, text), _list(self.source_layers))


class Rule_LV04(_Looking, BaseRule):
    """A table is named as its project names tables.

    By default kind, subject, grain and period: f_flights__flight__day. The project's own pattern is
    set in its .sqlfluff.
    """

    name = "levada.table_names"
    groups = _GROUPS
    config_keywords = ["table_names", "private_names"]  # noqa: RUF012
    table_names: str | None
    private_names: str | None

    def findings(self, model: Here, text: str, tree: BaseSegment) -> Iterator[Finding]:
        """A name that is not as the project's pattern."""
        del text, tree
        told = decisions.misnamed(model, self.table_names or "", self.private_names or "")
        return iter([told] if told else [])


class Rule_LV05(_Looking, BaseRule):
    """A model keeps to its budget of joins, branches, nested CASE and lines.

    What exceeds it is told at the place at which a split would bring it under.
    """

    name = "levada.complexity"
    groups = _GROUPS
    config_keywords = [  # noqa: RUF012
        "max_joins",
        "max_union_branches",
        "max_case_depth",
        "max_sql_lines",
    ]
    max_joins: int
    max_union_branches: int
    max_case_depth: int
    max_sql_lines: int

    @property
    def budget(self) -> budget.Budget:
        """The most that a model may have."""
        return budget.Budget(
            *(self.max_joins, self.max_union_branches, self.max_case_depth, self.max_sql_lines)
        )

    def findings(self, model: Here, text: str, tree: BaseSegment) -> Iterator[Finding]:
        """What is over the budget."""
        return budget.exceeded(model.model, tree, text, self.budget)


def _reads(model: Here, text: str) -> tuple[Read, ...]:
    return reads(text, model.facts.macros(model.domain))


def _sources(model: Here) -> tuple[str, ...]:
    """The sources that the model's project declares, as `source.table`."""
    from levada.adapters.dbt.places import source_tables

    return tuple(source_tables(model.facts.root / "models" / model.domain))


def _list(said: str | None) -> tuple[str, ...]:
    return tuple(each.strip() for each in (said or "").split(",") if each.strip())


# Places and fixes. Positions are those of the file, which is neither rendered nor fixed.


def _whole_tags(
    found: Sequence[Finding], known: Sequence[Tag], text: str
) -> Mapping[Finding, Edit]:
    """
    The edit of each finding; inside a tag, the whole tag with the edits of all findings in it:
    SQLFluff replaces a tag or leaves it.
    """
    edits: dict[Finding, Edit] = {}
    for each in found:
        if each.edit is None:
            continue
        place = each.edit
        tag = next((t for t in known if t.start < place.start and place.stop < t.stop), None)
        if tag is None:
            edits[each] = place
            continue
        inner = {e.edit for e in found if e.edit and tag.start < e.edit.start < tag.stop}
        whole = text[tag.start : tag.stop]
        for edit in sorted(inner, key=lambda e: e.start, reverse=True):
            at, end = edit.start - tag.start, edit.stop - tag.start
            whole = whole[:at] + edit.text + whole[end:]
        edits[each] = Edit(tag.start, tag.stop, whole)
    return edits


def _anchor(finding: Finding, file: TemplatedFile) -> BaseSegment:
    """A segment that stands where the finding does in the file."""
    place = slice(finding.start, max(finding.stop, finding.start + 1))
    marker = PositionMarker(place, slice(0, 0), file)
    return RawSegment(file.source_str[place] or " ", marker)


def _fix(edit: Edit, tree: BaseSegment) -> LintFix:
    """
    An edit of the file, carried by a segment that every rendering has: two renderings that find the
    same must propose the same. A file with branches has a placeholder for them; one without has
    one rendering.
    """
    raw = tree.raw_segments
    carrier = next((s for s in raw if s.is_type("placeholder")), None) or next(
        s for s in raw if s.raw
    )
    marker = carrier.pos_marker
    at = marker.templated_slice if marker else slice(0, 0)
    fix = SourceFix(edit.text, slice(edit.start, edit.stop), at)
    return LintFix.replace(carrier, [carrier.edit(source_fixes=[*carrier.source_fixes, fix])])
