"""
What the rules decide of a model, apart from how SQLFluff walks through it.

Each finding says what is wrong, what would be right, where, and the edit that mends it if only one
can. Messages that dbt's parse has too are the same, so that `levada check` tells them once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from levada.adapters.promised import withheld
from levada.adapters.sqlfluff.facts import Here
from levada.adapters.sqlfluff.jinja import Call, Read
from levada.terms.layers import against_the_way, past_the_landing

__all__ = ["Edit", "Finding", "layer_order", "meant", "misnamed", "promised_only", "replacement"]


@dataclass(frozen=True, slots=True)
class Edit:
    """A stretch of the text, and what is to stand there."""

    start: int
    stop: int
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with the text from `start` to `stop`."""

    start: int
    stop: int
    wrong: str
    right: str
    edit: Edit | None = None

    def __str__(self) -> str:
        return f"{self.wrong}; {self.right}" if self.right else self.wrong


# LV01


def replacement(here: Here, parts: Sequence[str], sources: Sequence[str]) -> tuple[str, ...]:
    """
    Everything that a literal table name can mean, as what would be written in its place.
    `sources` are the project's own, as `source.table`.
    """
    schema, name = (parts[-2] if len(parts) > 1 else ""), parts[-1]
    own = here.facts.models.get(here.domain, {})
    found: dict[str, None] = {}
    if name in own and schema in ("", "main", here.domain):
        found[f"{{{{ ref('{name}') }}}}"] = None
    for promise in here.facts.promises:
        table = promise.table
        named = name in (table.name, table.relation) and schema in ("", "main", table.domain)
        if named and promise.holds and table.domain != here.domain:
            version = f", v={table.major}" if name != table.name else ""
            found[f"{{{{ ref('{table.domain}', '{table.name}'{version}) }}}}"] = None
    for source in sources:
        zone, _, table_name = source.partition(".")
        if name == table_name and schema in ("", zone):
            found[f"{{{{ source('{zone}', '{name}') }}}}"] = None
    return tuple(found)


def meant(here: Here, parts: Sequence[str]) -> str:
    """What a literal table that nobody has was perhaps to be."""
    ways = _ways(here)
    near = get_close_matches(parts[-1], ways, n=1)
    return f"did you mean {ways[near[0]]}?" if near else "read it by ref() or source()"


def _ways(here: Here) -> dict[str, str]:
    """Everything that can be read by `ref`, and how."""
    others = {
        p.table.name: f"ref('{p.table.domain}', '{p.table.name}')"
        for p in here.facts.promises
        if p.holds and p.table.domain != here.domain
    }
    own = here.facts.models.get(here.domain, {})
    return {**others, **{name: f"ref('{name}')" for name in own if name != here.model}}


# LV02


def promised_only(here: Here, reads: Sequence[Read]) -> Iterator[Finding]:
    """Reads of other domains' tables that are not promised, or not told to be another's."""
    told: tuple[str, str, Edit | None] | None
    for read in reads:
        if read.kind != "ref":
            continue
        if read.domain and read.domain != here.domain:
            told = _unpromised(here, read)
        elif read.domain or read.name in here.facts.models.get(here.domain, {}):
            continue
        else:
            told = _stray(here, read) or _unknown(here, read)
        if told:
            wrong, right, edit = told
            yield Finding(read.call.start, read.call.stop, _via(wrong, read), right, edit)


def _unpromised(here: Here, read: Read) -> tuple[str, str, None] | None:
    major = read.major
    promises = [p for p in here.facts.held(read.name) if p.table.domain == read.domain]
    if any(major in (None, p.table.major) for p in promises):
        return None
    if read.domain in here.facts.packages(here.domain):
        return None
    said = here.facts.promises
    known = {p.table.domain for p in said} | {*here.facts.models}
    if not here.facts.domain(read.domain) and not get_close_matches(read.domain, known, n=1):
        return None  # a package that is not there yet: dbt tells it
    version = f"@{major}" if major is not None else ""
    why, right = withheld(here.facts.root, read.domain, read.name, major, said)
    return f"model {here.model} reads {read.domain}.{read.name}{version}, {why}", right, None


def _stray(here: Here, read: Read) -> tuple[str, str, Edit | None] | None:
    """A reference of one argument that lands in another domain, where dbt resolves silently."""
    owners = sorted(
        {p.table.domain for p in here.facts.held(read.name) if p.table.domain != here.domain}
    )
    if not owners:
        return None
    wrong = f"model {here.model} reads ref('{read.name}'), which is a table of {owners[0]}"
    if len(owners) > 1:
        wrong = f"model {here.model} reads ref('{read.name}'), which {' and '.join(owners)} promise"
    right = " or ".join(f"ref('{owner}', '{read.name}')" for owner in owners)
    single = len(owners) == 1 and not read.via
    return wrong, f"write {right}", _two_arguments(read.call, owners[0]) if single else None


def _two_arguments(call: Call, owner: str) -> Edit:
    at = call.plain[0].start
    return Edit(at, at, f"'{owner}', ")


def _unknown(here: Here, read: Read) -> tuple[str, str, None] | None:
    """A name of no model and no promise, if what was meant can be told; else dbt tells it."""
    wrong = f"model {here.model} reads the model {read.name}, which this project does not have"
    private = sorted(d for d, models in here.facts.models.items() if read.name in models)
    if private:
        right = f"it is a private model of {' and of '.join(private)}: it must be promised first"
        return wrong, right, None
    ways = _ways(here)
    near = get_close_matches(read.name, ways, n=1)
    return (wrong, f"did you mean {ways[near[0]]}?", None) if near else None


# LV03


def layer_order(here: Here, reads: Sequence[Read], landing: Sequence[str]) -> Iterator[Finding]:
    """Reads against the way of the data; `landing` are the layers that may read sources."""
    if not here.layer:
        return  # `levada check` tells a model outside the layers
    for read in reads:
        if read.kind == "source":
            source = f"{read.domain}.{read.name}"
            told = past_the_landing(here.model, here.layer, source, landing)
        else:
            told = _upward(here, read)
        if told:
            yield Finding(read.call.start, read.call.stop, _via(told[0], read), told[1])


def _upward(here: Here, read: Read) -> tuple[str, str] | None:
    domain = read.domain or here.domain
    if not read.domain and read.name not in here.facts.models.get(here.domain, {}):
        owners = {p.table.domain for p in here.facts.held(read.name)}
        domain = owners.pop() if len(owners) == 1 else domain
    shown = read.name if domain == here.domain else f"{domain}.{read.name}"
    foreign = domain != here.domain and bool(here.facts.domain(domain))
    layer = here.facts.layer(domain, read.name, read.major)
    return against_the_way(here.model, here.layer, shown, layer, foreign=foreign)


# LV04


def misnamed(here: Here, tables: str, private: str) -> Finding | None:
    """
    A model whose name is not as its project names them. An empty pattern matches every name; a
    group called `period` must be the grain of the contract.
    """
    named = (here.domain, here.model)
    promised = [p for p in here.facts.promises if (p.table.domain, p.table.name) == named]
    pattern, what = (tables, "table") if promised else (private, "private model")
    if not pattern:
        return None
    match = re.fullmatch(pattern, here.model)
    if match is None:
        wrong = f"{what} {here.model} is not named as this project names each {what}"
        return Finding(0, 0, wrong, f"the pattern is {pattern}")
    period = match.groupdict().get("period")
    grain = here.facts.grain(promised[-1]) if promised else ""
    if period is None or not grain or period == grain:
        return None
    wrong = f"{what} {here.model} has the period {period} in its name and {grain} in its contract"
    return Finding(0, 0, wrong, "name it by its grain")


def _via(wrong: str, read: Read) -> str:
    return f"{wrong}, by macro {read.via}" if read.via else wrong
