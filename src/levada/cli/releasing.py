"""`levada release`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.text import Text

from levada import compiled
from levada import sense as sensing
from levada.cli import output
from levada.cli.looking import named
from levada.errors import DeclarationError, Fault
from levada.flow import platform as opening
from levada.readiness import Judge
from levada.settings import find_root, read_settings
from levada.terms import Facts, Mesh, Partition, Product, State, TableRef

__all__ = ["release"]


def release(
    project: Path | None, table: str, partition: str | None, reason: str, *, dry_run: bool
) -> int:
    """
    Let go what is held: one partition whose changed input an edge holds, or a whole table that was
    changed by hand. 1 where nothing is held, or by something else that stays.
    """
    settings = read_settings(find_root(project))
    mesh = compiled.load(settings)
    ref, slice_ = named(mesh, table, partition)
    if not reason.strip():
        raise DeclarationError((Fault("--reason", 0, "says nothing", "say why it may go on"),))
    if ref.is_source:
        wrong = f"{ref} is landed: nothing holds it"
        raise DeclarationError((Fault("TABLE", 0, wrong, "name a published table"),))
    product = mesh.product(ref)
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_governance") as ledger,
    ):
        facts = ledger.facts(*sensing.all_to_read(mesh, [product]))
        if slice_ is None:
            tampering = facts.tampered.get(ref)
            what = f"changed by hand: {tampering.because}" if tampering else ""
        else:
            found = Judge(mesh, facts, opening.now()).table(ref, slice_)
            what = found.because if found.state is State.HELD else ""
        name = f"{ref} {slice_.key}" if slice_ else str(ref)
        if not what:
            output.console.print(Text(f"{name}: nothing holds it"))
            return 1
        if slice_ is not None and (still := _held_after(mesh, facts, product, ref, slice_)):
            whole = (
                f"; `levada release {ref}` lets go of all of it" if ref in facts.tampered else ""
            )
            output.console.print(Text(f"{name}: no edge holds it, but this: {still}{whole}"))
            return 1
        if not dry_run:
            if slice_ is None:
                ledger.pardon_table(ref, reason)
            else:
                ledger.pardon_step(product.id, slice_, reason)
    done = "would be released" if dry_run else "released"
    output.console.print(Text(f"{name} {done}; it was held: {what}"))
    return 0


def _held_after(
    mesh: Mesh, facts: Facts, product: Product, table: TableRef, partition: Partition
) -> str:
    """Why a partition would be held even if what its edges hold were released; empty if not."""
    pardons = {**facts.pardons, (product.id, partition): facts.position + 1}
    found = Judge(mesh, replace(facts, pardons=pardons), opening.now()).table(table, partition)
    return found.because if found.state is State.HELD else ""
