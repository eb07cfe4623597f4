"""`levada review` over a real repository: what breaks, whom, who must approve, what is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import tiny
from workspace import Workspace

from levada.adapters.dbt.workers import DbtWorkers
from levada.cli import report
from levada.errors import DeclarationError
from levada.flow import reviewing
from levada.flow.reviewing import Compared
from levada.govern import Reviewed
from levada.settings import read_settings

# Each reads a repository of its own with dbt: minutes, of which the gate keeps one story.
pytestmark = [pytest.mark.integration, pytest.mark.prove]

QUALITY = "{id: rows_present, metric: rowCount, mustBeGreaterThan: 0}"
PINNED = "select {} from {{{{ ref('harbour', 'ships', v=1) }}}}"


def git(folder: Path, *words: str) -> str:
    own = ("-c", "user.name=tiny", "-c", "user.email=tiny@tiny.example")
    done = subprocess.run(
        ["git", *own, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def workers() -> Iterator[DbtWorkers]:
    with DbtWorkers() as found:
        yield found


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """
    A repository with a mesh in a folder of it. Of harbour.ships, customs.duties reads the amount,
    customs.board reads the duties, customs.days only its day; customs.calm states what it needs.
    """
    top = tmp_path_factory.mktemp("review") / "repository"
    (top / "mesh").mkdir(parents=True)
    mesh = tiny.mesh(top / "mesh", ("harbour", "customs"))
    tiny.project(mesh, "harbour", lands=True)
    tiny.project(mesh, "customs")
    ships = tiny.contract(mesh, "harbour", "ships")
    ships.write_text(
        ships.read_text() + "slaProperties:\n  - {property: latency, value: 6, unit: h}\n"
    )
    tiny.model(
        mesh,
        "harbour",
        "ships",
        f"select {tiny.NUMBERS} from {{{{ source('landing', 'numbers') }}}}",
    )
    for name in ("duties", "board", "days", "calm"):
        tiny.contract(mesh, "customs", name)
    tiny.model(mesh, "customs", "duties", PINNED.format("id, day, amount * 2 as amount"))
    tiny.model(mesh, "customs", "board", "select id, day, amount from {{ ref('duties') }}")
    tiny.model(mesh, "customs", "days", PINNED.format("1 as id, day, 2 as amount"))
    tiny.model(mesh, "customs", "calm", PINNED.format("id, day, 3 as amount"))
    (mesh.root / "models/customs/base/customs.yml").write_text(
        """\
models:
  - name: calm
    config:
      meta:
        levada:
          inputs:
            harbour.ships:
              relies_on: {columns: [id], checks: [rows_present], sla: {latency: 12 h}}
"""
    )
    (top / ".gitignore").write_text(".levada/\ntarget/\nlogs/\n")
    (top / ".github").mkdir()
    (top / ".github" / "CODEOWNERS").write_text("* @all\n/mesh/contracts/harbour/ @harbour-law\n")
    git(top, "init", "-q", "-b", "main")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "Begin")
    git(top, "checkout", "-qb", "change")
    return mesh


@pytest.fixture
def mesh(committed: Workspace) -> Iterator[Workspace]:
    """The repository as it was committed; a test may change files."""
    yield committed
    git(committed.root.parent, "checkout", "-q", "-f", "change")
    git(committed.root.parent, "clean", "-qfd")


def edit(mesh: Workspace, path: str, *changes: tuple[str, str]) -> None:
    file = mesh.root / path
    text = file.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    file.write_text(text)


def review(mesh: Workspace, workers: DbtWorkers, base: str = "main") -> Compared:
    return reviewing.review(read_settings(mesh.root), base, workers, datetime.now(UTC))


def of(found: Compared, table: str) -> Reviewed:
    return next(each for each in found.review.tables if str(each.table) == table)


SHIPS = "contracts/harbour/ships.v1.odcs.yaml"


@pytest.mark.prove
def test_nothing_changed_passes_and_asks_nobody(mesh: Workspace, workers: DbtWorkers) -> None:
    found = review(mesh, workers)
    assert found.review.passes
    assert not found.review.tables
    assert not found.review.approvals
    assert report.verdict(found.review).startswith("passes: nothing")


def test_a_renamed_column_is_refused_and_names_whom_it_breaks(
    mesh: Workspace, workers: DbtWorkers
) -> None:
    edit(mesh, SHIPS, ("name: amount", "name: tonnage"), ("version: 1.0.0", "version: 1.1.0"))
    edit(mesh, "models/harbour/base/ships.sql", ("as amount", "as tonnage"))
    edit(mesh, "models/customs/base/duties.sql", ("amount * 2", "tonnage * 2"))
    before = git(mesh.root.parent, "status", "--porcelain=v2")
    found = review(mesh, workers)

    ships = of(found, "harbour.ships@1")
    assert [c.kind for c in ships.changes] == ["column.renamed"]
    assert [str(each.table) for each in ships.broken] == ["customs.duties@1"]
    reached = {str(r.table): (r.hops, r.told) for r in ships.reached}
    assert reached == {"customs.duties@1": (1, "amount"), "customs.board@1": (2, "amount")}
    assert ships.below == 4
    assert not found.review.passes
    assert "promise harbour.ships@2 beside it" in found.review.refused[0]
    asked = {a.who: a for a in found.review.approvals}
    assert asked["harbour-data"].people == ("harbour@tiny.example",)
    assert "customs.duties@1 reads harbour.ships@1 and breaks" in asked["customs-data"].because
    assert f"CODEOWNERS: mesh/{SHIPS}" in asked["@harbour-law"].because
    assert "CODEOWNERS: mesh/models/customs/base/duties.sql" in asked["@all"].because
    assert "governance" in asked
    # Nothing of the repository was touched.
    assert git(mesh.root.parent, "status", "--porcelain=v2") == before
    assert git(mesh.root.parent, "worktree", "list").count("\n") == 1


@pytest.mark.prove
def test_what_a_reader_states_is_held_against_the_producers_change(
    mesh: Workspace, workers: DbtWorkers
) -> None:
    """A rule that only warns breaks who relies on it by name; 8 hours suffice who needs 12."""
    edit(
        mesh,
        SHIPS,
        (QUALITY, QUALITY.replace("0}", "0, severity: warning}")),
        ("value: 6, unit: h", "value: 8, unit: h"),
        ("version: 1.0.0", "version: 1.0.1"),
    )
    ships = of(review(mesh, workers), "harbour.ships@1")
    broken = {str(each.table): each for each in ships.broken}
    calm = broken["customs.calm@1"]
    assert [c.kind for c in calm.changes] == ["rule.severity_lowered"]
    assert calm.stated == calm.changes
    assert [c.kind for c in broken["customs.days@1"].changes] == [
        "rule.severity_lowered",
        "sla.loosened",
    ]


@pytest.mark.prove
def test_a_statement_that_the_contract_does_not_keep_is_a_fault(
    mesh: Workspace, workers: DbtWorkers
) -> None:
    edit(
        mesh,
        "models/customs/base/customs.yml",
        ("columns: [id]", "columns: [idd]"),
        ("[rows_present]", "[rows_presents]"),
        ("latency: 12 h", "latency: 2 h"),
    )
    with pytest.raises(DeclarationError) as refused:
        review(mesh, workers)
    said = "\n".join(map(str, refused.value.faults))
    assert "promises no column 'idd'; did you mean 'id'?" in said
    assert "promises no rule 'rows_presents'; did you mean 'rows_present'?" in said
    assert "promises latency 6 h, not 2 h" in said
    assert "models/customs/base/customs.yml:2" in said


@pytest.mark.prove
def test_the_command_says_it_as_json_and_markdown(mesh: Workspace) -> None:
    """A column more, and a version that stays: the first passes, the second does not."""
    edit(
        mesh,
        SHIPS,
        ("    properties:\n", "    properties:\n      - {name: flag, physicalType: VARCHAR}\n"),
    )
    edit(mesh, "models/harbour/base/ships.sql", ("select ", "select 'x' as flag, "))
    comment = mesh.root.parent.parent / "comment.md"
    done = mesh.levada("review", "--base", "main", "--json", "--markdown", str(comment), code=1)
    said = json.loads(done.stdout)
    (table,) = said["tables"]
    assert not said["passes"]
    assert [(c["kind"], c["impact"]) for c in table["changes"]] == [("column.added", "compatible")]
    assert "raise it to 1.1.0" in said["refused"][0]
    text = comment.read_text()
    assert text.startswith("### Levada review: does not pass: 1 compatible in 1 table\n")
    assert text.count("<details>") == text.count("</details>") == 1
    assert "**Must approve**" in text

    edit(mesh, SHIPS, ("version: 1.0.0", "version: 1.1.0"))
    done = mesh.levada("review", "--base", "main")
    assert "passes: 1 compatible in 1 table" in done.stdout


@pytest.mark.prove
def test_a_second_major_lives_beside_the_first(mesh: Workspace, workers: DbtWorkers) -> None:
    """The way out of a breaking change: it passes, and who must leave the old one is told."""
    second(mesh)
    edit(
        mesh,
        SHIPS,
        ("version: 1.0.0", "version: 1.1.0"),
        ("unit: h}\n", "unit: h}\n  - {property: endOfLife, value: 2030-01-01}\n"),
    )
    found = review(mesh, workers)
    assert found.review.passes, found.review.refused
    assert [c.kind for c in of(found, "harbour.ships@1").changes] == ["life.sunset_set"]
    assert "table.added" in [c.kind for c in of(found, "harbour.ships@2").changes]
    asked = {a.who: a.because for a in found.review.approvals}
    assert "customs.duties@1 must leave harbour.ships@1" in asked["customs-data"]
    (warning,) = found.review.warnings
    assert warning.startswith("harbour.ships@1 is held from 2030-01-01, and is read by customs.")
    assert warning.endswith("read harbour.ships@2 instead")
    told = mesh.levada("check")
    assert "no fault" in told.stdout
    assert "warning: customs.days@1 reads harbour.ships@1, which is held" in told.stderr


@pytest.mark.prove
def test_two_majors_are_built_and_published_each_for_itself(mesh: Workspace) -> None:
    second(mesh)
    tiny.landed(mesh, "harbour", "2013-03-08", [1, 2])
    mesh.start()
    try:
        mesh.levada("run", "harbour", "customs.duties")
        published = {row[0] for row in mesh.publications()}
        assert {"harbour.ships@1", "harbour.ships@2", "customs.duties@1"} <= published
        said = mesh.levada("why", "harbour.ships@2", "2013-03-08").stdout
        assert "ready" in said.lower()
    finally:
        mesh.stop()


def second(mesh: Workspace) -> None:
    """harbour.ships@2, whose amount is called tonnage, beside the first."""
    first = mesh.root / SHIPS
    first.with_name("ships.v2.odcs.yaml").write_text(
        first.read_text()
        .replace("version: 1.0.0", "version: 2.0.0")
        .replace("dataProduct: ships", "dataProduct: ships_v2")
        .replace("name: amount", "name: tonnage")
    )
    folder = mesh.root / "models/harbour/base"
    sql = (folder / "ships.sql").read_text()
    (folder / "ships.sql").rename(folder / "ships_v1.sql")
    (folder / "ships_v2.sql").write_text(sql.replace("as amount", "as tonnage"))
    (folder / "ships.yml").write_text(
        "models:\n  - name: ships\n    latest_version: 2\n    versions: [{v: 1}, {v: 2}]\n"
    )


@pytest.mark.prove
def test_a_table_that_goes_while_it_is_read_is_refused(
    mesh: Workspace, workers: DbtWorkers
) -> None:
    (mesh.root / "contracts/customs/duties.v1.odcs.yaml").unlink()
    (mesh.root / "models/customs/base/duties.sql").unlink()
    (mesh.root / "contracts/customs/days.v1.odcs.yaml").unlink()
    (mesh.root / "models/customs/base/days.sql").unlink()
    edit(
        mesh,
        "models/customs/base/board.sql",
        ("ref('duties')", "ref('harbour', 'ships', v=1)"),
    )
    found = review(mesh, workers)
    assert of(found, "customs.duties@1").changes[0].kind == "table.removed"
    assert "table.removed_unread" in [c.kind for c in of(found, "customs.days@1").changes]
    assert found.review.refused == ("customs.duties@1 is removed while customs.board@1 read it",)


@pytest.mark.prove
def test_an_edge_that_waits_for_less_is_told_and_must_be_approved(
    mesh: Workspace, workers: DbtWorkers
) -> None:
    edit(
        mesh,
        "models/customs/base/customs.yml",
        ("relies_on:", "on_restatement: hold\n              relies_on:"),
    )
    found = review(mesh, workers)
    (change,) = of(found, "customs.calm@1").changes
    assert (change.kind, change.of) == ("edge.on_restatement", "customs.calm")
    assert found.review.passes
    assert {"customs-data", "governance"} <= {a.who for a in found.review.approvals}


@pytest.mark.prove
def test_a_change_does_not_say_itself_who_must_approve_it(
    mesh: Workspace, workers: DbtWorkers
) -> None:
    """What counts stands at the base: its CODEOWNERS, and whom its law entitles."""
    top = mesh.root.parent
    edit(mesh, SHIPS, ("version: 1.0.0", "version: 1.0.1"), ("harbour@tiny", "h@tiny"))
    (top / ".github" / "CODEOWNERS").write_text("* @me\n")
    law = mesh.root / "contracts/governance/approvers.yaml"
    law.parent.mkdir(exist_ok=True)
    law.write_text("approvers: [{username: joe, domains: [all]}]\n")
    found = review(mesh, workers)
    asked = {a.who: a for a in found.review.approvals}
    assert {"@harbour-law", "@all"} <= set(asked)
    assert "@me" not in asked
    assert any("joe may approve a backfill of all" in why for why in asked["governance"].because)
    assert asked["governance"].people == ()
    assert [change.kind for change in found.review.law] == ["law.approvers_widened"]
    assert "**The law itself**" in report.markdown(found)
    assert report.document(found)["law"][0]["impact"] == "sensitive"


@pytest.mark.prove
def test_an_owners_file_that_is_not_utf_8_is_named(mesh: Workspace, workers: DbtWorkers) -> None:
    top = mesh.root.parent
    (top / ".github" / "CODEOWNERS").write_bytes(b"* @all\n/caf\xe9 @x\n")
    git(top, "commit", "-qam", "Break the owners")
    try:
        with pytest.raises(DeclarationError, match=r":\.github/CODEOWNERS:2: is not UTF-8"):
            review(mesh, workers, "change")
    finally:
        git(top, "reset", "-q", "--hard", "HEAD~1")


@pytest.mark.prove
def test_what_cannot_be_compared_says_why(
    mesh: Workspace, workers: DbtWorkers, tmp_path: Path
) -> None:
    with pytest.raises(DeclarationError, match="no commit is called 'mian'; did you mean 'main'"):
        review(mesh, workers, "mian")
    lone = tiny.mesh(tmp_path / "lone", ("harbour",))
    with pytest.raises(DeclarationError, match="is in no git repository; make it one: git init"):
        review(lone, workers)
    git(lone.root, "init", "-q", "-b", "main")
    git(lone.root, "commit", "-q", "--allow-empty", "-m", "Nothing yet")
    tiny.project(lone, "harbour", lands=True)
    tiny.contract(lone, "harbour", "ships")
    sql = f"select {tiny.NUMBERS} from {{{{ source('landing', 'numbers') }}}}"
    tiny.model(lone, "harbour", "ships", sql)
    with pytest.raises(DeclarationError, match=r"there is no levada.yaml at main"):
        review(lone, workers)
    model = lone.root / "models/harbour/base/ships.sql"
    model.write_text("select {{ nowhere( }}\n")
    git(lone.root, "add", "-A")
    git(lone.root, "commit", "-qm", "Break it")
    tiny.model(lone, "harbour", "ships", sql)
    with pytest.raises(
        DeclarationError, match=r"the declarations at main .* have faults"
    ) as broken:
        review(lone, workers)
    assert any("models/harbour/base/ships.sql" in fault.path for fault in broken.value.faults)


@pytest.mark.prove
def test_a_base_is_kept_by_its_commit_and_what_was_left_half_made_is_swept(
    mesh: Workspace, workers: DbtWorkers
) -> None:
    home = mesh.root / ".levada" / "review"
    left = home / ".999999999-dead"
    left.mkdir(parents=True)
    review(mesh, workers)
    commit = git(mesh.root, "rev-parse", "main").strip()
    kept = home / commit / ".levada" / "manifests" / "harbour.msgpack"
    made = kept.stat().st_mtime_ns
    review(mesh, workers)
    assert kept.stat().st_mtime_ns == made
    assert not left.exists()
    assert commit in {entry.name for entry in home.iterdir()}
    assert not [entry for entry in home.iterdir() if entry.name.startswith(".")]
