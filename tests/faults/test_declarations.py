"""Declarations that are wrong: `levada check` names every fault at once, and spares the others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny
from workspace import Workspace

from levada import compiled
from levada.errors import DeclarationError
from levada.settings import read_settings

pytestmark = pytest.mark.integration

SOUND = "select id, day, amount from {{ ref('harbour', 'ships') }}"
DOMAINS = (
    "harbour",
    "customs",
    "east",
    "west",
    "reader",
    "ghost",
    "doubles",
    "shapes",
    "words",
    "letters",
    "papers",
)


@dataclass(frozen=True)
class Wrong:
    """
    A fault that `check` must name: where, told by the text that stands there, and how. Without a
    text it is the file's.
    """

    path: str
    text: str
    says: str

    def line(self, root: Path) -> int:
        if not self.text:
            return 0
        lines = (root / self.path).read_text(errors="replace").splitlines()
        return next(n for n, line in enumerate(lines, 1) if self.text in line)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Eleven domains, of which one is sound, and every other has faults of its own kind."""
    workspace = tiny.mesh(tmp_path_factory.mktemp("wrong") / "mesh", DOMAINS)
    for domain in DOMAINS:
        if domain != "ghost":
            tiny.project(workspace, domain, lands=domain == "harbour")
    tiny.contract(workspace, "harbour", "ships")
    landing = "{{ source('landing', 'numbers') }}"
    tiny.model(workspace, "harbour", "ships", f"select {tiny.NUMBERS} from {landing}")
    for write in (contracts, cycle, reading, doubles, shapes, words, letters, papers):
        write(workspace)
    return workspace


def contracts(mesh: Workspace) -> None:
    """Customs: a fault in each of four contracts."""
    checks = {
        "column": "{id: once, metric: duplicateValues, mustBe: 0,"
        " arguments: {properties: [id, tonnage]}}",
        "key": "{id: rows_present, metric: rowCount, mustBeGreaterThan: 0, severty: error}",
        "check": "{id: odd, type: sql, query: 'select oddity(amount) from {object}', mustBe: 0}",
        "owner": "{id: rows_present, metric: rowCount, mustBeGreaterThan: 0}",
    }
    for name, quality in checks.items():
        path = tiny.contract(mesh, "customs", f"wrong_{name}", quality=quality)
        tiny.model(mesh, "customs", f"wrong_{name}", SOUND)
        if name == "owner":
            path.write_text(re.sub(r"team:\n.*\n.*\n", "", path.read_text()))


def cycle(mesh: Workspace) -> None:
    """East and west read each other."""
    for domain, other in (("east", "west"), ("west", "east")):
        tiny.contract(mesh, domain, "tide")
        tiny.model(
            mesh, domain, "tide", f"select id, day, amount from {{{{ ref('{other}', 'tide') }}}}"
        )


def reading(mesh: Workspace) -> None:
    """The reader reads what nobody promises, and another domain's table as if it were its own."""
    for name, reference in (("unpromised", "ref('harbour', 'boats')"), ("stray", "ref('ships')")):
        tiny.contract(mesh, "reader", name)
        tiny.model(mesh, "reader", name, f"select id, day, amount\nfrom {{{{ {reference} }}}}")


def doubles(mesh: Workspace) -> None:
    """A private model in two products, and a mart that is a view."""
    tiny.model(mesh, "doubles", "private", SOUND)
    for name in ("one", "two"):
        tiny.contract(mesh, "doubles", name)
        tiny.model(mesh, "doubles", name, "select id, day, amount from {{ ref('private') }}")
    tiny.contract(mesh, "doubles", "seen")
    view = "{{ config(materialized='view') }}\n"
    tiny.model(mesh, "doubles", "seen", view + SOUND)


def shapes(mesh: Workspace) -> None:
    """Models that parse, and cannot make what is promised."""
    for name in ("unpromised_column", "lacking", "mistyped"):
        tiny.contract(mesh, "shapes", name)
    harbour = "from {{ ref('harbour', 'ships') }}"
    tiny.model(
        mesh, "shapes", "unpromised_column", f"select id, day, amount\n, captain as crew\n{harbour}"
    )
    tiny.model(mesh, "shapes", "lacking", f"select id, day\n{harbour}")
    tiny.model(
        mesh,
        "shapes",
        "mistyped",
        f"select id, day\n, cast(amount as varchar) as amount\n{harbour}",
    )


def words(mesh: Workspace) -> None:
    """Words that dbt and Levada would pass over: each says nothing of anything."""
    folder = mesh.root / "models" / "words"
    described = {
        "meta": "config: {meta: {levda: {batch: true}}}",
        "columns": "colums: [{name: id}]",
        "config": "confg: {meta: {levada: {batch: true}}}",
        "place": "config: {levada: {batch: true}}",
        "moved": "materialized: table",
        "column_meta": "columns: [{name: id, config: {meta: {levada: {batch: true}}}}]",
        "twice": "columns: [{name: id}]\n    columns: [{name: id}]",
    }
    for name, said in described.items():
        tiny.contract(mesh, "words", f"said_{name}")
        tiny.model(mesh, "words", f"said_{name}", SOUND)
        text = f"models:\n  - name: said_{name}\n    {said}\n"
        (folder / "base" / f"said_{name}.yml").write_text(text)
    (folder / "base" / "nobody.yml").write_text("models:\n  - name: said_plce\n")
    (folder / "base" / "landed.yml").write_text(
        "sources:\n  - name: landing\n    tables:\n      - name: numbers\n"
        "        config:\n          meta:\n            lavada: {zone: numbers}\n"
    )
    tiny.contract(mesh, "words", "inline")
    tiny.model(mesh, "words", "inline", "{{ config(materialised='table') }}\n" + SOUND)
    private = "{{ config(materialized='ephemeral') }}\n" + SOUND
    tiny.model(mesh, "words", "lonely", private)
    tiny.model(mesh, "words", "useful", private)  # a contract's model reads it
    tiny.model(mesh, "words", "said_meta", "select * from {{ ref('useful') }}")
    project = folder / "dbt_project.yml"
    written = project.read_text().replace("+materialized", "+materialised: table, +materialized")
    project.write_text(written)


def letters(mesh: Workspace) -> None:
    """SQL that names a table past the mesh, and SQL that does not parse, below jinja."""
    literal = "select id, day, amount\nfrom harbour.ships"
    half = "{% if true %}\n{{ config(materialized='table') }}\n{% endif %}\nselect id,\nfrom from x"
    for name, text in (("literal", literal), ("half", half)):
        tiny.contract(mesh, "letters", name)
        tiny.model(mesh, "letters", name, text)


RULE = "{id: rows_present, metric: rowCount, mustBeGreaterThan: 0}"

# A file of the domain `papers`: what is put in the place of what, where that stands, what is said.
PAPERS: dict[str, tuple[str, str | bytes, str, str]] = {
    "no_yaml": ("version: 1.0.0", "version: [1.0.0", "status", "is no YAML"),
    "no_utf8": ("Numbers of", b"N\xfcmbers of", "mbers of", "not UTF-8: it holds the byte 0xfc"),
    "nothing": ("", "# later\n", "# later", "is empty; write an ODCS data contract"),
    "no_keys": ("", "- a\n", "- a", "holds no keys"),
    "huge": (
        *("status:", "#" * 10_000_000 + "\nstatus:"),
        *("apiVersion", "has 10,000,.* at most 1,000,000"),
    ),
    "deep": ("status:", f"x: {'[' * 9_999}{']' * 9_999}\nstatus:", "x: ", "nested too deep"),
    "said_twice": ("status:", "name: x\nstatus:", "name: x", "'name' is said twice; say it once"),
    "alias": (
        "status: active",
        "status: &a active\ntenant: *a",
        "tenant",
        "alias .*write its words",
    ),
    "no_date": (
        *("schema:", "slaProperties:\n  - {property: endOfLife, value: 2027-02-30}\nschema:"),
        *("2027-02-30", "endOfLife '2027-02-30' is no date; write 2027-01-31"),
    ),
    "nested_key": ("required: true", "requird: true", "requird", "'requird'.* mean 'required'"),
    "two_limits": (
        *(RULE, RULE.replace("}", ", mustBe: 3}"), "mustBe: 3"),
        "has the operators mustBe and mustBeGreaterThan; write exactly one",
    ),
    "no_sql": (
        *(RULE, "{id: odd, type: sql, query: 'select count(* from {object}', mustBe: 0}"),
        *("id: odd", "the query is no SQL: Expecting \\)"),
    ),
    "writes": (
        *(RULE, "{id: odd, type: sql, query: 'delete from {object}', mustBe: 0}"),
        *("id: odd", "not a single SELECT"),
    ),
    "calls": (
        RULE,
        "{id: odd, type: sql, query: \"select count(*) from read_text('x')\", mustBe: 0}",
        *("id: odd", "reads READ_TEXT"),
    ),
    "copy": (
        "- name: copy\n    physicalName: copy",
        "- name: numbers\n    physicalName: numbers",
        *(
            "- name: numbers",
            "papers.numbers@1 is promised in .*numbers.v1.odcs.yaml too; keep one",
        ),
    ),
}


def paper(name: str) -> str:
    return f"contracts/papers/{name}.v1.odcs.yaml"


def papers(mesh: Workspace) -> None:
    """Contracts that are none, or promise what cannot be kept; waivers that nobody may grant."""
    tiny.contract(mesh, "papers", "numbers")
    tiny.model(mesh, "papers", "numbers", SOUND)
    for name, (old, new, _, _) in PAPERS.items():
        path = tiny.contract(mesh, "papers", name)
        tiny.model(mesh, "papers", name, SOUND)
        whole, there = path.read_bytes(), new if isinstance(new, bytes) else new.encode()
        path.write_bytes(whole.replace(old.encode(), there, 1) if old else there)
    (mesh.root / paper("folder")).mkdir()
    os.mkfifo(mesh.root / paper("pipe"))
    (mesh.root / paper("link")).symlink_to("nowhere")
    governance = mesh.root / "contracts" / "governance"
    (governance / "waivers").mkdir(parents=True)
    (governance / "approvers.yaml").write_text(
        "approvers:\n  - {username: harbour@tiny.example, domains: [harbour]}\n"
        "  - {username: ines@tiny.example, domains: [harbour]}\n"
    )
    asked = (
        "table: harbour.ships\ncheck: rows_present\nwindow: {from: 2013-03-08, to: 2013-03-08}\n"
        "reason: The ships were away.\nowner: joe@tiny.example\n"
    )
    ends = "expires: 2013-04-01\n"
    for name, text in (
        ("endless", f"{asked}approver: ines@tiny.example\n"),
        ("own", f"{asked}{ends}approver: harbour@tiny.example\n"),
    ):
        (governance / "waivers" / f"{name}.yaml").write_text(text)


TWICE = "models/words/base/said_twice.yml"

WRONGS = {
    "a check of an unknown column": Wrong(
        "contracts/customs/wrong_column.v1.odcs.yaml", "tonnage", "tonnage"
    ),
    "an unknown key": Wrong(
        "contracts/customs/wrong_key.v1.odcs.yaml",
        "severty",
        "unknown key 'severty'.*did you mean 'severity'",
    ),
    "a check that cannot be executed": Wrong(
        "contracts/customs/wrong_check.v1.odcs.yaml", "oddity", "oddity"
    ),
    "a missing owner": Wrong(
        "contracts/customs/wrong_owner.v1.odcs.yaml", "apiVersion", "owner is missing"
    ),
    "a cycle": Wrong(
        "contracts/east/tide.v1.odcs.yaml",
        "apiVersion",
        "the mesh has a cycle: .*east.tide.*west.tide|the mesh has a cycle: .*west.tide.*east.tide",
    ),
    "a table that nobody promises": Wrong(
        "models/reader/base/unpromised.sql", "boats", "LV02: .*reads harbour.boats, which nobody"
    ),
    "a ref of one argument that lands in another domain": Wrong(
        "models/reader/base/stray.sql", "ref('ships')", "write ref.'harbour', 'ships'."
    ),
    "a table that is named literally": Wrong(
        "models/letters/base/literal.sql", "from", r"^LV01: .*write {{ ref.'harbour', 'ships'. }}"
    ),
    "SQL that does not parse": Wrong(
        "models/letters/base/half.sql", "from from", "does not parse: syntax error at or near"
    ),
    "a missing dbt project": Wrong("levada.yaml", "domains", "domain ghost has no dbt project"),
    "a private model of two products": Wrong(
        "models/doubles/base/private.sql",
        "select",
        "private model private is reached from doubles.one and doubles.two",
    ),
    "a view as a mart": Wrong("models/doubles/base/seen.sql", "config", "mart seen is a view"),
    "an unpromised column": Wrong(
        "models/shapes/base/unpromised_column.sql", "captain", '"captain" not found'
    ),
    "a promised column that is not made": Wrong(
        "models/shapes/base/lacking.sql", "select", "column amount .INTEGER. is promised but not"
    ),
    "a meta key that is nearly levada": Wrong(
        "models/words/base/said_meta.yml", "levda", "unknown key 'levda'.*did you mean 'levada'"
    ),
    "a misspelt key of a model": Wrong(
        "models/words/base/said_columns.yml", "colums", "'colums'.*did you mean 'columns'"
    ),
    "a misspelt config": Wrong(
        "models/words/base/said_config.yml", "confg", "'confg'.*did you mean 'config'"
    ),
    "levada outside of meta": Wrong(
        "models/words/base/said_place.yml", "levada", "'levada'.*stands under config.meta.levada"
    ),
    "a config beside `config`": Wrong(
        "models/words/base/said_moved.yml", "materialized", "'materialized' stands under 'config'"
    ),
    "levada in the meta of a column": Wrong(
        "models/words/base/said_column_meta.yml", "levada", "is not read"
    ),
    "a YAML of a model that is not there": Wrong(
        "models/words/base/nobody.yml", "said_plce", "no 'said_plce'.*did you mean 'said_place'"
    ),
    "a meta key of a source that is nearly levada": Wrong(
        "models/words/base/landed.yml", "lavada", "'lavada'.*did you mean 'levada'"
    ),
    "a misspelt config in SQL": Wrong(
        "models/words/base/inline.sql", "config", "'materialised'.*did you mean 'materialized'"
    ),
    "a model that no product builds": Wrong(
        "models/words/base/lonely.sql", "config", "lonely has no contract.*or remove it"
    ),
    "a misspelt config of the project": Wrong(
        "models/words/dbt_project.yml", "models:", r"did you mean '.materialized'"
    ),
    **{name: Wrong(paper(name), text, says) for name, (_, _, text, says) in PAPERS.items()},
    "a folder": Wrong(paper("folder"), "", "is a directory; a declaration is a file"),
    "a pipe": Wrong(paper("pipe"), "", "is a pipe or device; a declaration is a file"),
    "a link to nothing": Wrong(paper("link"), "", "cannot be read: No such file"),
    "a waiver without an end": Wrong(
        "contracts/governance/waivers/endless.yaml",
        "table",
        "'expires' is missing; a waiver without",
    ),
    "a waiver that its own owner is to approve": Wrong(
        "contracts/governance/waivers/own.yaml", "approver", "answers for it himself; ask another"
    ),
    "a wrong type": Wrong(
        "models/shapes/base/mistyped.sql",
        "amount",
        "column amount is promised as INTEGER but made as VARCHAR",
    ),
}


@pytest.fixture(scope="module")
def said(mesh: Workspace) -> list[dict[str, Any]]:
    """What one check of the whole mesh says."""
    answer = mesh.json("check", code=2)
    assert not answer["ok"]
    return list(answer["faults"])


def sentence(fault: dict[str, Any]) -> str:
    return f"{fault['wrong']}; {fault['right']}"


@pytest.mark.parametrize("kind", WRONGS)
def test_check_names_file_and_line_of(
    mesh: Workspace, said: list[dict[str, Any]], kind: str
) -> None:
    wrong = WRONGS[kind]

    there = [fault for fault in said if fault["path"] == wrong.path]

    (fault,) = [fault for fault in there if re.search(wrong.says, sentence(fault))]
    assert fault["line"] == wrong.line(mesh.root)
    assert len(there) == 1, "one message a fault"


def test_check_says_nothing_else(said: list[dict[str, Any]]) -> None:
    expected = {wrong.path for wrong in WRONGS.values()} | {TWICE}

    others = [fault for fault in said if fault["path"] not in expected]

    # The other half of the cycle is told in the other domain's contract.
    assert [fault["path"] for fault in others] == ["contracts/west/tide.v1.odcs.yaml"]


def test_a_key_that_is_said_twice_is_told_where_it_is_said_again(
    said: list[dict[str, Any]],
) -> None:
    found = [(fault["line"], fault["wrong"]) for fault in said if fault["path"] == TWICE]

    assert found == [(4, "'columns' is said twice")]


@pytest.mark.prove
def test_a_person_reads_a_line_for_each_fault_and_no_traceback(
    mesh: Workspace, said: list[dict[str, Any]]
) -> None:
    done = mesh.levada("check", code=2)

    lines = done.stderr.splitlines()
    assert lines[-1] == f"{len(said)} faults"
    for fault in said:
        where = f"{fault['path']}:{fault['line']}" if fault["line"] else fault["path"]
        assert any(line.startswith(f"{where}: ") for line in lines)
    assert "Traceback" not in done.stderr


def test_only_the_sound_domain_is_compiled(mesh: Workspace, said: list[dict[str, Any]]) -> None:
    done = mesh.json("compile", code=2)

    assert "harbour" in done["compiled"]
    assert not {"customs", "east", "west", "reader", "ghost", "doubles", "words"} & set(
        done["compiled"]
    )
    settings = read_settings(mesh.root)
    assert compiled.load_domain(settings, "harbour").products[0].id == "harbour.ships"
    assert [p.id for p in compiled.load(settings).products if p.domain == "harbour"]


FACTORY = """\
import dataclasses, json, sys
from pathlib import Path
from levada.errors import DeclarationError
from levada_sensors import product_dags

told = {}
for domain in sys.argv[2:]:
    try:
        told[domain] = sorted(product_dags(domain, Path(sys.argv[1])))
    except DeclarationError as error:
        told[domain] = [dataclasses.astuple(fault) for fault in error.faults]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def made(
    mesh: Workspace, said: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Any]]:
    """By domain: the DAGs that its DAG file gets from the factory, or the faults that it raises."""
    assert said, "a check has compiled what is sound, and said of the rest why not"
    done = subprocess.run(
        [sys.executable, "-c", FACTORY, str(mesh.root), *DOMAINS],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow"))},
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("domain", "kind"),
    [
        ("customs", "a check of an unknown column"),
        ("customs", "an unknown key"),
        ("customs", "a check that cannot be executed"),
        ("customs", "a missing owner"),
        ("east", "a cycle"),
        ("reader", "a table that nobody promises"),
        ("reader", "a ref of one argument that lands in another domain"),
        ("ghost", "a missing dbt project"),
    ],
)
def test_a_dag_file_is_refused_with_one_message_of(
    mesh: Workspace, made: dict[str, list[Any]], domain: str, kind: str
) -> None:
    wrong = WRONGS[kind]
    (found,) = [
        (path, line)
        for path, line, *words in made[domain]
        if path == wrong.path and re.search(wrong.says.removeprefix("LV02: "), "; ".join(words))
    ]
    assert found == (wrong.path, wrong.line(mesh.root))


def test_a_dag_file_is_told_the_faults_of_its_own_domain_alone(made: dict[str, list[Any]]) -> None:
    assert made["harbour"] == ["harbour_ships"], "the sound one has its DAG"
    for domain in ("customs", "east", "west", "reader", "doubles", "words"):
        own = (f"contracts/{domain}/", f"models/{domain}/")
        assert made[domain]
        assert [path for path, *_ in made[domain] if not path.startswith(own)] == [], domain
    assert [path for path, *_ in made["ghost"]] == ["levada.yaml"]


@pytest.fixture
def two(tmp_path: Path) -> Workspace:
    """Two sound domains, compiled."""
    workspace = tiny.mesh(tmp_path / "mesh", ("harbour", "shapes"))
    for domain in ("harbour", "shapes"):
        tiny.project(workspace, domain, lands=domain == "harbour")
    tiny.contract(workspace, "harbour", "ships")
    landing = "{{ source('landing', 'numbers') }}"
    tiny.model(workspace, "harbour", "ships", f"select {tiny.NUMBERS} from {landing}")
    tiny.contract(workspace, "shapes", "docked")
    tiny.model(workspace, "shapes", "docked", SOUND)
    workspace.levada("compile")
    return workspace


def test_a_domain_that_breaks_keeps_its_old_file_and_is_refused_alone(two: Workspace) -> None:
    settings = read_settings(two.root)
    files = {d: settings.home / f"{d}.json" for d in settings.domains}
    before = {domain: path.read_bytes() for domain, path in files.items()}
    tiny.model(two, "shapes", "docked", "select id, day, amount from {{ ref('harbour', 'boats') }}")
    tiny.model(
        two, "harbour", "ships", (two.root / "models/harbour/base/ships.sql").read_text() + "--\n"
    )

    done = two.json("compile", code=2)

    assert done["compiled"] == ["harbour"]
    assert files["shapes"].read_bytes() == before["shapes"]
    assert files["harbour"].read_bytes() != before["harbour"]
    assert compiled.load_domain(settings, "harbour", fresh=True).products
    with pytest.raises(DeclarationError) as refused:
        compiled.load_domain(settings, "shapes", fresh=True)
    (fault,) = refused.value.faults
    assert fault.path.startswith("models/shapes/"), "its DAG file says its own fault"
    assert "boats" in fault.wrong
    assert two.levada("run", code=2).stderr.splitlines()[-1] == "1 fault"


@pytest.mark.prove
def test_a_relationship_to_what_the_model_does_not_read_is_told_on_its_line(
    two: Workspace,
) -> None:
    tiny.contract(two, "harbour", "cranes")
    tiny.model(two, "harbour", "cranes", "select id, day, amount from {{ ref('ships') }}")
    path = two.root / "contracts/shapes/docked.v1.odcs.yaml"
    text = path.read_text()
    path.write_text(
        text.replace(
            "name: amount,", "name: amount, relationships: [{to: harbour.cranes.amount}],", 1
        )
    )
    faults = [f for f in two.json("check", code=2)["faults"] if "harbour.cranes" in f["wrong"]]
    (line,) = (n for n, said in enumerate(path.read_text().splitlines(), 1) if "cranes" in said)
    assert [(f["path"], f["line"]) for f in faults] == [
        ("contracts/shapes/docked.v1.odcs.yaml", line)
    ]
    assert "compares with harbour.cranes@1, which the model does not read" in faults[0]["wrong"]


@pytest.mark.prove
def test_a_read_upward_that_jinja_computes_is_told(two: Workspace) -> None:
    tiny.contract(two, "harbour", "cranes")
    tiny.model(two, "harbour", "cranes", "select id, day, amount from {{ ref('ships') }}")
    base = two.root / "models/harbour/base/cranes.sql"
    serve = two.root / "models/harbour/serve/cranes.sql"
    serve.parent.mkdir(exist_ok=True)
    base.rename(serve)
    project = two.root / "models/harbour/dbt_project.yml"
    project.write_text(project.read_text().replace("[base]", "[base, serve]"))
    computed = (
        "{% set name = 'cra' ~ 'nes' %}select id, day, amount\nfrom {{ ref('harbour', name) }}"
    )
    tiny.model(two, "shapes", "docked", computed)
    tiny.model(
        two, "harbour", "idle", "{% set name = 'cra' ~ 'nes' %}select * from {{ ref(name) }}"
    )
    source = "{% set name = 'num' ~ 'bers' %}select * from {{ source('landing', name) }}"
    serve.with_name("taken.sql").write_text(source)

    faults = two.json("check", code=2)["faults"]

    resolved = ", as dbt resolves it"
    assert [(f["path"], f["wrong"]) for f in faults if f["wrong"].startswith("LV03")] == [
        (
            "models/harbour/base/idle.sql",
            f"LV03: model idle of layer base reads cranes of layer serve{resolved}",
        ),
        (
            "models/harbour/serve/taken.sql",
            f"LV03: model taken of layer serve reads the source landing.numbers{resolved}",
        ),
        (
            "models/shapes/base/docked.sql",
            f"LV03: model docked of layer base reads harbour.cranes of layer serve{resolved}",
        ),
    ], faults


@pytest.mark.prove
def test_a_waiver_of_a_table_whose_contract_is_torn_is_no_second_fault(two: Workspace) -> None:
    folder = two.root / "contracts/governance/waivers"
    folder.mkdir(parents=True)
    (folder.parent / "approvers.yaml").write_text("approvers: [{username: ines, domains: [all]}]")
    (folder / "one.yaml").write_text(
        "table: harbour.ships\ncheck: rows_present\nwindow: {from: 2013-03-08, to: 2013-03-08}\n"
        "reason: why\nowner: joe\napprover: ines\nexpires: 2099-01-01\n"
    )
    assert two.json("check")["faults"] == []
    unreadable(two)

    faults = two.json("check", code=2)["faults"]

    assert not [f for f in faults if "waivers" in f["path"]]


def broken(two: Workspace) -> None:
    """A contract of the harbour gets a key that nobody knows."""
    path = two.root / "contracts/harbour/ships.v1.odcs.yaml"
    path.write_text(path.read_text() + "oddity: 1\n")


def unreadable(two: Workspace) -> None:
    """A contract of the harbour is no YAML any more."""
    (two.root / "contracts/harbour/ships.v1.odcs.yaml").write_text("{")


@pytest.mark.parametrize("breaks", [broken, pytest.param(unreadable, marks=pytest.mark.prove)])
def test_a_contract_that_breaks_leaves_the_dags_of_its_readers(
    two: Workspace, breaks: Callable[[Workspace], None]
) -> None:
    settings = read_settings(two.root)
    breaks(two)

    assert two.json("compile", code=2)["compiled"] == []

    with pytest.raises(DeclarationError, match=r"contracts/harbour/ships\.v1\.odcs\.yaml"):
        compiled.load_domain(settings, "harbour", fresh=True)
    (product,) = compiled.load_domain(settings, "shapes", fresh=True).products
    assert [str(edge.upstream) for edge in product.dependencies] == ["harbour.ships@1"]
    assert not compiled.load(settings).lost

    tiny.model(two, "shapes", "docked", SOUND + " where amount > 1")
    two.levada("compile", code=2)
    with pytest.raises(DeclarationError, match=r"ships(@1)?, whose contract cannot be read"):
        compiled.load_domain(settings, "shapes", fresh=True)


RULES = """\
batch: daily
grain: day
zone: UTC
owner: data-governance
description: What the harbour knows is docked, and no quay counts twice.
rules:
  - id: docked_are_ships
    kind: references
    description: What is docked is a ship.
    severity: blocking
    guards: shapes.docked
    left: {table: shapes.docked, key: [id]}
    right: {table: harbour.ships, key: [id]}
  - id: once
    kind: duplicates
    description: A pier is counted once.
    severity: blocking
    guards: quay.piers
    of: {table: quay.piers, key: [id]}
  - id: as_many
    kind: keys
    description: The piers are the ships.
    left: {table: quay.piers, key: [id]}
    right: {table: harbour.ships, key: [id]}
"""


@pytest.mark.prove
def test_a_contract_that_breaks_leaves_what_rules_between_tables_guard(tmp_path: Path) -> None:
    """A gate that compares a broken table keeps what it guards as it is; other gates go on."""
    mesh = tiny.mesh(tmp_path / "mesh", ("harbour", "shapes", "quay"))
    for domain, table in (("harbour", "ships"), ("shapes", "docked"), ("quay", "piers")):
        lands = domain != "shapes"
        tiny.project(mesh, domain, lands=lands)
        tiny.contract(mesh, domain, table)
        landing = f"select {tiny.NUMBERS} from {{{{ source('landing', 'numbers') }}}}"
        tiny.model(mesh, domain, table, landing if lands else SOUND)
    rules = mesh.root / "contracts/governance/consistency/daily.yaml"
    rules.parent.mkdir(parents=True)
    rules.write_text(RULES)
    mesh.levada("compile")
    settings = read_settings(mesh.root)
    before = compiled.load_domain(settings, "shapes"), compiled.load_batches(settings)
    path = mesh.root / "contracts/harbour/ships.v1.odcs.yaml"
    path.write_text(path.read_text() + "oddity: 1\n")
    piers = mesh.root / "models/quay/base/piers.sql"
    piers.write_text(piers.read_text() + "-- anew\n")

    said = mesh.json("check", code=2)["faults"]

    assert {f["path"] for f in said} == {
        "contracts/harbour/ships.v1.odcs.yaml",
        "models/shapes/base/docked.sql",
    }, "the rules are sound"
    assert [f["right"] for f in said if "shapes" in f["path"]] == ["mend that first"]
    assert (compiled.load_domain(settings, "shapes"), compiled.load_batches(settings)) == before
    (product,) = compiled.load_domain(settings, "quay", fresh=True).products
    assert [gate.id for mart in product.marts for gate in mart.gates] == ["once"]
    with pytest.raises(DeclarationError) as refused:
        compiled.load_domain(settings, "harbour")
    (fault,) = refused.value.faults
    assert fault.path == "contracts/harbour/ships.v1.odcs.yaml"

    docked = mesh.root / "models/shapes/base/docked.sql"
    docked.write_text(docked.read_text() + "-- anew\n")
    mesh.levada("compile", code=2)
    with pytest.raises(DeclarationError) as waits:
        compiled.load_domain(settings, "shapes")
    assert all(fault.follows for fault in waits.value.faults), "compiled now, it had no gate"
    assert any(fault.path.endswith("daily.yaml") for fault in waits.value.faults)


@pytest.mark.prove
def test_what_reads_a_table_that_was_never_compiled_is_not_compiled_either(two: Workspace) -> None:
    settings = read_settings(two.root)
    tiny.contract(two, "harbour", "cranes")
    tiny.model(two, "harbour", "cranes", "select id, day, amount from {{ ref('ships') }}")
    tiny.model(two, "harbour", "ships", "select id, day, amount from {{ ref('cranes') }}")
    tiny.model(two, "shapes", "docked", SOUND.replace("ships", "cranes"))

    assert two.json("compile", code=2)["compiled"] == []

    assert [str(e.upstream) for p in compiled.load(settings).products for e in p.dependencies] == [
        "harbour.landing.numbers",
        "harbour.ships@1",
    ]
    with pytest.raises(DeclarationError, match=r"reads harbour\.cranes@1, which is not compiled"):
        compiled.load_domain(settings, "shapes", fresh=True)


@pytest.mark.prove
def test_what_reads_a_table_that_nobody_promises_any_more_stays_and_is_impossible(
    two: Workspace,
) -> None:
    settings = read_settings(two.root)
    why = "reads harbour.ships@1: nothing declares it any more"
    tiny.landed(two, "harbour", "2013-03-08", [1])
    two.start()
    try:
        two.levada("run")
        (two.root / "contracts/harbour/ships.v1.odcs.yaml").unlink()
        (two.root / "models/harbour/base/ships.sql").unlink()
        assert two.json("compile", code=2)["compiled"] == ["harbour"]

        assert compiled.load(settings).lost == {"shapes.docked": why}
        (row,) = two.json("status", "shapes")
        assert (row["state"], row["because"]) == ("IMPOSSIBLE", why)
        told = two.json("why", "shapes.docked", "2013-03-08")
        assert (told["state"], told["because"]) == ("IMPOSSIBLE", why)
        assert "shapes-data" in told["causes"][0]["owner"]
        findings = {f["name"]: f for f in two.json("doctor", code=1)}
        assert findings["declarations"]["health"] == "bad"
        assert why in findings["declarations"]["detail"]
    finally:
        two.stop()


def test_an_unknown_key_in_levada_yaml_is_named_with_the_nearest_right_one(two: Workspace) -> None:
    path = two.root / "levada.yaml"
    path.write_text(path.read_text() + "landings: {numbers: landing}\nprobe: {evry: 5s}\n")

    faults = two.json("check", code=2)["faults"]

    lines = path.read_text().splitlines()
    assert [(f["path"], f["line"], sentence(f)) for f in faults] == [
        ("levada.yaml", len(lines) - 1, "unknown key 'landings'; did you mean 'landing'?"),
        ("levada.yaml", len(lines), "unknown key 'evry'; did you mean 'every'?"),
    ]


@pytest.mark.prove
def test_a_type_that_the_warehouse_cannot_hold_is_named_where_it_is_promised(
    two: Workspace,
) -> None:
    path = two.root / "levada.yaml"
    path.write_text(path.read_text() + "warehouse: {type: postgres}\n")
    assert two.levada("check").stderr.startswith("models are not built on empty tables")
    contract = two.root / "contracts/harbour/ships.v1.odcs.yaml"
    contract.write_text(contract.read_text().replace("INTEGER", "TINYINT", 1))
    line = contract.read_text()[: contract.read_text().index("TINYINT")].count("\n") + 1

    faults = two.json("check", code=2)["faults"]

    assert [(f["path"], f["line"], sentence(f)) for f in faults] == [
        (
            "contracts/harbour/ships.v1.odcs.yaml",
            line,
            "column id: PostgreSQL holds no TINYINT; promise SMALLINT",
        )
    ]


@pytest.mark.prove
def test_settings_that_nobody_could_read_are_all_named_at_once(two: Workspace) -> None:
    (two.root / "levada.yaml").write_text(
        """\
mesh: tiny
mesh: small
zone: UTC
span: {from: 2013-03-08, to: 2013-03-09}
landing: {numbers: landing}
domains: [harbour, shapes]
live_from: 2014-01-01
warehouse: {type: duckland}
lease: [2s]
"""
    )

    faults = two.json("check", code=2)["faults"]

    assert {(f["line"], f["wrong"]) for f in faults} == {
        (2, "'mesh' is said twice"),
        (7, "'live_from' lies outside the span"),
        (8, "no warehouse 'duckland'"),
        (9, "\"['2s']\" is no duration: write a number and s, m, h, d or w, like 40d"),
    }


@pytest.mark.prove
def test_what_hangs_on_a_reference_that_was_not_found_is_no_second_fault(two: Workspace) -> None:
    path = tiny.model(
        two, "shapes", "docked", "select id, day, amount from {{ ref('harbour', 'shps') }}"
    )
    path.with_suffix(".yml").write_text(
        "models:\n  - name: docked\n    config:\n      meta:\n        levada:\n"
        "          inputs: {harbour.ships: {mapping: identity}}\n"
    )

    (fault,) = two.json("check", code=2)["faults"]

    assert (fault["path"], fault["line"]) == ("models/shapes/base/docked.sql", 1)
    assert fault["right"] == "promised is harbour.ships@1"


@pytest.mark.parametrize(
    ("text", "line", "wrong"),
    [
        ("models: 3\n", 1, "models is no list"),
        ("models:\n  - docked\n", 2, "models[0] is 'docked', without keys"),
    ],
)
def test_a_yaml_of_another_shape_is_told_where_it_is_so(
    two: Workspace, text: str, line: int, wrong: str
) -> None:
    path = two.root / "models/shapes/base/docked.yml"
    path.write_text(text)

    (fault,) = two.json("check", code=2)["faults"]

    assert (fault["path"], fault["line"]) == ("models/shapes/base/docked.yml", line)
    assert fault["wrong"] == wrong
