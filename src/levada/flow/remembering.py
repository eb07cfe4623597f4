"""What an earlier check found sound, asked before dbt is."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from levada.adapters.dbt.codec import decode, encode
from levada.adapters.dbt.facts import ParseRequest
from levada.adapters.dbt.workers import DbtWorkers
from levada.adapters.remembered import Remembered, digest
from levada.adapters.warehouses import named
from levada.build import manifest_path, room_of
from levada.declare import ParsedProject
from levada.settings import Settings
from levada.terms import Contract

__all__ = ["file_hash", "memory_of", "parsed", "promised"]


def memory_of(settings: Settings) -> Remembered:
    """Where sound results of this mesh are kept."""
    return Remembered(settings.home / "checked")


def parsed(
    settings: Settings, workers: DbtWorkers, domain: str, promises: str
) -> tuple[ParsedProject, bool]:
    """
    The domain's project, and whether it had to be parsed: not, if nothing of what dbt reads has
    changed since it was found sound, and the manifest that was kept then is still there.
    """
    folder = settings.root / "models" / domain
    manifest = manifest_path(settings, domain)
    parsing = named(settings.warehouse).parsing
    memory, key = memory_of(settings), _read_by_dbt(folder, f"{promises} {parsing}")
    said = memory.get(f"parse-{domain}", key)
    if said is not None and manifest.is_file() and file_hash(manifest) == said["manifest"]:
        return decode(ParsedProject, json.dumps(said["project"]).encode()), False
    room = room_of(settings, domain)
    project = workers.parse(domain, ParseRequest(settings.root, folder, manifest, room, parsing))
    if not project.faults and manifest.is_file() and key:
        value = {"manifest": file_hash(manifest), "project": json.loads(encode(project))}
        memory.put(f"parse-{domain}", key, value)
    return project, True


def promised(root: Path, contracts: Iterable[Contract]) -> str:
    """
    One hash over what dbt is told of other domains' tables: their names, majors and states. Of a
    contract that is not sound, or that speaks of its end, it is the whole file's.
    """
    sound = {contract.path: contract for contract in contracts}
    parts: list[str | bytes] = []
    for path in sorted((root / "contracts").glob("*/*.odcs.yaml")):
        shown = path.relative_to(root).as_posix()
        data = path.read_bytes() if path.is_file() else b""
        known = sound.get(shown)
        whole = known is None or b"endOf" in data or b"retirement" in data
        parts += [shown, data if known is None or whole else f"{known.table} {known.status}"]
    return digest(parts)


def _read_by_dbt(folder: Path, promises: str) -> str:
    """
    One hash over all that a parse depends on; a project that reads its environment depends on all
    of it, and one with a date on the day.
    """
    made = {folder / "target", folder / "logs"}
    parts: list[str | bytes] = [promises, str(folder), datetime.now(UTC).date().isoformat()]
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(each for each in folders if Path(here, each) not in made)
        for name in sorted(names):
            data = Path(here, name).read_bytes()
            parts += [str(Path(here, name)), data]
            if b"env_var" in data:
                parts += [f"{key}={value}" for key, value in sorted(os.environ.items())]
    return digest(parts)


def file_hash(path: Path) -> str:
    """One hash over the bytes of a file."""
    return digest([path.read_bytes()])
