"""A mesh of any size as files: contracts, dbt projects, policies, which `levada check` accepts."""

from __future__ import annotations

from pathlib import Path

__all__ = ["written"]

_COLUMNS = (
    ("id", "BIGINT", "integer", "Number of the row."),
    ("day", "DATE", "date", "The local day to which the row belongs."),
    ("origin", "VARCHAR", "string", "Where it began, as a three-letter code."),
    ("destination", "VARCHAR", "string", "Where it ended, as a three-letter code."),
    ("carrier", "VARCHAR", "string", "Who carried it."),
    ("distance", "DOUBLE", "number", "How far, in miles."),
    ("delay", "INTEGER", "integer", "How late, in minutes; negative where it was early."),
    ("updated_at", "TIMESTAMPTZ", "timestamp", "When the source last touched the row."),
)
_POLICIES = """\
default_tier: 3
tiers:
  1: [sla_stated, two_owners, consistency_rule, every_column_classified]
  2: [sla_stated]
  3: []
policies:
  every_column_described: {}
  edges_wait_for_enough: {where: {tier: [1, 2]}}
  classified: {require: {columns.classification: present}, severity: warning}
"""


_TASTE = """\
[sqlfluff]
dialect = duckdb
templater = jinja
rules = levada

[sqlfluff:rules:levada.table_names]
table_names = t[0-9]+
"""
_MACRO = "{% macro cast_as(column, kind) %}try_cast({{ column }} as {{ kind }}){% endmacro %}\n"


def written(root: Path, tables: int, domains: int, *, macros: bool = False) -> None:
    """
    Write `tables` contracts and their models, spread over `domains` dbt projects: every tenth reads
    landed files, the others the table before them, which is another domain's. With `macros` every
    model calls one for each column, and a `.sqlfluff` selects all of Levada's rules.
    """
    names = [f"d{number:02}" for number in range(domains)]
    _write(
        root / "levada.yaml",
        "mesh: bench\nzone: America/New_York\nspan: {from: 2013-01-01, to: 2013-03-31}\n"
        f"landing: {{zone: landing}}\ndomains: [{', '.join(names)}]\n",
    )
    _write(root / "contracts" / "governance" / "policies.yaml", _POLICIES)
    for domain in names:
        _project(root / "models" / domain, domain)
        if macros:
            _write(root / "models" / domain / "macros" / "cast_as.sql", _MACRO)
    if macros:
        _write(root / ".sqlfluff", _TASTE)
    for number in range(tables):
        domain, table = names[number % domains], f"t{number:05}"
        _write(
            root / "contracts" / domain / f"{table}.v1.odcs.yaml", _contract(domain, table, number)
        )
        before = (names[(number - 1) % domains], f"t{number - 1:05}") if number % 10 else None
        _write(root / "models" / domain / "base" / f"{table}.sql", _model(domain, before, macros))


def _project(folder: Path, domain: str) -> None:
    _write(
        folder / "dbt_project.yml",
        f"name: {domain}\nversion: '1.0.0'\nconfig-version: 2\nprofile: levada\n"
        f"model-paths: [base]\nmodels: {{{domain}: {{+materialized: table}}}}\n",
    )
    columns = ", ".join(f"{{name: {name}}}" for name, _, _, _ in _COLUMNS)
    _write(
        folder / "base" / "sources.yml",
        "sources:\n  - name: landing\n    tables:\n      - name: rows\n        config:\n"
        "          meta:\n            levada:\n              zone: zone\n"
        f'              files: "{domain}/{{start:%Y-%m-%dT%H}}Z.csv"\n              grain: day\n'
        f"              calendar: America/New_York\n              owner: {domain}-source\n"
        f"        columns: [{columns}]\n",
    )


def _model(domain: str, before: tuple[str, str] | None, macros: bool) -> str:
    casts = [f"try_cast({name} as {kind}) as {name}" for name, kind, _, _ in _COLUMNS]
    if macros:
        casts = [
            f"{{{{ cast_as('{name}', '{kind}') }}}} as {name}" for name, kind, _, _ in _COLUMNS
        ]
    if before is None:
        listed = casts
        source = "{{ source('landing', 'rows') }}"
    else:
        listed = casts if macros else [name for name, _, _, _ in _COLUMNS]
        source = (
            f"{{{{ ref('{before[0]}', '{before[1]}') }}}}"
            if before[0] != domain
            else f"{{{{ ref('{before[1]}') }}}}"
        )
    return "select\n    " + "\n    , ".join(listed) + f"\nfrom {source}\n"


def _contract(domain: str, table: str, number: int) -> str:
    columns = "".join(
        f"      - name: {name}\n        logicalType: {logical}\n        physicalType: {kind}\n"
        f"        required: true\n        classification: internal\n"
        f"        description: {said}\n"
        + ("        primaryKey: true\n        primaryKeyPosition: 1\n" if name == "id" else "")
        for name, kind, logical, said in _COLUMNS
    )
    return f"""\
# Everything that happened on a day, as {domain} counts it.
apiVersion: v3.1.0
kind: DataContract
id: {domain}.{table}
name: {table}
version: 1.0.0
status: active
domain: {domain}
dataProduct: {table}
description:
  purpose: Everything that happened on a day, as {domain} counts it; table {number}.
  usage: Join on id and day.
team:
  name: {domain}-data
  members:
    - {{username: {domain}-one@bench.example, role: owner}}
    - {{username: {domain}-two@bench.example, role: owner}}
support:
  - {{channel: {domain}@bench.example, tool: email}}
schema:
  - id: {table}
    name: {table}
    physicalName: {table}
    physicalType: table
    logicalType: object
    customProperties:
      - {{property: grain, value: day}}
      - {{property: zone, value: America/New_York}}
      - {{property: intervalColumn, value: day}}
      - {{property: tier, value: {number % 3 + 1}}}
    quality:
      - id: rows_present
        metric: rowCount
        mustBeGreaterThan: 0
        dimension: completeness
        severity: error
        description: Something happens every day.
      - id: goes_somewhere
        type: sql
        query: "select count(*) from {{object}} where origin = destination and distance > {number}"
        mustBe: 0
        dimension: consistency
        severity: error
        description: Nothing ends where it began.
      - id: delay_plausible
        type: sql
        query: "select count(*) from {{object}} where delay not between -60 and {1000 + number}"
        mustBe: 0
        dimension: accuracy
        severity: warning
        description: Nothing leaves more than an hour early or a day late.
    properties:
{columns}slaProperties:
  - {{property: latency, value: 6, unit: h, element: {table}.day, driver: operational}}
"""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
