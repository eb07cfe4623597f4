"""
What a domain's own code tries with all the credentials that it holds: PostgreSQL refuses it.

The reads of its profile are handed to dbt as they are; whoever wants to write must attach again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from source_system import break_row, land_span
from workspace import Workspace

pytestmark = pytest.mark.integration

DAY = "2013-03-08"
MODEL = "models/operations/ingest/flights.sql"
MACROS = "models/operations/macros/attack.sql"

# What the domain's code finds in its own profile.
FOUND = """
{%- set lake = (target.attach | selectattr('alias', 'equalto', 'operations') | first) -%}
{%- set catalogue = lake.path | replace('ducklake:postgres:', '') -%}
{%- set ledger = catalogue | replace('dbname=lake', 'dbname=levada') -%}
"""
ATTACH = """
attach '{{ lake.path }}' as mine (metadata_schema 'operations', override_data_path true,
    data_path '{{ lake.options.data_path }}', data_inlining_row_limit 0);
"""
CATALOGUE = "attach '{{ catalogue }}' as catalogue (type postgres);"
LEDGER = "attach '{{ ledger }}' as ledger (type postgres);"

ATTACKS = {
    "deletes from the published table": ATTACH + "delete from mine.main.flights_v1",
    "drops the published table": ATTACH + "drop table mine.main.flights_v1",
    "changes the catalogue by hand": CATALOGUE
    + "delete from catalogue.operations.ducklake_data_file",
    "changes the catalogue in PostgreSQL's own words": CATALOGUE
    + "call postgres_execute('catalogue', 'update operations.ducklake_snapshot"
    " set snapshot_id = 1')",
    "publishes by the ledger's function": LEDGER
    + "call postgres_execute('ledger', 'select ledger.publish(''run-0'', ''1'', null)')",
    "writes a line of the ledger": LEDGER
    + "call postgres_execute('ledger', 'insert into ledger.entry (kind, name, key, body)"
    " values (''publication'', ''operations.flights@1'', ''2013-03-08'', ''{}'')')",
    "takes back a publication": LEDGER
    + "call postgres_execute('ledger', 'delete from ledger.publication')",
}

AS_POST_HOOK = """{{ config(post_hook={"sql": "{{ attack() }}", "transaction": False}) }}\n"""
TRIED: list[str] = []
"""What was tried in this process, in order."""
AS_MODEL = "{% if execute %}{% do run_query(attack()) %}{% endif %}\n"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One domain, one published day."""
    workspace = Workspace.make(
        tmp_path_factory.mktemp("code"), domains=["operations"], first=DAY, last=DAY
    )
    land_span(date(2013, 3, 8), date(2013, 3, 8), workspace.landing)
    workspace.start()
    workspace.levada("run")
    yield workspace
    workspace.stop()


@pytest.fixture(scope="module")
def sound(mesh: Workspace) -> str:
    return (mesh.root / MODEL).read_text()


def published(mesh: Workspace) -> tuple[object, ...]:
    """All that the world sees: the lines, the rows, and what the lake's catalogue knows."""
    with mesh.lake() as lake:
        rows = lake.read("select count(*), sum(hash(t)) from operations.main.flights_v1 t")
        changes = lake.unaccounted("operations", ())
    return mesh.publications(), rows, changes


def tried(mesh: Workspace, attack: str, how: str, sound: str) -> dict[str, Any]:
    """Run the attack on a restatement of the day; what `levada run` says was withheld."""
    (mesh.root / MACROS).write_text(
        "{% macro attack() %}{% if execute %}"  # there is no profile yet when dbt parses
        + FOUND
        + ATTACKS[attack]
        + "{% endif %}{% endmacro %}"
    )
    (mesh.root / MODEL).write_text(how + sound)
    TRIED.append(attack)
    delay = 300 + list(ATTACKS).index(attack) + 100 * (how is AS_MODEL)
    break_row(mesh.landed("flights", DAY), "dep_delay", str(delay))

    said = mesh.json("run", "operations.flights", code=1)

    assert said["published"] == []
    (withheld,) = said["withheld"]
    return dict(withheld)


IN_THE_GATE = (
    "deletes from the published table",
    "writes a line of the ledger",
)


@pytest.mark.parametrize(
    "attack",
    [a if a in IN_THE_GATE else pytest.param(a, marks=pytest.mark.prove) for a in ATTACKS],
)
def test_a_post_hook_that_does_so_is_refused_by_postgresql(
    mesh: Workspace, sound: str, attack: str
) -> None:
    before = published(mesh)

    withheld = tried(mesh, attack, AS_POST_HOOK, sound)

    assert withheld["verdict"] == "UNKNOWN"
    assert "permission denied for" in withheld["because"]
    assert MODEL in withheld["because"], "dbt's sentence says where"
    recorded = mesh.rows("select verdict, because from ledger.attempts")
    assert recorded == [("UNKNOWN", withheld["because"])]
    assert published(mesh) == before


@pytest.mark.prove
def test_a_model_that_attaches_the_lake_for_writing_is_refused_by_postgresql(
    mesh: Workspace, sound: str
) -> None:
    before = published(mesh)

    withheld = tried(mesh, "deletes from the published table", AS_MODEL, sound)

    assert withheld["verdict"] == "UNKNOWN"
    assert "permission denied for" in withheld["because"]
    assert published(mesh) == before


def test_what_the_profile_attaches_is_read_only_to_begin_with(mesh: Workspace, sound: str) -> None:
    before = published(mesh)
    (mesh.root / MODEL).write_text(
        "{{ config(post_hook='delete from operations.main.flights_v1') }}\n" + sound
    )
    break_row(mesh.landed("flights", DAY), "dep_delay", "450")

    (withheld,) = mesh.json("run", "operations.flights", code=1)["withheld"]

    assert withheld["verdict"] == "UNKNOWN"
    assert "read-only" in withheld["because"]
    assert published(mesh) == before


def test_a_credential_in_dbts_sentence_is_not_recorded(mesh: Workspace, sound: str) -> None:
    elsewhere = FOUND + "attach '{{ catalogue }} port=1' as nowhere (type postgres);"
    (mesh.root / MACROS).write_text(
        "{% macro attack() %}{% if execute %}" + elsewhere + "{% endif %}{% endmacro %}"
    )
    (mesh.root / MODEL).write_text(AS_POST_HOOK + sound)
    break_row(mesh.landed("flights", DAY), "dep_delay", "470")

    (withheld,) = mesh.json("run", "operations.flights", code=1)["withheld"]

    assert "user=levada_domain_operations" in withheld["because"]
    assert mesh.credentials.password("levada_domain_operations") not in withheld["because"]


def test_the_mended_model_publishes_and_the_ledger_says_who_tried(
    mesh: Workspace, sound: str
) -> None:
    (mesh.root / MODEL).write_text(sound)
    (mesh.root / MACROS).unlink()
    break_row(mesh.landed("flights", DAY), "dep_delay", "460")

    mesh.levada("run")

    assert {row["state"] for row in mesh.json("status")} == {"READY"}
    told = mesh.rows(
        "select count(*) from ledger.entries where kind = 'attempt' and name = %s"
        " and body ->> 'because' like '%%permission denied%%'",
        "operations.flights",
    )
    assert told == [(len(TRIED),)]
