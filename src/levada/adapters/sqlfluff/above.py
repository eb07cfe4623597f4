"""What the settings of SQLFluff above a model say, read without SQLFluff."""

from __future__ import annotations

import configparser
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from levada.terms.layers import LAYERS

__all__ = ["macro_files", "said", "settings", "source_layers"]

_NAMES = ("setup.cfg", "tox.ini", "pep8.ini", ".sqlfluff", "pyproject.toml")
"""In the order in which SQLFluff reads those of one folder: a later one wins."""
_CONFIG = Path(".config", "sqlfluff")
_MADE = frozenset({"dbt_packages", "logs", "target"})
_LANDING = LAYERS[:2]
_A_PATH = b"_path"
_JINJA, _MACROS = "sqlfluff:templater:jinja", "load_macros_from_path"


def settings(root: Path, domain: str) -> Iterator[Path]:
    """Every file whose settings hold for models of a domain."""
    project = root / "models" / domain
    for folder in (root / _CONFIG, root, root / "models"):
        yield from _in(folder)
    for path in sorted(project.rglob("*")):
        made = _MADE & {*path.relative_to(project).parts}
        if path.name in _NAMES and path.is_file() and not made:
            yield path


def said(path: Path) -> bytes:
    """What a file says of SQLFluff: other tools have settings in it, too."""
    data = path.read_bytes()
    if path.name == "pyproject.toml":
        try:
            tool = tomllib.loads(data.decode()).get("tool", {})
        except ValueError:
            return data
        return json.dumps(tool["sqlfluff"]).encode() if "sqlfluff" in tool else b""
    return data if b"sqlfluff" in data else b""


def macro_files(path: Path) -> tuple[Path, ...] | None:
    """
    What lies in the folders from which a file of settings has macros loaded; None where it names
    any other path, or names them otherwise than as one line of a `.sqlfluff`.
    """
    data = said(path)
    if _A_PATH not in data:
        return ()
    named = _parsed(data).get(_JINJA, _MACROS, fallback="") if path.suffix != ".toml" else ""
    folders = [path.parent / each.strip() for each in named.split(",") if each.strip()]
    if data.count(_A_PATH) > 1 or not folders or not all(each.is_dir() for each in folders):
        return None
    return tuple(sorted({p for each in folders for p in each.rglob("*") if p.is_file()}))


def source_layers(root: Path, model: Path) -> tuple[str, ...]:
    """The layers whose models may read sources, as LV03 is told in the folder of a model."""
    found = _LANDING
    inner = model.parent.relative_to(root).parts
    folders = [root.joinpath(*inner[:depth]) for depth in range(len(inner) + 1)]
    for folder in (root / _CONFIG, *folders):
        for path in _in(folder):
            if text := _layers(path):
                found = tuple(each.strip() for each in text.split(",") if each.strip())
    return found


def _in(folder: Path) -> Iterator[Path]:
    return (path for name in _NAMES if (path := folder / name).is_file())


def _layers(path: Path) -> str:
    """What one file says of it; nothing where it cannot be read: linting tells that."""
    data = said(path)
    if b"source_layers" not in data:
        return ""
    if path.name == "pyproject.toml":
        try:
            rules: Any = json.loads(data)["rules"]
            rule = rules.get("levada.layer_order") or rules["levada"]["layer_order"]
            return str(rule["source_layers"])
        except (ValueError, LookupError, TypeError, AttributeError):
            return ""
    return _parsed(data).get("sqlfluff:rules:levada.layer_order", "source_layers", fallback="")


def _parsed(data: bytes) -> configparser.ConfigParser:
    """A file of settings; empty where it cannot be read: linting tells that."""
    parser = configparser.ConfigParser(delimiters="=", interpolation=None)
    try:
        parser.read_string(data.decode())
    except (ValueError, configparser.Error):
        return configparser.ConfigParser()
    return parser
