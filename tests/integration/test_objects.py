"""Landing zones in an object store: real requests, and all that goes wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import duckdb
import pytest
import store as stores
from store import SECRET, Store
from tests.conftest import Ledgers
from tests.unit.strategies import NEW_YORK, edge, single

from levada.adapters.dbt.worker import scrubbed
from levada.adapters.probes import Answers, Probes, objects, record
from levada.adapters.warehouses._landing import load_sources
from levada.adapters.warehouses._stage import Loader
from levada.errors import LandingMoved, ToolError, Unavailable
from levada.intervals import parse
from levada.ports import StagedSource
from levada.readiness import judge_inputs, judge_table
from levada.terms import FileProbe, Grain, Identity, Mesh, Partition, Source, Span, State, TableRef

pytestmark = pytest.mark.integration

ZONE = "s3://bucket/north"
NUMBERS = TableRef("north", "landing.numbers", 0)
DAYS = ("2013-03-08", "2013-03-09", "2013-03-10")
SPAN = Span.days(DAYS[0], DAYS[-1], "UTC")
NOW = datetime(2013, 4, 1, tzinfo=UTC)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store of which the environment knows."""
    with stores.serve() as serving:
        for name, value in serving.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(objects, "PATIENCE", timedelta(milliseconds=200))
        yield serving


def numbers(*, marker: str = "", name: str = "{start:%F}.csv", zone: str = ZONE) -> Source:
    probe = FileProbe(f"{zone}/{marker}" if marker else "", zone)
    return Source(NUMBERS, Grain.DAY, "UTC", f"{zone}/{name}", ("id",), "s", probe=probe)


def day(key: str) -> Partition:
    return parse(Grain.DAY, key, "UTC")


def put(store: Store, key: str, content: str = "id\n1\n") -> str:
    """Land an object of the zone; its fingerprint."""
    store.objects[f"/bucket/north/{key}"] = content.encode()
    return hashlib.sha256(content.encode()).hexdigest()


def landed(answers: Answers) -> dict[str, str]:
    assert set(answers.said.values()) <= {""}, answers.said
    return {landing.partition.key: landing.content for landing in answers.landed}


def asked(root: Path, source: Source, span: Span = SPAN) -> Answers:
    """What a process that asks for the first time is told."""
    return Probes(root).ask([source], span, NOW)


def said(root: Path, source: Source, span: Span = SPAN) -> str:
    answers = asked(root, source, span)
    assert answers.landed == ()
    return answers.said[NUMBERS]


# What has landed


def test_an_object_is_fetched_once_and_its_fingerprint_is_its_content(
    store: Store, tmp_path: Path
) -> None:
    first = put(store, f"{DAYS[0]}.csv")

    (landing,) = asked(tmp_path, numbers()).landed

    assert (landing.content, landing.size) == (first, 5)
    assert landing.path == f"{ZONE}/{DAYS[0]}.csv"
    heads = [f"/bucket/north/{key}.csv" for key in DAYS]
    assert (store.asked("HEAD"), store.asked("GET")) == (heads, [heads[0]])
    assert asked(tmp_path, numbers()).landed == (landing,)
    assert (store.asked("HEAD"), store.asked("GET")) == (heads, [])


def test_an_object_that_is_replaced_is_fetched_again(store: Store, tmp_path: Path) -> None:
    before = put(store, f"{DAYS[0]}.csv")
    kept = put(store, f"{DAYS[1]}.csv")
    assert landed(asked(tmp_path, numbers())) == {DAYS[0]: before, DAYS[1]: kept}
    after = put(store, f"{DAYS[0]}.csv", "id\n2\n")
    store.asked("GET")

    assert landed(asked(tmp_path, numbers())) == {DAYS[0]: after, DAYS[1]: kept}
    assert store.asked("GET") == [f"/bucket/north/{DAYS[0]}.csv"]


def test_without_tags_the_time_and_the_size_say_that_it_may_have_changed(
    store: Store, tmp_path: Path
) -> None:
    store.tagged = False
    content = put(store, f"{DAYS[0]}.csv")
    assert landed(asked(tmp_path, numbers())) == {DAYS[0]: content}
    store.modified += 1
    store.asked("GET")

    assert landed(asked(tmp_path, numbers())) == {DAYS[0]: content}, "but it has not"
    assert len(store.asked("GET")) == 1


def test_with_a_marker_only_what_is_complete_has_landed(store: Store, tmp_path: Path) -> None:
    marked = numbers(marker="{start:%F}.done")
    put(store, f"{DAYS[0]}.csv")
    put(store, f"{DAYS[1]}.done", "")
    assert landed(asked(tmp_path, marked)) == {}

    put(store, f"{DAYS[0]}.done", "")
    first = landed(asked(tmp_path, marked))
    put(store, f"{DAYS[0]}.done", "another")
    assert landed(asked(tmp_path, marked)) == first
    assert list(first) == [DAYS[0]]


def test_a_zone_of_plain_http_is_read_as_well(store: Store, tmp_path: Path) -> None:
    store.objects[f"/public/{DAYS[0]}.csv"] = b"id\n"
    public = numbers(zone=f"{store.endpoint}/public")

    assert list(landed(asked(tmp_path, public))) == [DAYS[0]]


def test_a_store_is_asked_again_only_after_its_pause(store: Store, tmp_path: Path) -> None:
    probes = Probes(tmp_path, every=timedelta(hours=1))

    assert set(probes.ask([numbers()], SPAN, NOW).said) == {NUMBERS}
    assert probes.ask([numbers()], SPAN, NOW) == Answers((), {})


# UNKNOWN


def test_what_is_refused_hides_no_other_slice(store: Store, tmp_path: Path) -> None:
    for key in DAYS:
        put(store, f"{key}.csv")
    store.forbidden = {f"/bucket/north/{key}.csv" for key in DAYS[:2]}

    answers = asked(tmp_path, numbers())

    assert [each.partition.key for each in answers.landed] == [DAYS[2]]
    refused = f"{ZONE}/{DAYS[0]}.csv: the store refuses it: 403 Forbidden; and 1 more"
    assert answers.said[NUMBERS] == refused


def test_whoever_has_no_right_is_told_so_without_the_secret(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stranger")

    refused = said(tmp_path, numbers())

    assert refused == f"{ZONE}/{DAYS[0]}.csv: the store refuses it: 403 Forbidden; and 2 more"
    assert SECRET not in refused


@pytest.mark.parametrize("fails", ["503", "silent", "away"])
def test_a_store_that_does_not_answer_is_unknown_and_is_not_asked_on(
    store: Store, tmp_path: Path, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, f"{DAYS[0]}.csv")
    if fails == "503":
        store.broken, why = HTTPStatus.SERVICE_UNAVAILABLE, "503 Service Unavailable"
    elif fails == "silent":
        store.awake.clear()
        why = "no answer in time"
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        why = "no connection"

    year = Span.days("2013-01-01", "2013-12-31", "UTC")
    neighbour = Source(
        *(TableRef("north", "landing.others", 0), Grain.DAY, "UTC", f"{ZONE}/o.csv", ("id",), "s"),
        probe=FileProbe("", ZONE),
    )
    answers = Probes(tmp_path).ask([numbers(), neighbour], year, NOW)

    assert answers.landed == ()
    assert dict(answers.said) == dict.fromkeys((NUMBERS, neighbour.table), f"{ZONE}: {why}")
    # Those that were under way, each with its repetitions; not the other 357 days.
    assert len(store.requests) <= 8 * 3


def test_a_bucket_that_is_not_there_is_not_an_empty_one(store: Store, tmp_path: Path) -> None:
    assert said(tmp_path, numbers()) == ""
    store.buckets.clear()
    assert said(tmp_path, numbers()) == f"{ZONE}: there is no such bucket"


def test_an_object_that_breaks_off_is_no_landing_and_leaves_nothing(
    store: Store, tmp_path: Path
) -> None:
    put(store, f"{DAYS[0]}.csv", "id\n" + "1\n" * 1000)
    whole = put(store, f"{DAYS[1]}.csv")
    store.cut = {f"/bucket/north/{DAYS[0]}.csv"}

    answers = asked(tmp_path, numbers())

    assert [each.content for each in answers.landed] == [whole]
    assert answers.said[NUMBERS].startswith(f"{ZONE}/{DAYS[0]}.csv: broke off")
    copies = tmp_path / ".levada/objects"
    assert {each.name for each in copies.iterdir()} == {"seen", whole}


def test_a_name_that_leads_out_of_the_zone_is_never_asked_for(store: Store, tmp_path: Path) -> None:
    store.objects["/bucket/secret.csv"] = b"id\n"

    wrong = said(tmp_path, numbers(name="{start:..}/secret.csv"))

    assert wrong == f"{ZONE}/../secret.csv: is no name of an object; and 2 more"
    assert store.requests == []


def test_what_no_disk_can_hold_is_said(store: Store, tmp_path: Path) -> None:
    put(store, f"{DAYS[0]}.csv")
    (tmp_path / ".levada").mkdir()
    (tmp_path / ".levada/objects").touch()

    assert "Not a directory" in said(tmp_path, numbers())


def test_the_ledger_keeps_what_had_landed_while_the_store_is_away(
    store: Store, tmp_path: Path, ledgers: Ledgers
) -> None:
    source, probes = numbers(), Probes(tmp_path)
    mesh = Mesh("m", SPAN, "UTC", SPAN.start, (), (source,))

    def judged(key: str) -> tuple[State, str]:
        record(ledgers.runner, probes.ask([source], SPAN, NOW))
        facts = ledgers.runner.facts([NUMBERS], [])
        found = judge_table(mesh, NUMBERS, day(key), facts, NOW)
        return found.state, found.because

    put(store, f"{DAYS[0]}.csv")
    assert judged(DAYS[0])[0] is State.READY
    assert judged(DAYS[1]) == (State.WAITING, "nothing landed")
    store.broken = HTTPStatus.SERVICE_UNAVAILABLE
    state, because = judged(DAYS[1])
    assert state is State.WAITING
    assert because.startswith("could not be asked since ")
    assert because.endswith(f"{ZONE}: 503 Service Unavailable")
    assert judged(DAYS[0])[0] is State.READY
    store.broken = None
    del store.objects[f"/bucket/north/{DAYS[0]}.csv"]
    assert judged(DAYS[1]) == (State.WAITING, "nothing landed")
    assert judged(DAYS[0])[0] is State.READY, "what had landed stays"


def test_however_many_wait_each_interval_is_asked_for_once_a_round(
    store: Store, tmp_path: Path, ledgers: Ledgers
) -> None:
    source, probes = replace(numbers(), zone=NEW_YORK), Probes(tmp_path)
    span, first = Span.days(DAYS[0], DAYS[-1], NEW_YORK), parse(Grain.DAY, DAYS[0], NEW_YORK)
    names = [f"south.t{number}" for number in range(200)]
    waiters = [
        single(name, Grain.DAY, edge("north.landing.numbers", name, Identity())) for name in names
    ]
    mesh = Mesh("m", span, NEW_YORK, span.start, tuple(waiters), (source,))
    heads = [f"/bucket/north/{key}.csv" for key in DAYS]

    def may_build() -> set[State]:
        record(ledgers.runner, probes.ask(mesh.sources, span, NOW))
        facts = ledgers.runner.facts([NUMBERS], [])
        return {judge_inputs(mesh, each, first, facts, NOW).state for each in waiters}

    assert (may_build(), store.asked("HEAD")) == ({State.WAITING}, heads)
    put(store, f"{DAYS[0]}.csv")
    store.asked("GET")
    assert (may_build(), store.asked("HEAD")) == ({State.READY}, heads)
    assert store.asked("GET") == heads[:1]


# What is staged


def staged(root: Path, source: Source, pins: dict[Partition, str]) -> list[tuple[object, ...]]:
    """The rows that a warehouse stages of these pins."""
    files = Probes(root).files(source, pins)
    room = root / "room"
    room.mkdir(exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute("create schema up")
        sources = [StagedSource(source.table, ("id",), files)]
        load_sources(Loader(connection, "memory"), sources, room)
        return connection.execute(
            "select id, _file from up.north__landing__numbers order by all"
        ).fetchall()


def test_what_is_staged_are_the_copies_under_the_objects_names(
    store: Store, tmp_path: Path
) -> None:
    pins = {day(key): put(store, f"{key}.csv", f"id\n{key}\n") for key in DAYS}
    asked(tmp_path, numbers())
    store.broken = HTTPStatus.SERVICE_UNAVAILABLE

    assert staged(tmp_path, numbers(), pins) == [(key, f"{ZONE}/{key}.csv") for key in DAYS]


@pytest.mark.parametrize("lost", ["cleared", "spoilt", "elsewhere"])
def test_a_copy_that_is_not_here_is_fetched_again(store: Store, tmp_path: Path, lost: str) -> None:
    pins = {day(DAYS[0]): put(store, f"{DAYS[0]}.csv")}
    asked(tmp_path, numbers())
    copy = tmp_path / ".levada/objects" / pins[day(DAYS[0])]
    here = tmp_path
    if lost == "cleared":
        copy.unlink()
    elif lost == "spoilt":
        copy.write_text("id\n7\n")
    else:
        here = tmp_path / "another"
        here.mkdir()

    assert staged(here, numbers(), pins) == [("1", f"{ZONE}/{DAYS[0]}.csv")]


def test_and_if_it_is_another_by_now_the_attempt_ends(store: Store, tmp_path: Path) -> None:
    pins = {day(DAYS[0]): hashlib.sha256(b"before").hexdigest()}
    put(store, f"{DAYS[0]}.csv")
    with pytest.raises(LandingMoved, match=rf"{ZONE}/{DAYS[0]}.csv changed since it was pinned"):
        staged(tmp_path, numbers(), pins)
    store.forbidden = set(store.objects)
    with pytest.raises(ToolError, match=r"the landing zone: \S+csv: the store refuses it: 403"):
        staged(tmp_path, numbers(), pins)
    store.objects.clear()
    store.forbidden.clear()
    with pytest.raises(LandingMoved, match=rf"{ZONE}/{DAYS[0]}.csv is gone since it was pinned"):
        staged(tmp_path, numbers(), pins)
    store.broken = HTTPStatus.SERVICE_UNAVAILABLE
    with pytest.raises(Unavailable, match=rf"does not answer at {ZONE}: 503 Service"):
        staged(tmp_path, numbers(), pins)


def test_a_copy_that_changes_on_its_way_into_the_stage_ends_the_attempt(
    store: Store, tmp_path: Path
) -> None:
    pins = {day(DAYS[0]): put(store, f"{DAYS[0]}.csv")}
    (file,) = Probes(tmp_path).files(numbers(), pins)
    file.path.write_text("id\n7\n")
    room = tmp_path / "room"
    room.mkdir()
    sources = [StagedSource(NUMBERS, ("id",), (file,))]
    with duckdb.connect() as connection:
        connection.execute("create schema up")
        with pytest.raises(LandingMoved, match=rf"{ZONE}/{DAYS[0]}.csv changed"):
            load_sources(Loader(connection, "memory"), sources, room)


def test_no_dbt_child_knows_how_the_store_is_reached(store: Store) -> None:
    assert scrubbed(store.environment) == {}
