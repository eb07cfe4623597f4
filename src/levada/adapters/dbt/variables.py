"""The variables that a dbt project declares: what its SQL reads with `var` when it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["project_vars"]


def project_vars(project_dir: Path, project: str) -> Mapping[str, object]:
    """The `vars` of `dbt_project.yml`, as models of this project see them."""
    import yaml

    document = yaml.safe_load((project_dir / "dbt_project.yml").read_text(encoding="utf-8"))
    declared = document.get("vars") or {}
    own = declared.get(project)
    return {**declared, **own} if isinstance(own, dict) else declared
