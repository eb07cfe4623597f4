"""
Keeping code: what was compiled stays, so that an old publication can be made again.

A fingerprint names the code, the contracts and the inputs of a run, and cannot be read backwards:
what is kept is tried, until one gives the same name.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from levada import compiled
from levada.adapters.dbt.variables import project_vars
from levada.build import manifest_path
from levada.readiness import bare, fingerprint
from levada.settings import Settings
from levada.terms import Mesh, Product, Publication

__all__ = ["Kept", "as_it_was", "keep", "kept_as", "made_with", "variables_of"]

_SEEN = "seen"
"""Of what lies in a folder: the hash of the compiled file that was kept last, and as what."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A product as it was declared once, and the manifest of its domain at that time."""

    product: Product
    sources: compiled.CompiledDomain
    packed_manifest: Path
    variables: Mapping[str, object] | None = None
    """Those of its dbt project at that time; None where they were not kept."""

    @contextmanager
    def manifest(self, settings: Settings, run: str) -> Iterator[Path]:
        """The manifest, unpacked where code of the domain may read it."""
        folder = manifest_path(settings, self.product.domain).parent
        path = folder / f"{self.product.domain}.{run}.msgpack"
        path.write_bytes(gzip.decompress(self.packed_manifest.read_bytes()))
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def keep(settings: Settings, domain: str) -> bool:
    """Keep what is compiled of a domain, if it is not kept yet; whether it was new."""
    manifest = manifest_path(settings, domain)
    if not manifest.is_file():
        return False
    folder = settings.home / "kept" / domain
    seen = folder / _SEEN  # to pack what is compiled takes long, and it is mostly as it was
    now = hashlib.sha256((settings.home / f"{domain}.json").read_bytes()).hexdigest()
    before, _, kept = seen.read_text().partition(" ") if seen.is_file() else ("", "", "")
    if before == now and (folder / kept).is_file():
        return False
    said = compiled.packed(settings, domain)
    name = hashlib.sha256(said).hexdigest()[:16]
    share = folder / f"{name}.json.gz"
    folder.mkdir(parents=True, exist_ok=True)
    if share.is_file():
        _written(seen, f"{now} {share.name}".encode())
        return False
    # The share is last: whoever finds it finds the manifest and the variables, too.
    for path, body in (
        (folder / f"{name}.msgpack.gz", manifest.read_bytes()),
        (folder / f"{name}.vars.gz", json.dumps(variables_of(settings, domain)).encode()),
        (share, said),
    ):
        _written(path, gzip.compress(body, 6, mtime=0))
    _written(seen, f"{now} {share.name}".encode())
    return True


def _written(path: Path, body: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.write_bytes(body)
    beside.replace(path)


def variables_of(settings: Settings, domain: str) -> Mapping[str, object]:
    """The variables of a domain's dbt project as it lies there, as JSON can say them."""
    found = project_vars(settings.root / "models" / domain, domain)
    plain: Mapping[str, object] = json.loads(json.dumps(found, default=str))
    return plain


def made_with(settings: Settings, line: Publication, product: str) -> Kept | None:
    """The kept declarations by which a line was made; None where they are not kept."""

    def made(each: Product) -> bool:
        return fingerprint(each, line.partition, line.inputs) == bare(line.made_by)

    return _found(settings, line.table.domain, product, made)


def kept_as(settings: Settings, product: Product, like: Callable[[Product], bool]) -> Kept | None:
    """The newest kept declarations of a product that are like this; None where there are none."""
    return _found(settings, product.domain, product.id, like)


def as_it_was(mesh: Mesh, kept: Kept) -> Mesh:
    """The mesh of today with the product, and the sources of its domain, as they were."""
    then = {source.table: source for source in kept.sources.sources}
    return replace(
        mesh,
        products=tuple(kept.product if p.id == kept.product.id else p for p in mesh.products),
        sources=(*(s for s in mesh.sources if s.table not in then), *then.values()),
    )


def _found(
    settings: Settings, domain: str, product: str, like: Callable[[Product], bool]
) -> Kept | None:
    newest_first = sorted(
        (settings.home / "kept" / domain).glob("*.json.gz"),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    for path in newest_first:
        share = compiled.unpacked(gzip.decompress(path.read_bytes()))
        if share is None:
            continue
        for each in share.products:
            if each.id == product and like(each):
                manifest = path.with_name(path.name.replace(".json.gz", ".msgpack.gz"))
                said = path.with_name(path.name.replace(".json.gz", ".vars.gz"))
                known = said.is_file()
                variables = json.loads(gzip.decompress(said.read_bytes())) if known else None
                return Kept(each, share, manifest, variables)
    return None
