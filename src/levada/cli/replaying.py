"""`levada replay`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from levada import compiled
from levada.cli import output
from levada.flow import differing, replaying
from levada.flow import platform as opening
from levada.flow.replaying import Answer, Replayed
from levada.settings import find_root, read_settings

__all__ = ["replay"]

_COLOURS = {Answer.SAME: "green", Answer.MENDED: "green", Answer.FAILS: "yellow"}


def replay(
    project: Path | None,
    paths: Sequence[Path],
    old: str,
    new: str,
    *,
    at: str,
    jobs: int,
    seconds: float,
    samples: int,
    as_json: bool,
) -> int:
    """Replay; 1 if an answer differs or a query breaks."""
    settings = read_settings(find_root(project))
    mesh = compiled.load(settings)
    one, other = differing.place(old, mesh), differing.place(new, mesh)
    asked = replaying.queries(paths, mesh, one)
    found: list[Replayed] = []
    with opening.services(settings) as credentials, Progress(console=output.errors) as bar:
        task = bar.add_task("replaying", total=len(asked))
        told = replaying.replay(
            *(settings, mesh, credentials, asked, one, other),
            at=at,
            jobs=jobs,
            seconds=seconds,
            samples=samples,
        )
        for each in told:
            found.append(each)
            bar.advance(task)
    if as_json:
        output.print_json([{**asdict(each), "answer": each.answer.value} for each in found])
    else:
        _print(found, old)
    return int(any(each.answer in (Answer.DIFFERS, Answer.BREAKS) for each in found))


def _print(found: Sequence[Replayed], old: str) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("query", "answer", "because", "old", "new"):
        table.add_column(head)
    for each in found:
        before, after = (f"{seconds:.2f} s" for seconds in each.seconds)
        answer = Text(each.answer.value, style=_COLOURS.get(each.answer, "red"))
        table.add_row(Text(each.name), answer, Text(each.because), before, after)
    if found:
        output.console.print(table)
    counted = Counter(each.answer.value for each in found)
    said = ", ".join(f"{n} {word}" for word, n in sorted(counted.items()))
    output.console.print(f"{len(found)} queries read {old}" + (f": {said}" if said else ""))
