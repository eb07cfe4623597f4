"""dbt's plugin hook: the tables that other domains promise, as public models of dbt.

dbt finds plugins as top-level modules named `dbt_*`, in every project of the environment; where no
`levada.yaml` is in sight this one adds nothing. It reads contracts leniently: what is wrong in
them is told by `levada check`, not by a failing parse of somebody else's project.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from dbt.contracts.graph.node_args import ModelNodeArgs
from dbt.flags import get_flags
from dbt.plugins.manager import dbt_hook, dbtPlugin
from dbt.plugins.manifest import PluginNodes

from levada.adapters.promised import HOLDING, Promise, promises

__all__ = ["LevadaPlugin", "Promise", "find_mesh", "plugins", "promises"]

# The time of a parse would change every checksum at every parse.
_GENERATED_AT = datetime(2000, 1, 1)  # noqa: DTZ001 - dbt wants it naive


def find_mesh(start: Path) -> Path | None:
    """The mesh that `LEVADA_PROJECT` names, or else the nearest folder upwards with levada.yaml."""
    named = os.environ.get("LEVADA_PROJECT")
    candidates = [Path(named)] if named else [start, *start.parents]
    return next((folder for folder in candidates if (folder / "levada.yaml").is_file()), None)


def _models(promised: tuple[Promise, ...]) -> Iterator[ModelNodeArgs]:
    latest: dict[tuple[str, str], int] = {}
    for status in reversed(HOLDING):  # an active major wins over a higher deprecated one
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
