"""
What is tried through files that the platform reads with rights of its own: rules of contracts,
names, places of landed files, waivers.
"""

from __future__ import annotations

import os
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest
import tiny

from levada.adapters import odcs, sqlrule
from levada.adapters.probes import Probes
from levada.adapters.waivers import read_request
from levada.adapters.warehouses._history import History
from levada.adapters.warehouses._stage import Stages
from levada.approve import Policy
from levada.declare import ParsedProject, SourceFacts, declare
from levada.errors import DeclarationError
from levada.settings import read_settings
from levada.terms import FileProbe, Grain, Mesh, Source, Span, TableRef

NOW = datetime(2013, 3, 9, tzinfo=UTC)
SPAN = Span.days("2013-03-08", "2013-03-08", "UTC")

RULES = (
    "select count(*) from {object}; drop table fleet.planes",
    "with gone as (delete from {object} returning 1) select count(*) from gone",
    "select count(*) from {object}, read_text('.levada/secrets.json')",
    "select count(*) from {object}, '.levada/secrets.json'",
    "select count(*) from {object}, 'fleet.planes.parquet'",
    "select count(*) from {object}, read_csv_auto('/etc/passwd')",
    "select count(*) from {object}, glob('/**')",
    "select count(*) from {object}, duckdb_secrets()",
    "select count(*) from {object}, duckdb_databases()",
    "select count(*) from {object}, postgres_query('fleet', 'select 1')",
    "select count(*) from {object}, postgres_execute('fleet', 'drop schema public')",
    "select count(*) from {object}, query('drop table x')",
    "select count(*) from {object}, query_table('x')",
    "select count(*) from {object}, sniff_csv('/etc/passwd')",
    "select count(*) from {object} where exists (select from read_blob('/etc/passwd'))",
    "select (select content from read_text('/etc/passwd')) from {object}",
    "select count(*) from {object}, stage.main.other",
    "select count(*) from {object}, other",
    "select getenv('HOME') from {object}",
    "select current_setting('secret_directory') from {object}",
    "select \"getenv\"('HOME') from {object}",
    "select GetEnv('HOME') from {object}",
    "copy {object} to '/tmp/stolen'",
    "copy (select 1 from {object}) to '/tmp/stolen'",
    "attach 'x' as y",
    "install httpfs",
    "select count(*) into stolen from {object}",
    "select count(*) from {object} union select count(*) from read_text('/etc/passwd')",
    "select 1",
    "select count(*) from {{ ref('planes') }} join {object} using (a)",
    "select count(*) from {object} where {% raw %}1{% endraw %}",
    "select count(*) from {object} where {other}",
    "from {object} pivot (count(*) for a in (1))",
)


@pytest.mark.parametrize("query", RULES)
def test_a_rule_that_does_more_than_read_its_inputs_is_no_rule(query: str) -> None:
    with pytest.raises(ValueError, match="the query"):
        sqlrule.parse(query)


def test_a_text_that_looks_like_an_end_stays_a_text() -> None:
    query = "select count(*) from {object} where a = '); drop table b; -- {object}'"
    said = sqlrule.parse(query).sql("select * from staged", str)
    assert said.count("drop table b") == 1
    assert said.endswith("WHERE a = '); drop table b; -- levada_object'")


TYPES = ("integer; drop table x", "integer) as x, (select 1", "struct(a read_text('x'))", "x'y", "")


@pytest.mark.parametrize("said", TYPES)
def test_a_type_is_a_type_and_nothing_behind_it(said: str) -> None:
    with pytest.raises(ValueError, match="is no type"):
        sqlrule.column_type(said)


NAMES = (
    "../flights",
    "flights; drop table x",
    'fli"ghts',
    "{{ env_var('HOME') }}",
    "Flights",
    "a.b",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_contract_of_such_a_table_is_refused(tmp_path: Path, name: str) -> None:
    mesh = tiny.mesh(tmp_path / "mesh", ["harbour"])
    path = tiny.contract(mesh, "harbour", "ships")
    path.write_text(path.read_text().replace("name: ships", f"name: {name!r}"))
    contracts, faults = odcs.read_contracts(mesh.root)
    assert contracts == ()
    assert any(str(fault).startswith("contracts/harbour/ships.v1.odcs.yaml") for fault in faults)


COLUMNS = ("id; drop table x", 'i"d', "id')--", "{{ this }}")


@pytest.mark.parametrize("name", COLUMNS)
def test_a_columns_name_is_quoted_wherever_it_goes(name: str) -> None:
    import duckdb

    from levada.adapters.warehouses._sql import casts, row_hash
    from levada.terms import Column

    columns = (Column(name, "INTEGER"),)
    quoted = '"' + name.replace('"', '""') + '"'
    with duckdb.connect() as connection:
        connection.execute(f"create table t as select 1 as {quoted}")
        found = connection.execute(f"select {casts(columns)} from t")
        assert found.description[0][0] == name
        assert connection.execute(f"select {row_hash(columns)} from t").fetchone()


@pytest.mark.parametrize("run", ["../../x", "a/b", ".kept", "", "a b", "x\n"])
def test_a_stage_of_such_a_run_is_not_made(tmp_path: Path, run: str) -> None:
    with pytest.raises(ValueError, match="cannot name a run"):
        Stages(tmp_path, History(str)).sealed(run)


PLACES = ("../.levada/secrets.json", "/etc/passwd", "a/../../b.csv")


@pytest.mark.parametrize("key", ["files", "marker"])
@pytest.mark.parametrize("place", PLACES)
def test_a_landed_file_lies_in_its_zone(tmp_path: Path, key: str, place: str) -> None:
    mesh = tiny.mesh(tmp_path / "mesh", ["harbour"])
    meta = {"zone": "numbers", "files": "a.csv", "grain": "whole", "owner": "o"} | {key: place}
    facts = SourceFacts("source.harbour.landing.a", "landing", "a", ("id",), meta, "s.yml", 1)
    project = ParsedProject("harbour", "p", (), (facts,))
    found = declare(read_settings(mesh.root), (), (project,))
    assert any("leads out of its landing zone" in str(fault) for fault in found.faults)


def asked(root: Path) -> str:
    """What a probe says of the one source of a zone, `landing/in.csv`."""
    table = TableRef("harbour", "landing.in", 0)
    source = Source(
        *(table, Grain.WHOLE, "UTC", "landing/in.csv", ("id",), "node"),
        probe=FileProbe("", "landing"),
    )
    answers = Probes(root).ask([source], SPAN, NOW)
    assert bool(answers.landed) == (not answers.said[table])
    return answers.said[table]


def test_a_link_out_of_the_zone_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    (tmp_path / "secret").write_text("id\n1\n")
    (tmp_path / "landing" / "in.csv").symlink_to(tmp_path / "secret")
    assert asked(tmp_path) == "landing/in.csv: leads out of its landing zone, landing"


def test_a_zone_may_itself_be_a_link_and_hold_links_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "landing").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "whole.csv").write_text("id\n1\n")
    (tmp_path / "landing" / "in.csv").symlink_to("whole.csv")
    assert asked(tmp_path) == ""


def test_a_pipe_that_nobody_writes_holds_up_nobody(tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    os.mkfifo(tmp_path / "landing" / "in.csv")
    assert asked(tmp_path) == "landing/in.csv: is no regular file"


@pytest.mark.parametrize("table", ["*", "harbour.*", "harbour.ships@*", "%"])
def test_a_waiver_is_of_one_table(tmp_path: Path, table: str) -> None:
    path = tmp_path / "contracts/governance/waivers/all.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(
        textwrap.dedent(
            f"""\
            table: "{table}"
            check: rows_present
            window: {{from: 0001-01-01, to: 9999-12-30}}
            expires: 2099-01-01
            reason: everything, always
            """
        )
    )
    mesh = Mesh("m", SPAN, "UTC", SPAN.start, (), (), NOW - NOW)
    with pytest.raises(DeclarationError, match=r"is a pattern|no published table is called"):
        read_request(path, tmp_path, mesh, Policy())
