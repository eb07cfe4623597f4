"""What contracts promise, read leniently: what is wrong in them is told by `levada check`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from levada.errors import Fault
from levada.terms import TableRef

__all__ = ["HOLDING", "Promise", "promises", "titled", "withheld"]

HOLDING = ("active", "deprecated")
"""The states of a contract in which other domains may read its table: a draft is no promise yet."""
_RETIREMENT = ("retirement", "endOfLife", "endOfSupport")
_FILE = re.compile(r"([a-z][a-z0-9_]*)\.v(\d+)\.odcs\.yaml")
_STATUS = re.compile(r"^status:[ \t]*['\"]?(\w+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Promise:
    """What the plugin takes from one contract."""

    table: TableRef
    status: str
    path: str
    retires: datetime | None = None

    @property
    def holds(self) -> bool:
        """Whether other domains may read the table: a draft is no promise yet."""
        return self.status in HOLDING


def promises(root: Path) -> tuple[Promise, ...]:
    """What the contracts of a mesh say that can be read, whether it holds or not."""
    found = (_promise(path, root) for path in _files(root))
    return tuple(promise for promise in found if promise)


def _files(root: Path) -> list[Path]:
    """Contracts that can be opened: of a pipe a reader would wait for ever."""
    # Not `root.glob`: Python 3.12 lists the root for it, where a confined child may not look.
    found = sorted((root / "contracts").glob("*/*.odcs.yaml"))
    return [path for path in found if path.is_file()]


def _promise(path: Path, root: Path) -> Promise | None:
    import yaml

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - safe
        major = int(str(document["version"]).lstrip("v").split(".")[0])
        table = TableRef(str(document["domain"]), str(document["schema"][0]["name"]), major)
    except (OSError, yaml.YAMLError, LookupError, TypeError, ValueError, RecursionError):
        return None
    status, shown = str(document.get("status", "active")), path.relative_to(root).as_posix()
    return Promise(table, status, shown, _retirement(document))


def _retirement(document: Mapping[str, Any]) -> datetime | None:
    for key in ("slaProperties", "customProperties"):
        for entry in document.get(key) or ():
            if isinstance(entry, dict) and entry.get("property") in _RETIREMENT:
                return _instant(entry.get("value"))
    return None


def _instant(value: object) -> datetime | None:
    try:
        moment = value if isinstance(value, date) else datetime.fromisoformat(str(value))
    except ValueError:
        return None
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def titled(root: Path) -> tuple[Promise, ...]:
    """
    What `promises` says, from what the files are called and their `status` alone, which is enough
    to know what may be read. No YAML is parsed: a thousand contracts cost a tenth of a second.
    """
    found: list[Promise] = []
    for path in _files(root):
        named = _FILE.fullmatch(path.name)
        try:
            said = _STATUS.search(path.read_text(encoding="utf-8"))
            table = TableRef(path.parent.name, named[1], int(named[2])) if named else None
        except (OSError, ValueError):
            continue
        if table is not None:
            status = said[1] if said else "active"
            found.append(Promise(table, status, path.relative_to(root).as_posix()))
    return tuple(found)


def withheld(
    root: Path, domain: str, name: str, version: object, said: Sequence[Promise] | None = None
) -> tuple[str, str]:
    """Why a table of another domain cannot be read, and what can be done."""
    own = [p for p in (promises(root) if said is None else said) if p.table.domain == domain]
    held = sorted(promise.table for promise in own if promise.holds)
    refused = [
        promise
        for promise in own
        if not promise.holds
        and promise.table.name == name
        and str(version or promise.table.major).removesuffix(".0") == str(promise.table.major)
    ]
    alike = [name] if refused else get_close_matches(name, {table.name for table in held}, n=1)
    near = [str(table) for table in held if table.name in alike]
    right = f"promised is {' or '.join(near)}" if near else ""
    major = str(version or "*").removesuffix(".0")
    if not refused and any((root / "contracts" / domain).glob(f"{name}.v{major}.odcs.yaml")):
        return "whose contract cannot be read", Fault.ELSEWHERE
    if not refused and not own and (alike := get_close_matches(domain, _domains(root), n=1)):
        right = f"did you mean {alike[0]!r}?"
    if not refused:
        return "which nobody promises", right or "its domain must give it a contract"
    newest = max(refused, key=lambda promise: promise.table.major)
    ways = {"draft": "its domain must make it active", "retired": "its domain has withdrawn it"}
    otherwise = ways.get(newest.status, "its status must be active")
    return f"whose contract {newest.path} is {newest.status}", right or otherwise


def _domains(root: Path) -> list[str]:
    return [path.name for path in (root / "contracts").iterdir() if path.is_dir()]
