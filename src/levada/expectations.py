"""What a reader states that it relies on, held against the contract of what it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from levada.settings import nearest
from levada.terms import Contract, Reliance
from levada.terms.service import better, readable

__all__ = ["expected", "lacks"]

_KEYS = ("columns", "checks", "sla")


def expected(said: object, contract: Contract) -> tuple[Reliance | None, list[tuple[str, str]]]:
    """
    `relies_on` as it was written, and every fault of it: what is wrong, and what would be right.

    Wanted is what the contract promises now; a name that it lacks is told with the nearest it has.
    """
    if not isinstance(said, Mapping):
        return None, [(f"says {said!r}", "write {columns: [...], checks: [...], sla: {...}}")]
    faults = [(f"unknown key {k!r}", nearest(str(k), _KEYS)) for k in said if k not in _KEYS]
    names: dict[str, tuple[str, ...]] = {}
    for key in ("columns", "checks"):
        value = said.get(key) or ()
        if not isinstance(value, list | tuple):
            faults.append((f"{key} is no list", f"write {key}: [a, b]"))
            value = ()
        names[key] = tuple(str(each) for each in value)
    levels = said.get("sla") or {}
    if not isinstance(levels, Mapping):
        faults.append(("sla holds no levels", "write sla: {latency: 6 h}"))
        levels = {}
    found = Reliance(
        names["columns"],
        names["checks"],
        tuple((str(name), str(value)) for name, value in levels.items()),
    )
    return found, [*faults, *lacks(found, contract)]


def lacks(reliance: Reliance, contract: Contract) -> Iterator[tuple[str, str]]:
    """What is relied on and not promised: what is wrong, and what would be right."""
    known = {
        "column": [c.name for c in contract.columns],
        "rule": [c.id for c in contract.checks],
        "sla": sorted({name for name, _ in contract.sla}),
    }
    wanted = [
        *(("column", name) for name in reliance.columns),
        *(("rule", name) for name in reliance.checks),
        *(("sla", name) for name, _ in reliance.sla),
    ]
    for kind, name in wanted:
        if name not in known[kind]:
            right = nearest(name, known[kind]) if known[kind] else "it promises none"
            yield f"{contract.table} promises no {kind} {name!r}", right
    for name, value in reliance.sla:
        promised = [v for n, v in contract.sla if n == name]
        if promised and not readable(name, value):
            yield f"{name} {value!r} cannot be compared", f"write it like {promised[0]}"
        elif any((better(name, value, each) or 0) < 0 for each in promised):
            said = ", ".join(promised)
            yield f"{contract.table} promises {name} {said}, not {value}", f"rely on {said}"
