"""`levada backfill batchable`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from rich.text import Text

from levada.adapters.dbt.workers import DbtWorkers
from levada.cli import output
from levada.cli.spans import span_of
from levada.declare import selected
from levada.errors import DeclarationError, Fault
from levada.flow import batching, declaring
from levada.flow import platform as opening
from levada.flow.batching import Compared
from levada.intervals import inside, within
from levada.settings import find_root, read_settings
from levada.terms import Batching, Grain, Partition, Product, Span

__all__ = ["test"]


def test(
    project: Path | None,
    names: Sequence[str],
    days: tuple[str | None, str | None],
    most: int,
    *,
    as_json: bool,
) -> int:
    """Build intervals both ways, record what comes of it; 1 if one differs, 2 if none can tell."""
    if most < 2:
        raise DeclarationError(
            (Fault("--intervals", 0, f"{most} are no batch", "write 2 or more"),)
        )
    settings = read_settings(find_root(project))
    span = span_of(settings, days)
    with DbtWorkers() as workers:
        mesh = replace(declaring.compiled_mesh(settings, workers), quiet=timedelta(0))
        try:
            products = selected(mesh, names)
        except ValueError as error:
            raise DeclarationError((Fault("TABLES", 0, str(error)),)) from error
        with (
            opening.services(settings) as credentials,
            opening.ledger(credentials, "levada_publisher") as record,
            opening.open_platform(settings, mesh, credentials, workers) as platform,
        ):
            found = []
            for product in products:
                slices = _slices(product, span, most)
                if len(slices) < 2:
                    why = (
                        f"the span holds {len(slices)} of its intervals: two are compared at least"
                    )
                    found.append(Compared(product.id, None, why))
                    continue
                told = batching.compared(platform, product, slices)
                found.append(told)
                if told.equal is not None:
                    record.record_batching(
                        Batching(
                            *(product.id, batching.digest_of(product), told.equal),
                            *(told.because, len(slices)),
                        )
                    )
    if as_json:
        output.print_json(
            [
                {
                    "product": each.product,
                    "equal": each.equal,
                    "because": each.because,
                    "intervals": [p.key for p in each.slices],
                }
                for each in found
            ]
        )
    else:
        for each in found:
            word, style = _WORDS[each.equal]
            output.console.print(
                Text.assemble(f"{each.product}: ", (word, style), f", {each.because}")
            )
    if any(each.equal is None for each in found):
        return 2
    return 0 if all(each.equal for each in found) else 1


_WORDS = {True: ("equal", "green"), False: ("differs", "red"), None: ("unknown", "yellow")}


def _slices(product: Product, span: Span, most: int) -> list[Partition]:
    """The first intervals of a product in a span."""
    if product.grain is Grain.WHOLE:
        return []
    slices = within(product.grain, product.zone, span)
    return [p for p in slices if inside(p, span)][:most]
