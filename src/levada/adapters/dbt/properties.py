"""
The YAML of a dbt project, held against what dbt and Levada read in it.

dbt passes over a key that it does not know, and Levada over a `meta` that is not its own: what was
meant is then silently not so. Here such keys are faults. A key under `config` may be the author's
own, since macros read those; it is a fault only where it is nearly one that dbt reads.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from levada.adapters.dbt.invoke import inside
from levada.adapters.documents import Document, Place, read
from levada.adapters.odcs.document import unknown_keys
from levada.adapters.odcs.schema import Schema
from levada.adapters.odcs.words import name
from levada.errors import Fault
from levada.settings import nearest

__all__ = ["config_slip", "keys", "shapes"]

_PROJECT = "dbt_project.yml"
_PATHS = {
    "model-paths": "models",
    "seed-paths": "seeds",
    "snapshot-paths": "snapshots",
    "macro-paths": "macros",
    "analysis-paths": "analyses",
    "test-paths": "tests",
}
_CHECKED = ("models", "seeds", "snapshots", "sources", "macros", "analyses")
"""What Levada builds from, and what stands beside it; dbt's semantic layer is left to dbt."""
_OURS = "levada"
_READ_OF = ("models", "seeds", "sources")
_MOVED = ("contract", "group", "access", "docs", "meta")
"""Configs that dbt also reads beside `config`."""
_ADAPTER = ("indexes", "merge_clauses", "partitioned_by", "post-hook", "pre-hook", "sorted_by")
_NEAR = 0.8
"""How alike a config must be to one of dbt's to be taken for a slip: it may be the author's own."""
_NEAR_OURS = 0.7


def keys(root: Path, project_dir: Path) -> Iterator[Fault]:
    """Every key of the project's YAML that says nothing, with what was probably meant."""
    settings = _document(root, project_dir / _PROJECT)
    if settings is not None:
        document, twice = settings
        yield from twice
        yield from _configured(document)
    for path in _files(project_dir, settings[0].value if settings else {}):
        found = _document(root, path)
        if found is not None:
            document, twice = found
            yield from twice
            yield from _described(document)


def shapes(root: Path, project_dir: Path) -> Iterator[Fault]:
    """Lists that are none, and entries without keys: dbt stumbles over them, and says not where."""
    settings = _document(root, project_dir / _PROJECT)
    for path in _files(project_dir, settings[0].value if settings else {}):
        try:
            path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            yield Fault(inside(root, path), 0, f"cannot be read: {error}", "write it as UTF-8")
        found = _document(root, path)
        if found is not None:
            for kind in _CHECKED:
                yield from _listed(found[0], kind)


def _listed(document: Document, kind: str) -> Iterator[Fault]:
    said = document.value.get(kind)
    if said is not None and not isinstance(said, list):
        yield document.fault((kind,), f"{kind} is no list", "write entries: - name: ...")
    for number, entry in enumerate(said if isinstance(said, list) else ()):
        if not isinstance(entry, dict):
            at = (kind, number)
            yield document.fault(at, f"{name(at)} is {entry!r}, without keys", "write - name: ...")


def _document(root: Path, path: Path) -> tuple[Document, tuple[Fault, ...]] | None:
    """A YAML and the keys that it says twice; what is no YAML, dbt tells."""
    try:
        document, faults = read(inside(root, path), path.read_text(encoding="utf-8"), strict=False)
    except (OSError, UnicodeDecodeError):
        return None
    return None if document is None else (document, faults)


def _files(project_dir: Path, settings: Mapping[str, Any]) -> Iterator[Path]:
    folders: set[str] = set()
    for key, usual in _PATHS.items():
        said = settings.get(key)
        folders |= {str(folder) for folder in said} if isinstance(said, list) else {usual}
    found = {
        path
        for folder in folders
        for path in (project_dir / folder).rglob("*.y*ml")
        if path.suffix in (".yml", ".yaml")
    }
    yield from sorted(found)


# The YAML that describes models and sources


def _described(document: Document) -> Iterator[Fault]:
    listed = _schema()
    schema = listed.root
    strange: set[Place] = set()
    for place, fault in unknown_keys(document, listed, schema, document.value, ()):
        strange.add(place)
        if len(place) > 1 and place[0] not in _CHECKED:
            continue
        key, above = str(place[-1]), place[:-1]
        if _ours(key):
            yield document.fault(place, fault.wrong, _belongs())
        elif above[-1:] == ("config",):
            if _slip(key, known := _configs(schema, place)):
                yield document.fault(place, fault.wrong, nearest(key, known))
        elif key in _configs(schema, (*above, "config", key)):
            yield document.fault(place, fault.wrong, f"{key!r} stands under 'config'")
        else:
            yield fault
    for place, fault in _metas(document, document.value, ()):
        if not any(place[:size] in strange for size in range(len(place))):  # told by its key above
            yield fault


def _metas(document: Document, value: object, place: Place) -> Iterator[tuple[Place, Fault]]:
    """`meta` that was meant for Levada and is not read by it."""
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _metas(document, inner, (*place, index))
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        at = (*place, key)
        if key in ("meta", "+meta") and isinstance(inner, dict):
            yield from _meta(document, inner, at)
        elif at != ("vars",):  # whose keys are the author's own
            yield from _metas(document, inner, at)


def _meta(document: Document, value: dict[str, Any], place: Place) -> Iterator[tuple[Place, Fault]]:
    read_here = place[0] in _READ_OF and "columns" not in place
    for key in value:
        at = (*place, key)
        if key == _OURS and not read_here:
            yield at, document.fault(at, f"{name(at)} is not read", _belongs())
        elif key != _OURS and _ours(key):
            wrong = f"unknown key {key!r} in {name(place)}"
            yield at, document.fault(at, wrong, nearest(key, [_OURS]))


def _ours(key: object) -> bool:
    """
    Whether a key is `levada`, or was to be.

    >>> _ours("levda"), _ours("Levada"), _ours("lineage")
    (True, True, False)
    """
    return bool(get_close_matches(str(key).lower(), [_OURS], cutoff=_NEAR_OURS))


def _belongs() -> str:
    return "it stands under config.meta.levada of a model or of a table of a source"


def _slip(key: str, known: Iterable[str]) -> bool:
    return bool(get_close_matches(key, list(known), n=1, cutoff=_NEAR))


@functools.cache
def _schema() -> Schema:
    """The schema that dbt ships for such YAML, with what dbt still reads and it has left behind."""
    from dbt.artifacts.resources.v1 import components
    from dbt.contracts.graph import unparsed

    schema = _shipped("resources", "latest.json")
    definitions = schema["definitions"]
    still = {
        "AnalysesProperties": unparsed.UnparsedAnalysisUpdate,
        "ColumnProperties": unparsed.UnparsedColumn,
        "MacrosProperties": unparsed.UnparsedMacroUpdate,
        "ModelProperties": unparsed.UnparsedModelUpdate,
        "SeedProperties": unparsed.UnparsedNodeUpdate,
        "SnapshotProperties": unparsed.UnparsedNodeUpdate,
        "SourceProperties": unparsed.UnparsedSourceDefinition,
        "Tables": unparsed.UnparsedSourceTableDefinition,
        "Versions": unparsed.UnparsedVersion,
        "DbtQuoting": components.Quoting,
    }
    for title, kind in still.items():
        moved = _MOVED if title in ("ModelProperties", "SeedProperties") else ()
        for key in (*_fields(kind), *moved):
            definitions[title]["properties"].setdefault(key, {})
    definitions["Versions"]["properties"]["config"] = {"$ref": "#/definitions/ModelConfig"}
    for title in ("DataTests", "CustomTest", "AnyValue"):
        definitions[title] = {}  # of the author's own words
    for title in ("ModelConfig", "SeedConfig", "SnapshotConfig"):
        for key in (*_node_configs(), *_ADAPTER):
            definitions[title]["properties"].setdefault(key, {})
    return Schema(schema)


def _shipped(kind: str, file: str) -> Any:
    from importlib import resources

    return json.loads((resources.files("dbt.jsonschemas") / kind / file).read_text("utf-8"))


def _fields(kind: Any) -> list[str]:
    internal = ("original_file_path", "package_name", "yaml_key")
    said = [field.name for field in dataclasses.fields(kind)]
    return [key for key in said if key not in internal and not key.startswith(("_", "unrendered"))]


def _node_configs() -> list[str]:
    from dbt.artifacts.resources.v1.model import ModelConfig
    from dbt.artifacts.resources.v1.seed import SeedConfig
    from dbt.artifacts.resources.v1.snapshot import SnapshotConfig

    return [key for kind in (ModelConfig, SeedConfig, SnapshotConfig) for key in _fields(kind)]


def _configs(schema: Any, place: Place) -> list[str]:
    """The configs of what stands at a place."""
    kinds = {
        "models": "ModelConfig",
        "seeds": "SeedConfig",
        "snapshots": "SnapshotConfig",
        "macros": "MacrosConfig",
        "analyses": "AnalysesConfig",
    }
    lists = [step for step in place if isinstance(step, str)][:-2]
    innermost = lists[-1] if lists else ""
    if innermost == "columns":
        kind = "ColumnConfig"
    elif place[0] == "sources":
        kind = "TablesConfig" if innermost == "tables" else "SourceConfig"
    else:
        kind = kinds.get(str(place[0]), "")
    return list(schema["definitions"].get(kind, {}).get("properties", ()))


def config_slip(key: str) -> str:
    """What a config in a model's SQL was probably meant to be; empty if it may be meant so."""
    known = _schema().root["definitions"]["ModelConfig"]["properties"]
    return nearest(key, known) if key not in known and _slip(key, known) else ""


# dbt_project.yml


def _configured(document: Document) -> Iterator[Fault]:
    for kind in ("models", "seeds", "snapshots", "sources"):
        said = document.value.get(kind)
        if isinstance(said, dict):
            yield from _tree(document, said, (kind,), _project_configs(kind))
    yield from (fault for _, fault in _metas(document, document.value, ()))


def _tree(
    document: Document, value: dict[str, Any], place: Place, known: Mapping[str, str]
) -> Iterator[Fault]:
    """Configs in a tree of folders. With a plus it is a config, without it may be a folder."""
    for key, inner in value.items():
        at, bare = (*place, key), str(key).removeprefix("+")
        if bare in known:
            continue
        plus = str(key).startswith("+")
        if plus or not isinstance(inner, dict):
            if _ours(bare):
                yield document.fault(at, f"unknown config {key!r}", "write +meta: {levada: ...}")
            elif _slip(bare, known):
                right = nearest(bare, known).replace("'", "'+" if plus else "'", 1)
                yield document.fault(at, f"unknown config {key!r} in {name(place)}", right)
        else:
            yield from _tree(document, inner, at, known)


@functools.cache
def _project_configs(kind: str) -> Mapping[str, str]:
    schema = _shipped("project", "0.0.110.json")
    (title,) = (
        each["$ref"].rpartition("/")[2]
        for each in schema["properties"][kind]["anyOf"]
        if "$ref" in each
    )
    shipped = [key.removeprefix("+") for key in schema["definitions"][title]["properties"]]
    more = _node_configs() if kind != "sources" else []
    return dict.fromkeys([*shipped, *more, *_ADAPTER], kind)
