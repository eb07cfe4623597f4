"""
What a shell completes, by the compiled declarations: tables, products, domains.

A shell asks at each press of a key, so nothing is compiled, opened or said: where the declarations
cannot be read there is nothing to complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import typer

from levada import compiled
from levada.settings import Settings, find_root, read_settings
from levada.terms import Mesh

__all__ = ["domains", "products", "selections", "tables"]


def tables(context: typer.Context, incomplete: str) -> list[str]:
    """Published tables and landed sources."""
    return _of_mesh(
        context,
        incomplete,
        lambda mesh: map(str, (*mesh.tables(), *(source.table for source in mesh.sources))),
    )


def products(context: typer.Context, incomplete: str) -> list[str]:
    """Products, as `domain.product`; once somebody types an `@`, by a table of theirs."""

    def named(mesh: Mesh) -> Iterable[str]:
        return map(str, mesh.tables()) if "@" in incomplete else (p.id for p in mesh.products)

    return _of_mesh(context, incomplete, named)


def selections(context: typer.Context, incomplete: str) -> list[str]:
    """Domains, products and the tables that they publish."""

    def named(mesh: Mesh) -> Iterable[str]:
        for product in mesh.products:
            yield from (product.domain, product.id, *(str(m.table) for m in product.marts))

    return _of_mesh(context, incomplete, named)


def domains(context: typer.Context, incomplete: str) -> list[str]:
    """The domains of `levada.yaml`."""
    return _found(context, incomplete, lambda settings: settings.domains)


def _of_mesh(
    context: typer.Context, incomplete: str, named: Callable[[Mesh], Iterable[str]]
) -> list[str]:
    return _found(context, incomplete, lambda settings: named(compiled.load(settings)))


def _found(
    context: typer.Context, incomplete: str, named: Callable[[Settings], Iterable[str]]
) -> list[str]:
    """
    Names that begin so. The first major of a table is written without it, as people do, until
    somebody types the `@`.
    """
    try:
        settings = read_settings(find_root(context.params.get("project")))
        names = set(named(settings))
    except Exception:  # whatever it is, a shell is no place to say it
        return []
    if "@" not in incomplete:
        names = {name.removesuffix("@1") for name in names}
    return sorted(name for name in names if name.startswith(incomplete))
