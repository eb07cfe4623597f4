"""`levada status` and `levada why`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from levada import compiled
from levada import sense as sensing
from levada.cli import output
from levada.cli.spans import span_of
from levada.declare import selected
from levada.errors import DeclarationError, Fault
from levada.flow import platform as opening
from levada.intervals import parse, within
from levada.readiness import Hop, judge_table, trace
from levada.settings import Settings, find_root, nearest, read_settings
from levada.terms import Facts, Mesh, Partition, Product, Readiness, Span, State, TableRef

__all__ = ["status", "why"]

_WIDE = 62
"""Partitions drawn one sign each; beyond it a row counts them."""


def status(
    project: Path | None,
    selection: Sequence[str],
    days: tuple[str | None, str | None],
    *,
    as_json: bool,
) -> int:
    """Print the board."""
    settings = read_settings(find_root(project))
    mesh = compiled.load(settings)
    span = span_of(settings, days)
    try:
        products = list(selected(mesh, selection))
    except ValueError as error:
        raise DeclarationError((Fault("SELECTION", 0, str(error)),)) from error
    facts, _ = _facts(settings, mesh, products)
    board = {product: _row(mesh, product, span, facts) for product in products}
    if as_json:
        output.print_json(
            [
                {
                    "product": product.id,
                    "partition": partition.key,
                    "state": found.state.value,
                    "because": found.because,
                    "degraded": found.degraded,
                }
                for product, row in board.items()
                for partition, found in row.items()
            ]
        )
    else:
        output.console.print(_board(board, span))
    return 0


def why(project: Path | None, table: str, partition: str, *, as_json: bool) -> int:
    """Say why a partition is ready or not, hop by hop to the root cause."""
    settings = read_settings(find_root(project))
    mesh = compiled.load(settings)
    ref, slice_ = _named(mesh, table, partition)
    facts, _ = _facts(settings, mesh, mesh.products)
    now = opening.now()
    found = judge_table(mesh, ref, slice_, facts, now)
    hops = trace(mesh, ref, slice_, facts, now)
    if as_json:
        output.print_json(_why_json(ref, slice_, found, hops))
        return 0
    head = Text.assemble((f"{ref} {slice_.key} ", "bold"), output.state_text(found.state))
    output.console.print(head, Text(found.because))
    for hop in hops:
        _print_hop(hop)
    return 0


def _facts(
    settings: Settings, mesh: Mesh, products: Sequence[Product]
) -> tuple[Facts, frozenset[TableRef]]:
    tables = frozenset(sensing.tables_to_read(mesh, products))
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_runner") as ledger,
    ):
        return ledger.facts(tables, [p.id for p in mesh.products]), tables


def _row(mesh: Mesh, product: Product, span: Span, facts: Facts) -> dict[Partition, Readiness]:
    now = opening.now()
    table = product.marts[0].table
    return {
        partition: judge_table(mesh, table, partition, facts, now)
        for partition in within(product.grain, product.zone, span)
    }


def _board(board: Mapping[Product, Mapping[Partition, Readiness]], span: Span) -> Table:
    table = Table(box=None, pad_edge=False, title_justify="left")
    table.add_column("product")
    table.add_column("grain", style="dim")
    table.add_column(f"{span.start:%Y-%m-%d} .. {span.end:%Y-%m-%d}")
    for state in State:
        table.add_column(f"{output.STYLES[state][0]} {state.value.lower()}", justify="right")
    for product, row in board.items():
        counts = Counter(found.state for found in row.values())
        signs = Text()
        shown = list(row.values()) if len(row) <= _WIDE else []
        for found in shown:
            sign, style = output.STYLES[found.state]
            signs.append(sign, style=style)
        if not shown and row:
            signs.append(f"{counts[State.READY]} of {len(row)} ready", style="dim")
        numbers = [str(counts[state]) if counts[state] else "" for state in State]
        table.add_row(product.id, product.grain.value, signs, *numbers)
    return table


def _named(mesh: Mesh, table: str, partition: str) -> tuple[TableRef, Partition]:
    try:
        ref = TableRef.parse(table)
        grain, zone = mesh.slicing(ref)
    except KeyError:
        known = [str(t).removesuffix("@1") for t in mesh.tables()]
        fault = Fault("TABLE", 0, f"no table is called {table!r}", nearest(table, known))
        raise DeclarationError((fault,)) from None
    except ValueError as error:
        raise DeclarationError((Fault("TABLE", 0, str(error)),)) from error
    try:
        return ref, parse(grain, partition, zone)
    except ValueError as error:
        raise DeclarationError((Fault("PARTITION", 0, str(error)),)) from error


def _print_hop(hop: Hop) -> None:
    console = output.console
    way = " <- ".join(f"{table} {partition.key}" for table, partition in hop.path)
    console.print(Text.assemble("  ", (way, "dim")))
    console.print(
        Text.assemble("  ", output.state_text(hop.readiness.state), " ", hop.readiness.because)
    )
    for result in hop.results:
        console.print(f"    [red]{result.verdict.value}[/] {result.check.id}: {result.because}")
        for row in result.rows:
            console.print(f"      {row}", style="dim")
    since = f", since {hop.since:%Y-%m-%d %H:%M:%S} UTC" if hop.since else ""
    console.print(f"    owner {hop.owner}{since}")


def _why_json(
    ref: TableRef, partition: Partition, found: Readiness, hops: Sequence[Hop]
) -> dict[str, object]:
    return {
        "table": str(ref),
        "partition": partition.key,
        "state": found.state.value,
        "because": found.because,
        "causes": [
            {
                "table": str(hop.table),
                "partition": hop.partition.key,
                "state": hop.readiness.state.value,
                "because": hop.readiness.because,
                "owner": str(hop.owner),
                "since": hop.since.isoformat() if hop.since else None,
                "path": [f"{table} {partition.key}" for table, partition in hop.path],
                "checks": [
                    {
                        "id": result.check.id,
                        "verdict": result.verdict.value,
                        "because": result.because,
                        "count": result.count,
                        "rows": list(result.rows),
                    }
                    for result in hop.results
                ],
            }
            for hop in hops
        ],
    }
