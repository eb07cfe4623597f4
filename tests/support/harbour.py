"""A mesh of two dbt projects, for the rules of SQL: folders, models and the heads of contracts."""

from __future__ import annotations

from pathlib import Path

__all__ = ["FILES", "write"]

_CONTRACT = """\
status: {status}
schema:
  - customProperties:
      - {{property: grain, value: {grain}}}
"""

FILES: dict[str, str] = {
    "levada.yaml": "mesh: harbour\n",
    # harbour: what lands, and what it promises
    "contracts/harbour/ships.v1.odcs.yaml": _CONTRACT.format(status="active", grain="day"),
    "contracts/harbour/calls.v1.odcs.yaml": _CONTRACT.format(status="deprecated", grain="day"),
    "contracts/harbour/calls.v2.odcs.yaml": _CONTRACT.format(status="active", grain="day"),
    "contracts/harbour/cranes.v1.odcs.yaml": _CONTRACT.format(status="draft", grain="whole"),
    "contracts/harbour/berths.v1.odcs.yaml": _CONTRACT.format(status="active", grain="day"),
    "contracts/fleet/berths.v1.odcs.yaml": _CONTRACT.format(status="active", grain="day"),
    "models/harbour/macros/none.sql": "",
    "models/harbour/dbt_project.yml": "name: harbour\n",
    "models/harbour/ingest/ships.sql": "select 1 as id",
    "models/harbour/ingest/stg_ships.sql": "select 1 as id",
    "models/harbour/base/calls_v1.sql": "select 1 as id",
    "models/harbour/base/calls_v2.sql": "select 1 as id",
    "models/harbour/serve/berths.sql": "select 1 as id",
    "models/harbour/ingest/sources.yml": (
        "sources:\n  - name: landing\n    tables:\n      - name: manifests\n"
    ),
    # office: what is made of it
    "contracts/office/tonnage.v1.odcs.yaml": _CONTRACT.format(status="active", grain="day"),
    "contracts/office/m_tonnage__port__day.v1.odcs.yaml": _CONTRACT.format(
        status="active", grain="day"
    ),
    "contracts/office/m_tonnage__port__week.v1.odcs.yaml": _CONTRACT.format(
        status="active", grain="day"
    ),
    "models/office/dbt_project.yml": "name: office\n",
    "models/office/base/tonnage.sql": "select 1 as id",
    "models/office/aggregate/yearly.sql": "select 1 as id",
    "models/office/macros/reading.sql": (
        "{% macro newest(name) %}{{ ref(name) }}{% endmacro %}\n"
        "{% macro ships() %}\n  select * from {{ ref('ships') }}\n{% endmacro %}\n"
        "{% macro stamped() %}select * from archive.ships{% endmacro %}\n"
        "{% macro archived() %}archive.ships{% endmacro %}\n"
        "{% macro trimmed(column) %}trim({{ column }}){% endmacro %}\n"
        "{% macro dated(column) %}{% if execute %}{{ column }}{% endif %}{% endmacro %}\n"
    ),
}


def write(root: Path) -> Path:
    """Write it, and return its root."""
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
