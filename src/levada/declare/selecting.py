"""The products that a person names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from levada.settings import nearest
from levada.terms import Mesh, Product

__all__ = ["selected"]


def selected(mesh: Mesh, selection: Sequence[str]) -> Iterator[Product]:
    """
    The products that a selection names: `domain`, `domain.product` or `domain.table`; nothing
    selects all. Raises ValueError for a name that nothing has.
    """
    wanted: set[str] = set()
    for name in selection:
        hits = {
            p.id
            for p in mesh.products
            if name in (p.domain, p.id)
            or any(name in (str(m.table), f"{m.table.domain}.{m.table.name}") for m in p.marts)
        }
        if not hits:
            known = [p.id for p in mesh.products] + sorted({p.domain for p in mesh.products})
            raise ValueError(f"nothing is called {name!r}; {nearest(name, known)}")
        wanted |= hits
    return (p for p in mesh.products if not selection or p.id in wanted)
