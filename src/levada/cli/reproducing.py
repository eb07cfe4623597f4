"""`levada reproduce` and `levada explain-run`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.text import Text

from levada import compiled
from levada.adapters.dbt.workers import DbtWorkers
from levada.cli import output
from levada.cli.differing import print_difference
from levada.cli.looking import gates_json, named
from levada.errors import DeclarationError, Fault
from levada.flow import platform as opening
from levada.flow import reproducing
from levada.flow.keeping import Kept, made_with
from levada.ledger import PostgresLedger
from levada.readiness import bare
from levada.settings import Settings, find_root, read_settings
from levada.terms import Mesh, Publication

__all__ = ["explain", "reproduce"]

_CODES = {"identical": 0, "differs": 1}


def reproduce(
    project: Path | None, table: str, partition: str, generation: int | None, *, as_json: bool
) -> int:
    """Make a published interval again and compare; 1 if it differs, 2 if it cannot be told."""
    settings = read_settings(find_root(project))
    mesh = compiled.load(settings)
    with (
        DbtWorkers() as workers,
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_runner") as ledger,
        opening.open_platform(settings, mesh, credentials, workers) as platform,
    ):
        line = _line(mesh, ledger, table, partition, generation)
        found = reproducing.reproduce(platform, line)
    if as_json:
        output.print_json(
            {
                "table": str(line.table),
                "partition": line.partition.key,
                "generation": line.generation,
                "run": line.run,
                "verdict": found.verdict,
                "because": found.because,
                "expired_on": found.on,
                "differences": {str(t): asdict(d) for t, d in found.differences.items()},
            }
        )
    else:
        style = {"identical": "green", "differs": "red"}.get(found.verdict, "yellow")
        head = f"{line.table} {line.partition.key}, generation {line.generation}, {line.run}: "
        said = found.because.removeprefix(found.verdict)
        said = said if said != found.because else f": {said}"
        output.console.print(Text.assemble(head, (found.verdict, style), said))
        for of, difference in found.differences.items():
            print_difference(difference, f"{of} as it was published", f"{of} as it is made now")
    return _CODES.get(found.verdict, 2)


def explain(
    project: Path | None, run: str, partition: str | None, generation: int | None, *, as_json: bool
) -> int:
    """What a run was made of, as the ledger recorded it."""
    settings = read_settings(find_root(project))
    mesh = compiled.load(settings)
    with (
        opening.services(settings) as credentials,
        opening.ledger(credentials, "levada_runner") as ledger,
    ):
        asked = _line(mesh, ledger, run, partition, generation) if partition else None
        name = asked.run if asked else run
        every = ledger.lines_of(name)
        if not every:
            right = "name a run, or a table and a partition"
            raise DeclarationError((Fault(name, 0, "this run has published nothing", right),))
        begun = ledger.begun_at(name)
    # A run of a batch has many: who names a partition is told of that.
    lines = [line for line in every if asked is None or line.partition == asked.partition]
    if as_json:
        output.print_json(
            {
                "run": name,
                "begun": begun,
                "published": every[0].at,
                "published_lines": len(every),
                "lines": [_json(settings, mesh, line) for line in lines],
            }
        )
        return 0
    took = f", {(every[0].at - begun).total_seconds():.1f} s after it was claimed" if begun else ""
    at = f"{every[0].at:%Y-%m-%d %H:%M:%S}Z"
    output.console.print(Text(f"{name} published {len(every)} lines at {at}{took}"))
    for line in lines[:20]:
        _print(settings, mesh, line)
    if len(lines) > 20:
        output.console.print(f"and {len(lines) - 20} more; --json shows all")
    return 0


def _line(
    mesh: Mesh, ledger: PostgresLedger, table: str, partition: str, generation: int | None
) -> Publication:
    ref, slice_ = named(mesh, table, partition)
    lines = [x for x in ledger.history(ref, slice_) if isinstance(x, Publication)]
    if generation is not None:
        lines = [line for line in lines if line.generation == generation]
    if not lines:
        what = f"generation {generation}" if generation is not None else "nothing"
        wrong = f"{what} of {ref} {slice_.key} was published"
        raise DeclarationError((Fault(table, 0, wrong, "see `levada why`"),))
    return lines[-1]


def _kept(settings: Settings, mesh: Mesh, line: Publication) -> Kept | None:
    return made_with(settings, line, mesh.product(line.table).id)


def _code(mesh: Mesh, line: Publication, kept: Kept | None) -> str:
    """Whether the code of a line is at hand."""
    if kept is None:
        return "not kept here"
    return "as now" if kept.product.code == mesh.product(line.table).code else "kept, changed since"


def _json(settings: Settings, mesh: Mesh, line: Publication) -> dict[str, object]:
    kept = _kept(settings, mesh, line)
    return {
        "table": str(line.table),
        "partition": line.partition.key,
        "generation": line.generation,
        "verdict": line.verdict.value,
        "contract": line.contract,
        "fingerprint": bare(line.made_by),
        "forced_by": line.made_by.partition("+")[2],
        "code": _code(mesh, line, kept),
        "code_digest": kept.product.code if kept else None,
        "variables": kept.variables if kept else None,
        "content": line.content,
        "data_version": line.data_version,
        "taint": list(line.taint),
        "warnings": list(line.warnings),
        "gates": gates_json(line.gates),
        "inputs": [
            {
                "table": str(read.table),
                "partition": read.partition.key,
                "generation": read.generation,
                "content": read.content,
                "data_version": read.data_version,
            }
            for read in line.inputs
        ],
    }


def _print(settings: Settings, mesh: Mesh, line: Publication) -> None:
    forced = line.made_by.partition("+")[2]
    head = f"{line.table} {line.partition.key}, generation {line.generation}"
    output.console.print(Text(head, style="bold"))
    rows = line.content.split(":")[0]
    kept = _kept(settings, mesh, line)
    digest = f" ({kept.product.code[:16]})" if kept else ""
    variables = (kept.variables if kept else None) or {}
    for name, said in (
        ("verdict", ", ".join((line.verdict.value, *line.warnings, *line.taint))),
        ("contract", line.contract),
        *(("gate", str(gate)) for gate in line.gates),
        ("code", _code(mesh, line, kept) + digest + (f"; forced by {forced}" if forced else "")),
        ("variables", ", ".join(f"{name}: {value}" for name, value in variables.items()) or "none"),
        ("fingerprint", bare(line.made_by)),
        ("data", f"{rows} rows in version {line.data_version}"),
    ):
        output.console.print(Text(f"  {name:<12}{said}"))
    for read in line.inputs[:12]:
        state = f"generation {read.generation}" if read.content is not None else "absent"
        output.console.print(Text(f"  read        {read.table} {read.partition.key}, {state}"))
    if len(line.inputs) > 12:
        output.console.print(Text(f"  read        and {len(line.inputs) - 12} more"))
