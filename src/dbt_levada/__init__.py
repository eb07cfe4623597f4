"""dbt's plugin hook: the tables that other domains promise, as public models of dbt.

dbt finds plugins as top-level modules named `dbt_*`, in every project of the environment; where no
`levada.yaml` is in sight this one adds nothing. It reads contracts leniently: what is wrong in
them is told by `levada check`, not by a failing parse of somebody else's project.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, ClassVar

from dbt.contracts.graph.node_args import ModelNodeArgs
from dbt.flags import get_flags
from dbt.plugins.manager import dbt_hook, dbtPlugin
from dbt.plugins.manifest import PluginNodes

from levada.terms import TableRef

__all__ = ["LevadaPlugin", "Promise", "find_mesh", "plugins", "promises"]

# The time of a parse would change every checksum at every parse.
_GENERATED_AT = datetime(2000, 1, 1)  # noqa: DTZ001 - dbt wants it naive
_PROMISED = ("active", "deprecated")
_RETIREMENT = ("retirement", "endOfLife", "endOfSupport")


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
        return self.status in _PROMISED


def find_mesh(start: Path) -> Path | None:
    """The mesh that `LEVADA_PROJECT` names, or else the nearest folder upwards with levada.yaml."""
    named = os.environ.get("LEVADA_PROJECT")
    candidates = [Path(named)] if named else [start, *start.parents]
    return next((folder for folder in candidates if (folder / "levada.yaml").is_file()), None)


def promises(root: Path) -> tuple[Promise, ...]:
    """What the contracts of a mesh say that can be read, whether it holds or not."""
    found = (_promise(path, root) for path in sorted(root.glob("contracts/*/*.odcs.yaml")))
    return tuple(promise for promise in found if promise)


def _promise(path: Path, root: Path) -> Promise | None:
    import yaml

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - safe
        major = int(str(document["version"]).lstrip("v").split(".")[0])
        table = TableRef(str(document["domain"]), str(document["schema"][0]["name"]), major)
    except (OSError, yaml.YAMLError, KeyError, IndexError, TypeError, ValueError):
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


def _models(promised: tuple[Promise, ...]) -> Iterator[ModelNodeArgs]:
    latest: dict[tuple[str, str], int] = {}
    for status in reversed(_PROMISED):  # an active major wins over a higher deprecated one
        for name in sorted({(p.table.domain, p.table.name) for p in promised}):
            majors = [
                p.table.major
                for p in promised
                if p.status == status and (p.table.domain, p.table.name) == name
            ]
            if majors:
                latest[name] = max(majors)
    for promise in promised:
        table = promise.table
        yield ModelNodeArgs(
            name=table.name,
            package_name=table.domain,
            identifier=table.relation,
            database=table.domain,
            schema="main",
            relation_name=f'"{table.domain}"."main"."{table.relation}"',
            version=table.major,
            latest_version=latest[table.domain, table.name],
            deprecation_date=promise.retires,
            access="public",
            generated_at=_GENERATED_AT,
        )


class LevadaPlugin(dbtPlugin):  # type: ignore[misc,unused-ignore]
    """Adds the promised tables of all other domains to a dbt project."""

    stand_ins: ClassVar[tuple[ModelNodeArgs, ...]] = ()
    """Names that nobody promises, added by a check so that it can tell all of them."""

    @dbt_hook  # type: ignore[untyped-decorator,unused-ignore]
    def get_nodes(self) -> PluginNodes:
        """Public models of the other domains."""
        nodes = PluginNodes()
        for model in self.stand_ins:
            nodes.add_model(model)
        root = find_mesh(_project_dir())
        if root is not None:
            own = self.project_name
            others = (p for p in promises(root) if p.holds and p.table.domain != own)
            for model in _models(tuple(others)):
                nodes.add_model(model)
        return nodes


def _project_dir() -> Path:
    flags = get_flags()  # type: ignore[no-untyped-call,unused-ignore]
    return Path(getattr(flags, "PROJECT_DIR", None) or Path.cwd()).resolve()


plugins = [LevadaPlugin]
