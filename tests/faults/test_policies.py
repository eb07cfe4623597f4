"""Policies bind: what breaks one is neither compiled nor run; a warning only tells."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import tiny
from workspace import Workspace

from levada import compiled
from levada.errors import DeclarationError
from levada.settings import read_settings

pytestmark = pytest.mark.integration

LAW = "contracts/governance/policies.yaml"
SHIPS = "contracts/harbour/ships.v1.odcs.yaml"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Harbour lands ships, customs reads them; both have described columns, and a commit."""
    workspace = tiny.mesh(tmp_path_factory.mktemp("law") / "mesh", ("harbour", "customs"))
    tiny.project(workspace, "harbour", lands=True)
    tiny.project(workspace, "customs")
    landing = "{{ source('landing', 'numbers') }}"
    tiny.model(workspace, "harbour", "ships", f"select {tiny.NUMBERS} from {landing}")
    tiny.model(
        workspace, "customs", "cleared", "select id, day, amount from {{ ref('harbour', 'ships') }}"
    )
    for domain, name in (("harbour", "ships"), ("customs", "cleared")):
        path = tiny.contract(workspace, domain, name)
        path.write_text(
            path.read_text().replace("required: true}", "required: true, description: A.}")
        )
    (workspace.root / ".gitignore").write_text(".levada/\n")
    law(workspace, "policies: {every_column_described: {}}\n")
    git(workspace, "init", "-q")
    git(workspace, "add", "-A")
    git(workspace, "commit", "-qm", "mesh")
    return workspace


@pytest.fixture(autouse=True)
def as_committed(mesh: Workspace) -> None:
    git(mesh, "checkout", "-q", "--", ".")
    git(mesh, "clean", "-qfd")


def git(mesh: Workspace, *words: str) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@tiny.example")
    subprocess.run(["git", "-C", str(mesh.root), *who, *words], check=True)


def law(mesh: Workspace, text: str) -> None:
    path = mesh.root / LAW
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def undescribe(mesh: Workspace) -> int:
    """Take a column's description away; the line on which it was."""
    path = mesh.root / SHIPS
    lines = path.read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if "{name: amount" in line)
    lines[number - 1] = lines[number - 1].replace(", description: A.", "")
    path.write_text("\n".join(lines) + "\n")
    return number


def test_a_table_without_a_description_is_neither_compiled_nor_run_until_it_has_one(
    mesh: Workspace,
) -> None:
    assert mesh.json("check") | {"stages": []} == {
        "ok": True,
        "faults": [],
        "warnings": [],
        "stages": [],
    }
    line = undescribe(mesh)

    (fault,) = mesh.json("check", code=2)["faults"]
    assert (fault["path"], fault["line"]) == (SHIPS, line)
    assert "column amount has no description (policy every_column_described)" in fault["wrong"]

    settings = read_settings(mesh.root)
    with pytest.raises(DeclarationError, match="column amount has no description"):
        compiled.load_domain(settings, "harbour", fresh=True)  # which is what its DAG file reads
    assert compiled.load_domain(settings, "customs", fresh=True).products
    assert mesh.json("compile", code=2)["compiled"] == ["customs"]
    assert "amount has no description" in mesh.levada("run", code=2).stderr

    as_it_was = (mesh.root / SHIPS).read_text()
    (mesh.root / SHIPS).write_text(
        as_it_was.replace("name: amount,", "name: amount, description: B.,")
    )
    assert set(mesh.json("compile")["compiled"]) == {"harbour", "customs"}


def test_a_policy_that_changes_makes_what_was_compiled_stale(mesh: Workspace) -> None:
    mesh.levada("compile")
    law(mesh, "policies: {two_owners: {}}\n")

    with pytest.raises(DeclarationError, match="changed since they were compiled"):
        compiled.load_domain(read_settings(mesh.root), "customs", fresh=True)
    assert "names 1 owner" in mesh.levada("run", code=2).stderr


def test_a_file_of_policies_with_a_fault_refuses_everybody(mesh: Workspace) -> None:
    law(
        mesh,
        "policies:\n  every_column_describd: {}\n  two_owners:\n    where:\n      teir: 1\n",
    )

    done = mesh.json("compile", code=2)

    fault, selector = done["faults"]
    assert (selector["path"], selector["line"]) == (LAW, 5)
    assert selector["wrong"] == "unknown selector 'teir'"
    assert (fault["path"], fault["line"]) == (LAW, 2)
    assert fault["right"].startswith("did you mean 'every_column_described'?")
    assert done["compiled"] == []
    with pytest.raises(DeclarationError, match="no policy"):
        compiled.load_domain(read_settings(mesh.root), "customs", fresh=True)


def test_warnings_are_told_in_every_format_and_end_with_zero(mesh: Workspace) -> None:
    law(mesh, "policies:\n  every_column_described: {severity: warning}\n")
    line = undescribe(mesh)
    wrong = "harbour.ships@1 column amount has no description (policy every_column_described)"

    text = mesh.levada("check")
    (warned,) = mesh.json("check")["warnings"]
    annotated = mesh.levada("check", "--format", "github").stdout

    assert f"{SHIPS}:{line}: warning: {wrong}; write description:" in text.stderr
    assert "1 warning" in text.stderr
    assert "no fault" in text.stdout
    assert (warned["path"], warned["line"], warned["wrong"]) == (SHIPS, line, wrong)
    assert annotated == (
        f"::warning file={SHIPS},line={line},title=levada check::{wrong}; write description:\n"
    )
    assert set(mesh.json("compile")["compiled"]) == {"harbour", "customs"}


def test_an_error_is_an_annotation_that_github_reads(mesh: Workspace) -> None:
    line = undescribe(mesh)

    done = mesh.levada("check", "--format", "github", code=2)

    assert done.stdout.startswith(f"::error file={SHIPS},line={line},title=levada check::")
    assert done.stderr == ""


def test_only_what_changed_since_a_commit_is_looked_at(mesh: Workspace) -> None:
    nothing = mesh.json("check", "--changed-since", "HEAD")
    tiny.model(mesh, "customs", "stray", "select 1 as id")

    (stray,) = mesh.json("check", "--changed-since", "HEAD", code=2)["faults"]
    (mesh.root / "models/customs/base/stray.sql").unlink()
    line = undescribe(mesh)
    changed = mesh.json("check", "--changed-since", "HEAD", code=2)

    assert nothing["changed"]["domains"] == []
    assert stray["path"] == "models/customs/base/stray.sql", "it is not even tracked"
    assert changed["changed"]["paths"] == [SHIPS]
    assert changed["changed"]["domains"] == ["customs", "harbour"], "customs reads what changed"
    assert [(f["path"], f["line"]) for f in changed["faults"]] == [(SHIPS, line)]


@pytest.mark.prove
def test_a_deleted_contract_is_told_where_it_was_read(mesh: Workspace) -> None:
    (mesh.root / SHIPS).unlink()

    faults = mesh.json("check", "--changed-since", "HEAD", code=2)["faults"]

    assert any(f["path"] == "models/customs/base/cleared.sql" for f in faults)


@pytest.mark.prove
def test_a_fault_of_a_domain_that_did_not_change_is_left_out(mesh: Workspace) -> None:
    undescribe(mesh)
    git(mesh, "commit", "-qam", "undescribed")
    try:
        path = mesh.root / "models/customs/base/cleared.sql"
        path.write_text(path.read_text() + "-- a word\n")

        said = mesh.json("check", "--changed-since", "HEAD")
    finally:
        git(mesh, "reset", "-q", "--hard", "HEAD~1")

    assert said["changed"]["domains"] == ["customs"]
    assert said["faults"] == []


def test_an_unknown_commit_and_no_repository_are_said_clearly(
    mesh: Workspace, tmp_path: Path
) -> None:
    unknown = mesh.levada("check", "--changed-since", "origin/nowhere", code=2).stderr
    alone = tiny.mesh(tmp_path / "alone", ("harbour",))
    none = alone.levada("check", "--changed-since", "HEAD", code=2).stderr

    assert "git knows no commit 'origin/nowhere'; fetch it first" in unknown
    assert "is in no git repository" in none


def test_the_policies_are_listed_and_explained(mesh: Workspace) -> None:
    law(mesh, "policies:\n  every_column_described: {}\n  tier_stated: {severity: warning}\n")
    undescribe(mesh)

    listed = {row["policy"]: row for row in mesh.json("policy", "list")}
    told = mesh.levada("policy", "explain", "every_column_described", "harbour.ships").stdout
    kept = mesh.json("policy", "explain", "every_column_described", "customs.cleared")
    unknown = mesh.levada("policy", "explain", "tier_statd", code=2).stderr

    described = listed["every_column_described"]
    assert (described["tables"], described["findings"]) == (2, 1)
    assert listed["tier_stated"]["severity"] == "warning"
    assert "A column without a description is read by guessing." in told
    assert "column amount has no description; write description:" in told
    assert kept["found"] == []
    assert json.dumps(kept)
    assert "did you mean 'tier_stated'?" in unknown


@pytest.mark.prove
def test_what_was_remembered_is_forgotten_when_its_file_changes(mesh: Workspace) -> None:
    mesh.levada("check")
    stages = {s["stage"]: s["looked_at"] for s in mesh.json("check")["stages"]}
    assert stages["dbt parse"].startswith("0 of 2 projects")
    path = mesh.root / "models/harbour/base/ships.sql"
    path.write_text(path.read_text().replace("as amount", "as amont"))

    faults = mesh.json("check", code=2)["faults"]

    assert any("amont" in fault["wrong"] for fault in faults)
    contract = mesh.root / SHIPS
    contract.write_text(contract.read_text().replace("physicalType: DATE", "physicalType: DAET"))
    assert any("DAET" in fault["wrong"] for fault in mesh.json("check", code=2)["faults"])
