"""Read a scenario file; every fault of it at once, with its line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from levada.declare import selected
from levada.errors import DeclarationError, Fault
from levada.intervals import end, parse, within
from levada.settings import duration, nearest
from levada.simulate.scenario import (
    Arrival,
    Audit,
    Release,
    Restatement,
    Scenario,
    arrival,
)
from levada.terms import Mesh, Partition, Span, TableRef, Verdict

__all__ = ["read_scenario"]

_KEYS = (
    *("name", "span", "until", "products", "arrivals", "restatements", "releases", "audits"),
    *("builds", "pauses"),
)
_MINUTE = timedelta(minutes=1)
_LEASE = timedelta(seconds=30)
_AFTER = timedelta(days=7)
_VERDICTS = ("FAIL", "UNKNOWN", "WARN")
Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class _Node:
    """A piece of YAML with its line: a text, a list or a mapping."""

    value: Any
    line: int

    @property
    def items(self) -> dict[str, _Node]:
        """The keys of a mapping; of anything else none."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def many(self) -> list[_Node]:
        """The items of a list; anything else is a list of one."""
        return self.value if isinstance(self.value, list) else [self]


def read_scenario(path: Path, mesh: Mesh) -> Scenario:
    """Read the scenario in a file. Raises DeclarationError with every fault."""
    reading = _Reading(path, mesh)
    scenario = reading.scenario(reading.load())
    if reading.faults or scenario is None:
        raise DeclarationError(reading.faults)
    return scenario


class _Reading:
    """One pass over a scenario file that collects its faults."""

    def __init__(self, path: Path, mesh: Mesh) -> None:
        self.path, self.mesh = path, mesh
        self.zone = ZoneInfo(mesh.zone)
        self.faults: list[Fault] = []

    def fault(self, line: int, wrong: str, right: str = "") -> None:
        self.faults.append(Fault(str(self.path), line, wrong, right))

    def load(self) -> _Node:
        import yaml

        try:
            node = yaml.compose(self.path.read_text(), Loader=yaml.SafeLoader)
        except (OSError, UnicodeDecodeError) as error:
            raise DeclarationError(
                (Fault(str(self.path), 0, f"cannot be read: {error}"),)
            ) from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark else 0
            raise DeclarationError(
                (Fault(str(self.path), line, f"is no YAML: {error}"),)
            ) from error
        if not isinstance(node, yaml.MappingNode):
            raise DeclarationError((Fault(str(self.path), 1, "holds no keys", _known(_KEYS)),))
        return self._tree(node)

    def _tree(self, node: Any) -> _Node:
        line = node.start_mark.line + 1
        match type(node).__name__:
            case "MappingNode":
                found: dict[str, _Node] = {}
                for key, value in node.value:
                    if key.value in found:
                        self.fault(key.start_mark.line + 1, f"key {key.value!r} stands here twice")
                    found[str(key.value)] = self._tree(value)
                return _Node(found, line)
            case "SequenceNode":
                return _Node([self._tree(item) for item in node.value], line)
            case _:
                return _Node(str(node.value), line)

    # The whole

    def scenario(self, top: _Node) -> Scenario | None:
        self._keys(top, _KEYS)
        span = self._span(top)
        if span is None:
            return None
        items = top.items
        until = span.end + _AFTER
        if "until" in items:
            until = self._try(items["until"], self._instant) or until
            if until < span.end:
                self.fault(items["until"].line, "'until' lies before the end of the span")
        builds = {
            name: long
            for name, node in self._section(top, "builds").items()
            if (long := self._try(node, _duration)) is not None
            and (name == "default" or self._product(name, node.line))
        }
        arrivals = dict(self._arrivals(top))
        return Scenario(
            name=str(items["name"].value) if "name" in items else self.path.stem,
            span=span,
            until=until,
            products=self._products(items.get("products")),
            arrivals=arrivals,
            restatements=tuple(self._restatements(top, span, until, arrivals)),
            releases=tuple(self._releases(top, span)),
            audits=tuple(self._audits(top, span)),
            builds={name: long for name, long in builds.items() if name != "default"},
            build=builds.get("default", _MINUTE),
            pauses=tuple(self._pauses(top)),
            lease=_LEASE,
        )

    def _span(self, top: _Node) -> Span | None:
        node = top.items.get("span")
        if node is None:
            self.fault(top.line, "'span' is missing", "span: {from: 2013-03-04, to: 2013-03-10}")
            return None
        self._keys(node, ("from", "to"), needed=("from", "to"))
        ends = [self._try(node.items.get(key), _day) for key in ("from", "to")]
        if ends[0] is None or ends[1] is None:
            return None
        if ends[1] < ends[0]:
            self.fault(node.line, f"the span {ends[0]} .. {ends[1]} is empty", "'to' is included")
            return None
        span, whole = Span.days(ends[0], ends[1], self.mesh.zone), self.mesh.span
        if span.start < whole.start or span.end > whole.end:
            first = whole.start.astimezone(self.zone).date()
            last = (whole.end - timedelta(seconds=1)).astimezone(self.zone).date()
            self.fault(node.line, "the span leaves the mesh's span", f"that is {first} .. {last}")
            return None
        return span

    def _products(self, node: _Node | None) -> tuple[str, ...]:
        if node is None:
            return tuple(p.id for p in self.mesh.products)
        found: list[str] = []
        for each in node.many:
            try:
                found += [p.id for p in selected(self.mesh, [str(each.value)])]
            except ValueError as error:
                self.fault(each.line, str(error))
        return tuple(dict.fromkeys(found))

    # Its sections

    def _arrivals(self, top: _Node) -> Iterator[tuple[TableRef, tuple[Arrival, ...]]]:
        for name, node in self._section(top, "arrivals").items():
            table = self._source(name, node.line)
            rules = [self._arrival(table, each) for each in node.many]
            if table is not None:
                yield table, tuple(rule for ruled in rules for rule in ruled)

    def _arrival(self, table: TableRef | None, node: _Node) -> Sequence[Arrival]:
        if node.value == "never":
            return (Arrival(),)
        if not isinstance(node.value, dict):
            self.fault(node.line, f"{node.value!r} is no rule", "say after, at or never")
            return ()
        self._keys(node, ("after", "at", "never", "partitions"))
        said = [key for key in ("after", "at", "never") if key in node.items]
        if len(said) != 1:
            self.fault(node.line, "a rule says one of after, at and never", "like {after: 3h}")
            return ()
        after = self._try(node.items.get("after"), _duration)
        at = self._try(node.items.get("at"), self._instant)
        if "partitions" not in node.items:
            return (Arrival(after, at),)
        windows = self._windows(table, node.items["partitions"]) if table else ()
        return [Arrival(after, at, window) for window in windows]

    def _restatements(
        self,
        top: _Node,
        span: Span,
        until: datetime,
        arrivals: Mapping[TableRef, Sequence[Arrival]],
    ) -> Iterator[Restatement]:
        for node in self._listed(top, "restatements"):
            keys = ("table", "partitions", "at", "same")
            if not self._keys(node, keys, needed=keys[:3]):
                continue
            table = self._source(str(node.items["table"].value), node.items["table"].line)
            at = self._try(node.items["at"], self._instant)
            same = self._flag(node.items.get("same"))
            if at is not None and not span.start <= at <= until:
                wrong = "restated before the span begins, or after the scenario's end"
                self.fault(node.items["at"].line, wrong)
            for partition in self._slices(table, node.items["partitions"], span) if table else ():
                if table is None or at is None:
                    continue
                lands = arrival(arrivals, span, table, partition)
                if lands is None or lands > at:
                    when = f"it lands at {self._local(lands)}" if lands else "it never does"
                    wrong = f"{partition.key} is restated before it has landed: {when}"
                    self.fault(
                        node.items["at"].line, wrong, "a rule of arrivals says when it lands"
                    )
                yield Restatement(table, partition, at, same)

    def _local(self, instant: datetime) -> str:
        return f"{instant.astimezone(self.zone):%Y-%m-%d %H:%M}"

    def _releases(self, top: _Node, span: Span) -> Iterator[Release]:
        for node in self._listed(top, "releases"):
            keys = ("product", "partitions", "at")
            if not self._keys(node, keys, needed=keys):
                continue
            name, at = node.items["product"], self._try(node.items["at"], self._instant)
            if self._product(str(name.value), name.line):
                table = self.mesh.product(str(name.value)).marts[0].table
                for partition in self._slices(table, node.items["partitions"], span):
                    if at is not None:
                        yield Release(str(name.value), partition, at)

    def _audits(self, top: _Node, span: Span) -> Iterator[Audit]:
        for node in self._listed(top, "audits"):
            keys = ("product", "partitions", "verdict", "check", "times")
            if not self._keys(node, keys, needed=keys[:2]):
                continue
            name, verdict = node.items["product"], node.items.get("verdict")
            said = str(verdict.value) if verdict else "FAIL"
            if said not in _VERDICTS and verdict:
                self.fault(verdict.line, f"no verdict {said!r} here", _known(_VERDICTS))
                continue
            times = self._times(node.items.get("times"))
            check = str(node.items["check"].value) if "check" in node.items else "the scenario"
            because = f"audit failed: {check}" if said == "FAIL" else f"{said}: {check}"
            if self._product(str(name.value), name.line):
                table = self.mesh.product(str(name.value)).marts[0].table
                for partition in self._slices(table, node.items["partitions"], span):
                    yield Audit(str(name.value), partition, Verdict(said), because, times)

    def _pauses(self, top: _Node) -> Iterator[tuple[datetime, datetime]]:
        for node in self._listed(top, "pauses"):
            if not self._keys(node, ("from", "to"), needed=("from", "to")):
                continue
            first = self._try(node.items["from"], self._instant)
            last = self._try(node.items["to"], self._instant)
            if first and last and last <= first:
                self.fault(node.line, "this pause ends before it begins")
            if first and last:
                yield first, last

    # Its words

    def _section(self, top: _Node, key: str) -> dict[str, _Node]:
        node = top.items.get(key)
        if node is not None and not isinstance(node.value, dict):
            self.fault(node.line, f"{key!r} holds no keys")
        return node.items if node else {}

    def _listed(self, top: _Node, key: str) -> Sequence[_Node]:
        node = top.items.get(key)
        if node is not None and not isinstance(node.value, list):
            self.fault(node.line, f"{key!r} is a list")
            return ()
        return node.value if node else ()

    def _keys(self, node: _Node, known: Sequence[str], needed: Iterable[str] = ()) -> bool:
        """Whether a mapping has what it needs and nothing unknown."""
        if not isinstance(node.value, dict):
            self.fault(node.line, f"{node.value!r} holds no keys", _known(known))
            return False
        for key, value in node.items.items():
            if key not in known:
                self.fault(value.line, f"unknown key {key!r}", nearest(key, known))
        missing = [key for key in needed if key not in node.items]
        if missing:
            self.fault(node.line, f"{', '.join(missing)} missing here")
        return not missing

    def _try(self, node: _Node | None, read: Callable[[str], Read]) -> Read | None:
        if node is None:
            return None
        try:
            return read(str(node.value))
        except ValueError as error:
            self.fault(node.line, str(error))
            return None

    def _flag(self, node: _Node | None) -> bool:
        if node is not None and node.value not in ("true", "false"):
            self.fault(node.line, f"{node.value!r}: say true or false")
        return node is not None and node.value == "true"

    def _times(self, node: _Node | None) -> int | None:
        if node is None:
            return 1
        if node.value == "always":
            return None
        if not str(node.value).isdigit() or not int(node.value):
            self.fault(node.line, f"times {node.value!r}: say a number, or always")
            return 1
        return int(node.value)

    def _product(self, name: str, line: int) -> bool:
        known = [p.id for p in self.mesh.products]
        if name not in known:
            self.fault(line, f"no product is called {name!r}", nearest(name, known))
        return name in known

    def _source(self, name: str, line: int) -> TableRef | None:
        known = {str(source.table): source.table for source in self.mesh.sources}
        if name not in known:
            self.fault(line, f"no landed table is called {name!r}", nearest(name, known))
        return known.get(name)

    def _instant(self, text: str) -> datetime:
        """An instant: local time of the mesh, unless it says its own offset or Z."""
        try:
            instant = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text!r} is no instant: write it like 2013-03-07 14:00") from None
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
        there = instant.replace(tzinfo=self.zone).astimezone(UTC)
        if there.astimezone(self.zone).replace(tzinfo=None) != instant:
            raise ValueError(f"{text} does not exist in {self.mesh.zone}: the clock jumps over it")
        return there

    def _slices(self, table: TableRef, node: _Node, span: Span) -> list[Partition]:
        """The slices of a table that start in these windows and end within the span, or WHOLE."""
        windows = self._windows(table, node)
        found = [
            p
            for p in within(*self.mesh.slicing(table), self.mesh.span)
            if p.start is None or any(w and w.start <= p.start < w.end for w in windows)
        ]
        if windows and not found:
            self.fault(node.line, f"{table} has no such slice in the mesh's span")
        late = [p.key for p in found if p.start is not None and end(p) > span.end]
        if late:
            more = f" and {len(late) - 1} more" if len(late) > 1 else ""
            wrong = f"{late[0]}{more} of {table} ends after the scenario's span"
            self.fault(node.line, wrong, "nothing of it is built: let the span end later")
        return [p for p in found if p.key not in late]

    def _windows(self, table: TableRef, node: _Node) -> list[Span | None]:
        """What `partitions` names: slices by key, local days of the mesh, or days from .. to."""
        if isinstance(node.value, dict):
            self._keys(node, ("from", "to"), needed=("from", "to"))
            first, last = (self._try(node.items.get(key), _day) for key in ("from", "to"))
            if first and last and last < first:
                self.fault(node.line, f"{first} .. {last} is empty")
            elif first and last:
                return [Span.days(first, last, self.mesh.zone)]
            return []
        windows = [self._try(each, lambda text: self._window(table, text)) for each in node.many]
        return [found[0] for found in windows if found is not None]

    def _window(self, table: TableRef, text: str) -> tuple[Span | None]:
        grain, zone = self.mesh.slicing(table)
        try:
            start = parse(grain, text, zone).start
        except ValueError as error:
            try:
                window = Span.days(text, text, self.mesh.zone)
            except ValueError:
                raise error from None
            if not any(window.start <= p.begin < window.end for p in self._sliced(table)):
                raise error from None
            return (window,)
        return (Span(start, start + timedelta(seconds=1)) if start else None,)

    def _sliced(self, table: TableRef) -> Iterator[Partition]:
        slices = within(*self.mesh.slicing(table), self.mesh.span)
        return (p for p in slices if p.start is not None)


def _known(words: Collection[str]) -> str:
    return f"known here: {', '.join(words)}"


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no date: write it like 2013-03-10") from None


def _duration(text: str) -> timedelta:
    return timedelta(0) if text == "0" else duration(text)
