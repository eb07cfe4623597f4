"""
Compiled declarations: what DAG parsing, sensors and commands read instead of asking dbt.

`levada compile` writes `.levada/<domain>.json` atomically, with the hashes of the files it was made
from; whoever reads it can tell, without dbt, that it is missing or stale.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from levada.errors import DeclarationError, Fault
from levada.settings import Settings
from levada.terms import Batch, Mesh, Product, Source, TableRef

__all__ = [
    "CompiledDomain",
    "fingerprint",
    "load",
    "load_batches",
    "load_domain",
    "packed",
    "refuse",
    "save",
    "save_batches",
    "tables_of",
    "uncollected",
    "unpacked",
]

_FORMAT = 5
_COMMAND = "run `levada compile`"


@dataclass(frozen=True, slots=True)
class CompiledDomain:
    """One domain's share of the mesh."""

    domain: str
    products: tuple[Product, ...]
    sources: tuple[Source, ...]


def files_of(root: Path, domain: str) -> Iterable[Path]:
    """Every file whose change makes the domain's compiled declarations stale."""
    yield root / "levada.yaml"
    yield root / "contracts" / "governance" / "policies.yaml"
    yield from _batch_files(root)
    yield from sorted((root / "contracts" / domain).glob("*.yaml"))
    project = root / "models" / domain
    made = {project / "target", project / "logs", project / "dbt_packages"}
    for folder, folders, names in os.walk(project):
        here = Path(folder)
        folders[:] = sorted(f for f in folders if here / f not in made)
        yield from (here / n for n in sorted(names) if n.endswith((".sql", ".yml", ".yaml", ".py")))


def fingerprint(root: Path, domain: str) -> str:
    """One hash over the domain's declaration files: their names and bytes."""
    seen = hashlib.sha256()
    for path in files_of(root, domain):
        seen.update(str(path.relative_to(root)).encode() + b"\0")
        seen.update(path.read_bytes() if path.is_file() else b"")
    return seen.hexdigest()


def save(settings: Settings, mesh: Mesh, domains: Sequence[str]) -> tuple[Path, ...]:
    """Write the compiled declarations of these domains, each file by rename."""
    settings.home.mkdir(parents=True, exist_ok=True)
    written = []
    for domain in domains:
        share = CompiledDomain(
            domain,
            tuple(p for p in mesh.products if p.domain == domain),
            tuple(s for s in mesh.sources if s.table.domain == domain),
        )
        head = json.dumps(
            {"format": _FORMAT, "fingerprint": fingerprint(settings.root, domain)}, indent=1
        )
        # A thousand products cost Python's own encoder two seconds, where it indents.
        said = _adapter().dump_json(share, indent=1).decode()
        path = settings.home / f"{domain}.json"
        text = head.removesuffix("\n}") + f',\n "share": {said}\n}}\n'
        if not path.is_file() or path.read_text() != text:
            _replace(path, text)
        _refusal(settings, domain).unlink(missing_ok=True)
        written.append(path)
    return tuple(written)


def packed(settings: Settings, domain: str) -> bytes:
    """What is compiled of a domain, without the files that it was made from."""
    share = load_domain(settings, domain, fresh=False)
    body = {"format": _FORMAT, "share": _adapter().dump_python(share, mode="json")}
    return json.dumps(body, sort_keys=True).encode()


def unpacked(body: bytes) -> CompiledDomain | None:
    """The share of a domain that was `packed`; None where another version of Levada did it."""
    said = json.loads(body)
    if said.get("format") != _FORMAT:
        return None
    share: CompiledDomain = _adapter().validate_python(said["share"])
    return share


def refuse(settings: Settings, domain: str, faults: Sequence[Fault]) -> None:
    """
    Keep why a domain could not be compiled, so that its DAG file says it. What was compiled before
    stays as it is, for those who read the domain's tables.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    body = {
        "fingerprint": fingerprint(settings.root, domain),
        "faults": [[f.path, f.line, f.wrong, f.right] for f in faults],
    }
    _replace(_refusal(settings, domain), json.dumps(body, indent=1) + "\n")


def _refusal(settings: Settings, domain: str) -> Path:
    return settings.home / f"{domain}.faults.json"


def _refused(settings: Settings, domain: str) -> tuple[Fault, ...]:
    """Why the domain's declarations, as they stand, could not be compiled; empty if unknown."""
    try:
        body = json.loads(_refusal(settings, domain).read_text())
    except (OSError, ValueError):
        return ()
    if body["fingerprint"] != fingerprint(settings.root, domain):
        return ()
    return tuple(Fault(*fault) for fault in body["faults"])


def _replace(path: Path, text: str) -> None:
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    beside.write_text(text)
    beside.replace(path)


def load_domain(settings: Settings, domain: str, *, fresh: bool = True) -> CompiledDomain:
    """
    Read one domain's compiled declarations; `fresh` refuses stale ones.

    Raises DeclarationError: the faults for which the domain could not be compiled, else the command
    that would make it right.
    """
    path = settings.home / f"{domain}.json"
    place = str(path.relative_to(settings.root))
    if fresh and (faults := _refused(settings, domain)):
        raise DeclarationError(faults)
    try:
        stat = path.stat()
    except OSError as error:
        fault = Fault(place, 0, f"domain {domain} is not compiled", _COMMAND)
        raise DeclarationError((fault,)) from error
    body = _read(path, stat.st_mtime_ns, stat.st_size)
    if body.get("format") != _FORMAT:
        raise DeclarationError((Fault(place, 0, "is of another version of Levada", _COMMAND),))
    if fresh and body["fingerprint"] != fingerprint(settings.root, domain):
        wrong = f"the declarations of {domain} changed since they were compiled"
        raise DeclarationError((Fault(place, 0, wrong, _COMMAND),))
    share: CompiledDomain = body["share"]
    return share


def load(settings: Settings, *, fresh: bool = False) -> Mesh:
    """
    The mesh of every compiled domain. A domain that is not compiled is left out unless `fresh`,
    so that one broken domain does not take the others away. A product that reads what nothing
    declares any more stays, without its inputs, and `Mesh.lost` says why it cannot be judged.
    """
    shares: list[CompiledDomain] = []
    faults: list[Fault] = []
    for domain in settings.domains:
        try:
            shares.append(load_domain(settings, domain, fresh=fresh))
        except DeclarationError as error:
            faults += error.faults
    if not shares and not fresh:
        told = [f for f in faults if (settings.root / f.path).exists()]  # of another version
        nothing = Fault("levada.yaml", 0, "nothing is compiled yet", _COMMAND)
        raise DeclarationError(told or (nothing,))
    lost = _lost(shares)
    faults += [Fault("levada.yaml", 0, f"{name} {why}", _COMMAND) for name, why in lost.items()]
    if faults and fresh:
        raise DeclarationError(faults)
    return Mesh(
        name=settings.name,
        span=settings.span,
        zone=settings.zone,
        live_from=settings.live_from,
        products=tuple(
            _cut_off(p) if p.id in lost else p for share in shares for p in share.products
        ),
        sources=tuple(s for share in shares for s in share.sources),
        quiet=settings.quiet,
        lost=lost,
    )


def tables_of(shares: Iterable[CompiledDomain]) -> set[TableRef]:
    """What these domains declare: the tables of their products, and their sources."""
    found: set[TableRef] = set()
    for share in shares:
        found.update(source.table for source in share.sources)
        found.update(mart.table for product in share.products for mart in product.marts)
    return found


def _lost(shares: Sequence[CompiledDomain]) -> dict[str, str]:
    """The products that read what no domain declares, each with its reason."""
    known, compiled = tables_of(shares), {share.domain for share in shares}
    found: dict[str, str] = {}
    for product in (p for share in shares for p in share.products):
        gone = sorted({d.upstream for d in product.dependencies} - known)
        if gone:
            away = sorted({table.domain for table in gone} - compiled)
            why = f"{' and '.join(away)} cannot be read" if away else "nothing declares it any more"
            found[product.id] = f"reads {', '.join(map(str, gone))}: {why}"
    return found


def _cut_off(product: Product) -> Product:
    """A product without its inputs, so that whoever walks the mesh finds what every edge names."""
    return replace(product, marts=tuple(replace(m, dependencies=()) for m in product.marts))


@functools.lru_cache(maxsize=64)
def _read(path: Path, mtime: int, size: int) -> Mapping[str, Any]:  # noqa: ARG001 - the cache's key
    from pydantic_core import from_json

    with uncollected():
        body: dict[str, Any] = from_json(path.read_bytes())
        if body.get("format") == _FORMAT:
            body["share"] = _adapter().validate_python(body["share"])
    return body


@contextmanager
def uncollected() -> Iterator[None]:
    """
    Without the search for cycles, for making much that stays: it finds none, and costs more than
    the reading itself (0.29 s of 1,000 products, 0.08 s without).
    """
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


def save_batches(
    settings: Settings, batches: Sequence[Batch], unread: Collection[str] = ()
) -> Path:
    """
    Write the sound consistency batches, by rename. Those that could not be read now stay as they
    were compiled, if their own file did.
    """
    path = _batches(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    files = {file.name: _hash_of(file) for file in _batch_files(settings.root)}
    kept = [batch for batch in _compiled_of(path, files) if batch.id in unread] if unread else []
    body = {
        "format": _FORMAT,
        "fingerprint": _of_batches(settings.root),
        "files": files,
        "batches": _batch_adapter().dump_python(
            tuple(sorted((*batches, *kept), key=lambda batch: batch.id)), mode="json"
        ),
    }
    text = json.dumps(body, sort_keys=True, indent=1) + "\n"
    if not path.is_file() or path.read_text() != text:
        _replace(path, text)
    return path


def _compiled_of(path: Path, files: Mapping[str, str]) -> Iterator[Batch]:
    """The compiled batches whose files are what they were made from."""
    try:
        body = json.loads(path.read_text())
    except (OSError, ValueError):
        return
    if body.get("format") == _FORMAT:
        same = {name for name, was in body.get("files", {}).items() if files.get(name) == was}
        found: tuple[Batch, ...] = _batch_adapter().validate_python(body["batches"])
        yield from (batch for batch in found if Path(batch.path).name in same)


def _hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_batches(settings: Settings) -> tuple[Batch, ...]:
    """
    The compiled consistency batches. Raises DeclarationError, naming the command, where their files
    changed since; none where the mesh has none.
    """
    path = _batches(settings)
    place = str(path.relative_to(settings.root))
    if not any(_batch_files(settings.root)):
        return ()
    try:
        body = json.loads(path.read_text())
    except OSError as error:
        fault = Fault(place, 0, "the consistency batches are not compiled", _COMMAND)
        raise DeclarationError((fault,)) from error
    if (body.get("format"), body["fingerprint"]) != (_FORMAT, _of_batches(settings.root)):
        wrong = "the consistency batches changed since they were compiled"
        raise DeclarationError((Fault(place, 0, wrong, _COMMAND),))
    batches: tuple[Batch, ...] = _batch_adapter().validate_python(body["batches"])
    return batches


def _batches(settings: Settings) -> Path:
    return settings.home / "consistency" / "batches.json"


def _batch_files(root: Path) -> Iterable[Path]:
    """What is read as a batch: no folder, and nothing that an editor keeps beside the files."""
    found = (root / "contracts" / "governance" / "consistency").glob("*")
    return sorted(p for p in found if p.suffix in (".yaml", ".yml", ".json") and p.is_file())


def _of_batches(root: Path) -> str:
    seen = hashlib.sha256()
    for path in (root / "levada.yaml", *_batch_files(root)):
        seen.update(path.name.encode() + b"\0" + path.read_bytes())
    return seen.hexdigest()


@functools.cache
def _batch_adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(tuple[Batch, ...])


@functools.cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(CompiledDomain)
