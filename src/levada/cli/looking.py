"""`levada status` and `levada why`."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import overload
from zoneinfo import ZoneInfo

from rich.table import Table
from rich.text import Text

from levada import compiled
from levada import sense as sensing
from levada.adapters.probes.files import awaited
from levada.cli import output
from levada.cli.spans import span_of
from levada.declare import selected
from levada.errors import DeclarationError, Fault
from levada.flow import platform as opening
from levada.flow.consistency import findings
from levada.flow.guarding import declared, muted
from levada.intervals import parse, within
from levada.readiness import (
    Hop,
    Judge,
    ancestors,
    endings,
    inherited,
    judge_table,
    mark,
    marks,
    suspects,
    trace,
)
from levada.settings import Settings, find_root, nearest, read_settings
from levada.terms import (
    ConsistencyRule,
    Facts,
    FileProbe,
    GateVerdict,
    Mesh,
    Partition,
    Product,
    Publication,
    Readiness,
    Span,
    State,
    TableRef,
)

__all__ = ["board", "gates_json", "named", "states", "status", "why"]

_MARKED = "MARKED"
_WORSE = ("READY", _MARKED, "WAITING", "STALE", "HELD", "IMPOSSIBLE", "FAILED")
_SHOWN = ("READY", _MARKED, *(state.value for state in State if state is not State.READY))


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
    tables = sensing.above(mesh, {mart.table for product in products for mart in product.marts})[0]
    with opening.services(settings) as credentials:
        with opening.ledger(credentials, "levada_runner") as ledger:
            facts = ledger.facts(tables, [p.id for p in mesh.products])
        with findings(credentials, "levada_runner") as found:
            batches, unknown = declared(settings)
            asleep = muted(batches, found, opening.now())
    judge = Judge(mesh, facts, opening.now())
    rows = [(product, _row(mesh, product, span, facts)) for product in products]
    leaving = {product.id: _leaving(mesh, product) for product in products}
    if as_json:
        output.print_json(
            [
                {
                    "product": product.id,
                    "partition": partition.key,
                    "state": found.state.value,
                    "because": found.because,
                    "degraded": found.degraded,
                    "marks": list(marks(judge, _slices(product, [partition]))),
                    "leaving": leaving[product.id],
                }
                for product, row in rows
                for partition, found in row.items()
            ]
        )
    else:
        output.console.print(_drawing(rows, span, settings.zone))
        for product, row in rows:
            marked = [p for p, found in row.items() if found.degraded]
            for said in (*marks(judge, _slices(product, marked)), *leaving[product.id]):
                output.console.print(Text(f"{product.id}: {said}", style="yellow"))
        for said in (*(f"rule {rule}" for rule in asleep), *[unknown] * bool(unknown)):
            output.console.print(Text(said, "yellow"))
    return 0


def why(project: Path | None, table: str, partition: str, *, as_json: bool) -> int:
    """Say why a partition is ready or not, hop by hop to the root cause."""
    settings = read_settings(find_root(project))
    mesh = compiled.load(settings)
    ref, slice_ = named(mesh, table, partition)
    facts, gates = _facts_of(settings, mesh, ref, slice_)
    now = opening.now()
    found = judge_table(mesh, ref, slice_, facts, now)
    hops = trace(mesh, ref, slice_, facts, now)
    doubted = suspects(mesh, ref, slice_, facts, now)
    made_from = inherited(Judge(mesh, facts, now), ref, slice_)
    if as_json:
        told = _why_json(mesh, ref, slice_, found, hops, doubted, made_from)
        output.print_json({**told, "gates": gates_json(gates)})
        return 0
    head = Text.assemble((f"{ref} {slice_.key} ", "bold"), output.state_text(found.state))
    output.console.print(head, Text(found.because))
    if found.next:
        output.console.print(Text(f"  may change by itself at {found.next:%Y-%m-%d %H:%M:%S} UTC"))
    for gate in gates:
        output.console.print(Text(f"  gate {gate}"))
    for alike in _alike(hops):
        _print_hops(settings, mesh, alike)
    for hop in doubted:
        output.console.print(Text(f"  suspect: {hop.table} {hop.partition} {_state_of(hop)}"))
    for (origin, at), said in made_from:
        output.console.print(Text(f"  made from {origin} {at}: {said}"))
    return 0


def _state_of(hop: Hop) -> str:
    return f"is {hop.readiness.state.value}: {hop.readiness.because}"


def _facts_of(
    settings: Settings, mesh: Mesh, table: TableRef, partition: Partition
) -> tuple[Facts, tuple[GateVerdict, ...]]:
    """The facts of a slice and of all above it, and what its gates said of what is published."""
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_runner") as ledger,
    ):
        facts = ledger.facts(ancestors(mesh, table), [p.id for p in mesh.products])
        line = facts.line(table, partition)
        lines = ledger.lines_of(line.run) if isinstance(line, Publication) else ()
        said = [x.gates for x in lines if (x.table, x.partition) == (table, partition)]
        return ledger.dated(facts), said[0] if said else ()


def gates_json(gates: Sequence[GateVerdict]) -> list[dict[str, str]]:
    """What gates said, as data."""
    return [{"rule": g.rule, "definition": g.hash, "verdict": g.verdict.value} for g in gates]


def board(mesh: Mesh, products: Sequence[Product], span: Span, facts: Facts) -> Table:
    """Products by intervals, as signs and numbers."""
    rows = [(product, _row(mesh, product, span, facts)) for product in products]
    return _drawing(rows, span, mesh.zone)


def states(mesh: Mesh, product: Product, span: Span, facts: Facts) -> dict[Partition, State]:
    """The state of each of a product's partitions in a span."""
    return {p: found.state for p, found in _row(mesh, product, span, facts).items()}


def _row(mesh: Mesh, product: Product, span: Span, facts: Facts) -> dict[Partition, Readiness]:
    judge = Judge(mesh, facts, opening.now())
    table = product.marts[0].table
    found = {p: judge.table(table, p) for p in within(product.grain, product.zone, span)}
    for partition, one in found.items():
        if one.state is State.READY and any(mark(judge, *s) for s in _slices(product, [partition])):
            found[partition] = replace(one, degraded=True)
    return found


def _slices(product: Product, partitions: Iterable[Partition]) -> list[tuple[TableRef, Partition]]:
    """The slices of all of a product's tables: what mars one of them mars the product."""
    return [(mart.table, p) for p in partitions for mart in product.marts]


def _leaving(mesh: Mesh, product: Product) -> list[str]:
    """Which of the tables that a product makes or reads go away."""
    now = opening.now()
    own = endings(mesh, [mart.table for mart in product.marts], now)
    read = endings(mesh, {edge.upstream for edge in product.dependencies}, now)
    return [*own, *(f"reads {said.replace(' is ', ', ', 1)}" for said in read if said not in own)]


def _drawing(
    rows: Sequence[tuple[Product, Mapping[Partition, Readiness]]], span: Span, zone: str
) -> Table:
    drawn = {p.id: [_kind(found) for found in row.values()] for p, row in rows}
    counts = {name: Counter(kinds) for name, kinds in drawn.items()}
    present = [kind for kind in _SHOWN if any(count[kind] for count in counts.values())]
    heads = [f"{_style(kind)[0]} {kind.lower()}" for kind in present]
    named = max((len(product.id) for product, _ in rows), default=8)
    taken = named + len("whole") + sum(len(head) for head in heads) + 2 * (len(heads) + 3)
    wide = max(8, output.console.width - taken)
    first, last = (
        each.astimezone(ZoneInfo(zone)) for each in (span.start, span.end - timedelta(seconds=1))
    )
    period = f"{first:%Y-%m-%d} .. {last:%Y-%m-%d}"
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("product", no_wrap=True, min_width=named)
    table.add_column("grain", style="dim", no_wrap=True, min_width=5)
    table.add_column(period if len(period) <= wide else f".. {last:%m-%d}", no_wrap=True)
    for kind, head in zip(present, heads, strict=True):
        header = Text(head, style=_style(kind)[1])
        table.add_column(header, justify="right", no_wrap=True, min_width=len(head))
    for product, _ in rows:
        signs = Text()
        for kind in _drawn(drawn[product.id], wide):
            sign, style = _style(kind)
            signs.append(sign, style=style)
        numbers = [str(counts[product.id][kind] or "") for kind in present]
        table.add_row(product.id, product.grain.value, signs, *numbers)
    return table


def _kind(found: Readiness) -> str:
    """A state's word, or that something is to be known of what is ready."""
    return _MARKED if found.state is State.READY and found.degraded else found.state.value


def _style(kind: str) -> tuple[str, str]:
    return output.MARKED if kind == _MARKED else output.STYLES[State(kind)]


def _drawn(kinds: Sequence[str], wide: int) -> list[str]:
    """
    At most so many signs: where there are more partitions, each stands for the worst of a few.

    >>> _drawn(["READY", "READY", "WAITING", "READY"], 2)
    ['READY', 'WAITING']
    """
    size = -(-len(kinds) // wide) or 1
    groups = (kinds[n : n + size] for n in range(0, len(kinds), size))
    return [max(group, key=_WORSE.index) for group in groups]


@overload
def named(mesh: Mesh, table: str, partition: str) -> tuple[TableRef, Partition]: ...
@overload
def named(mesh: Mesh, table: str, partition: str | None) -> tuple[TableRef, Partition | None]: ...
def named(mesh: Mesh, table: str, partition: str | None) -> tuple[TableRef, Partition | None]:
    """The table and the partition that somebody typed. Raises DeclarationError."""
    try:
        ref = TableRef.parse(table)
        grain, zone = mesh.slicing(ref)
    except KeyError:
        known = [str(t).removesuffix("@1") for t in mesh.tables()]
        fault = Fault("TABLE", 0, f"no table is called {table!r}", nearest(table, known))
        raise DeclarationError((fault,)) from None
    except ValueError as error:
        raise DeclarationError((Fault("TABLE", 0, str(error)),)) from error
    if partition is None:
        return ref, None
    try:
        return ref, parse(grain, partition, zone)
    except ValueError as error:
        raise DeclarationError((Fault("PARTITION", 0, str(error)),)) from error


def _alike(hops: Sequence[Hop]) -> list[list[Hop]]:
    """Root causes that differ only by partition, together."""
    groups: dict[tuple[object, ...], list[Hop]] = {}
    for hop in hops:
        way = tuple(table for table, _ in hop.path)
        said = hop.readiness.because if hop.results else ""
        groups.setdefault((way, hop.readiness.state, said), []).append(hop)
    return list(groups.values())


def _print_hops(settings: Settings, mesh: Mesh, alike: Sequence[Hop]) -> None:
    console, hop = output.console, alike[0]
    last = alike[-1].partition
    slices = hop.partition.key + (f" .. {last.key} ({len(alike)})" if len(alike) > 1 else "")
    way = " <- ".join(str(table) for table, _ in hop.path)
    console.print(Text.assemble("\n", (f"{hop.table} {slices} ", "bold"), (way, "dim")))
    state, because = hop.readiness.state, hop.readiness.because
    console.print(Text.assemble("  ", output.state_text(state), " ", because))
    for rule, table in _compared(mesh, hop):
        console.print(Text(f"  {table} is compared for the rule {rule.name}: {rule.description}"))
    if awaited := _awaited(settings, mesh, hop):
        console.print(Text(f"  {awaited}"))
    for result in hop.results:
        verdict = Text(f"    {result.verdict.value} ", style="red")
        console.print(verdict.append(f"{result.check.id}: {result.because}", style="default"))
        for row in result.rows:
            console.print(Text(f"      {row}", style="dim"))
    since = f", since {hop.since:%Y-%m-%d %H:%M:%S} UTC" if hop.since else ""
    console.print(Text(f"  owner {hop.owner}{since}"))


def _compared(mesh: Mesh, hop: Hop) -> list[tuple[ConsistencyRule, TableRef]]:
    """The gates for which a table on the way of a cause is an input of the one before."""
    tables = [table for table, _ in hop.path]
    return [
        (rule, upstream)
        for downstream, upstream in itertools.pairwise(tables)
        if not downstream.is_source
        for mart in mesh.product(downstream).marts
        for rule in mart.gates
        if upstream in rule.tables
    ]


def _awaited(settings: Settings, mesh: Mesh, hop: Hop) -> str:
    """What of a source is waited for; the ledger does not know what nobody listed."""
    if not hop.table.is_source:
        return ""
    source = mesh.source(hop.table)
    if not isinstance(source.probe, FileProbe):
        return f"the platform asks {source.location}"
    wanted = awaited(source, hop.partition)
    if source.probe.stored:
        return f"the platform asks for {' and '.join(wanted)}"
    if absent := [name for name in wanted if not (settings.root / name).exists()]:
        return f"waits for {' and '.join(absent)}"
    return f"{wanted[0]} is there: the next run or probe lists it"


def _why_json(
    mesh: Mesh,
    ref: TableRef,
    partition: Partition,
    found: Readiness,
    hops: Sequence[Hop],
    doubted: Sequence[Hop],
    made_from: Sequence[tuple[tuple[TableRef, Partition], str]],
) -> dict[str, object]:
    return {
        "table": str(ref),
        "partition": partition.key,
        "state": found.state.value,
        "because": found.because,
        "degraded": found.degraded,
        "next": found.next.isoformat() if found.next else None,
        "suspects": [f"{hop.table} {hop.partition.key}" for hop in doubted],
        "marks": [
            {"table": str(origin), "partition": at.key, "mark": said}
            for (origin, at), said in made_from
        ],
        "causes": [
            {
                "table": str(hop.table),
                "partition": hop.partition.key,
                "state": hop.readiness.state.value,
                "because": hop.readiness.because,
                "owner": str(hop.owner),
                "since": hop.since.isoformat() if hop.since else None,
                "path": [f"{table} {partition.key}" for table, partition in hop.path],
                "rules": [rule.name for rule, _ in _compared(mesh, hop)],
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
