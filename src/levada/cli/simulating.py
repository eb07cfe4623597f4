"""`levada simulate`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from rich.text import Text

from levada.adapters.dbt.workers import DbtWorkers
from levada.cli import output
from levada.flow import declaring
from levada.settings import find_root, read_settings
from levada.simulate import Event, Timeline, play, read_scenario
from levada.terms import Grain, Input, Partition, State

__all__ = ["simulate"]

_STYLES: Mapping[str, str] = {
    "published": "green",
    "degraded": "yellow",
    "failed": "red",
    "untold": "red",
    "held": "magenta",
    "restated": "yellow",
    "killed": "red",
}


def simulate(project: Path | None, scenario: Path, *, as_json: bool) -> int:
    """Play a scenario on the compiled mesh and print what happens."""
    settings = read_settings(find_root(project))
    with output.errors.status("compiling the declarations"), DbtWorkers() as workers:
        mesh = declaring.compiled_mesh(settings, workers)
    timeline = play(mesh, read_scenario(scenario, mesh), settings.dispatch)
    if as_json:
        output.print_json(_document(timeline))
        return 0
    zone = ZoneInfo(mesh.zone)
    output.console.print(Text(timeline.scenario.name, style="bold"))
    for line in _lines(_folded(timeline.events, zone), zone, mesh.zone):
        output.console.print(line)
    _print_left(timeline, zone)
    return 0


def _word(event: Event) -> str:
    return "degraded" if event.degraded else event.kind


# For people


def _folded(events: Iterable[Event], zone: ZoneInfo) -> list[list[Event]]:
    """The usual events of hours, by day; every other event alone."""
    groups: dict[object, list[Event]] = {}
    for number, event in enumerate(events):
        hourly = event.partition is not None and event.partition.grain is Grain.HOUR
        usual = event.kind in ("landed", "fired", "published") and not event.degraded
        if hourly and usual:
            day = event.at.astimezone(zone).date()
            again = event.generation > 1 or _rerun(event)
            key: object = (day, event.kind, event.subject, again)
        else:
            key = number
        groups.setdefault(key, []).append(event)
    return list(groups.values())


def _rerun(event: Event) -> bool:
    return event.kind == "fired" and not event.because.startswith("never published")


def _lines(groups: Sequence[Sequence[Event]], zone: ZoneInfo, name: str) -> Iterator[Text]:
    """One line for each group, in columns; the reason may be as long as it is."""
    rows = [_row(group, zone) for group in groups]
    head = (f"{name}:", "", "", "", "")
    wide = [max(len(row[column]) for row in (head, *rows)) for column in range(4)]
    before = ""
    for row in (head, *rows):
        day, time = row[0].rsplit(" ", 1) if " " in row[0] else ("", row[0])
        shown = row[0] if day != before or not day else f"{' ' * len(day)} {time}"
        before = day
        line = Text(f"{shown:{wide[0]}}  ", style="dim")
        line.append(f"{row[1]:{wide[1]}}  ", style=_STYLES.get(row[1], "default"))
        line.append(f"{row[2]:{wide[2]}}  {row[3]:{wide[3]}}  {row[4]}".rstrip(), style="default")
        yield line


def _row(group: Sequence[Event], zone: ZoneInfo) -> tuple[str, str, str, str, str]:
    first, last = group[0], group[-1]
    key = first.partition.key if first.partition else ""
    why = _why(first)
    if len(group) > 1:
        key = f"{key} .. {last.partition.key if last.partition else ''}"
        why = f"{len(group)} of them, until {last.at.astimezone(zone):%H:%M:%S}"
    when = f"{first.at.astimezone(zone):%a %m-%d %H:%M:%S}"
    return when, _word(first), first.subject, key, why


def _why(event: Event) -> str:
    return f"generation {event.generation}: {event.because}" if event.generation else event.because


def _print_left(timeline: Timeline, zone: ZoneInfo) -> None:
    ended = f"{timeline.ended.astimezone(zone):%a %Y-%m-%d %H:%M}"
    if not timeline.left:
        output.console.print(Text(f"at {ended} everything is ready", style="green"))
        return
    output.console.print(Text(f"at {ended} not ready:"))
    alike: dict[tuple[str, State, str], list[Partition]] = {}
    for (product, partition), found in timeline.left:
        alike.setdefault((product, found.state, found.because), []).append(partition)
    for (product, state, because), partitions in alike.items():
        keys = partitions[0].key
        if len(partitions) > 1:
            keys += f" .. {partitions[-1].key} ({len(partitions)})"
        line = Text.assemble("  ", output.state_text(state), f" {product} {keys}: {because}")
        output.console.print(line)


# For programs


def _document(timeline: Timeline) -> dict[str, object]:
    return {
        "scenario": timeline.scenario.name,
        "from": _instant(timeline.scenario.span.start),
        "to": _instant(timeline.scenario.span.end),
        "ended": _instant(timeline.ended),
        "events": [_event(event) for event in timeline.events],
        "left": [
            {
                "product": product,
                "partition": partition.key,
                "state": found.state.value,
                "because": found.because,
            }
            for (product, partition), found in timeline.left
        ],
    }


def _event(event: Event) -> dict[str, object]:
    return {
        "at": _instant(event.at),
        "what": event.kind,
        "subject": event.subject,
        "partition": event.partition.key if event.partition else None,
        "because": event.because,
        "generation": event.generation or None,
        "degraded": event.degraded,
        "run": event.run or None,
        "read": [_input(read) for read in event.read],
    }


def _input(read: Input) -> dict[str, object]:
    return {
        "table": str(read.table),
        "partition": read.partition.key,
        "generation": read.generation if read.content is not None else None,
    }


def _instant(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%SZ}"
