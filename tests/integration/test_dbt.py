"""dbt by Levada: the plugin, parsing, building in a stage, and the processes that do it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from levada.adapters.dbt import (
    DbtWorkers,
    EmptyBuild,
    ParsedProject,
    ParseRequest,
    column_faults,
)
from levada.adapters.dbt.codec import decode, encode
from levada.build import BuildRequest, Room, build_request
from levada.errors import ToolError
from levada.ports import Relation, Stage
from levada.terms import (
    Column,
    Contract,
    Grain,
    Layer,
    Mart,
    Mesh,
    Owner,
    Product,
    Source,
    Span,
    TableRef,
)

pytestmark = pytest.mark.integration

SECRET = "postgresql://publisher:hunter2@db/ledger"

FILES: Mapping[str, str] = {
    "levada.yaml": "mesh: trial\n",
    "contracts/operations/flights.v1.odcs.yaml": """
        domain: operations
        version: 1.2.0
        status: active
        schema: [{name: flights}]
        """,
    "contracts/operations/delays.v1.odcs.yaml": """
        domain: operations
        version: 1.0.0
        status: deprecated
        slaProperties: [{property: retirement, value: 2013-06-01}]
        schema: [{name: delays}]
        """,
    "contracts/operations/delays.v2.odcs.yaml": """
        domain: operations
        version: 2.0.0
        status: active
        schema: [{name: delays}]
        """,
    "contracts/operations/rumours.v1.odcs.yaml": """
        domain: operations
        version: 1.0.0
        status: draft
        schema: [{name: rumours}]
        """,
    "contracts/operations/broken.v1.odcs.yaml": "schema: [",
    "models/operations/dbt_project.yml": """
        name: operations
        version: "1.0"
        profile: their_own
        vars: {late_after: 15}
        on-run-start: "create table if not exists hook_ran as select 1 as x"
        """,
    "models/operations/models/ingest/landing.yml": """
        sources:
          - name: landing
            tables:
              - name: flights
                config: {meta: {levada: {zone: nyc, grain: day}}}
                columns: [{name: carrier}, {name: dep_delay}]
        """,
    "models/operations/models/ingest/stg_flights.sql": """
        {{ config(materialized='ephemeral') }}
        select carrier, {{ minutes('dep_delay') }} as dep_delay
        from {{ source('landing', 'flights') }}
        """,
    "models/operations/models/ingest/late.sql": """
        {{ config(materialized='view') }}
        select * from {{ ref('stg_flights') }} where dep_delay > {{ var('late_after') }}
        """,
    "models/operations/models/ingest/flights.sql": """
        select carrier, dep_delay, carrier in (select carrier from {{ ref('late') }}) as late
        from {{ ref('stg_flights') }}
        """,
    "models/operations/models/ingest/flights.yml": """
        models:
          - name: late
          - name: flights
            config: {materialized: table, meta: {levada: {batch: true}}}
            columns: [{name: carrier, data_type: text}, {name: dep_delay}]
        """,
    "models/operations/macros/minutes.sql": """
        {% macro minutes(column) %}try_cast({{ number(column) }} as integer){% endmacro %}
        {% macro number(column) %}nullif({{ column }}, 'NA'){% endmacro %}
        {% macro unreached() %}1{% endmacro %}
        """,
    "models/company/dbt_project.yml": "name: company\n",
    "models/company/models/aggregate/carriers.sql": """
        {{ config(materialized='table') }}
        select carrier, count(*) as flights from {{ ref('operations', 'flights') }} group by all
        """,
    "models/company/models/aggregate/both.sql": """
        {{ config(materialized='table') }}
        select old.carrier from {{ ref('operations', 'delays', v=1) }} as old
        join {{ ref('operations', 'delays') }} as new using (carrier)
        join {{ ref('carriers') }} using (carrier)
        """,
}

FLIGHTS = "model.operations.flights"
PRODUCT = (FLIGHTS, "model.operations.late", "model.operations.stg_flights")
SOURCE = "source.operations.landing.flights"
COLUMNS = (("carrier", "VARCHAR"), ("dep_delay", "INTEGER"), ("late", "BOOLEAN"))


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())
    return root


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    return write(tmp_path / "mesh", FILES)


@pytest.fixture(scope="module")
def workers() -> Iterator[DbtWorkers]:
    os.environ["LEVADA_DATABASE_URL"] = SECRET
    with DbtWorkers() as started:
        yield started
    del os.environ["LEVADA_DATABASE_URL"]


def parse(workers: DbtWorkers, mesh: Path, domain: str) -> ParsedProject:
    return workers.parse(
        domain, ParseRequest(mesh, mesh / "models" / domain, manifest(mesh, domain))
    )


def manifest(mesh: Path, domain: str) -> Path:
    return mesh / ".levada" / f"{domain}.manifest"


def stage_file(mesh: Path, rows: str, name: str = "stage") -> Path:
    """A stage as a warehouse makes it: landed rows behind a view of schema `up`."""
    path = mesh / ".levada" / name / "stage.duckdb"
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(path)) as connection:
        connection.execute("create schema up")
        connection.execute(
            f"create table up.rows as select * from (values {rows}) t(carrier, dep_delay)"
        )
        connection.execute("create view up.landing__flights as select * from up.rows")
    return path


def request(mesh: Path, stage: Path) -> BuildRequest:
    return BuildRequest(
        run="r1",
        domain="operations",
        root=mesh,
        project_dir=mesh / "models/operations",
        manifest=manifest(mesh, "operations"),
        nodes=PRODUCT,
        outputs={FLIGHTS: Relation("stage", "main", "flights_v1")},
        inputs={SOURCE: Relation("stage", "up", "landing__flights")},
        columns={FLIGHTS: COLUMNS},
        profile={"type": "duckdb", "path": str(stage), "settings": {"TimeZone": "UTC"}},
        log_dir=stage.parent / "logs",
    )


def rows(stage: Path, query: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(stage), read_only=True) as connection:
        return connection.execute(query).fetchall()


# Parsing


def test_a_project_is_told_as_facts(workers: DbtWorkers, mesh: Path) -> None:
    project = parse(workers, mesh, "operations")
    assert project.faults == ()
    assert project.name == "operations"
    flights = project.model(FLIGHTS)
    assert (flights.layer, flights.materialized, flights.major) == ("ingest", "table", None)
    assert flights.path == "models/operations/models/ingest/flights.sql"
    assert (flights.yaml, flights.yaml_line) == (
        "models/operations/models/ingest/flights.yml",
        3,
    )
    assert flights.meta == {"batch": True}
    assert flights.columns == (("carrier", "text"), ("dep_delay", ""))
    assert set(flights.models) == {"model.operations.late", "model.operations.stg_flights"}
    assert project.model("model.operations.stg_flights").sources == (SOURCE,)
    (source,) = project.sources
    assert (source.name, source.table, source.columns) == (
        "landing",
        "flights",
        ("carrier", "dep_delay"),
    )
    assert source.meta == {"zone": "nyc", "grain": "day"}
    assert source.yaml_line == 4
    assert manifest(mesh, "operations").is_file()


def test_promised_tables_of_other_domains_are_read_by_two_argument_refs(
    workers: DbtWorkers, mesh: Path
) -> None:
    project = parse(workers, mesh, "company")
    assert project.faults == ()
    assert project.model("model.company.carriers").externals == (TableRef("operations", "flights"),)
    both = project.model("model.company.both")
    assert set(both.externals) == {
        TableRef("operations", "delays", 1),
        TableRef("operations", "delays", 2),
    }
    assert both.models == ("model.company.carriers",)
    assert not (mesh / "models/company/target").exists()
    assert not (mesh / "models/company/logs").exists()


def test_every_unpromised_table_is_a_fault_with_its_line(workers: DbtWorkers, mesh: Path) -> None:
    write(
        mesh,
        {
            "models/company/models/aggregate/a.sql": """
                select 1 as x
                from {{ ref('operations', 'flight') }}
                """,
            "models/company/models/aggregate/b.sql": """
                select * from {{ ref('operations', 'rumours') }}
                join {{ ref('operations', 'flights', v=9) }} using (carrier)
                """,
            "models/company/models/aggregate/c.sql": "select * from {{ ref('nothing') }}",
        },
    )
    project = parse(workers, mesh, "company")
    told = [str(fault) for fault in project.faults]
    folder, nobody = "models/company/models/aggregate", "which nobody promises"
    assert told[0] == (
        f"{folder}/a.sql:2: model a reads operations.flight, {nobody};"
        " promised is operations.flights@1"
    )
    assert told[1] == (
        f"{folder}/b.sql:1: model b reads operations.rumours,"
        " whose contract contracts/operations/rumours.v1.odcs.yaml is draft;"
        " its domain must make it active"
    )
    assert told[2] == (
        f"{folder}/b.sql:2: model b reads operations.flights@9, {nobody};"
        " promised is operations.flights@1"
    )
    assert told[3] == (
        f"{folder}/c.sql:1: model c reads the model nothing, which this project does not have;"
        " another domain's table is read as ref('domain', 'table')"
    )
    assert len(told) == 4
    assert project.model("model.company.a").externals == ()


# A status, the version that is read, and what is said beside the contract's file.
WITHHELD = {
    "a draft": ("draft", "", "operations.rumours", "its domain must make it active"),
    "a draft by its version": (
        "draft",
        ", v=1",
        "operations.rumours@1",
        "its domain must make it active",
    ),
    "what is withdrawn": ("retired", "", "operations.rumours", "its domain has withdrawn it"),
    "a status nobody knows": ("activ", "", "operations.rumours", "its status must be active"),
}


@pytest.mark.parametrize("case", WITHHELD, ids=str)
def test_a_table_whose_contract_does_not_hold_is_told_with_its_file(
    case: str, workers: DbtWorkers, mesh: Path
) -> None:
    status, version, table, right = WITHHELD[case]
    rumours = "contracts/operations/rumours.v1.odcs.yaml"
    write(
        mesh,
        {
            rumours: FILES[rumours].replace("draft", status),
            "models/company/models/aggregate/a.sql": (
                f"select * from {{{{ ref('operations', 'rumours'{version}) }}}}"
            ),
        },
    )
    (fault,) = parse(workers, mesh, "company").faults
    assert fault.wrong == f"model a reads {table}, whose contract {rumours} is {status}"
    assert fault.right == right


def test_a_withheld_major_names_the_majors_that_hold(workers: DbtWorkers, mesh: Path) -> None:
    flights = FILES["contracts/operations/flights.v1.odcs.yaml"]
    draft = flights.replace("1.2.0", "2.0.0").replace("active", "draft")
    write(
        mesh,
        {
            "contracts/operations/flights.v2.odcs.yaml": draft,
            "models/company/models/aggregate/a.sql": (
                "select * from {{ ref('operations', 'flights', v=2) }}"
            ),
        },
    )
    (fault,) = parse(workers, mesh, "company").faults
    assert fault.wrong.endswith("whose contract contracts/operations/flights.v2.odcs.yaml is draft")
    assert fault.right == "promised is operations.flights@1"


def test_a_one_argument_ref_that_lands_in_another_domain_is_a_fault(
    workers: DbtWorkers, mesh: Path
) -> None:
    path = "models/company/models/aggregate/stray.sql"
    write(mesh, {path: "select 1 as x\nfrom {{ ref('flights') }}\n"})
    (fault,) = parse(workers, mesh, "company").faults
    assert str(fault) == (
        f"{path}:2: model stray reads ref('flights'), which is a table of operations;"
        " write ref('operations', 'flights')"
    )


def test_broken_jinja_and_broken_yaml_are_faults_with_path_and_line(
    workers: DbtWorkers, mesh: Path
) -> None:
    path = "models/company/models/aggregate/carriers.sql"
    write(mesh, {path: "select 1\n{% if %}\n"})
    (fault,) = parse(workers, mesh, "company").faults
    assert (fault.path, fault.line) == (path, 2)
    assert "Expected an expression" in fault.wrong
    write(mesh, {path: FILES[path], "models/company/models/m.yml": "models:\n  - name: [\n"})
    (fault,) = parse(workers, mesh, "company").faults
    assert fault.path == "models/company/models/m.yml"
    assert fault.line > 0


_INGEST = "models/operations/models/ingest"
_FLIGHTS = "models:\n  - name: late\n  - name: flights\n    "

# A file, its text, and the fault: line and words.
SHAPES = {
    "columns that are no list": (
        f"{_INGEST}/flights.yml",
        f"{_FLIGHTS}columns: {{carrier: text}}\n",
        4,
        'model flights: columns is {"carrier": "text"}; write a list, like [{name: ...}]',
    ),
    "a type that is a list": (
        f"{_INGEST}/flights.yml",
        f"{_FLIGHTS}columns:\n      - name: carrier\n        data_type: [text]\n",
        6,
        'model flights: columns[0].data_type is ["text"]; write text',
    ),
    "a column without a name": (
        f"{_INGEST}/flights.yml",
        f"{_FLIGHTS}columns:\n      - {{nmae: carrier}}\n",
        5,
        "unknown key 'nmae' in models[1].columns[0]; did you mean 'name'?",
    ),
    "a config whose file dbt does not tell": (
        f"{_INGEST}/flights.yml",
        f"{_FLIGHTS}config:\n      materialized: [table]\n",
        5,
        'materialized is ["table"]; write text',
    ),
    "a config of the SQL": (
        f"{_INGEST}/flights.sql",
        "select 1 as x\n{{ config(enabled='perhaps') }}\n",
        2,
        'enabled is "perhaps"; write true or false',
    ),
    "the columns of a source": (
        f"{_INGEST}/landing.yml",
        "sources:\n  - name: landing\n    tables:\n      - {name: flights, columns: [day]}\n",
        4,
        'tables[0].columns[0] is "day"; write keys with values, like {name: ...}',
    ),
    "a key of the project": (
        "models/operations/dbt_project.yml",
        "name: operations\nmodel_paths: [models]\n",
        2,
        "unknown key 'model_paths'; did you mean 'model-paths'?",
    ),
    "a value of the project": (
        "models/operations/dbt_project.yml",
        "name: operations\nmodel-paths: models\n",
        2,
        'model-paths is "models"; write a list',
    ),
    "a value that dbt refuses late": (
        f"{_INGEST}/flights.yml",
        f"{_FLIGHTS}config: {{persist_docs: true}}\n",
        0,
        "persist_docs is True, which dbt does not read",
    ),
}


@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_a_value_of_the_wrong_shape_is_told_on_its_line_in_plain_words(
    case: str, workers: DbtWorkers, mesh: Path
) -> None:
    path, text, line, words = SHAPES[case]
    write(mesh, {path: text})
    (fault,) = parse(workers, mesh, "operations").faults
    assert str(fault).endswith(words)
    assert fault.line == line
    assert fault.path == (path if line else "models/operations/dbt_project.yml")


def test_the_code_of_a_model_follows_what_it_reaches_and_nothing_else(
    workers: DbtWorkers, mesh: Path
) -> None:
    macros = "models/operations/macros/minutes.sql"

    def codes() -> dict[str, str]:
        return {m.name: m.code for m in parse(workers, mesh, "operations").models}

    before = codes()
    write(mesh, {macros: FILES[macros].replace("%}1{%", "%}2{%")})
    assert codes() == before
    write(mesh, {"models/operations/models/ingest/other.sql": "-- a comment\nselect 1 as x"})
    assert {name: code for name, code in codes().items() if name != "other"} == before
    write(mesh, {macros: FILES[macros].replace("'NA'", "'N/A'")})
    after = codes()
    assert after["stg_flights"] != before["stg_flights"], "a macro of a macro changed"
    assert after["late"] == before["late"]
    project = "models/operations/dbt_project.yml"
    write(mesh, {macros: FILES[macros], project: FILES[project].replace("15", "30")})
    assert codes()["late"] != before["late"], "a var changed"
    assert codes()["flights"] == before["flights"]


def test_columns_of_the_yaml_may_not_contradict_the_contract(
    workers: DbtWorkers, mesh: Path
) -> None:
    flights = parse(workers, mesh, "operations").model(FLIGHTS)
    assert column_faults(flights, COLUMNS) == ()
    wrong = column_faults(flights, (("carrier", "BIGINT"),))
    assert [fault.line for fault in wrong] == [3, 3]
    assert "column carrier of model flights is text here and BIGINT" in wrong[0].wrong


@pytest.mark.prove
def test_plain_dbt_finds_the_mesh_above_it_and_is_left_alone_without_one(mesh: Path) -> None:
    models = plain_dbt_parse(mesh / "models/company")
    promised = {name: node for name, node in models.items() if node["package_name"] == "operations"}
    assert sorted(promised) == [
        "model.operations.delays.v1",
        "model.operations.delays.v2",
        "model.operations.flights.v1",
    ]
    delays = promised["model.operations.delays.v1"]
    assert delays["relation_name"] == '"operations"."main"."delays_v1"'
    assert delays["latest_version"] == 2, "an active major comes before a deprecated one"
    assert delays["deprecation_date"].startswith("2013-06-01")
    assert delays["access"] == "public"
    (mesh / "levada.yaml").unlink()
    for model in (mesh / "models/company/models/aggregate").iterdir():
        model.write_text("select 1 as x")
    assert sorted(plain_dbt_parse(mesh / "models/company")) == [
        "model.company.both",
        "model.company.carriers",
    ]


def plain_dbt_parse(project: Path) -> Mapping[str, Any]:
    write(
        project,
        {
            "dbt_project.yml": "name: company\nprofile: own\n",
            "profiles.yml": "own: {target: x, outputs: {x: {type: duckdb, path: ':memory:'}}}",
        },
    )
    environment = {n: v for n, v in os.environ.items() if not n.startswith("LEVADA")}
    dbt = [sys.executable, "-c", "from dbt.cli.main import cli; cli()"]
    command = [*dbt, "--no-send-anonymous-usage-stats", "parse", "--no-partial-parse"]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    nodes = json.loads((project / "target/manifest.json").read_text())["nodes"]
    return {name: node for name, node in nodes.items() if name.startswith("model.")}


# Building


def test_a_request_names_every_table_as_the_projects_dbt_does(tmp_path: Path) -> None:
    own, other = TableRef("operations", "delays"), TableRef("operations", "flights")
    foreign, landed = TableRef("fleet", "planes", 2), TableRef("operations", "landing.raw", 0)
    product, sibling = (a_product(table) for table in (own, other))
    source = Source(landed, Grain.WHOLE, "UTC", "raw.csv", ("a",), "source.operations.landing.raw")
    begin = datetime(2013, 1, 1, tzinfo=UTC)
    span = Span(begin, begin + timedelta(days=1))
    mesh = Mesh("trial", span, "UTC", begin, (product, sibling), (source,))
    stage = Stage(
        run="r1",
        path=tmp_path,
        outputs={own: Relation("stage", "main", "delays_v1")},
        inputs={t: Relation("stage", "up", t.relation) for t in (other, foreign, landed)},
    )
    asked = build_request(
        mesh,
        product,
        stage,
        span=span,
        profile={"type": "duckdb"},
        root=tmp_path,
        project_dir=tmp_path / "models/operations",
        manifest=tmp_path / "manifest",
        room=Room((tmp_path,), (tmp_path / "stages", tmp_path / "logs")),
    )
    assert asked.nodes == ("model.operations.delays",)
    assert asked.outputs == {"model.operations.delays": Relation("stage", "main", "delays_v1")}
    assert set(asked.inputs) == {
        "model.operations.flights",
        "model.fleet.planes.v2",
        "source.operations.landing.raw",
    }
    assert asked.columns == {"model.operations.delays": (("id", "BIGINT"),)}
    assert asked.window == (span.start, span.end)
    assert decode(BuildRequest, encode(asked)) == asked, "it survives the way to another process"


def a_product(table: TableRef) -> Product:
    contract = Contract(
        id=str(table),
        version="1.0.0",
        status="active",
        table=table,
        product=table.name,
        grain=Grain.WHOLE,
        zone="UTC",
        interval_column=None,
        columns=(Column("id", "BIGINT", required=True),),
        checks=(),
        owner=Owner("team"),
        description="",
        hash="",
        path="",
    )
    node = f"model.{table.domain}.{table.name}"
    mart = Mart(table, Layer.BASE, node, contract, (), "", "")
    return Product(table.domain, table.name, (mart,), Grain.WHOLE, "UTC")


def test_a_product_is_built_in_its_stage_with_its_private_models(
    workers: DbtWorkers, mesh: Path
) -> None:
    parse(workers, mesh, "operations")
    stage = stage_file(mesh, "('AA', '5'), ('AA', '40'), ('UA', 'NA')")
    result = workers.build(request(mesh, stage))
    assert result.ok, result.message
    assert {t.node for t in result.models} == {FLIGHTS, "model.operations.late"}
    assert sorted(rows(stage, "from stage.main.flights_v1"), key=str) == [
        ("AA", 40, True),
        ("AA", 5, True),
        ("UA", None, False),
    ]
    kinds = rows(
        stage, "select table_schema, table_name, table_type from information_schema.tables"
    )
    assert ("private", "late", "VIEW") in kinds
    assert ("main", "flights_v1", "BASE TABLE") in kinds
    assert rows(stage, "from hook_ran") == [(1,)], "the domain's hooks run"


def test_one_warm_child_builds_again_and_another_domain_has_its_own(
    workers: DbtWorkers, mesh: Path
) -> None:
    parse(workers, mesh, "operations")
    child = workers.pid("operations")
    for delay, late in (("5", False), ("50", True)):
        stage = stage_file(mesh, f"('AA', '{delay}')", name=f"stage{delay}")
        result = workers.build(request(mesh, stage))
        assert result.ok, result.message
        assert rows(stage, "from flights_v1") == [("AA", int(delay), late)]
    assert workers.pid("operations") == child
    parse(workers, mesh, "company")
    assert workers.pid("company") != child


def test_another_shape_than_the_promised_one_is_not_built(workers: DbtWorkers, mesh: Path) -> None:
    parse(workers, mesh, "operations")
    stage = stage_file(mesh, "('AA', '5')")
    promised = (("carrier", "VARCHAR"), ("dep_delay", "BIGINT"), ("tail", "VARCHAR"))
    result = workers.build(replace(request(mesh, stage), columns={FLIGHTS: promised}))
    assert not result.ok
    assert sorted(fault.wrong for fault in result.failures) == [
        "column dep_delay is promised as BIGINT but made as INTEGER",
        "column late (BOOLEAN) is made but not promised",
        "column tail (VARCHAR) is promised but not made",
    ]
    assert {fault.path for fault in result.failures} == {
        "models/operations/models/ingest/flights.sql"
    }


def test_constraints_of_the_author_do_not_keep_a_broken_row_from_the_audit(
    workers: DbtWorkers, mesh: Path
) -> None:
    path = "models/operations/models/ingest/flights.yml"
    listed = "{name: dep_delay, data_type: integer, constraints: [{type: not_null}]}"
    write(mesh, {path: FILES[path].replace("{name: dep_delay}", listed)})
    parse(workers, mesh, "operations")
    stage = stage_file(mesh, "('AA', 'NA')")
    assert workers.build(request(mesh, stage)).ok
    assert rows(stage, "from flights_v1") == [("AA", None, False)]


def test_what_the_request_does_not_name_cannot_be_read(workers: DbtWorkers, mesh: Path) -> None:
    parse(workers, mesh, "operations")
    stage = stage_file(mesh, "('AA', '5')")
    result = workers.build(replace(request(mesh, stage), inputs={}))
    assert not result.ok
    assert "stg_flights reads source.operations.landing.flights" in result.message
    assert rows(stage, "select count(*) from information_schema.tables") == [(2,)]


def test_a_mart_that_is_a_view_is_refused(workers: DbtWorkers, mesh: Path) -> None:
    path = "models/operations/models/ingest/flights.yml"
    write(mesh, {path: FILES[path].replace("materialized: table", "materialized: view")})
    parse(workers, mesh, "operations")
    result = workers.build(request(mesh, stage_file(mesh, "('AA', '5')")))
    assert not result.ok
    assert "mart flights is materialized as view; say table or incremental" in result.message


def test_another_product_of_the_domain_is_read_from_the_stage_and_not_built(
    workers: DbtWorkers, mesh: Path
) -> None:
    path = "models/operations/models/base/delays.sql"
    write(mesh, {path: "select carrier || '!' as carrier from {{ ref('flights') }}"})
    parse(workers, mesh, "operations")
    stage = stage_file(mesh, "('AA', '5')")
    delays = "model.operations.delays"
    asked = replace(
        request(mesh, stage),
        nodes=(delays,),
        outputs={delays: Relation("stage", "main", "delays_v1")},
        inputs={FLIGHTS: Relation("stage", "up", "landing__flights")},
        columns={delays: (("carrier", "VARCHAR"),)},
    )
    # It has no configuration, and dbt makes views by default: marts must say `table`.
    assert "say table or incremental" in workers.build(asked).message
    write(mesh, {path: "{{ config(materialized='table') }}\n" + (mesh / path).read_text()})
    parse(workers, mesh, "operations")
    result = workers.build(asked)
    assert result.ok, result.message
    assert [timing.node for timing in result.models] == [delays]
    assert rows(stage, "from delays_v1") == [("AA!",)]


def test_a_seed_is_a_private_table_of_its_product(workers: DbtWorkers, mesh: Path) -> None:
    write(
        mesh,
        {
            "models/operations/seeds/names.csv": "carrier,name\nAA,American\n",
            "models/operations/models/ingest/flights.sql": """
                select name as carrier, 1 as dep_delay, true as late from {{ ref('names') }}
                """,
        },
    )
    seed = parse(workers, mesh, "operations").model("seed.operations.names")
    assert (seed.materialized, seed.models) == ("seed", ())
    stage = stage_file(mesh, "('AA', '5')")
    asked = replace(request(mesh, stage), nodes=(FLIGHTS, seed.node), inputs={})
    result = workers.build(asked)
    assert result.ok, result.message
    assert rows(stage, "select carrier from flights_v1") == [("American",)]


def test_an_error_of_the_sql_names_file_and_line(workers: DbtWorkers, mesh: Path) -> None:
    path = "models/operations/models/ingest/flights.sql"
    write(mesh, {path: "select carrier,\n  nope\nfrom {{ ref('stg_flights') }}\n"})
    parse(workers, mesh, "operations")
    result = workers.build(request(mesh, stage_file(mesh, "('AA', '5')")))
    assert not result.ok
    (fault,) = result.failures
    assert (fault.path, fault.line) == (path, 2)
    assert 'Referenced column "nope" not found' in fault.wrong


def test_microbatch_models_get_the_window(workers: DbtWorkers, mesh: Path) -> None:
    write(
        mesh,
        {
            "models/operations/models/ingest/flights.sql": """
                {{ config(materialized='incremental', incremental_strategy='microbatch',
                          event_time='day', batch_size='day', begin='2013-01-01') }}
                select carrier, cast(dep_delay || ':00Z' as timestamptz) as day
                from {{ source('landing', 'flights') }}
                """,
            "models/operations/models/ingest/flights.yml": "",
        },
    )
    parse(workers, mesh, "operations")
    stage = stage_file(mesh, "('AA', '5')")
    asked = replace(
        request(mesh, stage),
        nodes=(FLIGHTS,),
        columns={FLIGHTS: (("carrier", "VARCHAR"), ("day", "TIMESTAMPTZ"))},
        window=(datetime(2013, 1, 2, tzinfo=UTC), datetime(2013, 1, 3, tzinfo=UTC)),
    )
    result = workers.build(asked)
    assert not result.ok
    assert "Conversion Error" in result.message, "the result of a batch says only ERROR"
    stage = stage_file(mesh, "('AA', '2013-01-02 12:00')", name="good")
    asked = replace(asked, profile=request(mesh, stage).profile)
    result = workers.build(asked)
    assert result.ok, result.message
    assert rows(stage, "select carrier from flights_v1") == [("AA",)]


def test_the_empty_build_finds_unpromised_columns_and_shapes_of_every_model(
    workers: DbtWorkers, mesh: Path
) -> None:
    carriers = "models/company/models/aggregate/carriers.sql"
    write(
        mesh,
        {
            "models/company/models/aggregate/tails.sql": """
                select carrier,
                  tail
                from {{ ref('operations', 'flights') }}
                """,
        },
    )
    assert parse(workers, mesh, "company").faults == ()
    flat = (("carrier", "VARCHAR"),)
    asked = EmptyBuild(
        root=mesh,
        project_dir=mesh / "models/company",
        manifest=manifest(mesh, "company"),
        columns={"model.company.carriers": (("carrier", "VARCHAR"), ("flights", "INTEGER"))},
        inputs={
            "model.operations.flights.v1": flat,
            "model.operations.delays.v1": flat,
            "model.operations.delays.v2": flat,
            "model.operations.rumours.v1": flat,  # a draft is no promise, and does no harm
        },
        log_dir=mesh / ".levada/logs",
    )
    faults = workers.empty_build("company", asked)
    assert [(f.path, f.line) for f in faults] == [
        (carriers, 2),
        ("models/company/models/aggregate/tails.sql", 2),
    ]
    assert faults[0].wrong == "column flights is promised as INTEGER but made as BIGINT"
    assert '"tail" not found' in faults[1].wrong
    unknown = replace(asked, inputs={"model.operations.flights.v1": flat})
    told = [
        (fault.path.rpartition("/")[2], fault.wrong)
        for fault in workers.empty_build("company", unknown)
    ]
    assert (
        "both.sql",
        "model both reads model.operations.delays.v1, whose columns no contract tells",
    ) in told
    assert "tails.sql" in {file for file, _ in told}, "the others are still built"
    write(mesh, {carriers: FILES[carriers].replace("'table'", "'view'")})
    parse(workers, mesh, "company")
    told = [
        (fault.path.rpartition("/")[2], fault.wrong)
        for fault in workers.empty_build("company", asked)
    ]
    assert told[0] == ("carriers.sql", "mart carriers is materialized as view")
    assert told[1][0] == "tails.sql"
    write(mesh, {carriers: FILES[carriers]})
    promised = {"model.company.carriers": (("carrier", "VARCHAR"), ("flights", "BIGINT"))}
    (mesh / "models/company/models/aggregate/tails.sql").unlink()
    parse(workers, mesh, "company")
    assert workers.empty_build("company", replace(asked, columns=promised)) == ()


# Processes


def ask_for_the_secret(mesh: Path) -> None:
    path = "models/operations/models/ingest/flights.sql"
    write(mesh, {path: "select '{{ env_var(\"LEVADA_DATABASE_URL\") }}' as url"})


def test_the_child_holds_no_secret_of_the_platform(workers: DbtWorkers, mesh: Path) -> None:
    ask_for_the_secret(mesh)
    (fault,) = parse(workers, mesh, "operations").faults
    assert "Env var required but not provided: 'LEVADA_DATABASE_URL'" in fault.wrong
    held = Path(f"/proc/{workers.pid('operations')}/environ").read_bytes()
    assert b"hunter2" not in held


@pytest.mark.prove
def test_forked_processes_ask_the_kept_one_for_a_child(mesh: Path) -> None:
    script = """
        import multiprocessing, os, sys
        from pathlib import Path
        from levada.adapters.dbt import DbtWorkers, ParseRequest, keep_warm
        keep_warm()
        root = Path(sys.argv[1])
        own = os.getpriority(os.PRIO_PROCESS, 0)
        def task(back):
            os.nice(back)
            with DbtWorkers() as workers:
                request = ParseRequest(root, root / "models/company", root / "m")
                assert workers.parse("company", request).faults == ()
                child = workers.pid("company")
                parent = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1]
                nice = os.getpriority(os.PRIO_PROCESS, child) - own
                print(workers.pid(), parent, os.getppid(), nice, flush=True)
        for back in (0, 5):
            fork = multiprocessing.get_context("fork").Process
            process = fork(target=task, args=(back,), daemon=True)
            process.start()
            process.join(60)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(mesh)],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    first, second = (line.split() for line in done.stdout.splitlines())
    assert first[0] == second[0] == "None", "no task started a program of its own"
    assert first[1] == second[1], "one process has dbt imported for both"
    assert first[1] != first[2], "and it is no fork of the one that the tasks were forked from"
    assert [first[3], second[3]] == ["0", "5"], "a build steps back as far as who asks for it"
    assert gone(int(first[1]))


def test_a_killed_child_costs_one_call_and_no_more(workers: DbtWorkers, mesh: Path) -> None:
    path = "models/operations/models/ingest/flights.sql"
    original = (FILES[path], "select count(*) as n from range(100000000000) t(i) where i % 7 = 3")
    write(mesh, {path: original[1]})
    parse(workers, mesh, "operations")
    stage = stage_file(mesh, "('AA', '5')")
    asked = replace(request(mesh, stage), nodes=(FLIGHTS,), columns={})
    child = workers.pid("operations")
    killer = subprocess.Popen(["sh", "-c", f"sleep 2; kill -9 {child}"])
    with pytest.raises(ToolError, match="ended before it answered"):
        workers.build(asked)
    killer.wait()
    write(mesh, {path: original[0]})
    parse(workers, mesh, "operations")
    stage = stage_file(mesh, "('AA', '5')", name="after")
    assert workers.build(request(mesh, stage)).ok
    assert workers.pid("operations") != child


@pytest.mark.prove
def test_processes_killed_while_idle_cost_nothing(mesh: Path) -> None:
    with DbtWorkers() as workers:
        parse(workers, mesh, "company")
        for pid in (workers.pid("company"), workers.pid()):
            assert pid is not None
            child = workers.pid("company")
            os.kill(pid, signal.SIGKILL)
            assert gone(pid)
            assert gone(child), "a child does not outlive the process that forked it"
            assert parse(workers, mesh, "company").faults == ()
            assert workers.pid() is not None


@pytest.mark.prove
def test_a_call_past_its_limit_ends_its_child(workers: DbtWorkers, mesh: Path) -> None:
    endless = """
        {{ config(materialized='table') }}
        select count(*) as n from range(100000000000) t(i) where i % 7 = 3
        """
    write(mesh, {"models/operations/models/ingest/flights.sql": endless})
    parse(workers, mesh, "operations")
    stage = stage_file(mesh, "('AA', '5')")
    asked = replace(request(mesh, stage), nodes=(FLIGHTS,), columns={}, inputs={})
    with DbtWorkers(limit=2) as impatient:
        with pytest.raises(ToolError, match="no answer to build in 2 s"):
            impatient.build(asked)
        assert impatient.pid("operations") is None
    with duckdb.connect(str(stage)) as connection:  # nobody holds the file any more
        assert connection.execute("from up.rows").fetchall() == [("AA", "5")]


def test_when_the_parent_dies_no_child_is_left(mesh: Path) -> None:
    script = """
        import sys, time
        from pathlib import Path
        from levada.adapters.dbt import DbtWorkers, ParseRequest
        root = Path(sys.argv[1])
        workers = DbtWorkers()
        workers.parse("company", ParseRequest(root, root / "models/company", root / "m"))
        print(workers.pid(), workers.pid("company"), flush=True)
        time.sleep(600)
        """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(mesh)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    parent.kill()
    parent.wait()
    assert all(gone(pid) for pid in pids)


def gone(pid: int | None) -> bool:
    limit = time.monotonic() + 10
    while alive(pid) and time.monotonic() < limit:
        time.sleep(0.02)
    return not alive(pid)


def alive(pid: int | None) -> bool:
    process = Path(f"/proc/{pid}")
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        threads = len(list((process / "task").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z" or threads > 1  # files are closed only when the last thread has ended


@pytest.mark.prove
def test_closing_ends_every_process(mesh: Path) -> None:
    with DbtWorkers() as workers:
        parse(workers, mesh, "company")
        pids = (workers.pid(), workers.pid("company"))
    assert all(gone(pid) for pid in pids)
