"""
What SQLFluff loads on each of its runs, in any project: it must be cheap, and is silent there.

Rules are imported when SQLFluff asks for them, and look for a mesh when they are given a model.
"""

from __future__ import annotations

from typing import Any

from sqlfluff.core.plugin import hookimpl

__all__ = ["get_configs_info", "get_rules", "load_default_config"]

_WORDS = {
    "allowed_tables": "Patterns of table names that may be written literally, comma-separated",
    "reading_functions": "Patterns of functions that read what is no table of the mesh",
    "source_layers": "Layers whose models may read sources",
    "table_names": (
        "Regular expression that the name of a published table matches whole; a group called"
        " period must be the grain of its contract. Empty for any name"
    ),
    "private_names": "Regular expression for private models; empty for any name",
    "max_joins": "The most joins of one model",
    "max_union_branches": "The most branches of one UNION ALL",
    "max_case_depth": "How deep CASE may stand in CASE",
    "max_sql_lines": "The most lines of one model, without blank ones and comments",
}


@hookimpl
def get_rules() -> list[Any]:
    """Levada's rules."""
    from levada.adapters.sqlfluff import rules

    return [rules.Rule_LV01, rules.Rule_LV02, rules.Rule_LV03, rules.Rule_LV04, rules.Rule_LV05]


@hookimpl
def load_default_config() -> dict[str, Any]:
    """What the rules are configured by, where a project says nothing."""
    from sqlfluff.core.config import load_config_resource

    return load_config_resource(package="levada.adapters.sqlfluff", file_name="defaults.cfg")


@hookimpl
def get_configs_info() -> dict[str, dict[str, Any]]:
    """What each keyword means."""
    return {keyword: {"definition": words} for keyword, words in _WORDS.items()}
