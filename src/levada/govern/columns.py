"""What changed of a table's columns and of its key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher

from levada.govern.kinds import Change
from levada.govern.widths import kinship
from levada.terms import Column, Contract

__all__ = ["columns", "renames"]

_CLASSES = ("public", "internal", "confidential", "restricted")
"""From open to closed; a column that says nothing is open, and another word is beyond the last."""
_ALIKE = 0.6


def renames(old: Contract, new: Contract) -> Mapping[str, str]:
    """
    Old names of columns and their new ones: of the columns that went and came, those of one type
    which are described alike, stand at the same place, or are called alike.

    A wrong guess costs a word: to drop a column breaks as much as to rename it.
    """
    gone = [c for c in old.columns if new.column(c.name) is None]
    come = [c for c in new.columns if old.column(c.name) is None]
    places = {c.name: n for n, c in enumerate(old.columns)} | {
        c.name: n for n, c in enumerate(new.columns) if old.column(c.name) is None
    }
    scored = sorted(
        ((_likeness(a, b, places), a.name, b.name) for a in gone for b in come), reverse=True
    )
    found: dict[str, str] = {}
    for score, before, after in scored:
        if score and before not in found and after not in found.values():
            found[before] = after
    return found


def _likeness(old: Column, new: Column, places: Mapping[str, int]) -> float:
    if kinship(old.type, new.type) != "same":
        return 0
    if old.description and old.description == new.description:
        return 3
    alike = SequenceMatcher(None, old.name.lower(), new.name.lower()).ratio()
    same_place = places[old.name] == places[new.name] and old.required == new.required
    return 1 + alike if same_place or alike >= _ALIKE else 0


def columns(old: Contract, new: Contract) -> Iterator[Change]:
    """Columns that went, came, or promise something else; then the key."""

    def told(kind: str, subject: str, what: str, *concerned: str) -> Change:
        return Change(kind, old.table, subject, what, concerned or (subject,), new.path)

    renamed = renames(old, new)
    for column in old.columns:
        name = column.name
        after = new.column(renamed.get(name, name))
        if after is None:
            yield told("column.dropped", name, f"the column {name} is dropped")
            continue
        if after.name != name:
            yield told("column.renamed", name, f"the column {name} is renamed {after.name}")
        for kind, what in _promised(column, after):
            yield told(f"column.{kind}", name, f"the column {name} {what}")
    for column in new.columns:
        if old.column(column.name) is None and column.name not in renamed.values():
            kind = "column.added_required" if column.required else "column.added"
            what = f"the column {column.name} ({column.type}) is added"
            what += ", required" if column.required else ""
            yield told(kind, column.name, what)
    kept = [renamed.get(c.name, c.name) for c in old.columns]
    kept = [name for name in kept if new.column(name)]
    if kept != [c.name for c in new.columns if c.name in kept]:
        yield Change("column.reordered", old.table, "", "the columns stand in another order")
    yield from _key(old, new, renamed)


def _key(old: Contract, new: Contract, renamed: Mapping[str, str]) -> Iterator[Change]:
    before, after = tuple(renamed.get(c, c) for c in old.key), new.key
    if before == after:
        return
    was, now = ", ".join(old.key), ", ".join(new.key)
    if not before:
        kind, what = "key.added", f"a row is told apart by {now}"
    elif not after:
        kind, what = "key.removed", f"a row is no longer told apart by {was}"
    elif set(before) == set(after):
        kind, what = "key.reordered", f"the key is written ({now}) instead of ({was})"
    else:
        kind, what = "key.changed", f"the key is ({now}) instead of ({was})"
    yield Change(kind, old.table, "", what, old.key or new.key, new.path)


def _promised(old: Column, new: Column) -> Iterator[tuple[str, str]]:
    """What one column promises otherwise: the kind and the words."""
    yield from _typed(old, new)
    if old.required != new.required:
        yield (
            ("required_added", "is required now")
            if new.required
            else ("required_removed", "may be NULL now")
        )
    if old.unique != new.unique:
        yield (
            ("unique_added", "is unique now")
            if new.unique
            else ("unique_removed", "may repeat values now")
        )
    if old.classification != new.classification:
        raised = _closed(new.classification) > _closed(old.classification)
        raised = raised or not {old.classification, new.classification} <= {"", *_CLASSES}
        kind = "classification_raised" if raised else "classification_lowered"
        said = f"{new.classification or 'unclassified'}, was {old.classification or 'unclassified'}"
        if {old.classification.lower(), new.classification.lower()} <= {"", "public"}:
            kind = "description"
        yield kind, f"is {said}"
    if old.description != new.description:
        yield "description", "is described otherwise"


def _typed(old: Column, new: Column) -> Iterator[tuple[str, str]]:
    kin = kinship(old.type, new.type)
    if kin != "same":
        yield f"type_{kin}", f"is {new.type} instead of {old.type}"
    elif old.type != new.type:
        yield "type_spelled", f"is spelled {new.type} instead of {old.type}"
    if old.logical != new.logical:
        kind = "changed" if old.logical and new.logical else "added" if new.logical else "removed"
        words = {
            "changed": f"is logically {new.logical} instead of {old.logical}",
            "added": f"is said to be logically {new.logical}",
            "removed": f"is no longer said to be logically {old.logical}",
        }
        yield f"logical_type_{kind}", words[kind]
    was, now = dict(old.told), dict(new.told)
    for option in sorted({*was, *now}):
        if was.get(option) == now.get(option):
            continue
        kind = "changed" if option in was and option in now else "added" if option in now else ""
        said = f"has the {option} {now.get(option, '')!r}" if kind else f"has no {option} any more"
        yield f"format_{kind or 'removed'}", said


def _closed(classification: str) -> int:
    word = classification.lower() or _CLASSES[0]
    return _CLASSES.index(word) if word in _CLASSES else len(_CLASSES)
