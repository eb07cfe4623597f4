"""dbt parse: the manifest kept for builds, and the facts that Levada derives everything from."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from levada.adapters import promised
from levada.adapters.dbt.codec import encode
from levada.adapters.dbt.facts import ModelFacts, ParsedProject, ParseRequest, SourceFacts
from levada.adapters.dbt.invoke import inside, invoke, line_of, place, reads, sentence
from levada.adapters.dbt.overheard import Overheard
from levada.adapters.dbt.places import line_at, named, source_tables
from levada.adapters.dbt.properties import config_slip, keys, shapes
from levada.adapters.dbt.variables import project_vars
from levada.errors import Fault
from levada.settings import nearest
from levada.terms import Layer, TableRef

__all__ = ["parse"]

_LAYERS = frozenset(layer.value for layer in Layer)
_CALL = r"\b{function}\s*\(\s*(?:'([^']+)'|\"([^\"]+)\"|([^'\")\s]))"
_VAR = re.compile(_CALL.format(function="var"))
_ENV = re.compile(_CALL.format(function="env_var"))
# Configuration that says nothing about the rows that come out.
_NOT_CODE = frozenset({"access", "contract", "docs", "freshness", "group", "meta", "tags"})
_MOST_FAULTS = 50
_ENTRY = re.compile(r"config given in (\S+) @ (\w+): \{'name': '([^']*)'")
_READER = re.compile(r"'(\w+)\.\w+\.([^']+)' \(([^)]*)\) depends on")


def parse(request: ParseRequest) -> ParsedProject:
    """
    Parse a project against the contracts of its mesh; faults are collected, not raised.

    dbt stops at the first reference that it cannot resolve. Each such name is given a stand-in and
    the project parsed again, until all of them are known.
    """
    from dbt_levada import LevadaPlugin

    os.environ["LEVADA_PROJECT"] = str(request.root)
    said = tuple(keys(request.root, request.project_dir))
    if torn := tuple(shapes(request.root, request.project_dir)):
        told = _once([*said, *torn], ())
        return ParsedProject(_name(request), _path(request), faults=told, resolved=False)
    faults: list[Fault] = []
    stand_ins: dict[str, Any] = {}
    overheard = Overheard(request.root, request.project_dir)
    try:
        while True:
            LevadaPlugin.stand_ins = tuple(stand_ins.values())
            result = _invoke(request, overheard)
            if result.success:
                break
            faults.append(_fault(request, result.exception))
            model = _stand_in(request, result.exception)
            if model is None or model.unique_id in stand_ins or len(faults) > _MOST_FAULTS:
                told = _once([*said, *overheard.faults()], faults)
                return ParsedProject(_name(request), _path(request), faults=told, resolved=False)
            stand_ins[model.unique_id] = model
    finally:
        LevadaPlugin.stand_ins = ()
    manifest = result.result
    if not faults:
        _save(manifest, request.out)
    faults = [*_once([*said, *overheard.faults()], faults)]
    reader = _Reader(request, manifest, frozenset(stand_ins))
    models = tuple(reader.models())
    return ParsedProject(
        name=manifest.metadata.project_name,
        path=_path(request),
        models=models,
        sources=tuple(reader.sources()),
        faults=tuple(sorted({*faults, *reader.strays(), *reader.slips()})),
        resolved=not stand_ins,
    )


def _once(said: Sequence[Fault], of_dbt: Sequence[Fault]) -> tuple[Fault, ...]:
    """All of these, without what dbt says of a line of YAML of which more is said already."""
    places = {(fault.path, fault.line) for fault in said}
    others = [fault for fault in of_dbt if not fault.line or (fault.path, fault.line) not in places]
    return tuple(sorted({*said, *others}))


def _invoke(request: ParseRequest, listener: Overheard) -> Any:
    with tempfile.TemporaryDirectory(prefix="levada-parse-") as scratch:
        return invoke(
            ["parse"],
            project_dir=request.project_dir,
            profile=request.profile,
            log_dir=Path(scratch),
            listener=listener,
        )


def _save(manifest: Any, out: Path) -> None:
    from dbt.parser.manifest import extended_mashumaro_encoder

    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    beside.write_bytes(manifest.to_msgpack(extended_mashumaro_encoder))
    beside.replace(out)


def _path(request: ParseRequest) -> str:
    return inside(request.root, request.project_dir / "dbt_project.yml")


def _name(request: ParseRequest) -> str:
    import yaml

    try:
        document = yaml.safe_load((request.project_dir / "dbt_project.yml").read_text("utf-8"))
        return str(document["name"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return request.project_dir.name


def _fault(request: ParseRequest, error: BaseException | None) -> Fault:
    from dbt.exceptions import TargetNotFoundError

    if isinstance(error, TargetNotFoundError):
        return _unpromised(request, error)
    refused = _refused(error)
    if refused is not None:
        return _misshapen(request, error, refused)
    node = getattr(error, "node", None)
    known = getattr(node, "original_file_path", "") or ""
    path, line = place(error, request.project_dir, known)
    return Fault(inside(request.root, request.project_dir / path), line, sentence(error))


def _refused(error: BaseException | None) -> Any:
    """The error of dbt's own schemas behind an error of dbt, if that is what it is."""
    from jsonschema import ValidationError

    while error is not None:
        if isinstance(error, ValidationError) and isinstance(error.validator, str):
            return error
        error = error.__cause__ or error.__context__
    return None


def _misshapen(request: ParseRequest, error: Any, refused: Any) -> Fault:
    """A value of another shape than dbt reads, told as such values of a contract are."""
    from levada.adapters.odcs.words import name, told

    entry = _ENTRY.search(str(error))
    steps: list[str | int] = list(refused.absolute_path)
    if entry:
        path, key, owner = entry.groups()
        whole, above = f"{key.removesuffix('s')} {owner}", [key, owner]
    elif isinstance(error, _project_error()):
        path, whole, above = "dbt_project.yml", "the project", []
    else:  # dbt does not say in which file: a config of a model
        path, whole, above = "", "the config", []
    words = sorted(told(refused, whole), key=lambda each: each.rank)
    if words:
        wrong, right = words[0].wrong, words[0].right
    else:
        known = list((refused.schema or {}).get("properties", ()))
        strange = [key for key in refused.instance if key not in known] or ["?"]
        steps.append(strange[0])
        wrong, right = f"unknown key {strange[0]!r}", nearest(str(strange[0]), known)
        wrong += f" in {name(refused.absolute_path, whole)}" if refused.absolute_path else ""
    if entry and steps:
        wrong = f"{whole}: {wrong}"
    if not path:
        path, line = _setting(request.project_dir, steps, refused.instance)
    else:
        line = line_at(request.project_dir / path, [*above, *steps])
    return Fault(inside(request.root, request.project_dir / path), line, wrong, right)


def _project_error() -> type[Exception]:
    from dbt.exceptions import ProjectContractError

    return ProjectContractError  # type: ignore[no-any-return,unused-ignore]


def _setting(project_dir: Path, steps: Sequence[str | int], value: object) -> tuple[str, int]:
    """Where a config is set to this value, if only one file of the project does so."""
    key = next((step for step in reversed(steps) if isinstance(step, str)), "")
    shown = re.escape(str(value)) if isinstance(value, str | int | float) else r"[\[{\n]"
    wanted = rf"\b{re.escape(key)}['\"]?\s*[:=]\s*['\"]?(?i:{shown})"
    files = [path for kind in ("*.sql", "*.yml", "*.yaml") for path in project_dir.rglob(kind)]
    found = [(path, line) for path in files if (line := line_of(path, wanted, pattern=True))]
    if len(found) != 1:
        return "dbt_project.yml", 0
    return found[0][0].relative_to(project_dir).as_posix(), found[0][1]


def _unpromised(request: ParseRequest, error: Any) -> Fault:
    """A reference to what is not there, told in the words of the mesh."""
    name, package = str(error.target_name), error.target_package
    # dbt forgets the node that it was given, and keeps it in its sentence.
    reader = _READER.search(str(error))
    kind, who, path = reader.groups() if reader else ("node", "?", "dbt_project.yml")
    who, file = f"{kind} {who}", request.project_dir / path
    right = ""
    if error.target_kind == "source":
        source, _, table = name.rpartition(".")  # dbt gives both in one
        wrong = f"{who} reads source {name}, which no YAML of the project declares"
        line = line_of(file, rf"source\s*\(\s*['\"]{source}['\"]\s*,\s*['\"]{table}", pattern=True)
        known = source_tables(request.project_dir)
        right = nearest(name, known) if known else "declare it under `sources`"
    elif package and package != _name(request):
        version = f"@{error.target_version}" if error.target_version else ""
        withheld, right = promised.withheld(request.root, package, name, error.target_version)
        wrong = f"{who} reads {package}.{name}{version}, {withheld}"
        line = line_of(
            file, rf"ref\s*\(\s*['\"]{package}['\"]\s*,\s*['\"]{name}['\"]", pattern=True
        )
    else:
        state = "is disabled" if error.disabled else "this project does not have"
        wrong = f"{who} reads the model {name}, which {state}"
        right = "another domain's table is read as ref('domain', 'table')"
        line = line_of(file, rf"ref\s*\(\s*['\"]{name}['\"]", pattern=True)
    return Fault(inside(request.root, file), line, wrong, right)


def _stand_in(request: ParseRequest, error: BaseException | None) -> Any:
    from dbt.contracts.graph.node_args import ModelNodeArgs
    from dbt.exceptions import TargetNotFoundError

    if not isinstance(error, TargetNotFoundError) or error.target_kind == "source":
        return None
    if error.disabled:
        return None
    return ModelNodeArgs(
        name=error.target_name,
        package_name=error.target_package or _name(request),
        identifier=error.target_name,
        schema="nobody",
        version=error.target_version,
        access="public",
    )


@dataclass
class _Reader:
    """Reads a manifest into facts."""

    request: ParseRequest
    manifest: Any
    stand_ins: frozenset[str]
    _lines: dict[str, dict[tuple[str, ...], int]] = field(default_factory=dict)
    _vars: Mapping[str, object] | None = None

    def models(self) -> Iterator[ModelFacts]:
        for node in sorted(self.manifest.nodes.values(), key=lambda n: str(n.unique_id)):
            if node.resource_type in ("model", "seed") and node.original_file_path:
                yield self._model(node)

    def _model(self, node: Any) -> ModelFacts:
        read = [name for name in reads(node) if name not in self.stand_ins]
        known = {n: self.manifest.nodes[n] for n in read if n in self.manifest.nodes}
        version = getattr(node, "version", None)
        yaml = self._yaml(node.patch_path)
        return ModelFacts(
            node=node.unique_id,
            name=node.name,
            major=None if version is None else int(float(version)),
            package=node.package_name,
            path=self._from_root(node, node.original_file_path),
            layer=_layer(node),
            materialized=node.config.materialized,
            models=tuple(n for n in read if n in known and not _external(known[n])),
            externals=tuple(_table(known[n]) for n in read if n in known and _external(known[n])),
            sources=tuple(n for n in read if n in self.manifest.sources),
            meta=_meta(node),
            yaml=self._from_root(node, yaml) if yaml else "",
            yaml_line=self._line(yaml, "models", node.name) if yaml else 0,
            columns=tuple((c.name, c.data_type or "") for c in node.columns.values()),
            code=self._code(node),
        )

    def sources(self) -> Iterator[SourceFacts]:
        for source in sorted(self.manifest.sources.values(), key=lambda s: str(s.unique_id)):
            path = source.original_file_path
            yield SourceFacts(
                node=source.unique_id,
                name=source.source_name,
                table=source.name,
                columns=tuple(source.columns),
                meta=_meta(source),
                yaml=self._from_root(source, path),
                yaml_line=self._line(path, "sources", source.source_name, "tables", source.name),
            )

    def strays(self) -> Iterator[Fault]:
        """References of one argument that land in another domain, where dbt resolves silently."""
        for node in self.manifest.nodes.values():
            for ref in () if node.resource_type == "seed" else node.refs:
                if ref.package is not None:
                    continue
                target = self.manifest.resolve_ref(
                    node, ref.name, None, ref.version, self._project, node.package_name
                )
                if not _external(target) or target.unique_id in self.stand_ins:
                    continue
                path = self._from_root(node, node.original_file_path)
                line = line_of(
                    self.request.root / path, rf"ref\s*\(\s*['\"]{ref.name}['\"]", pattern=True
                )
                yield Fault(
                    path,
                    line,
                    f"{node.resource_type} {node.name} reads ref('{ref.name}'), which is a table of"
                    f" {target.package_name}",
                    f"write ref('{target.package_name}', '{ref.name}')",
                )

    def slips(self) -> Iterator[Fault]:
        """Configs in SQL that are nearly one of dbt's, which dbt takes for the author's own."""
        for node in self.manifest.nodes.values():
            for key in getattr(node, "config_call_dict", ()):
                if node.resource_type == "model" and (right := config_slip(key)):
                    path = self._from_root(node, node.original_file_path)
                    line = line_of(self.request.root / path, rf"\b{key}\s*=", pattern=True)
                    yield Fault(path, line, f"unknown config {key!r}", right)

    @property
    def _project(self) -> str:
        return str(self.manifest.metadata.project_name)

    def _yaml(self, patch_path: str | None) -> str:
        return patch_path.partition("://")[2] if patch_path else ""

    def _from_root(self, node: Any, path: str) -> str:
        folder = self.request.project_dir
        if node.package_name != self._project:
            folder = folder / "dbt_packages" / node.package_name
        return inside(self.request.root, folder / path)

    def _line(self, path: str, *names: str) -> int:
        """The line on which a named thing begins in a YAML: `models`, `flights`."""
        if path not in self._lines:
            self._lines[path] = dict(named(self.request.project_dir / path))
        return self._lines[path].get(names, 0)

    def _code(self, node: Any) -> str:
        """Everything of the domain's own that decides what rows the model makes."""
        texts = [node.raw_code if hasattr(node, "raw_code") else ""]
        texts += [macro.macro_sql for macro in self._macros(node.depends_on.macros)]
        hooks = [
            hook.raw_code
            for hook in self.manifest.nodes.values()
            if hook.resource_type == "operation"
        ]
        config = node.config.to_dict(omit_none=True)
        parts = {
            "checksum": node.checksum.checksum,
            "config": {key: config[key] for key in config if key not in _NOT_CODE},
            "hooks": hooks,
            "macros": sorted(_sha(text) for text in texts[1:]),
            "vars": self._reached_vars([*texts, *hooks]),
            "environment": _reached_environment([*texts, *hooks]),
        }
        return _sha(json.dumps(json.loads(encode(parts)), sort_keys=True))

    def _macros(self, reached: Iterable[str]) -> list[Any]:
        """The project's own and its packages' macros among these, and all that those reach."""
        seen: dict[str, Any] = {}
        waiting = list(reached)
        while waiting:
            name = waiting.pop()
            macro = self.manifest.macros.get(name)
            if name in seen or macro is None:
                continue
            seen[name] = macro
            waiting += macro.depends_on.macros
        # dbt's own macros change with dbt, not with the domain's code.
        shipped = ("dbt", f"dbt_{self.manifest.metadata.adapter_type}")
        return [macro for macro in seen.values() if macro.package_name not in shipped]

    def _reached_vars(self, texts: Iterable[str]) -> Mapping[str, object]:
        if self._vars is None:
            self._vars = project_vars(self.request.project_dir, self._project)
        names, computed = _names(_VAR, texts)
        if computed:  # var(name): it could be any of them
            return self._vars
        return {name: self._vars.get(name) for name in sorted(names)}


def _external(node: Any) -> bool:
    return bool(getattr(node, "is_external_node", False))


def _table(node: Any) -> TableRef:
    return TableRef(node.package_name, node.name, int(float(node.version or 1)))


def _meta(node: Any) -> Mapping[str, object]:
    meta = (getattr(node.config, "meta", None) or {}) or node.meta
    levada = meta.get("levada") or {}
    # Not a mapping is a fault that `declare` tells: it must see what was written.
    return levada if isinstance(levada, dict) else {"": levada}


def _layer(node: Any) -> str:
    folders = Path(node.original_file_path).parts[:-1]
    inner = Path(node.path).parts[:-1]
    return next((f for f in folders if f in _LAYERS), inner[0] if inner else "")


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _names(pattern: re.Pattern[str], texts: Iterable[str]) -> tuple[set[str], bool]:
    """The literal names in calls, and whether any name is computed."""
    found = [match for text in texts for match in pattern.finditer(text)]
    return {m.group(1) or m.group(2) for m in found if not m.group(3)}, any(
        m.group(3) for m in found
    )


def _reached_environment(texts: Iterable[str]) -> Mapping[str, str]:
    names, _ = _names(_ENV, texts)
    # Hashed: a fingerprint is public, a value may be a secret of the domain.
    return {name: _sha(os.environ.get(name, "")) for name in sorted(names)}
