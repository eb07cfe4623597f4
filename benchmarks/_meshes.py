"""Declarations of any size, written as a domain team would have them and compiled."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

from levada import compiled
from levada.settings import Settings, read_settings
from levada.terms import (
    Check,
    Column,
    Contract,
    Dependency,
    Grain,
    Identity,
    Lag,
    Layer,
    Mart,
    Mesh,
    Owner,
    Product,
    Source,
    Span,
    TableRef,
    Trailing,
)

__all__ = ["COLUMNS", "chained_mesh", "project", "wide_mesh"]

COLUMNS = tuple(
    Column(name, kind, required=True, description=said)
    for name, kind, said in (
        ("id", "BIGINT", "Number of the row."),
        ("day", "DATE", "The local day to which the row belongs."),
        ("origin", "VARCHAR", "Where it began, as a three-letter code."),
        ("destination", "VARCHAR", "Where it ended, as a three-letter code."),
        ("carrier", "VARCHAR", "Who carried it."),
        ("distance", "DOUBLE", "How far, in miles."),
        ("delay", "INTEGER", "How late, in minutes; negative where it was early."),
        ("updated_at", "TIMESTAMP", "When the source last touched the row."),
    )
)
_SETTINGS = """\
mesh: bench
zone: America/New_York
span: {{from: 2013-01-01, to: {last}}}
live_from: 2013-01-01
landing: {{zone: landing}}
domains: [{domains}]
"""


def wide_mesh(settings: Settings, products: int) -> Mesh:
    """
    Daily products spread evenly over the domains: each of one table with eight columns and four
    checks, which reads a landed source and the product before it, except every tenth.
    """
    made, sources = [], []
    for number in range(products):
        domain = settings.domains[number % len(settings.domains)]
        source = TableRef(domain, f"landing.t{number:05}", 0)
        sources.append(
            Source(
                source,
                Grain.DAY,
                settings.zone,
                f"landing/{domain}/t{number:05}/{{start:%Y-%m-%d}}.csv",
                tuple(c.name for c in COLUMNS),
                f"source.{domain}.landing.t{number:05}",
                Owner(f"{domain}-source"),
            )
        )
        reads = [source]
        if number % 10:
            before = settings.domains[(number - 1) % len(settings.domains)]
            reads.append(TableRef(before, f"t{number - 1:05}"))
        made.append(_product(TableRef(domain, f"t{number:05}"), reads, settings.zone))
    return Mesh(
        settings.name,
        settings.span,
        settings.zone,
        settings.live_from,
        tuple(made),
        tuple(sources),
    )


def chained_mesh(tables: int, days: int, zone: str = "America/New_York") -> Mesh:
    """
    Daily products that all follow from the first: every tenth reads it, the others the one before,
    by trailing weeks, lags and identity in turn, and most one further up.
    """
    first = date(2010, 1, 1)
    span = Span.days(first, first + timedelta(days=days - 1), zone)
    source = TableRef("d0", "landing.t00000", 0)
    steps = (Identity(), Trailing(7), Identity(), Lag(1), Identity())
    names = [TableRef(f"d{number % 4}", f"t{number:05}") for number in range(tables)]
    made = [_product(names[0], [source], zone)]
    for number in range(1, tables):
        table = names[number]
        before = names[number - 1] if number % 10 else names[0]
        edges = [Dependency(before, table, steps[number % 5])]
        if number > 20:
            edges.append(Dependency(names[number - 17], table, Identity()))
        (mart,) = _product(table, [], zone).marts
        mart = replace(mart, dependencies=tuple(edges))
        made.append(Product(table.domain, table.name, (mart,), Grain.DAY, zone))
    columns = tuple(c.name for c in COLUMNS)
    landed = Source(source, Grain.DAY, zone, "landing/{start:%Y-%m-%d}.csv", columns, "source.t")
    return Mesh("chained", span, zone, span.start, tuple(made), (landed,))


def _product(table: TableRef, reads: list[TableRef], zone: str) -> Product:
    contract = Contract(
        id=f"{table.domain}.{table.name}",
        version="1.0.0",
        status="active",
        table=table,
        product=table.name,
        grain=Grain.DAY,
        zone=zone,
        interval_column="day",
        columns=COLUMNS,
        checks=(
            Check("rows_present", "rowCount", operator="mustBeGreaterThan"),
            Check("id_unique", "duplicateValues", "id"),
            Check("origin_known", "nullValues", "origin"),
            Check("distance_positive", "invalidValues", "distance"),
        ),
        owner=Owner(f"{table.domain}-data", f"{table.domain}@bench.example"),
        description=f"Everything that happened on a day, as {table.domain} counts it. Rows by day.",
        hash=hashlib.sha256(str(table).encode()).hexdigest(),
        path=f"contracts/{table.domain}/{table.name}.v1.odcs.yaml",
    )
    edges = tuple(Dependency(upstream, table, Identity()) for upstream in reads)
    mart = Mart(
        table, Layer.BASE, f"model.{table}", contract, edges, f"base/{table.name}.sql", "c0de"
    )
    return Product(table.domain, table.name, (mart,), Grain.DAY, zone, nodes=(f"model.{table}",))


def project(
    root: Path, products: int, domains: int, *, last: str = "2013-12-31"
) -> tuple[Settings, Mesh]:
    """
    A project whose declarations are compiled, with the files that they were compiled from: a
    contract and a model for each product, which parsing hashes.
    """
    names = [f"d{number:02}" for number in range(domains)]
    (root / "levada.yaml").write_text(_SETTINGS.format(last=last, domains=", ".join(names)))
    settings = read_settings(root)
    mesh = wide_mesh(settings, products)
    for product in mesh.products:
        (mart,) = product.marts
        contract = root / mart.contract.path
        model = root / "models" / product.domain / mart.model_path
        for path, text in ((contract, _contract(mart)), (model, _model(mart))):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    compiled.save(settings, mesh, settings.domains)
    return settings, mesh


def _contract(mart: Mart) -> str:
    properties = "\n".join(
        f"      - {{name: {c.name}, physicalType: {c.type}, required: true,"
        f" description: {c.description!r}}}"
        for c in mart.contract.columns
    )
    quality = "\n".join(
        f"      - {{id: {c.id}, metric: {c.metric}, mustBe: 0}}" for c in mart.contract.checks
    )
    return (
        f"apiVersion: v3.1.0\nkind: DataContract\nid: {mart.contract.id}\nversion: 1.0.0\n"
        f"status: active\ndomain: {mart.table.domain}\nschema:\n  - name: {mart.table.name}\n"
        f"    quality:\n{quality}\n    properties:\n{properties}\n"
    )


def _model(mart: Mart) -> str:
    columns = "\n    , ".join(f"try_cast({c.name} as {c.type}) as {c.name}" for c in COLUMNS)
    joined = "".join(
        f"\n-- reads {edge.upstream}: {{{{ ref('{edge.upstream.name}') }}}}"
        for edge in mart.dependencies
    )
    return f"select\n    {columns}\nfrom {{{{ source('landing', 'numbers') }}}}{joined}\n"
