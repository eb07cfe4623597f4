"""Sound contracts of earlier readings, by the hash of their files."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from levada.adapters.remembered import Memory, digest
from levada.audit import reads
from levada.compiled import uncollected
from levada.terms import Contract, TableRef

__all__ = ["Kept"]

_NAME = "contracts"


@dataclass(frozen=True, slots=True)
class _Entry:
    file: str
    """The hash of the file's bytes."""
    shapes: str
    """The hash of the columns of the tables that its checks read: they were tried against them."""
    contract: Contract


class Kept:
    """What a memory holds of the contracts of a mesh."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        said = memory.get(_NAME, "")
        with uncollected():
            entries = _adapter().validate_python(said) if said else {}
            self._before: Mapping[str, _Entry] = {
                path: replace(entry, contract=_tupled(entry.contract))
                for path, entry in entries.items()
            }

    def contract(self, path: str, data: bytes) -> Contract | None:
        """The contract of a file that has not changed since it was found sound."""
        entry = self._before.get(path)
        return entry.contract if entry and entry.file == digest([data]) else None

    def tried(self, contract: Contract, known: Mapping[TableRef, Contract]) -> bool:
        """Whether its checks were tried against tables of the shapes that they have now."""
        entry = self._before.get(contract.path)
        return entry is not None and entry.shapes == _shapes(contract, known)

    def keep(
        self,
        contracts: Iterable[Contract],
        known: Mapping[TableRef, Contract],
        files: Mapping[str, bytes],
    ) -> None:
        """Keep these, and forget the others."""
        now = {
            each.path: _Entry(digest([files[each.path]]), _shapes(each, known), each)
            for each in contracts
        }
        seen = {path: (entry.file, entry.shapes) for path, entry in self._before.items()}
        if seen != {path: (entry.file, entry.shapes) for path, entry in now.items()}:
            self._memory.put(_NAME, "", _adapter().dump_python(now, mode="json"))


def _shapes(contract: Contract, known: Mapping[TableRef, Contract]) -> str:
    read = {table for check in contract.checks for table in reads(check)}
    return digest(
        f"{table} {[(c.name, c.type) for c in known[table].columns] if table in known else '?'}"
        for table in sorted(read)
    )


def _tupled(contract: Contract) -> Contract:
    """JSON has lists only; the arguments of a check are values of any kind."""
    checks = tuple(
        replace(check, arguments=tuple((name, _frozen(value)) for name, value in check.arguments))
        if any(isinstance(value, list) for _, value in check.arguments)
        else check
        for check in contract.checks
    )
    return replace(contract, checks=checks)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


@functools.cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(dict[str, _Entry])
