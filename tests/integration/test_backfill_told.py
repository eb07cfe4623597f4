"""What a plan tells before anything runs: how long, how much, whose, and who must say yes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import tiny
from tests.unit.strategies import NEW_YORK, little_mesh
from workspace import Workspace

from levada.flow import backfilling
from levada.intervals import parse
from levada.settings import read_settings
from levada.terms import Grain, Span, TableRef

pytestmark = pytest.mark.integration

NOW = datetime(2013, 6, 1, 12, tzinfo=UTC)
DAYS = ["2013-03-08", "2013-03-09", "2013-03-10"]
READS = "{{ ref('north', 'numbers') }}"


def reckoned(rows: Sequence[tuple[Any, ...]]) -> dict[str, tuple[float, float]]:
    """
    Seconds and rows of an interval of each product, run by run from the lines of the log: from its
    first claim to its last publication.
    """
    claimed: dict[str, datetime] = {}
    published: dict[tuple[str, str], list[tuple[str, int, datetime]]] = defaultdict(list)
    for kind, run, product, part, content, at in rows:
        if kind == "claim":
            claimed[run] = min(at, claimed.get(run, at))
        else:
            published[product, run].append((part, int(content.split(":")[0]), at))
    told: dict[str, list[tuple[int, float, int]]] = defaultdict(list)
    for (product, run), lines in published.items():
        took = (max(at for *_, at in lines) - claimed[run]).total_seconds()
        told[product].append((len({p for p, *_ in lines}), took, sum(n for _, n, _ in lines)))
    return {
        product: (
            sum(took for _, took, _ in runs) / sum(slices for slices, *_ in runs),
            sum(count for *_, count in runs) / sum(slices for slices, *_ in runs),
        )
        for product, runs in told.items()
    }


LOG = (
    "select kind, body ->> 'run', body ->> 'product', body ->> 'part', body ->> 'content', at"
    " from ledger.entries where kind in ('claim', 'publication') order by pos"
)


def test_what_a_plan_is_expected_to_take_is_what_the_lines_of_the_log_say(
    ledgers: Any, tmp_path: Path
) -> None:
    flights = TableRef("operations", "flights")
    days = [parse(Grain.DAY, day, NEW_YORK) for day in DAYS]
    ledgers.record()
    for run, some, contents, pause in (
        ("one", days[:1], ["10:a"], 0.3),
        ("two", days[1:], ["20:b", "60:c"], 0.1),  # of a batch
        ("three", days[:1], ["30:d"], 0.0),  # made again
    ):
        ledgers.claim("operations.flights", some, run=run, fingerprint=run)
        time.sleep(pause)
        lines = [
            ledgers.line(flights, p, content=c, made_by=run)
            for p, c in zip(some, contents, strict=True)
        ]
        ledgers.publisher.intend(run, lines)
        ledgers.publisher.publish(run, f"{len(run)}")
    (tmp_path / "levada.yaml").write_text(
        "mesh: test\nzone: America/New_York\nspan: {from: 2013-03-04, to: 2013-03-17}\n"
        "domains: [operations, weather, fleet, company]\n"
    )
    told = backfilling.planned(
        *(read_settings(tmp_path), little_mesh(), ledgers.runner, ["operations.flights"]),
        Span.days("2013-03-05", "2013-03-09", NEW_YORK),
        NOW,
    )

    past = told.past["operations.flights"]
    ((seconds, rows),) = reckoned(ledgers.runner._rows(LOG)).values()
    assert (past.slices, past.runs, past.rows) == (4, 3, 120)
    assert past.seconds_each == pytest.approx(seconds)
    assert seconds > 0.1
    assert (told.rows, rows) == (5 * 30, 30), "five days, each of what one had on the average"
    assert told.seconds == pytest.approx(5 * seconds)
    assert told.unknown == ("company.daily", "company.weekly"), "these were never built"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Numbers of the north; the south reads them thrice, and the east what the south made."""
    mesh = tiny.mesh(tmp_path_factory.mktemp("told") / "mesh", ("north", "south", "east"))
    settings = mesh.root / "levada.yaml"
    settings.write_text(settings.read_text().replace("to: 2013-03-08", f"to: {DAYS[-1]}"))
    tiny.project(mesh, "north", lands=True)
    tiny.contract(mesh, "north", "numbers")
    tiny.model(
        *(mesh, "north", "numbers"),
        f"select {tiny.NUMBERS} from {{{{ source('landing', 'numbers') }}}}",
    )
    for domain, name, reads in (
        ("south", "sums", READS),
        ("south", "held", READS),
        ("south", "kept", READS),
        ("east", "copies", "{{ ref('south', 'sums') }}"),
    ):
        if not (mesh.root / "models" / domain).exists():
            tiny.project(mesh, domain)
        tiny.contract(mesh, domain, name)
        tiny.model(mesh, domain, name, f"select id, day, amount from {reads}")
    (mesh.root / "models" / "south" / "base" / "inputs.yml").write_text(
        """\
models:
  - name: held
    config: {meta: {levada: {inputs: {north.numbers: {on_restatement: hold}}}}}
  - name: kept
    config: {meta: {levada: {inputs: {north.numbers: {on_restatement: {ignore: as invoiced}}}}}}
"""
    )
    copies = mesh.root / "contracts" / "east" / "copies.v1.odcs.yaml"
    grain = "- {property: grain, value: day}"
    tier = "- {property: tier, value: 1}"
    copies.write_text(copies.read_text().replace(grain, f"{tier}\n      {grain}"))
    for n, day in enumerate(DAYS):
        tiny.landed(mesh, "north", day, list(range(n + 1)))
    mesh.start()
    mesh.levada("run")
    yield mesh
    mesh.stop()


def allowed(mesh: Workspace, limits: str = "") -> None:
    """Let governance allow backfills no more than this; nothing: anything."""
    policies = mesh.root / "contracts" / "governance" / "policies.yaml"
    policies.parent.mkdir(exist_ok=True)
    policies.write_text(f"backfills: {{{limits}}}\n")
    mesh.levada("compile")


ASKED = ("backfill", "plan", "north.numbers", "--from", DAYS[1], "--to", DAYS[2])


def by_product(found: Sequence[Any]) -> dict[str, tuple[int, list[str]]]:
    """How many intervals of each product, and why."""
    return {
        group["product"]: (
            sum(stretch["count"] for stretch in group["stretches"]),
            sorted({why for stretch in group["stretches"] for why in stretch["because"]}),
        )
        for group in found
    }


HELD = {
    "south.held": (2, ["holds changes of north.numbers@1"]),
    "south.kept": (2, ["ignores changes of north.numbers@1: as invoiced"]),
}


@pytest.mark.prove
def test_a_plan_as_json_names_steps_and_ends_time_and_rows_owners_and_needs(
    mesh: Workspace,
) -> None:
    count = mesh.rows("select count(*) from ledger.entries")
    allowed(mesh, "intervals: 5, other_domains_tier: 1")
    found = mesh.json(*ASKED, "--reason", "late corrections")
    assert by_product(found["steps"]) == {
        "north.numbers": (2, ["asked for"]),
        "south.sums": (2, ["reads north.numbers@1"]),
        "east.copies": (2, ["reads south.sums@1"]),
    }
    assert by_product(found["left_out"]) == HELD
    told = found["told"]
    each = reckoned(mesh.rows(LOG))
    made = ("north.numbers", "south.sums", "east.copies")
    assert told["intervals"] == told["runs"] == 6
    assert told["rows"] == 2 * 3 * 2, "a day has two rows on the average"
    assert told["rows"] == pytest.approx(sum(2 * each[name][1] for name in made))
    assert told["seconds"] == pytest.approx(sum(2 * each[name][0] for name in made), abs=0.05)
    assert told["seconds"] > 0
    assert told["without_a_past"] == []
    assert {table: who.split()[0] for table, who in told["owners"].items()} == {
        "north.numbers@1": "north-data",
        "south.sums@1": "south-data",
        "east.copies@1": "east-data",
    }
    assert [(need["who"], need["because"]) for need in told["needs"]] == [
        ("governance", "6 intervals are made again: more than 5"),
        ("east", "east.copies@1 is of tier 1, and of another domain"),
    ]
    allowed(mesh)
    assert mesh.json(*ASKED)["told"]["needs"] == []
    assert mesh.rows("select count(*) from ledger.entries") == count, "nothing was changed"


@pytest.mark.prove
def test_what_is_narrowed_is_named_with_why(mesh: Workspace) -> None:
    found = mesh.json(*ASKED, "--exclude", "south.sums")
    assert set(by_product(found["steps"])) == {"north.numbers"}, "nor what only it would reach"
    assert by_product(found["left_out"]) == {**HELD, "south.sums": (2, ["is excluded"])}
    found = mesh.json(*ASKED, "--only-domain", "north", "--only-domain", "south")
    assert set(by_product(found["steps"])) == {"north.numbers", "south.sums"}
    out = {"east.copies": (2, ["is not of north, south"])}
    assert by_product(found["left_out"]) == {**HELD, **out}
    refused = mesh.levada(*ASKED, "--exclude", "south.sum", "--only-domain", "nowhere", code=2)
    assert "south.sum" in refused.stderr


@pytest.mark.prove
def test_a_plan_as_text_has_a_picture_and_all_that_decides(mesh: Workspace) -> None:
    allowed(mesh, "intervals: 4")
    said = mesh.levada(*ASKED, "--exclude", "east.copies").stdout
    allowed(mesh, "intervals: 1")
    needs = mesh.levada(*ASKED, "--exclude", "east.copies").stdout
    shown = {line.split()[0]: line for line in said.splitlines() if "█" in line or "░" in line}
    assert set(shown) == {
        *("north.numbers", "south.sums", "south.held", "south.kept", "east.copies")
    }
    assert "░" not in shown["north.numbers"]
    assert "█" not in shown["south.held"]
    assert shown["east.copies"].rstrip().endswith("0 (+2 left out)")
    plain = " ".join(said.split())
    for words in (
        "north.numbers 2013-03-09 .. 2013-03-10 (2): asked for",
        "south.sums 2013-03-09 .. 2013-03-10 (2): reads north.numbers@1",
        "left out south.held 2013-03-09 .. 2013-03-10 (2): holds changes of north.numbers@1",
        "(2): ignores changes of north.numbers@1: as invoiced",
        "left out east.copies 2013-03-09 .. 2013-03-10 (2): is excluded",
        "owner north-data",
        "4 intervals of 2 products in 4 runs, about 0:00:",
        "and 8 rows by what the last runs took; nothing was changed",
    ):
        assert words in plain
    assert "needs approval" not in plain
    assert "needs approval by governance: 4 intervals are made again: more than 1" in needs
