"""What changed of what one contract promises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime

from levada.calendars import calendar, opening
from levada.govern.columns import columns, renames
from levada.govern.kinds import Change, Impact
from levada.govern.rules import rules
from levada.terms import Contract
from levada.terms.service import better

__all__ = ["changes"]

_LAST = 1_000_000
"""The tier of a table that says none."""
_READABLE = ("active", "deprecated")
_DATES = ("endOfSupport", "endOfLife", "retirement")
"""Service levels of the standard that are the table's life, and are told as that."""


def changes(old: Contract, new: Contract, now: datetime | None = None) -> tuple[Change, ...]:
    """
    Every change from one contract of a table to another, breaking ones first, each with its class.

    A change is judged by what a reader may rely on. What cannot be compared is breaking. Two
    contracts of one hash have no changes. `now` tells whether an end that is set has passed;
    without it nobody asks.

    >>> from dataclasses import replace
    >>> from levada.terms import Column, Grain, Owner, TableRef
    >>> id = Column("id", "BIGINT", required=True)
    >>> old = Contract("a.t", "1.0.0", "active", TableRef("a", "t"), "t", Grain.WHOLE, "UTC", None,
    ...                (id, Column("note", "VARCHAR")), (), Owner("team"), "Things.", "", "t.yaml")
    >>> for change in changes(old, replace(old, columns=(id,))):
    ...     print(change)
    a.t@1: the column note is dropped; breaking: who reads it fails
    """
    if old == new or (old.hash and old.hash == new.hash):
        return ()
    found = [
        *columns(old, new),
        *rules(old, new, renames(old, new)),
        *_slices(old, new),
        *_service(old, new),
        *_life(old, new, now),
        *_people(old, new),
    ]
    if not found:
        found.append(Change("contract.text", old.table, "", "its text changed", path=new.path))
    order = {Impact.BREAKING: 0, Impact.SENSITIVE: 1, Impact.COMPATIBLE: 2}
    return tuple(sorted(found, key=lambda change: order[change.impact]))


def _slices(old: Contract, new: Contract) -> Iterator[Change]:
    def told(kind: str, what: str) -> Change:
        return Change(f"table.{kind}", old.table, "", what, path=new.path)

    if old.grain is not new.grain:
        yield told("grain", f"its grain is {new.grain.value} instead of {old.grain.value}")
    was, now = calendar(old.zone), calendar(new.zone)
    if was.zone != now.zone:
        yield told("zone", f"its zone is {now.zone} instead of {was.zone}")
    if was.day_start != now.day_start:
        yield told(
            "day_start", f"its day starts {now.day_start} after midnight, was {was.day_start}"
        )
    if was.first_weekday != now.first_weekday:
        yield told("week_start", "its week starts on another day")
    moved = renames(old, new).get(old.interval_column or "", old.interval_column)
    if moved != new.interval_column:  # renamed, it is told as a column
        one, other = new.interval_column or "none", old.interval_column or "none"
        yield told("interval_column", f"its interval column is {one} instead of {other}")


def _service(old: Contract, new: Contract) -> Iterator[Change]:
    before, after = _levels(old), _levels(new)
    for name in sorted({*before, *after}):
        was, now = before.get(name, ()), after.get(name, ())
        if was == now:
            continue
        said = f"{', '.join(now) or 'nothing'} instead of {', '.join(was) or 'nothing'}"
        kind = "changed"
        if not was or not now:
            kind = "added" if now else "removed"
        elif len(was) == len(now) == 1:
            how = better(name, was[0], now[0])
            if how == 0:
                continue
            kind = "changed" if how is None else "tightened" if how > 0 else "loosened"
        yield Change(f"sla.{kind}", old.table, name, f"{name} is {said}", path=new.path)


def _levels(contract: Contract) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, value in contract.sla:
        if name not in _DATES:
            found[name] = tuple(sorted((*found.get(name, ()), value)))
    return found


def _life(old: Contract, new: Contract, now: datetime | None) -> Iterator[Change]:
    def told(kind: str, what: str) -> Change:
        return Change(f"life.{kind}", old.table, "", what, path=new.path)

    if old.status != new.status:
        said = f"its status is {new.status} instead of {old.status}"
        could, can = old.status in _READABLE, new.status in _READABLE
        if could and can:
            yield told("activated" if new.status == "active" else "deprecated", said)
        else:
            yield told("withdrawn" if could else "activated" if can else "unread", said)
    if old.deprecated != new.deprecated:
        sooner = _sooner(old.deprecated, new.deprecated)
        said = f"its support ends {_on(new.deprecated)}, was {_on(old.deprecated)}"
        yield told("support_sooner" if sooner else "support_later", said)
    if old.sunset != new.sunset:
        said = f"it is held from {_on(new.sunset)}, was {_on(old.sunset)}"
        kind = "sunset_sooner" if _sooner(old.sunset, new.sunset) else "sunset_later"
        if old.sunset is None:
            kind = "sunset_passed" if _passed(new, now) else "sunset_set"
        yield told(kind, said)


def _passed(contract: Contract, now: datetime | None) -> bool:
    day = contract.sunset
    return now is not None and day is not None and opening(day, contract.zone) <= now


def _sooner(old: date | None, new: date | None) -> bool:
    return (new or date.max) < (old or date.max)


def _on(day: date | None) -> str:
    return str(day) if day else "never"


def _people(old: Contract, new: Contract) -> Iterator[Change]:
    def told(kind: str, what: str) -> Change:
        return Change(kind, old.table, "", what, path=new.path)

    if old.owner.team != new.owner.team:
        said = f"{new.owner.team} answers for it instead of {old.owner.team}"
        yield told("owner.team", said)
    if set(old.owners) != set(new.owners):
        said = f"its owners are {_people_of(new)} instead of {_people_of(old)}"
        yield told("owner.members", said)
    elif old.owner.contact != new.owner.contact or set(old.members) != set(new.members):
        yield told("owner.contact", "its team is reached otherwise")
    if old.tier != new.tier:
        lowered = (new.tier or _LAST) > (old.tier or _LAST)
        said = f"its tier is {new.tier or 'not said'} instead of {old.tier or 'not said'}"
        yield told("owner.tier_lowered" if lowered else "owner.tier_raised", said)
    if old.id != new.id:
        yield told("contract.id", f"its id is {new.id} instead of {old.id}")
    if old.product != new.product:
        said = f"it moves from the product {old.product} to {new.product}"
        yield told("table.moved", said)
    if old.description != new.description:
        yield told("contract.description", "it is described otherwise")


def _people_of(contract: Contract) -> str:
    return ", ".join(contract.owners) or "nobody"
