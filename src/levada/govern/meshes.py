"""What changed of the mesh itself: tables and products that came or went, and how edges wait."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from levada.govern.gates import gate_changes
from levada.govern.kinds import Change
from levada.govern.radius import Readers
from levada.terms import Dependency, Latest, Mart, Mesh, WaitPolicy

__all__ = ["mesh_changes"]


def mesh_changes(old: Mesh, new: Mesh, readers: Readers) -> tuple[Change, ...]:
    """Changes that no single contract tells; `readers` are those of the old mesh."""
    found = (*_tables(old, new, readers), *_products(old, new), *_edges(old, new))
    return (*found, *_gates(old, new))


def _tables(old: Mesh, new: Mesh, readers: Readers) -> Iterator[Change]:
    before, after = set(old.tables()), set(new.tables())
    for table in sorted(before - after):
        mart = old.mart(table)
        read = [edge for edge in readers.get(table, ()) if edge.downstream != table]
        kind = "table.removed" if read else "table.removed_unread"
        yield _change(kind, mart, old, "", "it is removed")
    for table in sorted(after - before):
        yield _change("table.added", new.mart(table), new, "", "it is added")


def _products(old: Mesh, new: Mesh) -> Iterator[Change]:
    before, after = ({p.id: p for p in mesh.products} for mesh in (old, new))
    for name in sorted(before.keys() - after.keys()):
        mart = before[name].marts[0]
        yield _change("product.removed", mart, old, name, f"the product {name} is removed")
    for name in sorted(after.keys() - before.keys()):
        mart = after[name].marts[0]
        yield _change("product.added", mart, new, name, f"the product {name} is added")


def _edges(old: Mesh, new: Mesh) -> Iterator[Change]:
    kept = set(old.tables()) & set(new.tables())
    signs = {s.table for mesh in (old, new) for s in mesh.sources if not s.readable}
    for table in sorted(kept):
        mart = new.mart(table)
        was = {edge.upstream: edge for edge in old.mart(table).dependencies}
        now = {edge.upstream: edge for edge in mart.dependencies}
        for upstream in sorted(was.keys() | now.keys()):
            one, other = was.get(upstream), now.get(upstream)
            for kind, what in _edge(one, other, upstream in signs):
                yield _change(f"edge.{kind}", mart, new, str(upstream), what)


def _gates(old: Mesh, new: Mesh) -> Iterator[Change]:
    """Blocking rules between tables, of tables that were there before."""
    for table in sorted(set(old.tables()) & set(new.tables())):
        mart = new.mart(table)
        for kind, rule, what in gate_changes(old.mart(table).gates, mart.gates):
            change = _change(f"gate.{kind}", mart, new, rule.name, what)
            yield replace(change, path=rule.path)


def _edge(old: Dependency | None, new: Dependency | None, gate: bool) -> Iterator[tuple[str, str]]:
    if old is None or new is None:
        edge = new or old
        upstream = edge.upstream if edge else ""
        kind = "added" if new else "removed"
        words = "waits for the sign" if gate else "reads"
        words = "compares itself by a gate with" if edge and edge.gate else words
        no_longer = "" if new else "no longer "
        yield (f"gate_{kind}" if gate else kind), f"it {no_longer}{words} {upstream}"
        return
    name = new.upstream
    if old.wait != new.wait:
        kind = _waits(old.wait, new.wait)
        yield f"wait_{kind}", f"how it waits for {name} is {kind}: {_said(old)} -> {_said(new)}"
    if old.required != new.required:
        kind, said = ("added", "is required") if new.required else ("removed", "may be absent")
        yield f"required_{kind}", f"{name} {said} now"
    if old.mapping != new.mapping:
        yield "mapping", f"it reads {name} by {_mapped(new)} instead of {_mapped(old)}"
    if old.on_restatement != new.on_restatement:
        was, now = old.on_restatement, new.on_restatement
        yield "on_restatement", f"a corrected {name} makes it {now.action}, was {was.action}"
    if old.any_of != new.any_of:
        said = f"in the choice {new.any_of}" if new.any_of else "in no choice"
        yield "any_of", f"{name} is {said}, was in {old.any_of or 'none'}"
    if old.relies_on != new.relies_on:
        yield "relies_on", f"what it states to rely on in {name} is changed"


def _waits(old: WaitPolicy, new: WaitPolicy) -> str:
    """Whether less is enough than before: loosened, tightened, or changed where nobody can tell."""
    if not old.tolerant and old.deadline is None:
        return "loosened"
    if not new.tolerant and new.deadline is None:
        return "tightened"
    if replace(old, at_least=None, at_most_missing=None, max_lag=None) != replace(
        new, at_least=None, at_most_missing=None, max_lag=None
    ):
        return "changed"
    signs = set()
    for was, now, more_is_loose in (
        (old.at_least, new.at_least, False),
        (old.at_most_missing, new.at_most_missing, True),
        (old.max_lag, new.max_lag, True),
    ):
        if was == now:
            continue
        if was is None or now is None:
            return "changed"
        signs.add((now > was) == more_is_loose)  # type: ignore[operator]
    if len(signs) != 1:
        return "changed"
    return "loosened" if signs.pop() else "tightened"


def _said(edge: Dependency) -> str:
    wait = edge.wait
    words = []
    if wait.at_least is not None:
        words.append(f"at least {wait.at_least}")
    if wait.at_most_missing is not None:
        words.append(f"at most {wait.at_most_missing} missing")
    if wait.deadline is not None:
        by = wait.deadline
        words.append(f"all until {by.at}" if by.at else f"all until {by.after} after the end")
    if wait.max_lag is not None:
        words.append(f"then at most {wait.max_lag} older")
    return ", ".join(words) or "all"


def _mapped(edge: Dependency) -> str:
    mapping = edge.mapping
    number = getattr(mapping, "by", None) or getattr(mapping, "n", None)
    if isinstance(mapping, Latest) and mapping.within:
        return f"latest within {mapping.within}"
    return f"{mapping.kind} {number}" if number else mapping.kind


def _change(kind: str, mart: Mart, mesh: Mesh, subject: str, what: str) -> Change:
    path = mart.model_path if kind.startswith("edge.") else mart.contract.path
    of = mesh.product(mart.table).id
    return Change(kind, mart.table, subject, what, path=path, of=of)
