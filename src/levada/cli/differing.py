"""`levada diff` and `levada verify-write`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from pathlib import Path

from rich.table import Table
from rich.text import Text

from levada import compiled
from levada.adapters.dbt.workers import DbtWorkers
from levada.cli import output
from levada.cli.looking import named
from levada.diff import Difference, Question, Tolerance
from levada.errors import DeclarationError, Fault
from levada.flow import declaring, differing, foretelling, rehearsing
from levada.flow import platform as opening
from levada.settings import Settings, find_root, read_settings

__all__ = ["diff", "print_difference", "tolerances", "verify_write"]


def diff(
    project: Path | None,
    a: str,
    b: str | None,
    *,
    at: str,
    key: Sequence[str],
    interval: str,
    where: str,
    tolerance: Sequence[str],
    samples: int,
    as_json: bool,
) -> int:
    """Compare; 1 if anything differs."""
    settings = read_settings(find_root(project))
    mesh = compiled.load(settings)
    one = differing.place(a, mesh)
    other = differing.place(b or a, mesh)
    contract = one.contract or other.contract
    chosen = tuple(key) or (contract.key if contract else ())
    question = Question(chosen, tolerances(tolerance), samples)
    with (
        opening.services(settings) as credentials,
        output.errors.status(f"comparing {one.text} with {other.text}"),
    ):
        found = differing.difference(
            settings, credentials, one, other, question, at=at, interval=interval, where=where
        )
    if as_json:
        output.print_json({"identical": found.identical, "a": a, "b": b or a, **asdict(found)})
    else:
        print_difference(found, f"{a} at {at}" if at else a, b or a)
    return 0 if found.identical else 1


def verify_write(
    project: Path | None,
    statement: str,
    *,
    interval: str,
    key: Sequence[str],
    samples: int,
    as_json: bool,
) -> int:
    """Tell what a statement, or a model for an interval, would change."""
    settings = read_settings(find_root(project))
    mesh = compiled.load(settings)
    table = rehearsing.model_of(mesh, statement)
    if table is not None:
        return _model(settings, str(table), interval, tuple(key), samples, as_json=as_json)
    if interval:
        raise DeclarationError((Fault("--interval", 0, "is for a model: domain.table"),))
    sql, path = _statement(statement)
    with opening.services(settings) as credentials, output.errors.status("reading"):
        found = foretelling.foretell(
            settings, mesh, credentials, sql, path, key=tuple(key), samples=samples
        )
    if as_json:
        said = found.difference
        output.print_json(
            {
                "table": found.table,
                "identical": said.identical,
                "added": said.only_b,
                "removed": said.only_a,
                "checksum": found.checksum,
                **asdict(said),
            }
        )
    else:
        now = f"{found.table} as it is, {found.checksum} before and after this was told"
        print_difference(found.difference, now, "as it would be")
    return 0


def _model(
    settings: Settings,
    name: str,
    interval: str,
    key: tuple[str, ...],
    samples: int,
    *,
    as_json: bool,
) -> int:
    """Build a model for one interval where nobody sees it, and tell what that would change."""
    with DbtWorkers() as workers:
        mesh = declaring.compiled_mesh(settings, workers)
        table, partition = named(mesh, name, interval or None)
        if partition is None:
            right = "like --interval 2013-03-10"
            raise DeclarationError((Fault("--interval", 0, "which one is not said", right),))
        with (
            opening.services(settings) as credentials,
            opening.open_platform(settings, mesh, credentials, workers) as platform,
            output.errors.status(f"building {table} {partition.key} beside what is published"),
        ):
            found = rehearsing.rehearse(platform, table, partition, key=key, samples=samples)
    if as_json:
        output.print_json(
            {
                "partition": partition.key,
                "tables": {
                    str(t): {
                        "identical": d.identical,
                        "added": d.only_b,
                        "removed": d.only_a,
                        "checksum": found.checksums[t],
                        **asdict(d),
                    }
                    for t, d in found.differences.items()
                },
            }
        )
        return 0
    for t, difference in found.differences.items():
        said = f"{t} {partition.key} as it is; the table is {found.checksums[t]} before and after"
        print_difference(difference, said, "as it would be")
    return 0


def _statement(said: str) -> tuple[str, str]:
    """The text of a statement, and where it stands."""
    if said == "-":
        return sys.stdin.read(), "stdin"
    if not said.endswith(".sql"):
        return said, "statement"
    try:
        return Path(said).read_text("utf-8"), said
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationError((Fault(said, 0, f"cannot be read: {error}"),)) from error


def tolerances(said: Sequence[str]) -> dict[str, Tolerance]:
    """
    How far columns may be apart: `fare=0.01`, or as a share `fare=0.1%`.

    >>> tolerances(["fare=0.01", "rate=1%"])["rate"].relative
    Decimal('0.01')
    """
    found = {}
    for each in said:
        column, _, amount = each.partition("=")
        try:
            if amount.endswith("%"):
                found[column] = Tolerance(relative=Decimal(amount[:-1]) / 100)
            else:
                found[column] = Tolerance(absolute=Decimal(amount))
        except (InvalidOperation, ValueError):
            right = "write column=0.01 or column=1%"
            raise DeclarationError(
                (Fault("--tolerance", 0, f"no tolerance {each!r}", right),)
            ) from None
    return found


def print_difference(found: Difference, a: str, b: str) -> None:
    """What differs, with samples, for people."""
    colour = "green" if found.identical else "red"
    output.console.print(Text(f"A  {a}\nB  {b}", style="dim"))
    output.console.print(Text(str(found), style=colour))
    for column in found.columns:
        output.console.print(Text(f"  {column.column}: {column.rows} changed"))
    if found.duplicated:
        output.console.print(Text(f"  {found.duplicated} differing rows share their key"))
    if not found.samples:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("", ", ".join(found.key), "column", "A", "B"):
        table.add_column(head)
    for sample in found.samples:
        values = sample.values or (("", "", ""),)
        if sample.kind != "changed":
            values = (("", "", ""),)
        for n, (name, ours, theirs) in enumerate(values):
            first = (sample.kind, ", ".join(sample.key)) if n == 0 else ("", "")
            table.add_row(*(Text(each) for each in (*first, name, ours, theirs)))
    output.console.print(table)
