"""
Data contracts of the Open Data Contract Standard become `Contract`s, with every fault they have.

The JSON schema comes first, because the standard's model classes drop unknown nested keys; then
what Levada needs beyond it. A file with one fault gives no contract, and is read to its end all the
same: whatever else can be told is told at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import cast

from levada.adapters.documents import Document, Place, read_file
from levada.adapters.gx.rehearsal import Stage
from levada.adapters.odcs.document import schema_faults
from levada.adapters.odcs.kept import Kept
from levada.adapters.odcs.reading import TABLE, UNNAMED, canonical, digest, reading
from levada.adapters.remembered import Memory, Nothing
from levada.errors import DeclarationError, Fault
from levada.settings import find_root, nearest
from levada.terms import Contract, TableRef

__all__ = [
    "canonical",
    "document",
    "from_canonical",
    "label",
    "read_contract",
    "read_contracts",
]


def read_contracts(
    root: Path, memory: Memory | None = None
) -> tuple[tuple[Contract, ...], tuple[Fault, ...]]:
    """
    Read every contract of a mesh: `contracts/<domain>/<table>.v<major>.odcs.yaml`. A file that has
    not changed since it was found sound, by the `memory`, is not judged again.
    """
    kept = Kept(memory or Nothing())
    found: list[_Judged] = []
    faults: list[Fault] = []
    files: dict[str, bytes] = {}
    for path in sorted((root / "contracts").rglob("*.y*ml")):
        if path.name.endswith(".odcs.yaml"):
            shown = _relative(path, root)
            files[shown] = path.read_bytes() if path.is_file() else b""
            if contract := kept.contract(shown, files[shown]):
                found.append(_Judged(contract, Document(shown, {}), {}, remembered=True))
                continue
            judged, told = _read(path, root)
            faults += told
            found += [judged] if judged else []
        elif path.relative_to(root / "contracts").parts[0] != "governance":
            right = "a contract is named <table>.v<major>.odcs.yaml"
            faults.append(Fault(_relative(path, root), 0, "this file is not read", right))
    bad = {fault.path for fault in faults}
    sound = [judged.contract for judged in found if judged.contract.path not in bad]
    twins = tuple(_twins(found, root))
    places = {(fault.path, fault.line) for fault in twins}
    # That two promise a table says enough: what the other file should be called is no second fault.
    faults = [*twins, *(fault for fault in faults if (fault.path, fault.line) not in places)]
    known = {contract.table: contract for contract in sound}
    untried = [j for j in found if not (j.remembered and kept.tried(j.contract, known))]
    if untried:
        with Stage() as stage:
            for judged in untried:
                faults += _full(judged, root).rehearsed(stage, known)
    bad = {fault.path for fault in faults}
    whole = tuple(c for c in sound if c.path not in bad)
    kept.keep(whole, known, files)
    return whole, tuple(sorted(set(faults)))


def _full(judged: _Judged, root: Path) -> _Judged:
    """With its document, from which a remembered contract is no longer read."""
    again = _read(root / judged.contract.path, root)[0] if judged.remembered else None
    return again or judged


def _twins(found: Sequence[_Judged], root: Path) -> Iterator[Fault]:
    """Ids that two tables have, and tables that two contracts promise."""
    first: dict[str, Contract] = {}
    tables: dict[TableRef, Contract] = {}
    for judged in sorted(found, key=lambda judged: bool(tuple(_misplaced(judged)))):
        contract = judged.contract
        other = tables.setdefault(contract.table, contract)
        if other is not contract and contract.table != UNNAMED:
            wrong = f"{contract.table} is promised in {other.path} too"
            document = _full(judged, root).document
            yield document.fault((*TABLE, "name"), wrong, "keep one of the two")
        if contract.id and contract.table != UNNAMED:
            twin = first.setdefault(contract.id, contract)
            if (twin.table.domain, twin.table.name) != (contract.table.domain, contract.table.name):
                wrong = f"the id {contract.id!r} is that of {twin.path}"
                document = _full(judged, root).document
                yield document.fault(("id",), wrong, "give each table its own id")


def read_contract(path: Path, root: Path) -> tuple[Contract | None, tuple[Fault, ...]]:
    """
    Read one contract; it is None when the file has any fault.

    A check that reads another table is tried only by `read_contracts`, which knows that table.
    """
    judged, faults = _read(path, root)
    if judged is not None:
        with Stage() as stage:
            faults += judged.rehearsed(stage, {})
    return (judged.contract if judged and not faults else None), tuple(sorted(set(faults)))


def _read(path: Path, root: Path) -> tuple[_Judged | None, tuple[Fault, ...]]:
    """What a file says, as far as it can be read, and its faults."""
    found, faults = read_file(path, root)
    if found is None:
        return None, faults
    judged, more = _judge(found)
    faults += more
    if judged is not None:
        faults += tuple(_misplaced(judged))
    return judged, faults


@dataclass(frozen=True)
class _Judged:
    """
    A contract, the document it was read from, and where its checks stand there.

    Of a document with `faults` the contract is what could be read: good for finding more of them.
    """

    contract: Contract
    document: Document
    places: Mapping[str, Place]
    faults: tuple[Fault, ...] = ()
    remembered: bool = False
    """Whether it was sound before, and its document was not read again."""

    def rehearsed(self, stage: Stage, others: Mapping[TableRef, Contract]) -> tuple[Fault, ...]:
        """The checks that could not run over the promised columns."""
        said: Mapping[str, str] = {}
        with suppress(Exception) if self.faults else nullcontext():  # not all columns can be made
            said = stage.rehearse(self.contract, others)
        said = {**said, **dict(_pointless(self.contract, others))}
        return tuple(
            self.document.fault(self.places[check], f"the check {check!r} cannot run: {error}")
            for check, error in said.items()
            if not self.document.torn(self.places[check])
        )


def _pointless(
    contract: Contract, others: Mapping[TableRef, Contract]
) -> Iterator[tuple[str, str]]:
    """Relationships to columns that their table does not promise, by the id of their check."""
    for check in contract.checks:
        said = dict(check.arguments)
        if check.metric != "foreignKey" or (to := TableRef.parse(str(said["to"]))) not in others:
            continue
        names = [column.name for column in others[to].columns]
        for column in cast("Sequence[str]", said["to_columns"]):
            if column not in names:
                yield check.id, f"{to} promises no column {column!r}; {nearest(column, names)}"


def from_canonical(text: str) -> Contract:
    """
    The contract of a recorded canonical text; its path is `(recorded)`. Raises DeclarationError.

    Audits judge by what was recorded, not by what a working tree says.
    """
    value = json.loads(text)
    judged, faults = _judge(Document("(recorded)", value))
    if judged is None or faults:
        raise DeclarationError(faults)
    return judged.contract


def document(contract: Contract, root: Path | None = None) -> str:
    """
    The canonical text of a contract, from its file below `root` (default: the mesh around here).

    Raises DeclarationError when the file no longer says what the contract was read from.
    """
    path = (root or find_root()) / contract.path
    found, faults = read_file(path, root or find_root())
    if found is None or digest(found.value) != contract.hash:
        changed = Fault(contract.path, 0, "the file changed since it was read", "read it again")
        raise DeclarationError(faults or (changed,))
    return canonical(found.value)


def label(contract: Contract) -> str:
    """`id version hash`: how the ledger names a contract, with twelve digits of the hash."""
    return contract.label


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _misplaced(judged: _Judged) -> Iterator[Fault]:
    """The folder is the domain, and the file is named by table and major."""
    table, found = judged.contract.table, judged.document
    path = PurePosixPath(found.path)
    if table == UNNAMED:
        return
    name = f"{table.name}.v{table.major}.odcs.yaml"
    if path.name != name:
        yield found.fault(
            (*TABLE, "name"), f"{table} is promised in {path.name}", f"name it {name}"
        )
    if path.parent.name != table.domain or path.parent.parent.name != "contracts":
        wrong = f"the domain {table.domain!r} does not own this folder"
        yield found.fault(("domain",), wrong, f"move it to contracts/{table.domain}/")


def _judge(found: Document) -> tuple[_Judged | None, tuple[Fault, ...]]:
    faults = schema_faults(found)
    contract, places, more = reading(found)
    faults = tuple(dict.fromkeys((*faults, *more)))
    if contract is None:
        return None, faults
    return _Judged(contract, found, places, faults), faults
