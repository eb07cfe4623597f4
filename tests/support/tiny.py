"""Small meshes, written by a test: contracts, dbt projects and landed files of one shape."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from workspace import Workspace

__all__ = ["CASTS", "COLUMNS", "NUMBERS", "contract", "landed", "mesh", "model", "project"]

COLUMNS: Mapping[str, str] = {"id": "INTEGER", "day": "DATE", "amount": "INTEGER"}

NUMBERS = "\n".join(
    f"{'try_cast' if n == 0 else '    , try_cast'}({column} as {kind}) as {column}"
    for n, (column, kind) in enumerate(COLUMNS.items())
)
"""The select list of a model that reads the landed numbers."""

CASTS = NUMBERS.replace("try_cast", "cast")
"""The same for any warehouse; a number that is none breaks the build."""


def mesh(root: Path, domains: Sequence[str], *, last: str = "2013-03-08") -> Workspace:
    """A mesh of these domains over days of UTC from 2013-03-08, with nothing in it yet."""
    (root / "contracts").mkdir(parents=True)
    (root / "models").mkdir()
    (root / "levada.yaml").write_text(
        textwrap.dedent(
            f"""\
            mesh: tiny
            zone: UTC
            span: {{from: 2013-03-08, to: {last}}}
            landing: {{numbers: landing}}
            domains: [{", ".join(domains)}]
            lease: 2s
            """
        )
    )
    return Workspace(root)


def contract(
    workspace: Workspace,
    domain: str,
    name: str,
    columns: Mapping[str, str] = COLUMNS,
    *,
    quality: str = "{id: rows_present, metric: rowCount, mustBeGreaterThan: 0}",
) -> Path:
    """Promise a table: a day of numbers, none of them missing."""
    promised = "\n".join(
        f"      - {{name: {column}, physicalType: {kind}, logicalType: {_logical(kind)},"
        f" required: true}}"
        for column, kind in columns.items()
    )
    path = workspace.root / "contracts" / domain / f"{name}.v1.odcs.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f"""\
apiVersion: v3.1.0
kind: DataContract
id: {domain}.{name}
name: {name}
version: 1.0.0
status: active
domain: {domain}
dataProduct: {name}
description: {{purpose: Numbers of {domain}.}}
team:
  name: {domain}-data
  members: [{{username: {domain}@tiny.example, role: owner}}]
schema:
  - name: {name}
    physicalName: {name}
    physicalType: table
    logicalType: object
    customProperties:
      - {{property: grain, value: day}}
      - {{property: zone, value: UTC}}
      - {{property: intervalColumn, value: day}}
    quality:
      - {quality}
    properties:
{promised}
"""
    )
    return path


def project(workspace: Workspace, domain: str, *, lands: bool = False) -> Path:
    """The dbt project of a domain; one that `lands` has the landed numbers as a source."""
    folder = workspace.root / "models" / domain
    (folder / "base").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text(
        f"name: {domain}\nversion: '1.0.0'\nconfig-version: 2\nprofile: levada\n"
        f"model-paths: [base]\nmodels: {{{domain}: {{+materialized: table}}}}\n"
    )
    if lands:
        columns = ", ".join(f"{{name: {column}}}" for column in COLUMNS)
        (folder / "base" / "sources.yml").write_text(
            f"""\
sources:
  - name: landing
    tables:
      - name: numbers
        config:
          meta:
            levada:
              zone: numbers
              files: "{domain}/{{start:%Y-%m-%d}}.csv"
              grain: day
              calendar: UTC
              owner: {domain}-source
        columns: [{columns}]
"""
        )
    return folder


def model(workspace: Workspace, domain: str, name: str, sql: str) -> Path:
    """A model; in `from` stands what dbt is to resolve, as in {{ ref('other', 'table') }}."""
    path = workspace.root / "models" / domain / "base" / f"{name}.sql"
    path.write_text(sql.rstrip() + "\n")
    return path


def landed(workspace: Workspace, domain: str, day: str, amounts: Sequence[object]) -> Path:
    """Land a day of numbers, by rename."""
    path = workspace.landing / domain / f"{day}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{n},{day},{amount}" for n, amount in enumerate(amounts)]
    arriving = path.with_suffix(".part")
    arriving.write_text("\n".join([",".join(COLUMNS), *rows, ""]))
    arriving.replace(path)
    return path


def _logical(kind: str) -> str:
    return {"INTEGER": "integer", "DATE": "date"}.get(kind, "string")
