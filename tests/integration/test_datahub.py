"""DataHub, told of publications: its own file check, its own protocol, and every way to die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from source_system import land_span
from workspace import Workspace

from levada.adapters import cursor, datahub, odcs
from levada.adapters.datahub import FileCatalog, RestCatalog, dataset_urn
from levada.catalog import Mark, catalogue
from levada.errors import TerminalError, ToolError, Unavailable
from levada.ledger import PostgresLedger
from levada.terms import (
    Column,
    Contract,
    Grain,
    Input,
    Layer,
    Mart,
    Mesh,
    Partition,
    Product,
    Publication,
    Source,
    Span,
    TableRef,
    Verdict,
)

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]
FLIGHTS = TableRef("operations", "flights")
FILES = TableRef("operations", "landing.flights", 0)
URN = dataset_urn("flights", FLIGHTS)
Entry = dict[str, Any]


# --- a mesh of one table, by its real contract ----------------------------------------------------


def flights_contract() -> Contract:
    path = REPOSITORY / "contracts" / "operations" / "flights.v1.odcs.yaml"
    contract, faults = odcs.read_contract(path, REPOSITORY)
    assert contract is not None, faults
    return contract


CONTRACT = flights_contract()
SPAN = Span.days("2013-03-08", "2013-03-10", "America/New_York")
MESH = Mesh(
    "flights",
    SPAN,
    "America/New_York",
    SPAN.start,
    (
        Product(
            "operations",
            "flights",
            (Mart(FLIGHTS, Layer.BASE, "model.flights", CONTRACT, (), "flights.sql", "c"),),
            Grain.DAY,
            "America/New_York",
        ),
    ),
    (Source(FILES, Grain.DAY, "UTC", "flights.csv", ("year", "month"), "s", owner=CONTRACT.owner),),
)


def day(number: int) -> Partition:
    start = SPAN.start.replace(day=number)
    return Partition(Grain.DAY, start, "America/New_York")


def line(number: int, **changes: Any) -> Publication:
    made = Publication(
        table=FLIGHTS,
        partition=day(number),
        generation=1,
        contract=CONTRACT.label,
        verdict=Verdict.PASS,
        data_version="12",
        content="842:ab",
        made_by="f" * 12,
        inputs=(Input(FILES, day(number), 1, "c", "v"),),
        taint=(),
        run=f"run-{number}",
        at=SPAN.end,
        position=number,
    )
    return replace(made, **changes)


class Ledger:
    def __init__(self, *lines: Publication) -> None:
        self.lines = list(lines)

    def published(self, after: int, limit: int) -> tuple[Publication, ...]:
        return tuple(x for x in self.lines if x.position > after)[:limit]


def tell(catalog: FileCatalog | RestCatalog, ledger: Ledger, limit: int = 1000) -> int:
    with catalog.opened():
        told = 0
        while lines := catalogue(ledger, catalog, MESH, lambda _: CONTRACT, limit):
            told += len(lines)
        return told


def aspects(entries: Sequence[Entry], urn: str, name: str) -> list[Any]:
    return [
        e["aspect"]["json"] for e in entries if e["entityUrn"] == urn and e["aspectName"] == name
    ]


def written(path: Path) -> list[Entry]:
    entries: list[Entry] = json.loads(path.read_text())
    return entries


def datahub_check(path: Path) -> str:
    """What DataHub's own command says of the file."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("datahub")), "check", "metadata-file", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DATAHUB_TELEMETRY_ENABLED": "false"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# --- the file -------------------------------------------------------------------------------------


def test_datahub_finds_every_entry_of_the_file_valid(tmp_path: Path) -> None:
    sink = tmp_path / "out" / "datahub.json"
    other = replace(line(9), verdict=Verdict.WARN, taint=("waived rows_present",), position=9)
    tell(FileCatalog(sink), Ledger(line(8), other))
    tell(FileCatalog(sink), Ledger(line(8), other, line(10)))

    assert f"{len(written(sink))} MCEs found - all valid" in datahub_check(sink)


def test_the_file_says_schema_owner_lineage_domain_and_where_the_data_stands(
    tmp_path: Path,
) -> None:
    sink = tmp_path / "datahub.json"
    tell(FileCatalog(sink), Ledger(line(8), line(9, data_version="13")))
    entries = written(sink)

    (schema,) = aspects(entries, URN, "schemaMetadata")
    assert [f["fieldPath"] for f in schema["fields"]] == [c.name for c in CONTRACT.columns]
    assert schema["primaryKeys"] == list(CONTRACT.key)
    assert schema["hash"] == CONTRACT.hash
    scheduled = next(f for f in schema["fields"] if f["fieldPath"] == "scheduled_at")
    assert list(scheduled["type"]["type"]) == ["com.linkedin.schema.TimeType"]
    (ownership,) = aspects(entries, URN, "ownership")
    assert [o["owner"] for o in ownership["owners"]] == ["urn:li:corpGroup:operations-data"]
    (lineage,) = aspects(entries, URN, "upstreamLineage")
    assert lineage["upstreams"] == [], "this mart declares no edge"
    (domains,) = aspects(entries, URN, "domains")
    assert domains["domains"] == ["urn:li:domain:flights.operations"]
    assert aspects(entries, "urn:li:domain:flights.operations", "domainProperties")
    (properties,) = aspects(entries, URN, "datasetProperties")
    assert properties["qualifiedName"] == "operations.flights@1"
    said = properties["customProperties"]
    assert said["contract"] == CONTRACT.label
    assert (said["partition"], said["generation"]) == ("2013-03-09", "1")
    assert (said["verdict"], said["data_version"]) == ("PASS", "13")
    product = "urn:li:dataProduct:flights.operations.flights"
    (made,) = aspects(entries, product, "dataProductProperties")
    assert [a["destinationUrn"] for a in made["assets"]] == [URN]


def test_each_publication_is_an_operation_and_a_result_of_its_audit(tmp_path: Path) -> None:
    sink = tmp_path / "datahub.json"
    lines = (line(8), line(8, generation=2, position=9), line(10, verdict=Verdict.WARN))
    tell(FileCatalog(sink), Ledger(*lines))
    entries = written(sink)

    operations = aspects(entries, URN, "operation")
    assert [o["operationType"] for o in operations] == ["INSERT", "UPDATE", "INSERT"]
    assert [o["partitionSpec"]["partition"] for o in operations] == [
        "2013-03-08",
        "2013-03-08",
        "2013-03-10",
    ]
    assert {o["numAffectedRows"] for o in operations} == {842}
    (info,) = [e for e in entries if e["aspectName"] == "assertionInfo"]
    assert info["aspect"]["json"]["customAssertion"]["entity"] == URN
    results = aspects(entries, info["entityUrn"], "assertionRunEvent")
    assert [r["result"]["nativeResults"]["verdict"] for r in results] == ["PASS", "PASS", "WARN"]
    assert {r["result"]["type"] for r in results} == {"SUCCESS"}


def test_lineage_names_what_the_line_read_when_nobody_declares_the_table(tmp_path: Path) -> None:
    sink = tmp_path / "datahub.json"
    nobody = Mesh("flights", SPAN, "UTC", SPAN.start, ())
    catalogue(Ledger(line(8)), FileCatalog(sink), nobody, lambda _: CONTRACT)
    (lineage,) = aspects(written(sink), URN, "upstreamLineage")
    assert [u["dataset"] for u in lineage["upstreams"]] == [dataset_urn("flights", FILES)]


@pytest.mark.parametrize(
    ("native", "word"),
    [
        ("BIGINT", "NumberType"),
        ("UINTEGER", "NumberType"),
        ("DECIMAL(10,2)", "NumberType"),
        ("DOUBLE", "NumberType"),
        ("VARCHAR", "StringType"),
        ("DATE", "DateType"),
        ("TIMESTAMPTZ", "TimeType"),
        ("TIMESTAMP WITH TIME ZONE", "TimeType"),
        ("INTERVAL", "TimeType"),
        ("BOOLEAN", "BooleanType"),
        ("BLOB", "BytesType"),
        ("VARCHAR[]", "ArrayType"),
        ("STRUCT(a INTEGER)", "RecordType"),
        ("MAP(VARCHAR, INTEGER)", "MapType"),
        ("ENUM('a')", "EnumType"),
        ("GEOMETRY", "NullType"),
    ],
)
def test_each_type_of_the_contract_has_its_word_in_datahub(native: str, word: str) -> None:
    from levada.catalog import TableFact

    fact = TableFact(
        mesh="m",
        table=FLIGHTS,
        owner=CONTRACT.owner,
        description="",
        columns=(Column("a", native, classification="pii"),),
        upstreams=(),
        properties=(),
        at=SPAN.start,
        status="deprecated",
    )
    entries = [p.to_obj(simplified_structure=True) for p in datahub.proposals([fact])]
    (schema,) = aspects(entries, dataset_urn("m", FLIGHTS), "schemaMetadata")
    (field,) = schema["fields"]
    assert list(field["type"]["type"]) == [f"com.linkedin.schema.{word}"]
    assert field["nativeDataType"] == native
    assert field["globalTags"]["tags"] == [{"tag": "urn:li:tag:pii"}]
    assert aspects(entries, dataset_urn("m", FLIGHTS), "deprecation")


# --- dying, and going on --------------------------------------------------------------------------


def test_killed_between_file_and_cursor_the_lines_stand_there_twice_and_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, ledger = tmp_path / "datahub.json", Ledger(line(8), line(9))

    def killed(self: object, mark: Mark) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(cursor.CursorFile, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            tell(FileCatalog(sink), ledger)
    first = written(sink)

    assert tell(FileCatalog(sink), ledger) == 2
    assert written(sink) == first * 2, "the same facts under the same names"
    assert tell(FileCatalog(sink), ledger) == 0
    datahub_check(sink)


def test_killed_while_it_writes_the_file_is_the_old_one_and_whole(tmp_path: Path) -> None:
    sink = tmp_path / "datahub.json"
    tell(FileCatalog(sink), Ledger(line(8)))
    before = sink.read_bytes()
    program = f"""
import os, signal, sys
sys.path[:0] = {[str(REPOSITORY), str(REPOSITORY / "tests/support"), str(REPOSITORY / "demo")]!r}
from pathlib import Path
from levada.adapters import cursor
from tests.integration import test_datahub as t
cursor.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
t.tell(t.FileCatalog(Path({str(sink)!r})), t.Ledger(t.line(8), t.line(9)))
"""
    died = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr

    assert sink.read_bytes() == before
    assert tell(FileCatalog(sink), Ledger(line(8), line(9))) == 1
    assert len(aspects(written(sink), URN, "operation")) == 2


def test_a_file_that_was_taken_away_is_written_anew_from_the_first_line(tmp_path: Path) -> None:
    sink, ledger = tmp_path / "datahub.json", Ledger(line(8), line(9))
    tell(FileCatalog(sink), ledger)
    whole = sink.read_bytes()
    sink.unlink()
    assert tell(FileCatalog(sink), ledger) == 2
    assert sink.read_bytes() == whole


def test_small_batches_write_the_events_of_one_large_one(tmp_path: Path) -> None:
    ledger = Ledger(*(line(n) for n in (8, 9, 10)))
    small, large = tmp_path / "small.json", tmp_path / "large.json"
    tell(FileCatalog(small), ledger, limit=1)
    tell(FileCatalog(large), ledger)
    for name in ("operation",):
        assert aspects(written(small), URN, name) == aspects(written(large), URN, name)
    newest = aspects(written(small), URN, "datasetProperties")[-1]
    assert [newest] == aspects(written(large), URN, "datasetProperties")


@pytest.mark.parametrize("content", ["# a readme\n", "[]", "", '{"a": 1}\n]\n'])
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, content: str) -> None:
    sink = tmp_path / "notes.md"
    sink.write_text(content)
    with pytest.raises(TerminalError, match=r"notes\.md is no file of `levada catalog`"):
        tell(FileCatalog(sink), Ledger(line(8)))
    assert sink.read_text() == content


def test_a_second_writer_of_one_file_is_turned_away(tmp_path: Path) -> None:
    sink = tmp_path / "datahub.json"
    with (
        FileCatalog(sink).opened(),
        pytest.raises(TerminalError, match="another `levada catalog` holds"),
    ):
        tell(FileCatalog(sink), Ledger(line(8)))
    assert tell(FileCatalog(sink), Ledger(line(8))) == 1


def test_a_disk_that_refuses_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with pytest.raises(ToolError, match=r"the catalogue's file: .*/plain/x\.json\.cursor: "):
        tell(FileCatalog(tmp_path / "plain" / "x.json"), Ledger(line(8)))


def test_an_unreadable_cursor_repeats_rather_than_loses(tmp_path: Path) -> None:
    sink, ledger = tmp_path / "datahub.json", Ledger(line(8))
    tell(FileCatalog(sink), ledger)
    (tmp_path / "datahub.json.cursor").write_text("{")
    assert tell(FileCatalog(sink), ledger) == 1


# --- a server -------------------------------------------------------------------------------------


class Server:
    """DataHub's metadata service, as far as an emitter speaks to it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.paths: list[str] = []
        self.tokens: set[str | None] = set()
        self.answer: Callable[[str], int] = lambda _: 200
        server = self

        class Handler(BaseHTTPRequestHandler):
            def reply(self, value: object) -> None:
                status = server.answer(self.path)
                body = json.dumps(value if status == 200 else {"message": "no"}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                server.paths.append(self.path)
                server.tokens.add(self.headers.get("Authorization"))
                version = {"acryldata/datahub": {"version": "v1.7.0", "commit": "x"}}
                self.reply({"noCode": "true", "versions": version, "patchCapable": True})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.paths.append(self.path)
                if server.answer(self.path) == 200:
                    assert body["async"] == "false", "stored before the cursor moves"
                    server.entries += body.get("proposals") or [body["proposal"]]
                self.reply({"value": "ok"})

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def told(self, aspect: str) -> list[Any]:
        return [json.loads(e["aspect"]["value"]) for e in self.entries if e["aspectName"] == aspect]


@pytest.fixture
def gms() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@contextmanager
def raises_in_one_line(kind: type[Exception], match: str) -> Iterator[None]:
    with pytest.raises(kind, match=match) as caught:
        yield
    assert "\n" not in str(caught.value)


def test_a_server_is_told_by_its_own_protocol_and_only_what_is_new(
    gms: Server, tmp_path: Path
) -> None:
    ledger = Ledger(line(8))
    assert tell(RestCatalog(gms.url, tmp_path), ledger) == 1
    ledger.lines.append(line(9))
    assert tell(RestCatalog(gms.url + "/", tmp_path), ledger) == 1
    assert tell(RestCatalog(gms.url, tmp_path), ledger) == 0

    assert gms.paths[0] == "/config"
    assert all(p.startswith(("/config", "/aspects?action=ingestProposal")) for p in gms.paths)
    partitions = [o["partitionSpec"]["partition"] for o in gms.told("operation")]
    assert partitions == ["2013-03-08", "2013-03-09"]
    owners = {o["owner"] for told in gms.told("ownership") for o in told["owners"]}
    assert owners == {"urn:li:corpGroup:operations-data"}


def test_server_and_file_are_told_the_same(gms: Server, tmp_path: Path) -> None:
    tell(RestCatalog(gms.url, tmp_path), Ledger(line(8)))
    tell(FileCatalog(tmp_path / "datahub.json"), Ledger(line(8)))
    assert [
        (e["entityUrn"], e["aspectName"], json.loads(e["aspect"]["value"])) for e in gms.entries
    ] == [
        (e["entityUrn"], e["aspectName"], e["aspect"]["json"])
        for e in written(tmp_path / "datahub.json")
    ]


def test_a_dead_server_is_one_sentence_and_the_cursor_stays(tmp_path: Path) -> None:
    dead = Server()
    dead.close()
    with raises_in_one_line(
        Unavailable, f"^DataHub does not answer at {dead.url}: connection refused$"
    ):
        tell(RestCatalog(dead.url, tmp_path), Ledger(line(8)))
    assert RestCatalog(dead.url, tmp_path).mark() is None


def test_a_server_that_fails_half_way_is_told_all_of_it_again(
    gms: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datahub.emitter.rest_emitter.BATCH_INGEST_MAX_PAYLOAD_LENGTH", 5)
    gms.answer = lambda path: 503 if "ingest" in path and len(gms.entries) >= 10 else 200
    with raises_in_one_line(Unavailable, "it answers 503"):
        tell(RestCatalog(gms.url, tmp_path), Ledger(line(8), line(9)))
    assert len(gms.entries) > 0
    assert not gms.told("operation")

    gms.answer = lambda _: 200
    assert tell(RestCatalog(gms.url, tmp_path), Ledger(line(8), line(9))) == 2
    assert len(gms.told("operation")) == 2


def test_a_server_that_wants_a_token_gets_it_or_says_so(
    gms: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATAHUB_GMS_TOKEN", raising=False)
    gms.answer = lambda _: 401
    with raises_in_one_line(TerminalError, "set DATAHUB_GMS_TOKEN"):
        tell(RestCatalog(gms.url, tmp_path), Ledger(line(8)))
    gms.answer = lambda _: 200
    monkeypatch.setenv("DATAHUB_GMS_TOKEN", "word")
    assert tell(RestCatalog(gms.url, tmp_path), Ledger(line(8))) == 1
    assert "Bearer word" in gms.tokens


@pytest.mark.parametrize(
    ("status", "kind", "match"),
    [(404, TerminalError, "is no DataHub GMS"), (502, Unavailable, "it answers 502")],
)
def test_something_else_that_answers_is_told_apart(
    gms: Server, tmp_path: Path, status: int, kind: type[Exception], match: str
) -> None:
    gms.answer = lambda _: status
    with raises_in_one_line(kind, match):
        tell(RestCatalog(gms.url, tmp_path), Ledger(line(8)))


def test_a_refused_fact_is_named_and_the_cursor_stays(gms: Server, tmp_path: Path) -> None:
    gms.answer = lambda path: 422 if "ingest" in path else 200
    with raises_in_one_line(ToolError, "refused: Unable to emit metadata"):
        tell(RestCatalog(gms.url, tmp_path), Ledger(line(8)))
    assert RestCatalog(gms.url, tmp_path).mark() is None


def test_what_is_no_address_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(TerminalError, match="write it like http://datahub:8080"):
        RestCatalog("datahub:8080", tmp_path)


# --- the ledger -----------------------------------------------------------------------------------


def test_the_ledger_gives_publications_in_order_to_any_reader(ledgers: Any) -> None:
    weather = TableRef("weather", "observations")
    first = ledgers.publish(
        "operations.flights", [ledgers.line(FLIGHTS, day(8)), ledgers.line(FLIGHTS, day(9))]
    )
    second = ledgers.publish(
        "weather.observations", [ledgers.line(weather, day(8))], run="run-2", data_version="8"
    )
    again = ledgers.publish(
        "operations.flights", [ledgers.line(FLIGHTS, day(8), made_by="f2")], run="run-3"
    )
    lines = (*first, *second, *again)

    assert ledgers.runner.published(0, 100) == lines
    assert ledgers.runner.published(0, 2) == lines[:2]
    assert ledgers.runner.published(lines[1].position, 100) == lines[2:]
    assert ledgers.runner.published(lines[-1].position, 100) == ()
    reader: PostgresLedger = ledgers.domain("company")
    assert reader.published(0, 100) == lines
    reader.close()
    assert [x.generation for x in lines] == [1, 1, 1, 2]


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One domain, two days of it published by the real command."""
    workspace = Workspace.make(
        tmp_path_factory.mktemp("mesh"),
        domains=("operations",),
        first="2013-03-08",
        last="2013-03-09",
    )
    land_span(date(2013, 3, 8), date(2013, 3, 9), workspace.landing)
    workspace.start()
    workspace.levada("run")
    yield workspace
    workspace.stop()


def test_the_command_tells_a_file_what_is_new_and_says_how_many(mesh: Workspace) -> None:
    said = mesh.json("catalog")
    sink = Path(said["to"])
    assert sink == mesh.root / ".levada" / "catalog" / "datahub.json"
    lines = mesh.publications()
    assert said["told"] == len(lines) > 0

    entries = written(sink)
    assert "all valid" in datahub_check(sink)
    assert len([e for e in entries if e["aspectName"] == "operation"]) == len(lines)
    (lineage,) = aspects(entries, URN, "upstreamLineage")
    assert [u["dataset"] for u in lineage["upstreams"]] == [dataset_urn("flights", FILES)]
    (delays,) = aspects(
        entries, dataset_urn("flights", TableRef("operations", "delays")), "upstreamLineage"
    )
    assert URN in [u["dataset"] for u in delays["upstreams"]]
    assert "nothing new" in mesh.levada("catalog").stdout


def test_the_command_and_a_dead_server_are_a_sentence_exit_2_and_no_harm(mesh: Workspace) -> None:
    dead = Server()
    dead.close()
    before = mesh.publications()
    done = mesh.levada("catalog", "--server", dead.url, code=2)
    assert done.stderr.strip() == (
        f"error: DataHub does not answer at {dead.url}: connection refused"
    )
    assert mesh.publications() == before
    mesh.levada("run")


def test_the_command_refuses_two_places_at_once(mesh: Workspace) -> None:
    done = mesh.levada("catalog", "--sink", "a.json", "--server", "http://x", code=2)
    assert "run one command for each" in done.stderr


def test_following_it_tells_a_server_that_comes_back(mesh: Workspace) -> None:
    server = Server()
    server.answer = lambda _: 503
    errors = mesh.root / "follow.err"
    with errors.open("w") as stderr:
        following = subprocess.Popen(
            [sys.executable, "-m", "levada.cli", "catalog", "--server", server.url, "--follow"],
            cwd=mesh.root,
            env=mesh.environment(),
            stderr=stderr,
            stdout=subprocess.PIPE,
            text=True,
        )
    try:
        assert _soon(lambda: "it answers 503; trying again" in errors.read_text())
        assert following.poll() is None
        server.answer = lambda _: 200
        assert _soon(lambda: len(server.told("operation")) == len(mesh.publications()))
        following.send_signal(signal.SIGINT)
        out, _ = following.communicate(timeout=60)
    finally:
        following.kill()
        server.close()
    assert following.returncode == 0
    assert f"{len(mesh.publications())} publications" in out
    assert errors.read_text().count("\n") == 1
    assert mesh.publications(), "the server that others use still runs"


def _soon(true: Callable[[], bool], seconds: float = 60) -> bool:
    until = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < until:
        time.sleep(0.1)
    return found
